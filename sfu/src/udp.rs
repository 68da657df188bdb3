//! A worker's UDP port: datagrams in by batches (recvmmsg, GRO), out by trains (GSO).

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use smallvec::SmallVec;
use veche_sfu_core::engine::Transmit;
use veche_sfu_core::path::Path;

use crate::metrics::Traffic;
use crate::poller::{Interest, Poller, Token};
use crate::refusals::Refusals;
use crate::singles::send_singles;
use crate::trains::{Train, trains};

/// What is asked of the system for each direction: a key frame of 200 kB to each of a few hundred viewers comes at
/// once, and nothing is lost while the worker is busy for some milliseconds.
const SOCKET_BUFFER: usize = 4 << 20;

/// Room for one receive: the kernel joins datagrams (GRO) up to the largest UDP payload.
const RECEIVE_BUFFER: usize = 1 << 16;

/// How long one flush may wait for room in a full send buffer, in all. What is later than that is useless.
const SEND_PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// The sockets of one worker, one for each bound address, all with the same port.
#[derive(Debug)]
pub(crate) struct UdpPort {
    sockets: SmallVec<[Socket; 2]>,
    receive_buffer: Box<[u8]>,
    /// Whether a batch was full, so that more is there than was received.
    flooded: bool,
    /// When this flush began.
    now: Instant,
    /// Whether this flush has already waited for a full send buffer.
    waited: bool,
}

#[derive(Debug)]
struct Socket {
    udp: UdpSocket,
    state: UdpSocketState,
    bound: IpAddr,
    /// How many packets the system takes as one train; 1 where it knows none.
    longest_train: usize,
    refusals: Refusals,
}

impl UdpPort {
    pub(crate) fn new(sockets: impl IntoIterator<Item = UdpSocket>) -> io::Result<Self> {
        Ok(Self {
            sockets: sockets.into_iter().map(Socket::new).collect::<io::Result<_>>()?,
            receive_buffer: vec![0; BATCH_SIZE * RECEIVE_BUFFER].into(),
            flooded: false,
            now: Instant::now(),
            waited: false,
        })
    }

    pub(crate) fn register(&self, poller: &Poller) -> io::Result<()> {
        self.sockets
            .iter()
            .enumerate()
            .try_for_each(|(index, socket)| poller.add(&socket.udp, Token::Udp(index), Interest::Read))
    }

    /// Whether the last batch was full: more waits already.
    pub(crate) fn is_flooded(&self) -> bool {
        self.flooded
    }

    /// Receives one batch from the socket of [`Token::Udp`] and hands over each datagram.
    pub(crate) fn receive(
        &mut self,
        index: usize,
        traffic: &mut Traffic,
        mut handle: impl FnMut(Path, &mut [u8]),
    ) {
        let Some(socket) = self.sockets.get(index) else { return };
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut buffers = self.receive_buffer.chunks_exact_mut(RECEIVE_BUFFER);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
        let received = match socket.state.recv(UdpSockRef::from(&socket.udp), &mut slices, &mut metas) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => return tracing::debug!(%error, "receiving failed"),
        };
        self.flooded = received == BATCH_SIZE;
        for (meta, buffer) in metas.iter().zip(&mut slices).take(received) {
            // Nobody can be answered at port 0; and trying to would make the system refuse our trains.
            if meta.addr.port() == 0 {
                continue;
            }
            let path = Path::Udp { remote: meta.addr, local: meta.dst_ip };
            let Some(joined) = buffer.get_mut(..meta.len) else { continue };
            traffic.bytes_in += joined.len() as u64;
            if joined.is_empty() {
                traffic.packets_in += 1;
                handle(path, joined);
            }
            for datagram in joined.chunks_mut(meta.stride.max(1)) {
                traffic.packets_in += 1;
                handle(path, datagram);
            }
        }
    }

    /// To be called before the sends of one flush.
    pub(crate) fn begin_flush(&mut self, now: Instant) {
        self.now = now;
        self.waited = false;
    }

    /// Sends a run of packets over a UDP path. Never blocks: what finds no room within a millisecond is dropped.
    pub(crate) fn send(&mut self, transmit: &Transmit<'_>, traffic: &mut Traffic) {
        let Path::Udp { remote, local } = transmit.path else { return };
        let Some(socket) = Socket::choose(&mut self.sockets, remote, local) else {
            traffic.send_errors += transmit.ends.len() as u64;
            return;
        };
        let longest = if socket.refusals.contains(remote.ip()) { 1 } else { socket.longest_train };
        if longest == 1 && transmit.ends.len() > 1 {
            socket.send_singly(packets(transmit), remote, local, traffic);
            return;
        }
        for train in trains(transmit.ends, longest) {
            traffic.sends_out += 1;
            let bytes = &transmit.bytes[train.bytes.clone()];
            let send = || socket.send_train(bytes, &train, remote, local);
            match send_patiently(send, || socket.wait_for_room(), &mut self.waited) {
                Ok(()) => {
                    traffic.packets_out += train.packets as u64;
                    traffic.bytes_out += bytes.len() as u64;
                    traffic.trains_out += u64::from(train.packets > 1);
                }
                Err(error) if train.packets > 1 && may_be_refusal(&error) => {
                    // Other reasons, such as a local address that is gone, concern its packets as well.
                    if socket.send_singly(bytes.chunks(train.segment), remote, local, traffic) > 0 {
                        socket.refusals.note(remote.ip(), self.now);
                    }
                }
                Err(error) => count_failure(&error, train.packets, remote, traffic),
            }
        }
    }

    /// To be called about once a second.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for socket in &mut self.sockets {
            socket.refusals.handle_timeout(now);
        }
    }
}

impl Socket {
    fn new(udp: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&udp))?;
        let bound = udp.local_addr()?.ip();
        ask_for_buffers(&udp, &state);
        let longest_train = state.max_gso_segments();
        Ok(Self { udp, state, bound, longest_train, refusals: Refusals::default() })
    }

    /// The socket that is bound to the local address of the path, or to all addresses of its family.
    fn choose(sockets: &mut [Socket], remote: SocketAddr, local: Option<IpAddr>) -> Option<&mut Socket> {
        let of_family = |socket: &&mut Socket| socket.bound.is_ipv4() == remote.is_ipv4();
        let exact = sockets.iter().position(|socket| Some(socket.bound) == local);
        match exact {
            Some(exact) => sockets.get_mut(exact).filter(of_family),
            None => sockets.iter_mut().find(of_family),
        }
    }

    /// The address to send from, where the socket could send from several.
    fn source(&self, local: Option<IpAddr>) -> Option<IpAddr> {
        local.filter(|local| *local != self.bound)
    }

    fn send_train(
        &self,
        contents: &[u8],
        train: &Train,
        destination: SocketAddr,
        local: Option<IpAddr>,
    ) -> io::Result<()> {
        let src_ip = self.source(local);
        let segment_size = (train.packets > 1).then_some(train.segment);
        let transmit = quinn_udp::Transmit { destination, ecn: None, contents, segment_size, src_ip };
        self.state.try_send(UdpSockRef::from(&self.udp), &transmit)
    }

    /// Sends packets one by one, but with as few calls as possible. Returns how many the system took.
    fn send_singly<'a>(
        &self,
        packets: impl Iterator<Item = &'a [u8]>,
        remote: SocketAddr,
        local: Option<IpAddr>,
        traffic: &mut Traffic,
    ) -> usize {
        let mut taken = 0;
        let mut count = |packet: &[u8], result: io::Result<()>| match result {
            Ok(()) => {
                taken += 1;
                traffic.packets_out += 1;
                traffic.bytes_out += packet.len() as u64;
            }
            Err(error) => count_failure(&error, 1, remote, traffic),
        };
        if self.source(local).is_none() {
            send_singles(&self.udp, remote, packets, |packet, result| {
                count(packet, result.map_err(io::Error::from));
            });
        } else {
            for packet in packets {
                let single = Train { bytes: 0..packet.len(), segment: packet.len(), packets: 1 };
                count(packet, self.send_train(packet, &single, remote, local));
            }
        }
        taken
    }

    fn wait_for_room(&self) {
        // Whether it timed out or was interrupted, the next send tells.
        let _ = poll(&mut [PollFd::new(&self.udp, PollFlags::OUT)], Some(&SEND_PATIENCE));
    }
}

/// The packets of a run.
fn packets<'a>(transmit: &Transmit<'a>) -> impl Iterator<Item = &'a [u8]> {
    let (bytes, ends) = (transmit.bytes, transmit.ends);
    let starts = std::iter::once(0).chain(ends.iter().map(|end| *end as usize));
    starts.zip(ends).filter_map(|(start, end)| bytes.get(start..*end as usize))
}

/// Whether an error may mean that the system does no trains: EIO where the route or the card cannot, EINVAL from kernels
/// and sockets that do not know them.
fn may_be_refusal(error: &io::Error) -> bool {
    [Errno::IO, Errno::INVAL].into_iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Sends; when there is no room, waits for it and tries again, but once in a flush only: the destinations that come
/// after must not be late as well.
fn send_patiently(
    send: impl Fn() -> io::Result<()>,
    wait_for_room: impl FnOnce(),
    waited: &mut bool,
) -> io::Result<()> {
    match send() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && !*waited => {
            *waited = true;
            wait_for_room();
            send()
        }
        sent => sent,
    }
}

fn count_failure(error: &io::Error, packets: usize, remote: SocketAddr, traffic: &mut Traffic) {
    if error.kind() == io::ErrorKind::WouldBlock {
        traffic.send_drops += packets as u64;
    } else {
        traffic.send_errors += packets as u64;
        tracing::debug!(%error, %remote, packets, "sending failed");
    }
}

/// Large buffers, as far as the system allows; it caps them silently.
fn ask_for_buffers(socket: &UdpSocket, state: &UdpSocketState) {
    let reference = || UdpSockRef::from(socket);
    let asked = state
        .set_recv_buffer_size(reference(), SOCKET_BUFFER)
        .and_then(|()| state.set_send_buffer_size(reference(), SOCKET_BUFFER));
    let granted = state.recv_buffer_size(reference()).and_then(|receive| {
        let send = state.send_buffer_size(reference())?;
        Ok(receive.min(send))
    });
    match asked.and(granted) {
        Ok(granted) if granted >= SOCKET_BUFFER => {}
        Ok(granted) => tracing::warn!(
            granted,
            wanted = SOCKET_BUFFER,
            "the system grants small UDP buffers; raise sysctl net.core.rmem_max and net.core.wmem_max"
        ),
        Err(error) => tracing::warn!(%error, "the system refuses to enlarge UDP buffers"),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::poller::Ready;

    fn port() -> (UdpPort, SocketAddr) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        (UdpPort::new([socket]).unwrap(), address)
    }

    /// Receives until `count` datagrams came, at most for some seconds.
    fn receive(port: &mut UdpPort, count: usize, traffic: &mut Traffic) -> Vec<(Path, Vec<u8>)> {
        let poller = Poller::new().unwrap();
        port.register(&poller).unwrap();
        let mut ready = Ready::new();
        let mut received = Vec::new();
        while received.len() < count {
            poller.wait(&mut ready, Duration::from_secs(5)).unwrap();
            assert_eq!(ready.tokens().collect::<Vec<_>>(), [Token::Udp(0)], "got {} in time", received.len());
            port.receive(0, traffic, |path, datagram| received.push((path, datagram.to_vec())));
        }
        received
    }

    fn run(sizes: &[usize]) -> (Vec<u8>, Vec<u32>) {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for (number, size) in sizes.iter().enumerate() {
            bytes.resize(bytes.len() + size, number as u8);
            ends.push(bytes.len() as u32);
        }
        (bytes, ends)
    }

    #[test]
    fn an_answer_comes_from_the_address_that_was_asked() {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let asked = SocketAddr::from(([127, 0, 0, 2], socket.local_addr().unwrap().port()));
        let mut server = UdpPort::new([socket]).unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.send_to(b"ask", asked).unwrap();
        let (path, _) = receive(&mut server, 1, &mut Traffic::default()).remove(0);
        assert_eq!(path, Path::Udp { remote: client.local_addr().unwrap(), local: Some(asked.ip()) });
        server.send(&Transmit { path, bytes: b"answer", ends: &[6] }, &mut Traffic::default());
        let mut answer = [0; 16];
        assert_eq!(client.recv_from(&mut answer).unwrap(), (6, asked));
    }

    #[test]
    fn a_flush_waits_once_for_room_and_then_drops() {
        let (room, waits, mut waited) = (Cell::new(0), Cell::new(0), false);
        let mut send = |room_after_wait| {
            let take = || match room.get() {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                free => {
                    room.set(free - 1);
                    Ok(())
                }
            };
            let wait = || {
                waits.set(waits.get() + 1);
                room.set(room_after_wait);
            };
            send_patiently(take, wait, &mut waited).is_ok()
        };
        assert!(send(2), "there is room after the wait");
        assert!(send(0), "there still is");
        assert!(!send(2), "no second wait");
        assert_eq!(waits.get(), 1);

        let mut traffic = Traffic::default();
        let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        count_failure(&io::ErrorKind::WouldBlock.into(), 54, remote, &mut traffic);
        assert_eq!((traffic.send_drops, traffic.send_errors), (54, 0));
    }

    #[test]
    fn a_train_arrives_as_the_datagrams_it_was_made_of() {
        let (mut sender, from) = port();
        let (mut receiver, to) = port();
        let sizes = [&[1100; 30][..], &[400, 1100, 1100, 1]].concat();
        let (bytes, ends) = run(&sizes);
        let mut sent = Traffic::default();
        let path = Path::Udp { remote: to, local: Some(from.ip()) };
        sender.begin_flush(Instant::now());
        sender.send(&Transmit { path, bytes: &bytes, ends: &ends }, &mut sent);
        assert_eq!((sent.packets_out, sent.bytes_out), (34, bytes.len() as u64));
        assert_eq!((sent.send_errors, sent.send_drops), (0, 0));
        if sender.sockets[0].longest_train > 1 {
            assert_eq!(sent.trains_out, 2);
        }

        let mut taken = Traffic::default();
        let received = receive(&mut receiver, sizes.len(), &mut taken);
        assert_eq!((taken.packets_in, taken.bytes_in), (34, bytes.len() as u64));
        for (number, ((path, datagram), size)) in received.iter().zip(sizes).enumerate() {
            assert_eq!(*path, Path::Udp { remote: from, local: Some(to.ip()) });
            assert_eq!(*datagram, vec![number as u8; size]);
        }
    }

    /// More packets in one train than any kernel takes (UDP_MAX_SEGMENTS: 128, before Linux 6.9 it was 64).
    const REFUSED: usize = 200;

    #[test]
    fn a_train_that_the_system_refuses_travels_as_single_packets_and_so_do_those_after_it() {
        for any in [false, true] {
            let bound = if any { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
            let mut sender = UdpPort::new([UdpSocket::bind((bound, 0)).unwrap()]).unwrap();
            let (mut receiver, to) = port();
            let sizes = [&[20; REFUSED][..], &[7]].concat();
            let (bytes, ends) = run(&sizes);
            let path = Path::Udp { remote: to, local: Some(Ipv4Addr::LOCALHOST.into()) };
            sender.sockets[0].longest_train = 2 * REFUSED;
            let mut sent = Traffic::default();
            let now = Instant::now();
            for flush in 1..=2 {
                sender.begin_flush(now);
                sender.send(&Transmit { path, bytes: &bytes, ends: &ends }, &mut sent);
                assert!(sender.sockets[0].refusals.contains(to.ip()));
                assert_eq!((sent.packets_out, sent.trains_out), (flush * sizes.len() as u64, 0));
                assert_eq!((sent.send_errors, sent.send_drops), (0, 0));
                let received = receive(&mut receiver, sizes.len(), &mut Traffic::default());
                let lens: Vec<usize> = received.iter().map(|(_, datagram)| datagram.len()).collect();
                assert_eq!(lens, sizes);
            }
            sender.handle_timeout(now + Duration::from_mins(2));
            assert!(!sender.sockets[0].refusals.contains(to.ip()));
        }
    }

    #[test]
    fn a_local_address_that_is_gone_is_no_refusal_of_trains() {
        let (mut port, _) = port();
        let (bytes, ends) = run(&[100, 100, 100]);
        let mut traffic = Traffic::default();
        let remote: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let stale = Path::Udp { remote, local: Some([198, 51, 100, 7].into()) };
        port.send(&Transmit { path: stale, bytes: &bytes, ends: &ends }, &mut traffic);
        assert_eq!((traffic.send_errors, traffic.packets_out), (3, 0));
        assert!(!port.sockets[0].refusals.contains(remote.ip()));
    }

    #[test]
    fn an_empty_datagram_is_one_too() {
        let (mut receiver, to) = port();
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().send_to(&[], to).unwrap();
        let received = receive(&mut receiver, 1, &mut Traffic::default());
        assert!(received[0].1.is_empty());
    }

    #[test]
    fn what_has_no_socket_is_counted() {
        let (mut port, _) = port();
        let (bytes, ends) = run(&[100, 100, 100]);
        let mut traffic = Traffic::default();
        let v6 = Path::Udp { remote: "[::1]:9".parse().unwrap(), local: None };
        port.send(&Transmit { path: v6, bytes: &bytes, ends: &ends }, &mut traffic);
        assert_eq!((traffic.send_errors, traffic.packets_out), (3, 0));
    }
}
