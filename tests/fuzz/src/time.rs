//! Virtual time for targets: it starts once in the process and then only grows by what inputs say.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Where the time of every run starts.
pub fn start() -> Instant {
    *START
}

/// How far an input moves the time: two bytes of milliseconds, none for 20 ms.
pub fn step(bytes: &[u8]) -> Duration {
    let millis = bytes.first_chunk().map_or(20, |&chunk| u16::from_be_bytes(chunk));
    Duration::from_millis(millis.into())
}
