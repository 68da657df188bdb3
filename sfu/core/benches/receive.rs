//! What comes in: nanoseconds per packet of a publisher whom nobody sees (authenticate, decrypt, look for gaps, keep for
//! repairs, read the frame), beside opening the packet alone; and nanoseconds per packet that a subscriber asks for again,
//! whether it is sent again or refused, beside sealing it alone.
//!
//! ```sh
//! cargo bench -p veche-sfu-core --bench receive
//! ```
//!
//! Of each the best of several rounds counts, in time of the processor.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use veche_sfu_core::drops::DropReason;
use veche_sfu_core::engine::Engine;
use veche_sfu_core::media::Codec;
use veche_sfu_core::path::Path;
use veche_sfu_core::rtp::{RtpHeader, is_rtcp};
use veche_sfu_core::srtp::{InboundSrtp, OutboundSrtp, SrtpKeys, SrtpProfile};
use veche_testkit::allocations::{self, CountingAllocator};
use veche_testkit::client::ClientConfig;
use veche_testkit::media::{LayerConfig, Scalability, TrackConfig, Voice};
use veche_testkit::world::{ClientId, World};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const ROUNDS: usize = 6;

fn main() {
    println!(
        "{:<40} {:>10} {:>10} {:>12} {:>12}",
        "ns per packet", "engine", "bare", "allocations", "packets/s"
    );
    let layer = LayerConfig { rid: None, size: (1280, 720), rate: 30, packets: 10, packet_len: 1_100 };
    let camera = TrackConfig {
        layers: vec![layer],
        scalability: Scalability::L1T1,
        ..TrackConfig::camera(Codec::Vp8)
    };
    receive("camera, 10 x 1,100 bytes, nobody sees", camera.clone());
    receive("voice, nobody hears", TrackConfig::microphone());
    repair(camera);
}

/// What a number of packets took.
#[derive(Clone, Copy, Default)]
struct Taken {
    packets: usize,
    time: Duration,
    allocations: u64,
}

impl Taken {
    /// Lets something be done, and adds what it takes.
    fn measure<T>(&mut self, packets: usize, act: impl FnOnce() -> T) -> T {
        let (before, began) = (allocations::count(), cpu_time());
        let result = act();
        self.time += since(began);
        self.allocations += allocations::count() - before;
        self.packets += packets;
        result
    }

    /// Nanoseconds per packet.
    fn nanos(&self) -> f64 {
        self.time.as_nanos() as f64 / self.packets as f64
    }

    /// The better one of two rounds.
    fn best(self, other: Self) -> Self {
        if self.packets == 0 || other.packets > 0 && other.nanos() < self.nanos() { other } else { self }
    }
}

fn print(name: &str, engine: &Taken, bare: &Taken) {
    let (nanos, allocations) = (engine.nanos(), engine.allocations as f64 / engine.packets as f64);
    println!("{name:<40} {nanos:>10.0} {:>10.0} {allocations:>12.4} {:>12.0}", bare.nanos(), 1e9 / nanos);
}

/// What this thread has used of a processor.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What was used since then, without that of asking.
fn since(began: Duration) -> Duration {
    let asked = cpu_time();
    let asking = cpu_time().saturating_sub(asked);
    asked.saturating_sub(began).saturating_sub(asking)
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
    let (mut best, mut best_bare) = (Taken::default(), Taken::default());
    let mut now = world.now;
    for round in batches.chunks_exact(share) {
        let mut batches = round.to_vec();
        let engine = world.engine_mut(0);
        let mut taken = Taken::default();
        for batch in &mut batches {
            now += interval;
            while engine.poll_timeout().is_some_and(|at| at <= now) {
                engine.handle_timeout(now);
            }
            engine.flush(&mut |_| {});
            taken.measure(batch.len(), || {
                for datagram in batch.iter_mut() {
                    give(engine, now, datagram);
                }
            });
            while engine.poll_event().is_some() {}
        }
        best = best.best(taken);
        best_bare = best_bare.best(bare(round).1);
    }
    print(name, &best, &best_bare);
}

/// The same packets under keys of ours: what it takes to seal them, and to parse their headers and open them.
fn bare(batches: &[Vec<Datagram>]) -> (Taken, Taken) {
    let profile = SrtpProfile::AeadAes256Gcm;
    let material: Vec<u8> = (0..profile.keying_material_len()).map(|i| i as u8).collect();
    let client = SrtpKeys::from_dtls(profile, &material, true).expect("of the right length");
    let server = SrtpKeys::from_dtls(profile, &material, false).expect("of the right length");
    let mut outbound = OutboundSrtp::new(&client.outbound);
    let mut inbound = InboundSrtp::new(&server.inbound);
    let mut packets: Vec<Vec<u8>> = batches.iter().flatten().map(|(_, d)| d.clone()).collect();
    let headers: Vec<RtpHeader> =
        packets.iter().map(|packet| RtpHeader::parse(packet).expect("a packet of ours")).collect();
    let (mut sealed, mut opened) = (Taken::default(), Taken::default());
    sealed.measure(packets.len(), || {
        for (packet, header) in packets.iter_mut().zip(&headers) {
            outbound.protect_rtp(0, header.header_len, packet).expect("there is room for the tag");
        }
    });
    opened.measure(packets.len(), || {
        for packet in &mut packets {
            let header = RtpHeader::parse(packet).expect("a packet of ours");
            let opened = inbound.unprotect_rtp(header.ssrc, header.seq, header.header_len, packet);
            if opened.expect("a packet of ours").new {
                inbound.accept(header.ssrc, header.seq).expect("there is one stream");
            }
            black_box(&packet);
        }
    });
    (sealed, opened)
}

/// Packets that somebody asks for again: of one frame in five all ten, half a frame later. First they are sent again; then, at
/// the same moment, they are refused.
fn repair(track: TrackConfig) {
    let config = ClientConfig { tracks: vec![track], audio_slots: 0, video_slots: 0, ..Default::default() };
    let viewer = ClientConfig { audio_slots: 0, video_slots: 1, data: false, ..ClientConfig::viewer() };
    let mut world = World::new(1);
    let publisher = world.join(1, config);
    let eye = world.join(1, viewer);
    world.run_for(Duration::from_secs(2));
    let packets = record(&mut world, publisher, Duration::from_secs(12));
    let (address, slot) = (world.address(eye), world.client(eye).slot("V0").ssrc);
    world.up(eye).blackout = true;
    let mut now = world.now;
    let (mut answered, mut refused, mut best_bare) = Default::default();
    let mut unreported = 0;
    let batches = batches(&packets, false);
    for round in batches.chunks_exact(batches.len() / ROUNDS) {
        let mut taken = [Taken::default(); 2];
        for (number, batch) in round.iter().enumerate() {
            now += Duration::from_millis(16);
            let (seqs, all) = forward(world.engine_mut(0), now, batch, slot.0);
            acknowledge(&mut world, eye, address, now, unreported + all);
            unreported = 0;
            now += Duration::from_millis(17);
            if number % 5 > 0 {
                continue;
            }
            for taken in &mut taken {
                let mut requests = requests(&mut world, eye, address, &seqs);
                let engine = world.engine_mut(0);
                let mut sent = 0;
                taken.measure(0, || {
                    for datagram in &mut requests {
                        give(engine, now, datagram);
                    }
                    engine.flush(&mut |transmit| sent += transmit.ends.len());
                });
                taken.packets += if sent > 0 { sent } else { seqs.len() };
                unreported += sent;
            }
        }
        let asked = round.len() / 5 * 10;
        // The first frames find no slot that is ready.
        if taken.iter().all(|taken| taken.packets * 10 >= asked * 9) {
            answered = Taken::best(answered, taken[0]);
            refused = Taken::best(refused, taken[1]);
            best_bare = Taken::best(best_bare, bare(round).0);
        }
    }
    let drops = world.engine(0).drops();
    assert!(answered.packets > 0, "too little was sent again: {:?}", drops.iter().collect::<Vec<_>>());
    assert!(
        drops.get(DropReason::RepairedRecently) >= refused.packets as u64,
        "they were not refused: {:?}",
        drops.iter().collect::<Vec<_>>()
    );
    print("asked for again and sent, 10 a request", &answered, &best_bare);
    print("asked for again and refused", &refused, &best_bare);
}

/// A subscriber tells that so many packets have come.
fn acknowledge(world: &mut World, eye: ClientId, address: SocketAddr, now: Instant, packets: usize) {
    let mut datagram = None;
    world.with_client(eye, |client, _| datagram = client.acknowledge(now, packets as u16));
    if let Some(datagram) = datagram {
        give(world.engine_mut(0), now, &mut (address, datagram));
    }
}

/// What a subscriber sends who misses these.
fn requests(world: &mut World, eye: ClientId, address: SocketAddr, seqs: &[u16]) -> Vec<Datagram> {
    world.record(eye);
    world.with_client(eye, |client, _| client.ask_again("V0", seqs));
    world.take_record(eye).into_iter().map(|datagram| (address, datagram)).collect()
}

/// Forwards a frame. Returns the numbers under which the viewer gets it, and how many packets left in all.
fn forward(engine: &mut Engine, now: Instant, batch: &[Datagram], slot: u32) -> (Vec<u16>, usize) {
    while engine.poll_timeout().is_some_and(|at| at <= now) {
        engine.handle_timeout(now);
    }
    for mut datagram in batch.iter().cloned() {
        give(engine, now, &mut datagram);
    }
    let (mut seqs, mut all) = (Vec::new(), 0);
    engine.flush(&mut |transmit| {
        let starts = std::iter::once(0).chain(transmit.ends.iter().map(|end| *end as usize));
        for (start, end) in starts.zip(transmit.ends) {
            let packet = &transmit.bytes[start..*end as usize];
            if is_rtcp(packet) {
                continue;
            }
            if let Ok(header) = RtpHeader::parse(packet) {
                all += 1;
                seqs.extend((header.ssrc.0 == slot).then_some(header.seq));
            }
        }
    });
    while engine.poll_event().is_some() {}
    (seqs, all)
}
