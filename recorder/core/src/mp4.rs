//! Fragmented MP4 (ISO/IEC 14496-12): H264, H265, AV1, VP9 and Opus, written so that it plays at any moment of being written,
//! and after the writer was killed.
//!
//! A file grows by whole fragments of at most a second, or less where that is much. What only the end can tell is put into places that were left for it
//! behind the head: how long it is, and where players may jump to. [`mend`] does the same for a file that was never finished.

pub(crate) mod boxes;
pub(crate) mod fragment;
pub(crate) mod head;
mod index;
pub mod mend;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use veche_sfu_core::media::MediaKind;

use crate::container::{Patch, Track};
use crate::stream::TimedFrame;
use fragment::{Clock, Fragment};
use index::Index;

/// Writes one file: each function gives the bytes that are to be put behind what is there.
#[derive(Debug)]
pub struct Writer {
    tracks: Vec<Track>,
    clocks: Vec<Clock>,
    /// The server time at which the file begins.
    began: i64,
    /// How many fragments there are.
    count: u32,
    fragment: Option<Fragment>,
    index: Index,
}

/// When the next picture ends a fragment: its pictures then have their true durations.
const PICTURES_END: i64 = 900_000_000;

/// When any frame does.
const ANY_ENDS: i64 = 1_000_000_000;

impl Writer {
    /// Begins a file at the server time `began`, which is `date` on the wall.
    pub fn new(tracks: &[Track], began: i64, date: SystemTime) -> (Self, Vec<u8>) {
        let mut bytes = Vec::new();
        let duration = head::write(tracks, date, &mut bytes);
        let places = index::write_places(duration, &mut bytes);
        let clocks: Vec<Clock> = tracks.iter().map(|track| Clock::new(track.codec)).collect();
        let index = Index::new(places, &clocks);
        (Self { tracks: tracks.to_vec(), clocks, began, count: 0, fragment: None, index }, bytes)
    }

    /// Takes the next frame of the track with this index. Gives the bytes of the fragment before it, when it begins one.
    pub fn write(&mut self, track: usize, timed: &TimedFrame) -> Option<Vec<u8>> {
        let time = timed.time - self.began;
        let about = self.tracks.get(track)?;
        let (kind, data) = (about.codec.kind(), about.sample(&timed.frame.data));
        let ends = |fragment: &Fragment| {
            let most = if kind == MediaKind::Video { PICTURES_END } else { ANY_ENDS };
            // Each key frame of the pictures begins a fragment, so that whoever jumps there has nothing before it.
            let jumps = kind == MediaKind::Video && timed.frame.key;
            jumps || time - fragment.began() >= most || fragment.is_full()
        };
        let finished = self.fragment.as_ref().is_some_and(ends).then(|| self.end_fragment(Some(time)));
        let fragment = self.fragment.get_or_insert_with(|| Fragment::new(time, self.clocks.len()));
        fragment.push(track, time, timed.frame.key, &data, &mut self.clocks);
        finished.flatten()
    }

    /// The bytes of what was taken since the last ones.
    pub fn flush(&mut self) -> Option<Vec<u8>> {
        self.end_fragment(None)
    }

    /// Ends the file, after the last [`Writer::flush`]: the bytes to be put behind, and those that go to places before.
    pub fn finish(self) -> (Vec<u8>, Vec<Patch>) {
        (Vec::new(), self.index.finish())
    }

    fn end_fragment(&mut self, next: Option<i64>) -> Option<Vec<u8>> {
        let fragment = self.fragment.take()?;
        self.count += 1;
        let (bytes, runs) = fragment.write(self.count, next, &mut self.clocks);
        self.index.push(bytes.len() as u64, &runs);
        Some(bytes)
    }
}
