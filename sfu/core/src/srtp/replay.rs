//! Which packets were seen, and which index a sequence number means (RFC 3711 section 3.3, appendix A).

use crate::drops::DropReason;

/// Remembers the last `WORDS * 64` indices below and with the highest that was seen.
#[derive(Clone, Debug)]
pub(super) struct ReplayWindow<const WORDS: usize> {
    highest: u64,
    /// One bit for each index, at the index modulo the size.
    seen: [u64; WORDS],
}

impl<const WORDS: usize> ReplayWindow<WORDS> {
    const SIZE: u64 = WORDS as u64 * 64;

    /// A window that begins with its first packet.
    pub(super) fn new(first: u64) -> Self {
        let mut window = Self { highest: first, seen: [0; WORDS] };
        window.mark(first);
        window
    }

    /// The highest index that was seen.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether a packet may be new. To be asked before it is authenticated.
    pub(super) fn check(&self, index: u64) -> Result<(), DropReason> {
        if index > self.highest {
            Ok(())
        } else if self.highest - index >= Self::SIZE {
            Err(DropReason::SrtpTooOld)
        } else if self.seen[word(index, WORDS)] & bit(index) != 0 {
            Err(DropReason::SrtpReplayed)
        } else {
            Ok(())
        }
    }

    /// Notes a packet that was checked and is authentic.
    pub(super) fn insert(&mut self, index: u64) {
        if index > self.highest {
            if index - self.highest >= Self::SIZE {
                self.seen.fill(0);
            } else {
                for skipped in self.highest + 1..index {
                    self.seen[word(skipped, WORDS)] &= !bit(skipped);
                }
            }
            self.highest = index;
        }
        self.mark(index);
    }

    fn mark(&mut self, index: u64) {
        self.seen[word(index, WORDS)] |= bit(index);
    }
}

/// The index (roll-over counter and sequence number) that a sequence number most likely means, when `highest` is
/// the highest index so far (RFC 3711 section 3.3.1). `None` beyond the last that a key may have.
pub(super) fn estimate_index(highest: u64, seq: u16) -> Option<u64> {
    let roc = highest >> 16;
    let last = highest as u16;
    let roc = if last < 0x8000 {
        // Before the first roll-over there is nothing to be late from: it must be a jump ahead.
        if seq > last && seq - last > 0x8000 && roc > 0 { roc - 1 } else { roc }
    } else if last - 0x8000 > seq {
        roc + 1
    } else {
        roc
    };
    u32::try_from(roc).is_ok().then_some(roc << 16 | u64::from(seq))
}

fn word(index: u64, words: usize) -> usize {
    (index / 64) as usize % words
}

fn bit(index: u64) -> u64 {
    1 << (index % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    type Window = ReplayWindow<16>;

    #[test]
    fn each_index_passes_once_within_the_window() {
        let mut window = Window::new(5000);
        assert_eq!(window.check(5000), Err(DropReason::SrtpReplayed));
        assert_eq!(window.check(5000 - 1023), Ok(()));
        assert_eq!(window.check(5000 - 1024), Err(DropReason::SrtpTooOld));
        window.insert(5000 - 1023);
        assert_eq!(window.check(5000 - 1023), Err(DropReason::SrtpReplayed));
        window.insert(5001);
        assert_eq!(window.check(5000 - 1023), Err(DropReason::SrtpTooOld));
        window.insert(1_000_000);
        assert_eq!(window.check(999_999), Ok(()));
        assert_eq!(window.highest(), 1_000_000);
    }

    #[test]
    fn it_agrees_with_a_set_of_everything_seen() {
        let mut random = StdRng::seed_from_u64(3711);
        let mut window = Window::new(3000);
        let (mut seen, mut highest) = (HashSet::from([3000]), 3000_u64);
        for _ in 0..100_000 {
            let reach = if random.random_bool(0.02) { 3000 } else { 40 };
            let index = random.random_range(highest.saturating_sub(1100)..highest + reach);
            let expected = if index + 1024 <= highest {
                Err(DropReason::SrtpTooOld)
            } else if seen.contains(&index) {
                Err(DropReason::SrtpReplayed)
            } else {
                Ok(())
            };
            assert_eq!(window.check(index), expected);
            if expected.is_ok() {
                window.insert(index);
                seen.insert(index);
                highest = highest.max(index);
            }
        }
    }

    #[test]
    fn sequence_numbers_roll_over_both_ways() {
        let at = |roc: u64, seq: u64| roc << 16 | seq;
        assert_eq!(estimate_index(at(0, 65535), 0), Some(at(1, 0)));
        assert_eq!(estimate_index(at(1, 0), 65535), Some(at(0, 65535)));
        assert_eq!(estimate_index(at(7, 100), 101), Some(at(7, 101)));
        assert_eq!(estimate_index(at(7, 40_000), 10), Some(at(8, 10)));
        assert_eq!(estimate_index(at(7, 10), 40_000), Some(at(6, 40_000)));
        assert_eq!(estimate_index(at(0, 10), 40_000), Some(at(0, 40_000)));
        assert_eq!(estimate_index(at(u32::MAX.into(), 65535), 0), None);
    }
}
