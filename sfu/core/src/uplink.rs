//! A participant's way up: their media comes in, feedback about it goes back.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::context::{Context, Now};
use crate::drops::DropReason;
use crate::ids::{Mid, Rid, Ssrc};
use crate::incoming::Incoming;
use crate::participant::{Participant, StreamRef};
use crate::path::Path;
use crate::rtcp::{self, CompoundWriter, ReportBlock};
use crate::rtp::RtpHeader;
use crate::rtp::extension::Extensions;
use crate::timeline::Decision;
use crate::track::Payload;
use crate::transport::Transport;

/// A media packet that was taken, and the layer that it belongs to.
#[derive(Debug)]
pub struct Received<'a> {
    /// The track's index.
    pub track: u32,
    /// The layer's index.
    pub layer: u8,
    /// The packet.
    pub incoming: Incoming<'a>,
    /// RFC 6464: whether it has voice, and the level below full scale.
    pub level: Option<(bool, u8)>,
    /// It came as a repair.
    pub repaired: bool,
}

impl Participant {
    /// Takes an SRTP packet: authenticates and decrypts it in place and gives it to its layer.
    pub fn receive_rtp<'a>(
        &mut self,
        now: &Now,
        path: Path,
        datagram: &'a mut [u8],
    ) -> Result<Received<'a>, DropReason> {
        let header = RtpHeader::parse(datagram)?;
        let transport = self.transport.as_mut().ok_or(DropReason::SrtpNotReady)?;
        let len = transport.unprotect_rtp(now.instant, path, &header, datagram)?;
        let packet = &mut datagram[..len];
        let ids = transport.extensions;
        let extensions = Extensions::read(&header, packet, &ids);
        if let Some(seq) = extensions.transport_seq {
            self.arrivals.on_packet(now.instant, seq);
        }
        let stream = match self.streams.get(&header.ssrc) {
            Some(stream) => *stream,
            None => self.bind_stream(&header, &extensions)?,
        };
        self.transport.as_mut().ok_or(DropReason::SrtpNotReady)?.accept_stream(header.ssrc, header.seq)?;
        self.counters.packets_received += 1;
        self.counters.bytes_received += len as u64;
        self.take_media(now, stream, header, packet)
    }

    fn take_media<'a>(
        &mut self,
        now: &Now,
        stream: StreamRef,
        header: RtpHeader,
        packet: &'a mut [u8],
    ) -> Result<Received<'a>, DropReason> {
        let ids = self.transport.as_ref().map(|t| t.extensions).unwrap_or_default();
        let track = self.tracks.get_mut(stream.track as usize).ok_or(DropReason::UnknownSsrc)?;
        if !track.active {
            return Err(DropReason::InactiveTrack);
        }
        let payload = track.payload(header.payload_type).ok_or(DropReason::UnknownPayloadType)?;
        let layer_index = stream.layer as usize;
        let layer = track.layers.get(layer_index).ok_or(DropReason::UnknownRid)?;
        let (format, header, packet, repaired): (_, _, &'a [u8], _) = match payload {
            Payload::Media(format) => (format, header, packet, false),
            Payload::Repair(media) => {
                let ssrc = layer.ssrc.ok_or(DropReason::RtxUseless)?;
                let (header, packet) = unwrap_repair(header, packet, media, ssrc)?;
                let Some(Payload::Media(format)) = track.payload(media) else {
                    return Err(DropReason::UnknownPayloadType);
                };
                (format, header, packet, true)
            }
        };
        let extensions = Extensions::read(&header, packet, &ids);
        let level = extensions.audio_level.map(|l| (l.voice, l.level));
        let layer = track.layers.get_mut(layer_index).ok_or(DropReason::UnknownRid)?;
        let incoming = layer.receive(now, header, &extensions, format, packet, repaired)?;
        self.counters.repairs_received += u64::from(repaired);
        if track.muted {
            return Err(DropReason::InactiveTrack);
        }
        Ok(Received { track: stream.track, layer: stream.layer, incoming, level, repaired })
    }

    /// Finds out which negotiated stream a new SSRC is, by mid and rid, or by a payload type that only one section
    /// has (RFC 9143 section 9.2). The packet was authenticated before.
    fn bind_stream(
        &mut self,
        header: &RtpHeader,
        extensions: &Extensions<'_>,
    ) -> Result<StreamRef, DropReason> {
        let track_index = match extensions.mid.and_then(Mid::from_bytes) {
            Some(mid) => self.tracks.iter().find(|(_, t)| t.mid == mid).map(|(i, _)| i),
            None => self.only_track_with(header),
        };
        let track_index = track_index.ok_or(DropReason::UnknownSsrc)?;
        let track = &mut self.tracks[track_index];
        let payload = track.payload(header.payload_type).ok_or(DropReason::UnknownPayloadType)?;
        let repairs = matches!(payload, Payload::Repair(_));
        let rid = if repairs { extensions.repaired_rid.or(extensions.rid) } else { extensions.rid };
        let rid = rid.and_then(Rid::from_bytes);
        let layer_index = track.layer_by_rid(rid.as_ref()).ok_or(DropReason::UnknownRid)?;
        let layer = &mut track.layers[layer_index];
        let place = if repairs { &mut layer.rtx_ssrc } else { &mut layer.ssrc };
        if let Some(replaced) = place.replace(header.ssrc) {
            if !repairs {
                layer.restart();
            }
            self.streams.remove(&replaced);
            if let Some(transport) = self.transport.as_mut() {
                transport.forget_stream(replaced);
            }
        }
        let stream = StreamRef { track: track_index as u32, layer: layer_index as u8, repairs };
        self.streams.insert(header.ssrc, stream);
        Ok(stream)
    }

    fn only_track_with(&self, header: &RtpHeader) -> Option<usize> {
        let mut tracks = self.tracks.iter().filter(|(_, t)| t.payload(header.payload_type).is_some());
        let (index, _) = tracks.next()?;
        tracks.next().is_none().then_some(index)
    }

    /// Sends what the publisher must know: what is missing, that a key frame is wanted, when packets arrived.
    pub(crate) fn send_feedback(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now.instant;
        let (rtt, sender) = (self.rtt(), self.feedback_ssrc);
        let Some(transport) = self.transport.as_mut().filter(|t| t.ready()) else { return };
        let mut media = Ssrc(0);
        for (_, track) in &mut self.tracks {
            let (muted, nack) = (track.muted, track.takes_nack());
            for (index, layer) in track.layers.iter_mut().enumerate() {
                let Some(ssrc) = layer.ssrc else { continue };
                media = ssrc;
                ctx.missing.clear();
                layer.loss.poll_nacks(now, rtt, ctx.missing);
                if !ctx.missing.is_empty() && nack {
                    self.counters.nacks_sent += ctx.missing.len() as u64;
                    ctx.rtcp.add(|out| rtcp::feedback::write_nack(out, sender, ssrc, ctx.missing));
                }
                let shown = !layer.subscribers.is_empty() || !layer.takers.workers.is_empty();
                if !shown || muted {
                    layer.key_frames.cancel();
                } else if layer.key_frames.poll(now) {
                    self.counters.key_frames_requested += 1;
                    ctx.rtcp.add(|out| rtcp::feedback::write_pli(out, sender, ssrc));
                    self.timeline.note(
                        ctx.now.unix_ms(),
                        Decision::KeyFrame { mid: track.mid.clone(), layer: index as u8 },
                    );
                }
            }
        }
        // Feedback that names no stream of the sender's is ignored by it.
        self.feedback.set_media(media);
        while media != Ssrc(0)
            && let Some(plan) = self.arrivals.take(now)
        {
            ctx.arrived.clear();
            ctx.arrived.extend(plan.arrivals.iter().filter_map(|(seq, at)| Some((*seq, (*at)? as i64))));
            ctx.rtcp.add(|out| {
                self.feedback.write(plan.base_seq, ctx.arrived, out);
            });
        }
        send_all(transport, ctx.rtcp);
    }

    /// Gives back what layers that have ceased, and a send buffer that was large, still hold. Once a second.
    pub(crate) fn release_idle(&mut self, now: Instant) {
        for (_, track) in &mut self.tracks {
            for layer in track.layers.iter_mut().filter(|l| !l.rate.is_flowing(now, IDLE_LAYER)) {
                layer.history.clear();
            }
        }
        if let Some(transport) = self.transport.as_mut() {
            transport.trim();
        }
    }

    /// Sends receiver reports about everything that is published.
    pub(crate) fn send_receiver_reports(&mut self, ctx: &mut Context<'_>) {
        let Some(transport) = self.transport.as_mut().filter(|t| t.ready()) else { return };
        let mut blocks: SmallVec<[ReportBlock; 8]> = SmallVec::new();
        let mut worst: f32 = 0.0;
        for (_, track) in &mut self.tracks {
            for layer in &mut track.layers {
                let Some(ssrc) = layer.ssrc else { continue };
                let Some(block) = layer.statistics.report(ctx.now.instant, ssrc) else { continue };
                worst = worst.max(f32::from(block.fraction_lost) / 256.0);
                blocks.push(block);
            }
        }
        self.loss_up += (worst - self.loss_up) * 0.3;
        for chunk in blocks.chunks(MAX_REPORT_BLOCKS) {
            ctx.rtcp.add(|out| rtcp::report::write_receiver_report(out, self.feedback_ssrc, chunk));
        }
        send_all(transport, ctx.rtcp);
    }
}

/// A layer that has been silent for so long has nothing that anybody would ask for again.
const IDLE_LAYER: Duration = Duration::from_secs(5);

/// Report blocks in one packet: the count has five bits (RFC 3550 section 6.4.1).
const MAX_REPORT_BLOCKS: usize = 31;

/// Sends the datagrams that were put together.
pub(crate) fn send_all(transport: &mut Transport, rtcp: &mut CompoundWriter) {
    for datagram in rtcp.datagrams() {
        // A full send buffer costs this feedback; the next tick tells it again.
        let _ = transport.send_rtcp(datagram);
    }
    rtcp.clear();
}

/// Takes a repair apart in place: the original sequence number moves from the payload into the header.
fn unwrap_repair(
    mut header: RtpHeader,
    packet: &mut [u8],
    payload_type: crate::ids::PayloadType,
    ssrc: Ssrc,
) -> Result<(RtpHeader, &[u8]), DropReason> {
    let range = header.payload_range(packet)?;
    if range.len() < 2 {
        return Err(DropReason::RtxUseless);
    }
    header.seq = u16::from_be_bytes([packet[range.start], packet[range.start + 1]]);
    header.payload_type = payload_type;
    header.ssrc = ssrc;
    packet.copy_within(0..header.header_len, 2);
    Ok((header, &packet[2..]))
}
