//! The fixed RTP header (RFC 3550 section 5.1) and what follows it up to the payload.

use std::ops::Range;

use crate::drops::DropReason;
use crate::ids::{PayloadType, Ssrc};

/// The length of a header without contributing sources and extension, in bytes.
pub const FIXED_HEADER_LEN: usize = 12;

/// Whether a datagram that is RTP or RTCP by its first byte is RTCP (RFC 5761 section 4): by the packet types 192 to
/// 223, which are no payload types where both share a port.
pub fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [_, 192..=223, ..])
}

/// A parsed header. It can be parsed before decryption: SRTP leaves headers clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpHeader {
    /// Of video: the last packet of a picture. Of audio: the first after a silence.
    pub marker: bool,
    /// The format of the payload.
    pub payload_type: PayloadType,
    /// The sequence number.
    pub seq: u16,
    /// The sampling time of the first byte of the payload, in the codec's clock rate.
    pub timestamp: u32,
    /// The stream.
    pub ssrc: Ssrc,
    /// The length of all in front of the payload: fixed header, contributing sources and extension.
    pub header_len: usize,
    /// Padding follows the payload. Its length stands in the last byte, which is encrypted:
    /// [`RtpHeader::payload_range`].
    pub padding: bool,
    /// The extension.
    pub extension: Option<ExtensionBlock>,
}

/// Where the header extension of a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtensionBlock {
    /// The 16 bits in front of its length, which tell its form (RFC 8285 section 4).
    pub profile: u16,
    /// Where its elements start in the packet, in bytes. They end where the header does.
    pub start: usize,
}

impl RtpHeader {
    /// Parses the header at the start of a packet, which may still be encrypted. Contributing sources are skipped.
    pub fn parse(packet: &[u8]) -> Result<Self, DropReason> {
        Self::read(packet).ok_or(DropReason::RtpMalformed)
    }

    fn read(packet: &[u8]) -> Option<Self> {
        let &[first, second, seq0, seq1, t0, t1, t2, t3, s0, s1, s2, s3] = packet.first_chunk()?;
        if first >> 6 != 2 {
            return None;
        }
        let mut header_len = FIXED_HEADER_LEN + 4 * usize::from(first & 0x0f);
        let mut extension = None;
        if first & 0x10 != 0 {
            let &[p0, p1, len0, len1] = packet.get(header_len..)?.first_chunk()?;
            let start = header_len + 4;
            extension = Some(ExtensionBlock { profile: u16::from_be_bytes([p0, p1]), start });
            header_len = start + 4 * usize::from(u16::from_be_bytes([len0, len1]));
        }
        (header_len <= packet.len()).then_some(Self {
            marker: second & 0x80 != 0,
            payload_type: PayloadType(second & 0x7f),
            seq: u16::from_be_bytes([seq0, seq1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: Ssrc(u32::from_be_bytes([s0, s1, s2, s3])),
            header_len,
            padding: first & 0x20 != 0,
            extension,
        })
    }

    /// Where the payload is in the decrypted packet that this is the header of, without the padding. It is empty in
    /// packets that only probe. Padding that reaches into the header, or of length 0, is malformed.
    pub fn payload_range(&self, packet: &[u8]) -> Result<Range<usize>, DropReason> {
        let mut end = packet.len();
        if self.padding {
            let padding = packet.last().map_or(0, |&last| usize::from(last));
            if padding == 0 {
                return Err(DropReason::RtpMalformed);
            }
            end = end.checked_sub(padding).ok_or(DropReason::RtpMalformed)?;
        }
        if end < self.header_len {
            return Err(DropReason::RtpMalformed);
        }
        Ok(self.header_len..end)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use rtc_shared::marshal::{Marshal, Unmarshal};

    use super::*;
    use crate::rtp::mutation::{damaged, hex};

    #[test]
    fn fields_are_read_and_padding_is_cut_off() {
        let packet = hex("b1 e0 1234 01020304 a1a2a3a4 00000001 bede 0001 10414200 616263 0002");
        let header = RtpHeader::parse(&packet).unwrap();
        let expected = RtpHeader {
            marker: true,
            payload_type: PayloadType(96),
            seq: 0x1234,
            timestamp: 0x0102_0304,
            ssrc: Ssrc(0xa1a2_a3a4),
            header_len: 24,
            padding: true,
            extension: Some(ExtensionBlock { profile: 0xbede, start: 20 }),
        };
        assert_eq!(header, expected);
        assert_eq!(header.payload_range(&packet), Ok(24..27));
    }

    #[test]
    fn contradicting_lengths_are_malformed() {
        let bad = Err(DropReason::RtpMalformed);
        assert_eq!(RtpHeader::parse(&[]), bad);
        assert_eq!(RtpHeader::parse(&hex("8060 0001 00000001 000000")), bad, "short");
        assert_eq!(RtpHeader::parse(&hex("4060 0001 00000001 00000001")), bad, "version 1");
        assert_eq!(RtpHeader::parse(&hex("8160 0001 00000001 00000001 0000")), bad, "sources");
        assert_eq!(RtpHeader::parse(&hex("9060 0001 00000001 00000001 bede 0001")), bad, "extension");
        let padded = |tail: &str| {
            let packet = hex(&format!("a060 0001 00000001 00000001 {tail}"));
            RtpHeader::parse(&packet).unwrap().payload_range(&packet)
        };
        assert_eq!(padded("0003"), Err(DropReason::RtpMalformed));
        assert_eq!(padded("0000"), Err(DropReason::RtpMalformed));
        assert_eq!(padded("0002"), Ok(12..12));
    }

    #[test]
    fn rtcp_is_told_from_rtp_by_its_packet_type() {
        for kind in 192..=223 {
            assert!(is_rtcp(&[0x80, kind]));
        }
        assert!(!is_rtcp(&[0x80, 96]) && !is_rtcp(&[0x80, 128 + 111]) && !is_rtcp(&[0x80, 128 + 127]));
        assert!(!is_rtcp(&[0x80]));
    }

    #[test]
    fn headers_of_another_implementation_are_read_alike() {
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..2_000 {
            let mut theirs = rtc_rtp::header::Header {
                version: 2,
                padding: rng.random(),
                marker: rng.random(),
                payload_type: rng.random_range(0..128),
                sequence_number: rng.random(),
                timestamp: rng.random(),
                ssrc: rng.random(),
                csrc: (0..rng.random_range(0..16)).map(|_| rng.random()).collect(),
                ..Default::default()
            };
            if rng.random() {
                theirs.set_extension(rng.random_range(1..15), Bytes::from_static(b"abc")).unwrap();
            }
            let bytes = theirs.marshal().unwrap();
            let ours = RtpHeader::parse(&bytes).unwrap();
            assert_eq!((ours.marker, ours.padding), (theirs.marker, theirs.padding));
            assert_eq!(ours.payload_type.0, theirs.payload_type);
            assert_eq!((ours.seq, ours.timestamp), (theirs.sequence_number, theirs.timestamp));
            assert_eq!((ours.ssrc.0, ours.header_len), (theirs.ssrc, bytes.len()));
            assert_eq!(ours.extension.is_some(), theirs.extension);
        }
    }

    #[test]
    fn damaged_packets_never_panic_and_stay_in_bounds() {
        let sample = hex("b1 e0 1234 01020304 a1a2a3a4 00000001 bede 0001 10414200 616263 0002");
        damaged(2, 20_000, &[&sample], |packet| {
            let _ = rtc_rtp::packet::Packet::unmarshal(&mut &packet[..]);
            if let Ok(header) = RtpHeader::parse(packet)
                && let Ok(range) = header.payload_range(packet)
            {
                assert!(packet.get(range).is_some());
            }
        });
    }
}
