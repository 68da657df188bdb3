//! When payloads of recordings were sent. They have no room for a stamp; their last bytes tell them apart, which no server
//! changes.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes at the end of a payload by which it is known.
const TAIL: usize = 16;
/// As many payloads are remembered; the newest takes the place of another. Ten seconds of a hundred cameras' packets.
const REMEMBERED: usize = 1 << 18;
/// The lower bits are the time in units of 1,024 ns, three days of it; the upper ones tell payloads of one place apart.
const TIME_BITS: u32 = 48;

/// Shared by all who send and receive in this process, without a lock.
#[derive(Debug)]
pub struct SendTimes(Box<[AtomicU64]>);

impl Default for SendTimes {
    fn default() -> Self {
        Self((0..REMEMBERED).map(|_| AtomicU64::new(0)).collect())
    }
}

impl SendTimes {
    /// Remembers when a payload was sent, in nanoseconds.
    pub fn note(&self, payload: &[u8], nanos: u64) {
        if let Some((index, tag)) = place(payload) {
            self.0[index].store(tag << TIME_BITS | time(nanos), Ordering::Relaxed);
        }
    }

    /// When a payload was sent, to the microsecond; `None` when that is not known any more.
    pub fn find(&self, payload: &[u8]) -> Option<u64> {
        let (index, tag) = place(payload)?;
        let entry = self.0[index].load(Ordering::Relaxed);
        (entry >> TIME_BITS == tag).then_some((entry & ((1 << TIME_BITS) - 1)) << 10)
    }
}

fn time(nanos: u64) -> u64 {
    nanos >> 10 & ((1 << TIME_BITS) - 1)
}

/// By a hash of the last bytes (FNV-1a, over words).
fn place(payload: &[u8]) -> Option<(usize, u64)> {
    let tail = payload.last_chunk::<TAIL>()?;
    let words = tail.as_chunks::<8>().0.iter().map(|word| u64::from_be_bytes(*word));
    let hash = words.fold(0xcbf2_9ce4_8422_2325, |hash: u64, word| {
        let mixed = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 29
    });
    // 0 is the empty place.
    Some((hash as usize % REMEMBERED, (hash >> TIME_BITS).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_known_by_their_ends() {
        let times = SendTimes::default();
        let payload: Vec<u8> = (0..40).collect();
        assert_eq!(times.find(&payload), None);
        times.note(&payload, 5_000_000_000);
        let mut rewritten = payload.clone();
        rewritten[0] = 99;
        assert!(times.find(&rewritten).is_some_and(|nanos| 5_000_000_000 - nanos < 1_024));
        rewritten[39] ^= 1;
        assert_eq!(times.find(&rewritten), None);
        assert_eq!(times.find(&[1; 5]), None);
    }
}
