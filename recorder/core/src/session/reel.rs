//! A row of files with somebody's sound and picture: when the picture changes its size or codec, another file goes on.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime};

use veche_sfu_core::ids::ParticipantId;
use veche_sfu_core::media::{Codec, MediaKind, Source};

use super::plan::Group;
use super::{FileId, MAX_FILES, MS, Output, offset};
use crate::container::{Track, Writer, form};
use crate::frames::Frame;
use crate::interleave::Interleaver;
use crate::manifest::{self, Manifest};
use crate::stream::TimedFrame;

/// Files with the same tracks, one after the other.
#[derive(Debug)]
pub(super) struct Reel {
    pub(super) participant: ParticipantId,
    pub(super) group: Group,
    peer: String,
    name: String,
    interleaver: Interleaver,
    /// The codecs of the streams that frames are from, by their serial numbers.
    codecs: BTreeMap<usize, Codec>,
    /// Sound that waits for a file: pictures may be about to come.
    held: VecDeque<TimedFrame>,
    part: Option<Part>,
    parts: usize,
    /// The stream that the last picture was from: of those before nothing is written any more.
    shown: usize,
    /// When the last frames were, of pictures and of sound.
    last: [i64; 2],
    /// The next file can only begin with a key frame, and is waited for.
    pub(super) wants_key: bool,
}

/// A file that is open.
#[derive(Debug)]
struct Part {
    file: FileId,
    writer: Writer,
    tracks: Vec<Track>,
    began: i64,
    flushed_at: i64,
}

/// What a reel is written with.
pub(super) struct Roll<'a> {
    pub(super) now: i64,
    /// When the recording began.
    pub(super) began: i64,
    pub(super) date: SystemTime,
    pub(super) manifest: &'a mut Manifest,
    pub(super) output: &'a mut VecDeque<Output>,
}

/// What was taken is written at least so often.
const FLUSH_INTERVAL: i64 = 1_000_000_000;

/// Sound waits so long for the first picture.
const HOLD: i64 = 2_000_000_000;

/// A file that is so short has no successor yet: whoever changes sizes with each picture is shown less often.
const SHORTEST_PART: i64 = 1_000_000_000;

/// So many may follow each other faster.
const QUICK_PARTS: usize = 20;

impl Reel {
    pub(super) fn new(participant: ParticipantId, peer: &str, group: Group, name: String) -> Self {
        Self {
            participant,
            group,
            peer: peer.to_owned(),
            name,
            interleaver: Interleaver::default(),
            codecs: BTreeMap::new(),
            held: VecDeque::new(),
            part: None,
            parts: 0,
            shown: 0,
            last: [i64::MIN / 2; 2],
            wants_key: false,
        }
    }

    /// Takes a frame of the stream with this serial number.
    pub(super) fn push(&mut self, serial: usize, codec: Codec, timed: TimedFrame) {
        self.codecs.insert(serial, codec);
        self.interleaver.push(serial, timed);
    }

    /// Writes all frames through the time `complete`. `expects`: whether there is a track of sound, be it muted, and whether pictures
    /// are about to come.
    pub(super) fn write(&mut self, roll: &mut Roll<'_>, complete: i64, expects: (bool, bool)) {
        while let Some((serial, timed)) = self.interleaver.take(complete) {
            self.write_frame(roll, serial, timed, expects);
        }
        let waits = self.held.front().is_some_and(|first| complete - first.time < HOLD && expects.1);
        if !self.held.is_empty() && !waits {
            self.open(roll, None);
        }
        if let Some(part) = self.part.as_mut().filter(|part| roll.now - part.flushed_at >= FLUSH_INTERVAL) {
            part.flushed_at = roll.now;
            if let Some(bytes) = part.writer.flush() {
                roll.put(part.file, bytes);
            }
        }
        let newest = self.codecs.keys().next_back().copied().unwrap_or_default();
        // Those of sound are few; what is old is of pictures that nobody shows any more.
        if self.codecs.len() > 64 {
            self.codecs.retain(|serial, _| serial + 64 > newest);
        }
    }

    /// Writes the rest, and ends the file.
    pub(super) fn close(&mut self, roll: &mut Roll<'_>) {
        while let Some((serial, timed)) = self.interleaver.take(i64::MAX) {
            self.write_frame(roll, serial, timed, (false, false));
        }
        if !self.held.is_empty() {
            self.open(roll, None);
        }
        self.end_part(roll);
    }

    fn write_frame(
        &mut self,
        roll: &mut Roll<'_>,
        serial: usize,
        mut timed: TimedFrame,
        expects: (bool, bool),
    ) {
        let Some(codec) = self.codecs.get(&serial).copied() else { return };
        let is_sound = codec.kind() == MediaKind::Audio;
        // Players want times that rise, in the milliseconds that files have.
        let last = &mut self.last[usize::from(is_sound)];
        timed.time = timed.time.max(*last + MS);
        if timed.time < roll.began {
            return;
        }
        *last = timed.time;
        if is_sound {
            self.write_sound(roll, timed, expects.1);
        } else {
            self.write_picture(roll, serial, codec, &timed, expects.0);
        }
    }

    fn write_picture(
        &mut self,
        roll: &mut Roll<'_>,
        serial: usize,
        codec: Codec,
        timed: &TimedFrame,
        sound: bool,
    ) {
        if serial < self.shown {
            return;
        }
        let begins = serial > self.shown;
        if timed.frame.key {
            let goes_on = self.part.as_ref().is_some_and(|part| {
                let track = part.tracks.iter().find(|track| track.codec.kind() == MediaKind::Video);
                // One without sound does not go on when there is some.
                let has_sound = part.has(MediaKind::Audio);
                track.is_some_and(|t| t.codec == codec && t.goes_on_with(&timed.frame))
                    && (has_sound || self.held.is_empty())
            });
            if !goes_on {
                if !self.may_open(timed.time) {
                    return;
                }
                let Some(track) = Track::of(codec, &timed.frame, String::new()) else { return };
                self.open(roll, Some((track, timed.time, sound)));
            }
        } else if begins {
            return;
        }
        self.shown = serial;
        if self.part.as_ref().is_none_or(|part| !part.has(MediaKind::Video)) {
            self.wants_key = true;
        }
        self.put(roll, MediaKind::Video, timed);
    }

    fn write_sound(&mut self, roll: &mut Roll<'_>, timed: TimedFrame, pictures: bool) {
        match &self.part {
            Some(part) if part.has(MediaKind::Audio) => {
                self.put(roll, MediaKind::Audio, &timed);
            }
            // It begins with the next key frame, or without pictures if none comes.
            _ => {
                self.wants_key |= self.part.is_some();
                self.held.push_back(timed);
                if !pictures {
                    self.open(roll, None);
                }
            }
        }
    }

    fn may_open(&self, time: i64) -> bool {
        let is_short = self.part.as_ref().is_some_and(|part| time - part.began < SHORTEST_PART);
        !is_short || self.parts < QUICK_PARTS
    }

    /// Ends the file and begins another, with these pictures (and whether sound is about to come) and what is held.
    fn open(&mut self, roll: &mut Roll<'_>, pictures: Option<(Track, i64, bool)>) {
        self.end_part(roll);
        if roll.manifest.files.len() >= MAX_FILES {
            self.held.clear();
            return;
        }
        self.wants_key &= pictures.is_none();
        let (track, time, sound) = pictures.map_or((None, i64::MAX, false), |(t, at, s)| (Some(t), at, s));
        let began = self.held.front().map_or(time, |first| first.time.min(time));
        let mut tracks: Vec<Track> = track.into_iter().collect();
        if sound || !self.held.is_empty() {
            tracks.extend(Track::of(Codec::Opus, &Frame::default(), String::new()));
        }
        let since = Duration::from_nanos(u64::try_from(began - roll.began).unwrap_or(0));
        let (writer, head) = Writer::new(&tracks, began, roll.date + since);
        self.parts += 1;
        let file = roll.add_file(self, &tracks, began);
        self.part = Some(Part { file, writer, tracks, began, flushed_at: roll.now });
        let name = roll.manifest.files[file.0].name.clone();
        roll.manifest.files[file.0].bytes = head.len() as u64;
        roll.output.push_back(Output::Open { file, name, bytes: head });
        for timed in std::mem::take(&mut self.held) {
            self.put(roll, MediaKind::Audio, &timed);
        }
    }

    fn put(&mut self, roll: &mut Roll<'_>, kind: MediaKind, timed: &TimedFrame) {
        let Some(part) = &mut self.part else { return };
        let Some(track) = part.tracks.iter().position(|track| track.codec.kind() == kind) else { return };
        if let Some(bytes) = part.writer.write(track, timed) {
            roll.put(part.file, bytes);
        }
        let through = offset(part.began, timed.time);
        let file = &mut roll.manifest.files[part.file.0];
        file.duration_ms = file.duration_ms.max(through);
    }

    fn end_part(&mut self, roll: &mut Roll<'_>) {
        let Some(Part { file, mut writer, .. }) = self.part.take() else { return };
        if let Some(bytes) = writer.flush() {
            roll.put(file, bytes);
        }
        let (bytes, patches) = writer.finish();
        roll.manifest.files[file.0].bytes += bytes.len() as u64;
        roll.output.push_back(Output::Close { file, bytes, patches });
    }
}

impl Part {
    fn has(&self, kind: MediaKind) -> bool {
        self.tracks.iter().any(|track| track.codec.kind() == kind)
    }
}

impl Roll<'_> {
    fn put(&mut self, file: FileId, bytes: Vec<u8>) {
        self.manifest.files[file.0].bytes += bytes.len() as u64;
        self.output.push_back(Output::Write { file, bytes });
    }

    fn add_file(&mut self, reel: &Reel, tracks: &[Track], began: i64) -> FileId {
        let codecs: Vec<Codec> = tracks.iter().map(|track| track.codec).collect();
        let container = form(&codecs);
        let ending = match container {
            manifest::Container::Webm => "webm",
            manifest::Container::Mp4 => "mp4",
            manifest::Container::Ogg => "ogg",
        };
        let tracks = tracks.iter().map(|track| manifest::Track {
            source: source(reel.group, track.codec.kind()).into(),
            codec: track.codec.into(),
            size: track.size,
        });
        self.manifest.files.push(manifest::File {
            name: format!("{}-{}.{ending}", reel.name, reel.parts),
            container,
            participant: Some(reel.peer.clone()),
            tracks: tracks.collect(),
            offset_ms: offset(self.began, began),
            duration_ms: 0,
            bytes: 0,
            sha256: None,
            mended: false,
        });
        FileId(self.manifest.files.len() - 1)
    }
}

fn source(group: Group, kind: MediaKind) -> Source {
    match (group, kind) {
        (Group::Only(source), _) => source,
        (Group::Person, MediaKind::Audio) => Source::Microphone,
        (Group::Person, MediaKind::Video) => Source::Camera,
        (Group::Screen, MediaKind::Audio) => Source::ScreenAudio,
        (Group::Screen, MediaKind::Video) => Source::Screen,
    }
}
