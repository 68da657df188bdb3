//! Connections between relays and peers (RFC 6062).

use std::time::Duration;

use veche_stun::{Class, Message, message_type};

use super::{Attr, Client, World, address};
use crate::five_tuple::Link;
use crate::outbox::{Action, Destination};
use crate::peers::PeerPolicy;
use crate::quotas::{Limits, Quotas};
use crate::refusals::Refusal;
use crate::tcp::ConnectionId;
use crate::wire::{attribute, method};

const ANN: &str = "192.0.2.1:1111";
const PEER: &str = "198.51.100.9:9999";

/// A client of a connection, who has an allocation of TCP.
fn allocated(world: &mut World) -> Client {
    let mut ann = on_stream(ANN, 1);
    ann.ask(world, method::ALLOCATE, &[Attr::tcp()]);
    assert_eq!(ann.ask(world, method::ALLOCATE, &[Attr::tcp()]).code, 0);
    ann
}

fn on_stream(from: &str, stream: u64) -> Client {
    let mut client = Client::new(from, "ann");
    client.tuple.link = Link::Stream(stream);
    client
}

/// Another connection of the same client.
fn second(client: &Client, stream: u64) -> Client {
    let mut second = client.clone();
    second.tuple.link = Link::Stream(stream);
    second
}

fn number(id: ConnectionId) -> Attr {
    Attr::Raw(attribute::CONNECTION_ID, id.to_bits().to_be_bytes().to_vec())
}

fn number_in(value: &[u8]) -> ConnectionId {
    ConnectionId::from_bits(u32::from_be_bytes(value.try_into().unwrap()))
}

/// Has the peer called; returns as what.
fn call(world: &mut World, client: &mut Client, peer: &str) -> ConnectionId {
    let request = client.request(method::CONNECT, &[Attr::peer(peer)]);
    assert_eq!(world.deliver(client.tuple, &request), [], "the answer comes when the peer has answered");
    match world.acted.pop() {
        Some(Action::Connect { connection, relay, peer: called }) => {
            assert_eq!((relay, called), (client.relay(world), address(peer)));
            connection
        }
        other => panic!("{other:?}"),
    }
}

/// Says what became of a call, and returns the code of the answer.
fn connected(world: &mut World, client: &mut Client, id: ConnectionId, is_connected: bool) -> u16 {
    world.server.handle_connected(world.now, id, is_connected, &mut world.out);
    let sent = world.settle();
    let [(to, packet)] = &sent[..] else { panic!("one answer, not {sent:?}") };
    assert_eq!(*to, Destination::Client(client.tuple));
    let answer = client.read(packet);
    assert_eq!(answer.get(attribute::CONNECTION_ID).map(number_in), is_connected.then_some(id));
    answer.code
}

/// The connections that were to be closed since somebody asked last.
fn closed(world: &mut World) -> Vec<ConnectionId> {
    let acted = std::mem::take(&mut world.acted);
    let id = |action| match action {
        Action::Disconnect(id) => id,
        other => panic!("{other:?}"),
    };
    acted.into_iter().map(id).collect()
}

#[test]
fn a_client_connects_with_a_peer_and_binds_another_connection_to_that() {
    let mut world = World::new();
    let mut ann = allocated(&mut world);
    let id = call(&mut world, &mut ann, PEER);
    assert_eq!(ann.ask(&mut world, method::CONNECT, &[Attr::peer(PEER)]).code, 446);
    let mut data = second(&ann, 2);
    assert_eq!(
        data.ask(&mut world, method::CONNECTION_BIND, &[number(id)]).code,
        400,
        "it does not stand yet"
    );
    assert_eq!(connected(&mut world, &mut ann, id, true), 0);
    let mut bob = Client { name: "bob".into(), password: "bob's password".into(), ..data.clone() };
    assert_eq!(bob.ask(&mut world, method::CONNECTION_BIND, &[number(id)]).code, 441);
    assert_eq!(data.ask(&mut world, method::CONNECTION_BIND, &[number(id)]).code, 0);
    assert!(matches!(world.acted.pop(), Some(Action::Bind(bound)) if bound == id));
    let mut third = second(&ann, 3);
    assert_eq!(third.ask(&mut world, method::CONNECTION_BIND, &[number(id)]).code, 400, "it is bound");
    world.wait(599);
    assert!(closed(&mut world).is_empty(), "what is bound lives on");
    world.server.handle_taken(world.now, id, 5, 7);
    world.wait(0);
    let usage = world.accounts.users()[0].usage;
    assert_eq!((usage.bytes_to_peers, usage.bytes_to_clients, usage.connections), (5, 7, 1));
    world.wait(1);
    assert_eq!(closed(&mut world), [id], "the allocation has ended");
    assert!(world.open.is_empty() && world.accounts.total().connections == 0);
}

#[test]
fn a_peer_that_does_not_answer_or_is_not_bound_is_given_thirty_seconds() {
    let mut world = World::new();
    let mut ann = allocated(&mut world);
    let refused = call(&mut world, &mut ann, PEER);
    assert_eq!(connected(&mut world, &mut ann, refused, false), 447);
    let silent = call(&mut world, &mut ann, PEER);
    world.wait(29);
    world.now += Duration::from_secs(1);
    world.server.handle_timeout(world.now, &mut world.out);
    let sent = world.settle();
    assert_eq!((sent.len(), ann.read(&sent[0].1).code), (1, 447));
    assert_eq!(closed(&mut world), [silent]);
    world.server.handle_connected(world.now, silent, true, &mut world.out);
    assert_eq!(world.settle(), [], "too late");
    let free = call(&mut world, &mut ann, PEER);
    world.wait(29);
    assert_eq!(connected(&mut world, &mut ann, free, true), 0);
    world.wait(29);
    assert!(closed(&mut world).is_empty());
    // Nobody has looked after the server yet, but the time is over.
    world.now += Duration::from_secs(1);
    let mut data = second(&ann, 2);
    assert_eq!(data.ask(&mut world, method::CONNECTION_BIND, &[number(free)]).code, 400);
    world.wait(0);
    assert_eq!(closed(&mut world), [free]);
    assert_eq!(world.server.refusals().get(Refusal::ConnectionFailed), 2);
    assert_eq!(world.server.refusals().get(Refusal::NoConnection), 1);
    assert_eq!(world.accounts.total().connections, 0);
}

#[test]
fn a_peer_that_connects_needs_a_permission_and_the_client_is_told() {
    let mut world = World::new();
    let mut ann = allocated(&mut world);
    let relay = ann.relay(&world);
    assert_eq!(world.server.handle_accepted(world.now, relay, address(PEER), &mut world.out), None);
    assert_eq!(world.server.refusals().get(Refusal::NoPermission), 1);
    assert_eq!(ann.ask(&mut world, method::CREATE_PERMISSION, &[Attr::peer("198.51.100.9:1")]).code, 0);
    let id = world.server.handle_accepted(world.now, relay, address(PEER), &mut world.out).unwrap();
    let sent = world.settle();
    assert_eq!((sent.len(), sent[0].0), (1, Destination::Client(ann.tuple)));
    let message = Message::parse(&sent[0].1).unwrap();
    assert_eq!(message.kind(), message_type(Class::Indication, method::CONNECTION_ATTEMPT));
    let find = |kind| message.attributes().map(Result::unwrap).find(|a| a.kind == kind).unwrap().value;
    assert_eq!(number_in(find(attribute::CONNECTION_ID)), id);
    let peer = veche_stun::address::read_xor(find(attribute::XOR_PEER_ADDRESS), &message.transaction());
    assert_eq!(peer, Ok(address(PEER)));
    assert_eq!(second(&ann, 2).ask(&mut world, method::CONNECTION_BIND, &[number(id)]).code, 0);
    world.acted.clear();
    world.server.handle_disconnected(id);
    assert_eq!(world.accounts.total().connections, 0);
    let id = world.server.handle_accepted(world.now, relay, address(PEER), &mut world.out).unwrap();
    world.settle();
    assert_eq!(ann.ask(&mut world, method::REFRESH, &[Attr::lifetime(0)]).code, 0);
    assert_eq!(closed(&mut world), [id]);
    assert_eq!(world.server.handle_accepted(world.now, relay, address(PEER), &mut world.out), None);
}

#[test]
fn relays_of_tcp_can_be_switched_off() {
    let mut world = World::with(Quotas::default(), |config| config.tcp_relays = false);
    let mut ann = on_stream(ANN, 1);
    ann.ask(&mut world, method::ALLOCATE, &[Attr::tcp()]);
    assert_eq!(ann.ask(&mut world, method::ALLOCATE, &[Attr::tcp()]).code, 442);
    assert_eq!(ann.ask(&mut world, method::ALLOCATE, &[Attr::udp()]).code, 0);
}

#[test]
fn what_makes_no_sense_over_tcp_is_refused() {
    let mut world = World::with(Quotas::default(), |config| {
        config.peers = PeerPolicy { own: vec![address("127.0.0.1:40000")], ..PeerPolicy::default() };
    });
    let mut udp = Client::greeted(&mut world, "192.0.2.2:2", "ann");
    assert_eq!(udp.ask(&mut world, method::ALLOCATE, &[Attr::tcp()]).code, 400, "a client of UDP");
    let mut ann = on_stream(ANN, 1);
    ann.ask(&mut world, method::ALLOCATE, &[Attr::tcp()]);
    for of_datagrams in [
        Attr::Raw(attribute::EVEN_PORT, vec![0]),
        Attr::Raw(attribute::DONT_FRAGMENT, vec![]),
        Attr::Raw(attribute::RESERVATION_TOKEN, vec![0; 8]),
    ] {
        assert_eq!(ann.ask(&mut world, method::ALLOCATE, &[Attr::tcp(), of_datagrams]).code, 400);
    }
    assert_eq!(ann.ask(&mut world, method::CONNECT, &[Attr::peer(PEER)]).code, 437);
    assert_eq!(ann.ask(&mut world, method::ALLOCATE, &[Attr::tcp()]).code, 0);
    let mut ask = |method, attributes: &[Attr]| ann.ask(&mut world, method, attributes).code;
    assert_eq!(ask(method::CONNECT, &[]), 400);
    assert_eq!(ask(method::CONNECT, &[Attr::peer("127.0.0.1:22")]), 403);
    assert_eq!(ask(method::CONNECT, &[Attr::peer("[2606:4700::1]:5")]), 443);
    assert_eq!(ask(method::CHANNEL_BIND, &[Attr::peer(PEER), Attr::channel(0x4000)]), 400);
    assert_eq!(ask(method::CREATE_PERMISSION, &[Attr::peer(PEER)]), 0);
    assert_eq!(ask(method::CONNECTION_BIND, &[]), 400);
    let data = [Attr::peer(PEER), Attr::Raw(attribute::DATA, b"x".to_vec())];
    let send = ann.message(message_type(Class::Indication, method::SEND), &data, false);
    assert_eq!(world.deliver(ann.tuple, &send), []);
    let id = call(&mut world, &mut ann, "127.0.0.1:40000");
    connected(&mut world, &mut ann, id, true);
    assert_eq!(ann.ask(&mut world, method::CONNECTION_BIND, &[number(id)]).code, 400, "it has an allocation");
    assert_eq!(udp.ask(&mut world, method::CONNECTION_BIND, &[number(id)]).code, 400, "a client of UDP");
    assert!(world.acted.is_empty());
    let mut bob = Client::allocated(&mut world, "192.0.2.3:3", "bob");
    assert_eq!(bob.ask(&mut world, method::CONNECT, &[Attr::peer(PEER)]).code, 400, "its relay speaks UDP");
}

#[test]
fn connections_have_a_quota_of_their_own_and_their_bytes_count_against_the_rate() {
    let user = Limits { connections: 2, channels: 9, bytes_per_second: 100_000, ..Limits::default() };
    let mut world = World::with(Quotas { user, ..Quotas::default() }, |_| {});
    let mut ann = allocated(&mut world);
    let first = call(&mut world, &mut ann, "198.51.100.9:1");
    call(&mut world, &mut ann, "198.51.100.9:2");
    assert_eq!(ann.ask(&mut world, method::CONNECT, &[Attr::peer("198.51.100.9:3")]).code, 508);
    assert_eq!(world.server.refusals().get(Refusal::ConnectionQuota), 1);
    assert_eq!(connected(&mut world, &mut ann, first, true), 0);
    let mut taken = 0;
    while world.server.may_take(world.now, first) {
        world.server.handle_taken(world.now, first, 16_384, 0);
        taken += 16_384;
    }
    assert!((100_000..=116_384).contains(&taken), "{taken}");
    world.now += Duration::from_millis(500);
    assert!(world.server.may_take(world.now, first));

    let mut world = World::new();
    let mut ann = allocated(&mut world);
    let most = (1..).take_while(|port| {
        let request = ann.request(method::CONNECT, &[Attr::peer(&format!("198.51.100.9:{port}"))]);
        world.deliver(ann.tuple, &request).is_empty()
    });
    assert_eq!(most.count(), 64, "also where quotas say nothing");
}

#[test]
fn a_connection_that_comes_to_another_worker_is_moved_once_it_has_a_nonce() {
    let mut home = World::with(Quotas::default(), |config| (config.worker, config.workers) = (1, 2));
    let mut other = World::with(Quotas::default(), |config| config.workers = 2);
    let mut ann = allocated(&mut home);
    let id = call(&mut home, &mut ann, PEER);
    connected(&mut home, &mut ann, id, true);
    let mut data = on_stream(ANN, 7);
    assert_eq!(data.ask(&mut other, method::CONNECTION_BIND, &[number(id)]).code, 401);
    let request = data.request(method::CONNECTION_BIND, &[number(id)]);
    assert_eq!(other.deliver(data.tuple, &request), []);
    assert!(matches!(other.acted[..], [Action::Move { worker: 1 }]), "{:?}", other.acted);
    assert_eq!(data.ask(&mut home, method::CONNECTION_BIND, &[number(id)]).code, 0);
    // Where it has an allocation a connection stays: that would live on without it.
    let mut bound_here = allocated(&mut other);
    other.acted.clear();
    assert_eq!(bound_here.ask(&mut other, method::CONNECTION_BIND, &[number(id)]).code, 400);
    assert!(other.acted.is_empty(), "{:?}", other.acted);
    let nowhere = ConnectionId::from_bits(id.to_bits() | 1 << 31);
    assert_eq!(data.ask(&mut other, method::CONNECTION_BIND, &[number(nowhere)]).code, 400);
}

#[test]
fn who_made_an_allocation_in_time_may_bind_later() {
    let mut world = World::new();
    let issued = crate::credentials::issue("secret", "eve", super::client::START + 10);
    let mut eve = on_stream(ANN, 1);
    (eve.name, eve.password) = (issued.username, issued.password);
    eve.ask(&mut world, method::ALLOCATE, &[Attr::tcp()]);
    assert_eq!(eve.ask(&mut world, method::ALLOCATE, &[Attr::tcp()]).code, 0);
    world.wait(20);
    let id = call(&mut world, &mut eve, PEER);
    connected(&mut world, &mut eve, id, true);
    assert_eq!(second(&eve, 2).ask(&mut world, method::CONNECTION_BIND, &[number(id)]).code, 0);
    for method in [method::ALLOCATE, method::REFRESH, method::CONNECT] {
        let attributes = [Attr::tcp(), Attr::peer(PEER), number(id)];
        assert_eq!(second(&eve, 3).ask(&mut world, method, &attributes).code, 401, "{method}");
    }
    assert_eq!(world.server.refusals().get(Refusal::CredentialExpired), 3);
}
