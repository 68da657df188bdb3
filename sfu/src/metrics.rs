//! What a worker tells about itself, once a second.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use veche_sfu_core::drops::DropCounts;

use crate::hatch::Handed;

/// Counters of one worker since its start, and what it has to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerMetrics {
    /// Which worker.
    pub worker: usize,
    /// Whether it runs. `false` after [`crate::Handle::stop`], and when it has panicked.
    pub running: bool,
    /// Its UDP and TCP port.
    pub port: u16,
    /// Participants in its rooms now.
    pub participants: usize,
    /// TCP connections now.
    pub connections: usize,
    /// TCP connections that were refused or closed, by reason.
    pub tcp_refusals: TcpRefusals,
    /// What came and went.
    pub traffic: Traffic,
    /// What came from relays of this process and went to them, without a socket.
    pub handed: Handed,
    /// Packets that the core dropped, by reason.
    pub drops: DropCounts,
}

/// Packets (datagrams, and frames over TCP) of one worker since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets received.
    pub packets_in: u64,
    /// Bytes of them, without IP and UDP or TCP headers.
    pub bytes_in: u64,
    /// Packets handed to the system to send.
    pub packets_out: u64,
    /// Bytes of them, without IP and UDP or TCP headers.
    pub bytes_out: u64,
    /// Calls with which packets were sent over UDP.
    pub sends_out: u64,
    /// Those of them with more than one packet (UDP GSO).
    pub trains_out: u64,
    /// Packets that the system refused to send, for example for want of a route.
    pub send_errors: u64,
    /// Packets dropped because a socket's send buffer, or a TCP connection's queue, was full.
    pub send_drops: u64,
}

/// TCP connections of one worker that were refused, or closed by it, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpRefusals {
    /// The worker had as many as it takes.
    pub full: u64,
    /// The client's household had as many as it may have.
    pub household: u64,
    /// The client's household had as many as it may have that were nobody's yet.
    pub household_unproven: u64,
    /// What came was no ICE.
    pub malformed: u64,
    /// No request on it was signed by somebody who is here.
    pub unproven: u64,
    /// Nothing came.
    pub silent: u64,
}

impl TcpRefusals {
    /// Each reason by its name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let Self { full, household, household_unproven, malformed, unproven, silent } = *self;
        [
            ("full", full),
            ("household", household),
            ("household_unproven", household_unproven),
            ("malformed", malformed),
            ("unproven", unproven),
            ("silent", silent),
        ]
        .into_iter()
    }
}

/// What a worker and the control plane share, beside commands and events.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// The worker writes with `try_lock` once a second: a reader never holds it up.
    metrics: Mutex<WorkerMetrics>,
    /// Packets a second, in and out, and participants, on one scale. See [`PACKETS_PER_PARTICIPANT`].
    load: AtomicU64,
    /// Rooms created, and participants placed, since `load` was measured: their packets are yet to come.
    fresh: AtomicU64,
    gone: AtomicBool,
}

/// How many packets a second a participant, or a room without any yet, is taken for when loads are compared: as many
/// as one with a microphone, some of whose listeners come later.
const PACKETS_PER_PARTICIPANT: u64 = 100;

impl Shared {
    pub(crate) fn new(worker: usize, port: u16) -> Self {
        let metrics = WorkerMetrics { worker, port, ..WorkerMetrics::default() };
        Self { metrics: Mutex::new(metrics), ..Self::default() }
    }

    /// The worker's UDP and TCP port, which stays.
    pub(crate) fn port(&self) -> u16 {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).port
    }

    pub(crate) fn metrics(&self) -> WorkerMetrics {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone();
        metrics.running = !self.is_gone();
        metrics
    }

    /// How much the worker has to do; `None` when it is gone.
    pub(crate) fn load(&self) -> Option<u64> {
        let fresh = self.fresh.load(Ordering::Relaxed) * PACKETS_PER_PARTICIPANT;
        (!self.is_gone()).then(|| self.load.load(Ordering::Relaxed) + fresh)
    }

    /// A room was created here, or a participant placed.
    pub(crate) fn on_placed(&self) {
        self.fresh.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the worker's numbers; `packets_per_second` since the last time. Tells nothing while somebody reads.
    pub(crate) fn publish(&self, packets_per_second: u64, metrics: impl FnOnce(&mut WorkerMetrics)) {
        if let Ok(mut shared) = self.metrics.try_lock() {
            metrics(&mut shared);
            let participants = shared.participants as u64 * PACKETS_PER_PARTICIPANT;
            self.load.store(packets_per_second + participants, Ordering::Relaxed);
            self.fresh.store(0, Ordering::Relaxed);
        }
    }

    /// The worker has ended, for whatever reason.
    pub(crate) fn on_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_placed_counts_as_load_until_it_is_measured_again() {
        let shared = Shared::default();
        assert_eq!(shared.load(), Some(0));
        shared.on_placed();
        shared.on_placed();
        assert_eq!(shared.load(), Some(2 * PACKETS_PER_PARTICIPANT));
        shared.publish(30, |metrics| metrics.participants = 1);
        assert_eq!(shared.load(), Some(30 + PACKETS_PER_PARTICIPANT));
        shared.on_gone();
        assert_eq!(shared.load(), None);
        assert!(!shared.metrics().running);
    }
}
