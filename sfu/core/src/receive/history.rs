//! The packets of a layer that may have to be sent again, stored once for all who receive it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How much a [`History`] remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// The most packets; rounded up to a power of two.
    pub packets: usize,
    /// The most bytes of packets; rounded up to whole blocks.
    pub bytes: usize,
    /// The bytes of one block: storage grows by it, and no packet may be longer.
    pub block: usize,
    /// Packets older than this are not given out and their storage is used again.
    pub age: Duration,
}

impl HistoryLimits {
    /// For a layer of video: 1,024 packets, 1.5 MB, one second.
    pub const VIDEO: Self =
        Self { packets: 1024, bytes: 1536 * 1024, block: 32 * 1024, age: Duration::from_secs(1) };

    /// For a track of audio: 64 packets, 64 KB, one second.
    pub const AUDIO: Self =
        Self { packets: 64, bytes: 64 * 1024, block: 4 * 1024, age: Duration::from_secs(1) };
}

/// A bounded memory of the last packets of a layer, each with a small note `M` on it.
///
/// Packets lie one behind the other in blocks that are used in turn. A block is added only when the oldest one still
/// holds packets that may be asked for, so a layer of low rate stays small; in a steady stream nothing is allocated.
#[derive(Debug)]
pub struct History<M> {
    limits: HistoryLimits,
    /// Oldest first; packets are added to the last.
    blocks: VecDeque<Block>,
    /// The number of the first of `blocks`; numbers go on for ever.
    first_block: u64,
    /// Where the packet `seq` lies, at `seq % index.len()`. A power of two in length, or empty.
    index: Vec<Option<Entry<M>>>,
    highest: Option<u64>,
}

#[derive(Debug)]
struct Block {
    bytes: Vec<u8>,
    highest: u64,
    newest: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Entry<M> {
    seq: u64,
    block: u64,
    start: u32,
    len: u32,
    at: Instant,
    meta: M,
}

/// The first size of the index.
const FIRST_INDEX: usize = 32;

/// A block that has not been needed for so many times the age is given back.
const SPARE_AGES: u32 = 4;

impl<M: Copy> History<M> {
    /// An empty history; it takes no memory before the first packet.
    pub fn new(limits: HistoryLimits) -> Self {
        Self { limits, blocks: VecDeque::new(), first_block: 0, index: Vec::new(), highest: None }
    }

    /// Copies a packet in. `seq` is its extended sequence number. A packet that is older than the whole history, or
    /// longer than a block, is not stored. A packet that is already there is replaced.
    pub fn insert(&mut self, now: Instant, seq: u64, bytes: &[u8], meta: M) {
        let highest = self.highest.map_or(seq, |h| h.max(seq));
        if bytes.len() > self.limits.block || highest - seq >= self.max_packets() as u64 {
            return;
        }
        self.highest = Some(highest);
        self.make_room(now, bytes.len());
        self.grow_index(now, seq);

        let number = self.first_block + self.blocks.len() as u64 - 1;
        let block = self.blocks.back_mut().expect("make_room leaves a block with room");
        let start = block.bytes.len() as u32;
        block.bytes.extend_from_slice(bytes);
        block.highest = block.highest.max(seq);
        block.newest = now;
        let slot = self.slot(seq);
        self.index[slot] = Some(Entry { seq, block: number, start, len: bytes.len() as u32, at: now, meta });
    }

    /// The packet with this extended sequence number and its note, while it is younger than the age limit.
    pub fn get(&self, now: Instant, seq: u64) -> Option<(&[u8], &M)> {
        let entry = self.entry(seq)?;
        if now.saturating_duration_since(entry.at) > self.limits.age { None } else { self.read(entry) }
    }

    /// The highest sequence number that was stored.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// Forgets everything and gives the memory back.
    pub fn clear(&mut self) {
        *self = Self::new(self.limits);
    }

    /// The memory in use for packets and their index, in bytes.
    pub fn memory(&self) -> usize {
        self.blocks.len() * self.limits.block + self.index.len() * size_of::<Option<Entry<M>>>()
    }

    fn max_packets(&self) -> usize {
        self.limits.packets.next_power_of_two()
    }

    fn max_blocks(&self) -> usize {
        self.limits.bytes.div_ceil(self.limits.block.max(1)).max(2)
    }

    fn slot(&self, seq: u64) -> usize {
        (seq as usize) & (self.index.len() - 1)
    }

    fn entry(&self, seq: u64) -> Option<&Entry<M>> {
        if self.index.is_empty() {
            return None;
        }
        self.index[self.slot(seq)].as_ref().filter(|e| e.seq == seq)
    }

    fn read<'a>(&'a self, entry: &'a Entry<M>) -> Option<(&'a [u8], &'a M)> {
        let block = self.blocks.get(entry.block.checked_sub(self.first_block)? as usize)?;
        let start = entry.start as usize;
        Some((block.bytes.get(start..start + entry.len as usize)?, &entry.meta))
    }

    /// Leaves a last block with room for `len` bytes: the one in use, the oldest one if nobody may ask for its packets
    /// any more, a new one while the limit allows it, and else the oldest one all the same.
    fn make_room(&mut self, now: Instant, len: usize) {
        if self.blocks.back().is_some_and(|b| b.bytes.len() + len <= self.limits.block) {
            return;
        }
        while self.blocks.len() > 2 && self.is_spare(now, 1) {
            self.blocks.pop_front();
            self.first_block += 1;
        }
        let reuse = self.is_free(now, 0) || self.blocks.len() >= self.max_blocks();
        let mut bytes = match self.blocks.pop_front_if(|_| reuse) {
            Some(block) => {
                self.first_block += 1;
                block.bytes
            }
            None => Vec::with_capacity(self.limits.block),
        };
        bytes.clear();
        self.blocks.push_back(Block { bytes, highest: 0, newest: now });
    }

    /// Whether nobody may ask for the packets of a block any more.
    fn is_free(&self, now: Instant, block: usize) -> bool {
        let (Some(block), Some(highest)) = (self.blocks.get(block), self.highest) else { return false };
        now.saturating_duration_since(block.newest) > self.limits.age
            || highest.saturating_sub(block.highest) >= self.max_packets() as u64
    }

    /// Whether there are blocks to give back: even the second oldest has been free for long.
    fn is_spare(&self, now: Instant, block: usize) -> bool {
        self.blocks
            .get(block)
            .is_some_and(|b| now.saturating_duration_since(b.newest) > self.limits.age * SPARE_AGES)
    }

    /// Doubles the index while the place of `seq` is taken by a packet that may still be asked for.
    fn grow_index(&mut self, now: Instant, seq: u64) {
        if self.index.is_empty() {
            self.index.resize(FIRST_INDEX.min(self.max_packets()), None);
        }
        while self.index.len() < self.max_packets() {
            let taken = self.index[self.slot(seq)]
                .as_ref()
                .is_some_and(|e| e.seq != seq && now.saturating_duration_since(e.at) <= self.limits.age);
            if !taken {
                return;
            }
            let larger = vec![None; self.index.len() * 2];
            for entry in std::mem::replace(&mut self.index, larger).into_iter().flatten() {
                let slot = self.slot(entry.seq);
                self.index[slot] = Some(entry);
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn packet(seq: u64, len: usize) -> Vec<u8> {
        (0..len).map(|i| (seq as usize * 31 + i) as u8).collect()
    }

    #[test]
    fn gives_back_what_was_stored_until_it_is_overwritten_or_old() {
        let start = Instant::now();
        let mut history = History::new(HistoryLimits { packets: 64, ..HistoryLimits::VIDEO });
        for seq in 1000..1200 {
            history.insert(start + Duration::from_millis(seq - 1000), seq, &packet(seq, 900), seq as u16);
        }
        let now = start + Duration::from_millis(200);
        assert!(history.get(now, 1135).is_none(), "65 packets back");
        for seq in 1136..1200 {
            let (bytes, meta) = history.get(now, seq).expect("one of the last 64");
            assert_eq!((bytes, *meta), (packet(seq, 900).as_slice(), seq as u16));
        }
        assert!(history.get(now, 1200).is_none());
        let later = now + Duration::from_millis(1200);
        assert!(history.get(later, 1199).is_none());
    }

    #[test]
    fn memory_follows_the_rate_up_and_down_and_stays_below_the_bound() {
        let start = Instant::now();
        let mut history = History::new(HistoryLimits::VIDEO);
        assert_eq!(history.memory(), 0);
        let (mut seq, mut now) = (0, start);
        // 150 kbit/s: 16 packets of 1,170 bytes a second.
        for _ in 0..16 * 30 {
            history.insert(now, seq, &packet(seq, 1170), ());
            (seq, now) = (seq + 1, now + Duration::from_micros(62_500));
        }
        assert!(history.memory() < 80_000, "a low layer takes {} bytes", history.memory());

        // 8 Mbit/s: 850 packets a second, all of which can be asked for again.
        for _ in 0..850 * 3 {
            history.insert(now, seq, &packet(seq, 1170), ());
            (seq, now) = (seq + 1, now + Duration::from_micros(1_176));
        }
        assert!((seq - 840..seq).all(|s| history.get(now, s).is_some()));
        let peak = history.memory();
        assert!((1_000_000..1_200_000).contains(&peak), "a high layer takes {peak} bytes");

        for _ in 0..16 * 60 {
            history.insert(now, seq, &packet(seq, 1170), ());
            (seq, now) = (seq + 1, now + Duration::from_micros(62_500));
        }
        assert!(history.memory() < peak / 4, "{} bytes after it became low again", history.memory());

        // Far beyond the bound: the last 1.5 MB are there.
        for _ in 0..10_000 {
            history.insert(now, seq, &packet(seq, 1500), ());
            seq += 1;
        }
        assert!(history.memory() < 1536 * 1024 + 120_000);
        assert!((seq - 950..seq).all(|s| history.get(now, s).is_some()));
    }

    #[test]
    fn nothing_is_allocated_in_a_steady_stream() {
        let start = Instant::now();
        let mut history = History::new(HistoryLimits::AUDIO);
        let mut now = start;
        let mut addresses = std::collections::BTreeSet::new();
        let mut settled = 0;
        for seq in 0..5_000_u64 {
            history.insert(now, seq, &packet(seq, 90), ());
            addresses.insert(history.get(now, seq).expect("just stored").0.as_ptr() as usize);
            if seq == 2_500 {
                settled = addresses.len();
            }
            now += Duration::from_millis(20);
        }
        assert_eq!(addresses.len(), settled, "the same storage is used again and again");
        assert!(history.memory() < 16_000, "{} bytes", history.memory());
    }

    #[test]
    fn reordered_doubled_and_huge_packets_do_no_harm() {
        let mut rng = StdRng::seed_from_u64(3);
        let mut now = Instant::now();
        let mut history = History::new(HistoryLimits::VIDEO);
        for round in 0..30_000_u64 {
            let seq = match rng.random_range(0..20) {
                0 => rng.random_range(900_000..1_030_000),
                1 => 1_000_000 + round / 2,
                _ => (1_000_000 + round).saturating_sub(rng.random_range(0..50)),
            };
            let len = if rng.random_range(0..50) == 0 { 60_000 } else { rng.random_range(0..1500) };
            history.insert(now, seq, &packet(seq, len), seq);
            if let Some((bytes, meta)) = history.get(now, seq) {
                assert_eq!(*meta, seq);
                assert_eq!(bytes, packet(seq, bytes.len()));
            }
            now += Duration::from_micros(rng.random_range(0..3_000));
        }
        assert!(history.memory() < 1536 * 1024 + 120_000);
        history.clear();
        history.insert(now, 7, b"again", 7);
        assert_eq!(history.get(now, 7).expect("just stored").0, b"again");
    }
}
