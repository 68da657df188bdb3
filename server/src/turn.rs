//! The TURN server among the other parts: what it is started with, and what clients are told of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::ServerConfig;
use veche_access::{Authority, Door};
use veche_signaling::protocol::IceServer;
use veche_signaling::{TurnReport, TurnReports, TurnSource, TurnUsage, TurnUserUsage};
use veche_turn::{Handle, PeerPolicy, RelayAddress, Turn, TurnConfig, Usage, User};

use crate::config::{Config, RelayTo, TurnSettings};

/// What a client of TURN over TLS may call the protocol (RFC 7443).
const ALPN: [&[u8]; 2] = [b"stun.turn", b"stun.nat-discovery"];

/// What the TURN server has to know of the others.
pub(crate) struct Surroundings {
    /// The ports of the media plane; none where there is no media plane.
    pub(crate) media_ports: Vec<u16>,
    /// Whether only who shows a token gets a credential.
    pub(crate) is_guarded: bool,
    /// How TLS is spoken, where there is a certificate.
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

/// Whether both doors at which credentials are given, of calls and of HTTP, ask for a token. Who comes in without one is a guest,
/// and anybody can be that.
pub(crate) fn is_guarded(authority: &Authority) -> bool {
    [Door::Signaling, Door::Http].into_iter().all(|door| authority.is_required(door))
}

/// Starts it, where it is not switched off. Where nobody has said where to listen and the usual port is another program's, the
/// server goes on without: then there is a TURN server on this machine already.
pub(crate) fn start(config: &Config, surroundings: &Surroundings) -> Result<Option<Turn>> {
    if !config.turn.enabled {
        return Ok(None);
    }
    match veche_turn::start(turn_config(config, surroundings)?) {
        Ok(turn) => Ok(Some(turn)),
        Err(error) if error.setting == "turn.listen" && config.turn.listens_by_default() => {
            tracing::warn!("no TURN server: {error}; turn.enabled = false silences this");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn turn_config(config: &Config, surroundings: &Surroundings) -> Result<TurnConfig> {
    let settings = &config.turn;
    let addresses = addresses(config)?;
    let [relay_v4, relay_v6] = [IpAddr::is_ipv4, IpAddr::is_ipv6].map(|of_family: fn(&IpAddr) -> bool| {
        let external = addresses.iter().copied().find(of_family)?;
        // Behind a NAT the address that others see is none of this machine.
        let is_own = settings.external_addresses.is_empty() && config.media.external_addresses.is_empty();
        let any =
            if external.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        Some(RelayAddress { bind: if is_own { external } else { any }, external })
    });
    let has_ipv6 = std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let listen = settings.listen.iter().copied().filter(|address| has_ipv6 || address.is_ipv4());
    Ok(TurnConfig {
        listen: listen.collect(),
        workers: settings.workers,
        realm: settings.realm.clone(),
        secrets: settings.secrets.clone(),
        users: users(settings),
        relay_v4,
        relay_v6,
        relay_ports: settings.ports().expect("checked when it was read"),
        quotas: settings.quotas(),
        peers: peers(config, &surroundings.media_ports, surroundings.is_guarded)?,
        alternates: settings.alternates.clone(),
        unproven_bytes_per_second: settings.unproven_bytes_per_second,
        max_connections: settings.max_connections,
        tls: surroundings.tls.as_deref().map(|tls| {
            let mut tls = tls.clone();
            tls.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
            Arc::new(tls)
        }),
    })
}

/// The addresses at which clients and peers reach this machine, best first.
fn addresses(config: &Config) -> Result<Vec<IpAddr>> {
    if config.turn.external_addresses.is_empty() {
        return Ok(veche_sfu::announced(&config.sfu())?);
    }
    Ok(config.turn.external_addresses.clone())
}

/// Whom relays may reach. `is_guarded` is [`is_guarded`].
pub(crate) fn peers(config: &Config, media_ports: &[u16], is_guarded: bool) -> Result<PeerPolicy> {
    let settings = &config.turn;
    let addresses = addresses(config)?;
    let media = veche_sfu::announced(&config.sfu()).unwrap_or_default();
    let own = media
        .iter()
        .chain(&addresses)
        .flat_map(|ip| media_ports.iter().map(|port| SocketAddr::new(*ip, *port)));
    let interfaces = if_addrs::get_if_addrs().context("the network interfaces cannot be read")?;
    let machine = interfaces.iter().map(if_addrs::Interface::ip);
    let external = config.media.external_addresses.iter().chain(&addresses).copied();
    let internet = match settings.relay_to {
        RelayTo::Auto => is_guarded,
        RelayTo::Media => false,
        RelayTo::Internet => true,
    };
    let networks =
        |networks: &[crate::config::Network]| networks.iter().map(|network| (*network).into()).collect();
    Ok(PeerPolicy {
        own: own.collect(),
        machine: machine.chain(external).collect(),
        relays: settings.ports().expect("checked when it was read"),
        allow: networks(&settings.allow),
        deny: networks(&settings.deny),
        internet,
    })
}

/// Those who have a name and a password of their own.
pub(crate) fn users(settings: &TurnSettings) -> Vec<User> {
    let user =
        |user: &crate::config::TurnUser| User { name: user.name.clone(), password: user.password.clone() };
    settings.users.iter().map(user).collect()
}

/// Who uses it, for administrators.
pub(crate) fn reports(handle: Handle) -> TurnReports {
    Arc::new(move || {
        let users = handle.users().into_iter();
        let users = users.map(|one| TurnUserUsage { user: one.user, usage: usage(&one.usage) });
        TurnReport { total: usage(&handle.total()), users: users.collect() }
    })
}

fn usage(usage: &Usage) -> TurnUsage {
    TurnUsage {
        allocations: usage.allocations,
        permissions: usage.permissions,
        channels: usage.channels,
        packets_to_peers: usage.packets_to_peers,
        bytes_to_peers: usage.bytes_to_peers,
        packets_to_clients: usage.packets_to_clients,
        bytes_to_clients: usage.bytes_to_clients,
    }
}

/// What clients are told: where the server is, and a credential for each.
pub(crate) fn source(config: &Config, handle: Handle) -> TurnSource {
    let urls = urls(config, handle.addresses());
    let lifetime: Duration = config.turn.credential_lifetime();
    Arc::new(move |user| {
        let credential = handle.issue(user, lifetime);
        vec![IceServer {
            urls: urls.clone(),
            username: Some(credential.username),
            credential: Some(credential.credential),
        }]
    })
}

/// The server over UDP, TCP, and TLS where clients can trust the certificate. STUN needs no line of its own: a client that
/// knows a TURN server asks it for its address anyway.
fn urls(config: &Config, bound: &[SocketAddr]) -> Vec<String> {
    let names = match (&config.turn.hosts[..], &config.acme.domains[..]) {
        ([], names) => names.to_vec(),
        (hosts, _) => hosts.to_vec(),
    };
    let has_tls = config.http.https_listen.is_some();
    let is_trusted = has_tls && (config.http.certificate_file.is_some() || !config.acme.domains.is_empty());
    let Some(port) = bound.first().map(SocketAddr::port) else { return Vec::new() };
    let mut hosts: Vec<(String, u16)> = names.iter().map(|name| (bracketed(name), port)).collect();
    if names.is_empty() {
        // One of each family, with the port of that family.
        for of_family in [SocketAddr::is_ipv4, SocketAddr::is_ipv6] {
            let Some(bound) = bound.iter().find(|address| of_family(address)) else { continue };
            let addresses = addresses(config).unwrap_or_default();
            let own = addresses.iter().find(|address| address.is_ipv4() == bound.is_ipv4());
            hosts.extend(own.map(|own| (bracketed(&own.to_string()), bound.port())));
        }
    }
    let mut urls = Vec::new();
    for (host, port) in &hosts {
        urls.push(format!("turn:{host}:{port}?transport=udp"));
        urls.push(format!("turn:{host}:{port}?transport=tcp"));
        if is_trusted && !names.is_empty() {
            urls.push(format!("turns:{host}:{port}?transport=tcp"));
        }
    }
    urls
}

fn bracketed(host: &str) -> String {
    if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use veche_access::{AccessSettings, Secret};

    use super::*;

    #[test]
    fn clients_are_told_every_way_that_they_can_trust() {
        let mut config = Config::default();
        config.turn.external_addresses = vec!["203.0.113.5".parse().unwrap(), "2001:db8::5".parse().unwrap()];
        let bound = ["0.0.0.0:3478", "[::]:3479"].map(|text| text.parse().unwrap());
        assert_eq!(
            urls(&config, &bound),
            [
                "turn:203.0.113.5:3478?transport=udp",
                "turn:203.0.113.5:3478?transport=tcp",
                "turn:[2001:db8::5]:3479?transport=udp",
                "turn:[2001:db8::5]:3479?transport=tcp",
            ]
        );
        config.acme.domains = vec!["veche.example".to_owned()];
        assert_eq!(
            urls(&config, &bound),
            [
                "turn:veche.example:3478?transport=udp",
                "turn:veche.example:3478?transport=tcp",
                "turns:veche.example:3478?transport=tcp",
            ]
        );
        config.turn.hosts = vec!["2001:db8::7".to_owned()];
        assert!(urls(&config, &bound)[2] == "turns:[2001:db8::7]:3478?transport=tcp");
        config.http.https_listen = None;
        assert_eq!(urls(&config, &bound).len(), 2, "there is no TLS behind a proxy that has it");
    }

    #[test]
    fn only_who_shows_a_token_is_relayed_to_the_internet() {
        let mut config = Config::default();
        config.turn.external_addresses = vec!["203.0.113.5".parse().unwrap()];
        config.media.external_addresses = config.turn.external_addresses.clone();
        let policy = |config: &Config, access: &AccessSettings| {
            let authority = Authority::new(access, None).unwrap();
            peers(config, &[40_000], is_guarded(&authority)).unwrap()
        };
        let allows = |policy: &PeerPolicy, peer: &str| policy.allows(peer.parse().unwrap());
        let secrets = vec![Secret::Text("a secret of at least 32 bytes, for tests".into())];
        let access = AccessSettings { secrets, ..AccessSettings::default() };
        let required = AccessSettings { required: true, ..access.clone() };
        for (access, expected) in [
            (&AccessSettings::default(), false),
            (&access, false),
            (&AccessSettings { sse_required: true, ..access.clone() }, false),
            (&AccessSettings { websocket_required: true, ..access.clone() }, true),
            (&required, true),
        ] {
            let policy = policy(&config, access);
            assert!(allows(&policy, "203.0.113.5:40000") && !allows(&policy, "203.0.113.5:22"));
            assert_eq!(allows(&policy, "8.8.8.8:53"), expected, "{access:?}");
        }
        config.turn.relay_to = RelayTo::Internet;
        let open = policy(&config, &AccessSettings::default());
        assert!(allows(&open, "8.8.8.8:53") && !allows(&open, "203.0.113.5:53"));
        assert!(allows(&open, "203.0.113.5:50000"), "another relay");
        for interface in if_addrs::get_if_addrs().unwrap() {
            assert!(!open.allows(SocketAddr::new(interface.ip(), 53)), "{interface:?}");
        }
        config.turn.relay_to = RelayTo::Media;
        assert!(!allows(&policy(&config, &required), "8.8.8.8:53"));
    }
}
