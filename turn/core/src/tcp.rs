//! TCP allocations (RFC 6062): connections between relays and peers, each of which a connection of the client is bound to.

use std::net::SocketAddr;
use std::time::Instant;

use veche_stun::{Class, Writer, message_type};

use crate::accounts::Resource;
use crate::allocation::{Allocation, RelayId, Transport};
use crate::answer::{Answer, Detail};
use crate::authentication::Authentic;
use crate::config::CONNECTION_PATIENCE;
use crate::five_tuple::FiveTuple;
use crate::outbox::{Action, Destination, Outbox};
use crate::refusals::Refusal;
use crate::request::{Family, Request};
use crate::server::{Server, next_transaction};
use crate::wire::{attribute, method};

/// How many connections with peers an allocation may have, whatever the quotas say.
const MAX_CONNECTIONS: usize = 64;

/// How many bits of a [`ConnectionId`] tell the connections of a worker apart; those above are the worker's number.
const NUMBER_BITS: u32 = 20;

/// Which connection between a relay and a peer; no two that live at the same time have the same, at whatever worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u32);

impl ConnectionId {
    fn new(worker: u16, number: u32) -> Self {
        Self(u32::from(worker) << NUMBER_BITS | number & ((1 << NUMBER_BITS) - 1))
    }

    /// As CONNECTION-ID has it.
    pub fn to_bits(self) -> u32 {
        self.0
    }

    /// From [`ConnectionId::to_bits`].
    pub fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Whose it is.
    fn worker(self) -> u16 {
        (self.0 >> NUMBER_BITS) as u16
    }
}

/// A connection between a relay and a peer.
#[derive(Debug)]
pub(crate) struct PeerConnection {
    pub(crate) id: ConnectionId,
    peer: SocketAddr,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The peer has been called, and the client waits for this answer.
    Called {
        answer: Box<Answer>,
        until: Instant,
    },
    /// It stands, and waits for a connection of the client.
    Free {
        until: Instant,
    },
    Bound,
}

impl PeerConnection {
    /// When it ends, unless what it waits for happens.
    pub(crate) fn until(&self) -> Option<Instant> {
        match self.state {
            State::Called { until, .. } | State::Free { until } => Some(until),
            State::Bound => None,
        }
    }
}

impl Server {
    /// A client wants a connection with a peer (RFC 6062 section 5.2).
    pub(crate) fn connect(
        &mut self,
        now: Instant,
        from: FiveTuple,
        request: &Request<'_>,
        answer: &Answer,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let index = self.index_of(from, now).ok_or(Refusal::AllocationMismatch)?;
        let allocation = &self.allocations[index];
        let (Transport::Tcp, &[peer]) = (allocation.transport, &request.peers[..]) else {
            return Err(Refusal::BadRequest);
        };
        let relay = allocation.relay_to(peer, now).ok_or(Refusal::FamilyMismatch)?;
        if !self.config.peers.allows(peer) {
            return Err(Refusal::ForbiddenPeer);
        }
        let until = now + CONNECTION_PATIENCE;
        let state = State::Called { answer: Box::new(*answer), until };
        let connection = self.open_connection(index, peer, state)?;
        out.act(Action::Connect { connection, relay, peer });
        Ok(())
    }

    /// Takes what became of [`Action::Connect`]: the client is answered.
    pub fn handle_connected(&mut self, now: Instant, id: ConnectionId, is_connected: bool, out: &mut Outbox) {
        let Some((index, at)) = self.find_connection(id) else { return };
        if !is_connected {
            return self.end_connection(index, at, out);
        }
        let allocation = &mut self.allocations[index];
        let State::Called { answer, .. } = &allocation.connections[at].state else { return };
        answer.success(out, |writer| write_id(writer, id));
        let until = now + CONNECTION_PATIENCE;
        allocation.connections[at].state = State::Free { until };
        allocation.due = allocation.due.min(until);
    }

    /// A peer has connected to a relay (RFC 6062 section 5.3). Returns what the connection is called; `None` when it is to be closed
    /// at once.
    pub fn handle_accepted(
        &mut self,
        now: Instant,
        relay: RelayId,
        peer: SocketAddr,
        out: &mut Outbox,
    ) -> Option<ConnectionId> {
        let peer = SocketAddr::new(peer.ip(), peer.port());
        match self.accept(now, relay, peer, out) {
            Ok(id) => Some(id),
            Err(reason) => {
                self.refusals.count(reason);
                None
            }
        }
    }

    fn accept(
        &mut self,
        now: Instant,
        relay: RelayId,
        peer: SocketAddr,
        out: &mut Outbox,
    ) -> Result<ConnectionId, Refusal> {
        let id = relay.allocation();
        let allocation =
            self.allocations.get(id.index()).filter(|one| one.id == id).ok_or(Refusal::NoAllocation)?;
        allocation.relay_to(peer, now).ok_or(Refusal::NoAllocation)?;
        if !allocation.permissions.is_granted(peer.ip(), now) {
            return Err(Refusal::NoPermission);
        }
        if !self.config.peers.allows(peer) {
            return Err(Refusal::ForbiddenPeer);
        }
        let client = allocation.client;
        let until = now + CONNECTION_PATIENCE;
        let connection = self.open_connection(id.index(), peer, State::Free { until })?;
        let transaction = next_transaction(&mut self.indications);
        out.push(Destination::Client(client), |bytes| {
            let kind = message_type(Class::Indication, method::CONNECTION_ATTEMPT);
            let mut writer = Writer::begin(kind, &transaction, bytes);
            writer.xor_address(attribute::XOR_PEER_ADDRESS, peer);
            write_id(&mut writer, connection);
        });
        Ok(connection)
    }

    /// The worker that a ConnectionBind request is for, where that is another one. Only who has a nonce, and so has been here before,
    /// is sent there; the signature is looked at where the allocation is known. Who has an allocation here stays with it.
    pub(crate) fn worker_of(&self, now: Instant, from: FiveTuple, request: &Request<'_>) -> Option<u16> {
        let worker = request.connection?.worker();
        let is_signed = request.integrity.is_some() || request.integrity_sha256.is_some();
        let is_other = worker != self.config.worker && worker < self.config.workers;
        let is_greeted = || {
            let (ip, unix) = (from.remote.ip(), self.unix_time(now));
            request.nonce.is_some_and(|nonce| self.config.nonce_key.is_valid(nonce, ip, unix))
        };
        let may_go = from.is_stream() && !self.has_allocation(from);
        (may_go && is_other && is_signed && is_greeted()).then_some(worker)
    }

    /// A client binds the connection that this came by to one with a peer (RFC 6062 section 5.4).
    pub(crate) fn connection_bind(
        &mut self,
        now: Instant,
        from: FiveTuple,
        request: &Request<'_>,
        authentic: &Authentic,
        answer: &Answer,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let id = request.connection.ok_or(Refusal::BadRequest)?;
        if !from.is_stream() || self.index_of(from, now).is_some() {
            return Err(Refusal::BadRequest);
        }
        let (index, at) = self.find_connection(id).ok_or(Refusal::NoConnection)?;
        let allocation = &mut self.allocations[index];
        if *allocation.name != *authentic.name {
            return Err(Refusal::WrongUser);
        }
        let is_dead = allocation.is_expired(now);
        let connection = &mut allocation.connections[at];
        match connection.state {
            State::Free { until } if now < until && !is_dead => connection.state = State::Bound,
            _ => return Err(Refusal::NoConnection),
        }
        out.act(Action::Bind(id));
        answer.success(out, |_| {});
        Ok(())
    }

    /// Whether more may be taken from a connection that is bound, or from its peer.
    pub fn may_take(&self, now: Instant, id: ConnectionId) -> bool {
        let found = self.find_connection(id);
        found.is_some_and(|(index, _)| self.allocations[index].holder.is_ready(now))
    }

    /// So many bytes were taken from a connection, for the peer or for the client.
    pub fn handle_taken(&mut self, now: Instant, id: ConnectionId, to_peer: usize, to_client: usize) {
        let Some((index, _)) = self.find_connection(id) else { return };
        let Allocation { holder, traffic, .. } = &mut self.allocations[index];
        holder.charge(to_peer + to_client, now);
        traffic.packets_to_peers += u64::from(to_peer > 0);
        traffic.bytes_to_peers += to_peer as u64;
        traffic.packets_to_clients += u64::from(to_client > 0);
        traffic.bytes_to_clients += to_client as u64;
    }

    /// A connection with a peer has ended, or the client's that it was bound to.
    pub fn handle_disconnected(&mut self, id: ConnectionId) {
        if let Some((index, at)) = self.find_connection(id) {
            self.forget_connection(index, at);
        }
    }

    /// Ends what has waited for too long, and what lost its relay.
    pub(crate) fn end_late_connections(&mut self, index: usize, now: Instant, out: &mut Outbox) {
        for at in (0..self.allocations[index].connections.len()).rev() {
            let allocation = &self.allocations[index];
            let connection = &allocation.connections[at];
            let is_late = connection.until().is_some_and(|until| until <= now);
            if is_late || allocation.relay(Family::of(connection.peer.ip()), now).is_none() {
                out.act(Action::Disconnect(connection.id));
                self.end_connection(index, at, out);
            }
        }
    }

    /// The allocation that a connection belongs to, if it lives.
    pub(crate) fn allocation_of_connection(&self, id: ConnectionId, now: Instant) -> Option<&Allocation> {
        let (index, _) = self.find_connection(id)?;
        Some(&self.allocations[index]).filter(|allocation| !allocation.is_expired(now))
    }

    fn open_connection(
        &mut self,
        index: usize,
        peer: SocketAddr,
        state: State,
    ) -> Result<ConnectionId, Refusal> {
        let allocation = &mut self.allocations[index];
        if allocation.connections.iter().any(|connection| connection.peer == peer) {
            return Err(Refusal::ConnectionExists);
        }
        let has_room = allocation.connections.len() < MAX_CONNECTIONS;
        if !has_room || !allocation.holder.take(Resource::Connection) {
            return Err(Refusal::ConnectionQuota);
        }
        // Far fewer live than there are numbers: a process cannot have so many files open.
        let id = loop {
            self.last_connection = self.last_connection.wrapping_add(1);
            // Whoever has the same name could bind a number that can be guessed.
            let number = self.config.hash.hash_one(self.last_connection) as u32;
            let id = ConnectionId::new(self.config.worker, number);
            if !self.allocation_by_connection.contains_key(&id) {
                break id;
            }
        };
        let connection = PeerConnection { id, peer, state };
        allocation.due = connection.until().map_or(allocation.due, |until| allocation.due.min(until));
        allocation.connections.push(connection);
        self.allocation_by_connection.insert(id, allocation.id);
        Ok(id)
    }

    /// Forgets a connection; who waits for it is told that it failed.
    fn end_connection(&mut self, index: usize, at: usize, out: &mut Outbox) {
        let connection = self.forget_connection(index, at);
        if let State::Called { answer, .. } = connection.state {
            self.refusals.count(Refusal::ConnectionFailed);
            answer.refuse(Refusal::ConnectionFailed, Detail::Nothing, out);
        }
    }

    fn forget_connection(&mut self, index: usize, at: usize) -> PeerConnection {
        let allocation = &mut self.allocations[index];
        let connection = allocation.connections.swap_remove(at);
        allocation.holder.give_back(Resource::Connection, 1);
        self.allocation_by_connection.remove(&connection.id);
        connection
    }

    /// Where the allocation of a connection stands, and where in it the connection does.
    fn find_connection(&self, id: ConnectionId) -> Option<(usize, usize)> {
        let index = self.allocation_by_connection.get(&id)?.index();
        let connections = &self.allocations.get(index)?.connections;
        Some((index, connections.iter().position(|connection| connection.id == id)?))
    }
}

fn write_id(writer: &mut Writer<'_>, id: ConnectionId) {
    writer.attribute(attribute::CONNECTION_ID, &id.to_bits().to_be_bytes());
}
