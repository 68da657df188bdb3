//! The TURN server, in this process and on loopback.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use veche_turn::{Network, PeerPolicy, Quotas, RelayAddress, Turn, TurnConfig, User};

/// Somebody who may use it.
pub const USER: &str = "ann";
/// By this password.
pub const PASSWORD: &str = "ann's password";
/// For what credentials are.
pub const REALM: &str = "veche.test";

/// Starts it, over UDP, TCP and TLS; gives its certificate, for `localhost`, too. Its relays reach loopback.
pub fn start() -> (Turn, CertificateDer<'static>) {
    let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("it is a name");
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("it was made as one");
    let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("they belong together");
    let turn = veche_turn::start(TurnConfig {
        listen: vec![SocketAddr::new(ip, 0)],
        workers: 1,
        realm: REALM.to_owned(),
        secrets: Vec::new(),
        users: vec![User { name: USER.to_owned(), password: PASSWORD.to_owned() }],
        relay_v4: Some(RelayAddress { bind: ip, external: ip }),
        relay_v6: None,
        tcp_relays: false,
        relay_ports: 30_000..=39_999,
        quotas: Quotas::default(),
        peers: PeerPolicy { allow: vec![Network::new(ip, 8)], ..PeerPolicy::default() },
        alternates: Vec::new(),
        unproven_bytes_per_second: 0,
        max_connections: 100,
        tls: Some(Arc::new(tls)),
    });
    (turn.expect("it starts"), certificate)
}
