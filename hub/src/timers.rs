//! When to look at which channel again.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::channel::Channel;
use crate::name::Timestamp;

/// Why a channel is looked at. For each a channel has one timer at most, so the heap is bounded by the channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// When to tell who came and left.
    Presence,
    /// When to let old messages go, and the channel itself when nobody needs it.
    Expiry,
}

/// All timers of the hub.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: Mutex<BinaryHeap<Reverse<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    due: Timestamp,
    timer: Timer,
    channel: Arc<Channel>,
}

impl Timers {
    pub fn set(&self, due: Timestamp, timer: Timer, channel: &Arc<Channel>) {
        self.heap.lock().push(Reverse(Entry { due, timer, channel: Arc::clone(channel) }));
    }

    /// One that is due.
    pub fn pop(&self, now: Timestamp) -> Option<(Timer, Arc<Channel>)> {
        let mut heap = self.heap.lock();
        if heap.peek()?.0.due > now {
            return None;
        }
        heap.pop().map(|Reverse(entry)| (entry.timer, entry.channel))
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Timestamp> {
        self.heap.lock().peek().map(|entry| entry.0.due)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.due.cmp(&other.due)
    }
}
