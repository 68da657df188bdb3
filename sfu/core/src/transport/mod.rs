//! One participant's transport: ICE, DTLS, SRTP and the send buffer. Everything on it is one BUNDLE group.

pub mod send_buffer;

use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;

use crate::context::Now;
use crate::control::{ConnectionState, FailReason};
use crate::drops::DropReason;
use crate::dtls::{Certificate, DtlsOutput, DtlsSession};
use crate::ice::{IceAgent, IceEvent, IceState};
use crate::ids::{PayloadType, Ssrc};
use crate::media::{Extension, ExtensionIds};
use crate::path::Path;
use crate::rtp::HeaderWriter;
use crate::rtp::RtpHeader;
use crate::sdp::{Fingerprint, IceCredentials, SetupRole};
use crate::srtp::{InboundSrtp, OutboundSrtp, SrtpKeys};
use crate::stun::BindingRequest;
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
    /// Seeds the DTLS randomness.
    pub seed: u64,
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
    /// The payload as it came.
    pub payload: &'a [u8],
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

/// Everything between one client's network and its media.
#[derive(Debug)]
pub struct Transport {
    ice: IceAgent,
    dtls: DtlsSession,
    server_is_dtls_client: bool,
    inbound: Option<InboundSrtp>,
    outbound: Option<OutboundSrtp>,
    /// The DTLS handshake is done.
    secured: bool,
    failed: Option<FailReason>,
    /// The ids of header extensions, the same in all sections.
    pub extensions: ExtensionIds,
    /// Those of them that the client takes in its slots.
    pub writable_extensions: ExtensionIds,
    next_transport_seq: u16,
    send: SendBuffer,
    /// It is on the list of those who have something to send.
    marked: bool,
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
            send: SendBuffer::default(),
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

    /// Writes an RTP packet into the send buffer and seals it in place. `rewrite` may change the payload before it is
    /// sealed.
    pub fn send_rtp(
        &mut self,
        now: &Now,
        packet: &OutgoingRtp<'_>,
        rewrite: impl FnOnce(&mut [u8]),
    ) -> Result<usize, DropReason> {
        if !self.ready() {
            return Err(DropReason::NotConnected);
        }
        let Some(outbound) = self.outbound.as_mut() else { return Err(DropReason::NotConnected) };
        let transport_seq = self.next_transport_seq.to_be_bytes();
        let send_time = now.abs_send_time();
        let ids = &self.writable_extensions;
        let written = self.send.write(|out, start| {
            let header_len = write_header(out, ids, packet, transport_seq, send_time);
            out.extend_from_slice(packet.prefix);
            let payload_start = out.len();
            if packet.payload.is_empty() && packet.prefix.is_empty() {
                // The padding that took this sequence number is not passed on, but the number must be taken.
                out[start] |= 0x20;
                out.push(1);
            } else {
                out.extend_from_slice(packet.payload);
                rewrite(&mut out[payload_start..]);
            }
            out.resize(out.len() + outbound.profile().rtp_overhead(), 0);
            outbound.protect_rtp((packet.seq >> 16) as u32, header_len, &mut out[start..])
        })?;
        if ids.id(Extension::TransportCc).is_some() {
            self.next_transport_seq = self.next_transport_seq.wrapping_add(1);
        }
        Ok(written)
    }

    /// Seals a compound RTCP packet and puts it into the send buffer.
    pub fn send_rtcp(&mut self, packet: &[u8]) -> Result<(), DropReason> {
        if !self.ready() {
            return Err(DropReason::NotConnected);
        }
        let Some(outbound) = self.outbound.as_mut() else { return Err(DropReason::NotConnected) };
        self.send.write(|out, start| {
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

    /// The packets that wait, where they go, and where each ends. To be followed by [`Transport::sent`].
    pub fn output(&self) -> Option<(Path, &[u8], &[u32])> {
        let path = self.ice.selected()?;
        let (bytes, ends) = self.send.packets();
        (!ends.is_empty()).then_some((path, bytes, ends))
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
    }

    fn send_bytes(&mut self, packet: &[u8]) -> Result<(), DropReason> {
        if self.ice.selected().is_none() {
            return Err(DropReason::NotConnected);
        }
        self.send.write(|out, _| {
            out.extend_from_slice(packet);
            Ok(())
        })?;
        Ok(())
    }
}

/// Writes the RTP header with the extensions that the subscriber negotiated. Returns its length.
fn write_header(
    out: &mut Vec<u8>,
    ids: &ExtensionIds,
    packet: &OutgoingRtp<'_>,
    transport_seq: [u8; 2],
    send_time: [u8; 3],
) -> usize {
    let passed = &packet.extensions;
    let mut elements: SmallVec<[(u8, &[u8]); 6]> = SmallVec::new();
    let mut add = |extension, value| {
        if let (Some(id), Some(value)) = (ids.id(extension), value) {
            elements.push((id, value));
        }
    };
    add(Extension::TransportCc, Some(&transport_seq));
    add(Extension::AbsSendTime, Some(&send_time));
    add(Extension::AudioLevel, passed.audio_level.as_ref().map(|v| &v[..]));
    add(Extension::VideoOrientation, passed.video_orientation.as_ref().map(|v| &v[..]));
    add(Extension::PlayoutDelay, passed.playout_delay.as_ref().map(|v| &v[..]));
    add(Extension::DependencyDescriptor, passed.dependency_descriptor);
    let writer = HeaderWriter {
        marker: packet.marker,
        payload_type: packet.payload_type,
        seq: packet.seq as u16,
        timestamp: packet.timestamp,
        ssrc: packet.ssrc,
    };
    writer.write(&elements, out)
}
