//! From transport-wide feedback to what became of each packet
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1).

use std::collections::VecDeque;

use super::Micros;
use super::sent::{Sent, SentRing, State};
use crate::rtcp::TransportFeedback;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PacketResult {
    pub sent: Sent,
    /// When it came, on the receiver's clock; `None` for a packet that is lost.
    pub arrival: Option<Micros>,
}

/// Reads feedback.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// The reference time of the last feedback, without wraps, in units of 64 ms.
    reference: Option<i64>,
    last_count: u8,
    /// One above the highest number that was reported on.
    next: u64,
    /// Reported as missing and not given up: they may have been overtaken. Never more than the ring has places.
    missing: VecDeque<u64>,
    /// When the newest packet that has come was sent, and how long it took on the two clocks.
    newest: Option<(Micros, Micros)>,
    results: Vec<PacketResult>,
    unreported: u32,
    clock_jumped: bool,
}

/// Units of the reference time (section 3.1) and of its deltas.
const REFERENCE: Micros = 64_000;
const TICK: Micros = 250;

/// A missing packet is lost when one has come that was sent so much later: jitter reorders less.
const OVERTAKEN: Micros = 80_000;

/// Of the reference time without wraps: 2,000 years, and far from what 64 bits hold in microseconds.
const FARTHEST: i64 = 1 << 40;

/// The receiver's clock was set, or the network held everything for so long.
const JUMP: Micros = 3_000_000;

impl Arrivals {
    /// Reads a feedback; what it tells is asked below.
    pub fn read(&mut self, sent: &mut SentRing, feedback: &TransportFeedback<'_>) {
        self.results.clear();
        self.clock_jumped = false;
        self.credit_unreported(sent, feedback);
        let mut arrival = self.unwrap_reference(feedback.reference_time) * REFERENCE;
        for (seq, delta) in feedback.statuses() {
            arrival += Micros::from(delta.unwrap_or(0)) * TICK;
            // Nothing that comes after the newest packet was sent.
            let Some(seq) = sent.extend(seq) else { break };
            let Some(packet) = sent.get_mut(seq) else { continue };
            self.next = self.next.max(seq + 1);
            match (packet.state, delta) {
                (State::Waiting | State::Missing, Some(_)) => {
                    packet.state = State::Settled;
                    self.results.push(PacketResult { sent: *packet, arrival: Some(arrival) });
                }
                (State::Waiting, None) => {
                    packet.state = State::Missing;
                    self.missing.push_back(seq);
                }
                _ => {}
            }
        }
        self.results.sort_unstable_by_key(|result| (result.arrival, result.sent.seq));
        self.follow_clock();
        self.give_up(sent);
    }

    /// What became of packets. Each gets one result at most: it has come, or it is lost. Those that came are first, in the
    /// order of their arrival.
    pub fn results(&self) -> &[PacketResult] {
        &self.results
    }

    /// Bytes of packets before this feedback that were reported on in one that was lost: most of them have come.
    pub fn unreported(&self) -> u32 {
        self.unreported
    }

    /// The receiver's clock has jumped with this feedback: times before it mean nothing.
    pub fn clock_jumped(&self) -> bool {
        self.clock_jumped
    }

    /// The time has 24 bits, and wraps after 12 days.
    fn unwrap_reference(&mut self, time: i32) -> i64 {
        let unwrapped = match self.reference {
            None => i64::from(time),
            Some(last) => last + i64::from(time.wrapping_sub(last as i32) << 8 >> 8),
        };
        // Only a peer that always jumps the same way gets there; its clock begins anew.
        let unwrapped = if unwrapped.abs() > FARTHEST { i64::from(time) } else { unwrapped };
        self.reference = Some(unwrapped);
        unwrapped
    }

    fn credit_unreported(&mut self, sent: &mut SentRing, feedback: &TransportFeedback<'_>) {
        self.unreported = 0;
        let lost = self.reference.is_some() && feedback.feedback_count != self.last_count.wrapping_add(1);
        self.last_count = feedback.feedback_count;
        let Some(base) = sent.extend(feedback.base_seq).filter(|base| lost && *base > self.next) else {
            return;
        };
        for seq in self.next.max(base.saturating_sub(sent.len() as u64))..base {
            if let Some(packet) = sent.get_mut(seq).filter(|packet| packet.state == State::Waiting) {
                packet.state = State::Settled;
                self.unreported = self.unreported.saturating_add(u32::from(packet.bytes));
            }
        }
    }

    fn follow_clock(&mut self) {
        for result in &self.results {
            let Some(arrival) = result.arrival else { continue };
            let transit = arrival - result.sent.at;
            match self.newest {
                Some((at, last)) => {
                    self.clock_jumped |= (transit - last).abs() > JUMP;
                    self.newest = Some((at.max(result.sent.at), transit));
                }
                None => self.newest = Some((result.sent.at, transit)),
            }
        }
    }

    fn give_up(&mut self, sent: &mut SentRing) {
        // Without a single arrival nothing can be judged, but what the ring has forgotten is not needed any more.
        while self.missing.len() > sent.len() {
            self.missing.pop_front();
        }
        let Some((newest, _)) = self.newest else { return };
        while let Some(&seq) = self.missing.front() {
            if let Some(packet) = sent.get_mut(seq).filter(|packet| packet.state == State::Missing) {
                if newest - packet.at < OVERTAKEN {
                    return;
                }
                packet.state = State::Settled;
                self.results.push(PacketResult { sent: *packet, arrival: None });
            }
            self.missing.pop_front();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ids::Ssrc;
    use crate::rtcp::{Packet, TransportFeedbackBuilder, parse};

    /// Writes feedback and gives it to `read` as it comes from the wire.
    pub fn with_feedback(
        builder: &mut TransportFeedbackBuilder,
        base_seq: u16,
        arrivals: &[(u16, i64)],
        mut read: impl FnMut(&TransportFeedback<'_>),
    ) {
        let mut bytes = Vec::new();
        builder.write(base_seq, arrivals, &mut bytes);
        for packet in parse(&bytes) {
            match packet {
                Ok(Packet::TransportFeedback(feedback)) => read(&feedback),
                other => panic!("{other:?}"),
            }
        }
    }

    struct Bench {
        builder: TransportFeedbackBuilder,
        sent: SentRing,
        arrivals: Arrivals,
    }

    impl Bench {
        /// 200 packets of 1,000 bytes, every 10 ms.
        fn new() -> Self {
            let mut sent = SentRing::default();
            for n in 0..200_u16 {
                sent.insert(Micros::from(n) * 10_000, n, 1000, None);
            }
            let builder = TransportFeedbackBuilder::new(Ssrc(1), Ssrc(2));
            Self { builder, sent, arrivals: Arrivals::default() }
        }

        /// The results: number and arrival in ms.
        fn read(&mut self, base: u16, arrivals: &[(u16, i64)]) -> Vec<(u16, Option<i64>)> {
            let mut results = Vec::new();
            with_feedback(&mut self.builder, base, arrivals, |feedback| {
                self.arrivals.read(&mut self.sent, feedback);
                results.extend(
                    self.arrivals.results().iter().map(|r| (r.sent.seq as u16, r.arrival.map(|a| a / 1000))),
                );
            });
            results
        }
    }

    #[test]
    fn each_packet_gets_one_result() {
        let mut bench = Bench::new();
        assert_eq!(
            bench.read(0, &[(0, 4000), (1, 4040), (3, 4120)]),
            [(0, Some(1000)), (1, Some(1010)), (3, Some(1030))]
        );
        assert_eq!(bench.read(2, &[(2, 4160), (3, 4160)]), [(2, Some(1040))], "late, and told twice");
        assert_eq!(bench.read(4, &[(5, 4200), (6, 4240)]), [(5, Some(1050)), (6, Some(1060))]);
        let results = bench.read(7, &[(13, 4520)]);
        assert_eq!(results, [(13, Some(1130)), (4, None)], "4 is lost, 7 to 12 may be late");
    }

    #[test]
    fn packets_of_a_lost_feedback_are_neither_lost_nor_forgotten() {
        let mut bench = Bench::new();
        bench.read(0, &[(0, 4000)]);
        with_feedback(&mut bench.builder, 1, &[(1, 4040), (2, 4080), (3, 4120)], |_| {});
        assert_eq!(bench.read(4, &[(4, 4160)]), [(4, Some(1040))]);
        assert_eq!(bench.arrivals.unreported(), 3000);
        bench.read(5, &[(5, 4200)]);
        assert_eq!(bench.arrivals.unreported(), 0);
    }

    #[test]
    fn the_time_goes_on_over_its_wrap_and_jumps_are_noticed() {
        let mut bench = Bench::new();
        // The last unit of 64 ms before 23 bits are full.
        let wrap = (1 << 23) * 256;
        let first = bench.read(0, &[(0, wrap - 40)])[0].1.unwrap();
        assert_eq!(bench.read(1, &[(1, wrap)])[0].1.unwrap(), first + 10);
        assert!(!bench.arrivals.clock_jumped());
        bench.read(2, &[(2, wrap + 40_000)]);
        assert!(bench.arrivals.clock_jumped());
    }

    #[test]
    fn a_clock_that_runs_away_is_called_back() {
        let mut arrivals = Arrivals { reference: Some(FARTHEST), ..Arrivals::default() };
        let next = (FARTHEST as i32).wrapping_add(1_000_000);
        assert_eq!(arrivals.unwrap_reference(next), i64::from(next));
    }

    #[test]
    fn what_was_never_sent_is_ignored() {
        let mut bench = Bench::new();
        assert_eq!(bench.read(300, &[(300, 4000), (301, 4000)]), []);
        assert_eq!(bench.read(50_000, &[(50_000, 4000)]), []);
        let (mut sent, mut arrivals) = (SentRing::default(), Arrivals::default());
        with_feedback(&mut bench.builder, 0, &[(0, 0)], |feedback| {
            arrivals.read(&mut sent, feedback);
            assert_eq!(arrivals.results(), []);
        });
    }
}
