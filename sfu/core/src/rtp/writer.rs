//! Writes the header of a packet that is forwarded.

use super::extension::{ONE_BYTE_PROFILE, TWO_BYTE_PROFILE};
use super::header::FIXED_HEADER_LEN;
use crate::ids::{PayloadType, Ssrc};

/// The fields of a new header. There are no contributing sources and no padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderWriter {
    /// The marker bit.
    pub marker: bool,
    /// The payload type of the receiver.
    pub payload_type: PayloadType,
    /// The sequence number on the receiver's stream.
    pub seq: u16,
    /// The timestamp on the receiver's stream.
    pub timestamp: u32,
    /// The receiver's stream.
    pub ssrc: Ssrc,
}

impl HeaderWriter {
    /// Appends the header with these header extensions, as pairs of id and bytes, and returns its length.
    ///
    /// They are written in the one-byte form of RFC 8285 when all of them fit it (ids up to 14, 1 to 16 bytes), in the
    /// two-byte form otherwise; receivers that did not agree to `extmap-allow-mixed` ignore the latter. Elements
    /// that fit neither (id 0, more than 255 bytes) are left out.
    pub fn write(&self, elements: &[(u8, &[u8])], out: &mut Vec<u8>) -> usize {
        let start = out.len();
        let mut fixed = [0; FIXED_HEADER_LEN];
        fixed[0] = 0x80 | if elements.is_empty() { 0 } else { 0x10 };
        fixed[1] = u8::from(self.marker) << 7 | self.payload_type.0 & 0x7f;
        fixed[2..4].copy_from_slice(&self.seq.to_be_bytes());
        fixed[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        fixed[8..12].copy_from_slice(&self.ssrc.0.to_be_bytes());
        out.extend_from_slice(&fixed);
        if !elements.is_empty() {
            write_block(elements, out);
        }
        out.len() - start
    }
}

fn write_block(elements: &[(u8, &[u8])], out: &mut Vec<u8>) {
    let one_byte =
        elements.iter().all(|(id, bytes)| (1..=14).contains(id) && (1..=16).contains(&bytes.len()));
    let profile = if one_byte { ONE_BYTE_PROFILE } else { TWO_BYTE_PROFILE };
    out.extend_from_slice(&profile.to_be_bytes());
    let length_at = out.len();
    out.extend_from_slice(&[0, 0]);
    let start = out.len();
    for &(id, bytes) in elements {
        if one_byte {
            out.push(id << 4 | (bytes.len() as u8 - 1));
        } else if id != 0 && bytes.len() <= 255 {
            out.extend_from_slice(&[id, bytes.len() as u8]);
        } else {
            continue;
        }
        out.extend_from_slice(bytes);
    }
    while !(out.len() - start).is_multiple_of(4) {
        out.push(0);
    }
    let words = ((out.len() - start) / 4) as u16;
    out[length_at..start].copy_from_slice(&words.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use rtc_shared::marshal::Unmarshal;

    use super::*;
    use crate::rtp::extension::elements;
    use crate::rtp::header::RtpHeader;

    const HEADER: HeaderWriter = HeaderWriter {
        marker: true,
        payload_type: PayloadType(96),
        seq: 0xfffe,
        timestamp: 0x0102_0304,
        ssrc: Ssrc(0xa1a2_a3a4),
    };

    #[test]
    fn the_form_is_the_smallest_that_fits_all() {
        let profile = |list: &[(u8, &[u8])]| {
            let mut out = vec![];
            HEADER.write(list, &mut out);
            RtpHeader::parse(&out).unwrap().extension.map(|e| e.profile)
        };
        assert_eq!(profile(&[]), None);
        assert_eq!(profile(&[(1, b"a"), (14, &[7; 16])]), Some(0xbede));
        assert_eq!(profile(&[(1, b"a"), (15, b"b")]), Some(0x1000));
        assert_eq!(profile(&[(1, b"a"), (14, &[7; 17])]), Some(0x1000));
        assert_eq!(profile(&[(1, b"")]), Some(0x1000));
    }

    #[test]
    fn what_fits_no_form_is_left_out() {
        let mut out = vec![];
        HEADER.write(&[(0, b"a"), (3, &[1; 256]), (4, b"ok")], &mut out);
        let header = RtpHeader::parse(&out).unwrap();
        assert_eq!(elements(&header, &out).collect::<Vec<_>>(), [(4, &b"ok"[..])]);
    }

    #[test]
    fn written_headers_are_read_by_us_and_by_another_implementation() {
        let mut rng = StdRng::seed_from_u64(5);
        for _ in 0..2_000 {
            let (max_id, max_len) = if rng.random() { (14, 16) } else { (255, 255) };
            let values: Vec<(u8, Vec<u8>)> = (0..rng.random_range(0..6))
                .map(|i| (max_id - i, (0..rng.random_range(1..=max_len)).map(|_| rng.random()).collect()))
                .collect();
            let list: Vec<_> = values.iter().map(|(id, bytes)| (*id, &bytes[..])).collect();
            let writer = HeaderWriter {
                marker: rng.random(),
                payload_type: PayloadType(rng.random_range(0..128)),
                seq: rng.random(),
                timestamp: rng.random(),
                ssrc: Ssrc(rng.random()),
            };
            let mut out = b"before".to_vec();
            let len = writer.write(&list, &mut out);
            let packet = &out[6..];
            let ours = RtpHeader::parse(packet).unwrap();
            assert_eq!((ours.header_len, len), (packet.len(), packet.len()));
            assert_eq!(elements(&ours, packet).collect::<Vec<_>>(), list);
            let theirs = rtc_rtp::header::Header::unmarshal(&mut &packet[..]).unwrap();
            assert_eq!((theirs.marker, theirs.payload_type), (writer.marker, writer.payload_type.0));
            assert_eq!((theirs.sequence_number, theirs.timestamp), (writer.seq, writer.timestamp));
            assert_eq!(theirs.ssrc, writer.ssrc.0);
            for (id, bytes) in list {
                assert_eq!(theirs.get_extension(id).unwrap(), bytes);
            }
        }
    }
}
