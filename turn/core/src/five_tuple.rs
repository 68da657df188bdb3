//! Who a client is to the server: the 5-tuple (RFC 8656 section 2.2).

use std::net::{IpAddr, SocketAddr};

/// A client's address and port, ours, and the transport between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FiveTuple {
    /// The client's address as the server sees it.
    pub remote: SocketAddr,
    /// Where the client came in.
    pub link: Link,
}

/// The server's side of a 5-tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// Datagrams to one of the server's sockets.
    Udp {
        /// Which socket.
        socket: u16,
        /// The address that the client sent to, where the system tells it.
        local: Option<IpAddr>,
    },
    /// A connection, of TCP or TLS; its number is never used again.
    Stream(u64),
}

impl FiveTuple {
    /// Whether it is a connection: then ChannelData is padded (RFC 8656 section 12.5), and nobody can have forged the address.
    pub fn is_stream(&self) -> bool {
        matches!(self.link, Link::Stream(_))
    }
}
