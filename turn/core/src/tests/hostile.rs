//! Those who are not who they say, in great number.

use std::net::{Ipv4Addr, SocketAddr};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use veche_stun::{Class, message_type};

use super::{Attr, Client, World};
use crate::five_tuple::FiveTuple;
use crate::quotas::{Quotas, Usage};
use crate::refusals::Refusal;
use crate::wire::{attribute, method};

#[test]
fn a_million_forged_requests_leave_no_state() {
    let mut world = World::with(Quotas::default(), |config| config.unproven_bytes_per_second = 10_000);
    let mut random = StdRng::seed_from_u64(8656);
    let mut template = Client::greeted(&mut world, "192.0.2.1:1", "ann");
    let signed = template.request(method::ALLOCATE, &[Attr::udp()]);
    let unsigned = template.message(message_type(Class::Request, method::ALLOCATE), &[Attr::udp()], false);
    let binding = template.message(message_type(Class::Request, method::BINDING), &[], false);
    let guessed =
        Client { password: "guessed".into(), ..template.clone() }.request(method::ALLOCATE, &[Attr::udp()]);
    let channel = b"\x40\0\0\x04data".to_vec();
    let kinds = [unsigned, binding, channel, signed, guessed];
    let (mut received, mut sent) = (0, 0);
    for round in 0..1_000_000u32 {
        let remote =
            SocketAddr::from((Ipv4Addr::from_bits(random.random()), random.random_range(1..=u16::MAX)));
        // Those with a signature cost more time, here too.
        let kind = if round % 20 == 0 { 3 + round as usize % 40 / 20 } else { round as usize % 3 };
        let from = FiveTuple { remote, ..template.tuple };
        received += kinds[kind].len();
        world.server.handle_client(world.now, from, &kinds[kind], &mut world.out);
        sent += world.out.len();
        world.out.clear_packets();
    }
    assert!(world.out.take_actions().is_empty());
    assert_eq!(world.server.totals().allocations, 0);
    assert_eq!((world.accounts.users(), world.accounts.total()), (vec![], Usage::default()));
    assert_eq!(world.server.allocations.capacity(), 0);
    // 104 bytes for 28 at worst, each address on its own; the next story is of one address.
    assert!(10 * sent < 21 * received, "{sent} bytes for {received}");
}

#[test]
fn an_address_whose_name_is_abused_is_hit_by_little() {
    let mut world = World::with(Quotas::default(), |config| config.unproven_bytes_per_second = 10_000);
    let victim = Client::new("192.0.2.7:7", "ann");
    let unsigned = victim.message(message_type(Class::Request, method::ALLOCATE), &[Attr::udp()], false);
    // Whoever has an account signs rightly, and the nonce is wrong all the same: it is another address's.
    let mut bob = Client::greeted(&mut world, "192.0.2.66:6", "bob");
    let stale = bob.request(method::ALLOCATE, &[Attr::udp()]);
    for request in [unsigned, stale] {
        let mut hit = 0;
        let limited = world.server.refusals().get(Refusal::AnswersLimited);
        for _ in 0..10 {
            for _ in 0..10_000 {
                let sent = world.deliver(victim.tuple, &request);
                hit += sent.iter().map(|(_, packet)| packet.len()).sum::<usize>();
            }
            world.wait(1);
        }
        assert!(hit > 5 * 10_000 && hit < 15 * 10_000, "{hit} bytes in ten seconds");
        assert!(world.server.refusals().get(Refusal::AnswersLimited) > limited + 98_000);
        world.wait(5);
    }
    // Who waits is served.
    Client::allocated(&mut world, "192.0.2.7:8", "ann");
}

#[test]
fn random_and_mutated_packets_neither_panic_nor_leave_more_than_a_client_may_have() {
    let mut world = World::new();
    let mut random = StdRng::seed_from_u64(5766);
    let mut ann = Client::allocated(&mut world, "192.0.2.1:1", "ann");
    let peer = Attr::peer("198.51.100.9:9999");
    let packets = [
        ann.request(method::REFRESH, &[Attr::lifetime(600)]),
        ann.request(method::CREATE_PERMISSION, std::slice::from_ref(&peer)),
        ann.request(method::CHANNEL_BIND, &[peer.clone(), Attr::channel(0x4001)]),
        ann.message(
            message_type(Class::Indication, method::SEND),
            &[peer, Attr::Raw(attribute::DATA, vec![1; 20])],
            false,
        ),
        b"\x40\x01\x00\x05hello".to_vec(),
    ];
    for _ in 0..50_000 {
        let mut packet = packets[random.random_range(0..packets.len())].clone();
        for _ in 0..random.random_range(0..4) {
            let at = random.random_range(0..packet.len());
            packet[at] = random.random();
        }
        if random.random_bool(0.2) {
            packet.truncate(random.random_range(0..packet.len()));
        }
        world.deliver(ann.tuple, &packet);
    }
    let total = world.accounts.total();
    assert!(total.allocations <= 1 && total.permissions <= 1 && total.channels <= 1, "{total:?}");
}
