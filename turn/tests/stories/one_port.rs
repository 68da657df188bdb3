//! One UDP port for media and TURN.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Instant;

use veche_sfu::{Sfu, SfuConfig, WorkerMetrics};
use veche_sfu_core::drops::DropReason;
use veche_turn::{Refusal, Turn};

use crate::call::{Call, relayed_packets};
use crate::coturn::{stunclient_at, uclient_at};
use crate::server::{start, wait_until};

/// A request for one's own address (RFC 8489 section 6).
const BINDING: [u8; 20] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// A media plane whose first port is TURN's too, with a TURN server that has no other.
fn shared(workers: usize) -> (Call, Turn) {
    let config =
        SfuConfig { bind: vec![V4, V6], tenants: 2, spread_from: 2, ..SfuConfig::on_loopback(workers) };
    let mut call = Call::new(config);
    let turn = start(|config| {
        config.listen.clear();
        config.peers.own = call.addresses(V4);
    });
    turn.handle.listen(std::mem::take(&mut call.sfu.tenants));
    (call, turn)
}

fn refused(turn: &Turn) -> u64 {
    turn.handle.metrics().iter().map(|worker| worker.refusals.get(Refusal::NotTurn)).sum()
}

fn dropped(sfu: &Sfu) -> u64 {
    use DropReason::{StunUnauthenticated, StunUnsupported, UnknownProtocol};
    let strange = [StunUnauthenticated, StunUnsupported, UnknownProtocol];
    let of = |worker: &WorkerMetrics| strange.map(|reason| worker.drops.get(reason)).iter().sum::<u64>();
    sfu.handle.metrics().iter().map(of).sum()
}

#[test]
fn a_call_and_its_relays_share_a_port() {
    let (mut call, turn) = shared(1);
    let port = call.addresses(V4)[0];
    call.join();
    call.join_through(port);
    call.join_through(port);
    call.all_see_all(call.start, 30);
    wait_until("the relays have worked", || relayed_packets(&turn) > 200);
    assert_eq!((refused(&turn), dropped(&call.sfu)), (0, 0), "nothing came to the wrong one");
    // One end does not take the other along.
    drop(turn);
    let probe = UdpSocket::bind((V4, 0)).unwrap();
    probe.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    let is_answered = || {
        probe.send_to(&BINDING, port).unwrap();
        probe.recv(&mut [0; 100]).is_ok()
    };
    wait_until("the workers have ended, and nobody answers for TURN", || !is_answered());
}

#[test]
fn those_whose_worker_has_another_port_come_to_it_through_the_first() {
    let (mut call, turn) = shared(2);
    let port = call.addresses(V4)[0];
    for _ in 0..3 {
        call.join_through(port);
    }
    call.all_see_all(Instant::now(), 30);
    assert_eq!(call.relayed().len(), 3);
    wait_until("the relays have worked", || relayed_packets(&turn) > 200);
}

#[test]
fn coturns_clients_are_served_at_the_port_of_media() {
    let (mut call, turn) = shared(1);
    let ports = [V4, V6].map(|ip| SocketAddr::new(ip, call.addresses(ip)[0].port()));
    uclient_at(&turn, ports[0], &["-c"], Some(V4));
    uclient_at(&turn, ports[0], &["-c", "-s"], Some(V4));
    uclient_at(&turn, ports[1], &["-c", "-x"], Some(V6));
    stunclient_at(&turn, ports);
    call.join();
    call.join();
    call.all_see_all(Instant::now(), 10);
}
