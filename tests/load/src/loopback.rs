//! A publisher and a subscriber without a server between them, in virtual time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use veche_sfu_core::ids::Ssrc;
use veche_sfu_core::media::{Codec, Extension, ExtensionIds, Source};
use veche_sfu_core::rtcp::{self, CompoundWriter, Packet};
use veche_sfu_core::sdp::{Fingerprint, IceCredentials, SetupRole};
use veche_sfu_core::srtp::{InboundSrtp, OutboundSrtp, SrtpKeys, SrtpProfile};

use crate::clock::Clock;
use crate::description::Format;
use crate::measure::Counters;
use crate::negotiation::{Agreement, PublishedLayer, PublishedTrack, ReceivedStream};
use crate::publisher::{Media, Publisher};
use crate::recording::{RecordedFrame, Recording};
use crate::send_times::SendTimes;
use crate::subscriber::Subscriber;
use crate::synthetic::{Video, VideoShape};

const MILLI: Duration = Duration::from_millis(1);
/// What the way takes.
const WAY: Duration = Duration::from_millis(7);

struct Loopback {
    start: Instant,
    publisher: Publisher,
    subscriber: Subscriber,
    inbound: InboundSrtp,
    outbound: OutboundSrtp,
    sent: Counters,
    received: Counters,
    /// Media packets that were sent, by number; these are lost.
    count: u64,
    lost: Vec<u64>,
}

impl Loopback {
    fn new(media: Media, lost: &[u64]) -> Self {
        let (ssrc, rtx_ssrc) = (Ssrc(10), Ssrc(11));
        let parameters = String::new();
        let format = Format { payload_type: 96, codec: Codec::Vp8, parameters, rtx: Some(97) };
        let mut extensions = ExtensionIds::default();
        extensions.set(Extension::Mid, 4);
        extensions.set(Extension::TransportCc, 3);
        let agreement = Agreement {
            ice: IceCredentials { ufrag: "ufrag".to_owned(), pwd: "pwd".to_owned() },
            controlling: true,
            fingerprint: Fingerprint([0; 32]),
            role: SetupRole::Active,
            address: "127.0.0.1:9".parse().unwrap(),
            extensions,
            published: vec![Some(format.clone())],
            received: vec![ReceivedStream {
                ssrc,
                rtx_ssrc: Some(rtx_ssrc),
                kind: Codec::Vp8.kind(),
                formats: vec![format],
            }],
        };
        let layers = vec![PublishedLayer { rid: None, ssrc, rtx_ssrc }];
        let track =
            PublishedTrack { mid: "p0".to_owned(), source: Source::Camera, codec: Codec::Vp8, layers };
        let (clock, times) = (Clock::new(), Arc::new(SendTimes::default()));
        let start = clock.start();
        let profile = SrtpProfile::AeadAes128Gcm;
        let keys = SrtpKeys::from_dtls(profile, &vec![5; profile.keying_material_len()], true).unwrap();
        let media = vec![(media, None)];
        let rng = &mut StdRng::seed_from_u64(1);
        Self {
            start,
            publisher: Publisher::new(&[track], media, &agreement, clock, Arc::clone(&times), start, rng),
            subscriber: Subscriber::new(&agreement, 4, clock, times),
            inbound: InboundSrtp::new(&keys.outbound),
            outbound: OutboundSrtp::new(&keys.outbound),
            sent: Counters::default(),
            received: Counters::default(),
            count: 0,
            lost: lost.to_vec(),
        }
    }

    /// Goes on until so many milliseconds have passed since the start, in steps of one.
    fn run(&mut self, from: u32, to: u32) {
        for millis in from..to {
            let now = self.start + millis * MILLI;
            let mut datagrams = Vec::new();
            self.publisher.handle_timeout(now, &mut self.outbound, &mut self.sent, &mut |datagram| {
                datagrams.push(datagram.to_vec());
            });
            for mut datagram in datagrams {
                self.count += 1;
                if !self.lost.contains(&self.count) {
                    let (inbound, received) = (&mut self.inbound, &mut self.received);
                    self.subscriber.handle_rtp(now + WAY, inbound, &mut datagram, received);
                }
            }
            if millis % 10 == 0 {
                self.repair(now + WAY);
            }
        }
    }

    /// What the subscriber asks for is done at once.
    fn repair(&mut self, now: Instant) {
        let mut requests = CompoundWriter::default();
        self.subscriber.write_requests(now, &mut requests, &mut self.received);
        let mut repairs = Vec::new();
        for datagram in requests.datagrams() {
            for packet in rtcp::parse(datagram).flatten() {
                match packet {
                    Packet::Nack(nack) => {
                        for seq in nack.seqs() {
                            let mut send = |datagram: &[u8]| repairs.push(datagram.to_vec());
                            let (srtp, sent) = (&mut self.outbound, &mut self.sent);
                            self.publisher.handle_nack(nack.media, seq, srtp, sent, &mut send);
                        }
                    }
                    Packet::Pli { media, .. } => {
                        self.sent.key_requests += 1;
                        self.publisher.handle_key_request(media);
                    }
                    _ => {}
                }
            }
        }
        for mut datagram in repairs {
            self.subscriber.handle_rtp(now, &mut self.inbound, &mut datagram, &mut self.received);
        }
    }
}

fn camera() -> Media {
    Media::Video(Video::new(VideoShape { size: (320, 180), rate: 20, packets: 3, payload: 200 }, 7))
}

#[test]
fn what_is_sent_arrives_with_its_delay() {
    let mut loopback = Loopback::new(camera(), &[]);
    loopback.run(0, 1_040);
    let (sent, received) = (&loopback.sent, &loopback.received);
    assert!((60..=63).contains(&sent.sent_packets), "20 frames of 3 packets: {}", sent.sent_packets);
    assert_eq!((received.packets, received.gaps, received.strange), (sent.sent_packets, 0, 0));
    assert_eq!(received.bytes, sent.sent_bytes + 16 * sent.sent_packets, "with their tags");
    assert!(received.delay.count() >= 10, "a fourth is looked at: {}", received.delay.count());
    assert_eq!(received.delay.max(), WAY);
    assert!(loopback.subscriber.first_frame_at().is_some() && loopback.subscriber.all_frames_at().is_some());
    assert_eq!(sent.key_requests, 0);
}

#[test]
fn what_is_lost_is_repaired_and_a_first_frame_waits_for_it() {
    let mut loopback = Loopback::new(camera(), &[2, 31, 32]);
    loopback.run(0, 1_000);
    let received = &loopback.received;
    assert_eq!((received.gaps, received.repaired, received.lost), (3, 3, 0));
    assert_eq!((received.repairs, loopback.sent.sent_repairs), (3, 3));
    let first = loopback.subscriber.first_frame_at().unwrap() - loopback.start;
    assert!(first > WAY && first < 60 * MILLI, "{first:?}");
}

#[test]
fn without_a_key_frame_one_is_asked_for() {
    let mut loopback = Loopback::new(camera(), &[1, 2, 3]);
    loopback.run(0, 1_000);
    assert_eq!(loopback.sent.key_requests, 1);
    assert!(loopback.subscriber.first_frame_at().is_some());
    // What came before the first packet is not missing.
    assert_eq!(loopback.received.gaps, 0);
}

#[test]
fn layers_that_nobody_wants_are_not_sent_until_somebody_does() {
    let mut loopback = Loopback::new(camera(), &[]);
    loopback.run(0, 500);
    let before = loopback.sent.sent_packets;
    loopback.publisher.set_wanted(loopback.start + 500 * MILLI, "p0", &[(None, false)]);
    loopback.publisher.set_wanted(loopback.start + 500 * MILLI, "p1", &[(None, true)]);
    loopback.run(500, 900);
    assert_eq!(loopback.sent.sent_packets, before);
    assert_eq!(loopback.publisher.poll_timeout(), None);
    loopback.publisher.set_wanted(loopback.start + 900 * MILLI, "p0", &[(None, true)]);
    loopback.run(900, 1_400);
    assert!(loopback.sent.sent_packets >= before + 27, "{} after {before}", loopback.sent.sent_packets);
    assert_eq!(loopback.received.gaps, 0);
}

#[test]
fn recordings_are_sent_in_a_loop_and_their_delay_is_known() {
    let frame =
        |first: u8, len: usize| RecordedFrame { key: first & 1 == 0, payloads: vec![vec![first; len]; 2] };
    // The size of the picture stands behind the start code of a key frame.
    let mut key = frame(0x10, 50);
    key.payloads[0][..10].copy_from_slice(&[0x10, 2, 0, 0x9d, 0x01, 0x2a, 64, 1, 180, 0]);
    let frames = vec![key, frame(0x11, 60), frame(0x31, 70)];
    let recording = Recording { codec: Codec::Vp8, interval: 50 * MILLI, frames };
    let mut loopback = Loopback::new(Media::Recorded(Arc::new(recording), 1, 9), &[]);
    loopback.run(0, 1_000);
    assert_eq!(loopback.received.packets, loopback.sent.sent_packets);
    assert_eq!(loopback.sent.key_requests, 1, "it began in the middle");
    assert!(loopback.subscriber.first_frame_at().is_some());
    let delay = &loopback.received.delay;
    assert!(
        delay.count() > 5 && delay.max() >= WAY && delay.max() < WAY + 2 * Duration::from_micros(1),
        "{delay:?}"
    );
}
