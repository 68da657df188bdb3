//! The rate itself: additive increase near the last known capacity, multiplicative far from it, a cut below the delivered
//! rate on overuse (draft-ietf-rmcat-gcc-02 section 5.5; Carlucci et al. 2016, section IV.D).

use super::{Micros, Usage};

/// What the last feedback has shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed {
    /// What the delay says.
    pub usage: Usage,
    /// Bits a second that came lately.
    pub delivered: Option<f64>,
    /// Bits a second that were sent lately.
    pub sent: Option<f64>,
    /// The time spent in queues.
    pub queuing: Micros,
    /// Less is sent than could be.
    pub limited: bool,
    /// Bits a second that are of any use.
    pub wanted: f64,
    /// The rate should not grow for now.
    pub hold: bool,
    /// Others fill the queue.
    pub competing: bool,
}

/// What feedback has changed, of interest to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The rate was cut.
    Cut,
    /// More comes than the path was thought to carry: it is another one now.
    Wider,
}

/// The rate and what it knows of the path.
#[derive(Debug)]
pub(super) struct RateControl {
    rate: f64,
    capacity: Capacity,
    rtt: Micros,
    updated: Micros,
    last_cut: Option<Micros>,
    /// When the first of the last cuts was, and the rate before it, as far as it was proven.
    before_cuts: (Micros, f64),
    /// The highest rate that came of late, in bits a second.
    proven: f64,
    /// Where to go on when the queue is empty that the rate was cut deeply for.
    after_drain: Option<f64>,
}

/// Voice and a little picture; below it nothing works.
pub(super) const MIN: f64 = 40_000.0;
/// More than all slots of a large room.
pub(super) const MAX: f64 = 100_000_000.0;

/// Of the delivered rate, after overuse (section 5.5).
const BETA: f64 = 0.85;
/// When a deep queue has to drain, at least so much is still sent.
const DEEP_BETA: f64 = 0.3;
/// For this queue or a shorter one, and so much less for every second of a longer one.
const DRAIN: f64 = 2.5;
const SHALLOW: Micros = 60_000;
/// Delivered this share of what was sent, the link has become slower than the sender: nothing else fills a queue so fast.
const COLLAPSE: f64 = 0.75;
/// A queue of this length, left by a link that became slower, is to be drained faster.
const STANDING: Micros = 120_000;
/// Of the rate: so little is sent that what comes of it is no measure.
const LIMITED: f64 = 0.65;
/// The queue is gone.
const DRAINED: Micros = 15_000;

/// A second, far from the capacity (section 5.5).
const ETA: f64 = 1.08;
/// A round trip's worth of one packet, near it (section 5.5).
const PACKET_BITS: f64 = 1200.0 * 8.0;
/// But within these parts a second: a packet is little for a wide link and much for a narrow one.
const SLOWLY: f64 = 0.015;
const GENTLY: f64 = 0.08;
/// The time until feedback tells, without the round trip.
const RESPONSE: Micros = 100_000;
/// What is not sent cannot prove that there is room: the rate grows up to this multiple of what comes, and a bit.
const PROVEN: f64 = 1.5;
const PROVEN_MORE: f64 = 100_000.0;

/// A queue that is longer than this is not added to.
const LEFT_OVER: Micros = 25_000;
/// Cuts that follow within this time belong together.
const SERIES: Micros = 3_000_000;
/// A rate that has come once is worth less and less, for about so many seconds.
const PROVEN_FOR: f64 = 30.0;
/// Less than this part is left: a large drop, of which the path may recover soon.
const LARGE_DROP: f64 = 0.66;

impl RateControl {
    /// Begins at `rate`.
    pub fn new(rate: f64) -> Self {
        Self {
            rate,
            capacity: Capacity::default(),
            rtt: 100_000,
            updated: 0,
            last_cut: None,
            before_cuts: (Micros::MIN, 0.0),
            proven: 0.0,
            after_drain: None,
        }
    }

    /// Bits a second.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// The round-trip time was measured.
    pub fn on_rtt(&mut self, rtt: Micros) {
        self.rtt = rtt.clamp(1_000, 1_000_000);
    }

    /// Feedback came.
    pub fn on_feedback(&mut self, now: Micros, observed: &Observed) -> Option<Change> {
        let elapsed = (now - self.updated).clamp(0, 1_000_000) as f64 / 1e6;
        self.updated = now;
        self.proven = (self.proven * (1.0 - elapsed / PROVEN_FOR)).max(observed.delivered.unwrap_or(0.0));
        match observed.usage {
            Usage::Overuse => self.on_overuse(now, observed).then_some(Change::Cut),
            Usage::Underuse => {
                self.return_from_drain(observed);
                None
            }
            // A full queue does not grow any more: it is overuse all the same.
            Usage::Normal if self.after_drain.is_some() && observed.queuing > STANDING => {
                self.on_overuse(now, observed).then_some(Change::Cut)
            }
            Usage::Normal => {
                self.return_from_drain(observed);
                self.increase(now, elapsed, observed).then_some(Change::Wider)
            }
        }
    }

    /// Loss shows that no more than `delivered` gets through, if that is known.
    pub fn on_loss(&mut self, now: Micros, rate: f64, delivered: Option<f64>) {
        self.cut(now, rate);
        if let Some(delivered) = delivered {
            self.capacity.on_sample(delivered);
        }
    }

    /// A probe has shown that at least `rate` gets through; `capacity` when the link was full of it.
    pub fn on_probe(&mut self, rate: f64, capacity: bool) {
        self.raise(rate);
        self.capacity = Capacity::default();
        if capacity {
            self.capacity.on_sample(self.rate);
        }
    }

    /// A probe has come through at this rate, whether that is more than was known or not.
    pub fn on_shown(&mut self, rate: f64) {
        self.proven = self.proven.max(rate);
    }

    /// The highest rate that came of late, in bits a second.
    pub fn proven(&self) -> f64 {
        self.proven
    }

    /// Feedback stays away.
    pub fn on_silence(&mut self, now: Micros) {
        self.cut(now, self.rate / 2.0);
    }

    /// A cut was an error: back to the rate before it.
    pub fn raise(&mut self, rate: f64) {
        self.rate = rate.clamp(self.rate, MAX);
    }

    /// Whether the link was full at about this rate.
    pub fn knows_capacity(&self) -> bool {
        self.capacity.is_known()
    }

    /// When the rate was cut last.
    pub fn last_cut(&self) -> Option<Micros> {
        self.last_cut
    }

    /// Whether much of the rate was lost in the last cuts.
    pub fn dropped_far(&self) -> bool {
        self.rate < self.before_cuts.1 * LARGE_DROP
    }

    /// Whether the path is wider than it was thought to be.
    fn increase(&mut self, now: Micros, elapsed: f64, observed: &Observed) -> bool {
        let Some(delivered) = observed.delivered.filter(|_| !observed.limited) else { return false };
        let wider = self.capacity.is_exceeded_by(delivered);
        if wider {
            self.capacity = Capacity::default();
        }
        // A queue that the last cut has left is let to drain; one that stays is of others, who would leave us nothing.
        if observed.hold
            || observed.queuing > LEFT_OVER + self.packet_time()
                && self.last_cut.is_some_and(|at| now - at < SERIES)
        {
            return wider;
        }
        let grown = if self.capacity.is_known() || observed.competing {
            self.rate + elapsed * self.step(observed.competing)
        } else {
            self.rate * ETA.powf(elapsed)
        };
        self.raise(grown.min(PROVEN * delivered + PROVEN_MORE).min(observed.wanted));
        wider
    }

    /// Bits a second that are added every second. Beside others our own share of the round trip counts.
    fn step(&self, competing: bool) -> f64 {
        if competing {
            return PACKET_BITS / (2.0 * RESPONSE as f64 / 1e6);
        }
        let step = PACKET_BITS / ((self.rtt + RESPONSE) as f64 / 1e6);
        step.clamp(self.rate * SLOWLY, self.rate * GENTLY)
    }

    /// Whether the rate was cut.
    fn on_overuse(&mut self, now: Micros, observed: &Observed) -> bool {
        let collapsed = observed.delivered.is_some_and(|delivered| delivered < self.rate / 2.0);
        let patience = if collapsed && !observed.limited { RESPONSE } else { self.rtt + RESPONSE };
        if self.last_cut.is_some_and(|at| now - at < patience) {
            return false;
        }
        let Some(delivered) = observed.delivered else {
            self.cut(now, self.rate * BETA);
            return true;
        };
        let sent = observed.sent.unwrap_or(delivered);
        if observed.limited && sent < self.rate * LIMITED && delivered > sent * 0.9 {
            // All of the little that is sent gets through, so the delivered rate is no measure of the path.
            self.cut(now, self.rate * BETA);
            return true;
        }
        let mut part = BETA;
        if delivered < sent * COLLAPSE || self.after_drain.is_some() {
            part = (BETA - DRAIN * (observed.queuing - SHALLOW).max(0) as f64 / 1e6).max(DEEP_BETA);
            self.after_drain = Some(delivered * 0.9);
        }
        self.cut(now, delivered * part);
        self.capacity.on_sample(delivered);
        true
    }

    fn return_from_drain(&mut self, observed: &Observed) {
        if observed.queuing < DRAINED + self.packet_time()
            && let Some(rate) = self.after_drain.take()
        {
            self.raise(rate);
        }
    }

    /// How long the link takes for a packet: on one that became slower, the delay has grown by it for good.
    fn packet_time(&self) -> Micros {
        (PACKET_BITS / self.rate * 1e6) as Micros
    }

    fn cut(&mut self, now: Micros, rate: f64) {
        if now.saturating_sub(self.before_cuts.0) > SERIES {
            self.before_cuts = (now, self.rate.min(self.proven));
        }
        self.last_cut = Some(now);
        self.rate = rate.clamp(MIN.min(self.rate), self.rate);
    }
}

/// The rates at which the link was full, with their spread, in kbit/s (section 5.5: the average maximum bit rate).
#[derive(Debug, Default)]
struct Capacity {
    mean: Option<f64>,
    /// The variance, as a multiple of the mean.
    spread: f64,
}

impl Capacity {
    const WEIGHT: f64 = 0.05;
    const FIRST_SPREAD: f64 = 0.4;
    const MAX_SPREAD: f64 = 2.5;

    fn on_sample(&mut self, rate: f64) {
        let sample = rate / 1e3;
        match &mut self.mean {
            Some(mean) if (sample - *mean).abs() <= Self::deviations(*mean, self.spread) => {
                let error = sample - *mean;
                *mean += Self::WEIGHT * error;
                self.spread += Self::WEIGHT * (error * error / mean.max(1.0) - self.spread);
                self.spread = self.spread.clamp(Self::FIRST_SPREAD, Self::MAX_SPREAD);
            }
            // The link is another one now.
            _ => (self.mean, self.spread) = (Some(sample), Self::FIRST_SPREAD),
        }
    }

    fn is_known(&self) -> bool {
        self.mean.is_some()
    }

    fn is_exceeded_by(&self, rate: f64) -> bool {
        self.mean.is_some_and(|mean| rate / 1e3 > mean + Self::deviations(mean, self.spread))
    }

    /// Three standard deviations (section 5.5).
    fn deviations(mean: f64, spread: f64) -> f64 {
        3.0 * (spread * mean).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(usage: Usage, delivered: f64) -> Observed {
        Observed {
            usage,
            delivered: Some(delivered),
            sent: Some(delivered),
            queuing: 0,
            limited: false,
            wanted: 9e9,
            hold: false,
            competing: false,
        }
    }

    fn run(control: &mut RateControl, from: Micros, seconds: i64) -> f64 {
        for n in 1..=seconds * 10 {
            let delivered = control.rate();
            control.on_feedback(from + n * 100_000, &observed(Usage::Normal, delivered));
        }
        control.rate()
    }

    #[test]
    fn grows_by_parts_until_the_capacity_is_known_then_by_packets() {
        let mut control = RateControl::new(1e6);
        let grown = run(&mut control, 0, 10);
        assert!((2.1e6..2.2e6).contains(&grown), "{grown}");
        assert_eq!(control.on_feedback(10_100_000, &observed(Usage::Overuse, 2e6)), Some(Change::Cut));
        assert!((control.rate() - 1.7e6).abs() < 1.0);
        let grown = run(&mut control, 10_100_000, 5);
        assert!((1.93e6..1.95e6).contains(&grown), "{grown}");
    }

    #[test]
    fn what_is_not_sent_proves_nothing() {
        let mut control = RateControl::new(1e6);
        for n in 0..300 {
            control.on_feedback(n * 100_000, &observed(Usage::Normal, 700e3));
        }
        assert!((control.rate() - 1.15e6).abs() < 1.0);
        let limited = Observed { limited: true, ..observed(Usage::Normal, 900e3) };
        control.on_feedback(31_000_000, &limited);
        assert!((control.rate() - 1.15e6).abs() < 1.0);
        let limited = Observed { limited: true, ..observed(Usage::Overuse, 100e3) };
        control.on_feedback(32_000_000, &limited);
        assert!((control.rate() - 0.85 * 1.15e6).abs() < 1.0, "all that was sent came through");
    }

    #[test]
    fn a_deep_queue_is_drained_and_the_rate_comes_back() {
        let mut control = RateControl::new(5e6);
        let collapse = Observed { queuing: 500_000, sent: Some(5e6), ..observed(Usage::Overuse, 500e3) };
        assert_eq!(control.on_feedback(1_000_000, &collapse), Some(Change::Cut));
        assert!(control.rate() < 250e3 && control.dropped_far(), "{}", control.rate());
        assert_eq!(control.on_feedback(1_050_000, &collapse), None, "the effect is waited for");
        control.on_feedback(2_000_000, &Observed { queuing: 80_000, ..observed(Usage::Underuse, 500e3) });
        assert!(control.rate() < 250e3);
        control.on_feedback(2_100_000, &observed(Usage::Normal, 500e3));
        assert!((control.rate() - 450e3).abs() < 10e3);
    }

    #[test]
    fn never_falls_below_the_minimum() {
        let mut control = RateControl::new(600e3);
        (0..100).for_each(|n| control.on_silence(n * 1_000_000));
        assert!((control.rate() - MIN).abs() < 1.0);
    }
}
