//! What the control plane holds of the media plane.

use std::convert::Infallible;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use veche_sfu_core::control::{Command, Event};
use veche_sfu_core::ids::{ParticipantId, RoomId};

use crate::mailbox;
use crate::metrics::{Shared, WorkerMetrics};

/// How to start the media plane.
#[derive(Clone, Debug)]
pub struct SfuConfig {
    /// The addresses to bind. Usually `0.0.0.0` and `::`.
    pub bind: Vec<IpAddr>,
    /// The first UDP (and ICE-TCP) port: worker `n` has port `first_port + n`. 0 lets the system choose each.
    pub first_port: u16,
    /// How many workers; 0 for as many as cores.
    pub workers: usize,
    /// Addresses announced to clients instead of those of the network interfaces (for servers behind NAT).
    pub external_addresses: Vec<IpAddr>,
    /// Announce loopback addresses too: for tests and for calls within one machine.
    pub loopback: bool,
    /// Accept ICE over TCP on the same ports.
    pub tcp: bool,
    /// Where the DTLS certificate is kept, so that it survives restarts. `None`: made anew at each start.
    pub certificate_file: Option<PathBuf>,
    /// Offer DTLS 1.3 as well as 1.2.
    pub dtls13: bool,
    /// The largest data channel message, in bytes.
    pub max_data_message: usize,
}

/// A running media plane: the handle for commands, and where its events come out.
#[derive(Debug)]
pub struct Sfu {
    /// For commands. Cheap to clone. When the last is dropped the workers stop.
    pub handle: Handle,
    /// Events of all workers. Bounded: who does not read it holds the workers' events back, not their media.
    pub events: flume::Receiver<Event>,
    /// Workers that have failed, which is a bug or a broken system. Their rooms are lost and their commands are
    /// refused; other workers go on. The process should drain and end, so that its supervisor starts a new one.
    /// Disconnected when all workers have ended.
    pub failures: flume::Receiver<WorkerFailure>,
}

/// A worker that has ended without being told to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("media worker {worker} has failed: {reason}")]
pub struct WorkerFailure {
    /// Which worker.
    pub worker: usize,
    /// The message of its panic, or what the system said.
    pub reason: String,
}

/// Commands to the media plane.
#[derive(Clone, Debug)]
pub struct Handle {
    plane: Arc<Plane>,
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The worker's queue is full.
    #[error("the media worker is overloaded")]
    Busy,
    /// The media plane has stopped.
    #[error("the media plane has stopped")]
    Stopped,
}

/// Why the media plane did not start; names the setting.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {reason}")]
pub struct StartError {
    /// The setting to change, such as `media.first_port`.
    pub setting: &'static str,
    /// What is wrong, with an example of what would be right.
    pub reason: String,
}

/// The control plane's side of one worker.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    pub(crate) mailbox: mailbox::Sender,
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
struct Plane {
    workers: Vec<WorkerHandle>,
    next_room: AtomicU64,
    next_participant: AtomicU64,
    /// Disconnected when the last worker has ended; nothing is ever sent.
    done: flume::Receiver<Infallible>,
}

impl Handle {
    pub(crate) fn new(workers: Vec<WorkerHandle>, done: flume::Receiver<Infallible>) -> Self {
        let (next_room, next_participant) = (AtomicU64::new(1), AtomicU64::new(1));
        Self { plane: Arc::new(Plane { workers, next_room, next_participant, done }) }
    }

    /// A new room, on the worker with the least load. It lives in the engine from its first participant to its last.
    ///
    /// The number tells the worker: it is the remainder of a division by the number of workers.
    pub fn create_room(&self) -> RoomId {
        let workers = &self.plane.workers;
        let least = workers
            .iter()
            .enumerate()
            .filter_map(|(index, worker)| Some((worker.shared.load()?, index)))
            .min();
        // When all are gone the number still is one, and commands to it say so.
        let index = least.map_or(0, |(_, index)| index);
        workers[index].shared.on_room_created();
        let serial = self.plane.next_room.fetch_add(1, Ordering::Relaxed);
        RoomId(serial * workers.len() as u64 + index as u64)
    }

    /// A new participant number.
    pub fn create_participant(&self) -> ParticipantId {
        ParticipantId(self.plane.next_participant.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends a command to the room's worker; waits while its queue is full.
    pub async fn command(&self, room: RoomId, command: Command) -> Result<(), CommandError> {
        self.worker(room).mailbox.send(command).await
    }

    /// The same without waiting.
    pub fn try_command(&self, room: RoomId, command: Command) -> Result<(), CommandError> {
        self.worker(room).mailbox.try_send(command)
    }

    /// The counters of all workers, at most about a second old. Holds no worker up.
    pub fn metrics(&self) -> Vec<WorkerMetrics> {
        self.plane.workers.iter().map(|worker| worker.shared.metrics()).collect()
    }

    /// Stops the workers: clients are told by DTLS, sockets are closed. Returns when all are done.
    pub async fn stop(&self) {
        for worker in &self.plane.workers {
            worker.mailbox.stop();
        }
        // Never a message, only the end.
        let _ = self.plane.done.recv_async().await;
    }

    fn worker(&self, room: RoomId) -> &WorkerHandle {
        let workers = &self.plane.workers;
        &workers[(room.0 % workers.len() as u64) as usize]
    }
}
