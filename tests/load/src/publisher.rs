//! What a client sends: streams of frames, repairs of what the server misses, sender reports.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;
use veche_sfu_core::ids::{PayloadType, Ssrc};
use veche_sfu_core::media::{Codec, Extension, ExtensionIds, MediaKind};
use veche_sfu_core::rtcp::{self, SenderInfo};
use veche_sfu_core::rtp::HeaderWriter;
use veche_sfu_core::srtp::{OutboundSrtp, OutboundStream};

use crate::clock::Clock;
use crate::measure::Counters;
use crate::negotiation::{Agreement, PublishedTrack};
use crate::recording::Recording;
use crate::send_times::SendTimes;
use crate::synthetic::{VOICE_INTERVAL, Video, write_voice};
use crate::voice::Voice;

/// How many packets of a stream can be sent again: two seconds of 300 packets a second.
const HISTORY: usize = 600;
/// A publisher that was held up sends what it missed, but no more than this at once.
const MAX_BEHIND: Duration = Duration::from_secs(1);

/// What a stream sends.
#[derive(Debug)]
pub enum Media {
    /// Made-up pictures.
    Video(Video),
    /// A made-up voice, of payloads with so many bytes.
    Voice(usize),
    /// A recording from this frame on, and the picture id of the next.
    Recorded(Arc<Recording>, usize, u16),
}

/// The streams of one client.
#[derive(Debug)]
pub struct Publisher {
    streams: Vec<Stream>,
    extensions: ExtensionIds,
    transport_seq: u16,
    clock: Clock,
    times: Arc<SendTimes>,
    buffer: Vec<u8>,
    /// From the first chance to send to the first frame, until that was taken.
    phase: Option<Duration>,
}

#[derive(Debug)]
struct Stream {
    mid: String,
    rid: Option<&'static str>,
    kind: MediaKind,
    codec: Codec,
    media: Media,
    voice: Option<Voice>,
    payload_type: u8,
    rtx: Option<u8>,
    ssrc: Ssrc,
    rtx_ssrc: Ssrc,
    seq: u16,
    rtx_seq: u16,
    roll_over: OutboundStream,
    rtx_roll_over: OutboundStream,
    first_timestamp: u32,
    /// When the next frame is due, and the first was.
    next_at: Instant,
    started_at: Instant,
    wanted: bool,
    packets: u32,
    octets: u32,
    history: VecDeque<Sent>,
}

/// A packet that can be sent again.
#[derive(Debug, Default)]
struct Sent {
    seq: u16,
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
}

/// What a stream needs to make datagrams.
struct Wire<'a, S> {
    srtp: &'a mut OutboundSrtp,
    extensions: &'a ExtensionIds,
    transport_seq: &'a mut u16,
    buffer: &'a mut Vec<u8>,
    counters: &'a mut Counters,
    send: &'a mut S,
}

impl Publisher {
    /// Streams for what was agreed on; `media` has something for each layer of each track, in their order. They begin within
    /// a frame's time of the first [`Publisher::handle_timeout`], so that not all cameras tick together.
    pub fn new(
        tracks: &[PublishedTrack],
        media: Vec<(Media, Option<Voice>)>,
        agreement: &Agreement,
        clock: Clock,
        times: Arc<SendTimes>,
        now: Instant,
        rng: &mut StdRng,
    ) -> Self {
        let layers = tracks.iter().zip(&agreement.published).flat_map(|(track, format)| {
            track.layers.iter().map(move |layer| (track, layer, format.as_ref()))
        });
        let phase = Some(Duration::from_micros(rng.random_range(0..33_000)));
        let streams = layers.zip(media).filter_map(|((track, layer, format), (media, voice))| {
            let format = format?;
            Some(Stream {
                mid: track.mid.clone(),
                rid: layer.rid,
                kind: track.codec.kind(),
                codec: track.codec,
                media,
                voice,
                payload_type: format.payload_type,
                rtx: format.rtx,
                ssrc: layer.ssrc,
                rtx_ssrc: layer.rtx_ssrc,
                // Below 2^15, as RFC 3711 section 3.3.1 wants it.
                seq: rng.random::<u16>() & 0x7fff,
                rtx_seq: rng.random::<u16>() & 0x7fff,
                roll_over: OutboundStream::default(),
                rtx_roll_over: OutboundStream::default(),
                first_timestamp: rng.random(),
                next_at: now,
                started_at: now,
                wanted: true,
                packets: 0,
                octets: 0,
                history: VecDeque::new(),
            })
        });
        let streams = streams.collect();
        let (extensions, transport_seq) = (agreement.extensions, rng.random());
        Self { streams, extensions, transport_seq, clock, times, buffer: Vec::new(), phase }
    }

    /// Sends the frames that are due.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        srtp: &mut OutboundSrtp,
        counters: &mut Counters,
        send: &mut impl FnMut(&[u8]),
    ) {
        if let Some(phase) = self.phase.take() {
            for stream in &mut self.streams {
                (stream.next_at, stream.started_at) = (now + phase, now + phase);
            }
        }
        let nanos = self.clock.nanos(now);
        let (times, start) = (Arc::clone(&self.times), self.clock.start());
        let mut wire = Wire {
            srtp,
            extensions: &self.extensions,
            transport_seq: &mut self.transport_seq,
            buffer: &mut self.buffer,
            counters,
            send,
        };
        for stream in &mut self.streams {
            if now.saturating_duration_since(stream.next_at) > MAX_BEHIND {
                stream.next_at = now;
            }
            while stream.next_at <= now {
                let due = stream.next_at;
                stream.next_at += stream.interval();
                if stream.wanted {
                    let spoken_at = due.saturating_duration_since(start);
                    stream.send_frame(due, spoken_at, nanos, &times, &mut wire);
                }
            }
        }
    }

    /// When [`Publisher::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.streams.iter().filter(|stream| stream.wanted).map(|stream| stream.next_at).min()
    }

    /// Layers are worth sending, or not. Those that are again begin with a key frame.
    pub fn set_wanted(&mut self, now: Instant, mid: &str, layers: &[(Option<String>, bool)]) {
        for stream in self.streams.iter_mut().filter(|stream| stream.mid == mid) {
            let told = layers.iter().find(|(rid, _)| rid.as_deref() == stream.rid).map(|(_, wanted)| *wanted);
            let Some(wanted) = told else { continue };
            if wanted && !stream.wanted {
                stream.want_key_frame();
                stream.next_at = stream.next_at.max(now);
            }
            stream.wanted = wanted;
        }
    }

    /// The server wants a key frame.
    pub fn handle_key_request(&mut self, ssrc: Ssrc) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == ssrc) {
            stream.want_key_frame();
        }
    }

    /// The server misses a packet.
    pub fn handle_nack(
        &mut self,
        ssrc: Ssrc,
        seq: u16,
        srtp: &mut OutboundSrtp,
        counters: &mut Counters,
        send: &mut impl FnMut(&[u8]),
    ) {
        let mut wire = Wire {
            srtp,
            extensions: &self.extensions,
            transport_seq: &mut self.transport_seq,
            buffer: &mut self.buffer,
            counters,
            send,
        };
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == ssrc) {
            stream.repair(seq, &mut wire);
        }
    }

    /// Appends a sender report for each stream that has sent.
    pub fn write_reports(&self, now: Instant, out: &mut Vec<u8>) {
        let nanos = u128::from(self.clock.nanos(now));
        // Any epoch will do: what counts is that all streams of a client have the same.
        let ntp = ((nanos << 32) / 1_000_000_000) as u64;
        for stream in self.streams.iter().filter(|stream| stream.packets > 0) {
            let (ssrc, packets, octets) = (stream.ssrc, stream.packets, stream.octets);
            let info = SenderInfo { ssrc, ntp, rtp_timestamp: stream.timestamp(now), packets, octets };
            rtcp::report::write_sender_report(out, &info, &[]);
        }
    }
}

impl Stream {
    fn interval(&self) -> Duration {
        match &self.media {
            Media::Video(video) => video.interval(),
            Media::Voice(_) => VOICE_INTERVAL,
            Media::Recorded(recording, ..) => recording.interval,
        }
    }

    fn want_key_frame(&mut self) {
        match &mut self.media {
            Media::Video(video) => video.want_key_frame(),
            Media::Voice(_) => {}
            // There is none to be made: go on where there is one.
            Media::Recorded(recording, next, _) => *next = recording.next_key(*next),
        }
    }

    fn timestamp(&self, at: Instant) -> u32 {
        let elapsed = at.saturating_duration_since(self.started_at);
        // Rounded, as a third of a frame's time must not make a tick more or less.
        let ticks = (elapsed.as_nanos() * u128::from(self.codec.clock_rate()) + 500_000_000) / 1_000_000_000;
        self.first_timestamp.wrapping_add(ticks as u32)
    }

    fn send_frame<S: FnMut(&[u8])>(
        &mut self,
        due: Instant,
        spoken_at: Duration,
        nanos: u64,
        times: &SendTimes,
        wire: &mut Wire<'_, S>,
    ) {
        let timestamp = self.timestamp(due);
        let level = self.voice.as_mut().map(|voice| voice.level(spoken_at));
        let count = match &self.media {
            Media::Video(video) => video.packets(),
            Media::Voice(_) => 1,
            Media::Recorded(recording, next, _) => recording.frames[*next].payloads.len() as u32,
        };
        for index in 0..count {
            let mut sent = self.next_sent();
            match &mut self.media {
                Media::Video(video) => video.write(index, nanos, &mut sent.payload),
                Media::Voice(len) => write_voice(*len, nanos, &mut sent.payload),
                Media::Recorded(recording, next, picture) => {
                    if recording.codec == Codec::Vp8 {
                        let [high, low] = picture.to_be_bytes();
                        let start = if index == 0 { 0x90 } else { 0x80 };
                        sent.payload.extend_from_slice(&[start, 0x80, 0x80 | high, low]);
                    }
                    sent.payload.extend_from_slice(&recording.frames[*next].payloads[index as usize]);
                    times.note(&sent.payload, nanos);
                }
            }
            let marker = self.kind == MediaKind::Video && index + 1 == count;
            sent = Sent { seq: self.seq, timestamp, marker, payload: sent.payload };
            self.send(sent, level, wire);
        }
        if let Media::Recorded(recording, next, picture) = &mut self.media {
            *next = (*next + 1) % recording.frames.len();
            *picture = (*picture + 1) & 0x7fff;
        }
    }

    /// A place in the history whose memory can be used again.
    fn next_sent(&mut self) -> Sent {
        let oldest = if self.history.len() < self.history_len() { None } else { self.history.pop_front() };
        let mut sent = oldest.unwrap_or_default();
        sent.payload.clear();
        sent
    }

    /// What cannot be repaired need not be kept.
    fn history_len(&self) -> usize {
        if self.rtx.is_some() { HISTORY } else { 1 }
    }

    fn send<S: FnMut(&[u8])>(&mut self, sent: Sent, level: Option<u8>, wire: &mut Wire<'_, S>) {
        let header = HeaderWriter {
            marker: sent.marker,
            payload_type: PayloadType(self.payload_type),
            seq: self.seq,
            timestamp: sent.timestamp,
            ssrc: self.ssrc,
        };
        // A key is exhausted after 2^48 packets: nobody sends so long.
        let Ok(roc) = self.roll_over.roc_for(self.seq) else { return };
        self.put(header, roc, Extension::Rid, level, &[], &sent.payload, wire);
        self.seq = self.seq.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(sent.payload.len() as u32);
        wire.counters.sent_packets += 1;
        wire.counters.sent_bytes += sent.payload.len() as u64;
        self.history.push_back(sent);
    }

    fn repair<S: FnMut(&[u8])>(&mut self, seq: u16, wire: &mut Wire<'_, S>) {
        let Some(rtx) = self.rtx else { return };
        let Some(index) = self.history.iter().position(|sent| sent.seq == seq) else { return };
        let Ok(roc) = self.rtx_roll_over.roc_for(self.rtx_seq) else { return };
        let sent = &self.history[index];
        let header = HeaderWriter {
            marker: sent.marker,
            payload_type: PayloadType(rtx),
            seq: self.rtx_seq,
            timestamp: sent.timestamp,
            ssrc: self.rtx_ssrc,
        };
        self.rtx_seq = self.rtx_seq.wrapping_add(1);
        // RFC 4588 section 4: the original number stands before the payload.
        self.put(header, roc, Extension::RepairedRid, None, &seq.to_be_bytes(), &sent.payload, wire);
        wire.counters.sent_repairs += 1;
    }

    #[expect(clippy::too_many_arguments, reason = "they are the parts of one packet")]
    fn put<S: FnMut(&[u8])>(
        &self,
        header: HeaderWriter,
        roc: u32,
        rid: Extension,
        level: Option<u8>,
        prefix: &[u8],
        payload: &[u8],
        wire: &mut Wire<'_, S>,
    ) {
        let transport_seq = wire.transport_seq.to_be_bytes();
        let level = [level.unwrap_or_default()];
        let values: [(Extension, &[u8]); 4] = [
            (Extension::Mid, self.mid.as_bytes()),
            (rid, self.rid.unwrap_or_default().as_bytes()),
            (Extension::TransportCc, &transport_seq),
            (Extension::AudioLevel, if self.voice.is_some() { &level } else { &[] }),
        ];
        let mut elements = [(0, &[][..]); 4];
        let mut count = 0;
        for (extension, value) in values {
            if let Some(id) = wire.extensions.id(extension).filter(|_| !value.is_empty()) {
                *wire.transport_seq =
                    wire.transport_seq.wrapping_add(u16::from(extension == Extension::TransportCc));
                elements[count] = (id, value);
                count += 1;
            }
        }
        wire.buffer.clear();
        let header_len = header.write(&elements[..count], wire.buffer);
        wire.buffer.extend_from_slice(prefix);
        wire.buffer.extend_from_slice(payload);
        wire.buffer.resize(wire.buffer.len() + wire.srtp.profile().rtp_overhead(), 0);
        if wire.srtp.protect_rtp(roc, header_len, wire.buffer).is_ok() {
            (wire.send)(wire.buffer);
        }
    }
}
