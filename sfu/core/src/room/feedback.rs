//! RTCP from participants: what they miss, what they need, how they are.

use crate::bandwidth::Estimator;
use crate::context::Context;
use crate::drops::DropReason;
use crate::forward::forwarder::LayerRef;
use crate::ids::Ssrc;
use crate::path::Path;
use crate::receive::key_frame::KeyFrameReason;
use crate::rtcp::{self, Packet, ReportBlock, SenderInfo};

use super::Room;

impl Room {
    /// Takes an SRTCP packet.
    pub(super) fn handle_rtcp(
        &mut self,
        ctx: &mut Context<'_>,
        index: u32,
        path: Path,
        datagram: &mut [u8],
    ) -> Result<(), DropReason> {
        let participant = &mut self.participants[index as usize];
        let transport = participant.transport.as_mut().ok_or(DropReason::SrtpNotReady)?;
        let len = transport.unprotect_rtcp(ctx.now.instant, path, datagram)?;
        let plain = datagram.get(..len).ok_or(DropReason::RtcpMalformed)?;
        for packet in rtcp::parse(plain) {
            self.take_feedback(ctx, index, packet?);
        }
        Ok(())
    }

    fn take_feedback(&mut self, ctx: &mut Context<'_>, index: u32, packet: Packet<'_>) {
        match packet {
            Packet::SenderReport(report) => {
                self.take_sender_report(ctx, index, &report.info);
                self.take_report_blocks(ctx, index, report.blocks());
            }
            Packet::ReceiverReport(report) => self.take_report_blocks(ctx, index, report.blocks()),
            Packet::Nack(nack) => {
                for seq in nack.seqs() {
                    self.repair(ctx, index, nack.media, seq);
                }
            }
            Packet::Pli { media, .. } => self.want_key_frame(ctx, index, media),
            Packet::Fir(fir) => {
                for (ssrc, _) in fir.entries() {
                    self.want_key_frame(ctx, index, ssrc);
                }
            }
            Packet::TransportFeedback(feedback) => self.take_transport_feedback(ctx, index, &feedback),
            Packet::Remb(remb) => {
                if let Some(transport) = self.transport_mut(index) {
                    transport.estimator.on_remb(ctx.now.instant, remb.bitrate);
                }
            }
        }
    }

    fn take_transport_feedback(
        &mut self,
        ctx: &mut Context<'_>,
        index: u32,
        feedback: &rtcp::TransportFeedback<'_>,
    ) {
        let now = ctx.now.instant;
        let participant = &mut self.participants[index as usize];
        let Some(transport) = participant.transport.as_mut() else { return };
        // Reading costs time that is everybody's: about as much as was sent is told, once or twice.
        let Some(budget) = participant.feedback_budget.checked_sub(u32::from(feedback.status_count)) else {
            return ctx.drop_packet(&mut participant.drops, DropReason::FeedbackLimit);
        };
        participant.feedback_budget = budget;
        transport.estimator.on_feedback(now, feedback);
        // What does not fit any more is taken away at once.
        let estimate = transport.estimate().unwrap_or(u64::MAX);
        let fell = estimate < participant.shared_estimate - participant.shared_estimate / 10;
        if fell && estimate < participant.allocated_bits {
            self.share_bandwidth(ctx, index);
        }
    }

    fn take_sender_report(&mut self, ctx: &mut Context<'_>, index: u32, info: &SenderInfo) {
        let participant = &mut self.participants[index as usize];
        let Some(stream) = participant.streams.get(&info.ssrc).filter(|s| !s.repairs) else { return };
        let stream = *stream;
        let Some(track) = participant.tracks.get_mut(stream.track as usize) else { return };
        let id = track.id;
        let Some(layer) = track.layers.get_mut(stream.layer as usize) else { return };
        layer.statistics.on_sender_report(ctx.now.instant, info.ntp);
        let ntp_clock = &mut participant.ntp_clock;
        layer.clock.on_sender_report(ntp_clock, ctx.now.nanos, info.ntp, info.rtp_timestamp);
        let from = LayerRef { participant: index, track: stream.track, layer: stream.layer, id };
        self.carry_report(ctx, from, info);
    }

    fn take_report_blocks(
        &mut self,
        ctx: &mut Context<'_>,
        index: u32,
        blocks: impl Iterator<Item = ReportBlock>,
    ) {
        let participant = &mut self.participants[index as usize];
        let mut worst: Option<f32> = None;
        for block in blocks {
            if !participant.slot_by_ssrc.contains_key(&block.ssrc) {
                continue;
            }
            participant.rtt.on_report(
                (ctx.now.ntp >> 16) as u32,
                block.last_sender_report,
                block.delay_since_last,
            );
            let lost = f32::from(block.fraction_lost) / 256.0;
            worst = Some(worst.map_or(lost, |w| w.max(lost)));
        }
        if let Some(transport) = participant.transport.as_mut() {
            transport.estimator.on_rtt(participant.rtt.or_default());
            if let Some(worst) = worst {
                transport.estimator.on_report_loss(ctx.now.instant, worst);
            }
        }
        // Reports count as lost what never came from publishers; transport-wide feedback tells of this way alone.
        let estimator = participant.transport.as_ref().map(|t| &t.estimator).filter(|e| e.has_feedback());
        if let Some(worst) = estimator.map(Estimator::loss).or(worst) {
            participant.loss_down += (worst - participant.loss_down) * 0.3;
        }
    }

    /// Sends a packet of a slot again, out of the publisher's history.
    fn repair(&mut self, ctx: &mut Context<'_>, index: u32, ssrc: Ssrc, seq: u16) {
        let subscriber = &mut self.participants[index as usize];
        let Some(&slot) = subscriber.slot_by_ssrc.get(&ssrc) else { return };
        let sent = match subscriber.find_repair(ctx.now.instant, slot, seq) {
            Ok(sent) => sent,
            Err(reason) => return ctx.drop_packet(&mut subscriber.drops, reason),
        };
        let from = sent.source;
        let pair = self.participants.get2_mut(from.participant as usize, index as usize);
        let Some((publisher, subscriber)) = pair else { return };
        let layer = publisher
            .tracks
            .get(from.track as usize)
            .filter(|t| t.id == from.id)
            .and_then(|t| t.layers.get(from.layer as usize))
            .filter(|l| l.generation == sent.generation);
        let stored = layer.and_then(|l| l.stored(ctx.now.instant, sent.seq, &publisher.extensions()));
        let result = match stored {
            Some(stored) => subscriber.repair(&ctx.now, slot, seq, &sent, &stored),
            None => Err(DropReason::HistoryMiss),
        };
        match result {
            Ok(()) => {
                self.list_paced(ctx.now.instant, index);
                self.mark(ctx, index);
            }
            Err(reason) => ctx.drop_packet(&mut subscriber.drops, reason),
        }
    }

    /// A subscriber cannot go on without a key frame.
    fn want_key_frame(&mut self, ctx: &mut Context<'_>, index: u32, ssrc: Ssrc) {
        if self.is_queue_full(ctx.now.instant, index) {
            return;
        }
        let subscriber = &mut self.participants[index as usize];
        let slot = subscriber.slot_by_ssrc.get(&ssrc).and_then(|s| subscriber.slots.get_mut(*s as usize));
        let Some(slot) = slot else { return };
        if !slot.key_frame_asks.allow(ctx.now.instant) {
            return ctx.drop_packet(&mut subscriber.drops, DropReason::KeyFrameLimit);
        }
        let current = slot.forwarder.current().filter(|_| !slot.starved);
        let layers: [Option<LayerRef>; 2] = [current, slot.forwarder.target()];
        for layer in layers.into_iter().flatten() {
            self.request_key_frame(ctx.now.instant, layer, KeyFrameReason::Receiver);
        }
    }
}
