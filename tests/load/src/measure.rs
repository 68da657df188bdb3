//! What is counted.

use veche_load::histogram::Histogram;

/// What the clients of one thread have seen in some time.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Media packets that subscribers got, repairs not counted.
    pub packets: u64,
    /// Bytes of their payloads, as they are on the wire.
    pub bytes: u64,
    /// Sequence numbers that were left out when a later one came.
    pub gaps: u64,
    /// Of these, packets that came after all, by themselves.
    pub late: u64,
    /// Of these, packets that a repair brought.
    pub repaired: u64,
    /// Of these, packets that nobody waits for any more.
    pub lost: u64,
    /// Packets that came again, or after they were given up.
    pub duplicates: u64,
    /// Repairs, useful or not.
    pub repairs: u64,
    /// Packets of padding by which the server probes.
    pub probes: u64,
    /// Datagrams that were not authentic, or of a stream that nobody agreed to.
    pub strange: u64,
    /// Media packets that publishers sent.
    pub sent_packets: u64,
    /// Bytes of their payloads.
    pub sent_bytes: u64,
    /// Packets that publishers sent again.
    pub sent_repairs: u64,
    /// Key frames that the server asked publishers for.
    pub key_requests: u64,
    /// Datagrams that the system did not take.
    pub send_errors: u64,
    /// From a publisher's send call to a subscriber's receive call, of the packets that were decrypted. Repaired packets are
    /// not among them.
    pub delay: Histogram,
}

impl Counters {
    /// Adds what others have seen.
    pub fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.gaps += other.gaps;
        self.late += other.late;
        self.repaired += other.repaired;
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.repairs += other.repairs;
        self.probes += other.probes;
        self.strange += other.strange;
        self.sent_packets += other.sent_packets;
        self.sent_bytes += other.sent_bytes;
        self.sent_repairs += other.sent_repairs;
        self.key_requests += other.key_requests;
        self.send_errors += other.send_errors;
        self.delay.add(&other.delay);
    }

    /// Begins anew, without giving memory back.
    pub fn clear(&mut self) {
        let mut delay = std::mem::take(&mut self.delay);
        delay.clear();
        *self = Self { delay, ..Self::default() };
    }

    /// The share of the packets for subscribers that never came.
    pub fn loss(&self) -> f64 {
        let expected = self.packets + self.repaired + self.lost;
        if expected == 0 { 0.0 } else { self.lost as f64 / expected as f64 }
    }
}

/// What one subscriber got in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriberSummary {
    /// Media packets.
    pub packets: u64,
    /// Streams of which something came.
    pub playing: usize,
    /// Streams that were agreed on.
    pub streams: usize,
}
