//! `veche doctor --from-outside`: a healthy server, and planted faults that it finds, with what mends them.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::client::get;
use crate::interloper::{self, without};
use crate::server::{Folder, Server, veche};

const DAY: Duration = Duration::from_hours(24);

/// A server that announces the loopback only, so that nothing depends on the machine's network.
const LOOPBACK: &str = "[media]\nexternal_addresses = [\"127.0.0.1\"]\n";

/// What the doctor said, and its exit status.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) said: Value,
}

/// Runs a doctor that is ready but for the last word.
pub(crate) async fn outcome(command: &mut Command) -> Outcome {
    let output = command.arg("--json").output().await.unwrap();
    let (said, error) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let said = serde_json::from_str(&said).unwrap_or_else(|_| panic!("no JSON: {said} {error}"));
    Outcome { status: output.status.code().unwrap(), said }
}

async fn outside(folder: &Folder, address: &str, line: &[&str]) -> Outcome {
    outcome(veche(folder).args(["doctor", "--from-outside", address]).args(line)).await
}

/// The server looked at by its plain address.
async fn look(server: &Server) -> Outcome {
    outside(&server.folder, &format!("http://{}", server.http()), &[]).await
}

impl Outcome {
    /// Every finding of a check.
    fn all(&self, check: &str) -> Vec<&Value> {
        let findings = self.said["findings"].as_array().unwrap();
        findings.iter().filter(|finding| finding["check"] == check).collect()
    }

    /// What came back when this was looked at.
    pub(crate) fn got(&self, check: &str) -> String {
        let found = self.all(check);
        let [one] = found[..] else { panic!("not one {check}: {:#}", self.said) };
        one["got"].as_str().unwrap().to_owned()
    }

    pub(crate) fn assert_fine(&self, check: &str) {
        let found = self.all(check);
        assert!(
            !found.is_empty() && found.iter().all(|one| one["level"] == "fine"),
            "{check}: {:#}",
            self.said
        );
    }

    /// That the check fails, says this of what came back, and this of what mends it; and that the status says so.
    pub(crate) fn assert_failure(&self, check: &str, got: &str, mend: &str) {
        assert_eq!(self.status, 1, "{:#}", self.said);
        let is_it = |finding: &&Value| {
            let has = |field: &str, part: &str| finding[field].as_str().unwrap_or_default().contains(part);
            let is_tried = finding["tried"].as_str().is_some_and(|tried| !tried.is_empty());
            finding["level"] == "failure" && has("got", got) && has("mend", mend) && is_tried
        };
        let is_found = self.all(check).iter().any(is_it);
        assert!(is_found, "no {check} with `{got}` and `{mend}`: {:#}", self.said);
    }
}

#[tokio::test]
async fn a_healthy_server_with_the_defaults_is_fine_and_the_table_says_so() {
    let folder = Folder::new("doctor-healthy").into();
    let server = Server::start_with(folder, "", &["--set", "turn.listen=0.0.0.0:0"]).await;
    let outcome = look(&server).await;
    assert_eq!(outcome.status, 0, "{:#}", outcome.said);
    for check in [
        "http",
        "clock",
        "storage",
        "websocket",
        "media.addresses",
        "media.udp",
        "media.tcp",
        "turn.udp",
        "turn.tcp",
        "messages.websocket",
        "messages.events",
        "websocket.idle",
    ] {
        outcome.assert_fine(check);
    }
    assert_eq!(outcome.all("turn.tls")[0]["level"], "warning", "there is no certificate that clients trust");

    let address = format!("http://{}", server.http());
    let output = veche(&server.folder).args(["doctor", "--from-outside", &address]).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("  ok    media.udp "), "{text}");
    assert!(text.contains("  WARN  turn.tls ") && text.contains("mend a certificate for a name"), "{text}");
    assert!(text.ends_with("fine.\n") && text.contains("0 wrong, 1 to look at"), "{text}");
}

#[tokio::test]
async fn what_is_no_server_is_told_apart() {
    let folder = Folder::new("doctor-nothing");
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let outcome = outside(&folder, &format!("http://{nowhere}"), &[]).await;
    outcome.assert_failure("http", "refused", "start the server");
    let outcome = outside(&folder, "https://nobody.has.this.name.invalid", &[]).await;
    outcome.assert_failure("dns", "", "add an A record for nobody.has.this.name.invalid");

    let stranger = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = stranger.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = stranger.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nhello").await;
        }
    });
    let outcome = outside(&folder, &format!("http://{address}"), &[]).await;
    outcome.assert_failure("http", "no answer of Veche: 404 hello", "http.listen");

    for wrong in [&["--from-outside", "call.example"][..], &["--no-such-word"], &["--idle", "long"]] {
        let output = veche(&folder).arg("doctor").args(wrong).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(!output.stderr.is_empty(), "{wrong:?}");
    }
}

/// A root, an authority below it, and what it issues.
struct Authorities {
    root: String,
    below: CertifiedIssuer<'static, KeyPair>,
}

impl Authorities {
    fn new() -> Self {
        let parameters = |name: &str| {
            let mut parameters = CertificateParams::default();
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            parameters.distinguished_name.push(DnType::CommonName, name);
            parameters
        };
        let root = CertifiedIssuer::self_signed(parameters("root"), KeyPair::generate().unwrap()).unwrap();
        let below =
            CertifiedIssuer::signed_by(parameters("below"), KeyPair::generate().unwrap(), &root).unwrap();
        Self { root: root.pem(), below }
    }

    /// A server with a certificate for a name that ends then.
    async fn server(&self, name: &str, of: &str, ends: SystemTime, is_whole: bool) -> Server {
        let folder = Folder::new(name);
        let mut parameters = CertificateParams::new(vec![of.to_owned()]).unwrap();
        parameters.not_before = (SystemTime::now() - 60 * DAY).into();
        parameters.not_after = ends.into();
        let key = KeyPair::generate().unwrap();
        let mut chain = parameters.signed_by(&key, &self.below).unwrap().pem();
        if is_whole {
            chain += &self.below.pem();
        }
        folder.write("chain.pem", &chain);
        folder.write("key.pem", &key.serialize_pem());
        folder.write("root.pem", &self.root);
        let https =
            "https_listen = \"127.0.0.1:0\"\ncertificate_file = \"chain.pem\"\nkey_file = \"key.pem\"\n";
        let turn = format!("[turn]\nhosts = [\"{of}\"]\n");
        Server::start_in(folder.into(), &format!("{LOOPBACK}{turn}[http]\n{https}")).await
    }
}

/// A server looked at by HTTPS as `localhost`, by a machine that knows this root.
async fn look_securely(server: &Server) -> Outcome {
    let address = format!("https://localhost:{}", server.https().port());
    let root = server.folder.0.join("root.pem");
    let mut command = veche(&server.folder);
    outcome(command.args(["doctor", "--from-outside", &address]).env("SSL_CERT_FILE", root)).await
}

#[tokio::test]
async fn certificates_are_right_or_what_is_wrong_is_named() {
    let authorities = Authorities::new();
    let later = SystemTime::now() + 60 * DAY;
    let server = authorities.server("doctor-certificate", "localhost", later, true).await;
    let outcome = look_securely(&server).await;
    assert_eq!(outcome.status, 0, "{:#}", outcome.said);
    for check in ["certificate.dates", "certificate.name", "certificate.chain", "turn.tls", "websocket"] {
        outcome.assert_fine(check);
    }

    let server = authorities.server("doctor-expired", "localhost", SystemTime::now() - DAY, true).await;
    let outcome = look_securely(&server).await;
    outcome.assert_failure("certificate.dates", "it has expired on", "renew it");
    outcome.assert_failure("turn.tls", "it has expired on", "renew it");
    outcome.assert_fine("websocket");

    let server = authorities.server("doctor-name", "other.example", later, true).await;
    let outcome = look_securely(&server).await;
    outcome.assert_failure("certificate.name", "and not for localhost", "[acme] domains = [\"localhost\"]");

    let server = authorities.server("doctor-chain", "localhost", later, false).await;
    let outcome = look_securely(&server).await;
    outcome.assert_failure("certificate.chain", "the chain is incomplete", "fullchain.pem");
}

/// The TURN server that clients of a server are told of.
async fn turn_port(server: &Server) -> u16 {
    let answer = get(server.http(), "/realtime/webrtc/ice-servers?room_id=tea").await.json();
    let url = answer["ice_servers"][0]["urls"][0].as_str().unwrap().to_owned();
    url.split(':').nth(2).unwrap().split('?').next().unwrap().parse().unwrap()
}

/// A server, and another whose TURN server its clients are sent to.
async fn with_foreign_turn(name: &str, secret: &str, foreign_secret: &str) -> [Server; 2] {
    let line = |secret: &str| format!("secrets = [\"{secret}\"]\n");
    let configuration = format!(
        "[media]\nexternal_addresses = [\"127.0.0.2\"]\nbind = [\"127.0.0.2\"]\n[turn]\n{}",
        line(foreign_secret)
    );
    let folder = Folder::new(&format!("{name}-foreign")).into();
    let foreign = Server::start_with(folder, &configuration, &["--set", "turn.listen=127.0.0.2:0"]).await;
    let listen = format!("turn.listen=127.0.0.1:{}", turn_port(&foreign).await);
    let configuration = format!("{LOOPBACK}[turn]\nhosts = [\"127.0.0.2\"]\n{}", line(secret));
    let server = Server::start_with(Folder::new(name).into(), &configuration, &["--set", &listen]).await;
    [server, foreign]
}

#[tokio::test]
async fn a_turn_server_with_another_secret_one_that_refuses_and_one_that_is_away_are_told_apart() {
    let [server, _foreign] =
        with_foreign_turn("doctor-secret", "one secret of 16 bytes", "another of 16 bytes").await;
    let outcome = look(&server).await;
    for check in ["turn.udp", "turn.tcp"] {
        outcome.assert_failure(check, "401", "[turn] secrets");
    }
    outcome.assert_fine("media.udp");

    let [server, _foreign] =
        with_foreign_turn("doctor-refused", "the secret of both", "the secret of both").await;
    let outcome = look(&server).await;
    outcome.assert_failure("turn.udp", "refuses to relay to it: 403", "[turn] allow = [\"127.0.0.1/32\"]");

    let configuration = format!("{LOOPBACK}[turn]\nhosts = [\"127.0.0.3\"]\n");
    let server = Server::start("doctor-closed", &configuration).await;
    let outcome = look(&server).await;
    outcome.assert_failure("turn.udp", "refused", "[turn] enabled = true");
    outcome.assert_failure("turn.tcp", "refused", "[turn] enabled = true");
}

#[tokio::test]
async fn a_server_without_turn_is_one_to_look_at() {
    let server = Server::start("doctor-without-turn", &format!("{LOOPBACK}[turn]\nenabled = false\n")).await;
    let outcome = look(&server).await;
    assert_eq!(outcome.status, 0, "{:#}", outcome.said);
    let finding = outcome.all("turn")[0];
    assert_eq!(finding["level"], "warning");
    assert!(finding["mend"].as_str().unwrap().contains("[turn] enabled = true"));
}

#[tokio::test]
async fn addresses_that_are_not_reached_and_udp_that_is_swallowed_are_told_apart() {
    // Nobody is there, as behind a NAT: what is announced is of a private network.
    let private =
        "[media]\nexternal_addresses = [\"10.255.255.1\"]\n[turn]\nexternal_addresses = [\"127.0.0.1\"]\n";
    let server = Server::start("doctor-private", private).await;
    let outcome = look(&server).await;
    outcome.assert_failure("media.udp", "10.255.255.1:", "external_addresses = [\"127.0.0.1\"]");
    outcome.assert_failure("media.tcp", "10.255.255.1:", "external_addresses = [\"127.0.0.1\"]");

    // A firewall: packets to the port go in and nothing comes out.
    let swallowing = UdpSocket::bind("127.0.0.4:0").unwrap();
    let port = swallowing.local_addr().unwrap().port();
    let configuration = "[media]\nbind = [\"127.0.0.1\"]\nexternal_addresses = [\"127.0.0.4\"]\n";
    let first_port = format!("media.first_port={port}");
    let folder = Folder::new("doctor-swallowed").into();
    let server = Server::start_with(folder, configuration, &["--set", &first_port]).await;
    let outcome = look(&server).await;
    outcome.assert_failure("media.udp", "no answer within", &format!("ufw allow {port}/udp"));
    outcome.assert_failure("media.tcp", "refused", &format!("docker run -p {port}:{port}/tcp"));
}

#[tokio::test]
async fn a_proxy_that_takes_websockets_apart_or_has_another_time_is_found() {
    let server = Server::start("doctor-proxy", LOOPBACK).await;
    let same: interloper::Change = |head| head;
    let look = async |request, answer| {
        let proxy: SocketAddr = interloper::start(server.http(), request, answer).await;
        outside(&server.folder, &format!("http://{proxy}"), &[]).await
    };
    let outcome = look(same, same).await;
    assert_eq!(outcome.status, 0, "{:#}", outcome.said);

    let strips: interloper::Change = |head| without(&head, |line| line.starts_with("upgrade:"));
    let outcome = look(strips, same).await;
    outcome.assert_failure(
        "websocket",
        "status 400 instead of 101",
        "proxy_set_header Upgrade $http_upgrade",
    );
    outcome.assert_failure("messages.websocket", "instead of 101", "proxy_set_header Upgrade $http_upgrade");
    outcome.assert_fine("messages.events");
    outcome.assert_fine("turn.udp");

    // What it does not know it answers itself.
    let elsewhere: interloper::Change = |head| head.replace("GET /realtime/events", "GET /elsewhere");
    let outcome = look(elsewhere, same).await;
    outcome.assert_failure("messages.events", "404", "pass everything below /realtime on");
    // It gathers what comes: all that there is to see is the head.
    let gathers: interloper::Change = |head| {
        let is_stream = head.contains("text/event-stream");
        if is_stream { head.replace("transfer-encoding: chunked", "content-length: 1000000") } else { head }
    };
    let outcome = look(same, gathers).await;
    outcome.assert_failure("messages.events", "its beginning is another", "proxy_buffering off");

    let late: interloper::Change = |head| {
        let date = "date: Mon, 01 Jan 2024 00:00:00 GMT\r\n\r\n";
        without(&head, |line| line.starts_with("date:")).trim_end().to_owned() + "\r\n" + date
    };
    let outcome = look(same, late).await;
    outcome.assert_failure("clock", "behind this machine", "timedatectl set-ntp true");
}

#[tokio::test]
async fn a_firewall_that_lets_only_one_workers_port_through_is_found_and_relays_of_ipv6_are_tried() {
    let line = [
        "--set",
        "media.first_port=40000",
        "--set",
        "media.workers=2",
        "--set",
        "turn.listen=127.0.0.1:3478",
    ];
    let server = Server::start_alone("doctor-workers", "", &line).await;
    let look = async || {
        let mut doctor = server.beside(env!("CARGO_BIN_EXE_veche"));
        outcome(doctor.args(["doctor", "--from-outside", &format!("http://{}", server.http())])).await
    };
    let whole = look().await;
    assert_eq!(whole.status, 0, "{:#}", whole.said);
    let got = whole.got("media.udp");
    assert!(got.contains("127.0.0.1:40000") && got.contains("127.0.0.1:40001"), "{got}");
    whole.assert_fine("turn.ipv6");

    let rules = "add table inet wall; add chain inet wall coming { type filter hook input priority 0; }; \
                 add rule inet wall coming udp dport 40001 drop";
    assert!(server.beside("nft").arg(rules).status().await.unwrap().success());
    look().await.assert_failure("media.udp", "no answer from 127.0.0.1:40001", "ufw allow 40001/udp");
}

#[tokio::test]
async fn a_turn_server_without_relays_of_ipv6_is_one_to_look_at() {
    let turn = "[turn]\nexternal_addresses = [\"127.0.0.1\"]\n";
    let server = Server::start_alone("doctor-ipv6", turn, &["--set", "turn.listen=127.0.0.1:3478"]).await;
    let mut doctor = server.beside(env!("CARGO_BIN_EXE_veche"));
    let address = format!("http://{}", server.http());
    let outcome = outcome(doctor.args(["doctor", "--from-outside", &address])).await;
    let finding = outcome.all("turn.ipv6")[0];
    assert_eq!(finding["level"], "warning", "{:#}", outcome.said);
    assert!(finding["mend"].as_str().unwrap().contains("turn.external_addresses"), "{finding}");
}

#[tokio::test]
async fn a_token_is_asked_for_and_a_wrong_one_is_told() {
    let access = "[access]\nrequired = true\nsecrets = [\"a secret of at least thirty-two bytes\"]\n";
    let server = Server::start("doctor-token", &format!("{LOOPBACK}{access}")).await;
    let address = format!("http://{}", server.http());
    let look = async |line: &[&str]| outside(&server.folder, &address, line).await;
    look(&[]).await.assert_failure("access", "", "say --token TOKEN");
    look(&["--token", "nonsense"]).await.assert_failure(
        "access",
        "",
        "another token: veche token --room 'doctor-*'",
    );
    let made = veche(&server.folder).args(["token", "--room", "doctor-*"]).output().await.unwrap();
    let token = String::from_utf8(made.stdout).unwrap();
    let outcome = look(&["--token", token.trim()]).await;
    assert_eq!(outcome.status, 0, "{:#}", outcome.said);
    outcome.assert_fine("turn.udp");
}
