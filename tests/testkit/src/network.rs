//! Links of a virtual network: each datagram is lost, or arrives once or twice at moments that a seed decides.

use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

/// What a link does to datagrams. The default is perfect but for 10 ms of delay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkConfig {
    /// Every datagram takes at least so long.
    pub delay: Duration,
    /// And up to so much longer, evenly distributed. Jitter alone does not reorder.
    pub jitter: Duration,
    /// The share of datagrams that are lost, 0.0 to 1.0.
    pub loss: f64,
    /// The share that arrives twice.
    pub duplication: f64,
    /// The share that takes [`LinkConfig::REORDER_DELAY`] longer, so that later ones overtake it.
    pub reordering: f64,
    /// Bits per second; `None` for no limit.
    pub rate: Option<u64>,
    /// How long a datagram may wait for its turn on a link with a rate; beyond, it is lost.
    pub queue: Duration,
    /// Nothing gets through.
    pub blackout: bool,
}

impl LinkConfig {
    /// How much longer a reordered datagram takes.
    pub const REORDER_DELAY: Duration = Duration::from_millis(15);

    /// A link that loses this share and is perfect otherwise.
    pub fn lossy(loss: f64) -> Self {
        Self { loss, ..Self::default() }
    }

    /// A link with this delay.
    pub fn slow(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(10),
            jitter: Duration::ZERO,
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            rate: None,
            queue: Duration::from_millis(200),
            blackout: false,
        }
    }
}

/// Bytes of IP and UDP headers, which take their share of a rate.
const OVERHEAD: usize = 28;

/// One direction between two hosts.
#[derive(Debug)]
pub struct Link {
    /// What it does now; may change at any time.
    pub config: LinkConfig,
    /// Datagrams that were put on it.
    pub sent: u64,
    /// Datagrams that it lost.
    pub lost: u64,
    rng: StdRng,
    /// When the last datagram will have left a link with a rate.
    free_at: Option<Instant>,
    /// When the last one in order arrives.
    last_arrival: Option<Instant>,
}

impl Link {
    /// A link; `rng` decides what happens to each datagram.
    pub fn new(config: LinkConfig, rng: StdRng) -> Self {
        Self { config, sent: 0, lost: 0, rng, free_at: None, last_arrival: None }
    }

    /// Puts a datagram of `len` bytes on the link. Returns when it arrives, and when its duplicate does.
    pub fn send(&mut self, now: Instant, len: usize) -> [Option<Instant>; 2] {
        self.sent += 1;
        let Some(left) = self.leave(now, len) else {
            self.lost += 1;
            return [None, None];
        };
        let config = self.config;
        let mut arrival = left + config.delay + self.up_to(config.jitter);
        if self.happens(config.reordering) {
            arrival += LinkConfig::REORDER_DELAY;
        } else {
            arrival = self.last_arrival.map_or(arrival, |last| last.max(arrival));
            self.last_arrival = Some(arrival);
        }
        let duplicate = self.happens(config.duplication).then(|| arrival + self.up_to(config.delay));
        [Some(arrival), duplicate]
    }

    /// When the datagram has left; `None` when it is lost.
    fn leave(&mut self, now: Instant, len: usize) -> Option<Instant> {
        if self.config.blackout || self.happens(self.config.loss) {
            return None;
        }
        let Some(rate) = self.config.rate else { return Some(now) };
        let starts = self.free_at.map_or(now, |free| free.max(now));
        if starts > now + self.config.queue {
            return None;
        }
        let bits = ((len + OVERHEAD) * 8) as u64;
        let left = starts + Duration::from_nanos(bits * 1_000_000_000 / rate.max(1));
        self.free_at = Some(left);
        Some(left)
    }

    fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && self.rng.random_bool(share.min(1.0))
    }

    fn up_to(&mut self, longest: Duration) -> Duration {
        longest.mul_f64(self.rng.random())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn link(config: LinkConfig) -> Link {
        Link::new(config, StdRng::seed_from_u64(1))
    }

    #[test]
    fn a_perfect_link_only_delays() {
        let mut link = link(LinkConfig::default());
        let now = Instant::now();
        assert_eq!(link.send(now, 1200), [Some(now + Duration::from_millis(10)), None]);
    }

    #[test]
    fn losses_and_duplicates_are_as_many_as_asked_for() {
        let mut link = link(LinkConfig { loss: 0.1, duplication: 0.2, ..LinkConfig::default() });
        let now = Instant::now();
        let mut twice = 0;
        for _ in 0..10_000 {
            twice += u32::from(link.send(now, 100)[1].is_some());
        }
        assert!((900..1100).contains(&link.lost), "{}", link.lost);
        assert!((1650..1950).contains(&twice), "{twice}");
    }

    #[test]
    fn jitter_keeps_the_order_and_reordering_does_not() {
        let now = Instant::now();
        let arrivals = |config| {
            let mut link = link(config);
            let send = |i| link.send(now + Duration::from_millis(i), 100)[0].unwrap();
            (0..200).map(send).collect::<Vec<_>>()
        };
        let jitter = LinkConfig { jitter: Duration::from_millis(30), ..LinkConfig::default() };
        assert!(arrivals(jitter).is_sorted());
        assert!(!arrivals(LinkConfig { reordering: 0.05, ..jitter }).is_sorted());
    }

    #[test]
    fn a_rate_spaces_datagrams_and_its_queue_is_bounded() {
        let mut link = link(LinkConfig { rate: Some(1_000_000), ..LinkConfig::default() });
        let now = Instant::now();
        let arrivals: Vec<_> = (0..100).filter_map(|_| link.send(now, 1222)[0]).collect();
        assert_eq!(arrivals[1] - arrivals[0], Duration::from_millis(10));
        // 200 ms of queue and the datagram on the wire.
        assert_eq!(arrivals.len(), 21);
        assert_eq!(link.lost, 79);
    }
}
