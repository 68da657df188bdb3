//! What one received video packet tells of its frame, computed once for all who receive it.

use super::av1::Av1Packet;
use super::dependency::{DependencyState, Structure};
use super::h264::H264Packet;
use super::h265::H265Packet;
use super::header::RtpHeader;
use super::targets::FrameTargets;
use super::vp8::Vp8Descriptor;
use super::vp9::{Vp9Descriptor, Vp9Structure};
use crate::media::Codec;

/// What a packet tells of its frame. Frames are those of one spatial layer where there are several in a picture.
///
/// A dependency descriptor decides where there is one, since it stays true and clear when payloads are encrypted end
/// to end. Without it the marks of the codec decide:
///
/// | codec | a key frame starts where | survives end-to-end encryption |
/// |-------|--------------------------|--------------------------------|
/// | VP8   | the frame tag and the start code say so | when the first ten bytes of key frames stay clear, as is custom |
/// | VP9   | the descriptor says so: no reference to other pictures | always; the size only with a scalability structure |
/// | H264, H265 | parameter sets start, or, in streams that never had any, an IDR (IRAP) picture | when unit headers stay clear |
/// | AV1   | N is set | always; the size only when sequence headers stay clear |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameInfo {
    /// The packet is the first of its frame. With H264 and H265, whose payloads do not tell, this can be true for
    /// more than one packet of a frame: compare timestamps.
    pub start_of_frame: bool,
    /// The packet is the last of its frame. The last packet of the whole picture has the marker of the header, too.
    pub end_of_frame: bool,
    /// The packet starts a key frame with which a decoder can begin.
    pub key_frame: bool,
    /// On the start of a key frame: the size of the pictures, of the highest spatial layer where there are several.
    /// Never 0.
    pub size: Option<(u16, u16)>,
    /// What the frame is to the sub-layers of its stream; `None` where that cannot be read, and for audio.
    pub targets: Option<FrameTargets>,
}

/// What a stream must remember from packet to packet. One for each received stream.
#[derive(Clone, Debug, Default)]
pub struct FrameState {
    /// The structure that dependency descriptors refer to.
    pub dependencies: DependencyState,
    /// H264, H265: the stream carries its parameter sets, so that none but the packets with them start key frames.
    parameter_sets: bool,
    /// VP9: what the last scalability structure told.
    vp9_structure: Option<Vp9Structure>,
}

impl FrameState {
    /// The size of a spatial layer, where the stream has told it.
    pub fn spatial_size(&self, spatial: u8) -> Option<(u16, u16)> {
        let told = || {
            let structure = self.vp9_structure.as_ref().filter(|s| spatial < s.spatial_layers)?;
            structure.sizes?.get(usize::from(spatial)).copied()
        };
        let size = self.dependencies.structure().and_then(|s| s.size(spatial)).or_else(told)?;
        (size.0 > 0 && size.1 > 0).then_some(size)
    }
}

impl FrameInfo {
    /// Reads a decrypted packet: its header, its payload without padding, and its dependency descriptor. Everything
    /// is `false` or `None` for audio, empty payloads and those that do not parse; the marker still ends a frame.
    pub fn read(
        codec: Codec,
        header: &RtpHeader,
        payload: &[u8],
        dependency_descriptor: Option<&[u8]>,
        state: &mut FrameState,
    ) -> Self {
        if payload.is_empty() {
            return Self::default();
        }
        let mut info = match codec {
            Codec::Opus => return Self::default(),
            Codec::Vp8 => read_vp8(payload),
            Codec::Vp9 => read_vp9(payload, state),
            Codec::H264 => read_h264(payload, state),
            Codec::H265 => read_h265(payload, state),
            Codec::Av1 => read_av1(payload),
        };
        info.end_of_frame |= header.marker;
        info.size = info.size.filter(|&(width, height)| width > 0 && height > 0);
        if let Some(descriptor) = dependency_descriptor {
            info.apply(descriptor, &mut state.dependencies);
        }
        info
    }

    /// Lets a dependency descriptor decide. One that refers to an unknown structure says nothing, and then the packet
    /// starts no key frame either: that would have brought its structure.
    fn apply(&mut self, descriptor: &[u8], state: &mut DependencyState) {
        self.key_frame = false;
        let gapless_ids = self.targets.take().is_some_and(|targets| targets.gapless_ids);
        let codec_size = self.size.take();
        let Some(frame) = state.read(descriptor) else { return };
        self.targets = state
            .structure()
            .map(|structure| FrameTargets::described(&frame, structure, state.active_targets(), gapless_ids));
        self.start_of_frame = frame.start_of_frame;
        self.end_of_frame = frame.end_of_frame;
        self.key_frame = frame.starts_key_frame();
        if self.key_frame {
            self.size = state.structure().and_then(Structure::largest).or(codec_size);
        }
    }
}

fn read_vp8(payload: &[u8]) -> FrameInfo {
    let Some(descriptor) = Vp8Descriptor::parse(payload) else { return FrameInfo::default() };
    let size = descriptor.key_frame_size(payload);
    FrameInfo {
        start_of_frame: descriptor.starts_frame(),
        key_frame: size.is_some(),
        size,
        targets: Some(FrameTargets::vp8(&descriptor, size.is_some())),
        ..FrameInfo::default()
    }
}

fn read_vp9(payload: &[u8], state: &mut FrameState) -> FrameInfo {
    let Some(descriptor) = Vp9Descriptor::parse(payload) else { return FrameInfo::default() };
    if descriptor.structure.is_some() {
        state.vp9_structure = descriptor.structure;
    }
    let spatial_layers = state.vp9_structure.map(|s| s.spatial_layers);
    FrameInfo {
        start_of_frame: descriptor.frame_start,
        end_of_frame: descriptor.frame_end,
        key_frame: descriptor.starts_key_frame(),
        size: descriptor.key_frame_size(payload),
        targets: Some(FrameTargets::vp9(&descriptor, spatial_layers)),
    }
}

fn read_h264(payload: &[u8], state: &mut FrameState) -> FrameInfo {
    let packet = H264Packet::read(payload);
    state.parameter_sets |= packet.parameter_set;
    let key_frame = packet.parameter_set || packet.idr_start && !state.parameter_sets;
    FrameInfo {
        start_of_frame: packet.picture_start,
        key_frame,
        size: packet.size,
        targets: Some(FrameTargets::single(key_frame, false)),
        ..FrameInfo::default()
    }
}

fn read_h265(payload: &[u8], state: &mut FrameState) -> FrameInfo {
    let packet = H265Packet::read(payload);
    state.parameter_sets |= packet.parameter_set;
    let key_frame = packet.parameter_set || packet.irap_start && !state.parameter_sets;
    FrameInfo {
        start_of_frame: packet.picture_start,
        key_frame,
        size: packet.size,
        targets: Some(FrameTargets::h265(&packet, key_frame)),
        ..FrameInfo::default()
    }
}

fn read_av1(payload: &[u8]) -> FrameInfo {
    let packet = Av1Packet::read(payload);
    FrameInfo {
        start_of_frame: packet.frame_start || packet.sequence_start,
        key_frame: packet.sequence_start,
        size: packet.size.filter(|_| packet.sequence_start),
        targets: Some(FrameTargets::av1(packet.layer, packet.sequence_start)),
        ..FrameInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use rtc_rtp::codec::av1::Av1Payloader;
    use rtc_rtp::codec::h264::H264Payloader;
    use rtc_rtp::codec::h265::HevcPayloader;
    use rtc_rtp::codec::vp8::Vp8Payloader;
    use rtc_rtp::codec::vp9::Vp9Payloader;
    use rtc_rtp::packetizer::Payloader;

    use super::*;
    use crate::rtp::mutation::{damaged, hex};

    const VP8_KEY: &str = "90 80 8001 3059009d012a4201b60000070885";
    const H264_SPS: &str = "6764000bacb60a8cf1136022000003000200000300291e2855c0";
    const H264_IDR: &str = "65888404affeb5df32c544f1fb75e280";
    /// One decode target, two templates (key, delta), a size of 320x180.
    const KEY_DESCRIPTOR: &str = "c0 0001 80003b40809f805980";
    const DELTA_DESCRIPTOR: &str = "c1 0002";

    fn header(marker: bool) -> RtpHeader {
        let second = if marker { 0xe0 } else { 0x60 };
        RtpHeader::parse(&[0x80, second, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]).unwrap()
    }

    fn read(codec: Codec, payload: &str, descriptor: Option<&str>, state: &mut FrameState) -> FrameInfo {
        let descriptor = descriptor.map(hex);
        FrameInfo::read(codec, &header(false), &hex(payload), descriptor.as_deref(), state)
    }

    #[test]
    fn the_marks_of_codecs_are_seen_without_a_descriptor() {
        let mut state = FrameState::default();
        let vp8 = read(Codec::Vp8, VP8_KEY, None, &mut state);
        assert!(vp8.key_frame && vp8.start_of_frame && !vp8.end_of_frame);
        assert!(vp8.targets.is_some_and(|targets| targets.gapless_ids));
        assert_eq!(vp8.size, Some((322, 182)));
        let vp9 = read(Codec::Vp9, "ac 9234 13 17 aabb", None, &mut state);
        assert!(!vp9.key_frame && vp9.start_of_frame && vp9.end_of_frame);
        assert!(vp9.targets.is_some_and(|targets| (targets.spatial, targets.temporal) == (1, 0)));
        let av1 = read(Codec::Av1, "18 08 000000043d06d4daf90040", None, &mut state);
        assert!(av1.key_frame && av1.start_of_frame);
        assert_eq!(av1.size, Some((322, 182)));
        let opus = read(Codec::Opus, "10 00", None, &mut state);
        assert_eq!(opus, FrameInfo::default());
    }

    #[test]
    fn an_idr_picture_is_a_key_frame_only_in_streams_without_parameter_sets() {
        let mut state = FrameState::default();
        assert!(read(Codec::H264, H264_IDR, None, &mut state).key_frame);
        let sps = read(Codec::H264, H264_SPS, None, &mut state);
        assert!(sps.key_frame);
        assert_eq!(sps.size, Some((322, 182)));
        assert!(!read(Codec::H264, H264_IDR, None, &mut state).key_frame, "its parameter sets were lost");
    }

    #[test]
    fn a_dependency_descriptor_decides() {
        let mut state = FrameState::default();
        let opaque = "18 aabbccddeeff";
        let key = read(Codec::Av1, opaque, Some(KEY_DESCRIPTOR), &mut state);
        assert!(key.key_frame && key.start_of_frame && key.end_of_frame);
        assert_eq!(key.size, Some((320, 180)));
        assert!(key.targets.is_some_and(|targets| (targets.spatial, targets.temporal) == (0, 0)));
        let delta = read(Codec::Vp8, VP8_KEY, Some(DELTA_DESCRIPTOR), &mut state);
        assert!(!delta.key_frame && delta.start_of_frame);
        assert!(delta.targets.is_some_and(|targets| targets.gapless_ids), "it is VP8 all the same");
        assert_eq!(delta.size, None);
    }

    #[test]
    fn a_descriptor_of_an_unknown_structure_starts_no_key_frame() {
        let info = read(Codec::Vp8, VP8_KEY, Some(DELTA_DESCRIPTOR), &mut FrameState::default());
        assert!(!info.key_frame && info.start_of_frame);
    }

    /// Splits a frame whose slice or OBU is filled up to some 2,500 bytes, and reads every packet.
    fn packetize(codec: Codec, packetizer: &mut dyn Payloader, frame: &str) -> Vec<FrameInfo> {
        let mut bytes = hex(frame);
        bytes.resize(bytes.len() + 2_500, 0x55);
        let payloads = packetizer.payload(1_000, &bytes.into()).unwrap();
        let mut state = FrameState::default();
        let last = payloads.len() - 1;
        let read = |(index, payload): (usize, _)| {
            FrameInfo::read(codec, &header(index == last), payload, None, &mut state)
        };
        payloads.iter().map(|payload| &payload[..]).enumerate().map(read).collect()
    }

    #[test]
    fn frames_split_by_another_implementation_start_and_end_once() {
        let sps = H264_SPS;
        let h264 = format!("00000001 {sps} 00000001 68eac04d2c8b 00000001 {H264_IDR}");
        let vps = "40010c01ffff01600000030090000003000003003c959809";
        let sps = "42010101600000030090000003000003003ca00a480b9c9596566924caf0168080000003008000000504";
        let h265 = format!("00000001 {vps} 00000001 {sps} 00000001 4401c172b46240 00000001 2801af0556261c8d");
        // A temporal delimiter, a sequence header and a frame of 2,504 bytes.
        let av1 = "1200 0a0b000000043d06d4daf90040 32c813 1400a1f0";
        let vp8 = "3059009d012a4201b60000070885";
        let vp9 = "824983420014100b560638241c184200";
        let frames = [
            packetize(Codec::H264, &mut H264Payloader::default(), &h264),
            packetize(Codec::H265, &mut HevcPayloader, &h265),
            packetize(Codec::Av1, &mut Av1Payloader::default(), av1),
            packetize(Codec::Vp8, &mut Vp8Payloader::default(), vp8),
            packetize(Codec::Vp9, &mut Vp9Payloader::default(), vp9),
        ];
        for frame in &frames {
            let (first, rest) = frame.split_first().unwrap();
            assert!(first.start_of_frame, "{frame:?}");
            assert!(rest.len() >= 2 && rest.last().unwrap().end_of_frame);
            assert_eq!(frame.iter().filter(|info| info.end_of_frame).count(), 1);
        }
        for frame in &frames {
            assert!(frame[0].key_frame && frame[1..].iter().all(|info| !info.key_frame));
            assert_eq!(frame[0].size, Some((322, 182)));
        }
    }

    #[test]
    fn a_size_of_nothing_is_no_size() {
        let flat =
            read(Codec::Vp8, "90 80 8001 3059009d012a42010000000708", None, &mut FrameState::default());
        assert!(flat.key_frame);
        assert_eq!(flat.size, None);
    }

    #[test]
    fn the_marker_ends_a_frame_and_padding_is_no_frame() {
        let mut state = FrameState::default();
        let info = FrameInfo::read(Codec::Vp8, &header(true), &hex("00 aabb"), None, &mut state);
        assert!(info.end_of_frame && !info.start_of_frame);
        let empty = FrameInfo::read(Codec::Vp8, &header(true), &[], None, &mut state);
        assert_eq!(empty, FrameInfo::default());
    }

    #[test]
    fn damaged_payloads_never_panic() {
        let samples =
            [hex(VP8_KEY), hex(H264_SPS), hex(H264_IDR), hex("ac 9234 13 17 aabb"), hex(KEY_DESCRIPTOR)];
        let samples: Vec<&[u8]> = samples.iter().map(|s| &s[..]).collect();
        let mut state = FrameState::default();
        damaged(15, 10_000, &samples, |bytes| {
            for codec in [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::H265, Codec::Av1] {
                let _ = FrameInfo::read(codec, &header(false), bytes, None, &mut state);
                let _ = FrameInfo::read(codec, &header(true), bytes, Some(bytes), &mut state);
            }
        });
    }
}
