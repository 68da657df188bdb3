//! A window: who came to a channel and who left in a short while, told in one message.

use std::collections::BTreeMap;

use crate::message::{Presence, PresenceEntry};
use crate::name::ConnectionId;

/// For how long comings and goings are collected, in milliseconds.
pub(crate) const WINDOW: u64 = 250;

/// Who came and who left since the last message: of each connection the last that it did. Who came and left is told of as
/// having left, since somebody may have been given a list with them in between.
#[derive(Debug, Default)]
pub(crate) struct Window {
    changes: BTreeMap<ConnectionId, Change>,
    /// Changes that found the window full.
    omitted: usize,
}

#[derive(Debug)]
enum Change {
    Joined(PresenceEntry),
    Left(PresenceEntry),
}

impl Window {
    /// Somebody came, or has another name.
    pub fn join(&mut self, entry: PresenceEntry, bound: usize) {
        self.insert(entry.connection_id, Change::Joined(entry), bound);
    }

    /// Somebody left.
    pub fn leave(&mut self, entry: PresenceEntry, bound: usize) {
        self.insert(entry.connection_id, Change::Left(entry), bound);
    }

    /// What is to be told; `None` if nothing has changed.
    pub fn close(self, present: usize) -> Option<Presence> {
        let mut presence = Presence { present, omitted: self.omitted, ..Presence::default() };
        for change in self.changes.into_values() {
            match change {
                Change::Joined(entry) => presence.joined.push(entry),
                Change::Left(entry) => presence.left.push(entry),
            }
        }
        presence.joined.sort_by_key(|entry| (entry.since, entry.connection_id));
        presence.left.sort_by_key(|entry| (entry.since, entry.connection_id));
        let is_empty = presence.joined.is_empty() && presence.left.is_empty() && presence.omitted == 0;
        (!is_empty).then_some(presence)
    }

    fn insert(&mut self, id: ConnectionId, change: Change, bound: usize) {
        if self.changes.len() < bound || self.changes.contains_key(&id) {
            self.changes.insert(id, change);
        } else {
            self.omitted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Timestamp;

    fn entry(id: u64) -> PresenceEntry {
        PresenceEntry {
            user_id: None,
            name: "n".into(),
            connection_id: ConnectionId(id),
            since: Timestamp(id),
            attributes: None,
        }
    }

    fn ids(entries: &[PresenceEntry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.connection_id.0).collect()
    }

    #[test]
    fn the_last_that_each_did_is_told_at_once() {
        let mut window = Window::default();
        for id in [3, 1, 2] {
            window.join(entry(id), 10);
        }
        window.leave(entry(1), 10);
        window.leave(entry(9), 10);
        window.leave(entry(8), 10);
        window.join(entry(8), 10);
        let told = window.close(2).unwrap();
        assert_eq!((ids(&told.joined), ids(&told.left)), (vec![2, 3, 8], vec![1, 9]));
        assert_eq!((told.present, told.omitted), (2, 0));
        assert!(Window::default().close(0).is_none());
    }

    #[test]
    fn a_crowd_is_counted() {
        let mut window = Window::default();
        for id in 0..10 {
            window.join(entry(id), 4);
        }
        let told = window.close(10).unwrap();
        assert_eq!((told.joined.len(), told.present, told.omitted), (4, 10, 6));
    }
}
