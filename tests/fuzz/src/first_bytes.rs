//! What a connection speaks: the bytes come one after the other. What is decided once stays decided, and soon everything is; who
//! is sent elsewhere is one whom those there understand.

use veche_doors::first_bytes::{MOST_BYTES, Opening, opening};
use veche_sfu_core::stun::is_stun;
use veche_turn_core::{Frames, MAX_UNPROVEN_FRAME, is_turn};

use crate::frames::{FrameReader, MAX_FRAME, whole_frame};

pub(crate) fn run(input: &[u8]) {
    let mut decision = Opening::NeedMore;
    for len in 0..=input.len().min(4 * MOST_BYTES) {
        let now = opening(&input[..len]);
        assert!(decision == Opening::NeedMore || now == decision, "what is decided stays so");
        assert!(now != Opening::NeedMore || len < MOST_BYTES, "and soon everything is");
        decision = now;
    }
    assert_eq!(opening(input), decision, "what follows does not matter");
    match decision {
        Opening::Turn => {
            assert!(is_turn(input));
            // A length that is no good is for those there to refuse; they are not to find anything else.
            let mut frames = Frames::default();
            let _ = frames.take(input, || MAX_UNPROVEN_FRAME, |frame| assert!(!frame.is_empty()));
        }
        Opening::Ice => {
            if let Some(frame) = whole_frame(input) {
                assert!(is_stun(frame) && frame.len() <= MAX_FRAME);
                let mut reader = FrameReader::new();
                let mut start = &input[..frame.len() + 2];
                reader.fill(&mut start).expect("reading from memory does not fail");
                let read = reader.next_frame().expect("it is not too large").map(|frame| frame.to_vec());
                assert_eq!(read.as_deref(), Some(frame), "they read the same first frame");
            }
        }
        Opening::Tls => assert_eq!(input.first(), Some(&22)),
        Opening::Http => {
            let is_fine = |first: &u8| first.is_ascii_alphabetic() || b"\r\n".contains(first);
            assert!(input.first().is_some_and(is_fine));
        }
        Opening::NeedMore | Opening::Unknown => {}
    }
}
