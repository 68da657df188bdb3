//! A client that says whatever it is told to, and a world that opens relays.

#![expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;
use veche_stun::attribute::{MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256, NONCE};
use veche_stun::{Class, Message, message_type};

use crate::accounts::{Accounts, Reservation};
pub(crate) use crate::client::Attr;
use crate::client::{self, Answer, Signature};
use crate::config::ServerConfig;
use crate::credentials::{Credentials, PasswordAlgorithm};
use crate::five_tuple::{FiveTuple, Link};
use crate::nonce::NonceKey;
use crate::outbox::{Action, Destination, Opened, Outbox, Ports, ReservationToken};
use crate::peers::PeerPolicy;
use crate::quotas::Quotas;
use crate::refusals::Refusal;
use crate::wire::{TCP, attribute, method};
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
    /// What was to be done with connections of relays.
    pub(crate) acted: Vec<Action>,
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
            worker: 0,
            workers: 1,
            realm: REALM.to_owned(),
            nonce_key: NonceKey::new(&[3; 32]),
            hash: RandomState::with_seeds(1, 2, 3, 4),
            epoch: now,
            nonce_lifetime: Duration::from_hours(1),
            default_lifetime: Duration::from_mins(10),
            max_lifetime: Duration::from_hours(1),
            peers: PeerPolicy::default(),
            tcp_relays: true,
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
        let (open, failure, out, acted, reserved) = Default::default();
        Self { server, accounts, now, open, failure, out, acted, next_port: 50_000, reserved }
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
            Action::Open { allocation, v4, v6, ports, reservation, .. } => {
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
            other @ (Action::Connect { .. }
            | Action::Bind(_)
            | Action::Move { .. }
            | Action::Disconnect(_)) => self.acted.push(other),
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

impl Attr {
    pub(crate) fn tcp() -> Self {
        Self::Raw(attribute::REQUESTED_TRANSPORT, vec![TCP, 0, 0, 0])
    }

    pub(crate) fn peer(text: &str) -> Self {
        Self::Peer(address(text))
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
    pub(crate) fn ask(&mut self, world: &mut World, method: u16, attributes: &[Attr]) -> Answer {
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
        let signature = signed.then(|| self.signature());
        client::write(kind, &transaction, attributes, signature.as_ref())
    }

    fn signature(&self) -> Signature<'_> {
        let Self { name, password, nonce, algorithm, sha256, hidden, .. } = self;
        let (algorithm, sha256, hidden) = (*algorithm, *sha256, *hidden);
        Signature { name, password, realm: REALM, nonce, algorithm, sha256, hidden }
    }

    pub(crate) fn read(&mut self, packet: &[u8]) -> Answer {
        let answer = Answer::read(packet).unwrap();
        if let Some(nonce) = answer.get(NONCE) {
            self.nonce = nonce.to_vec();
        }
        let kinds = [MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256];
        let is_signed = kinds.map(|kind| answer.get(kind).is_some());
        if is_signed != [false; 2] {
            assert_eq!(is_signed, [!self.sha256, self.sha256]);
            assert!(client::verify(packet, &self.signature().key()), "the server signs");
        }
        let is_binding = Message::parse(packet).unwrap().method() == method::BINDING;
        assert!(
            is_signed != [false; 2] || is_binding || matches!(answer.code, 400 | 401 | 438),
            "{answer:?}"
        );
        answer
    }
}

/// What the stories ask of an answer besides.
impl Answer {
    pub(crate) fn lifetime(&self) -> Option<u32> {
        self.get(attribute::LIFETIME).map(|value| u32::from_be_bytes(value.try_into().unwrap()))
    }

    /// How many bytes it took.
    pub(crate) fn len(&self) -> usize {
        let attributes = self.attributes.iter().map(|(_, value)| 4 + value.len().next_multiple_of(4));
        20 + attributes.sum::<usize>()
    }

    pub(crate) fn relays(&self) -> Vec<SocketAddr> {
        self.addresses(attribute::XOR_RELAYED_ADDRESS).collect()
    }
}
