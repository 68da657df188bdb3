//! The engine: everything of one worker that decides. Datagrams and commands go in, datagrams and events come out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::control::{Command, Event};
use crate::path::Path;

/// What an engine needs to know at its start.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The candidates of the answers: the worker's addresses as clients reach them, best first.
    pub candidates: Vec<Candidate>,
    /// The certificate of the process.
    pub certificate: Arc<crate::dtls::Certificate>,
    /// Seeds all randomness: SSRCs, credentials, first sequence numbers. Must be secret and unpredictable in
    /// production.
    pub seed: [u8; 32],
    /// The difference between `now` and the NTP clock, for sender reports: NTP time of `epoch`.
    pub epoch: Instant,
    /// Nanoseconds since 1900 at `epoch`... as a 32.32 fixed-point NTP timestamp (RFC 5905).
    pub epoch_ntp: u64,
    /// Offer DTLS 1.3 as well as 1.2.
    pub dtls13: bool,
    /// The largest data channel message, in bytes; announced as `a=max-message-size`.
    pub max_message_size: usize,
}

/// A host candidate of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The address that clients send to.
    pub address: SocketAddr,
    /// Passive TCP (RFC 6544) instead of UDP.
    pub tcp: bool,
}

/// A run of packets for one path, one behind the other.
#[derive(Debug)]
pub struct Transmit<'a> {
    /// Where to.
    pub path: Path,
    /// The packets.
    pub bytes: &'a [u8],
    /// Where each packet ends in `bytes`.
    pub ends: &'a [u32],
}

/// The core of one worker.
#[derive(Debug)]
pub struct Engine {
    _config: EngineConfig,
}

impl Engine {
    /// An engine without rooms.
    pub fn new(config: EngineConfig, _now: Instant) -> Self {
        Self { _config: config }
    }

    /// Takes a command of the control plane.
    pub fn handle_command(&mut self, _now: Instant, _command: Command) {
        todo!()
    }

    /// Takes one datagram (over TCP: one RFC 4571 frame). It is decrypted in place.
    pub fn handle_datagram(&mut self, _now: Instant, _path: Path, _datagram: &mut [u8]) {
        todo!()
    }

    /// A TCP connection is gone: its paths are dead.
    pub fn handle_disconnect(&mut self, _now: Instant, _path: Path) {
        todo!()
    }

    /// Does what is due. To be called at or after the time of [`Engine::poll_timeout`].
    pub fn handle_timeout(&mut self, _now: Instant) {
        todo!()
    }

    /// When [`Engine::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// The next event for the control plane.
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }

    /// Hands out all that is to be sent, run by run. To be called after each batch of inputs.
    pub fn flush(&mut self, _send: &mut dyn FnMut(Transmit<'_>)) {
        todo!()
    }

    /// Whether this STUN user name fragment is one of ours: for TCP connections, which are accepted by any worker.
    pub fn close(&mut self, _now: Instant) {
        todo!()
    }
}
