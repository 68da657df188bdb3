//! Whether a trend means that more is sent than the path carries, with a threshold that adapts
//! (draft-ietf-rmcat-gcc-02 section 5.4; Carlucci et al. 2016, section IV.C).

use super::{Micros, Usage};

/// Compares trends with the threshold. Without adaption, competing TCP would starve us.
#[derive(Debug)]
pub(super) struct Overuse {
    threshold: f64,
    updated: Option<Micros>,
    /// How long, in ms of sending, and how often in a row the trend was above the threshold.
    over: f64,
    times: u32,
    last_trend: f64,
    usage: Usage,
}

/// In ms: the first threshold and its limits (section 5.4, table 1).
const START: f64 = 12.5;
const MIN: f64 = 6.0;
const MAX: f64 = 600.0;
/// How fast the threshold follows trends above and below it, per ms (section 5.4).
const UP: f64 = 0.0087;
const DOWN: f64 = 0.039;
/// A trend so far above the threshold is a spike and does not move it (section 5.4).
const SPIKE: f64 = 15.0;
/// The trend must stay above the threshold for as long as this, in ms (section 5.4).
const OVERUSE_TIME: f64 = 10.0;

impl Default for Overuse {
    fn default() -> Self {
        Self { threshold: START, updated: None, over: 0.0, times: 0, last_trend: 0.0, usage: Usage::Normal }
    }
}

impl Overuse {
    /// A trend, at the receiver's time `at`; `sent` is how long the sending took that it tells of.
    pub fn on_trend(&mut self, trend: f64, sent: Micros, at: Micros) {
        if trend > self.threshold {
            let sent = sent as f64 / 1000.0;
            // The crossing was somewhere between the two bursts.
            self.over += if self.times == 0 { sent / 2.0 } else { sent };
            self.times += 1;
            if self.over > OVERUSE_TIME && self.times > 1 && trend >= self.last_trend {
                self.usage = Usage::Overuse;
                (self.over, self.times) = (0.0, 0);
            }
        } else {
            (self.over, self.times) = (0.0, 0);
            self.usage = if trend < -self.threshold { Usage::Underuse } else { Usage::Normal };
        }
        self.last_trend = trend;
        self.adapt(trend.abs(), at);
    }

    /// What the last trend has meant.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    fn adapt(&mut self, trend: f64, at: Micros) {
        let ms = (at - self.updated.replace(at).unwrap_or(at)).clamp(0, 100_000) as f64 / 1000.0;
        if trend <= self.threshold + SPIKE {
            let speed = if trend < self.threshold { DOWN } else { UP };
            self.threshold = (self.threshold + speed * (trend - self.threshold) * ms).clamp(MIN, MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trend_has_to_last() {
        let mut overuse = Overuse::default();
        let mut at = 0;
        let usages = [20.0, 0.0, 20.0, 21.0, -30.0].map(|trend| {
            at += 10_000;
            overuse.on_trend(trend, 10_000, at);
            overuse.usage()
        });
        let normal = Usage::Normal;
        assert_eq!(usages, [normal, normal, normal, Usage::Overuse, Usage::Underuse]);
    }

    #[test]
    fn the_threshold_follows_what_is_usual_but_not_spikes() {
        let mut overuse = Overuse::default();
        for n in 0..100 {
            overuse.on_trend(20.0, 1, n * 10_000);
        }
        assert!((17.0..20.0).contains(&overuse.threshold), "{}", overuse.threshold);
        for n in 100..400 {
            overuse.on_trend(0.0, 10_000, n * 10_000);
        }
        assert!(overuse.threshold < 6.1);
        for n in 400..500 {
            overuse.on_trend(100.0, 10_000, n * 10_000);
        }
        assert!(overuse.threshold < 6.1);
        overuse.on_trend(1.0, -1, i64::MAX / 2);
        overuse.on_trend(1.0, -1, 0);
        assert!((MIN..MAX).contains(&overuse.threshold));
    }
}
