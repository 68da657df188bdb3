//! Relays of TCP (RFC 6062), by hand.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use veche_stun::Message;
use veche_turn::{Limits, Turn};

use crate::client::{
    ALLOCATE, Attribute, CONNECT, CONNECTION_BIND, CONNECTION_ID, CREATE_PERMISSION, Client, REFRESH, TCP,
    Wire,
};
use crate::server::{start, wait_until};
use crate::streams::{connect, tls_client};

/// A client with a relay, who can be in several connections.
struct Caller {
    control: TcpStream,
    client: Client,
}

impl Caller {
    fn new(turn: &Turn) -> Self {
        let control = connect(turn);
        let mut client = Client::greeted(&control);
        assert_eq!(client.ask(&control, ALLOCATE, &[TCP]).code, 0);
        Self { control, client }
    }

    /// Connects with a peer; returns the connection's number, and the peer's end.
    fn call(&mut self, peer: &TcpListener) -> ([u8; 4], TcpStream) {
        let attributes = [Attribute::Peer(peer.local_addr().unwrap())];
        let answer = self.client.ask(&self.control, CONNECT, &attributes);
        assert_eq!(answer.code, 0);
        (answer.connection, with_patience(peer.accept().unwrap().0))
    }

    /// Binds another connection to it.
    fn bind(&mut self, number: [u8; 4], wire: impl Wire) {
        let answer = self.client.ask(wire, CONNECTION_BIND, &[Attribute::Bytes(CONNECTION_ID, &number)]);
        assert_eq!(answer.code, 0);
    }
}

fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

fn with_patience(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn expect(mut stream: impl Read, text: &[u8]) {
    let mut read = vec![0; text.len()];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(read, text);
}

/// Connections with peers now.
fn peer_connections(turn: &Turn) -> usize {
    turn.handle.metrics().iter().map(|worker| worker.peer_connections).sum()
}

#[test]
fn connections_are_bound_whichever_worker_they_come_to() {
    let turn = start(|config| config.workers = 4);
    let mut caller = Caller::new(&turn);
    let mut held = Vec::new();
    for round in 0..16u8 {
        // One peer each: with the same port there can be one connection only.
        let peers = listener();
        let (number, mut peer) = caller.call(&peers);
        // What the peer says before anybody listens is kept.
        peer.write_all(&[round; 3]).unwrap();
        let mut data = connect(&turn);
        caller.bind(number, &data);
        expect(&data, &[round; 3]);
        data.write_all(&[round; 5]).unwrap();
        expect(&peer, &[round; 5]);
        held.push((peer, data));
    }
    wait_until("all are counted", || peer_connections(&turn) == 16 && turn.handle.total().connections == 16);
    let (mut peer, mut data) = held.pop().unwrap();
    data.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(peer.read(&mut [0; 9]).unwrap(), 0, "the peer is told");
    peer.write_all(b"the other way goes on").unwrap();
    expect(&data, b"the other way goes on");
    drop(peer);
    assert_eq!(data.read(&mut [0; 9]).unwrap(), 0);
    wait_until("it is gone", || peer_connections(&turn) == 15);
    assert_eq!(caller.client.ask(&caller.control, REFRESH, &[Attribute::Bytes(0x000d, &[0; 4])]).code, 0);
    for (mut peer, mut data) in held {
        assert_eq!((peer.read(&mut [0; 9]).unwrap(), data.read(&mut [0; 9]).unwrap()), (0, 0));
    }
    wait_until("nothing is left", || peer_connections(&turn) == 0 && turn.handle.total().connections == 0);
}

#[test]
fn what_comes_at_once_behind_the_request_is_for_the_peer_over_tls_too() {
    let turn = start(|config| config.workers = 4);
    for _ in 0..4 {
        let mut caller = Caller::new(&turn);
        let (number, peer) = caller.call(&listener());
        let mut data = tls_client(connect(&turn));
        let request = caller.client.request(CONNECTION_BIND, &[Attribute::Bytes(CONNECTION_ID, &number)]);
        data.send(&[&request[..], &[0xff; 1500]].concat());
        let answer = data.receive();
        assert_eq!(caller.client.read(&answer).code, 0);
        data.send(b"and more");
        expect(&peer, &[&[0xff; 1500][..], b"and more"].concat());
        (&peer).write_all(b"an answer").unwrap();
        expect(&mut data, b"an answer");
        drop(peer);
        assert_eq!(data.read(&mut [0; 9]).unwrap(), 0, "TLS says goodbye");
    }
}

#[test]
fn a_client_that_ends_tls_behind_its_request_has_a_peer_still() {
    let turn = start(|config| config.workers = 4);
    for _ in 0..4 {
        let mut caller = Caller::new(&turn);
        let (number, mut peer) = caller.call(&listener());
        let mut data = tls_client(connect(&turn));
        while data.conn.is_handshaking() {
            data.conn.complete_io(&mut data.sock).unwrap();
        }
        let request = caller.client.request(CONNECTION_BIND, &[Attribute::Bytes(CONNECTION_ID, &number)]);
        data.conn.writer().write_all(&[&request[..], b"nine more"].concat()).unwrap();
        data.conn.send_close_notify();
        let mut all = Vec::new();
        while data.conn.wants_write() {
            data.conn.write_tls(&mut all).unwrap();
        }
        data.sock.write_all(&all).unwrap();
        let mut read = Vec::new();
        peer.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"nine more", "and the end");
        let answer = data.receive();
        assert_eq!(caller.client.read(&answer).code, 0);
        peer.write_all(b"an answer").unwrap();
        expect(&mut data, b"an answer");
        drop(peer);
        assert_eq!(data.read(&mut [0; 9]).unwrap(), 0);
    }
    wait_until("nothing is left", || peer_connections(&turn) == 0 && turn.handle.total().connections == 0);
}

#[test]
fn a_peer_that_connects_is_announced_to_who_permits_it() {
    let turn = start(|_| {});
    let control = connect(&turn);
    let mut client = Client::greeted(&control);
    let relay = client.ask(&control, ALLOCATE, &[TCP]).relayed[0];
    let mut stranger = with_patience(TcpStream::connect(relay).unwrap());
    assert!(matches!(stranger.read(&mut [0; 9]), Ok(0) | Err(_)), "nobody permits it");
    let permission = [Attribute::Peer("127.0.0.1:1".parse().unwrap())];
    assert_eq!(client.ask(&control, CREATE_PERMISSION, &permission).code, 0);
    let mut peer = with_patience(TcpStream::connect(relay).unwrap());
    let told = (&control).receive();
    let message = Message::parse(&told).unwrap();
    assert_eq!(message.kind(), 0x001c);
    let number =
        message.attributes().map(Result::unwrap).find(|one| one.kind == CONNECTION_ID).unwrap().value;
    let mut data = connect(&turn);
    assert_eq!(client.ask(&data, CONNECTION_BIND, &[Attribute::Bytes(CONNECTION_ID, number)]).code, 0);
    peer.write_all(b"hello").unwrap();
    expect(&data, b"hello");
    data.write_all(b"hello you").unwrap();
    expect(&peer, b"hello you");
    drop(control);
    assert_eq!((peer.read(&mut [0; 9]).unwrap(), data.read(&mut [0; 9]).unwrap()), (0, 0));
}

#[test]
fn a_peer_that_is_not_there_is_answered_at_once() {
    let turn = start(|_| {});
    let mut caller = Caller::new(&turn);
    let nobody = listener().local_addr().unwrap();
    assert_eq!(caller.client.ask(&caller.control, CONNECT, &[Attribute::Peer(nobody)]).code, 447);
    assert_eq!(caller.client.ask(&caller.control, CONNECT, &[Attribute::Peer(nobody)]).code, 447);
}

#[test]
fn who_does_not_read_holds_the_other_up_and_loses_nothing() {
    let turn = start(|config| config.workers = 1);
    let mut caller = Caller::new(&turn);
    let (number, peer) = caller.call(&listener());
    let data = connect(&turn);
    caller.bind(number, &data);
    for (from, to) in [(&data, &peer), (&peer, &data)] {
        let written = fill(from);
        // Buffers of two sockets each and ours, but not without end.
        assert!(written < 64 << 20, "{written}");
        let mut read = 0;
        let mut buffer = vec![0; 1 << 16];
        while read < written {
            let len = (&mut &*to).read(&mut buffer).unwrap();
            let is_right = buffer[..len].iter().zip(read..).all(|(byte, at)| *byte == at as u8);
            assert!(len > 0 && is_right, "after {read}");
            read += len;
        }
        assert_eq!(read, written);
    }
}

/// Writes until there is no more room for a while; returns how much.
fn fill(mut stream: &TcpStream) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut written = 0;
    loop {
        let bytes: Vec<u8> = (written..written + (1 << 16)).map(|at| at as u8).collect();
        match stream.write(&bytes) {
            Ok(len) => written += len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return written,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn more_than_may_be_relayed_in_a_second_waits() {
    let turn = start(|config| {
        config.quotas.user = Limits { bytes_per_second: 200_000, ..Limits::default() };
    });
    let mut caller = Caller::new(&turn);
    let (number, mut peer) = caller.call(&listener());
    let mut data = connect(&turn);
    caller.bind(number, &data);
    let begin = std::time::Instant::now();
    let writer = std::thread::spawn(move || data.write_all(&vec![7; 500_000]).map(|()| data));
    let mut read = vec![0; 500_000];
    peer.read_exact(&mut read).unwrap();
    // A second's worth at once, and the rest at the rate; less what one read may be too much.
    assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
    assert_eq!(read, vec![7; 500_000]);
    writer.join().unwrap().unwrap();
}
