//! What was sent and not reported on yet, by transport-wide sequence number.

use super::{Micros, ProbeId};
use crate::rtp::sequence::SeqExtender;

/// A packet that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// The transport-wide number, extended; 0 for none.
    pub seq: u64,
    /// When it was sent.
    pub at: Micros,
    /// The UDP payload.
    pub bytes: u16,
    /// The cluster that it belongs to.
    pub probe: Option<ProbeId>,
    /// What the receiver has told of it.
    pub state: State,
}

impl Sent {
    /// Whether feedback about it may still come.
    fn waits(&self, now: Micros) -> bool {
        self.state == State::Waiting && now - self.at < LATEST_FEEDBACK
    }
}

/// What is known of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing yet.
    Waiting,
    /// Reported as not received; it may still come.
    Missing,
    /// Received, given up or counted otherwise: nothing changes any more.
    Settled,
}

/// The last packets. Small transports keep few: it doubles only when a packet would be forgotten that still waits.
#[derive(Debug, Default)]
pub(super) struct SentRing {
    /// At `seq % len`; the length is a power of two.
    slots: Vec<Sent>,
    numbers: SeqExtender,
}

/// Feedback that has not come after so long was lost on the way.
const LATEST_FEEDBACK: Micros = 2_000_000;
/// Half a second of a voice call.
const MIN: usize = 64;
/// Two seconds of 20 Mbit/s. When it is full, the oldest packet is forgotten.
const MAX: usize = 4096;

const EMPTY: Sent = Sent { seq: 0, at: 0, bytes: 0, probe: None, state: State::Settled };

impl SentRing {
    /// Remembers a packet. Numbers are given in order.
    pub fn insert(&mut self, at: Micros, seq: u16, bytes: u16, probe: Option<ProbeId>) {
        let seq = self.numbers.extend(seq);
        if self.slots.is_empty() {
            self.slots = vec![EMPTY; MIN];
        }
        while self.slots.len() < MAX && self.slot(seq).is_some_and(|old| old.waits(at)) {
            self.grow();
        }
        if let Some(slot) = self.slot(seq) {
            *slot = Sent { seq, at, bytes, probe, state: State::Waiting };
        }
    }

    /// The extended number of the packet that the receiver means; `None` when nothing was sent.
    pub fn extend(&self, seq: u16) -> Option<u64> {
        let highest = self.numbers.highest()?;
        highest.checked_sub(u64::from((highest as u16).wrapping_sub(seq)))
    }

    /// A packet that is still remembered.
    pub fn get_mut(&mut self, seq: u64) -> Option<&mut Sent> {
        self.slot(seq).filter(|sent| sent.seq == seq && seq != 0)
    }

    /// How many packets there is room for.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    fn slot(&mut self, seq: u64) -> Option<&mut Sent> {
        let mask = self.slots.len().wrapping_sub(1);
        self.slots.get_mut(seq as usize & mask)
    }

    fn grow(&mut self) {
        let larger = vec![EMPTY; self.slots.len() * 2];
        for old in std::mem::replace(&mut self.slots, larger) {
            if let Some(slot) = self.slot(old.seq) {
                *slot = old;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_only_for_packets_that_wait_and_never_above_its_limit() {
        let mut ring = SentRing::default();
        assert_eq!(ring.len(), 0);
        for n in 0..1000_u16 {
            ring.insert(0, n, 100, None);
            let seq = ring.extend(n).unwrap();
            ring.get_mut(seq).unwrap().state = State::Settled;
        }
        assert_eq!(ring.len(), MIN);
        for n in 1000..1200_u16 {
            ring.insert(0, n, 100, None);
        }
        assert_eq!(ring.len(), 256);
        for n in 1000..1200_u16 {
            let seq = ring.extend(n).unwrap();
            assert_eq!((ring.get_mut(seq).unwrap().seq as u16, seq as u16), (n, n));
        }
        for n in 0..20_000_u32 {
            ring.insert(0, (n + 1200) as u16, 100, None);
        }
        assert_eq!(ring.len(), MAX);
        let forgotten = ring.extend(2000).unwrap();
        assert_eq!(ring.get_mut(forgotten), None);
    }

    #[test]
    fn numbers_are_those_of_the_last_cycle() {
        let mut ring = SentRing::default();
        assert_eq!(ring.extend(5), None);
        for n in 65_500..65_600_u32 {
            ring.insert(i64::from(n), n as u16, 100, None);
        }
        let before = ring.extend(65_535).unwrap();
        let after = ring.extend(0).unwrap();
        assert_eq!(after, before + 1);
        assert_eq!(ring.get_mut(after).unwrap().at, 65_536);
        let never = ring.extend(100).unwrap();
        assert_eq!(ring.get_mut(never), None, "not sent yet, so it is one of long ago");
    }
}
