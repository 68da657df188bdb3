//! Finds packets that are missing and decides when to ask for them again (RFC 4585 section 6.2.1).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a [`LossDetector`] cares about a missing packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossLimits {
    /// A packet that is missing for longer comes too late to be of use.
    pub age: Duration,
    /// The most requests for one packet.
    pub tries: u8,
    /// A packet that is so many numbers behind the newest is too old; at most 1,024.
    pub window: u64,
}

impl LossLimits {
    /// For video.
    pub const VIDEO: Self = Self { age: Duration::from_secs(1), tries: 10, window: WINDOW };

    /// For audio: receivers do not wait long for it.
    pub const AUDIO: Self = Self { age: Duration::from_millis(300), tries: 4, window: 128 };
}

/// What an arriving packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Newer than all before.
    New,
    /// It was missing: late, or sent again.
    Repaired,
    /// It had come before.
    Duplicate,
    /// So far behind that nothing is known about it any more.
    TooOld,
}

/// Counters of a [`LossDetector`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossCounts {
    /// Packets that were asked for, or would have been had they not been forgotten.
    pub lost: u64,
    /// Requests, each repetition counted.
    pub requested: u64,
    /// Lost packets that came after all.
    pub repaired: u64,
    /// Lost packets that did not come in time, or that a key frame made needless.
    pub given_up: u64,
    /// Packets that came late without having been asked for.
    pub reordered: u64,
}

/// The missing packets of one stream.
///
/// A packet is asked for when it is missing for longer than packets are known to overtake each other, and again after
/// each round trip, until it comes, a key frame makes it needless, or its age or tries are used up: when the loss
/// stops, so do the requests.
#[derive(Debug)]
pub struct LossDetector {
    limits: LossLimits,
    highest: Option<u64>,
    /// Packets that were [`Arrival::New`].
    arrived: u64,
    seen: Seen,
    /// In the order of their numbers.
    missing: VecDeque<Missing>,
    /// The `arrived` of the oldest one that was not asked for yet.
    oldest_unrequested: Option<u64>,
    reordering: Reordering,
    timeout: Option<Instant>,
    needs_key_frame: bool,
    counts: LossCounts,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    seq: u64,
    since: Instant,
    /// [`LossDetector::arrived`] before the packet that showed the gap.
    arrived: u64,
    requested: Option<Instant>,
    tries: u8,
}

/// The most packets that are missed at a time; after a larger loss only a key frame helps.
const MAX_MISSING: usize = 512;

/// A request is repeated after so many round trips: a little more than one, for jitter.
const RETRY_RTT_PERCENT: u32 = 125;

/// And never faster than this.
const MIN_RETRY: Duration = Duration::from_millis(20);

impl LossDetector {
    /// For a layer of video.
    pub fn video() -> Self {
        Self::new(LossLimits::VIDEO)
    }

    /// For a track of audio.
    pub fn audio() -> Self {
        Self::new(LossLimits::AUDIO)
    }

    /// Knows of no packet yet.
    pub fn new(limits: LossLimits) -> Self {
        Self {
            limits: LossLimits { window: limits.window.min(WINDOW), ..limits },
            highest: None,
            arrived: 0,
            seen: Seen::default(),
            missing: VecDeque::new(),
            oldest_unrequested: None,
            reordering: Reordering::default(),
            timeout: None,
            needs_key_frame: false,
            counts: LossCounts::default(),
        }
    }

    /// A packet of the stream came, itself or inside a repair (RFC 4588): then `repaired`. `seq` is its original
    /// extended sequence number.
    pub fn on_packet(&mut self, now: Instant, seq: u64, repaired: bool) -> Arrival {
        let Some(highest) = self.highest else {
            self.highest = Some(seq);
            self.arrived = 1;
            self.seen.insert(seq);
            return Arrival::New;
        };
        if seq > highest {
            self.on_new(now, seq, highest);
            return Arrival::New;
        }
        if highest - seq >= self.limits.window {
            return Arrival::TooOld;
        }
        if self.seen.contains(seq) {
            return Arrival::Duplicate;
        }
        self.seen.insert(seq);
        self.on_late(now, seq, repaired);
        Arrival::Repaired
    }

    /// A key frame begins with this packet: what is missing before it is of no use any more.
    pub fn on_key_frame(&mut self, seq: u64) {
        while let Some(missing) = self.missing.pop_front_if(|m| m.seq < seq) {
            self.counts.lost += u64::from(missing.tries == 0);
            self.counts.given_up += 1;
        }
        if self.missing.is_empty() {
            self.timeout = None;
            self.oldest_unrequested = None;
        }
    }

    /// Adds the numbers to ask for now to `out`, in rising order. To be called when [`Self::poll_timeout`] is due.
    pub fn poll_nacks(&mut self, now: Instant, rtt: Duration, out: &mut impl Extend<u16>) {
        if self.timeout.is_none_or(|at| at > now) {
            return;
        }
        let retry = (rtt * RETRY_RTT_PERCENT / 100).max(MIN_RETRY);
        let (limits, reordering, arrived) = (self.limits, self.reordering, self.arrived);
        let (mut timeout, mut oldest_unrequested) = (None, None);
        let counts = &mut self.counts;
        let mut lost = 0;
        self.missing.retain_mut(|missing| {
            let expires = missing.since + limits.age;
            let mut due = match missing.requested {
                Some(at) => at + retry,
                None if arrived - missing.arrived >= reordering.packets() => now,
                None => missing.since + reordering.delay,
            };
            if expires <= now || (due <= now && missing.tries >= limits.tries) {
                lost += u64::from(missing.tries == 0);
                counts.given_up += 1;
                return false;
            }
            if due <= now {
                lost += u64::from(missing.tries == 0);
                counts.requested += 1;
                out.extend([missing.seq as u16]);
                missing.tries += 1;
                missing.requested = Some(now);
                due = now + retry;
            }
            if missing.tries == 0 {
                oldest_unrequested.get_or_insert(missing.arrived);
            }
            let next = due.min(expires);
            timeout = Some(timeout.map_or(next, |t: Instant| t.min(next)));
            true
        });
        counts.lost += lost;
        self.reordering.on_lost(lost);
        self.timeout = timeout;
        self.oldest_unrequested = oldest_unrequested;
    }

    /// When [`Self::poll_nacks`] wants to be called; `None` when nothing is missing.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timeout
    }

    /// Whether more was lost than can be asked for, so that only a key frame helps; said once.
    pub fn take_needs_key_frame(&mut self) -> bool {
        std::mem::take(&mut self.needs_key_frame)
    }

    /// How many packets are missing now.
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    /// The counters since the start.
    pub fn counts(&self) -> LossCounts {
        self.counts
    }

    fn on_new(&mut self, now: Instant, seq: u64, highest: u64) {
        self.highest = Some(seq);
        let gap = seq - highest - 1;
        if self.missing.len() as u64 + gap > MAX_MISSING as u64 {
            self.counts.lost += gap + self.missing.iter().filter(|m| m.tries == 0).count() as u64;
            self.counts.given_up += gap + self.missing.len() as u64;
            self.missing.clear();
            self.timeout = None;
            self.oldest_unrequested = None;
            self.needs_key_frame = true;
        } else if gap > 0 {
            let missing = |seq| Missing { seq, since: now, arrived: self.arrived, requested: None, tries: 0 };
            self.missing.extend((highest + 1..seq).map(missing));
            self.oldest_unrequested.get_or_insert(self.arrived);
            let due = now + self.reordering.delay;
            self.timeout = Some(self.timeout.map_or(due, |t| t.min(due)));
        }
        self.seen.advance(highest, seq);
        self.arrived += 1;
        if self.oldest_unrequested.is_some_and(|at| self.arrived - at >= self.reordering.packets()) {
            self.timeout = self.timeout.map(|t| t.min(now));
        }
    }

    fn on_late(&mut self, now: Instant, seq: u64, repaired: bool) {
        let Ok(at) = self.missing.binary_search_by_key(&seq, |m| m.seq) else { return };
        let Some(missing) = self.missing.remove(at) else { return };
        if missing.tries > 0 {
            self.counts.repaired += 1;
        } else {
            self.counts.reordered += 1;
        }
        if !repaired {
            self.reordering
                .on_late(now.saturating_duration_since(missing.since), self.arrived - missing.arrived);
        }
        if self.missing.is_empty() {
            self.timeout = None;
            self.oldest_unrequested = None;
        }
    }
}

/// By how much packets of this stream are known to overtake each other. Rises with each late packet, falls with each
/// lost one, so that reordering costs few needless requests and loss is answered soon.
#[derive(Clone, Copy, Debug)]
struct Reordering {
    delay: Duration,
    /// In quarters of a packet.
    quarters: u64,
}

impl Reordering {
    const MIN_DELAY: Duration = Duration::from_millis(10);
    const MAX_DELAY: Duration = Duration::from_millis(40);
    const MIN_QUARTERS: u64 = 2 * 4;
    const MAX_QUARTERS: u64 = 32 * 4;

    fn on_late(&mut self, by: Duration, packets: u64) {
        self.delay = self.delay.max(by * 5 / 4).min(Self::MAX_DELAY);
        self.quarters = self.quarters.max(packets.saturating_mul(4) + 4).min(Self::MAX_QUARTERS);
    }

    fn on_lost(&mut self, packets: u64) {
        for _ in 0..packets.min(8) {
            self.delay = (self.delay * 15 / 16).max(Self::MIN_DELAY);
            self.quarters = (self.quarters - self.quarters.div_ceil(16)).max(Self::MIN_QUARTERS);
        }
    }

    /// So many newer packets must have come before one counts as lost.
    fn packets(&self) -> u64 {
        self.quarters / 4
    }
}

impl Default for Reordering {
    fn default() -> Self {
        Self { delay: Self::MIN_DELAY, quarters: Self::MIN_QUARTERS }
    }
}

/// How far behind the newest packet [`Seen`] knows which ones came.
const WINDOW: u64 = 1024;

/// Which of the last 1,024 packets came, one bit each.
#[derive(Debug, Default)]
struct Seen([u64; WINDOW as usize / 64]);

impl Seen {
    fn insert(&mut self, seq: u64) {
        self.0[Self::word(seq)] |= 1 << (seq % 64);
    }

    fn contains(&self, seq: u64) -> bool {
        self.0[Self::word(seq)] & (1 << (seq % 64)) != 0
    }

    /// The newest packet is no longer `from` but `to`; those in between did not come.
    fn advance(&mut self, from: u64, to: u64) {
        if to - from >= WINDOW {
            self.0 = [0; WINDOW as usize / 64];
        } else {
            for seq in from + 1..to {
                self.0[Self::word(seq)] &= !(1 << (seq % 64));
            }
        }
        self.insert(to);
    }

    fn word(seq: u64) -> usize {
        (seq % WINDOW / 64) as usize
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const RTT: Duration = Duration::from_millis(60);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn nacks(detector: &mut LossDetector, now: Instant) -> Vec<u16> {
        let mut out = Vec::new();
        detector.poll_nacks(now, RTT, &mut out);
        out
    }

    #[test]
    fn says_what_a_packet_is() {
        let now = Instant::now();
        let mut detector = LossDetector::video();
        assert_eq!(detector.on_packet(now, 5000, false), Arrival::New);
        assert_eq!(detector.on_packet(now, 5003, false), Arrival::New);
        assert_eq!(detector.on_packet(now, 5003, false), Arrival::Duplicate);
        assert_eq!(detector.on_packet(now, 5001, false), Arrival::Repaired);
        assert_eq!(detector.on_packet(now, 5001, true), Arrival::Duplicate);
        assert_eq!(detector.on_packet(now, 5002, true), Arrival::Repaired);
        assert_eq!(detector.on_packet(now, 5000 - 1024, false), Arrival::TooOld);
        assert_eq!(detector.missing(), 0);
        assert_eq!(detector.counts().reordered, 2);
    }

    #[test]
    fn asks_after_the_reorder_allowance_or_two_newer_packets_and_then_once_a_round_trip() {
        let start = Instant::now();
        let mut detector = LossDetector::video();
        detector.on_packet(start, 65_533, false);
        detector.on_packet(start, 65_538, false);
        assert!(nacks(&mut detector, start).is_empty());
        assert_eq!(detector.poll_timeout(), Some(start + ms(10)));
        detector.on_packet(start + ms(2), 65_539, false);
        assert_eq!(nacks(&mut detector, start + ms(2)), [65_534, 65_535, 0, 1]);
        detector.on_packet(start + ms(60), 65_536, true);
        assert!(nacks(&mut detector, start + ms(76)).is_empty());
        assert_eq!(nacks(&mut detector, start + ms(77)), [65_534, 65_535, 1]);

        let mut requests = 0;
        while let Some(at) = detector.poll_timeout() {
            requests += nacks(&mut detector, at).len();
        }
        assert_eq!(requests, 3 * 8, "10 tries for each of the three that never came");
        assert_eq!(
            detector.counts(),
            LossCounts { lost: 4, requested: 31, repaired: 1, given_up: 3, reordered: 0 }
        );
    }

    #[test]
    fn a_key_frame_and_age_end_the_requests() {
        let start = Instant::now();
        let mut detector = LossDetector::video();
        for seq in [10, 20, 30] {
            detector.on_packet(start, seq, false);
        }
        nacks(&mut detector, start);
        detector.on_key_frame(20);
        assert_eq!(detector.missing(), 9);
        assert_eq!(detector.counts().given_up, 9);
        let mut out = Vec::new();
        detector.poll_nacks(start + ms(1000), RTT, &mut out);
        assert!(out.is_empty());
        assert_eq!((detector.missing(), detector.poll_timeout()), (0, None));
    }

    #[test]
    fn a_jump_forgets_all_and_needs_a_key_frame_once() {
        let now = Instant::now();
        let mut detector = LossDetector::video();
        detector.on_packet(now, 10, false);
        detector.on_packet(now, 12, false);
        detector.on_packet(now, 12 + 600, false);
        assert!(detector.take_needs_key_frame());
        assert!(!detector.take_needs_key_frame());
        assert_eq!((detector.missing(), detector.poll_timeout()), (0, None));
        detector.on_packet(now, 12 + 600 + 70_000, false);
        assert!(detector.take_needs_key_frame());
        assert_eq!(detector.missing(), 0);
    }

    /// A video stream of 300 packets a second over a network that reorders and, in the first half, loses packets and
    /// repairs.
    fn call(seed: u64, loss: f64, reorder: f64, seconds: u64) -> (LossDetector, Vec<u64>) {
        let mut rng = StdRng::seed_from_u64(seed);
        let start = Instant::now();
        let mut detector = LossDetector::video();
        let mut network: BTreeMap<(Duration, u64), bool> = BTreeMap::new();
        let mut requests_by_second = vec![0; seconds as usize + 5];
        for (at, seq) in (0..300 * seconds).map(|n| (Duration::from_micros(n * 3_333), 1000 + n)) {
            let lossy = at > Duration::ZERO && at < Duration::from_secs(seconds / 2);
            if !lossy || !rng.random_bool(loss) {
                let late = if at > Duration::ZERO && rng.random_bool(reorder) {
                    ms(rng.random_range(5..25))
                } else {
                    Duration::ZERO
                };
                network.insert((at + late, seq), false);
            }
        }
        let mut seqs = std::collections::BTreeSet::new();
        for step in 0..(seconds + 4) * 1000 {
            let now = ms(step);
            while let Some((&(at, seq), &repaired)) = network.first_key_value().filter(|(k, _)| k.0 <= now) {
                network.remove(&(at, seq));
                detector.on_packet(start + at, seq, repaired);
                seqs.insert(seq);
            }
            if detector.poll_timeout().is_some_and(|at| at <= start + now) {
                for low in nacks(&mut detector, start + now) {
                    requests_by_second[(step / 1000) as usize] += 1;
                    let highest = *seqs.last().expect("a gap has an end");
                    let seq = highest - u64::from((highest as u16).wrapping_sub(low));
                    if !rng.random_bool(loss) {
                        network.insert((now + RTT, seq), true);
                    }
                }
            }
        }
        assert_eq!(seqs.len() as u64, 300 * seconds - detector.counts().given_up, "seed {seed}");
        (detector, requests_by_second)
    }

    #[test]
    fn ten_percent_loss_is_repaired_and_requests_stop_with_it() {
        for seed in 0..4 {
            let (detector, requests) = call(seed, 0.1, 0.0, 20);
            let counts = detector.counts();
            assert!(counts.lost > 250, "{counts:?}");
            assert!(counts.given_up <= 1, "{counts:?}");
            assert!(counts.requested < counts.lost * 13 / 10, "about 1.11 requests for each: {counts:?}");
            assert!(requests[..10].iter().all(|&n| n > 5), "{requests:?}");
            assert!(requests[12..19].iter().all(|&n| n == 0), "{requests:?}");
            assert_eq!(detector.missing(), 0);
            assert_eq!(detector.poll_timeout(), None);
        }
    }

    #[test]
    fn learns_reordering_instead_of_asking_for_what_is_only_late() {
        let (detector, requests) = call(9, 0.0, 0.05, 20);
        let counts = detector.counts();
        assert!(counts.reordered > 200, "{counts:?}");
        assert_eq!(counts.given_up, 0);
        let needless: u64 = requests[2..].iter().sum();
        assert!(needless <= counts.reordered / 20, "{requests:?}");
    }

    #[test]
    fn random_numbers_keep_it_bounded() {
        let mut rng = StdRng::seed_from_u64(5);
        let mut now = Instant::now();
        let mut detector = LossDetector::audio();
        let mut out = Vec::new();
        let mut seq = 1_000_000_u64;
        for _ in 0..50_000 {
            seq = match rng.random_range(0..50) {
                0 => seq + rng.random_range(0..3_000),
                1 => seq - rng.random_range(0..3_000),
                _ => seq + rng.random_range(0..4),
            };
            detector.on_packet(now, seq, false);
            if rng.random_bool(0.01) {
                detector.on_key_frame(seq);
            }
            out.clear();
            detector.poll_nacks(now, RTT, &mut out);
            assert!(out.len() <= MAX_MISSING && detector.missing() <= MAX_MISSING);
            assert_eq!(detector.missing() > 0, detector.poll_timeout().is_some());
            now += Duration::from_micros(rng.random_range(0..20_000));
        }
    }
}
