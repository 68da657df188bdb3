//! One direction between two hosts: each packet is lost, or arrives once or twice at moments that a seed decides.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;
use serde::Serialize;

use super::chance::{bell, happens};
use super::{Bottleneck, Bursts, Capacity, QueueConfig};

/// What a link does to packets. The default is perfect but for 10 ms of delay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkConfig {
    /// Every packet takes at least so long.
    pub delay: Duration,
    /// And up to so much longer: a bell about the middle, cut off at three standard deviations (RFC 8868 section
    /// 4.4). Jitter alone does not reorder.
    pub jitter: Duration,
    /// Jitter does reorder.
    pub jitter_reorders: bool,
    /// The share of packets that are lost, 0.0 to 1.0.
    pub loss: f64,
    /// Loss in bursts, beside the other.
    pub bursts: Option<Bursts>,
    /// The share that arrives twice.
    pub duplication: f64,
    /// The share that takes [`LinkConfig::REORDER_DELAY`] longer, so that later ones overtake it.
    pub reordering: f64,
    /// Bits per second; `None` for no limit.
    pub rate: Option<u64>,
    /// What waits on a link with a rate.
    pub queue: QueueConfig,
    /// Nothing gets through.
    pub blackout: bool,
}

impl LinkConfig {
    /// How much longer a reordered packet takes.
    pub const REORDER_DELAY: Duration = Duration::from_millis(15);

    /// A link that does nothing at all.
    pub fn perfect() -> Self {
        Self::slow(Duration::ZERO)
    }

    /// A link that loses this share and is perfect otherwise, but for the delay.
    pub fn lossy(loss: f64) -> Self {
        Self { loss, ..Self::default() }
    }

    /// A link with this delay.
    pub fn slow(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// A link with so many bits per second.
    pub fn narrow(rate: u64) -> Self {
        Self { rate: Some(rate), ..Self::default() }
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(10),
            jitter: Duration::ZERO,
            jitter_reorders: false,
            loss: 0.0,
            bursts: None,
            duplication: 0.0,
            reordering: 0.0,
            rate: None,
            queue: QueueConfig::Time(Duration::from_millis(200)),
            blackout: false,
        }
    }
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
    /// Packets that the queue dropped.
    pub overflow: u64,
}

/// One direction between two hosts.
#[derive(Debug)]
pub struct Link<T> {
    /// What it does now; may change at any time.
    pub config: LinkConfig,
    rng: StdRng,
    counters: LinkCounters,
    /// Of a link that has, or had, a rate.
    bottleneck: Option<Bottleneck<T>>,
    /// The rate that the bottleneck was told last.
    rate: Option<u64>,
    /// The chain of [`Bursts`] is in its bad state.
    bad: bool,
    under_way: BinaryHeap<Reverse<UnderWay<T>>>,
    next_order: u64,
    /// When the last one in order arrives.
    last_arrival: Option<Instant>,
}

#[derive(Debug)]
struct UnderWay<T> {
    at: Instant,
    order: u64,
    item: T,
}

impl<T: Clone> Link<T> {
    /// A link; `rng` decides what happens to each packet.
    pub fn new(config: LinkConfig, rng: StdRng) -> Self {
        Self {
            config,
            rng,
            counters: LinkCounters::default(),
            bottleneck: None,
            rate: None,
            bad: false,
            under_way: BinaryHeap::new(),
            next_order: 0,
            last_arrival: None,
        }
    }

    /// What it has done so far.
    pub fn counters(&self) -> LinkCounters {
        let overflow = self.bottleneck.as_ref().map_or(0, Bottleneck::dropped);
        LinkCounters { overflow, ..self.counters }
    }

    /// Packets that are on it, without those that wait for its rate.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Puts a packet of so many bytes on the link.
    pub fn handle_packet(&mut self, now: Instant, bytes: usize, item: T) {
        self.advance(now);
        if self.config.blackout {
            self.counters.blackout += 1;
            return;
        }
        match &mut self.bottleneck {
            Some(bottleneck) if self.rate.is_some() || bottleneck.poll_timeout().is_some() => {
                bottleneck.handle_packet(now, bytes, item);
                self.advance(now);
            }
            _ => self.depart(now, bytes, item),
        }
    }

    /// When something happens next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let arrives = self.under_way.peek().map(|Reverse(next)| next.at);
        let departs = self.bottleneck.as_ref().and_then(Bottleneck::poll_timeout);
        arrives.into_iter().chain(departs).min()
    }

    /// A packet that has arrived by now, and when it did.
    pub fn poll_packet(&mut self, now: Instant) -> Option<(Instant, T)> {
        self.advance(now);
        self.under_way.peek().filter(|Reverse(next)| next.at <= now)?;
        self.under_way.pop().map(|Reverse(next)| (next.at, next.item))
    }

    /// Lets what has passed the bottleneck go on.
    fn advance(&mut self, now: Instant) {
        self.follow_config(now);
        while let Some(passed) = self.bottleneck.as_mut().and_then(|bottleneck| bottleneck.poll_packet(now)) {
            self.depart(passed.at, passed.bytes, passed.item);
        }
    }

    /// The rate and the queue are as configured. Without a rate, what still waits leaves quickly.
    fn follow_config(&mut self, now: Instant) {
        if let Some(bottleneck) = &mut self.bottleneck {
            bottleneck.set_queue(self.config.queue);
        }
        if self.rate == self.config.rate {
            return;
        }
        self.rate = self.config.rate;
        let capacity = Capacity::constant(self.rate.unwrap_or(u64::from(u32::MAX)));
        match &mut self.bottleneck {
            Some(bottleneck) => bottleneck.set_capacity(now, capacity),
            none => *none = Some(Bottleneck::new(now, capacity, self.config.queue)),
        }
    }

    /// A packet has left and is on its way.
    fn depart(&mut self, left: Instant, bytes: usize, item: T) {
        let config = self.config;
        let unlucky = happens(config.loss, &mut self.rng);
        let in_burst = config.bursts.is_some_and(|bursts| bursts.lose(&mut self.bad, &mut self.rng));
        if unlucky || in_burst {
            self.counters.lost += 1;
            return;
        }
        self.counters.passed += 1;
        self.counters.bytes += bytes as u64;
        let mut arrival = left + config.delay + self.jitter();
        if happens(config.reordering, &mut self.rng) {
            arrival += LinkConfig::REORDER_DELAY;
        } else if !config.jitter_reorders {
            arrival = self.last_arrival.map_or(arrival, |last| last.max(arrival));
            self.last_arrival = Some(arrival);
        }
        if happens(config.duplication, &mut self.rng) {
            let later = config.delay.mul_f64(self.rng.random());
            self.plan(arrival + later, item.clone());
        }
        self.plan(arrival, item);
    }

    fn jitter(&mut self) -> Duration {
        if self.config.jitter.is_zero() {
            return Duration::ZERO;
        }
        self.config.jitter.mul_f64((0.5 + bell(&mut self.rng) / 6.0).clamp(0.0, 1.0))
    }

    fn plan(&mut self, at: Instant, item: T) {
        self.next_order += 1;
        self.under_way.push(Reverse(UnderWay { at, order: self.next_order, item }));
    }
}

impl<T> PartialEq for UnderWay<T> {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl<T> Eq for UnderWay<T> {}

impl<T> PartialOrd for UnderWay<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for UnderWay<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn link(config: LinkConfig, seed: u64) -> Link<u32> {
        Link::new(config, StdRng::seed_from_u64(seed))
    }

    /// Sends packets of 1000 bytes, one each `gap`. Returns what arrived and when, from the start.
    fn carry(link: &mut Link<u32>, gap: Duration, count: u32) -> Vec<(Duration, u32)> {
        let start = Instant::now();
        let mut arrived = Vec::new();
        for index in 0..count {
            link.handle_packet(start + gap * index, 1000, index);
        }
        while let Some(at) = link.poll_timeout() {
            arrived.extend(link.poll_packet(at).map(|(at, item)| (at - start, item)));
        }
        arrived
    }

    #[test]
    fn a_perfect_link_passes_everything_at_once() {
        let mut link = link(LinkConfig::perfect(), 1);
        let arrived = carry(&mut link, 10 * MILLI, 50);
        assert!(
            arrived.iter().zip(0..).all(|((at, item), index)| *at == 10 * MILLI * index && *item == index)
        );
        assert_eq!(link.counters(), LinkCounters { passed: 50, bytes: 50_000, ..LinkCounters::default() });
    }

    #[test]
    fn losses_and_duplicates_are_as_many_as_asked_for_and_follow_from_the_seed() {
        let config = LinkConfig { loss: 0.1, duplication: 0.2, ..LinkConfig::default() };
        let mut first = link(config, 7);
        let arrived = carry(&mut first, MILLI, 10_000);
        let lost = first.counters().lost;
        assert!((900..1100).contains(&lost), "{lost}");
        let twice = arrived.len() as u64 - (10_000 - lost);
        assert!((1650..1950).contains(&twice), "{twice}");
        assert_eq!(arrived, carry(&mut link(config, 7), MILLI, 10_000));
        assert_ne!(arrived, carry(&mut link(config, 8), MILLI, 10_000));
    }

    #[test]
    fn jitter_keeps_the_order_unless_told_otherwise_and_reordering_does_not() {
        let sorted =
            |config: LinkConfig| carry(&mut link(config, 3), 2 * MILLI, 500).is_sorted_by_key(|a| a.1);
        let jitter = LinkConfig { jitter: 30 * MILLI, ..LinkConfig::default() };
        assert!(sorted(jitter));
        assert!(!sorted(LinkConfig { jitter_reorders: true, ..jitter }));
        assert!(!sorted(LinkConfig { reordering: 0.05, ..jitter }));
    }

    #[test]
    fn jitter_is_within_its_bounds_and_uses_them() {
        let config = LinkConfig { delay: 40 * MILLI, jitter: 30 * MILLI, ..LinkConfig::default() };
        let arrived = carry(&mut link(config, 3), 40 * MILLI, 1000);
        let delays: Vec<_> =
            arrived.iter().map(|(at, index)| at.saturating_sub(40 * MILLI * *index)).collect();
        let (least, most) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
        assert!(*least >= 40 * MILLI && *least < 45 * MILLI, "{least:?}");
        assert!(*most <= 70 * MILLI && *most > 65 * MILLI, "{most:?}");
    }

    #[test]
    fn a_rate_may_come_change_and_go() {
        let start = Instant::now();
        let mut link = link(LinkConfig { rate: Some(1_000_000), ..LinkConfig::perfect() }, 1);
        for index in 0..100 {
            link.handle_packet(start, 1222, index);
        }
        assert_eq!(link.counters().overflow, 79);
        let next = |link: &mut Link<u32>| {
            let at = link.poll_timeout().expect("more is to come");
            link.poll_packet(at).map(|(at, item)| (at - start, item))
        };
        assert_eq!(next(&mut link), Some((10 * MILLI, 0)));
        link.config.rate = Some(100_000);
        assert_eq!(link.poll_packet(start + 10 * MILLI), None);
        assert_eq!(next(&mut link), Some((110 * MILLI, 1)));
        link.config.rate = None;
        link.handle_packet(start + 120 * MILLI, 1222, 100);
        let rest: Vec<u32> = std::iter::from_fn(|| next_item(&mut link)).collect();
        assert_eq!(rest, [(2..21).collect::<Vec<_>>(), vec![100]].concat());
    }

    fn next_item(link: &mut Link<u32>) -> Option<u32> {
        let at = link.poll_timeout()?;
        link.poll_packet(at).map(|(_, item)| item)
    }

    #[test]
    fn a_blackout_swallows_everything_until_it_ends() {
        let mut link = link(LinkConfig { blackout: true, ..LinkConfig::default() }, 1);
        assert!(carry(&mut link, MILLI, 10).is_empty());
        link.config.blackout = false;
        assert_eq!(carry(&mut link, MILLI, 10).len(), 10);
        assert_eq!(link.counters().blackout, 10);
    }
}
