//! Maps in many parts, so that those who look for different things do not wait for each other.

use std::hash::Hash;

use ahash::RandomState;
use parking_lot::{Mutex, MutexGuard};

type Map<K, V> = std::collections::HashMap<K, V, RandomState>;

const SHARDS: usize = 64;

/// A map in many parts.
#[derive(Debug)]
pub(crate) struct Sharded<K, V> {
    shards: Box<[Mutex<Map<K, V>>]>,
    hasher: RandomState,
}

impl<K: Eq + Hash, V> Sharded<K, V> {
    /// The hasher is secret, since clients choose many of the keys.
    pub fn new(hasher: RandomState) -> Self {
        let shard = || Mutex::new(Map::with_hasher(hasher.clone()));
        Self { shards: (0..SHARDS).map(|_| shard()).collect(), hasher }
    }

    /// The part that has the key, if any has.
    pub fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> MutexGuard<'_, Map<K, V>> {
        // The map's own buckets are chosen by other bits of the same hash.
        let index = (self.hasher.hash_one(key) >> 48) as usize % SHARDS;
        self.shards[index].lock()
    }

    /// All parts, one after the other.
    pub fn shards(&self) -> impl Iterator<Item = MutexGuard<'_, Map<K, V>>> {
        self.shards.iter().map(Mutex::lock)
    }
}
