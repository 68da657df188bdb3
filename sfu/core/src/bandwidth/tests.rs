//! Stories of the whole estimator in virtual time, over a bottleneck of its own.

use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::ids::Ssrc;
use crate::rtcp::TransportFeedbackBuilder;

/// One link that all flows share: a drop-tail queue, random loss, jitter and a delay of 20 ms each way.
struct Link {
    capacity: f64,
    /// The longest queue, in bytes.
    queue: f64,
    loss: f64,
    jitter: Micros,
    /// When the last packet has left the queue.
    busy: Micros,
    delays: Vec<Micros>,
    rng: StdRng,
}

const DELAY: Micros = 20_000;

impl Link {
    fn new(capacity: f64, queue_ms: f64) -> Self {
        let rng = StdRng::seed_from_u64(1);
        let queue = capacity / 8.0 * queue_ms / 1e3;
        Self { capacity, queue, loss: 0.0, jitter: 0, busy: 0, delays: Vec::new(), rng }
    }

    /// When a packet arrives.
    fn send(&mut self, now: Micros, bytes: u16) -> Option<Micros> {
        let waits = (self.busy - now).max(0);
        if waits as f64 / 8e6 * self.capacity + f64::from(bytes) > self.queue {
            return None;
        }
        self.delays.push(waits);
        self.busy = self.busy.max(now) + (f64::from(bytes) * 8e6 / self.capacity) as Micros;
        let jitter = if self.jitter > 0 { self.rng.random_range(0..self.jitter) } else { 0 };
        (!self.rng.random_bool(self.loss)).then_some(self.busy + DELAY + jitter)
    }

    /// The delay in ms that 95 % of the packets since the last question did not exceed.
    fn p95(&mut self) -> f64 {
        self.delays.sort_unstable();
        let p95 = self.delays.get(self.delays.len() * 95 / 100).map_or(0.0, |d| *d as f64 / 1e3);
        self.delays.clear();
        p95
    }
}

/// What a sender sends, in bits a second.
#[derive(Clone, Copy)]
enum Source {
    /// As much as it may, up to a limit.
    Follows(f64),
    /// As many of these layers as fit.
    Layers(&'static [f64]),
}

/// A sender and its receiver.
struct Flow {
    estimator: Estimator,
    source: Source,
    seq: u16,
    /// What is to be sent, in bytes.
    media: f64,
    padding: Option<(ProbeCluster, f64)>,
    probe_seen: usize,
    /// What travels: arrival, number and bytes.
    travelling: Vec<(Micros, u16, u16)>,
    base: Option<u16>,
    builder: TransportFeedbackBuilder,
    feedback: VecDeque<(Micros, Vec<u8>)>,
    received: f64,
}

const PACKET: u16 = 1200;
const PADDING: u16 = 250;
const STEP: Micros = 1_000;
const FEEDBACK: Micros = 50_000;

impl Flow {
    fn new(epoch: Instant, source: Source, wanted: f64) -> Self {
        let mut estimator = Estimator::new(epoch);
        estimator.set_wanted(epoch, wanted as u64);
        estimator.on_rtt(Duration::from_millis(50));
        Self {
            estimator,
            source,
            seq: 0,
            media: 0.0,
            padding: None,
            probe_seen: 0,
            travelling: Vec::new(),
            base: None,
            builder: TransportFeedbackBuilder::new(Ssrc(1), Ssrc(2)),
            feedback: VecDeque::new(),
            received: 0.0,
        }
    }

    fn rate(&self) -> f64 {
        let estimate = self.estimator.estimate() as f64;
        match self.source {
            Source::Follows(most) => estimate.min(most),
            Source::Layers(layers) => layers.iter().filter(|l| **l <= estimate).fold(0.0, |a, b| b.max(a)),
        }
    }

    fn step(&mut self, epoch: Instant, now: Micros, link: &mut Link, heard: bool) {
        let at = epoch + Duration::from_micros(now as u64);
        self.media += self.rate() / 8e6 * STEP as f64;
        while self.media >= f64::from(PACKET) {
            self.media -= f64::from(PACKET);
            let probe = self.padding.as_mut().map(|(cluster, _)| {
                cluster.bytes = cluster.bytes.saturating_sub(usize::from(PACKET));
                cluster.id
            });
            self.send(at, now, link, PACKET, probe);
        }
        if self.padding.is_none() && self.rate() > 0.0 {
            self.padding = self.estimator.poll_probe(at).map(|cluster| (cluster, 0.0));
            self.probe_seen += usize::from(self.padding.is_some());
        }
        if let Some((mut cluster, mut due)) = self.padding.take() {
            due += (cluster.rate as f64 - self.rate()).max(0.0) / 8e6 * STEP as f64;
            while due >= f64::from(PADDING) && cluster.bytes > 0 {
                due -= f64::from(PADDING);
                cluster.bytes = cluster.bytes.saturating_sub(usize::from(PADDING));
                self.send(at, now, link, PADDING, Some(cluster.id));
            }
            self.padding = (cluster.bytes > 0).then_some((cluster, due));
        }
        if now % FEEDBACK == 0 {
            self.report(now, heard);
        }
        while self.feedback.front().is_some_and(|f| f.0 <= now) {
            let Some((_, bytes)) = self.feedback.pop_front() else { break };
            give(&mut self.estimator, at, &bytes);
        }
        if now % 10_000 == 0 {
            self.estimator.handle_timeout(at);
        }
    }

    fn send(&mut self, at: Instant, now: Micros, link: &mut Link, bytes: u16, probe: Option<ProbeId>) {
        self.estimator.on_sent(at, SentPacket { seq: self.seq, bytes, probe });
        if let Some(arrival) = link.send(now, bytes) {
            self.travelling.push((arrival, self.seq, bytes));
        }
        self.seq = self.seq.wrapping_add(1);
    }

    fn report(&mut self, now: Micros, heard: bool) {
        let mut received = 0.0;
        let come = self.travelling.extract_if(.., |p| p.0 <= now);
        let mut come: Vec<_> =
            come.inspect(|p| received += f64::from(p.2) * 8.0).map(|p| (p.1, p.0 / 250)).collect();
        self.received += received;
        let Some(&(first, _)) = come.first() else { return };
        // Late ones come below the base.
        let base = self.base.unwrap_or(first);
        come.sort_by_key(|(seq, _)| seq.wrapping_sub(base.wrapping_sub(2000)));
        let last = come.last().map_or(base, |(seq, _)| seq.wrapping_add(1));
        let mut bytes = Vec::new();
        let base =
            come.first().map_or(base, |(seq, _)| if seq.wrapping_sub(base) < 2000 { base } else { *seq });
        self.builder.write(base, &come, &mut bytes);
        self.base = Some(last);
        if heard {
            self.feedback.push_back((now + DELAY, bytes));
        }
    }
}

fn give(estimator: &mut Estimator, at: Instant, bytes: &[u8]) {
    for packet in crate::rtcp::parse(bytes).flatten() {
        if let crate::rtcp::Packet::TransportFeedback(feedback) = packet {
            estimator.on_feedback(at, &feedback);
        }
    }
}

/// Flows over one link.
struct World {
    epoch: Instant,
    now: Micros,
    link: Link,
    flows: Vec<Flow>,
    /// Whether feedback comes through.
    heard: bool,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
    fn new(link: Link) -> Self {
        Self { epoch: Instant::now(), now: 0, link, flows: Vec::new(), heard: true }
    }

    fn with(mut self, source: Source, wanted: f64) -> Self {
        let at = self.epoch + Duration::from_micros(self.now as u64);
        self.flows.push(Flow::new(at, source, wanted));
        self
    }

    fn run(&mut self, seconds: f64) {
        let end = self.now + (seconds * 1e6) as Micros;
        self.flows.iter_mut().for_each(|f| f.received = 0.0);
        while self.now < end {
            self.now += STEP;
            for flow in &mut self.flows {
                flow.step(self.epoch, self.now, &mut self.link, self.heard);
            }
        }
    }

    fn estimate(&self) -> f64 {
        self.flows[0].estimator.estimate() as f64
    }

    /// Runs and gives what came of the first flow as a part of the link.
    fn utilisation(&mut self, seconds: f64) -> f64 {
        self.run(seconds);
        self.flows[0].received / seconds / self.link.capacity
    }
}

const GREEDY: Source = Source::Follows(1e9);

#[test]
fn a_steady_link_is_used_without_a_queue() {
    for capacity in [300e3, 1e6, 2.5e6, 10e6] {
        let mut world = World::new(Link::new(capacity, 300.0)).with(GREEDY, 20e6);
        world.run(10.0);
        world.link.p95();
        let used = world.utilisation(60.0);
        let p95 = world.link.p95();
        assert!(used > 0.85, "{capacity}: {used}");
        // One packet is 32 ms on the narrowest of them.
        let packet = f64::from(PACKET) * 8e3 / capacity;
        assert!(p95 < 50.0 + packet, "{capacity}: {p95} ms");
    }
}

#[test]
fn the_start_is_quick() {
    let mut world = World::new(Link::new(5e6, 300.0)).with(GREEDY, 4e6);
    world.run(1.5);
    assert!(world.estimate() > 3.5e6, "{}", world.estimate());
}

#[test]
fn a_fall_is_followed_and_so_is_the_way_back() {
    for queue_ms in [30.0, 100.0, 300.0] {
        let mut world = World::new(Link::new(5e6, queue_ms)).with(GREEDY, 5e6);
        world.run(20.0);
        world.link.capacity = 500e3;
        world.link.queue = 500e3 / 8.0 * queue_ms / 1e3;
        world.link.busy = world.link.busy.min(world.now + (queue_ms * 1e3) as Micros);
        world.run(1.0);
        assert!(world.estimate() < 600e3, "{queue_ms}: {}", world.estimate());
        world.run(2.0);
        let used = world.utilisation(20.0);
        assert!(used > 0.8, "{queue_ms}: {used}");
        world.link.capacity = 5e6;
        world.link.queue = 5e6 / 8.0 * queue_ms / 1e3;
        world.run(8.0);
        assert!(world.estimate() > 4.2e6, "{queue_ms}: {}", world.estimate());
    }
}

#[test]
fn a_deep_queue_of_the_old_speed_is_drained() {
    let mut world = World::new(Link::new(5e6, 300.0)).with(GREEDY, 5e6);
    world.run(20.0);
    world.link.capacity = 500e3; // The queue stays 188 kB long: three seconds now.
    world.run(1.0);
    assert!(world.estimate() < 600e3, "{}", world.estimate());
    world.run(7.0);
    world.link.p95();
    let used = world.utilisation(20.0);
    let p95 = world.link.p95();
    assert!(used > 0.85 && p95 < 100.0, "{used} {p95}");
}

#[test]
fn random_loss_costs_little() {
    for loss in [0.05, 0.02, 0.01] {
        for seed in 0..3 {
            let mut link = Link::new(2.5e6, 300.0);
            link.loss = loss;
            link.rng = StdRng::seed_from_u64(seed);
            let mut world = World::new(link).with(GREEDY, 5e6);
            world.run(10.0);
            let used = world.utilisation(60.0);
            assert!(used > 0.85, "{loss} {seed}: {used}");
        }
    }
}

#[test]
fn a_short_queue_is_found_by_its_loss() {
    for queue_ms in [20.0, 30.0] {
        let mut world = World::new(Link::new(2e6, queue_ms)).with(GREEDY, 5e6);
        world.run(10.0);
        let used = world.utilisation(60.0);
        let loss = world.flows[0].estimator.loss();
        assert!(used > 0.85, "{queue_ms}: {used}");
        assert!(loss < 0.05, "{queue_ms}: {loss}");
    }
}

#[test]
fn two_flows_share_a_link() {
    let mut world = World::new(Link::new(3e6, 300.0)).with(GREEDY, 5e6);
    world.run(20.0);
    world = world.with(GREEDY, 5e6);
    world.run(30.0);
    world.run(60.0);
    let (a, b) = (world.flows[0].received, world.flows[1].received);
    assert!((a / b - 1.0).abs() < 0.2, "{a} {b}");
    assert!(a + b > 0.85 * 60.0 * 3e6);
}

#[test]
fn the_estimate_is_not_stuck_low_after_a_quiet_time() {
    let mut world = World::new(Link::new(5e6, 300.0)).with(Source::Follows(5e6), 5e6);
    world.run(10.0);
    let before = world.estimate();
    world.flows[0].source = Source::Follows(40e3);
    world.run(60.0);
    assert!(world.estimate() > before * 0.7, "{} {before}", world.estimate());
    world.flows[0].source = GREEDY;
    world.run(5.0);
    assert!(world.estimate() > 4.2e6, "{}", world.estimate());
}

#[test]
fn layers_far_apart_are_reached_by_probes_and_not_without_proof() {
    let layers = Source::Layers(&[150e3, 500e3, 1.7e6]);
    let mut world = World::new(Link::new(2.2e6, 300.0)).with(layers, 2e6);
    world.run(3.0);
    assert!((world.flows[0].rate() - 1.7e6).abs() < 1.0, "{}", world.estimate());
    let mut world = World::new(Link::new(1e6, 300.0)).with(layers, 2e6);
    world.run(10.0);
    world.link.p95();
    for _ in 0..60 {
        world.run(1.0);
        assert!((0.5e6..1.4e6).contains(&world.estimate()), "{}", world.estimate());
    }
    assert!(world.link.p95() < 50.0);
    let share = world.flows[0].estimator.probe_bytes() as f64 / (70.0 * 500e3 / 8.0);
    assert!(share < 0.05, "{share}");
}

#[test]
fn jitter_alone_does_not_pull_it_down() {
    let mut link = Link::new(3e6, 300.0);
    link.jitter = 60_000;
    let mut world = World::new(link).with(GREEDY, 2.5e6);
    world.flows[0].source = Source::Follows(2.5e6);
    world.run(15.0);
    let used = world.utilisation(60.0);
    assert!(used > 0.8 * 2.5 / 3.0, "{used}");
}

#[test]
fn silence_halves_and_the_way_back_is_quick() {
    let mut world = World::new(Link::new(5e6, 300.0)).with(GREEDY, 4e6);
    world.run(10.0);
    let before = world.estimate();
    world.heard = false;
    world.run(0.5);
    assert!(world.estimate() > before * 0.95);
    world.run(3.0);
    assert!(world.estimate() < before * 0.3, "{}", world.estimate());
    world.heard = true;
    world.run(6.0);
    assert!(world.estimate() > 3.5e6, "{}", world.estimate());
}

#[test]
fn a_pause_after_a_lost_packet_is_no_silence() {
    let mut world = World::new(Link::new(5e6, 300.0)).with(GREEDY, 4e6);
    world.run(10.0);
    let before = world.estimate();
    for (source, loss, seconds) in [(0.0, 0.0, 1.0), (1e6, 1.0, 0.02), (0.0, 0.0, 30.0)] {
        world.flows[0].source = Source::Follows(source);
        world.link.loss = loss;
        world.run(seconds);
    }
    assert!(world.estimate() > before * 0.95, "{}", world.estimate());
}

#[test]
fn a_client_without_transport_wide_feedback_is_estimated_by_its_reports() {
    let world = World::new(Link::new(1e6, 300.0));
    let mut estimator = Estimator::new(world.epoch);
    let at = |second: u64| world.epoch + Duration::from_secs(second);
    estimator.on_report_loss(at(1), 0.3);
    assert!(!estimator.has_feedback() && estimator.estimate() < 520_000);
    estimator.on_report_loss(at(2), 0.0);
    estimator.on_remb(at(2), 2_000_000);
    assert_eq!(estimator.estimate(), 2_000_000);
    assert!(estimator.poll_probe(at(2)).is_none());
}

#[test]
fn feedback_of_any_content_does_no_harm() {
    let mut rng = StdRng::seed_from_u64(5);
    let epoch = World::new(Link::new(1e6, 1.0)).epoch;
    let mut builder = TransportFeedbackBuilder::new(Ssrc(1), Ssrc(2));
    let mut estimator = Estimator::new(epoch);
    estimator.set_wanted(epoch, u64::MAX);
    let (mut at, mut seq) = (epoch, 0_u16);
    for _ in 0..20_000 {
        at += Duration::from_micros(rng.random_range(0..50_000));
        for _ in 0..rng.random_range(0..20) {
            let probe = rng.random_bool(0.2).then(|| ProbeId(rng.random_range(0..9)));
            estimator.on_sent(at, SentPacket { seq, bytes: rng.random(), probe });
            seq = seq.wrapping_add(if rng.random_bool(0.01) { rng.random() } else { 1 });
        }
        let first = if rng.random() { seq.wrapping_sub(20) } else { rng.random() };
        let mut arrivals = Vec::new();
        let mut ticks: i64 = rng.random_range(-1 << 32..1 << 32);
        for n in 0..rng.random_range(1..60) {
            ticks += if rng.random_bool(0.1) { rng.random_range(-40_000..40_000) } else { 40 };
            arrivals.push((first.wrapping_add(n * rng.random_range(1..3)), ticks));
        }
        arrivals.sort_by_key(|a| a.0.wrapping_sub(first));
        arrivals.dedup_by_key(|a| a.0);
        let mut bytes = Vec::new();
        builder.write(first, &arrivals, &mut bytes);
        if rng.random_bool(0.3) {
            let place = rng.random_range(8..bytes.len());
            bytes[place] = rng.random();
        }
        give(&mut estimator, at, &bytes);
        estimator.handle_timeout(at);
        _ = estimator.poll_probe(at);
        estimator.on_rtt(Duration::from_micros(rng.random()));
        assert!((rate_control::MIN as u64..=rate_control::MAX as u64).contains(&estimator.estimate()));
        assert!((0.0..=1.0).contains(&estimator.loss()));
        assert!(estimator.sent.len() <= 4096);
    }
}
