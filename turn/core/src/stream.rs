//! Frames of a stream: STUN messages and ChannelData, each of which tells its length (RFC 8489 section 6.2.2, RFC 8656 section
//! 12.5).

use std::ops::ControlFlow;

use crate::wire::stream_frame_len;

/// The largest frame of a client that has no allocation: an authenticated request with long names fits.
pub const MAX_UNPROVEN_FRAME: usize = 2048;

/// The largest frame: all that fits in a relay's datagram, and its header.
pub const MAX_FRAME: usize = 66_000;

/// How many bytes tell the length.
const HEADER: usize = 4;

/// The stream cannot be understood any more, or its frame is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFrame;

/// The beginning of a frame whose rest is still to come; bounded by the largest frame.
#[derive(Debug, Default)]
pub struct Frames {
    partial: Vec<u8>,
}

impl Frames {
    /// Takes what came and hands over each whole frame; `most` is how large one may be now.
    pub fn take(
        &mut self,
        bytes: &[u8],
        most: impl Fn() -> usize,
        mut handle: impl FnMut(&[u8]),
    ) -> Result<(), BadFrame> {
        let handle = |frame: &[u8]| {
            handle(frame);
            ControlFlow::Continue(())
        };
        self.take_until(bytes, most, handle).map(|_| ())
    }

    /// The same until `handle` says that what follows are no frames any more: then that is returned.
    pub fn take_until<'a>(
        &mut self,
        mut bytes: &'a [u8],
        most: impl Fn() -> usize,
        mut handle: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<&'a [u8], BadFrame> {
        while !self.partial.is_empty() && !bytes.is_empty() {
            let wanted = match self.partial.first_chunk::<HEADER>() {
                None => HEADER,
                Some(header) => frame_len(*header, most())?,
            };
            let (mine, rest) = bytes.split_at(bytes.len().min(wanted.saturating_sub(self.partial.len())));
            self.partial.extend_from_slice(mine);
            bytes = rest;
            if let Some(header) = self.partial.first_chunk::<HEADER>()
                && self.partial.len() == frame_len(*header, most())?
            {
                // Few clients are in the middle of a frame: memory for it is not kept.
                if handle(&std::mem::take(&mut self.partial)).is_break() {
                    return Ok(bytes);
                }
            }
        }
        while let Some(header) = bytes.first_chunk::<HEADER>() {
            let Some((frame, rest)) = bytes.split_at_checked(frame_len(*header, most())?) else { break };
            bytes = rest;
            if handle(frame).is_break() {
                return Ok(bytes);
            }
        }
        self.partial.extend_from_slice(bytes);
        Ok(&[])
    }
}

fn frame_len(header: [u8; HEADER], most: usize) -> Result<usize, BadFrame> {
    stream_frame_len(header).filter(|len| *len <= most).ok_or(BadFrame)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn frame(random: &mut StdRng) -> Vec<u8> {
        let len = if random.random_bool(0.1) { 60_000 } else { random.random_range(0..1500usize) };
        if random.random_bool(0.5) {
            let len = len / 4 * 4;
            return [&[0, 1][..], &(len as u16).to_be_bytes(), &vec![7; 16 + len]].concat();
        }
        [&[0x40, 1][..], &(len as u16).to_be_bytes(), &vec![9; len.next_multiple_of(4)]].concat()
    }

    #[test]
    fn frames_come_out_whole_however_the_stream_is_cut() {
        for seed in 0..50 {
            let mut random = StdRng::seed_from_u64(seed);
            let frames: Vec<Vec<u8>> = (0..20).map(|_| frame(&mut random)).collect();
            let stream = frames.concat();
            let (mut reader, mut rest, mut got) = (Frames::default(), &stream[..], Vec::new());
            while !rest.is_empty() {
                let most = if random.random_bool(0.5) { 6 } else { 5000 };
                let (now, later) = rest.split_at(random.random_range(1..=most.min(rest.len())));
                reader.take(now, || MAX_FRAME, |frame| got.push(frame.to_vec())).unwrap();
                rest = later;
            }
            assert!(got == frames && reader.partial.is_empty(), "{seed}");
        }
    }

    #[test]
    fn what_follows_the_last_frame_is_left_however_the_stream_is_cut() {
        let [first, last] = [&b"\x40\x01\x00\x02ab\0\0"[..], b"\x40\x02\x00\x00"];
        let stream = [first, last, b"\xff rest"].concat();
        for cut in 0..stream.len() {
            let (mut reader, mut frames, mut rest) = (Frames::default(), Vec::new(), Vec::new());
            for piece in [&stream[..cut], &stream[cut..]] {
                if frames.last().is_some_and(|frame| frame == last) {
                    rest.extend_from_slice(piece);
                    continue;
                }
                let handle = |frame: &[u8]| {
                    frames.push(frame.to_vec());
                    if frame == last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                };
                rest.extend_from_slice(reader.take_until(piece, || MAX_FRAME, handle).unwrap());
            }
            assert_eq!(
                (&frames[..], &rest[..]),
                (&[first.to_vec(), last.to_vec()][..], &b"\xff rest"[..]),
                "{cut}"
            );
        }
    }

    #[test]
    fn what_is_no_frame_or_too_large_ends_the_stream() {
        let take = |bytes: &[u8], most| Frames::default().take(bytes, || most, |_| {});
        assert_eq!(take(&[0x16, 3, 1, 0], MAX_FRAME), Err(BadFrame));
        assert_eq!(take(b"GET / HTTP/1.1", MAX_UNPROVEN_FRAME), Err(BadFrame));
        assert_eq!(take(&[0, 1, 0x08, 0], MAX_UNPROVEN_FRAME), Err(BadFrame));
        assert_eq!(take(&[0, 1, 0x07, 0], MAX_UNPROVEN_FRAME), Ok(()));
        let mut slow = Frames::default();
        for byte in [0, 1, 0xff] {
            assert_eq!(slow.take(&[byte], || MAX_UNPROVEN_FRAME, |_| {}), Ok(()));
        }
        assert_eq!(slow.take(&[0xfc], || MAX_UNPROVEN_FRAME, |_| {}), Err(BadFrame));
    }
}
