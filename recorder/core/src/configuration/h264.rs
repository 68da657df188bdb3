//! `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 section 5.3.3).

use veche_sfu_core::rtp::bits::BitReader;
use veche_sfu_core::rtp::h264::NAL_SPS;

use super::{parameter_sets, write_sets};

/// A picture parameter set (ITU-T H.264 table 7-1).
const NAL_PPS: u8 = 8;

/// The kinds of parameter sets.
pub(super) const SETS: [u8; 2] = [NAL_SPS, NAL_PPS];

pub(super) fn record(frame: &[u8]) -> Option<Vec<u8>> {
    let of_kind = |kind| move |unit: &[u8]| unit.first().is_some_and(|header| header & 0x1f == kind);
    let (sequences, pictures) =
        (parameter_sets(frame, of_kind(NAL_SPS)), parameter_sets(frame, of_kind(NAL_PPS)));
    let [_, profile, compatible, level, ..] = **sequences.first()? else { return None };
    pictures.first()?;
    // Lengths before units have four bytes: one less is written.
    let mut out = vec![1, profile, compatible, level, 0xfc | 3, 0xe0 | sequences.len() as u8];
    write_sets(&sequences, &mut out);
    out.push(pictures.len() as u8);
    write_sets(&pictures, &mut out);
    if matches!(profile, 100 | 110 | 122 | 144) {
        let (chroma, luma_depth, chroma_depth) = chroma(&sequences[0][1..])?;
        out.extend([0xfc | chroma, 0xf8 | luma_depth, 0xf8 | chroma_depth, 0]);
    }
    Some(out)
}

/// How colours are stored, and how many bits beyond eight samples have (ITU-T H.264 section 7.3.2.1.1).
fn chroma(sequence: &[u8]) -> Option<(u8, u8, u8)> {
    let mut reader = BitReader::escaped(sequence);
    reader.skip(24)?;
    reader.exp_golomb()?;
    let format = reader.exp_golomb()?;
    if format == 3 {
        reader.skip(1)?;
    }
    let mut next = || reader.exp_golomb().filter(|depth| *depth < 8);
    Some((u8::try_from(format).ok().filter(|format| *format < 4)?, next()? as u8, next()? as u8))
}
