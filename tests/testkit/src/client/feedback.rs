//! RTCP of a client: what the server asks is done, and what the client misses is asked for.

use std::time::Instant;

use veche_sfu_core::ids::Ssrc;
use veche_sfu_core::rtcp::{self, Packet, ReportBlock, SenderInfo};

use super::sender::Wire;
use super::{Client, FeedbackUse, SenderClock, SlotReceiver};

impl Client {
    pub(super) fn handle_rtcp(&mut self, now: Instant, datagram: &mut [u8]) {
        let Some(len) = self.inbound.as_mut().and_then(|inbound| inbound.unprotect_rtcp(datagram).ok())
        else {
            self.strange += 1;
            return;
        };
        let mut wire_out = Vec::new();
        for packet in rtcp::parse(&datagram[..len]) {
            let Ok(packet) = packet else {
                self.strange += 1;
                continue;
            };
            match packet {
                Packet::SenderReport(report) => {
                    let info = report.info;
                    if let Some(slot) = self.slots.iter_mut().find(|s| s.ssrc == info.ssrc) {
                        slot.clock =
                            Some(SenderClock { ntp: info.ntp, timestamp: info.rtp_timestamp, at: now });
                    }
                }
                Packet::ReceiverReport(report) => {
                    for block in report.blocks() {
                        if let Some(sender) = self.senders.iter_mut().find(|s| s.ssrc == block.ssrc) {
                            sender.reported_loss = f32::from(block.fraction_lost) / 256.0;
                        }
                    }
                }
                Packet::Nack(nack) => {
                    let Some(srtp) = self.outbound.as_mut() else { continue };
                    let mut wire = Wire {
                        srtp,
                        ids: &self.ids,
                        transport_seq: &mut self.transport_seq,
                        out: &mut wire_out,
                    };
                    if let Some(sender) = self.senders.iter_mut().find(|s| s.ssrc == nack.media) {
                        nack.seqs().for_each(|seq| sender.repair(seq, &mut wire));
                    }
                }
                Packet::Pli { media, .. } => {
                    if let Some(sender) = self.senders.iter_mut().find(|s| s.ssrc == media) {
                        sender.key_requests += 1;
                        sender.encoder.want_key_frame();
                    }
                }
                Packet::TransportFeedback(_) => self.transport_feedback += 1,
                _ => {}
            }
        }
        for datagram in wire_out {
            self.send_raw(datagram);
        }
    }

    pub(super) fn send_requests(&mut self, now: Instant) {
        let mut out = Vec::new();
        for slot in &mut self.slots {
            let mut nacks = Vec::new();
            let key = slot.poll_requests(now, &mut nacks);
            if !nacks.is_empty() {
                rtcp::feedback::write_nack(&mut out, Ssrc(1), slot.ssrc, &nacks);
            }
            if key {
                rtcp::feedback::write_pli(&mut out, Ssrc(1), slot.ssrc);
            }
        }
        self.send_rtcp(out);
    }

    /// The feedback that this client would send if as many packets as that had come after the last one, all of them now. For
    /// benches, in which nothing is carried to clients. `None` before anything came.
    pub fn acknowledge(&mut self, now: Instant, packets: u16) -> Option<Vec<u8>> {
        let newest = self.newest_transport_seq?;
        let ticks = ((now - self.start).as_micros() / 250) as i64;
        let arrivals: Vec<_> = (1..=packets).map(|n| (newest.wrapping_add(n), ticks)).collect();
        self.newest_transport_seq = Some(newest.wrapping_add(packets));
        let mut out = Vec::new();
        self.feedback.write(arrivals.first()?.0, &arrivals, &mut out);
        self.outbound.as_mut()?.protect_rtcp(&mut out, 0).ok()?;
        Some(out)
    }

    pub(super) fn send_transport_feedback(&mut self) {
        if self.arrivals.is_empty() {
            return;
        }
        let mut arrivals = std::mem::take(&mut self.arrivals);
        let base = arrivals[0].0;
        arrivals.sort_by_key(|(seq, _)| seq.wrapping_sub(base) as i16);
        arrivals.dedup_by_key(|(seq, _)| *seq);
        let mut out = Vec::new();
        self.feedback.write(arrivals[0].0, &arrivals, &mut out);
        self.send_rtcp(out);
    }

    pub(super) fn send_reports(&mut self, now: Instant) {
        let elapsed = now - self.start;
        let ntp = self.ntp_at_start.wrapping_add((elapsed.as_secs_f64() * 4_294_967_296.0) as u64);
        let mut out = Vec::new();
        for sender in self.senders.iter().filter(|s| s.packets > 0) {
            let info = SenderInfo {
                ssrc: sender.ssrc,
                ntp,
                rtp_timestamp: sender.timestamp(elapsed),
                packets: sender.packets,
                octets: sender.octets,
            };
            rtcp::report::write_sender_report(&mut out, &info, &[]);
        }
        let blocks: Vec<ReportBlock> =
            self.slots.iter_mut().filter_map(|slot| report_block(slot, now)).collect();
        if self.config.feedback == FeedbackUse::Estimate {
            let octets: u64 = self.slots.iter().map(|slot| slot.octets).sum();
            let came = 8 * (octets - std::mem::replace(&mut self.octets_reported, octets));
            let whole = blocks.iter().all(|block| block.fraction_lost == 0);
            let ssrcs: Vec<Ssrc> = self.slots.iter().map(|slot| slot.ssrc).collect();
            let bits = if whole { came * 3 / 2 } else { came * 9 / 10 };
            rtcp::feedback::write_remb(&mut out, Ssrc(1), bits.max(100_000), &ssrcs);
        }
        for chunk in blocks.chunks(31) {
            rtcp::report::write_receiver_report(&mut out, Ssrc(1), chunk);
        }
        self.send_rtcp(out);
    }
}

fn report_block(slot: &mut SlotReceiver, now: Instant) -> Option<ReportBlock> {
    let (fraction_lost, cumulative_lost, highest_seq) = slot.report()?;
    let (lsr, dlsr) = slot.clock.map_or((0, 0), |clock| {
        ((clock.ntp >> 16) as u32, ((now - clock.at).as_secs_f64() * 65_536.0) as u32)
    });
    Some(ReportBlock {
        ssrc: slot.ssrc,
        fraction_lost,
        cumulative_lost,
        highest_seq,
        jitter: 0,
        last_sender_report: lsr,
        delay_since_last: dlsr,
    })
}
