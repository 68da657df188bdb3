//! Feedback on single streams: NACK and PLI (RFC 4585), FIR (RFC 5104) and REMB (draft-alvestrand-rmcat-remb-03).

use super::{
    FORMAT_APPLICATION, FORMAT_FIR, FORMAT_NACK, FORMAT_PLI, PAYLOAD_SPECIFIC_FEEDBACK,
    TRANSPORT_LAYER_FEEDBACK, put_u32, split_senders, split_u32, write_packet,
};
use crate::ids::Ssrc;

/// The pairs of a sequence number and the bits of the 16 after it in one NACK, so that it fits any datagram.
const MAX_NACK_PAIRS: usize = 250;
const REMB_NAME: &[u8; 4] = b"REMB";

/// Packets that are missing (RFC 4585 section 6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nack<'a> {
    /// Who misses them.
    pub sender: Ssrc,
    /// The stream.
    pub media: Ssrc,
    pairs: &'a [u8],
}

impl<'a> Nack<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (sender, media, pairs) = split_senders(body)?;
        (!pairs.is_empty()).then_some(Self { sender, media, pairs })
    }

    /// The sequence numbers; up to 17 for each word of the packet.
    pub fn seqs(self) -> impl Iterator<Item = u16> + 'a {
        self.pairs.as_chunks().0.iter().flat_map(|&[id0, id1, bits0, bits1]| {
            let first = u16::from_be_bytes([id0, id1]);
            // The first, and those whose bits are set.
            let set = u32::from(u16::from_be_bytes([bits0, bits1])) << 1 | 1;
            (0..17).filter(move |bit| set >> bit & 1 == 1).map(move |bit| first.wrapping_add(bit))
        })
    }
}

/// Key frames are asked for (RFC 5104 section 4.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fir<'a> {
    /// Who asks.
    pub sender: Ssrc,
    entries: &'a [u8],
}

impl<'a> Fir<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (sender, _, entries) = split_senders(body)?;
        Some(Self { sender, entries })
    }

    /// The streams, each with the number of the request: the same number again is no new request.
    pub fn entries(self) -> impl Iterator<Item = (Ssrc, u8)> + 'a {
        let entries = self.entries.as_chunks().0.iter();
        entries.map(|&[a, b, c, d, number, _, _, _]| (Ssrc(u32::from_be_bytes([a, b, c, d])), number))
    }
}

/// How much a receiver believes it can take of streams together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remb<'a> {
    /// Who says it.
    pub sender: Ssrc,
    /// In bits per second.
    pub bitrate: u64,
    ssrcs: &'a [u8],
}

impl<'a> Remb<'a> {
    /// Whether feedback of an application is this one.
    pub(super) fn is_named_in(body: &[u8]) -> bool {
        body.get(8..).is_some_and(|rest| rest.starts_with(REMB_NAME))
    }

    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (sender, _, rest) = split_senders(body)?;
        let (word, ssrcs) = split_u32(rest.strip_prefix(REMB_NAME)?)?;
        let (count, exponent, mantissa) = (word >> 24, word >> 18 & 0x3f, word & 0x3_ffff);
        let bitrate = u64::try_from(u128::from(mantissa) << exponent).unwrap_or(u64::MAX);
        Some(Self { sender, bitrate, ssrcs: ssrcs.get(..4 * count as usize)? })
    }

    /// The streams.
    pub fn ssrcs(self) -> impl Iterator<Item = Ssrc> + 'a {
        self.ssrcs.as_chunks().0.iter().map(|&bytes| Ssrc(u32::from_be_bytes(bytes)))
    }
}

/// Appends NACKs for sequence numbers that are sorted from old to new (across the wrap): as many packets as needed.
pub fn write_nack(out: &mut Vec<u8>, sender: Ssrc, media: Ssrc, seqs: &[u16]) {
    let mut rest = seqs;
    while !rest.is_empty() {
        write_packet(out, usize::from(FORMAT_NACK), TRANSPORT_LAYER_FEEDBACK, |out| {
            put_u32(out, sender.0);
            put_u32(out, media.0);
            for _ in 0..MAX_NACK_PAIRS {
                let Some((&first, others)) = rest.split_first() else { break };
                rest = others;
                let mut bits = 0;
                while let Some((&next, others)) = rest.split_first()
                    && next.wrapping_sub(first) <= 16
                {
                    // The same number again sets no bit.
                    if next != first {
                        bits |= 1 << (next.wrapping_sub(first) - 1);
                    }
                    rest = others;
                }
                put_u32(out, u32::from(first) << 16 | bits);
            }
        });
    }
}

/// Appends a PLI.
pub fn write_pli(out: &mut Vec<u8>, sender: Ssrc, media: Ssrc) {
    write_packet(out, usize::from(FORMAT_PLI), PAYLOAD_SPECIFIC_FEEDBACK, |out| {
        put_u32(out, sender.0);
        put_u32(out, media.0);
    });
}

/// Appends a FIR for streams, each with the number of the request.
pub fn write_fir(out: &mut Vec<u8>, sender: Ssrc, entries: &[(Ssrc, u8)]) {
    write_packet(out, usize::from(FORMAT_FIR), PAYLOAD_SPECIFIC_FEEDBACK, |out| {
        put_u32(out, sender.0);
        put_u32(out, 0);
        for (ssrc, number) in entries {
            put_u32(out, ssrc.0);
            put_u32(out, u32::from(*number) << 24);
        }
    });
}

/// Appends a REMB of a bit rate, rounded down to 18 significant bits, for up to 255 streams.
pub fn write_remb(out: &mut Vec<u8>, sender: Ssrc, bitrate: u64, ssrcs: &[Ssrc]) {
    let ssrcs = &ssrcs[..ssrcs.len().min(255)];
    let exponent = (u64::BITS - bitrate.leading_zeros()).saturating_sub(18);
    write_packet(out, usize::from(FORMAT_APPLICATION), PAYLOAD_SPECIFIC_FEEDBACK, |out| {
        put_u32(out, sender.0);
        put_u32(out, 0);
        out.extend_from_slice(REMB_NAME);
        put_u32(out, (ssrcs.len() as u32) << 24 | exponent << 18 | (bitrate >> exponent) as u32);
        for ssrc in ssrcs {
            put_u32(out, ssrc.0);
        }
    });
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use rtc_rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
    use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
    use rtc_rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
    use rtc_rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
    use rtc_shared::marshal::{Marshal, Unmarshal};

    use super::*;
    use crate::drops::DropReason;
    use crate::rtcp::{Packet, parse};
    use crate::rtp::mutation::hex;

    fn random_seqs(rng: &mut StdRng, count: usize) -> Vec<u16> {
        let mut seq = rng.random_range(0..=u16::MAX);
        (0..count)
            .map(|_| {
                seq = seq.wrapping_add(if rng.random() { 1 } else { rng.random_range(1..40) });
                seq
            })
            .collect()
    }

    #[test]
    fn nacks_go_to_another_implementation_and_back() {
        let mut rng = StdRng::seed_from_u64(22);
        for _ in 0..500 {
            let count = rng.random_range(1..200);
            let seqs = random_seqs(&mut rng, count);
            let mut bytes = vec![];
            write_nack(&mut bytes, Ssrc(1), Ssrc(2), &seqs);
            let theirs = TransportLayerNack::unmarshal(&mut &bytes[..]).unwrap();
            assert_eq!((theirs.sender_ssrc, theirs.media_ssrc), (1, 2));
            let read: Vec<_> = theirs.nacks.iter().flat_map(NackPair::packet_list).collect();
            assert_eq!(read, seqs);
            let back = theirs.marshal().unwrap();
            let Some(Ok(Packet::Nack(nack))) = parse(&back).next() else { panic!("not parsed") };
            assert_eq!((nack.sender, nack.media), (Ssrc(1), Ssrc(2)));
            assert_eq!(nack.seqs().collect::<Vec<_>>(), seqs);
        }
    }

    #[test]
    fn nacks_are_packed_and_split() {
        let mut bytes = vec![];
        write_nack(&mut bytes, Ssrc(1), Ssrc(2), &[65_530, 65_530, 65_531, 10, 11]);
        assert_eq!(bytes, hex("81cd 0004 00000001 00000002 fffa 8001 000b 0000"));
        let seqs: Vec<u16> = (0..600).map(|n| n * 20).collect();
        let mut bytes = vec![];
        write_nack(&mut bytes, Ssrc(1), Ssrc(2), &seqs);
        let nacks = parse(&bytes).map(|packet| match packet {
            Ok(Packet::Nack(nack)) => nack.seqs(),
            other => panic!("{other:?}"),
        });
        assert_eq!(nacks.clone().count(), 3);
        assert_eq!(nacks.flatten().collect::<Vec<_>>(), seqs);
        let mut none = vec![];
        write_nack(&mut none, Ssrc(1), Ssrc(2), &[]);
        assert!(none.is_empty());
        assert_eq!(parse(&hex("81cd 0002 00000001 00000002")).next(), Some(Err(DropReason::RtcpMalformed)));
    }

    #[test]
    fn requests_for_key_frames_go_to_another_implementation_and_back() {
        let mut bytes = vec![];
        write_pli(&mut bytes, Ssrc(1), Ssrc(2));
        let theirs = PictureLossIndication::unmarshal(&mut &bytes[..]).unwrap();
        assert_eq!((theirs.sender_ssrc, theirs.media_ssrc), (1, 2));
        let back = theirs.marshal().unwrap();
        assert_eq!(parse(&back).next(), Some(Ok(Packet::Pli { sender: Ssrc(1), media: Ssrc(2) })));

        let entries = [(Ssrc(0xa0b0_c0d0), 200), (Ssrc(3), 0)];
        let mut bytes = vec![];
        write_fir(&mut bytes, Ssrc(1), &entries);
        let theirs = FullIntraRequest::unmarshal(&mut &bytes[..]).unwrap();
        let read: Vec<_> = theirs.fir.iter().map(|e| (Ssrc(e.ssrc), e.sequence_number)).collect();
        assert_eq!(read, entries);
        let back = theirs.marshal().unwrap();
        let Some(Ok(Packet::Fir(fir))) = parse(&back).next() else { panic!("not parsed") };
        assert_eq!((fir.sender, fir.entries().collect::<Vec<_>>()), (Ssrc(1), entries.to_vec()));
    }

    #[test]
    fn bit_rates_go_to_another_implementation_and_back() {
        let mut rng = StdRng::seed_from_u64(23);
        for _ in 0..500 {
            // Theirs takes a mantissa of 0 for 2^23.
            let bitrate = (rng.random::<u64>() >> rng.random_range(16..64)).max(1);
            let mut bytes = vec![];
            write_remb(&mut bytes, Ssrc(1), bitrate, &[Ssrc(2), Ssrc(3)]);
            let theirs = ReceiverEstimatedMaximumBitrate::unmarshal(&mut &bytes[..]).unwrap();
            assert_eq!(theirs.ssrcs, [2, 3]);
            let Some(Ok(Packet::Remb(remb))) = parse(&bytes).next() else { panic!("not parsed") };
            assert_eq!(remb.bitrate, theirs.bitrate as u64);
            assert!(remb.bitrate <= bitrate && bitrate - remb.bitrate <= bitrate >> 17);
            assert_eq!(remb.ssrcs().collect::<Vec<_>>(), [Ssrc(2), Ssrc(3)]);
        }
        let huge = hex("8fce 0004 00000001 00000000 52454d42 00ffffff");
        let Some(Ok(Packet::Remb(remb))) = parse(&huge).next() else { panic!("not parsed") };
        assert_eq!(remb.bitrate, u64::MAX);
        let too_many = hex("8fce 0004 00000001 00000000 52454d42 01ffffff");
        assert_eq!(parse(&too_many).next(), Some(Err(DropReason::RtcpMalformed)));
    }
}
