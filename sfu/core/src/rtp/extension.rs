//! RTP header extensions (RFC 8285): their elements in both forms, and those that the server understands.

use super::header::RtpHeader;
use crate::media::{Extension, ExtensionIds};

/// The profile of the one-byte form (RFC 8285 section 4.2).
pub const ONE_BYTE_PROFILE: u16 = 0xbede;
/// The profile of the two-byte form; its low four bits are free (RFC 8285 section 4.3).
pub const TWO_BYTE_PROFILE: u16 = 0x1000;

/// How loud a packet is (RFC 6464).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioLevel {
    /// The sender believes that it is a voice.
    pub voice: bool,
    /// The level in -dBov: 0 is the loudest, 127 is silence.
    pub level: u8,
}

/// The extensions of one packet that the server understands. An element of the wrong length is left out; of one
/// that comes twice the last counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions<'a> {
    /// Which media section it belongs to (RFC 9143).
    pub mid: Option<&'a [u8]>,
    /// Which simulcast layer (RFC 8852).
    pub rid: Option<&'a [u8]>,
    /// Which simulcast layer it repairs (RFC 8852).
    pub repaired_rid: Option<&'a [u8]>,
    /// How loud it is.
    pub audio_level: Option<AudioLevel>,
    /// Its number in the whole transport, for feedback on congestion.
    pub transport_seq: Option<u16>,
    /// When it was sent: seconds modulo 64 in 6.18 fixed-point.
    pub abs_send_time: Option<u32>,
    /// How the picture is turned: camera, flip and rotation bits of 3GPP TS 26.114 section 7.4.5.
    pub video_orientation: Option<u8>,
    /// The AV1 dependency descriptor, which comes with other codecs too: [`super::dependency`].
    pub dependency_descriptor: Option<&'a [u8]>,
    /// The smallest and largest delay that the sender wishes for, 12 bits each, in 10 ms.
    pub playout_delay: Option<[u8; 3]>,
}

impl<'a> Extensions<'a> {
    /// Reads the extensions of a packet by the ids that were negotiated.
    pub fn read(header: &RtpHeader, packet: &'a [u8], ids: &ExtensionIds) -> Self {
        let mut found = Self::default();
        for (id, bytes) in elements(header, packet) {
            let Some(extension) = ids.extension(id) else { continue };
            match (extension, bytes) {
                (Extension::Mid, [_, ..]) => found.mid = Some(bytes),
                (Extension::Rid, [_, ..]) => found.rid = Some(bytes),
                (Extension::RepairedRid, [_, ..]) => found.repaired_rid = Some(bytes),
                (Extension::AudioLevel, &[byte]) => {
                    found.audio_level = Some(AudioLevel { voice: byte & 0x80 != 0, level: byte & 0x7f });
                }
                // The second version has a request for feedback behind the number.
                (Extension::TransportCc, &[high, low] | &[high, low, _, _]) => {
                    found.transport_seq = Some(u16::from_be_bytes([high, low]));
                }
                (Extension::AbsSendTime, &[a, b, c]) => {
                    found.abs_send_time = Some(u32::from_be_bytes([0, a, b, c]));
                }
                (Extension::VideoOrientation, &[byte]) => found.video_orientation = Some(byte),
                (Extension::DependencyDescriptor, [_, ..]) => found.dependency_descriptor = Some(bytes),
                (Extension::PlayoutDelay, &[a, b, c]) => found.playout_delay = Some([a, b, c]),
                _ => {}
            }
        }
        found
    }
}

/// The elements of a packet's header extension with their ids, in both forms of RFC 8285. Of any other form there are
/// none, and one that overruns the block ends it.
pub fn elements<'a>(header: &RtpHeader, packet: &'a [u8]) -> Elements<'a> {
    let block = header.extension.and_then(|e| Some((e.profile, packet.get(e.start..header.header_len)?)));
    let (profile, bytes) = block.unwrap_or_default();
    if profile == ONE_BYTE_PROFILE {
        Elements { bytes, two_byte: false }
    } else if profile & 0xfff0 == TWO_BYTE_PROFILE {
        Elements { bytes, two_byte: true }
    } else {
        Elements { bytes: &[], two_byte: false }
    }
}

/// The iterator of [`elements`].
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    bytes: &'a [u8],
    two_byte: bool,
}

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.bytes);
        let padding = bytes.iter().take_while(|&&byte| byte == 0).count();
        let bytes = &bytes[padding..];
        let (id, len, rest) = if self.two_byte {
            let (&[id, len], rest) = bytes.split_first_chunk()?;
            (id, usize::from(len), rest)
        } else {
            let (&first, rest) = bytes.split_first()?;
            // Id 15 ends the block, and so does id 0 with a length (RFC 8285 section 4.2).
            if matches!(first >> 4, 0 | 15) {
                return None;
            }
            (first >> 4, usize::from(first & 0x0f) + 1, rest)
        };
        let (element, rest) = rest.split_at_checked(len)?;
        self.bytes = rest;
        Some((id, element))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use rtc_shared::marshal::Marshal;

    use super::*;
    use crate::rtp::mutation::{damaged, hex};

    fn packet(extension: &str) -> Vec<u8> {
        hex(&format!("9060 0001 00000001 00000001 {extension}"))
    }

    fn all_ids() -> ExtensionIds {
        let mut ids = ExtensionIds::default();
        for (extension, id) in Extension::ALL.into_iter().zip(1..) {
            ids.set(extension, id);
        }
        ids
    }

    fn list(packet: &[u8]) -> Vec<(u8, &[u8])> {
        elements(&RtpHeader::parse(packet).unwrap(), packet).collect()
    }

    #[test]
    fn the_example_of_rfc_8285_section_4_2_is_read() {
        let bytes = packet("bede 0003 10aa 21bbbb 0000 33cccccccc");
        assert_eq!(list(&bytes), [(1, &[0xaa][..]), (2, &[0xbb, 0xbb]), (3, &[0xcc; 4])]);
    }

    #[test]
    fn the_example_of_rfc_8285_section_4_3_is_read() {
        let bytes = packet("1000 0003 0100 0201bb 00 0304cccccccc");
        assert_eq!(list(&bytes), [(1, &[][..]), (2, &[0xbb]), (3, &[0xcc; 4])]);
    }

    #[test]
    fn blocks_end_where_the_rfc_says_and_at_overruns() {
        assert_eq!(list(&packet("bede 0002 10aa f0bb 20cc 0000")), [(1, &[0xaa][..])]);
        assert_eq!(list(&packet("bede 0002 10aa 01bb 20cc 0000")), [(1, &[0xaa][..])]);
        assert_eq!(list(&packet("bede 0001 10aa 2fbb")), [(1, &[0xaa][..])]);
        assert_eq!(list(&packet("100f 0001 0101aa02")), [(1, &[0xaa][..])]);
        assert_eq!(list(&packet("abcd 0001 10aa 20bb")), []);
    }

    #[test]
    fn known_extensions_are_decoded() {
        let bytes =
            packet("bede 0007 1161 30 2162 30 3163 30 40 95 51 1234 62 abcdef 70 03 82 c10172 92 010203");
        let header = RtpHeader::parse(&bytes).unwrap();
        let read = Extensions::read(&header, &bytes, &all_ids());
        let expected = Extensions {
            mid: Some(b"a0"),
            rid: Some(b"b0"),
            repaired_rid: Some(b"c0"),
            audio_level: Some(AudioLevel { voice: true, level: 21 }),
            transport_seq: Some(0x1234),
            abs_send_time: Some(0x00ab_cdef),
            video_orientation: Some(3),
            dependency_descriptor: Some(&[0xc1, 0x01, 0x72]),
            playout_delay: Some([1, 2, 3]),
        };
        assert_eq!(read, expected);
        assert_eq!(Extensions::read(&header, &bytes, &ExtensionIds::default()), Extensions::default());
    }

    #[test]
    fn elements_of_another_implementation_are_read_alike() {
        let mut rng = StdRng::seed_from_u64(3);
        for _ in 0..1_000 {
            let mut theirs = rtc_rtp::header::Header { version: 2, ..Default::default() };
            // Theirs keeps the form that the length of the first element chose.
            let (max_id, lens) = if rng.random() { (14, 1..=16) } else { (255, 17..=255) };
            for _ in 0..rng.random_range(1..6) {
                let value: Vec<u8> = (0..rng.random_range(lens.clone())).map(|_| rng.random()).collect();
                let _ = theirs.set_extension(rng.random_range(1..=max_id), Bytes::from(value));
            }
            let bytes = theirs.marshal().unwrap();
            let expected: Vec<_> = theirs.extensions.iter().map(|e| (e.id, &e.payload[..])).collect();
            assert_eq!(list(&bytes), expected);
        }
    }

    #[test]
    fn damaged_blocks_never_panic() {
        let one = packet("bede 0004 1161 30 4095 51 1234 62 abcdef 82 c10172 00");
        let two = packet("1000 0003 0100 0201bb 00 0304cccccccc");
        damaged(4, 20_000, &[&one, &two], |bytes| {
            if let Ok(header) = RtpHeader::parse(bytes) {
                let _ = Extensions::read(&header, bytes, &all_ids());
                assert!(elements(&header, bytes).count() <= bytes.len());
            }
        });
    }
}
