//! One clock for stamps and timers: CLOCK_MONOTONIC, the same for all processes of a machine.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Turns instants into nanoseconds of CLOCK_MONOTONIC, which is what instants are on Linux.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    nanos_at_start: u64,
}

impl Clock {
    /// Reads the clock.
    pub fn new() -> Self {
        let time = clock_gettime(ClockId::Monotonic);
        let nanos_at_start = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
        Self { start: Instant::now(), nanos_at_start }
    }

    /// When this clock was made.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// The nanoseconds of an instant, which must not be before the clock's start.
    pub fn nanos(&self, at: Instant) -> u64 {
        self.nanos_at_start + at.duration_since(self.start).as_nanos() as u64
    }

    /// How long ago a stamp was at an instant; `None` for a stamp of the future, which nobody here has written.
    pub fn since(&self, stamp: u64, now: Instant) -> Option<Duration> {
        self.nanos(now).checked_sub(stamp).map(Duration::from_nanos)
    }
}
