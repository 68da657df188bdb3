//! Many TURN clients and the one peer that all of them talk to: they allocate, bind a channel each, and send through their
//! relays or are sent to. All of them are in one thread, send bursts as trains (GSO) and receive what the kernel has joined
//! (GRO), so that they cost less than the server.

use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use md5::Digest as _;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use veche_load::histogram::Histogram;
use veche_stun::attribute::{NONCE, REALM, USERNAME};
use veche_stun::{Class, IntegrityKey, Message, TransactionId, Writer, address, message_type};

/// Who the clients are, for all servers.
pub const USER: &str = "ann";
pub const PASSWORD: &str = "correct horse";

/// The methods (RFC 8656 section 17) and attributes (section 18) that are needed here.
const ALLOCATE: u16 = 0x003;
const CHANNEL_BIND: u16 = 0x009;
const CHANNEL_NUMBER: u16 = 0x000c;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const XOR_RELAYED_ADDRESS: u16 = 0x0016;
const REQUESTED_TRANSPORT: u16 = 0x0019;
const UDP: u8 = 17;

/// The channel of each client, and what its header takes.
const CHANNEL: u16 = 0x4000;
const CHANNEL_HEADER: usize = 4;

/// Whose a packet is, and when it was sent.
const STAMP: usize = 4 + 8;

/// How many clients ask at the same time.
const ASKING: usize = 64;

/// How long an answer may take, and what was sent last.
const PATIENCE: Duration = Duration::from_secs(10);
const LAST_WAIT: Duration = Duration::from_secs(2);

/// When nothing has come for so long after the last was sent, a server has done its work: what it loses does not come, and waiting
/// for it is no work of anybody.
const PAUSE: Duration = Duration::from_millis(50);

/// What is asked of the system for each direction: no packet shall be lost by the load tool.
const SOCKET_BUFFER: usize = 4 << 20;

/// The kernel joins datagrams up to the largest UDP payload.
const RECEIVE_BUFFER: usize = 1 << 16;

/// How many sockets one wait reports.
const MAX_READY: usize = 64;

/// Bursts that are late are sent together, but not more of them.
const MAX_LATE: u64 = 64;

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From clients through their relays to the peer.
    ToPeer,
    /// From the peer to relays, and on to their clients.
    ToClients,
    /// From clients to the peer without a server: what the load tool itself can do.
    Direct,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Media {
    /// Bytes of data in a packet; with the channel's header they are more.
    pub payload: usize,
    /// How many packets one client has at a time: those of a frame, or one of a voice.
    pub burst: usize,
}

/// What went and what came.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Packets that were sent.
    pub sent: u64,
    /// Packets that came.
    pub received: u64,
    /// How late they came.
    pub delays: Histogram,
    /// From the first that was sent to the last that came before there was a pause.
    pub busy: Duration,
}

/// The clients and their peer.
pub struct Clients {
    server: SocketAddr,
    all: Vec<Client>,
    peer: Endpoint,
    epoll: OwnedFd,
    ready: Vec<epoll::Event>,
    buffer: Vec<u8>,
    /// Stamps are nanoseconds since then.
    clock: Instant,
}

#[derive(Debug)]
struct Client {
    endpoint: Endpoint,
    relay: SocketAddr,
}

#[derive(Debug)]
struct Endpoint {
    udp: UdpSocket,
    state: UdpSocketState,
    address: SocketAddr,
}

impl Clients {
    /// So many clients allocate and bind a channel; tells meanwhile how many have.
    ///
    /// # Errors
    /// When one of them is refused, or gets no answer.
    pub fn allocate(server: SocketAddr, count: usize, tell: impl Fn(usize)) -> anyhow::Result<Self> {
        let peer = Endpoint::new()?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut clients = Vec::with_capacity(count);
        while clients.len() < count {
            let endpoints: Vec<Endpoint> = (clients.len()..count.min(clients.len() + ASKING))
                .map(|_| Endpoint::new())
                .collect::<anyhow::Result<_>>()?;
            for (endpoint, relay) in allocate_together(server, endpoints, peer.address)? {
                let place = epoll::EventData::new_u64(clients.len() as u64);
                epoll::add(&epoll, &endpoint.udp, place, epoll::EventFlags::IN)?;
                clients.push(Client { endpoint, relay });
            }
            tell(clients.len());
        }
        for endpoint in clients.iter().map(|client| &client.endpoint).chain([&peer]) {
            endpoint.udp.set_nonblocking(true)?;
        }
        let (ready, buffer) = (Vec::with_capacity(MAX_READY), vec![0; BATCH_SIZE * RECEIVE_BUFFER]);
        Ok(Self { server, all: clients, peer, epoll, ready, buffer, clock: Instant::now() })
    }

    /// Clients that have no server: they speak to the peer.
    ///
    /// # Errors
    /// When there are too few sockets.
    pub fn without_server(count: usize) -> anyhow::Result<Self> {
        let peer = Endpoint::new()?;
        let client = || {
            let endpoint = Endpoint::new()?;
            Ok(Client { relay: endpoint.address, endpoint })
        };
        let all: Vec<Client> = (0..count).map(|_| client()).collect::<anyhow::Result<_>>()?;
        peer.udp.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let (ready, buffer) = (Vec::new(), vec![0; BATCH_SIZE * RECEIVE_BUFFER]);
        Ok(Self { server: peer.address, all, peer, epoll, ready, buffer, clock: Instant::now() })
    }

    /// Sends so many packets a second, the clients in turn, until so many were sent, and receives them. Tells meanwhile how
    /// many were sent, and calls `pause` once, when all has come or nothing comes any more.
    ///
    /// # Errors
    /// When a socket fails, or something comes that was not sent so.
    pub fn relay(
        &mut self,
        way: Way,
        media: Media,
        rate: u64,
        packets: u64,
        (tell, pause): (impl Fn(u64), impl FnOnce() -> anyhow::Result<()>),
    ) -> anyhow::Result<Flow> {
        let burst = media.burst as u64;
        let mut flow = Flow { sent: 0, received: 0, delays: Histogram::default(), busy: Duration::ZERO };
        let mut pause = Some(pause);
        let mut train = vec![0; media.burst * (CHANNEL_HEADER + media.payload)];
        let (began, mut last) = (Instant::now(), Instant::now());
        let mut bursts = 0;
        while flow.sent < packets || (flow.received < flow.sent && last.elapsed() < LAST_WAIT) {
            if flow.sent < packets {
                let due =
                    (began.elapsed().as_nanos() as u64).saturating_mul(rate) / burst / 1_000_000_000 + 1;
                let due = due.min(bursts + MAX_LATE).min(packets.div_ceil(burst));
                while bursts < due {
                    self.send(way, media, bursts as usize % self.all.len(), &mut train)?;
                    bursts += 1;
                    flow.sent += burst;
                }
                last = Instant::now();
                tell(flow.sent);
            }
            let before = flow.received;
            self.receive(way, media, &mut flow)?;
            if flow.received != before {
                last = Instant::now();
            }
            if pause.is_some() {
                flow.busy = last.duration_since(began);
            }
            if flow.sent >= packets
                && last.elapsed() >= PAUSE
                && let Some(pause) = pause.take()
            {
                pause()?;
            }
        }
        if let Some(pause) = pause {
            pause()?;
        }
        Ok(flow)
    }

    /// Sends a burst from a client to the peer, or the other way.
    fn send(&self, way: Way, media: Media, index: usize, train: &mut Vec<u8>) -> anyhow::Result<()> {
        let client = &self.all[index];
        let now = (self.clock.elapsed().as_nanos() as u64).to_be_bytes();
        let header = [CHANNEL.to_be_bytes(), (media.payload as u16).to_be_bytes()];
        train.clear();
        for _ in 0..media.burst {
            if way == Way::ToPeer {
                train.extend_from_slice(header.as_flattened());
            }
            train.extend_from_slice(&(index as u32).to_be_bytes());
            train.extend_from_slice(&now);
            train.resize(train.len() + media.payload - STAMP, 0);
        }
        let (endpoint, destination) = match way {
            Way::ToPeer => (&client.endpoint, self.server),
            Way::ToClients => (&self.peer, client.relay),
            Way::Direct => (&client.endpoint, self.peer.address),
        };
        let segment_size = (media.burst > 1).then_some(train.len() / media.burst);
        let transmit = Transmit { destination, ecn: None, contents: train, segment_size, src_ip: None };
        let sent = endpoint.state.try_send(UdpSockRef::from(&endpoint.udp), &transmit);
        sent.context("the load tool cannot send")
    }

    /// Receives what has come, if anything has.
    fn receive(&mut self, way: Way, media: Media, flow: &mut Flow) -> anyhow::Result<()> {
        let Self { all: clients, peer, epoll, ready, buffer, clock, .. } = self;
        if way != Way::ToClients {
            return peer.receive(buffer, |from, packet| {
                flow.take(*clock, packet, media, |index| {
                    clients.get(index).map(|client| client.relay) == Some(from)
                })
            });
        }
        ready.clear();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(&*epoll, spare_capacity(ready), Some(&now)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for sockets failed"),
        }
        for event in ready.drain(..) {
            let place = event.data.u64() as usize;
            clients[place].endpoint.receive(buffer, |_, packet| {
                let (header, data) =
                    packet.split_at_checked(CHANNEL_HEADER).context("a packet is too short")?;
                if header[..2] != CHANNEL.to_be_bytes() {
                    bail!("something else than data of the channel came");
                }
                flow.take(*clock, data, media, |index| index == place)
            })?;
        }
        Ok(())
    }
}

impl Flow {
    fn take(
        &mut self,
        clock: Instant,
        packet: &[u8],
        media: Media,
        is_whose: impl FnOnce(usize) -> bool,
    ) -> anyhow::Result<()> {
        let stamp = packet.split_first_chunk::<4>().filter(|_| packet.len() == media.payload);
        let (index, rest) = stamp.context("a packet has not the length that it was sent with")?;
        if !is_whose(u32::from_be_bytes(*index) as usize) {
            bail!("a packet came out somewhere else");
        }
        let sent = rest.first_chunk().map_or(0, |stamp| u64::from_be_bytes(*stamp));
        self.delays.record(clock.elapsed().saturating_sub(Duration::from_nanos(sent)));
        self.received += 1;
        Ok(())
    }
}

impl Endpoint {
    fn new() -> anyhow::Result<Self> {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("too few sockets")?;
        let state = UdpSocketState::new(UdpSockRef::from(&udp))?;
        state.set_recv_buffer_size(UdpSockRef::from(&udp), SOCKET_BUFFER)?;
        state.set_send_buffer_size(UdpSockRef::from(&udp), SOCKET_BUFFER)?;
        udp.set_nonblocking(false)?;
        udp.set_read_timeout(Some(PATIENCE))?;
        let address = udp.local_addr()?;
        Ok(Self { udp, state, address })
    }

    /// Receives one batch, if there is one, and hands over each datagram with whom it is from.
    fn receive(
        &self,
        buffer: &mut [u8],
        mut handle: impl FnMut(SocketAddr, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut buffers = buffer.chunks_exact_mut(RECEIVE_BUFFER);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
        let count = match self.state.recv(UdpSockRef::from(&self.udp), &mut slices, &mut metas) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("the load tool cannot receive"),
        };
        for (meta, slice) in metas.iter().zip(&slices).take(count) {
            for datagram in slice[..meta.len].chunks(meta.stride.max(1)) {
                handle(meta.addr, datagram)?;
            }
        }
        Ok(())
    }

    fn send(&self, message: &[u8], server: SocketAddr) -> io::Result<()> {
        self.udp.send_to(message, server).map(|_| ())
    }
}

/// Each asks, and is told a nonce; each asks again with a credential; each binds its channel. Gives the relays.
fn allocate_together(
    server: SocketAddr,
    endpoints: Vec<Endpoint>,
    peer: SocketAddr,
) -> anyhow::Result<Vec<(Endpoint, SocketAddr)>> {
    let udp = (REQUESTED_TRANSPORT, vec![UDP, 0, 0, 0]);
    for endpoint in &endpoints {
        endpoint.send(&request(ALLOCATE, [1; 12], std::slice::from_ref(&udp), None, &[]), server)?;
    }
    let mut asked = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let answer = endpoint.answer(ALLOCATE, [1; 12], Class::Error)?;
        let login = Login::read(&answer).context("the server does not say what a credential is for")?;
        let attributes = std::slice::from_ref(&udp);
        endpoint.send(&request(ALLOCATE, [2; 12], attributes, Some(&login), &[]), server)?;
        asked.push((endpoint, login));
    }
    let mut allocated = Vec::with_capacity(asked.len());
    for (endpoint, login) in asked {
        let answer = endpoint.answer(ALLOCATE, [2; 12], Class::Success)?;
        let relay =
            find(&answer, XOR_RELAYED_ADDRESS).and_then(|value| address::read_xor(&value, &[2; 12]).ok());
        let relay = relay.context("an allocation has no relay")?;
        let channel = (CHANNEL_NUMBER, [&CHANNEL.to_be_bytes()[..], &[0, 0]].concat());
        endpoint.send(&request(CHANNEL_BIND, [3; 12], &[channel], Some(&login), &[peer]), server)?;
        allocated.push((endpoint, relay));
    }
    for (endpoint, _) in &allocated {
        endpoint.answer(CHANNEL_BIND, [3; 12], Class::Success)?;
    }
    Ok(allocated)
}

impl Endpoint {
    /// Waits for the answer to a request, which must be such a one.
    fn answer(&self, method: u16, transaction: TransactionId, class: Class) -> anyhow::Result<Vec<u8>> {
        let mut buffer = [0; 2048];
        let len = self.udp.recv(&mut buffer).context("a request is not answered")?;
        let answer = Message::parse(&buffer[..len]).ok().filter(|answer| answer.transaction() == transaction);
        let answer = answer.context("an answer is not understood")?;
        if answer.kind() != message_type(class, method) {
            bail!("method {method:#x} is answered with {:#06x}: {:x?}", answer.kind(), &buffer[..len]);
        }
        Ok(buffer[..len].to_vec())
    }
}

/// What a server wants to be told with a credential.
#[derive(Debug)]
struct Login {
    realm: Vec<u8>,
    nonce: Vec<u8>,
    key: IntegrityKey,
}

impl Login {
    fn read(challenge: &[u8]) -> Option<Self> {
        let (realm, nonce) = (find(challenge, REALM)?, find(challenge, NONCE)?);
        // RFC 8489 section 9.2.2.
        let key = [USER.as_bytes(), &realm, PASSWORD.as_bytes()].join(&b':');
        Some(Self { realm, nonce, key: IntegrityKey::sha1(&md5::Md5::digest(key)) })
    }
}

fn request(
    method: u16,
    transaction: TransactionId,
    attributes: &[(u16, Vec<u8>)],
    login: Option<&Login>,
    peers: &[SocketAddr],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(message_type(Class::Request, method), &transaction, &mut bytes);
    for (kind, value) in attributes {
        writer.attribute(*kind, value);
    }
    for peer in peers {
        writer.xor_address(XOR_PEER_ADDRESS, *peer);
    }
    if let Some(login) = login {
        writer.attribute(USERNAME, USER.as_bytes());
        writer.attribute(REALM, &login.realm);
        writer.attribute(NONCE, &login.nonce);
        writer.integrity(&login.key);
    }
    bytes
}

/// The value of an attribute.
fn find(message: &[u8], kind: u16) -> Option<Vec<u8>> {
    let message = Message::parse(message).ok()?;
    let attribute = message.attributes().flatten().find(|attribute| attribute.kind == kind)?;
    Some(attribute.value.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_what_is_lost_is_nobodys_work() {
        let media = Media { payload: 160, burst: 1 };
        let mut clients = Clients::without_server(1).unwrap();
        let flow = clients.relay(Way::Direct, media, 1000, 100, (|_| {}, || Ok(()))).unwrap();
        assert_eq!((flow.sent, flow.received), (100, 100));

        // From now on nobody has what is sent.
        let elsewhere = Endpoint::new().unwrap();
        clients.peer.address = elsewhere.address;
        let began = Instant::now();
        let mut paused = None;
        let pause = || {
            paused = Some(began.elapsed());
            Ok(())
        };
        let flow = clients.relay(Way::Direct, media, 1000, 100, (|_| {}, pause)).unwrap();
        let paused = paused.unwrap();
        assert_eq!((flow.sent, flow.received), (100, 0));
        assert!(flow.busy + PAUSE <= paused, "{:?} {paused:?}", flow.busy);
        assert!(began.elapsed() >= flow.busy + LAST_WAIT, "it waits for what is late all the same");
    }
}
