//! A shelf: the newest messages of a channel in order of offset, bounded by count and memory. History is one, and what is
//! kept is another.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::message::Message;
use crate::name::Timestamp;

/// Messages of one channel.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    messages: VecDeque<Arc<Message>>,
    weight: usize,
    /// The newest offset that is not here any more, or was never put here.
    through: u64,
}

/// What a shelf may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds<'a> {
    pub messages: usize,
    pub bytes: usize,
    /// What all shelves of this kind hold, and may hold.
    pub total: &'a AtomicUsize,
    pub total_bytes: usize,
    /// What is left to a shelf even then: its fair share of the total, so that nobody can empty those of others.
    pub share: usize,
}

impl Shelf {
    /// Everything up to `offset` is said to be gone.
    pub fn begin_after(&mut self, offset: u64) {
        self.through = self.through.max(offset);
    }

    /// The newest offset of which it is said that it is gone.
    pub fn through(&self) -> u64 {
        self.through
    }

    pub fn push(&mut self, message: Arc<Message>, bounds: Bounds<'_>) {
        self.weight += message.weight();
        bounds.total.fetch_add(message.weight(), Ordering::Relaxed);
        self.messages.push_back(message);
        while self.messages.len() > bounds.messages
            || self.weight > bounds.bytes
            || self.weight > bounds.share && bounds.total.load(Ordering::Relaxed) > bounds.total_bytes
            // Shares were larger while there were fewer channels.
            || bounds.total.load(Ordering::Relaxed) > 2 * bounds.total_bytes
        {
            if !self.pop(bounds.total) {
                break;
            }
        }
    }

    /// Drops what was taken at `through` or before.
    pub fn expire(&mut self, through: Timestamp, total: &AtomicUsize) {
        while self.messages.front().is_some_and(|message| message.time <= through) {
            self.pop(total);
        }
    }

    pub fn clear(&mut self, total: &AtomicUsize) {
        while self.pop(total) {}
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// When the oldest message was taken.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.messages.front().map(|message| message.time)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Message>> {
        self.messages.iter()
    }

    /// Whether everything after `offset` is here.
    pub fn covers(&self, offset: u64) -> bool {
        offset >= self.through
    }

    /// The messages after `offset`.
    pub fn after(&self, offset: u64) -> impl ExactSizeIterator<Item = &Arc<Message>> {
        let first = self.messages.partition_point(|message| message.offset() <= offset);
        self.messages.range(first..)
    }

    fn pop(&mut self, total: &AtomicUsize) -> bool {
        let Some(message) = self.messages.pop_front() else { return false };
        self.weight -= message.weight();
        total.fetch_sub(message.weight(), Ordering::Relaxed);
        self.through = self.through.max(message.offset());
        if self.messages.is_empty() {
            self.messages = VecDeque::new();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Body, To};
    use crate::name::{ChannelName, Epoch, MessageId, Position};
    use serde_json::value::RawValue;

    fn message(offset: u64) -> Arc<Message> {
        let to = To::Channel {
            name: ChannelName::new("c").unwrap(),
            position: Position { epoch: Epoch(1), offset },
        };
        let body = Body::Data(RawValue::from_string("1".into()).unwrap());
        Arc::new(Message::new(MessageId(offset), Timestamp(offset * 10), None, to, false, body))
    }

    fn offsets(shelf: &Shelf, after: u64) -> Vec<u64> {
        shelf.after(after).map(|message| message.offset()).collect()
    }

    #[test]
    fn the_oldest_go_by_count_age_and_memory() {
        let total = AtomicUsize::new(0);
        let weight = message(1).weight();
        let bounds =
            Bounds { messages: 3, bytes: usize::MAX, total: &total, total_bytes: usize::MAX, share: 0 };
        let mut shelf = Shelf::default();
        for offset in [1, 2, 4, 5] {
            shelf.push(message(offset), bounds);
        }
        assert_eq!(offsets(&shelf, 0), [2, 4, 5]);
        assert_eq!(offsets(&shelf, 3), [4, 5]);
        assert!(shelf.covers(1) && !shelf.covers(0));
        assert_eq!(total.load(Ordering::Relaxed), 3 * weight);
        shelf.expire(Timestamp(20), &total);
        assert_eq!((offsets(&shelf, 0), shelf.oldest()), (vec![4, 5], Some(Timestamp(40))));
        shelf.push(message(6), Bounds { bytes: weight * 2, ..bounds });
        assert_eq!(offsets(&shelf, 0), [5, 6]);
        total.fetch_add(weight * 5, Ordering::Relaxed);
        shelf.push(message(7), Bounds { total_bytes: weight * 6, ..bounds });
        assert_eq!(offsets(&shelf, 0), [7]);
        shelf.push(message(8), Bounds { total_bytes: weight * 3, share: weight, ..bounds });
        assert_eq!(offsets(&shelf, 0), [8], "its share is left to it");
        shelf.push(message(8), Bounds { total_bytes: weight * 2, share: weight, ..bounds });
        assert!(shelf.is_empty(), "but not of more than twice the total");
        shelf.push(message(8), Bounds { total_bytes: weight * 3, share: weight, ..bounds });
        shelf.push(message(8), Bounds { total_bytes: weight, ..bounds });
        assert!(shelf.is_empty() && shelf.covers(8) && !shelf.covers(7));
        assert_eq!(total.load(Ordering::Relaxed), weight * 5);
    }
}
