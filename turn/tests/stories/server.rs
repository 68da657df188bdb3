//! A server on this machine, and a peer that sends everything back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use veche_turn::{Network, PeerPolicy, Quotas, RelayAddress, Turn, TurnConfig, User};

pub(crate) const USER: &str = "ann";
pub(crate) const PASSWORD: &str = "ann's password";
pub(crate) const SECRET: &str = "a secret that signs";

/// A server on loopback, whose relays may reach loopback.
pub(crate) fn start(change: impl FnOnce(&mut TurnConfig)) -> Turn {
    let place = |ip: IpAddr| Some(RelayAddress { bind: ip, external: ip });
    let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    let mut config = TurnConfig {
        listen: vec![SocketAddr::new(v4, 0), SocketAddr::new(v6, 0)],
        workers: 2,
        realm: "veche.test".to_owned(),
        secrets: vec![SECRET.to_owned()],
        users: vec![User { name: USER.to_owned(), password: PASSWORD.to_owned() }],
        relay_v4: place(v4),
        relay_v6: place(v6),
        tcp_relays: true,
        relay_ports: 20_000..=29_999,
        quotas: Quotas::default(),
        peers: PeerPolicy {
            allow: vec![Network::new(v4, 8), Network::new(v6, 128)],
            ..PeerPolicy::default()
        },
        alternates: Vec::new(),
        unproven_bytes_per_second: 0,
        max_connections: 1000,
        tls: Some(tls()),
    };
    change(&mut config);
    veche_turn::start(config).expect("it starts")
}

/// TLS with a certificate that nobody checks.
fn tls() -> Arc<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    Arc::new(config)
}

/// Sends back what it gets, for as long as the test runs.
pub(crate) fn echo(ip: IpAddr) -> SocketAddr {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..len], from);
        }
    });
    address
}

/// The numbers of a worker come once a second.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..200 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what}: not in ten seconds");
}
