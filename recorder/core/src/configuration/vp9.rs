//! `VPCodecConfigurationRecord` (VP codec ISO media file format binding), without the version and flags of its box.

use veche_sfu_core::rtp::bits::BitReader;

const SYNC_CODE: u32 = 0x49_8342;

/// The largest pictures of the levels 1, 1.1, 2, 2.1, 3, 3.1, 4, 5 and 6, in samples (VP9 levels of the WebM project).
const LEVELS: [(u32, u8); 9] = [
    (36_864, 10),
    (73_728, 11),
    (122_880, 20),
    (245_760, 21),
    (552_960, 30),
    (983_040, 31),
    (2_228_224, 40),
    (8_912_896, 50),
    (35_651_584, 60),
];

/// Reads the uncompressed header of a key frame (VP9 bitstream specification section 6.2).
pub(super) fn record(frame: &[u8]) -> Option<Vec<u8>> {
    let mut reader = BitReader::new(frame);
    if reader.bits(2)? != 2 {
        return None;
    }
    let profile = u8::from(reader.bit()?) | u8::from(reader.bit()?) << 1;
    if profile == 3 {
        reader.skip(1)?;
    }
    // Neither a frame that is known already nor one that needs others.
    if reader.bit()? || reader.bit()? {
        return None;
    }
    reader.skip(2)?;
    if reader.bits(24)? != SYNC_CODE {
        return None;
    }
    let depth = match profile >= 2 {
        false => 8,
        true if reader.bit()? => 12,
        true => 10,
    };
    let (chroma, full_range, colours) = read_colours(&mut reader, profile)?;
    let (width, height) = (reader.bits(16)? + 1, reader.bits(16)? + 1);
    let coding = depth << 4 | chroma << 1 | u8::from(full_range);
    let [primaries, transfer, matrix] = colours;
    Some(vec![profile, level(width, height), coding, primaries, transfer, matrix, 0, 0])
}

/// The lowest level with pictures of this size.
pub(super) fn level(width: u32, height: u32) -> u8 {
    let samples = width.saturating_mul(height);
    LEVELS.iter().find(|(most, _)| samples <= *most).map_or(62, |(_, level)| *level)
}

/// How much smaller colours are, whether samples use their whole range; primaries, transfer and matrix by the numbers of
/// ISO/IEC 23091-2.
fn read_colours(reader: &mut BitReader<'_>, profile: u8) -> Option<(u8, bool, [u8; 3])> {
    let (halved, half, full) = (1, 2, 3);
    let space = reader.bits(3)?;
    if space == 7 {
        if profile & 1 == 1 {
            reader.skip(1)?;
        }
        return Some((full, true, [1, 13, 0]));
    }
    let full_range = reader.bit()?;
    let chroma = if profile & 1 == 0 {
        halved
    } else {
        let both = (reader.bit()?, reader.bit()?);
        reader.skip(1)?;
        match both {
            (true, true) => halved,
            (true, false) => half,
            _ => full,
        }
    };
    let colours = match space {
        1 | 3 => [6; 3],
        2 => [1; 3],
        4 => [7; 3],
        5 => [9, 14, 9],
        _ => [2; 3],
    };
    Some((chroma, full_range, colours))
}
