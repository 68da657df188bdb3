//! A client's connection and a peer's that it is bound to, in virtual time.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::Ipv4Addr;

use parking_lot::{Mutex, RwLock};
use veche_stun::Message;
use veche_turn_core::client::Client;
use veche_turn_core::{
    Accounts, Action, Credentials, Network, NonceKey, Outbox, PeerPolicy, Quotas, RelayId, Server,
    ServerConfig,
};

use super::*;
use crate::config::RelayAddress;
use crate::desk::Closing;
use crate::poller::Ready;
use crate::relays::{Places, RelayAddresses, Relays};
use crate::tcp_relays::TcpRelays;

const CONNECTION_ID: u16 = 0x002a;

/// What a worker has.
struct Parts {
    connections: Connections,
    poller: Poller,
    server: Server,
    out: Outbox,
    relays: Relays,
    tcp: TcpRelays,
    closing: Closing,
    now: Instant,
    traffic: Traffic,
}

impl Parts {
    fn new() -> Self {
        let (now, loopback) = (Instant::now(), IpAddr::from(Ipv4Addr::LOCALHOST));
        let hash = RandomState::with_seeds(1, 2, 3, 4);
        let config = ServerConfig {
            worker: 0,
            workers: 1,
            realm: "veche.test".to_owned(),
            nonce_key: NonceKey::new(&[3; 32]),
            hash: hash.clone(),
            epoch: now,
            nonce_lifetime: Duration::from_hours(1),
            default_lifetime: Duration::from_mins(10),
            max_lifetime: Duration::from_hours(1),
            peers: PeerPolicy { allow: vec![Network::new(loopback, 8)], ..PeerPolicy::default() },
            tcp_relays: true,
            v4: true,
            v6: false,
            unproven_bytes_per_second: 0,
            alternates: Vec::new(),
        };
        let users = [("ann".to_owned(), "ann's password".to_owned())];
        let credentials = Arc::new(Credentials::new("veche.test", [], users));
        let accounts = Arc::new(Accounts::new(Quotas::default(), now));
        let place = RelayAddress { bind: loopback, external: loopback };
        let addresses = Arc::new(RwLock::new(RelayAddresses { v4: Some(place), v6: None }));
        let places = Arc::new(Places { addresses, ports: 20_000..=29_999, reserved: Mutex::default() });
        Self {
            connections: Connections::new(Vec::new(), 100, None, hash, Arc::new([])),
            poller: Poller::new().unwrap(),
            server: Server::new(config, credentials, accounts, now, 0),
            out: Outbox::new(),
            relays: Relays::new(places.clone()),
            tcp: TcpRelays::new(places),
            closing: Closing::default(),
            now,
            traffic: Traffic::default(),
        }
    }

    fn desk(&mut self) -> (&mut Connections, Desk<'_>, &mut Traffic) {
        let Self { connections, poller, server, out, relays, tcp, closing, now, traffic } = self;
        let desk = Desk { now: *now, poller, server, out, relays, tcp, closing, turn: None };
        (connections, desk, traffic)
    }

    /// What the server sends when a client sends this; what it wants done is left.
    fn ask(&mut self, from: FiveTuple, packet: &[u8]) -> Vec<u8> {
        self.server.handle_client(self.now, from, packet, &mut self.out);
        self.sent()
    }

    fn sent(&mut self) -> Vec<u8> {
        let sent = self.out.runs().flat_map(|run| run.bytes.to_vec()).collect();
        self.out.clear_packets();
        sent
    }

    /// Gives a client an allocation whose relay of TCP a peer may reach.
    fn allocate(&mut self) -> (RelayId, SocketAddr) {
        let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let from = FiveTuple { remote, link: Link::Stream(u64::MAX) };
        let mut client = Client::new("ann", "ann's password", [5; 12]);
        let challenge = self.ask(from, &client.allocate());
        client.read(&challenge).unwrap();
        self.ask(from, &client.allocate());
        let Some(Action::Open { allocation, .. }) = self.out.take_actions().pop() else { panic!() };
        let Self { tcp, poller, relays, server, out, now, .. } = self;
        let opened = tcp.open(allocation, (true, false), poller, relays).unwrap();
        server.handle_opened(*now, allocation, Ok(opened), out);
        self.sent();
        let permitted = self.ask(from, &client.create_permission(remote));
        assert_eq!(client.read(&permitted).unwrap().code, 0);
        (allocation.relay(false), opened.v4.unwrap())
    }

    /// A client and a peer, whose connections are bound.
    fn pair(&mut self) -> (TcpStream, TcpStream) {
        let (relay, address) = self.allocate();
        let peer = TcpStream::connect(address).unwrap();
        let Self { tcp, poller, server, out, now, .. } = self;
        tcp.accept(relay, *now, poller, server, out);
        let told = self.sent();
        let message = Message::parse(&told).unwrap();
        let id = message.attributes().map(Result::unwrap).find(|one| one.kind == CONNECTION_ID).unwrap();
        let id = ConnectionId::from_bits(u32::from_be_bytes(id.value.try_into().unwrap()));

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, remote) = listener.accept().unwrap();
        let (connections, mut desk, _) = self.desk();
        let now = desk.now;
        let make = |stream, client| Connection::adopted(stream, client, None, VecDeque::new(), now);
        let own = connections.admit(stream, remote, desk.poller, make).unwrap().unwrap();
        connections.bind(own, id, Vec::new(), &mut desk);
        for stream in [&client, &peer] {
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        (client, peer)
    }

    /// Carries what comes, until that has happened which is waited for.
    fn carry_until(&mut self, happened: impl Fn(&Self) -> bool) {
        let mut ready = Ready::new();
        while !happened(self) {
            self.poller.wait(&mut ready, Duration::from_secs(10)).unwrap();
            assert!(ready.tokens().next().is_some(), "nothing came in ten seconds");
            for token in ready.tokens() {
                let (connections, mut desk, traffic) = self.desk();
                let client = match token {
                    Token::Peer(id) => desk.handle_peer_ready(id),
                    Token::Stream(id) => Some(id),
                    other => panic!("{other:?}"),
                };
                connections.carry(client.unwrap(), &mut desk, traffic);
            }
        }
    }

    /// How many connections of clients and of peers are left when so much time has gone by.
    fn wait(&mut self, seconds: u64) -> (usize, usize) {
        self.now += Duration::from_secs(seconds);
        let (connections, mut desk, traffic) = self.desk();
        connections.handle_timeout(&mut desk, traffic);
        (self.connections.len(), self.tcp.peers())
    }
}

#[test]
fn when_one_side_has_ended_the_other_has_half_a_minute_without_a_byte() {
    for client_ends in [true, false] {
        let mut parts = Parts::new();
        let (client, peer) = parts.pair();
        assert_eq!(parts.wait(300), (1, 1), "both stand");
        let (mut ended, mut other) = if client_ends { (client, peer) } else { (peer, client) };
        ended.shutdown(Shutdown::Write).unwrap();
        let is_told = |parts: &Parts| parts.connections.by_id.values().any(|one| one.last_carried.is_some());
        parts.carry_until(is_told);
        assert_eq!(other.read(&mut [0; 9]).unwrap(), 0, "it is told");
        assert_eq!(parts.wait(29), (1, 1));
        other.write_all(b"more").unwrap();
        let before = parts.traffic.bytes_in;
        parts.carry_until(|parts| parts.traffic.bytes_in > before);
        let mut read = [0; 4];
        ended.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"more");
        assert_eq!(parts.wait(29), (1, 1));
        assert_eq!(parts.wait(1), (0, 0), "nothing came for long");
        assert_eq!(ended.read(&mut [0; 9]).unwrap(), 0);
        assert_eq!(parts.server.totals().allocations, 1);
    }
}
