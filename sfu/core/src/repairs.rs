//! What a slot has sent again: the counter of its RTX stream, and what was repaired a moment ago.

use std::time::{Duration, Instant};

/// How many repairs are remembered.
const REMEMBERED: usize = 64;

/// A sequence number, and when it was repaired last.
type Remembered = (u16, Option<Instant>);

/// Repairs of one slot.
#[derive(Debug, Default)]
pub struct Repairs {
    next_seq: u64,
    recent: Option<Box<[Remembered; REMEMBERED]>>,
}

impl Repairs {
    /// Takes the next sequence number of the RTX stream: the low 16 bits go on the wire, the rest is the roll-over.
    pub fn take_seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq
    }

    /// Whether a packet may be sent again now: not within half a round trip of the last time, when that repair cannot
    /// have arrived yet.
    pub fn allow(&mut self, now: Instant, seq: u16, rtt: Duration) -> bool {
        let recent = self.recent.get_or_insert_with(|| Box::new([(0, None); REMEMBERED]));
        let entry = &mut recent[seq as usize % REMEMBERED];
        let pause = (rtt / 2).clamp(Duration::from_millis(5), Duration::from_millis(100));
        if let (s, Some(at)) = *entry
            && s == seq
            && now.saturating_duration_since(at) < pause
        {
            return false;
        }
        *entry = (seq, Some(now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn the_same_packet_is_not_sent_twice_within_half_a_round_trip() {
        let mut repairs = Repairs::default();
        let start = Instant::now();
        let rtt = Duration::from_millis(100);
        assert!(repairs.allow(start, 7, rtt));
        assert!(!repairs.allow(start + Duration::from_millis(20), 7, rtt));
        assert!(repairs.allow(start + Duration::from_millis(20), 8, rtt));
        assert!(repairs.allow(start + Duration::from_millis(60), 7, rtt));
    }
}
