//! When which packet of a transport came, for the sender's congestion control
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use std::time::{Duration, Instant};

use crate::rtp::sequence::SeqExtender;

/// The content of one feedback message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedbackPlan<'a> {
    /// The first sequence number.
    pub base_seq: u16,
    /// Counts the feedback messages of the transport.
    pub count: u8,
    /// Every number from `base_seq` on, without a gap, with its arrival in ticks of 250 us since the recorder's epoch,
    /// or `None` for a packet that did not come. At least the last one came. At most [`MAX_STATUSES`], and successive
    /// arrivals are at most 8 s apart, so that they fit the wire's deltas.
    pub arrivals: &'a [(u16, Option<u64>)],
}

/// The most packets that one feedback message tells of.
pub const MAX_STATUSES: usize = 400;

/// Records arrivals and reports each packet once, in order. Packets that were reported missing and come later are
/// reported in messages of their own.
#[derive(Debug)]
pub struct ArrivalRecorder {
    epoch: Instant,
    extender: SeqExtender,
    /// The arrival of the packet `seq` in ticks, plus one, at `seq % RING`; 0 for none. Empty before the first packet.
    ring: Vec<u64>,
    highest: Option<u64>,
    /// The first number that was not reported yet.
    next: u64,
    /// Packets below `next` that came after they were reported missing, in rising order.
    late: Vec<u64>,
    /// When the first packet came that was not reported yet.
    pending_since: Option<Instant>,
    last_taken: Option<Instant>,
    count: u8,
    arrivals: Vec<(u16, Option<u64>)>,
}

/// How far back arrivals are known.
const RING: u64 = 2048;

/// Reports go out so often. Slower ones hold Chromium's estimate down.
const INTERVAL: Duration = Duration::from_millis(50);

/// After a pause, more packets are waited for as long as this.
const COLLECT: Duration = Duration::from_millis(20);

/// A larger gap is a sender that began anew or a network that was gone, and is not reported: no message then
/// consists of missing packets only.
const MAX_GAP: u64 = 300;

/// The most packets that are reported late in one interval; the others stay reported as missing.
const MAX_LATE: usize = 64;

/// 8 s in ticks; the wire has 16 signed bits.
const MAX_DELTA: u64 = 32_000;

impl ArrivalRecorder {
    /// A recorder whose ticks count from `epoch`, which must not be later than the first packet.
    pub fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            extender: SeqExtender::default(),
            ring: Vec::new(),
            highest: None,
            next: 0,
            late: Vec::new(),
            pending_since: None,
            last_taken: None,
            count: 0,
            arrivals: Vec::new(),
        }
    }

    /// A packet came with this transport-wide sequence number.
    pub fn on_packet(&mut self, now: Instant, transport_seq: u16) {
        let ticks = (now.saturating_duration_since(self.epoch).as_micros() / 250) as u64;
        let seq = self.extender.extend(transport_seq);
        let Some(highest) = self.highest else {
            self.ring = vec![0; RING as usize];
            self.next = seq;
            self.record(now, seq, ticks);
            return;
        };
        if seq > highest {
            if seq - highest > MAX_GAP {
                self.ring.fill(0);
                self.late.clear();
                self.next = seq;
            } else {
                (highest + 1..seq).for_each(|missing| self.ring[slot(missing)] = 0);
            }
            // Nobody took the reports for long: the oldest arrivals are overwritten.
            self.next = self.next.max((seq + 1).saturating_sub(RING));
            self.record(now, seq, ticks);
        } else if highest - seq < RING && self.ring[slot(seq)] == 0 {
            if seq < self.next {
                self.on_late(seq);
            }
            self.record(now, seq, ticks);
        }
    }

    /// When [`Self::take`] has something; `None` when nothing came since the last time.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let since = self.pending_since?;
        if self.unreported() >= MAX_STATUSES as u64 {
            return Some(since);
        }
        let collected = since + COLLECT;
        Some(self.last_taken.map_or(collected, |at| collected.max(at + INTERVAL)))
    }

    /// The next feedback message, when it is time for one. To be called until it returns `None`.
    pub fn take(&mut self, now: Instant) -> Option<FeedbackPlan<'_>> {
        if self.poll_timeout()? > now {
            return None;
        }
        self.arrivals.clear();
        if self.late.is_empty() {
            self.plan_next();
        } else {
            self.plan_late();
        }
        if self.late.is_empty() && self.unreported() == 0 {
            self.pending_since = None;
            self.last_taken = Some(now);
        }
        let &(base_seq, _) = self.arrivals.first()?;
        let count = self.count;
        self.count = count.wrapping_add(1);
        Some(FeedbackPlan { base_seq, count, arrivals: &self.arrivals })
    }

    fn record(&mut self, now: Instant, seq: u64, ticks: u64) {
        self.ring[slot(seq)] = ticks + 1;
        self.highest = Some(self.highest.map_or(seq, |h| h.max(seq)));
        self.pending_since.get_or_insert(now);
    }

    /// Remembers a packet that was reported missing, or that came before the first one.
    fn on_late(&mut self, seq: u64) {
        if self.late.len() < MAX_LATE
            && let Err(at) = self.late.binary_search(&seq)
        {
            self.late.insert(at, seq);
        }
    }

    /// The numbers that are not reported yet, missing ones between them.
    fn unreported(&self) -> u64 {
        self.highest.map_or(0, |h| (h + 1).saturating_sub(self.next))
    }

    /// The next numbers in order, up to one that came.
    fn plan_next(&mut self) {
        let end = self.next + self.unreported().min(MAX_STATUSES as u64);
        let mut last = None;
        let mut len = 0;
        for seq in self.next..end {
            let ticks = self.ring[slot(seq)].checked_sub(1);
            if let (Some(ticks), Some(last)) = (ticks, last)
                && ticks.abs_diff(last) > MAX_DELTA
            {
                break;
            }
            self.arrivals.push((seq as u16, ticks));
            if ticks.is_some() {
                last = ticks;
                len = self.arrivals.len();
            }
        }
        self.arrivals.truncate(len);
        // Cannot be empty while gaps are shorter than a message; were it so, going on is better than standing still.
        self.next = if len == 0 { end } else { self.next + len as u64 };
    }

    /// The first run of late packets without a gap.
    fn plan_late(&mut self) {
        let mut expected = None;
        let mut last = None;
        for &seq in &self.late {
            let Some(ticks) = self.ring[slot(seq)].checked_sub(1) else { break };
            if expected.is_some_and(|e| e != seq) || last.is_some_and(|l: u64| ticks.abs_diff(l) > MAX_DELTA)
            {
                break;
            }
            self.arrivals.push((seq as u16, Some(ticks)));
            (expected, last) = (Some(seq + 1), Some(ticks));
        }
        // One whose place was used again meanwhile is skipped.
        self.late.drain(..self.arrivals.len().max(1));
    }
}

fn slot(seq: u64) -> usize {
    (seq % RING) as usize
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    type Arrivals = Vec<(u16, Option<u64>)>;

    fn take_all(recorder: &mut ArrivalRecorder, now: Instant) -> Vec<(u8, Arrivals)> {
        let mut plans = Vec::new();
        while let Some(plan) = recorder.take(now) {
            assert_eq!(plan.base_seq, plan.arrivals[0].0);
            plans.push((plan.count, plan.arrivals.to_vec()));
        }
        plans
    }

    #[test]
    fn reports_every_50_ms_each_packet_once_with_the_missing_ones() {
        let epoch = Instant::now();
        let mut recorder = ArrivalRecorder::new(epoch);
        assert_eq!(recorder.poll_timeout(), None);
        recorder.on_packet(epoch + ms(100), 65_534);
        recorder.on_packet(epoch + ms(101), 65_535);
        recorder.on_packet(epoch + ms(102), 1);
        recorder.on_packet(epoch + ms(103), 1);
        assert!(recorder.take(epoch + ms(119)).is_none());
        let plans = take_all(&mut recorder, epoch + ms(120));
        let expected = vec![(65_534, Some(400)), (65_535, Some(404)), (0, None), (1, Some(408))];
        assert_eq!(plans, [(0, expected)]);
        assert_eq!(recorder.poll_timeout(), None);

        recorder.on_packet(epoch + ms(121), 3);
        assert_eq!(recorder.poll_timeout(), Some(epoch + ms(170)));
        assert_eq!(take_all(&mut recorder, epoch + ms(170)), [(1, vec![(2, None), (3, Some(484))])]);
    }

    #[test]
    fn packets_that_were_reported_missing_are_reported_when_they_come() {
        let epoch = Instant::now();
        let mut recorder = ArrivalRecorder::new(epoch);
        for seq in [10, 11, 15, 18] {
            recorder.on_packet(epoch, seq);
        }
        take_all(&mut recorder, epoch + ms(20));
        for seq in [13, 12, 12, 17, 11] {
            recorder.on_packet(epoch + ms(30), seq);
        }
        recorder.on_packet(epoch + ms(40), 19);
        let plans: Vec<_> = take_all(&mut recorder, epoch + ms(70)).into_iter().map(|p| p.1).collect();
        let expected = [vec![(12, Some(120)), (13, Some(120))], vec![(17, Some(120))], vec![(19, Some(160))]];
        assert_eq!(plans, expected);
    }

    #[test]
    fn long_reports_are_cut_and_long_gaps_are_not_reported() {
        let epoch = Instant::now();
        let mut recorder = ArrivalRecorder::new(epoch);
        for seq in 0..1000 {
            recorder.on_packet(epoch, seq);
        }
        assert_eq!(recorder.poll_timeout(), Some(epoch), "a full message waits");
        let lens: Vec<_> = take_all(&mut recorder, epoch).iter().map(|p| p.1.len()).collect();
        assert_eq!(lens, [400, 400], "the rest waits for its time");
        let lens: Vec<_> = take_all(&mut recorder, epoch + ms(20)).iter().map(|p| p.1.len()).collect();
        assert_eq!(lens, [200]);

        recorder.on_packet(epoch + ms(100), 999 + 20_000);
        assert_eq!(take_all(&mut recorder, epoch + ms(200)), [(3, vec![(20_999, Some(400))])]);
        recorder.on_packet(epoch + ms(300), 21_000);
        recorder.on_packet(epoch + ms(10_000), 21_001);
        let lens: Vec<_> = take_all(&mut recorder, epoch + ms(10_000)).iter().map(|p| p.1.len()).collect();
        assert_eq!(lens, [1, 1], "the time between them does not fit the wire");
    }

    #[test]
    fn over_a_bad_network_the_sender_learns_of_every_packet_once() {
        let mut rng = StdRng::seed_from_u64(11);
        let epoch = Instant::now();
        let mut recorder = ArrivalRecorder::new(epoch);
        let mut network = BTreeSet::new();
        for n in 1..150_000_u64 {
            if !rng.random_bool(0.1) {
                let late = if rng.random_bool(0.02) { rng.random_range(0..80_000) } else { 0 };
                network.insert((n * 1_000 + late, n));
            }
        }
        let mut told: BTreeMap<u64, u64> = BTreeMap::new();
        let mut messages = 0;
        let mut highest = 0;
        for &(at, n) in &network {
            let now = epoch + Duration::from_micros(at);
            while let Some(plan) = recorder.take(now) {
                messages += 1;
                assert!(
                    plan.arrivals.len() <= MAX_STATUSES
                        && plan.arrivals.last().is_some_and(|a| a.1.is_some())
                );
                for &(seq, ticks) in plan.arrivals {
                    let n = highest + 100 - u64::from((highest as u16).wrapping_add(100).wrapping_sub(seq));
                    if let Some(ticks) = ticks {
                        assert_eq!(told.insert(n, ticks), None, "packet {n} is told twice");
                    }
                }
            }
            recorder.on_packet(now, n as u16);
            highest = highest.max(n);
        }
        for &(at, n) in network.iter().filter(|k| k.1 < 149_000) {
            assert_eq!(told.get(&n), Some(&(at / 250)), "packet {n}");
        }
        assert!((2_900..6_500).contains(&messages), "{messages} in 150 s");
    }

    #[test]
    fn random_numbers_do_no_harm() {
        let mut rng = StdRng::seed_from_u64(12);
        let epoch = Instant::now();
        let mut now = epoch;
        let mut recorder = ArrivalRecorder::new(epoch);
        let mut seq = 0_u16;
        for _ in 0..100_000 {
            seq = seq.wrapping_add(match rng.random_range(0..100) {
                0 => rng.random(),
                1..10 => rng.random_range(0..400),
                10..20 => rng.random_range(65_000..65_535),
                _ => 1,
            });
            recorder.on_packet(now, seq);
            now += Duration::from_micros(rng.random_range(0..3_000));
            if rng.random_bool(0.02) {
                for (_, arrivals) in take_all(&mut recorder, now) {
                    assert!(!arrivals.is_empty() && arrivals.len() <= MAX_STATUSES);
                }
            }
        }
    }
}
