//! One RTP stream that a client sends: its packets, its history for repairs, its reports.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;
use veche_sfu_core::ids::{Mid, PayloadType, Ssrc};
use veche_sfu_core::media::{Codec, Extension, ExtensionIds, MediaKind};
use veche_sfu_core::rtp::HeaderWriter;
use veche_sfu_core::srtp::{OutboundSrtp, OutboundStream};

use super::red;
use super::sdp::{RED, payload_types};
use crate::media::{EncodedPacket, Encoder, LayerConfig, TrackConfig, VOICE_INTERVAL, Voice};

/// How many packets can be sent again.
const HISTORY: usize = 600;

/// A stream.
#[derive(Debug)]
pub struct Sender {
    /// The section.
    pub mid: Mid,
    /// With simulcast.
    pub rid: Option<&'static str>,
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// Of its repairs.
    pub rtx_ssrc: Ssrc,
    /// Makes its frames.
    pub encoder: Encoder,
    /// Whether it sends its voice in RED, with the packet before in each.
    pub red: bool,
    /// Whether it sends.
    pub active: bool,
    /// Somebody shows it, as the server says.
    pub wanted: bool,
    voice: Voice,
    /// The packet with which it began to say so.
    voice_from: u32,
    /// When the next sample is sent.
    pub next_at: Instant,
    /// Packets sent.
    pub packets: u32,
    /// Bytes of payload sent.
    pub octets: u32,
    /// Packets that the server asked for again.
    pub nacked: u64,
    /// Packets sent again.
    pub repairs: u64,
    /// Key frames that the server asked for.
    pub key_requests: u64,
    /// Of the worst receiver report: the share lost.
    pub reported_loss: f32,
    codec: Codec,
    delay: Duration,
    first_timestamp: u32,
    next_seq: u16,
    next_rtx_seq: u16,
    stream: OutboundStream,
    rtx_stream: OutboundStream,
    history: VecDeque<StoredPacket>,
}

#[derive(Debug)]
struct StoredPacket {
    seq: u16,
    timestamp: u32,
    packet: EncodedPacket,
}

/// What a sender needs to turn payloads into datagrams.
pub(super) struct Wire<'a> {
    pub(super) srtp: &'a mut OutboundSrtp,
    pub(super) ids: &'a ExtensionIds,
    pub(super) transport_seq: &'a mut u16,
    pub(super) out: &'a mut Vec<Vec<u8>>,
}

impl Sender {
    /// A stream of `source` that begins at `first`.
    pub(super) fn new(
        mid: Mid,
        track: &TrackConfig,
        layer: (u8, LayerConfig),
        source: u32,
        first: Instant,
        rng: &mut StdRng,
    ) -> Self {
        let (codec, delay) = (track.codec, track.delay);
        Self {
            mid,
            rid: layer.1.rid,
            ssrc: Ssrc(rng.random_range(1..u32::MAX)),
            rtx_ssrc: Ssrc(rng.random_range(1..u32::MAX)),
            encoder: Encoder::new(codec, source, layer, track.scalability, rng.random::<u16>() & 0x7fff),
            red: false,
            active: true,
            wanted: true,
            voice: Voice::SILENT,
            voice_from: 0,
            next_at: first,
            packets: 0,
            octets: 0,
            nacked: 0,
            repairs: 0,
            key_requests: 0,
            reported_loss: 0.0,
            codec,
            delay,
            first_timestamp: rng.random(),
            // Below 2^15, as RFC 3711 section 3.3.1 wants it.
            next_seq: rng.random::<u16>() & 0x7fff,
            next_rtx_seq: rng.random::<u16>() & 0x7fff,
            stream: OutboundStream::default(),
            rtx_stream: OutboundStream::default(),
            history: VecDeque::new(),
        }
    }

    /// Audio or video.
    pub fn kind(&self) -> MediaKind {
        self.codec.kind()
    }

    /// Speaks, or not.
    pub fn speak(&mut self, voice: Voice) {
        self.voice = voice;
        self.voice_from = self.packets;
    }

    /// The RTP timestamp of a sample taken at this time of the world.
    pub fn timestamp(&self, captured: Duration) -> u32 {
        let ticks = captured.as_nanos() * u128::from(self.codec.clock_rate()) / 1_000_000_000;
        self.first_timestamp.wrapping_add(ticks as u32)
    }

    /// The stream begins anew in the same section: other SSRCs, other times, and numbers this far ahead.
    pub fn restart(&mut self, ahead: u16) {
        self.ssrc = Ssrc(self.ssrc.0 ^ 0x5555);
        self.rtx_ssrc = Ssrc(self.rtx_ssrc.0 ^ 0x5555);
        self.next_seq = self.next_seq.wrapping_add(ahead);
        self.stream = OutboundStream::default();
        self.rtx_stream = OutboundStream::default();
        self.history.clear();
        self.leap(0x1234_5678);
    }

    /// Its timestamps leap, as those of a faulty client do.
    pub fn leap(&mut self, ticks: u32) {
        self.first_timestamp = self.first_timestamp.wrapping_add(ticks);
    }

    /// Sends what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant, start: Instant, wire: &mut Wire<'_>) {
        while self.next_at <= now {
            let captured = (self.next_at - start).saturating_sub(self.delay);
            self.next_at += match self.kind() {
                MediaKind::Audio => VOICE_INTERVAL,
                MediaKind::Video => Duration::from_secs(1) / self.encoder.config().rate,
            };
            if !(self.active && self.wanted) {
                continue;
            }
            let timestamp = self.timestamp(captured);
            for packet in self.encoder.encode(captured) {
                self.send(timestamp, packet, wire);
            }
        }
    }

    /// Sends a packet again.
    pub(super) fn repair(&mut self, seq: u16, wire: &mut Wire<'_>) {
        self.nacked += 1;
        let (_, rtx) = payload_types(self.codec);
        let stored = self.history.iter().find(|stored| stored.seq == seq && rtx != 0);
        let Some(stored) = stored else { return };
        self.repairs += 1;
        let mut payload = stored.seq.to_be_bytes().to_vec();
        payload.extend_from_slice(&stored.packet.payload);
        let header = HeaderWriter {
            marker: stored.packet.marker,
            payload_type: PayloadType(rtx),
            seq: self.next_rtx_seq,
            timestamp: stored.timestamp,
            ssrc: self.rtx_ssrc,
        };
        let descriptor = stored.packet.descriptor.clone();
        let roc = self.rtx_stream.roc_for(self.next_rtx_seq).expect("tests are short");
        self.next_rtx_seq = self.next_rtx_seq.wrapping_add(1);
        self.put(header, roc, true, descriptor.as_deref(), &payload, wire);
    }

    fn send(&mut self, timestamp: u32, packet: EncodedPacket, wire: &mut Wire<'_>) {
        let own = payload_types(self.codec).0;
        let redundant = self.red.then(|| {
            let before =
                self.history.back().map(|b| (timestamp.wrapping_sub(b.timestamp), &b.packet.payload[..]));
            red::write(own, before, &packet.payload)
        });
        let header = HeaderWriter {
            marker: packet.marker,
            payload_type: PayloadType(if self.red { RED } else { own }),
            seq: self.next_seq,
            timestamp,
            ssrc: self.ssrc,
        };
        let roc = self.stream.roc_for(self.next_seq).expect("tests are short");
        let payload = redundant.as_deref().unwrap_or(&packet.payload);
        self.put(header, roc, false, packet.descriptor.as_deref(), payload, wire);
        self.packets += 1;
        self.octets += packet.payload.len() as u32;
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(StoredPacket { seq: self.next_seq, timestamp, packet });
        self.next_seq = self.next_seq.wrapping_add(1);
    }

    fn put(
        &self,
        header: HeaderWriter,
        roc: u32,
        repair: bool,
        descriptor: Option<&[u8]>,
        payload: &[u8],
        wire: &mut Wire<'_>,
    ) {
        let level = [self.voice.level_of(self.packets - self.voice_from)];
        let transport_seq = wire.transport_seq.to_be_bytes();
        *wire.transport_seq = wire.transport_seq.wrapping_add(1);
        let rid = self.rid.map(str::as_bytes);
        let mut elements: Vec<(u8, &[u8])> = Vec::new();
        let values = [
            (Extension::Mid, Some(self.mid.as_bytes())),
            (if repair { Extension::RepairedRid } else { Extension::Rid }, rid),
            (Extension::TransportCc, Some(&transport_seq[..])),
            (Extension::AudioLevel, (self.kind() == MediaKind::Audio).then_some(&level[..])),
            (Extension::DependencyDescriptor, descriptor),
        ];
        for (extension, value) in values {
            if let (Some(id), Some(value)) = (wire.ids.id(extension), value) {
                elements.push((id, value));
            }
        }
        let mut datagram = Vec::with_capacity(payload.len() + 80);
        let header_len = header.write(&elements, &mut datagram);
        datagram.extend_from_slice(payload);
        datagram.resize(datagram.len() + wire.srtp.profile().rtp_overhead(), 0);
        wire.srtp.protect_rtp(roc, header_len, &mut datagram).expect("there is room for the tag");
        wire.out.push(datagram);
    }
}
