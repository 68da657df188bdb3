//! A file in either form: the tracks that it has, its writer, and what mends it after a crash.

use std::borrow::Cow;
use std::io::{self, Read, Seek};
use std::time::SystemTime;

use veche_sfu_core::media::Codec;

use crate::frames::Frame;
use crate::manifest;
use crate::stream::TimedFrame;
use crate::{configuration, mp4, webm};

/// A track of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// One that the form has: see [`form`].
    pub codec: Codec,
    /// Pictures: their size.
    pub size: Option<(u16, u16)>,
    /// What a decoder must know before ([`configuration::record`]).
    pub private: Vec<u8>,
    /// Shown by players.
    pub name: String,
}

impl Track {
    /// A track that begins with this frame, of pictures with a key frame. `None` when the frame does not tell what the file
    /// must say of it: the next key frame may.
    pub fn of(codec: Codec, first: &Frame, name: String) -> Option<Self> {
        let private = configuration::record(codec, &first.data)?;
        if codec != Codec::Opus && (first.size.is_none() || !first.key) {
            return None;
        }
        Some(Self { codec, size: first.size, private, name })
    }

    /// The track may go on with this frame. Otherwise it needs another file: its size or its configuration is another one.
    pub fn goes_on_with(&self, frame: &Frame) -> bool {
        if !frame.key || self.codec == Codec::Opus {
            return true;
        }
        let is_same_size = frame.size.is_none() || frame.size == self.size;
        is_same_size
            && configuration::record(self.codec, &frame.data).is_none_or(|record| record == self.private)
    }

    /// What a sample of MP4 has of a frame's data ([`configuration::sample`]).
    pub(crate) fn sample<'a>(&self, data: &'a [u8]) -> Cow<'a, [u8]> {
        configuration::sample(self.codec, &self.private, data)
    }
}

/// Bytes that go over others of the same length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Where in the file.
    pub position: u64,
    /// What stands there from now on.
    pub bytes: Vec<u8>,
}

/// What makes a file whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mend {
    /// The file is to be cut here: what follows was not written to its end.
    pub keep: u64,
    /// Then this goes behind.
    pub append: Vec<u8>,
    /// And these go to places before, in their order: a file is finished with the last one.
    pub patches: Vec<Patch>,
    /// How long it is then.
    pub duration_ms: u64,
}

/// The form of files with these codecs: WebM where it has them all.
pub fn form(codecs: &[Codec]) -> manifest::Container {
    let needs_mp4 = codecs.iter().any(|codec| matches!(codec, Codec::H264 | Codec::H265));
    if needs_mp4 { manifest::Container::Mp4 } else { manifest::Container::Webm }
}

/// Writes one file: each function gives the bytes that are to be put behind what is there.
#[derive(Debug)]
pub enum Writer {
    /// WebM.
    Webm(webm::Writer),
    /// Fragmented MP4.
    Mp4(mp4::Writer),
}

impl Writer {
    /// Begins a file in the [`form`] of its tracks, at the server time `began`, which is `date` on the wall.
    pub fn new(tracks: &[Track], began: i64, date: SystemTime) -> (Self, Vec<u8>) {
        let codecs: Vec<Codec> = tracks.iter().map(|track| track.codec).collect();
        if form(&codecs) == manifest::Container::Mp4 {
            let (writer, head) = mp4::Writer::new(tracks, began, date);
            return (Self::Mp4(writer), head);
        }
        let (writer, head) = webm::Writer::new(tracks, began, date);
        (Self::Webm(writer), head)
    }

    /// Takes the next frame of the track with this index. Gives the bytes of what was taken before, when there is enough of it.
    pub fn write(&mut self, track: usize, timed: &TimedFrame) -> Option<Vec<u8>> {
        match self {
            Self::Webm(writer) => writer.write(track, timed),
            Self::Mp4(writer) => writer.write(track, timed),
        }
    }

    /// The bytes of what was taken since the last ones.
    pub fn flush(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Webm(writer) => writer.flush(),
            Self::Mp4(writer) => writer.flush(),
        }
    }

    /// Ends the file, after the last [`Writer::flush`]: the bytes to be put behind, and those that go to places before.
    pub fn finish(self) -> (Vec<u8>, Vec<Patch>) {
        match self {
            Self::Webm(writer) => writer.finish(),
            Self::Mp4(writer) => writer.finish(),
        }
    }
}

/// Looks through a file of a [`Writer`]'s; `None` when it was finished, or is none of its.
pub fn look<F: Read + Seek>(file: &mut F) -> io::Result<Option<Mend>> {
    match webm::mend::look(file)? {
        Some(mend) => Ok(Some(mend)),
        None => mp4::mend::look(file),
    }
}
