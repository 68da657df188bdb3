//! The TCP and TLS connections of a worker.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;
use rustc_hash::FxHashMap;
use rustix::io::Errno;
use veche_sfu::Traffic;
use veche_turn_core::{ConnectionId, FiveTuple, Link, MAX_FRAME, MAX_UNPROVEN_FRAME, household};

use crate::carry::{carry, interests};
use crate::connection::{CloseReason, Connection, is_answer};
use crate::desk::{Desk, Move, Turn};
use crate::mailbox::{Adoption, Command, Courier};
use crate::poller::{Fixed, Interest, Poller, Token};

/// How soon a client must have an allocation: this ends half-open handshakes and slow senders.
const PROVE_WITHIN: Duration = Duration::from_secs(30);

/// How many connections one client address (of IPv6: a network of 64 bits) may have at a worker, but no more than a quarter of all.
const MAX_PER_HOUSEHOLD: usize = 256;

/// How many connections of clients without allocation are read in one turn. Handshakes and signatures take time, and what is
/// relayed for others waits meanwhile.
const STRANGERS_PER_TURN: usize = 16;

/// How many clients are accepted in one turn, so that nobody starves others.
const ACCEPTS_PER_TURN: usize = 16;

/// Room for what is read at once; what is left of it takes what that is when it is decrypted.
const SCRATCH: usize = 64 << 10;

/// The listeners of one worker and the connections that they accepted.
#[derive(Debug)]
pub(crate) struct Connections {
    listeners: Vec<TcpListener>,
    by_id: FxHashMap<u64, Connection>,
    count_by_household: HashMap<IpAddr, usize, RandomState>,
    most: usize,
    most_per_household: usize,
    /// How many clients without allocation may still be read in this turn.
    strangers_left: usize,
    /// How many turns there were.
    turns: usize,
    /// How many timeouts there were.
    timeouts: usize,
    tls: Option<Arc<rustls::ServerConfig>>,
    /// The other workers, by their number, and this one.
    couriers: Arc<[Courier]>,
    /// Never reused, so that a late packet cannot reach somebody else.
    next_id: u64,
    scratch: Box<[u8]>,
    /// Not accepting until the next timeout: the process has too many files open.
    paused: bool,
    /// How many were refused.
    pub(crate) refused: u64,
}

impl Connections {
    pub(crate) fn new(
        listeners: Vec<TcpListener>,
        most: usize,
        tls: Option<Arc<rustls::ServerConfig>>,
        hash: RandomState,
        couriers: Arc<[Courier]>,
    ) -> Self {
        Self {
            listeners,
            by_id: FxHashMap::default(),
            count_by_household: HashMap::with_hasher(hash),
            most,
            most_per_household: (most / 4).clamp(1, MAX_PER_HOUSEHOLD),
            strangers_left: STRANGERS_PER_TURN,
            turns: 0,
            timeouts: 0,
            tls,
            couriers,
            next_id: 0,
            scratch: vec![0; SCRATCH].into(),
            paused: false,
            refused: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn register(&self, poller: &Poller) -> io::Result<()> {
        let mut listeners = self.listeners.iter().zip(0..);
        listeners.try_for_each(|(listener, index)| poller.add(listener, Token::Fixed(Fixed::Listener(index))))
    }

    /// A turn begins. Returns where to begin with the connections that are ready, so that everybody's turn comes where not all can be
    /// read in one.
    pub(crate) fn begin_turn(&mut self) -> usize {
        self.strangers_left = STRANGERS_PER_TURN;
        self.turns = self.turns.wrapping_add(1);
        self.turns.wrapping_mul(STRANGERS_PER_TURN)
    }

    /// Accepts those who wait at a listener.
    pub(crate) fn accept(&mut self, index: u16, now: Instant, poller: &Poller) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get(usize::from(index)) else { return };
            match listener.accept() {
                Ok((stream, remote)) => {
                    let tls = self.tls.clone();
                    let make = |stream, client| Connection::accepted(stream, client, tls, now);
                    if let Err(error) = self.admit(stream, remote, poller, make) {
                        tracing::debug!(%error, %remote, "a TURN connection failed at once");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_shortage(&error) => return self.pause(&error, poller),
                // Of the client that gave up, or was interrupted: the next may do better.
                Err(_) => {}
            }
        }
    }

    /// Takes a connection that somebody else accepted.
    pub(crate) fn adopt(&mut self, adoption: Adoption, desk: &mut Desk<'_>) {
        let (now, poller) = (desk.now, desk.poller);
        let Adoption { stream, tls, early, queue, since, taken } = adoption;
        let since = since.unwrap_or(now);
        // It may be anybody's, like those that are accepted here.
        self.strangers_left = self.strangers_left.saturating_sub(1);
        let admitted = stream.peer_addr().and_then(|remote| {
            // A listener of `::` tells addresses of IPv4 in the form of IPv6.
            let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
            self.admit(stream, remote, poller, |stream, client| {
                Connection::adopted(stream, client, tls, queue, since)
            })
        });
        match admitted {
            Ok(Some(id)) => {
                // Who asked may have given up waiting.
                let _ = taken.map(|taken| taken.try_send(()));
                let Some(connection) = self.by_id.get_mut(&id) else { return };
                let client = connection.client;
                let read =
                    connection.take_early(&early, || MAX_UNPROVEN_FRAME, |frame| handle(desk, client, frame));
                connection.prove(desk.server.has_allocation(client));
                write(connection, id, poller);
                self.go_on(id, read, desk);
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "a TURN connection cannot be taken over"),
        }
    }

    /// Serves a connection that is ready, or leaves it for a later turn.
    pub(crate) fn handle_ready(&mut self, id: u64, desk: &mut Desk<'_>, traffic: &mut Traffic) {
        let Some(connection) = self.by_id.get_mut(&id) else { return };
        if connection.bound.is_some() {
            return self.carry(id, desk, traffic);
        }
        let client = connection.client;
        connection.is_proven = desk.server.has_allocation(client);
        if !connection.is_proven {
            let Some(left) = self.strangers_left.checked_sub(1) else { return };
            self.strangers_left = left;
        }
        let most = if connection.is_proven { MAX_FRAME } else { MAX_UNPROVEN_FRAME };
        let read = connection.read(
            &mut self.scratch,
            || most,
            |frame| {
                traffic.packets_in += 1;
                traffic.bytes_in += frame.len() as u64;
                handle(desk, client, frame)
            },
        );
        connection.prove(desk.server.has_allocation(client));
        // Handshakes and alerts of TLS wait, and what found no room before.
        write(connection, id, desk.poller);
        self.go_on(id, read, desk);
    }

    /// Carries what there is between a connection and the one with a peer that it is bound to.
    pub(crate) fn carry(&mut self, id: u64, desk: &mut Desk<'_>, traffic: &mut Traffic) {
        let Some(connection) = self.by_id.get_mut(&id) else { return };
        let Some(bound) = connection.bound else { return };
        let Some(peer) = desk.tcp.peer(bound) else { return };
        let now = desk.now;
        let carried = carry(connection, peer, desk.server.may_take(now, bound), &mut self.scratch);
        let carried = carried.and_then(|carried| {
            desk.server.handle_taken(now, bound, carried.to_peer, carried.to_client);
            connection.is_paused = !desk.server.may_take(now, bound);
            if carried.is_half_closed {
                connection.on_half_closed(now, carried.has_moved);
            }
            let (of_client, of_peer) = interests(connection, peer, !connection.is_paused);
            connection.wait_for(of_client, id, desk.poller)?;
            peer.wait_for(of_peer, bound, desk.poller)?;
            traffic.bytes_in += (carried.to_peer + carried.to_client) as u64;
            traffic.bytes_out += (carried.to_peer + carried.to_client) as u64;
            if carried.is_over { Err(CloseReason::Ended) } else { Ok(()) }
        });
        if let Err(reason) = carried {
            tracing::debug!(%reason, "a TURN connection and that of its peer are closed");
            self.close(id, desk);
        }
    }

    /// Closes a connection whose peer's was closed.
    pub(crate) fn close_unbound(&mut self, id: u64) {
        if let Some(mut connection) = self.forget(id) {
            connection.close();
        }
    }

    /// Hands a connection to another worker, with what waits for the client.
    pub(crate) fn move_away(&mut self, Move { id, worker, early }: Move, poller: &Poller) {
        let Some(connection) = self.forget(id) else { return };
        if poller.remove(&connection.stream).is_ok()
            && let Some(courier) = self.couriers.get(usize::from(worker))
        {
            courier.send(Command::Adopt(Box::new(connection.into_adoption(early))));
        }
    }

    /// Sends packets to a client. What finds no room in the connection's queue is dropped whole; who has no allocation and reads none
    /// of its answers is closed.
    pub(crate) fn send(
        &mut self,
        id: u64,
        (bytes, ends): (&[u8], &[u32]),
        poller: &Poller,
        traffic: &mut Traffic,
    ) {
        let Some(connection) = self.by_id.get_mut(&id) else {
            traffic.send_drops += ends.len() as u64;
            return;
        };
        let (mut start, mut is_full) = (0, false);
        for &end in ends {
            let packet = &bytes[start..end as usize];
            start = end as usize;
            if connection.push(packet) {
                traffic.packets_out += 1;
                traffic.bytes_out += packet.len() as u64;
            } else {
                traffic.send_drops += 1;
                is_full |= is_answer(packet);
            }
        }
        if is_full && !connection.is_proven {
            // The next read finds the end of the stream, and closes the connection.
            let _ = connection.stream.shutdown(Shutdown::Both);
        } else if !connection.interest.write {
            write(connection, id, poller);
        }
    }

    /// To be called about once a second: closes connections of those who have not proved themselves in time, and what is left of pairs
    /// of which one has ended, and goes on with those that carried too much.
    pub(crate) fn handle_timeout(&mut self, desk: &mut Desk<'_>, traffic: &mut Traffic) {
        let (now, poller) = (desk.now, desk.poller);
        if std::mem::take(&mut self.paused)
            && let Err(error) = self.register(poller)
        {
            self.pause(&error, poller);
        }
        let (mut late, mut paused) = (Vec::new(), Vec::new());
        for (&id, connection) in &mut self.by_id {
            if connection.bound.is_some() {
                paused.extend(connection.is_paused.then_some(id));
                late.extend(connection.is_left(now).then_some(id));
                continue;
            }
            connection.prove(desk.server.has_allocation(connection.client));
            if !connection.is_proven && now.saturating_duration_since(connection.since) >= PROVE_WITHIN {
                late.push(id);
            }
        }
        for id in late {
            self.close(id, desk);
        }
        // The first take what may be carried in a second; everybody is that once.
        self.timeouts = self.timeouts.wrapping_add(1);
        let first = self.timeouts % paused.len().max(1);
        paused.rotate_left(first);
        for id in paused {
            self.carry(id, desk, traffic);
        }
    }

    fn admit(
        &mut self,
        stream: TcpStream,
        remote: SocketAddr,
        poller: &Poller,
        make: impl FnOnce(TcpStream, FiveTuple) -> Connection,
    ) -> io::Result<Option<u64>> {
        let household = household(remote.ip());
        let count = self.count_by_household.get(&household).copied().unwrap_or(0);
        if self.by_id.len() >= self.most || count >= self.most_per_household {
            self.refused += 1;
            return Ok(None);
        }
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let id = self.next_id;
        self.next_id += 1;
        poller.add(&stream, Token::Stream(id))?;
        let client = FiveTuple { remote, link: Link::Stream(id) };
        self.by_id.insert(id, make(stream, client));
        self.count_by_household.insert(household, count + 1);
        Ok(Some(id))
    }

    /// Accepts nobody until the next timeout; otherwise the worker would spin on clients it cannot accept.
    fn pause(&mut self, error: &io::Error, poller: &Poller) {
        tracing::warn!(%error, "cannot accept TURN connections; raise the limit of open files (ulimit -n)");
        for listener in &self.listeners {
            let _ = poller.remove(listener);
        }
        self.paused = true;
    }

    /// Goes on with a connection as what was read of it says.
    fn go_on(&mut self, id: u64, read: Result<ControlFlow<Vec<u8>>, CloseReason>, desk: &mut Desk<'_>) {
        match (read, desk.turn.take()) {
            (Ok(ControlFlow::Break(rest)), Some(Turn::Bound(peer))) => self.bind(id, peer, rest, desk),
            (Ok(ControlFlow::Break(rest)), Some(Turn::Moved { worker, packet })) => {
                desk.closing.moves.push(Move { id, worker, early: [packet, rest].concat() });
            }
            (Ok(_), _) => {}
            (Err(reason), turn) => {
                tracing::debug!(%reason, "a TURN connection is closed");
                // It went wrong behind the request that bound it, so that the peer's connection goes as well.
                if let (Some(Turn::Bound(peer)), Some(connection)) = (turn, self.by_id.get_mut(&id)) {
                    connection.bound = Some(peer);
                }
                self.close(id, desk);
            }
        }
    }

    /// Binds a connection to one with a peer. `rest` is what came for the peer already.
    fn bind(&mut self, id: u64, peer: ConnectionId, rest: Vec<u8>, desk: &mut Desk<'_>) {
        let Some(connection) = self.by_id.get_mut(&id) else { return };
        (connection.bound, connection.is_proven) = (Some(peer), true);
        if let Err(error) = desk.tcp.bind(peer, id, rest, desk.poller) {
            tracing::debug!(%error, "a TURN connection cannot be bound to that of its peer");
            self.close(id, desk);
        }
    }

    fn close(&mut self, id: u64, desk: &mut Desk<'_>) {
        let Some(mut connection) = self.forget(id) else { return };
        connection.close();
        if let Some(peer) = connection.bound {
            desk.tcp.remove(peer);
            return desk.server.handle_disconnected(peer);
        }
        desk.handle_disconnect(connection.client);
    }

    fn forget(&mut self, id: u64) -> Option<Connection> {
        let connection = self.by_id.remove(&id)?;
        let household = household(connection.client.remote.ip());
        if let Some(count) = self.count_by_household.get_mut(&household) {
            *count -= 1;
            if *count == 0 {
                self.count_by_household.remove(&household);
            }
        }
        Some(connection)
    }
}

/// Hands over a frame. What follows is none if the connection becomes another's then.
fn handle(desk: &mut Desk<'_>, client: FiveTuple, frame: &[u8]) -> ControlFlow<()> {
    desk.handle_client(client, frame);
    if desk.turn.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Writes what it can, and waits for room when that is not all.
fn write(connection: &mut Connection, id: u64, poller: &Poller) {
    let congested = connection.write().unwrap_or_else(|_| {
        // The next read finds the end of the stream, and closes the connection.
        let _ = connection.stream.shutdown(Shutdown::Both);
        false
    });
    let wanted = Interest { write: congested, ..connection.interest };
    if let Err(error) = connection.wait_for(wanted, id, poller) {
        tracing::debug!(%error, "a TURN connection cannot be waited for");
    }
}

/// Whether the system has no more files or memory, which lasts.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

#[cfg(test)]
mod tests;
