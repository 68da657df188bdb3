//! `veche doctor` on the server's own machine: its configuration, what the machine grants, stores and ports.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use crate::doctor::{Outcome, outcome};
use crate::ports::free;
use crate::server::{Folder, Server, veche};

/// What a server of these tests has, as far as the doctor must know it: the system chose the other ports.
fn line(http: SocketAddr) -> [String; 10] {
    [
        "doctor".to_owned(),
        "--http-listen".to_owned(),
        http.to_string(),
        "--https-listen=".to_owned(),
        "--set".to_owned(),
        "media.first_port=0".to_owned(),
        "--set".to_owned(),
        "media.workers=1".to_owned(),
        "--set".to_owned(),
        "turn.listen=127.0.0.1:0".to_owned(),
    ]
}

async fn inside(folder: &Folder, http: SocketAddr, more: &[&str]) -> Outcome {
    outcome(veche(folder).args(line(http)).args(more)).await
}

const LOOPBACK: &str = "[media]\nexternal_addresses = [\"127.0.0.1\"]\n";

#[tokio::test]
async fn a_healthy_server_is_fine_and_its_own_token_is_made() {
    let access = "[access]\nrequired = true\nsecrets = [\"a secret of at least thirty-two bytes\"]\n";
    let server = Server::start("doctor-inside", &format!("{LOOPBACK}{access}")).await;
    let outcome = inside(&server.folder, server.http(), &[]).await;
    assert_eq!(outcome.status, 0, "{:#}", outcome.said);
    for check in [
        "configuration",
        "disk",
        "database",
        "ports",
        "http",
        "websocket",
        "media.udp",
        "turn.udp",
        "turn.tcp",
    ] {
        outcome.assert_fine(check);
    }
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_is_the_first_thing_told() {
    let folder = Folder::new("doctor-configuration");
    folder.write("veche.toml", "[http]\nlisten_on = \"127.0.0.1:80\"\n");
    let outcome = inside(&folder, free(), &[]).await;
    outcome.assert_failure("configuration", "did you mean http.listen?", "veche config print");
    folder.write("veche.toml", "[http]\ncertificate_file = \"gone.pem\"\nkey_file = \"gone.key\"\n");
    let outcome = inside(&folder, free(), &["--before-start"]).await;
    outcome.assert_failure("configuration", "gone.pem: No such file", "may read these files");
}

#[tokio::test]
async fn before_the_start_ports_are_free_or_it_is_told_who_has_them() {
    let folder = Folder::new("doctor-before");
    let outcome = inside(&folder, free(), &["--before-start"]).await;
    assert_eq!(outcome.status, 0, "{:#}", outcome.said);
    outcome.assert_fine("ports");
    outcome.assert_fine("database");
    assert!(!folder.0.join("data").exists(), "it leaves nothing behind");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let media = UdpSocket::bind("0.0.0.0:0").unwrap();
    let first_port = format!("media.first_port={}", media.local_addr().unwrap().port());
    let http = taken.local_addr().unwrap();
    let more = ["--before-start", "--set", &first_port, "--set", "media.bind=0.0.0.0"];
    let outcome = inside(&folder, http, &more).await;
    let this = format!("(process {})", std::process::id());
    outcome.assert_failure("ports", &this, "http.listen = ");
    outcome.assert_failure("ports", &this, "media.first_port = ");
}

#[tokio::test]
async fn a_server_that_does_not_run_and_a_port_that_it_lacks_are_told() {
    let folder = Folder::new("doctor-stopped");
    inside(&folder, free(), &[]).await.assert_failure(
        "http",
        "the server is not running",
        "systemctl start veche",
    );

    let server = Server::start("doctor-lacks", &format!("{LOOPBACK}[turn]\nenabled = false\n")).await;
    let turn = format!("turn.listen={}", free());
    let outcome =
        inside(&server.folder, server.http(), &["--set", "turn.enabled=true", "--set", &turn]).await;
    outcome.assert_failure("ports", "nothing listens there", "restart the server");
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_written_to_or_is_full_is_told() {
    let folder = Folder::new("doctor-folder");
    folder.write("file", "");
    let unwritable = inside(&folder, free(), &["--before-start", "--data-dir", "file/data"]).await;
    unwritable.assert_failure("disk", "", "data_dir = ");

    // No file may grow, as on a full disk; the shell makes it ignore the signal that comes with that.
    let mut shell = limited(&folder, "trap '' XFSZ; ulimit -f 0", free());
    outcome(&mut shell).await.assert_failure("disk", "File too large", "make room on that disk");
}

#[tokio::test]
async fn too_few_open_files_are_told() {
    let folder = Folder::new("doctor-files");
    let mut shell = limited(&folder, "ulimit -n 200", free());
    outcome(&mut shell).await.assert_failure("open-files", "200, and http.max_connections", "LimitNOFILE=");
}

/// A doctor before the start, started by a shell that limits it.
fn limited(folder: &Folder, limits: &str, http: SocketAddr) -> tokio::process::Command {
    let mut shell = tokio::process::Command::new("/bin/sh");
    let script = format!("{limits}; exec \"$0\" \"$@\"");
    shell.env_clear().current_dir(&folder.0).args(["-c", &script, env!("CARGO_BIN_EXE_veche")]);
    shell.args(line(http)).arg("--before-start");
    shell
}

#[tokio::test]
async fn a_database_and_a_bucket_that_are_away_are_told() {
    let folder = Folder::new("doctor-stores");
    let database = "[storage]\nurl = \"postgres://veche:secret@127.0.0.1:1/veche\"\n";
    let bucket = "[files]\nstore = \"s3://bucket\"\ns3_endpoint = \"http://127.0.0.1:1\"\ns3_access_key = \"k\"\ns3_secret_key = \"s\"\n";
    folder.write("veche.toml", &format!("{database}{bucket}"));
    let outcome = inside(&folder, free(), &["--before-start"]).await;
    outcome.assert_failure("database", "refused", "storage.url = ");
    outcome.assert_failure("bucket", "", "files.s3_endpoint");
    assert!(!outcome.said.to_string().contains("secret@"), "passwords are not shown");
}

#[tokio::test]
async fn a_public_address_that_is_not_announced_is_told() {
    // Its TURN server is a STUN server too.
    let world = Server::start("doctor-world", LOOPBACK).await;
    let answer = crate::client::get(world.http(), "/realtime/webrtc/ice-servers?room_id=tea").await.json();
    let url = answer["ice_servers"][0]["urls"][0].as_str().unwrap().to_owned();
    let stun = url.split('?').next().unwrap().replace("turn:", "stun:");
    let folder = Folder::new("doctor-public");
    let stun_servers = format!("[signaling]\nstun_servers = [\"{stun}\"]\n");
    folder.write("veche.toml", &format!("{stun_servers}[media]\nexternal_addresses = [\"203.0.113.5\"]\n"));
    let outcome = inside(&folder, free(), &["--before-start"]).await;
    outcome.assert_failure("media.addresses", "it sees 127.0.0.1", "external_addresses = [\"127.0.0.1\"]");
}
