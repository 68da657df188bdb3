//! The same record for VP8, of which the binding says as much as of VP9.

use super::vp9;

/// Reads the uncompressed part of a key frame (RFC 6386 section 9.1).
pub(super) fn record(frame: &[u8]) -> Option<Vec<u8>> {
    let &[tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1] = frame.first_chunk()? else { return None };
    if tag & 1 != 0 {
        return None;
    }
    // Above the size are two bits of how it is to be scaled.
    let size = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    let (version, level) = (tag >> 1 & 7, vp9::level(size(w0, w1), size(h0, h1)));
    // Samples have eight bits, colours half the size; which colours they are is not said.
    Some(vec![version, level, 0x82, 2, 2, 2, 0, 0])
}
