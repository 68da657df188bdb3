//! Every error code, and what leads to it.

use std::sync::Arc;

use veche_stun::attribute::{ALTERNATE_SERVER, NONCE, PASSWORD_ALGORITHMS, REALM, UNKNOWN_ATTRIBUTES};

use super::{Attr, Client, World, address};
use crate::credentials::{Credentials, PasswordAlgorithm, issue};
use crate::issued::IssuedNames;
use crate::quotas::{Limits, Quotas};
use crate::refusals::Refusal;
use crate::tests::client::{REALM as REALM_TEXT, START};
use crate::wire::{attribute, method};

const ALLOCATE: u16 = method::ALLOCATE;
const ANN: &str = "192.0.2.1:1111";
const PEER: &str = "198.51.100.9:9999";

fn raw(kind: u16, value: &[u8]) -> Attr {
    Attr::Raw(kind, value.to_vec())
}

#[test]
fn the_first_request_is_challenged_and_the_answer_is_small() {
    let mut world = World::new();
    let mut ann = Client::new(ANN, "ann");
    let reply = ann.ask(&mut world, ALLOCATE, &[Attr::udp()]);
    assert_eq!(reply.code, 401);
    assert_eq!(reply.get(REALM), Some(&b"veche.test"[..]));
    assert!(reply.get(NONCE).unwrap().starts_with(b"obMatJos2gAAA"));
    assert_eq!(reply.get(PASSWORD_ALGORITHMS), Some(&PasswordAlgorithm::OFFERED[..]));
    assert!(reply.len() <= 104, "{}", reply.len());
    assert_eq!(ann.ask(&mut world, ALLOCATE, &[Attr::udp()]).code, 0);
}

#[test]
fn allocations_that_contradict_themselves_get_400() {
    let mut world = World::new();
    let mut ann = Client::greeted(&mut world, ANN, "ann");
    let (v4, v6) = (1, 2);
    let family = |family| Attr::family(attribute::REQUESTED_ADDRESS_FAMILY, family);
    let additional = |family| Attr::family(attribute::ADDITIONAL_ADDRESS_FAMILY, family);
    let token = || raw(attribute::RESERVATION_TOKEN, &[0; 8]);
    let even = |next: u8| raw(attribute::EVEN_PORT, &[next]);
    for wrong in [
        vec![],
        vec![raw(attribute::REQUESTED_TRANSPORT, &[17])],
        vec![Attr::udp(), token(), even(0)],
        vec![Attr::udp(), token(), family(v4)],
        vec![Attr::udp(), token(), additional(v6)],
        vec![Attr::udp(), raw(attribute::RESERVATION_TOKEN, &[0; 7])],
        vec![Attr::udp(), family(v4), additional(v6)],
        vec![Attr::udp(), additional(v4)],
        vec![Attr::udp(), additional(9)],
        vec![Attr::udp(), additional(v6), even(0x80)],
        vec![Attr::udp(), raw(attribute::LIFETIME, &[1, 2])],
    ] {
        assert_eq!(ann.ask(&mut world, ALLOCATE, &wrong).code, 400, "{wrong:?}");
    }
    assert_eq!(world.server.refusals().get(Refusal::BadRequest), 11);
    assert_eq!(
        ann.ask(&mut world, ALLOCATE, &[raw(attribute::REQUESTED_TRANSPORT, &[132, 0, 0, 0])]).code,
        442
    );
    assert_eq!(ann.ask(&mut world, ALLOCATE, &[Attr::udp(), family(9)]).code, 440);
    let reply = ann.ask(&mut world, ALLOCATE, &[Attr::udp(), raw(0x7001, &[1]), raw(0x7fff, &[])]);
    assert_eq!((reply.code, reply.get(UNKNOWN_ATTRIBUTES)), (420, Some(&[0x70, 0x01, 0x7f, 0xff][..])));
    assert_eq!(ann.ask(&mut world, ALLOCATE, &[Attr::udp(), token()]).code, 508);
    assert!(world.open.is_empty() && world.accounts.users().is_empty());
    let mut only_v4 = World::with(Quotas::default(), |config| config.v6 = false);
    let mut ann = Client::greeted(&mut only_v4, ANN, "ann");
    assert_eq!(ann.ask(&mut only_v4, ALLOCATE, &[Attr::udp(), family(v6)]).code, 440);
    let reply = ann.ask(&mut only_v4, ALLOCATE, &[Attr::udp(), additional(v6)]);
    assert_eq!(reply.relays().len(), 1);
    assert_eq!(reply.get(attribute::ADDRESS_ERROR_CODE).unwrap()[..4], [2, 0, 4, 40]);
    ann.transaction -= 1;
    let again = ann.ask(&mut only_v4, ALLOCATE, &[Attr::udp(), additional(v6)]);
    assert_eq!(again.get(attribute::ADDRESS_ERROR_CODE).unwrap()[..4], [2, 0, 4, 40], "told again");
}

#[test]
fn who_is_not_who_they_say_gets_401_and_nobody_borrows_a_nonce() {
    let mut world = World::new();
    let mut ann = Client::greeted(&mut world, ANN, "ann");
    let mut ask = |client: &Client| client.clone().ask(&mut world, ALLOCATE, &[Attr::udp()]).code;
    assert_eq!(ask(&Client { password: "guessed".to_owned(), ..ann.clone() }), 401);
    assert_eq!(ask(&Client { name: "eve".to_owned(), ..ann.clone() }), 401);
    let issued = issue("secret", "eve", START);
    let late = Client { name: issued.username, password: issued.password, ..ann.clone() };
    assert_eq!(ask(&late), 401);
    // The nonce of another address: who replays what was seen on a wire has to be there.
    let eve = Client { tuple: Client::new("192.0.2.66:1111", "ann").tuple, ..ann.clone() };
    assert_eq!(ask(&eve), 438);
    assert_eq!(ask(&Client { nonce: b"obMatJos2gAAAnonsense".to_vec(), ..ann.clone() }), 438);
    let refusals = |world: &World, reason| world.server.refusals().get(reason);
    let counted =
        [Refusal::WrongPassword, Refusal::UnknownUser, Refusal::CredentialExpired, Refusal::StaleNonce];
    assert_eq!(counted.map(|reason| refusals(&world, reason)), [1, 1, 1, 2]);
    assert_eq!(ann.ask(&mut world, ALLOCATE, &[Attr::udp()]).code, 0);
    world.wait(3600);
    assert_eq!(ann.ask(&mut world, ALLOCATE, &[Attr::udp()]).code, 438, "the nonce is old");
    assert_eq!(ann.ask(&mut world, ALLOCATE, &[Attr::udp()]).code, 0, "and there was a new one");
}

#[test]
fn every_way_to_sign_works_and_the_offer_has_to_be_repeated() {
    for (number, algorithm) in
        [None, Some(PasswordAlgorithm::Md5), Some(PasswordAlgorithm::Sha256)].into_iter().enumerate()
    {
        for (sha256, hidden) in [(false, false), (true, false), (true, true)] {
            let mut world = World::new();
            let mut ann = Client::greeted(&mut world, &format!("192.0.2.{}:5", number + 1), "ann");
            (ann.algorithm, ann.sha256, ann.hidden) = (algorithm, sha256, hidden);
            assert_eq!(
                ann.ask(&mut world, ALLOCATE, &[Attr::udp()]).code,
                0,
                "{algorithm:?} {sha256} {hidden}"
            );
            assert_eq!(ann.ask(&mut world, method::REFRESH, &[]).code, 0);
        }
    }
    let mut world = World::new();
    let mut ann = Client::greeted(&mut world, ANN, "ann");
    for forged in [
        vec![raw(veche_stun::attribute::PASSWORD_ALGORITHM, &[0, 1, 0, 0])],
        vec![raw(PASSWORD_ALGORITHMS, &PasswordAlgorithm::OFFERED)],
        vec![
            raw(veche_stun::attribute::PASSWORD_ALGORITHM, &[0, 1, 0, 0]),
            raw(PASSWORD_ALGORITHMS, &[0, 1, 0, 0]),
        ],
        vec![
            raw(veche_stun::attribute::PASSWORD_ALGORITHM, &[0, 3, 0, 0]),
            raw(PASSWORD_ALGORITHMS, &PasswordAlgorithm::OFFERED),
        ],
    ] {
        assert_eq!(ann.ask(&mut world, ALLOCATE, &[&[Attr::udp()], &forged[..]].concat()).code, 400);
    }
}

#[test]
fn names_are_hidden_where_the_server_knows_all_of_them() {
    let mut world = World::new();
    let names = Arc::new(IssuedNames::new(REALM_TEXT));
    let users = || [("ann".to_owned(), "ann's password".to_owned())];
    let ours = || Credentials::new(REALM_TEXT, ["secret".to_owned()], users());
    let issued = issue("secret", "eve", START + 100);
    names.note(&issued.username, START + 100, START);
    for (number, credentials, offer) in [
        (1, Credentials::new(REALM_TEXT, [], users()), "w"),
        (2, ours(), "g"),
        (3, ours().with_issued(names.clone()), "w"),
    ] {
        world.server.set_credentials(Arc::new(credentials), &mut world.out);
        let mut ann = Client::greeted(&mut world, &format!("192.0.2.{number}:5"), "ann");
        let feature = format!("obMatJos2{offer}AAA");
        assert!(ann.nonce.starts_with(feature.as_bytes()), "{number}");
        ann.hidden = true;
        assert_eq!(ann.ask(&mut world, ALLOCATE, &[Attr::udp()]).code, 0, "{number}");
    }
    let mut eve = Client::greeted(&mut world, "192.0.2.9:5", "eve");
    (eve.name, eve.password, eve.hidden) = (issued.username, issued.password, true);
    assert_eq!(eve.ask(&mut world, ALLOCATE, &[Attr::udp()]).code, 0);
    assert_eq!(world.accounts.users()[1].user, "eve");
    world.wait(100);
    let mut late = Client::greeted(&mut world, "192.0.2.10:5", "eve");
    (late.name, late.password, late.hidden) = (eve.name, eve.password, true);
    assert_eq!(late.ask(&mut world, ALLOCATE, &[Attr::udp()]).code, 401);
}

#[test]
fn what_is_no_allocation_or_somebody_elses_gets_437_and_441() {
    let mut world = World::new();
    let mut ann = Client::greeted(&mut world, ANN, "ann");
    for (method, attributes) in [
        (method::REFRESH, vec![]),
        (method::CREATE_PERMISSION, vec![Attr::peer(PEER)]),
        (method::CHANNEL_BIND, vec![Attr::peer(PEER), Attr::channel(0x4000)]),
    ] {
        assert_eq!(ann.ask(&mut world, method, &attributes).code, 437);
        let mut ann = Client::allocated(&mut world, "192.0.2.3:3", "ann");
        let mut bob = Client { name: "bob".into(), password: "bob's password".into(), ..ann.clone() };
        assert_eq!(bob.ask(&mut world, method, &attributes).code, 441);
        assert_eq!(ann.ask(&mut world, method::REFRESH, &[Attr::lifetime(0)]).code, 0);
    }
    let first = ann.ask(&mut world, ALLOCATE, &[Attr::udp()]);
    ann.transaction -= 1;
    let again = ann.ask(&mut world, ALLOCATE, &[Attr::udp()]);
    assert_eq!((again.code, again.relays()), (0, first.relays()), "its answer was lost");
    assert_eq!(ann.ask(&mut world, ALLOCATE, &[Attr::udp()]).code, 437);
}

#[test]
fn peers_that_may_not_be_reached_get_403_and_other_families_443() {
    let mut world = World::with(Quotas::default(), |config| {
        config.peers.own = vec![address("127.0.0.1:40000")];
    });
    let mut ann = Client::allocated(&mut world, ANN, "ann");
    let permit = method::CREATE_PERMISSION;
    let mut ask = |method, attributes: &[Attr]| ann.ask(&mut world, method, attributes).code;
    assert_eq!(ask(permit, &[]), 400);
    assert_eq!(ask(permit, &[Attr::peer("10.0.0.1:5")]), 403);
    assert_eq!(ask(permit, &[Attr::peer(PEER), Attr::peer("169.254.169.254:80")]), 403);
    assert_eq!(ask(permit, &[Attr::peer("[2606:4700::1]:5")]), 443);
    assert_eq!(ask(permit, &[Attr::peer("127.0.0.1:1")]), 0, "a permission has no port");
    let bind = |number, peer| [Attr::channel(number), Attr::peer(peer)];
    assert_eq!(ask(method::CHANNEL_BIND, &bind(0x4000, "127.0.0.1:1")), 403);
    assert_eq!(ask(method::CHANNEL_BIND, &bind(0x4000, "127.0.0.1:40000")), 0);
    assert_eq!(ask(method::CHANNEL_BIND, &bind(0x4001, "[2606:4700::1]:5")), 443);
    assert_eq!(ask(method::CHANNEL_BIND, &bind(0x3fff, PEER)), 400);
    assert_eq!(ask(method::CHANNEL_BIND, &bind(0x7fff, PEER)), 400);
    assert_eq!(ask(method::CHANNEL_BIND, &bind(0x4000, PEER)), 400, "the number is another's");
    assert_eq!(ask(method::CHANNEL_BIND, &bind(0x4001, "127.0.0.1:40000")), 400, "the peer has another");
    assert_eq!(ask(method::CHANNEL_BIND, &[Attr::channel(0x4001)]), 400);
    assert_eq!(ask(method::CHANNEL_BIND, &[Attr::peer(PEER)]), 400);
    // A packet to another port of an own address.
    let data = [Attr::peer("127.0.0.1:1"), raw(attribute::DATA, b"x")];
    let send =
        ann.message(veche_stun::message_type(veche_stun::Class::Indication, method::SEND), &data, false);
    assert_eq!(world.deliver(ann.tuple, &send), []);
    assert_eq!(world.server.refusals().get(Refusal::ForbiddenPeer), 4);
    let relay = ann.relay(&world);
    assert_eq!(world.arrive(relay, "127.0.0.1:1", b"x"), []);
    assert_eq!(world.arrive(relay, "127.0.0.1:40000", b"x").len(), 1);
}

#[test]
fn who_has_enough_gets_486_and_a_full_server_says_508_or_names_another() {
    let limits = |allocations| Limits { allocations, permissions: 2, channels: 1, ..Limits::default() };
    let quotas = Quotas { user: limits(1), address: limits(2), total: limits(3) };
    let mut world = World::with(quotas, |_| {});
    let mut ann = Client::allocated(&mut world, ANN, "ann");
    let mut code = |from: &str, user: &str| {
        let issued = issue("secret", user, START + 60);
        let mut client = Client::greeted(&mut world, from, "ann");
        (client.name, client.password) = (issued.username, issued.password);
        client.ask(&mut world, ALLOCATE, &[Attr::udp()]).code
    };
    assert_eq!(code("192.0.2.2:1", "u1"), 0);
    assert_eq!(code("192.0.2.3:1", "u1"), 486);
    assert_eq!(code("192.0.2.2:2", "u2"), 0);
    assert_eq!(code("192.0.2.2:3", "u3"), 486);
    assert_eq!(code("192.0.2.4:1", "u4"), 508);
    let reasons = [Refusal::UserQuota, Refusal::AddressQuota, Refusal::TotalQuota];
    assert_eq!(reasons.map(|reason| world.server.refusals().get(reason)), [1, 1, 1]);
    let mut permit = |peers: &[&str]| {
        let peers: Vec<_> = peers.iter().map(|peer| Attr::peer(peer)).collect();
        ann.ask(&mut world, method::CREATE_PERMISSION, &peers).code
    };
    assert_eq!(permit(&["198.51.100.1:1", "198.51.100.2:1"]), 0);
    assert_eq!(permit(&["198.51.100.1:2"]), 0);
    assert_eq!(permit(&["198.51.100.3:1"]), 508);
    let mut bind = |number, peer| {
        ann.ask(&mut world, method::CHANNEL_BIND, &[Attr::channel(number), Attr::peer(peer)]).code
    };
    assert_eq!(bind(0x4001, "198.51.100.3:1"), 508, "there is no permission left for it");
    assert_eq!(bind(0x4001, "198.51.100.1:1"), 0);
    assert_eq!(bind(0x4002, "198.51.100.2:1"), 508);
    assert_eq!(world.accounts.total().channels, 1);

    let total = Limits { allocations: 1, ..Limits::default() };
    let others = vec![address("[2001:db8::7]:3478"), address("203.0.113.7:3478")];
    let mut world = World::with(Quotas { total, ..Quotas::default() }, |config| config.alternates = others);
    Client::allocated(&mut world, ANN, "ann");
    let mut bob = Client::greeted(&mut world, "192.0.2.5:1", "bob");
    let reply = bob.ask(&mut world, ALLOCATE, &[Attr::udp()]);
    let expected = [&[0, 1][..], &3478u16.to_be_bytes(), &[203, 0, 113, 7]].concat();
    assert_eq!((reply.code, reply.get(ALTERNATE_SERVER)), (300, Some(&expected[..])));
}

#[test]
fn permissions_are_given_to_all_peers_of_a_request_or_to_none() {
    let user = Limits { permissions: 2, ..Limits::default() };
    let mut world = World::with(Quotas { user, ..Quotas::default() }, |_| {});
    let mut ann = Client::allocated(&mut world, ANN, "ann");
    let peers = |hosts: &[u8]| -> Vec<Attr> {
        hosts.iter().map(|host| Attr::peer(&format!("198.51.100.{host}:1"))).collect()
    };
    assert_eq!(ann.ask(&mut world, method::CREATE_PERMISSION, &peers(&[4, 4, 5, 6])).code, 508);
    assert_eq!(world.accounts.total().permissions, 0);
    let relay = ann.relay(&world);
    assert_eq!(world.arrive(relay, "198.51.100.4:1", b"x"), []);
    assert_eq!(ann.ask(&mut world, method::CREATE_PERMISSION, &peers(&[4, 4, 5])).code, 0);
    assert_eq!(world.accounts.total().permissions, 2);
    assert_eq!(world.arrive(relay, "198.51.100.5:1", b"x").len(), 1);
}

#[test]
fn a_relay_that_cannot_be_opened_leaves_nothing() {
    let mut world = World::new();
    let mut ann = Client::greeted(&mut world, ANN, "ann");
    world.failure = Some(Refusal::NoPort);
    assert_eq!(ann.ask(&mut world, ALLOCATE, &[Attr::udp()]).code, 508);
    assert!(world.accounts.users().is_empty());
    assert_eq!(ann.ask(&mut world, ALLOCATE, &[Attr::udp()]).code, 0);
}
