//! Made-up media: payloads that begin as a server expects of their codec and end with the time they were sent.

use std::time::Duration;

use crate::stamp;

/// The shape of a made-up video stream. Key frames are no larger than others, so that the rate is what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VideoShape {
    /// Of the pictures.
    pub size: (u16, u16),
    /// Frames in a second.
    pub rate: u32,
    /// Packets of a frame.
    pub packets: u32,
    /// Bytes of a payload.
    pub payload: usize,
}

/// VP8's payload descriptor with a picture id of 15 bits (RFC 7741 section 4.2) and the header of a key frame
/// (RFC 6386 section 9.1) leave this much of the smallest payload for anything else.
pub const MIN_PAYLOAD: usize = 4 + 10 + stamp::LEN;

/// Writes the payloads of VP8 frames.
#[derive(Debug)]
pub struct Video {
    shape: VideoShape,
    picture: u16,
    key_wanted: bool,
}

impl Video {
    /// A stream whose picture ids begin anywhere.
    pub fn new(shape: VideoShape, first_picture: u16) -> Self {
        Self { shape, picture: first_picture & 0x7fff, key_wanted: true }
    }

    /// From one frame to the next.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.shape.rate.max(1)
    }

    /// The next frame will be a key frame.
    pub fn want_key_frame(&mut self) {
        self.key_wanted = true;
    }

    /// Begins a frame and says how many packets it has.
    pub fn packets(&self) -> u32 {
        self.shape.packets
    }

    /// Appends the payload of one packet of the frame.
    pub fn write(&mut self, index: u32, nanos: u64, out: &mut Vec<u8>) {
        let start = out.len();
        let [high, low] = self.picture.to_be_bytes();
        out.extend_from_slice(&[if index == 0 { 0x90 } else { 0x80 }, 0x80, 0x80 | high, low]);
        if index == 0 && self.key_wanted {
            out.extend_from_slice(&[0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a]);
            out.extend_from_slice(&self.shape.size.0.to_le_bytes());
            out.extend_from_slice(&self.shape.size.1.to_le_bytes());
        } else if index == 0 {
            out.extend_from_slice(&[0x11, 0x02, 0x00]);
        }
        out.resize(start + self.shape.payload.max(MIN_PAYLOAD), index as u8);
        stamp::write(nanos, &mut out[start..]);
        if index + 1 == self.shape.packets {
            self.picture = (self.picture + 1) & 0x7fff;
            self.key_wanted = false;
        }
    }
}

/// From one packet of a voice to the next.
pub const VOICE_INTERVAL: Duration = Duration::from_millis(20);

/// Appends an Opus payload of 20 ms (RFC 6716 section 3.1: CELT, full band, mono, one frame).
pub fn write_voice(len: usize, nanos: u64, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(0xf8);
    out.resize(start + len.max(1 + stamp::LEN), 0x55);
    stamp::write(nanos, &mut out[start..]);
}

#[cfg(test)]
mod tests {
    use veche_sfu_core::media::Codec;
    use veche_sfu_core::rtp::{FrameInfo, FrameState, RtpHeader, Vp8Descriptor};

    use super::*;

    #[test]
    fn a_server_sees_key_frames_where_they_are_wanted() {
        let mut video =
            Video::new(VideoShape { size: (640, 360), rate: 30, packets: 2, payload: 100 }, 0x7fff);
        let header = RtpHeader::parse(&[0x80, 0x60, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]).unwrap();
        let mut ids = Vec::new();
        for frame in 0..4 {
            if frame == 3 {
                video.want_key_frame();
            }
            for index in 0..video.packets() {
                let mut payload = Vec::new();
                video.write(index, 77, &mut payload);
                assert_eq!((payload.len(), stamp::read(&payload)), (100, Some(77)));
                let info = FrameInfo::read(Codec::Vp8, &header, &payload, None, &mut FrameState::default());
                assert_eq!(info.start_of_frame, index == 0);
                assert_eq!(info.key_frame, index == 0 && (frame == 0 || frame == 3), "{frame}");
                assert_eq!(info.size.is_some(), info.key_frame);
                ids.push(Vp8Descriptor::parse(&payload).unwrap().picture_id.unwrap().value);
            }
        }
        assert_eq!(ids, [0x7fff, 0x7fff, 0, 0, 1, 1, 2, 2]);
    }
}
