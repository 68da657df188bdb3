//! A live stream for crowds: HLS with low latency (RFC 8216bis), as parts of fragmented MP4 that stay in memory as long as
//! somebody may ask for them. Frames come in, bytes and playlists go out; who asks for what is still to come is told to wait.
//!
//! Segments begin with key frames. Those of calls come when they are asked for ([`Live::wants_key_frame`]); when none comes, a
//! segment ends without one, and players begin at an earlier one.

mod codecs;
mod playlist;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use veche_sfu_core::media::MediaKind;

use crate::container::Track;
use crate::mp4::fragment::{Clock, Fragment};
use crate::mp4::head;
use crate::stream::TimedFrame;

/// A stream while it runs.
#[derive(Debug)]
pub struct Live {
    /// The server time at which it began, which is `date` on the wall.
    began: i64,
    date: SystemTime,
    heads: VecDeque<Head>,
    clocks: Vec<Clock>,
    segments: VecDeque<Segment>,
    /// What is not a part yet.
    fragment: Option<Fragment>,
    /// How many parts there were.
    count: u32,
    /// How many changes of tracks are not listed any more.
    forgotten_changes: u64,
    ended: bool,
}

/// What is known of the tracks: the bytes before all parts.
#[derive(Debug)]
struct Head {
    number: u64,
    tracks: Vec<Track>,
    bytes: Arc<[u8]>,
}

/// Parts from a key frame on. Only the last segment grows.
#[derive(Debug)]
struct Segment {
    number: u64,
    /// The number of its head.
    head: u64,
    /// Its tracks are others than those of the segment before.
    changed: bool,
    /// In nanoseconds since the stream began.
    began: i64,
    /// Once it is whole.
    duration: Option<i64>,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    bytes: Arc<[u8]>,
    duration: i64,
    /// A decoder can begin with it.
    independent: bool,
}

/// What a request for something of a stream gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// This.
    Ready(T),
    /// It is still to come: ask again after the next [`Live::write`] that says so, for three target durations at most.
    Wait,
    /// It is gone, or never was: status 404.
    Missing,
    /// It is too far ahead: status 400.
    TooFar,
}

/// The state of the playlist for which a player waits, by the parameters of its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `_HLS_msn`: it lists this segment.
    pub segment: Option<u64>,
    /// `_HLS_part`: and this part of it.
    pub part: Option<usize>,
}

const MS: i64 = 1_000_000;

/// No part is longer.
const PART: i64 = 500 * MS;

/// From here on a part ends with the next picture, and from here on with any frame.
const PICTURES_END: i64 = 425 * MS;
const ANY_ENDS: i64 = 475 * MS;

/// From here on a segment ends with the next key frame, and from here on with any frame.
const SEGMENT: i64 = 2_000 * MS;
const SEGMENT_ENDS: i64 = 3_500 * MS;

/// No segment is longer.
const TARGET: i64 = 4_000 * MS;

/// So many whole segments are listed, and so many kept for who has an older list.
const LISTED: usize = 6;
const KEPT: usize = 9;

/// How much is kept at most, in bytes: of a stream that is larger, less time.
const KEPT_BYTES: usize = 48 << 20;

/// How much one segment has at most.
const SEGMENT_BYTES: usize = 12 << 20;

impl Live {
    /// Begins a stream with these tracks at the server time `began`, which is `date` on the wall.
    pub fn new(tracks: &[Track], began: i64, date: SystemTime) -> Self {
        let mut live = Self {
            began,
            date,
            heads: VecDeque::new(),
            clocks: Vec::new(),
            segments: VecDeque::new(),
            fragment: None,
            count: 0,
            forgotten_changes: 0,
            ended: false,
        };
        live.change(tracks, began);
        live
    }

    /// From the server time `now` on the tracks are these: another speaker, size or codec.
    pub fn change(&mut self, tracks: &[Track], now: i64) {
        self.end_segment(now - self.began);
        let number = self.heads.back().map_or(0, |head| head.number + 1);
        let mut bytes = Vec::new();
        head::write(tracks, self.date, &mut bytes);
        self.heads.push_back(Head { number, tracks: tracks.to_vec(), bytes: bytes.into() });
        self.clocks = tracks.iter().map(|track| Clock::new(track.codec)).collect();
    }

    /// Takes the next frame of the track with this index. True when there is something new to ask for: who waits is to be woken.
    pub fn write(&mut self, track: usize, timed: &TimedFrame) -> bool {
        let Some(about) = self.heads.back().and_then(|head| head.tracks.get(track)) else { return false };
        let (kind, data) = (about.codec.kind(), about.sample(&timed.frame.data));
        let time = timed.time - self.began;
        let key = timed.frame.key && (kind == MediaKind::Video || !self.has_pictures());
        let ended = match self.open() {
            // With anything else a player could not begin.
            None if !key => return false,
            None => false,
            Some(segment) => {
                let length = time - segment.began;
                let is_full = length >= SEGMENT_ENDS || segment.bytes() >= SEGMENT_BYTES;
                if is_full || key && length >= SEGMENT {
                    self.end_segment(time)
                } else {
                    self.is_part_full(kind, time) && self.end_part(time)
                }
            }
        };
        if self.open().is_none() {
            self.begin_segment(time);
        }
        let fragment = self.fragment.get_or_insert_with(|| Fragment::new(time, self.clocks.len()));
        fragment.push(track, time, timed.frame.key, &data, &mut self.clocks);
        ended
    }

    /// A key frame would help: the segment is as long as it should be.
    pub fn wants_key_frame(&self, now: i64) -> bool {
        let is_due = |segment: &Segment| now - self.began - segment.began >= SEGMENT;
        self.has_pictures() && self.open().is_none_or(is_due)
    }

    /// Nothing comes any more: players show what there is to its end.
    pub fn end(&mut self, now: i64) {
        self.end_segment(now - self.began);
        self.ended = true;
    }

    /// The head with this number: `init-….mp4` of the playlist.
    pub fn head(&self, number: u64) -> Answer<Arc<[u8]>> {
        let head = self.heads.iter().find(|head| head.number == number);
        head.map_or(Answer::Missing, |head| Answer::Ready(Arc::clone(&head.bytes)))
    }

    /// All parts of the segment with this number, one behind the other: `….m4s` of the playlist.
    pub fn segment(&self, number: u64) -> Answer<Vec<Arc<[u8]>>> {
        match self.segments.iter().find(|segment| segment.number == number) {
            Some(Segment { duration: Some(_), parts, .. }) => {
                Answer::Ready(parts.iter().map(|part| Arc::clone(&part.bytes)).collect())
            }
            Some(_) if !self.ended => Answer::Wait,
            _ => Answer::Missing,
        }
    }

    /// A part of the segment with this number: `….….m4s` of the playlist. The one that the playlist hints at may be waited for.
    pub fn part(&self, number: u64, index: usize) -> Answer<Arc<[u8]>> {
        let Some(segment) = self.segments.iter().find(|segment| segment.number == number) else {
            let is_next = !self.ended && self.open().is_none() && number == self.next_number() && index == 0;
            return if is_next { Answer::Wait } else { Answer::Missing };
        };
        match segment.parts.get(index) {
            Some(part) => Answer::Ready(Arc::clone(&part.bytes)),
            None if segment.duration.is_none() && index == segment.parts.len() => Answer::Wait,
            None => Answer::Missing,
        }
    }

    /// The media playlist, once it lists what is wanted. `query` is put behind each address in it, as `?token=…`.
    pub fn playlist(&self, wanted: Wanted, query: &str) -> Answer<String> {
        match self.state(wanted) {
            Answer::Ready(()) => Answer::Ready(playlist::write(self, query)),
            Answer::Wait => Answer::Wait,
            Answer::Missing => Answer::Missing,
            Answer::TooFar => Answer::TooFar,
        }
    }

    /// The playlist to begin with: it tells what the stream is like and where its media playlist is.
    pub fn multivariant(&self, address: &str, query: &str) -> Answer<String> {
        match self.segments.iter().any(|segment| segment.duration.is_some()) {
            true => Answer::Ready(playlist::write_multivariant(self, address, query)),
            false if self.ended => Answer::Missing,
            false => Answer::Wait,
        }
    }

    /// RFC 8216bis section 6.2.5.2.
    fn state(&self, wanted: Wanted) -> Answer<()> {
        let has_parts = self.segments.iter().any(|segment| !segment.parts.is_empty());
        if self.ended {
            return if has_parts { Answer::Ready(()) } else { Answer::Missing };
        }
        if !has_parts {
            return Answer::Wait;
        }
        // The first of segments that are not whole.
        let open = self.open().map_or(self.next_number(), |segment| segment.number);
        let parts = self.open().map_or(0, |segment| segment.parts.len());
        let Some(mut segment) = wanted.segment else { return Answer::Ready(()) };
        let mut part = wanted.part;
        if segment > open + 2 {
            return Answer::TooFar;
        }
        // A part behind the last of a segment is the first of the next.
        let before = self.segments.iter().rev().find(|segment| segment.duration.is_some());
        if let (Some(before), Some(index)) = (before, part)
            && before.number == segment
            && index >= before.parts.len()
        {
            (segment, part) = (segment + 1, Some(0));
        }
        let is_there = segment < open || segment == open && part.is_some_and(|part| part < parts);
        if is_there { Answer::Ready(()) } else { Answer::Wait }
    }

    fn has_pictures(&self) -> bool {
        self.clocks.iter().any(|clock| clock.kind() == MediaKind::Video)
    }

    /// The segment that grows.
    fn open(&self) -> Option<&Segment> {
        self.segments.back().filter(|segment| segment.duration.is_none())
    }

    fn next_number(&self) -> u64 {
        self.segments.back().map_or(0, |segment| segment.number + 1)
    }

    fn begin_segment(&mut self, began: i64) {
        let head = self.heads.back().map_or(0, |head| head.number);
        let changed = self.segments.back().is_some_and(|before| before.head != head);
        let number = self.next_number();
        self.segments.push_back(Segment { number, head, changed, began, duration: None, parts: Vec::new() });
    }

    fn is_part_full(&self, kind: MediaKind, time: i64) -> bool {
        let most = if kind == MediaKind::Video { PICTURES_END } else { ANY_ENDS };
        self.fragment.as_ref().is_some_and(|fragment| time - fragment.began() >= most || fragment.is_full())
    }

    /// The next frame is at `next`. True when there was something.
    fn end_part(&mut self, next: i64) -> bool {
        let (Some(fragment), Some(segment)) = (self.fragment.take(), self.segments.back_mut()) else {
            return false;
        };
        self.count += 1;
        let duration = (next - fragment.began()).clamp(MS, PART);
        let (bytes, runs) = fragment.write(self.count, Some(next), &mut self.clocks);
        let has_pictures = self.clocks.iter().any(|clock| clock.kind() == MediaKind::Video);
        let begins = |track: usize| !has_pictures || self.clocks[track].kind() == MediaKind::Video;
        let independent = runs.iter().any(|run| run.key && begins(run.track));
        segment.parts.push(Part { bytes: bytes.into(), duration, independent });
        true
    }

    fn end_segment(&mut self, next: i64) -> bool {
        let ended = self.end_part(next);
        if let Some(segment) = self.segments.back_mut().filter(|segment| segment.duration.is_none()) {
            segment.duration = Some((next - segment.began).clamp(MS, TARGET));
        }
        self.forget();
        ended
    }

    fn forget(&mut self) {
        let mut bytes: usize = self.segments.iter().map(Segment::bytes).sum();
        while self.segments.len() > KEPT || bytes > KEPT_BYTES && self.segments.len() > 1 {
            let Some(oldest) = self.segments.pop_front() else { break };
            bytes -= oldest.bytes();
            self.forgotten_changes += u64::from(oldest.changed);
            let still = self.segments.front().map_or(0, |segment| segment.head);
            self.heads.retain(|head| head.number >= still);
        }
    }
}

impl Segment {
    fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.bytes.len()).sum()
    }
}
