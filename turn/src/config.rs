//! What the server is started with.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use veche_turn_core::{PeerPolicy, Quotas};

/// What the server is started with.
#[derive(Clone)]
pub struct TurnConfig {
    /// Where clients come: each address over UDP, TCP and, where there is a certificate, TLS; by the first byte of a connection.
    /// Empty: only connections that are handed over ([`crate::Handle::adopt`]).
    pub listen: Vec<SocketAddr>,
    /// How many worker threads; 0 for as many as cores.
    pub workers: usize,
    /// For what credentials are; a name of the server, usually.
    pub realm: String,
    /// They sign time-limited credentials: the first makes them, all are accepted. Empty: a random one.
    pub secrets: Vec<String>,
    /// Those who have a name and a password of their own.
    pub users: Vec<User>,
    /// Where relays of IPv4 are; `None` for nowhere.
    pub relay_v4: Option<RelayAddress>,
    /// Where relays of IPv6 are; `None` for nowhere.
    pub relay_v6: Option<RelayAddress>,
    /// Whether relays speak TCP too (RFC 6062).
    pub tcp_relays: bool,
    /// The ports of relays.
    pub relay_ports: RangeInclusive<u16>,
    /// What users, client addresses and all together may have.
    pub quotas: Quotas,
    /// Whom relays may reach.
    pub peers: PeerPolicy,
    /// Servers that are named to clients when this one is full.
    pub alternates: Vec<SocketAddr>,
    /// How many bytes a second are answered to an address that has not proved itself, by all workers; 0 for any number.
    pub unproven_bytes_per_second: u32,
    /// How many TCP connections there may be.
    pub max_connections: usize,
    /// How TLS is spoken; the certificate in it may change. `None`: not at all.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// Secrets stay out of logs.
impl fmt::Debug for TurnConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnConfig")
            .field("listen", &self.listen)
            .field("realm", &self.realm)
            .field("users", &self.users)
            .finish_non_exhaustive()
    }
}

/// An address for relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayAddress {
    /// Where sockets are bound.
    pub bind: IpAddr,
    /// What peers are told: another one behind a NAT.
    pub external: IpAddr,
}

/// Somebody with a name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Their name.
    pub name: String,
    /// Their password.
    pub password: String,
}

/// Passwords stay out of logs.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({})", self.name)
    }
}

/// Why the server cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {reason}")]
pub struct StartError {
    /// The setting to change.
    pub setting: &'static str,
    /// What is wrong, and what would be right.
    pub reason: String,
}
