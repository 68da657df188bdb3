//! Numbers that wrap: sequence numbers and timestamps, compared and extended.

/// How far `to` is behind `from` in sending order, the short way round; negative when it is in front.
pub fn distance(from: u16, to: u16) -> i16 {
    to.wrapping_sub(from) as i16
}

/// Whether sequence number `a` was sent after `b`.
pub fn is_newer(a: u16, b: u16) -> bool {
    distance(b, a) > 0
}

/// The same as [`distance`] for timestamps.
pub fn timestamp_distance(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from) as i32
}

/// Whether timestamp `a` is later than `b`.
pub fn is_newer_timestamp(a: u32, b: u32) -> bool {
    timestamp_distance(b, a) > 0
}

macro_rules! extender {
    ($(#[$doc:meta])* $name:ident, $short:ty, $signed:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            highest: Option<u64>,
        }

        impl $name {
            /// The extended number, and remembers it when it is the highest so far.
            pub fn extend(&mut self, number: $short) -> u64 {
                let extended = self.peek(number);
                self.highest = self.highest.max(Some(extended));
                extended
            }

            /// The extended number, without remembering it.
            pub fn peek(&self, number: $short) -> u64 {
                let Some(highest) = self.highest else { return (1 << <$short>::BITS) + u64::from(number) };
                let step = number.wrapping_sub(highest as $short) as $signed;
                highest.saturating_add_signed(i64::from(step))
            }

            /// The highest number so far.
            pub fn highest(&self) -> Option<u64> {
                self.highest
            }
        }
    };
}

extender!(
    /// Extends sequence numbers to 64 bits, so that they never wrap: each is taken to be the one nearest to the
    /// highest so far. The low 16 bits stay the number; the first lies in the second cycle, so that those
    /// which come late have room below it.
    SeqExtender, u16, i16
);
extender!(
    /// The same as [`SeqExtender`] for timestamps of 32 bits.
    TimestampExtender, u32, i32
);

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        assert!(is_newer(0, 65_535) && !is_newer(65_535, 0) && !is_newer(7, 7));
        assert!(is_newer(40_000, 10_000) && is_newer(5_000, 40_000));
        assert_eq!(distance(65_530, 4), 10);
        assert_eq!(distance(4, 65_530), -10);
        assert!(is_newer_timestamp(5, u32::MAX - 5) && !is_newer_timestamp(u32::MAX - 5, 5));
        assert_eq!(timestamp_distance(u32::MAX, 1), 2);
    }

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
        let mut times = TimestampExtender::default();
        let start = 65_536 + 65_000;
        let far = (1 << 32) + u64::from(u32::MAX - 1_000_000);
        seqs.extend(start as u16);
        times.extend(far as u32);
        for i in 0..200_000u64 {
            let seq = start - 65_536 + 65_536 + i - rng.random_range(0..=i.min(1_000));
            assert_eq!(seqs.extend(seq as u16), seq);
            let time = far + 3_000 * i - rng.random_range(0..=i.min(1_000));
            assert_eq!(times.extend(time as u32), time);
        }
    }
}
