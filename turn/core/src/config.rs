//! What a server is made with.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ahash::RandomState;

use crate::nonce::NonceKey;
use crate::peers::PeerPolicy;

/// What a server is made with; all workers have the same, but for their number.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Which worker this is.
    pub worker: u16,
    /// How many workers there are; at most 4,096.
    pub workers: u16,
    /// For what credentials are: a text that clients repeat.
    pub realm: String,
    /// What nonces are made with.
    pub nonce_key: NonceKey,
    /// Makes hashes unpredictable.
    pub hash: RandomState,
    /// Now, or earlier: times are counted from here.
    pub epoch: Instant,
    /// How long a nonce is good.
    pub nonce_lifetime: Duration,
    /// How long an allocation lives when its client does not say (RFC 8656 section 7.2: 10 minutes).
    pub default_lifetime: Duration,
    /// How long it lives at most until it is refreshed.
    pub max_lifetime: Duration,
    /// Whom relays may reach.
    pub peers: PeerPolicy,
    /// Whether there are relays of TCP (RFC 6062).
    pub tcp_relays: bool,
    /// Whether there are relays with addresses of IPv4.
    pub v4: bool,
    /// Whether there are relays with addresses of IPv6.
    pub v6: bool,
    /// How many bytes a second are answered to an address that has not proved itself; 0 for any number.
    pub unproven_bytes_per_second: u32,
    /// Servers that are named to clients when this one is full; the first of the client's family.
    pub alternates: Vec<SocketAddr>,
}

/// How long a permission lives (RFC 8656 section 9).
pub(crate) const PERMISSION_LIFETIME: Duration = Duration::from_mins(5);

/// How long a peer may take until it has taken a connection, and a client until it has bound it (RFC 6062 sections 5.2 and 5.3).
pub(crate) const CONNECTION_PATIENCE: Duration = Duration::from_secs(30);

/// How long a channel lives (RFC 8656 section 12).
pub(crate) const CHANNEL_LIFETIME: Duration = Duration::from_mins(10);
