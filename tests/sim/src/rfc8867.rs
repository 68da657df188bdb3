//! The test cases of RFC 8867 section 5 (and 6.3), with figures by the criteria of RFC 8868 section 3.
//!
//! Where the text leaves a choice: queues are drop-tail and as long in time as the case says at the rate of the moment;
//! jitter is the bounded one of RFC 8868 section 4.4 that does not reorder; TCP is CUBIC; there is video only.

use std::time::Duration;

use veche_testkit::congestion::{
    BottleneckId, Downloads, FlowId, Lab, MediaConfig, Route, SourceConfig, Tcp, Waits,
};
use veche_testkit::network::{Capacity, LinkConfig, QueueConfig};

use crate::contestants::Contestant;

/// A test case.
#[derive(Clone, Copy)]
pub struct Case {
    /// The section, with a letter where a case has variants.
    pub section: &'static str,
    /// Its title.
    pub title: &'static str,
    /// How long it takes.
    pub length: Duration,
    build: fn(&mut Stage),
}

/// What came out of a case.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What media carried through the bottlenecks, of what it could have: of their capacity, and not more than the
    /// sources can make.
    pub utilisation: f64,
    /// How long media packets waited in queues.
    pub waits: Waits,
    /// The share of media packets that was lost.
    pub loss: f64,
    /// Jain's index of the media flows' rates while all of them run (RFC 8868 section 3.1): 1 is fair.
    pub fairness: Option<f64>,
    /// The media flows' rates in that time, in bits per second.
    pub rates: Vec<f64>,
    /// The rate of TCP over the whole case, in bits per second.
    pub tcp: Option<f64>,
}

/// A laboratory in which a case is being built.
struct Stage {
    lab: Lab,
    contestant: Contestant,
    length: Duration,
    media: Vec<Flowing>,
    tcp: Vec<FlowId>,
}

/// A media flow, with when it runs and through what.
struct Flowing {
    id: FlowId,
    bottlenecks: Vec<BottleneckId>,
    max: u64,
    runs: Vec<(Duration, Duration)>,
}

/// The first seconds are not counted: every estimator needs them to find out.
const WARM_UP: Duration = Duration::from_secs(5);
/// What RFC 8867 section 4.2 has unless a case says otherwise.
const DELAY: Duration = Duration::from_millis(50);
const JITTER: Duration = Duration::from_millis(30);
const QUEUE: Duration = Duration::from_millis(300);

/// The cases.
pub const CASES: [Case; 10] = [
    case("5.1", "Variable capacity, one flow", 100, variable_one),
    case("5.2", "Variable capacity, two flows", 125, variable_two),
    case("5.3", "Congested feedback, flows both ways", 100, both_ways),
    case("5.4", "Three flows share", 120, three_share),
    case("5.5", "Five flows, round trips of 20 to 300 ms", 300, round_trips),
    case("5.6a", "Long TCP flow, queue of 300 ms", 120, |stage| long_tcp(stage, QUEUE)),
    case("5.6b", "Long TCP flow, queue of 1000 ms", 120, |stage| long_tcp(stage, Duration::from_secs(1))),
    case("5.7", "Short TCP flows", 300, short_tcp),
    case("5.8", "Pause and resume", 120, pause),
    case("6.3", "Two bottlenecks", 120, two_bottlenecks),
];

const fn case(section: &'static str, title: &'static str, seconds: u64, build: fn(&mut Stage)) -> Case {
    Case { section, title, length: Duration::from_secs(seconds), build }
}

/// The case of a section.
pub fn find(section: &str) -> Case {
    *CASES.iter().find(|case| case.section == section).expect("a section of the list")
}

impl Case {
    /// Runs the case. The same seed gives the same outcome.
    pub fn run(&self, contestant: Contestant, seed: u64) -> Outcome {
        let lab = Lab::new(seed);
        let mut stage = Stage { lab, contestant, length: self.length, media: Vec::new(), tcp: Vec::new() };
        (self.build)(&mut stage);
        // What is on its way at the end is not lost.
        stage.lab.run_until(self.length + WARM_UP);
        stage.outcome()
    }
}

fn variable_one(stage: &mut Stage) {
    let steps = [(0, 1_000), (40, 2_500), (60, 600), (80, 1_000)];
    let [forward, back] = stage.bottlenecks(&steps, &[(0, 10_000)], QUEUE);
    stage.media(forward, back, DELAY, 0);
}

fn variable_two(stage: &mut Stage) {
    let steps = [(0, 4_000), (25, 2_000), (50, 3_500), (75, 1_000), (100, 2_000)];
    let [forward, back] = stage.bottlenecks(&steps, &[(0, 10_000)], QUEUE);
    stage.media(forward, back, DELAY, 0);
    stage.media(forward, back, DELAY, 0);
}

fn both_ways(stage: &mut Stage) {
    let there = [(0, 2_000), (20, 1_000), (40, 500), (60, 2_000)];
    let back = [(0, 2_000), (35, 800), (70, 2_000)];
    let [forward, back] = stage.bottlenecks(&there, &back, QUEUE);
    stage.media(forward, back, DELAY, 0);
    stage.media(back, forward, DELAY, 0);
}

fn three_share(stage: &mut Stage) {
    let [forward, back] = stage.bottlenecks(&[(0, 3_500)], &[(0, 10_000)], QUEUE);
    for start in [0, 20, 40] {
        stage.media(forward, back, DELAY, start);
    }
}

fn round_trips(stage: &mut Stage) {
    let [forward, back] = stage.bottlenecks(&[(0, 4_000)], &[(0, 10_000)], QUEUE);
    for (start, delay) in [(0, 10), (10, 25), (20, 50), (30, 100), (40, 150)] {
        stage.media(forward, back, Duration::from_millis(delay), start);
    }
}

fn long_tcp(stage: &mut Stage, queue: Duration) {
    let [forward, back] = stage.bottlenecks(&[(0, 2_000)], &[(0, 2_000)], queue);
    stage.tcp(forward, back, Downloads::Endless, 0);
    stage.media(forward, back, DELAY, 5);
}

fn short_tcp(stage: &mut Stage) {
    let [forward, back] = stage.bottlenecks(&[(0, 2_000)], &[(0, 2_000)], QUEUE);
    for index in 0..10 {
        let idle = Duration::from_secs(10);
        let files = Downloads::Files { smallest: 100_000, largest: 1_000_000, idle, begins: index < 2 };
        stage.tcp(forward, back, files, 0);
    }
    stage.media(forward, back, DELAY, 5);
    stage.media(forward, back, DELAY, 5);
}

fn pause(stage: &mut Stage) {
    let [forward, back] = stage.bottlenecks(&[(0, 3_500)], &[(0, 10_000)], QUEUE);
    for index in 0..3 {
        let id = stage.media(forward, back, DELAY, 0);
        if index == 1 {
            let [stops, resumes] = [40, 60].map(Duration::from_secs);
            stage.lab.stop(id, stops);
            stage.lab.start(id, resumes);
            let flowing = stage.media.last_mut().expect("just made");
            flowing.runs = vec![(Duration::ZERO, stops), (resumes, stage.length)];
        }
    }
}

/// A flow through both, and one through each (RFC 8867 section 6.3).
fn two_bottlenecks(stage: &mut Stage) {
    let [first, back] = stage.bottlenecks(&[(0, 2_000)], &[(0, 10_000)], QUEUE);
    let [second, _] = stage.bottlenecks(&[(0, 2_000)], &[(0, 10_000)], QUEUE);
    stage.media_through(vec![first, second], back, DELAY, 0);
    stage.media(first, back, DELAY, 0);
    stage.media(second, back, DELAY, 0);
}

impl Stage {
    /// A bottleneck there and one back, by steps of seconds and kilobits per second.
    fn bottlenecks(
        &mut self,
        there: &[(u64, u64)],
        back: &[(u64, u64)],
        queue: Duration,
    ) -> [BottleneckId; 2] {
        [there, back].map(|steps| {
            let steps: Vec<_> =
                steps.iter().map(|(at, kbps)| (Duration::from_secs(*at), kbps * 1000)).collect();
            self.lab.add_bottleneck(Capacity::steps(&steps), QueueConfig::Time(queue))
        })
    }

    fn media(&mut self, forward: BottleneckId, back: BottleneckId, delay: Duration, start: u64) -> FlowId {
        self.media_through(vec![forward], back, delay, start)
    }

    fn media_through(
        &mut self,
        forward: Vec<BottleneckId>,
        back: BottleneckId,
        delay: Duration,
        start: u64,
    ) -> FlowId {
        let config = MediaConfig::default();
        let SourceConfig { max, .. } = config.source;
        let rng = self.lab.chance();
        let flow = (self.contestant.flow)(self.lab.now(), config, rng);
        let link = LinkConfig { delay, jitter: JITTER, ..LinkConfig::perfect() };
        let bottlenecks = forward.clone();
        let id = self.lab.add_flow(flow, Route { forward, backward: vec![back], link, back: link });
        let start = Duration::from_secs(start);
        self.lab.start(id, start);
        self.media.push(Flowing { id, bottlenecks, max, runs: vec![(start, self.length)] });
        id
    }

    fn tcp(&mut self, forward: BottleneckId, back: BottleneckId, downloads: Downloads, start: u64) {
        let flow = Box::new(Tcp::new(downloads, self.lab.chance()));
        let link = LinkConfig::slow(DELAY);
        let route = Route { forward: vec![forward], backward: vec![back], link, back: link };
        let id = self.lab.add_flow(flow, route);
        self.lab.start(id, Duration::from_secs(start));
        self.tcp.push(id);
    }

    fn outcome(&self) -> Outcome {
        let (from, to) = (WARM_UP, self.length);
        let records = || self.media.iter().map(|flow| self.lab.record(flow.id));
        let through = |flow: &Flowing| {
            let bits = self.lab.record(flow.id).wire_bits(from, to);
            bits * flow.bottlenecks.len() as f64
        };
        let carried: f64 = self.media.iter().map(through).sum();
        let waits = records().flat_map(|record| record.each_wait(from, to)).collect();
        let fates = records().map(|record| record.sent_and_lost(from, to));
        let (sent, lost) = fates.fold((0, 0), |(a, b), (sent, lost)| (a + sent, b + lost));
        let together = self.media.iter().flat_map(|flow| &flow.runs).map(|(start, _)| *start).max();
        let settled = together.unwrap_or_default() + 2 * WARM_UP;
        let rates: Vec<f64> = records().map(|record| record.rate(settled, to)).collect();
        let bits = |id: &FlowId| self.lab.record(*id).rate(from, to);
        Outcome {
            utilisation: carried / self.usable(),
            waits: Waits::of(waits),
            loss: lost as f64 / sent.max(1) as f64,
            fairness: (rates.len() > 1).then(|| jain(&rates)),
            rates,
            tcp: (!self.tcp.is_empty()).then(|| self.tcp.iter().map(bits).sum()),
        }
    }

    /// Bits that media could have carried: what the sources that run can make, limited by each bottleneck.
    fn usable(&self) -> f64 {
        let step = Duration::from_millis(100);
        let mut bottlenecks: Vec<BottleneckId> = Vec::new();
        for id in self.media.iter().flat_map(|flow| &flow.bottlenecks) {
            if !bottlenecks.contains(id) {
                bottlenecks.push(*id);
            }
        }
        let mut bits = 0.0;
        let mut at = WARM_UP;
        while at < self.length {
            for id in &bottlenecks {
                let flows = self.media.iter().filter(|flow| flow.bottlenecks.contains(id));
                let running = flows.filter(|flow| flow.runs.iter().any(|(a, b)| *a <= at && at < *b));
                let most: u64 = running.map(|flow| flow.max).sum();
                bits += self.lab.capacity(*id, at, at + step).min(most as f64 * step.as_secs_f64());
            }
            at += step;
        }
        bits
    }
}

/// Jain's fairness index (1984): 1 when all are equal, 1/n when one has everything.
pub fn jain(rates: &[f64]) -> f64 {
    let sum: f64 = rates.iter().sum();
    let squares: f64 = rates.iter().map(|rate| rate * rate).sum();
    if squares == 0.0 { 1.0 } else { sum * sum / (rates.len() as f64 * squares) }
}

impl Outcome {
    /// A row of the table, in Markdown.
    pub fn row(&self, case: &Case, name: &str) -> String {
        let millis = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1000.0);
        let mbits = |bits: f64| format!("{:.2}", bits / 1e6);
        format!(
            "| {} {} | {name} | {:.0} % | {} | {} | {:.2} % | {} | {} | {} |",
            case.section,
            case.title,
            self.utilisation * 100.0,
            millis(self.waits.median),
            millis(self.waits.p95),
            self.loss * 100.0,
            self.fairness.map_or("–".to_owned(), |index| format!("{index:.2}")),
            self.rates.iter().map(|rate| mbits(*rate)).collect::<Vec<_>>().join(" "),
            self.tcp.map_or("–".to_owned(), mbits),
        )
    }

    /// The head of the table.
    pub const HEAD: &str = "| case | estimator | used | wait, median ms | wait, p95 ms | lost | fairness | \
                            Mbit/s each | TCP Mbit/s |\n|---|---|--:|--:|--:|--:|--:|--:|--:|";
}
