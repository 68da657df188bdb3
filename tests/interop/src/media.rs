//! Media that can be recognised: each packet carries its number and a pattern that follows from it.

use bytes::Bytes;
use rtc::rtp;

/// Payload types that the client offers.
pub const OPUS: u8 = 111;
/// VP8.
pub const VP8: u8 = 96;
/// Packets of one picture.
pub const PACKETS_PER_PICTURE: u32 = 2;
/// A key frame comes this often, in pictures.
const KEY_FRAME_INTERVAL: u32 = 15;
/// The length of the VP8 descriptor with all its optional fields.
const DESCRIPTOR_LEN: usize = 6;
/// The length of a VP8 frame tag with start code and size.
const KEY_FRAME_HEADER: [u8; 10] = [0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00];

/// What a payload tells when it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// The number that the sender gave the packet.
    pub number: u32,
    /// Of video: the number of the picture in the descriptor.
    pub picture_id: Option<u16>,
    /// The packet starts a VP8 key frame.
    pub key_frame: bool,
}

/// A packet of Opus: every one of 20 ms.
pub fn audio(number: u32, ssrc: u32) -> rtp::Packet {
    let header = header(OPUS, number, 960 * number, ssrc, number == 0);
    rtp::Packet { header, payload: pattern(number).into() }
}

/// A packet of VP8, with the descriptor that browsers send: 30 pictures a second.
pub fn video(number: u32, ssrc: u32) -> rtp::Packet {
    let (picture, place) = (number / PACKETS_PER_PICTURE, number % PACKETS_PER_PICTURE);
    let (start, key) = (place == 0, picture.is_multiple_of(KEY_FRAME_INTERVAL));
    let [high, low] = (picture as u16 | 0x8000).to_be_bytes();
    let key_idx = (picture / KEY_FRAME_INTERVAL) as u8 & 0x1f;
    let mut payload = vec![0x80 | u8::from(start) << 4, 0xf0, high, low, picture as u8, key_idx];
    if start && key {
        payload.extend(KEY_FRAME_HEADER);
    } else if start {
        payload.extend([0x31, 0x02, 0x00]);
    }
    payload.extend(pattern(number));
    let header = header(VP8, number, 3000 * picture, ssrc, place + 1 == PACKETS_PER_PICTURE);
    rtp::Packet { header, payload: payload.into() }
}

/// Reads an audio payload; `None` when it is not what was sent.
pub fn read_audio(payload: &Bytes) -> Option<Read> {
    Some(Read { number: number(payload)?, picture_id: None, key_frame: false })
}

/// Reads a video payload; `None` when anything but the numbers in the descriptor is not what was sent.
pub fn read_video(payload: &Bytes) -> Option<Read> {
    let (descriptor, rest) = payload.split_first_chunk::<DESCRIPTOR_LEN>()?;
    let start = descriptor[0] & 0x10 != 0;
    let key_frame = start && rest.starts_with(&KEY_FRAME_HEADER);
    let header_len = if key_frame { KEY_FRAME_HEADER.len() } else { 3 * usize::from(start) };
    let picture_id = Some(u16::from_be_bytes([descriptor[2], descriptor[3]]) & 0x7fff);
    Some(Read { number: number(rest.get(header_len..)?)?, picture_id, key_frame })
}

fn header(payload_type: u8, number: u32, timestamp: u32, ssrc: u32, marker: bool) -> rtp::header::Header {
    rtp::header::Header {
        version: 2,
        marker,
        payload_type,
        // Close below the end of their ranges, so that both wrap soon.
        sequence_number: (number as u16).wrapping_add(65_500),
        timestamp: timestamp.wrapping_add(u32::MAX - 9000),
        ssrc,
        ..Default::default()
    }
}

/// The number of a packet, and bytes that follow from it; their count does too.
fn pattern(number: u32) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend((0..100 + number % 900).map(|at| (at ^ number.wrapping_mul(31)) as u8));
    bytes
}

fn number(bytes: &[u8]) -> Option<u32> {
    let number = u32::from_be_bytes(*bytes.first_chunk()?);
    (number < 1 << 20 && pattern(number) == bytes).then_some(number)
}
