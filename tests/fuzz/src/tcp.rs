//! ICE-TCP framing: the stream comes in the pieces that the records say; the frames must be those of the stream.

use crate::frames::{FrameReader, HEADER, MAX_FRAME};
use crate::records::records;

pub(crate) fn run(input: &[u8]) {
    let mut stream = Vec::new();
    let mut frames = Vec::new();
    let mut reader = FrameReader::new();
    'pieces: for (_, mut piece) in records(input) {
        stream.extend_from_slice(piece);
        while !piece.is_empty() {
            reader.fill(&mut piece).expect("a slice can be read");
            loop {
                match reader.next_frame() {
                    Ok(Some(frame)) => frames.push(frame.to_vec()),
                    Ok(None) => break,
                    Err(_) => break 'pieces,
                }
            }
        }
    }
    assert_eq!(frames, expected(&stream), "frames are cut as RFC 4571 says");
}

/// The same without a reader: whole frames from the start, up to the first that is too large.
fn expected(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((&header, rest)) = stream.split_first_chunk::<HEADER>() {
        let len = usize::from(u16::from_be_bytes(header));
        let Some((frame, rest)) = rest.split_at_checked(len).filter(|_| len <= MAX_FRAME) else { break };
        frames.push(frame.to_vec());
        stream = rest;
    }
    frames
}
