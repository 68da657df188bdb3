//! The studio beside two workers: who listens gets what real clients send, and real clients see a guest.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::Call;
use smallvec::smallvec;
use veche_sfu::studio::{Ask, Guest, Heard, Listener};
use veche_sfu_core::bridge::News;
use veche_sfu_core::control::{Command, Event};
use veche_sfu_core::ids::{ParticipantId, PayloadType, Rid, Ssrc, TrackId};
use veche_sfu_core::media::{Codec, CodecProfile, ExtensionIds, MediaKind, NegotiatedCodec, Source};
use veche_sfu_core::rtp::{HeaderWriter, RtpHeader};
use veche_sfu_core::sdp::{PublishedLayer, PublishedSection};
use veche_sfu_core::studio::guest::GuestTrack;
use veche_testkit::client::ClientConfig;
use veche_testkit::media::{Encoder, LayerConfig, Scalability, Stamp};

/// What a listener has heard.
#[derive(Default)]
struct Notes {
    peers: BTreeMap<ParticipantId, String>,
    tracks: BTreeMap<TrackId, (ParticipantId, MediaKind)>,
    /// Of each track: the numbers of frames.
    frames: BTreeMap<TrackId, Vec<u32>>,
    reports: usize,
}

impl Notes {
    fn take(&mut self, listener: &Listener) {
        while let Some(heard) = listener.try_hear() {
            match heard {
                Heard::News(News::Joined { participant, peer }) => {
                    self.peers.insert(participant, peer.to_string());
                }
                Heard::News(News::Left { participant }) => {
                    self.peers.remove(&participant);
                    self.tracks.retain(|_, (owner, _)| *owner != participant);
                }
                Heard::News(News::Track(track)) => {
                    if self.tracks.insert(track.id, (track.participant, track.section.kind)).is_none() {
                        listener.take(track.id, 1);
                    }
                }
                Heard::News(_) => {}
                Heard::Packet(packet) => {
                    let header = RtpHeader::parse(&packet.bytes).unwrap();
                    let stamp = Stamp::read(&packet.bytes[header.header_len..]).unwrap();
                    assert!(packet.arrived <= listener.server_time(Instant::now()));
                    let frames = self.frames.entry(packet.track).or_default();
                    if stamp.index == 0 {
                        frames.push(stamp.frame);
                    }
                }
                Heard::Report(_) => self.reports += 1,
            }
        }
    }
}

#[tokio::test]
async fn who_listens_hears_all_who_are_there_on_whatever_worker() {
    let mut call = Call::new();
    // Before anybody is there, and so before the room is.
    let listener = call.sfu.handle.listen(call.room, 8 << 20);
    for _ in 0..3 {
        call.join();
    }
    let notes = std::cell::RefCell::new(Notes::default());
    call.run_until("all is heard", |_| {
        let mut notes = notes.borrow_mut();
        notes.take(&listener);
        notes.tracks.len() == 6
            && notes
                .tracks
                .keys()
                .all(|track| notes.frames.get(track).is_some_and(|frames| frames.len() > 30))
            && notes.reports > 6
    });
    let mut all: Vec<_> = notes.borrow().peers.values().cloned().collect();
    all.sort_unstable();
    assert_eq!(all, ["peer-1", "peer-2", "peer-3"]);
    for frames in notes.borrow().frames.values() {
        assert!(frames.windows(2).all(|pair| pair[1] == pair[0] + 1), "{frames:?}");
    }
    assert_eq!(listener.dropped(), 0);
    assert_eq!(call.sfu.handle.metrics().iter().map(|worker| worker.participants).sum::<usize>(), 3);

    // Who comes later hears the same, who leaves is told of, and nothing comes of what is taken no longer.
    let later = call.sfu.handle.listen(call.room, 8 << 20);
    let gone = call.seats.remove(0);
    let of_gone: Vec<TrackId> =
        notes.borrow().tracks.iter().filter(|(_, t)| t.0 == gone.participant).map(|(id, _)| *id).collect();
    call.command(Command::RemoveParticipant { participant: gone.participant });
    let others = std::cell::RefCell::new(Notes::default());
    call.run_until("both hear that one has left", |_| {
        notes.borrow_mut().take(&listener);
        others.borrow_mut().take(&later);
        let left = |notes: &Notes| !notes.peers.contains_key(&gone.participant) && notes.peers.len() == 2;
        left(&notes.borrow()) && left(&others.borrow()) && others.borrow().frames.len() >= 4
    });
    assert!(notes.borrow().tracks.keys().all(|track| !of_gone.contains(track)));
    let quiet = *notes.borrow().tracks.keys().next().unwrap();
    listener.take(quiet, 0);
    // What one hears and the other does not, was sent when it was taken no longer.
    call.run_until("only the other hears it", |_| {
        others.borrow_mut().take(&later);
        notes.borrow_mut().take(&listener);
        others.borrow().frames[&quiet].last() > notes.borrow().frames[&quiet].last()
    });
    let before = notes.borrow().frames[&quiet].len();
    let count = others.borrow().frames[&quiet].len();
    call.run_until("the other goes on", |_| {
        others.borrow_mut().take(&later);
        others.borrow().frames[&quiet].len() > count + 20
    });
    notes.borrow_mut().take(&listener);
    assert_eq!(notes.borrow().frames[&quiet].len(), before);
    call.sfu.handle.stop().await;
}

/// A camera without a browser: two layers of VP8, each made while it is wanted.
struct Camera {
    guest: Guest,
    track: TrackId,
    layers: [(Encoder, u16); 2],
    wanted: u8,
    start: Instant,
}

/// Says that it is over when it is dropped, and so when an assertion fails, too: the test would wait for its threads.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const PAYLOAD_TYPE: PayloadType = PayloadType(96);

impl Camera {
    fn new(guest: Guest, source: u32, start: Instant) -> Self {
        let codec = NegotiatedCodec {
            payload_type: PAYLOAD_TYPE,
            codec: Codec::Vp8,
            profile: CodecProfile::default(),
            rtx: None,
            red: None,
            nack: false,
            pli: false,
            fir: false,
            transport_cc: false,
        };
        let layer = |rid| PublishedLayer { rid: Rid::new(rid), ..PublishedLayer::default() };
        let section = PublishedSection {
            kind: MediaKind::Video,
            active: true,
            codecs: smallvec![codec],
            layers: smallvec![layer("l"), layer("h")],
        };
        let extensions = ExtensionIds::default();
        let track = guest.publish(GuestTrack { source: Source::Camera, muted: false, section, extensions });
        let small = LayerConfig { packets: 2, ..LayerConfig::SMALL };
        let large = LayerConfig { size: (1280, 720), packets: 4, ..LayerConfig::SMALL };
        let layers = [(0, small), (1, large)]
            .map(|layer| (Encoder::new(Codec::Vp8, source, layer, Scalability::L1T1, 1), 65_530));
        Self { guest, track, layers, wanted: 3, start }
    }

    /// Sends a frame of each layer that is wanted.
    fn shoot(&mut self) {
        for ask in self.guest.asks().try_iter() {
            match ask {
                Ask::KeyFrame { layer, .. } => self.layers[usize::from(layer)].0.want_key_frame(),
                Ask::Wanted { layers, .. } => self.wanted = layers,
            }
        }
        let captured = self.start.elapsed();
        let timestamp = (captured.as_micros() as u64 * 9 / 100) as u32;
        for (layer, (encoder, seq)) in (0..).zip(&mut self.layers) {
            if self.wanted & 1 << layer == 0 {
                continue;
            }
            for packet in encoder.encode(captured) {
                let header = HeaderWriter {
                    marker: packet.marker,
                    payload_type: PAYLOAD_TYPE,
                    seq: *seq,
                    timestamp,
                    ssrc: Ssrc(1),
                };
                *seq = seq.wrapping_add(1);
                let mut bytes = Vec::new();
                header.write(&[], &mut bytes);
                bytes.extend(packet.payload);
                assert!(self.guest.send(self.track, layer, bytes));
            }
        }
    }
}

#[tokio::test]
async fn people_on_both_workers_see_a_guest() {
    const SOURCE: u32 = 4_711;
    let mut call = Call::new();
    let guest = call.sfu.handle.add_guest(call.room);
    let who = guest.participant();
    let camera = Camera::new(guest, SOURCE, call.start);
    let track = camera.track;
    // The control plane is told as of anybody's.
    let told = call.sfu.events.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(matches!(&told, Event::Track { participant, track: t } if *participant == who && t.id == track));

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stopping = Stopping(&stop);
        let shooting = scope.spawn(|| {
            let mut camera = camera;
            while !stop.load(Ordering::Relaxed) {
                camera.shoot();
                thread::sleep(Duration::from_millis(33));
            }
            camera
        });
        for _ in 0..4 {
            call.join_with(ClientConfig { data: false, ..ClientConfig::viewer() });
        }
        let sees = |call: &Call, layer: u8| {
            call.seats.iter().all(|seat| {
                let frames = seat.client.slots.iter().flat_map(|slot| &slot.frames);
                frames.filter(|f| f.stamp.source == SOURCE && f.stamp.layer == layer).count() > 20
            })
        };
        call.run_until("all see the large picture", |call| sees(call, 1));
        for seat in &call.seats {
            assert_eq!((seat.client.strange, seat.client.faults()), (0, vec![]));
        }
        drop(stopping);
        let camera = shooting.join().unwrap();
        drop(camera);
        call.run_until("its track is gone", |call| {
            let gone = |slot: &veche_testkit::client::SlotReceiver| {
                slot.frames.last().is_none_or(|frame| frame.at.elapsed() > Duration::from_millis(300))
            };
            call.seats.iter().all(|seat| seat.client.slots.iter().all(gone))
        });
    });
    call.sfu.handle.stop().await;
}
