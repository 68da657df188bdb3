//! What is relayed, and for how long.

use std::sync::Arc;

use veche_stun::{Class, Message, message_type};

use super::{Attr, Client, World, address};
use crate::credentials::{Credentials, issue};
use crate::five_tuple::Link;
use crate::outbox::Destination;
use crate::quotas::{Limits, Quotas};
use crate::refusals::Refusal;
use crate::tests::client::{REALM, START};
use crate::wire::{attribute, method};

const ANN: &str = "192.0.2.1:1111";
const PEER: &str = "198.51.100.9:9999";

fn send(client: &Client, peer: &str, data: &[u8], more: &[Attr]) -> Vec<u8> {
    let attributes = [Attr::peer(peer), Attr::Raw(attribute::DATA, data.to_vec())];
    let kind = message_type(Class::Indication, method::SEND);
    client.message(kind, &[&attributes[..], more].concat(), false)
}

fn bind(client: &mut Client, world: &mut World, number: u16, peer: &str) {
    let attributes = [Attr::channel(number), Attr::peer(peer)];
    assert_eq!(client.ask(world, method::CHANNEL_BIND, &attributes).code, 0);
}

#[test]
fn a_binding_request_is_told_where_it_came_from() {
    let mut world = World::new();
    let mut ann = Client::new("[2001:db8::5]:77", "ann");
    let reply = ann.ask(&mut world, method::BINDING, &[]);
    assert_eq!(reply.address(veche_stun::attribute::XOR_MAPPED_ADDRESS), Some(address("[2001:db8::5]:77")));
    assert_eq!(ann.ask(&mut world, method::BINDING, &[Attr::Raw(0x7001, vec![])]).code, 420);
    assert_eq!(world.server.totals().bindings, 1);
}

#[test]
fn data_goes_by_indications_where_there_is_a_permission() {
    let mut world = World::new();
    let mut ann = Client::allocated(&mut world, ANN, "ann");
    let relay = ann.relay(&world);
    let hello = send(&ann, PEER, b"hello", &[]);
    assert_eq!(world.deliver(ann.tuple, &hello), []);
    assert_eq!(world.arrive(relay, PEER, b"hi"), []);
    assert_eq!(world.server.refusals().get(Refusal::NoPermission), 2);
    assert_eq!(ann.ask(&mut world, method::CREATE_PERMISSION, &[Attr::peer("198.51.100.9:1")]).code, 0);
    let to = |dont_fragment| Destination::Peer { relay, peer: address(PEER), dont_fragment };
    assert_eq!(world.deliver(ann.tuple, &hello), [(to(false), b"hello".to_vec())]);
    let whole = send(&ann, PEER, b"", &[Attr::Raw(attribute::DONT_FRAGMENT, vec![])]);
    assert_eq!(world.deliver(ann.tuple, &whole), [(to(true), vec![])]);
    let strange = send(&ann, PEER, b"", &[Attr::Raw(0x7001, vec![])]);
    assert_eq!(world.deliver(ann.tuple, &strange), []);
    let sent = world.arrive(relay, PEER, b"hi");
    let message = Message::parse(&sent[0].1).unwrap();
    assert_eq!((message.class(), message.method()), (Class::Indication, method::DATA));
    let reply = read_indication(&sent[0].1);
    assert_eq!(reply, (address(PEER), b"hi".to_vec()));
    assert_eq!(world.arrive(relay, "198.51.100.8:9999", b"hi"), []);
}

#[test]
fn data_of_channels_has_four_bytes_in_front_and_padding_in_streams() {
    for is_stream in [false, true] {
        let mut world = World::new();
        let mut ann = Client::new(ANN, "ann");
        if is_stream {
            ann.tuple.link = Link::Stream(5);
        }
        ann.ask(&mut world, method::ALLOCATE, &[Attr::udp()]);
        assert_eq!(ann.ask(&mut world, method::ALLOCATE, &[Attr::udp()]).code, 0);
        bind(&mut ann, &mut world, 0x4abc, PEER);
        let relay = ann.relay(&world);
        let to = Destination::Peer { relay, peer: address(PEER), dont_fragment: false };
        let packet = b"\x4a\xbc\x00\x05hello\0\0\0";
        assert_eq!(world.deliver(ann.tuple, packet), [(to, b"hello".to_vec())]);
        let back = if is_stream { &packet[..] } else { &packet[..9] };
        assert_eq!(world.arrive(relay, PEER, b"hello"), [(Destination::Client(ann.tuple), back.to_vec())]);
        for (wrong, reason) in [
            (&b"\x4a\xbc\x00\x06hello"[..], Refusal::Malformed),
            (b"\x4a\xbc\x00", Refusal::Malformed),
            (b"\x4a\xbd\x00\x01x", Refusal::NoChannel),
            (b"\x80\x00\x00\x01x", Refusal::NotTurn),
        ] {
            let before = world.server.refusals().get(reason);
            assert_eq!(world.deliver(ann.tuple, wrong), []);
            assert_eq!(world.server.refusals().get(reason), before + 1, "{reason:?}");
        }
        let stranger = Client::new("192.0.2.9:9", "bob").tuple;
        assert_eq!(world.deliver(stranger, packet), []);
        assert_eq!(world.server.refusals().get(Refusal::NoAllocation), 1);
        world.wait(1);
        let usage = world.accounts.users()[0].usage;
        assert_eq!((usage.packets_to_peers, usage.bytes_to_peers), (1, 5));
        assert_eq!((usage.packets_to_clients, usage.bytes_to_clients), (1, 5));
    }
}

#[test]
fn what_goes_into_a_stream_stays_in_its_order() {
    let mut world = World::new();
    let mut ann = Client::new(ANN, "ann");
    ann.tuple.link = Link::Stream(5);
    ann.ask(&mut world, method::ALLOCATE, &[Attr::udp()]);
    assert_eq!(ann.ask(&mut world, method::ALLOCATE, &[Attr::udp()]).code, 0);
    bind(&mut ann, &mut world, 0x4abc, PEER);
    let mut bob = Client::allocated(&mut world, "192.0.2.2:2", "bob");
    bind(&mut bob, &mut world, 0x4000, PEER);
    let (relay, other) = (ann.relay(&world), bob.relay(&world));
    // All in one turn: data of the channel, answers and data by indications, with what is for another in between.
    let refresh = ann.request(method::REFRESH, &[]);
    let World { server, out, now, .. } = &mut world;
    for peer in [PEER, "", "198.51.100.9:1", PEER, "198.51.100.9:1", "", PEER] {
        if peer.is_empty() {
            server.handle_client(*now, ann.tuple, &refresh, out);
        } else {
            server.handle_peer(*now, relay, address(peer), b"data", out);
        }
        server.handle_peer(*now, other, address(PEER), b"data", out);
    }
    let sent = world.settle();
    let mine = sent.iter().filter(|(to, _)| *to == Destination::Client(ann.tuple));
    let kinds: Vec<u8> = mine.map(|(_, packet)| packet[0]).collect();
    // ChannelData, a success, an indication.
    assert_eq!(kinds, [0x4a, 0x01, 0x00, 0x4a, 0x00, 0x01, 0x4a]);
}

#[test]
fn permissions_channels_and_allocations_end_in_their_time() {
    let mut world = World::new();
    let mut ann = Client::allocated(&mut world, ANN, "ann");
    let relay = ann.relay(&world);
    bind(&mut ann, &mut world, 0x4000, PEER);
    world.wait(299);
    assert_eq!(world.arrive(relay, PEER, b"x").len(), 1);
    world.wait(1);
    assert_eq!(world.arrive(relay, PEER, b"x"), [], "the permission has ended");
    assert_eq!(ann.ask(&mut world, method::CREATE_PERMISSION, &[Attr::peer(PEER)]).code, 0);
    assert_eq!(ann.ask(&mut world, method::REFRESH, &[Attr::lifetime(1)]).lifetime(), Some(600));
    world.wait(299);
    assert_eq!(world.deliver(ann.tuple, b"\x40\0\0\x01x").len(), 1);
    assert_eq!(ann.ask(&mut world, method::CREATE_PERMISSION, &[Attr::peer(PEER)]).code, 0);
    world.wait(1);
    assert_eq!(world.deliver(ann.tuple, b"\x40\0\0\x01x"), [], "the channel has ended");
    assert_eq!(world.arrive(relay, PEER, b"x").len(), 1, "by indication");
    assert_eq!((world.accounts.total().channels, world.accounts.total().permissions), (0, 1));
    assert_eq!(ann.ask(&mut world, method::REFRESH, &[Attr::lifetime(9_999_999)]).lifetime(), Some(3600));
    world.wait(3599);
    assert_eq!(world.open.len(), 1);
    world.wait(1);
    assert!(world.open.is_empty() && world.accounts.users().is_empty());
    // A client whose allocation ended by itself makes a new one, also before anybody looked after it.
    let mut bob = Client::allocated(&mut world, "192.0.2.2:2", "bob");
    world.now += std::time::Duration::from_mins(10);
    assert_eq!(bob.ask(&mut world, method::ALLOCATE, &[Attr::udp()]).code, 0);
    assert_eq!(world.open.len(), 1);
    assert_eq!(bob.ask(&mut world, method::REFRESH, &[Attr::lifetime(0)]).lifetime(), Some(0));
    assert!(world.open.is_empty() && world.accounts.total().allocations == 0);
}

#[test]
fn a_dual_allocation_has_two_relays_that_end_apart() {
    let mut world = World::new();
    let mut ann = Client::greeted(&mut world, ANN, "ann");
    let both = [Attr::udp(), Attr::family(attribute::ADDITIONAL_ADDRESS_FAMILY, 2)];
    let relays = ann.ask(&mut world, method::ALLOCATE, &both).relays();
    assert!(relays.len() == 2 && relays[0].is_ipv4() && relays[1].is_ipv6());
    for peer in [PEER, "[2606:4700::1]:5"] {
        assert_eq!(ann.ask(&mut world, method::CREATE_PERMISSION, &[Attr::peer(peer)]).code, 0);
    }
    let v6 = |lifetime| [Attr::lifetime(lifetime), Attr::family(attribute::REQUESTED_ADDRESS_FAMILY, 2)];
    assert_eq!(ann.ask(&mut world, method::REFRESH, &v6(0)).code, 0);
    assert_eq!(world.open.len(), 1);
    assert_eq!(ann.ask(&mut world, method::REFRESH, &v6(600)).code, 443);
    assert_eq!(ann.ask(&mut world, method::CREATE_PERMISSION, &[Attr::peer("[2606:4700::1]:5")]).code, 443);
    assert_eq!(ann.ask(&mut world, method::CREATE_PERMISSION, &[Attr::peer(PEER)]).code, 0);
}

#[test]
fn an_even_port_reserves_the_next() {
    let mut world = World::new();
    let mut ann = Client::greeted(&mut world, ANN, "ann");
    let reply =
        ann.ask(&mut world, method::ALLOCATE, &[Attr::udp(), Attr::Raw(attribute::EVEN_PORT, vec![0x80])]);
    let port = reply.relays()[0].port();
    assert_eq!(port % 2, 0);
    let token = reply.get(attribute::RESERVATION_TOKEN).unwrap().to_vec();
    let mut again = Client::greeted(&mut world, "192.0.2.1:2222", "ann");
    let attributes = [Attr::udp(), Attr::Raw(attribute::RESERVATION_TOKEN, token)];
    let reply = again.ask(&mut world, method::ALLOCATE, &attributes);
    assert_eq!(reply.relays()[0].port(), port + 1);
    assert_eq!(reply.get(attribute::ADDRESS_ERROR_CODE), None);
}

#[test]
fn reserved_ports_count_and_are_used_by_who_may_have_them() {
    let user = Limits { allocations: 2, ..Limits::default() };
    let mut world = World::with(Quotas { user, ..Quotas::default() }, |_| {});
    let even = [Attr::udp(), Attr::Raw(attribute::EVEN_PORT, vec![0x80])];
    let mut ann = Client::greeted(&mut world, ANN, "ann");
    let reply = ann.ask(&mut world, method::ALLOCATE, &even);
    let token = reply.get(attribute::RESERVATION_TOKEN).unwrap().to_vec();
    assert_eq!(world.accounts.total().allocations, 2);
    let mut other = Client::greeted(&mut world, "192.0.2.1:2222", "ann");
    assert_eq!(other.ask(&mut world, method::ALLOCATE, &[Attr::udp()]).code, 486);
    assert_eq!(other.ask(&mut world, method::ALLOCATE, &even).code, 486);
    // Another's reservation makes no room for who has enough.
    let [_, _] = ["192.0.2.3:1", "192.0.2.3:2"].map(|from| Client::allocated(&mut world, from, "bob"));
    let attributes = [Attr::udp(), Attr::Raw(attribute::RESERVATION_TOKEN, token.clone())];
    let mut bob = Client::greeted(&mut world, "192.0.2.3:3", "bob");
    let lost = Attr::Raw(attribute::RESERVATION_TOKEN, vec![1; 8]);
    assert_eq!(bob.ask(&mut world, method::ALLOCATE, &[Attr::udp(), lost]).code, 508);
    assert_eq!(other.ask(&mut world, method::ALLOCATE, &attributes).code, 0);
    assert_eq!((world.accounts.total().allocations, world.open.len()), (4, 4));
    assert_eq!(other.ask(&mut world, method::REFRESH, &[Attr::lifetime(0)]).code, 0);
    let reply = other.ask(&mut world, method::ALLOCATE, &[Attr::udp()]);
    assert_eq!((reply.code, world.accounts.total().allocations), (0, 4));

    let mut world = World::with(Quotas { user, ..Quotas::default() }, |_| {});
    let mut ann = Client::greeted(&mut world, ANN, "ann");
    let reply = ann.ask(&mut world, method::ALLOCATE, &even);
    let token =
        Attr::Raw(attribute::RESERVATION_TOKEN, reply.get(attribute::RESERVATION_TOKEN).unwrap().to_vec());
    let [_, _] = ["192.0.2.3:1", "192.0.2.3:2"].map(|from| Client::allocated(&mut world, from, "bob"));
    let mut bob = Client::greeted(&mut world, "192.0.2.3:3", "bob");
    assert_eq!(bob.ask(&mut world, method::ALLOCATE, &[Attr::udp(), token]).code, 486);
    assert_eq!((world.accounts.total().allocations, world.open.len()), (3, 3));
}

#[test]
fn data_that_an_indication_cannot_hold_is_dropped() {
    let mut world = World::new();
    let mut ann = Client::allocated(&mut world, ANN, "ann");
    assert_eq!(ann.ask(&mut world, method::CREATE_PERMISSION, &[Attr::peer(PEER)]).code, 0);
    let relay = ann.relay(&world);
    let sent = world.arrive(relay, PEER, &vec![7; 65_504]);
    assert_eq!(read_indication(&sent[0].1), (address(PEER), vec![7; 65_504]));
    assert_eq!(world.arrive(relay, PEER, &vec![7; 65_505]), []);
    assert_eq!(world.server.refusals().get(Refusal::TooLarge), 1);
    bind(&mut ann, &mut world, 0x4000, PEER);
    assert_eq!(world.arrive(relay, PEER, &vec![7; 65_507])[0].1.len(), 4 + 65_507);
}

#[test]
fn who_is_nobody_any_more_loses_the_allocation() {
    let mut world = World::new();
    let mut ann = Client::allocated(&mut world, ANN, "ann");
    Client::allocated(&mut world, "192.0.2.2:2", "bob");
    let issued = issue("secret", "eve", START + 100);
    let mut eve = Client::greeted(&mut world, "192.0.2.3:3", "eve");
    (eve.name, eve.password) = (issued.username, issued.password);
    assert_eq!(eve.ask(&mut world, method::ALLOCATE, &[Attr::udp()]).code, 0);
    world.wait(200);
    let users = [("ann", "ann's password"), ("bob", "another")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    let new = Credentials::new(REALM, ["secret".to_owned()], users.clone());
    world.server.set_credentials(Arc::new(new), &mut world.out);
    world.settle();
    assert_eq!(world.open.len(), 2, "bob's password is another");
    assert_eq!(eve.ask(&mut world, method::REFRESH, &[]).code, 0, "her time is over, as it was");
    world.server.set_credentials(Arc::new(Credentials::new(REALM, [], users)), &mut world.out);
    world.settle();
    assert_eq!(world.open.len(), 1, "the secret is gone");
    assert_eq!(ann.ask(&mut world, method::REFRESH, &[]).code, 0);
}

#[test]
fn an_icmp_error_is_told_with_its_peer() {
    let mut world = World::new();
    let mut ann = Client::allocated(&mut world, ANN, "ann");
    ann.ask(&mut world, method::CREATE_PERMISSION, &[Attr::peer(PEER)]);
    let relay = ann.relay(&world);
    for (peer, kind, expected) in [
        (PEER, [3, 4], Some([0, 0, 6, 4, 0, 0, 5, 0x78])),
        (PEER, [11, 0], Some([0, 0, 22, 0, 0, 0, 0, 0])),
        // A router would rather have another way used: that is none of the client's business.
        (PEER, [5, 1], None),
        ("198.51.100.1:1", [3, 4], None),
    ] {
        world.server.handle_icmp(world.now, relay, address(peer), kind, 1400, &mut world.out);
        let sent = world.settle();
        let told = sent.first().map(|(_, packet)| {
            let message = Message::parse(packet).unwrap();
            let icmp = message.attributes().map(Result::unwrap).find(|a| a.kind == attribute::ICMP).unwrap();
            <[u8; 8]>::try_from(icmp.value).unwrap()
        });
        assert_eq!(told, expected);
    }
}

#[test]
fn a_credential_whose_time_ends_keeps_the_allocation_that_it_made() {
    let mut world = World::new();
    let issued = issue("secret", "eve", START + 100);
    let mut eve = Client::greeted(&mut world, ANN, "eve");
    (eve.name, eve.password) = (issued.username, issued.password);
    assert_eq!(eve.ask(&mut world, method::ALLOCATE, &[Attr::udp()]).code, 0);
    assert_eq!(world.accounts.users()[0].user, "eve");
    world.wait(200);
    assert_eq!(eve.ask(&mut world, method::REFRESH, &[]).code, 0);
    eve.ask(&mut world, method::REFRESH, &[Attr::lifetime(0)]);
    assert_eq!(eve.ask(&mut world, method::ALLOCATE, &[Attr::udp()]).code, 401);
}

#[test]
fn who_relays_too_much_loses_packets_and_nothing_else() {
    let user = Limits { bytes_per_second: 100_000, ..Limits::default() };
    let mut world = World::with(Quotas { user, ..Quotas::default() }, |_| {});
    let mut ann = Client::allocated(&mut world, ANN, "ann");
    bind(&mut ann, &mut world, 0x4000, PEER);
    let packet = [&[0x40, 0, 0x03, 0xe8][..], &[1; 1000]].concat();
    let sent = (0..300).filter(|_| !world.deliver(ann.tuple, &packet).is_empty()).count();
    assert_eq!((sent, world.server.refusals().get(Refusal::Bandwidth)), (100, 200));
    world.wait(1);
    assert_eq!(world.deliver(ann.tuple, &packet).len(), 1);
}

#[test]
fn a_connection_that_ends_takes_its_allocation_along() {
    let mut world = World::new();
    let ann = Client::allocated(&mut world, ANN, "ann");
    world.server.handle_disconnect(ann.tuple, &mut world.out);
    assert_eq!(world.settle(), []);
    assert!(world.open.is_empty());
    Client::allocated(&mut world, ANN, "ann");
    Client::allocated(&mut world, "192.0.2.2:2", "bob");
    world.server.close(&mut world.out);
    world.settle();
    assert!(world.open.is_empty() && world.accounts.users().is_empty());
}

#[test]
fn an_allocation_that_ends_before_its_relays_are_open_leaves_none() {
    let mut world = World::new();
    let mut ann = Client::greeted(&mut world, ANN, "ann");
    let both = [Attr::udp(), Attr::family(attribute::ADDITIONAL_ADDRESS_FAMILY, 2)];
    let request = ann.request(method::ALLOCATE, &both);
    world.server.handle_client(world.now, ann.tuple, &request, &mut world.out);
    world.server.handle_disconnect(ann.tuple, &mut world.out);
    world.settle();
    assert!(world.open.is_empty() && world.accounts.total().allocations == 0);
}

/// Who sent what, by a Data indication.
fn read_indication(packet: &[u8]) -> (std::net::SocketAddr, Vec<u8>) {
    let message = Message::parse(packet).unwrap();
    let find = |kind| message.attributes().map(Result::unwrap).find(|a| a.kind == kind).unwrap().value;
    let peer = find(attribute::XOR_PEER_ADDRESS);
    let peer = veche_stun::address::read_xor(peer, &message.transaction()).unwrap();
    (peer, find(attribute::DATA).to_vec())
}
