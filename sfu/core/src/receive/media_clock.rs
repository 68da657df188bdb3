//! Maps the RTP timestamps of a layer to the server's time.
//!
//! Slots put the layers of many publishers on one clock. For that each layer's media time needs an offset that hardly
//! moves: the lower envelope of arrival time less media time, which is the path without its jitter. Where sender
//! reports (RFC 3550 section 6.4.1) come, the offset goes through the publisher's NTP clock instead, so that sound and
//! picture of one publisher stay together however differently they are delayed.
//!
//! Server time is a count of nanoseconds since an epoch, as `i64`.

use std::collections::VecDeque;

/// How a publisher's NTP clock relates to the server's time. Shared by all layers of the publisher.
#[derive(Debug)]
pub struct NtpClock {
    /// Of the server time at which sender reports came, less their NTP time.
    envelope: LowerEnvelope,
}

impl Default for NtpClock {
    fn default() -> Self {
        Self { envelope: LowerEnvelope::new(SR_BUCKET) }
    }
}

impl NtpClock {
    fn on_sender_report(&mut self, now: i64, ntp_nanos: i64) {
        let sample = now - ntp_nanos;
        if self.envelope.min().is_some_and(|min| (sample - min).abs() > CLOCK_SET) {
            *self = Self::default();
        }
        self.envelope.on_sample(now, sample);
    }
}

/// The mapping of one layer.
///
/// It is a function of the timestamp: the offset changes only from one new timestamp to the next, and timestamps of the
/// recent past map as they did before, so that a repair that comes late belongs to the same frame as its siblings.
/// It always rises with the timestamp.
#[derive(Debug)]
pub struct MediaClock {
    clock_rate: i64,
    /// The newest timestamp, extended to 64 bits.
    newest: Option<i64>,
    envelope: LowerEnvelope,
    /// The publisher's NTP time less media time, from sender reports.
    ntp_offset: Option<i64>,
    /// Server time less the publisher's NTP time, at the last sender report.
    ntp_clock_offset: Option<i64>,
    /// A sender report that came before the first packet.
    early_report: Option<(i64, u32)>,
    /// How many packets in a row had a timestamp below the newest.
    behind: u32,
    /// Server time less media time, in ticks, and the extended timestamp from which on it holds, oldest first. The last
    /// one is in use. Whole ticks make timestamps come out as evenly as they came in.
    offsets: VecDeque<(i64, i64)>,
    /// Whether the offset moves towards its target, which it does until it is reached.
    moving: bool,
}

const SECOND: i64 = 1_000_000_000;
const MILLISECOND: i64 = 1_000_000;

/// The envelope of media is that of the last 16 s, that of sender reports of the last 40 s: long enough to see a packet
/// without delay, short enough that a clock that drifts by 50 ppm goes wrong by 1-2 ms only.
const MEDIA_BUCKET: i64 = 2 * SECOND;
const SR_BUCKET: i64 = 5 * SECOND;

/// The offset rests until it is wrong by this much.
const DEAD_BAND: i64 = MILLISECOND;

/// And then moves by a quarter of the time between two frames, but not more than this ...
const MAX_STEP: i64 = 5 * MILLISECOND;

/// ... unless they are so far apart that this part of their distance is more.
const SLOW_STEP_DIVISOR: i64 = 20;

/// A packet that is so much earlier than any can be, or so much later than any network is, belongs to a stream whose
/// timestamps began anew.
const TOO_EARLY: i64 = SECOND / 2;
const TOO_LATE: i64 = 3 * SECOND;

/// Timestamps that are further behind the newest than any packet is overtaken, or so many in a row, are such, too.
const TOO_FAR_BACK: i64 = 10 * SECOND;
const TOO_MANY_BACK: u32 = 20;

/// An NTP clock that moves by more was set.
const CLOCK_SET: i64 = SECOND / 2;

/// What media may be earlier or later than sender reports; if it is more, these are wrong.
const TRUSTED: std::ops::Range<i64> = -SECOND / 10..2 * SECOND;

/// Offsets are remembered for so many changes: while it moves with every frame, for two seconds of 60 frames.
const MAX_OFFSETS: usize = 128;

impl MediaClock {
    /// Knows nothing yet. `clock_rate` is in ticks a second.
    pub fn new(clock_rate: u32) -> Self {
        Self {
            clock_rate: i64::from(clock_rate.max(1)),
            newest: None,
            envelope: LowerEnvelope::new(MEDIA_BUCKET),
            ntp_offset: None,
            ntp_clock_offset: None,
            early_report: None,
            behind: 0,
            offsets: VecDeque::new(),
            moving: false,
        }
    }

    /// A packet came at the server time `now`. Reordered ones do no harm, but repairs must not be given.
    pub fn on_packet(&mut self, now: i64, rtp_timestamp: u32) {
        let Some(newest) = self.newest else { return self.begin(now, rtp_timestamp) };
        let extended = self.extend(rtp_timestamp);
        let media = self.to_nanos(extended);
        let elapsed = media - self.to_nanos(newest);
        if elapsed <= 0 {
            self.behind = if elapsed < 0 { self.behind + 1 } else { 0 };
            if elapsed < -TOO_FAR_BACK || self.behind >= TOO_MANY_BACK {
                self.begin(now, rtp_timestamp);
            }
            return;
        }
        self.behind = 0;
        let sample = now - media;
        let late = self.envelope.min().map_or(0, |min| sample - min);
        if !(-TOO_EARLY..=TOO_LATE).contains(&late) {
            return self.begin(now, rtp_timestamp);
        }
        self.newest = Some(extended);
        self.envelope.on_sample(now, sample);
        self.move_offset(extended, elapsed);
    }

    /// A sender report of the layer came at the server time `now`, with its NTP time (32.32 fixed point) and its RTP
    /// timestamp. `ntp_clock` is that of the publisher.
    pub fn on_sender_report(&mut self, ntp_clock: &mut NtpClock, now: i64, ntp: u64, rtp_timestamp: u32) {
        if ntp == 0 {
            // A sender without a clock (RFC 3550 section 6.4.1).
            return;
        }
        let ntp_nanos = ntp_to_nanos(ntp);
        ntp_clock.on_sender_report(now, ntp_nanos);
        self.ntp_clock_offset = ntp_clock.envelope.min();
        if self.newest.is_some() {
            self.pair(ntp_nanos, rtp_timestamp);
        } else {
            self.early_report = Some((ntp_nanos, rtp_timestamp));
        }
    }

    /// When the sample with this timestamp was taken, by the server's clock and up to a fixed delay of the path:
    /// nanoseconds since the epoch. `None` before the first packet.
    pub fn server_time(&self, rtp_timestamp: u32) -> Option<i64> {
        self.newest?;
        let extended = self.extend(rtp_timestamp);
        let in_force = self.offsets.iter().rev().find(|(from, _)| *from <= extended);
        let (_, offset) = in_force.or(self.offsets.front())?;
        Some(self.to_nanos(extended + offset))
    }

    /// The timestamps begin here, or anew: this packet was not delayed as far as anybody knows.
    fn begin(&mut self, now: i64, rtp_timestamp: u32) {
        // Extending anew keeps hostile jumps from adding up to an overflow.
        let extended = i64::from(rtp_timestamp);
        let sample = now - self.to_nanos(extended);
        // Server time does not go back, even if the timestamps do.
        let before = self.newest.zip(self.offsets.back()).map(|(newest, (_, offset))| newest + offset);
        let offset = self.to_ticks(sample).max(before.map_or(i64::MIN, |b| b + 1 - extended));
        self.newest = Some(extended);
        self.envelope = LowerEnvelope::new(MEDIA_BUCKET);
        self.envelope.on_sample(now, sample);
        self.ntp_offset = None;
        self.offsets.clear();
        self.offsets.push_back((extended, offset));
        self.moving = false;
        self.behind = 0;
        if let Some((ntp_nanos, rtp_timestamp)) = self.early_report.take() {
            self.pair(ntp_nanos, rtp_timestamp);
        }
    }

    fn pair(&mut self, ntp_nanos: i64, rtp_timestamp: u32) {
        let sample = ntp_nanos - self.to_nanos(self.extend(rtp_timestamp));
        let near = self.ntp_offset.filter(|o| (o - sample).abs() < SECOND / 10);
        self.ntp_offset = Some(near.map_or(sample, |o| i64::midpoint(o, sample)));
    }

    /// Server time less media time by way of the publisher's clock, if that is known and credible.
    fn reported_offset(&self) -> Option<i64> {
        let offset = self.ntp_offset?.checked_add(self.ntp_clock_offset?)?;
        TRUSTED.contains(&self.envelope.min()?.checked_sub(offset)?).then_some(offset)
    }

    fn move_offset(&mut self, from: i64, elapsed: i64) {
        let Some(target) = self.reported_offset().or(self.envelope.min()) else { return };
        let Some(&(_, current)) = self.offsets.back() else { return };
        let wrong = self.to_ticks(target) - current;
        self.moving = if self.moving { wrong != 0 } else { wrong.abs() >= self.to_ticks(DEAD_BAND) };
        if !self.moving {
            return;
        }
        let step = self.to_ticks((elapsed / 4).min(MAX_STEP).max(elapsed / SLOW_STEP_DIVISOR)).max(1);
        if self.offsets.len() == MAX_OFFSETS {
            self.offsets.pop_front();
        }
        self.offsets.push_back((from, current + wrong.clamp(-step, step)));
    }

    /// The extended timestamp that is nearest to the newest one.
    fn extend(&self, rtp_timestamp: u32) -> i64 {
        match self.newest {
            Some(newest) => newest + i64::from(rtp_timestamp.wrapping_sub(newest as u32) as i32),
            None => i64::from(rtp_timestamp),
        }
    }

    /// Rounded up by less than a nanosecond, so that whichever way the result is made ticks of the same rate again,
    /// they are the same.
    fn to_nanos(&self, ticks: i64) -> i64 {
        let (seconds, rest) = (ticks.div_euclid(self.clock_rate), ticks.rem_euclid(self.clock_rate));
        seconds * SECOND + (rest * SECOND + self.clock_rate - 1) / self.clock_rate
    }

    fn to_ticks(&self, nanos: i64) -> i64 {
        let (seconds, rest) = (nanos.div_euclid(SECOND), nanos.rem_euclid(SECOND));
        seconds * self.clock_rate + rest * self.clock_rate / SECOND
    }
}

/// The least of the values of the last eight buckets of time. Only time in which values came counts, so that a pause
/// does not make it forget.
#[derive(Debug)]
struct LowerEnvelope {
    bucket_len: i64,
    bucket_start: i64,
    /// The least value of each bucket, oldest first.
    buckets: VecDeque<i64>,
    min: Option<i64>,
}

const BUCKETS: usize = 8;

impl LowerEnvelope {
    fn new(bucket_len: i64) -> Self {
        Self { bucket_len, bucket_start: 0, buckets: VecDeque::with_capacity(BUCKETS), min: None }
    }

    fn on_sample(&mut self, at: i64, value: i64) {
        match self.buckets.back_mut() {
            Some(least) if at - self.bucket_start < self.bucket_len => *least = value.min(*least),
            _ => {
                if self.buckets.len() == BUCKETS {
                    self.buckets.pop_front();
                }
                self.buckets.push_back(value);
                self.bucket_start = at;
            }
        }
        self.min = self.buckets.iter().copied().min();
    }

    fn min(&self) -> Option<i64> {
        self.min
    }
}

/// An NTP timestamp in nanoseconds since its own epoch.
fn ntp_to_nanos(ntp: u64) -> i64 {
    let seconds = (ntp >> 32) as i64;
    let fraction = (ntp & 0xffff_ffff) as i64;
    seconds * SECOND + ((fraction * SECOND) >> 32)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const MS: i64 = MILLISECOND;

    /// A publisher whose clocks run fast or slow by `ppm` and whose packets take `delay` ms and jitter.
    struct Sender {
        rng: StdRng,
        rate: u32,
        first: u32,
        ppm: f64,
        delay: f64,
        jitter: f64,
        clock: MediaClock,
    }

    impl Sender {
        fn new(seed: u64, rate: u32, ppm: f64, delay: f64, jitter: f64) -> Self {
            let mut rng = StdRng::seed_from_u64(seed);
            let first = rng.random();
            Self { rng, rate, first, ppm, delay, jitter, clock: MediaClock::new(rate) }
        }

        /// What the publisher's clock shows, in seconds, at a true time in seconds.
        fn own_seconds(&self, at: f64) -> f64 {
            at * (1.0 + self.ppm / 1e6)
        }

        fn timestamp(&self, at: f64) -> u32 {
            self.first.wrapping_add((self.own_seconds(at) * f64::from(self.rate)).round() as u64 as u32)
        }

        fn arrival(&mut self, at: f64) -> i64 {
            let jitter = if self.jitter > 0.0 { self.rng.random_range(0.0..self.jitter) } else { 0.0 };
            ((at + (self.delay + jitter) / 1e3) * 1e9) as i64
        }

        /// A frame taken at the true time `at` comes; how far its mapping is from that, in ns.
        fn frame(&mut self, at: f64) -> i64 {
            let (timestamp, arrival) = (self.timestamp(at), self.arrival(at));
            self.clock.on_packet(arrival, timestamp);
            self.error(at)
        }

        fn error(&self, at: f64) -> i64 {
            let mapped = self.clock.server_time(self.timestamp(at)).expect("packets came");
            mapped - (at * 1e9) as i64
        }

        fn report(&mut self, at: f64, ntp_clock: &mut NtpClock) {
            let own = 3_900_000_000.0 + self.own_seconds(at);
            let ntp = ((own.floor() as u64) << 32) | ((own.fract() * 4_294_967_296.0) as u64);
            let (timestamp, arrival) = (self.timestamp(at), self.arrival(at));
            self.clock.on_sender_report(ntp_clock, arrival, ntp, timestamp);
        }
    }

    #[test]
    fn jitter_and_drift_move_the_mapping_by_a_few_ms_and_never_in_jumps() {
        for (seed, ppm) in [(1, 50.0), (2, -50.0), (3, 0.0)] {
            let mut sender = Sender::new(seed, 90_000, ppm, 30.0, 100.0);
            let mut before = None;
            for n in 0..30 * 600 {
                let at = 5.0 + f64::from(n) / 30.0;
                let error = sender.frame(at);
                if n > 60 {
                    assert!((27 * MS..36 * MS).contains(&error), "seed {seed}, frame {n}: {error} ns");
                }
                assert!(before.is_none_or(|b: i64| (error - b).abs() <= 5 * MS + 20_000), "frame {n}");
                before = Some(error);
            }
        }
    }

    #[test]
    fn one_timestamp_maps_to_one_time_even_when_it_is_repaired_late() {
        let mut sender = Sender::new(4, 90_000, 50.0, 10.0, 100.0);
        let mut mapped = VecDeque::new();
        let mut last = i64::MIN;
        for n in 0..60 * 60 {
            let at = f64::from(n) / 60.0;
            // The first packet is so late that the mapping has far to go.
            sender.delay = if n == 0 { 300.0 } else { 10.0 };
            sender.frame(at);
            let timestamp = sender.timestamp(at);
            let time = sender.clock.server_time(timestamp).expect("packets came");
            assert!(time > last, "time rises with the timestamp");
            last = time;
            mapped.push_back((timestamp, time));
            if mapped.len() > 60 {
                mapped.pop_front();
            }
            for &(timestamp, time) in &mapped {
                assert_eq!(sender.clock.server_time(timestamp), Some(time), "frame {n}");
            }
        }
    }

    #[test]
    fn a_late_start_and_a_pause_do_not_matter() {
        let mut sender = Sender::new(5, 48_000, 20.0, 40.0, 50.0);
        for (start, settled) in [(100_000.0, 50), (100_060.0, 2)] {
            for n in 0..50 * 30 {
                let error = sender.frame(start + f64::from(n) / 50.0);
                assert!(n < settled || (37 * MS..47 * MS).contains(&error), "{start}, frame {n}: {error}");
            }
        }
    }

    #[test]
    fn timestamps_that_begin_anew_go_on_from_now() {
        let back = |seconds: u32| u32::MAX - 90_000 * seconds;
        for (jump, settled) in [(90_000 * 3600, 300), (back(3600), 300), (back(15), 300), (back(5), 320)] {
            let mut sender = Sender::new(6, 90_000, 0.0, 20.0, 10.0);
            for n in 0..300 {
                sender.frame(f64::from(n) / 30.0);
            }
            sender.first = sender.first.wrapping_add(jump);
            for n in 300..600 {
                let error = sender.frame(f64::from(n) / 30.0);
                assert!(
                    n < settled || (15 * MS..50 * MS).contains(&error),
                    "jump {jump}, frame {n}: {error}"
                );
            }
        }
        // A sender whose timestamps stand still in a pause of 30 s.
        let mut sender = Sender::new(7, 48_000, 0.0, 20.0, 10.0);
        for n in 0..50 {
            sender.frame(f64::from(n) / 50.0);
        }
        sender.first = sender.first.wrapping_sub(48_000 * 30);
        for n in 0..50 {
            let error = sender.frame(31.0 + f64::from(n) / 50.0);
            assert!((15 * MS..40 * MS).contains(&error), "frame {n}: {error}");
        }
    }

    #[test]
    fn sender_reports_keep_sound_and_picture_together() {
        let mut audio = Sender::new(8, 48_000, 30.0, 20.0, 20.0);
        let mut video = Sender::new(9, 90_000, 30.0, 220.0, 60.0);
        let mut ntp_clock = NtpClock::default();
        let mut errors = (0, 0);
        for n in 0..1000 * 120 {
            let at = f64::from(n) / 1000.0;
            if n % 20 == 0 {
                errors.0 = audio.frame(at);
            }
            if n % 33 == 0 {
                errors.1 = video.frame(at);
            }
            if n % 5000 == 300 {
                audio.report(at, &mut ntp_clock);
            }
            if n % 1000 == 700 {
                video.report(at, &mut ntp_clock);
            }
            if n == 200 {
                assert!((errors.1 - errors.0) > 180 * MS, "without reports nobody can know: {errors:?}");
            }
            if n > 6_000 {
                let apart = (errors.1 - errors.0).abs();
                let allowed = if n < 45_000 { 6 * MS } else { 3 * MS };
                assert!(apart < allowed, "{} us apart at {at} s: {errors:?}", apart / 1000);
            }
        }
        assert!(audio.clock.reported_offset().is_some() && video.clock.reported_offset().is_some());
    }

    #[test]
    fn incredible_reports_are_not_followed() {
        let mut sender = Sender::new(10, 90_000, 0.0, 20.0, 10.0);
        let mut ntp_clock = NtpClock::default();
        sender.report(0.0, &mut ntp_clock);
        for n in 0..300 {
            sender.frame(f64::from(n) / 30.0);
        }
        assert!(sender.clock.reported_offset().is_some(), "a report before the first packet counts");
        let (now, timestamp) = (sender.arrival(10.0), sender.timestamp(10.0).wrapping_add(90_000 * 60));
        sender.clock.on_sender_report(&mut ntp_clock, now, 3_900_000_010 << 32, timestamp);
        assert!(sender.clock.reported_offset().is_none());
        for n in 300..600 {
            let error = sender.frame(f64::from(n) / 30.0);
            assert!((15 * MS..35 * MS).contains(&error), "frame {n}: {error}");
        }
    }

    #[test]
    fn hostile_numbers_do_no_harm() {
        let mut rng = StdRng::seed_from_u64(13);
        let mut now = 0;
        let mut clock = MediaClock::new(90_000);
        let mut ntp_clock = NtpClock::default();
        for n in 0..300_000_u64 {
            let timestamp = if n < 150_000 { (n << 31) as u32 } else { rng.random() };
            clock.on_packet(now, timestamp);
            assert!(clock.server_time(timestamp).is_some());
            assert!(clock.offsets.len() <= MAX_OFFSETS);
            clock.server_time(rng.random());
            if n % 3 == 0 {
                clock.on_sender_report(&mut ntp_clock, now, rng.random(), rng.random());
            }
            now += rng.random_range(0..MS);
        }
    }

    #[test]
    fn timestamps_come_out_as_evenly_as_they_came_in() {
        let mut rng = StdRng::seed_from_u64(14);
        for rate in [48_000, 90_000] {
            let mut clock = MediaClock::new(rate);
            clock.on_packet(rng.random_range(0..1_000_000 * SECOND), u32::MAX - 3000);
            let nanos =
                |ticks: u32| clock.server_time((u32::MAX - 3000).wrapping_add(ticks)).expect("a packet came");
            let ticks = |nanos: i64| (i128::from(nanos) * i128::from(rate) / i128::from(SECOND)) as u32;
            let rounded = |nanos: i64| ticks(nanos + SECOND / i64::from(rate) / 2);
            for n in 0..20_000 {
                assert_eq!(ticks(nanos(n * 7)).wrapping_sub(ticks(nanos(0))), n * 7);
                assert_eq!(rounded(nanos(n * 7)).wrapping_sub(rounded(nanos(0))), n * 7);
            }
        }
    }
}
