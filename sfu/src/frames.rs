//! Framing of packets over TCP: a length of two bytes before each (RFC 4571 section 2).

use std::io::{self, Read};

/// The largest frame that is taken. WebRTC endpoints keep their packets below a path's MTU over TCP too.
pub(crate) const MAX_FRAME: usize = 4096;

/// The length in front of each frame.
pub(crate) const HEADER: usize = 2;

/// How much of a connection may have been read before it is handed over: a first request fits, with the longest names.
pub const MAX_EARLY: usize = 2048;

/// Two of the largest frames: a whole one always fits behind the rest of another.
const CAPACITY: usize = 2 * (HEADER + MAX_FRAME);

/// The first frame of a stream, without its length, when all of it is there.
pub fn whole_frame(stream: &[u8]) -> Option<&[u8]> {
    let (header, rest) = stream.split_first_chunk::<HEADER>()?;
    rest.get(..usize::from(u16::from_be_bytes(*header)))
}

/// What arrived of a stream and is not yet consumed; bounded.
#[derive(Debug)]
pub(crate) struct FrameReader {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

/// The other side announced a frame larger than [`MAX_FRAME`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Oversized;

impl FrameReader {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; CAPACITY].into(), start: 0, end: 0 }
    }

    /// Reads once, as much as there is room for. 0 means the end of the stream; all frames must have been taken by
    /// [`FrameReader::next_frame`] before, so that there is room.
    pub(crate) fn fill(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let read = stream.read(&mut self.buffer[self.end..])?;
        self.end += read;
        Ok(read)
    }

    /// The next whole frame, without its length.
    pub(crate) fn next_frame(&mut self) -> Result<Option<&mut [u8]>, Oversized> {
        let Some((header, rest)) = self.buffer[self.start..self.end].split_first_chunk_mut::<HEADER>() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes(*header));
        if length > MAX_FRAME {
            return Err(Oversized);
        }
        let Some(frame) = rest.get_mut(..length) else {
            return Ok(None);
        };
        self.start += HEADER + length;
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// A stream that hands out its bytes in pieces of random size.
    struct Trickle(Vec<u8>, StdRng);

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = self.0.len().min(buffer.len());
            let size = if most == 0 { 0 } else { self.1.random_range(1..=most) };
            buffer[..size].copy_from_slice(&self.0[..size]);
            self.0.drain(..size);
            Ok(size)
        }
    }

    fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
        frames.iter().flat_map(|f| [&(f.len() as u16).to_be_bytes()[..], f].concat()).collect()
    }

    #[test]
    fn frames_come_out_whole_however_the_stream_is_cut() {
        let mut random = StdRng::seed_from_u64(3);
        for seed in 0..200 {
            let frames: Vec<Vec<u8>> = (0..20)
                .map(|_| {
                    let length =
                        if random.random_bool(0.1) { MAX_FRAME } else { random.random_range(0..1300) };
                    (0..length).map(|_| random.random()).collect()
                })
                .collect();
            let mut stream = Trickle(framed(&frames), StdRng::seed_from_u64(seed));
            let mut reader = FrameReader::new();
            let mut seen = Vec::new();
            while reader.fill(&mut stream).unwrap() > 0 {
                while let Some(frame) = reader.next_frame().unwrap() {
                    seen.push(frame.to_vec());
                }
            }
            assert_eq!(seen, frames);
        }
    }

    #[test]
    fn a_frame_larger_than_allowed_is_an_error_as_soon_as_it_is_announced() {
        let mut reader = FrameReader::new();
        reader.fill(&mut &((MAX_FRAME + 1) as u16).to_be_bytes()[..]).unwrap();
        assert_eq!(reader.next_frame(), Err(Oversized));
    }

    #[test]
    fn garbage_yields_frames_or_an_error_and_never_more_bytes_than_came() {
        let mut random = StdRng::seed_from_u64(11);
        for seed in 0..300 {
            let garbage: Vec<u8> = (0..random.random_range(0..10_000))
                .map(|_| random.random::<u8>() >> random.random_range(0..8))
                .collect();
            let sent = garbage.len();
            let mut stream = Trickle(garbage, StdRng::seed_from_u64(seed));
            let mut reader = FrameReader::new();
            let mut received = 0;
            'stream: while reader.fill(&mut stream).unwrap() > 0 {
                loop {
                    match reader.next_frame() {
                        Ok(Some(frame)) => received += HEADER + frame.len(),
                        Ok(None) => break,
                        Err(Oversized) => break 'stream,
                    }
                }
            }
            assert!(received <= sent);
        }
    }
}
