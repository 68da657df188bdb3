//! One client's connection: TCP, or TLS when its first byte says so. It carries frames or, once it is bound to one with a peer, what
//! that is sent and sends.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConnection;
use veche_turn_core::{BadFrame, ConnectionId, FiveTuple, Frames};

use crate::mailbox::Adoption;
use crate::poller::{Interest, Poller, Token};

/// How many bytes wait for a client that reads slowly. More is dropped, packet by packet.
const MAX_QUEUED: usize = 256 << 10;

/// The same for one that has no allocation: all that it may expect is answers to a few requests.
const MAX_UNPROVEN_QUEUED: usize = 8 << 10;

/// What TLS adds to a packet at most: headers and tags of its records, each of up to 16 KiB.
const TLS_OVERHEAD: usize = 1024;

/// How long a connection stands when the one that it is bound to has ended, or the other way round, and nothing more comes.
const HALF_CLOSED: Duration = Duration::from_secs(30);

/// What an empty queue keeps of its memory.
pub(crate) const IDLE_QUEUE: usize = 4 << 10;

/// How often one connection is read in a turn, so that nobody starves others.
const READS_PER_TURN: usize = 4;

/// How much is read in a turn of a client that has no allocation, once.
const UNPROVEN_READ: usize = 4 << 10;

/// The first byte of TLS: a handshake record (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) client: FiveTuple,
    /// When it came.
    pub(crate) since: Instant,
    /// What the poller waits for.
    pub(crate) interest: Interest,
    /// Whether the client had an allocation when somebody looked last, or has bound the connection.
    pub(crate) is_proven: bool,
    /// The connection with a peer that it is bound to.
    pub(crate) bound: Option<ConnectionId>,
    /// Whether more was carried than may be in a second, so that nothing is read for a while.
    pub(crate) is_paused: bool,
    /// When something was carried last, where one of the two has ended.
    pub(crate) last_carried: Option<Instant>,
    /// Whether the client will send no more.
    pub(crate) has_ended: bool,
    /// Whether it was told that it will be sent no more.
    pub(crate) is_finished: bool,
    security: Security,
    frames: Frames,
    queue: VecDeque<u8>,
}

#[derive(Debug)]
enum Security {
    /// The first byte will tell.
    Unknown(Option<Arc<rustls::ServerConfig>>),
    Plain,
    Tls(Box<ServerConnection>),
}

impl Security {
    fn tls(mut tls: ServerConnection) -> Self {
        // What is written is taken out at once. A limit would have a large packet written by half.
        tls.set_buffer_limit(None);
        Self::Tls(Box::new(tls))
    }

    /// Whether the client has said in TLS that it will send no more.
    fn has_ended(&mut self) -> bool {
        match self {
            Security::Tls(tls) => tls.process_new_packets().is_ok_and(|state| state.peer_has_closed()),
            Security::Plain | Security::Unknown(_) => false,
        }
    }

    /// Hands over what bytes of the connection mean. `free` is room to decrypt into, where there is some; `queue` takes what TLS
    /// itself has to say.
    fn decrypt(
        &mut self,
        mut bytes: &[u8],
        free: &mut [u8],
        queue: &mut VecDeque<u8>,
        mut take: impl FnMut(&[u8]) -> Result<(), CloseReason>,
    ) -> Result<(), CloseReason> {
        if let Security::Unknown(tls) = self {
            *self = match (bytes.first(), tls.take()) {
                (Some(&TLS_HANDSHAKE), Some(tls)) => Security::tls(ServerConnection::new(tls)?),
                _ => Security::Plain,
            };
        }
        let Security::Tls(tls) = self else { return take(bytes) };
        let mut small = [0; 4096];
        let room = if free.len() < small.len() { &mut small[..] } else { free };
        while !bytes.is_empty() {
            tls.read_tls(&mut bytes)?;
            let state = tls.process_new_packets();
            // An alert tells the client what was wrong.
            while tls.wants_write() {
                tls.write_tls(queue)?;
            }
            if queue.len() > MAX_QUEUED {
                return Err(CloseReason::Slow);
            }
            let state = state?;
            let mut left = state.plaintext_bytes_to_read();
            while left > 0 {
                let read = tls.reader().read(room)?;
                take(&room[..read])?;
                left = left.saturating_sub(read.max(1));
            }
            if state.peer_has_closed() {
                return Err(CloseReason::Ended);
            }
        }
        Ok(())
    }
}

/// Why the server closes a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CloseReason {
    #[error("the client closed it")]
    Ended,
    #[error("{0}")]
    Failed(#[from] io::Error),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("it speaks neither TURN nor TLS, or a frame is too large")]
    BadFrame,
    #[error("it reads too little")]
    Slow,
}

impl From<BadFrame> for CloseReason {
    fn from(BadFrame: BadFrame) -> Self {
        Self::BadFrame
    }
}

impl Connection {
    /// Of which nothing was read; `tls` is how TLS is spoken, if at all.
    pub(crate) fn accepted(
        stream: TcpStream,
        client: FiveTuple,
        tls: Option<Arc<rustls::ServerConfig>>,
        now: Instant,
    ) -> Self {
        Self::new(stream, client, Security::Unknown(tls), now)
    }

    /// That somebody else has accepted, and made a TLS session for, perhaps. `queue` waits for the client already.
    pub(crate) fn adopted(
        stream: TcpStream,
        client: FiveTuple,
        tls: Option<ServerConnection>,
        queue: VecDeque<u8>,
        since: Instant,
    ) -> Self {
        let mut security = tls.map_or(Security::Plain, Security::tls);
        let has_ended = security.has_ended();
        Self { has_ended, queue, ..Self::new(stream, client, security, since) }
    }

    fn new(stream: TcpStream, client: FiveTuple, security: Security, now: Instant) -> Self {
        let (frames, queue) = (Frames::default(), VecDeque::new());
        Self {
            stream,
            client,
            since: now,
            interest: Interest::READ,
            is_proven: false,
            bound: None,
            is_paused: false,
            last_carried: None,
            has_ended: false,
            is_finished: false,
            security,
            frames,
            queue,
        }
    }

    /// Reads what there is and hands over each whole frame, until `handle` says that what follows are none: then that is returned.
    pub(crate) fn read(
        &mut self,
        scratch: &mut [u8],
        most: impl Fn() -> usize,
        mut handle: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<Vec<u8>>, CloseReason> {
        let (reads, room) = if self.is_proven { (READS_PER_TURN, scratch.len()) } else { (1, UNPROVEN_READ) };
        for _ in 0..reads {
            let Some(read) = self.read_once(&mut scratch[..room])? else {
                return Ok(ControlFlow::Continue(()));
            };
            if read == 0 {
                return Err(CloseReason::Ended);
            }
            let is_full = read == room;
            let (read, free) = scratch.split_at_mut(read);
            let Self { security, queue, frames, .. } = self;
            let mut rest = None;
            let decrypted = security.decrypt(read, free, queue, |bytes| {
                match &mut rest {
                    Some(rest) => Vec::extend_from_slice(rest, bytes),
                    None => rest = cut(frames, bytes, &most, &mut handle)?,
                }
                Ok(())
            });
            match (decrypted, rest) {
                (Ok(()), None) => {}
                (Ok(()), Some(rest)) => return Ok(ControlFlow::Break(rest)),
                (Err(CloseReason::Ended), Some(rest)) => {
                    self.has_ended = true;
                    return Ok(ControlFlow::Break(rest));
                }
                (Err(reason), _) => return Err(reason),
            }
            if !is_full {
                break;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Takes what was read before the connection was handed over, decrypted already; else as [`Self::read`].
    pub(crate) fn take_early(
        &mut self,
        bytes: &[u8],
        most: impl Fn() -> usize,
        mut handle: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<Vec<u8>>, CloseReason> {
        let rest = cut(&mut self.frames, bytes, &most, &mut handle)?;
        Ok(rest.map_or(ControlFlow::Continue(()), ControlFlow::Break))
    }

    /// Reads once of a connection that is bound. Returns how many bytes there were for the peer.
    pub(crate) fn read_bound(
        &mut self,
        scratch: &mut [u8],
        for_peer: &mut VecDeque<u8>,
    ) -> Result<usize, CloseReason> {
        let before = for_peer.len();
        let room = scratch.len() / 2;
        let Some(read) = self.read_once(&mut scratch[..room])? else { return Ok(0) };
        let (bytes, free) = scratch.split_at_mut(read);
        let Self { security, queue, .. } = self;
        let decrypted = security.decrypt(bytes, free, queue, |bytes| {
            for_peer.extend(bytes);
            Ok(())
        });
        match decrypted {
            Ok(()) => self.has_ended = read == 0,
            Err(CloseReason::Ended) => self.has_ended = true,
            Err(reason) => return Err(reason),
        }
        Ok(for_peer.len() - before)
    }

    /// To be called when one of the two connections has ended. What has to wait because too much was carried is no reason to close.
    pub(crate) fn on_half_closed(&mut self, now: Instant, has_moved: bool) {
        if has_moved || self.is_paused || self.last_carried.is_none() {
            self.last_carried = Some(now);
        }
    }

    /// Whether one of the two has ended long ago, and the other neither sends nor takes anything.
    pub(crate) fn is_left(&self, now: Instant) -> bool {
        self.last_carried.is_some_and(|last| now.saturating_duration_since(last) >= HALF_CLOSED)
    }

    /// `None` when there is nothing now, 0 when there will never be more.
    fn read_once(&mut self, room: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.stream.read(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map(Some),
            }
        }
    }

    /// Says whether the client has an allocation. Who had one, and has not read yet what was sent for it, is no stranger.
    pub(crate) fn prove(&mut self, has_allocation: bool) {
        self.is_proven = has_allocation || self.is_proven && self.queue.len() > MAX_UNPROVEN_QUEUED;
    }

    /// Queues a packet; `false` when there is no room for all of it. Answers find room where data does not any more: the client will
    /// not ask twice.
    pub(crate) fn push(&mut self, packet: &[u8]) -> bool {
        let of_data = if self.is_proven { MAX_QUEUED } else { 0 };
        let most = if is_answer(packet) { of_data + MAX_UNPROVEN_QUEUED } else { of_data };
        if self.queue.len() + packet.len() + TLS_OVERHEAD > most {
            return false;
        }
        self.put(packet)
    }

    /// What the poller is to wait for from now on.
    pub(crate) fn wait_for(&mut self, wanted: Interest, id: u64, poller: &Poller) -> io::Result<()> {
        poller.change(&self.stream, Token::Stream(id), &mut self.interest, wanted)
    }

    /// How many bytes wait for the client.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Queues bytes, whatever waits already.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> bool {
        match &mut self.security {
            Security::Tls(tls) => {
                let written = tls.writer().write_all(bytes);
                while tls.wants_write() {
                    if tls.write_tls(&mut self.queue).is_err() {
                        return false;
                    }
                }
                written.is_ok()
            }
            Security::Plain | Security::Unknown(_) => {
                self.queue.extend(bytes);
                true
            }
        }
    }

    /// Writes what it can; returns whether some is left.
    pub(crate) fn write(&mut self) -> io::Result<bool> {
        while !self.queue.is_empty() {
            let (front, back) = self.queue.as_slices();
            match self.stream.write_vectored(&[IoSlice::new(front), IoSlice::new(back)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.queue.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.queue.shrink_to(IDLE_QUEUE);
        Ok(false)
    }

    /// Tells the client that it will be sent no more, once it was sent all.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if self.is_finished || !self.queue.is_empty() {
            return Ok(());
        }
        self.say_goodbye();
        self.write()?;
        if self.queue.is_empty() {
            self.is_finished = true;
            self.stream.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }

    /// Says goodbye, where TLS has a word for it, as far as there is room.
    pub(crate) fn close(&mut self) {
        self.say_goodbye();
        let _ = self.write();
    }

    /// For another worker: `early` is what was read already that is to be handled there.
    pub(crate) fn into_adoption(self, early: Vec<u8>) -> Adoption {
        let Self { stream, security, queue, since, .. } = self;
        let tls = match security {
            Security::Tls(tls) => Some(*tls),
            Security::Plain | Security::Unknown(_) => None,
        };
        Adoption { stream, tls, early, queue, since: Some(since), taken: None }
    }

    fn say_goodbye(&mut self) {
        if let Security::Tls(tls) = &mut self.security {
            tls.send_close_notify();
            while tls.wants_write() && tls.write_tls(&mut self.queue).is_ok() {}
        }
    }
}

/// Whether it is a success or an error: only these have a class whose higher bit is set (RFC 8489 section 5).
pub(crate) fn is_answer(packet: &[u8]) -> bool {
    packet.first() == Some(&1)
}

/// Cuts frames out of bytes. What follows the last of them, where `handle` says so, is returned.
fn cut(
    frames: &mut Frames,
    bytes: &[u8],
    most: &impl Fn() -> usize,
    handle: &mut impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<Option<Vec<u8>>, BadFrame> {
    let mut is_over = false;
    let rest = frames.take_until(bytes, most, |frame| {
        let flow = handle(frame);
        is_over = flow.is_break();
        flow
    })?;
    Ok(is_over.then(|| rest.to_vec()))
}
