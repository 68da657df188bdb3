//! A forwarder alone, between an encoder with sub-layers and a receiver that wants every reference: whatever is wanted,
//! late or discarded, what goes out can be decoded and has no holes.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use veche_sfu_core::drops::DropReason;
use veche_sfu_core::forward::forwarder::{ForwardInput, ForwardOutput, Forwarder, LayerRef};
use veche_sfu_core::forward::picture::PictureFields;
use veche_sfu_core::forward::slot_clock::SlotClock;
use veche_sfu_core::ids::TrackId;
use veche_sfu_core::media::{Codec, MediaKind};
use veche_sfu_core::rtp::frame::{FrameInfo, FrameState};
use veche_sfu_core::rtp::vp8::Vp8Descriptor;
use veche_sfu_core::rtp::{HeaderWriter, RtpHeader};
use veche_testkit::media::{Encoder, Scalability, Stamp, TrackConfig};

const STREAMS: [(Codec, Scalability); 9] = [
    (Codec::H264, Scalability::L1T1),
    (Codec::Vp8, Scalability::L1T2),
    (Codec::Vp8, Scalability::L1T3),
    (Codec::Vp9, Scalability::L1T3),
    (Codec::Vp9, Scalability::L3T3),
    (Codec::Vp9, Scalability::L3T3_KEY),
    (Codec::Av1, Scalability::L1T3),
    (Codec::Av1, Scalability::L3T3),
    (Codec::Av1, Scalability::L3T3_KEY),
];

const SOURCE: LayerRef = LayerRef { participant: 1, track: 0, layer: 0, id: TrackId(1) };

/// A packet of the publisher.
struct Packet {
    seq: u64,
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
    descriptor: Option<Vec<u8>>,
}

/// A packet of the slot.
struct Sent {
    output: ForwardOutput,
    /// `None` for padding.
    stamp: Option<Stamp>,
    picture_id: Option<u16>,
}

struct Slot {
    codec: Codec,
    encoder: Encoder,
    state: FrameState,
    forwarder: Forwarder,
    /// What went out last.
    before: Option<(ForwardInput, ForwardOutput)>,
    next_seq: u64,
    picture: u32,
    sent: BTreeMap<u64, Sent>,
    /// Where each number came from, and whether that had the marker.
    sources: BTreeMap<u64, (u64, bool)>,
    dropped: u64,
}

impl Slot {
    fn new((codec, scalability): (Codec, Scalability)) -> Self {
        let config = TrackConfig::scalable(codec, scalability);
        let mut forwarder = Forwarder::new(MediaKind::Video, SlotClock::new(0, 90_000), 7);
        forwarder.set_target(Some(SOURCE));
        Self {
            codec,
            encoder: Encoder::new(codec, 1, (0, config.layers[0]), scalability, 0x7ff0),
            state: FrameState::default(),
            forwarder,
            before: None,
            next_seq: 70_000,
            picture: 0,
            sent: BTreeMap::new(),
            sources: BTreeMap::new(),
            dropped: 0,
        }
    }

    fn encode(&mut self) -> Vec<Packet> {
        let timestamp = self.picture * 3_000;
        self.picture += 1;
        let captured = Duration::from_micros(u64::from(self.picture) * 33_333);
        let packets = self.encoder.encode(captured).into_iter();
        packets
            .map(|packet| {
                self.next_seq += 1;
                let seq = self.next_seq;
                let (payload, descriptor) = (packet.payload, packet.descriptor);
                Packet { seq, timestamp, marker: packet.marker, payload, descriptor }
            })
            .collect()
    }

    fn forward(&mut self, packet: &Packet, discard: bool) {
        let writer = HeaderWriter {
            marker: packet.marker,
            payload_type: veche_sfu_core::ids::PayloadType(96),
            seq: packet.seq as u16,
            timestamp: packet.timestamp,
            ssrc: veche_sfu_core::ids::Ssrc(1),
        };
        let mut bytes = Vec::new();
        writer.write(&[], &mut bytes);
        let header = RtpHeader::parse(&bytes).unwrap();
        let descriptor = packet.descriptor.as_deref();
        let info = FrameInfo::read(self.codec, &header, &packet.payload, descriptor, &mut self.state);
        let picture = PictureFields::read(self.codec, &packet.payload, descriptor);
        let input = ForwardInput {
            seq: packet.seq,
            generation: 0,
            timestamp: packet.timestamp,
            nanos: i64::from(packet.timestamp) * 100_000 / 9,
            starts_key_frame: info.key_frame && info.start_of_frame,
            end_of_frame: info.end_of_frame,
            marker: packet.marker,
            frame: info.targets,
            picture,
        };
        // As packets of one batch are forwarded.
        let before = self.before.take();
        let next = before.and_then(|(came, went)| self.forwarder.forward_next((&came, &went), &input));
        match next.map_or_else(|| self.forwarder.forward(SOURCE, &input, discard), Ok) {
            Ok(output) => {
                self.before = Some((input, output));
                let mut copy = packet.payload.clone();
                output.offsets.apply(&picture, &mut copy);
                let vp8 = (self.codec == Codec::Vp8).then(|| Vp8Descriptor::parse(&copy).unwrap());
                let stamp = if output.padding { None } else { Stamp::read(&copy) };
                let picture_id = vp8.and_then(|d| Some(d.picture_id?.value));
                let sent = Sent { output, stamp, picture_id };
                assert!(self.sent.insert(output.seq, sent).is_none(), "{} was given out twice", output.seq);
                self.sources.insert(output.seq, (packet.seq, packet.marker));
            }
            Err(DropReason::NotSelected | DropReason::AwaitingKeyFrame) => self.dropped += 1,
            Err(reason) => panic!("{reason}"),
        }
    }

    /// Whole pictures, with everything that they refer to, and no hole between them. Returns their top frames.
    fn check(&self) -> Vec<Stamp> {
        let first = *self.sent.keys().next().expect("something is sent");
        let last = *self.sent.keys().next_back().unwrap();
        assert_eq!(last - first + 1, self.sent.len() as u64, "there are holes");
        let mut decoded = HashSet::new();
        let mut top: Vec<Stamp> = Vec::new();
        let mut ids: Option<u16> = None;
        let mut picture: Vec<&Sent> = Vec::new();
        for sent in self.sent.values().filter(|sent| sent.stamp.is_some()) {
            if let Some(before) = picture.last() {
                assert_eq!(before.output.timestamp, sent.output.timestamp, "{:?} has no end", before.stamp);
            }
            picture.push(sent);
            if !sent.output.marker {
                continue;
            }
            let stamps: Vec<Stamp> = picture.drain(..).map(|sent| sent.stamp.unwrap()).collect();
            let mut rest = &stamps[..];
            while let Some(stamp) = rest.first() {
                let (frame, others) = rest.split_at(usize::from(stamp.count).min(rest.len()));
                let whole = frame
                    .iter()
                    .enumerate()
                    .all(|(i, s)| usize::from(s.index) == i && s.frame == stamp.frame);
                assert!(whole && frame.len() == usize::from(stamp.count), "{stamp:?} is not whole");
                for distance in stamp.references.iter().filter(|d| **d > 0) {
                    let number = stamp.frame - u32::from(*distance);
                    assert!(decoded.contains(&number), "{stamp:?}: {number} was not sent");
                }
                decoded.insert(stamp.frame);
                rest = others;
            }
            top.extend(stamps.last());
            if let (Some(now), Some(before)) = (sent.picture_id, ids) {
                assert_eq!(now.wrapping_sub(before) & 0x7fff, 1, "picture ids have a hole");
            }
            ids = sent.picture_id;
        }
        for (out, (source, marker)) in self.sources.iter().rev().take(900) {
            let found = self.forwarder.sent(*out as u16).expect("a packet of late");
            assert_eq!(found.seq, *source);
            assert_eq!(found.padding, self.sent[out].output.padding);
            assert_eq!(found.marker, self.sent[out].output.marker && !marker);
            assert_eq!(found.offsets, self.sent[out].output.offsets);
        }
        top
    }

    fn run(&mut self, pictures: u32) {
        for _ in 0..pictures {
            for packet in self.encode() {
                self.forward(&packet, false);
            }
        }
    }
}

#[test]
fn every_sublayer_is_reached_and_held() {
    for stream in STREAMS {
        let scalability = stream.1;
        let layers = |t: u8| (0..scalability.spatial).map(move |s| (s, t));
        let all: Vec<(u8, u8)> = (0..scalability.temporal).flat_map(layers).collect();
        let mut slot = Slot::new(stream);
        for ceiling in all.iter().chain(all.iter().rev()).chain(&[(u8::MAX, u8::MAX)]) {
            slot.forwarder.set_ceiling(ceiling.0, ceiling.1);
            slot.run(9);
            if slot.forwarder.needs_key_frame() {
                slot.encoder.want_key_frame();
            }
            slot.run(8);
            let wanted = (ceiling.0.min(scalability.spatial - 1), ceiling.1.min(scalability.temporal - 1));
            assert_eq!(slot.forwarder.sublayer(), Some(wanted), "{stream:?}");
            assert!(!slot.forwarder.needs_key_frame());
            let before = slot.sent.len();
            slot.run(16);
            let stamps: Vec<&Stamp> =
                slot.sent.values().skip(before).filter_map(|s| s.stamp.as_ref()).collect();
            let shown: HashSet<u32> =
                stamps.iter().filter(|s| s.spatial == wanted.0).map(|s| s.frame).collect();
            let share = 1 << (scalability.temporal - 1 - wanted.1);
            assert_eq!(shown.len(), 16 / share, "{stream:?} {wanted:?}");
            assert!(stamps.iter().all(|s| s.spatial <= wanted.0 && s.temporal <= wanted.1));
        }
        slot.check();
    }
}

#[test]
fn down_is_at_once_and_temporal_up_needs_no_key_frame() {
    for stream in STREAMS {
        let mut slot = Slot::new(stream);
        slot.run(8);
        slot.forwarder.set_ceiling(u8::MAX, 0);
        slot.run(1);
        let low = slot.forwarder.sublayer().unwrap();
        assert_eq!(low.1, 0, "{stream:?}");
        slot.run(30);
        slot.forwarder.set_ceiling(u8::MAX, u8::MAX);
        slot.run(9);
        assert_eq!(slot.forwarder.sublayer().unwrap().1, stream.1.temporal - 1, "{stream:?}");
        if !stream.1.key_only {
            slot.forwarder.set_ceiling(0, 0);
            slot.run(1);
            assert_eq!(slot.forwarder.sublayer().map(|s| s.1), Some(0));
            let before = slot.sent.len();
            slot.run(8);
            let stamps = slot.sent.values().skip(before).filter_map(|s| s.stamp.as_ref());
            assert!(stamps.into_iter().all(|s| s.spatial == 0), "{stream:?}");
        }
        assert_eq!(slot.encoder.key_frames, 1);
        slot.check();
    }
}

#[test]
fn what_nobody_needs_is_discarded_without_harm() {
    for stream in STREAMS.into_iter().filter(|s| s.1.temporal == 3) {
        let mut slot = Slot::new(stream);
        slot.run(5);
        for _ in 0..20 {
            let packets = slot.encode();
            let highest = Stamp::read(&packets[0].payload).unwrap().temporal == 2;
            for packet in &packets {
                slot.forward(packet, highest);
            }
            assert!(!slot.forwarder.awaits_key_frame());
        }
        assert!(slot.dropped > 0);
        slot.run(12);
        assert_eq!(slot.forwarder.sublayer().unwrap().1, 2, "{stream:?}");
        assert!(!slot.forwarder.needs_key_frame());
        slot.check();
    }
}

#[test]
fn what_all_need_ends_the_stream_until_a_key_frame() {
    for stream in STREAMS {
        let mut slot = Slot::new(stream);
        slot.run(4);
        if stream.1.temporal == 1 {
            slot.run(2);
        }
        // A picture of the lowest temporal layer.
        for packet in slot.encode() {
            slot.forward(&packet, true);
        }
        assert!(slot.forwarder.awaits_key_frame() && slot.forwarder.needs_key_frame(), "{stream:?}");
        let before = slot.sent.len();
        slot.run(7);
        assert_eq!(slot.sent.len(), before);
        slot.encoder.want_key_frame();
        for packet in slot.encode() {
            // The queue is still too long, but the key frame would only have to be asked for again.
            slot.forward(&packet, true);
        }
        assert!(slot.sent.len() > before && !slot.forwarder.needs_key_frame());
        slot.run(8);
        slot.check();
    }
}

#[test]
fn a_packet_that_comes_late_of_a_frame_that_is_left_out_goes_out_as_padding() {
    let mut slot = Slot::new((Codec::Vp9, Scalability::L3T3));
    slot.forwarder.set_ceiling(0, 0);
    slot.run(20);
    assert!(slot.sent.values().all(|s| !s.output.padding));
    let mut late = slot.encode();
    let last = late.pop().unwrap();
    assert_eq!(Stamp::read(&last.payload).unwrap().spatial, 2);
    for packet in &late {
        slot.forward(packet, false);
    }
    slot.run(3);
    slot.forward(&last, false);
    let padding: Vec<u64> = slot.sent.iter().filter(|(_, s)| s.output.padding).map(|(seq, _)| *seq).collect();
    assert_eq!(padding.len(), 1, "its number was kept");
    let sent = slot.forwarder.sent(padding[0] as u16).unwrap();
    assert!(sent.padding && sent.seq == last.seq && !sent.marker);
    slot.check();
}

#[test]
fn nothing_breaks_whatever_is_wanted_late_or_discarded() {
    for stream in STREAMS {
        let mut frames = 0;
        for seed in 0..60 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut slot = Slot::new(stream);
            let reorders = seed % 3 == 1;
            let discards = seed % 2 == 1;
            // The server learns the structure from the first key frame.
            slot.run(2);
            let mut waiting: Vec<(u32, Packet)> = Vec::new();
            let (mut discard, mut key_at) = (0_u32, None);
            for picture in 0..600 {
                if rng.random_bool(0.05) {
                    slot.forwarder.set_ceiling(rng.random_range(0..4), rng.random_range(0..4));
                }
                if slot.forwarder.needs_key_frame() && key_at.is_none() {
                    key_at = Some(picture + 3);
                }
                if key_at == Some(picture) {
                    key_at = None;
                    slot.encoder.want_key_frame();
                }
                if discards && rng.random_bool(0.03) {
                    discard = rng.random_range(1..4);
                }
                for packet in slot.encode() {
                    if reorders && rng.random_bool(0.05) {
                        waiting.push((rng.random_range(1..20), packet));
                        continue;
                    }
                    slot.forward(&packet, discard > 0);
                    for (time, _) in &mut waiting {
                        *time = time.saturating_sub(1);
                    }
                    while let Some(due) = waiting.iter().position(|(time, _)| *time == 0) {
                        let (_, packet) = waiting.remove(due);
                        slot.forward(&packet, discard > 0);
                    }
                }
                discard = discard.saturating_sub(1);
            }
            for (_, packet) in waiting {
                slot.forward(&packet, false);
            }
            println!("{stream:?}, seed {seed}");
            frames += slot.check().len();
        }
        assert!(frames > 60 * 150, "{stream:?}: {frames}");
    }
}
