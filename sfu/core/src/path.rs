//! Where datagrams come from and go to.

use std::net::{IpAddr, SocketAddr};

/// A TCP connection of the shell (ICE-TCP, RFC 6544); unique in one worker, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

/// A way between a relay of this server's own TURN server and an address of its media, without a socket in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Passage {
    /// The relay, as the TURN server's worker names it: never the same one twice.
    pub relay: u64,
    /// The relay's address, as its peers see it.
    pub relayed: SocketAddr,
    /// The address of media that the relay's client has named.
    pub media: SocketAddr,
}

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
    /// Over a relay of this process.
    Relayed {
        /// Through which hatch of the shell it is reached.
        hatch: u16,
        /// Which relay, and as whom it knows us.
        passage: Passage,
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
    /// The client's address; that of its relay, where it has one.
    pub fn remote(&self) -> SocketAddr {
        match self {
            Path::Udp { remote, .. } | Path::Tcp { remote, .. } => *remote,
            Path::Relayed { passage, .. } => passage.relayed,
        }
    }
}
