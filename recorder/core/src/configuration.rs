//! What a decoder must know before the first frame, in the form that files keep it in; all of it stands in key frames.

mod av1;
mod h264;
mod h265;
#[cfg(test)]
mod tests;
mod vp8;
mod vp9;

use std::borrow::Cow;

use veche_sfu_core::media::Codec;

/// The configuration record for a stream that begins with this key frame, as [`crate::frames`] gives it: avcC, hvcC, av1C, or
/// vpcC without the head of its box. Empty where none is needed; `None` when the frame does not have what must be in it.
pub fn record(codec: Codec, key_frame: &[u8]) -> Option<Vec<u8>> {
    match codec {
        Codec::Opus => Some(Vec::new()),
        Codec::Vp8 => vp8::record(key_frame),
        Codec::Vp9 => vp9::record(key_frame),
        Codec::H264 => h264::record(key_frame),
        Codec::H265 => h265::record(key_frame),
        Codec::Av1 => av1::record(key_frame),
    }
}

/// What a sample of MP4 has of a frame of a track with this record: parameter sets that stand in the record do not stand in
/// samples, too (ISO/IEC 14496-15: `avc1` and `hvc1`). Others stay, so that nothing is lost to decoders.
pub fn sample<'a>(codec: Codec, record: &[u8], frame: &'a [u8]) -> Cow<'a, [u8]> {
    let is_set = |unit: &[u8]| match (codec, unit.first()) {
        (Codec::H264, Some(header)) => h264::SETS.contains(&(header & 0x1f)),
        (Codec::H265, Some(header)) => h265::SETS.contains(&(header >> 1 & 0x3f)),
        _ => false,
    };
    let is_known = |unit: &[u8]| {
        let mut set = Vec::new();
        is_set(unit) && {
            write_sets(&[unit], &mut set);
            record.windows(set.len()).any(|written| written == set)
        }
    };
    if !units(frame).any(is_known) {
        return Cow::Borrowed(frame);
    }
    let mut sample = Vec::with_capacity(frame.len());
    for unit in units(frame).filter(|unit| !is_known(unit)) {
        sample.extend_from_slice(&(unit.len() as u32).to_be_bytes());
        sample.extend_from_slice(unit);
    }
    // Nothing is no sample.
    if sample.is_empty() { Cow::Borrowed(frame) } else { Cow::Owned(sample) }
}

/// The units of a frame of H264 or H265, each without the length before it. One that overruns the frame ends them.
fn units(frame: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = frame;
    std::iter::from_fn(move || {
        let (&len, after) = rest.split_first_chunk()?;
        let (unit, after) = after.split_at_checked(u32::from_be_bytes(len) as usize)?;
        rest = after;
        Some(unit)
    })
}

/// Parameter sets of one kind, each once; as many as a record can count.
fn parameter_sets(frame: &[u8], is_kind: impl Fn(&[u8]) -> bool) -> Vec<&[u8]> {
    const MOST: usize = 31;
    let mut sets: Vec<&[u8]> = Vec::new();
    for unit in units(frame).filter(|unit| is_kind(unit) && u16::try_from(unit.len()).is_ok()) {
        if !sets.contains(&unit) && sets.len() < MOST {
            sets.push(unit);
        }
    }
    sets
}

/// Puts each parameter set behind its length.
fn write_sets(sets: &[&[u8]], out: &mut Vec<u8>) {
    for set in sets {
        out.extend_from_slice(&(set.len() as u16).to_be_bytes());
        out.extend_from_slice(set);
    }
}
