//! The TURN client of the `webrtc` crate against the TURN server: it gets a relay over UDP, TCP and TLS, and what it sends
//! through it comes back as it was.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};
use veche_interop::relay::{Line, RelayClient};
use veche_interop::turn::{PASSWORD, REALM, USER, start};
use veche_turn::Turn;

#[tokio::test]
async fn it_relays_over_udp() {
    let (turn, _) = start();
    let server = turn.handle.addresses()[0];
    relays(&turn, [Line::udp(server).await, Line::udp(server).await]).await;
}

#[tokio::test]
async fn it_relays_over_tcp() {
    let (turn, _) = start();
    let server = turn.handle.addresses()[0];
    relays(&turn, [Line::tcp(server).await, Line::tcp(server).await]).await;
}

#[tokio::test]
async fn it_relays_over_tls() {
    let (turn, certificate) = start();
    let server = turn.handle.addresses()[0];
    relays(&turn, [Line::tls(server, certificate.clone()).await, Line::tls(server, certificate).await]).await;
}

/// Two clients: each reaches a peer that sends everything back, then they reach each other, and nothing is left of them.
async fn relays(turn: &Turn, lines: [Line; 2]) {
    let server = turn.handle.addresses()[0];
    let peer = echo().await;
    let mut clients = Vec::new();
    for line in lines {
        let mut client = RelayClient::allocate(line, server, USER, PASSWORD, REALM).await;
        client.permit(peer).await;
        let mut over_channel = 0;
        for payload in payloads() {
            client.send(peer, &payload).await;
            let (back, channel, from) = client.receive().await;
            assert_eq!((&back[..], from), (&payload[..], peer));
            over_channel += u32::from(channel);
        }
        assert!(over_channel > 0, "a channel is bound while indications carry the first");
        clients.push(client);
    }
    let [mut ann, mut bob] = <[RelayClient; 2]>::try_from(clients).ok().expect("there are two");
    ann.permit(bob.relayed).await;
    bob.permit(ann.relayed).await;
    for payload in payloads() {
        ann.send(bob.relayed, &payload).await;
        let (came, _, from) = bob.receive().await;
        assert_eq!((&came[..], from), (&payload[..], ann.relayed));
        bob.send(ann.relayed, &payload).await;
        let (came, _, from) = ann.receive().await;
        assert_eq!((&came[..], from), (&payload[..], bob.relayed));
    }
    ann.close().await;
    bob.close().await;
    let gone = async {
        while turn.handle.total().allocations > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(10), gone).await.expect("what is closed is gone");
}

/// Of many sizes, no two the same.
fn payloads() -> impl Iterator<Item = Vec<u8>> {
    let sizes = [1, 2, 3, 4, 160, 1000, 1200, 1400];
    (0..25_u8).flat_map(move |round| {
        sizes.map(|size| (0..size).map(|at| (at as u8) ^ round.wrapping_mul(31)).collect())
    })
}

/// Sends back what it gets, for as long as the test runs.
async fn echo() -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("there is a free port");
    let address = socket.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..len], from).await;
        }
    });
    address
}
