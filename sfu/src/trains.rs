//! Grouping packets into trains: what the kernel cuts into datagrams by itself (UDP GSO), with one call for all.

use std::ops::Range;

/// The most bytes of one train: the largest UDP payload over IPv4, which counts for the whole train
/// (RFC 768, RFC 791: 65,535 less the IP and UDP headers).
pub(crate) const MAX_TRAIN_BYTES: usize = 65_507;

/// Some packets of one size, the last of them perhaps shorter, that lie one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Train {
    /// Where they are in the run.
    pub(crate) bytes: Range<usize>,
    /// The size of each but the last.
    pub(crate) segment: usize,
    /// How many they are.
    pub(crate) packets: usize,
}

/// Cuts a run of packets, given by where each ends, into trains of at most `max_packets` packets.
pub(crate) fn trains(ends: &[u32], max_packets: usize) -> Trains<'_> {
    Trains { ends, start: 0, max_packets }
}

/// See [`trains`].
#[derive(Clone, Debug)]
pub(crate) struct Trains<'a> {
    ends: &'a [u32],
    start: usize,
    max_packets: usize,
}

impl Iterator for Trains<'_> {
    type Item = Train;

    fn next(&mut self) -> Option<Train> {
        let (&first, mut rest) = self.ends.split_first()?;
        let start = self.start;
        let mut end = first as usize;
        let segment = end.saturating_sub(start);
        let mut packets = 1;
        // A shorter packet ends its train; a single empty one cannot have companions at all.
        let mut open = segment > 0;
        while let (true, Some((&next, after))) = (open && packets < self.max_packets, rest.split_first()) {
            let size = (next as usize).saturating_sub(end);
            if size == 0 || size > segment || end - start + size > MAX_TRAIN_BYTES {
                break;
            }
            end += size;
            packets += 1;
            rest = after;
            open = size == segment;
        }
        self.ends = rest;
        self.start = end;
        Some(Train { bytes: start..end, segment, packets })
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn ends(sizes: &[usize]) -> Vec<u32> {
        sizes
            .iter()
            .scan(0, |end, size| {
                *end += *size as u32;
                Some(*end)
            })
            .collect()
    }

    fn packets_per_train(sizes: &[usize], max_packets: usize) -> Vec<usize> {
        trains(&ends(sizes), max_packets).map(|train| train.packets).collect()
    }

    #[test]
    fn equal_sizes_travel_together_and_a_shorter_one_closes_the_train() {
        assert_eq!(packets_per_train(&[], 64), []);
        assert_eq!(packets_per_train(&[1200, 1200, 700, 700, 900], 64), [3, 1, 1]);
        assert_eq!(packets_per_train(&[100, 1200, 1200], 64), [1, 2]);
        assert_eq!(packets_per_train(&[50, 50, 50, 50, 50], 2), [2, 2, 1]);
        assert_eq!(packets_per_train(&[50, 50], 1), [1, 1]);
        assert_eq!(packets_per_train(&[0, 0, 50, 0, 50], 64), [1, 1, 1, 1, 1]);
    }

    #[test]
    fn a_train_never_exceeds_a_udp_payload() {
        assert_eq!(packets_per_train(&[1200; 60], 64), [54, 6]);
    }

    #[test]
    fn every_packet_is_in_exactly_one_train_and_trains_obey_the_kernel() {
        let mut random = StdRng::seed_from_u64(7);
        for _ in 0..2_000 {
            let palette: Vec<usize> = (0..3).map(|_| random.random_range(1..1500)).collect();
            let sizes: Vec<usize> =
                (0..random.random_range(0..200)).map(|_| palette[random.random_range(0..3)]).collect();
            let max_packets = random.random_range(1..=64);

            let mut remaining = sizes.as_slice();
            let mut start = 0;
            for train in trains(&ends(&sizes), max_packets) {
                let (mine, others) = remaining.split_at(train.packets);
                assert!(train.packets <= max_packets && train.bytes.len() <= MAX_TRAIN_BYTES);
                assert_eq!(train.bytes, start..start + mine.iter().sum::<usize>());
                let (last, full) = mine.split_last().unwrap();
                assert!(full.iter().all(|&size| size == train.segment) && *last <= train.segment);
                start = train.bytes.end;
                remaining = others;
            }
            assert!(remaining.is_empty());
        }
    }
}
