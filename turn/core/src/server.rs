//! The server: what comes from clients and from peers, and what time does.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use ahash::RandomState;
use slab::Slab;
use veche_stun::attribute::XOR_MAPPED_ADDRESS;
use veche_stun::{Class, HEADER_LEN, Message, TransactionId, Writer, message_type};

use crate::accounts::{Accounts, Resource, Traffic};
use crate::allocation::{Allocation, AllocationId, RelayId};
use crate::answer::{Answer, Detail};
use crate::authentication::Denied;
use crate::config::ServerConfig;
use crate::credentials::Credentials;
use crate::five_tuple::FiveTuple;
use crate::limiter::Limiter;
use crate::nonce::NONCE_LEN;
use crate::outbox::{Action, Destination, Outbox, Place};
use crate::refusals::{Refusal, Refusals};
use crate::request::Request;
use crate::tcp::ConnectionId;
use crate::wire::{CHANNEL_HEADER_LEN, attribute, channel_data_len, is_channel, method};

/// What an answer without proof is counted as: header, code, nonce, algorithms and fingerprint; the realm comes on top.
const UNPROVEN_ANSWER: usize = HEADER_LEN + 8 + 4 + NONCE_LEN + 12 + 8;

/// The longest signature, which stands in an answer too when only the nonce was wrong.
const SIGNATURE: usize = 4 + 32;

/// The most data of a peer that an indication holds, whose length has 16 bits (RFC 8489 section 5): beside the data there are a
/// peer's address of IPv6 and a header. ChannelData holds all that a datagram does.
const MAX_INDICATION_DATA: usize = u16::MAX as usize / 4 * 4 - 24 - 4;

/// One worker's share of a TURN server: its clients and their allocations.
#[derive(Debug)]
pub struct Server {
    pub(crate) config: ServerConfig,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) allocations: Slab<Allocation>,
    pub(crate) refusals: Refusals,
    pub(crate) totals: Totals,
    index_by_client: HashMap<FiveTuple, usize, RandomState>,
    /// Whose the connections with peers are.
    pub(crate) allocation_by_connection: HashMap<ConnectionId, AllocationId, RandomState>,
    /// How many there were, which makes their numbers.
    pub(crate) last_connection: u32,
    limiter: Limiter,
    /// The last generation of an [`AllocationId`].
    generation: u32,
    /// How many indications were sent, which makes their transactions.
    pub(crate) indications: u64,
    /// A time of this machine, and the same in seconds since 1970.
    wall_clock: (Instant, u64),
}

/// What one worker has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Allocations now.
    pub allocations: u64,
    /// Allocations made since the start.
    pub allocations_made: u64,
    /// Binding requests answered.
    pub bindings: u64,
}

impl Server {
    /// Without clients. It is `unix` seconds since 1970 `now`.
    pub fn new(
        config: ServerConfig,
        credentials: Arc<Credentials>,
        accounts: Arc<Accounts>,
        now: Instant,
        unix: u64,
    ) -> Self {
        let limiter = Limiter::new(config.unproven_bytes_per_second, config.hash.clone(), config.epoch);
        Self {
            index_by_client: HashMap::with_hasher(config.hash.clone()),
            allocation_by_connection: HashMap::with_hasher(config.hash.clone()),
            last_connection: 0,
            config,
            credentials,
            accounts,
            allocations: Slab::new(),
            refusals: Refusals::default(),
            totals: Totals::default(),
            limiter,
            generation: 0,
            indications: 0,
            wall_clock: (now, unix),
        }
    }

    /// What was refused, by reason.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// What was done.
    pub fn totals(&self) -> Totals {
        Totals { allocations: self.allocations.len() as u64, ..self.totals }
    }

    /// Others may use the server from now on. Allocations end that were made with a name and password which are nobody's now; of
    /// those that are only out of date, they stay.
    pub fn set_credentials(&mut self, credentials: Arc<Credentials>, out: &mut Outbox) {
        self.credentials = credentials;
        let realm = &self.config.realm;
        let is_void = |one: &Allocation| !self.credentials.still_has(&one.name, &one.key, realm);
        let void = self.allocations.iter().filter(|(_, one)| is_void(one));
        let void: Vec<usize> = void.map(|(index, _)| index).collect();
        for index in void {
            self.remove(index, out);
        }
    }

    /// Relays may reach others from now on, for permissions and channels that are asked for from now on.
    pub fn set_peers(&mut self, peers: crate::peers::PeerPolicy) {
        self.config.peers = peers;
    }

    /// Whether there are relays of IPv4 and of IPv6, for allocations that are asked for from now on.
    pub fn set_families(&mut self, v4: bool, v6: bool) {
        (self.config.v4, self.config.v6) = (v4, v6);
    }

    /// Tells the time of the wall clock, which may be set: to be called now and then.
    pub fn set_unix_time(&mut self, now: Instant, unix: u64) {
        self.wall_clock = (now, unix);
    }

    /// Takes what a client sent: a datagram, or a whole frame of a stream.
    pub fn handle_client(&mut self, now: Instant, from: FiveTuple, packet: &[u8], out: &mut Outbox) {
        let handled = match packet.first() {
            Some(&byte) if is_channel(byte) => self.channel_data(now, from, packet, out),
            Some(0..4) => self.message(now, from, packet, out),
            _ => Err(Refusal::NotTurn),
        };
        if let Err(reason) = handled {
            self.refusals.count(reason);
        }
    }

    /// Takes what came to a relay.
    pub fn handle_peer(
        &mut self,
        now: Instant,
        relay: RelayId,
        peer: SocketAddr,
        data: &[u8],
        out: &mut Outbox,
    ) {
        // Flow labels and zones of IPv6 make no other peer.
        let peer = SocketAddr::new(peer.ip(), peer.port());
        if let Err(reason) = self.peer_data(now, relay, peer, data, out) {
            self.refusals.count(reason);
        }
    }

    /// Takes an ICMP error about a packet that a relay sent: the client is told (RFC 8656 section 11.5), where it is one that tells
    /// something about the peer. `data` is the MTU of the next hop, where the error is about that.
    pub fn handle_icmp(
        &mut self,
        now: Instant,
        relay: RelayId,
        peer: SocketAddr,
        [icmp_type, code]: [u8; 2],
        data: u32,
        out: &mut Outbox,
    ) {
        let id = relay.allocation();
        let Some(allocation) = self.allocations.get_mut(id.index()).filter(|one| one.id == id) else {
            return;
        };
        let peer = SocketAddr::new(peer.ip(), peer.port());
        if !allocation.permissions.is_granted(peer.ip(), now) {
            return self.refusals.count(Refusal::NoPermission);
        }
        let data = match (relay.is_v6(), icmp_type, code) {
            (false, 3, 4) | (true, 2, _) => data,
            (false, 3 | 11, _) | (true, 1..=3, _) => 0,
            _ => return,
        };
        // RFC 8656 section 18.13: 16 bits of nothing, 7 of type, 9 of code, 32 of data.
        let kind = (u16::from(icmp_type & 0x7f) << 9 | u16::from(code)).to_be_bytes();
        let client = allocation.client;
        let transaction = next_transaction(&mut self.indications);
        out.push_at(Destination::Client(client), &mut allocation.waiting, |bytes| {
            let kind_of_message = message_type(Class::Indication, method::DATA);
            let mut writer = Writer::begin(kind_of_message, &transaction, bytes);
            writer.xor_address(attribute::XOR_PEER_ADDRESS, peer);
            writer.attribute_of(attribute::ICMP, [&[0, 0], &kind, &data.to_be_bytes()]);
        });
    }

    /// A connection has ended: its allocation goes too (RFC 8656 section 7.2).
    pub fn handle_disconnect(&mut self, client: FiveTuple, out: &mut Outbox) {
        self.remove_of(client, out);
    }

    /// To be called about once a second: forgets what has ended, and tells the accounts what was relayed.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        let mut index = 0;
        let mut left = self.allocations.len();
        while left > 0 {
            if self.allocations.contains(index) {
                left -= 1;
                self.look_after(index, now, out);
            }
            index += 1;
        }
        self.accounts.sweep(now);
    }

    /// Ends all allocations, for the server stops.
    pub fn close(&mut self, out: &mut Outbox) {
        let all: Vec<usize> = self.allocations.iter().map(|(index, _)| index).collect();
        for index in all {
            self.remove(index, out);
        }
    }

    /// Whether this is an address of the server's own media.
    pub fn is_own(&self, peer: SocketAddr) -> bool {
        self.config.peers.own.contains(&peer)
    }

    /// The address of a relay as its peers see it, while its allocation is there.
    pub fn relayed(&self, relay: RelayId) -> Option<SocketAddr> {
        let id = relay.allocation();
        let allocation = self.allocations.get(id.index()).filter(|one| one.id == id)?;
        Some(allocation.relays[usize::from(relay.is_v6())]?.address)
    }

    /// Whether a client has an allocation.
    pub fn has_allocation(&self, client: FiveTuple) -> bool {
        self.index_by_client.contains_key(&client)
    }

    fn channel_data(
        &mut self,
        now: Instant,
        from: FiveTuple,
        packet: &[u8],
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let (header, rest) = packet.split_first_chunk::<CHANNEL_HEADER_LEN>().ok_or(Refusal::Malformed)?;
        let data = rest.get(..channel_data_len(*header)).ok_or(Refusal::Malformed)?;
        let number = u16::from_be_bytes([header[0], header[1]]);
        let index = *self.index_by_client.get(&from).ok_or(Refusal::NoAllocation)?;
        let allocation = &mut self.allocations[index];
        let channel = allocation.channels.index(number, now).ok_or(Refusal::NoChannel)?;
        let peer = allocation.channels.peer(channel);
        let relay = allocation.relay_to(peer, now).ok_or(Refusal::NoAllocation)?;
        if !allocation.holder.meter(data.len(), now) {
            return Err(Refusal::Bandwidth);
        }
        allocation.traffic.packets_to_peers += 1;
        allocation.traffic.bytes_to_peers += data.len() as u64;
        let to = Destination::Peer { relay, peer, dont_fragment: false };
        out.push_at(to, allocation.channels.waiting(channel), |bytes| bytes.extend_from_slice(data));
        Ok(())
    }

    fn peer_data(
        &mut self,
        now: Instant,
        relay: RelayId,
        peer: SocketAddr,
        data: &[u8],
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let id = relay.allocation();
        let allocation =
            self.allocations.get_mut(id.index()).filter(|one| one.id == id).ok_or(Refusal::NoAllocation)?;
        allocation.relay_to(peer, now).ok_or(Refusal::NoAllocation)?;
        if !allocation.permissions.is_granted(peer.ip(), now) {
            return Err(Refusal::NoPermission);
        }
        let number = allocation.channels.number(peer, now);
        if number.is_none() && !self.config.peers.allows(peer) {
            return Err(Refusal::ForbiddenPeer);
        }
        if number.is_none() && data.len() > MAX_INDICATION_DATA {
            return Err(Refusal::TooLarge);
        }
        if !allocation.holder.meter(data.len(), now) {
            return Err(Refusal::Bandwidth);
        }
        allocation.traffic.packets_to_clients += 1;
        allocation.traffic.bytes_to_clients += data.len() as u64;
        let client = allocation.client;
        let Some(number) = number else {
            let transaction = next_transaction(&mut self.indications);
            out.push_at(Destination::Client(client), &mut allocation.waiting, |bytes| {
                let kind = message_type(Class::Indication, method::DATA);
                let mut writer = Writer::begin(kind, &transaction, bytes);
                writer.xor_address(attribute::XOR_PEER_ADDRESS, peer);
                writer.attribute(attribute::DATA, data);
            });
            return Ok(());
        };
        out.push_at(Destination::Client(client), &mut allocation.waiting, |bytes| {
            bytes.extend_from_slice(&number.to_be_bytes());
            bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
            bytes.extend_from_slice(data);
            if client.is_stream() {
                let padding = data.len().next_multiple_of(4) - data.len();
                bytes.extend_from_slice(&[0; 3][..padding]);
            }
        });
        Ok(())
    }

    fn message(
        &mut self,
        now: Instant,
        from: FiveTuple,
        packet: &[u8],
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let message = Message::parse(packet).map_err(|_| Refusal::Malformed)?;
        let request = Request::parse(&message).map_err(|_| Refusal::Malformed)?;
        let handled = self.dispatch(now, from, &message, &request, out);
        // In a stream what comes to the client later has to stand behind the answer.
        if from.is_stream()
            && let Some(&index) = self.index_by_client.get(&from)
        {
            self.allocations[index].waiting = Place::default();
        }
        handled
    }

    fn dispatch(
        &mut self,
        now: Instant,
        from: FiveTuple,
        message: &Message<'_>,
        request: &Request<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        match (message.class(), message.method()) {
            (Class::Request, method::BINDING) => self.binding(now, from, request, out),
            (
                Class::Request,
                method::ALLOCATE
                | method::REFRESH
                | method::CREATE_PERMISSION
                | method::CHANNEL_BIND
                | method::CONNECT,
            ) => self.request(now, from, request, out),
            (Class::Request, method::CONNECTION_BIND) => match self.worker_of(now, from, request) {
                Some(worker) => {
                    out.act(Action::Move { worker });
                    Ok(())
                }
                None => self.request(now, from, request, out),
            },
            (Class::Indication, method::SEND) if request.unknown.is_empty() && !request.is_bad => {
                self.send(now, from, request, out)
            }
            (Class::Indication, method::SEND) => Err(Refusal::BadRequest),
            // It keeps a NAT's binding alive (RFC 8489 section 4).
            (Class::Indication, method::BINDING) => Ok(()),
            _ => Err(Refusal::UnknownMethod),
        }
    }

    fn binding(
        &mut self,
        now: Instant,
        from: FiveTuple,
        request: &Request<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        self.take_unproven(now, from, UNPROVEN_ANSWER)?;
        let answer = Answer::new(from, request, None);
        if !request.unknown.is_empty() {
            answer.refuse(Refusal::UnknownAttribute, Detail::Unknown(&request.unknown), out);
            return Err(Refusal::UnknownAttribute);
        }
        self.totals.bindings += 1;
        answer.success(out, |writer| writer.xor_address(XOR_MAPPED_ADDRESS, from.remote));
        Ok(())
    }

    /// A request that has to be somebody's.
    fn request(
        &mut self,
        now: Instant,
        from: FiveTuple,
        request: &Request<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let authentic = match self.authenticate(now, from, request) {
            Ok(authentic) => authentic,
            Err(denied) => return Err(self.deny(now, from, request, &denied, out)),
        };
        let answer = Answer::new(from, request, Some(authentic.signer));
        if !request.unknown.is_empty() {
            answer.refuse(Refusal::UnknownAttribute, Detail::Unknown(&request.unknown), out);
            return Err(Refusal::UnknownAttribute);
        }
        let own = self.allocation_of(from, now);
        let is_other = own.is_some_and(|own| *own.name != *authentic.name);
        let done = match request.method {
            _ if request.is_bad => Err(Refusal::BadRequest),
            method::ALLOCATE => self.allocate(now, from, request, authentic, out),
            _ if is_other => Err(Refusal::WrongUser),
            method::REFRESH => self.refresh(now, from, request, &answer, out),
            method::CREATE_PERMISSION => self.create_permission(now, from, request, &answer, out),
            method::CHANNEL_BIND => self.channel_bind(now, from, request, &answer, out),
            method::CONNECT => self.connect(now, from, request, &answer, out),
            _ => self.connection_bind(now, from, request, &authentic, &answer, out),
        };
        done.inspect_err(|reason| {
            let alternate = self.alternate(from).filter(|_| *reason == Refusal::TryAlternate);
            let detail = alternate.map_or(Detail::Nothing, Detail::Alternate);
            answer.refuse(*reason, detail, out);
        })
    }

    /// Answers who has not proved itself, but not too often.
    fn deny(
        &mut self,
        now: Instant,
        from: FiveTuple,
        request: &Request<'_>,
        denied: &Denied,
        out: &mut Outbox,
    ) -> Refusal {
        // Who knows a password may have a request signed by it come from any address: only one of an allocation has been there.
        let is_proven = denied.signer.is_some() && self.allocation_of(from, now).is_some();
        let signature = if denied.signer.is_some() { SIGNATURE } else { 0 };
        let cost = UNPROVEN_ANSWER + self.config.realm.len() + signature;
        if !is_proven && let Err(reason) = self.take_unproven(now, from, cost) {
            return reason;
        }
        let answer = Answer::new(from, request, denied.signer);
        let expires = self.unix_time(now) + self.config.nonce_lifetime.as_secs();
        let hides_names = self.credentials.knows_all_names(self.unix_time(now));
        let nonce = self.config.nonce_key.make(from.remote.ip(), expires, hides_names);
        let detail = match denied.reason {
            Refusal::BadRequest => Detail::Nothing,
            _ => Detail::Challenge { realm: &self.config.realm, nonce: &nonce },
        };
        answer.refuse(denied.reason, detail, out);
        denied.reason
    }

    /// Whether an address that may be forged may be answered now.
    fn take_unproven(&mut self, now: Instant, from: FiveTuple, bytes: usize) -> Result<(), Refusal> {
        let may = from.is_stream() || self.limiter.take(from.remote.ip(), bytes, now);
        if may { Ok(()) } else { Err(Refusal::AnswersLimited) }
    }

    /// Seconds since 1970.
    pub(crate) fn unix_time(&self, now: Instant) -> u64 {
        let (then, unix) = self.wall_clock;
        unix + now.saturating_duration_since(then).as_secs()
    }

    /// The client's allocation, if it lives.
    pub(crate) fn allocation_of(&self, client: FiveTuple, now: Instant) -> Option<&Allocation> {
        self.index_of(client, now).map(|index| &self.allocations[index])
    }

    pub(crate) fn index_of(&self, client: FiveTuple, now: Instant) -> Option<usize> {
        let index = *self.index_by_client.get(&client)?;
        (!self.allocations[index].is_expired(now)).then_some(index)
    }

    pub(crate) fn insert(&mut self, make: impl FnOnce(AllocationId) -> Allocation) -> AllocationId {
        self.generation = self.generation.wrapping_add(1);
        let entry = self.allocations.vacant_entry();
        let (index, id) = (entry.key(), AllocationId::new(entry.key(), self.generation));
        let allocation = make(id);
        self.index_by_client.insert(allocation.client, index);
        entry.insert(allocation);
        id
    }

    /// Removes what is left of a client's allocation.
    pub(crate) fn remove_of(&mut self, client: FiveTuple, out: &mut Outbox) {
        if let Some(&index) = self.index_by_client.get(&client) {
            self.remove(index, out);
        }
    }

    pub(crate) fn remove(&mut self, index: usize, out: &mut Outbox) {
        let mut allocation = self.allocations.remove(index);
        self.index_by_client.remove(&allocation.client);
        for (relay, is_v6) in allocation.relays.iter().zip([false, true]) {
            if relay.is_some() {
                out.act(Action::Close(allocation.id.relay(is_v6)));
            }
        }
        allocation.holder.tell(&allocation.traffic);
        let connections = std::mem::take(&mut allocation.connections);
        for connection in &connections {
            self.allocation_by_connection.remove(&connection.id);
            out.act(Action::Disconnect(connection.id));
        }
        allocation.holder.give_back(Resource::Connection, connections.len());
        let (permissions, channels) = (allocation.permissions.len(), allocation.channels.len());
        self.accounts.close(allocation.holder, permissions, channels);
    }

    /// Tells what an allocation relayed, and forgets what of it has ended.
    pub(crate) fn look_after(&mut self, index: usize, now: Instant, out: &mut Outbox) {
        let allocation = &mut self.allocations[index];
        let traffic = std::mem::take(&mut allocation.traffic);
        if traffic != Traffic::default() {
            allocation.holder.tell(&traffic);
        }
        if now < allocation.due {
            return;
        }
        if allocation.is_expired(now) {
            return self.remove(index, out);
        }
        for (relay, is_v6) in allocation.relays.iter_mut().zip([false, true]) {
            if relay.take_if(|relay| relay.expires <= now).is_some() {
                out.act(Action::Close(allocation.id.relay(is_v6)));
            }
        }
        let ended = allocation.permissions.purge(now);
        allocation.holder.give_back(Resource::Permission, ended);
        let ended = allocation.channels.purge(now);
        allocation.holder.give_back(Resource::Channel, ended);
        self.end_late_connections(index, now, out);
        let allocation = &mut self.allocations[index];
        allocation.due = allocation.next_due().unwrap_or(now);
    }
}

/// Nobody answers indications, so that their transactions need only differ.
pub(crate) fn next_transaction(count: &mut u64) -> TransactionId {
    *count = count.wrapping_add(1);
    let mut transaction = TransactionId::default();
    transaction[4..].copy_from_slice(&count.to_be_bytes());
    transaction
}
