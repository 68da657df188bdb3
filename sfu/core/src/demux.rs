//! Which participant a datagram is from: by the ICE user name for STUN, by the path for everything else.

use std::collections::HashMap;

use crate::path::Path;

/// Where a participant stands in the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The room's index.
    pub room: u32,
    /// The participant's index in the room.
    pub participant: u32,
}

/// The protocol of a datagram, by its first byte (RFC 7983).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// 0..=3.
    Stun,
    /// 20..=63.
    Dtls,
    /// 128..=191: RTP and RTCP.
    Rtp,
}

impl Protocol {
    /// The protocol of a datagram; `None` when it is none of ours.
    pub fn of(datagram: &[u8]) -> Option<Protocol> {
        match datagram.first()? {
            0..=3 => Some(Protocol::Stun),
            20..=63 => Some(Protocol::Dtls),
            128..=191 => Some(Protocol::Rtp),
            _ => None,
        }
    }
}

/// The engine's tables of user names and paths. Entries are made for authenticated peers only.
#[derive(Debug)]
pub struct Demux {
    place_by_ufrag: HashMap<Box<str>, Place, ahash::RandomState>,
    place_by_path: HashMap<Path, Place, ahash::RandomState>,
}

impl Demux {
    /// Empty tables; peers choose the keys, so `seeds` must be secret.
    pub fn new(seeds: [u64; 4]) -> Self {
        let hasher = ahash::RandomState::with_seeds(seeds[0], seeds[1], seeds[2], seeds[3]);
        Self {
            place_by_ufrag: HashMap::with_hasher(hasher.clone()),
            place_by_path: HashMap::with_hasher(hasher),
        }
    }

    /// The participant whose server-side user name fragment this is.
    pub fn by_ufrag(&self, ufrag: &str) -> Option<Place> {
        self.place_by_ufrag.get(ufrag).copied()
    }

    /// The participant who was authenticated on this path.
    pub fn by_path(&self, path: &Path) -> Option<Place> {
        self.place_by_path.get(path).copied()
    }

    /// Registers a user name fragment.
    pub fn add_ufrag(&mut self, ufrag: &str, place: Place) {
        self.place_by_ufrag.insert(ufrag.into(), place);
    }

    /// Registers an authenticated path. A path moves to whoever authenticated on it last.
    pub fn add_path(&mut self, path: Path, place: Place) {
        self.place_by_path.insert(path, place);
    }

    /// Forgets a user name fragment.
    pub fn remove_ufrag(&mut self, ufrag: &str) {
        self.place_by_ufrag.remove(ufrag);
    }

    /// Forgets a path, if it still is this participant's.
    pub fn remove_path(&mut self, path: &Path, place: Place) {
        if self.place_by_path.get(path) == Some(&place) {
            self.place_by_path.remove(path);
        }
    }

    /// How many user name fragments are known.
    pub fn ufrags(&self) -> usize {
        self.place_by_ufrag.len()
    }

    /// How many paths are known.
    pub fn paths(&self) -> usize {
        self.place_by_path.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_tells_the_protocol() {
        assert_eq!(Protocol::of(&[0]), Some(Protocol::Stun));
        assert_eq!(Protocol::of(&[22, 254, 253]), Some(Protocol::Dtls));
        assert_eq!(Protocol::of(&[0x80]), Some(Protocol::Rtp));
        assert_eq!(Protocol::of(&[0x40]), None);
        assert_eq!(Protocol::of(&[]), None);
    }
}
