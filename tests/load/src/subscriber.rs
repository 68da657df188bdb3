//! What a client receives. Of every packet the clear header is read; of a sample the payload too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use veche_sfu_core::ids::Ssrc;
use veche_sfu_core::media::{Codec, Extension, MediaKind};
use veche_sfu_core::rtcp::{self, CompoundWriter, ReportBlock, TransportFeedbackBuilder};
use veche_sfu_core::rtp::extension::elements;
use veche_sfu_core::rtp::{FrameInfo, FrameState, RtpHeader};
use veche_sfu_core::srtp::InboundSrtp;

use crate::clock::Clock;
use crate::measure::{Counters, SubscriberSummary};
use crate::negotiation::{Agreement, ReceivedStream};
use crate::send_times::SendTimes;
use crate::sequence::{Arrival, Sequence};
use crate::stamp;

/// The client's own SSRC in what it reports. Receivers that send nothing may choose any.
const OWN: Ssrc = Ssrc(1);
/// A key frame is asked for so often while there is none.
const KEY_INTERVAL: Duration = Duration::from_millis(500);
/// Unit of arrival times (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1).
const ARRIVAL_TICK_MICROS: u128 = 250;
/// Arrivals that wait to be reported: feedback is due long before.
const MAX_ARRIVALS: usize = 20_000;

/// The receiving side of one client.
#[derive(Debug)]
pub struct Subscriber {
    streams: Vec<Stream>,
    /// Where an SSRC's stream is, and whether it carries its repairs.
    stream_by_ssrc: FxHashMap<Ssrc, (usize, bool)>,
    /// The id of the transport-wide number.
    transport_id: Option<u8>,
    /// Pictures were asked for: the first frame is one.
    video: bool,
    arrivals: Vec<(u16, i64)>,
    /// The number behind those that were reported.
    next_base: Option<u16>,
    feedback: TransportFeedbackBuilder,
    sampler: Sampler,
    clock: Clock,
    times: Arc<SendTimes>,
    nacks: Vec<u16>,
    first_frame_at: Option<Instant>,
    all_frames_at: Option<Instant>,
    packets: u64,
}

/// Chooses packets by chance: frames have so many packets, and rooms so many speakers, that every twentieth might always be
/// the same one.
#[derive(Debug)]
struct Sampler {
    /// One of so many.
    of: u32,
    left: u32,
    /// Xorshift (Marsaglia 2003): enough to be no multiple of anything.
    state: u32,
}

#[derive(Debug)]
struct Stream {
    agreed: ReceivedStream,
    sequence: Sequence,
    frames: FrameState,
    first_frame: FirstFrame,
    key_at: Option<Instant>,
    /// Something was given up: a decoder would need a key frame.
    broken: bool,
    /// Something came since it was asked for last.
    plays: bool,
    /// The last sender report: the middle of its NTP time, and when it came.
    report: Option<(u32, Instant)>,
}

/// On the way to the first whole frame every packet is decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstFrame {
    /// No key frame has begun.
    Awaited,
    /// It began with this packet; its last one may be there.
    Begun { from: u64, to: Option<u64> },
    /// It is whole.
    Seen,
}

impl Subscriber {
    /// The streams that were agreed on.
    pub fn new(agreement: &Agreement, sample: u32, clock: Clock, times: Arc<SendTimes>) -> Self {
        let mut stream_by_ssrc = FxHashMap::default();
        for (index, stream) in agreement.received.iter().enumerate() {
            stream_by_ssrc.insert(stream.ssrc, (index, false));
            if let Some(rtx) = stream.rtx_ssrc {
                stream_by_ssrc.insert(rtx, (index, true));
            }
        }
        let streams: Vec<Stream> = agreement.received.iter().cloned().map(Stream::new).collect();
        Self {
            video: streams.iter().any(|stream| stream.agreed.kind == MediaKind::Video),
            streams,
            stream_by_ssrc,
            transport_id: agreement.extensions.id(Extension::TransportCc),
            arrivals: Vec::new(),
            next_base: None,
            feedback: TransportFeedbackBuilder::new(OWN, OWN),
            sampler: Sampler { of: sample.max(1), left: 1, state: 0x9e37_79b9 },
            clock,
            times,
            nacks: Vec::new(),
            first_frame_at: None,
            all_frames_at: None,
            packets: 0,
        }
    }

    /// Whether nothing will come.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// There are arrivals to report.
    pub fn has_arrivals(&self) -> bool {
        !self.arrivals.is_empty()
    }

    /// When the first frame was whole.
    pub fn first_frame_at(&self) -> Option<Instant> {
        self.first_frame_at
    }

    /// When all its streams had had a whole frame.
    pub fn all_frames_at(&self) -> Option<Instant> {
        self.all_frames_at
    }

    /// What came since this was asked for last.
    pub fn take_summary(&mut self) -> SubscriberSummary {
        let playing =
            self.streams.iter_mut().filter_map(|stream| std::mem::take(&mut stream.plays).then_some(()));
        let playing = playing.count();
        SubscriberSummary { packets: std::mem::take(&mut self.packets), playing, streams: self.streams.len() }
    }

    /// Takes an RTP packet.
    pub fn handle_rtp(
        &mut self,
        now: Instant,
        srtp: &mut InboundSrtp,
        datagram: &mut [u8],
        counters: &mut Counters,
    ) {
        let Ok(header) = RtpHeader::parse(datagram) else {
            counters.strange += 1;
            return;
        };
        let Some(&(index, repair)) = self.stream_by_ssrc.get(&header.ssrc) else {
            counters.strange += 1;
            return;
        };
        self.note_arrival(now, &header, datagram);
        if repair {
            return self.handle_repair(now, index, srtp, &header, datagram, counters);
        }
        counters.packets += 1;
        counters.bytes += (datagram.len() - header.header_len) as u64;
        self.packets += 1;
        let stream = &mut self.streams[index];
        let (seq, arrival) = stream.sequence.on_packet(now, header.seq);
        match arrival {
            Arrival::Next { skipped } => counters.gaps += skipped,
            Arrival::Leap { skipped } => {
                counters.gaps += skipped;
                counters.lost += skipped;
                stream.broken = true;
            }
            Arrival::Missed => counters.late += 1,
            Arrival::Again => {
                // It was counted once, and a receiver drops this one.
                counters.packets -= 1;
                counters.duplicates += 1;
                return;
            }
        }
        stream.plays = true;
        let sampled = self.sampler.take();
        if sampled || stream.first_frame != FirstFrame::Seen {
            self.look_inside(now, index, seq, srtp, &header, datagram, counters);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "they are one packet and what it is looked at with")]
    fn look_inside(
        &mut self,
        now: Instant,
        index: usize,
        seq: u64,
        srtp: &mut InboundSrtp,
        header: &RtpHeader,
        datagram: &mut [u8],
        counters: &mut Counters,
    ) {
        let Some(payload) = decrypt(srtp, header, datagram) else {
            counters.strange += 1;
            return;
        };
        let sent = stamp::read(payload).or_else(|| self.times.find(payload));
        if let Some(delay) = sent.and_then(|sent| self.clock.since(sent, now)) {
            counters.delay.record(delay);
        }
        let stream = &mut self.streams[index];
        if stream.first_frame != FirstFrame::Seen {
            stream.look_for_frame(seq, header, payload);
            self.on_packet_of_first_frame(now, index);
        }
    }

    /// A stream may have its first whole frame now.
    fn on_packet_of_first_frame(&mut self, now: Instant, index: usize) {
        let stream = &self.streams[index];
        if stream.first_frame != FirstFrame::Seen {
            return;
        }
        if stream.agreed.kind == MediaKind::Video || !self.video {
            self.first_frame_at.get_or_insert(now);
        }
        if self.streams.iter().all(|stream| stream.first_frame == FirstFrame::Seen) {
            self.all_frames_at.get_or_insert(now);
        }
    }

    /// Repairs are few, and what they repair stands in the encrypted part (RFC 4588 section 4).
    fn handle_repair(
        &mut self,
        now: Instant,
        index: usize,
        srtp: &mut InboundSrtp,
        header: &RtpHeader,
        datagram: &mut [u8],
        counters: &mut Counters,
    ) {
        let Some(payload) = decrypt(srtp, header, datagram) else {
            counters.strange += 1;
            return;
        };
        let Some((original, payload)) = payload.split_first_chunk::<2>() else {
            counters.probes += 1;
            return;
        };
        counters.repairs += 1;
        let stream = &mut self.streams[index];
        let (seq, missed) = stream.sequence.on_repair(u16::from_be_bytes(*original));
        counters.repaired += u64::from(missed);
        if missed && stream.first_frame != FirstFrame::Seen {
            let rtx = |format: &&crate::description::Format| format.rtx == Some(header.payload_type.0);
            let format = stream.agreed.formats.iter().find(rtx).map(|format| format.payload_type);
            let mut original = *header;
            original.payload_type.0 = format.unwrap_or(header.payload_type.0);
            stream.look_for_frame(seq, &original, payload);
            self.on_packet_of_first_frame(now, index);
        }
    }

    fn note_arrival(&mut self, now: Instant, header: &RtpHeader, datagram: &[u8]) {
        let Some(transport_id) = self.transport_id else { return };
        if self.arrivals.len() >= MAX_ARRIVALS {
            return;
        }
        let found = elements(header, datagram).find(|(id, _)| *id == transport_id);
        if let Some((_, &[high, low])) = found {
            let micros = now.saturating_duration_since(self.clock.start()).as_micros();
            self.arrivals.push((u16::from_be_bytes([high, low]), (micros / ARRIVAL_TICK_MICROS) as i64));
        }
    }

    /// Takes a sender report.
    pub fn handle_sender_report(&mut self, now: Instant, ssrc: Ssrc, ntp: u64) {
        if let Some(&(index, false)) = self.stream_by_ssrc.get(&ssrc) {
            self.streams[index].report = Some(((ntp >> 16) as u32, now));
        }
    }

    /// Something is missing, or a key frame is: [`Subscriber::write_requests`] is worth calling soon.
    pub fn waits(&self) -> bool {
        self.streams.iter().any(|stream| stream.sequence.waits() || stream.wants_key_frame())
    }

    /// Appends what is to be asked for now, and gives up what nobody waits for any more.
    pub fn write_requests(&mut self, now: Instant, out: &mut CompoundWriter, counters: &mut Counters) {
        for stream in &mut self.streams {
            let lost = stream.sequence.give_up(now, stream.agreed.kind);
            counters.lost += lost;
            stream.broken |= lost > 0;
            // What cannot be repaired is not asked for.
            if stream.agreed.rtx_ssrc.is_some() {
                self.nacks.clear();
                stream.sequence.poll_nacks(now, &mut self.nacks);
                if !self.nacks.is_empty() {
                    let ssrc = stream.agreed.ssrc;
                    out.add(|out| rtcp::feedback::write_nack(out, OWN, ssrc, &self.nacks));
                }
            }
            let waited = stream.key_at.is_none_or(|at| now.saturating_duration_since(at) >= KEY_INTERVAL);
            if stream.wants_key_frame() && waited {
                stream.key_at = Some(now);
                stream.broken = false;
                let ssrc = stream.agreed.ssrc;
                out.add(|out| rtcp::feedback::write_pli(out, OWN, ssrc));
            }
        }
    }

    /// Appends when the packets since the last time arrived.
    pub fn write_feedback(&mut self, out: &mut CompoundWriter) {
        let Some(&(base, _)) = self.arrivals.first() else { return };
        self.arrivals.sort_unstable_by_key(|(seq, _)| seq.wrapping_sub(base) as i16);
        self.arrivals.dedup_by_key(|(seq, _)| *seq);
        let (Some(&(first, _)), Some(&(last, _))) = (self.arrivals.first(), self.arrivals.last()) else {
            return;
        };
        // What was lost between two reports is told too; what came late is told by itself.
        let after = |base: &u16| (first.wrapping_sub(*base) as i16) > 0;
        let base = self.next_base.filter(after).unwrap_or(first);
        self.next_base = Some(last.wrapping_add(1));
        out.add(|out| {
            self.feedback.write(base, &self.arrivals, out);
        });
        self.arrivals.clear();
    }

    /// Appends what a receiver report says of each stream.
    pub fn write_report(&mut self, now: Instant, out: &mut CompoundWriter) {
        let blocks: Vec<ReportBlock> =
            self.streams.iter_mut().filter_map(|stream| stream.report_block(now)).collect();
        for chunk in blocks.chunks(rtcp::report::MAX_BLOCKS) {
            out.add(|out| rtcp::report::write_receiver_report(out, OWN, chunk));
        }
    }
}

impl Stream {
    fn new(agreed: ReceivedStream) -> Self {
        Self {
            agreed,
            sequence: Sequence::default(),
            frames: FrameState::default(),
            first_frame: FirstFrame::Awaited,
            key_at: None,
            broken: false,
            plays: false,
            report: None,
        }
    }

    /// Packets come, but no key frame; or something was lost for good.
    fn wants_key_frame(&self) -> bool {
        let began = self.sequence.began();
        self.agreed.kind == MediaKind::Video
            && began
            && (self.first_frame == FirstFrame::Awaited || self.broken)
    }

    fn look_for_frame(&mut self, seq: u64, header: &RtpHeader, payload: &[u8]) {
        if self.agreed.kind == MediaKind::Audio {
            self.first_frame = FirstFrame::Seen;
            return;
        }
        let format = self.agreed.formats.iter().find(|format| format.payload_type == header.payload_type.0);
        let codec = format.map_or(Codec::Vp8, |format| format.codec);
        let info = FrameInfo::read(codec, header, payload, None, &mut self.frames);
        let begins = info.key_frame && info.start_of_frame;
        let (from, to) = match self.first_frame {
            _ if begins => (seq, info.end_of_frame.then_some(seq)),
            FirstFrame::Begun { from, to } if seq > from => {
                let ends = info.end_of_frame.then_some(seq);
                (from, to.into_iter().chain(ends).min())
            }
            _ => return,
        };
        let whole = to.is_some_and(|to| !self.sequence.misses(from, to));
        self.first_frame = if whole { FirstFrame::Seen } else { FirstFrame::Begun { from, to } };
    }

    fn report_block(&mut self, now: Instant) -> Option<ReportBlock> {
        let report = self.sequence.report()?;
        let (last_sender_report, delay_since_last) = self.report.map_or((0, 0), |(middle, at)| {
            let delay = now.saturating_duration_since(at);
            (middle, (delay.as_secs_f64() * 65_536.0) as u32)
        });
        Some(ReportBlock {
            ssrc: self.agreed.ssrc,
            fraction_lost: report.fraction_lost,
            cumulative_lost: report.cumulative_lost,
            highest_seq: report.highest_seq,
            jitter: 0,
            last_sender_report,
            delay_since_last,
        })
    }
}

impl Sampler {
    fn take(&mut self) -> bool {
        self.left -= 1;
        if self.left == 0 {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 17;
            self.state ^= self.state << 5;
            // From 1 to twice the mean, less one.
            self.left = 1 + self.state % (2 * self.of - 1);
            return true;
        }
        false
    }
}

/// The payload of a packet, decrypted in place; empty when there is only padding.
fn decrypt<'a>(srtp: &mut InboundSrtp, header: &RtpHeader, datagram: &'a mut [u8]) -> Option<&'a [u8]> {
    let plain = srtp.unprotect_rtp(header.ssrc, header.seq, header.header_len, datagram).ok()?;
    if plain.new {
        srtp.accept(header.ssrc, header.seq).ok()?;
    }
    let packet = &datagram[..plain.len];
    let range = header.payload_range(packet).ok()?;
    packet.get(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_one_of_so_many_and_never_always_the_same() {
        let mut sampler = Sampler { of: 20, left: 1, state: 1 };
        let mut places = [0; 10];
        for packet in 0..200_000 {
            places[packet % 10] += u32::from(sampler.take());
        }
        assert!((9_500..10_500).contains(&places.iter().sum::<u32>()), "{places:?}");
        assert!(places.iter().all(|count| (850..1_150).contains(count)), "{places:?}");
        let mut all = Sampler { of: 1, left: 1, state: 1 };
        assert!((0..100).all(|_| all.take()));
    }
}
