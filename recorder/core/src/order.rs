//! The packets of one stream in order. What is missing is waited for as long as a repair may come: the publisher's worker asks
//! for it, and hands it on like any other packet.

use std::collections::BTreeMap;

use veche_sfu_core::forward::red;
use veche_sfu_core::rtp::{RtpHeader, SeqExtender};

/// A decrypted packet.
#[derive(Clone, Debug)]
pub struct Packet {
    /// When it came, in server time (nanoseconds).
    pub arrived: i64,
    /// It came as a repair.
    pub repaired: bool,
    /// It is wrapped in RED (RFC 2198).
    pub red: bool,
    /// Its header.
    pub header: RtpHeader,
    /// The packet, header and all, without padding.
    pub bytes: Vec<u8>,
}

impl Packet {
    /// What it carries, without RED; empty for padding alone.
    pub fn payload(&self) -> &[u8] {
        let payload = self.bytes.get(self.header.header_len..).unwrap_or_default();
        if self.red { red::primary(payload) } else { payload }
    }
}

/// What comes next in a stream.
#[derive(Debug)]
pub enum Next {
    /// This packet, right behind the one before.
    Packet(Packet),
    /// Packets that will not come any more. What follows them follows.
    Gap,
}

/// How long is waited for what is missing: a little longer than it is asked for.
const WAIT: i64 = 1_100_000_000;

/// How long after the first packet one may still come that stands before it.
const BEGINNING: i64 = 100_000_000;

/// So many packets wait for missing ones at most: a second of 20 Mbit/s.
const MAX_WAITING: usize = 2_048;

/// Puts the packets of a stream in order.
#[derive(Debug, Default)]
pub struct Order {
    extender: SeqExtender,
    /// The number of the packet that comes next, once it has begun.
    next: Option<u64>,
    waiting: BTreeMap<u64, Packet>,
}

impl Order {
    /// Takes a packet. One that is known already, or was given up, is refused.
    pub fn insert(&mut self, packet: Packet) -> bool {
        let seq = self.extender.extend(packet.header.seq);
        if self.next.is_some_and(|next| seq < next) || self.waiting.contains_key(&seq) {
            return false;
        }
        self.waiting.insert(seq, packet);
        true
    }

    /// What comes next, as of `now` in server time; `None` when it has not come and is still waited for.
    pub fn take(&mut self, now: i64) -> Option<Next> {
        if self.next.is_none() && now < self.waits_since()? + BEGINNING {
            return None;
        }
        let first = self.waiting.first_entry()?;
        let (seq, next) = (*first.key(), self.next.unwrap_or(*first.key()));
        if seq > next {
            let given_up = now - first.get().arrived >= WAIT;
            if !given_up && self.waiting.len() < MAX_WAITING {
                return None;
            }
            self.next = Some(seq);
            return Some(Next::Gap);
        }
        self.next = Some(seq + 1);
        Some(Next::Packet(first.remove()))
    }

    /// When the oldest packet came that waits for a missing one: nothing older will come out any more.
    pub fn waits_since(&self) -> Option<i64> {
        self.waiting.values().map(|packet| packet.arrived).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn packet(seq: u16, arrived: i64) -> Packet {
        let [high, low] = seq.to_be_bytes();
        let bytes = vec![0x80, 96, high, low, 0, 0, 0, 1, 0, 0, 0, 1, 0xaa];
        let header = RtpHeader::parse(&bytes).unwrap();
        Packet { arrived, repaired: false, red: false, header, bytes }
    }

    /// What comes out at `now`: numbers, and -1 for a gap.
    fn taken(order: &mut Order, now: i64) -> Vec<i32> {
        let number = |next| match next {
            Next::Packet(packet) => i32::from(packet.header.seq),
            Next::Gap => -1,
        };
        std::iter::from_fn(|| order.take(now)).map(number).collect()
    }

    #[test]
    fn what_comes_late_goes_to_its_place() {
        let mut order = Order::default();
        for (seq, at) in [(65_535, 0), (1, 10), (65_534, 20)] {
            assert!(order.insert(packet(seq, at * MS)));
        }
        assert!(taken(&mut order, 99 * MS).is_empty(), "it is only beginning");
        assert_eq!(taken(&mut order, 100 * MS), [65_534, 65_535]);
        assert_eq!(order.waits_since(), Some(10 * MS));
        assert!(order.insert(packet(0, 900 * MS)));
        assert_eq!(taken(&mut order, 900 * MS), [0, 1]);
        assert_eq!(order.waits_since(), None);
    }

    #[test]
    fn what_does_not_come_is_given_up_and_refused_later() {
        let mut order = Order::default();
        for (seq, at) in [(7, 0), (9, 10), (12, 500)] {
            order.insert(packet(seq, at * MS));
        }
        assert!(!order.insert(packet(9, 11 * MS)), "twice");
        assert_eq!(taken(&mut order, 1_109 * MS), [7]);
        assert_eq!(taken(&mut order, 1_110 * MS), [-1, 9]);
        assert!(!order.insert(packet(8, 1_111 * MS)), "given up");
        assert_eq!(taken(&mut order, 1_600 * MS), [-1, 12]);
    }

    #[test]
    fn a_long_gap_fills_no_memory() {
        let mut order = Order::default();
        order.insert(packet(0, 0));
        assert_eq!(taken(&mut order, BEGINNING), [0]);
        for seq in 2..5_000 {
            order.insert(packet(seq, BEGINNING));
            while order.take(BEGINNING).is_some() {}
            assert!(order.waiting.len() <= MAX_WAITING);
        }
        assert!(order.waiting.is_empty());
    }
}
