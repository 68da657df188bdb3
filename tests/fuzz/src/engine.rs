//! The whole engine: two participants of one room. The first is the input's: datagrams as they come, authenticated
//! STUN, a genuine DTLS handshake, and then RTP, RTCP and SCTP under the right keys; besides, commands. The second
//! may join with a good offer and receive, so that forwarding runs too.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use veche_sfu_core::control::{Command, Event, SectionLabels, Show, SlotWish, Subscription};
use veche_sfu_core::dtls::{Certificate, DtlsOutput, DtlsSession, KeyingMaterial};
use veche_sfu_core::engine::{Candidate, Engine, EngineConfig};
use veche_sfu_core::ids::{Mid, ParticipantId, RequestId, RoomId, TrackId};
use veche_sfu_core::path::{ConnectionId, Path};
use veche_sfu_core::rtp::header::RtpHeader;
use veche_sfu_core::sdp::{Fingerprint, SetupRole};
use veche_sfu_core::srtp::{OutboundSrtp, SrtpKeys};

use crate::dtls::CERTIFICATES;
use crate::records::records;
use crate::stun_request::binding_request;
use crate::time;

const ROOM: RoomId = RoomId(1);
/// What stands for the client's fingerprint in offers.
pub const FINGERPRINT: &str = "FINGERPRINT";
/// The client's user name fragment in offers.
pub const UFRAG: &str = "abcd";
/// What can be sent at one input: a few thousand packets are a history's repairs.
const MAX_SENT: usize = 20_000;

/// An offer that publishes Opus and VP8 simulcast, and has a slot for each and data channels.
pub const OFFER: &str = include_str!("../seeds/offer.sdp");

/// Kinds of records.
pub mod kind {
    /// A datagram as it comes, from a known path; with [`OTHER_PATH`] from another one.
    pub const DATAGRAM: u8 = 0;
    /// An authenticated binding request; the first byte's bits choose attributes and path.
    pub const STUN: u8 = 1;
    /// Ice and DTLS, as a browser does them.
    pub const CONNECT: u8 = 2;
    /// An RTP packet, to be protected.
    pub const RTP: u8 = 3;
    /// An RTCP packet, to be protected.
    pub const RTCP: u8 = 4;
    /// An SCTP packet, to go over DTLS.
    pub const DATA: u8 = 5;
    /// Time goes by.
    pub const TIME: u8 = 6;
    /// An offer.
    pub const OFFER: u8 = 7;
    /// Another command.
    pub const COMMAND: u8 = 8;
    /// A TCP connection is gone.
    pub const DISCONNECT: u8 = 9;
    /// RTCP of the second participant, to be protected.
    pub const VIEWER_RTCP: u8 = 10;
    /// The second participant offers and connects, as a browser does.
    pub const VIEWER: u8 = 11;
    /// Set in a kind: over TCP.
    pub const TCP: u8 = 0x80;
    /// Set in a kind: from another address.
    pub const OTHER_PATH: u8 = 0x40;
}

struct Client {
    participant: ParticipantId,
    path: Path,
    /// The server's user name fragment and password, as its last answer said.
    server: Option<(String, String)>,
    dtls: Option<DtlsSession>,
    srtp: Option<OutboundSrtp>,
}

struct Call {
    now: Instant,
    engine: Engine,
    clients: [Client; 2],
    requests: u64,
    sent: usize,
}

pub(crate) fn run(input: &[u8]) {
    let mut call = Call::new();
    for (kind, bytes) in records(input) {
        call.sent = 0;
        call.step(kind, bytes);
        call.settle();
    }
    call.engine.close(call.now);
    call.settle();
}

impl Call {
    fn new() -> Self {
        let now = time::start();
        let certificate = &CERTIFICATES[0];
        let certificate =
            Certificate::new(certificate.certificate().to_vec(), certificate.private_key().to_vec());
        let mut engine = Engine::new(
            EngineConfig {
                candidates: vec![Candidate { address: ([127, 0, 0, 1], 40_000).into(), tcp: false }],
                certificate: Arc::new(certificate.expect("it was good before")),
                seed: [1; 32],
                epoch: now,
                epoch_ntp: 1 << 40,
                dtls13: false,
                reproducible: true,
                max_message_size: 1 << 18,
            },
            now,
        );
        let clients = [1, 2].map(|number| {
            let participant = ParticipantId(number);
            let peer = format!("peer{number}").into();
            engine.handle_command(now, Command::AddParticipant { room: ROOM, participant, peer });
            let path = udp(number as u8);
            Client { participant, path, server: None, dtls: None, srtp: None }
        });
        Self { now, engine, clients, requests: 0, sent: 0 }
    }

    fn step(&mut self, kind: u8, bytes: &[u8]) {
        let path = match (kind & kind::TCP != 0, kind & kind::OTHER_PATH != 0) {
            (false, false) => self.clients[0].path,
            (false, true) => udp(9),
            (true, other) => {
                let connection = ConnectionId(other.into());
                Path::Tcp { connection, remote: ([192, 0, 2, 3], 5000).into() }
            }
        };
        match kind & 0x3f {
            kind::STUN => self.stun(0, path, bytes.first().copied().unwrap_or(0)),
            kind::CONNECT => self.connect(0),
            kind::VIEWER => {
                self.offer(1, OFFER);
                self.connect(1);
            }
            kind::RTP => self.rtp(path, bytes),
            kind::RTCP => self.rtcp(0, path, bytes),
            kind::VIEWER_RTCP => self.rtcp(1, self.clients[1].path, bytes),
            kind::DATA => {
                if let Some(dtls) = &mut self.clients[0].dtls {
                    let _ = dtls.send(bytes);
                }
                self.settle();
            }
            kind::TIME => {
                self.now += time::step(bytes);
                self.engine.handle_timeout(self.now);
                assert!(self.engine.poll_timeout().is_none_or(|at| at > self.now), "what was due is done");
            }
            kind::OFFER => self.offer(0, &String::from_utf8_lossy(bytes)),
            kind::COMMAND => self.command(bytes),
            kind::DISCONNECT => self.engine.handle_disconnect(self.now, path),
            _ => self.engine.handle_datagram(self.now, path, &mut bytes.to_vec()),
        }
    }

    fn command(&mut self, bytes: &[u8]) {
        let &[what, a, b, c, ..] = bytes else { return };
        let participant = ParticipantId(u64::from(a % 3));
        let wish = SlotWish {
            mid: Mid::new(&(c % 8).to_string()).expect("digits are a token"),
            show: [Show::Auto, Show::Nothing, Show::Track(TrackId(b.into()))][usize::from(b % 3)],
            width: u16::from(c) << 3,
            height: u16::from(b) << 3,
        };
        let command = match what % 5 {
            0 => Command::SetMuted { participant, track: TrackId(u64::from(b % 4)), muted: c & 1 == 1 },
            1 => {
                let pinned = vec![ParticipantId(u64::from(c % 3))];
                let subscription = Subscription { auto: b & 1 == 1, pinned, wishes: vec![wish] };
                Command::Subscribe { participant, subscription }
            }
            2 => Command::RoomStats { room: RoomId(a.into()), request: RequestId(7), engines: 1 },
            3 => Command::RemoveParticipant { participant },
            _ => {
                let peer = format!("peer{}", participant.0).into();
                Command::AddParticipant { room: ROOM, participant, peer }
            }
        };
        self.engine.handle_command(self.now, command);
    }

    fn offer(&mut self, client: usize, offer: &str) {
        let Fingerprint(bytes) = CERTIFICATES[1].fingerprint();
        let fingerprint: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        let sdp = offer.replace(FINGERPRINT, &fingerprint.join(":"));
        self.requests += 1;
        let request = RequestId(self.requests);
        let participant = self.clients[client].participant;
        let labels = SectionLabels::default();
        self.engine.handle_command(self.now, Command::Offer { participant, request, sdp, labels });
        self.settle();
    }

    fn stun(&mut self, client: usize, path: Path, flags: u8) {
        let Some((ufrag, pwd)) = &self.clients[client].server else { return };
        let mut request = binding_request(&format!("{ufrag}:{UFRAG}"), pwd, flags);
        self.engine.handle_datagram(self.now, path, &mut request);
    }

    /// Nominates the client's path and begins a handshake, which [`Call::settle`] carries on.
    fn connect(&mut self, client: usize) {
        self.stun(client, self.clients[client].path, 1);
        let [ours, theirs] = &*CERTIFICATES;
        let dtls = DtlsSession::new(theirs, SetupRole::Active, ours.fingerprint(), false, Some(3), self.now);
        self.clients[client].dtls = Some(dtls);
        self.clients[client].srtp = None;
        self.settle();
    }

    fn rtp(&mut self, path: Path, plain: &[u8]) {
        let Some(srtp) = &mut self.clients[0].srtp else { return };
        let Ok(header) = RtpHeader::parse(plain) else { return };
        let mut packet = plain.to_vec();
        packet.resize(plain.len() + srtp.profile().rtp_overhead(), 0);
        if srtp.protect_rtp(0, header.header_len, &mut packet).is_ok() {
            self.engine.handle_datagram(self.now, path, &mut packet);
        }
    }

    fn rtcp(&mut self, client: usize, path: Path, plain: &[u8]) {
        let Some(srtp) = &mut self.clients[client].srtp else { return };
        let mut packet = plain.to_vec();
        if srtp.protect_rtcp(&mut packet, 0).is_ok() {
            self.engine.handle_datagram(self.now, path, &mut packet);
        }
    }

    /// Carries packets to and fro and takes events, until all is quiet.
    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            let mut to_clients = Vec::new();
            let sent = &mut self.sent;
            self.engine.flush(&mut |transmit| {
                quiet = false;
                let mut start = 0;
                for &end in transmit.ends {
                    let packet = &transmit.bytes[start..end as usize];
                    assert!(!packet.is_empty() && packet.len() <= 1500, "packets fit the path");
                    to_clients.push((transmit.path, packet.to_vec()));
                    start = end as usize;
                }
                assert_eq!(start, transmit.bytes.len(), "every byte is in a packet");
                *sent += transmit.ends.len();
            });
            assert!(self.sent < MAX_SENT, "one input has a bounded outcome");
            for (path, packet) in to_clients {
                self.receive(path, &packet);
            }
            while let Some(event) = self.engine.poll_event() {
                self.on_event(event);
            }
            for client in 0..self.clients.len() {
                for mut packet in self.clients[client].poll() {
                    quiet = false;
                    self.engine.handle_datagram(self.now, self.clients[client].path, &mut packet);
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn receive(&mut self, path: Path, packet: &[u8]) {
        let client = self.clients.iter_mut().find(|client| client.path == path);
        if let Some(dtls) = client.and_then(|client| client.dtls.as_mut())
            && matches!(packet[0], 20..=63)
        {
            let _ = dtls.handle_datagram(self.now, packet);
        }
    }

    fn on_event(&mut self, event: Event) {
        let Event::Answer { participant, result, .. } = event else { return };
        let Ok(answer) = result else { return };
        let line = |prefix| answer.lines().find_map(|line| line.strip_prefix(prefix)).map(str::to_owned);
        let server = line("a=ice-ufrag:").zip(line("a=ice-pwd:"));
        let is_live = |line: &str| line.starts_with("m=") && line.split(' ').nth(1) != Some("0");
        assert!(server.is_some() || !answer.lines().any(is_live), "a live section has credentials");
        let client = self.clients.iter_mut().find(|client| client.participant == participant);
        client.expect("only those who offer are answered").server = server;
    }
}

impl Client {
    /// The DTLS packets to send.
    fn poll(&mut self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        let Some(dtls) = &mut self.dtls else { return packets };
        while let Some(output) = dtls.poll_output() {
            match output {
                DtlsOutput::Packet(packet) => packets.push(packet),
                DtlsOutput::Connected { keys } => self.srtp = keys.as_ref().map(outbound),
                DtlsOutput::Data(_) | DtlsOutput::Closed | DtlsOutput::Failed(_) => {}
            }
        }
        packets
    }
}

fn outbound(keys: &KeyingMaterial) -> OutboundSrtp {
    let keys = SrtpKeys::from_dtls(keys.profile, &keys.material, true).expect("DTLS gives enough material");
    OutboundSrtp::new(&keys.outbound)
}

fn udp(number: u8) -> Path {
    let local = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    Path::Udp { remote: ([192, 0, 2, number], 5000).into(), local }
}
