//! The simplest laboratory: one bottleneck, and flows through it whose sources can make up to 8 Mbit/s.

use std::time::Duration;

use veche_testkit::congestion::{BottleneckId, FlowId, Lab, MediaConfig, Route, SourceConfig};
use veche_testkit::network::{Capacity, LinkConfig, QueueConfig};

use crate::contestants::Contestant;

/// Bits per second.
pub const MEGABIT: u64 = 1_000_000;
/// A queue as home routers have.
pub const DEEP: QueueConfig = QueueConfig::Time(Duration::from_millis(300));

/// A laboratory with one bottleneck, and flows through it.
pub struct Line {
    /// The laboratory.
    pub lab: Lab,
    /// The bottleneck.
    pub bottleneck: BottleneckId,
    /// The flows, which all begin at once.
    pub flows: Vec<FlowId>,
    contestant: Contestant,
}

impl Line {
    /// A bottleneck without flows.
    pub fn new(contestant: Contestant, seed: u64, capacity: Capacity, queue: QueueConfig) -> Self {
        let mut lab = Lab::new(seed);
        let bottleneck = lab.add_bottleneck(capacity, queue);
        Self { lab, bottleneck, flows: Vec::new(), contestant }
    }

    /// One flow through a deep queue, 50 ms of round trip.
    pub fn steady(contestant: Contestant, seed: u64, bits: u64) -> Self {
        Self::new(contestant, seed, Capacity::constant(bits), DEEP).with_flow(LinkConfig::slow(millis(25)))
    }

    /// A flow whose source can make up to 8 Mbit/s and next to nothing.
    #[must_use]
    pub fn with_flow(mut self, link: LinkConfig) -> Self {
        let source = SourceConfig { min: 30_000, max: 8 * MEGABIT, ..SourceConfig::default() };
        let config = MediaConfig { source, ..MediaConfig::default() };
        let flow = (self.contestant.flow)(self.lab.now(), config, self.lab.chance());
        let back = LinkConfig { delay: link.delay, ..LinkConfig::perfect() };
        let route = Route { forward: vec![self.bottleneck], backward: Vec::new(), link, back };
        let id = self.lab.add_flow(flow, route);
        self.lab.start(id, Duration::ZERO);
        self.flows.push(id);
        self
    }

    /// Lets time pass until so many seconds after the start.
    #[must_use]
    pub fn run(mut self, until: u64) -> Self {
        self.lab.run_until(seconds(until));
        self
    }

    /// How long it has run.
    pub fn seconds(&self) -> u64 {
        self.lab.elapsed().as_secs()
    }

    /// How much of the capacity was used between two seconds.
    pub fn used(&self, from: u64, to: u64) -> f64 {
        let (from, to) = (seconds(from), seconds(to));
        let bits: f64 = self.flows.iter().map(|id| self.lab.record(*id).wire_bits(from, to)).sum();
        bits / self.lab.capacity(self.bottleneck, from, to)
    }

    /// How long 95 of 100 packets of the first flow waited at most between two seconds.
    pub fn p95(&self, from: u64, to: u64) -> Duration {
        self.lab.record(self.flows[0]).waits(seconds(from), seconds(to)).p95
    }

    /// The share of packets of the first flow that was lost.
    pub fn lost(&self, from: u64, to: u64) -> f64 {
        let (sent, lost) = self.lab.record(self.flows[0]).sent_and_lost(seconds(from), seconds(to));
        lost as f64 / sent.max(1) as f64
    }

    /// What the first flow was allowed on average, in bits per second.
    pub fn target(&self, from: u64, to: u64) -> f64 {
        let targets = self.lab.record(self.flows[0]).targets.iter();
        let within: Vec<u64> = targets
            .filter(|(at, _)| *at >= seconds(from) && *at < seconds(to))
            .map(|(_, bits)| *bits)
            .collect();
        within.iter().sum::<u64>() as f64 / within.len() as f64
    }

    /// How long after a moment this much was allowed for the first time.
    pub fn reached(&self, from: u64, bits: u64) -> Duration {
        let targets = &self.lab.record(self.flows[0]).targets;
        let first = targets.iter().find(|(at, target)| *at >= seconds(from) && *target >= bits);
        first.map_or(Duration::MAX, |(at, _)| at.saturating_sub(seconds(from)))
    }
}

/// A time.
pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A time.
pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
