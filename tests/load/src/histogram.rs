//! A histogram of durations with a bounded relative error, which can be added to another.

use std::time::Duration;

/// Buckets of each octave, as a power of two: a value is known to a 64th.
const PRECISION: u32 = 6;
/// Up to 2^37 ns, two minutes.
const BUCKETS: usize = (38 - PRECISION as usize) << PRECISION;

/// How often each duration came.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Box<[u32]>,
    count: u64,
    max: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS].into(), count: 0, max: Duration::ZERO }
    }
}

impl Histogram {
    /// Counts a duration.
    pub fn record(&mut self, value: Duration) {
        let bucket = bucket_of(value.as_nanos().try_into().unwrap_or(u64::MAX));
        self.buckets[bucket] += 1;
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.buckets.fill(0);
        self.count = 0;
        self.max = Duration::ZERO;
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The duration that this share of all does not exceed, 0.0 to 1.0; `None` when nothing was counted.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let rank = ((share * self.count as f64).ceil() as u64).max(1);
        let mut below = 0;
        let bucket = self.buckets.iter().position(|count| {
            below += u64::from(*count);
            below >= rank
        })?;
        Some(Duration::from_nanos(last_of(bucket)).min(self.max))
    }
}

/// Small values have a bucket each; of larger ones the leading bits tell.
fn bucket_of(value: u64) -> usize {
    let octave = (u64::BITS - value.leading_zeros()).saturating_sub(PRECISION + 1);
    let bucket = ((octave as usize) << PRECISION) + (value >> octave) as usize;
    bucket.min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn last_of(bucket: usize) -> u64 {
    let octave = (bucket >> PRECISION).saturating_sub(1);
    let leading = bucket - (octave << PRECISION);
    ((leading as u64 + 1) << octave) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_without_holes() {
        for value in
            (0..10_000).chain((14..37).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 12_345]))
        {
            let bucket = bucket_of(value);
            assert!(last_of(bucket) >= value, "{value}");
            assert!(bucket == 0 || last_of(bucket - 1) < value, "{value}");
            assert!(last_of(bucket) - value <= value >> PRECISION, "{value}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_within_a_64th_and_the_maximum_is_exact() {
        let mut first = Histogram::default();
        let mut second = Histogram::default();
        for micros in 1..=1000 {
            (if micros % 2 == 0 { &mut first } else { &mut second }).record(Duration::from_micros(micros));
        }
        first.add(&second);
        for (share, micros) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0), (0.0, 1.0)] {
            let found = first.quantile(share).unwrap().as_secs_f64() * 1e6;
            assert!(found >= micros && found <= micros * 65.0 / 64.0, "{share}: {found}");
        }
        assert_eq!(first.max(), Duration::from_millis(1));
        assert_eq!((first.count(), first.quantile(1.0)), (1000, Some(first.max())));
        first.clear();
        assert_eq!(first.quantile(0.5), None);
    }
}
