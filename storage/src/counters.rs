//! What storage has done, for metrics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::writer::Waiting;

/// What storage has done since it was opened, and what waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that were kept.
    pub kept: u64,
    /// Events that were recorded.
    pub events: u64,
    /// Events that were lost, because too many waited or the database failed. The log says so too (`log.gap`).
    pub events_lost: u64,
    /// Transactions of messages and events; `kept / commits` says how well commits are shared.
    pub commits: u64,
    /// Messages that could not be kept, because the database failed.
    pub failures: u64,
    /// Messages and events that wait for the disk.
    pub queued_messages: u64,
    /// Bytes that wait for the disk.
    pub queued_bytes: u64,
}

/// The counters while they count.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) kept: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) events_lost: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) failures: AtomicU64,
    /// The database failed at the last attempt to write.
    pub(crate) is_failing: AtomicBool,
}

impl Counts {
    pub(crate) fn read(&self, waiting: Waiting) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            kept: read(&self.kept),
            events: read(&self.events),
            events_lost: read(&self.events_lost),
            commits: read(&self.commits),
            failures: read(&self.failures),
            queued_messages: waiting.messages,
            queued_bytes: waiting.bytes,
        }
    }
}

/// Counts `number` more.
pub(crate) fn add(counter: &AtomicU64, number: usize) {
    counter.fetch_add(number as u64, Ordering::Relaxed);
}
