//! How many bits a bottleneck carries, over time.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::bell;

/// Bits per second over time, from the start of a bottleneck.
#[derive(Clone, Debug, PartialEq)]
pub struct Capacity {
    /// From when on which rate; the first is at zero.
    steps: Arc<[(Duration, u64)]>,
    /// After this time it begins again.
    period: Option<Duration>,
}

/// What a radio link with people on the move is like; [`Capacity::mobile`] makes one up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mobile {
    /// Bits per second on average.
    pub mean: u64,
    /// How much it swings: the standard deviation of the logarithm. 0.2 is somebody who sits, 0.6 is a train.
    pub swing: f64,
    /// How long a swing lasts.
    pub swing_time: Duration,
    /// How often the signal nearly vanishes, for a quarter of a second to a whole one.
    pub fade_every: Duration,
}

impl Capacity {
    /// How long each rate of a made-up radio link lasts.
    const MOBILE_STEP: Duration = Duration::from_millis(100);
    /// What is left of the rate in a fade.
    const FADED: f64 = 0.08;

    /// Always the same.
    pub fn constant(bits: u64) -> Self {
        Self { steps: [(Duration::ZERO, bits)].into(), period: None }
    }

    /// From each moment on, in order, a rate; before the first, the first.
    pub fn steps(steps: &[(Duration, u64)]) -> Self {
        assert!(steps.is_sorted_by_key(|(at, _)| *at), "steps are in order");
        let (_, first) = steps.first().expect("at least one step");
        let mut all = vec![(Duration::ZERO, *first)];
        all.extend_from_slice(steps);
        Self { steps: all.into(), period: None }
    }

    /// What a radio link may have carried: slow swings, and short fades. Begins again after `length`.
    pub fn mobile(mobile: Mobile, seed: u64, length: Duration) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let step = Self::MOBILE_STEP.as_secs_f64();
        let keep = (-step / mobile.swing_time.as_secs_f64()).exp();
        let mut swing = mobile.swing * bell(&mut rng);
        let mut fading = 0;
        let count = (length.as_secs_f64() / step).ceil().max(1.0) as u32;
        let steps = (0..count).map(|index| {
            swing = keep * swing + (1.0 - keep * keep).sqrt() * mobile.swing * bell(&mut rng);
            if fading == 0 && rng.random_bool((step / mobile.fade_every.as_secs_f64()).min(1.0)) {
                fading = rng.random_range(3..=10);
            }
            let faded = if fading > 0 { Self::FADED } else { 1.0 };
            fading = u32::saturating_sub(fading, 1);
            // The mean of a log-normal variable is above its median by half its variance.
            let share = (swing - mobile.swing * mobile.swing / 2.0).exp().clamp(0.1, 3.0);
            (Self::MOBILE_STEP * index, ((mobile.mean as f64 * share * faded) as u64).max(1_000))
        });
        Self { steps: steps.collect(), period: Some(Self::MOBILE_STEP * count) }
    }

    /// The rate at this time.
    pub fn at(&self, time: Duration) -> u64 {
        self.step(time).0
    }

    /// Bits carried between two times.
    pub fn between(&self, from: Duration, to: Duration) -> f64 {
        let (mut at, mut bits) = (from, 0.0);
        while at < to {
            let (rate, until) = self.step(at);
            let end = until.map_or(to, |until| until.min(to));
            bits += rate as f64 * end.saturating_sub(at).as_secs_f64();
            at = end;
        }
        bits
    }

    /// When so many bits have been carried that begin at `from`; `None` when never.
    pub(super) fn carried(&self, from: Duration, mut bits: f64) -> Option<Duration> {
        let mut at = from;
        loop {
            let (rate, until) = self.step(at);
            let takes = (rate > 0).then(|| bits / rate as f64);
            let lasts = until.map(|until| until.saturating_sub(at).as_secs_f64());
            match (until, lasts) {
                (Some(until), Some(lasts)) if takes.is_none_or(|takes| takes > lasts) => {
                    bits -= rate as f64 * lasts;
                    at = until;
                }
                _ => return takes.map(|takes| at + Duration::from_secs_f64(takes.max(0.0))),
            }
        }
    }

    /// The rate at this time, and until when.
    fn step(&self, time: Duration) -> (u64, Option<Duration>) {
        let (round, within) = match self.period {
            Some(period) => {
                let round = period * (time.as_nanos() / period.as_nanos()) as u32;
                (round, time.saturating_sub(round))
            }
            None => (Duration::ZERO, time),
        };
        let next = self.steps.partition_point(|(at, _)| *at <= within);
        let until = self.steps.get(next).map(|(at, _)| *at).or(self.period);
        (self.steps[next - 1].1, until.map(|until| round + until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn bits_are_carried_over_steps() {
        let capacity = Capacity::steps(&[(Duration::ZERO, 1_000), (SECOND, 0), (2 * SECOND, 2_000)]);
        assert_eq!(
            (capacity.at(Duration::ZERO), capacity.at(SECOND), capacity.at(9 * SECOND)),
            (1_000, 0, 2_000)
        );
        assert_eq!(capacity.carried(SECOND / 2, 500.0), Some(SECOND));
        assert_eq!(capacity.carried(SECOND / 2, 1_500.0), Some(SECOND * 5 / 2));
        assert!((capacity.between(SECOND / 2, 3 * SECOND) - 2_500.0).abs() < 1e-6);
        assert_eq!(Capacity::constant(0).carried(SECOND, 1.0), None);
    }

    #[test]
    fn a_mobile_link_swings_about_its_mean_fades_and_begins_again() {
        let mobile = Mobile { mean: 2_000_000, swing: 0.4, swing_time: 3 * SECOND, fade_every: 20 * SECOND };
        let length = 600 * SECOND;
        let capacity = Capacity::mobile(mobile, 5, length);
        assert_eq!(capacity, Capacity::mobile(mobile, 5, length));
        assert_ne!(capacity, Capacity::mobile(mobile, 6, length));
        let mean = capacity.between(Duration::ZERO, length) / 600.0;
        assert!((1.6e6..2.4e6).contains(&mean), "{mean}");
        let rates: Vec<u64> = (0..6_000).map(|i| capacity.at(Duration::from_millis(100) * i)).collect();
        let faded = rates.iter().filter(|rate| **rate < 300_000).count();
        assert!((50..400).contains(&faded), "{faded} steps of 6000 faded");
        assert!(rates.iter().any(|rate| *rate > 3_000_000));
        assert_eq!(capacity.at(length + SECOND), capacity.at(SECOND));
        let late = capacity.carried(599 * SECOND, 4_000_000.0).expect("it never ends");
        assert!(late > length, "{late:?}");
    }
}
