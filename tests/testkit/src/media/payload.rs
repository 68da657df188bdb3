//! The first bytes of payloads, as each codec's RTP format has them, and AV1's dependency descriptor.

use veche_sfu_core::media::Codec;

use super::scalability::{FrameKind, Scalability};

/// What the payloads of a frame say in their heads.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameHead {
    pub(super) scalability: Scalability,
    pub(super) kind: FrameKind,
    pub(super) picture: u16,
    pub(super) tl0: u8,
    /// Of the highest spatial layer.
    pub(super) size: (u16, u16),
    pub(super) frame: u16,
    /// The spatial layers that the encoder makes, when the descriptor shall tell.
    pub(super) active: Option<u8>,
}

impl FrameHead {
    pub(super) fn write(&self, codec: Codec, first: bool, last: bool) -> Vec<u8> {
        match codec {
            Codec::Opus => vec![0x78],
            Codec::Vp8 => self.vp8(first),
            Codec::Vp9 => self.vp9(first, last),
            Codec::H264 => self.h264(first, last),
            Codec::Av1 => self.av1(first, last),
            Codec::H265 => unimplemented!("no client of the tests sends H265"),
        }
    }

    /// RFC 7741 section 4.2 and the frame header of RFC 6386 section 9.1.
    fn vp8(&self, first: bool) -> Vec<u8> {
        let [high, low] = self.picture.to_be_bytes();
        let temporal = self.kind.temporal;
        let layers = temporal << 6 | u8::from(self.kind.syncs()) << 5;
        let mut out =
            vec![0x80 | u8::from(first) << 4, 0xf0, 0x80 | high, low, self.tl0, layers | (self.tl0 & 0x1f)];
        match (first, self.kind.key) {
            (true, true) => {
                out.extend_from_slice(&[0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a]);
                out.extend_from_slice(&self.size.0.to_le_bytes());
                out.extend_from_slice(&self.size.1.to_le_bytes());
            }
            (true, false) => out.extend_from_slice(&[0x11, 0x02, 0x00]),
            _ => {}
        }
        out
    }

    /// RFC 9628 section 4.2, non-flexible mode: I P L F B E V Z.
    fn vp9(&self, first: bool, last: bool) -> Vec<u8> {
        let FrameKind { spatial, temporal, key, inter_layer, for_higher, .. } = self.kind;
        let structure = first && key && spatial == 0;
        let flags = 0xa0
            | u8::from(!key) << 6
            | u8::from(first) << 3
            | u8::from(last) << 2
            | u8::from(structure) << 1
            | u8::from(!for_higher);
        let [high, low] = self.picture.to_be_bytes();
        let layer = temporal << 5 | u8::from(temporal > 0) << 4 | spatial << 1 | u8::from(inter_layer);
        let mut out = vec![flags, 0x80 | high, low, layer, self.tl0];
        if structure {
            // The sizes, and no picture group.
            out.push((self.scalability.spatial - 1) << 5 | 0x10);
            for spatial in 0..self.scalability.spatial {
                let (width, height) = self.scalability.size(self.size, spatial);
                out.extend_from_slice(&width.to_be_bytes());
                out.extend_from_slice(&height.to_be_bytes());
            }
        }
        out
    }

    /// RFC 6184: parameter sets in one aggregation packet before each key frame's fragments.
    fn h264(&self, first: bool, last: bool) -> Vec<u8> {
        if first && self.kind.key {
            let sps = sequence_parameter_set(self.size);
            let mut out = vec![24];
            for unit in [&sps[..], &[0x68, 0xce, 0x3c, 0x80]] {
                out.extend_from_slice(&(unit.len() as u16).to_be_bytes());
                out.extend_from_slice(unit);
            }
            // What follows, the stamp, is in a unit whose length overruns the packet: nobody looks into it.
            out.extend_from_slice(&[0xff, 0xff, 6]);
            return out;
        }
        let kind = if self.kind.key { 5 } else { 1 };
        if first && last {
            return vec![0x60 | kind, 0x88];
        }
        // Key frames begin with the parameter sets' packet: their slice starts somewhere behind it.
        let start = first;
        vec![0x7c, u8::from(start) << 7 | u8::from(last) << 6 | kind, if start { 0x88 } else { 0x08 }]
    }

    /// The aggregation header of the AV1 RTP format: Z Y W W N.
    fn av1(&self, first: bool, last: bool) -> Vec<u8> {
        let head = u8::from(!first) << 7
            | u8::from(!last) << 6
            | 1 << 4
            | u8::from(first && self.kind.key && self.kind.spatial == 0) << 3;
        vec![head, 0x30]
    }
}

/// ITU-T H.264 section 7.3.2.1.1, Constrained Baseline.
fn sequence_parameter_set((width, height): (u16, u16)) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put(0x67, 8);
    bits.put(0x0042_e01f, 24);
    bits.exp_golomb(0);
    bits.exp_golomb(0);
    bits.exp_golomb(2);
    bits.exp_golomb(1);
    bits.put(0, 1);
    let (across, down) = (u32::from(width).div_ceil(16), u32::from(height).div_ceil(16));
    bits.exp_golomb(across - 1);
    bits.exp_golomb(down - 1);
    bits.put(0b11, 2);
    let (right, bottom) = ((across * 16 - u32::from(width)) / 2, (down * 16 - u32::from(height)) / 2);
    bits.put(1, 1);
    for crop in [0, right, 0, bottom] {
        bits.exp_golomb(crop);
    }
    bits.put(0, 1);
    bits.put(1, 1);
    bits.bytes
}

/// Writes bits, the highest first.
#[derive(Debug, Default)]
pub(super) struct Bits {
    bytes: Vec<u8>,
    used: usize,
}

impl Bits {
    pub(super) fn put(&mut self, value: u32, count: u32) {
        for bit in (0..count).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let one = (value >> bit & 1) as u8;
            let last = self.bytes.last_mut().expect("a byte was pushed");
            *last |= one << (7 - self.used % 8);
            self.used += 1;
        }
    }

    fn exp_golomb(&mut self, value: u32) {
        let len = (value + 1).ilog2();
        self.put(0, len);
        self.put(value + 1, len + 1);
    }

    /// A dependency descriptor (RTP Payload Format For AV1, section A.8.3).
    pub(super) fn descriptor(head: &FrameHead, first: bool, last: bool) -> Vec<u8> {
        let mut bits = Bits::default();
        bits.put(u32::from(first), 1);
        bits.put(u32::from(last), 1);
        bits.put(u32::from(head.kind.template), 6);
        bits.put(u32::from(head.frame), 16);
        let structure = first && head.kind.key && head.kind.spatial == 0;
        let active = head.active.filter(|_| first);
        if structure || active.is_some() {
            bits.put(u32::from(structure), 1);
            bits.put(u32::from(active.is_some()), 1);
            // Nothing differs from the template.
            bits.put(0, 3);
        }
        if structure {
            head.scalability.write_structure(head.size, &mut bits);
        }
        if let Some(active) = active {
            let Scalability { spatial, temporal, .. } = head.scalability;
            bits.put((1 << (active * temporal)) - 1, u32::from(spatial * temporal));
        }
        bits.bytes
    }
}

#[cfg(test)]
mod tests {
    use veche_sfu_core::rtp::RtpHeader;
    use veche_sfu_core::rtp::frame::{FrameInfo, FrameState};

    use super::*;

    fn info(codec: Codec, head: &FrameHead, state: &mut FrameState, first: bool, last: bool) -> FrameInfo {
        let mut payload = head.write(codec, first, last);
        payload.resize(payload.len() + 40, 0);
        let header =
            RtpHeader::parse(&[0x80, if last { 0xe0 } else { 0x60 }, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]).unwrap();
        let descriptor = (codec == Codec::Av1).then(|| Bits::descriptor(head, first, last));
        FrameInfo::read(codec, &header, &payload, descriptor.as_deref(), state)
    }

    #[test]
    fn every_codec_is_what_the_server_takes_it_for() {
        for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1] {
            let mut state = FrameState::default();
            let scalability = Scalability::L1T1;
            let kind = scalability.frame(0, 0, 0);
            let size = (640, 360);
            let key = FrameHead { scalability, kind, picture: 9, tl0: 3, size, frame: 9, active: None };
            let start = info(codec, &key, &mut state, true, false);
            assert!(start.key_frame && start.start_of_frame, "{codec:?}: {start:?}");
            assert_eq!(start.size, Some((640, 360)), "{codec:?}");
            let rest = info(codec, &key, &mut state, false, true);
            assert!(!rest.key_frame || !rest.start_of_frame, "{codec:?}: {rest:?}");
            let kind = scalability.frame(1, 0, 0);
            let delta = FrameHead { kind, picture: 10, frame: 10, ..key };
            for (first, last) in [(true, true), (true, false)] {
                let next = info(codec, &delta, &mut state, first, last);
                assert!(!next.key_frame && next.start_of_frame, "{codec:?}: {next:?}");
            }
        }
    }
}
