//! A client that says whatever it is told to, and a world that opens relays.

#![expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;
use veche_stun::attribute::*;
use veche_stun::{Class, Message, Writer, address as stun_address, message_type};

use crate::accounts::{Accounts, Quotas, Reservation};
use crate::config::ServerConfig;
use crate::credentials::{Credentials, LongTermKey, PasswordAlgorithm};
use crate::five_tuple::{FiveTuple, Link};
use crate::nonce::NonceKey;
use crate::outbox::{Action, Destination, Opened, Outbox, Ports, ReservationToken};
use crate::peers::PeerPolicy;
use crate::refusals::Refusal;
use crate::wire::{attribute, method};
use crate::{RelayId, Server};

pub(crate) const REALM: &str = "veche.test";
/// Seconds since 1970 at the beginning of each story.
pub(crate) const START: u64 = 1_000_000;

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A server, and sockets that exist only in name.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) now: Instant,
    pub(crate) open: BTreeSet<RelayId>,
    /// What becomes of the next relay, where it is not opened.
    pub(crate) failure: Option<Refusal>,
    pub(crate) out: Outbox,
    next_port: u16,
    reserved: HashMap<ReservationToken, (u16, Option<Reservation>)>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Quotas::default(), |_| {})
    }

    pub(crate) fn with(quotas: Quotas, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let now = Instant::now();
        let mut config = ServerConfig {
            realm: REALM.to_owned(),
            nonce_key: NonceKey::new(&[3; 32]),
            hash: RandomState::with_seeds(1, 2, 3, 4),
            epoch: now,
            nonce_lifetime: Duration::from_hours(1),
            default_lifetime: Duration::from_mins(10),
            max_lifetime: Duration::from_hours(1),
            peers: PeerPolicy::default(),
            v4: true,
            v6: true,
            unproven_bytes_per_second: 0,
            alternates: Vec::new(),
        };
        change(&mut config);
        let users = ["ann", "bob"].map(|name| (name.to_owned(), format!("{name}'s password")));
        let credentials = Credentials::new(REALM, ["secret".to_owned()], users);
        let accounts = Arc::new(Accounts::new(quotas, now));
        let server = Server::new(config, Arc::new(credentials), accounts.clone(), now, START);
        let (open, failure, out, reserved) = Default::default();
        Self { server, accounts, now, open, failure, out, next_port: 50_000, reserved }
    }

    /// Time goes by, and the worker looks after its server.
    pub(crate) fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.server.handle_timeout(self.now, &mut self.out);
        assert_eq!(self.settle(), []);
    }

    /// What the server sends when a client sends this.
    pub(crate) fn deliver(&mut self, from: FiveTuple, packet: &[u8]) -> Vec<(Destination, Vec<u8>)> {
        self.server.handle_client(self.now, from, packet, &mut self.out);
        self.settle()
    }

    /// What the server sends when a peer sends this.
    pub(crate) fn arrive(&mut self, relay: RelayId, peer: &str, data: &[u8]) -> Vec<(Destination, Vec<u8>)> {
        self.server.handle_peer(self.now, relay, address(peer), data, &mut self.out);
        self.settle()
    }

    pub(crate) fn settle(&mut self) -> Vec<(Destination, Vec<u8>)> {
        loop {
            let actions = self.out.take_actions();
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.act(action);
            }
        }
        let mut sent = Vec::new();
        for run in self.out.runs() {
            let mut start = 0;
            for &end in run.ends {
                sent.push((run.to, run.bytes[start..end as usize].to_vec()));
                start = end as usize;
            }
        }
        self.out.clear_packets();
        sent
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Open { allocation, v4, v6, ports, reservation } => {
                let opened = match self.failure.take() {
                    Some(reason) => Err(reason),
                    None => self.bind(v4, v6, ports, reservation),
                };
                if let Ok(opened) = opened {
                    self.open.extend(opened.v4.map(|_| allocation.relay(false)));
                    self.open.extend(opened.v6.map(|_| allocation.relay(true)));
                }
                self.server.handle_opened(self.now, allocation, opened, &mut self.out);
            }
            Action::Close(relay) => assert!(self.open.remove(&relay), "only what is open is closed"),
        }
    }

    fn bind(
        &mut self,
        v4: bool,
        v6: bool,
        ports: Ports,
        counted: Option<Reservation>,
    ) -> Result<Opened, Refusal> {
        let mut reservation = None;
        let port = match ports {
            Ports::Any => self.next_port + 1,
            Ports::Even => self.next_port,
            Ports::EvenAndNext => {
                let token = ReservationToken(u64::from(self.next_port).to_be_bytes());
                self.reserved.insert(token, (self.next_port + 1, counted));
                reservation = Some(token);
                self.next_port
            }
            Ports::Reserved(token) => {
                let (port, _) = self.reserved.remove(&token).ok_or(Refusal::NoReservation)?;
                return Ok(Opened {
                    v4: Some(SocketAddr::from(([203, 0, 113, 1], port))),
                    ..Opened::default()
                });
            }
        };
        self.next_port += 2;
        let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), port);
        Ok(Opened { v4: v4.then(|| at("203.0.113.1")), v6: v6.then(|| at("2001:db8::1")), reservation })
    }
}

/// An attribute of a request.
#[derive(Clone, Debug)]
pub(crate) enum Attr {
    Raw(u16, Vec<u8>),
    Peer(SocketAddr),
}

impl Attr {
    pub(crate) fn peer(text: &str) -> Self {
        Self::Peer(address(text))
    }

    pub(crate) fn udp() -> Self {
        Self::Raw(attribute::REQUESTED_TRANSPORT, vec![17, 0, 0, 0])
    }

    pub(crate) fn channel(number: u16) -> Self {
        Self::Raw(attribute::CHANNEL_NUMBER, [&number.to_be_bytes()[..], &[0, 0]].concat())
    }

    pub(crate) fn lifetime(seconds: u32) -> Self {
        Self::Raw(attribute::LIFETIME, seconds.to_be_bytes().to_vec())
    }

    pub(crate) fn family(kind: u16, family: u8) -> Self {
        Self::Raw(kind, vec![family, 0, 0, 0])
    }
}

/// A client at one 5-tuple.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) tuple: FiveTuple,
    pub(crate) name: String,
    pub(crate) password: String,
    pub(crate) nonce: Vec<u8>,
    pub(crate) algorithm: Option<PasswordAlgorithm>,
    pub(crate) sha256: bool,
    pub(crate) hidden: bool,
    pub(crate) transaction: u64,
}

/// What the server answered.
#[derive(Debug)]
pub(crate) struct Reply {
    /// 0 for a success.
    pub(crate) code: u16,
    pub(crate) attributes: Vec<(u16, Vec<u8>)>,
    transaction: [u8; 12],
    pub(crate) len: usize,
}

impl Client {
    pub(crate) fn new(from: &str, name: &str) -> Self {
        let link = Link::Udp { socket: 0, local: None };
        Self {
            tuple: FiveTuple { remote: address(from), link },
            name: name.to_owned(),
            password: format!("{name}'s password"),
            nonce: Vec::new(),
            algorithm: None,
            sha256: false,
            hidden: false,
            transaction: 0,
        }
    }

    /// Has a nonce already.
    pub(crate) fn greeted(world: &mut World, from: &str, name: &str) -> Self {
        let mut client = Self::new(from, name);
        client.ask(world, method::ALLOCATE, &[Attr::udp()]);
        client
    }

    /// Has an allocation.
    pub(crate) fn allocated(world: &mut World, from: &str, name: &str) -> Self {
        let mut client = Self::greeted(world, from, name);
        assert_eq!(client.ask(world, method::ALLOCATE, &[Attr::udp()]).code, 0);
        client
    }

    /// Its relay of IPv4.
    pub(crate) fn relay(&self, world: &World) -> RelayId {
        world.server.allocation_of(self.tuple, world.now).expect("it has one").id.relay(false)
    }

    /// Sends a request, signed as soon as there is a nonce, and takes the answer, whose signature it checks.
    pub(crate) fn ask(&mut self, world: &mut World, method: u16, attributes: &[Attr]) -> Reply {
        let request = self.request(method, attributes);
        let sent = world.deliver(self.tuple, &request);
        let [(to, answer)] = &sent[..] else { panic!("one answer, not {sent:?}") };
        assert_eq!(*to, Destination::Client(self.tuple));
        self.read(answer)
    }

    pub(crate) fn request(&mut self, method: u16, attributes: &[Attr]) -> Vec<u8> {
        self.transaction += 1;
        self.message(message_type(Class::Request, method), attributes, !self.nonce.is_empty())
    }

    pub(crate) fn message(&self, kind: u16, attributes: &[Attr], signed: bool) -> Vec<u8> {
        let mut transaction = [7; 12];
        transaction[4..].copy_from_slice(&self.transaction.to_be_bytes());
        let mut bytes = Vec::new();
        let mut writer = Writer::begin(kind, &transaction, &mut bytes);
        for attribute in attributes {
            match attribute {
                Attr::Raw(kind, value) => writer.attribute(*kind, value),
                Attr::Peer(peer) => writer.xor_address(attribute::XOR_PEER_ADDRESS, *peer),
            }
        }
        if signed {
            if self.hidden {
                let text = format!("{}:{REALM}", self.name);
                let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
                writer.attribute(USERHASH, hash.as_ref());
            } else {
                writer.attribute(USERNAME, self.name.as_bytes());
            }
            writer.attribute(REALM_ATTRIBUTE, REALM.as_bytes());
            writer.attribute(NONCE, &self.nonce);
            if let Some(algorithm) = self.algorithm {
                let number = if algorithm == PasswordAlgorithm::Md5 { 1 } else { 2 };
                writer.attribute(PASSWORD_ALGORITHM, &[0, number, 0, 0]);
                writer.attribute(PASSWORD_ALGORITHMS, &PasswordAlgorithm::OFFERED);
            }
            writer.integrity(&self.key().ready(self.sha256));
        }
        bytes
    }

    fn key(&self) -> LongTermKey {
        let algorithm = self.algorithm.unwrap_or(PasswordAlgorithm::Md5);
        LongTermKey::new(algorithm, &self.name, REALM, &self.password)
    }

    pub(crate) fn read(&mut self, answer: &[u8]) -> Reply {
        let message = Message::parse(answer).unwrap();
        let mut reply =
            Reply { code: 0, attributes: Vec::new(), transaction: message.transaction(), len: answer.len() };
        for attribute in message.attributes().map(Result::unwrap) {
            reply.attributes.push((attribute.kind, attribute.value.to_vec()));
            match attribute.kind {
                ERROR_CODE => {
                    reply.code = u16::from(attribute.value[2]) * 100 + u16::from(attribute.value[3]);
                }
                NONCE => self.nonce = attribute.value.to_vec(),
                MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256 => {
                    assert_eq!(attribute.kind == MESSAGE_INTEGRITY_SHA256, self.sha256);
                    let key = self.key().ready(self.sha256);
                    assert!(key.verify(message.before(&attribute), attribute.value), "the server signs");
                }
                _ => {}
            }
        }
        assert_eq!(message.class() == Class::Error, reply.code != 0);
        let is_signed = reply.get(MESSAGE_INTEGRITY).or(reply.get(MESSAGE_INTEGRITY_SHA256)).is_some();
        let is_unsigned = matches!(reply.code, 400 | 401 | 438) || message.method() == method::BINDING;
        assert!(is_signed || is_unsigned, "{reply:?}");
        reply
    }
}

const REALM_ATTRIBUTE: u16 = veche_stun::attribute::REALM;

impl Reply {
    pub(crate) fn get(&self, kind: u16) -> Option<&[u8]> {
        self.attributes.iter().find(|(other, _)| *other == kind).map(|(_, value)| &value[..])
    }

    pub(crate) fn address(&self, kind: u16) -> Option<SocketAddr> {
        self.get(kind).map(|value| stun_address::read_xor(value, &self.transaction).unwrap())
    }

    pub(crate) fn lifetime(&self) -> Option<u32> {
        self.get(attribute::LIFETIME).map(|value| u32::from_be_bytes(value.try_into().unwrap()))
    }

    pub(crate) fn relays(&self) -> Vec<SocketAddr> {
        let relays = self.attributes.iter().filter(|(kind, _)| *kind == attribute::XOR_RELAYED_ADDRESS);
        relays.map(|(_, value)| stun_address::read_xor(value, &self.transaction).unwrap()).collect()
    }
}
