//! What comes in: nanoseconds per packet of a publisher whom nobody sees (authenticate, decrypt, look for gaps, keep for
//! repairs, read the frame), beside opening the packet alone; and nanoseconds per packet that is sent again when a
//! subscriber asks for it.
//!
//! ```sh
//! cargo bench -p veche-sfu-core --bench receive
//! ```

#![expect(clippy::disallowed_methods, reason = "a bench looks at the clock")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use veche_sfu_core::engine::Engine;
use veche_sfu_core::media::Codec;
use veche_sfu_core::path::Path;
use veche_sfu_core::rtp::{RtpHeader, is_rtcp};
use veche_sfu_core::srtp::{InboundSrtp, OutboundSrtp, SrtpKeys, SrtpProfile};
use veche_testkit::allocations::{self, CountingAllocator};
use veche_testkit::client::{ClientConfig, FeedbackUse};
use veche_testkit::media::{LayerConfig, Scalability, TrackConfig, Voice};
use veche_testkit::world::{ClientId, World};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const ROUNDS: usize = 6;

fn main() {
    println!(
        "{:<40} {:>10} {:>10} {:>12} {:>12}",
        "ns per packet", "engine", "open only", "allocations", "packets/s"
    );
    let layer = LayerConfig { rid: None, size: (1280, 720), rate: 30, packets: 10, packet_len: 1_100 };
    let camera = TrackConfig {
        layers: vec![layer],
        scalability: Scalability::L1T1,
        ..TrackConfig::camera(Codec::Vp8)
    };
    receive("camera, 10 x 1,100 bytes, nobody sees", camera.clone());
    receive("voice, nobody hears", TrackConfig::microphone());
    repair("packets sent again, 10 in a request", camera);
}

/// A packet and where it comes from.
type Datagram = (SocketAddr, Vec<u8>);

/// What a client sends within a time, instead of sending it: all packets of media.
fn record(world: &mut World, id: ClientId, time: Duration) -> Vec<Datagram> {
    world.up(id).blackout = true;
    world.record(id);
    // A slot that has lost the picture meanwhile finds it again within a second.
    for _ in 0..time.as_secs() {
        world.with_client(id, |c, _| c.senders.iter_mut().for_each(|s| s.encoder.want_key_frame()));
        world.run_for(Duration::from_secs(1));
    }
    let address = world.address(id);
    let packets = world.take_record(id).into_iter();
    packets.filter(|d| d[0] & 0xc0 == 0x80 && !is_rtcp(d)).map(|d| (address, d)).collect()
}

fn give(engine: &mut Engine, now: Instant, (from, datagram): &mut Datagram) {
    engine.handle_datagram(now, Path::Udp { remote: *from, local: None }, datagram);
}

/// Packets of one moment: a frame of a camera, or one packet of a voice.
fn batches(packets: &[Datagram], voice: bool) -> Vec<Vec<Datagram>> {
    let last = |d: &Datagram| voice || d.1[1] & 0x80 != 0;
    packets.split_inclusive(last).map(<[Datagram]>::to_vec).collect()
}

fn receive(name: &str, track: TrackConfig) {
    let voice = track.codec == Codec::Opus;
    let config = ClientConfig { tracks: vec![track], audio_slots: 0, video_slots: 0, ..Default::default() };
    let mut world = World::new(1);
    let id = world.join(1, config);
    world.with_client(id, |c, _| c.speak(Voice::SPEAKING));
    world.run_for(Duration::from_secs(1));
    let packets = record(&mut world, id, Duration::from_secs(12));
    let interval = Duration::from_millis(if voice { 20 } else { 33 });
    let batches = batches(&packets, voice);
    let share = batches.len() / ROUNDS;
    let (mut best, mut best_bare, mut allocated) = (f64::MAX, f64::MAX, 0);
    let mut now = world.now;
    for round in batches.chunks_exact(share) {
        let mut batches = round.to_vec();
        let count = batches.iter().map(Vec::len).sum::<usize>();
        let engine = world.engine_mut(0);
        let mut busy = Duration::ZERO;
        allocated = 0;
        for batch in &mut batches {
            now += interval;
            while engine.poll_timeout().is_some_and(|at| at <= now) {
                engine.handle_timeout(now);
            }
            engine.flush(&mut |_| {});
            let before = allocations::count();
            let began = Instant::now();
            batch.iter_mut().for_each(|datagram| give(engine, now, datagram));
            busy += began.elapsed();
            allocated += allocations::count() - before;
            while engine.poll_event().is_some() {}
        }
        best = best.min(busy.as_nanos() as f64 / count as f64);
        best_bare = best_bare.min(open_only(round, count));
    }
    let per_packet = allocated as f64 / (share * batches[1].len()) as f64;
    println!("{name:<40} {best:>10.0} {best_bare:>10.0} {per_packet:>12.4} {:>12.0}", 1e9 / best);
}

/// The same packets, sealed with a key of ours: what it takes to parse the header and to open them.
fn open_only(batches: &[Vec<Datagram>], count: usize) -> f64 {
    let profile = SrtpProfile::AeadAes256Gcm;
    let material: Vec<u8> = (0..profile.keying_material_len()).map(|i| i as u8).collect();
    let client = SrtpKeys::from_dtls(profile, &material, true).expect("of the right length");
    let server = SrtpKeys::from_dtls(profile, &material, false).expect("of the right length");
    let mut outbound = OutboundSrtp::new(&client.outbound);
    let mut inbound = InboundSrtp::new(&server.inbound);
    let mut sealed: Vec<Vec<u8>> = batches.iter().flatten().map(|(_, d)| d.clone()).collect();
    for packet in &mut sealed {
        let header = RtpHeader::parse(packet).expect("a packet of ours");
        outbound.protect_rtp(0, header.header_len, packet).expect("there is room for the tag");
    }
    let first = RtpHeader::parse(&sealed[0]).expect("a packet of ours");
    let began = Instant::now();
    for packet in &mut sealed {
        let header = RtpHeader::parse(packet).expect("a packet of ours");
        let opened = inbound.unprotect_rtp(header.ssrc, header.seq, header.header_len, packet);
        if opened.expect("a packet of ours").new {
            inbound.accept(first.ssrc, header.seq).expect("there is one stream");
        }
        black_box(&packet);
    }
    began.elapsed().as_nanos() as f64 / count as f64
}

fn repair(name: &str, track: TrackConfig) {
    let config = ClientConfig { tracks: vec![track], audio_slots: 0, video_slots: 0, ..Default::default() };
    // Who tells nothing of their network is not paced, so that repairs alone are measured.
    let viewer = ClientConfig { audio_slots: 0, video_slots: 1, data: false, ..ClientConfig::viewer() };
    let viewer = ClientConfig { feedback: FeedbackUse::Reports, ..viewer };
    let mut world = World::new(1);
    let publisher = world.join(1, config);
    let eye = world.join(1, viewer);
    world.run_for(Duration::from_secs(2));
    let packets = record(&mut world, publisher, Duration::from_secs(6));
    let (viewer_address, slot) = (world.address(eye), world.client(eye).slot("V0").ssrc);
    world.up(eye).blackout = true;
    let mut now = world.now;
    let (mut best, mut allocated) = (f64::MAX, 0.0);
    let batches = batches(&packets, false);
    for round in batches.chunks_exact(batches.len() / ROUNDS) {
        let (mut busy, mut sent, mut allocations_of) = (Duration::ZERO, 0_usize, 0);
        for batch in round {
            now += Duration::from_millis(33);
            let seqs = forward(world.engine_mut(0), now, batch, slot.0);
            world.record(eye);
            world.with_client(eye, |c, _| c.ask_again("V0", &seqs));
            let mut requests: Vec<Datagram> =
                world.take_record(eye).into_iter().map(|d| (viewer_address, d)).collect();
            let engine = world.engine_mut(0);
            let before = allocations::count();
            let began = Instant::now();
            requests.iter_mut().for_each(|datagram| give(engine, now, datagram));
            engine.flush(&mut |transmit| sent += transmit.ends.len());
            busy += began.elapsed();
            allocations_of += allocations::count() - before;
        }
        // The first frames find no slot that is ready, and what may be repaired grows with what was sent.
        if sent >= round.len() * 3 {
            best = best.min(busy.as_nanos() as f64 / sent as f64);
            allocated = allocations_of as f64 / sent as f64;
        }
    }
    assert!(best < f64::MAX, "too little was sent again: {:?}", world.engine(0).drops());
    println!("{name:<40} {best:>10.0} {:>10} {allocated:>12.4} {:>12.0}", "-", 1e9 / best);
}

/// Forwards a frame, and returns the numbers under which the viewer gets it.
fn forward(engine: &mut Engine, now: Instant, batch: &[Datagram], slot: u32) -> Vec<u16> {
    while engine.poll_timeout().is_some_and(|at| at <= now) {
        engine.handle_timeout(now);
    }
    for mut datagram in batch.iter().cloned() {
        give(engine, now, &mut datagram);
    }
    let mut seqs = Vec::new();
    engine.flush(&mut |transmit| {
        let starts = std::iter::once(0).chain(transmit.ends.iter().map(|end| *end as usize));
        for (start, end) in starts.zip(transmit.ends) {
            let packet = &transmit.bytes[start..*end as usize];
            if let Ok(header) = RtpHeader::parse(packet)
                && header.ssrc.0 == slot
            {
                seqs.push(header.seq);
            }
        }
    });
    while engine.poll_event().is_some() {}
    seqs
}
