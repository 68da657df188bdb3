//! `turnutils_uclient` and `turnutils_stunclient`, from Debian's package coturn.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;

use veche_turn::{Refusal, Turn};

use crate::server::{PASSWORD, SECRET, USER, echo, start, wait_until};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Runs the client with these flags against a server of its own; all its packets must come back.
fn uclient(server: IpAddr, flags: &[&str], peer: Option<IpAddr>) {
    let turn = start(|_| {});
    uclient_at(&turn, address(&turn, server), flags, peer);
}

/// The same against a server that runs.
pub(crate) fn uclient_at(turn: &Turn, at: SocketAddr, flags: &[&str], peer: Option<IpAddr>) {
    let (sent, received, text) = run_at(turn, at, flags, peer);
    assert!(sent >= 40 && received == sent, "{sent} sent, {received} received: {text}");
}

/// Runs the client; returns how many packets it sent and received, and what it said.
fn run(server: IpAddr, flags: &[&str], peer: Option<IpAddr>) -> (u64, u64, String) {
    let turn = start(|_| {});
    run_at(&turn, address(&turn, server), flags, peer)
}

fn run_at(turn: &Turn, at: SocketAddr, flags: &[&str], peer: Option<IpAddr>) -> (u64, u64, String) {
    let mut command = Command::new("timeout");
    command.args([
        "60",
        "turnutils_uclient",
        "-n",
        "10",
        "-m",
        "4",
        "-l",
        "171",
        "-p",
        &at.port().to_string(),
    ]);
    if !flags.contains(&"-W") {
        command.args(["-u", USER, "-w", PASSWORD]);
    }
    command.args(flags);
    let peer = peer.map(echo);
    if let Some(peer) = peer {
        command.args(["-e", &peer.ip().to_string(), "-r", &peer.port().to_string()]);
    }
    command.arg(at.ip().to_string());
    let output = command.output().expect("coturn is installed: scripts/need coturn");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let number = |name: &str| -> u64 {
        let last = text.rsplit_once(name).unwrap_or_else(|| panic!("no {name} in {text}")).1;
        let digits: String = last.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    };
    let (sent, received) = (number("tot_send_msgs="), number("tot_recv_msgs="));
    wait_until("what was relayed is counted", || turn.handle.total().bytes_to_peers >= received * 171);
    let metrics = turn.handle.metrics();
    for reason in [Refusal::Malformed, Refusal::BadRequest, Refusal::NoPermission, Refusal::NoChannel] {
        let count: u64 = metrics.iter().map(|worker| worker.refusals.get(reason)).sum();
        assert_eq!(count, 0, "{reason:?}");
    }
    (sent, received, text.into_owned())
}

fn address(turn: &Turn, ip: IpAddr) -> SocketAddr {
    *turn.handle.addresses().iter().find(|address| address.ip() == ip).unwrap()
}

#[test]
fn channels_over_udp_to_a_peer() {
    uclient(V4, &["-c"], Some(V4));
}

#[test]
fn channels_over_tcp_to_a_peer() {
    uclient(V4, &["-c", "-t"], Some(V4));
}

#[test]
fn channels_over_tls_to_a_peer() {
    uclient(V4, &["-c", "-t", "-S"], Some(V4));
}

#[test]
fn send_indications_over_udp_to_a_peer() {
    uclient(V4, &["-c", "-s"], Some(V4));
}

#[test]
fn send_indications_over_tcp_to_a_peer() {
    uclient(V4, &["-c", "-s", "-t"], Some(V4));
}

#[test]
fn send_indications_over_tls_to_a_peer() {
    uclient(V4, &["-c", "-s", "-t", "-S"], Some(V4));
}

#[test]
fn client_to_client_over_udp_with_even_ports_and_reservations() {
    uclient(V4, &["-y"], None);
}

#[test]
fn client_to_client_over_tcp() {
    uclient(V4, &["-y", "-t", "-c"], None);
}

#[test]
fn client_to_client_over_tls_by_send_indications() {
    uclient(V4, &["-y", "-t", "-S", "-s", "-c"], None);
}

#[test]
fn an_ipv6_client_and_an_ipv6_relay() {
    uclient(V6, &["-c", "-x"], Some(V6));
}

#[test]
fn an_ipv4_client_and_an_ipv6_relay_over_tcp() {
    uclient(V4, &["-c", "-x", "-t"], Some(V6));
}

#[test]
fn an_ipv6_client_and_an_ipv4_relay() {
    uclient(V6, &["-c", "-X"], Some(V4));
}

#[test]
fn a_dual_allocation() {
    uclient(V4, &["-Z", "-y"], None);
}

#[test]
fn a_time_limited_credential_and_a_packet_that_may_not_be_cut() {
    uclient(V4, &["-c", "-u", "ann", "-W", SECRET, "-g"], Some(V4));
}

#[test]
fn relays_of_tcp_that_connect_with_each_other() {
    uclient(V4, &["-T"], None);
}

#[test]
fn relays_of_tcp_whose_clients_come_over_tls() {
    uclient(V4, &["-T", "-S"], None);
}

#[test]
fn relays_of_tcp_over_ipv6() {
    uclient(V6, &["-T", "-x"], None);
}

#[test]
fn relays_of_tcp_that_peers_connect_with() {
    // Of two who connect with each other this client has one read only; with coturn's own server it counts the same.
    let (sent, received, text) = run(V4, &["-P"], None);
    assert_eq!((sent, received), (40, 20), "{text}");
}

#[test]
fn the_stun_client_learns_its_address() {
    let turn = start(|_| {});
    stunclient_at(&turn, [V4, V6].map(|ip| address(&turn, ip)));
}

/// The STUN client learns its address at each of these.
pub(crate) fn stunclient_at(turn: &Turn, addresses: [SocketAddr; 2]) {
    for at in addresses {
        let ip = at.ip();
        let output = Command::new("timeout")
            .args(["20", "turnutils_stunclient", "-p", &at.port().to_string(), &ip.to_string()])
            .output()
            .expect("coturn is installed: scripts/need coturn");
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(
            text.contains(&format!("reflexive addr: {}", if ip == V4 { "127.0.0.1" } else { "::1" })),
            "{text}"
        );
    }
    wait_until("both are counted", || {
        turn.handle.metrics().iter().map(|worker| worker.totals.bindings).sum::<u64>() >= 2
    });
}
