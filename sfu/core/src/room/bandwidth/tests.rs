//! When a slot is sent nothing more of what it shows.

#![expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]

use std::collections::VecDeque;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use smallvec::smallvec;

use super::*;
use crate::assignment::TrackRef;
use crate::bridge::lanes::Bridges;
use crate::context::Now;
use crate::drops::DropCounts;
use crate::dtls::tests::certificate;
use crate::forward::forwarder::{ForwardInput, LayerRef};
use crate::forward::picture::PictureFields;
use crate::ids::{Mid, RoomId, Ssrc, TrackId, WorkerId};
use crate::media::Codecs;
use crate::room::RoomConfig;
use crate::rtcp::CompoundWriter;
use crate::sdp::negotiator::LocalDescription;
use crate::sdp::{PublishedLayer, PublishedSection, SlotSection};
use crate::slot::Slot;
use crate::track::Track;
use crate::transport::send_buffer::SendBuffer;

const TRACK: TrackId = TrackId(5);
/// What the largest of the three layers is taken to need, since none of them was measured.
const LARGEST: u64 = 1_658_880;

/// A room in which one watches the pictures of another.
struct Watching {
    room: Room,
    start: Instant,
    at: SlotRef,
    packets: u64,
}

impl Watching {
    fn new() -> Self {
        let start = Instant::now();
        let certificate = Arc::new(certificate());
        let fingerprint = certificate.fingerprint();
        let config = RoomConfig {
            local: LocalDescription {
                candidates: Vec::new(),
                fingerprint,
                max_message_size: 0,
                worker: WorkerId(0),
            },
            certificate,
            dtls13: false,
            reproducible: true,
            max_message_size: 0,
            epoch: start,
        };
        let mut room = Room::new(RoomId(1), 0, Arc::new(config), StdRng::seed_from_u64(1), start);
        let [publisher, viewer] = [1, 2].map(|id| room.insert(start, ParticipantId(id)));
        let section = PublishedSection {
            kind: MediaKind::Video,
            active: true,
            codecs: Codecs::new(),
            layers: smallvec![PublishedLayer::default(); 3],
        };
        let mid = Mid::new("0").unwrap();
        let mut track = Track::new(TRACK, mid.clone(), &section, Source::Camera, false, start);
        track.ladder.refresh(start, &track.layers, &track.demand);
        let track = room.participants[publisher as usize].tracks.insert(track) as u32;
        let section = SlotSection {
            kind: MediaKind::Video,
            active: true,
            codecs: Codecs::new(),
            ssrc: Ssrc(1),
            rtx_ssrc: Ssrc(2),
            pair: None,
        };
        let mut slot = Slot::new(mid, &section, 0, 0);
        slot.assigned = Some(TrackRef { participant: publisher, track, id: TRACK });
        let slot = room.participants[viewer as usize].slots.insert(slot) as u32;
        Self { room, start, at: SlotRef { participant: viewer, slot }, packets: 0 }
    }

    fn slot(&mut self) -> &mut Slot {
        &mut self.room.participants[self.at.participant as usize].slots[self.at.slot as usize]
    }

    fn layer(&mut self, layer: u8) -> LayerRef {
        let TrackRef { participant, track, id } = self.slot().assigned.unwrap();
        LayerRef { participant, track, layer, id }
    }

    /// The slot is given a layer.
    fn give(&mut self, layer: u8) {
        let (assigned, now) = (self.slot().assigned.unwrap(), self.start);
        let levels = self.room.track(assigned).unwrap().ladder.levels((0, 0));
        self.slot().share.give(now, Some(usize::from(layer)), &levels);
    }

    /// A key frame of a layer comes, for which the slot waits.
    fn come(&mut self, layer: u8) {
        self.packets += 1;
        let input = ForwardInput {
            seq: self.packets,
            generation: 0,
            timestamp: 0,
            nanos: self.packets as i64 * 100_000_000,
            starts_key_frame: true,
            end_of_frame: true,
            marker: true,
            frame: None,
            picture: PictureFields::default(),
        };
        let layer = self.layer(layer);
        self.slot().forwarder.set_target(Some(layer));
        assert!(self.slot().forwarder.forward(layer, &input, false).unwrap().switched);
    }

    /// The bandwidth was shared, and so many bits per second are there for the slot. Returns whether it is starved then.
    fn starve(&mut self, bits: u64) -> bool {
        let mut ctx = Context {
            now: Now::new(self.start, self.start, 0),
            events: &mut VecDeque::new(),
            dirty: &mut Vec::new(),
            bridges: &mut Bridges::new(WorkerId(0), 1),
            waiting: &mut Vec::new(),
            spare: &mut SendBuffer::default(),
            drops: &mut DropCounts::default(),
            rtcp: &mut CompoundWriter::default(),
            missing: &mut Vec::new(),
            arrived: &mut Vec::new(),
        };
        self.room.starve(&mut ctx, self.at, bits);
        self.slot().starved
    }
}

#[test]
fn a_slot_that_has_to_wait_for_less_is_starved_of_what_takes_twice_what_is_there() {
    let mut watching = Watching::new();
    assert!(!watching.starve(0), "it shows nothing");
    watching.give(2);
    watching.come(2);
    assert!(!watching.starve(0), "it shows what it is given, which is for others to change");
    watching.give(0);
    assert!(!watching.starve(LARGEST / 2), "the queue grows slowly enough");
    assert!(watching.starve(LARGEST / 2 - 1));
    let smallest = watching.layer(0);
    assert_eq!(watching.slot().forwarder.target(), Some(smallest), "it waits for the key frame");
    assert!(watching.starve(LARGEST / 4), "it goes on");
    assert!(!watching.starve(LARGEST), "until the network is there again");
    assert!(watching.starve(1_000));
    watching.come(0);
    assert!(!watching.starve(1_000), "the least is never starved");
}

#[test]
fn a_slot_that_waits_for_more_is_never_starved() {
    let mut watching = Watching::new();
    watching.give(1);
    watching.come(1);
    watching.give(2);
    assert!(!watching.starve(1));
    // Another track, which has nothing to do with what it still shows.
    watching.give(0);
    let slot = watching.slot();
    slot.assigned = slot.assigned.map(|track| TrackRef { id: TrackId(9), ..track });
    assert!(!watching.starve(1));
}
