//! What goes out for what comes in.

use super::*;
use crate::media::Codec;

fn layer(participant: u32, layer: u8) -> LayerRef {
    LayerRef { participant, track: 0, layer, id: TrackId(u64::from(participant)) }
}

fn video() -> Forwarder {
    Forwarder::new(MediaKind::Video, SlotClock::new(5_000, 90_000), 65_530)
}

struct Packet {
    seq: u64,
    timestamp: u32,
    millis: i64,
    key: bool,
    picture: PictureFields,
}

fn packet(seq: u64, timestamp: u32, millis: i64, key: bool) -> Packet {
    let [high, low] = ((seq as u16 & 0x7fff) | 0x8000).to_be_bytes();
    let picture = PictureFields::read(Codec::Vp8, &[0x90, 0x80, high, low, 0], None);
    Packet { seq, timestamp, millis, key, picture }
}

impl Packet {
    fn input(&self) -> ForwardInput {
        ForwardInput {
            seq: self.seq,
            generation: 0,
            timestamp: self.timestamp,
            nanos: self.millis * 1_000_000,
            starts_key_frame: self.key,
            end_of_frame: true,
            marker: true,
            frame: None,
            picture: self.picture,
        }
    }
}

#[test]
fn a_switch_waits_for_the_key_frame_and_keeps_the_old_source_until_then() {
    let mut slot = video();
    let (a, b) = (layer(1, 0), layer(2, 0));
    slot.set_target(Some(a));
    assert_eq!(slot.forward(a, &packet(10, 0, 0, false).input(), false), Err(DropReason::AwaitingKeyFrame));
    let first = slot.forward(a, &packet(11, 3000, 33, true).input(), false).unwrap();
    assert!(first.switched);
    assert_eq!((first.seq, first.timestamp), (65_530, 5_000 + 2_970));

    slot.set_target(Some(b));
    assert_eq!(
        slot.forward(b, &packet(900, 77, 50, false).input(), false),
        Err(DropReason::AwaitingKeyFrame)
    );
    let old = slot.forward(a, &packet(12, 6000, 66, false).input(), false).unwrap();
    assert_eq!((old.seq, old.timestamp), (65_531, first.timestamp + 3000));

    let cut = slot.forward(b, &packet(901, 100, 100, true).input(), false).unwrap();
    assert!(cut.switched);
    assert_eq!((cut.seq, cut.timestamp), (65_532, 5_000 + 9_000));
    assert_eq!(slot.forward(a, &packet(13, 9000, 99, false).input(), false), Err(DropReason::BeforeSwitch));
    assert_eq!(slot.forward(b, &packet(900, 77, 99, false).input(), false), Err(DropReason::BeforeSwitch));
    let next = slot.forward(b, &packet(903, 3100, 133, false).input(), false).unwrap();
    assert_eq!((next.seq, next.timestamp), (65_534, cut.timestamp + 3000), "a gap of the source stays a gap");
}

/// Frames of five packets: what follows within a frame goes out as if it had been decided anew.
#[test]
fn what_follows_in_a_frame_goes_out_like_everything_else() {
    let source = layer(1, 0);
    let (mut quick, mut slow) = (video(), video());
    quick.set_target(Some(source));
    slow.set_target(Some(source));
    let mut before: Option<(ForwardInput, ForwardOutput)> = None;
    let mut followed = 0;
    for n in 0..200_u64 {
        // Some are lost.
        if n % 23 == 7 {
            continue;
        }
        let (frame, last) = (n / 5, n % 5 == 4);
        let mut input = packet(100 + n, 3_000 * frame as u32, 33 * frame as i64, n == 0).input();
        (input.marker, input.end_of_frame) = (last, last);
        input.picture = packet(frame, 0, 0, false).picture;
        let next = before.and_then(|(came, went)| quick.forward_next((&came, &went), &input));
        followed += usize::from(next.is_some());
        let output = next.map_or_else(|| quick.forward(source, &input, false), Ok).unwrap();
        assert_eq!(Ok(output), slow.forward(source, &input, false), "{n}");
        before = Some((input, output));
    }
    assert!((80..120).contains(&followed), "{followed}");
    assert_eq!((quick.next_seq, quick.picture), (slow.next_seq, slow.picture));
}

#[test]
fn timestamps_never_go_back_even_when_the_new_source_seems_older() {
    let mut slot = video();
    slot.set_target(Some(layer(1, 0)));
    let first = slot.forward(layer(1, 0), &packet(1, 0, 500, true).input(), false).unwrap();
    slot.set_target(Some(layer(2, 0)));
    let second = slot.forward(layer(2, 0), &packet(1, 0, 450, true).input(), false).unwrap();
    assert_eq!(second.timestamp.wrapping_sub(first.timestamp), 900);
}

#[test]
fn repairs_find_the_source_of_what_was_sent() {
    let mut slot = video();
    for (i, source) in (1..=12).enumerate() {
        let source = layer(source, 0);
        slot.set_target(Some(source));
        let base = 1000 * i as u64;
        let millis = 100 * i as i64;
        slot.forward(source, &packet(base, 0, millis, true).input(), false).unwrap();
        slot.forward(source, &packet(base + 1, 0, millis, false).input(), false).unwrap();
    }
    let last = (65_530u64 + 23) as u16;
    assert_eq!(slot.sent(last).map(|s| (s.source, s.seq)), Some((layer(12, 0), 11_001)));
    assert_eq!(slot.sent(last.wrapping_sub(2)).map(|s| (s.source, s.seq)), Some((layer(11, 0), 10_001)));
    assert_eq!(slot.sent(last.wrapping_add(1)), None, "never sent");
    assert_eq!(slot.sent(last.wrapping_sub(23)), None, "too many switches ago");
}

#[test]
fn a_voice_that_always_comes_just_after_the_old_one_is_heard_nevertheless() {
    let mut slot = Forwarder::new(MediaKind::Audio, SlotClock::new(0, 48_000), 1);
    let (a, b) = (layer(1, 0), layer(2, 0));
    slot.set_target(Some(a));
    slot.forward(a, &packet(5, 960, 20, false).input(), false).unwrap();
    slot.set_target(Some(b));
    // 5 ms behind each packet of the old voice.
    assert_eq!(slot.forward(b, &packet(70, 0, 25, false).input(), false), Err(DropReason::BeforeSwitch));
    assert_eq!(slot.forward(a, &packet(6, 1920, 40, false).input(), false), Err(DropReason::BeforeSwitch));
    assert!(slot.forward(b, &packet(71, 960, 45, false).input(), false).unwrap().switched);
}

#[test]
fn audio_switches_at_once_and_stays_on_the_grid() {
    let mut slot = Forwarder::new(MediaKind::Audio, SlotClock::new(0, 48_000), 1);
    let (a, b) = (layer(1, 0), layer(2, 0));
    slot.set_target(Some(a));
    let first = slot.forward(a, &packet(5, 960, 20, false).input(), false).unwrap();
    slot.set_target(Some(b));
    let too_early = packet(70, 0, 25, false);
    assert_eq!(slot.forward(b, &too_early.input(), false), Err(DropReason::BeforeSwitch));
    let second = slot.forward(b, &packet(71, 960, 45, false).input(), false).unwrap();
    assert!(second.switched);
    assert_eq!(second.timestamp.wrapping_sub(first.timestamp), 960);
    assert_eq!(second.seq, first.seq + 1);
}
