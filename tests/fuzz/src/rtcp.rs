//! RTCP: every packet of a datagram is read to its last item.

use veche_sfu_core::rtcp::{Packet, parse};

pub(crate) fn run(input: &[u8]) {
    for packet in parse(input).flatten() {
        let items = match packet {
            Packet::SenderReport(report) => report.blocks().count(),
            Packet::ReceiverReport(report) => report.blocks().count(),
            Packet::Nack(nack) => nack.seqs().count() / 17,
            Packet::Pli { .. } => 1,
            Packet::Fir(fir) => fir.entries().count(),
            Packet::Remb(remb) => remb.ssrcs().count(),
            // A run of up to 8191 statuses takes two bytes.
            Packet::TransportFeedback(feedback) => feedback.statuses().count() / 8192,
        };
        assert!(items <= input.len(), "no more items than bytes");
    }
}
