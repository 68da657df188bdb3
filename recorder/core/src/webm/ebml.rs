//! EBML (RFC 8794): elements of an id, a size and what they hold.

/// The id of an element, its length marker in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element(pub u32);

impl Element {
    pub const EBML: Self = Self(0x1a45_dfa3);
    pub const SEGMENT: Self = Self(0x1853_8067);
    pub const SEEK_HEAD: Self = Self(0x114d_9b74);
    pub const SEEK: Self = Self(0x4dbb);
    pub const SEEK_ID: Self = Self(0x53ab);
    pub const SEEK_POSITION: Self = Self(0x53ac);
    pub const VOID: Self = Self(0xec);
    pub const INFO: Self = Self(0x1549_a966);
    pub const TIMESTAMP_SCALE: Self = Self(0x2a_d7b1);
    pub const DURATION: Self = Self(0x4489);
    pub const DATE: Self = Self(0x4461);
    pub const MUXING_APP: Self = Self(0x4d80);
    pub const WRITING_APP: Self = Self(0x5741);
    pub const TRACKS: Self = Self(0x1654_ae6b);
    pub const TRACK_ENTRY: Self = Self(0xae);
    pub const TRACK_NUMBER: Self = Self(0xd7);
    pub const TRACK_UID: Self = Self(0x73c5);
    pub const TRACK_TYPE: Self = Self(0x83);
    pub const FLAG_LACING: Self = Self(0x9c);
    pub const NAME: Self = Self(0x536e);
    pub const CODEC_ID: Self = Self(0x86);
    pub const CODEC_PRIVATE: Self = Self(0x63a2);
    pub const SEEK_PRE_ROLL: Self = Self(0x56bb);
    pub const VIDEO: Self = Self(0xe0);
    pub const PIXEL_WIDTH: Self = Self(0xb0);
    pub const PIXEL_HEIGHT: Self = Self(0xba);
    pub const AUDIO: Self = Self(0xe1);
    pub const SAMPLING_FREQUENCY: Self = Self(0xb5);
    pub const CHANNELS: Self = Self(0x9f);
    pub const CLUSTER: Self = Self(0x1f43_b675);
    pub const TIMESTAMP: Self = Self(0xe7);
    pub const SIMPLE_BLOCK: Self = Self(0xa3);
    pub const CUES: Self = Self(0x1c53_bb6b);
    pub const CUE_POINT: Self = Self(0xbb);
    pub const CUE_TIME: Self = Self(0xb3);
    pub const CUE_TRACK_POSITIONS: Self = Self(0xb7);
    pub const CUE_TRACK: Self = Self(0xf7);
    pub const CUE_CLUSTER_POSITION: Self = Self(0xf1);

    fn write(self, out: &mut Vec<u8>) {
        let bytes = self.0.to_be_bytes();
        out.extend_from_slice(&bytes[self.0.leading_zeros() as usize / 8..]);
    }
}

/// All bits of a size of eight bytes: it is not known.
pub(super) const UNKNOWN_SIZE: u64 = (1 << 56) - 1;

/// The length of a size that is to be changed later.
pub(super) const LONG_SIZE: usize = 8;

/// Writes an element that holds these pieces, one behind the other.
pub(super) fn write(element: Element, pieces: &[&[u8]], out: &mut Vec<u8>) {
    element.write(out);
    write_size(pieces.iter().map(|piece| piece.len()).sum::<usize>() as u64, out);
    for piece in pieces {
        out.extend_from_slice(piece);
    }
}

/// Writes an element that holds what `inside` writes.
pub(super) fn write_master(element: Element, out: &mut Vec<u8>, inside: impl FnOnce(&mut Vec<u8>)) {
    let mut held = Vec::new();
    inside(&mut held);
    write(element, &[&held], out);
}

/// Begins an element of unknown size, in the length of one that is known.
pub(super) fn write_unknown_size(element: Element, out: &mut Vec<u8>) {
    element.write(out);
    out.extend_from_slice(&long_size(UNKNOWN_SIZE));
}

/// A size in eight bytes.
pub(super) fn long_size(size: u64) -> [u8; LONG_SIZE] {
    (size.min(UNKNOWN_SIZE) | 1 << 56).to_be_bytes()
}

/// Fills exactly so many bytes, at least 9, with nothing.
pub(super) fn write_void(bytes: usize, out: &mut Vec<u8>) {
    Element::VOID.write(out);
    let rest = bytes - 1 - LONG_SIZE;
    out.extend_from_slice(&long_size(rest as u64));
    out.resize(out.len() + rest, 0);
}

/// The head of every WebM file.
pub(super) fn write_header(out: &mut Vec<u8>) {
    write_master(Element::EBML, out, |out| {
        // EBML's version, the oldest that can read it, the longest ids and sizes; then the same of the document.
        for (id, value) in [(0x4286, 1), (0x42f7, 1), (0x42f2, 4), (0x42f3, 8)] {
            write(Element(id), &[&[value]], out);
        }
        write(Element(0x4282), &[b"webm"], out);
        for (id, value) in [(0x4287, 4), (0x4285, 2)] {
            write(Element(id), &[&[value]], out);
        }
    });
}

fn write_size(size: u64, out: &mut Vec<u8>) {
    // All ones would say that it is unknown.
    let len = (1..=8).find(|len| size < (1 << (7 * len)) - 1).unwrap_or(8);
    let bytes = (size | 1 << (7 * len)).to_be_bytes();
    out.extend_from_slice(&bytes[8 - len as usize..]);
}

/// A number in as few bytes as it needs.
pub(super) fn unsigned(value: u64) -> Vec<u8> {
    let zeros = (value.leading_zeros() as usize / 8).min(7);
    value.to_be_bytes()[zeros..].to_vec()
}

/// A number with a fraction.
pub(super) fn float(value: f64) -> [u8; 8] {
    value.to_be_bytes()
}

/// Text.
pub(super) fn string(text: &str) -> &[u8] {
    text.as_bytes()
}

/// The head of an element, as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub element: Element,
    /// How much it holds; `None` when that is not known.
    pub size: Option<u64>,
    /// How long the head is.
    pub len: usize,
}

/// The longest head: an id of four bytes and a size of eight.
pub(super) const MAX_HEAD: usize = 12;

impl Head {
    /// Reads the head at the beginning of some bytes; `None` when it is cut off or none.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let id_len = bytes.first()?.leading_zeros() as usize + 1;
        if id_len > 4 {
            return None;
        }
        let id = bytes.get(..id_len)?.iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
        let first = *bytes.get(id_len)?;
        let size_len = first.leading_zeros() as usize + 1;
        let (&first, rest) = bytes.get(id_len..id_len + size_len)?.split_first()?;
        let marked = u64::from(first) & !(0x80_u64 >> (size_len - 1));
        let size = rest.iter().fold(marked, |size, byte| size << 8 | u64::from(*byte));
        let is_known = size != (1 << (7 * size_len)) - 1;
        Some(Self { element: Element(id), size: is_known.then_some(size), len: id_len + size_len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_are_written() {
        for size in [0, 1, 126, 127, 16_382, 16_383, 1 << 27] {
            for element in [Element::SIMPLE_BLOCK, Element::SEEK, Element::TIMESTAMP_SCALE, Element::CLUSTER]
            {
                let mut bytes = Vec::new();
                element.write(&mut bytes);
                write_size(size, &mut bytes);
                let len = bytes.len();
                assert_eq!(Head::read(&bytes), Some(Head { element, size: Some(size), len }), "{size}");
                assert_eq!(Head::read(&bytes[..len - 1]), None);
            }
        }
        let mut bytes = Vec::new();
        write_unknown_size(Element::SEGMENT, &mut bytes);
        assert_eq!(Head::read(&bytes), Some(Head { element: Element::SEGMENT, size: None, len: MAX_HEAD }));
        assert_eq!(Head::read(&[0; 12]), None);
    }

    #[test]
    fn numbers_take_what_they_need() {
        assert_eq!((unsigned(0), unsigned(255), unsigned(256)), (vec![0], vec![255], vec![1, 0]));
        let mut out = Vec::new();
        write_void(20, &mut out);
        assert_eq!((out.len(), Head::read(&out).unwrap().size), (20, Some(11)));
    }
}
