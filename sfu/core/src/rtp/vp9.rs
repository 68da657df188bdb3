//! The VP9 payload descriptor (RFC 9628 section 4.2).

use super::bits::BitReader;

/// How many spatial layers there can be.
pub const MAX_SPATIAL_LAYERS: usize = 8;

/// A parsed descriptor. It stays clear under end-to-end encryption, since the browser's packetiser writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vp9Descriptor {
    /// P: the frame refers to earlier pictures.
    pub inter_picture: bool,
    /// F: the references are told in each packet.
    pub flexible: bool,
    /// B: the first packet of a frame, that is of one spatial layer of a picture.
    pub frame_start: bool,
    /// E: the last packet of a frame.
    pub frame_end: bool,
    /// Z: no higher spatial layer refers to this frame.
    pub not_for_higher_layers: bool,
    /// The number of the picture, 7 or 15 bits.
    pub picture_id: Option<u16>,
    /// The picture id has the form of 15 bits.
    pub picture_id_wide: bool,
    /// The layers, where the stream has any.
    pub layer: Option<Vp9Layer>,
    /// TL0PICIDX: counts the pictures of the lowest temporal layer; only without `flexible`.
    pub tl0_pic_idx: Option<u8>,
    /// The scalability structure, which comes with key frames.
    pub structure: Option<Vp9Structure>,
    /// The length of the descriptor in bytes.
    pub len: usize,
}

/// Where a frame stands in a scalable stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vp9Layer {
    /// TID: the temporal layer.
    pub temporal_id: u8,
    /// U: one may begin to show this temporal layer with this frame.
    pub switching_up: bool,
    /// SID: the spatial layer.
    pub spatial_id: u8,
    /// D: the frame refers to the spatial layer below it.
    pub inter_layer: bool,
}

/// What a scalable stream consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vp9Structure {
    /// How many spatial layers there are.
    pub spatial_layers: u8,
    /// The width and height of each, where they are told.
    pub sizes: Option<[(u16, u16); MAX_SPATIAL_LAYERS]>,
}

impl Vp9Structure {
    /// The size of the highest layer.
    pub fn largest(&self) -> Option<(u16, u16)> {
        self.sizes?.get(usize::from(self.spatial_layers).checked_sub(1)?).copied()
    }
}

impl Vp9Descriptor {
    /// Parses the descriptor at the start of an RTP payload; `None` when it is cut off.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut reader = ByteReader { bytes: payload, position: 0 };
        let first = reader.byte()?;
        let flag = |bit: u8| first & bit != 0;
        let mut descriptor = Self {
            inter_picture: flag(0x40),
            flexible: flag(0x10),
            frame_start: flag(0x08),
            frame_end: flag(0x04),
            not_for_higher_layers: flag(0x01),
            picture_id: None,
            picture_id_wide: false,
            layer: None,
            tl0_pic_idx: None,
            structure: None,
            len: 0,
        };
        if flag(0x80) {
            let high = reader.byte()?;
            descriptor.picture_id_wide = high & 0x80 != 0;
            let mut id = u16::from(high & 0x7f);
            if descriptor.picture_id_wide {
                id = id << 8 | u16::from(reader.byte()?);
            }
            descriptor.picture_id = Some(id);
        }
        if flag(0x20) {
            let byte = reader.byte()?;
            descriptor.layer = Some(Vp9Layer {
                temporal_id: byte >> 5,
                switching_up: byte & 0x10 != 0,
                spatial_id: byte >> 1 & 0x07,
                inter_layer: byte & 0x01 != 0,
            });
            if !descriptor.flexible {
                descriptor.tl0_pic_idx = Some(reader.byte()?);
            }
        }
        if descriptor.flexible && descriptor.inter_picture {
            skip_references(&mut reader)?;
        }
        if flag(0x02) {
            descriptor.structure = Some(read_structure(&mut reader)?);
        }
        descriptor.len = reader.position;
        Some(descriptor)
    }

    /// The spatial layer, 0 in streams without layers.
    pub fn spatial_id(&self) -> u8 {
        self.layer.map_or(0, |layer| layer.spatial_id)
    }

    /// Whether the packet starts a key frame: the first of a lowest spatial layer that refers to no other picture.
    pub fn starts_key_frame(&self) -> bool {
        self.frame_start && !self.inter_picture && self.spatial_id() == 0
    }

    /// The size of the largest layer of the key frame that starts with this payload, which the descriptor is of: from
    /// the scalability structure, or from the frame itself where that can be read.
    pub fn key_frame_size(&self, payload: &[u8]) -> Option<(u16, u16)> {
        if !self.starts_key_frame() {
            return None;
        }
        let told = self.structure.and_then(|s| s.largest());
        told.or_else(|| read_key_frame_size(payload.get(self.len..)?))
    }
}

/// Up to three reference indices: seven bits and one that says whether another follows.
fn skip_references(reader: &mut ByteReader<'_>) -> Option<()> {
    for _ in 0..3 {
        if reader.byte()? & 1 == 0 {
            return Some(());
        }
    }
    // The third must be the last.
    None
}

fn read_structure(reader: &mut ByteReader<'_>) -> Option<Vp9Structure> {
    let first = reader.byte()?;
    let spatial_layers = (first >> 5) + 1;
    let mut sizes = None;
    if first & 0x10 != 0 {
        let mut list = [(0, 0); MAX_SPATIAL_LAYERS];
        for size in list.iter_mut().take(usize::from(spatial_layers)) {
            *size = (reader.short()?, reader.short()?);
        }
        sizes = Some(list);
    }
    if first & 0x08 != 0 {
        for _ in 0..reader.byte()? {
            let references = reader.byte()? >> 2 & 0x03;
            for _ in 0..references {
                reader.byte()?;
            }
        }
    }
    Some(Vp9Structure { spatial_layers, sizes })
}

/// Reads the start of the uncompressed header (VP9 bitstream specification section 6.2).
fn read_key_frame_size(frame: &[u8]) -> Option<(u16, u16)> {
    const FRAME_MARKER: u32 = 2;
    const SYNC_CODE: u32 = 0x49_83_42;
    const COLOR_SPACE_RGB: u32 = 7;
    let mut reader = BitReader::new(frame);
    if reader.bits(2)? != FRAME_MARKER {
        return None;
    }
    let profile = reader.bits(1)? | reader.bits(1)? << 1;
    if profile == 3 {
        reader.skip(1)?;
    }
    let (show_existing_frame, non_key) = (reader.bit()?, reader.bit()?);
    // show_frame and error_resilient_mode
    reader.skip(2)?;
    if show_existing_frame || non_key || reader.bits(24)? != SYNC_CODE {
        return None;
    }
    if profile >= 2 {
        reader.skip(1)?;
    }
    let other_subsampling = profile % 2 == 1;
    let rgb = reader.bits(3)? == COLOR_SPACE_RGB;
    reader.skip(match (rgb, other_subsampling) {
        (true, false) => 0,
        (true, true) | (false, false) => 1,
        (false, true) => 4,
    })?;
    let (width, height) = (reader.bits(16)?, reader.bits(16)?);
    Some(((width as u16).checked_add(1)?, (height as u16).checked_add(1)?))
}

struct ByteReader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl ByteReader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.position)?;
        self.position += 1;
        Some(byte)
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte()?, self.byte()?]))
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
    const KEY_FRAME: &str = "824983420014100b560638241c18420007607fd1";
    const DELTA_FRAME: &str = "860040929c1c4940001d76865ef93fc7fc1fb737";

    fn parse(text: &str) -> Vp9Descriptor {
        Vp9Descriptor::parse(&hex(text)).unwrap()
    }

    #[test]
    fn a_key_picture_of_two_spatial_layers_is_read() {
        let lower = parse("ab 9234 01 17 38 0140 00b4 0280 0168 02 14 01 00 824983");
        assert!(lower.starts_key_frame() && !lower.frame_end && lower.not_for_higher_layers);
        assert_eq!((lower.picture_id, lower.tl0_pic_idx), (Some(0x1234), Some(0x17)));
        let layer = Vp9Layer { temporal_id: 0, switching_up: false, spatial_id: 0, inter_layer: true };
        assert_eq!(lower.layer, Some(layer));
        let structure = lower.structure.unwrap();
        assert_eq!((structure.spatial_layers, structure.largest()), (2, Some((640, 360))));
        assert_eq!(structure.sizes.unwrap()[0], (320, 180));
        assert_eq!(lower.len, 18);

        let upper = parse("ac 9234 13 17 aabb");
        assert_eq!(upper.layer.map(|l| (l.spatial_id, l.switching_up, l.inter_layer)), Some((1, true, true)));
        assert!(upper.frame_start && upper.frame_end && !upper.starts_key_frame());
    }

    #[test]
    fn flexible_mode_has_references_and_no_tl0_pic_idx() {
        let descriptor = parse("fc 05 40 0304 aabb");
        assert!(descriptor.flexible && descriptor.inter_picture && !descriptor.starts_key_frame());
        assert_eq!((descriptor.picture_id, descriptor.picture_id_wide), (Some(5), false));
        assert_eq!((descriptor.tl0_pic_idx, descriptor.layer.unwrap().temporal_id), (None, 2));
        assert_eq!(descriptor.len, 5);
        assert_eq!(Vp9Descriptor::parse(&hex("fc 05 40 030305 aabb")), None, "four references");
    }

    #[test]
    fn key_frames_of_a_real_encoder_are_found_with_their_size() {
        let read = |descriptor: &str, frame: &str| {
            let payload = hex(&format!("{descriptor}{frame}"));
            let descriptor = Vp9Descriptor::parse(&payload).unwrap();
            (descriptor.starts_key_frame(), descriptor.key_frame_size(&payload))
        };
        assert_eq!(read("88 8001", KEY_FRAME), (true, Some((322, 182))));
        assert_eq!(read("c8 8001", DELTA_FRAME), (false, None));
        assert_eq!(read("80 8001", KEY_FRAME), (false, None), "not the start");
        assert_eq!(read("88 8001", "11223344556677889900"), (true, None), "opaque");
        assert_eq!(read("88 8001", DELTA_FRAME), (true, None), "no size to be read");
    }

    #[test]
    fn descriptors_are_read_as_another_implementation_does() {
        let mut rng = StdRng::seed_from_u64(9);
        let mut compared = 0;
        for _ in 0..5_000 {
            let mut payload: Vec<u8> = (0..60).map(|_| rng.random()).collect();
            if payload[0] & 0x02 != 0 {
                // Theirs takes reserved bits of a structure for its G.
                payload[1..].iter_mut().for_each(|byte| *byte &= !0x06);
            }
            let mut theirs = rtc_rtp::codec::vp9::Vp9Packet::default();
            let (Some(ours), Ok(rest)) =
                (Vp9Descriptor::parse(&payload), theirs.depacketize(&payload.clone().into()))
            else {
                continue;
            };
            compared += 1;
            assert_eq!(rest, &payload[ours.len..]);
            assert_eq!((ours.inter_picture, ours.flexible), (theirs.p, theirs.f));
            assert_eq!((ours.frame_start, ours.frame_end), (theirs.b, theirs.e));
            assert_eq!(ours.picture_id.unwrap_or(0), theirs.picture_id);
            let layer = ours.layer.map(|l| (l.temporal_id, l.switching_up, l.spatial_id, l.inter_layer));
            assert_eq!(layer.unwrap_or_default(), (theirs.tid, theirs.u, theirs.sid, theirs.d));
            assert_eq!(ours.tl0_pic_idx.unwrap_or(0), theirs.tl0picidx);
            if let Some(sizes) = ours.structure.and_then(|s| s.sizes) {
                let theirs: Vec<_> = theirs.width.iter().copied().zip(theirs.height).collect();
                assert_eq!(sizes[..theirs.len()], theirs);
            }
        }
        assert!(compared > 1_000);
    }

    #[test]
    fn damaged_payloads_never_panic() {
        let samples = [
            hex("aa 9234 01 17 38 0140 00b4 0280 0168 02 14 01 00 824983"),
            hex("fc 05 40 0304 aabb"),
            hex(&format!("888001{KEY_FRAME}")),
        ];
        damaged(10, 20_000, &[&samples[0], &samples[1], &samples[2]], |payload| {
            if let Some(descriptor) = Vp9Descriptor::parse(payload) {
                assert!(descriptor.len <= payload.len());
                let _ = descriptor.key_frame_size(payload);
            }
        });
    }
}
