//! Where datagrams come from and go to.

use std::net::{IpAddr, SocketAddr};

/// A TCP connection of the shell (ICE-TCP, RFC 6544); unique in one worker, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

/// One network path between a client and this worker: what ICE calls a candidate pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// Over the worker's UDP port.
    Udp {
        /// The client's address as this machine sees it.
        remote: SocketAddr,
        /// The address of this machine that it was sent to, and that answers must come from. `None` where the
        /// system does not tell.
        local: Option<IpAddr>,
    },
    /// Over a TCP connection that the client opened.
    Tcp {
        /// The connection.
        connection: ConnectionId,
        /// The client's address as this machine sees it.
        remote: SocketAddr,
    },
}

impl Path {
    /// The client's address.
    pub fn remote(&self) -> SocketAddr {
        match self {
            Path::Udp { remote, .. } | Path::Tcp { remote, .. } => *remote,
        }
    }
}
