//! Whether the sender sends clearly less than it may: then neither a quiet network nor a low delivered rate proves anything
//! (libwebrtc's idea of the application-limited region).

use super::Micros;

/// A budget that fills at a part of the estimate and is spent by what is sent.
#[derive(Debug, Default)]
pub(super) struct ApplicationLimit {
    /// In bits, between minus and plus [`WINDOW`] seconds of the rate.
    budget: f64,
    updated: Micros,
    limited: bool,
}

/// Sending less than this share of the estimate counts as limited.
const SHARE: f64 = 0.65;
/// How much of the past counts, in seconds.
const WINDOW: f64 = 0.5;
/// Limited from this part of a full budget on, and not any more below the other.
const BEGIN: f64 = 0.8;
const END: f64 = 0.5;

impl ApplicationLimit {
    /// So many bytes were sent.
    pub fn on_sent(&mut self, bytes: u32) {
        self.budget -= f64::from(bytes) * 8.0;
    }

    /// Time has passed with an estimate of `rate` bits a second.
    pub fn update(&mut self, now: Micros, rate: f64) {
        let seconds = (now - self.updated).max(0) as f64 / 1e6;
        self.updated = now;
        let full = rate * SHARE * WINDOW;
        self.budget = (self.budget + rate * SHARE * seconds).clamp(-full, full);
        if self.budget > full * BEGIN {
            self.limited = true;
        } else if self.budget < full * END {
            self.limited = false;
        }
    }

    /// Whether less is sent than could be.
    pub fn is_limited(&self) -> bool {
        self.limited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_estimate_is_limited_and_most_of_it_is_not() {
        let mut limit = ApplicationLimit::default();
        let mut run = |from: i64, bytes: u32| {
            for n in from..from + 200 {
                limit.on_sent(bytes);
                limit.update(n * 10_000, 1e6);
            }
            limit.is_limited()
        };
        assert!(run(0, 600));
        assert!(!run(200, 1100));
        assert!(!run(400, 850), "just above the share");
        assert!(run(600, 0));
    }
}
