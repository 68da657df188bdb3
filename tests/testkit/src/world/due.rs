//! What is planned to happen in a world, in order of time.

use std::net::SocketAddr;
use std::time::Instant;

use veche_sfu_core::bridge::BridgeMessage;

use crate::congestion::{End, Packet};

/// What happens at a moment. Simultaneous things happen in the order in which they were planned.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) at: Instant,
    pub(super) order: u64,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// A datagram reaches an engine.
    ToEngine { engine: usize, from: SocketAddr, datagram: Vec<u8> },
    /// A datagram reaches a client.
    ToClient { to: SocketAddr, datagram: Vec<u8> },
    /// A client wants to do something.
    Wake { seat: usize },
    /// Something arrives on a link, or leaves its queue.
    Link { seat: usize, up: bool },
    /// What one engine tells another arrives.
    News { from: usize, to: usize, message: BridgeMessage },
    /// What one engine sends another arrives.
    Records { from: usize, to: usize, records: Vec<Vec<u8>> },
    /// Something leaves a shared bottleneck.
    Bottleneck { index: usize },
    /// What else uses a bottleneck wants to do something.
    Other { index: usize },
    /// Something reaches an end of it.
    ToOther { index: usize, end: End, packet: Packet },
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
