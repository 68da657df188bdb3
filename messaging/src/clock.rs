//! The time of messages: milliseconds since 1970 that never go back.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use veche_hub::Timestamp;

/// A clock that the system's adjustments do not move: it is read once, and counted on from there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: u64,
    at: Instant,
}

impl Clock {
    /// A clock that shows the system's time now.
    pub(crate) fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: since.as_millis() as u64, at: Instant::now() }
    }

    /// What it shows.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.started + self.at.elapsed().as_millis() as u64)
    }
}

/// A time as clients read it: RFC 3339 in UTC with milliseconds.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    veche_storage::rfc3339(time.0 as i64)
}
