//! Probe clusters: short bursts at a higher rate that prove that there is room. When, how fast, and what they have shown
//! (the idea and its limits are libwebrtc's).

use super::arrivals::PacketResult;
use super::{Micros, ProbeCluster, ProbeId};

/// What a cluster has shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outcome {
    /// Bits a second that get through; `None` when too little of it came to tell.
    pub rate: Option<f64>,
    /// The packets came slower than they were sent, so the link was full.
    pub saturated: bool,
}

/// Decides on clusters and judges them.
#[derive(Debug)]
pub(super) struct Prober {
    /// Two at most: the second of the start does not wait for the first.
    clusters: [Option<Cluster>; 2],
    next_id: u32,
    wanted: f64,
    schedule: Schedule,
    /// Clusters in a row that have shown nothing.
    failures: u32,
    /// Until then the path may recover any moment, and clusters stay frequent.
    recovering_until: Micros,
    /// The next cluster is the first one after a large drop: it does not wait until media leaves room for it.
    eager: bool,
    /// Bytes that may be spent.
    allowance: f64,
    updated: Micros,
    /// The usual size of a packet of media, in bytes.
    packet: f64,
    /// The bytes of the padding that was sent so far.
    spent: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Schedule {
    /// Nothing was tried yet: the factors of the first clusters that are left.
    Start(&'static [f64]),
    /// When to try the next one.
    At(Micros),
}

#[derive(Clone, Copy, Debug)]
struct Cluster {
    id: ProbeId,
    rate: f64,
    begun: Micros,
    /// What the caller still has to send of it.
    left: usize,
    sent: Tally,
    arrived: Tally,
    lost: u32,
}

/// Packets at one end.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    packets: u32,
    bytes: u32,
    first: Micros,
    last: Micros,
    first_bytes: u32,
    last_bytes: u32,
}

/// Of the first estimate.
const START: &[f64] = &[3.0, 6.0];
/// Of the estimate, later.
const FACTOR: f64 = 2.0;
/// More than this multiple of what is wanted is never tried.
const HEADROOM: f64 = 1.15;
/// A cluster's length, and the least that it has; it always has room for [`PACKETS`] of the usual size.
const LENGTH: f64 = 0.015;
const MIN_BYTES: f64 = 1250.0;
/// The size of packets before they are known.
const USUAL_PACKET: f64 = 1000.0;
/// It should have so many packets. One less still tells something.
const PACKETS: u32 = 5;
const MIN_PACKETS: u32 = PACKETS - 1;
/// Of its packets, so many must have come.
const MIN_ARRIVED: f64 = 0.8;
/// Packets that come so much faster than they were sent were held up together.
const TOO_FAST: f64 = 2.0;
/// Received slower than this share of the sent rate, the link was full.
const SATURATED: f64 = 0.9;
/// What may be used of a full link.
const USABLE: f64 = 0.95;

/// Between clusters: at first, and after failures.
const INTERVAL: Micros = 5_000_000;
const MAX_INTERVAL: Micros = 15_000_000;
/// So much longer when media itself fills the estimate.
const PATIENCE: Micros = 15_000_000;
/// A path is new for so long.
const YOUNG: Micros = 10_000_000;
/// After more is wanted than before.
const SOON: Micros = 200_000;
/// After a large drop the path recovers as suddenly as it fell: soon, then often for a while.
const AFTER_DROP: Micros = 1_500_000;
const RECOVERY: Micros = 60_000_000;
/// After a usual cut.
const AFTER_CUT: Micros = 3_000_000;
/// A cluster of which nothing is heard for so long is over.
const TIMEOUT: Micros = 1_000_000;
/// And whatever is heard, after so long.
const LONGEST: Micros = 2_000_000;

/// Clusters may cost this share of what is sent, and a little for those who send next to nothing, in bytes a second.
const COST: f64 = 0.05;
const LEAST_COST: f64 = 500.0;
const MAX_ALLOWANCE: f64 = 100_000.0;

impl Prober {
    /// Nothing is wanted yet.
    pub fn new(now: Micros) -> Self {
        Self {
            clusters: [None; 2],
            next_id: 0,
            wanted: 0.0,
            schedule: Schedule::Start(START),
            failures: 0,
            recovering_until: now + YOUNG,
            eager: false,
            allowance: MAX_ALLOWANCE,
            updated: 0,
            packet: USUAL_PACKET,
            spent: 0,
        }
    }

    /// What the subscriber could use. More than before is tried soon.
    pub fn set_wanted(&mut self, now: Micros, wanted: f64) {
        if wanted > self.wanted * 1.1
            && let Schedule::At(at) = &mut self.schedule
        {
            *at = (*at).min(now + SOON);
        }
        self.wanted = wanted;
    }

    /// More than this, in bits a second, is of no use.
    pub fn highest_useful(&self) -> f64 {
        self.wanted * HEADROOM
    }

    /// A packet was sent, `tagged` when it is padding of a cluster. Gives the cluster that it belongs to: what is sent
    /// between the padding is as good a proof.
    pub fn on_sent(&mut self, now: Micros, bytes: u16, tagged: Option<ProbeId>) -> Option<ProbeId> {
        if tagged.is_some() {
            self.spent += u64::from(bytes);
        } else {
            self.on_media(1, u32::from(bytes));
        }
        let cluster = self.clusters.iter_mut().flatten().find(|c| match tagged {
            Some(id) => c.id == id,
            None => c.left > 0 && c.sent.packets > 0,
        })?;
        cluster.sent.add(now, bytes);
        if tagged.is_some() {
            cluster.left = cluster.left.saturating_sub(usize::from(bytes));
        }
        Some(cluster.id)
    }

    /// Packets of media were sent while no cluster was.
    pub fn on_media(&mut self, packets: u32, bytes: u32) {
        self.allowance = (self.allowance + COST * f64::from(bytes)).min(MAX_ALLOWANCE);
        let size = f64::from(bytes) / f64::from(packets.max(1));
        for _ in 0..packets {
            self.packet += (size - self.packet) / 32.0;
        }
    }

    /// Whether what is sent now belongs to a cluster.
    pub fn is_sending(&self) -> bool {
        self.clusters.iter().flatten().any(|cluster| cluster.left > 0)
    }

    /// Nothing more of a cluster is sent.
    pub fn give_up(&mut self, id: ProbeId) {
        if let Some(cluster) = self.clusters.iter_mut().flatten().find(|c| c.id == id) {
            cluster.left = 0;
        }
    }

    /// A packet of a cluster has come or is lost.
    pub fn on_result(&mut self, result: &PacketResult) {
        let of = |c: &&mut Cluster| Some(c.id) == result.sent.probe;
        let Some(cluster) = self.clusters.iter_mut().flatten().find(of) else { return };
        match result.arrival {
            Some(at) => cluster.arrived.add(at, result.sent.bytes),
            None => cluster.lost += 1,
        }
    }

    /// A cluster that is over.
    pub fn poll_outcome(&mut self, now: Micros) -> Option<Outcome> {
        let over = |c: &Option<Cluster>| c.as_ref().is_some_and(|c| c.is_over(now));
        let cluster = self.clusters.iter_mut().find(|c| over(c))?.take()?;
        Some(cluster.outcome())
    }

    /// The last outcome has raised the estimate (or not); `again` when the next step shall be tried at once.
    pub fn on_judged(&mut self, now: Micros, raised: bool, again: bool) {
        self.failures = if raised { 0 } else { self.failures.saturating_add(1) };
        if self.schedule == Schedule::Start(START) || self.clusters.iter().any(Option::is_some) {
            return; // Its end decides.
        }
        let longest = if now < self.recovering_until { INTERVAL } else { MAX_INTERVAL };
        let interval = (INTERVAL * i64::from(self.failures.clamp(1, 10))).min(longest);
        // What has just been found out was perhaps bounded by what was wanted then.
        let soon = raised && now < self.recovering_until;
        self.schedule = Schedule::At(if again { now } else { now + if soon { SOON } else { interval } });
    }

    /// The estimate was cut, by much or by little.
    pub fn on_cut(&mut self, now: Micros, far: bool) {
        if far {
            self.recovering_until = now + RECOVERY;
            self.schedule = Schedule::At(now + AFTER_DROP);
            // The first drop of a new path is no fall: its capacity has been found.
            self.eager = now > YOUNG;
        } else if let Schedule::At(at) = &mut self.schedule {
            *at = (*at).max(now + AFTER_CUT);
        }
    }

    /// More comes than the path was thought to carry.
    pub fn on_wider_path(&mut self, now: Micros) {
        if let Schedule::At(at) = &mut self.schedule {
            *at = (*at).min(now - PATIENCE);
        }
    }

    /// A cluster to send now, with media flowing and an estimate of `rate`. `tried` when media itself fills it, on a link of which
    /// the capacity is known: a cluster then disturbs more than it tells.
    pub fn poll(&mut self, now: Micros, rate: f64, tried: bool) -> Option<ProbeCluster> {
        let seconds = (now - self.updated).max(0) as f64 / 1e6;
        self.updated = now;
        self.allowance = (self.allowance + LEAST_COST * seconds).min(MAX_ALLOWANCE);
        if rate >= self.wanted || self.is_sending() {
            return None;
        }
        let patience = if tried && !self.eager { PATIENCE } else { 0 };
        let (factor, next) = match self.schedule {
            Schedule::Start(&[factor, ref rest @ ..]) if !rest.is_empty() => (factor, Schedule::Start(rest)),
            Schedule::Start(&[factor, ..]) => (factor, Schedule::At(now + INTERVAL)),
            Schedule::Start(&[]) => (FACTOR, Schedule::At(now + INTERVAL)),
            Schedule::At(at) if now - at >= patience && self.clusters.iter().all(Option::is_none) => {
                (FACTOR, Schedule::At(now + INTERVAL))
            }
            Schedule::At(_) => return None,
        };
        let rate = (rate * factor).min(self.highest_useful());
        let bytes = (rate * LENGTH / 8.0).max(MIN_BYTES).max(f64::from(PACKETS) * self.packet);
        let place = self.clusters.iter_mut().find(|c| c.is_none())?;
        if self.allowance < bytes {
            return None;
        }
        self.allowance -= bytes;
        self.eager = false;
        self.schedule = next;
        let id = ProbeId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let bytes = bytes as usize;
        let (sent, arrived) = (Tally::default(), Tally::default());
        *place = Some(Cluster { id, rate, begun: now, left: bytes, sent, arrived, lost: 0 });
        Some(ProbeCluster { id, rate: rate as u64, bytes })
    }

    /// The same wants on a path of which nothing is known any more.
    pub fn restarted(&self, now: Micros) -> Self {
        Self { wanted: self.wanted, spent: self.spent, next_id: self.next_id, ..Self::new(now) }
    }

    /// The bytes of the padding that was sent so far.
    pub fn spent(&self) -> u64 {
        self.spent
    }
}

impl Cluster {
    fn is_over(&self, now: Micros) -> bool {
        let all_known = self.left == 0 && self.arrived.packets + self.lost >= self.sent.packets;
        all_known || now - self.begun.max(self.sent.last) > TIMEOUT || now - self.begun > LONGEST
    }

    fn outcome(&self) -> Outcome {
        let nothing = Outcome { rate: None, saturated: false };
        let enough = f64::from(self.sent.packets) * MIN_ARRIVED;
        if self.arrived.packets < MIN_PACKETS || f64::from(self.arrived.packets) < enough {
            return nothing;
        }
        // The gaps between n packets are n - 1, and each belongs to the packet before it when it was sent (which took so
        // long to be the next one's turn) and to the one after it when it came.
        let sent = self.sent.rate(self.sent.last_bytes).unwrap_or(self.rate);
        let Some(received) = self.arrived.rate(self.arrived.first_bytes) else { return nothing };
        if received > sent * TOO_FAST {
            return nothing;
        }
        // With a frame of media between the padding it may have been faster than it was meant to be.
        let sent = sent.min(self.rate);
        if received < sent * SATURATED {
            return Outcome { rate: Some(received * USABLE), saturated: true };
        }
        Outcome { rate: Some(received.min(sent)), saturated: false }
    }
}

impl Tally {
    fn add(&mut self, at: Micros, bytes: u16) {
        let bytes = u32::from(bytes);
        if self.packets == 0 || at < self.first {
            (self.first, self.first_bytes) = (at, bytes);
        }
        if self.packets == 0 || at >= self.last {
            (self.last, self.last_bytes) = (at, bytes);
        }
        self.packets += 1;
        self.bytes += bytes;
    }

    /// Bits a second without one packet of so many bytes; `None` when all are of one moment.
    fn rate(&self, without: u32) -> Option<f64> {
        let time = self.last - self.first;
        (time > 0).then(|| f64::from(self.bytes - without) * 8e6 / time as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sent::{Sent, State};
    use super::*;

    /// Sends a cluster in packets of 1,000 bytes and lets them through at `capacity`; gives the outcome.
    fn send(prober: &mut Prober, now: Micros, cluster: ProbeCluster, capacity: f64, lose: usize) -> Outcome {
        let (mut at, mut busy) = (now, now);
        for n in 0..cluster.bytes.div_ceil(250) {
            let probe = prober.on_sent(at, 250, Some(cluster.id));
            assert_eq!(probe, Some(cluster.id));
            busy = busy.max(at) + (2e9 / capacity) as Micros;
            let sent = Sent { seq: 1, at, bytes: 250, probe, state: State::Settled };
            prober.on_result(&PacketResult { sent, arrival: (n >= lose).then_some(busy) });
            at += (2e9 / cluster.rate as f64) as Micros;
        }
        let outcome = prober.poll_outcome(at + 10_000).expect("all is known");
        assert_eq!(prober.poll_outcome(at + 10_000), None);
        outcome
    }

    #[test]
    fn starts_at_three_and_six_times_then_doubles_and_stops_at_what_is_wanted() {
        let mut prober = Prober::new(0);
        assert!(prober.poll(0, 600e3, false).is_none(), "nothing is wanted");
        prober.set_wanted(0, 10e6);
        let mut rate = 600e3;
        let mut rates = Vec::new();
        let mut now = 0;
        while let Some(cluster) = prober.poll(now, rate, false) {
            rates.push(cluster.rate);
            assert!(prober.poll(now, rate, false).is_none(), "one at a time");
            let outcome = send(&mut prober, now, cluster, 100e6, 0);
            assert!(!outcome.saturated);
            if rates.len() > 1 {
                rate = outcome.rate.unwrap();
                prober.on_judged(now, true, true);
            }
            now += 100_000;
        }
        assert_eq!(rates[..2], [1_800_000, 3_600_000]);
        assert_eq!(rates.len(), 4, "{rates:?}");
        assert!(
            (rates[2] as f64 / 7.2e6 - 1.0).abs() < 0.01 && (rates[3] as f64 / 11.5e6 - 1.0).abs() < 0.01
        );
    }

    #[test]
    fn a_full_link_shows_its_capacity() {
        let mut prober = Prober::new(0);
        prober.set_wanted(0, 10e6);
        let cluster = prober.poll(0, 600e3, false).unwrap();
        let outcome = send(&mut prober, 0, cluster, 1e6, 0);
        assert!(outcome.saturated);
        assert!((outcome.rate.unwrap() / 0.95e6 - 1.0).abs() < 0.01, "{outcome:?}");
    }

    #[test]
    fn clusters_that_are_lost_or_forgotten_show_nothing_and_come_less_often() {
        let mut prober = Prober::new(0);
        prober.set_wanted(0, 2e6);
        let cluster = prober.poll(0, 600e3, false).unwrap();
        assert_eq!(send(&mut prober, 0, cluster, 10e6, 5).rate, None);
        prober.on_judged(0, false, false);
        let mut times = Vec::new();
        for tenth in 1..600 {
            let now = tenth * 100_000;
            (0..10).for_each(|_| _ = prober.on_sent(now, 1000, None));
            if prober.poll(now, 600e3, false).is_some() {
                times.push(tenth / 10);
            }
            if let Some(outcome) = prober.poll_outcome(now) {
                assert_eq!(outcome.rate, None);
                prober.on_judged(now, false, false);
            }
        }
        assert_eq!(times, [5, 11, 27, 43, 59]);
    }

    #[test]
    fn costs_little_when_little_is_sent() {
        let mut prober = Prober::new(0);
        prober.set_wanted(0, 5e6);
        prober.recovering_until = Micros::MAX;
        for tenth in 0..6000 {
            let now = tenth * 100_000;
            (0..5).for_each(|_| _ = prober.on_sent(now, 100, None));
            if let Some(cluster) = prober.poll(now, 100e3, false) {
                (0..cluster.bytes.div_ceil(1000))
                    .for_each(|_| _ = prober.on_sent(now, 1000, Some(cluster.id)));
            }
            if prober.poll_outcome(now).is_some() {
                prober.on_judged(now, false, false);
            }
        }
        let spent = prober.spent();
        assert!((200_000..560_000).contains(&spent), "{spent} in 10 minutes, beside 3 MB");
    }
}
