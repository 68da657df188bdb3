//! One client's connection: TCP, or TLS when its first byte says so.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use rustls::ServerConnection;
use veche_turn_core::{BadFrame, FiveTuple, Frames};

/// How many bytes wait for a client that reads slowly. More is dropped, packet by packet.
const MAX_QUEUED: usize = 256 << 10;

/// The same for one that has no allocation: all that it may expect is answers to a few requests.
const MAX_UNPROVEN_QUEUED: usize = 8 << 10;

/// What TLS adds to a packet at most: headers and tags of its records, each of up to 16 KiB.
const TLS_OVERHEAD: usize = 1024;

/// What an empty queue keeps of its memory.
const IDLE_QUEUE: usize = 4 << 10;

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
    /// Whether the poller waits for room to write.
    pub(crate) congested: bool,
    /// Whether the client had an allocation when somebody looked last.
    pub(crate) is_proven: bool,
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

    /// That somebody else has accepted, and made a TLS session for, perhaps.
    pub(crate) fn adopted(
        stream: TcpStream,
        client: FiveTuple,
        tls: Option<ServerConnection>,
        now: Instant,
    ) -> Self {
        let security = tls.map_or(Security::Plain, Security::tls);
        Self::new(stream, client, security, now)
    }

    fn new(stream: TcpStream, client: FiveTuple, security: Security, now: Instant) -> Self {
        let (frames, queue) = (Frames::default(), VecDeque::new());
        Self { stream, client, since: now, congested: false, is_proven: false, security, frames, queue }
    }

    /// Reads what there is and hands over each whole frame.
    pub(crate) fn read(
        &mut self,
        scratch: &mut [u8],
        most: impl Fn() -> usize,
        mut handle: impl FnMut(&[u8]),
    ) -> Result<(), CloseReason> {
        let (reads, room) = if self.is_proven { (READS_PER_TURN, scratch.len()) } else { (1, UNPROVEN_READ) };
        for _ in 0..reads {
            let read = match self.stream.read(&mut scratch[..room]) {
                Ok(0) => return Err(CloseReason::Ended),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let is_full = read == room;
            let (read, free) = scratch.split_at_mut(read);
            self.take(read, free, &most, &mut handle)?;
            if !is_full {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes bytes of the connection. `free` is room to decrypt into, where there is some.
    pub(crate) fn take(
        &mut self,
        mut bytes: &[u8],
        free: &mut [u8],
        most: &impl Fn() -> usize,
        handle: &mut impl FnMut(&[u8]),
    ) -> Result<(), CloseReason> {
        if let Security::Unknown(tls) = &mut self.security {
            self.security = match (bytes.first(), tls.take()) {
                (Some(&TLS_HANDSHAKE), Some(tls)) => Security::tls(ServerConnection::new(tls)?),
                _ => Security::Plain,
            };
        }
        let Security::Tls(tls) = &mut self.security else {
            return Ok(self.frames.take(bytes, most, handle)?);
        };
        let mut small = [0; 4096];
        let room = if free.len() < small.len() { &mut small[..] } else { free };
        while !bytes.is_empty() {
            tls.read_tls(&mut bytes)?;
            let state = tls.process_new_packets();
            // An alert tells the client what was wrong.
            while tls.wants_write() {
                tls.write_tls(&mut self.queue)?;
            }
            if self.queue.len() > MAX_QUEUED {
                return Err(CloseReason::Slow);
            }
            let state = state?;
            let mut left = state.plaintext_bytes_to_read();
            while left > 0 {
                let read = tls.reader().read(room)?;
                self.frames.take(&room[..read], most, &mut *handle)?;
                left = left.saturating_sub(read.max(1));
            }
            if state.peer_has_closed() {
                return Err(CloseReason::Ended);
            }
        }
        Ok(())
    }

    /// Frames that were read before the connection was handed over, decrypted already.
    pub(crate) fn take_early(
        &mut self,
        bytes: &[u8],
        most: impl Fn() -> usize,
        handle: impl FnMut(&[u8]),
    ) -> Result<(), CloseReason> {
        Ok(self.frames.take(bytes, most, handle)?)
    }

    /// Queues a packet; `false` when there is no room for all of it.
    pub(crate) fn push(&mut self, packet: &[u8]) -> bool {
        let most = if self.is_proven { MAX_QUEUED } else { MAX_UNPROVEN_QUEUED };
        if self.queue.len() + packet.len() + TLS_OVERHEAD > most {
            return false;
        }
        match &mut self.security {
            Security::Tls(tls) => {
                let written = tls.writer().write_all(packet);
                while tls.wants_write() {
                    if tls.write_tls(&mut self.queue).is_err() {
                        return false;
                    }
                }
                written.is_ok()
            }
            Security::Plain | Security::Unknown(_) => {
                self.queue.extend(packet);
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

    /// Says goodbye, where TLS has a word for it, as far as there is room.
    pub(crate) fn close(&mut self) {
        if let Security::Tls(tls) = &mut self.security {
            tls.send_close_notify();
            while tls.wants_write() && tls.write_tls(&mut self.queue).is_ok() {}
        }
        let _ = self.write();
    }
}
