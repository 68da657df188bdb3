//! What a piece of work takes of the processor, whatever else runs on the machine.

use std::sync::LazyLock;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Calls, and tells what that took of the processor, the measuring itself not counted.
pub fn measure<T>(call: impl FnOnce() -> T) -> (T, Duration) {
    /// What two looks at the clock take.
    static OVERHEAD: LazyLock<Duration> =
        LazyLock::new(|| (0..1_000).map(|_| measure_raw(|| ()).1).min().unwrap_or_default());
    let overhead = *OVERHEAD;
    let (result, took) = measure_raw(call);
    (result, took.saturating_sub(overhead))
}

fn measure_raw<T>(call: impl FnOnce() -> T) -> (T, Duration) {
    let began = thread_time();
    let result = call();
    (result, thread_time().saturating_sub(began))
}

/// The time that this thread has had on a processor.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
