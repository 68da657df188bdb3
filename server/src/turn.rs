//! The TURN server among the other parts: what it is started with, and what clients are told of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use veche_access::{Authority, Door};
use veche_signaling::protocol::IceServer;
use veche_signaling::{TurnReport, TurnReports, TurnSource, TurnUsage, TurnUserUsage};
use veche_turn::{Handle, PeerPolicy, RelayAddress, Turn, TurnConfig, Usage, User};

use crate::config::{Config, RelayTo, TurnSettings};
use crate::entrance::TURN_PROTOCOLS;
use crate::listeners::PublicPort;

/// What the TURN server has to know of the others.
pub(crate) struct Surroundings {
    /// The ports of the media plane; none where there is no media plane.
    pub(crate) media_ports: Vec<u16>,
    /// The addresses at which STUN servers see this machine.
    pub(crate) discovered: Vec<IpAddr>,
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
    let turn_config = turn_config(config, surroundings)?;
    let alone = TurnConfig { listen: Vec::new(), ..turn_config.clone() };
    match veche_turn::start(turn_config) {
        Ok(turn) => Ok(Some(turn)),
        Err(error) if error.setting == "turn.listen" && config.turn.listens_by_default() => {
            if config.turn.share_port || config.shares_media_udp() {
                tracing::warn!(
                    "TURN only at the ports that it shares: {error}; turn.listen = [] silences this"
                );
                return Ok(Some(veche_turn::start(alone)?));
            }
            tracing::warn!("no TURN server: {error}; turn.enabled = false silences this");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn turn_config(config: &Config, surroundings: &Surroundings) -> Result<TurnConfig> {
    let settings = &config.turn;
    let [relay_v4, relay_v6] = relays(config, &surroundings.discovered)?;
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
        tcp_relays: settings.tcp_relays,
        relay_ports: settings.ports().expect("checked when it was read"),
        quotas: settings.quotas(),
        peers: peers(config, &surroundings.discovered, &surroundings.media_ports, surroundings.is_guarded)?,
        alternates: settings.alternates.clone(),
        unproven_bytes_per_second: settings.unproven_bytes_per_second,
        max_connections: settings.max_connections,
        tls: surroundings.tls.as_deref().map(|tls| {
            let mut tls = tls.clone();
            tls.alpn_protocols = TURN_PROTOCOLS.map(<[u8]>::to_vec).into();
            Arc::new(tls)
        }),
    })
}

/// Where relays of IPv4 and of IPv6 are. `discovered` is where STUN servers see this machine, here and below.
pub(crate) fn relays(config: &Config, discovered: &[IpAddr]) -> Result<[Option<RelayAddress>; 2]> {
    let addresses = addresses(config, discovered)?;
    let is_told = !config.turn.external_addresses.is_empty() || !config.media.external_addresses.is_empty();
    Ok([IpAddr::is_ipv4, IpAddr::is_ipv6].map(|of_family: fn(&IpAddr) -> bool| {
        let external = addresses.iter().copied().find(of_family)?;
        // Behind a NAT the address that others see is none of this machine.
        let is_own = !is_told && !discovered.contains(&external);
        let any =
            if external.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        Some(RelayAddress { bind: if is_own { external } else { any }, external })
    }))
}

/// The addresses at which clients and peers reach this machine, best first.
fn addresses(config: &Config, discovered: &[IpAddr]) -> Result<Vec<IpAddr>> {
    if config.turn.external_addresses.is_empty() {
        return Ok(veche_sfu::announced(&config.sfu(discovered))?);
    }
    Ok(config.turn.external_addresses.clone())
}

/// The ports of the media plane.
pub(crate) fn media_ports(media: &veche_sfu::Handle) -> Vec<u16> {
    media.metrics().iter().map(|worker| worker.port).collect()
}

/// Where media and TURN share a UDP port.
pub(crate) fn shared_udp(config: &Config, media_ports: &[u16]) -> Vec<SocketAddr> {
    let port = media_ports.first().copied().filter(|_| config.shares_media_udp());
    let at = |port| config.media.bind.iter().map(move |ip| SocketAddr::new(*ip, port));
    port.into_iter().flat_map(at).collect()
}

/// Whom relays may reach. `is_guarded` is [`is_guarded`].
pub(crate) fn peers(
    config: &Config,
    discovered: &[IpAddr],
    media_ports: &[u16],
    is_guarded: bool,
) -> Result<PeerPolicy> {
    let settings = &config.turn;
    let addresses = addresses(config, discovered)?;
    let media = veche_sfu::announced(&config.sfu(discovered)).unwrap_or_default();
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
        connections: usage.connections,
        packets_to_peers: usage.packets_to_peers,
        bytes_to_peers: usage.bytes_to_peers,
        packets_to_clients: usage.packets_to_clients,
        bytes_to_clients: usage.bytes_to_clients,
    }
}

/// Where clients are told that the server is. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Urls {
    current: Arc<ArcSwap<Vec<String>>>,
    public: PublicPort,
    bound: Vec<SocketAddr>,
    shared_udp: Vec<SocketAddr>,
}

impl Urls {
    /// `public` is the port of HTTPS, `bound` is where the server listens itself, `shared_udp` where media does for it.
    pub(crate) fn new(
        config: &Config,
        discovered: &[IpAddr],
        public: PublicPort,
        (bound, shared_udp): (&[SocketAddr], &[SocketAddr]),
    ) -> Self {
        let (bound, shared_udp) = (bound.to_vec(), shared_udp.to_vec());
        let urls = Self { current: Arc::default(), public, bound, shared_udp };
        urls.renew(config, discovered);
        urls
    }

    /// The machine's addresses have changed.
    pub(crate) fn renew(&self, config: &Config, discovered: &[IpAddr]) {
        let mut all = udp_urls(config, discovered, &self.shared_udp);
        all.extend(urls(config, discovered, self.public, &self.bound));
        self.current.store(all.into());
    }
}

/// What clients are told: where the server is, and a credential for each.
pub(crate) fn source(urls: Urls, lifetime: Duration, handle: Handle) -> TurnSource {
    Arc::new(move |user| {
        let credential = handle.issue(user, lifetime);
        vec![IceServer {
            urls: urls.current.load().to_vec(),
            username: Some(credential.username),
            credential: Some(credential.credential),
        }]
    })
}

/// The server over UDP at the port of media.
fn udp_urls(config: &Config, discovered: &[IpAddr], shared: &[SocketAddr]) -> Vec<String> {
    let hosts = hosts(config, discovered, shared).into_iter();
    hosts.map(|(host, port)| format!("turn:{host}:{port}?transport=udp")).collect()
}

/// The server over UDP, TCP, and TLS where clients can trust the certificate. What lets through as much as web pages need lets
/// through the port that is shared with those, so that this is the one for TLS. STUN needs no line of its own: a client that
/// knows a TURN server asks it for its address anyway.
fn urls(config: &Config, discovered: &[IpAddr], public: PublicPort, bound: &[SocketAddr]) -> Vec<String> {
    let hosts = |bound: &[SocketAddr]| hosts(config, discovered, bound);
    let names = names(config);
    let has_certificate = config.http.certificate_file.is_some() || !config.acme.domains.is_empty();
    let is_trusted = public.tls && has_certificate && !names.is_empty();
    let shared = config.turn.share_port.then(|| public.announced(config));
    let shares_tls = shared.is_some() && public.tls;
    let mut urls = Vec::new();
    for (host, port) in hosts(bound) {
        urls.push(format!("turn:{host}:{port}?transport=udp"));
        urls.push(format!("turn:{host}:{port}?transport=tcp"));
        if is_trusted && !shares_tls {
            urls.push(format!("turns:{host}:{port}?transport=tcp"));
        }
    }
    if let Some(shared) = shared {
        // One of `::` takes IPv4 as well.
        let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, shared.port()));
        let both = [v4, shared];
        let bound = if shared.ip() == Ipv6Addr::UNSPECIFIED { &both[..] } else { &both[1..] };
        let scheme = if is_trusted && shares_tls { "turns" } else { "turn" };
        // Who names the port that clients see says that what has it passes connections of TLS on as they are.
        let is_passed_on = shares_tls && config.http.external_port != 0;
        let hosts = hosts(bound).into_iter().filter(|(host, _)| is_passed_on || leads_to(host, shared));
        urls.extend(hosts.map(|(host, port)| format!("{scheme}:{host}:{port}?transport=tcp")));
    }
    urls
}

/// By which names clients find the server.
fn names(config: &Config) -> &[String] {
    if config.turn.hosts.is_empty() { &config.acme.domains } else { &config.turn.hosts }
}

/// Where clients find what is bound: by each name, or else one address of each family, with the port of that family.
fn hosts(config: &Config, discovered: &[IpAddr], bound: &[SocketAddr]) -> Vec<(String, u16)> {
    let names = names(config);
    let Some(first) = bound.first() else { return Vec::new() };
    if !names.is_empty() {
        return names.iter().map(|name| (bracketed(name), first.port())).collect();
    }
    let addresses = addresses(config, discovered).unwrap_or_default();
    let of_family = |is_ipv4| {
        let bound = bound.iter().find(|bound| bound.is_ipv4() == is_ipv4)?;
        let own = addresses.iter().find(|address| address.is_ipv4() == is_ipv4)?;
        Some((bracketed(&own.to_string()), bound.port()))
    };
    [true, false].into_iter().filter_map(of_family).collect()
}

/// Whether who comes to a host can come to this address of it: others than this machine not to its loopback, at which a proxy
/// is served.
fn leads_to(host: &str, address: SocketAddr) -> bool {
    let is_local = |host: &str| host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    !address.ip().is_loopback() || host == "localhost" || is_local(host.trim_matches(['[', ']']))
}

fn bracketed(host: &str) -> String {
    if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use veche_access::{AccessSettings, Secret};

    use super::*;

    fn public(address: &str, tls: bool) -> PublicPort {
        PublicPort { address: address.parse().unwrap(), tls }
    }

    #[test]
    fn clients_are_told_every_way_that_they_can_trust() {
        let mut config = Config::default();
        config.turn.external_addresses = vec!["203.0.113.5".parse().unwrap(), "2001:db8::5".parse().unwrap()];
        config.turn.share_port = false;
        let bound = ["0.0.0.0:3478", "[::]:3479"].map(|text| text.parse().unwrap());
        let urls = |config: &Config| urls(config, &[], public("0.0.0.0:443", true), &bound);
        assert_eq!(
            urls(&config),
            [
                "turn:203.0.113.5:3478?transport=udp",
                "turn:203.0.113.5:3478?transport=tcp",
                "turn:[2001:db8::5]:3479?transport=udp",
                "turn:[2001:db8::5]:3479?transport=tcp",
            ]
        );
        config.acme.domains = vec!["veche.example".to_owned()];
        assert_eq!(
            urls(&config),
            [
                "turn:veche.example:3478?transport=udp",
                "turn:veche.example:3478?transport=tcp",
                "turns:veche.example:3478?transport=tcp",
            ]
        );
        config.turn.hosts = vec!["2001:db8::7".to_owned()];
        assert_eq!(urls(&config)[2], "turns:[2001:db8::7]:3478?transport=tcp");
        let behind = super::urls(&config, &[], public("127.0.0.1:80", false), &bound);
        assert_eq!(behind.len(), 2, "there is no TLS behind a proxy that has it");
    }

    #[test]
    fn the_port_of_web_pages_is_told_where_it_is_shared() {
        let mut config = Config::default();
        config.turn.external_addresses = vec!["203.0.113.5".parse().unwrap(), "2001:db8::5".parse().unwrap()];
        let bound = ["0.0.0.0:3478".parse().unwrap()];
        let own = ["turn:203.0.113.5:3478?transport=udp", "turn:203.0.113.5:3478?transport=tcp"];
        let shared = |config: &Config, public| {
            let urls = urls(config, &[], public, &bound);
            assert_eq!(
                &urls[..2],
                &own.map(|url| url.replace("203.0.113.5", &names_or(config, "203.0.113.5")))
            );
            urls[2..].to_vec()
        };
        let tcp4 = "turn:203.0.113.5:443?transport=tcp";
        assert_eq!(shared(&config, public("0.0.0.0:443", true)), [tcp4], "no name that could be trusted");
        assert_eq!(shared(&config, public("0.0.0.0:443", false)), [tcp4]);
        let tcp6 = "turn:[2001:db8::5]:443?transport=tcp";
        assert_eq!(shared(&config, public("[::]:443", true)), [tcp4, tcp6]);
        assert!(shared(&config, public("127.0.0.1:8000", false)).is_empty(), "behind a proxy");
        config.acme.domains = vec!["veche.example".to_owned()];
        assert_eq!(shared(&config, public("0.0.0.0:443", true)), ["turns:veche.example:443?transport=tcp"]);
        config.http.external_port = 8443;
        assert_eq!(shared(&config, public("0.0.0.0:443", true)), ["turns:veche.example:8443?transport=tcp"]);
        assert_eq!(
            urls(&config, &[], public("0.0.0.0:443", true), &[]),
            ["turns:veche.example:8443?transport=tcp"],
            "there is no other"
        );
        let behind = shared(&config, public("127.0.0.1:8443", true));
        assert_eq!(behind, ["turns:veche.example:8443?transport=tcp"], "it is passed on as it is");
        config.http.external_port = 0;
        assert!(shared(&config, public("127.0.0.1:8443", true)).is_empty(), "perhaps not");
        config.http.external_port = 8443;
        config.turn.hosts = vec!["localhost".to_owned()];
        assert_eq!(
            shared(&config, public("127.0.0.1:443", true)),
            ["turns:localhost:8443?transport=tcp"],
            "on this machine"
        );
    }

    #[test]
    fn the_port_of_media_is_told_where_it_is_shared() {
        let mut config = Config::default();
        config.turn.external_addresses = vec!["203.0.113.5".parse().unwrap(), "2001:db8::5".parse().unwrap()];
        config.turn.share_port = false;
        assert!(shared_udp(&config, &[443, 444]).is_empty(), "only where it is wanted");
        config.turn.share_udp_port = true;
        let told = |config: &Config| udp_urls(config, &[], &shared_udp(config, &[443, 444]));
        assert_eq!(
            told(&config),
            ["turn:203.0.113.5:443?transport=udp", "turn:[2001:db8::5]:443?transport=udp"]
        );
        config.media.bind = vec!["192.0.2.7".parse().unwrap()];
        assert_eq!(told(&config), ["turn:203.0.113.5:443?transport=udp"], "IPv6 is not bound");
        config.turn.hosts = vec!["veche.example".to_owned()];
        assert_eq!(told(&config), ["turn:veche.example:443?transport=udp"]);
        config.signaling.enabled = false;
        assert!(told(&config).is_empty(), "there is no media");
    }

    fn names_or(config: &Config, address: &str) -> String {
        names(config).first().cloned().unwrap_or_else(|| address.to_owned())
    }

    #[test]
    fn what_was_discovered_is_where_clients_and_peers_find_relays() {
        let config = Config::default();
        let discovered = ["203.0.113.5".parse().unwrap()];
        let bound = ["0.0.0.0:3478".parse().unwrap()];
        let urls = Urls::new(&config, &discovered, public("127.0.0.1:8000", false), (&bound, &[]));
        assert_eq!(
            *urls.current.load_full(),
            ["turn:203.0.113.5:3478?transport=udp", "turn:203.0.113.5:3478?transport=tcp"]
        );
        let relay = relays(&config, &discovered).unwrap()[0].unwrap();
        assert_eq!((relay.bind, relay.external), (Ipv4Addr::UNSPECIFIED.into(), discovered[0]));
        let policy = peers(&config, &discovered, &[40_000], false).unwrap();
        assert!(policy.allows("203.0.113.5:40000".parse().unwrap()));
        assert!(!policy.allows("203.0.113.5:22".parse().unwrap()));

        let moved = ["203.0.113.6".parse().unwrap()];
        urls.renew(&config, &moved);
        assert!(urls.current.load()[0].starts_with("turn:203.0.113.6:3478"));
        let own = relays(&config, &[]).unwrap()[0].unwrap();
        assert_eq!(own.bind, own.external);
    }

    #[test]
    fn only_who_shows_a_token_is_relayed_to_the_internet() {
        let mut config = Config::default();
        config.turn.external_addresses = vec!["203.0.113.5".parse().unwrap()];
        config.media.external_addresses = config.turn.external_addresses.clone();
        let policy = |config: &Config, access: &AccessSettings| {
            let authority = Authority::new(access, None).unwrap();
            peers(config, &[], &[40_000], is_guarded(&authority)).unwrap()
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
