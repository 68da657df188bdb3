//! VP9 (RFC 9628): the layers of a picture one behind the other, and an index that tells where each begins.

use smallvec::SmallVec;
use veche_sfu_core::rtp::Vp9Descriptor;

/// The layer frames of one picture: where each begins in its bytes.
#[derive(Debug, Default)]
pub(super) struct Layers {
    starts: SmallVec<[usize; 8]>,
}

/// A superframe has at most so many frames (VP9 bitstream specification, annex B).
const MAX_FRAMES: usize = 8;

impl Layers {
    /// Puts the payload of a packet behind `data`; `None` when it continues what has not begun.
    pub(super) fn append(&mut self, payload: &[u8], data: &mut Vec<u8>) -> Option<()> {
        let descriptor = Vp9Descriptor::parse(payload)?;
        if descriptor.frame_start {
            self.starts.push(data.len());
        }
        if self.starts.is_empty() {
            return None;
        }
        data.extend_from_slice(payload.get(descriptor.len..)?);
        Some(())
    }

    /// Writes the index of a superframe behind the layers, when there are several (annex B.3): a marker, the sizes in
    /// bytes of as little as they need, and the marker again.
    pub(super) fn write_index(&self, data: &mut Vec<u8>) {
        let count = self.starts.len();
        if !(2..=MAX_FRAMES).contains(&count) {
            return;
        }
        let ends = self.starts.iter().skip(1).copied().chain([data.len()]);
        let sizes: SmallVec<[usize; 8]> =
            self.starts.iter().zip(ends).map(|(start, end)| end - start).collect();
        let largest = sizes.iter().copied().max().unwrap_or_default();
        let bytes = (1..4).find(|bytes| largest < 1 << (8 * bytes)).unwrap_or(4);
        let marker = 0b1100_0000 | (bytes as u8 - 1) << 3 | (count as u8 - 1);
        data.push(marker);
        for size in sizes {
            data.extend_from_slice(&(size as u32).to_le_bytes()[..bytes]);
        }
        data.push(marker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A descriptor without anything but the marks of start (0x08) and end (0x04).
    fn payload(mark: u8, bytes: &[u8]) -> Vec<u8> {
        [&[mark], bytes].concat()
    }

    #[test]
    fn one_layer_needs_no_index() {
        let (mut layers, mut data) = (Layers::default(), Vec::new());
        layers.append(&payload(0x08, b"ab"), &mut data).unwrap();
        layers.append(&payload(0x04, b"c"), &mut data).unwrap();
        layers.write_index(&mut data);
        assert_eq!(data, b"abc");
    }

    #[test]
    fn several_layers_are_told_apart_by_their_sizes() {
        let (mut layers, mut data) = (Layers::default(), Vec::new());
        layers.append(&payload(0x0c, b"ab"), &mut data).unwrap();
        layers.append(&payload(0x0c, &[7; 300]), &mut data).unwrap();
        layers.write_index(&mut data);
        assert_eq!(data[302..], [0b1100_1001, 2, 0, 0x2c, 1, 0b1100_1001]);
    }

    #[test]
    fn what_has_not_begun_is_refused() {
        assert!(Layers::default().append(&payload(0x04, b"c"), &mut Vec::new()).is_none());
        assert!(Layers::default().append(&[], &mut Vec::new()).is_none());
    }
}
