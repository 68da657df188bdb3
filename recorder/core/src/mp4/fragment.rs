//! A fragment: a piece of all tracks, a second or less, with the times and sizes of its samples before it.

use veche_sfu_core::media::{Codec, MediaKind};

use super::boxes::{HEAD, put32, put64, write, write_full};
use crate::opus;

/// The time of one track, in its ticks from the beginning of the file.
#[derive(Debug)]
pub(crate) struct Clock {
    codec: Codec,
    /// The tick from which on the next sample may be.
    next: u64,
    /// That of the last sample.
    last: Option<u64>,
    /// How long the last sample but one was, up to a second: as much is thought of the last one.
    usual: u32,
}

/// Frames of a file's tracks that are not written yet.
#[derive(Debug)]
pub(crate) struct Fragment {
    began: i64,
    tracks: Vec<Samples>,
}

/// Those of one track.
#[derive(Debug, Default)]
struct Samples {
    list: Vec<Sample>,
    data: Vec<u8>,
}

#[derive(Debug)]
struct Sample {
    time: u64,
    size: u32,
    key: bool,
    /// How long it is of itself; for pictures 0.
    sounds: u32,
}

/// What a fragment has of one track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The index of the track.
    pub track: usize,
    /// The time of its first sample, in ticks of the track.
    pub from: u64,
    /// The end of its last one.
    pub to: u64,
    /// It begins with a sample from which decoding can begin.
    pub key: bool,
}

/// How large a fragment gets, in bytes and in samples: the clock of media whose timestamps stand still does not end it.
const MOST_BYTES: usize = 8 << 20;
const MOST_SAMPLES: usize = 4_096;

/// Flags of a sample: it depends on no other; it depends on others and is none to jump to.
const KEY: u32 = 0x0200_0000;
const DELTA: u32 = 0x0101_0000;

impl Clock {
    pub fn new(codec: Codec) -> Self {
        // Until more is known: 30 pictures in a second.
        Self { codec, next: 0, last: None, usual: 3_000 }
    }

    pub fn kind(&self) -> MediaKind {
        self.codec.kind()
    }

    pub fn rate(&self) -> u32 {
        self.codec.clock_rate()
    }

    /// A time in nanoseconds as ticks.
    pub fn ticks(&self, time: i64) -> u64 {
        (i128::from(time.max(0)) * i128::from(self.rate()) / 1_000_000_000) as u64
    }
}

impl Fragment {
    /// A fragment of so many tracks whose first frame is at `began`, in nanoseconds from the beginning of the file.
    pub fn new(began: i64, tracks: usize) -> Self {
        Self { began, tracks: std::iter::repeat_with(Samples::default).take(tracks).collect() }
    }

    pub fn began(&self) -> i64 {
        self.began
    }

    /// It holds so much that it is to end, whatever its time.
    pub fn is_full(&self) -> bool {
        let bytes: usize = self.tracks.iter().map(|samples| samples.data.len()).sum();
        let samples: usize = self.tracks.iter().map(|samples| samples.list.len()).sum();
        bytes >= MOST_BYTES || samples >= MOST_SAMPLES
    }

    /// Takes the next sample of a track; `time` as for [`Fragment::new`].
    pub fn push(&mut self, track: usize, time: i64, key: bool, data: &[u8], clocks: &mut [Clock]) {
        let (samples, clock) = (&mut self.tracks[track], &mut clocks[track]);
        let time = clock.ticks(time).max(clock.next);
        if let Some(last) = clock.last.replace(time) {
            clock.usual = (time - last).min(clock.rate().into()) as u32;
        }
        clock.next = time + 1;
        let sounds = match clock.kind() {
            MediaKind::Audio => opus::duration(data).unwrap_or(960),
            MediaKind::Video => 0,
        };
        samples.list.push(Sample { time, size: data.len() as u32, key, sounds });
        samples.data.extend_from_slice(data);
    }

    /// Its bytes, as the one with this number, and what it has of each track. `next` is the time of the frame behind it, if one
    /// is known: of any track, since frames come in order.
    pub fn write(self, number: u32, next: Option<i64>, clocks: &mut [Clock]) -> (Vec<u8>, Vec<Run>) {
        let mut tracks = Vec::new();
        for (track, samples) in
            self.tracks.into_iter().enumerate().filter(|(_, samples)| !samples.list.is_empty())
        {
            let durations = samples.durations(next, &clocks[track]);
            // Sound is as long as it is, also where the clock was corrected meanwhile: what follows begins behind it.
            if let Some(end) = samples.list.last().map(|last| last.time + u64::from(last.sounds)) {
                clocks[track].next = end.max(clocks[track].next);
            }
            tracks.push((track, samples, durations));
        }
        let mut out = Vec::new();
        let size = HEAD + 16 + tracks.iter().map(|(_, samples, _)| samples.head_bytes()).sum::<usize>();
        let mut data = size + HEAD;
        write(*b"moof", &mut out, |out| {
            write_full(*b"mfhd", 0, 0, out, |out| put32(number, out));
            for (track, samples, durations) in &tracks {
                samples.write_head(*track as u32 + 1, data as u32, durations, out);
                data += samples.data.len();
            }
        });
        debug_assert_eq!(out.len(), size);
        write(*b"mdat", &mut out, |out| {
            for (_, samples, _) in &tracks {
                out.extend_from_slice(&samples.data);
            }
        });
        let runs = tracks.iter().map(|(track, samples, durations)| samples.run(*track, durations)).collect();
        (out, runs)
    }
}

impl Samples {
    /// Each lasts until the next one. Of the last only so much is certain as is before `next`: when the track goes on later,
    /// players take it as longer (ISO/IEC 14496-12 section 8.8.12).
    fn durations(&self, next: Option<i64>, clock: &Clock) -> Vec<u32> {
        let after = self.list.iter().skip(1).map(|sample| sample.time);
        let mut durations: Vec<u32> =
            self.list.iter().zip(after).map(|(sample, after)| (after - sample.time) as u32).collect();
        durations.extend(self.list.last().map(|last| match next {
            _ if last.sounds > 0 => last.sounds,
            Some(next) => clock.ticks(next).saturating_sub(last.time).max(1) as u32,
            None => clock.usual,
        }));
        durations
    }

    /// How long [`Samples::write_head`] is.
    fn head_bytes(&self) -> usize {
        HEAD + 16 + 20 + 20 + 12 * self.list.len()
    }

    /// Writes what stands before the data of a track, which are `offset` behind the beginning of the fragment.
    fn write_head(&self, number: u32, offset: u32, durations: &[u32], out: &mut Vec<u8>) {
        // Offsets are counted from the fragment.
        const FROM_FRAGMENT: u32 = 0x2_0000;
        // An offset; and each sample's duration, size and flags.
        const OFFSET_AND_EACH: u32 = 0x701;
        write(*b"traf", out, |out| {
            write_full(*b"tfhd", 0, FROM_FRAGMENT, out, |out| put32(number, out));
            write_full(*b"tfdt", 1, 0, out, |out| put64(self.list[0].time, out));
            write_full(*b"trun", 0, OFFSET_AND_EACH, out, |out| {
                put32(self.list.len() as u32, out);
                put32(offset, out);
                for (sample, duration) in self.list.iter().zip(durations) {
                    put32(*duration, out);
                    put32(sample.size, out);
                    put32(if sample.key { KEY } else { DELTA }, out);
                }
            });
        });
    }

    fn run(&self, track: usize, durations: &[u32]) -> Run {
        let (first, last) = (&self.list[0], &self.list[self.list.len() - 1]);
        let to = last.time + u64::from(durations.last().copied().unwrap_or_default());
        Run { track, from: first.time, to, key: first.key }
    }
}
