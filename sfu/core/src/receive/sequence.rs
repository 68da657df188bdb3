//! Counting on through the wraps of 16-bit sequence numbers.

/// Extends 16-bit numbers to 64 bits: each is taken as the one nearest to the highest so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SeqExtender {
    highest: Option<u64>,
}

/// Where counting starts, so that numbers before the first have room below it.
const START: u64 = 1 << 16;

impl SeqExtender {
    /// The extended number. Its low 16 bits are `seq`.
    pub(crate) fn extend(&mut self, seq: u16) -> u64 {
        let Some(highest) = self.highest else {
            let first = START + u64::from(seq);
            self.highest = Some(first);
            return first;
        };
        let delta = seq.wrapping_sub(highest as u16) as i16;
        let mut extended = highest.wrapping_add_signed(i64::from(delta));
        if extended > u64::MAX / 2 {
            // Walking backwards through the start of counting: one turn up keeps the low bits.
            extended = u64::from(seq);
        }
        self.highest = Some(highest.max(extended));
        extended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_on_through_wraps_in_both_directions() {
        let mut extender = SeqExtender::default();
        let first = extender.extend(65_534);
        assert_eq!(extender.extend(1), first + 3);
        assert_eq!(extender.extend(65_535), first + 1);
        assert_eq!(extender.extend(2), first + 4);
    }

    #[test]
    fn a_number_before_the_first_stays_below_it() {
        let mut extender = SeqExtender::default();
        let first = extender.extend(0);
        assert_eq!(extender.extend(65_535), first - 1);
    }
}
