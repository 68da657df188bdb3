//! RTCP datagrams: parsed in place, and written.

pub mod compound;
pub mod feedback;
pub mod report;
pub mod source;
pub mod transport_feedback;
pub mod transport_feedback_builder;

pub use compound::CompoundWriter;
pub use feedback::{Fir, Nack, Remb};
pub use report::{ReceiverReport, ReportBlock, SenderInfo, SenderReport};
pub use transport_feedback::TransportFeedback;
pub use transport_feedback_builder::TransportFeedbackBuilder;

use crate::drops::DropReason;
use crate::ids::Ssrc;

/// Packet types (RFC 3550 section 12.1, RFC 4585 section 6.1).
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const TRANSPORT_LAYER_FEEDBACK: u8 = 205;
const PAYLOAD_SPECIFIC_FEEDBACK: u8 = 206;
/// Formats of feedback (RFC 4585 section 6.2 and 6.3, RFC 5104 section 4.3.1, draft-holmer-rmcat-transport-wide-cc).
const FORMAT_NACK: u8 = 1;
const FORMAT_TRANSPORT: u8 = 15;
const FORMAT_PLI: u8 = 1;
const FORMAT_FIR: u8 = 4;
const FORMAT_APPLICATION: u8 = 15;

const HEADER_LEN: usize = 4;

/// One packet of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// What somebody has sent, and received.
    SenderReport(SenderReport<'a>),
    /// What somebody has received.
    ReceiverReport(ReceiverReport<'a>),
    /// Packets that are missing.
    Nack(Nack<'a>),
    /// A picture cannot be decoded: a key frame is asked for (RFC 4585 section 6.3.1).
    Pli {
        /// Who asks.
        sender: Ssrc,
        /// The stream.
        media: Ssrc,
    },
    /// Key frames are asked for.
    Fir(Fir<'a>),
    /// How much a receiver believes it can take.
    Remb(Remb<'a>),
    /// When packets have arrived.
    TransportFeedback(TransportFeedback<'a>),
}

/// The packets of a decrypted datagram, which may be a compound (RFC 3550 section 6.1) or of reduced size (RFC 5506).
/// All other packets are skipped: source descriptions, farewells (sources end by SDP), extended reports. A packet whose content
/// contradicts itself is an error between good ones; after one whose length does nothing more comes.
pub fn parse(datagram: &[u8]) -> Packets<'_> {
    Packets { bytes: datagram }
}

/// The iterator of [`parse`].
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, DropReason>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.bytes.is_empty() {
                return None;
            }
            let Some((header, rest)) = Header::split(std::mem::take(&mut self.bytes)) else {
                return Some(Err(DropReason::RtcpMalformed));
            };
            self.bytes = rest;
            if let Some(parsed) = header.parse_body() {
                return Some(parsed);
            }
        }
    }
}

/// One packet, not yet looked into.
struct Header<'a> {
    /// The count or format in the first byte.
    count: u8,
    packet_type: u8,
    /// What follows the header, without padding.
    body: &'a [u8],
}

impl<'a> Header<'a> {
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let &[first, packet_type, len0, len1] = bytes.first_chunk()?;
        let len = HEADER_LEN + 4 * usize::from(u16::from_be_bytes([len0, len1]));
        let (packet, rest) = bytes.split_at_checked(len)?;
        let mut body = packet.get(HEADER_LEN..)?;
        if first >> 6 != 2 {
            return None;
        }
        if first & 0x20 != 0 {
            let padding = usize::from(*body.last()?);
            body = body.get(..body.len().checked_sub(padding)?)?;
        }
        Some((Self { count: first & 0x1f, packet_type, body }, rest))
    }

    /// `None` is for what is skipped.
    fn parse_body(&self) -> Option<Result<Packet<'a>, DropReason>> {
        let (count, body) = (self.count, self.body);
        let packet = match (self.packet_type, count) {
            (SENDER_REPORT, _) => SenderReport::parse(count, body).map(Packet::SenderReport),
            (RECEIVER_REPORT, _) => ReceiverReport::parse(count, body).map(Packet::ReceiverReport),
            (TRANSPORT_LAYER_FEEDBACK, FORMAT_NACK) => Nack::parse(body).map(Packet::Nack),
            (TRANSPORT_LAYER_FEEDBACK, FORMAT_TRANSPORT) => {
                TransportFeedback::parse(body).map(Packet::TransportFeedback)
            }
            (PAYLOAD_SPECIFIC_FEEDBACK, FORMAT_PLI) => {
                split_senders(body).map(|(sender, media, _)| Packet::Pli { sender, media })
            }
            (PAYLOAD_SPECIFIC_FEEDBACK, FORMAT_FIR) => Fir::parse(body).map(Packet::Fir),
            // Other applications use this format, too.
            (PAYLOAD_SPECIFIC_FEEDBACK, FORMAT_APPLICATION) if Remb::is_named_in(body) => {
                Remb::parse(body).map(Packet::Remb)
            }
            _ => return None,
        };
        Some(packet.ok_or(DropReason::RtcpMalformed))
    }
}

fn split_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (&word, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(word), rest))
}

/// Splits off what all feedback starts with: who sends it, and about which stream (RFC 4585 section 6.1).
fn split_senders(body: &[u8]) -> Option<(Ssrc, Ssrc, &[u8])> {
    let (sender, rest) = split_u32(body)?;
    let (media, rest) = split_u32(rest)?;
    Some((Ssrc(sender), Ssrc(media), rest))
}

/// Appends one packet, whose body `write` appends and which is filled up with zeros to whole words.
fn write_packet(out: &mut Vec<u8>, count: usize, packet_type: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0x80 | count as u8 & 0x1f, packet_type, 0, 0]);
    write(out);
    while !(out.len() - start).is_multiple_of(4) {
        out.push(0);
    }
    let words = ((out.len() - start) / 4 - 1) as u16;
    out[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::mutation::{damaged, hex};

    #[test]
    fn compounds_are_split_and_what_is_unknown_is_skipped() {
        let datagram =
            hex("80c9 0001 00000001  81ca 0002 00000001 01 00 0000  80cc 0002 00000001 61626364  \
             8fce 0003 00000001 00000000 61626364  81ce 0002 00000001 00000002");
        let packets: Vec<_> = parse(&datagram).map(Result::unwrap).collect();
        assert_eq!(packets.len(), 2);
        assert!(matches!(packets[0], Packet::ReceiverReport(report) if report.ssrc == Ssrc(1)));
        assert_eq!(packets[1], Packet::Pli { sender: Ssrc(1), media: Ssrc(2) });
    }

    #[test]
    fn padding_is_cut_off() {
        let padded = hex("a1ce 0003 00000001 00000002 00000004");
        let pli = Packet::Pli { sender: Ssrc(1), media: Ssrc(2) };
        assert_eq!(parse(&padded).collect::<Vec<_>>(), [Ok(pli)]);
        let too_much = hex("a1ce 0003 00000001 00000002 000000ff");
        assert_eq!(parse(&too_much).collect::<Vec<_>>(), [Err(DropReason::RtcpMalformed)]);
    }

    #[test]
    fn a_bad_body_spoils_one_packet_and_a_bad_length_the_rest() {
        let bad = Err(DropReason::RtcpMalformed);
        let good = Ok(Packet::Pli { sender: Ssrc(1), media: Ssrc(2) });
        let body = hex("81ce 0001 00000001  81ce 0002 00000001 00000002");
        assert_eq!(parse(&body).collect::<Vec<_>>(), [bad, good]);
        let length = hex("81ce 0002 00000001 00000002  81ce 0003 00000001 00000002");
        assert_eq!(parse(&length).collect::<Vec<_>>(), [good, bad]);
        assert_eq!(parse(&hex("41ce 0002 00000001 00000002")).collect::<Vec<_>>(), [bad], "version 1");
        assert_eq!(parse(&hex("81ce 00")).collect::<Vec<_>>(), [bad]);
        assert_eq!(parse(&[]).count(), 0);
    }

    #[test]
    fn damaged_datagrams_never_panic_and_end() {
        let mut all = vec![];
        let block = ReportBlock { ssrc: Ssrc(9), ..ReportBlock::default() };
        report::write_sender_report(&mut all, &SenderInfo::default(), &[block]);
        report::write_receiver_report(&mut all, Ssrc(1), &[block, block]);
        source::write_cname(&mut all, Ssrc(1), "veche");
        let mut feedback = vec![];
        feedback::write_nack(&mut feedback, Ssrc(1), Ssrc(2), &[1, 2, 3, 90]);
        feedback::write_fir(&mut feedback, Ssrc(1), &[(Ssrc(2), 3)]);
        feedback::write_remb(&mut feedback, Ssrc(1), 1_000_000, &[Ssrc(2)]);
        let mut transport = vec![];
        let arrivals: Vec<_> = (0..60u16).filter(|n| n % 7 != 3).map(|n| (n, i64::from(n) * 90)).collect();
        TransportFeedbackBuilder::new(Ssrc(1), Ssrc(2)).write(0, &arrivals, &mut transport);
        damaged(20, 20_000, &[&all, &feedback, &transport], |datagram| {
            for packet in parse(datagram).flatten() {
                let items = match packet {
                    Packet::SenderReport(report) => report.blocks().count(),
                    Packet::ReceiverReport(report) => report.blocks().count(),
                    Packet::Nack(nack) => nack.seqs().count() / 17,
                    Packet::Fir(fir) => fir.entries().count(),
                    Packet::Remb(remb) => remb.ssrcs().count(),
                    Packet::TransportFeedback(feedback) => {
                        feedback.statuses().filter(|(_, delta)| delta.is_some()).count()
                    }
                    Packet::Pli { .. } => 0,
                };
                assert!(items <= datagram.len());
            }
        });
    }
}
