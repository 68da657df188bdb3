//! One direction of an impaired network path: decides for each packet whether and when it arrives.
//!
//! No sockets and no clock: `now` comes in, and the same seed makes the same decisions.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

/// How much may wait for a slow link. A packet that would wait longer is dropped, as a full router queue does.
const LONGEST_QUEUE: Duration = Duration::from_millis(500);

/// What a link does to packets. The default does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairment {
    /// The share of packets that are lost, 0 to 1, each by its own throw of the dice.
    pub loss: f64,
    /// How long every packet is under way.
    pub delay: Duration,
    /// Up to so much is added to the delay. Packets are never reordered by it.
    pub jitter: Duration,
    /// Kilobits per second that fit through; 0: no limit.
    pub rate_kbps: u32,
    /// Nothing arrives at all.
    pub blackout: bool,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It arrives then.
    Arrives(Instant),
    /// It is lost.
    Lost(LossCause),
}

/// Why a packet is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossCause {
    /// By chance.
    Dice,
    /// The link carries nothing now.
    Blackout,
    /// The queue before the slow link is full.
    Queue,
}

/// What a link has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LinkCounters {
    /// Packets that went through.
    pub passed: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Packets lost by chance.
    pub lost: u64,
    /// Packets lost in a blackout.
    pub blackout: u64,
    /// Packets lost to a full queue.
    pub overflow: u64,
}

/// One direction of a path.
#[derive(Debug)]
pub struct Link {
    dice: StdRng,
    /// When the slow link has sent what it took.
    free_at: Option<Instant>,
    /// When the packet before arrives; none overtakes it.
    last_arrival: Option<Instant>,
    counters: LinkCounters,
}

impl Link {
    /// A link whose dice follow from the seed.
    pub fn new(seed: u64) -> Self {
        Self {
            dice: StdRng::seed_from_u64(seed),
            free_at: None,
            last_arrival: None,
            counters: LinkCounters::default(),
        }
    }

    /// Decides what becomes of a packet of `bytes` sent at `now`.
    pub fn handle_packet(&mut self, impairment: &Impairment, now: Instant, bytes: usize) -> Verdict {
        let verdict = self.judge(impairment, now, bytes);
        match verdict {
            Verdict::Arrives(_) => {
                self.counters.passed += 1;
                self.counters.bytes += bytes as u64;
            }
            Verdict::Lost(LossCause::Dice) => self.counters.lost += 1,
            Verdict::Lost(LossCause::Blackout) => self.counters.blackout += 1,
            Verdict::Lost(LossCause::Queue) => self.counters.overflow += 1,
        }
        verdict
    }

    /// What this link has done so far.
    pub fn counters(&self) -> LinkCounters {
        self.counters
    }

    fn judge(&mut self, impairment: &Impairment, now: Instant, bytes: usize) -> Verdict {
        // Thrown for every packet, so that a change of one setting leaves the other decisions as they were.
        let chance: f64 = self.dice.random();
        let late: f64 = self.dice.random();
        if impairment.blackout {
            return Verdict::Lost(LossCause::Blackout);
        }
        if chance < impairment.loss {
            return Verdict::Lost(LossCause::Dice);
        }
        let mut sent_at = now;
        if impairment.rate_kbps > 0 {
            let start = self.free_at.map_or(now, |free| free.max(now));
            if start.saturating_duration_since(now) > LONGEST_QUEUE {
                return Verdict::Lost(LossCause::Queue);
            }
            let seconds = bytes as f64 * 8.0 / (f64::from(impairment.rate_kbps) * 1000.0);
            sent_at = start + Duration::from_secs_f64(seconds);
            self.free_at = Some(sent_at);
        }
        let arrival = sent_at + impairment.delay + impairment.jitter.mul_f64(late);
        let arrival = self.last_arrival.map_or(arrival, |last| last.max(arrival));
        self.last_arrival = Some(arrival);
        Verdict::Arrives(arrival)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(
        link: &mut Link,
        impairment: &Impairment,
        start: Instant,
        count: u32,
    ) -> Vec<Option<Duration>> {
        let send = |index: u32| {
            let now = start + Duration::from_millis(10) * index;
            match link.handle_packet(impairment, now, 1000) {
                Verdict::Arrives(at) => Some(at.saturating_duration_since(start)),
                Verdict::Lost(_) => None,
            }
        };
        (0..count).map(send).collect()
    }

    #[test]
    fn an_unimpaired_link_passes_everything_at_once() {
        let start = Instant::now();
        let mut link = Link::new(1);
        let arrived = arrivals(&mut link, &Impairment::default(), start, 50);
        for (index, at) in arrived.iter().enumerate() {
            assert_eq!(*at, Some(Duration::from_millis(10 * index as u64)));
        }
        assert_eq!(link.counters(), LinkCounters { passed: 50, bytes: 50_000, ..LinkCounters::default() });
    }

    #[test]
    fn loses_the_share_that_was_asked_for_and_the_same_packets_for_the_same_seed() {
        let start = Instant::now();
        let impairment = Impairment { loss: 0.1, ..Impairment::default() };
        let first = arrivals(&mut Link::new(7), &impairment, start, 10_000);
        let second = arrivals(&mut Link::new(7), &impairment, start, 10_000);
        let other = arrivals(&mut Link::new(8), &impairment, start, 10_000);
        assert_eq!(first, second);
        assert_ne!(first, other);
        let lost = first.iter().filter(|at| at.is_none()).count();
        assert!((900..1100).contains(&lost), "{lost} of 10000 lost");
    }

    #[test]
    fn delays_and_jitters_without_reordering() {
        let start = Instant::now();
        let impairment = Impairment {
            delay: Duration::from_millis(40),
            jitter: Duration::from_millis(30),
            ..Impairment::default()
        };
        let arrived: Vec<_> =
            arrivals(&mut Link::new(3), &impairment, start, 500).into_iter().flatten().collect();
        assert_eq!(arrived.len(), 500);
        assert!(arrived.is_sorted());
        let delays = arrived
            .iter()
            .enumerate()
            .map(|(index, at)| at.saturating_sub(Duration::from_millis(10 * index as u64)));
        let (least, most) = delays.fold((Duration::MAX, Duration::ZERO), |(a, b), d| (a.min(d), b.max(d)));
        assert!(
            least >= Duration::from_millis(40) && most <= Duration::from_millis(70),
            "{least:?} to {most:?}"
        );
        assert!(most > least + Duration::from_millis(15), "no jitter: {least:?} to {most:?}");
    }

    #[test]
    fn a_slow_link_spreads_packets_and_drops_what_would_wait_too_long() {
        let start = Instant::now();
        let impairment = Impairment { rate_kbps: 80, ..Impairment::default() };
        let mut link = Link::new(1);
        let verdicts: Vec<_> = (0..20).map(|_| link.handle_packet(&impairment, start, 1000)).collect();
        // 1000 bytes take 100 ms at 80 kbit/s.
        assert_eq!(verdicts[0], Verdict::Arrives(start + Duration::from_millis(100)));
        assert_eq!(verdicts[4], Verdict::Arrives(start + Duration::from_millis(500)));
        assert_eq!(verdicts[5], Verdict::Arrives(start + Duration::from_millis(600)));
        assert!(verdicts[6..].iter().all(|v| *v == Verdict::Lost(LossCause::Queue)));
        let later = start + Duration::from_secs(1);
        assert_eq!(
            link.handle_packet(&impairment, later, 1000),
            Verdict::Arrives(later + Duration::from_millis(100))
        );
        assert_eq!(link.counters().overflow, 14);
    }

    #[test]
    fn a_blackout_swallows_everything_until_it_ends() {
        let start = Instant::now();
        let mut link = Link::new(1);
        let dark = Impairment { blackout: true, ..Impairment::default() };
        assert!(arrivals(&mut link, &dark, start, 10).iter().all(Option::is_none));
        assert!(arrivals(&mut link, &Impairment::default(), start, 10).iter().all(Option::is_some));
        assert_eq!(link.counters().blackout, 10);
    }
}
