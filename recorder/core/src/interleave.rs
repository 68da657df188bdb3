//! The frames of several streams in the order of their times, as files want them.

use std::collections::BTreeMap;

use crate::stream::TimedFrame;

/// Frames that wait for those of other streams.
#[derive(Debug, Default)]
pub struct Interleaver {
    /// By time, and then by when they came.
    waiting: BTreeMap<(i64, u64), (usize, TimedFrame)>,
    count: u64,
    bytes: usize,
}

/// So much may wait, in bytes; then the oldest go on whatever may be missing.
const MAX_WAITING: usize = 32 << 20;

impl Interleaver {
    /// Takes a frame of the track with this index.
    pub fn push(&mut self, track: usize, timed: TimedFrame) {
        self.count += 1;
        self.bytes += timed.frame.data.len();
        self.waiting.insert((timed.time, self.count), (track, timed));
    }

    /// The oldest frame, if nothing older comes any more: all streams are complete through `complete`.
    pub fn take(&mut self, complete: i64) -> Option<(usize, TimedFrame)> {
        let first = self.waiting.first_entry()?;
        if first.key().0 > complete && self.bytes <= MAX_WAITING {
            return None;
        }
        let (track, timed) = first.remove();
        self.bytes -= timed.frame.data.len();
        Some((track, timed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::Frame;

    fn timed(time: i64, bytes: usize) -> TimedFrame {
        TimedFrame { time, frame: Frame { data: vec![0; bytes], ..Frame::default() } }
    }

    fn taken(interleaver: &mut Interleaver, complete: i64) -> Vec<(usize, i64)> {
        std::iter::from_fn(|| interleaver.take(complete)).map(|(track, timed)| (track, timed.time)).collect()
    }

    #[test]
    fn what_is_older_goes_first_and_what_may_be_overtaken_waits() {
        let mut interleaver = Interleaver::default();
        for (track, time) in [(0, 10), (1, 5), (0, 20), (1, 20), (1, 30)] {
            interleaver.push(track, timed(time, 1));
        }
        assert_eq!(taken(&mut interleaver, 20), [(1, 5), (0, 10), (0, 20), (1, 20)]);
        interleaver.push(0, timed(25, 1));
        assert_eq!(taken(&mut interleaver, 30), [(0, 25), (1, 30)]);
    }

    #[test]
    fn a_stream_that_is_stuck_fills_no_memory() {
        let mut interleaver = Interleaver::default();
        for time in 0..40 {
            interleaver.push(0, timed(time, 1 << 20));
            while interleaver.take(i64::MIN).is_some() {}
        }
        assert_eq!(interleaver.waiting.len(), 32);
    }
}
