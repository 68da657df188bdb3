//! An RTP packet's way out of a transport: written, made to wait where the network has no room, sealed at the end of the batch.

use std::time::Instant;

use crate::bandwidth::SentPacket;
use crate::context::Now;
use crate::drops::DropReason;
use crate::media::Extension;
use crate::path::Path;

use super::pacer::Urgency;
use super::packet::{Stamp, write_packet};
use super::send_buffer::{Lane, Plain};
use super::template::{Own, Template};
use super::{OutgoingRtp, Transport};

impl Transport {
    /// Sends an RTP packet: writes it into the send buffer, where it is sealed in place at the end of the batch, or lets it
    /// wait where the network has no room for it now. `rewrite` may change the payload. Returns how long it will be.
    pub fn send_rtp(
        &mut self,
        now: &Now,
        urgency: Urgency,
        packet: &OutgoingRtp<'_>,
        rewrite: impl FnOnce(&mut [u8]),
    ) -> Result<usize, DropReason> {
        if !self.ready() {
            return Err(DropReason::NotConnected);
        }
        let ids = &self.writable_extensions;
        let roll_over = (packet.seq >> 16) as u32;
        let write = |out: &mut Vec<u8>| write_packet(out, ids, packet, rewrite);
        if !self.pacer.has_room(now.instant, urgency) {
            return self.pacer.wait(urgency, roll_over, write);
        }
        let lane = if urgency == Urgency::Sound { Lane::Sound } else { Lane::Rest };
        let probe = self.probe.as_ref().filter(|_| urgency == Urgency::Probe).map(|probe| probe.cluster.id);
        let overhead = self.rtp_overhead();
        let written = self.send.write_plain(lane, overhead, |out| {
            let header_len = write(out) as u16;
            Plain { header_len, roll_over, probe }
        })?;
        self.sends_at = Some(*now);
        match self.probe.as_mut().filter(|_| probe.is_some()) {
            Some(probe) => probe.sent += written,
            // A probe shows what there is room for beside the pictures: it takes none of theirs.
            None => self.pacer.on_sent(now.instant, written),
        }
        Ok(written)
    }

    /// How many bytes there is room for now; `None` when what comes must wait. See [`Pacer::room`].
    pub fn room(&self, now: Instant, urgency: Urgency) -> Option<usize> {
        self.pacer.room(now, urgency)
    }

    /// Sends a copy of a packet that was written once for many, in `bytes`, at once. When all that comes together is sent,
    /// [`Transport::on_copies_sent`] is to be called. Returns how long it will be.
    #[inline]
    pub fn send_copy(
        &mut self,
        urgency: Urgency,
        template: &Template,
        bytes: &[u8],
        own: &Own<'_>,
    ) -> Result<usize, DropReason> {
        let lane = if urgency == Urgency::Sound { Lane::Sound } else { Lane::Rest };
        let overhead = self.rtp_overhead();
        self.send.write_plain(lane, overhead, |out| {
            let header_len = template.copy(bytes, out, own) as u16;
            Plain { header_len, roll_over: (own.output.seq >> 16) as u32, probe: None }
        })
    }

    /// Lets such a copy wait for room in the network. Returns its length.
    pub fn hold_copy(
        &mut self,
        template: &Template,
        bytes: &[u8],
        own: &Own<'_>,
    ) -> Result<usize, DropReason> {
        let roll_over = (own.output.seq >> 16) as u32;
        self.pacer.wait(Urgency::Picture, roll_over, |out| template.copy(bytes, out, own))
    }

    /// So many bytes of copies were sent together.
    pub fn on_copies_sent(&mut self, now: &Now, bytes: usize) {
        if bytes > 0 {
            self.sends_at = Some(*now);
            self.pacer.on_sent(now.instant, bytes);
        }
    }

    /// Sends what has waited long enough.
    pub fn release(&mut self, now: &Now) {
        if !self.ready() {
            self.pacer.clear();
            self.end_probe();
            return;
        }
        let overhead = self.rtp_overhead();
        while let Some(waiting) = self.pacer.poll(now.instant) {
            let written = self.send.write_plain(Lane::Rest, overhead, |out| {
                out.extend_from_slice(&waiting.bytes);
                Plain { header_len: waiting.header_len as u16, roll_over: waiting.roll_over, probe: None }
            });
            self.pacer.recycle(waiting.bytes);
            // One that the full send buffer did not take is lost on the way, as far as its receiver can see.
            if let Ok(written) = written {
                self.sends_at = Some(*now);
                self.pacer.on_sent(now.instant, written);
            }
        }
    }

    /// Numbers and seals what waits in the send buffer, to be called at the end of a batch. Packets of nearly one size are
    /// padded to one, where that saves a send.
    pub fn seal(&mut self) -> Result<(), DropReason> {
        let (Some(now), Some(outbound)) = (self.sends_at.take(), self.outbound.as_mut()) else {
            return self.send.seal(false, 0, |_, _| Err(DropReason::SrtpNotReady)).map(drop);
        };
        // Trains are of UDP. Where pictures wait for room, padding would take it from them.
        let pad = matches!(self.ice.selected(), Some(Path::Udp { .. } | Path::Relayed { .. }))
            && !self.pacer.is_waiting();
        let ids = &self.writable_extensions;
        let numbered = ids.id(Extension::TransportCc).is_some();
        let (estimator, seq) = (&mut self.estimator, &mut self.next_transport_seq);
        let padding = self.send.seal(pad, outbound.profile().rtp_overhead(), |plain, packet| {
            Stamp::new(&now, *seq).write(ids, packet);
            outbound.protect_rtp(plain.roll_over, plain.header_len.into(), packet)?;
            if numbered {
                let bytes = packet.len() as u16;
                estimator.on_sent(now.instant, SentPacket { seq: *seq, bytes, probe: plain.probe });
                *seq = seq.wrapping_add(1);
            } else {
                estimator.on_unnumbered(now.instant, packet.len());
            }
            Ok(())
        })?;
        if padding > 0 {
            self.pacer.on_sent(now.instant, padding);
        }
        Ok(())
    }

    fn rtp_overhead(&self) -> usize {
        self.outbound.as_ref().map_or(0, |outbound| outbound.profile().rtp_overhead())
    }
}
