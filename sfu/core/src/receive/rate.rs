//! How much of a layer comes in, over the last second.

use std::time::{Duration, Instant};

/// What came in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Bits a second.
    pub bits: u64,
    /// Packets a second.
    pub packets: f32,
    /// Frames a second.
    pub frames: f32,
}

/// Measures rates over a sliding window of one second.
#[derive(Debug)]
pub struct RateMeter {
    buckets: [Bucket; BUCKETS as usize],
    epoch: Instant,
    /// When the stream began, or went on after a pause.
    since: Instant,
    last: Option<Instant>,
}

/// What came in one tenth of a second.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Which tenth since the epoch.
    number: u64,
    bytes: u64,
    packets: u32,
    frames: u32,
}

/// Ten whole tenths and the one that is being filled.
const BUCKETS: u64 = 11;
const TENTH: Duration = Duration::from_millis(100);

/// A stream that is younger than this is measured as if it were so old: its first burst is no rate.
const YOUNG: Duration = Duration::from_millis(250);

impl RateMeter {
    /// Nothing came yet. No packet may come before `now`.
    pub fn new(now: Instant) -> Self {
        let buckets = [Bucket::default(); BUCKETS as usize];
        Self { buckets, epoch: now, since: now, last: None }
    }

    /// A packet of `bytes` came; `frame` for one packet of each frame, be it the first or the last.
    pub fn on_packet(&mut self, now: Instant, bytes: usize, frame: bool) {
        if !self.is_flowing(now, TENTH * 10) {
            self.since = now;
        }
        self.last = Some(now);
        let number = tenth(self.epoch, now);
        let bucket = &mut self.buckets[(number % BUCKETS) as usize];
        if bucket.number != number {
            *bucket = Bucket { number, ..Bucket::default() };
        }
        bucket.bytes += bytes as u64;
        bucket.packets += 1;
        bucket.frames += u32::from(frame);
    }

    /// The rates of the last second.
    pub fn rates(&self, now: Instant) -> Rates {
        let number = tenth(self.epoch, now);
        let mut sum = Bucket::default();
        for bucket in self.buckets.iter().filter(|b| b.number + BUCKETS > number && b.number <= number) {
            sum.bytes += bucket.bytes;
            sum.packets += bucket.packets;
            sum.frames += bucket.frames;
        }
        let oldest = self.epoch + TENTH * (number.saturating_sub(BUCKETS - 1)) as u32;
        let seconds = now.saturating_duration_since(oldest.max(self.since)).max(YOUNG).as_secs_f32();
        Rates {
            bits: (sum.bytes as f32 * 8.0 / seconds) as u64,
            packets: sum.packets as f32 / seconds,
            frames: sum.frames as f32 / seconds,
        }
    }

    /// Whether a packet came within the last `idle`.
    pub fn is_flowing(&self, now: Instant, idle: Duration) -> bool {
        self.last.is_some_and(|at| now.saturating_duration_since(at) < idle)
    }
}

/// Which tenth of a second since the epoch.
fn tenth(epoch: Instant, now: Instant) -> u64 {
    let elapsed = now.saturating_duration_since(epoch);
    elapsed.as_secs() * 10 + u64::from(elapsed.subsec_nanos() / 100_000_000)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// 30 frames a second of 5 packets of 1,000 bytes, each up to 20 ms late.
    fn feed(meter: &mut RateMeter, rng: &mut StdRng, start: Instant, frames: u64) -> Instant {
        let mut now = start;
        for frame in 0..frames {
            now = start + Duration::from_micros(frame * 33_333) + ms(rng.random_range(0..20));
            for packet in 0..5 {
                meter.on_packet(now, 1000, packet == 0);
            }
        }
        now
    }

    #[test]
    fn measures_a_steady_stream_within_five_percent() {
        let mut rng = StdRng::seed_from_u64(2);
        let start = Instant::now();
        let mut meter = RateMeter::new(start);
        for second in 0..10 {
            let now = feed(&mut meter, &mut rng, start + ms(second * 1000), 30);
            if second > 0 {
                let rates = meter.rates(now);
                assert!((1_140_000..1_260_000).contains(&rates.bits), "{rates:?}");
                assert!((142.0..158.0).contains(&rates.packets), "{rates:?}");
                assert!((28.5..31.5).contains(&rates.frames), "{rates:?}");
            }
        }
    }

    #[test]
    fn knows_the_rate_soon_after_the_start_and_after_a_pause() {
        let mut rng = StdRng::seed_from_u64(3);
        let start = Instant::now();
        let mut meter = RateMeter::new(start);
        assert_eq!(meter.rates(start), Rates::default());
        for begin in [start, start + ms(30_000)] {
            let now = feed(&mut meter, &mut rng, begin, 12);
            let bits = meter.rates(now).bits;
            assert!((1_000_000..1_500_000).contains(&bits), "{bits} after 0.4 s");
        }
        meter.on_packet(start + ms(60_000), 1000, true);
        assert_eq!(meter.rates(start + ms(60_000)).bits, 32_000, "one packet is no burst");
    }

    #[test]
    fn falls_to_zero_and_stops_flowing() {
        let mut rng = StdRng::seed_from_u64(4);
        let start = Instant::now();
        let mut meter = RateMeter::new(start);
        let now = feed(&mut meter, &mut rng, start, 60);
        assert!(meter.is_flowing(now + ms(499), ms(500)));
        assert!(!meter.is_flowing(now + ms(500), ms(500)));
        assert!(meter.rates(now + ms(500)).bits < 700_000);
        assert_eq!(meter.rates(now + ms(1100)), Rates::default());
    }
}
