//! Video (H264) by openh264, and how its pictures are put into packets (RFC 6184).

use openh264::encoder::{
    BitRate, Complexity, Encoder as OpenH264, EncoderConfig, FrameRate, IntraFramePeriod, Level, Profile,
    RateControlMode, SpsPpsStrategy, UsageType,
};
use openh264::formats::{RgbSliceU8, YUVBuffer};
use openh264::{OpenH264API, Timestamp};

use crate::raster::Raster;

/// The largest payload of a packet, in bytes.
const MAX_PAYLOAD: usize = 1_180;

/// In seconds: a key frame comes at least so often.
const KEY_FRAME_SECONDS: f32 = 20.0;

/// Kinds of units (H.264 table 7-1, RFC 6184 section 5.2).
const IDR: u8 = 5;
const FU_A: u8 = 28;

/// Makes video of one size of pictures.
pub struct Encoder {
    inner: OpenH264,
    buffer: YUVBuffer,
    size: (u32, u32),
}

/// One picture of the video.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Whether it needs none before it.
    pub is_key: bool,
    /// The payloads of its packets, in order; the last one ends the picture. Empty where the encoder left the picture out.
    pub payloads: Vec<Vec<u8>>,
}

/// The encoder does not take these settings, or this picture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("openh264: {0}")]
pub struct EncodeError(String);

impl Encoder {
    /// For pictures of this size, whose sides are even, at most so many a second, in about so many bits a second.
    pub fn new(size: (u32, u32), per_second: f32, bits_per_second: u32) -> Result<Self, EncodeError> {
        let config = EncoderConfig::new()
            .usage_type(UsageType::CameraVideoRealTime)
            .rate_control_mode(RateControlMode::Bitrate)
            .bitrate(BitRate::from_bps(bits_per_second))
            .max_frame_rate(FrameRate::from_hz(per_second))
            .intra_frame_period(IntraFramePeriod::from_num_frames((per_second * KEY_FRAME_SECONDS) as u32))
            .profile(Profile::Baseline)
            .level(Level::Level_4_0)
            .complexity(Complexity::Low)
            .sps_pps_strategy(SpsPpsStrategy::ConstantId)
            .num_threads(1)
            .skip_frames(true);
        let encoder =
            OpenH264::with_api_config(OpenH264API::from_source(), config).map_err(|error| failed(&error))?;
        Ok(Self { inner: encoder, buffer: YUVBuffer::new(size.0 as usize, size.1 as usize), size })
    }

    /// The next picture, of the encoder's size, at a time in milliseconds since the first.
    pub fn encode(&mut self, picture: &Raster, at_ms: u64, key_frame: bool) -> Result<Picture, EncodeError> {
        if picture.size() != self.size {
            return Err(EncodeError(format!("the picture is not of {} x {}", self.size.0, self.size.1)));
        }
        let size = (self.size.0 as usize, self.size.1 as usize);
        self.buffer.read_rgb8(RgbSliceU8::new(picture.rgb(), size));
        if key_frame {
            self.inner.force_intra_frame();
        }
        let encoded = self
            .inner
            .encode_at(&self.buffer, Timestamp::from_millis(at_ms))
            .map_err(|error| failed(&error))?;
        Ok(Picture::new(&encoded.to_vec()))
    }
}

impl Picture {
    /// Of units with start codes between them (H.264 annex B).
    fn new(stream: &[u8]) -> Self {
        let mut picture = Self::default();
        for unit in openh264::nal_units(stream).map(without_start_code).filter(|unit| !unit.is_empty()) {
            picture.is_key |= unit[0] & 0x1f == IDR;
            packetize(unit, &mut picture.payloads);
        }
        picture
    }
}

fn without_start_code(unit: &[u8]) -> &[u8] {
    let zeros = unit.iter().take_while(|byte| **byte == 0).count();
    unit.get(zeros + 1..).filter(|_| zeros >= 2 && unit[zeros] == 1).unwrap_or_default()
}

/// A unit by itself, where it fits, or in pieces (FU-A, RFC 6184 section 5.8).
fn packetize(unit: &[u8], payloads: &mut Vec<Vec<u8>>) {
    if unit.len() <= MAX_PAYLOAD {
        payloads.push(unit.to_vec());
        return;
    }
    let (head, content) = (unit[0], &unit[1..]);
    let pieces = content.chunks(MAX_PAYLOAD - 2);
    let last = pieces.len() - 1;
    for (index, piece) in pieces.enumerate() {
        let start = if index == 0 { 0x80 } else { 0 };
        let end = if index == last { 0x40 } else { 0 };
        let mut payload = vec![head & 0xe0 | FU_A, start | end | head & 0x1f];
        payload.extend_from_slice(piece);
        payloads.push(payload);
    }
}

fn failed(error: &openh264::Error) -> EncodeError {
    EncodeError(error.to_string())
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("size", &self.size).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use openh264::decoder::Decoder;
    use openh264::formats::YUVSource;

    use super::*;
    use crate::raster::tests::halves;

    /// The stream that a picture's packets are put together to again.
    fn put_together(picture: &Picture) -> Vec<u8> {
        let mut stream = Vec::new();
        for payload in &picture.payloads {
            assert!(payload.len() <= MAX_PAYLOAD);
            if payload[0] & 0x1f != FU_A {
                stream.extend([0, 0, 0, 1]);
                stream.extend(payload);
                continue;
            }
            if payload[1] & 0x80 != 0 {
                stream.extend([0, 0, 0, 1, payload[0] & 0xe0 | payload[1] & 0x1f]);
            }
            stream.extend(&payload[2..]);
        }
        stream
    }

    #[test]
    fn what_is_encoded_and_packetized_is_the_same_picture_after_decoding() {
        let mut encoder = Encoder::new((640, 360), 15.0, 800_000).unwrap();
        let mut decoder = Decoder::new().unwrap();
        let (red, blue) = ([200, 30, 30], [30, 30, 200]);
        for number in 0..30 {
            let picture = halves(640, 360, red, blue);
            let encoded = encoder.encode(&picture, number * 66, number == 20).unwrap();
            assert_eq!(encoded.is_key, number == 0 || number == 20, "{number}");
            let stream = put_together(&encoded);
            let Some(decoded) = decoder.decode(&stream).unwrap() else { continue };
            assert_eq!(decoded.dimensions(), (640, 360));
            let mut rgb = vec![0; 640 * 360 * 3];
            decoded.write_rgb8(&mut rgb);
            for (x, colour) in [(160, red), (480, blue)] {
                let seen = &rgb[(180 * 640 + x) * 3..][..3];
                assert!(seen.iter().zip(colour).all(|(a, b)| a.abs_diff(b) < 12), "{number}: {seen:?}");
            }
        }
    }

    #[test]
    fn a_picture_of_another_size_is_refused_and_noise_goes_in_pieces() {
        let mut encoder = Encoder::new((320, 180), 15.0, 4_000_000).unwrap();
        assert!(encoder.encode(&halves(322, 180, [0; 3], [9; 3]), 0, false).is_err());
        let noise = (0..320 * 180 * 3).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let encoded = encoder.encode(&Raster::new(320, 180, noise).unwrap(), 0, false).unwrap();
        assert!(encoded.payloads.len() > 5 && encoded.is_key);
        assert!(encoded.payloads.iter().any(|payload| payload[0] & 0x1f == FU_A));
    }
}
