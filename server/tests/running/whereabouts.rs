//! Where a server says that it is: what STUN servers see of it, and interfaces that come and go while it runs.

use std::net::{SocketAddr, UdpSocket};

use crate::client::get;
use crate::doctor::{Outcome, outcome};
use crate::server::{Folder, Server, veche};

/// A STUN server that sees everybody at this address, with the port that they have, or always with this one.
fn stun_server(seen: [u8; 4], moved: Option<u16>) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut request = [0; 1500];
        while let Ok((len, from)) = socket.recv_from(&mut request) {
            // A binding request, of which the cookie and the transaction are answered (RFC 8489 section 5).
            assert_eq!((len, &request[..4]), (20, &[0, 1, 0, 0][..]));
            let seen_port = moved.unwrap_or(from.port()) ^ 0x2112;
            let [high, low] = seen_port.to_be_bytes();
            let [a, b, c, d] = seen;
            let mapped = [0, 0x20, 0, 8, 0, 1, high, low, a ^ 0x21, b ^ 0x12, c ^ 0xa4, d ^ 0x42];
            let answer = [&[1, 1, 0, 12][..], &request[4..20], &mapped].concat();
            socket.send_to(&answer, from).unwrap();
        }
    });
    format!("stun:127.0.0.1:{port}")
}

const OUTSIDE: [u8; 4] = [203, 0, 113, 5];

fn discovering(servers: &[String]) -> String {
    format!("[media]\nbind = [\"127.0.0.1\"]\ndiscover = {servers:?}\n")
}

/// What is announced for media, as others find it.
async fn announced(command: &mut tokio::process::Command, http: SocketAddr) -> String {
    let said = outcome(command.args(["doctor", "--from-outside", &format!("http://{http}")])).await;
    said.got("media.addresses")
}

async fn doctor(folder: &Folder, http: SocketAddr) -> Outcome {
    let line =
        ["doctor", "--http-listen", &http.to_string(), "--https-listen=", "--set", "media.first_port=0"];
    outcome(veche(folder).args(line).args(["--set", "media.workers=1", "--set", "turn.listen=127.0.0.1:0"]))
        .await
}

#[tokio::test]
async fn what_a_stun_server_sees_is_announced_where_the_nat_keeps_ports() {
    let server = Server::start("whereabouts-kept", &discovering(&[stun_server(OUTSIDE, None)])).await;
    server.logs("others see it at 203.0.113.5, with the ports that it has").await;
    let list = announced(&mut veche(&server.folder), server.http()).await;
    assert_eq!(list, "203.0.113.5, 127.0.0.1");
    let servers = get(server.http(), "/realtime/webrtc/ice-servers?room_id=tea").await.json();
    let url = servers["ice_servers"][0]["urls"][0].as_str().unwrap();
    assert!(url.starts_with("turn:203.0.113.5:"), "{url}");
    doctor(&server.folder, server.http()).await.assert_fine("media.discover");
}

#[tokio::test]
async fn a_nat_that_changes_ports_and_a_symmetric_one_are_told_and_not_announced() {
    let both = [stun_server(OUTSIDE, Some(7)), stun_server(OUTSIDE, Some(8))];
    let server = Server::start("whereabouts-moved", &discovering(&both[..1])).await;
    server.logs("the NAT in front does not keep them").await;
    assert_eq!(announced(&mut veche(&server.folder), server.http()).await, "127.0.0.1");
    let told = doctor(&server.folder, server.http()).await;
    told.assert_failure("media.discover", "with other ports", "external_addresses = [\"203.0.113.5\"]");

    let server = Server::start("whereabouts-symmetric", &discovering(&both)).await;
    server.logs("the NAT in front is symmetric").await;
    let told = doctor(&server.folder, server.http()).await;
    told.assert_failure("media.discover", "the NAT is symmetric", "external_addresses = [\"203.0.113.5\"]");
}

#[tokio::test]
async fn a_stun_server_that_is_away_does_not_keep_a_server_from_starting() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let stun = format!("stun:{}", silent.local_addr().unwrap());
    let server = Server::start("whereabouts-silent", &discovering(&[stun])).await;
    server.logs("no STUN server answers over UDP").await;
    assert_eq!(get(server.http(), "/health").await.status, 200);
    let told = doctor(&server.folder, server.http()).await;
    told.assert_failure("media.discover", "no answer over UDP", "discover = [");
}

/// It takes as long as the server needs to notice, twice.
#[tokio::test]
async fn interfaces_that_come_and_go_are_noticed_while_the_server_runs() {
    let line = ["--set", "media.first_port=40000", "--set", "turn.listen=0.0.0.0:3478"];
    let server = Server::start_alone("whereabouts-interfaces", "", &line).await;
    let change = async |what: &str| {
        let done = server.beside("ip").args(["addr", what, "198.51.100.7/32", "dev", "lo"]).status().await;
        assert!(done.unwrap().success());
    };
    let announced = async || announced(&mut server.beside(env!("CARGO_BIN_EXE_veche")), server.http()).await;
    let here = "127.0.0.1, ::1";
    assert_eq!(announced().await, here);

    change("add").await;
    server.logs("new=\"198.51.100.7\"").await;
    assert_eq!(announced().await, "198.51.100.7, 127.0.0.1, ::1");
    let line = ["doctor", "--from-outside", &format!("http://{}", server.http())];
    let told = outcome(server.beside(env!("CARGO_BIN_EXE_veche")).args(line)).await;
    for check in ["media.udp", "media.tcp", "turn.udp", "turn.tcp"] {
        told.assert_fine(check);
    }

    change("del").await;
    server.logs("gone=\"198.51.100.7\"").await;
    assert_eq!(announced().await, here);
}
