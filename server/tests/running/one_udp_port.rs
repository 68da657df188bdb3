//! One number for everything: UDP for media and TURN; TCP for pages, TURN and media.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use rustix::process::Signal;
use veche_turn_core::client::Client;

use crate::client::get;
use crate::server::{Folder, PATIENCE, Server};

/// A number that is free over UDP and TCP.
fn free() -> SocketAddr {
    loop {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        if UdpSocket::bind(("0.0.0.0", address.port())).is_ok() {
            return address;
        }
    }
}

async fn start(folder: Arc<Folder>, one: SocketAddr) -> Server {
    let configuration = format!(
        "[http]\nlisten = \"{one}\"\nhttps_listen = \"{one}\"\n[media]\nexternal_addresses = [\"127.0.0.1\"]\n\
         [turn]\nlisten = []\nshare_udp_port = true\n"
    );
    let port = format!("media.first_port={}", one.port());
    Server::start_with(folder, &configuration, &["--set", &port]).await
}

/// Asks for a relay at the URL over UDP that the server tells.
async fn relay(one: SocketAddr) -> SocketAddr {
    let told = get(one, "/realtime/webrtc/ice-servers?room_id=tea").await.json();
    let servers = told["ice_servers"].as_array().unwrap();
    let turn = servers.iter().find(|server| server["username"].is_string()).unwrap();
    let urls: Vec<&str> = turn["urls"].as_array().unwrap().iter().map(|url| url.as_str().unwrap()).collect();
    assert_eq!(urls, [format!("turn:{one}?transport=udp"), format!("turn:{one}?transport=tcp")]);
    let [name, password] = ["username", "credential"].map(|name| turn[name].as_str().unwrap());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = Client::new(name, password, [9; 12]);
    loop {
        socket.send_to(&client.allocate(), one).unwrap();
        let mut buffer = [0; 1500];
        let (len, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(from, one);
        let answer = client.read(&buffer[..len]).unwrap();
        if !answer.asks_again() {
            return answer.relayed().unwrap_or_else(|| panic!("{answer}"));
        }
    }
}

/// Sends what only media would be, until the media plane has counted it.
async fn reaches_media(one: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let dropped = async {
        loop {
            socket.send_to(&[0x80, 111, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3], one).unwrap();
            let metrics = get(one, "/metrics").await;
            let lines = metrics.text().lines();
            if lines
                .filter(|line| line.starts_with("veche_media_drops_total"))
                .any(|line| !line.ends_with(" 0"))
            {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, dropped).await.expect("media has it");
}

#[tokio::test]
async fn media_turn_and_pages_have_one_number_also_after_a_restart() {
    let (folder, one) = (Arc::new(Folder::new("one-udp-port")), free());
    for _ in 0..2 {
        let mut server = start(folder.clone(), one).await;
        assert_eq!(server.http(), one);
        assert_eq!(relay(one).await.ip(), one.ip());
        reaches_media(one).await;
        server.signal(Signal::HUP);
        server.logs("the configuration was read again").await;
        relay(one).await;
        server.signal(Signal::TERM);
        assert!(server.ended().await.success());
    }
}
