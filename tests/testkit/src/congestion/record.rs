//! What became of the packets of a flow, and figures from it.

use std::time::Duration;

use crate::network::OVERHEAD;

/// The packets that a flow sent, and what its controller said. Times count from the start of the laboratory.
#[derive(Clone, Debug, Default)]
pub struct Record {
    trips: Vec<Trip>,
    /// What the controller allowed, every 100 ms.
    pub targets: Vec<(Duration, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Trip {
    sent: Duration,
    bytes: usize,
    /// When it came, and how long it waited in queues.
    came: Option<(Duration, Duration)>,
}

/// How long packets waited in queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Half of them no longer than this.
    pub median: Duration,
    /// 95 of 100 no longer than this.
    pub p95: Duration,
    /// None longer than this.
    pub longest: Duration,
}

impl Record {
    pub(super) fn send(&mut self, sent: Duration, bytes: usize) -> usize {
        self.trips.push(Trip { sent, bytes, came: None });
        self.trips.len() - 1
    }

    pub(super) fn arrive(&mut self, trip: usize, at: Duration, waited: Duration) {
        // The second of two does not count.
        self.trips[trip].came.get_or_insert((at, waited));
    }

    /// Bits per second of UDP payloads that arrived between two times.
    pub fn rate(&self, from: Duration, to: Duration) -> f64 {
        let bytes: usize = self.arrived(from, to).map(|trip| trip.bytes).sum();
        bytes as f64 * 8.0 / to.saturating_sub(from).as_secs_f64()
    }

    /// Bits that arrived between two times, with headers.
    pub fn wire_bits(&self, from: Duration, to: Duration) -> f64 {
        self.arrived(from, to).map(|trip| (trip.bytes + OVERHEAD) * 8).sum::<usize>() as f64
    }

    /// How long packets waited that arrived between two times.
    pub fn waits(&self, from: Duration, to: Duration) -> Waits {
        Waits::of(self.each_wait(from, to).collect())
    }

    /// The wait of each packet that arrived between two times.
    pub fn each_wait(&self, from: Duration, to: Duration) -> impl Iterator<Item = Duration> {
        self.arrived(from, to).filter_map(|trip| trip.came).map(|(_, waited)| waited)
    }

    /// How many packets were sent between two times, and how many of them were lost.
    pub fn sent_and_lost(&self, from: Duration, to: Duration) -> (usize, usize) {
        let sent = || self.trips.iter().filter(|trip| trip.sent >= from && trip.sent < to);
        (sent().count(), sent().filter(|trip| trip.came.is_none()).count())
    }

    /// The longest time without a packet between two times.
    pub fn longest_silence(&self, from: Duration, to: Duration) -> Duration {
        let mut times: Vec<_> =
            self.arrived(from, to).filter_map(|trip| trip.came).map(|(at, _)| at).collect();
        times.extend([from, to]);
        times.sort_unstable();
        times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or_default()
    }

    fn arrived(&self, from: Duration, to: Duration) -> impl Iterator<Item = &Trip> {
        self.trips.iter().filter(move |trip| trip.came.is_some_and(|(at, _)| at >= from && at < to))
    }
}

impl Waits {
    /// Of the waits of some packets.
    pub fn of(mut waits: Vec<Duration>) -> Self {
        waits.sort_unstable();
        let at = |share: f64| {
            let index = (waits.len() as f64 * share) as usize;
            waits.get(index.min(waits.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        Self { median: at(0.5), p95: at(0.95), longest: at(1.0) }
    }
}
