//! The relays of a worker: a UDP socket for each.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt::Ipv6DontFrag};
use parking_lot::{Mutex, RwLock};
use rand::RngExt;
use rustc_hash::FxHashMap;
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use socket2::{Domain, Socket, Type};
use veche_sfu::Traffic;
use veche_sfu::datagrams::{Datagrams, Flush, ReceiveBuffer};
use veche_turn_core::{
    AllocationId, Opened, Outbox, Ports, Refusal, RelayId, Reservation, ReservationToken, Server,
};

use crate::config::RelayAddress;
use crate::errors::{IcmpError, keep_errors, take_errors};
use crate::poller::{Poller, Token};

/// What is asked of the system for each direction of a relay; it takes memory only while packets wait.
const SOCKET_BUFFER: usize = 1 << 20;

/// How many messages are received from a relay at a time: there is one, mostly, and what was joined to it.
const RECEIVE_AT_MOST: usize = 4;

/// How many ports are tried until one is free.
pub(crate) const ATTEMPTS: usize = 64;

/// How long a reserved port is kept (RFC 8656 section 7.2: at least 30 seconds).
const RESERVATION: Duration = Duration::from_secs(30);

/// How many ports are kept at most. Who wants one beyond is refused.
const MAX_RESERVATIONS: usize = 1024;

/// How often the log is told that relays cannot be opened.
const WARN_EVERY: Duration = Duration::from_mins(1);

/// Where relays may be; all workers have the same.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) addresses: Arc<RwLock<RelayAddresses>>,
    pub(crate) ports: RangeInclusive<u16>,
    /// Sockets that wait for their token: it may come to another worker than the one that gave it.
    pub(crate) reserved: Mutex<HashMap<ReservationToken, Reserved>>,
}

/// Where relays of each family are from now on; `None` where there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RelayAddresses {
    pub(crate) v4: Option<RelayAddress>,
    pub(crate) v6: Option<RelayAddress>,
}

/// A port that waits for its token.
#[derive(Debug)]
pub(crate) struct Reserved {
    socket: UdpSocket,
    since: Instant,
    /// What it counts as; given back when the port is taken, or not reserved any more.
    _counted: Option<Reservation>,
}

/// The relays of one worker.
#[derive(Debug)]
pub(crate) struct Relays {
    places: Arc<Places>,
    by_id: FxHashMap<RelayId, Relay>,
    /// Until when the log is told of no failure.
    silent_until: Option<Instant>,
}

#[derive(Debug)]
struct Relay {
    socket: Datagrams,
    /// Whether packets may not be cut on their way, as the socket is set now.
    dont_fragment: bool,
}

impl Relays {
    pub(crate) fn new(places: Arc<Places>) -> Self {
        Self { places, by_id: FxHashMap::default(), silent_until: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Opens what an allocation wants. Where one of two cannot be opened the other is enough.
    pub(crate) fn open(
        &mut self,
        id: AllocationId,
        (v4, v6): (bool, bool),
        (ports, mut counted): (Ports, Option<Reservation>),
        poller: &Poller,
    ) -> Result<Opened, Refusal> {
        let places = self.places.clone();
        let mut opened = Opened::default();
        if let Ports::Reserved(token) = ports {
            let reserved = places.reserved.lock().remove(&token).ok_or(Refusal::NoReservation)?;
            let addresses = *places.addresses.read();
            let is_v6 = reserved.socket.local_addr().is_ok_and(|local| local.is_ipv6());
            let place = if is_v6 { addresses.v6 } else { addresses.v4 };
            let place = place.ok_or(Refusal::NoReservation)?;
            let address = self.keep(id, reserved.socket, place, poller)?;
            if address.is_ipv6() {
                opened.v6 = Some(address);
            } else {
                opened.v4 = Some(address);
            }
            return Ok(opened);
        }
        let addresses = *places.addresses.read();
        for (wanted, place) in [(v4, addresses.v4), (v6, addresses.v6)] {
            let Some(place) = place.filter(|_| wanted) else { continue };
            let bound = bind(place.bind, &places.ports, ports).map_err(|error| self.warn(&error));
            let Ok((socket, next)) = bound else { continue };
            // The next port or none (RFC 8656 section 7.2), also where too many are reserved.
            let token = next.map(|next| places.reserve(next, counted.take())).transpose()?;
            let Ok(address) = self.keep(id, socket, place, poller) else {
                if let Some(token) = token {
                    places.reserved.lock().remove(&token);
                }
                continue;
            };
            if address.is_ipv6() {
                opened.v6 = Some(address);
            } else {
                opened.v4 = Some(address);
            }
            opened.reservation = opened.reservation.or(token);
        }
        let is_open = opened.v4.is_some() || opened.v6.is_some();
        if is_open { Ok(opened) } else { Err(Refusal::NoPort) }
    }

    pub(crate) fn close(&mut self, id: RelayId) {
        self.by_id.remove(&id);
    }

    /// Hands over what waits at a relay. Returns whether more may be there; `None` when it is none of these.
    pub(crate) fn receive(
        &mut self,
        id: RelayId,
        now: Instant,
        buffer: &mut ReceiveBuffer,
        traffic: &mut Traffic,
        server: &mut Server,
        out: &mut Outbox,
    ) -> Option<bool> {
        let relay = self.by_id.get(&id)?;
        let is_full = relay.socket.receive_at_most(RECEIVE_AT_MOST, buffer, traffic, |peer, _, data| {
            server.handle_peer(now, id, peer, data, out);
        });
        Some(is_full)
    }

    /// Hands over what networks say of packets that a relay has sent.
    pub(crate) fn take_errors(&self, id: RelayId, handle: impl FnMut(IcmpError)) {
        if let Some(relay) = self.by_id.get(&id) {
            take_errors(relay.socket.socket(), handle);
        }
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
            let socket = datagrams(socket)?;
            // The system grants what it likes.
            let _ = socket.ask_for_buffers(SOCKET_BUFFER);
            keep_errors(socket.socket(), place.bind.is_ipv6())?;
            poller.add(socket.socket(), Token::Relay(id))?;
            Ok((socket, port))
        };
        match start() {
            Ok((socket, port)) => {
                self.by_id.insert(id, Relay { socket, dont_fragment: false });
                Ok(SocketAddr::new(place.external, port))
            }
            Err(error) => {
                self.warn(&error);
                Err(Refusal::NoPort)
            }
        }
    }

    /// Tells the log why a relay cannot be opened, but not for each: clients could fill it.
    pub(crate) fn warn(&mut self, error: &io::Error) {
        let now = Instant::now();
        if self.silent_until.is_none_or(|until| until <= now) {
            tracing::warn!(%error, "relays cannot be opened; turn.relay_ports may be too few, or open files (ulimit -n)");
            self.silent_until = Some(now + WARN_EVERY);
        }
    }
}

impl Places {
    /// Keeps a socket for whoever shows the token.
    fn reserve(&self, socket: UdpSocket, counted: Option<Reservation>) -> Result<ReservationToken, Refusal> {
        let mut reserved = self.reserved.lock();
        if reserved.len() >= MAX_RESERVATIONS {
            return Err(Refusal::NoPort);
        }
        let token = ReservationToken(rand::rng().random());
        reserved.insert(token, Reserved { socket, since: Instant::now(), _counted: counted });
        Ok(token)
    }
}

/// A free port, and the one after it where that is asked for. Which one nobody can foretell (RFC 6056). An error is one that other
/// ports would have as well, or that none of those tried was free.
fn bind(ip: IpAddr, range: &RangeInclusive<u16>, ports: Ports) -> io::Result<(UdpSocket, Option<UdpSocket>)> {
    let even = ports != Ports::Any;
    for _ in 0..ATTEMPTS {
        let port = rand::rng().random_range(range.clone());
        let port = if even { port & !1 } else { port };
        if !range.contains(&port) {
            continue;
        }
        let Some(socket) = open_free(ip, port)? else { continue };
        if ports != Ports::EvenAndNext {
            return Ok((socket, None));
        }
        let Some(next) = port.checked_add(1).filter(|next| range.contains(next)) else { continue };
        if let Some(next) = open_free(ip, next)? {
            return Ok((socket, Some(next)));
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no free port was found"))
}

/// `None` where the port is in use.
fn open_free(ip: IpAddr, port: u16) -> io::Result<Option<UdpSocket>> {
    match open(ip, port) {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(error),
    }
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

/// Puts a socket into use whose packets may be cut on their way: what is relayed cannot be made smaller, and only a client forbids it
/// (RFC 8656 section 15).
pub(crate) fn datagrams(socket: UdpSocket) -> io::Result<Datagrams> {
    let socket = Datagrams::new(socket)?;
    set_dont_fragment(socket.socket(), socket.bound().is_ipv6(), false)?;
    Ok(socket)
}

fn set_dont_fragment(socket: &UdpSocket, is_v6: bool, dont_fragment: bool) -> io::Result<()> {
    if is_v6 {
        // By itself enough to have larger packets refused, whatever is said of the path.
        setsockopt(socket, Ipv6DontFrag, &dont_fragment)?;
    }
    match (is_v6, dont_fragment) {
        (false, false) => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DONT),
        (false, true) => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DO),
        (true, false) => set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DONT),
        (true, true) => set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DO),
    }
    .map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use nix::sys::socket::getsockopt;
    use rustix::net::sockopt::{ip_mtu_discover, ipv6_mtu_discover};

    use super::*;

    #[test]
    fn sockets_cut_packets_unless_they_are_told_otherwise() {
        for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let (socket, next) = bind(ip, &(20_000..=29_999), Ports::EvenAndNext).unwrap();
            let ports = [&socket, &next.unwrap()].map(|socket| socket.local_addr().unwrap().port());
            assert!(ports[0] % 2 == 0 && ports[1] == ports[0] + 1);
            let socket = datagrams(socket).unwrap();
            let is_dont = |socket: &UdpSocket| match ip {
                IpAddr::V4(_) => ip_mtu_discover(socket).unwrap() == Ipv4PathMtuDiscovery::DONT,
                IpAddr::V6(_) => {
                    let is_dont = ipv6_mtu_discover(socket).unwrap() == Ipv6PathMtuDiscovery::DONT;
                    assert_eq!(getsockopt(socket, Ipv6DontFrag).unwrap(), !is_dont);
                    is_dont
                }
            };
            assert!(is_dont(socket.socket()));
            set_dont_fragment(socket.socket(), ip.is_ipv6(), true).unwrap();
            assert!(!is_dont(socket.socket()));
        }
    }

    #[test]
    fn ports_that_cannot_be_bound_are_not_tried_again_and_again() {
        let foreign = IpAddr::from([198, 51, 100, 1]);
        let error = bind(foreign, &(20_000..=29_999), Ports::Any).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind(Ipv4Addr::LOCALHOST.into(), &(port..=port), Ports::Any).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn who_finds_no_place_for_the_next_port_gets_none() {
        let place =
            Some(RelayAddress { bind: Ipv4Addr::LOCALHOST.into(), external: Ipv4Addr::LOCALHOST.into() });
        let addresses: Arc<RwLock<RelayAddresses>> = Arc::new(RelayAddresses { v4: place, v6: None }.into());
        let places = Arc::new(Places {
            addresses: addresses.clone(),
            ports: 20_000..=29_999,
            reserved: Mutex::default(),
        });
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for number in 0..MAX_RESERVATIONS as u64 {
            let socket = socket.try_clone().unwrap();
            let reserved = Reserved { socket, since: Instant::now(), _counted: None };
            places.reserved.lock().insert(ReservationToken(number.to_be_bytes()), reserved);
        }
        let (mut relays, poller) = (Relays::new(places.clone()), Poller::new().unwrap());
        let id = RelayId::from_bits(2).allocation();
        let mut open = |ports| relays.open(id, (true, false), (ports, None), &poller);
        assert_eq!(open(Ports::EvenAndNext).unwrap_err(), Refusal::NoPort);
        assert!(open(Ports::Even).is_ok());
        places.reserved.lock().clear();
        let token = open(Ports::EvenAndNext).unwrap().reservation.unwrap();
        assert!(open(Ports::Reserved(token)).is_ok());
        assert_eq!(open(Ports::Reserved(token)).unwrap_err(), Refusal::NoReservation);

        let elsewhere = RelayAddress { bind: Ipv4Addr::LOCALHOST.into(), external: [203, 0, 113, 5].into() };
        addresses.write().v4 = Some(elsewhere);
        assert_eq!(open(Ports::Any).unwrap().v4.unwrap().ip(), elsewhere.external);
    }
}
