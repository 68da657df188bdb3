//! The rate of a client that sends no transport-wide feedback: by the loss of its receiver reports
//! (draft-ietf-rmcat-gcc-02 section 6), below what it tells with REMB (draft-alvestrand-rmcat-remb-03).

use super::Micros;
use super::rate_control::{MAX, MIN};

/// The rate by reports.
#[derive(Debug)]
pub(super) struct ReceiverReports {
    rate: f64,
    remb: Option<(Micros, f64)>,
    loss: f64,
    updated: Option<Micros>,
}

/// More loss than this is congestion, less than the other lets the rate grow (section 6).
const HIGH: f64 = 0.1;
const LOW: f64 = 0.02;
/// A second (section 5.5).
const ETA: f64 = 1.08;
/// Without a proof of more the rate stops at this multiple of what is sent: it must reach the next layer.
const REACH: f64 = 3.0;
/// A REMB holds so long; they come every second.
const REMB_HOLDS: Micros = 10_000_000;
/// Reports in which one interval's loss is counted at most once.
const INTERVAL: Micros = 200_000;

impl ReceiverReports {
    /// Begins at `rate`.
    pub fn new(rate: f64) -> Self {
        Self { rate, remb: None, loss: 0.0, updated: None }
    }

    /// A report came: the share that was lost since the last one, of what was sent at `sent` bits a second.
    pub fn on_loss(&mut self, now: Micros, lost: f64, sent: f64) {
        let elapsed = self.updated.map_or(INTERVAL, |at| now - at);
        if !lost.is_finite() || elapsed < INTERVAL {
            return;
        }
        self.updated = Some(now);
        self.loss = lost.clamp(0.0, 1.0);
        if self.loss > HIGH {
            self.rate = (self.rate * (1.0 - 0.5 * self.loss)).max(MIN);
        } else if self.loss < LOW && self.rate < sent * REACH {
            self.rate = (self.rate * ETA.powf(elapsed.min(1_000_000) as f64 / 1e6)).min(MAX);
        }
    }

    /// The client's own estimate of what it can receive.
    pub fn on_remb(&mut self, now: Micros, bits: f64) {
        let bits = bits.clamp(MIN, MAX);
        self.remb = Some((now, bits));
        if self.loss < LOW {
            self.rate = self.rate.max(bits);
        }
    }

    /// Whether the client has told its own estimate: loss alone says little of a network that nothing was tried on.
    pub fn is_told(&self) -> bool {
        self.remb.is_some()
    }

    /// Bits a second.
    pub fn rate(&self, now: Micros) -> f64 {
        match self.remb {
            Some((at, bits)) if now - at < REMB_HOLDS => self.rate.min(bits),
            _ => self.rate,
        }
    }

    /// The share that was lost, of the last report.
    pub fn loss(&self) -> f64 {
        self.loss
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_lowers_the_rate_and_quiet_raises_it() {
        let mut reports = ReceiverReports::new(1e6);
        let second = |n: i64| n * 1_000_000;
        (0..10).for_each(|n| reports.on_loss(second(n), 0.0, 1e6));
        assert!((1.9e6..2.2e6).contains(&reports.rate(0)), "{}", reports.rate(0));
        (10..20).for_each(|n| reports.on_loss(second(n), 0.05, 1e6));
        let held = reports.rate(0);
        (20..23).for_each(|n| reports.on_loss(second(n), 0.5, 1e6));
        assert!((reports.rate(0) / held - 0.75_f64.powi(3)).abs() < 1e-6);
        (23..300).for_each(|n| reports.on_loss(second(n), 0.0, 100e3));
        assert!(reports.rate(0) < held, "what is not sent proves nothing");
        reports.on_loss(second(400), f64::NAN, 1e6);
        assert!(reports.rate(0).is_finite());
    }

    #[test]
    fn remb_is_the_limit_while_it_is_fresh() {
        let mut reports = ReceiverReports::new(600e3);
        reports.on_remb(0, 2e6);
        assert!((reports.rate(1) - 2e6).abs() < 1.0);
        reports.on_remb(1_000_000, 300e3);
        assert!((reports.rate(1_000_001) - 300e3).abs() < 1.0);
        assert!((reports.rate(12_000_000) - 2e6).abs() < 1.0);
    }
}
