//! A worker's UDP port: a socket for each bound address.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

use smallvec::SmallVec;
use veche_sfu_core::engine::Transmit;
use veche_sfu_core::path::Path;

use crate::datagrams::{Datagrams, Flush, ReceiveBuffer};
use crate::metrics::Traffic;
use crate::poller::{Interest, Poller, Token};

/// What is asked of the system for each direction: a key frame of 200 kB to each of a few hundred viewers comes at
/// once, and nothing is lost while the worker is busy for some milliseconds.
const SOCKET_BUFFER: usize = 4 << 20;

/// The sockets of one worker, one for each bound address, all with the same port.
#[derive(Debug)]
pub(crate) struct UdpPort {
    sockets: SmallVec<[Datagrams; 2]>,
    receive_buffer: ReceiveBuffer,
    /// Whether a batch was full, so that more is there than was received.
    flooded: bool,
    flush: Flush,
}

impl UdpPort {
    pub(crate) fn new(sockets: impl IntoIterator<Item = UdpSocket>) -> io::Result<Self> {
        let sockets: SmallVec<_> = sockets.into_iter().map(Datagrams::new).collect::<io::Result<_>>()?;
        sockets.iter().for_each(ask_for_buffers);
        let receive_buffer = ReceiveBuffer::default();
        Ok(Self { sockets, receive_buffer, flooded: false, flush: Flush::begin(Instant::now()) })
    }

    pub(crate) fn register(&self, poller: &Poller) -> io::Result<()> {
        self.sockets
            .iter()
            .enumerate()
            .try_for_each(|(index, socket)| poller.add(socket.socket(), Token::Udp(index), Interest::Read))
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
        self.flooded = socket.receive(&mut self.receive_buffer, traffic, |remote, local, datagram| {
            handle(Path::Udp { remote, local }, datagram);
        });
    }

    /// To be called before the sends of one flush.
    pub(crate) fn begin_flush(&mut self, now: Instant) {
        self.flush = Flush::begin(now);
    }

    /// Sends a run of packets over a UDP path. Never blocks: what finds no room within a millisecond is dropped.
    pub(crate) fn send(&mut self, transmit: &Transmit<'_>, traffic: &mut Traffic) {
        let Path::Udp { remote, local } = transmit.path else { return };
        let Some(socket) = choose(&mut self.sockets, remote, local) else {
            traffic.send_errors += transmit.ends.len() as u64;
            return;
        };
        socket.send(remote, local, (transmit.bytes, transmit.ends), &mut self.flush, traffic);
    }

    /// To be called about once a second.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for socket in &mut self.sockets {
            socket.handle_timeout(now);
        }
    }
}

/// The socket that is bound to the local address of the path, or to all addresses of its family.
fn choose(sockets: &mut [Datagrams], remote: SocketAddr, local: Option<IpAddr>) -> Option<&mut Datagrams> {
    let of_family = |socket: &&mut Datagrams| socket.bound().is_ipv4() == remote.is_ipv4();
    let exact = sockets.iter().position(|socket| Some(socket.bound()) == local);
    match exact {
        Some(exact) => sockets.get_mut(exact).filter(of_family),
        None => sockets.iter_mut().find(of_family),
    }
}

/// Large buffers, as far as the system allows.
fn ask_for_buffers(socket: &Datagrams) {
    match socket.ask_for_buffers(SOCKET_BUFFER) {
        // Linux tells twice what it grants (socket(7)).
        Ok(told) if told / 2 >= SOCKET_BUFFER => {}
        Ok(told) => tracing::warn!(
            granted = told / 2,
            wanted = SOCKET_BUFFER,
            "the system grants small UDP buffers; raise sysctl net.core.rmem_max and net.core.wmem_max"
        ),
        Err(error) => tracing::warn!(%error, "the system refuses to enlarge UDP buffers"),
    }
}

#[cfg(test)]
mod tests {
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
