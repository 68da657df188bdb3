//! Sequence numbers, which wrap, extended so that they do not.

/// Extends sequence numbers to 64 bits: each is taken to be the one nearest to the highest so far. The low 16 bits stay
/// the number; the first lies in the second cycle, so that those which come late have room below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeqExtender {
    highest: Option<u64>,
}

impl SeqExtender {
    /// The extended number, and remembers it when it is the highest so far.
    pub fn extend(&mut self, number: u16) -> u64 {
        let extended = self.peek(number);
        self.highest = self.highest.max(Some(extended));
        extended
    }

    /// The extended number, without remembering it.
    pub fn peek(&self, number: u16) -> u64 {
        let Some(highest) = self.highest else { return (1 << u16::BITS) + u64::from(number) };
        let step = number.wrapping_sub(highest as u16) as i16;
        highest.saturating_add_signed(i64::from(step))
    }

    /// The highest number so far.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn the_first_number_has_room_below_it() {
        let mut extender = SeqExtender::default();
        let first = extender.extend(3);
        assert_eq!(extender.extend(65_530), first - 9);
        assert_eq!(extender.highest(), Some(first));
        assert_eq!(extender.extend(5), first + 2);
    }

    #[test]
    fn reordered_streams_are_extended_to_what_they_were() {
        let mut rng = StdRng::seed_from_u64(6);
        let mut seqs = SeqExtender::default();
        let start = 65_536 + 65_000;
        seqs.extend(start as u16);
        for i in 0..200_000u64 {
            let seq = start + i - rng.random_range(0..=i.min(1_000));
            assert_eq!(seqs.extend(seq as u16), seq);
        }
    }
}
