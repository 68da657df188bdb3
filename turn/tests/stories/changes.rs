//! What changes while the server runs.

use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use veche_turn::{PeerPolicy, RelayAddress, Turn, User};

use crate::client::{ALLOCATE, Attribute, CREATE_PERMISSION, Client, REFRESH, UDP};
use crate::server::{PASSWORD, SECRET, USER, start, wait_until};

fn allocated(turn: &Turn) -> (TcpStream, Client) {
    let stream = TcpStream::connect(turn.handle.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut client = Client::greeted(&stream);
    assert_eq!(client.ask(&stream, ALLOCATE, &[UDP]).code, 0);
    (stream, client)
}

#[test]
fn relays_reach_whom_the_policy_of_now_lets_them() {
    let closed = PeerPolicy { internet: false, ..PeerPolicy::default() };
    let turn = start(|config| config.peers = closed.clone());
    let (stream, mut client) = allocated(&turn);
    let peer = [Attribute::Peer("8.8.8.8:53".parse().unwrap())];
    let mut code = || client.ask(&stream, CREATE_PERMISSION, &peer).code;
    assert_eq!(code(), 403);
    turn.handle.set_peers(&PeerPolicy::default());
    wait_until("it is reached", || code() == 0);
    turn.handle.set_peers(&closed);
    wait_until("it is reached no more", || code() == 403);
}

#[test]
fn clients_are_to_hide_their_names_where_nobody_else_makes_names() {
    for (secrets, offer) in [(vec![], "obMatJos2wAAA"), (vec![SECRET.to_owned()], "obMatJos2gAAA")] {
        let turn = start(|config| config.secrets = secrets);
        turn.handle.issue("ann", Duration::from_mins(1));
        let (_, client) = allocated(&turn);
        assert!(client.nonce.starts_with(offer.as_bytes()), "{offer}");
    }
}

#[test]
fn relays_are_opened_at_the_addresses_of_now_and_those_that_are_open_stay() {
    let turn = start(|_| {});
    let (stream, mut client) = allocated(&turn);
    let elsewhere = RelayAddress { bind: Ipv4Addr::LOCALHOST.into(), external: [203, 0, 113, 5].into() };
    assert!(!turn.handle.set_relays(None, None), "there must be one");
    assert!(turn.handle.set_relays(Some(elsewhere), None));
    assert_eq!(client.ask(&stream, REFRESH, &[]).code, 0);
    let new = TcpStream::connect(turn.handle.addresses()[0]).unwrap();
    new.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let relayed = Client::greeted(&new).ask(&new, ALLOCATE, &[UDP]).relayed;
    assert_eq!(relayed[0].ip(), elsewhere.external);
    // An allocation of IPv6 (RFC 8656 section 14.11) is refused: there is no such relay any more.
    let v6 = [UDP, Attribute::Bytes(0x0017, &[2, 0, 0, 0])];
    let asked = || {
        let stream = TcpStream::connect(turn.handle.addresses()[0]).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Client::greeted(&stream).ask(&stream, ALLOCATE, &v6).code
    };
    while asked() == 0 {}
    assert_eq!(asked(), 440);
}

#[test]
fn what_was_allocated_with_a_password_that_is_taken_away_ends() {
    let turn = start(|_| {});
    let (stream, mut client) = allocated(&turn);
    let user = |password: &str| User { name: USER.to_owned(), password: password.to_owned() };
    turn.handle.set_credentials(&["another secret".to_owned()], &[user(PASSWORD)]);
    turn.handle.set_credentials(&[SECRET.to_owned()], &[user(PASSWORD)]);
    assert_eq!(client.ask(&stream, REFRESH, &[]).code, 0);
    turn.handle.set_credentials(&[SECRET.to_owned()], &[user("another password")]);
    wait_until("the allocation ends", || turn.handle.total().allocations == 0);
    wait_until("the relay is closed", || turn.handle.metrics().iter().all(|worker| worker.relays == 0));
    assert_eq!(client.ask(&stream, REFRESH, &[]).code, 401);
}
