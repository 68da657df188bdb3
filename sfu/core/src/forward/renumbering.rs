//! Sequence numbers without holes while packets are left out: what a dropped packet does not take, and where each number
//! that was given out came from.

/// How many numbers back this remembers: as many as can be repaired.
const LEN: usize = 1024;

/// One slot's last numbers, found by the number that went out.
#[derive(Debug)]
pub struct Renumbering {
    entries: Box<[Given; LEN]>,
}

/// A number that was given out: to a packet, or kept for one that is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// How many packets of its segment were left out before it.
    pub dropped: u32,
    /// How many pictures of its segment, modulo 2^16.
    pub pictures: u16,
    /// It went out with the marker, which its source did not have.
    pub marker: bool,
    /// The packet that it was kept for was to be left out, and it went out as padding.
    pub padding: bool,
}

impl Default for Renumbering {
    /// For a slot that has never left anything out so far.
    fn default() -> Self {
        Self { entries: Box::new([Given::default(); LEN]) }
    }
}

impl Renumbering {
    /// Gives a number out; numbers must be given out without gaps.
    pub fn give(&mut self, out: u64, given: Given) {
        self.entries[out as usize % LEN] = given;
    }

    /// How a number was given out; `next` is the number after the last one. `None` when that is too long ago.
    pub fn get(&self, out: u64, next: u64) -> Option<Given> {
        (out < next && next - out <= LEN as u64).then(|| self.entries[out as usize % LEN])
    }

    /// The number that was kept for a packet which is `ahead` of the first one of its segment; `first` is the number of
    /// that one, `next` the one after the last. `None` when the packet was left out, or is too old.
    pub fn find(&self, ahead: u64, first: u64, next: u64) -> Option<u64> {
        let (mut low, mut high) = (first.max(next.saturating_sub(LEN as u64)), next);
        // What went out and what was left out before it only ever grow.
        while low < high {
            let middle = u64::midpoint(low, high);
            let at = middle - first + u64::from(self.entries[middle as usize % LEN].dropped);
            match at.cmp(&ahead) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_both_ways() {
        let mut numbers = Renumbering::default();
        let first = 70_000;
        let mut next = first;
        // Every third packet is left out.
        let mut dropped = 0;
        for ahead in 0..3_000_u64 {
            if ahead % 3 == 2 {
                dropped += 1;
                continue;
            }
            numbers.give(next, Given { dropped, ..Given::default() });
            next += 1;
        }
        for ahead in 1_470..3_000 {
            let expected = (ahead % 3 != 2).then_some(first + ahead - ahead / 3);
            assert_eq!(numbers.find(ahead, first, next), expected, "{ahead}");
        }
        assert_eq!(numbers.find(10, first, next), None, "too old");
        assert_eq!(numbers.get(first, next), None);
        assert_eq!(numbers.get(next, next), None);
        assert_eq!(numbers.get(next - 1, next).map(|g| g.dropped), Some(999));
    }
}
