//! A participant's way down: what their slots are sent, and sent again.

use std::time::{Duration, Instant};

use crate::context::{Context, Now};
use crate::drops::DropReason;
use crate::forward::forwarder::{ForwardOutput, LayerRef, Sent};
use crate::forward::picture::{PictureFields, PictureIds};
use crate::forward::red;
use crate::incoming::Incoming;
use crate::media::MediaKind;
use crate::participant::Participant;
use crate::rtcp::{self, SenderInfo};
use crate::slot::Slot;
use crate::transport::pacer::Urgency;
use crate::transport::{OutgoingRtp, PassedExtensions};
use crate::uplink::send_all;

/// Repairs that would wait for longer than this are of no use to anybody.
const MAX_REPAIR_WAIT: Duration = Duration::from_millis(125);

/// The longest dependency descriptor that is passed on. The longest with a full structure of browsers has about
/// 100 bytes; the two-byte header form could carry 255.
const MAX_DESCRIPTOR: usize = 255;

impl Participant {
    /// Forwards a packet of a layer to a slot that shows it or waits for it.
    pub fn forward(
        &mut self,
        now: &Now,
        slot: u32,
        from: LayerRef,
        incoming: &Incoming<'_>,
    ) -> Result<ForwardOutput, DropReason> {
        let slot = self.slots.get_mut(slot as usize).ok_or(DropReason::BeforeSwitch)?;
        let transport = self.transport.as_mut().ok_or(DropReason::NotConnected)?;
        if !transport.ready() {
            return Err(DropReason::NotConnected);
        }
        let format = slot.outgoing_format(incoming.format).ok_or(DropReason::NoCommonCodec)?;
        let late = slot.kind == MediaKind::Video
            && (slot.starved || transport.pacing_delay(now.instant) > slot.longest_wait(now.instant));
        let output = slot.forwarder.forward(from, &incoming.forward_input(late))?;
        let mut descriptor = [0; MAX_DESCRIPTOR];
        let extensions =
            continue_descriptor(incoming.passed, &incoming.picture, output.offsets, &mut descriptor);
        let red = format.red.filter(|_| self.redundancy.older() > 0 && carries_red(incoming, &output));
        let payload = match red {
            _ if output.padding => &[],
            Some(_) => incoming.payload,
            None => incoming.primary(),
        };
        let packet = OutgoingRtp {
            payload_type: red.unwrap_or(format.payload_type),
            marker: output.marker,
            seq: output.seq,
            timestamp: output.timestamp,
            ssrc: slot.ssrc,
            extensions,
            prefix: &[],
            payload,
            padding: 0,
        };
        let urgency = match slot.kind {
            MediaKind::Audio => Urgency::Sound,
            MediaKind::Video => Urgency::Picture,
        };
        let written = transport.send_rtp(now, urgency, &packet, |copy| match red {
            Some(_) => red::set_payload_type(copy, format.payload_type),
            None => output.offsets.apply(&incoming.picture, copy),
        })?;
        slot.sent_at = Some(now.instant);
        if incoming.frame.key_frame {
            slot.key_frame_at = Some(now.instant);
            slot.starved = false;
        }
        slot.sent_packets = slot.sent_packets.wrapping_add(1);
        slot.sent_octets = slot.sent_octets.wrapping_add(payload.len() as u32);
        self.counters.packets_sent += 1;
        self.counters.bytes_sent += written as u64;
        Ok(output)
    }

    /// How many older packets a packet of sound shall carry to a slot: none where the subscriber does not know RED.
    pub fn redundancy_in(&self, slot: u32) -> u8 {
        match self.redundancy.older() {
            0 => 0,
            older if self.slots.get(slot as usize).is_some_and(Slot::takes_red) => older,
            _ => 0,
        }
    }

    /// Where a packet of a slot came from, when it may be sent again now.
    pub fn find_repair(&mut self, now: Instant, slot: u32, seq: u16) -> Result<Sent, DropReason> {
        self.counters.nacks_received += 1;
        let rtt = self.rtt();
        let slot = self.slots.get_mut(slot as usize).ok_or(DropReason::HistoryMiss)?;
        let sent = slot.forwarder.sent(seq).ok_or(DropReason::HistoryMiss)?;
        if slot.has_left(sent.source) {
            return Err(DropReason::RepairLimit);
        }
        if !slot.repairs.allow(now, seq, rtt) {
            return Err(DropReason::RepairedRecently);
        }
        Ok(sent)
    }

    /// Sends a packet again, as a repair (RFC 4588).
    pub fn repair(
        &mut self,
        now: &Now,
        slot: u32,
        seq: u16,
        sent: &Sent,
        stored: &Incoming<'_>,
    ) -> Result<(), DropReason> {
        let slot = self.slots.get_mut(slot as usize).ok_or(DropReason::HistoryMiss)?;
        let transport = self.transport.as_mut().ok_or(DropReason::NotConnected)?;
        let format = slot.outgoing_format(stored.format).ok_or(DropReason::NoCommonCodec)?;
        let payload_type = format.rtx.ok_or(DropReason::HistoryMiss)?;
        let mut descriptor = [0; MAX_DESCRIPTOR];
        let packet = OutgoingRtp {
            payload_type,
            marker: sent.marker || stored.header.marker && !sent.padding,
            seq: slot.repairs.take_seq(),
            timestamp: stored.header.timestamp.wrapping_add(sent.timestamp_offset),
            ssrc: slot.rtx_ssrc,
            extensions: continue_descriptor(stored.passed, &stored.picture, sent.offsets, &mut descriptor),
            prefix: &seq.to_be_bytes(),
            // Repairs are of Opus, not of RED.
            payload: if sent.padding { &[] } else { stored.primary() },
            padding: 0,
        };
        if transport.pacing_delay(now.instant) > MAX_REPAIR_WAIT {
            // It would come when nobody waits for it any more, and hold up what is new.
            return Err(DropReason::RepairLimit);
        }
        let budget = self.repair_budget.checked_sub(packet.payload.len()).ok_or(DropReason::RepairLimit)?;
        transport
            .send_rtp(now, Urgency::Repair, &packet, |copy| sent.offsets.apply(&stored.picture, copy))?;
        self.repair_budget = budget;
        self.repaired_bytes += packet.payload.len();
        self.counters.repairs_sent += 1;
        Ok(())
    }

    /// Sends what is due of a probe: padding on the repair stream of a slot that carries pictures. An idle slot is never used,
    /// since browsers take the first packets for a picture that begins.
    pub fn send_probe(&mut self, now: &Now) {
        let Some(transport) = self.transport.as_mut().filter(|t| t.ready()) else { return };
        if !transport.is_probing() {
            let carries = |s: &Slot| s.carries_pictures(now.instant) && s.padding_type().is_some();
            self.probe_slot = self.slots.iter().find(|(_, s)| carries(s)).map(|(i, _)| i as u32);
            if self.probe_slot.is_none() || !transport.begin_probe(now.instant) {
                return;
            }
        }
        let slot = self.probe_slot.and_then(|slot| self.slots.get_mut(slot as usize));
        let Some((slot, payload_type)) = slot.and_then(|s| s.padding_type().map(|p| (s, p))) else {
            return transport.end_probe();
        };
        let mut due = transport.probe_due(now.instant);
        while due > 0 {
            let packet = OutgoingRtp {
                payload_type,
                marker: false,
                seq: slot.repairs.take_seq(),
                timestamp: slot.forwarder.report_timestamp(now.nanos),
                ssrc: slot.rtx_ssrc,
                extensions: PassedExtensions::default(),
                prefix: &[],
                payload: &[],
                padding: u8::MAX,
            };
            let Ok(written) = transport.send_rtp(now, Urgency::Probe, &packet, |_| {}) else { break };
            due = due.saturating_sub(written);
        }
    }

    /// Sends a sender report for every slot that shows something, on the slot's own clock.
    pub fn send_sender_reports(&mut self, ctx: &mut Context<'_>) {
        let Some(transport) = self.transport.as_mut().filter(|t| t.ready()) else { return };
        for (_, slot) in &mut self.slots {
            if slot.forwarder.current().is_none() || slot.sent_packets == 0 {
                continue;
            }
            let info = SenderInfo {
                ssrc: slot.ssrc,
                ntp: ctx.now.ntp,
                rtp_timestamp: slot.forwarder.report_timestamp(ctx.now.nanos),
                packets: slot.sent_packets,
                octets: slot.sent_octets,
            };
            ctx.rtcp.add(|out| rtcp::report::write_sender_report(out, &info, &[]));
            ctx.rtcp.add(|out| rtcp::source::write_cname(out, slot.ssrc, &self.cname));
        }
        send_all(transport, ctx.rtcp);
    }
}

/// Whether a packet comes in RED and all that it carries along belongs to its segment: the older packets of a segment's
/// first would stand where the slot had another voice.
fn carries_red(incoming: &Incoming<'_>, output: &ForwardOutput) -> bool {
    let reach = || red::older_blocks(incoming.payload).max(red::MAX_OLDER) as u64;
    incoming.format.red && output.ahead >= reach()
}

/// Continues the frame number in a copy of the dependency descriptor.
fn continue_descriptor<'a>(
    passed: PassedExtensions<'a>,
    picture: &PictureFields,
    offsets: PictureIds,
    copy: &'a mut [u8; MAX_DESCRIPTOR],
) -> PassedExtensions<'a> {
    let Some(descriptor) = passed.dependency_descriptor.filter(|d| d.len() <= MAX_DESCRIPTOR) else {
        return PassedExtensions { dependency_descriptor: None, ..passed };
    };
    let copy = &mut copy[..descriptor.len()];
    copy.copy_from_slice(descriptor);
    offsets.apply_to_descriptor(picture, copy);
    PassedExtensions { dependency_descriptor: Some(copy), ..passed }
}
