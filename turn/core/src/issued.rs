//! The time-limited names that a server has made itself: who hides one (RFC 8489 section 9.2) is known by its hash.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::credentials::user_hash;

/// How many names are known at most. While more are good, clients are not asked to hide theirs.
const MAX_NAMES: usize = 1 << 16;

/// How often a full table is looked through for names whose time is over, in seconds.
const SWEEP_EVERY: u64 = 60;

/// The names that are good now. Shared by those who make them and the workers of a server.
#[derive(Debug)]
pub struct IssuedNames {
    realm: String,
    most: usize,
    table: Mutex<Table>,
    /// Until when there are names that found no room, in seconds since 1970.
    lacks_until: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    /// Each with the second since 1970 when its time is over.
    name_by_hash: HashMap<[u8; 32], (Box<str>, u64)>,
    next_sweep: u64,
}

impl IssuedNames {
    /// None yet. `realm` is part of the hashes.
    pub fn new(realm: &str) -> Self {
        Self::with_room(realm, MAX_NAMES)
    }

    fn with_room(realm: &str, most: usize) -> Self {
        Self { realm: realm.to_owned(), most, table: Mutex::default(), lacks_until: AtomicU64::new(0) }
    }

    /// A name was made that is good until `expires`; it is `now` (both in seconds since 1970).
    pub fn note(&self, name: &str, expires: u64, now: u64) {
        let hash = user_hash(name, &self.realm);
        let mut table = self.table.lock();
        if table.name_by_hash.len() >= self.most && table.next_sweep <= now {
            table.next_sweep = now + SWEEP_EVERY;
            table.name_by_hash.retain(|_, (_, expires)| now < *expires);
        }
        if table.name_by_hash.len() < self.most || table.name_by_hash.contains_key(&hash) {
            table.name_by_hash.insert(hash, (name.into(), expires));
        } else {
            self.lacks_until.fetch_max(expires, Relaxed);
        }
    }

    /// Whether all names are known that are good now.
    pub(crate) fn are_complete(&self, now: u64) -> bool {
        self.lacks_until.load(Relaxed) <= now
    }

    /// The name behind a hash.
    pub(crate) fn name(&self, hash: &[u8; 32]) -> Option<Box<str>> {
        self.table.lock().name_by_hash.get(hash).map(|(name, _)| name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_for_their_time_and_a_full_table_says_so() {
        let names = IssuedNames::with_room("r", 2);
        names.note("100:ann", 100, 0);
        names.note("200:bob", 200, 0);
        names.note("200:bob", 200, 0);
        assert!(names.are_complete(0));
        assert_eq!(names.name(&user_hash("100:ann", "r")).as_deref(), Some("100:ann"));
        assert_eq!(names.name(&user_hash("100:ann", "another")), None);
        names.note("150:cid", 150, 0);
        assert!(!names.are_complete(149) && names.are_complete(150), "until nobody can have it any more");
        assert_eq!(names.name(&user_hash("150:cid", "r")), None);
        names.note("300:dan", 300, 150);
        assert_eq!(names.name(&user_hash("300:dan", "r")).as_deref(), Some("300:dan"));
        assert_eq!(names.name(&user_hash("100:ann", "r")), None, "made room");
        assert!(names.are_complete(150));
    }
}
