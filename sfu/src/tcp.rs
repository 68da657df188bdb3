//! A worker's TCP port: passive ICE-TCP (RFC 6544), for clients whose network lets no UDP through.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use rustix::io::Errno;
use veche_sfu_core::engine::Transmit;
use veche_sfu_core::path::{ConnectionId, Path};
use veche_stun::household::{Crowded, HouseholdLimits, Households};

use crate::frames::{FrameReader, HEADER, Oversized};
use crate::handle::AdoptError;
use crate::mailbox::Adoption;
use crate::metrics::{TcpRefusals, Traffic};
use crate::poller::{Interest, Poller, Token};

/// How many connections a worker holds. More are closed as they come.
pub(crate) const MAX_CONNECTIONS: usize = 1024;

/// How soon a client must send its first frame.
const FIRST_FRAME: Duration = Duration::from_secs(10);

/// How long a connection may be nobody's: no request on it was signed by somebody who is here.
const PROVE_WITHIN: Duration = Duration::from_secs(30);

/// How many of a household's connections may be nobody's at once: a share of all that it may have.
const UNPROVEN_SHARE: usize = 4;

/// How long a connection may be silent. A client that uses it sends a STUN request every few seconds (RFC 7675
/// section 5.1), one that keeps it in reserve every half minute.
const SILENCE: Duration = Duration::from_mins(1);

/// How many bytes wait for a client that reads slowly. More is dropped, packet by packet.
const MAX_QUEUED: usize = 256 << 10;

/// What an empty queue keeps of its memory.
const IDLE_QUEUE: usize = 16 << 10;

/// How many clients are accepted in one turn, and how often one connection is read, so that nobody starves others.
const ACCEPTS_PER_TURN: usize = 16;
const READS_PER_TURN: usize = 4;

/// The listeners of one worker and the connections that they accepted.
#[derive(Debug)]
pub(crate) struct TcpPort {
    listeners: Vec<TcpListener>,
    connections: FxHashMap<ConnectionId, Connection>,
    max_connections: usize,
    households: Households,
    /// What was refused or closed, by reason.
    pub(crate) refusals: TcpRefusals,
    /// Never reused, so that a late packet cannot reach somebody else.
    next_id: u64,
    /// Not accepting until the next timeout: the process has too many files open.
    paused: bool,
}

/// What connections bring. Who takes it says whether the path is somebody's who is here.
#[derive(Debug)]
pub(crate) enum TcpInput<'a> {
    /// A frame.
    Frame(Path, &'a mut [u8]),
    /// The connection of this path is gone.
    Gone(Path),
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    path: Path,
    reader: FrameReader,
    queue: SendQueue,
    /// Whether the first frame came.
    greeted: bool,
    /// Whether it has ever been somebody's, by a request that they signed; and when it was for the last time, or began.
    is_proven: bool,
    known_at: Instant,
    /// When the last whole frame came, or the connection.
    heard: Instant,
    /// Whether the poller waits for room to write.
    congested: bool,
}

/// Frames that wait for the client to read; always whole but for the first, of which a part may have been sent.
#[derive(Debug, Default)]
struct SendQueue(VecDeque<u8>);

/// Why the server closes a connection.
#[derive(Debug, thiserror::Error)]
enum CloseReason {
    #[error("the client closed it")]
    Ended,
    #[error("{0}")]
    Failed(io::Error),
    #[error("it does not begin with STUN")]
    NotStun,
    #[error("a frame is too large")]
    Oversized,
    #[error("it is nobody's")]
    Unproven,
    #[error("it is silent")]
    Silent,
}

impl TcpPort {
    /// A household may have `per_household` of its connections; 0 for any number.
    pub(crate) fn new(listeners: Vec<TcpListener>, max_connections: usize, per_household: usize) -> Self {
        let unproven = per_household.div_ceil(UNPROVEN_SHARE);
        Self {
            listeners,
            connections: FxHashMap::default(),
            max_connections,
            households: Households::new(HouseholdLimits { open: per_household, unproven }),
            refusals: TcpRefusals::default(),
            next_id: 0,
            paused: false,
        }
    }

    /// How many connections there are.
    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    pub(crate) fn register(&self, poller: &Poller) -> io::Result<()> {
        self.listeners
            .iter()
            .enumerate()
            .try_for_each(|(index, listener)| poller.add(listener, Token::Listener(index), Interest::Read))
    }

    /// Accepts those who wait at [`Token::Listener`].
    pub(crate) fn accept(&mut self, index: usize, now: Instant, poller: &Poller) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get(index) else { return };
            match listener.accept() {
                Ok((stream, remote)) => {
                    if let Err(error) = self.admit(stream, remote, now, poller) {
                        tracing::debug!(%error, %remote, "a TCP connection failed at once");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_shortage(&error) => return self.pause(&error, poller),
                // Of the client that gave up, or was interrupted: the next may do better.
                Err(_) => {}
            }
        }
    }

    /// Takes a connection that somebody else has accepted.
    pub(crate) fn adopt(
        &mut self,
        adoption: Adoption,
        now: Instant,
        poller: &Poller,
        traffic: &mut Traffic,
        mut handle: impl FnMut(TcpInput<'_>) -> bool,
    ) {
        let Adoption { stream, early, answer } = adoption;
        let admitted = stream.peer_addr().and_then(|remote| {
            // A listener of `::` tells addresses of IPv4 in the form of IPv6.
            let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
            self.admit(stream, remote, now, poller)
        });
        let taken = match admitted {
            Ok(Ok(id)) => {
                self.take(id, &mut handle, |connection, handle| {
                    connection.take_early(&early, now, traffic, handle)
                });
                Ok(())
            }
            Ok(Err(refused)) => Err(refused),
            Err(error) => {
                tracing::debug!(%error, "a TCP connection cannot be taken over");
                Err(AdoptError::Busy)
            }
        };
        // Who asked may have given up waiting.
        let _ = answer.try_send(taken);
    }

    /// Serves a connection that [`Token::Connection`] says is ready.
    pub(crate) fn handle_ready(
        &mut self,
        id: ConnectionId,
        now: Instant,
        poller: &Poller,
        traffic: &mut Traffic,
        mut handle: impl FnMut(TcpInput<'_>) -> bool,
    ) {
        self.take(id, &mut handle, |connection, handle| {
            if connection.congested {
                connection.write(id, poller);
            }
            connection.read(now, traffic, handle)
        });
    }

    /// Sends a run of packets over a TCP path. What finds no room in the connection's queue is dropped whole.
    pub(crate) fn send(&mut self, transmit: &Transmit<'_>, poller: &Poller, traffic: &mut Traffic) {
        let Path::Tcp { connection: id, .. } = transmit.path else { return };
        let Some(connection) = self.connections.get_mut(&id) else {
            traffic.send_drops += transmit.ends.len() as u64;
            return;
        };
        let mut start = 0;
        for &end in transmit.ends {
            let packet = &transmit.bytes[start..end as usize];
            start = end as usize;
            if connection.queue.push(packet) {
                traffic.packets_out += 1;
                traffic.bytes_out += packet.len() as u64;
            } else {
                traffic.send_drops += 1;
            }
        }
        if !connection.congested {
            connection.write(id, poller);
        }
    }

    /// To be called about once a second, before [`TcpPort::handle_timeout`]: looks whose connections are.
    pub(crate) fn look(&mut self, now: Instant, is_known: impl Fn(&Path) -> bool) {
        for connection in self.connections.values_mut() {
            if is_known(&connection.path) {
                connection.known_at = now;
            }
        }
    }

    /// To be called about once a second: closes connections that are silent too long, or nobody's.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        poller: &Poller,
        mut handle: impl FnMut(TcpInput<'_>) -> bool,
    ) {
        if std::mem::take(&mut self.paused)
            && let Err(error) = self.register(poller)
        {
            self.pause(&error, poller);
        }
        let overdue = |(&id, connection): (&ConnectionId, &Connection)| Some((id, connection.overdue(now)?));
        let overdue: Vec<_> = self.connections.iter().filter_map(overdue).collect();
        for (id, reason) in overdue {
            self.close(id, &reason, &mut handle);
        }
    }

    /// Takes what a connection has brought, and what that says of it.
    fn take<H: FnMut(TcpInput<'_>) -> bool>(
        &mut self,
        id: ConnectionId,
        handle: &mut H,
        read: impl FnOnce(&mut Connection, &mut H) -> Result<(), CloseReason>,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let was_proven = connection.is_proven;
        let result = read(connection, handle);
        if connection.is_proven && !was_proven {
            self.households.prove(connection.path.remote().ip());
        }
        if let Err(reason) = result {
            self.close(id, &reason, handle);
        }
    }

    fn admit(
        &mut self,
        stream: TcpStream,
        remote: SocketAddr,
        now: Instant,
        poller: &Poller,
    ) -> io::Result<Result<ConnectionId, AdoptError>> {
        if self.connections.len() >= self.max_connections {
            tracing::debug!(%remote, "refused: too many TCP connections");
            self.refusals.full += 1;
            return Ok(Err(AdoptError::Busy));
        }
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        if let Err(crowded) = self.households.enter(remote.ip()) {
            tracing::debug!(%remote, ?crowded, "refused: its household has too many TCP connections");
            match crowded {
                Crowded::Open => self.refusals.household += 1,
                Crowded::Unproven => self.refusals.household_unproven += 1,
            }
            return Ok(Err(AdoptError::Crowded));
        }
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        if let Err(error) = poller.add(&stream, Token::Connection(id), Interest::Read) {
            self.households.leave(remote.ip(), false);
            return Err(error);
        }
        self.connections.insert(id, Connection::new(stream, Path::Tcp { connection: id, remote }, now));
        Ok(Ok(id))
    }

    /// Accepts nobody until the next timeout; otherwise the worker would spin on clients it cannot accept.
    fn pause(&mut self, error: &io::Error, poller: &Poller) {
        tracing::warn!(%error, "cannot accept TCP connections; raise the limit of open files (ulimit -n)");
        for listener in &self.listeners {
            let _ = poller.remove(listener);
        }
        self.paused = true;
    }

    fn close(
        &mut self,
        id: ConnectionId,
        reason: &CloseReason,
        handle: &mut impl FnMut(TcpInput<'_>) -> bool,
    ) {
        let Some(connection) = self.connections.remove(&id) else { return };
        let remote = connection.path.remote();
        tracing::debug!(%reason, %remote, "a TCP connection is closed");
        match reason {
            CloseReason::Ended | CloseReason::Failed(_) => {}
            CloseReason::NotStun | CloseReason::Oversized => self.refusals.malformed += 1,
            CloseReason::Unproven => self.refusals.unproven += 1,
            CloseReason::Silent => self.refusals.silent += 1,
        }
        self.households.leave(remote.ip(), connection.is_proven);
        handle(TcpInput::Gone(connection.path));
    }
}

/// Whether the system has no more files or memory, which lasts.
fn is_shortage(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

impl Connection {
    fn new(stream: TcpStream, path: Path, now: Instant) -> Self {
        let (reader, queue) = (FrameReader::new(), SendQueue::default());
        let (greeted, is_proven, congested) = (false, false, false);
        Self { stream, path, reader, queue, greeted, is_proven, known_at: now, heard: now, congested }
    }

    /// Why it is to be closed now, if it is.
    fn overdue(&self, now: Instant) -> Option<CloseReason> {
        let since = |then| now.saturating_duration_since(then);
        let patience = if self.greeted { SILENCE } else { FIRST_FRAME };
        if since(self.heard) >= patience {
            return Some(CloseReason::Silent);
        }
        (since(self.known_at) >= PROVE_WITHIN).then_some(CloseReason::Unproven)
    }

    fn read(
        &mut self,
        now: Instant,
        traffic: &mut Traffic,
        handle: &mut impl FnMut(TcpInput<'_>) -> bool,
    ) -> Result<(), CloseReason> {
        for _ in 0..READS_PER_TURN {
            match self.reader.fill(&mut self.stream) {
                Ok(0) => return Err(CloseReason::Ended),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(CloseReason::Failed(error)),
            }
            self.take_frames(now, traffic, handle)?;
        }
        Ok(())
    }

    /// Takes what was read before the connection was handed over.
    fn take_early(
        &mut self,
        mut early: &[u8],
        now: Instant,
        traffic: &mut Traffic,
        handle: &mut impl FnMut(TcpInput<'_>) -> bool,
    ) -> Result<(), CloseReason> {
        while !early.is_empty() {
            self.reader.fill(&mut early).map_err(CloseReason::Failed)?;
            self.take_frames(now, traffic, handle)?;
        }
        Ok(())
    }

    /// Hands over the whole frames that were read.
    fn take_frames(
        &mut self,
        now: Instant,
        traffic: &mut Traffic,
        handle: &mut impl FnMut(TcpInput<'_>) -> bool,
    ) -> Result<(), CloseReason> {
        while let Some(frame) = self.reader.next_frame()? {
            // Who speaks ICE begins with a STUN request (RFC 7983 section 7); all others are strangers.
            if !self.greeted && frame.first().is_none_or(|&byte| byte > 3) {
                return Err(CloseReason::NotStun);
            }
            self.greeted = true;
            self.heard = now;
            traffic.packets_in += 1;
            traffic.bytes_in += frame.len() as u64;
            if handle(TcpInput::Frame(self.path, frame)) {
                (self.is_proven, self.known_at) = (true, now);
            }
        }
        Ok(())
    }

    /// Writes what it can, and waits for room when that is not all.
    fn write(&mut self, id: ConnectionId, poller: &Poller) {
        if self.queue.write_to(&mut self.stream).is_err() {
            // The next read finds the end of the stream, and closes the connection.
            let _ = self.stream.shutdown(Shutdown::Both);
            self.queue.0.clear();
        }
        let congested = !self.queue.0.is_empty();
        if congested != self.congested {
            let interest = if congested { Interest::ReadWrite } else { Interest::Read };
            match poller.modify(&self.stream, Token::Connection(id), interest) {
                Ok(()) => self.congested = congested,
                Err(error) => tracing::debug!(%error, "a TCP connection cannot be waited for"),
            }
        }
    }
}

impl SendQueue {
    /// Appends a packet as a frame; `false` when there is no room for all of it.
    fn push(&mut self, packet: &[u8]) -> bool {
        let Ok(length) = u16::try_from(packet.len()) else { return false };
        if self.0.len() + HEADER + packet.len() > MAX_QUEUED {
            return false;
        }
        self.0.extend(length.to_be_bytes());
        self.0.extend(packet);
        true
    }

    /// Writes until all is written or the stream takes no more.
    fn write_to(&mut self, stream: &mut impl Write) -> io::Result<()> {
        while !self.0.is_empty() {
            let (front, back) = self.0.as_slices();
            match stream.write_vectored(&[IoSlice::new(front), IoSlice::new(back)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.0.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.0.shrink_to(IDLE_QUEUE);
        Ok(())
    }
}

impl From<Oversized> for CloseReason {
    fn from(Oversized: Oversized) -> Self {
        CloseReason::Oversized
    }
}

#[cfg(test)]
mod tests;
