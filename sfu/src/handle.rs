//! What the control plane holds of the media plane.

use std::net::IpAddr;
use std::path::PathBuf;

use veche_sfu_core::control::{Command, Event};
use veche_sfu_core::ids::{ParticipantId, RoomId};

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
    /// For commands. Cheap to clone.
    pub handle: Handle,
    /// Events of all workers. Bounded: who does not read it holds the workers' events back, not their media.
    pub events: flume::Receiver<Event>,
}

/// Commands to the media plane.
#[derive(Clone, Debug)]
pub struct Handle {}

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

/// Starts the workers.
pub fn start(_config: SfuConfig) -> Result<Sfu, StartError> {
    todo!()
}

impl Handle {
    /// A new room, on the worker with the least load. It lives in the engine from its first participant to its last.
    pub fn create_room(&self) -> RoomId {
        todo!()
    }

    /// A new participant number.
    pub fn create_participant(&self) -> ParticipantId {
        todo!()
    }

    /// Sends a command to the room's worker; waits while its queue is full.
    pub async fn command(&self, _room: RoomId, _command: Command) -> Result<(), CommandError> {
        todo!()
    }

    /// The same without waiting.
    pub fn try_command(&self, _room: RoomId, _command: Command) -> Result<(), CommandError> {
        todo!()
    }

    /// Stops the workers: clients are told by DTLS, sockets are closed. Returns when all are done.
    pub async fn stop(&self) {
        todo!()
    }
}
