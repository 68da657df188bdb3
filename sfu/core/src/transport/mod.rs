//! One participant's transport: ICE, DTLS, SRTP and the send buffer. Everything on it is one BUNDLE group.

mod outgoing;
pub mod pacer;
mod packet;
pub mod padding;
pub mod send_buffer;
pub mod template;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bandwidth::{Estimator, ProbeCluster};
use crate::context::Now;
use crate::control::{ConnectionState, FailReason};
use crate::drops::DropReason;
use crate::dtls::{Certificate, DtlsOutput, DtlsSession};
use crate::ice::{IceAgent, IceEvent, IceState};
use crate::ids::{PayloadType, Ssrc};
use crate::media::{Extension, ExtensionIds};
use crate::path::Path;
use crate::rtp::RtpHeader;
use crate::sdp::{Fingerprint, IceCredentials, SetupRole};
use crate::srtp::{InboundSrtp, OutboundSrtp, SrtpKeys};
use crate::stun::BindingRequest;
use pacer::Pacer;
use send_buffer::SendBuffer;

/// What a new transport is made of.
pub struct TransportConfig<'a> {
    /// The server's ICE credentials.
    pub ice: &'a IceCredentials,
    /// The certificate of the process.
    pub certificate: &'a Arc<Certificate>,
    /// Who starts the DTLS handshake.
    pub setup: SetupRole,
    /// The certificate that the client must present.
    pub fingerprint: Fingerprint,
    /// Whether DTLS 1.3 is offered.
    pub dtls13: bool,
    /// Makes the DTLS randomness reproducible.
    pub seed: Option<u64>,
}

/// A burst that finds out what the network carries.
#[derive(Clone, Copy, Debug)]
struct ActiveProbe {
    cluster: ProbeCluster,
    began: Instant,
    /// Bytes of padding sent for it.
    sent: usize,
}

/// One flight of a handshake that waits for a path, when the server has to begin.
const MAX_UNSENT: usize = 8;

/// What came out of the DTLS connection.
#[derive(Debug)]
pub enum TransportEvent {
    /// The handshake is done: media and data may flow.
    Secured,
    /// An SCTP packet.
    Data(Vec<u8>),
    /// A DTLS packet was dropped.
    Dropped(DropReason),
}

/// An RTP packet on its way to the subscriber.
#[derive(Debug)]
pub struct OutgoingRtp<'a> {
    /// The payload type.
    pub payload_type: PayloadType,
    /// The marker bit.
    pub marker: bool,
    /// The extended sequence number: its low 16 bits go on the wire, the rest is SRTP's roll-over counter.
    pub seq: u64,
    /// The timestamp.
    pub timestamp: u32,
    /// The SSRC.
    pub ssrc: Ssrc,
    /// The header extensions of the source that are passed on.
    pub extensions: PassedExtensions<'a>,
    /// What stands before the payload: the original sequence number of a repair (RFC 4588 section 4).
    pub prefix: &'a [u8],
    /// The payload as it came; when it is empty and there is no prefix, the packet is padding.
    pub payload: &'a [u8],
    /// How many bytes a packet of padding has; at least 1 are written.
    pub padding: u8,
}

/// The header extensions that a subscriber gets as the publisher sent them.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassedExtensions<'a> {
    /// RFC 6464: V and level.
    pub audio_level: Option<[u8; 1]>,
    /// 3GPP TS 26.114: coordination of video orientation.
    pub video_orientation: Option<[u8; 1]>,
    /// The playout delay.
    pub playout_delay: Option<[u8; 3]>,
    /// The dependency descriptor, its frame number continued.
    pub dependency_descriptor: Option<&'a [u8]>,
}

impl PassedExtensions<'_> {
    /// The others, which are of a fixed length.
    pub fn without_descriptor(self) -> PassedExtensions<'static> {
        PassedExtensions {
            audio_level: self.audio_level,
            video_orientation: self.video_orientation,
            playout_delay: self.playout_delay,
            dependency_descriptor: None,
        }
    }
}

/// Everything between one client's network and its media.
///
/// What each packet touches comes first, so that it is found in few cache lines.
#[derive(Debug)]
#[repr(C)]
pub struct Transport {
    /// The ids of header extensions that the client takes in its slots, the same in all of them.
    pub writable_extensions: ExtensionIds,
    next_transport_seq: u16,
    failed: Option<FailReason>,
    /// It is on the list of those who have something to send.
    marked: bool,
    /// It is on the list of those who wait for room, or send a probe.
    paced: bool,
    outbound: Option<OutboundSrtp>,
    send: SendBuffer,
    /// When what waits in the send buffer came there.
    sends_at: Option<Now>,
    pacer: Pacer,
    ice: IceAgent,
    /// The probe that is being sent.
    probe: Option<ActiveProbe>,
    /// What the way to the client carries.
    pub estimator: Estimator,
    dtls: DtlsSession,
    server_is_dtls_client: bool,
    inbound: Option<InboundSrtp>,
    /// The DTLS handshake is done.
    secured: bool,
    /// The ids of all header extensions, the same in all sections.
    pub extensions: ExtensionIds,
    /// The client's address that the estimate is about.
    estimated_for: Option<IpAddr>,
    /// DTLS packets from before there was a path.
    unsent: Vec<Vec<u8>>,
}

impl Transport {
    /// A transport that waits for its client.
    pub fn new(now: Instant, config: &TransportConfig<'_>) -> Self {
        Self {
            ice: IceAgent::new(config.ice, now),
            dtls: DtlsSession::new(
                config.certificate,
                config.setup,
                config.fingerprint,
                config.dtls13,
                config.seed,
                now,
            ),
            server_is_dtls_client: config.setup == SetupRole::Active,
            inbound: None,
            outbound: None,
            secured: false,
            failed: None,
            extensions: ExtensionIds::default(),
            writable_extensions: ExtensionIds::default(),
            next_transport_seq: 0,
            estimator: Estimator::new(now),
            pacer: Pacer::new(now),
            estimated_for: None,
            probe: None,
            paced: false,
            send: SendBuffer::default(),
            sends_at: None,
            marked: false,
            unsent: Vec::new(),
        }
    }

    /// Takes fresh ICE credentials.
    pub fn restart_ice(&mut self, local: &IceCredentials) {
        self.ice.restart(local);
    }

    /// Answers a STUN request; `response` is to be sent back on the same path.
    pub fn handle_stun(
        &mut self,
        now: Instant,
        path: Path,
        request: &BindingRequest<'_>,
        response: &mut Vec<u8>,
    ) -> Result<(), DropReason> {
        self.ice.handle_request(now, path, request, response)
    }

    /// What ICE has to say.
    pub fn poll_ice(&mut self) -> Option<IceEvent> {
        self.ice.poll_event()
    }

    /// Whether ICE has something to say.
    pub fn has_ice_events(&self) -> bool {
        self.ice.has_events()
    }

    /// The server-side user name fragments that are answered.
    pub fn ufrags(&self) -> impl Iterator<Item = &str> {
        self.ice.local_ufrags()
    }

    /// The paths that are known.
    pub fn paths(&self) -> impl Iterator<Item = Path> + '_ {
        self.ice.paths()
    }

    /// A TCP connection is gone.
    pub fn handle_disconnect(&mut self, now: Instant, path: Path) {
        self.ice.on_disconnected(now, path);
    }

    /// Takes a DTLS datagram.
    pub fn handle_dtls(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DropReason> {
        if self.failed.is_some() {
            return Err(DropReason::DtlsUnexpected);
        }
        self.dtls.handle_datagram(now, datagram)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.ice.handle_timeout(now);
        if self.failed.is_none() && self.dtls.poll_timeout().is_some_and(|at| at <= now) {
            self.dtls.handle_timeout(now);
        }
    }

    /// When [`Transport::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let dtls = self.dtls.poll_timeout().filter(|_| self.failed.is_none());
        self.ice.poll_timeout().into_iter().chain(dtls).min()
    }

    /// Whether DTLS has still to be set up, with the costly cryptography that this takes.
    pub fn is_handshaking(&self) -> bool {
        !self.secured && self.failed.is_none()
    }

    /// What came out of DTLS; its packets go to the send buffer on the way.
    pub fn poll(&mut self) -> Option<TransportEvent> {
        if self.ice.selected().is_some() {
            for packet in std::mem::take(&mut self.unsent) {
                // As good as lost on the way when it fails: the handshake sends it again.
                let _ = self.send_bytes(&packet);
            }
        }
        loop {
            match self.dtls.poll_output()? {
                DtlsOutput::Packet(packet) if self.ice.selected().is_none() => {
                    if self.unsent.len() < MAX_UNSENT {
                        self.unsent.push(packet);
                    }
                }
                DtlsOutput::Packet(packet) => {
                    if let Err(reason) = self.send_bytes(&packet) {
                        return Some(TransportEvent::Dropped(reason));
                    }
                }
                DtlsOutput::Connected { keys } => {
                    self.secured = true;
                    if let Some(keys) = keys
                        .and_then(|k| SrtpKeys::from_dtls(k.profile, &k.material, self.server_is_dtls_client))
                    {
                        self.inbound = Some(InboundSrtp::new(&keys.inbound));
                        self.outbound = Some(OutboundSrtp::new(&keys.outbound));
                    }
                    return Some(TransportEvent::Secured);
                }
                DtlsOutput::Data(data) => return Some(TransportEvent::Data(data)),
                DtlsOutput::Closed => self.failed = Some(FailReason::Closed),
                DtlsOutput::Failed(reason) => self.failed = Some(reason),
            }
        }
    }

    /// How the connection is; `None` while it is being made.
    pub fn state(&self) -> Option<ConnectionState> {
        if let Some(reason) = self.failed {
            return Some(ConnectionState::Failed(reason));
        }
        if !self.secured {
            return None;
        }
        match self.ice.state() {
            IceState::New => None,
            IceState::Connected => Some(ConnectionState::Connected),
            IceState::Interrupted => Some(ConnectionState::Interrupted),
            IceState::Expired => Some(ConnectionState::Expired),
        }
    }

    /// Whether media can be sent.
    pub fn ready(&self) -> bool {
        self.outbound.is_some() && self.failed.is_none() && self.ice.selected().is_some()
    }

    /// Authenticates an RTP packet and decrypts it in place. Returns its length without the tag. A stream that is new
    /// leaves no state until [`Transport::accept_stream`].
    pub fn unprotect_rtp(
        &mut self,
        now: Instant,
        path: Path,
        header: &RtpHeader,
        packet: &mut [u8],
    ) -> Result<usize, DropReason> {
        let inbound = self.inbound.as_mut().ok_or(DropReason::SrtpNotReady)?;
        let plain = inbound.unprotect_rtp(header.ssrc, header.seq, header.header_len, packet)?;
        self.ice.on_authenticated(now, path);
        Ok(plain.len)
    }

    /// Keeps the roll-over and replay state of a stream that was found to be negotiated.
    pub fn accept_stream(&mut self, ssrc: Ssrc, seq: u16) -> Result<(), DropReason> {
        let inbound = self.inbound.as_mut().ok_or(DropReason::SrtpNotReady)?;
        inbound.accept(ssrc, seq)
    }

    /// Forgets a stream that is gone.
    pub fn forget_stream(&mut self, ssrc: Ssrc) {
        if let Some(inbound) = self.inbound.as_mut() {
            inbound.forget(ssrc);
        }
    }

    /// Authenticates an RTCP packet and decrypts it in place. Returns its plain length.
    pub fn unprotect_rtcp(
        &mut self,
        now: Instant,
        path: Path,
        packet: &mut [u8],
    ) -> Result<usize, DropReason> {
        let inbound = self.inbound.as_mut().ok_or(DropReason::SrtpNotReady)?;
        let len = inbound.unprotect_rtcp(packet)?;
        self.ice.on_authenticated(now, path);
        Ok(len)
    }

    /// What the way to the client carries, in bits per second; `None` where the client tells nothing about it.
    pub fn estimate(&self) -> Option<u64> {
        let told = self.writable_extensions.id(Extension::TransportCc).is_some() || self.estimator.is_told();
        told.then(|| self.estimator.estimate())
    }

    /// Begins a probe, if the estimator wants one.
    pub fn begin_probe(&mut self, now: Instant) -> bool {
        if self.probe.is_none() && self.ready() {
            let cluster = self.estimator.poll_probe(now);
            self.probe = cluster.map(|cluster| ActiveProbe { cluster, began: now, sent: 0 });
        }
        self.probe.is_some()
    }

    /// Whether a probe is on its way.
    pub fn is_probing(&self) -> bool {
        self.probe.is_some()
    }

    /// How many bytes of padding a probe needs now. Ends it when it has all.
    pub fn probe_due(&mut self, now: Instant) -> usize {
        let Some(probe) = &self.probe else { return 0 };
        if probe.sent >= probe.cluster.bytes {
            self.probe = None;
            return 0;
        }
        let elapsed = now.saturating_duration_since(probe.began) + pacer::BURST;
        let due = (probe.cluster.rate as f64 * elapsed.as_secs_f64() / 8.0) as usize;
        due.min(probe.cluster.bytes).saturating_sub(probe.sent)
    }

    /// Gives a probe up: nothing carries it any more.
    pub fn end_probe(&mut self) {
        if let Some(probe) = self.probe.take() {
            self.estimator.on_probe_given_up(probe.cluster.id);
        }
    }

    /// Forgets the packets of a stream that wait: it does not show any more what they belong to.
    pub fn drop_waiting(&mut self, ssrc: Ssrc) {
        self.pacer.drop_stream(ssrc);
    }

    /// Takes the header extensions that an offer agreed on. What waits was written for those of before.
    pub fn set_extensions(&mut self, received: ExtensionIds, written: ExtensionIds) {
        if self.writable_extensions != written {
            self.pacer.clear();
            // What leaves with this batch gets its number and time where those of before have their places.
            if self.seal().is_err() {
                self.send.clear();
            }
        }
        self.extensions = received;
        self.writable_extensions = written;
    }

    /// The client has come to another network: what was learned of the one before does not hold for it.
    pub fn follow_path(&mut self, now: Instant) {
        let remote = self.ice.selected().map(|path| path.remote().ip());
        if remote.is_some() && self.estimated_for.is_some() && remote != self.estimated_for {
            self.end_probe();
            self.estimator = Estimator::new(now);
        }
        self.estimated_for = remote.or(self.estimated_for);
    }

    /// Sends no faster than this many bits per second; `None`: as fast as packets come.
    pub fn set_pacing(&mut self, bits: Option<u64>) {
        self.pacer.set_rate(bits);
    }

    /// How long a picture that came now would wait.
    pub fn pacing_delay(&self, now: Instant) -> Duration {
        self.pacer.delay(now)
    }

    /// Notes that it is on the list of those who wait for room in their network, or send a probe; `false` when it need not be,
    /// or is there already.
    pub fn mark_paced(&mut self) -> bool {
        (self.pacer.is_waiting() || self.probe.is_some()) && !std::mem::replace(&mut self.paced, true)
    }

    /// It is not on that list any more.
    pub fn unmark_paced(&mut self) {
        self.paced = false;
    }

    /// Seals a compound RTCP packet and puts it into the send buffer.
    pub fn send_rtcp(&mut self, packet: &[u8]) -> Result<(), DropReason> {
        if !self.ready() {
            return Err(DropReason::NotConnected);
        }
        let Some(outbound) = self.outbound.as_mut() else { return Err(DropReason::NotConnected) };
        self.send.write_sealed(|out, start| {
            out.extend_from_slice(packet);
            outbound.protect_rtcp(out, start)
        })?;
        Ok(())
    }

    /// Sends an SCTP packet over DTLS. Its DTLS packets come out of [`Transport::poll`].
    pub fn send_data(&mut self, data: &[u8]) -> Result<(), DropReason> {
        self.dtls.send(data)
    }

    /// Says good-bye.
    pub fn close(&mut self) {
        if self.failed.is_none() {
            self.dtls.close();
        }
    }

    /// Whether something waits to be sent.
    pub fn has_output(&self) -> bool {
        !self.send.is_empty()
    }

    /// The sealed packets, run by run: where they go, and where each ends. To be followed by [`Transport::sent`].
    pub fn output(&self) -> impl Iterator<Item = (Path, &[u8], &[u32])> {
        let path = self.ice.selected();
        self.send.runs().filter_map(move |(bytes, ends)| Some((path?, bytes, ends)))
    }

    /// Borrows an empty send buffer, where nothing waits in its own: what is handed out at once needs none of its own, and one
    /// that all share stays in the processor's cache. To be followed by [`Transport::give_back_buffer`] when it did.
    pub fn borrow_buffer(&mut self, spare: &mut SendBuffer) -> bool {
        let borrows = self.send.is_empty();
        if borrows {
            std::mem::swap(&mut self.send, spare);
        }
        borrows
    }

    /// Gives the send buffer back, which must be empty again.
    pub fn give_back_buffer(&mut self, spare: &mut SendBuffer) {
        std::mem::swap(&mut self.send, spare);
    }

    /// The packets are sent.
    pub fn sent(&mut self) {
        self.send.clear();
        self.marked = false;
    }

    /// Notes that it is on the list of those who have something to send; `false` when it has nothing, or is there already.
    pub fn mark(&mut self) -> bool {
        !self.send.is_empty() && !std::mem::replace(&mut self.marked, true)
    }

    /// Gives back memory that a burst took.
    pub fn trim(&mut self) {
        self.send.trim();
        self.pacer.trim();
    }

    fn send_bytes(&mut self, packet: &[u8]) -> Result<(), DropReason> {
        if self.ice.selected().is_none() {
            return Err(DropReason::NotConnected);
        }
        self.send.write_sealed(|out, _| {
            out.extend_from_slice(packet);
            Ok(())
        })?;
        Ok(())
    }
}
