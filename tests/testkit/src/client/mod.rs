//! A WebRTC client without sockets, in virtual time: it offers, connects, sends media that says what it is, and checks
//! everything that it receives.

mod data;
mod feedback;
mod receiver;
mod red;
mod sdp;
mod sender;
mod signaling;
pub mod stun;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use veche_sfu_core::control::{FailReason, LayerWish};
use veche_sfu_core::dtls::{Certificate, DtlsOutput, DtlsSession};
use veche_sfu_core::ids::{Mid, Ssrc};
use veche_sfu_core::media::{Codec, Extension, ExtensionIds, MediaKind};
use veche_sfu_core::rtcp::{self, TransportFeedbackBuilder};
use veche_sfu_core::rtp::extension::elements;
use veche_sfu_core::rtp::{RtpHeader, is_rtcp};
use veche_sfu_core::sdp::{Fingerprint, IceCredentials, SetupRole};
use veche_sfu_core::srtp::{InboundSrtp, OutboundSrtp, SrtpKeys};

use crate::media::{TrackConfig, Voice};
use data::Data;
pub use data::DataReceived;
pub use receiver::{Frame, SenderClock, SlotReceiver};
use sdp::extension_ids;
pub use sender::Sender;
use sender::Wire;
use signaling::{credentials, make_senders};
pub use signaling::{slot_mid, track_mid};

/// What a client wants.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// What it publishes.
    pub tracks: Vec<TrackConfig>,
    /// What it receives sound in.
    pub audio_slots: usize,
    /// What it receives pictures in.
    pub video_slots: usize,
    /// So many of the first audio and video slots belong together.
    pub pairs: usize,
    /// The video codecs that its slots take.
    pub decodes: Vec<Codec>,
    /// What it makes of RED (RFC 2198).
    pub red: RedUse,
    /// What it tells of what it receives.
    pub feedback: FeedbackUse,
    /// Offer SCTP too.
    pub data: bool,
    /// Offer a fingerprint that is not the certificate's.
    pub wrong_fingerprint: bool,
}

/// What a client makes of RED.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedUse {
    /// It does not know it, as Firefox.
    Unknown,
    /// It takes it in its slots.
    #[default]
    Taken,
    /// It sends its voice in it too, as Chromium.
    Sent,
}

/// What a client tells of what it receives, beside receiver reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FeedbackUse {
    /// When every packet came.
    #[default]
    TransportWide,
    /// Its own estimate (REMB): here what came in the last second, and a half more while nothing is missing.
    Estimate,
    /// Nothing.
    Reports,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            tracks: vec![TrackConfig::microphone(), TrackConfig::camera(Codec::Vp8)],
            audio_slots: 3,
            video_slots: 3,
            pairs: 0,
            decodes: vec![Codec::Vp8],
            red: RedUse::default(),
            feedback: FeedbackUse::default(),
            data: true,
            wrong_fingerprint: false,
        }
    }
}

impl ClientConfig {
    /// Publishes nothing.
    pub fn viewer() -> Self {
        Self { tracks: Vec::new(), ..Self::default() }
    }
}

/// Requests are repeated so often until they are answered, and then for consent (RFC 7675).
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
const CONSENT_INTERVAL: Duration = Duration::from_millis(2_500);
const TICK: Duration = Duration::from_millis(20);
const FEEDBACK_INTERVAL: Duration = Duration::from_millis(100);
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// A client.
pub struct Client {
    /// The source in the stamps of its frames.
    pub source: u32,
    /// The streams that it sends.
    pub senders: Vec<Sender>,
    /// The slots that it receives in, in the order of the offer.
    pub slots: Vec<SlotReceiver>,
    /// Datagrams of SRTP that could not be authenticated or belonged to nothing.
    pub strange: u64,
    /// SRTP is ready.
    pub secured_at: Option<Instant>,
    /// The DTLS session ended.
    pub failed: Option<FailReason>,
    /// How many transport feedback packets the server sent.
    pub transport_feedback: u64,
    config: ClientConfig,
    start: Instant,
    /// The client's NTP clock at `start`: no two clients agree on the time.
    ntp_at_start: u64,
    rng: StdRng,
    certificate: Arc<Certificate>,
    session: (u64, u64),
    ice: IceCredentials,
    remote: Option<Remote>,
    paths: Vec<LocalPath>,
    dtls: Option<DtlsSession>,
    /// SCTP, once a channel was opened.
    data: Option<Data>,
    inbound: Option<InboundSrtp>,
    outbound: Option<OutboundSrtp>,
    ids: ExtensionIds,
    transport_seq: u16,
    arrivals: Vec<(u16, i64)>,
    newest_transport_seq: Option<u16>,
    /// Bytes that the last REMB has counted.
    octets_reported: u64,
    feedback: TransportFeedbackBuilder,
    tick_at: Instant,
    feedback_at: Instant,
    report_at: Instant,
    outbox: VecDeque<(SocketAddr, SocketAddr, Vec<u8>)>,
}

#[derive(Clone, Debug)]
struct Remote {
    ice: IceCredentials,
    fingerprint: Fingerprint,
    address: SocketAddr,
}

/// A local address; the first one is nominated.
#[derive(Clone, Debug)]
struct LocalPath {
    address: SocketAddr,
    priority: u32,
    check_at: Instant,
    transaction: [u8; 12],
    answered: bool,
}

impl Client {
    /// A client at this address. Its media begins at once after the connection.
    pub fn new(
        source: u32,
        config: ClientConfig,
        address: SocketAddr,
        start: Instant,
        now: Instant,
        seed: u64,
    ) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let senders = make_senders(source, &config, now, &mut rng);
        let own = Ssrc(rng.random());
        let mut client = Self {
            source,
            senders,
            slots: Vec::new(),
            strange: 0,
            secured_at: None,
            failed: None,
            transport_feedback: 0,
            config,
            start,
            ntp_at_start: rng.random::<u64>() >> 1,
            certificate: Arc::new(certificate()),
            session: (rng.random::<u64>() >> 2, 0),
            ice: credentials(&mut rng),
            remote: None,
            paths: Vec::new(),
            dtls: None,
            data: None,
            inbound: None,
            outbound: None,
            ids: extension_ids(),
            transport_seq: rng.random(),
            arrivals: Vec::new(),
            newest_transport_seq: None,
            octets_reported: 0,
            feedback: TransportFeedbackBuilder::new(own, own),
            tick_at: now,
            feedback_at: now,
            report_at: now + REPORT_INTERVAL,
            outbox: VecDeque::new(),
            rng,
        };
        client.add_path(now, address);
        client
    }

    /// Its configuration.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Takes a datagram that arrived at one of its addresses.
    pub fn handle_datagram(&mut self, now: Instant, to: SocketAddr, datagram: &mut [u8]) {
        match datagram.first() {
            Some(0..=3) => self.handle_stun(now, to, datagram),
            Some(20..=63) => {
                if let Some(dtls) = self.dtls.as_mut() {
                    let _ = dtls.handle_datagram(now, datagram);
                    self.drain_dtls(now);
                }
            }
            Some(128..=191) if is_rtcp(datagram) => self.handle_rtcp(now, datagram),
            Some(128..=191) => self.handle_rtp(now, datagram),
            _ => self.strange += 1,
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.check_paths(now);
        if self.dtls.as_ref().and_then(DtlsSession::poll_timeout).is_some_and(|at| at <= now) {
            if let Some(dtls) = self.dtls.as_mut() {
                dtls.handle_timeout(now);
            }
            self.drain_dtls(now);
        }
        if self.data.as_ref().and_then(Data::poll_timeout).is_some_and(|at| at <= now) {
            if let Some(data) = &mut self.data {
                data.handle_timeout(now);
            }
            self.drain_data();
        }
        if self.outbound.is_none() {
            for sender in &mut self.senders {
                sender.next_at = sender.next_at.max(now);
            }
            return;
        }
        self.send_media(now);
        if self.tick_at <= now {
            self.tick_at = now + TICK;
            self.send_requests(now);
        }
        if self.feedback_at <= now {
            self.feedback_at = now + FEEDBACK_INTERVAL;
            match self.config.feedback {
                FeedbackUse::TransportWide => self.send_transport_feedback(),
                FeedbackUse::Estimate | FeedbackUse::Reports => self.arrivals.clear(),
            }
        }
        if self.report_at <= now {
            self.report_at = now + REPORT_INTERVAL;
            self.send_reports(now);
        }
    }

    /// When [`Client::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.remote.as_ref()?;
        let checks = self.paths.iter().map(|path| path.check_at);
        let dtls = self.dtls.as_ref().and_then(DtlsSession::poll_timeout);
        let data = self.data.as_ref().and_then(Data::poll_timeout);
        let mut at = checks.chain(dtls).chain(data).min();
        if self.outbound.is_some() {
            let senders = self.senders.iter().filter(|s| s.active && s.wanted).map(|s| s.next_at);
            let waits = self.slots.iter().any(SlotReceiver::waits);
            let rest = [self.feedback_at, self.report_at].into_iter().chain(waits.then_some(self.tick_at));
            at = at.into_iter().chain(senders).chain(rest).min();
        }
        at
    }

    /// The next datagram to send: from where, to where, and what.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, SocketAddr, Vec<u8>)> {
        self.outbox.pop_front()
    }

    /// Its addresses; it sends from the first.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.paths.iter().map(|path| path.address)
    }

    /// Has another address from now on and lost those of before.
    pub fn move_to(&mut self, now: Instant, address: SocketAddr) {
        self.paths.clear();
        self.add_path(now, address);
    }

    /// Has one more address; it is checked, but not nominated.
    pub fn add_path(&mut self, now: Instant, address: SocketAddr) {
        let priority = 0x7eff_ffff - self.paths.len() as u32;
        let transaction = self.rng.random();
        self.paths.push(LocalPath { address, priority, check_at: now, transaction, answered: false });
    }

    /// Nominates the address that was added last, and sends from there.
    pub fn nominate_last(&mut self, now: Instant) {
        self.paths.rotate_right(1);
        for path in &mut self.paths {
            path.check_at = now;
        }
    }

    /// Makes new ICE credentials; an offer must follow.
    pub fn restart_ice(&mut self) {
        self.ice = credentials(&mut self.rng);
    }

    /// Speaks, or not.
    pub fn speak(&mut self, voice: Voice) {
        for sender in self.senders.iter_mut().filter(|s| s.kind() == MediaKind::Audio) {
            sender.speak(voice);
        }
    }

    /// Switches streams on or off: all of a section, or one layer of it.
    pub fn set_active(&mut self, now: Instant, kind: MediaKind, rid: Option<&str>, active: bool) {
        for sender in self.senders.iter_mut().filter(|s| s.kind() == kind && (rid.is_none() || s.rid == rid))
        {
            sender.active = active;
            sender.next_at = sender.next_at.max(now);
        }
    }

    /// Sends the layers of a section that are wanted, and a key frame of each that is wanted again, as browsers do; the others
    /// not.
    pub fn set_wanted(&mut self, now: Instant, mid: &Mid, layers: &[LayerWish]) {
        for sender in self.senders.iter_mut().filter(|s| s.mid == *mid && s.kind() == MediaKind::Video) {
            let rid = |l: &&LayerWish| l.rid.as_ref().map(veche_sfu_core::ids::Rid::as_str) == sender.rid;
            let Some(wanted) = layers.iter().find(rid).map(|l| l.wanted) else { continue };
            if wanted && !sender.wanted {
                sender.encoder.want_key_frame();
                sender.next_at = sender.next_at.max(now);
            }
            sender.wanted = wanted;
        }
    }

    /// A slot by its name.
    pub fn slot(&self, mid: &str) -> &SlotReceiver {
        self.slots.iter().find(|slot| slot.mid.as_str() == mid).expect("the slot was offered and answered")
    }

    /// The slot that carries this source now, of a kind.
    pub fn slot_of(&self, kind: MediaKind, source: u32) -> Option<&SlotReceiver> {
        let slots = self.slots.iter().filter(|slot| slot.kind == kind && slot.shows() == Some(source));
        slots.max_by_key(|slot| slot.frames.last().map(|f| f.at))
    }

    /// Everything that went wrong in its slots.
    pub fn faults(&self) -> Vec<String> {
        self.slots.iter().flat_map(|slot| slot.faults.iter().cloned()).collect()
    }

    /// Puts a datagram on the network as it is.
    pub fn send_raw(&mut self, datagram: Vec<u8>) {
        if let (Some(remote), Some(path)) = (&self.remote, self.paths.first()) {
            self.outbox.push_back((path.address, remote.address, datagram));
        }
    }

    /// Sends a well protected RTP packet of a stream that was never offered.
    pub fn send_unknown_stream(&mut self, ssrc: Ssrc) {
        let Some(outbound) = self.outbound.as_mut() else { return };
        let mut datagram = vec![0x80, 127, 0, 1, 0, 0, 0, 1];
        datagram.extend_from_slice(&ssrc.0.to_be_bytes());
        datagram.resize(12 + 100 + outbound.profile().rtp_overhead(), 5);
        outbound.protect_rtp(0, 12, &mut datagram).expect("there is room for the tag");
        self.send_raw(datagram);
    }

    /// Asks for these packets of a slot again, whether they are missing or not.
    pub fn ask_again(&mut self, mid: &str, seqs: &[u16]) {
        let media = self.slot(mid).ssrc;
        let mut out = Vec::new();
        rtcp::feedback::write_nack(&mut out, Ssrc(1), media, seqs);
        self.send_rtcp(out);
    }

    fn check_paths(&mut self, now: Instant) {
        let Some(remote) = &self.remote else { return };
        for (index, path) in self.paths.iter_mut().enumerate() {
            if path.check_at > now {
                continue;
            }
            if path.answered {
                path.transaction = self.rng.random();
            }
            path.check_at = now + if path.answered { CONSENT_INTERVAL } else { CHECK_INTERVAL };
            let request = stun::Request {
                transaction: path.transaction,
                remote_ufrag: &remote.ice.ufrag,
                local_ufrag: &self.ice.ufrag,
                password: &remote.ice.pwd,
                priority: path.priority,
                controlled: false,
                nominate: index == 0,
            };
            self.outbox.push_back((path.address, remote.address, request.write()));
        }
    }

    fn handle_stun(&mut self, now: Instant, to: SocketAddr, datagram: &[u8]) {
        let Some(transaction) = stun::success(datagram) else { return };
        let Some(path) = self.paths.iter_mut().find(|p| p.address == to && p.transaction == transaction)
        else {
            return;
        };
        path.answered = true;
        path.check_at = now + CONSENT_INTERVAL;
        if self.dtls.is_none()
            && let Some(remote) = &self.remote
        {
            let seed = Some(self.rng.random());
            let dtls =
                DtlsSession::new(&self.certificate, SetupRole::Active, remote.fingerprint, false, seed, now);
            self.dtls = Some(dtls);
            self.drain_dtls(now);
        }
    }

    fn drain_dtls(&mut self, now: Instant) {
        while let Some(output) = self.dtls.as_mut().and_then(DtlsSession::poll_output) {
            match output {
                DtlsOutput::Packet(packet) => self.send_raw(packet),
                DtlsOutput::Connected { keys } => {
                    let keys = keys.expect("the client asks for SRTP");
                    let keys =
                        SrtpKeys::from_dtls(keys.profile, &keys.material, true).expect("of the right length");
                    self.inbound = Some(InboundSrtp::new(&keys.inbound));
                    self.outbound = Some(OutboundSrtp::new(&keys.outbound));
                    self.secured_at = Some(now);
                }
                DtlsOutput::Data(packet) => {
                    if let Some(data) = &mut self.data {
                        data.handle_packet(now, &packet);
                    }
                }
                DtlsOutput::Closed => self.failed = Some(FailReason::Closed),
                DtlsOutput::Failed(reason) => self.failed = Some(reason),
            }
        }
        self.drain_data();
    }

    fn handle_rtp(&mut self, now: Instant, datagram: &mut [u8]) {
        let (Some(inbound), Ok(header)) = (self.inbound.as_mut(), RtpHeader::parse(datagram)) else {
            self.strange += 1;
            return;
        };
        let mine = |slot: &&mut SlotReceiver| slot.ssrc == header.ssrc || slot.rtx_ssrc == Some(header.ssrc);
        let Some(slot) = self.slots.iter_mut().find(mine) else {
            self.strange += 1;
            return;
        };
        let Ok(plain) = inbound.unprotect_rtp(header.ssrc, header.seq, header.header_len, datagram) else {
            self.strange += 1;
            return;
        };
        inbound.accept(header.ssrc, header.seq).expect("few streams");
        let packet = &datagram[..plain.len];
        for (id, value) in elements(&header, packet) {
            if Some(id) == self.ids.id(Extension::TransportCc)
                && let &[high, low] = value
            {
                let ticks = ((now - self.start).as_micros() / 250) as i64;
                self.newest_transport_seq = Some(u16::from_be_bytes([high, low]));
                self.arrivals.push((u16::from_be_bytes([high, low]), ticks));
            }
        }
        let Ok(range) = header.payload_range(packet) else {
            self.strange += 1;
            return;
        };
        let payload = &packet[range];
        if header.ssrc == slot.ssrc {
            slot.handle_packet(now, &header, payload, false);
        } else if let Some((seq, payload)) = payload.split_first_chunk::<2>() {
            let mut original = header;
            original.seq = u16::from_be_bytes(*seq);
            // RTX payload types are the media's plus 1 in our offers.
            original.payload_type.0 -= 1;
            slot.handle_packet(now, &original, payload, true);
        }
        if slot.waits() {
            self.tick_at = self.tick_at.min(now);
        }
    }

    fn send_media(&mut self, now: Instant) {
        let Some(srtp) = self.outbound.as_mut() else { return };
        let mut out = Vec::new();
        let mut wire = Wire { srtp, ids: &self.ids, transport_seq: &mut self.transport_seq, out: &mut out };
        for sender in &mut self.senders {
            sender.handle_timeout(now, self.start, &mut wire);
        }
        for datagram in out {
            self.send_raw(datagram);
        }
    }

    fn send_rtcp(&mut self, mut packet: Vec<u8>) {
        let Some(outbound) = self.outbound.as_mut().filter(|_| !packet.is_empty()) else { return };
        outbound.protect_rtcp(&mut packet, 0).expect("tests are short");
        self.send_raw(packet);
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.source)
    }
}

/// A certificate as browsers make one per page.
pub fn certificate() -> Certificate {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("P-256 is there");
    let params = rcgen::CertificateParams::new(vec!["client".into()]).expect("a plain name");
    let signed = params.self_signed(&key).expect("a key of our own");
    Certificate::new(signed.der().to_vec(), key.serialize_der()).expect("a key of the right kind")
}
