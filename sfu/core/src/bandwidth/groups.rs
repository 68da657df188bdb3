//! Packets that were sent in one burst count as one, and the delay is compared from burst to burst
//! (draft-ietf-rmcat-gcc-02 sections 5.1 and 5.2).

use super::Micros;

/// How two bursts in a row were spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spacing {
    /// Between their last packets when they were sent.
    pub sent: Micros,
    /// The same when they came.
    pub arrival: Micros,
    /// When the second one had come, on the receiver's clock.
    pub at: Micros,
}

/// Puts packets together into bursts.
#[derive(Debug, Default)]
pub(super) struct Groups {
    previous: Option<Group>,
    current: Option<Group>,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    first_sent: Micros,
    last_sent: Micros,
    first_arrival: Micros,
    last_arrival: Micros,
}

/// A burst lasts so long (section 5.2); packets that come this close together after waiting somewhere are one, too.
const BURST: Micros = 5_000;
/// However packets were held up: a longer group would hide what happens in it.
const LONGEST: Micros = 100_000;

impl Groups {
    /// A packet came. Gives the spacing of the two last bursts when it begins another.
    pub fn on_packet(&mut self, sent: Micros, arrival: Micros) -> Option<Spacing> {
        let begun =
            Group { first_sent: sent, last_sent: sent, first_arrival: arrival, last_arrival: arrival };
        let Some(current) = &mut self.current else {
            self.current = Some(begun);
            return None;
        };
        if sent < current.first_sent {
            return None; // Overtaken by a whole burst: it tells nothing of the queue.
        }
        if current.takes(sent, arrival) {
            current.last_sent = current.last_sent.max(sent);
            current.last_arrival = current.last_arrival.max(arrival);
            return None;
        }
        let ended = *current;
        let previous = self.previous.replace(ended);
        self.current = Some(begun);
        let previous = previous?;
        Some(Spacing {
            sent: ended.last_sent - previous.last_sent,
            arrival: ended.last_arrival - previous.last_arrival,
            at: ended.last_arrival,
        })
    }
}

impl Group {
    fn takes(&self, sent: Micros, arrival: Micros) -> bool {
        if sent - self.first_sent <= BURST {
            return true;
        }
        let since = arrival - self.last_arrival;
        let held_up = since < sent - self.last_sent;
        held_up && since <= BURST && arrival - self.first_arrival < LONGEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spacings(packets: &[(Micros, Micros)]) -> Vec<(Micros, Micros)> {
        let mut groups = Groups::default();
        let spacings =
            packets.iter().filter_map(|&(sent, arrival)| groups.on_packet(sent * 1000, arrival * 1000));
        spacings.map(|s| (s.sent / 1000, s.arrival / 1000)).collect()
    }

    #[test]
    fn bursts_are_compared_by_their_last_packets() {
        let packets = [(0, 50), (2, 52), (20, 70), (21, 74), (40, 95), (60, 110), (80, 131)];
        assert_eq!(spacings(&packets), [(19, 22), (19, 21), (20, 15)]);
    }

    #[test]
    fn what_was_held_up_together_is_one_burst() {
        // A radio that sleeps lets three bursts through at once.
        let packets = [(0, 50), (20, 100), (40, 101), (60, 102), (80, 130), (100, 150)];
        assert_eq!(spacings(&packets), [(60, 52), (20, 28)]);
    }

    #[test]
    fn overtaken_packets_are_left_out() {
        assert_eq!(spacings(&[(0, 50), (20, 70), (10, 71), (40, 90), (60, 110)]), [(20, 20), (20, 20)]);
    }
}
