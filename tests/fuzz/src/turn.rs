//! TURN: a client with a nonce and its peer, as records say. What is signed is signed by the target, so that a fuzzer gets
//! behind the authentication; answers must be whole messages, and nothing may be left in the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;
use md5::{Digest, Md5};
use veche_stun::attribute::{NONCE, REALM, USERNAME};
use veche_stun::{IntegrityKey, Message, Writer};
use veche_turn_core::{
    Accounts, Action, ConnectionId, Credentials, Destination, FiveTuple, Link, NonceKey, Opened, Outbox,
    PeerPolicy, Ports, Quotas, Refusal, RelayId, ReservationToken, Server, ServerConfig, Usage,
};

use crate::records::records;

/// What a record is.
pub mod kind {
    /// A packet of the client, as it is.
    pub const PACKET: u8 = 0;
    /// A request that is signed by the target: the type of the message, and its attributes.
    pub const SIGNED: u8 = 1;
    /// Data of the peer for one of the relays.
    pub const PEER: u8 = 2;
    /// So many seconds go by.
    pub const TIME: u8 = 3;
    /// An ICMP error about the peer.
    pub const ICMP: u8 = 4;
}

/// The peer's address.
pub const PEER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 9)), 9999);

const REALM_TEXT: &str = "fuzz";
const USER: &str = "ann";
const PASSWORD: &str = "a password";

pub(crate) fn run(input: &[u8]) {
    for is_stream in [false, true] {
        let mut table = Table::new(is_stream);
        for (kind, bytes) in records(input) {
            table.take(kind, bytes);
        }
        table.end();
    }
}

struct Table {
    server: Server,
    accounts: Arc<Accounts>,
    out: Outbox,
    now: Instant,
    client: FiveTuple,
    nonce: Vec<u8>,
    key: IntegrityKey,
    relays: Vec<RelayId>,
    connections: Vec<ConnectionId>,
}

impl Table {
    fn new(is_stream: bool) -> Self {
        let now = Instant::now();
        let config = ServerConfig {
            worker: 0,
            workers: 2,
            realm: REALM_TEXT.to_owned(),
            nonce_key: NonceKey::new(&[1; 32]),
            hash: RandomState::with_seeds(1, 2, 3, 4),
            epoch: now,
            nonce_lifetime: Duration::from_hours(1),
            default_lifetime: Duration::from_mins(10),
            max_lifetime: Duration::from_hours(1),
            peers: PeerPolicy::default(),
            tcp_relays: true,
            v4: true,
            v6: true,
            unproven_bytes_per_second: 10_000,
            alternates: Vec::new(),
        };
        let users = [(USER.to_owned(), PASSWORD.to_owned())];
        let credentials = Credentials::new(REALM_TEXT, ["a secret".to_owned()], users);
        let accounts = Arc::new(Accounts::new(Quotas::default(), now));
        let server = Server::new(config, Arc::new(credentials), accounts.clone(), now, 1_000_000);
        let link = if is_stream { Link::Stream(1) } else { Link::Udp { socket: 0, local: None } };
        let client = FiveTuple { remote: SocketAddr::from(([192, 0, 2, 1], 1)), link };
        let key = IntegrityKey::sha1(&Md5::digest(format!("{USER}:{REALM_TEXT}:{PASSWORD}")));
        let (out, nonce, relays, connections) = Default::default();
        Self { server, accounts, out, now, client, nonce, key, relays, connections }
    }

    fn take(&mut self, kind: u8, bytes: &[u8]) {
        match kind {
            kind::PACKET => self.server.handle_client(self.now, self.client, bytes, &mut self.out),
            kind::SIGNED => {
                let request = self.signed(bytes);
                self.server.handle_client(self.now, self.client, &request, &mut self.out);
            }
            kind::PEER => {
                let Some(&relay) = self.relays.first() else { return };
                let accepted = self.server.handle_accepted(self.now, relay, PEER, &mut self.out);
                self.connections.extend(accepted);
                self.server.handle_peer(self.now, relay, PEER, bytes, &mut self.out);
            }
            kind::TIME => {
                let seconds = bytes.iter().fold(0, |sum, byte| sum + u64::from(*byte));
                self.now += Duration::from_secs(seconds);
                self.server.handle_timeout(self.now, &mut self.out);
            }
            kind::ICMP => {
                let (Some(&relay), Some(&error)) = (self.relays.first(), bytes.first_chunk()) else { return };
                self.server.handle_icmp(self.now, relay, PEER, error, 1400, &mut self.out);
            }
            _ => {}
        }
        self.settle();
    }

    /// A request with these attributes, and the credential.
    fn signed(&self, bytes: &[u8]) -> Vec<u8> {
        let (head, mut attributes) = bytes.split_at(bytes.len().min(2));
        let kind = head.iter().fold(0, |kind, byte| kind << 8 | u16::from(*byte));
        let mut request = Vec::new();
        let mut writer = Writer::begin(kind, &[0; 12], &mut request);
        while let Some((&[a, b, c, d], rest)) = attributes.split_first_chunk() {
            let len = usize::from(u16::from_be_bytes([c, d])).min(rest.len());
            writer.attribute(u16::from_be_bytes([a, b]), &rest[..len]);
            attributes = &rest[len.next_multiple_of(4).min(rest.len())..];
        }
        writer.attribute(USERNAME, USER.as_bytes());
        writer.attribute(REALM, REALM_TEXT.as_bytes());
        writer.attribute(NONCE, &self.nonce);
        writer.integrity(&self.key);
        request
    }

    fn settle(&mut self) {
        for action in self.out.take_actions() {
            match action {
                Action::Open { allocation, v4, v6, ports, .. } => {
                    let at = |ip: &str| SocketAddr::new(ip.parse().expect("an address"), 50_000);
                    let reservation = (ports == Ports::EvenAndNext).then_some(ReservationToken([5; 8]));
                    let opened = Opened {
                        v4: v4.then(|| at("203.0.113.1")),
                        v6: v6.then(|| at("2001:db8::1")),
                        reservation,
                    };
                    let is_known =
                        !matches!(ports, Ports::Reserved(token) if token != ReservationToken([5; 8]));
                    let opened = if is_known { Ok(opened) } else { Err(Refusal::NoReservation) };
                    if let Ok(opened) = opened {
                        self.relays.extend(opened.v4.map(|_| allocation.relay(false)));
                        self.relays.extend(opened.v6.map(|_| allocation.relay(true)));
                    }
                    self.server.handle_opened(self.now, allocation, opened, &mut self.out);
                }
                Action::Close(relay) => {
                    let at = self.relays.iter().position(|open| *open == relay).expect("it was open");
                    self.relays.remove(at);
                }
                // Every other peer takes the connection.
                Action::Connect { connection, .. } => {
                    self.connections.push(connection);
                    let is_connected = connection.to_bits() % 2 == 0;
                    self.server.handle_connected(self.now, connection, is_connected, &mut self.out);
                    self.connections.retain(|one| is_connected || *one != connection);
                }
                Action::Bind(connection) => assert!(self.connections.contains(&connection), "it stands"),
                Action::Move { worker } => assert_eq!(worker, 1, "there is one other"),
                Action::Disconnect(connection) => {
                    let at = self.connections.iter().position(|one| *one == connection).expect("it stood");
                    self.connections.remove(at);
                }
            }
        }
        for run in self.out.runs() {
            let mut start = 0;
            for &end in run.ends {
                let packet = &run.bytes[start..end as usize];
                start = end as usize;
                if run.to == Destination::Client(self.client) && packet[0] < 4 {
                    let message = Message::parse(packet).expect("an answer is a whole message");
                    let nonce =
                        message.attributes().map(|one| one.expect("whole")).find(|one| one.kind == NONCE);
                    if let Some(nonce) = nonce {
                        self.nonce = nonce.value.to_vec();
                    }
                }
            }
        }
        self.out.clear_packets();
    }

    fn end(mut self) {
        self.server.close(&mut self.out);
        self.settle();
        assert!(self.relays.is_empty() && self.connections.is_empty(), "everything is closed");
        let total = self.accounts.total();
        let nothing = Usage { allocations: 0, permissions: 0, channels: 0, ..total };
        assert_eq!(total, nothing, "nothing is left");
        assert!(self.accounts.users().is_empty(), "nobody is left");
    }
}
