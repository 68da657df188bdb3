//! Descriptors written bit by bit, and damaged ones.

use super::*;
use crate::rtp::mutation::{damaged, hex};

/// Packs bits written as text; blanks help the eye.
fn bits(text: &str) -> Vec<u8> {
    let bits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).map(|b| b - b'0').collect();
    bits.chunks(8).map(|c| c.iter().enumerate().fold(0, |byte, (i, bit)| byte | bit << (7 - i))).collect()
}

/// Two spatial layers of two temporal layers each, as the specification's section A.10 builds such structures:
/// templates 62, 63 (layer 0/0), 0 (0/1), 1, 2 (1/0), 3 (1/1) for the decode targets 0/0, 0/1, 1/0, 1/1 with a
/// chain for each spatial layer. `frame` follows the structure.
fn with_structure(flags: &str, frame: &str) -> Vec<u8> {
    let structure = "111110 00011 00 01 10 00 01 11 \
         10101010 11111111 00010001 00001010 00001111 00000001 \
         0  1 0011 0  1 0001 0  1 0000 0  1 0000 1 0011 0  1 0000 1 0001 0 \
         10 0 0 1 1 \
         0000 0000  0100 0100  0010 0010  0001 0001  0001 0001  0011 0001 \
         1 0000000010011111 0000000001011001 0000000100111111 0000000010110011";
    // A chain count of 2 out of 0..=4 takes two bits; a protecting chain out of 0..=1 one.
    bits(&format!("1 1 111110 0000000000000111 {flags} {structure} {frame}"))
}

fn delta(template: u8, number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    vec![0xc0 | template, high, low]
}

#[test]
fn a_key_frame_brings_the_structure_and_later_frames_use_it() {
    let mut state = DependencyState::default();
    let key = state.read(&with_structure("1 0 0 0 0", "")).unwrap();
    assert!(key.starts_key_frame() && key.end_of_frame);
    assert_eq!((key.frame_number, key.spatial_id, key.temporal_id), (7, 0, 0));
    assert_eq!(state.active_targets(), 0b1111);
    assert_eq!(key.targets.get(3), DecodeTargetIndication::Switch);

    let structure = state.structure().unwrap();
    let layers: Vec<_> = (0..structure.decode_targets()).map(|t| structure.target_layer(t)).collect();
    assert_eq!(layers, [(0, 0), (0, 1), (1, 0), (1, 1)]);
    assert_eq!(structure.spatial_layers(), 2);
    assert_eq!(structure.largest(), Some((320, 180)));
    assert_eq!((structure.size(0), structure.size(2)), (Some((160, 90)), None));

    let upper = state.read(&delta(1, 8)).unwrap();
    assert_eq!((upper.spatial_id, upper.temporal_id), (1, 0));
    assert_eq!(upper.references.distances(), [1]);
    assert!(!upper.starts_key_frame() && !upper.structure_attached);
    assert_eq!(upper.targets.get(0), DecodeTargetIndication::NotPresent);
    assert_eq!(upper.targets.get(2), DecodeTargetIndication::Switch);
    assert_ne!(upper.targets.switch(), 0);

    let last = state.read(&delta(3, 12)).unwrap();
    assert_eq!((last.spatial_id, last.temporal_id), (1, 1));
    assert_eq!(last.references.distances(), [1, 2]);
    assert_eq!(last.targets.get(3), DecodeTargetIndication::Discardable);
    assert_eq!((last.targets.switch(), state.read(&delta(63, 9)).unwrap().targets.switch()), (0, 0));
    assert_eq!(state.read(&delta(4, 13)), None, "no such template");
}

#[test]
fn frames_can_differ_from_their_template() {
    let mut state = DependencyState::default();
    assert_eq!(state.read(&delta(1, 8)), None, "no structure yet");
    state.read(&with_structure("1 0 0 0 0", "")).unwrap();
    let custom = bits(
        "0 1 000011 0000000000001001 0 1 1 1 1 0011 \
         00 01 10 11  01 0010 10 00010000 11 000100000000 00  00000101 11111111",
    );
    let frame = state.read(&custom).unwrap();
    assert!(!frame.start_of_frame && frame.end_of_frame);
    assert_eq!(state.active_targets(), 0b0011);
    let targets: Vec<_> = (0..5).map(|t| frame.targets.get(t)).collect();
    use DecodeTargetIndication::{Discardable, NotPresent, Required, Switch};
    assert_eq!(targets, [NotPresent, Discardable, Switch, Required, NotPresent]);
    assert_eq!(frame.references.distances(), [3, 17, 257]);
    let mut cut = custom.clone();
    cut.pop();
    assert_eq!(state.read(&cut), None, "its second chain is missing");
}

#[test]
fn what_is_malformed_changes_nothing() {
    let mut state = DependencyState::default();
    let good = with_structure("1 1 0 0 0", "1000");
    state.read(&good).unwrap();
    let before = state.structure().cloned();
    let mut cut = with_structure("1 0 0 0 1", "");
    cut.truncate(cut.len() - 1);
    assert_eq!(state.read(&cut), None);
    let endless = bits(&format!("1 1 000000 0000000000000000 10000 000000 00000 {}", "00".repeat(80)));
    assert_eq!(state.read(&endless), None, "more than 64 templates");
    let many = bits(&format!("1 1 111110 0000000000000000 00010 {} 00", "01 0000".repeat(9)));
    assert_eq!(state.read(&many), None, "nine references");
    assert_eq!((state.structure().cloned(), state.active_targets()), (before, 0b1000));
}

#[test]
fn a_structure_with_references_in_its_first_frame_is_no_key_frame() {
    let mut descriptor = with_structure("1 0 0 0 0", "");
    descriptor[0] = 0xc0 | 63;
    let frame = DependencyState::default().read(&descriptor).unwrap();
    assert!(frame.structure_attached && !frame.starts_key_frame());
}

#[test]
fn damaged_descriptors_never_panic() {
    let samples =
        [with_structure("1 0 0 0 0", ""), with_structure("1 1 1 1 1", "1111 00011011 00"), hex("830102fc")];
    let samples: Vec<&[u8]> = samples.iter().map(|s| &s[..]).collect();
    let mut state = DependencyState::default();
    damaged(14, 20_000, &samples, |descriptor| {
        if let Some(frame) = state.read(descriptor) {
            assert!(frame.references.distances().len() <= MAX_REFERENCES);
            let structure = state.structure().unwrap();
            for target in 0..=MAX_DECODE_TARGETS {
                let _ = (frame.targets.get(target), structure.target_layer(target));
            }
        }
    });
}
