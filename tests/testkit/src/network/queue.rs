//! What waits before a bottleneck, and what is dropped there.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How a queue is kept short.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum QueueConfig {
    /// What would wait longer than this is dropped.
    Time(Duration),
    /// What would make more than so many bytes wait is dropped.
    Bytes(usize),
    /// Controlled delay (RFC 8289).
    Codel(Codel),
}

/// The parameters of RFC 8289 section 4.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Codel {
    /// A wait up to this is fine for good.
    pub target: Duration,
    /// A wait above the target is fine for so long.
    pub interval: Duration,
    /// More bytes than this are dropped at the tail.
    pub limit: usize,
}

impl Default for Codel {
    /// As section 4.2 and 4.3 recommend.
    fn default() -> Self {
        Self { target: Duration::from_millis(5), interval: Duration::from_millis(100), limit: 1_000_000 }
    }
}

/// Packets that wait.
#[derive(Debug)]
pub(super) struct Queue<T> {
    pub config: QueueConfig,
    waiting: VecDeque<Waiting<T>>,
    bytes: usize,
    /// How many were dropped.
    pub dropped: u64,
    control: Control,
}

#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub since: Instant,
    pub bytes: usize,
    pub item: T,
}

/// The state of CoDel (RFC 8289 section 5.1).
#[derive(Debug, Default)]
struct Control {
    dropping: bool,
    /// When the wait will have been above the target for an interval.
    above_at: Option<Instant>,
    drop_next: Option<Instant>,
    count: u32,
    last_count: u32,
}

impl<T> Queue<T> {
    /// What may wait however long it takes: one packet of this size (RFC 8289 section 5.4).
    const LARGEST_PACKET: usize = 1500;

    pub fn new(config: QueueConfig) -> Self {
        Self { config, waiting: VecDeque::new(), bytes: 0, dropped: 0, control: Control::default() }
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a packet that would wait for so long, or drops it.
    pub fn push(&mut self, packet: Waiting<T>, wait: Duration) {
        let fits = match self.config {
            QueueConfig::Time(longest) => wait <= longest,
            QueueConfig::Bytes(limit) | QueueConfig::Codel(Codel { limit, .. }) => {
                self.bytes + packet.bytes <= limit
            }
        };
        if fits {
            self.bytes += packet.bytes;
            self.waiting.push_back(packet);
        } else {
            self.dropped += 1;
        }
    }

    /// The packet whose turn it is.
    pub fn pop(&mut self, now: Instant) -> Option<Waiting<T>> {
        match self.config {
            QueueConfig::Codel(codel) => self.pop_controlled(codel, now),
            QueueConfig::Time(_) | QueueConfig::Bytes(_) => self.take(),
        }
    }

    fn take(&mut self) -> Option<Waiting<T>> {
        let packet = self.waiting.pop_front()?;
        self.bytes -= packet.bytes;
        Some(packet)
    }

    /// RFC 8289 section 5.5.
    fn pop_controlled(&mut self, codel: Codel, now: Instant) -> Option<Waiting<T>> {
        let (mut packet, mut late) = self.take_judged(codel, now);
        if self.control.dropping {
            if !late {
                self.control.dropping = false;
            }
            while self.control.dropping && self.control.drop_next.is_some_and(|next| now >= next) {
                self.dropped += u64::from(packet.is_some());
                self.control.count += 1;
                (packet, late) = self.take_judged(codel, now);
                self.control.dropping = late;
                if late {
                    self.control.drop_next =
                        self.control.drop_next.map(|next| next + codel.interval_after(self.control.count));
                }
            }
        } else if late {
            self.dropped += u64::from(packet.is_some());
            (packet, _) = self.take_judged(codel, now);
            self.control.begin_dropping(codel, now);
        }
        packet
    }

    /// The next packet, and whether it may be dropped (RFC 8289 section 5.6).
    fn take_judged(&mut self, codel: Codel, now: Instant) -> (Option<Waiting<T>>, bool) {
        let Some(packet) = self.take() else {
            self.control.above_at = None;
            return (None, false);
        };
        let waited = now.saturating_duration_since(packet.since);
        if waited < codel.target || self.bytes <= Self::LARGEST_PACKET {
            self.control.above_at = None;
            return (Some(packet), false);
        }
        let above_at = *self.control.above_at.get_or_insert(now + codel.interval);
        (Some(packet), now >= above_at)
    }
}

impl Codel {
    /// The time to the next drop: shorter with each (the control law of section 5.3).
    fn interval_after(&self, count: u32) -> Duration {
        self.interval.div_f64(f64::from(count.max(1)).sqrt())
    }
}

impl Control {
    fn begin_dropping(&mut self, codel: Codel, now: Instant) {
        let recent = self.drop_next.is_some_and(|next| now < next + 16 * codel.interval);
        let drops = self.count - self.last_count;
        // Where it had got to when the queue was long a moment ago.
        self.count = if drops > 1 && recent { drops } else { 1 };
        self.last_count = self.count;
        self.dropping = true;
        self.drop_next = Some(now + codel.interval_after(self.count));
    }
}
