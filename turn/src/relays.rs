//! The relays of a worker: a UDP socket for each.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::RngExt;
use rustc_hash::FxHashMap;
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use socket2::{Domain, Socket, Type};
use veche_sfu::Traffic;
use veche_sfu::datagrams::{Datagrams, Flush, ReceiveBuffer};
use veche_turn_core::{AllocationId, Opened, Outbox, Ports, Refusal, RelayId, ReservationToken, Server};

use crate::config::RelayAddress;
use crate::poller::{Poller, Token};

/// What is asked of the system for each direction of a relay; it takes memory only while packets wait.
const SOCKET_BUFFER: usize = 1 << 20;

/// How many messages are received from a relay at a time: there is one, mostly, and what was joined to it.
const RECEIVE_AT_MOST: usize = 4;

/// How many ports are tried until one is free.
const ATTEMPTS: usize = 64;

/// How long a reserved port is kept (RFC 8656 section 7.2: at least 30 seconds).
const RESERVATION: Duration = Duration::from_secs(30);

/// How many ports are kept at most. Those beyond are not reserved.
const MAX_RESERVATIONS: usize = 1024;

/// Where relays may be; all workers have the same.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) v4: Option<RelayAddress>,
    pub(crate) v6: Option<RelayAddress>,
    pub(crate) ports: RangeInclusive<u16>,
    /// Sockets that wait for their token: it may come to another worker than the one that gave it.
    pub(crate) reserved: Mutex<HashMap<ReservationToken, Reserved>>,
}

/// A port that waits for its token.
#[derive(Debug)]
pub(crate) struct Reserved {
    socket: UdpSocket,
    since: Instant,
}

/// The relays of one worker.
#[derive(Debug)]
pub(crate) struct Relays {
    places: Arc<Places>,
    by_id: FxHashMap<RelayId, Relay>,
}

#[derive(Debug)]
struct Relay {
    socket: Datagrams,
    /// Whether packets may not be cut on their way, as the socket is set now.
    dont_fragment: bool,
}

impl Relays {
    pub(crate) fn new(places: Arc<Places>) -> Self {
        Self { places, by_id: FxHashMap::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Opens what an allocation wants. Where one of two cannot be opened the other is enough.
    pub(crate) fn open(
        &mut self,
        id: AllocationId,
        (v4, v6): (bool, bool),
        ports: Ports,
        poller: &Poller,
    ) -> Result<Opened, Refusal> {
        let places = self.places.clone();
        let mut opened = Opened::default();
        if let Ports::Reserved(token) = ports {
            let reserved = places.reserved.lock().remove(&token).ok_or(Refusal::NoReservation)?;
            let place = if reserved.socket.local_addr().is_ok_and(|local| local.is_ipv6()) {
                places.v6
            } else {
                places.v4
            };
            let place = place.ok_or(Refusal::NoReservation)?;
            let address = self.keep(id, reserved.socket, place, poller)?;
            if address.is_ipv6() {
                opened.v6 = Some(address);
            } else {
                opened.v4 = Some(address);
            }
            return Ok(opened);
        }
        for (wanted, place) in [(v4, places.v4), (v6, places.v6)] {
            let Some(place) = place.filter(|_| wanted) else { continue };
            let Some((socket, next)) = bind(place.bind, &places.ports, ports) else { continue };
            let Ok(address) = self.keep(id, socket, place, poller) else { continue };
            if address.is_ipv6() {
                opened.v6 = Some(address);
            } else {
                opened.v4 = Some(address);
            }
            opened.reservation = opened.reservation.or(next.and_then(|next| places.reserve(next)));
        }
        let is_open = opened.v4.is_some() || opened.v6.is_some();
        if is_open { Ok(opened) } else { Err(Refusal::NoPort) }
    }

    pub(crate) fn close(&mut self, id: RelayId) {
        self.by_id.remove(&id);
    }

    /// Hands over what waits at a relay. Returns whether more may be there.
    pub(crate) fn receive(
        &mut self,
        id: RelayId,
        now: Instant,
        buffer: &mut ReceiveBuffer,
        traffic: &mut Traffic,
        server: &mut Server,
        out: &mut Outbox,
    ) -> bool {
        let Some(relay) = self.by_id.get(&id) else { return false };
        relay.socket.receive_at_most(RECEIVE_AT_MOST, buffer, traffic, |peer, _, data| {
            server.handle_peer(now, id, peer, data, out);
        })
    }

    /// Sends packets to a peer.
    pub(crate) fn send(
        &mut self,
        id: RelayId,
        peer: SocketAddr,
        dont_fragment: bool,
        packets: (&[u8], &[u32]),
        flush: &mut Flush,
        traffic: &mut Traffic,
    ) {
        let Some(relay) = self.by_id.get_mut(&id) else {
            traffic.send_drops += packets.1.len() as u64;
            return;
        };
        if relay.dont_fragment != dont_fragment {
            match set_dont_fragment(relay.socket.socket(), peer.is_ipv6(), dont_fragment) {
                Ok(()) => relay.dont_fragment = dont_fragment,
                Err(error) => tracing::debug!(%error, "a relay cannot be told whether to fragment"),
            }
        }
        relay.socket.send(peer, None, packets, flush, traffic);
    }

    /// To be called about once a second.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.places.reserved.lock().retain(|_, reserved| now.duration_since(reserved.since) < RESERVATION);
        for relay in self.by_id.values_mut() {
            relay.socket.handle_timeout(now);
        }
    }

    /// Puts a socket into use; returns its address as peers see it.
    fn keep(
        &mut self,
        id: AllocationId,
        socket: UdpSocket,
        place: RelayAddress,
        poller: &Poller,
    ) -> Result<SocketAddr, Refusal> {
        let id = id.relay(place.bind.is_ipv6());
        let start = || -> io::Result<(Datagrams, u16)> {
            let port = socket.local_addr()?.port();
            let socket = Datagrams::new(socket)?;
            // The system grants what it likes.
            let _ = socket.ask_for_buffers(SOCKET_BUFFER);
            // Packets may be cut unless the client forbids it (RFC 8656 section 15).
            set_dont_fragment(socket.socket(), place.bind.is_ipv6(), false)?;
            poller.add(socket.socket(), Token::Relay(id))?;
            Ok((socket, port))
        };
        match start() {
            Ok((socket, port)) => {
                self.by_id.insert(id, Relay { socket, dont_fragment: false });
                Ok(SocketAddr::new(place.external, port))
            }
            Err(error) => {
                tracing::warn!(%error, "a relay cannot be opened");
                Err(Refusal::NoPort)
            }
        }
    }
}

impl Places {
    /// Keeps a socket for whoever shows the token.
    fn reserve(&self, socket: UdpSocket) -> Option<ReservationToken> {
        let mut reserved = self.reserved.lock();
        if reserved.len() >= MAX_RESERVATIONS {
            return None;
        }
        let token = ReservationToken(rand::rng().random());
        reserved.insert(token, Reserved { socket, since: Instant::now() });
        Some(token)
    }
}

/// A free port, and the one after it where that is asked for. Which one nobody can foretell (RFC 6056).
fn bind(ip: IpAddr, range: &RangeInclusive<u16>, ports: Ports) -> Option<(UdpSocket, Option<UdpSocket>)> {
    let even = ports != Ports::Any;
    (0..ATTEMPTS).find_map(|_| {
        let port = rand::rng().random_range(range.clone());
        let port = if even { port & !1 } else { port };
        if !range.contains(&port) {
            return None;
        }
        let socket = open(ip, port).ok()?;
        if ports != Ports::EvenAndNext {
            return Some((socket, None));
        }
        let next = port.checked_add(1).filter(|next| range.contains(next))?;
        Some((socket, Some(open(ip, next).ok()?)))
    })
}

fn open(ip: IpAddr, port: u16) -> io::Result<UdpSocket> {
    let address = SocketAddr::new(ip, port);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if ip.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn set_dont_fragment(socket: &UdpSocket, is_v6: bool, dont_fragment: bool) -> rustix::io::Result<()> {
    match (is_v6, dont_fragment) {
        (false, false) => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DONT),
        (false, true) => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DO),
        (true, false) => set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DONT),
        (true, true) => set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DO),
    }
}
