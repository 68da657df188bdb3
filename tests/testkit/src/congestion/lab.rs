//! The laboratory: flows, the bottlenecks and links on their ways, and time.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{End, Flow, Packet, Record};
use crate::network::{Bottleneck, Capacity, Link, LinkConfig, QueueConfig};

/// A bottleneck of a laboratory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BottleneckId(usize);

/// A flow of a laboratory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowId(usize);

/// The way of a flow's packets: some bottlenecks in order, then a link.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// The bottlenecks of data.
    pub forward: Vec<BottleneckId>,
    /// The bottlenecks of what answers it.
    pub backward: Vec<BottleneckId>,
    /// The link of data.
    pub link: LinkConfig,
    /// The link of what answers it.
    pub back: LinkConfig,
}

/// Flows on a network in virtual time. The same seed gives the same course.
pub struct Lab {
    now: Instant,
    start: Instant,
    rng: StdRng,
    bottlenecks: Vec<Bottleneck<OnWay>>,
    lanes: Vec<Lane>,
    /// What is to be done when, from late to soon.
    planned: Vec<(Instant, FlowId, Change)>,
    sampled_at: Instant,
}

/// A flow with its ways.
struct Lane {
    flow: Box<dyn Flow>,
    forward: Vec<BottleneckId>,
    backward: Vec<BottleneckId>,
    link: Link<OnWay>,
    back: Link<OnWay>,
    record: Record,
}

/// A packet on its way.
#[derive(Clone, Debug)]
struct OnWay {
    lane: usize,
    to: End,
    packet: Packet,
    /// Bottlenecks that it has passed.
    passed: usize,
    waited: Duration,
    /// Of data: where it is in the record.
    trip: usize,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Run(bool),
    Limit(u64),
}

/// How often what controllers say is written down.
const SAMPLE: Duration = Duration::from_millis(100);

impl Lab {
    /// An empty laboratory.
    pub fn new(seed: u64) -> Self {
        let now = Instant::now();
        Self {
            now,
            start: now,
            rng: StdRng::seed_from_u64(seed),
            bottlenecks: Vec::new(),
            lanes: Vec::new(),
            planned: Vec::new(),
            sampled_at: now,
        }
    }

    /// The moment.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Chance that follows from the laboratory's seed.
    pub fn chance(&mut self) -> StdRng {
        StdRng::from_seed(self.rng.random())
    }

    /// Adds a bottleneck, whose capacity begins now.
    pub fn add_bottleneck(&mut self, capacity: Capacity, queue: QueueConfig) -> BottleneckId {
        self.bottlenecks.push(Bottleneck::new(self.now, capacity, queue));
        BottleneckId(self.bottlenecks.len() - 1)
    }

    /// Adds a flow, which begins when it is told to.
    pub fn add_flow(&mut self, flow: Box<dyn Flow>, route: Route) -> FlowId {
        let (link, back) = (self.chance(), self.chance());
        self.lanes.push(Lane {
            flow,
            forward: route.forward,
            backward: route.backward,
            link: Link::new(route.link, link),
            back: Link::new(route.back, back),
            record: Record::default(),
        });
        FlowId(self.lanes.len() - 1)
    }

    /// A flow runs from then on.
    pub fn start(&mut self, flow: FlowId, at: Duration) {
        self.plan(flow, at, Change::Run(true));
    }

    /// A flow does not run from then on.
    pub fn stop(&mut self, flow: FlowId, at: Duration) {
        self.plan(flow, at, Change::Run(false));
    }

    /// A flow has no more than this to send from then on, in bits per second.
    pub fn limit(&mut self, flow: FlowId, at: Duration, bits: u64) {
        self.plan(flow, at, Change::Limit(bits));
    }

    /// The links of a flow, to data and to what answers it.
    pub fn links(&mut self, flow: FlowId) -> [&mut LinkConfig; 2] {
        let lane = &mut self.lanes[flow.0];
        [&mut lane.link.config, &mut lane.back.config]
    }

    /// What became of the data of a flow.
    pub fn record(&self, flow: FlowId) -> &Record {
        &self.lanes[flow.0].record
    }

    /// Bits that a bottleneck can carry between two times.
    pub fn capacity(&self, id: BottleneckId, from: Duration, to: Duration) -> f64 {
        self.bottlenecks[id.0].capacity().between(from, to)
    }

    /// Lets time pass until so long after the start.
    pub fn run_until(&mut self, time: Duration) {
        let end = self.start + time;
        let mut still = 0;
        while let Some(next) = self.next().filter(|next| *next <= end) {
            still = if next > self.now { 0 } else { still + 1 };
            assert!(still < 100_000, "some flow does not let time pass");
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    fn plan(&mut self, flow: FlowId, at: Duration, change: Change) {
        let at = self.start + at;
        // What was planned first for one moment is done first, thus from the end.
        let index = self.planned.partition_point(|(other, ..)| *other > at);
        self.planned.insert(index, (at, flow, change));
    }

    fn next(&self) -> Option<Instant> {
        let planned = self.planned.last().map(|(at, ..)| *at);
        let bottlenecks = self.bottlenecks.iter().filter_map(Bottleneck::poll_timeout);
        let lanes = self
            .lanes
            .iter()
            .flat_map(|lane| [lane.flow.poll_timeout(), lane.link.poll_timeout(), lane.back.poll_timeout()]);
        let sample = (!self.lanes.is_empty()).then(|| self.sampled_at + SAMPLE);
        bottlenecks.chain(lanes.flatten()).chain(planned).chain(sample).min()
    }

    fn step(&mut self) {
        let now = self.now;
        if self.sampled_at + SAMPLE <= now {
            self.sample();
        }
        while let Some((_, flow, change)) = self.planned.pop_if(|(at, ..)| *at <= now) {
            let flow = &mut self.lanes[flow.0].flow;
            match change {
                Change::Run(running) => flow.set_running(now, running),
                Change::Limit(bits) => flow.set_limit(now, bits),
            }
        }
        for index in 0..self.bottlenecks.len() {
            while let Some(passed) = self.bottlenecks[index].poll_packet(now) {
                let mut way = passed.item;
                way.passed += 1;
                way.waited += passed.waited;
                self.go_on(way);
            }
        }
        for index in 0..self.lanes.len() {
            self.run_lane(index);
        }
    }

    fn run_lane(&mut self, index: usize) {
        let now = self.now;
        let lane = &mut self.lanes[index];
        while let Some((at, way)) = lane.link.poll_packet(now) {
            lane.record.arrive(way.trip, at - self.start, way.waited);
            lane.flow.handle_packet(now, way.to, way.packet);
        }
        while let Some((_, way)) = lane.back.poll_packet(now) {
            lane.flow.handle_packet(now, way.to, way.packet);
        }
        if lane.flow.poll_timeout().is_some_and(|at| at <= now) {
            lane.flow.handle_timeout(now);
        }
        while let Some((to, packet)) = self.lanes[index].flow.poll_packet(now) {
            let trip = match to {
                End::Receiver => self.lanes[index].record.send(now - self.start, packet.bytes),
                End::Sender => 0,
            };
            self.go_on(OnWay { lane: index, to, packet, passed: 0, waited: Duration::ZERO, trip });
        }
    }

    /// To the next bottleneck of its way, or to the link.
    fn go_on(&mut self, way: OnWay) {
        let now = self.now;
        let lane = &mut self.lanes[way.lane];
        let (hops, link) = match way.to {
            End::Receiver => (&lane.forward, &mut lane.link),
            End::Sender => (&lane.backward, &mut lane.back),
        };
        let bytes = way.packet.bytes;
        match hops.get(way.passed) {
            Some(BottleneckId(hop)) => self.bottlenecks[*hop].handle_packet(now, bytes, way),
            None => link.handle_packet(now, bytes, way),
        }
    }

    fn sample(&mut self) {
        self.sampled_at = self.now;
        let time = self.now - self.start;
        for lane in &mut self.lanes {
            if let Some(target) = lane.flow.target() {
                lane.record.targets.push((time, target));
            }
        }
    }
}
