//! The round-trip time from report blocks (RFC 3550 section 6.4.1).

use std::time::Duration;

/// A smoothed round-trip time.
#[derive(Clone, Copy, Debug, Default)]
pub struct RttEstimator {
    smoothed: Option<Duration>,
}

/// Assumed before there is a sample.
const DEFAULT: Duration = Duration::from_millis(100);

/// A longer one is a mistake of the peer.
const MAX: Duration = Duration::from_secs(10);

/// Clocks are read with limited precision: a time slightly below zero is a very short one.
const TOLERANCE: i32 = 65_536 / 50;

impl RttEstimator {
    /// A report block came at the time `arrival` of the clock of our sender reports. All three are in 1/65536 s:
    /// the middle 32 bits of NTP times, and a delay. Reports without a sender report, and impossible ones, are ignored.
    pub fn on_report(&mut self, arrival: u32, lsr: u32, dlsr: u32) {
        if lsr == 0 {
            return;
        }
        let ticks = arrival.wrapping_sub(lsr).wrapping_sub(dlsr) as i32;
        if ticks >= -TOLERANCE {
            let nanos = u64::from(ticks.max(1).unsigned_abs()) * 1_000_000_000 / 65_536;
            self.on_sample(Duration::from_nanos(nanos));
        }
    }

    /// A round trip was measured in another way. One above 10 s is ignored.
    pub fn on_sample(&mut self, sample: Duration) {
        if sample > MAX {
            return;
        }
        self.smoothed = Some(self.smoothed.map_or(sample, |s| (s * 3 + sample) / 4));
    }

    /// Smoothed; `None` before the first sample.
    pub fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// Smoothed, or 100 ms before the first sample.
    pub fn or_default(&self) -> Duration {
        self.smoothed.unwrap_or(DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u32 = 65_536;

    #[test]
    fn subtracts_the_time_at_the_peer_and_smooths() {
        let mut rtt = RttEstimator::default();
        assert_eq!(rtt.or_default(), Duration::from_millis(100));
        let sent = u32::MAX - SECOND;
        rtt.on_report(sent.wrapping_add(2 * SECOND + SECOND / 8), sent, 2 * SECOND);
        assert_eq!(rtt.smoothed(), Some(Duration::from_millis(125)));
        for _ in 0..20 {
            rtt.on_report(sent.wrapping_add(SECOND + SECOND / 16), sent, SECOND);
        }
        let smoothed = rtt.smoothed().expect("samples came");
        assert!((62_500..63_000).contains(&smoothed.as_micros()), "{smoothed:?}");
    }

    #[test]
    fn ignores_what_cannot_be() {
        let mut rtt = RttEstimator::default();
        rtt.on_report(5 * SECOND, 0, 0);
        rtt.on_report(5 * SECOND, 4 * SECOND, 2 * SECOND);
        rtt.on_report(50 * SECOND, SECOND, SECOND);
        rtt.on_report(0, u32::MAX / 2, u32::MAX);
        assert_eq!(rtt.smoothed(), None);
        rtt.on_report(5 * SECOND, 4 * SECOND, SECOND + 100);
        assert!(rtt.smoothed().is_some_and(|r| r < Duration::from_millis(1)), "on a local network");
    }
}
