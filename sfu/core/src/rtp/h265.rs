//! H265 payloads (RFC 7798): which NAL units a packet has, and the size in a sequence parameter set.

use super::bits::BitReader;

/// The first and the last type of slices from which decoding can begin (ITU-T H.265 table 7-1).
const NAL_IRAP: std::ops::RangeInclusive<u8> = 16..=23;
/// Slices with which one may begin to show their temporal layer and those above, or their own only.
const NAL_TSA_N: u8 = 2;
const NAL_TSA_R: u8 = 3;
const NAL_STSA_N: u8 = 4;
const NAL_STSA_R: u8 = 5;
/// The first type that is no slice.
const NAL_VPS: u8 = 32;
/// A sequence parameter set.
const NAL_SPS: u8 = 33;
/// The start of a picture.
const NAL_ACCESS_UNIT_DELIMITER: u8 = 35;
/// Several units in one packet (RFC 7798 section 4.4.2).
const AGGREGATION: u8 = 48;
/// A part of a unit (RFC 7798 section 4.4.3).
const FRAGMENT: u8 = 49;

/// A NAL unit, or a part of one, in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nal<'a> {
    /// Its type, 0 to 47.
    pub kind: u8,
    /// Its temporal layer.
    pub temporal_id: u8,
    /// The packet has its start.
    pub start: bool,
    /// What follows its header.
    pub body: &'a [u8],
}

/// What one packet tells of its picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct H265Packet {
    /// A video or sequence parameter set starts in it, as they do in front of each key frame of a browser.
    pub parameter_set: bool,
    /// The first slice of a picture from which decoding can begin starts in it.
    pub irap_start: bool,
    /// A picture may start with it: it has an access unit delimiter, a parameter set or a first slice. With parameter
    /// sets in packets of their own, that is so for more than one packet of a picture.
    pub picture_start: bool,
    /// The temporal layer.
    pub temporal_id: Option<u8>,
    /// From this picture on, nothing of its temporal layer and those above refers to anything of them from before it (TSA,
    /// ITU-T H.265 section 7.4.2.2).
    pub temporal_switch: bool,
    /// The same of its own temporal layer alone (STSA).
    pub temporal_step: bool,
    /// The size in the sequence parameter set.
    pub size: Option<(u16, u16)>,
}

impl H265Packet {
    /// Reads the units of an RTP payload, which must be packed without decoding order numbers
    /// (`sprop-max-don-diff=0`, as browsers do).
    pub fn read(payload: &[u8]) -> Self {
        let mut packet = Self::default();
        for nal in nal_units(payload) {
            packet.temporal_id = packet.temporal_id.or(Some(nal.temporal_id));
            packet.temporal_switch |= matches!(nal.kind, NAL_TSA_N | NAL_TSA_R);
            packet.temporal_step |= matches!(nal.kind, NAL_STSA_N | NAL_STSA_R);
            if !nal.start {
                continue;
            }
            // first_slice_segment_in_pic_flag
            let first_slice = nal.kind < NAL_VPS && nal.body.first().is_some_and(|b| b & 0x80 != 0);
            packet.irap_start |= first_slice && NAL_IRAP.contains(&nal.kind);
            packet.parameter_set |= matches!(nal.kind, NAL_VPS | NAL_SPS);
            packet.picture_start |=
                first_slice || matches!(nal.kind, NAL_VPS | NAL_SPS | NAL_ACCESS_UNIT_DELIMITER);
            if nal.kind == NAL_SPS {
                packet.size = packet.size.or_else(|| sequence_size(nal.body));
            }
        }
        packet
    }
}

/// The units of an RTP payload: one, several, or a part of one. A unit that overruns the payload ends them.
pub fn nal_units(payload: &[u8]) -> NalUnits<'_> {
    let Some(nal) = whole_unit(payload) else { return NalUnits::default() };
    match nal.kind {
        AGGREGATION => NalUnits { single: None, aggregated: nal.body },
        FRAGMENT => {
            let Some((&fragment, body)) = nal.body.split_first() else { return NalUnits::default() };
            let part = Nal { kind: fragment & 0x3f, start: fragment & 0x80 != 0, body, ..nal };
            NalUnits { single: Some(part), aggregated: &[] }
        }
        0..AGGREGATION => NalUnits { single: Some(nal), aggregated: &[] },
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
        whole_unit(unit)
    }
}

/// Splits off the header of two bytes: type (6 bits behind one that is 0), layer (6), temporal id plus 1 (3).
fn whole_unit(unit: &[u8]) -> Option<Nal<'_>> {
    let (&[first, second], body) = unit.split_first_chunk()?;
    Some(Nal { kind: first >> 1 & 0x3f, temporal_id: (second & 0x07).saturating_sub(1), start: true, body })
}

/// The size of the pictures, cropped, that a sequence parameter set describes (ITU-T H.265 section 7.3.2.2.1).
/// `body` is what follows the unit's header, with its emulation prevention bytes.
pub fn sequence_size(body: &[u8]) -> Option<(u16, u16)> {
    let mut reader = BitReader::escaped(body);
    reader.skip(4)?;
    let sub_layers = reader.bits(3)?;
    reader.skip(1)?;
    skip_profile_tier_level(&mut reader, sub_layers)?;
    reader.exp_golomb()?;
    let chroma_format = reader.exp_golomb()?;
    if chroma_format == 3 {
        reader.skip(1)?;
    }
    let mut width = reader.exp_golomb()?;
    let mut height = reader.exp_golomb()?;
    if reader.bit()? {
        let (unit_x, unit_y) = match chroma_format {
            1 => (2, 2),
            2 => (2, 1),
            _ => (1, 1),
        };
        let mut crop = |unit: u32| reader.exp_golomb()?.checked_add(reader.exp_golomb()?)?.checked_mul(unit);
        width = width.checked_sub(crop(unit_x)?)?;
        height = height.checked_sub(crop(unit_y)?)?;
    }
    Some((u16::try_from(width).ok()?, u16::try_from(height).ok()?))
}

/// ITU-T H.265 section 7.3.3; `sub_layers` is their number less one.
fn skip_profile_tier_level(reader: &mut BitReader<'_>, sub_layers: u32) -> Option<()> {
    const PROFILE_BITS: u32 = 88;
    const LEVEL_BITS: u32 = 8;
    reader.skip(PROFILE_BITS + LEVEL_BITS)?;
    let mut present = 0;
    for _ in 0..sub_layers {
        let (profile, level) = (reader.bit()?, reader.bit()?);
        present += if profile { PROFILE_BITS } else { 0 } + if level { LEVEL_BITS } else { 0 };
    }
    if sub_layers > 0 {
        // The flags are filled up to those of eight sub-layers.
        reader.skip(2 * (8 - sub_layers))?;
    }
    reader.skip(present)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::mutation::{damaged, hex};

    /// What x265 makes of pictures of 322x182.
    const VPS: &str = "40010c01ffff01600000030090000003000003003c959809";
    const SPS: &str = "42010101600000030090000003000003003ca00a480b9c9596566924caf0168080000003008000000504";
    const PPS: &str = "4401c172b46240";
    const IDR: &str = "2801af0556261c8d80717f0fe508040bffd2e453";
    const P: &str = "0201d01157843182a3233cfe69691b9d8f80e7d1";

    fn aggregate(units: &[&str]) -> Vec<u8> {
        let mut payload = vec![0x60, 0x01];
        for unit in units {
            let unit = hex(unit);
            payload.extend((unit.len() as u16).to_be_bytes());
            payload.extend(unit);
        }
        payload
    }

    #[test]
    fn the_size_of_a_real_encoder_is_cropped() {
        assert_eq!(sequence_size(&hex(SPS)[2..]), Some((322, 182)));
        assert_eq!(sequence_size(&hex(SPS)[2..16]), None);
    }

    #[test]
    fn sub_layers_are_skipped() {
        // Two sub-layers below the highest, one with profile and level, one with the level only.
        let mut bytes = vec![0; 12];
        bytes.extend([0b1101_0000, 0]);
        bytes.extend([0; 11 + 1 + 1]);
        let mut reader = BitReader::new(&bytes);
        assert_eq!(skip_profile_tier_level(&mut reader, 2), Some(()));
        assert_eq!(reader.bit(), None, "all is used up");
    }

    #[test]
    fn parameter_sets_and_first_slices_are_found_in_every_form_of_packet() {
        let sets = H265Packet {
            parameter_set: true,
            irap_start: false,
            picture_start: true,
            temporal_id: Some(0),
            size: Some((322, 182)),
            ..H265Packet::default()
        };
        assert_eq!(H265Packet::read(&aggregate(&[VPS, SPS, PPS])), sets);
        assert_eq!(H265Packet::read(&hex(VPS)), H265Packet { size: None, ..sets });
        assert_eq!(H265Packet::read(&hex(SPS)), sets);
        let whole = H265Packet::read(&aggregate(&[VPS, SPS, PPS, IDR]));
        assert_eq!(whole, H265Packet { irap_start: true, ..sets });

        let inside = H265Packet { temporal_id: Some(0), ..H265Packet::default() };
        let idr = H265Packet { irap_start: true, picture_start: true, ..inside };
        assert_eq!(H265Packet::read(&hex(IDR)), idr);
        assert_eq!(H265Packet::read(&hex(&format!("620194{}", &IDR[4..]))), idr);
        assert_eq!(H265Packet::read(&hex(&format!("620114{}", &IDR[4..]))), inside);
        assert_eq!(H265Packet::read(&hex(P)), H265Packet { picture_start: true, ..inside });
        let upper = H265Packet::read(&hex(&P.replacen("0201", "0003", 1)));
        assert_eq!(upper.temporal_id, Some(2));
        let access = |first: &str| {
            let packet = H265Packet::read(&hex(&P.replacen("0201", first, 1)));
            (packet.temporal_switch, packet.temporal_step)
        };
        assert_eq!(
            [access("0402"), access("0a02"), access("0202")],
            [(true, false), (false, true), (false, false)]
        );
    }

    #[test]
    fn damaged_payloads_never_panic() {
        let samples = [hex(SPS), hex(IDR), aggregate(&[VPS, SPS, PPS, IDR]), hex(&format!("620194{IDR}"))];
        let samples: Vec<&[u8]> = samples.iter().map(|s| &s[..]).collect();
        damaged(12, 20_000, &samples, |payload| {
            let _ = H265Packet::read(payload);
            let _ = sequence_size(payload);
        });
    }
}
