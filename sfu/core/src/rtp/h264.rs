//! H264 payloads (RFC 6184): which NAL units a packet has, and the size in a sequence parameter set.

use super::bits::BitReader;

/// A slice of a picture that refers to no other (ITU-T H.264 table 7-1).
pub const NAL_IDR: u8 = 5;
/// A sequence parameter set.
pub const NAL_SPS: u8 = 7;
/// The start of a picture.
const NAL_ACCESS_UNIT_DELIMITER: u8 = 9;
/// Several units in one packet (RFC 6184 section 5.7.1), and the same with decoding order numbers.
const STAP_A: u8 = 24;
const STAP_B: u8 = 25;
/// A part of a unit (RFC 6184 section 5.8), and the same with a decoding order number.
const FU_A: u8 = 28;
const FU_B: u8 = 29;

/// A NAL unit, or a part of one, in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nal<'a> {
    /// Its type, 1 to 23.
    pub kind: u8,
    /// The packet has its start.
    pub start: bool,
    /// What follows its header.
    pub body: &'a [u8],
}

/// What one packet tells of its picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct H264Packet {
    /// A sequence parameter set starts in it, as one does in front of each key frame of a browser.
    pub parameter_set: bool,
    /// The first slice of an IDR picture starts in it.
    pub idr_start: bool,
    /// A picture may start with it: it has an access unit delimiter, a parameter set or a first slice. With parameter
    /// sets in packets of their own, that is so for more than one packet of a picture.
    pub picture_start: bool,
    /// The size in the sequence parameter set.
    pub size: Option<(u16, u16)>,
}

impl H264Packet {
    /// Reads the units of an RTP payload. Under end-to-end encryption that leaves unit headers and parameter sets
    /// clear this works as ever; otherwise nothing, or nonsense, is seen, but never out of bounds.
    pub fn read(payload: &[u8]) -> Self {
        let mut packet = Self::default();
        for nal in nal_units(payload).filter(|nal| nal.start) {
            // first_mb_in_slice is 0, in Exp-Golomb code a single 1, in the first slice of a picture.
            let first_slice =
                (1..=NAL_IDR).contains(&nal.kind) && nal.body.first().is_some_and(|b| b & 0x80 != 0);
            match nal.kind {
                NAL_SPS => {
                    packet.parameter_set = true;
                    packet.size = packet.size.or_else(|| sequence_size(nal.body));
                }
                NAL_IDR => packet.idr_start |= first_slice,
                _ => {}
            }
            packet.picture_start |= first_slice || matches!(nal.kind, NAL_SPS | NAL_ACCESS_UNIT_DELIMITER);
        }
        packet
    }
}

/// The units of an RTP payload: one, several, or a part of one. A unit that overruns the payload ends them.
pub fn nal_units(payload: &[u8]) -> NalUnits<'_> {
    let Some((&header, body)) = payload.split_first() else { return NalUnits::default() };
    let kind = header & 0x1f;
    match kind {
        1..=23 => NalUnits { single: Some(Nal { kind, start: true, body }), aggregated: &[] },
        STAP_A => NalUnits { single: None, aggregated: body },
        STAP_B => NalUnits { single: None, aggregated: body.get(2..).unwrap_or_default() },
        FU_A | FU_B => {
            let Some((&fragment, rest)) = body.split_first() else { return NalUnits::default() };
            let body = if kind == FU_B { rest.get(2..).unwrap_or_default() } else { rest };
            let single = Nal { kind: fragment & 0x1f, start: fragment & 0x80 != 0, body };
            NalUnits { single: Some(single), aggregated: &[] }
        }
        _ => NalUnits::default(),
    }
}

/// The iterator of [`nal_units`].
#[derive(Clone, Debug, Default)]
pub struct NalUnits<'a> {
    single: Option<Nal<'a>>,
    aggregated: &'a [u8],
}

impl<'a> Iterator for NalUnits<'a> {
    type Item = Nal<'a>;

    fn next(&mut self) -> Option<Nal<'a>> {
        if let Some(nal) = self.single.take() {
            return Some(nal);
        }
        let (&len, rest) = std::mem::take(&mut self.aggregated).split_first_chunk()?;
        let (unit, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(len)))?;
        self.aggregated = rest;
        let (&header, body) = unit.split_first()?;
        Some(Nal { kind: header & 0x1f, start: true, body })
    }
}

/// The size of the pictures, cropped, that a sequence parameter set describes (ITU-T H.264 section 7.3.2.1.1).
/// `body` is what follows the unit's header, with its emulation prevention bytes.
pub fn sequence_size(body: &[u8]) -> Option<(u16, u16)> {
    let mut reader = BitReader::escaped(body);
    let profile = reader.bits(8)?;
    reader.skip(16)?;
    reader.exp_golomb()?;
    let chroma_array_type = read_chroma(&mut reader, profile)?;
    reader.exp_golomb()?;
    skip_picture_order(&mut reader)?;
    // max_num_ref_frames and gaps_in_frame_num_value_allowed_flag
    reader.exp_golomb()?;
    reader.skip(1)?;
    let width_in_blocks = reader.exp_golomb()?.checked_add(1)?;
    let height_in_units = reader.exp_golomb()?.checked_add(1)?;
    let frames_only = reader.bit()?;
    if !frames_only {
        reader.skip(1)?;
    }
    reader.skip(1)?;
    let lines = if frames_only { 1 } else { 2 };
    let mut width = width_in_blocks.checked_mul(16)?;
    let mut height = height_in_units.checked_mul(16 * lines)?;
    if reader.bit()? {
        let (unit_x, unit_y) = match chroma_array_type {
            1 => (2, 2 * lines),
            2 => (2, lines),
            _ => (1, lines),
        };
        let mut crop = |unit: u32| reader.exp_golomb()?.checked_add(reader.exp_golomb()?)?.checked_mul(unit);
        width = width.checked_sub(crop(unit_x)?)?;
        height = height.checked_sub(crop(unit_y)?)?;
    }
    Some((u16::try_from(width).ok()?, u16::try_from(height).ok()?))
}

/// Returns ChromaArrayType.
fn read_chroma(reader: &mut BitReader<'_>, profile: u32) -> Option<u32> {
    if !matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        return Some(1);
    }
    let format = reader.exp_golomb()?;
    let separate_planes = format == 3 && reader.bit()?;
    // Bit depths, and qpprime_y_zero_transform_bypass_flag.
    reader.exp_golomb()?;
    reader.exp_golomb()?;
    reader.skip(1)?;
    if reader.bit()? {
        for list in 0..if format == 3 { 12 } else { 8 } {
            if reader.bit()? {
                skip_scaling_list(reader, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(if separate_planes { 0 } else { format })
}

/// ITU-T H.264 section 7.3.2.1.1.1.
fn skip_scaling_list(reader: &mut BitReader<'_>, len: u32) -> Option<()> {
    let mut last = 8i32;
    for _ in 0..len {
        let delta = reader.signed_exp_golomb()?;
        let next = last.wrapping_add(delta).rem_euclid(256);
        if next == 0 {
            break;
        }
        last = next;
    }
    Some(())
}

fn skip_picture_order(reader: &mut BitReader<'_>) -> Option<()> {
    match reader.exp_golomb()? {
        0 => {
            reader.exp_golomb()?;
        }
        1 => {
            reader.skip(1)?;
            reader.exp_golomb()?;
            reader.exp_golomb()?;
            let frames = reader.exp_golomb()?;
            if frames > 255 {
                return None;
            }
            for _ in 0..frames {
                reader.exp_golomb()?;
            }
        }
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::mutation::{damaged, hex};

    /// Sequence parameter sets that x264 makes.
    const SPS_HIGH_322X182: &str = "6764000bacb60a8cf1136022000003000200000300291e2855c0";
    const SPS_BASELINE_322X182: &str = "6742c00bd901519e226c0440000003004000000503c50a92";
    const SPS_BASELINE_1920X1080: &str = "6742c028d900780227e5c044000003000400000300503c60c920";
    const SPS_444_1920X1080: &str = "67f40028919b280f0044fc4e022000000300200000030281e30632c0";
    const SPS_444_640X362: &str = "67f40016919b281405ff3e022000000300200000030281e2c5b2c0";
    const SPS_INTERLACED_MATRICES_720X576: &str = "6764001eacd940b424d8088000000300800000190f8a14cb";
    const PPS: &str = "68eac04d2c8b";
    /// The starts of two IDR slices and of a P slice.
    const IDR_FIRST: &str = "65888404affeb5df32c544f1fb75e280";
    const IDR_SECOND: &str = "6503f888404afffeb5df32c544f22fc0";
    const P_FIRST: &str = "419a3b104aff39fe0be2df150024987595a9159a";

    fn aggregate(units: &[&str]) -> Vec<u8> {
        let mut payload = vec![0x78];
        for unit in units {
            let unit = hex(unit);
            payload.extend((unit.len() as u16).to_be_bytes());
            payload.extend(unit);
        }
        payload
    }

    #[test]
    fn sizes_of_a_real_encoder_are_cropped() {
        let size = |sps: &str| sequence_size(&hex(sps)[1..]);
        assert_eq!(size(SPS_HIGH_322X182), Some((322, 182)));
        assert_eq!(size(SPS_BASELINE_322X182), Some((322, 182)));
        assert_eq!(size(SPS_BASELINE_1920X1080), Some((1920, 1080)));
        assert_eq!(size(SPS_444_1920X1080), Some((1920, 1080)));
        assert_eq!(size(SPS_444_640X362), Some((640, 362)));
        assert_eq!(size(SPS_INTERLACED_MATRICES_720X576), Some((720, 576)));
        assert_eq!(size(&SPS_HIGH_322X182[..16]), None);
    }

    #[test]
    fn scaling_lists_are_skipped() {
        // Deltas of 0 and, in Exp-Golomb code 000010001, of -8: the next scale is 0, which ends the list.
        let mut reader = BitReader::new(&[0b1000_0100, 0b0111_1111]);
        assert_eq!(skip_scaling_list(&mut reader, 16), Some(()));
        assert_eq!(reader.bits(6), Some(0b11_1111), "no bit too many");
        assert_eq!(skip_scaling_list(&mut BitReader::new(&[0xff; 2]), 16), Some(()));
        assert_eq!(skip_scaling_list(&mut BitReader::new(&[0xff; 2]), 64), None, "cut off");
    }

    #[test]
    fn parameter_sets_and_first_slices_are_found_in_every_form_of_packet() {
        let key =
            H264Packet { parameter_set: true, idr_start: false, picture_start: true, size: Some((322, 182)) };
        assert_eq!(H264Packet::read(&hex(SPS_HIGH_322X182)), key);
        assert_eq!(H264Packet::read(&aggregate(&[SPS_HIGH_322X182, PPS])), key);
        let whole = H264Packet::read(&aggregate(&[SPS_HIGH_322X182, PPS, IDR_FIRST]));
        assert_eq!(whole, H264Packet { idr_start: true, ..key });

        let idr = H264Packet { idr_start: true, picture_start: true, ..H264Packet::default() };
        assert_eq!(H264Packet::read(&hex(IDR_FIRST)), idr);
        assert_eq!(H264Packet::read(&hex(&format!("7c85{}", &IDR_FIRST[2..]))), idr);
        assert_eq!(H264Packet::read(&hex(&format!("7c05{}", &IDR_FIRST[2..]))), H264Packet::default());
        assert_eq!(H264Packet::read(&hex(IDR_SECOND)), H264Packet::default());
        let delta = H264Packet { picture_start: true, ..H264Packet::default() };
        assert_eq!(H264Packet::read(&hex(P_FIRST)), delta);
        assert_eq!(H264Packet::read(&hex(PPS)), H264Packet::default());
    }

    #[test]
    fn damaged_payloads_never_panic() {
        let samples = [
            hex(SPS_HIGH_322X182),
            hex(SPS_444_640X362),
            hex(SPS_INTERLACED_MATRICES_720X576),
            aggregate(&[SPS_BASELINE_322X182, PPS, IDR_FIRST]),
            hex(&format!("7c85{IDR_FIRST}")),
        ];
        let samples: Vec<&[u8]> = samples.iter().map(|s| &s[..]).collect();
        damaged(11, 20_000, &samples, |payload| {
            let _ = H264Packet::read(payload);
            let _ = sequence_size(payload);
        });
    }
}
