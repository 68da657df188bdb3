//! TURN over TCP: the stream comes in the pieces that the records say; the frames must be those of the stream.

use veche_turn_core::{Frames, MAX_UNPROVEN_FRAME};

use crate::records::records;

pub(crate) fn run(input: &[u8]) {
    let (mut stream, mut frames, mut reader) = (Vec::new(), Vec::new(), Frames::default());
    for (_, piece) in records(input) {
        stream.extend_from_slice(piece);
        if reader.take(piece, || MAX_UNPROVEN_FRAME, |frame| frames.push(frame.to_vec())).is_err() {
            break;
        }
    }
    assert_eq!(frames, expected(&stream), "frames are cut as RFC 8489 and RFC 8656 say");
}

/// The same without a reader: whole frames from the start, up to the first that cannot be one.
fn expected(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some(&[first, _, high, low]) = stream.first_chunk() {
        let len = usize::from(u16::from_be_bytes([high, low]));
        let len = match first {
            0..=3 if len.is_multiple_of(4) => 20 + len,
            0x40..=0x7f => 4 + len.div_ceil(4) * 4,
            _ => break,
        };
        if len > MAX_UNPROVEN_FRAME || stream.len() < len {
            break;
        }
        frames.push(stream[..len].to_vec());
        stream = &stream[len..];
    }
    frames
}
