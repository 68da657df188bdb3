//! A certificate from an authority: Pebble, the one that Let's Encrypt tests clients with (`scripts/need acme`).

use std::process::Stdio;

use tokio::process::{Child, Command};

use crate::client;
use crate::ports;
use crate::server::{Folder, PATIENCE, Server};

/// The authority, with a certificate of its own for its own HTTPS.
struct Authority {
    _child: Child,
    directory: String,
    management: std::net::SocketAddr,
}

fn free_port() -> u16 {
    ports::free().port()
}

impl Authority {
    /// It looks for proofs on this port.
    async fn start(folder: &Folder, tls_port: u16) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        folder.write("pebble.pem", &made.cert.pem());
        folder.write("pebble.key", &made.signing_key.serialize_pem());
        let [port, management, http_port] = [free_port(), free_port(), free_port()];
        let configuration = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": "pebble.pem",
            "privateKey": "pebble.key",
            "httpPort": http_port,
            "tlsPort": tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        folder.write("pebble.json", &configuration.to_string());
        let child = Command::new("pebble")
            .args(["-config", "pebble.json"])
            .current_dir(&folder.0)
            // No waiting before it looks, but nonces that it refuses now and then, as it does by default.
            .env("PEBBLE_VA_NOSLEEP", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("Pebble is needed: run scripts/need acme");
        let management = format!("127.0.0.1:{management}").parse().unwrap();
        let ready = async {
            while tokio::net::TcpStream::connect(management).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("Pebble starts");
        Self { _child: child, directory: format!("https://localhost:{port}/dir"), management }
    }

    /// The certificate (PEM) that all of its certificates lead to.
    async fn root(&self) -> String {
        let stream = client::tls(self.management, "localhost", &[], &rustls::version::TLS13).await;
        let request = axum::http::Request::get("/roots/0").header("host", "localhost");
        client::ask(stream, request.body(http_body_util::Full::default()).unwrap()).await.text().to_owned()
    }
}

#[tokio::test]
async fn an_authority_is_convinced_and_its_certificate_kept_over_a_restart() {
    let folder = Folder::new("acme");
    let port = free_port();
    let authority = Authority::start(&folder, port).await;
    let configuration = format!(
        "[http]\nhttps_listen = \"127.0.0.1:{port}\"\n[acme]\ndomains = [\"localhost\"]\n\
         email = \"admin@veche.example\"\ndirectory = \"{}\"\ndirectory_ca_file = \"pebble.pem\"\n",
        authority.directory
    );
    let mut server = Server::start_in(folder.into(), &configuration).await;
    server.logs("got a certificate").await;
    let https = format!("127.0.0.1:{port}").parse().unwrap();
    let first = verified(https, &authority.root().await).await;

    server.signal(rustix::process::Signal::TERM);
    assert!(server.ended().await.success());
    let data = server.folder.0.join("data");
    for (file, mode) in
        [("acme-account.json", 0o600), ("acme-key.pem", 0o600), ("acme-certificate.pem", 0o644)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(data.join(file)).unwrap().permissions().mode() & 0o777, mode, "{file}");
    }
    // It needs no authority now.
    drop(authority);
    let mut server = Server::start_in(server.folder.clone(), &configuration).await;
    assert_eq!(client::certificate(https, "localhost").await, first);
    server.signal(rustix::process::Signal::TERM);
    assert!(server.ended().await.success());
    assert!(!server.log().contains("got a certificate"));
}

/// The server's certificate, which leads to this root and is for this name.
async fn verified(address: std::net::SocketAddr, root: &str) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let io = tokio::net::TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = connector.connect("localhost".try_into().unwrap(), io).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}
