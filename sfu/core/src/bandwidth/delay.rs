//! How far the one-way delay is above its recent minimum.
//!
//! A queue delays every packet, jitter only some: the lowest delay of the last packets is compared with the lowest of the
//! last half minute (as LEDBAT does, RFC 6817 section 2.4.2). The two clocks' offset cancels out.

use super::Micros;

/// Follows the delay of a path.
#[derive(Debug, Default)]
pub(super) struct Delay {
    base: Minimum<3>,
    current: Minimum<2>,
}

/// The base forgets after 20 to 30 s: clocks drift by a few ms until then, and another path may be longer.
const BASE: Micros = 10_000_000;
/// What is current is 100 to 200 ms old.
const CURRENT: Micros = 100_000;

impl Delay {
    /// A packet came.
    pub fn on_packet(&mut self, sent: Micros, arrival: Micros) {
        let transit = arrival - sent;
        self.base.add(arrival.div_euclid(BASE), transit);
        self.current.add(arrival.div_euclid(CURRENT), transit);
    }

    /// The time spent in queues; 0 before the first packet.
    pub fn queuing(&self) -> Micros {
        self.current.get().zip(self.base.get()).map_or(0, |(current, base)| (current - base).max(0))
    }
}

/// The lowest of the last `N` periods, one of which is still going on.
#[derive(Debug)]
struct Minimum<const N: usize> {
    period: i64,
    /// The newest first.
    lowest: [Option<Micros>; N],
}

impl<const N: usize> Default for Minimum<N> {
    fn default() -> Self {
        Self { period: i64::MIN, lowest: [None; N] }
    }
}

impl<const N: usize> Minimum<N> {
    fn add(&mut self, period: i64, value: Micros) {
        for _ in 0..period.saturating_sub(self.period).clamp(0, N as i64) {
            self.lowest.rotate_right(1);
            self.lowest[0] = None;
        }
        self.period = self.period.max(period);
        self.lowest[0] = Some(self.lowest[0].map_or(value, |lowest| lowest.min(value)));
    }

    fn get(&self) -> Option<Micros> {
        self.lowest.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_shows_and_jitter_does_not() {
        let mut delay = Delay::default();
        assert_eq!(delay.queuing(), 0);
        for n in 0..200 {
            let jitter = if n % 3 == 0 { 0 } else { 40_000 };
            delay.on_packet(n * 10_000, n * 10_000 - 77_000_000 + jitter);
            assert_eq!(delay.queuing(), 0);
        }
        for n in 200..240 {
            delay.on_packet(n * 10_000, n * 10_000 - 77_000_000 + 60_000);
        }
        assert_eq!(delay.queuing(), 60_000);
    }

    #[test]
    fn a_longer_path_becomes_the_base_in_time() {
        let mut delay = Delay::default();
        let transit = |n: i64| if n < 100 { 20_000 } else { 90_000 };
        for n in 0..4_000 {
            delay.on_packet(n * 10_000, n * 10_000 + transit(n));
            if n == 1_000 {
                assert_eq!(delay.queuing(), 70_000);
            }
        }
        assert_eq!(delay.queuing(), 0);
    }
}
