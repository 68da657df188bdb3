//! A worker's TCP port: passive ICE-TCP (RFC 6544), for clients whose network lets no UDP through.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use rustix::io::Errno;
use veche_sfu_core::engine::Transmit;
use veche_sfu_core::path::{ConnectionId, Path};

use crate::frames::{FrameReader, HEADER, Oversized};
use crate::mailbox::Adoption;
use crate::metrics::Traffic;
use crate::poller::{Interest, Poller, Token};

/// How many connections a worker holds. More are closed as they come.
pub(crate) const MAX_CONNECTIONS: usize = 1024;

/// How soon a client must send its first frame.
const FIRST_FRAME: Duration = Duration::from_secs(10);

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
    /// Never reused, so that a late packet cannot reach somebody else.
    next_id: u64,
    /// Not accepting until the next timeout: the process has too many files open.
    paused: bool,
}

/// What connections bring.
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
}

impl TcpPort {
    pub(crate) fn new(listeners: Vec<TcpListener>, max_connections: usize) -> Self {
        Self { listeners, connections: FxHashMap::default(), max_connections, next_id: 0, paused: false }
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
        mut handle: impl FnMut(TcpInput<'_>),
    ) {
        let Adoption { stream, early } = adoption;
        let admitted = stream.peer_addr().and_then(|remote| {
            // A listener of `::` tells addresses of IPv4 in the form of IPv6.
            let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
            self.admit(stream, remote, now, poller)
        });
        match admitted {
            Ok(Some(id)) => {
                let Some(connection) = self.connections.get_mut(&id) else { return };
                if let Err(reason) = connection.take_early(&early, now, traffic, &mut handle) {
                    tracing::debug!(%reason, remote = %connection.path.remote(), "a TCP connection is closed");
                    self.close(id, &mut handle);
                }
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "a TCP connection cannot be taken over"),
        }
    }

    /// Serves a connection that [`Token::Connection`] says is ready.
    pub(crate) fn handle_ready(
        &mut self,
        id: ConnectionId,
        now: Instant,
        poller: &Poller,
        traffic: &mut Traffic,
        mut handle: impl FnMut(TcpInput<'_>),
    ) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.congested {
            connection.write(id, poller);
        }
        if let Err(reason) = connection.read(now, traffic, &mut handle) {
            tracing::debug!(%reason, remote = %connection.path.remote(), "a TCP connection is closed");
            self.close(id, &mut handle);
        }
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

    /// To be called about once a second: closes connections that are silent too long.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        poller: &Poller,
        mut handle: impl FnMut(TcpInput<'_>),
    ) {
        if std::mem::take(&mut self.paused)
            && let Err(error) = self.register(poller)
        {
            self.pause(&error, poller);
        }
        let silent: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.is_silent(now))
            .map(|(&id, _)| id)
            .collect();
        for id in silent {
            self.close(id, &mut handle);
        }
    }

    fn admit(
        &mut self,
        stream: TcpStream,
        remote: SocketAddr,
        now: Instant,
        poller: &Poller,
    ) -> io::Result<Option<ConnectionId>> {
        if self.connections.len() >= self.max_connections {
            tracing::debug!(%remote, "refused: too many TCP connections");
            return Ok(None);
        }
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        poller.add(&stream, Token::Connection(id), Interest::Read)?;
        self.connections.insert(id, Connection::new(stream, Path::Tcp { connection: id, remote }, now));
        Ok(Some(id))
    }

    /// Accepts nobody until the next timeout; otherwise the worker would spin on clients it cannot accept.
    fn pause(&mut self, error: &io::Error, poller: &Poller) {
        tracing::warn!(%error, "cannot accept TCP connections; raise the limit of open files (ulimit -n)");
        for listener in &self.listeners {
            let _ = poller.remove(listener);
        }
        self.paused = true;
    }

    fn close(&mut self, id: ConnectionId, handle: &mut impl FnMut(TcpInput<'_>)) {
        if let Some(connection) = self.connections.remove(&id) {
            handle(TcpInput::Gone(connection.path));
        }
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
        Self { stream, path, reader, queue, greeted: false, heard: now, congested: false }
    }

    fn is_silent(&self, now: Instant) -> bool {
        let patience = if self.greeted { SILENCE } else { FIRST_FRAME };
        now.saturating_duration_since(self.heard) >= patience
    }

    fn read(
        &mut self,
        now: Instant,
        traffic: &mut Traffic,
        handle: &mut impl FnMut(TcpInput<'_>),
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
        handle: &mut impl FnMut(TcpInput<'_>),
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
        handle: &mut impl FnMut(TcpInput<'_>),
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
            handle(TcpInput::Frame(self.path, frame));
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
mod tests {
    use std::io::Read;
    use std::net::Ipv4Addr;

    use super::*;
    use crate::frames::MAX_FRAME;
    use crate::poller::Ready;

    /// A port, driven as a worker does.
    struct Driver {
        port: TcpPort,
        poller: Poller,
        address: SocketAddr,
        now: Instant,
        traffic: Traffic,
        frames: Vec<(Path, Vec<u8>)>,
        gone: Vec<Path>,
    }

    impl Driver {
        fn new(max_connections: usize) -> Self {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            listener.set_nonblocking(true).unwrap();
            let address = listener.local_addr().unwrap();
            let (port, poller) = (TcpPort::new(vec![listener], max_connections), Poller::new().unwrap());
            port.register(&poller).unwrap();
            let (traffic, frames, gone) = Default::default();
            Self { port, poller, address, now: Instant::now(), traffic, frames, gone }
        }

        fn connect(&self) -> TcpStream {
            let stream = TcpStream::connect(self.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            stream
        }

        /// Turns until `done`, at most for some seconds each.
        fn turn_until(&mut self, done: impl Fn(&Self) -> bool) {
            let mut ready = Ready::new();
            while !done(self) {
                self.poller.wait(&mut ready, Duration::from_secs(5)).unwrap();
                assert!(ready.tokens().count() > 0, "nothing came in time");
                for token in ready.tokens() {
                    match token {
                        Token::Listener(index) => self.port.accept(index, self.now, &self.poller),
                        Token::Connection(id) => {
                            self.port.handle_ready(id, self.now, &self.poller, &mut self.traffic, |input| {
                                match input {
                                    TcpInput::Frame(path, frame) => self.frames.push((path, frame.to_vec())),
                                    TcpInput::Gone(path) => self.gone.push(path),
                                }
                            });
                        }
                        Token::Mailbox | Token::Udp(_) => unreachable!(),
                    }
                }
            }
        }

        fn wait(&mut self, duration: Duration) {
            self.now += duration;
            self.port.handle_timeout(self.now, &self.poller, |input| match input {
                TcpInput::Gone(path) => self.gone.push(path),
                TcpInput::Frame(..) => unreachable!(),
            });
        }

        fn send(&mut self, path: Path, packets: &[&[u8]]) {
            let mut ends = Vec::new();
            for packet in packets {
                ends.push(ends.last().copied().unwrap_or(0) + packet.len() as u32);
            }
            let transmit = Transmit { path, bytes: &packets.concat(), ends: &ends };
            self.port.send(&transmit, &self.poller, &mut self.traffic);
        }
    }

    fn write_frame(mut stream: &TcpStream, frame: &[u8]) {
        stream.write_all(&[&(frame.len() as u16).to_be_bytes()[..], frame].concat()).unwrap();
    }

    fn read_frame(mut stream: &TcpStream) -> Vec<u8> {
        let mut length = [0; HEADER];
        stream.read_exact(&mut length).unwrap();
        let mut frame = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut frame).unwrap();
        frame
    }

    fn is_closed(mut stream: &TcpStream) -> bool {
        match stream.read(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    #[test]
    fn frames_go_both_ways() {
        let mut driver = Driver::new(4);
        let client = driver.connect();
        write_frame(&client, b"\0first");
        write_frame(&client, b"anything");
        driver.turn_until(|d| d.frames.len() == 2);
        let path = driver.frames[0].0;
        assert_eq!(path, Path::Tcp { connection: ConnectionId(0), remote: client.local_addr().unwrap() });
        assert_eq!(driver.frames, [(path, b"\0first".to_vec()), (path, b"anything".to_vec())]);

        driver.send(path, &[b"one", b"", b"three"]);
        assert_eq!(
            [read_frame(&client), read_frame(&client), read_frame(&client)],
            [&b"one"[..], b"", b"three"]
        );
        assert_eq!((driver.traffic.packets_in, driver.traffic.packets_out), (2, 3));
    }

    #[test]
    fn a_connection_is_taken_over_with_what_was_read_of_it() {
        let mut driver = Driver::new(1);
        let elsewhere = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let adopt = |driver: &mut Driver, early: &[u8]| {
            let client = TcpStream::connect(elsewhere.local_addr().unwrap()).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let adoption = Adoption { stream: elsewhere.accept().unwrap().0, early: early.to_vec() };
            let Driver { port, poller, now, traffic, frames, gone, .. } = driver;
            port.adopt(adoption, *now, poller, traffic, |input| match input {
                TcpInput::Frame(path, frame) => frames.push((path, frame.to_vec())),
                TcpInput::Gone(path) => gone.push(path),
            });
            client
        };
        let web = adopt(&mut driver, b"\0\x05GET /");
        assert!(is_closed(&web) && driver.frames.is_empty() && driver.gone.len() == 1);

        let mut client = adopt(&mut driver, b"\0\x06\0first\0\x04ha");
        client.write_all(b"lf").unwrap();
        driver.turn_until(|d| d.frames.len() == 2);
        let path = driver.frames[0].0;
        assert_eq!(path.remote(), client.local_addr().unwrap());
        assert_eq!(driver.frames, [(path, b"\0first".to_vec()), (path, b"half".to_vec())]);
        driver.send(path, &[b"answer"]);
        assert_eq!(read_frame(&client), b"answer");

        let full = adopt(&mut driver, b"\0\x01\0");
        assert!(is_closed(&full), "there is room for one");
    }

    #[test]
    fn who_leaves_is_reported_and_their_number_is_not_given_again() {
        let mut driver = Driver::new(4);
        drop(driver.connect());
        driver.turn_until(|d| d.gone.len() == 1);
        assert_eq!(driver.port.len(), 0);
        let path = driver.gone[0];
        driver.send(path, &[b"too late"]);
        assert_eq!((driver.traffic.packets_out, driver.traffic.send_drops), (0, 1));

        let client = driver.connect();
        write_frame(&client, &[0]);
        driver.turn_until(|d| !d.frames.is_empty());
        assert!(matches!(driver.frames[0].0, Path::Tcp { connection: ConnectionId(1), .. }));
    }

    #[test]
    fn strangers_are_closed() {
        let mut driver = Driver::new(4);
        let web = driver.connect();
        write_frame(&web, b"GET / HTTP/1.1");
        let empty = driver.connect();
        write_frame(&empty, b"");
        let oversized = driver.connect();
        write_frame(&oversized, &vec![0; MAX_FRAME + 1]);
        driver.turn_until(|d| d.gone.len() == 3);
        assert!(driver.frames.is_empty());
        assert!(is_closed(&web) && is_closed(&empty) && is_closed(&oversized));
    }

    #[test]
    fn more_connections_than_allowed_are_closed_as_they_come() {
        let mut driver = Driver::new(2);
        let clients = [driver.connect(), driver.connect(), driver.connect()];
        for client in &clients[..2] {
            write_frame(client, &[1]);
        }
        driver.turn_until(|d| d.frames.len() == 2);
        assert_eq!(driver.port.len(), 2);
        assert!(is_closed(&clients[2]));
        let [first, _, _] = clients;
        drop(first);
        driver.turn_until(|d| d.gone.len() == 1);
        let fourth = driver.connect();
        write_frame(&fourth, &[1]);
        driver.turn_until(|d| d.frames.len() == 3);
    }

    #[test]
    fn silence_is_not_waited_for_without_end() {
        let mut driver = Driver::new(4);
        let (mute, talker) = (driver.connect(), driver.connect());
        write_frame(&talker, &[0]);
        driver.turn_until(|d| d.frames.len() == 1 && d.port.len() == 2);
        driver.wait(Duration::from_secs(9));
        assert_eq!(driver.port.len(), 2);
        driver.wait(Duration::from_secs(1));
        assert!(is_closed(&mute));
        assert_eq!(driver.port.len(), 1);
        driver.wait(Duration::from_secs(49));
        assert_eq!(driver.port.len(), 1);
        driver.wait(Duration::from_secs(1));
        assert_eq!((driver.port.len(), driver.gone.len()), (0, 2));
    }

    #[test]
    fn a_slow_reader_gets_whole_frames_and_misses_others() {
        let mut driver = Driver::new(4);
        let client = driver.connect();
        write_frame(&client, &[0]);
        driver.turn_until(|d| d.frames.len() == 1);
        let path = driver.frames[0].0;
        let mut offered = 0u32;
        while driver.traffic.send_drops == 0 {
            let packet = [&offered.to_be_bytes()[..], &[7; 1196]].concat();
            driver.send(path, &[&packet]);
            offered += 1;
        }
        assert!(driver.port.connections[&ConnectionId(0)].queue.0.len() <= MAX_QUEUED);

        let taken = offered - 1;
        let reader = std::thread::spawn(move || {
            for number in 0..taken {
                let frame = read_frame(&client);
                assert_eq!((frame.len(), &frame[..4]), (1200, &number.to_be_bytes()[..]));
            }
            client
        });
        driver.turn_until(|d| d.port.connections[&ConnectionId(0)].queue.0.is_empty());
        let client = reader.join().unwrap();
        driver.send(path, &[b"again"]);
        assert_eq!(read_frame(&client), b"again");
    }
}
