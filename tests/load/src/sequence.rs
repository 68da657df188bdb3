//! The sequence numbers of one received stream: what is missing, what came late or twice, what is asked for again.

use std::time::{Duration, Instant};

use veche_sfu_core::media::MediaKind;

/// Of a leap of more than this nothing is asked for. Browsers give up at the same order of size.
const MAX_GAP: u64 = 1_000;
/// Missing packets that are waited for at most; the oldest are given up.
const MAX_MISSING: usize = 1_000;
/// A missing packet is waited for so long.
const PATIENCE_VIDEO: Duration = Duration::from_secs(1);
const PATIENCE_AUDIO: Duration = Duration::from_millis(200);
/// It is asked for again after so long, and so often, as libwebrtc does with its default round trip of 100 ms.
const ASK_AGAIN: Duration = Duration::from_millis(100);
const MAX_TRIES: u32 = 10;

/// The state of a stream.
#[derive(Debug, Default)]
pub struct Sequence {
    highest: Option<u64>,
    /// In ascending order.
    missing: Vec<Missing>,
    received: u64,
    first: u64,
    reported: (u64, u64),
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    seq: u64,
    since: Instant,
    asked_at: Option<Instant>,
    tries: u32,
}

/// What a packet is in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The next one, or one behind so many that have not come.
    Next {
        /// How many were left out.
        skipped: u64,
    },
    /// One behind so many that nobody asks for them: they are lost.
    Leap {
        /// How many were left out.
        skipped: u64,
    },
    /// One that was missing.
    Missed,
    /// It was there, or it was given up.
    Again,
}

/// For a receiver report (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceReport {
    /// The share that was lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Lost in all.
    pub cumulative_lost: i32,
    /// The highest number with its cycles.
    pub highest_seq: u32,
}

impl Sequence {
    /// Takes the number of a packet, and gives it without roll-overs.
    pub fn on_packet(&mut self, now: Instant, seq: u16) -> (u64, Arrival) {
        let Some(highest) = self.highest else {
            // Far from 0, so that one that the first has overtaken has a number too.
            let seq = 1 << 32 | u64::from(seq);
            (self.highest, self.first, self.received) = (Some(seq), seq, 1);
            return (seq, Arrival::Next { skipped: 0 });
        };
        let step = i64::from(seq.wrapping_sub(highest as u16) as i16);
        let seq = highest.saturating_add_signed(step);
        if seq > highest {
            self.received += 1;
            self.highest = Some(seq);
            let skipped = seq - highest - 1;
            if skipped > MAX_GAP {
                return (seq, Arrival::Leap { skipped });
            }
            self.missing.extend((highest + 1..seq).map(|seq| Missing {
                seq,
                since: now,
                asked_at: None,
                tries: 0,
            }));
            return (seq, Arrival::Next { skipped });
        }
        let found = self.missing.binary_search_by_key(&seq, |missing| missing.seq);
        let arrival = found.map_or(Arrival::Again, |index| {
            self.missing.remove(index);
            self.received += 1;
            Arrival::Missed
        });
        (seq, arrival)
    }

    /// The number of a packet that came again, and whether it had been missing.
    pub fn on_repair(&mut self, seq: u16) -> (u64, bool) {
        let Some(highest) = self.highest else { return (0, false) };
        let step = i64::from(seq.wrapping_sub(highest as u16) as i16);
        let seq = highest.saturating_add_signed(step);
        let found = self.missing.binary_search_by_key(&seq, |missing| missing.seq);
        if let Ok(index) = found {
            self.missing.remove(index);
            self.received += 1;
        }
        (seq, found.is_ok())
    }

    /// Something has come.
    pub fn began(&self) -> bool {
        self.highest.is_some()
    }

    /// Something is missing.
    pub fn waits(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Whether one of these is missing.
    pub fn misses(&self, from: u64, to: u64) -> bool {
        self.missing.iter().any(|missing| (from..=to).contains(&missing.seq))
    }

    /// Gives up what nobody waits for any more. How many that were.
    pub fn give_up(&mut self, now: Instant, kind: MediaKind) -> u64 {
        let patience = if kind == MediaKind::Video { PATIENCE_VIDEO } else { PATIENCE_AUDIO };
        let before = self.missing.len();
        let excess = before.saturating_sub(MAX_MISSING);
        self.missing.drain(..excess);
        self.missing.retain(|missing| now.saturating_duration_since(missing.since) < patience);
        (before - self.missing.len()) as u64
    }

    /// Appends the numbers that are to be asked for now.
    pub fn poll_nacks(&mut self, now: Instant, out: &mut Vec<u16>) {
        for missing in &mut self.missing {
            let due = missing.asked_at.is_none_or(|at| now.saturating_duration_since(at) >= ASK_AGAIN);
            if due && missing.tries < MAX_TRIES {
                missing.asked_at = Some(now);
                missing.tries += 1;
                out.push(missing.seq as u16);
            }
        }
    }

    /// What a receiver report says; `None` before anything came.
    pub fn report(&mut self) -> Option<SequenceReport> {
        let highest = self.highest?;
        let expected = highest - self.first + 1;
        let (expected_before, received_before) =
            std::mem::replace(&mut self.reported, (expected, self.received));
        let expected_now = expected.saturating_sub(expected_before);
        let lost_now = expected_now.saturating_sub(self.received.saturating_sub(received_before));
        Some(SequenceReport {
            fraction_lost: (lost_now * 256).checked_div(expected_now).map_or(0, |share| share.min(255) as u8),
            cumulative_lost: expected.saturating_sub(self.received).min(0x7f_ffff) as i32,
            highest_seq: highest as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn what_is_missing_is_found_over_a_roll_over_and_only_once() {
        let now = Instant::now();
        let mut sequence = Sequence::default();
        let mut arrival = |seq| sequence.on_packet(now, seq).1;
        assert_eq!(arrival(65_534), Arrival::Next { skipped: 0 });
        assert_eq!(arrival(1), Arrival::Next { skipped: 2 });
        assert_eq!(arrival(0), Arrival::Missed);
        assert_eq!(arrival(0), Arrival::Again);
        assert_eq!(arrival(65_533), Arrival::Again, "from before the first");
        assert!(sequence.waits());
        assert!(sequence.on_repair(65_535).1);
        assert!(!sequence.on_repair(65_535).1 && !sequence.waits());
    }

    #[test]
    fn missing_packets_are_asked_for_again_and_given_up_in_the_end() {
        let start = Instant::now();
        let mut sequence = Sequence::default();
        sequence.on_packet(start, 10);
        sequence.on_packet(start, 13);
        let ask = |sequence: &mut Sequence, millis| {
            let mut nacks = Vec::new();
            sequence.poll_nacks(start + millis * MILLI, &mut nacks);
            nacks
        };
        assert_eq!(ask(&mut sequence, 0), [11, 12]);
        assert!(ask(&mut sequence, 50).is_empty());
        sequence.on_repair(12);
        assert_eq!(ask(&mut sequence, 100), [11]);
        assert_eq!(sequence.give_up(start + 199 * MILLI, MediaKind::Audio), 0);
        assert_eq!(sequence.give_up(start + 999 * MILLI, MediaKind::Video), 0);
        assert_eq!(sequence.give_up(start + 1_000 * MILLI, MediaKind::Video), 1);
    }

    #[test]
    fn nobody_asks_for_what_a_leap_left_out_but_it_counts() {
        let now = Instant::now();
        let mut sequence = Sequence::default();
        sequence.on_packet(now, 1);
        assert_eq!(sequence.on_packet(now, 20_000).1, Arrival::Leap { skipped: 19_998 });
        assert!(!sequence.waits());
        assert_eq!(sequence.report().unwrap().cumulative_lost, 19_998);
    }

    #[test]
    fn reports_tell_what_was_lost_since_the_last_and_in_all() {
        let now = Instant::now();
        let mut sequence = Sequence::default();
        assert_eq!(sequence.report(), None);
        for seq in [0, 1, 3] {
            sequence.on_packet(now, seq);
        }
        let report = sequence.report().unwrap();
        assert_eq!((report.fraction_lost, report.cumulative_lost), (64, 1));
        sequence.on_packet(now, 4);
        let report = sequence.report().unwrap();
        assert_eq!((report.fraction_lost, report.cumulative_lost, report.highest_seq), (0, 1, 4));
    }
}
