//! One client on the network: its socket, its transport, what it publishes and what it receives.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use veche_sfu_core::dtls::Certificate;
use veche_sfu_core::rtcp::{self, CompoundWriter, Packet};
use veche_sfu_core::rtp::is_rtcp;
use veche_sfu_core::sdp::IceCredentials;
use veche_testkit::network::{Link, LinkConfig, OVERHEAD};

use crate::clock::Clock;
use crate::measure::Counters;
use crate::negotiation::{Agreement, PublishedTrack};
use crate::publisher::{Media, Publisher};
use crate::send_times::SendTimes;
use crate::subscriber::Subscriber;
use crate::transport::Transport;
use crate::voice::Voice;

/// libwebrtc sends transport-wide feedback every 50 to 250 ms.
const FEEDBACK_INTERVAL: Duration = Duration::from_millis(100);
/// RFC 3550 section 6.2 allows more than one in 5 s for fast links; libwebrtc reports video once a second.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// What is missing is asked for this long after it is seen, as what overtook it may be all that happened.
const REQUEST_DELAY: Duration = Duration::from_millis(10);
/// Of each direction: a train of 64 KB with room to spare, and a key frame's burst behind it.
const SOCKET_BUFFER: usize = 1 << 20;
/// How many receives one call makes; a train of GSO is one of them.
const BATCH: usize = 8;
const RECEIVE_BUFFER: usize = 1 << 16;

/// Memory for receiving, shared by the clients of a thread.
pub struct ReceiveBuffer(Box<[u8]>);

impl Default for ReceiveBuffer {
    fn default() -> Self {
        Self(vec![0; BATCH * RECEIVE_BUFFER].into())
    }
}

/// All that a client of a thread begins with.
pub struct PeerSetup {
    /// Its credentials.
    pub ice: IceCredentials,
    /// What was agreed on in its negotiation.
    pub agreement: Agreement,
    /// The certificate whose fingerprint it told.
    pub certificate: Arc<Certificate>,
    /// What it publishes.
    pub tracks: Vec<PublishedTrack>,
    /// What each layer of each track sends.
    pub media: Vec<(Media, Option<Voice>)>,
    /// One of so many received packets is decrypted.
    pub sample: u32,
    /// What its network does in each direction.
    pub network: Option<LinkConfig>,
    /// When its send times are noted.
    pub times: Arc<SendTimes>,
    /// The clock of stamps.
    pub clock: Clock,
    /// Of all that chance decides.
    pub seed: u64,
}

/// A client.
pub struct Peer {
    wire: Wire,
    transport: Transport,
    publisher: Publisher,
    subscriber: Subscriber,
    requests_at: Option<Instant>,
    feedback_at: Instant,
    report_at: Instant,
    compound: CompoundWriter,
    scratch: Vec<u8>,
}

/// The socket, and the network before it.
struct Wire {
    socket: UdpSocket,
    state: UdpSocketState,
    links: Option<Box<Links>>,
    send_errors: u64,
}

struct Links {
    up: Link<Vec<u8>>,
    down: Link<Vec<u8>>,
}

impl Peer {
    /// A client that begins to connect at once.
    pub fn new(setup: PeerSetup, now: Instant) -> io::Result<Self> {
        let mut rng = StdRng::seed_from_u64(setup.seed);
        let agreement = &setup.agreement;
        let wire = Wire::new(agreement.address, setup.network, &mut rng)?;
        let transport = Transport::new(setup.ice, agreement, &setup.certificate, rng.random(), now);
        let times = Arc::clone(&setup.times);
        let publisher =
            Publisher::new(&setup.tracks, setup.media, agreement, setup.clock, times, now, &mut rng);
        Ok(Self {
            wire,
            transport,
            publisher,
            subscriber: Subscriber::new(agreement, setup.sample, setup.clock, setup.times),
            requests_at: None,
            feedback_at: now + FEEDBACK_INTERVAL.mul_f64(rng.random()),
            report_at: now + REPORT_INTERVAL.mul_f64(rng.random()),
            compound: CompoundWriter::default(),
            scratch: Vec::new(),
        })
    }

    /// Its socket, to wait for.
    pub fn socket(&self) -> &UdpSocket {
        &self.wire.socket
    }

    /// Its transport.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// What it receives.
    pub fn subscriber(&mut self) -> &mut Subscriber {
        &mut self.subscriber
    }

    /// The server wants these layers of a published section, or does not.
    pub fn set_wanted(&mut self, now: Instant, mid: &str, layers: &[(Option<String>, bool)]) {
        self.publisher.set_wanted(now, mid, layers);
    }

    /// Receives what has come.
    pub fn receive(&mut self, buffer: &mut ReceiveBuffer, counters: &mut Counters) {
        let mut metas = [RecvMeta::default(); BATCH];
        let mut buffers = buffer.0.chunks_exact_mut(RECEIVE_BUFFER);
        let mut slices: [IoSliceMut<'_>; BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(buffers.next().unwrap_or_default()));
        let socket = UdpSockRef::from(&self.wire.socket);
        // A refused connection is no more than a lost packet: the server may be restarting.
        let Ok(received) = self.wire.state.recv(socket, &mut slices, &mut metas) else { return };
        let now = Instant::now();
        for (meta, slice) in metas.iter().zip(&mut slices).take(received) {
            let Some(joined) = slice.get_mut(..meta.len) else { continue };
            for datagram in joined.chunks_mut(meta.stride.max(1)) {
                if let Some(links) = self.wire.links.as_mut() {
                    links.down.handle_packet(now, datagram.len() + OVERHEAD, datagram.to_vec());
                } else {
                    self.handle_datagram(now, datagram, counters);
                }
            }
        }
        self.after_input(now, counters);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, counters: &mut Counters) {
        self.wire.handle_timeout(now);
        while let Some(mut datagram) = self.wire.poll_received(now) {
            self.handle_datagram(now, &mut datagram, counters);
        }
        self.transport.handle_timeout(now);
        if let Some((_, outbound)) = self.transport.srtp() {
            let wire = &mut self.wire;
            self.publisher.handle_timeout(now, outbound, counters, &mut |datagram| wire.send(now, datagram));
            self.send_feedback(now, counters);
        }
        self.after_input(now, counters);
    }

    /// When [`Peer::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Instant {
        let mut at = self.transport.poll_timeout();
        let mut sooner = |other: Option<Instant>| at = other.map_or(at, |other| at.min(other));
        if self.transport.connected() {
            sooner(self.publisher.poll_timeout());
            sooner(self.requests_at);
            sooner(self.subscriber.has_arrivals().then_some(self.feedback_at));
            sooner(Some(self.report_at));
        }
        sooner(self.wire.poll_timeout());
        at
    }

    /// Says goodbye.
    pub fn close(&mut self, now: Instant) {
        self.transport.close();
        self.flush_transport(now);
    }

    fn handle_datagram(&mut self, now: Instant, datagram: &mut [u8], counters: &mut Counters) {
        // RFC 7983.
        match datagram.first() {
            Some(0..=3) => self.transport.handle_stun(now, datagram),
            Some(20..=63) => self.transport.handle_dtls(now, datagram),
            Some(128..=191) if is_rtcp(datagram) => self.handle_rtcp(now, datagram, counters),
            Some(128..=191) => match self.transport.srtp() {
                Some((inbound, _)) => self.subscriber.handle_rtp(now, inbound, datagram, counters),
                None => counters.strange += 1,
            },
            _ => counters.strange += 1,
        }
    }

    fn handle_rtcp(&mut self, now: Instant, datagram: &mut [u8], counters: &mut Counters) {
        let Some((inbound, outbound)) = self.transport.srtp() else { return };
        let Ok(len) = inbound.unprotect_rtcp(datagram) else {
            counters.strange += 1;
            return;
        };
        for packet in rtcp::parse(&datagram[..len]).flatten() {
            match packet {
                Packet::SenderReport(report) => {
                    self.subscriber.handle_sender_report(now, report.info.ssrc, report.info.ntp);
                }
                Packet::Nack(nack) => {
                    let wire = &mut self.wire;
                    for seq in nack.seqs() {
                        let mut send = |datagram: &[u8]| wire.send(now, datagram);
                        self.publisher.handle_nack(nack.media, seq, outbound, counters, &mut send);
                    }
                }
                Packet::Pli { media, .. } => {
                    counters.key_requests += 1;
                    self.publisher.handle_key_request(media);
                }
                Packet::Fir(fir) => {
                    for (media, _) in fir.entries() {
                        counters.key_requests += 1;
                        self.publisher.handle_key_request(media);
                    }
                }
                _ => {}
            }
        }
    }

    fn after_input(&mut self, now: Instant, counters: &mut Counters) {
        self.flush_transport(now);
        if self.requests_at.is_none() && self.subscriber.waits() {
            self.requests_at = Some(now + REQUEST_DELAY);
        }
        counters.send_errors += std::mem::take(&mut self.wire.send_errors);
    }

    fn flush_transport(&mut self, now: Instant) {
        while let Some(datagram) = self.transport.poll_transmit() {
            self.wire.send(now, &datagram);
        }
    }

    fn send_feedback(&mut self, now: Instant, counters: &mut Counters) {
        if self.report_at <= now {
            self.report_at = now + REPORT_INTERVAL;
            self.subscriber.write_report(now, &mut self.compound);
            let publisher = &self.publisher;
            self.compound.add(|out| publisher.write_reports(now, out));
        }
        if self.requests_at.is_some_and(|at| at <= now) {
            self.subscriber.write_requests(now, &mut self.compound, counters);
            self.requests_at = self.subscriber.waits().then_some(now + REQUEST_DELAY);
        }
        if self.feedback_at <= now {
            self.feedback_at = now + FEEDBACK_INTERVAL;
            self.subscriber.write_feedback(&mut self.compound);
        }
        let Some((_, outbound)) = self.transport.srtp() else { return };
        for datagram in self.compound.datagrams() {
            self.scratch.clear();
            self.scratch.extend_from_slice(datagram);
            if outbound.protect_rtcp(&mut self.scratch, 0).is_ok() {
                self.wire.send(now, &self.scratch);
            }
        }
        self.compound.clear();
    }
}

impl Wire {
    fn new(remote: SocketAddr, network: Option<LinkConfig>, rng: &mut StdRng) -> io::Result<Self> {
        let any = match remote.ip() {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let socket = UdpSocket::bind((any, 0))?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // The system caps what is asked for. Packets lost for want of it are seen as loss.
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SOCKET_BUFFER);
        socket.connect(remote)?;
        let links = network.map(|config| {
            let mut link = || Link::new(config, StdRng::seed_from_u64(rng.random()));
            Box::new(Links { up: link(), down: link() })
        });
        Ok(Self { socket, state, links, send_errors: 0 })
    }

    fn send(&mut self, now: Instant, datagram: &[u8]) {
        if let Some(links) = self.links.as_mut() {
            links.up.handle_packet(now, datagram.len() + OVERHEAD, datagram.to_vec());
            self.handle_timeout(now);
        } else {
            self.send_errors += u64::from(self.socket.send(datagram).is_err());
        }
    }

    /// Sends what has passed the network on the way up.
    fn handle_timeout(&mut self, now: Instant) {
        let Some(links) = self.links.as_mut() else { return };
        while let Some((_, datagram)) = links.up.poll_packet(now) {
            self.send_errors += u64::from(self.socket.send(&datagram).is_err());
        }
    }

    /// What has passed the network on the way down.
    fn poll_received(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.links.as_mut()?.down.poll_packet(now).map(|(_, datagram)| datagram)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let links = self.links.as_ref()?;
        [links.up.poll_timeout(), links.down.poll_timeout()].into_iter().flatten().min()
    }
}
