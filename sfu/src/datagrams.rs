//! One UDP socket: datagrams in by batches (recvmmsg, GRO), out by trains (GSO), or one by one where the system refuses those.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, sendto};

use crate::metrics::Traffic;
use crate::refusals::Refusals;
use crate::singles::send_singles;
use crate::trains::{Train, trains};

/// Room for one receive: the kernel joins datagrams (GRO) up to the largest UDP payload.
const RECEIVE_BUFFER: usize = 1 << 16;

/// How long one flush may wait for room in a full send buffer, in all. What is later than that is useless.
const SEND_PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// Room for what one call of the system receives; the sockets of a thread share it.
#[derive(Debug)]
pub struct ReceiveBuffer(Box<[u8]>);

/// What one flush has already waited for.
#[derive(Debug)]
pub struct Flush {
    /// When it began.
    now: Instant,
    /// Whether it has waited for a full send buffer.
    waited: bool,
}

/// A UDP socket that does not block.
#[derive(Debug)]
pub struct Datagrams {
    pub(crate) udp: UdpSocket,
    state: UdpSocketState,
    bound: IpAddr,
    /// How many packets the system takes as one train; 1 where it knows none.
    pub(crate) longest_train: usize,
    pub(crate) refusals: Refusals,
}

impl Default for ReceiveBuffer {
    fn default() -> Self {
        Self(vec![0; BATCH_SIZE * RECEIVE_BUFFER].into())
    }
}

impl Flush {
    /// Begins now.
    pub fn begin(now: Instant) -> Self {
        Self { now, waited: false }
    }
}

impl Datagrams {
    /// Takes a bound socket.
    pub fn new(udp: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&udp))?;
        let bound = udp.local_addr()?.ip();
        let longest_train = state.max_gso_segments();
        Ok(Self { udp, state, bound, longest_train, refusals: Refusals::default() })
    }

    /// The socket itself, to wait for.
    pub fn socket(&self) -> &UdpSocket {
        &self.udp
    }

    /// The address that it is bound to, perhaps that of all.
    pub fn bound(&self) -> IpAddr {
        self.bound
    }

    /// Asks for buffers of so many bytes for each direction; returns the smaller of what the system grants, which caps them
    /// silently.
    pub fn ask_for_buffers(&self, bytes: usize) -> io::Result<usize> {
        let socket = || UdpSockRef::from(&self.udp);
        self.state.set_recv_buffer_size(socket(), bytes)?;
        self.state.set_send_buffer_size(socket(), bytes)?;
        Ok(self.state.recv_buffer_size(socket())?.min(self.state.send_buffer_size(socket())?))
    }

    /// Receives one batch and hands over each datagram with whom it is from and the address that it was sent to. Returns
    /// whether the batch was full, so that more is there than was received.
    pub fn receive(
        &self,
        buffer: &mut ReceiveBuffer,
        traffic: &mut Traffic,
        handle: impl FnMut(SocketAddr, Option<IpAddr>, &mut [u8]),
    ) -> bool {
        self.receive_at_most(BATCH_SIZE, buffer, traffic, handle)
    }

    /// The same with at most so many messages, each of which may be several datagrams: where few are expected, asking for less
    /// costs less.
    pub fn receive_at_most(
        &self,
        most: usize,
        buffer: &mut ReceiveBuffer,
        traffic: &mut Traffic,
        mut handle: impl FnMut(SocketAddr, Option<IpAddr>, &mut [u8]),
    ) -> bool {
        let most = most.clamp(1, BATCH_SIZE);
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut buffers = buffer.0.chunks_exact_mut(RECEIVE_BUFFER);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
        let received =
            match self.state.recv(UdpSockRef::from(&self.udp), &mut slices[..most], &mut metas[..most]) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => {
                    tracing::debug!(%error, "receiving failed");
                    return false;
                }
            };
        for (meta, buffer) in metas.iter().zip(&mut slices).take(received) {
            // Nobody can be answered at port 0; and trying to would make the system refuse our trains.
            if meta.addr.port() == 0 {
                continue;
            }
            let Some(joined) = buffer.get_mut(..meta.len) else { continue };
            traffic.bytes_in += joined.len() as u64;
            if joined.is_empty() {
                traffic.packets_in += 1;
                handle(meta.addr, meta.dst_ip, joined);
            }
            for datagram in joined.chunks_mut(meta.stride.max(1)) {
                traffic.packets_in += 1;
                handle(meta.addr, meta.dst_ip, datagram);
            }
        }
        received == most
    }

    /// Sends packets that lie one behind the other, given by where each ends. Never blocks: what finds no room within a
    /// millisecond is dropped. `local` is the address to send from, where there are several.
    pub fn send(
        &mut self,
        remote: SocketAddr,
        local: Option<IpAddr>,
        (bytes, ends): (&[u8], &[u32]),
        flush: &mut Flush,
        traffic: &mut Traffic,
    ) {
        let longest = if self.refusals.contains(remote.ip()) { 1 } else { self.longest_train };
        if longest == 1 && ends.len() > 1 {
            self.send_singly(packets(bytes, ends), remote, local, traffic);
            return;
        }
        for train in trains(ends, longest) {
            traffic.sends_out += 1;
            let bytes = &bytes[train.bytes.clone()];
            let send = || match self.send_train(bytes, &train, remote, local) {
                Err(error) if is_of_another(&error) => self.send_train(bytes, &train, remote, local),
                sent => sent,
            };
            match send_patiently(send, || self.wait_for_room(), &mut flush.waited) {
                Ok(()) => {
                    traffic.packets_out += train.packets as u64;
                    traffic.bytes_out += bytes.len() as u64;
                    traffic.trains_out += u64::from(train.packets > 1);
                }
                Err(error) if train.packets > 1 && is_too_large(&error) => {
                    // The system cuts no packets of trains, but single ones, where it may.
                    self.send_singly(bytes.chunks(train.segment), remote, local, traffic);
                }
                Err(error) if train.packets > 1 && may_be_refusal(&error) => {
                    // Other reasons, such as a local address that is gone, concern its packets as well.
                    if self.send_singly(bytes.chunks(train.segment), remote, local, traffic) > 0 {
                        self.refusals.note(remote.ip(), flush.now);
                    }
                }
                Err(error) => count_failure(&error, train.packets, remote, traffic),
            }
        }
    }

    /// To be called about once a second.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.refusals.handle_timeout(now);
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
        if train.packets == 1 && src_ip.is_none() {
            // Nothing but where it goes is to be said of it, which the system takes in less time.
            return send_single(&self.udp, destination, contents);
        }
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

fn send_single(socket: &UdpSocket, destination: SocketAddr, packet: &[u8]) -> io::Result<()> {
    loop {
        match sendto(socket, packet, SendFlags::DONTWAIT, &destination) {
            Err(Errno::INTR) => {}
            sent => return Ok(sent.map(|_| ())?),
        }
    }
}

/// The packets of a run.
fn packets<'a>(bytes: &'a [u8], ends: &'a [u32]) -> impl Iterator<Item = &'a [u8]> {
    let starts = std::iter::once(0).chain(ends.iter().map(|end| *end as usize));
    starts.zip(ends).filter_map(|(start, end)| bytes.get(start..*end as usize))
}

/// Whether packets are larger than the MTU.
fn is_too_large(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error())
}

/// Whether an error may be what a network said of a packet that was sent before, to whomever: the next send returns it, once.
pub(crate) fn is_of_another(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::NETUNREACH, Errno::PROTO]
        .into_iter()
        .any(|other| errno == Some(other.raw_os_error()))
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::Ipv4Addr;

    use super::*;

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
}
