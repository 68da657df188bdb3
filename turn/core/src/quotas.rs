//! What somebody may have of the server, and what they have.

/// What somebody may have at most; 0 for any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Allocations.
    pub allocations: u32,
    /// Permissions of all their allocations.
    pub permissions: u32,
    /// Channels of all their allocations.
    pub channels: u32,
    /// TCP connections between their relays and peers. Each is an open file.
    pub connections: u32,
    /// Bytes relayed in a second, both ways together.
    pub bytes_per_second: u64,
}

/// The limits for each user, for each client address and for all together. A client address of IPv6 is a network of 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// For each user.
    pub user: Limits,
    /// For each client address.
    pub address: Limits,
    /// For all together.
    pub total: Limits,
}

/// What somebody has and has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Allocations now.
    pub allocations: u32,
    /// Permissions now.
    pub permissions: u32,
    /// Channels now.
    pub channels: u32,
    /// TCP connections between relays and peers now.
    pub connections: u32,
    /// Packets from clients to peers.
    pub packets_to_peers: u64,
    /// Bytes of their data.
    pub bytes_to_peers: u64,
    /// Packets from peers to clients.
    pub packets_to_clients: u64,
    /// Bytes of their data.
    pub bytes_to_clients: u64,
}

/// What a user who has allocations now has, and has used since the first of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserUsage {
    /// Who: a static user, or what stands behind the time in a time-limited name.
    pub user: String,
    /// How much.
    pub usage: Usage,
}
