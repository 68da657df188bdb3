//! What a worker takes from another: an engine in which somebody of another worker stands as a mirror, and records for it, as
//! they come or with packets under the header of a layer. What can be read must be written again as it was.

use std::sync::Arc;
use std::time::Instant;

use veche_sfu_core::bridge::Crossing;
use veche_sfu_core::bridge::packet::{BridgePacket, Record, StreamId};
use veche_sfu_core::control::{Command, SectionLabels};
use veche_sfu_core::dtls::Certificate;
use veche_sfu_core::engine::{Engine, EngineConfig};
use veche_sfu_core::ids::{ParticipantId, PayloadType, RequestId, RoomId, TrackId, WorkerId};
use veche_sfu_core::rtp::header::RtpHeader;

use crate::dtls::CERTIFICATES;
use crate::engine::{FINGERPRINT, OFFER};
use crate::records::records;
use crate::time;

/// Kinds of records of an input.
pub mod kind {
    /// A record of the bridge.
    pub const RECORD: u8 = 0;
    /// An RTP packet, behind the place of its track in [`super::TRACKS`], its layer and its generation, a byte each.
    pub const PACKET: u8 = 1;
    /// The same, which came as a repair.
    pub const REPAIR: u8 = 2;
    /// Time goes by.
    pub const TIME: u8 = 3;
}

/// The tracks of the mirror: Opus, and VP8 in three layers.
pub const TRACKS: [TrackId; 2] = [TrackId(2), TrackId(4)];

const ROOM: RoomId = RoomId(1);
const HOME: WorkerId = WorkerId(0);
const AWAY: WorkerId = WorkerId(1);

/// The engine that takes the records.
struct Shard {
    start: Instant,
    now: Instant,
    engine: Engine,
}

pub(crate) fn run(input: &[u8]) {
    let mut shard = Shard::new();
    for (kind, bytes) in records(input) {
        shard.step(kind, bytes);
    }
    shard.engine.handle_worker_gone(shard.now, HOME);
    assert_eq!(shard.engine.mirrored_tracks(), 0, "nothing of a worker that is gone is left");
}

impl Shard {
    /// Somebody publishes on the worker that is home, and somebody has slots on the other.
    fn new() -> Self {
        let now = time::start();
        let [mut home, mut away] = [HOME, AWAY].map(|worker| engine(worker, now));
        for (engine, id) in [(&mut home, 1), (&mut away, 2)] {
            let participant = ParticipantId(id);
            let peer = format!("peer{id}").into();
            engine.handle_command(now, Command::AddParticipant { room: ROOM, participant, peer });
            let sdp = OFFER.replace(FINGERPRINT, &["AB"; 32].join(":"));
            let (request, labels) = (RequestId(id), SectionLabels::default());
            engine.handle_command(now, Command::Offer { participant, request, sdp, labels });
        }
        while cross(now, &mut home, &mut away, HOME, AWAY) | cross(now, &mut away, &mut home, AWAY, HOME) {}
        assert_eq!(away.mirrored_tracks(), TRACKS.len());
        Self { start: now, now, engine: away }
    }

    fn step(&mut self, kind: u8, bytes: &[u8]) {
        match kind {
            kind::TIME => {
                self.now += time::step(bytes);
                self.engine.handle_timeout(self.now);
                assert!(self.engine.poll_timeout().is_none_or(|at| at > self.now), "what was due is done");
            }
            kind::PACKET | kind::REPAIR => {
                if let Some((&[track, layer, generation], packet)) = bytes.split_first_chunk()
                    && let Ok(header) = RtpHeader::parse(packet)
                {
                    let track = TRACKS[usize::from(track) % TRACKS.len()];
                    let stream = StreamId { track, layer, generation: generation.into() };
                    let arrived = self.now.duration_since(self.start).as_nanos() as i64;
                    let repaired = kind == kind::REPAIR;
                    let mut record = Vec::new();
                    BridgePacket { stream, repaired, arrived, packet }.write(
                        header.payload_type,
                        header.seq,
                        &mut record,
                    );
                    self.take(&record);
                }
            }
            _ => self.take(bytes),
        }
        self.engine.flush(&mut |_| {});
        self.engine.flush_bridge(self.now, HOME, &mut |_| Ok(()));
        while self.engine.poll_event().is_some() {}
    }

    fn take(&mut self, record: &[u8]) {
        round_trip(record);
        self.engine.handle_crossing(self.now, HOME, Crossing::Record(record));
    }
}

fn engine(worker: WorkerId, now: Instant) -> Engine {
    let certificate = &CERTIFICATES[0];
    let certificate =
        Certificate::new(certificate.certificate().to_vec(), certificate.private_key().to_vec());
    let config = EngineConfig {
        candidates: Vec::new(),
        certificate: Arc::new(certificate.expect("it was good before")),
        seed: [1; 32],
        epoch: now,
        epoch_ntp: 1 << 40,
        dtls13: false,
        // There are no handshakes whose randomness could matter, and without it an engine is set up much sooner.
        reproducible: false,
        max_message_size: 1 << 18,
    };
    Engine::new(config, now).among(worker, 2)
}

/// Hands over what one engine has for the other. Returns whether there was anything.
fn cross(now: Instant, from: &mut Engine, to: &mut Engine, sender: WorkerId, receiver: WorkerId) -> bool {
    let mut news = Vec::new();
    let any = from.flush_bridge(now, receiver, &mut |crossing| {
        if let Crossing::News(message) = crossing {
            news.push(message);
        }
        Ok(())
    });
    for message in news {
        to.handle_crossing(now, sender, Crossing::News(message));
    }
    any
}

/// What was read is written as it was, but for padding, which never crosses, and for what stands behind a report.
fn round_trip(record: &[u8]) {
    let mut written = Vec::new();
    match Record::parse(record) {
        Some(Record::Packet(packet)) => {
            let Ok(header) = RtpHeader::parse(packet.packet) else { return };
            packet.write(header.payload_type, header.seq, &mut written);
            let mut expected = record.to_vec();
            expected[record.len() - packet.packet.len()] &= !0x20;
            assert_eq!(written, expected);
            // Under other numbers, as a repair goes, the rest stays.
            written.clear();
            packet.write(PayloadType(0x7f), 0x1234, &mut written);
            assert_eq!(written.len(), record.len());
            let Some(Record::Packet(again)) = Record::parse(&written) else { panic!("a packet stays one") };
            assert_eq!(
                (again.stream, again.repaired, again.arrived),
                (packet.stream, packet.repaired, packet.arrived)
            );
            let header = RtpHeader::parse(again.packet).expect("it stays whole");
            assert_eq!((header.payload_type, header.seq), (PayloadType(0x7f), 0x1234));
        }
        Some(Record::Report(report)) => {
            report.write(&mut written);
            assert_eq!(Some(&written[..]), record.get(..written.len()));
            assert_eq!(Record::parse(&written), Some(Record::Report(report)));
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use veche_sfu_core::drops::DropReason;

    use super::*;

    #[test]
    fn the_seeds_reach_the_layers_of_the_mirror() {
        let mut shard = Shard::new();
        let folder = crate::seed_folders("bridge").remove(0);
        let input = std::fs::read(folder.join("pictures")).unwrap();
        for (kind, bytes) in records(&input) {
            shard.step(kind, bytes);
        }
        let drops = shard.engine.drops();
        assert_eq!(drops.get(DropReason::BridgeStale), 0, "{drops:?}");
        assert_eq!(drops.get(DropReason::UnknownPayloadType), 0, "{drops:?}");
        assert_eq!(drops.get(DropReason::Duplicate), 1, "one comes twice: {drops:?}");
    }
}
