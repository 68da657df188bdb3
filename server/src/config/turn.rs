//! The section `[turn]`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use veche_turn::{Limits, Quotas};

use super::sections::Network;

/// STUN and TURN, for clients whose network lets nothing else through.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TurnSettings {
    /// `false`: there is none.
    pub(crate) enabled: bool,
    /// Where clients come, over UDP, TCP and TLS.
    pub(crate) listen: Vec<SocketAddr>,
    /// Take clients at the ports of HTTP and HTTPS too, over TCP and TLS.
    pub(crate) share_port: bool,
    /// Take clients at the UDP port of the first media worker too.
    pub(crate) share_udp_port: bool,
    /// How many worker threads; 0 for as many as cores.
    pub(crate) workers: usize,
    /// For what credentials are.
    pub(crate) realm: String,
    /// By what names or addresses clients find the server; empty for those of the machine or the certificate.
    pub(crate) hosts: Vec<String>,
    /// The addresses that peers see; empty for `media.external_addresses`, or the machine's own.
    pub(crate) external_addresses: Vec<IpAddr>,
    /// Whether relays speak TCP too.
    pub(crate) tcp_relays: bool,
    /// The first and the last port of relays.
    pub(crate) relay_ports: String,
    /// They sign credentials: the first makes them, all are accepted. Empty: a random one.
    pub(crate) secrets: Vec<String>,
    /// How long a credential is good, in seconds.
    pub(crate) credential_seconds: u64,
    /// Who has a name and a password of their own.
    pub(crate) users: Vec<User>,
    /// Whether the internet may be reached, beside this server's own media.
    pub(crate) relay_to: RelayTo,
    /// Networks that may be reached as well.
    pub(crate) allow: Vec<Network>,
    /// Networks that may not be reached.
    pub(crate) deny: Vec<Network>,
    /// Servers that are named when this one is full.
    pub(crate) alternates: Vec<SocketAddr>,
    /// TCP connections.
    pub(crate) max_connections: usize,
    /// Answers to addresses that have not proved themselves, in bytes a second for each.
    pub(crate) unproven_bytes_per_second: u32,
    /// Allocations of one user, of one client address, in all; 0 for any number, here and below.
    pub(crate) user_allocations: u32,
    pub(crate) address_allocations: u32,
    pub(crate) total_allocations: u32,
    /// Permissions.
    pub(crate) user_permissions: u32,
    pub(crate) address_permissions: u32,
    pub(crate) total_permissions: u32,
    /// Channels.
    pub(crate) user_channels: u32,
    pub(crate) address_channels: u32,
    pub(crate) total_channels: u32,
    /// TCP connections between relays and peers.
    pub(crate) user_peer_connections: u32,
    pub(crate) address_peer_connections: u32,
    pub(crate) total_peer_connections: u32,
    /// Bytes relayed in a second, both ways together.
    pub(crate) user_bytes_per_second: u64,
    pub(crate) address_bytes_per_second: u64,
    pub(crate) total_bytes_per_second: u64,
}

/// Secrets stay out of logs.
impl fmt::Debug for TurnSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnSettings")
            .field("enabled", &self.enabled)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

/// A name and a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) password: String,
}

/// Passwords stay out of logs.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({})", self.name)
    }
}

/// Whom relays may reach, beside those that are allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RelayTo {
    /// The internet where tokens are asked for, else only this server's media: a server that is open to everybody is no relay
    /// for everybody.
    #[default]
    Auto,
    /// Only this server's media.
    Media,
    /// The internet.
    Internet,
}

impl Default for TurnSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: default_listen(),
            share_port: true,
            share_udp_port: false,
            workers: 0,
            realm: "veche".to_owned(),
            hosts: Vec::new(),
            external_addresses: Vec::new(),
            tcp_relays: false,
            relay_ports: "49152-65535".to_owned(),
            secrets: Vec::new(),
            credential_seconds: 43_200,
            users: Vec::new(),
            relay_to: RelayTo::Auto,
            allow: Vec::new(),
            deny: Vec::new(),
            alternates: Vec::new(),
            max_connections: 10_000,
            unproven_bytes_per_second: 65_536,
            user_allocations: 100,
            address_allocations: 1000,
            total_allocations: 10_000,
            user_permissions: 1000,
            address_permissions: 10_000,
            total_permissions: 100_000,
            user_channels: 1000,
            address_channels: 10_000,
            total_channels: 100_000,
            user_peer_connections: 100,
            address_peer_connections: 500,
            total_peer_connections: 5000,
            user_bytes_per_second: 0,
            address_bytes_per_second: 0,
            total_bytes_per_second: 0,
        }
    }
}

/// The port of STUN and TURN (RFC 8489 section 18.6).
fn default_listen() -> Vec<SocketAddr> {
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    any.map(|ip| SocketAddr::new(ip, 3478)).into()
}

impl TurnSettings {
    /// Whether nobody has said where to listen.
    pub(crate) fn listens_by_default(&self) -> bool {
        self.listen == default_listen()
    }

    /// How many workers there are.
    pub(crate) fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        }
    }

    /// The ports of relays.
    pub(crate) fn ports(&self) -> Option<RangeInclusive<u16>> {
        let (first, last) = self.relay_ports.split_once('-')?;
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first > 0 && first <= last).then_some(first..=last)
    }

    /// How long a credential is good.
    pub(crate) fn credential_lifetime(&self) -> Duration {
        Duration::from_secs(self.credential_seconds)
    }

    /// What users, addresses and all together may have.
    pub(crate) fn quotas(&self) -> Quotas {
        let limits = |allocations, permissions, channels, connections, bytes_per_second| Limits {
            allocations,
            permissions,
            channels,
            connections,
            bytes_per_second,
        };
        Quotas {
            user: limits(
                self.user_allocations,
                self.user_permissions,
                self.user_channels,
                self.user_peer_connections,
                self.user_bytes_per_second,
            ),
            address: limits(
                self.address_allocations,
                self.address_permissions,
                self.address_channels,
                self.address_peer_connections,
                self.address_bytes_per_second,
            ),
            total: limits(
                self.total_allocations,
                self.total_permissions,
                self.total_channels,
                self.total_peer_connections,
                self.total_bytes_per_second,
            ),
        }
    }

    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let wrong = |field, message: &str| Err((field, message.to_owned()));
        if self.ports().is_none() {
            return wrong("relay_ports", "is not a range of ports such as \"49152-65535\"");
        }
        if self.listen.is_empty() && !self.share_port && !self.share_udp_port {
            let message = "names no address, and turn.share_port and share_udp_port are false; for example [\"0.0.0.0:3478\", \
                           \"[::]:3478\"]";
            return wrong("listen", message);
        }
        if self.realm.is_empty() || self.realm.len() > 127 || self.realm.contains('"') {
            return wrong("realm", "1 to 127 bytes without quotation marks, for example \"veche.example\"");
        }
        if self.secrets.iter().any(|secret| secret.len() < 16) {
            return wrong(
                "secrets",
                "each must have at least 16 bytes, for example what `openssl rand -hex 32` prints",
            );
        }
        if self.credential_seconds < 60 {
            return wrong("credential_seconds", "must be at least 60, for example 43200");
        }
        if self.users.iter().any(|user| user.name.is_empty() || user.password.is_empty()) {
            return wrong(
                "users",
                "each needs a name and a password, for example [{ name = \"ann\", password = \"…\" }]",
            );
        }
        if self.hosts.iter().any(|host| host.is_empty() || host.contains(['/', '?', ' '])) {
            return wrong("hosts", "are names or addresses without port, for example [\"turn.example\"]");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_named() {
        let default = TurnSettings::default;
        assert_eq!(default().check(), Ok(()));
        assert!(default().listens_by_default());
        assert_eq!(default().ports(), Some(49_152..=65_535));
        let field = |settings: TurnSettings| settings.check().unwrap_err().0;
        for ports in ["", "5", "9-8", "0-9", "1-70000", "a-b"] {
            assert_eq!(
                field(TurnSettings { relay_ports: ports.into(), ..default() }),
                "relay_ports",
                "{ports}"
            );
        }
        assert_eq!(field(TurnSettings { listen: vec![], share_port: false, ..default() }), "listen");
        assert_eq!(TurnSettings { listen: vec![], ..default() }.check(), Ok(()));
        assert_eq!(field(TurnSettings { realm: String::new(), ..default() }), "realm");
        assert_eq!(field(TurnSettings { secrets: vec!["short".into()], ..default() }), "secrets");
        assert_eq!(field(TurnSettings { credential_seconds: 5, ..default() }), "credential_seconds");
        let users = vec![User { name: "ann".into(), password: String::new() }];
        assert!(
            !format!(
                "{:?}",
                TurnSettings { users: users.clone(), secrets: vec!["s3cret".into()], ..default() }
            )
            .contains("s3cret")
        );
        assert_eq!(field(TurnSettings { users, ..default() }), "users");
        assert_eq!(field(TurnSettings { hosts: vec!["turn:x/".into()], ..default() }), "hosts");
    }
}
