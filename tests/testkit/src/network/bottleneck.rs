//! A bottleneck: a capacity, and what waits for it. Several links may go through one.

use std::time::{Duration, Instant};

use super::queue::{Queue, Waiting};
use super::{Capacity, OVERHEAD, QueueConfig};

/// A bottleneck that carries items of any kind, first in, first out.
#[derive(Debug)]
pub struct Bottleneck<T> {
    start: Instant,
    capacity: Capacity,
    queue: Queue<T>,
    on_wire: Option<OnWire<T>>,
    passed: u64,
    bytes: u64,
}

/// The packet that is being sent.
#[derive(Debug)]
struct OnWire<T> {
    packet: Waiting<T>,
    /// Bits that were left to send then.
    bits: f64,
    since: Instant,
    /// When it has left; `None` while there is no capacity ever.
    done: Option<Instant>,
}

/// A packet that has passed a bottleneck.
#[derive(Debug)]
pub struct Passed<T> {
    /// When it had left.
    pub at: Instant,
    /// How long it waited until its first bit was sent.
    pub waited: Duration,
    /// Its bytes, without headers.
    pub bytes: usize,
    /// What it was.
    pub item: T,
}

impl<T> Bottleneck<T> {
    /// A bottleneck whose capacity begins now.
    pub fn new(now: Instant, capacity: Capacity, queue: QueueConfig) -> Self {
        Self { start: now, capacity, queue: Queue::new(queue), on_wire: None, passed: 0, bytes: 0 }
    }

    /// What it carries, counted from its start.
    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// Packets that have passed.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Packets that its queue has dropped.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped
    }

    /// Another capacity, which begins now, also for what waits.
    pub fn set_capacity(&mut self, now: Instant, capacity: Capacity) {
        if let Some(wire) = &mut self.on_wire {
            wire.bits = left(&self.capacity, self.start, wire, now);
            wire.since = now;
            wire.done = capacity.carried(Duration::ZERO, wire.bits).map(|done| now + done);
        }
        self.start = now;
        self.capacity = capacity;
    }

    /// Another kind of queue, for those that come from now on.
    pub fn set_queue(&mut self, queue: QueueConfig) {
        self.queue.config = queue;
    }

    /// Takes a packet of so many bytes, not counting [`OVERHEAD`]. Take what [`Self::poll_packet`] gives first.
    pub fn handle_packet(&mut self, now: Instant, bytes: usize, item: T) {
        let packet = Waiting { since: now, bytes: bytes + OVERHEAD, item };
        let Some(wire) = &self.on_wire else {
            self.send(now, Some(packet));
            return;
        };
        let ahead = (self.queue.bytes() * 8) as f64 + left(&self.capacity, self.start, wire, now);
        let rate = self.capacity.at(now - self.start).max(1) as f64;
        self.queue.push(packet, Duration::from_secs_f64(ahead / rate));
    }

    /// When the next packet will have passed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.on_wire.as_ref()?.done
    }

    /// A packet that has passed by now.
    pub fn poll_packet(&mut self, now: Instant) -> Option<Passed<T>> {
        let at = self.poll_timeout().filter(|done| *done <= now)?;
        let OnWire { packet, since, .. } = self.on_wire.take()?;
        let next = self.queue.pop(at);
        self.send(at, next);
        let bytes = packet.bytes - OVERHEAD;
        self.passed += 1;
        self.bytes += bytes as u64;
        let waited = since.saturating_duration_since(packet.since);
        Some(Passed { at, waited, bytes, item: packet.item })
    }

    fn send(&mut self, now: Instant, packet: Option<Waiting<T>>) {
        self.on_wire = packet.map(|packet| {
            let bits = (packet.bytes * 8) as f64;
            let done = self.capacity.carried(now - self.start, bits).map(|done| self.start + done);
            OnWire { packet, bits, since: now, done }
        });
    }
}

/// Bits of a packet that are left to send.
fn left<T>(capacity: &Capacity, start: Instant, wire: &OnWire<T>, now: Instant) -> f64 {
    (wire.bits - capacity.between(wire.since - start, now - start)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::super::Codel;
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn drain(bottleneck: &mut Bottleneck<u32>, until: Instant) -> Vec<Passed<u32>> {
        std::iter::from_fn(|| bottleneck.poll_packet(until)).collect()
    }

    #[test]
    fn packets_are_spaced_and_keep_their_order() {
        let now = Instant::now();
        let capacity = Capacity::constant(1_000_000);
        let mut bottleneck = Bottleneck::new(now, capacity, QueueConfig::Time(200 * MILLI));
        (0..100).for_each(|item| bottleneck.handle_packet(now, 1222, item));
        let passed = drain(&mut bottleneck, now + 1000 * MILLI);
        // 200 ms of queue and the one on the wire.
        assert_eq!(passed.len(), 21);
        assert_eq!(bottleneck.dropped(), 79);
        for (index, packet) in passed.iter().enumerate() {
            assert_eq!((packet.item, packet.bytes), (index as u32, 1222));
            assert_eq!(packet.at, now + 10 * MILLI * (index as u32 + 1));
            assert_eq!(packet.waited, 10 * MILLI * index as u32);
        }
    }

    #[test]
    fn a_queue_of_bytes_holds_as_many() {
        let now = Instant::now();
        let mut bottleneck = Bottleneck::new(now, Capacity::constant(80_000), QueueConfig::Bytes(5_000));
        (0..9).for_each(|item| bottleneck.handle_packet(now, 1_000 - OVERHEAD, item));
        assert_eq!(drain(&mut bottleneck, now + 2000 * MILLI).len(), 6);
    }

    #[test]
    fn another_capacity_is_felt_in_the_middle_of_a_packet() {
        let now = Instant::now();
        let mut bottleneck = Bottleneck::new(now, Capacity::constant(80_000), QueueConfig::Bytes(5_000));
        bottleneck.handle_packet(now, 1_000 - OVERHEAD, 1);
        bottleneck.handle_packet(now, 1_000 - OVERHEAD, 2);
        bottleneck.set_capacity(now + 50 * MILLI, Capacity::constant(800_000));
        assert_eq!(bottleneck.poll_timeout(), Some(now + 55 * MILLI));
        bottleneck.set_capacity(now + 52 * MILLI, Capacity::constant(0));
        assert_eq!(bottleneck.poll_timeout(), None);
        bottleneck.set_capacity(now + 152 * MILLI, Capacity::constant(800_000));
        let times: Vec<_> = drain(&mut bottleneck, now + 1000 * MILLI).iter().map(|p| p.at - now).collect();
        assert_eq!(times, [155 * MILLI, 165 * MILLI]);
    }

    /// Sends 20 % too much for a while and returns the waits of the last second.
    fn waits_when_overloaded(queue: QueueConfig) -> Vec<Duration> {
        let start = Instant::now();
        let mut bottleneck = Bottleneck::new(start, Capacity::constant(1_000_000), queue);
        let mut passed = Vec::new();
        for index in 0..2_400 {
            let now = start + MILLI * 25 / 3 * index;
            passed.extend(drain(&mut bottleneck, now));
            bottleneck.handle_packet(now, 1222, index);
        }
        passed.iter().filter(|p| p.at > start + 18_000 * MILLI).map(|p| p.waited).collect()
    }

    #[test]
    fn codel_keeps_a_standing_queue_short_and_drop_tail_does_not() {
        let deep = waits_when_overloaded(QueueConfig::Bytes(100_000));
        assert!(deep.iter().all(|wait| *wait > 700 * MILLI), "{deep:?}");
        let controlled = waits_when_overloaded(QueueConfig::Codel(Codel::default()));
        let mean = controlled.iter().sum::<Duration>() / controlled.len() as u32;
        assert!(mean < 60 * MILLI, "{mean:?}");
        assert!(controlled.len() > 190, "{} packets in 2 s", controlled.len());
    }

    #[test]
    fn codel_lets_a_burst_pass() {
        let now = Instant::now();
        let queue = QueueConfig::Codel(Codel::default());
        let mut bottleneck = Bottleneck::new(now, Capacity::constant(10_000_000), queue);
        // 50 ms of packets at once, then nothing.
        (0..50).for_each(|item| bottleneck.handle_packet(now, 1222, item));
        assert_eq!(drain(&mut bottleneck, now + 1000 * MILLI).len(), 50);
        assert_eq!(bottleneck.dropped(), 0);
    }
}
