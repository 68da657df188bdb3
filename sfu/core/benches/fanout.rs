//! What it costs to forward: nanoseconds and allocations per forwarded packet of the real engine, from the SRTP packet
//! of the publisher to sealed packets in a sink, beside the bare loop (copy, rewrite the header, seal) in the same run.
//!
//! ```sh
//! cargo bench -p veche-sfu-core --bench fanout [-- PART OF A NAME]
//! ```
//!
//! Both take turns, and of each the best of several rounds counts, in time of the processor; the ratio is what to compare
//! between machines and days. The engine also does what the bare loop does not: it opens the publisher's packet, keeps it for repairs,
//! looks into its frame, finds the slots, and answers for losses. What is done by timers, and the reading of the subscribers'
//! feedback ten times a second, is shown on its own. The memory is all that the engine holds, whatever for, by subscriber: with
//! many of them that is what one takes. (Keys, which libcrypto keeps in memory of its own, are not counted.)

use std::collections::HashMap;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use veche_sfu_core::engine::{Engine, EngineConfig, Transmit};
use veche_sfu_core::media::{Codec, MediaKind};
use veche_sfu_core::path::Path;
use veche_sfu_core::rtp::{RtpHeader, is_rtcp};
use veche_sfu_core::srtp::{OutboundSrtp, SrtpKeys, SrtpProfile};
use veche_testkit::allocations::{self, CountingAllocator};
use veche_testkit::client::{ClientConfig, certificate};
use veche_testkit::media::{LayerConfig, TrackConfig, Voice};
use veche_testkit::world::{ClientId, World};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const COUNTS: [usize; 5] = [1, 10, 50, 500, 2_000];
const ROUNDS: usize = 9;
/// Of media that is sent, per subscriber: few need more of it for figures that mean something.
const SHORT: Duration = Duration::from_secs(4);
const LONG: Duration = Duration::from_secs(20);

fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    println!(
        "{:<34} {:>10} {:>10} {:>8} {:>12} {:>10} {:>10} {:>14}",
        "", "engine", "bare loop", "of bare", "allocations", "timers", "feedback", "memory"
    );
    println!(
        "{:<34} {:>10} {:>10} {:>8} {:>12} {:>10} {:>10} {:>14}",
        "", "ns/packet", "ns/packet", "speed", "per packet", "ns/packet", "ns/packet", "KB/subscriber"
    );
    for subscribers in COUNTS {
        run(&wanted, &format!("video, {subscribers} subscribers"), || Scenario::camera(subscribers));
    }
    for subscribers in COUNTS {
        run(&wanted, &format!("1 voice, {subscribers} subscribers"), || Scenario::voices(1, subscribers));
    }
    run(&wanted, "10 voices, 50 subscribers", || Scenario::voices(10, 50));
}

/// A room that is warm, and what its publishers send next.
struct Scenario {
    world: World,
    /// What arrives together, in order, with where it comes from.
    batches: Vec<Vec<(SocketAddr, Vec<u8>)>>,
    /// The time between two batches.
    interval: Duration,
    /// How many packets go out for one that comes in.
    fanout: usize,
    viewers: Vec<Viewer>,
}

/// A subscriber, and what was sent to them since they told what came.
struct Viewer {
    id: ClientId,
    address: SocketAddr,
    unreported: u16,
}

/// Times of one round, in nanoseconds per forwarded packet.
#[derive(Clone, Copy)]
struct Cost {
    packet: f64,
    timers: f64,
    feedback: f64,
    allocations: f64,
}

impl Scenario {
    fn camera(subscribers: usize) -> Self {
        let layer = LayerConfig { rid: None, size: (1280, 720), rate: 30, packets: 10, packet_len: 1_100 };
        let track = TrackConfig { layers: vec![layer], ..TrackConfig::camera(Codec::Vp8) };
        let publisher =
            ClientConfig { tracks: vec![track], audio_slots: 0, video_slots: 0, ..Default::default() };
        let viewer = ClientConfig { audio_slots: 0, video_slots: 1, data: false, ..ClientConfig::viewer() };
        Self::new(&publisher, 1, &viewer, subscribers, Duration::from_nanos(33_333_333))
    }

    fn voices(voices: usize, subscribers: usize) -> Self {
        let tracks = vec![TrackConfig::microphone()];
        let publisher = ClientConfig { tracks, audio_slots: 0, video_slots: 0, ..Default::default() };
        let ear = ClientConfig { audio_slots: voices, video_slots: 0, data: false, ..ClientConfig::viewer() };
        Self::new(&publisher, voices, &ear, subscribers, Duration::from_millis(20))
    }

    fn new(
        publisher: &ClientConfig,
        publishers: usize,
        viewer: &ClientConfig,
        viewers: usize,
        interval: Duration,
    ) -> Self {
        let mut world = World::new(1);
        let publishers: Vec<ClientId> = (0..publishers).map(|_| world.join(1, publisher.clone())).collect();
        for &id in &publishers {
            world.with_client(id, |c, _| c.speak(Voice::SPEAKING));
        }
        let viewers: Vec<ClientId> = (0..viewers).map(|_| world.join(1, viewer.clone())).collect();
        world.run_for(Duration::from_secs(2));
        for &id in &viewers {
            let slots = &world.client(id).slots;
            assert!(slots.iter().all(|s| s.frames.len() > 20), "the room is not warm");
        }
        // From now on what the publishers send is kept instead of carried.
        for &id in &publishers {
            world.up(id).blackout = true;
            world.record(id);
            // To the engine it comes seconds late, so a key frame must begin it.
            world.with_client(id, |c, _| c.senders.iter_mut().for_each(|s| s.encoder.want_key_frame()));
        }
        world.run_for(if viewers.len() > 20 { SHORT } else { LONG });
        let batches = batches(&mut world, &publishers);
        let fanout = world.client(viewers[0]).slots.len() / publishers.len() * viewers.len();
        let address = |id: &ClientId| Viewer { id: *id, address: world.address(*id), unreported: 0 };
        let viewers = viewers.iter().map(address).collect();
        Self { world, batches, interval, fanout, viewers }
    }
}

/// One batch for each frame of a camera, and for each 20 ms of voices.
fn batches(world: &mut World, publishers: &[ClientId]) -> Vec<Vec<(SocketAddr, Vec<u8>)>> {
    let mut batches: Vec<Vec<(SocketAddr, Vec<u8>)>> = Vec::new();
    for &id in publishers {
        let audio = world.client(id).senders[0].kind() == MediaKind::Audio;
        let address = world.address(id);
        let mut batch = 0;
        for datagram in world.take_record(id) {
            if datagram[0] & 0xc0 != 0x80 || is_rtcp(&datagram) {
                continue;
            }
            let last = audio || datagram[1] & 0x80 != 0;
            if batches.len() == batch {
                batches.push(Vec::new());
            }
            batches[batch].push((address, datagram));
            batch += usize::from(last);
        }
    }
    batches
}

fn run(wanted: &str, name: &str, make: impl FnOnce() -> Scenario) {
    if !name.contains(wanted) {
        return;
    }
    let mut scenario = make();
    let packets: Vec<Vec<u8>> = scenario.batches.iter().flatten().map(|(_, d)| d.clone()).collect();
    let per_batch = scenario.batches[1].len();
    let mut bare = BareLoop::new(scenario.viewers.len(), scenario.fanout / scenario.viewers.len());
    let mut best_bare = f64::MAX;
    let mut best: Option<Cost> = None;
    let share = scenario.batches.len() / ROUNDS;
    let mut now = scenario.world.now;
    for round in 0..ROUNDS {
        let chunk = &packets[..per_batch * share];
        let (time, sent) = bare.run(chunk, per_batch);
        best_bare = best_bare.min(time.as_nanos() as f64 / sent as f64);

        let batches = scenario.batches[round * share..(round + 1) * share].to_vec();
        let cost = run_engine(&mut scenario, &mut now, &batches, round > 0);
        // The first round fills the history of the layer and is warm-up.
        if round > 0 && best.is_none_or(|b| cost.packet < b.packet) {
            best = Some(cost);
        }
    }
    let best = best.expect("there are several rounds");
    println!(
        "{name:<34} {:>10.0} {:>10.0} {:>7.0}% {:>12.4} {:>10.0} {:>10.0} {:>14.1}",
        best.packet,
        best_bare,
        100.0 * best_bare / best.packet,
        best.allocations,
        best.timers,
        best.feedback,
        memory(&mut scenario) as f64 / 1e3 / scenario.viewers.len() as f64,
    );
}

/// The bytes that the engine gives back when it is dropped.
fn memory(scenario: &mut Scenario) -> i64 {
    let now = scenario.world.now;
    let config = EngineConfig {
        candidates: Vec::new(),
        certificate: Arc::new(certificate()),
        seed: [0; 32],
        epoch: now,
        epoch_ntp: 0,
        dtls13: false,
        reproducible: true,
        max_message_size: 0,
    };
    let other = Engine::new(config, now);
    let before = allocations::bytes_in_use();
    drop(std::mem::replace(scenario.world.engine_mut(0), other));
    before - allocations::bytes_in_use()
}

/// Counted by its name (scripts/instructions).
#[inline(never)]
fn run_engine(
    scenario: &mut Scenario,
    now: &mut Instant,
    batches: &[Vec<(SocketAddr, Vec<u8>)>],
    warm: bool,
) -> Cost {
    let Scenario { world, interval, fanout, viewers, .. } = scenario;
    let by_address: HashMap<SocketAddr, usize> =
        viewers.iter().enumerate().map(|(index, viewer)| (viewer.address, index)).collect();
    let mut buffers: Vec<Vec<(SocketAddr, Vec<u8>)>> = batches.to_vec();
    let (mut busy, mut timers, mut feedback) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let (mut sent, mut allocated) = (0_usize, 0);
    let mut reported_at = *now;
    for batch in &mut buffers {
        *now += *interval;
        let engine = world.engine_mut(0);
        let mut count = |transmit: Transmit<'_>| {
            black_box(transmit.bytes);
            if let Some(viewer) = by_address.get(&transmit.path.remote()).map(|index| &mut viewers[*index]) {
                viewer.unreported += media(&transmit);
            }
            usize::from(media(&transmit))
        };
        let began = cpu_time();
        while engine.poll_timeout().is_some_and(|at| at <= *now) {
            engine.handle_timeout(*now);
        }
        let mut late = 0;
        engine.flush(&mut |transmit| late += count(transmit));
        timers += since(began);
        let before = allocations::count();
        let began = cpu_time();
        for (from, datagram) in batch.iter_mut() {
            engine.handle_datagram(*now, Path::Udp { remote: *from, local: None }, datagram);
        }
        engine.flush(&mut |transmit| sent += count(transmit));
        busy += since(began);
        allocated += allocations::count() - before;
        sent += late;
        while engine.poll_event().is_some() {}
        if *now - reported_at >= Duration::from_millis(100) {
            reported_at = *now;
            feedback += report(world, viewers, *now);
        }
    }
    let expected = batches.iter().map(Vec::len).sum::<usize>() * *fanout;
    // What the pacer holds goes out with the next batch, and a probe has some packets of padding.
    // In the first round the slots have to find out that their layer is back.
    let least = if warm { 97 } else { 80 };
    assert!(sent * 100 >= expected * least, "not every packet was forwarded: {sent} of {expected}");
    let per_packet = |time: Duration| time.as_nanos() as f64 / sent as f64;
    Cost {
        packet: per_packet(busy),
        timers: per_packet(timers),
        feedback: per_packet(feedback),
        allocations: allocated as f64 / sent as f64,
    }
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

/// How many RTP packets there are in a train.
fn media(transmit: &Transmit<'_>) -> u16 {
    let starts = std::iter::once(0).chain(transmit.ends.iter().map(|end| *end as usize));
    let packets = starts.zip(transmit.ends).map(|(start, end)| &transmit.bytes[start..*end as usize]);
    packets.filter(|packet| packet[0] & 0xc0 == 0x80 && !is_rtcp(packet)).count() as u16
}

/// All subscribers tell that everything has come. Returns how long it took to read.
fn report(world: &mut World, viewers: &mut [Viewer], now: Instant) -> Duration {
    let mut datagrams = Vec::new();
    for viewer in viewers {
        let packets = std::mem::take(&mut viewer.unreported);
        let mut datagram = None;
        world.with_client(viewer.id, |client, _| datagram = client.acknowledge(now, packets));
        datagrams.extend(datagram.map(|datagram| (viewer.address, datagram)));
    }
    let engine = world.engine_mut(0);
    let began = cpu_time();
    for (from, datagram) in &mut datagrams {
        engine.handle_datagram(now, Path::Udp { remote: *from, local: None }, datagram);
    }
    since(began)
}

/// The least that forwarding can be: for each subscriber copy the packet, rewrite its header and seal it, into a buffer
/// per subscriber that is handed on after each batch.
struct BareLoop {
    subscribers: Vec<Subscriber>,
    copies: usize,
}

struct Subscriber {
    srtp: OutboundSrtp,
    buffer: Vec<u8>,
    seq: u64,
}

impl BareLoop {
    fn new(subscribers: usize, copies: usize) -> Self {
        let profile = SrtpProfile::AeadAes256Gcm;
        let subscriber = |n: usize| {
            let material: Vec<u8> = (0..profile.keying_material_len()).map(|i| (i * 7 + n) as u8).collect();
            let keys = SrtpKeys::from_dtls(profile, &material, false).expect("of the right length");
            Subscriber { srtp: OutboundSrtp::new(&keys.outbound), buffer: Vec::new(), seq: 1 }
        };
        Self { subscribers: (0..subscribers).map(subscriber).collect(), copies }
    }

    /// Returns how long it took and how many packets went out.
    fn run(&mut self, packets: &[Vec<u8>], per_batch: usize) -> (Duration, usize) {
        let began = cpu_time();
        let mut sent = 0;
        for batch in packets.chunks(per_batch) {
            for packet in batch {
                // With the tag of the publisher, whose place that of the subscriber takes.
                let header = RtpHeader::parse(packet).expect("a packet of ours");
                for subscriber in &mut self.subscribers {
                    for _ in 0..self.copies {
                        subscriber.forward(packet, &header);
                        sent += 1;
                    }
                }
            }
            for subscriber in &mut self.subscribers {
                black_box(&subscriber.buffer[..]);
                subscriber.buffer.clear();
            }
        }
        (since(began), sent)
    }
}

impl Subscriber {
    fn forward(&mut self, packet: &[u8], header: &RtpHeader) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(packet);
        let copy = &mut self.buffer[start..];
        copy[2..4].copy_from_slice(&(self.seq as u16).to_be_bytes());
        copy[4..8].copy_from_slice(&header.timestamp.wrapping_add(77).to_be_bytes());
        copy[8..12].copy_from_slice(&1_u32.to_be_bytes());
        self.srtp
            .protect_rtp((self.seq >> 16) as u32, header.header_len, copy)
            .expect("there is room for the tag");
        self.seq += 1;
    }
}
