//! The VP8 payload descriptor (RFC 7741 section 4.2).

/// A parsed descriptor. It stays clear under end-to-end encryption, since the browser's packetiser writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vp8Descriptor {
    /// N: no other frame refers to this one.
    pub non_reference: bool,
    /// S: a partition starts with this packet.
    pub partition_start: bool,
    /// PID: which partition.
    pub partition: u8,
    /// The number of the picture.
    pub picture_id: Option<PictureId>,
    /// TL0PICIDX: counts the frames of the lowest temporal layer.
    pub tl0_pic_idx: Option<u8>,
    /// TID: the temporal layer.
    pub temporal_id: Option<u8>,
    /// Y: the frame refers only to the lowest temporal layer, so one may begin to show this layer here.
    pub layer_sync: bool,
    /// KEYIDX: counts key frames, 0 to 31.
    pub key_idx: Option<u8>,
    /// The length of the descriptor in bytes.
    pub len: u8,
}

/// The number of a picture in one of its two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureId {
    /// 7 or 15 bits.
    pub value: u16,
    /// The form of 15 bits, which browsers always send.
    pub wide: bool,
}

impl Vp8Descriptor {
    /// Parses the descriptor at the start of an RTP payload; `None` when it is cut off.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        let mut descriptor = Self {
            non_reference: first & 0x20 != 0,
            partition_start: first & 0x10 != 0,
            partition: first & 0x07,
            picture_id: None,
            tl0_pic_idx: None,
            temporal_id: None,
            layer_sync: false,
            key_idx: None,
            len: 1,
        };
        if first & 0x80 == 0 {
            return Some(descriptor);
        }
        let flags = *payload.get(1)?;
        let mut at = 2;
        if flags & 0x80 != 0 {
            let high = *payload.get(at)?;
            let wide = high & 0x80 != 0;
            let mut value = u16::from(high & 0x7f);
            if wide {
                at += 1;
                value = value << 8 | u16::from(*payload.get(at)?);
            }
            at += 1;
            descriptor.picture_id = Some(PictureId { value, wide });
        }
        if flags & 0x40 != 0 {
            descriptor.tl0_pic_idx = Some(*payload.get(at)?);
            at += 1;
        }
        if flags & 0x30 != 0 {
            let byte = *payload.get(at)?;
            if flags & 0x20 != 0 {
                descriptor.temporal_id = Some(byte >> 6);
                descriptor.layer_sync = byte & 0x20 != 0;
            }
            descriptor.key_idx = (flags & 0x10 != 0).then_some(byte & 0x1f);
            at += 1;
        }
        descriptor.len = at as u8;
        Some(descriptor)
    }

    /// Whether the packet is the first of its frame.
    pub fn starts_frame(&self) -> bool {
        self.partition_start && self.partition == 0
    }

    /// The size of the key frame that starts with this payload, which the descriptor is of; `None` when it does not
    /// start a key frame. Decided by the frame tag and the start code behind it (RFC 6386 section 9.1), ten bytes
    /// which end-to-end encryption by custom leaves clear; frames that are wholly opaque are no key frames here.
    pub fn key_frame_size(&self, payload: &[u8]) -> Option<(u16, u16)> {
        if !self.starts_frame() {
            return None;
        }
        let frame = payload.get(usize::from(self.len)..)?;
        let &[tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1] = frame.first_chunk()? else { return None };
        let delta_frame = tag & 1 == 1;
        // The two high bits of each are a hint for scaling.
        let size = |low, high| u16::from_le_bytes([low, high]) & 0x3fff;
        (!delta_frame).then(|| (size(w0, w1), size(h0, h1)))
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use rtc_rtp::packetizer::Depacketizer;

    use super::*;
    use crate::rtp::mutation::{damaged, hex};

    /// The first bytes that libvpx makes of a picture of 322x182, and those of the frame after it.
    const KEY_FRAME: &str = "3059009d012a4201b60000070885885858848802";
    const DELTA_FRAME: &str = "310900071074001bb8d3867c5623bff47ff07e85";

    #[test]
    fn all_fields_are_read() {
        let payload = hex("b0 f0 92 34 17 a5 aabb");
        let descriptor = Vp8Descriptor::parse(&payload).unwrap();
        assert!(descriptor.non_reference && descriptor.starts_frame() && descriptor.layer_sync);
        assert_eq!(descriptor.picture_id, Some(PictureId { value: 0x1234, wide: true }));
        assert_eq!((descriptor.tl0_pic_idx, descriptor.temporal_id), (Some(0x17), Some(2)));
        assert_eq!((descriptor.key_idx, descriptor.len), (Some(5), 6));
        let short = Vp8Descriptor::parse(&hex("90 80 11 aabb")).unwrap();
        assert_eq!(short.picture_id, Some(PictureId { value: 0x11, wide: false }));
    }

    #[test]
    fn key_frames_of_a_real_encoder_are_found_with_their_size() {
        let read = |descriptor: &str, frame: &str| {
            let payload = hex(&format!("{descriptor}{frame}"));
            Vp8Descriptor::parse(&payload).unwrap().key_frame_size(&payload)
        };
        assert_eq!(read("90 80 8001", KEY_FRAME), Some((322, 182)));
        assert_eq!(read("10", KEY_FRAME), Some((322, 182)));
        assert_eq!(read("10", DELTA_FRAME), None);
        assert_eq!(read("00", KEY_FRAME), None, "not the start");
        assert_eq!(read("11", KEY_FRAME), None, "another partition");
        assert_eq!(read("10", &KEY_FRAME[..18]), None, "cut off");
        assert_eq!(read("10", "30590011223344556677889900"), None, "opaque");
    }

    #[test]
    fn descriptors_are_read_as_another_implementation_does() {
        let mut rng = StdRng::seed_from_u64(7);
        for _ in 0..5_000 {
            let mut payload: Vec<u8> = (0..12).map(|_| rng.random()).collect();
            payload[0] |= 0x80;
            let ours = Vp8Descriptor::parse(&payload).unwrap();
            let mut theirs = rtc_rtp::codec::vp8::Vp8Packet::default();
            let rest = theirs.depacketize(&payload.clone().into()).unwrap();
            assert_eq!(rest, &payload[usize::from(ours.len)..]);
            assert_eq!(ours.picture_id.map_or(0, |id| id.value), theirs.picture_id);
            assert_eq!(ours.tl0_pic_idx.unwrap_or(0), theirs.tl0_pic_idx);
            if theirs.t == 1 {
                assert_eq!((ours.temporal_id, ours.layer_sync), (Some(theirs.tid), theirs.y == 1));
            }
            assert_eq!(ours.key_idx.unwrap_or(0), if theirs.k == 1 { theirs.key_idx } else { 0 });
        }
    }

    #[test]
    fn damaged_payloads_never_panic() {
        let samples = [hex("b0 f0 92 34 17 a5 aabb"), hex(&format!("908080 01{KEY_FRAME}"))];
        damaged(8, 20_000, &[&samples[0], &samples[1]], |payload| {
            if let Some(descriptor) = Vp8Descriptor::parse(payload) {
                let _ = descriptor.key_frame_size(payload);
                assert!(usize::from(descriptor.len) <= payload.len());
            }
        });
    }
}
