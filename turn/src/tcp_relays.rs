//! The TCP relays of a worker (RFC 6062): a listener for each, and the connections with peers.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use rand::RngExt;
use rustc_hash::FxHashMap;
use rustix::net::sockopt::set_socket_reuseport;
use socket2::{Domain, Socket, Type};
use veche_turn_core::{AllocationId, ConnectionId, Opened, Outbox, Refusal, RelayId, Server};

use crate::config::RelayAddress;
use crate::connection::IDLE_QUEUE;
use crate::connections::is_shortage;
use crate::poller::{Interest, Poller, Token};
use crate::relays::{ATTEMPTS, Places, Relays};

/// How many peers may wait to be accepted at one relay.
const BACKLOG: i32 = 16;

/// How many peers are accepted at one relay in one turn, so that nobody starves others.
const ACCEPTS_PER_TURN: usize = 16;

/// The TCP relays of one worker, and what they are connected with.
#[derive(Debug)]
pub(crate) struct TcpRelays {
    places: Arc<Places>,
    listeners: FxHashMap<RelayId, TcpListener>,
    peers: FxHashMap<ConnectionId, Peer>,
    /// Not accepting until the next timeout: the process has too many files open.
    paused: Vec<RelayId>,
}

/// A connection with a peer. Until it is bound nothing is read of it: what comes waits in the system's buffers, and then with the peer.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: TcpStream,
    interest: Interest,
    /// The client's connection that is bound to it.
    client: Option<u64>,
    /// What waits for the peer. Who fills it looks at its length.
    pub(crate) queue: VecDeque<u8>,
    /// Whether the peer will send no more.
    pub(crate) has_ended: bool,
    /// Whether it was told that it will be sent no more.
    pub(crate) is_finished: bool,
}

/// What an event at a connection with a peer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// There is work for the client's connection that is bound to it.
    Bound(u64),
    /// The peer has taken the call, or not.
    Called { is_connected: bool },
}

impl TcpRelays {
    pub(crate) fn new(places: Arc<Places>) -> Self {
        Self { places, listeners: FxHashMap::default(), peers: FxHashMap::default(), paused: Vec::new() }
    }

    /// How many relays there are.
    pub(crate) fn len(&self) -> usize {
        self.listeners.len()
    }

    /// How many connections with peers there are.
    pub(crate) fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Opens what an allocation wants. Where one of two cannot be opened the other is enough.
    pub(crate) fn open(
        &mut self,
        id: AllocationId,
        (v4, v6): (bool, bool),
        poller: &Poller,
        relays: &mut Relays,
    ) -> Result<Opened, Refusal> {
        let mut opened = Opened::default();
        let addresses = *self.places.addresses.read();
        for (wanted, place) in [(v4, addresses.v4), (v6, addresses.v6)] {
            let Some(place) = place.filter(|_| wanted) else { continue };
            match self.listen(id, place, poller) {
                Ok(address) if address.is_ipv6() => opened.v6 = Some(address),
                Ok(address) => opened.v4 = Some(address),
                Err(error) => relays.warn(&error),
            }
        }
        let is_open = opened.v4.is_some() || opened.v6.is_some();
        if is_open { Ok(opened) } else { Err(Refusal::NoPort) }
    }

    pub(crate) fn close(&mut self, id: RelayId) {
        self.listeners.remove(&id);
    }

    /// Accepts the peers that wait at a relay.
    pub(crate) fn accept(
        &mut self,
        id: RelayId,
        now: Instant,
        poller: &Poller,
        server: &mut Server,
        out: &mut Outbox,
    ) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get(&id) else { return };
            match listener.accept() {
                Ok((stream, peer)) => {
                    let is_ready = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true));
                    let admitted = is_ready.ok().and_then(|()| server.handle_accepted(now, id, peer, out));
                    if let Some(connection) = admitted {
                        self.peers.insert(connection, Peer::new(stream, Interest::default()));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_shortage(&error) => {
                    // Otherwise the worker would spin on peers it cannot accept.
                    tracing::debug!(%error, "peers cannot be accepted");
                    let _ = poller.remove(listener);
                    return self.paused.push(id);
                }
                // Of the peer that gave up, or was interrupted: the next may do better.
                Err(_) => {}
            }
        }
    }

    /// To be called about once a second.
    pub(crate) fn handle_timeout(&mut self, poller: &Poller) {
        for id in std::mem::take(&mut self.paused) {
            let is_waited_for = |listener| poller.add(listener, Token::Relay(id)).is_ok();
            if self.listeners.get(&id).is_some_and(|listener| !is_waited_for(listener)) {
                self.paused.push(id);
            }
        }
    }

    /// Calls a peer from the address of a relay. An error is the end of it; else [`Self::on_ready`] tells what came of it.
    pub(crate) fn connect(
        &mut self,
        id: ConnectionId,
        relay: RelayId,
        peer: SocketAddr,
        poller: &Poller,
    ) -> io::Result<()> {
        let listener = self.listeners.get(&relay).ok_or(io::ErrorKind::NotFound)?;
        let socket = Socket::new(Domain::for_address(peer), Type::STREAM, None)?;
        if peer.is_ipv6() {
            // Bound to `::` it would want the port of IPv4 as well, which may be another program's.
            socket.set_only_v6(true)?;
        }
        share(&socket)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&listener.local_addr()?.into())?;
        match socket.connect(&peer.into()) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                return Err(error);
            }
            _ => {}
        }
        let mut called = Peer::new(socket.into(), Interest::default());
        called.wait_for(Interest::WRITE, id, poller)?;
        self.peers.insert(id, called);
        Ok(())
    }

    /// Says what it means that there is something at a connection; `None` when it has gone meanwhile.
    pub(crate) fn on_ready(&mut self, id: ConnectionId, poller: &Poller) -> Option<Event> {
        let peer = self.peers.get_mut(&id)?;
        if let Some(client) = peer.client {
            return Some(Event::Bound(client));
        }
        let is_connected = matches!(peer.stream.take_error(), Ok(None))
            && peer.stream.peer_addr().is_ok()
            && peer.wait_for(Interest::default(), id, poller).is_ok();
        if !is_connected {
            self.peers.remove(&id);
        }
        Some(Event::Called { is_connected })
    }

    /// Binds a client's connection, of which something was read already. From the next turn on there are events.
    pub(crate) fn bind(
        &mut self,
        id: ConnectionId,
        client: u64,
        early: Vec<u8>,
        poller: &Poller,
    ) -> io::Result<()> {
        let peer = self.peers.get_mut(&id).ok_or(io::ErrorKind::NotFound)?;
        peer.client = Some(client);
        peer.queue = early.into();
        // There is room to write, so that the first event comes in any case: the client may have ended already.
        peer.wait_for(Interest { read: true, write: true }, id, poller)
    }

    pub(crate) fn peer(&mut self, id: ConnectionId) -> Option<&mut Peer> {
        self.peers.get_mut(&id)
    }

    /// Closes a connection with a peer. Returns the client's that is bound to it.
    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<u64> {
        let mut peer = self.peers.remove(&id)?;
        let _ = peer.write();
        peer.client
    }

    /// Opens a relay; returns its address as peers see it.
    fn listen(&mut self, id: AllocationId, place: RelayAddress, poller: &Poller) -> io::Result<SocketAddr> {
        let id = id.relay(place.bind.is_ipv6());
        let listener = listen(place.bind, &self.places.ports)?;
        let port = listener.local_addr()?.port();
        poller.add(&listener, Token::Relay(id))?;
        self.listeners.insert(id, listener);
        Ok(SocketAddr::new(place.external, port))
    }
}

impl Peer {
    fn new(stream: TcpStream, interest: Interest) -> Self {
        let (queue, client, has_ended, is_finished) = Default::default();
        Self { stream, interest, client, queue, has_ended, is_finished }
    }

    /// What the poller is to wait for from now on.
    pub(crate) fn wait_for(&mut self, wanted: Interest, id: ConnectionId, poller: &Poller) -> io::Result<()> {
        poller.change(&self.stream, Token::Peer(id), &mut self.interest, wanted)
    }

    /// Reads once. `None` when there is nothing now, or never will be.
    pub(crate) fn read<'a>(&mut self, room: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match self.stream.read(room) {
            Ok(0) => self.has_ended = true,
            Ok(read) => return Ok(Some(&room[..read])),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        Ok(None)
    }

    /// Writes what it can.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        while !self.queue.is_empty() {
            let (front, back) = self.queue.as_slices();
            match self.stream.write_vectored(&[IoSlice::new(front), IoSlice::new(back)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.queue.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.queue.shrink_to(IDLE_QUEUE);
        Ok(())
    }

    /// Tells the peer that it will be sent no more, once it was sent all.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if self.is_finished || !self.queue.is_empty() {
            return Ok(());
        }
        self.is_finished = true;
        self.stream.shutdown(Shutdown::Write)
    }
}

/// Listens at a free port, from which peers can be called too. Which one nobody can foretell (RFC 6056).
fn listen(ip: IpAddr, range: &std::ops::RangeInclusive<u16>) -> io::Result<TcpListener> {
    for _ in 0..ATTEMPTS {
        let address = SocketAddr::new(ip, rand::rng().random_range(range.clone()));
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if ip.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        match socket.bind(&address.into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => continue,
            bound => bound?,
        }
        // Only now: with these it would share a port that somebody else has.
        share(&socket)?;
        socket.set_nonblocking(true)?;
        socket.listen(BACKLOG)?;
        return Ok(socket.into());
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no free port was found"))
}

/// Lets other sockets of this process have the same address, if they are shared as well.
fn share(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    Ok(set_socket_reuseport(socket, true)?)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_relay_calls_from_its_own_port_and_shares_that_with_no_other_relay() {
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        let relay = listen(ip, &(20_000..=29_999)).unwrap();
        let address = relay.local_addr().unwrap();
        let error = listen(ip, &(address.port()..=address.port())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        for _ in 0..2 {
            let peer = TcpListener::bind((ip, 0)).unwrap();
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            share(&socket).unwrap();
            socket.bind(&address.into()).unwrap();
            socket.connect(&peer.local_addr().unwrap().into()).unwrap();
            assert_eq!(peer.accept().unwrap().1, address);
        }
        TcpStream::connect(address).unwrap();
        relay.set_nonblocking(false).unwrap();
        relay.accept().unwrap();
    }
}
