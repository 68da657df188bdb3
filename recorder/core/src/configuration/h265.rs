//! `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15 section 8.3.3).

use veche_sfu_core::rtp::bits::BitReader;

use super::{parameter_sets, write_sets};

/// Parameter sets of the video, of a sequence and of pictures (ITU-T H.265 table 7-1).
pub(super) const SETS: [u8; 3] = [32, 33, 34];

/// All parameter sets of a kind are in the record.
const COMPLETE: u8 = 0x80;

pub(super) fn record(frame: &[u8]) -> Option<Vec<u8>> {
    let sets =
        SETS.map(|kind| parameter_sets(frame, move |unit| unit.len() > 2 && unit[0] >> 1 & 0x3f == kind));
    if sets.iter().any(Vec::is_empty) {
        return None;
    }
    let sequence = Sequence::read(&sets[1][0][2..])?;
    let mut out = vec![1];
    out.extend(sequence.profile);
    // No least segmentation, no kind of parallelism, no frame rate is told.
    out.extend([
        0xf0,
        0,
        0xfc,
        0xfc | sequence.chroma,
        0xf8 | sequence.depths[0],
        0xf8 | sequence.depths[1],
        0,
        0,
    ]);
    // Lengths before units have four bytes: one less is written.
    out.push(sequence.sub_layers << 3 | u8::from(sequence.nested) << 2 | 3);
    out.push(SETS.len() as u8);
    for (kind, sets) in SETS.iter().zip(&sets) {
        out.push(COMPLETE | kind);
        out.extend((sets.len() as u16).to_be_bytes());
        write_sets(sets, &mut out);
    }
    Some(out)
}

/// What the record repeats of a sequence parameter set.
struct Sequence {
    /// Profile, compatibility, constraints and level: as they stand there.
    profile: [u8; 12],
    sub_layers: u8,
    nested: bool,
    chroma: u8,
    /// Bits beyond eight of luma and chroma.
    depths: [u8; 2],
}

impl Sequence {
    /// Reads what follows a unit's header (ITU-T H.265 section 7.3.2.2.1).
    fn read(body: &[u8]) -> Option<Self> {
        let mut reader = BitReader::escaped(body);
        reader.skip(4)?;
        let more_layers = reader.bits(3)?;
        let nested = reader.bit()?;
        let mut profile = [0; 12];
        for byte in &mut profile {
            *byte = reader.bits(8)? as u8;
        }
        skip_sub_layers(&mut reader, more_layers)?;
        reader.exp_golomb()?;
        let chroma = reader.exp_golomb().filter(|format| *format < 4)?;
        if chroma == 3 {
            reader.skip(1)?;
        }
        for _ in 0..2 {
            reader.exp_golomb()?;
        }
        if reader.bit()? {
            for _ in 0..4 {
                reader.exp_golomb()?;
            }
        }
        let mut depth = || reader.exp_golomb().filter(|depth| *depth < 8);
        let depths = [depth()? as u8, depth()? as u8];
        Some(Self { profile, sub_layers: more_layers as u8 + 1, nested, chroma: chroma as u8, depths })
    }
}

/// Profiles and levels of sub-layers (ITU-T H.265 section 7.3.3).
fn skip_sub_layers(reader: &mut BitReader<'_>, count: u32) -> Option<()> {
    let mut present = Vec::new();
    for _ in 0..count {
        present.push((reader.bit()?, reader.bit()?));
    }
    if count > 0 {
        reader.skip(2 * (8 - count))?;
    }
    for (profile, level) in present {
        reader.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    Some(())
}
