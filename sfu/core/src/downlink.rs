//! A participant's way down: what their slots are sent, and sent again.

use std::time::{Duration, Instant};

use crate::batch::{Batch, Shape};
use crate::context::{Context, Now};
use crate::drops::DropReason;
use crate::forward::forwarder::{ForwardOutput, LayerRef, Sent};
use crate::forward::picture::{PictureFields, PictureIds};
use crate::incoming::Incoming;
use crate::media::{ExtensionIds, MediaKind};
use crate::participant::{Counters, Participant};
use crate::rtcp::{self, SenderInfo};
use crate::slot::Slot;
use crate::transport::pacer::Urgency;
use crate::transport::template::{Own, Rewrite};
use crate::transport::{OutgoingRtp, PassedExtensions, Transport};
use crate::uplink::send_all;

/// Repairs that would wait for longer than this are of no use to anybody.
const MAX_REPAIR_WAIT: Duration = Duration::from_millis(125);

/// The longest dependency descriptor that is passed on. The longest with a full structure of browsers has about
/// 100 bytes; the two-byte header form could carry 255.
const MAX_DESCRIPTOR: usize = 255;

impl Participant {
    /// Forwards the packets of a layer, one run of a batch, to a slot that shows it or waits for it. `on_switched` is told when
    /// the slot shows the layer from a packet on: the packet's timestamp, and what it showed before.
    pub fn forward(
        &mut self,
        ctx: &mut Context<'_>,
        batch: &mut Batch,
        run: usize,
        slot: u32,
        mut on_switched: impl FnMut(u32, Option<LayerRef>),
    ) {
        let older = self.redundancy_in(slot);
        let Self { slots, transport, counters, drops, .. } = self;
        let transport = transport.as_mut().filter(|transport| transport.ready());
        let mut way = match (slots.get_mut(slot as usize), transport) {
            (Some(slot), Some(transport)) => Ok(Way::new(&ctx.now, batch, slot, transport, older)),
            (Some(_), None) => Err(DropReason::NotConnected),
            (None, _) => Err(DropReason::BeforeSwitch),
        };
        let Some(from) = batch.run(run).map(|run| run.from) else { return };
        let mut next = batch.first(run);
        while let Some(index) = next {
            next = batch.next(index);
            let sent = match &mut way {
                Ok(way) => way.forward(&ctx.now, from, batch, index),
                Err(reason) => Err(*reason),
            };
            match (sent, &way) {
                (Ok(Some(timestamp)), Ok(way)) => on_switched(timestamp, way.slot.forwarder.left()),
                (Ok(_), _) => {}
                (Err(reason), _) => {
                    ctx.drop_packet(drops, reason);
                    if reason == DropReason::NoCommonCodec {
                        batch.note_undecodable(run, index);
                    }
                }
            }
        }
        if let Ok(way) = way {
            way.finish(&ctx.now, counters);
        }
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
        // Repairs are of Opus, not of RED.
        let payload = if sent.padding { &[] } else { stored.primary() };
        if transport.pacing_delay(now.instant) > MAX_REPAIR_WAIT {
            // It would come when nobody waits for it any more, and hold up what is new.
            return Err(DropReason::RepairLimit);
        }
        let budget = self.repair_budget.checked_sub(payload.len()).ok_or(DropReason::RepairLimit)?;
        let mut descriptor = [0; MAX_DESCRIPTOR];
        let packet = OutgoingRtp {
            payload_type,
            marker: sent.marker || stored.header.marker && !sent.padding,
            // Only what is sent takes a number: a long run of refusals must not leave the receiver's roll-over behind.
            seq: slot.repairs.take_seq(),
            timestamp: stored.header.timestamp.wrapping_add(sent.timestamp_offset),
            ssrc: slot.rtx_ssrc,
            extensions: continue_descriptor(stored.passed, &stored.picture, sent.offsets, &mut descriptor),
            prefix: &seq.to_be_bytes(),
            payload,
            padding: 0,
        };
        transport
            .send_rtp(now, Urgency::Repair, &packet, |copy| sent.offsets.apply(&stored.picture, copy))?;
        self.repair_budget = budget;
        self.repaired_bytes += payload.len();
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

/// From one layer to one slot of a subscriber, for the time of a batch.
struct Way<'a> {
    slot: &'a mut Slot,
    transport: &'a mut Transport,
    /// How many older packets its sound carries along.
    older: u8,
    ids: ExtensionIds,
    kind: usize,
    /// How many bytes there is room for in the network; `None` when what comes must wait.
    room: Option<usize>,
    /// The packet that was sent last.
    before: Option<(u32, ForwardOutput)>,
    packets: u32,
    /// Bytes of payloads.
    octets: u32,
    /// Bytes of packets: those that have left at once, and all.
    left: usize,
    bytes: usize,
}

impl<'a> Way<'a> {
    fn new(
        now: &Now,
        batch: &mut Batch,
        slot: &'a mut Slot,
        transport: &'a mut Transport,
        older: u8,
    ) -> Self {
        let ids = transport.writable_extensions;
        let kind = batch.kind(&ids);
        let room = transport.room(now.instant, urgency_of(slot.kind));
        let (before, packets, octets, left, bytes) = (None, 0, 0, 0, 0);
        Self { slot, transport, older, ids, kind, room, before, packets, octets, left, bytes }
    }

    /// Forwards one packet. Returns its timestamp when the slot shows the layer from it on.
    #[inline]
    fn forward(
        &mut self,
        now: &Now,
        from: LayerRef,
        batch: &mut Batch,
        index: u32,
    ) -> Result<Option<u32>, DropReason> {
        let before = self.before.take();
        let kept = batch.get(index).ok_or(DropReason::BeforeSwitch)?;
        let (picture, key_frame) = (kept.input.picture, kept.key_frame);
        let format = self.slot.outgoing_format(kept.format).ok_or(DropReason::NoCommonCodec)?;
        let followed = before.and_then(|(before, went)| {
            self.slot.forwarder.forward_next((&batch.get(before)?.input, &went), &kept.input)
        });
        let output = if let Some(output) = followed {
            output
        } else {
            let late = self.slot.starved || self.is_late(now);
            self.slot.forwarder.forward(from, &kept.input, late)?
        };
        // The older packets of a segment's first would stand where the slot had another voice.
        let redundant = format.red.and_then(|red| {
            let (shape, reach) = batch.redundant_shape(index, self.older)?;
            (output.ahead >= reach).then_some((red, shape))
        });
        let (payload_type, shape, rewrite) = match redundant {
            Some((red, shape)) => (red, shape, Rewrite::Red(format.payload_type)),
            None => (format.payload_type, Shape::Plain, Rewrite::Picture(&picture)),
        };
        let shape = if output.padding { Shape::Padding } else { shape };
        let (template, bytes) =
            batch.template(index, (self.kind, &self.ids), shape).ok_or(DropReason::BeforeSwitch)?;
        let own = Own { output: &output, payload_type, ssrc: self.slot.ssrc, rewrite };
        self.bytes += if self.has_room() {
            let written = self.transport.send_copy(urgency_of(self.slot.kind), &template, bytes, &own)?;
            self.left += written;
            written
        } else {
            // Nothing overtakes what waits.
            self.room = None;
            self.transport.hold_copy(&template, bytes, &own)?
        };
        self.packets += 1;
        self.octets = self.octets.wrapping_add(template.payload_len() as u32);
        if key_frame {
            self.slot.key_frame_at = Some(now.instant);
            self.slot.starved = false;
        }
        self.before = Some((index, output));
        Ok(output.switched.then_some(output.timestamp))
    }

    fn has_room(&self) -> bool {
        self.room.is_some_and(|room| self.left <= room)
    }

    /// Whether a picture that came now would wait for too long.
    fn is_late(&mut self, now: &Now) -> bool {
        if self.has_room() {
            return false;
        }
        self.transport.on_copies_sent(now, std::mem::take(&mut self.left));
        self.room = self.transport.room(now.instant, urgency_of(self.slot.kind));
        self.transport.pacing_delay(now.instant) > self.slot.longest_wait(now.instant)
    }

    /// Notes what was sent.
    fn finish(self, now: &Now, counters: &mut Counters) {
        let Self { slot, transport, packets, octets, left, bytes, .. } = self;
        if packets == 0 {
            return;
        }
        transport.on_copies_sent(now, left);
        slot.sent_at = Some(now.instant);
        slot.sent_packets = slot.sent_packets.wrapping_add(packets);
        slot.sent_octets = slot.sent_octets.wrapping_add(octets);
        counters.packets_sent += u64::from(packets);
        counters.bytes_sent += bytes as u64;
    }
}

fn urgency_of(kind: MediaKind) -> Urgency {
    match kind {
        MediaKind::Audio => Urgency::Sound,
        MediaKind::Video => Urgency::Picture,
    }
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
