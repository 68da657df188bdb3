//! Bytes a second over the last half second: of what was sent, and of what has come at the receiver.

use super::Micros;

/// Measures a rate. Times may come slightly out of order.
#[derive(Debug)]
pub(super) struct Throughput {
    buckets: [Bucket; BUCKETS as usize],
    newest: Option<Micros>,
    /// When the stream began, or went on after a pause.
    since: Micros,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    number: i64,
    bytes: u32,
}

const BUCKET: Micros = 25_000;
/// Half a second and the bucket that is being filled.
const BUCKETS: i64 = 21;
/// The longest span that can be asked for.
pub(super) const LONGEST: Micros = BUCKET * (BUCKETS - 1);
/// A stream that is younger has no rate: it would be that of its first burst.
const YOUNG: Micros = 150_000;

impl Default for Throughput {
    fn default() -> Self {
        let buckets = [Bucket { number: i64::MIN, bytes: 0 }; BUCKETS as usize];
        Self { buckets, newest: None, since: 0 }
    }
}

impl Throughput {
    /// Bytes that were sent, or came, at a time.
    pub fn add(&mut self, at: Micros, bytes: u32) {
        if self.newest.is_none_or(|newest| at - newest > LONGEST) {
            self.since = at;
        }
        self.newest = self.newest.max(Some(at));
        let number = at.div_euclid(BUCKET);
        let Some(bucket) = self.buckets.get_mut(number.rem_euclid(BUCKETS) as usize) else { return };
        if bucket.number < number {
            *bucket = Bucket { number, bytes };
        } else if bucket.number == number {
            bucket.bytes = bucket.bytes.saturating_add(bytes);
        }
    }

    /// Bits a second over the last `span` before the newest packet; `None` when the stream is too young.
    pub fn rate(&self, span: Micros) -> Option<f64> {
        self.rate_until(self.newest?, span)
    }

    /// Bits a second over `span` before `end`.
    pub fn rate_until(&self, end: Micros, span: Micros) -> Option<f64> {
        let last = end.div_euclid(BUCKET);
        let first = (end - span.min(LONGEST)).max(self.since).div_euclid(BUCKET);
        let time = end - (first * BUCKET).max(self.since);
        let bytes: u64 = self
            .buckets
            .iter()
            .filter(|b| (first..=last).contains(&b.number))
            .map(|b| u64::from(b.bytes))
            .sum();
        (self.newest.is_some() && time >= YOUNG.min(span)).then(|| bytes as f64 * 8e6 / time as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_within_the_span() {
        let mut throughput = Throughput::default();
        assert_eq!(throughput.rate(LONGEST), None);
        for n in 0..300 {
            throughput.add(-900_000 + n * 10_000, 1250);
        }
        let rate = throughput.rate(LONGEST).unwrap();
        assert!((rate / 1e6 - 1.0).abs() < 0.05, "{rate}");
        for n in 300..330 {
            throughput.add(-900_000 + n * 10_000, 125);
        }
        let (short, long) = (throughput.rate(200_000).unwrap(), throughput.rate(LONGEST).unwrap());
        assert!((short / 1e5 - 1.0).abs() < 0.1 && (3.0e5..6.0e5).contains(&long), "{short} {long}");
    }

    #[test]
    fn a_pause_is_not_counted() {
        let mut throughput = Throughput::default();
        for n in 0..100 {
            throughput.add(n * 10_000, 1250);
        }
        throughput.add(5_000_000, 1250);
        assert_eq!(throughput.rate(LONGEST), None);
        for n in 1..30 {
            throughput.add(5_000_000 + n * 10_000, 1250);
        }
        let rate = throughput.rate(LONGEST).unwrap();
        assert!((rate / 1e6 - 1.0).abs() < 0.05, "{rate}");
        assert_eq!(throughput.rate_until(6_500_000, LONGEST), Some(0.0));
    }
}
