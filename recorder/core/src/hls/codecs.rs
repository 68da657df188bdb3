//! The names of codecs in playlists (RFC 6381): with profile and level, out of a track's configuration record.

use std::fmt::Write;

use veche_sfu_core::media::Codec;

use crate::container::Track;

/// Such as `avc1.42c01f`.
pub(super) fn name(track: &Track) -> String {
    let at = |index: usize| track.private.get(index).copied().unwrap_or_default();
    match track.codec {
        Codec::Opus => "opus".to_owned(),
        Codec::H264 => format!("avc1.{:02x}{:02x}{:02x}", at(1), at(2), at(3)),
        Codec::Vp8 => format!("vp08.{:02}.{:02}.{:02}", at(0), at(1), at(2) >> 4),
        Codec::Vp9 => format!("vp09.{:02}.{:02}.{:02}", at(0), at(1), at(2) >> 4),
        Codec::Av1 => {
            let (profile, level) = (at(1) >> 5, at(1) & 0x1f);
            let tier = if at(2) & 0x80 == 0 { 'M' } else { 'H' };
            let depth = match at(2) >> 5 & 3 {
                0 => 8,
                2 => 10,
                _ => 12,
            };
            format!("av01.{profile}.{level:02}{tier}.{depth:02}")
        }
        Codec::H265 => h265(&track.private),
    }
}

/// ISO/IEC 14496-15 annex E.3.
fn h265(record: &[u8]) -> String {
    let Some(&[profile, a, b, c, d, ref constraints @ .., level]) = record.get(1..13) else {
        return "hvc1".to_owned();
    };
    let space = ["", "A", "B", "C"][usize::from(profile >> 6)];
    let compatible = u32::from_be_bytes([a, b, c, d]).reverse_bits();
    let tier = if profile & 0x20 == 0 { 'L' } else { 'H' };
    let mut name = format!("hvc1.{space}{}.{compatible:X}.{tier}{level}", profile & 0x1f);
    let used = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    for byte in &constraints[..used] {
        let _ = write!(name, ".{byte:X}");
    }
    name
}
