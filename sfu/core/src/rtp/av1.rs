//! AV1 payloads (RTP Payload Format For AV1, section 4): the aggregation header and the OBUs behind it.

use super::bits::BitReader;

/// A sequence header (AV1 specification section 6.2.2).
const OBU_SEQUENCE_HEADER: u8 = 1;
/// The types with which a frame can start: temporal delimiter, frame header, frame.
const OBU_TEMPORAL_DELIMITER: u8 = 2;
const OBU_FRAME_HEADER: u8 = 3;
const OBU_FRAME: u8 = 6;

/// What one packet tells of its frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Av1Packet {
    /// N: the first packet of a coded video sequence, that is of a key frame.
    pub sequence_start: bool,
    /// A frame starts with it, as far as the types of its OBUs tell.
    pub frame_start: bool,
    /// The layers of the first OBU that names them: temporal and spatial.
    pub layer: Option<(u8, u8)>,
    /// The largest size of the sequence, from its header.
    pub size: Option<(u16, u16)>,
}

impl Av1Packet {
    /// Reads an RTP payload. The aggregation header stays clear under end-to-end encryption; what it wraps may be
    /// opaque, and then the layers and the size may be absent or nonsense: the dependency descriptor knows better.
    pub fn read(payload: &[u8]) -> Self {
        let Some(&aggregation) = payload.first() else { return Self::default() };
        let continued = aggregation & 0x80 != 0;
        let mut packet = Self { sequence_start: aggregation & 0x08 != 0 && !continued, ..Self::default() };
        let mut elements = Elements::new(payload);
        if continued {
            // The rest of an OBU from the packet before.
            elements.next();
        }
        for (index, element) in elements.enumerate() {
            let Some(obu) = Obu::parse(element) else { break };
            packet.layer = packet.layer.or(obu.layer);
            let starter = matches!(
                obu.kind,
                OBU_SEQUENCE_HEADER | OBU_TEMPORAL_DELIMITER | OBU_FRAME_HEADER | OBU_FRAME
            );
            packet.frame_start |= starter && index == 0 && !continued;
            if obu.kind == OBU_SEQUENCE_HEADER {
                packet.size = packet.size.or_else(|| sequence_size(obu.body));
            }
        }
        packet
    }
}

/// The OBU elements of a payload: each with its length in front, but for the last where W counts them.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    bytes: &'a [u8],
    /// How many more there are; `None` when each has a length.
    count: Option<u8>,
}

impl<'a> Elements<'a> {
    /// Those of an RTP payload.
    pub fn new(payload: &'a [u8]) -> Self {
        let (aggregation, bytes) = payload.split_first().map_or((0, payload), |(&a, rest)| (a, rest));
        let count = aggregation >> 4 & 0x03;
        Self { bytes, count: (count != 0).then_some(count) }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let bytes = std::mem::take(&mut self.bytes);
        match &mut self.count {
            Some(0) => None,
            Some(1) => {
                self.count = Some(0);
                Some(bytes)
            }
            more => {
                if let Some(count) = more {
                    *count -= 1;
                }
                let (len, rest) = split_leb128(bytes)?;
                let (element, rest) = rest.split_at_checked(len)?;
                self.bytes = rest;
                Some(element)
            }
        }
    }
}

struct Obu<'a> {
    kind: u8,
    layer: Option<(u8, u8)>,
    body: &'a [u8],
}

impl<'a> Obu<'a> {
    /// Splits off the header (AV1 specification section 5.3.2).
    fn parse(element: &'a [u8]) -> Option<Self> {
        let (&header, mut body) = element.split_first()?;
        let mut layer = None;
        if header & 0x04 != 0 {
            let (&extension, rest) = body.split_first()?;
            layer = Some((extension >> 5, extension >> 3 & 0x03));
            body = rest;
        }
        if header & 0x02 != 0 {
            let (len, rest) = split_leb128(body)?;
            body = rest.get(..len).unwrap_or(rest);
        }
        Some(Self { kind: header >> 3 & 0x0f, layer, body })
    }
}

/// A number of up to eight bytes with seven bits each (AV1 specification section 4.10.5).
fn split_leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(8).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, bytes.get(index + 1..)?));
        }
    }
    None
}

/// The largest size of the frames that a sequence header describes (AV1 specification section 5.5).
fn sequence_size(body: &[u8]) -> Option<(u16, u16)> {
    let mut reader = BitReader::new(body);
    // seq_profile and still_picture
    reader.skip(3 + 1)?;
    let reduced = reader.bit()?;
    if reduced {
        reader.skip(5)?;
    } else {
        skip_operating_points(&mut reader)?;
    }
    let width_bits = reader.bits(4)? + 1;
    let height_bits = reader.bits(4)? + 1;
    let (width, height) = (reader.bits(width_bits)?, reader.bits(height_bits)?);
    Some(((width as u16).checked_add(1)?, (height as u16).checked_add(1)?))
}

fn skip_operating_points(reader: &mut BitReader<'_>) -> Option<()> {
    let mut delay_bits = None;
    if reader.bit()? {
        // timing_info: two numbers of 32 bits, equal_picture_interval
        reader.skip(64)?;
        if reader.bit()? {
            reader.exp_golomb()?;
        }
        if reader.bit()? {
            delay_bits = Some(reader.bits(5)? + 1);
            reader.skip(32 + 5 + 5)?;
        }
    }
    let display_delay = reader.bit()?;
    for _ in 0..=reader.bits(5)? {
        reader.skip(12)?;
        if reader.bits(5)? > 7 {
            reader.skip(1)?;
        }
        if let Some(bits) = delay_bits
            && reader.bit()?
        {
            reader.skip(2 * bits + 1)?;
        }
        if display_delay && reader.bit()? {
            reader.skip(4)?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::mutation::{damaged, hex};

    /// A sequence header and the start of a key frame of 322x182 from libaom, without their sizes.
    const SEQUENCE: &str = "08 000000043d06d4daf90040";
    const KEY_FRAME: &str = "30 1400a1f010b45df16fa1f0ee87ef52ad";
    /// The start of the frame after it.
    const DELTA_FRAME: &str = "30 01e0400000034f0010408305970440";

    #[test]
    fn the_first_packet_of_a_sequence_tells_its_size() {
        let expected =
            Av1Packet { sequence_start: true, frame_start: true, layer: None, size: Some((322, 182)) };
        assert_eq!(Av1Packet::read(&hex(&format!("28 0b {SEQUENCE} {KEY_FRAME}"))), expected, "counted");
        assert_eq!(
            Av1Packet::read(&hex(&format!("08 0b {SEQUENCE} 11 {KEY_FRAME}"))),
            expected,
            "with lengths"
        );
        assert_eq!(
            Av1Packet::read(&hex(&format!("18 0a 0a {}", &SEQUENCE[3..]))),
            expected,
            "with inner size"
        );
    }

    #[test]
    fn continuations_and_delta_frames_start_no_sequence() {
        let delta = Av1Packet::read(&hex(&format!("10 {DELTA_FRAME}")));
        assert_eq!(delta, Av1Packet { frame_start: true, ..Av1Packet::default() });
        let continued = Av1Packet::read(&hex(&format!("90 {KEY_FRAME}")));
        assert_eq!(continued, Av1Packet::default());
        assert_eq!(Av1Packet::read(&hex("98")), Av1Packet::default(), "N in a continuation");
        let layered = Av1Packet::read(&hex("10 34 48 01e04000"));
        assert_eq!(layered.layer, Some((2, 1)));
    }

    #[test]
    fn timing_and_operating_points_are_skipped() {
        // One operating point with decoder model and display delay; frame size fields of 9 and 8 bits.
        let bits = "000 0 0 1 00000000000000000000000000000001 00000000000000000000000000011110 1 1 1 01001 \
             00000000000000000000000000000001 01001 01001 1 00000 000000000000 01000 0 1 \
             0000000001 0000000001 0 1 0011 1000 0111 101000001 10110101 00000000";
        let bits: Vec<u8> = bits.bytes().filter(|b| !b.is_ascii_whitespace()).map(|b| b - b'0').collect();
        let bytes: Vec<u8> = bits
            .chunks(8)
            .map(|c| c.iter().enumerate().fold(0, |byte, (i, bit)| byte | bit << (7 - i)))
            .collect();
        assert_eq!(sequence_size(&bytes), Some((322, 182)));
    }

    #[test]
    fn lengths_of_many_bytes_are_read_and_endless_ones_refused() {
        assert_eq!(split_leb128(&[0xac, 0x02, 9]), Some((300, &[9][..])));
        assert_eq!(split_leb128(&[0x80; 8]), None);
        assert_eq!(split_leb128(&[0x80]), None);
    }

    #[test]
    fn damaged_payloads_never_panic() {
        let samples = [
            hex(&format!("28 0b {SEQUENCE} {KEY_FRAME}")),
            hex(&format!("08 0b {SEQUENCE} 11 {KEY_FRAME}")),
            hex("10 34 48 01e04000"),
        ];
        damaged(13, 20_000, &[&samples[0], &samples[1], &samples[2]], |payload| {
            let _ = Av1Packet::read(payload);
        });
    }
}
