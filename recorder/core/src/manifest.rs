//! What a recording says of itself, as JSON beside its files: who was there, which file has what and from when, who spoke.
//!
//! Times within a recording are offsets from its beginning in milliseconds, all on one line: what stands at the same offset in
//! two files happened together. A manifest that is written while the recording runs has no end yet, and is true as far as it goes.

use serde::{Deserialize, Serialize};
use veche_sfu_core::media;

/// The version of this form. A reader refuses a higher one; fields that it does not know it leaves alone.
pub const VERSION: u32 = 1;

/// A recording of a room.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// The recording's name, in its room and in URLs.
    pub id: String,
    /// The room's name.
    pub room: String,
    /// When it began, in RFC 3339: offset 0.
    pub started_at: String,
    /// When it ended; missing while it runs, and when the server was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// How long it is: offsets are not higher.
    pub duration_ms: u64,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
    /// Media are encrypted end to end: only who holds the room's keys can decode the files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
    /// Everybody of whom something was recorded, in the order in which they came.
    pub participants: Vec<Participant>,
    /// The files, in the order of their offsets.
    pub files: Vec<File>,
    /// Who spoke: each stays the speaker until the next.
    #[serde(default)]
    pub speakers: Vec<Speaker>,
    /// Times in which nothing could be recorded although somebody sent.
    #[serde(default)]
    pub gaps: Vec<Gap>,
}

/// Why a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Somebody asked for it.
    Stopped,
    /// Nobody was left in the room.
    RoomEmpty,
    /// It had reached its longest duration or its largest size.
    Limit,
    /// The disk was full.
    DiskFull,
    /// Storage failed otherwise.
    StorageFailed,
    /// The server stopped, or was killed: files were mended at the next start.
    ServerStopped,
}

/// Somebody in the room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    /// As in signaling; who comes back under a new one is another participant.
    pub id: String,
    /// Whose it is: the user that the token names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Shown to people. It is what somebody typed: nothing may be made of it but text.
    #[serde(default)]
    pub name: String,
    /// When they came, or the recording began.
    pub joined_ms: u64,
    /// When they left; missing for who stayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
}

/// One file. A track that changes its size or codec continues in another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its name in the folder of the manifest: no path.
    pub name: String,
    /// What it is.
    pub container: Container,
    /// Whose it is; missing for what is made of the whole room, as its mixed sound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant: Option<String>,
    /// What is in it, in the order of its tracks.
    pub tracks: Vec<Track>,
    /// When its time 0 is.
    pub offset_ms: u64,
    /// How long it is, from its own time 0.
    pub duration_ms: u64,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal, once it is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// It was left open by a crash, and closed at the next start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mended: bool,
}

/// The form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Container {
    /// WebM.
    Webm,
    /// Fragmented MP4.
    Mp4,
    /// Ogg, with Opus.
    Ogg,
}

/// A track of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    /// What it shows or sounds.
    pub source: Source,
    /// How it is encoded.
    pub codec: Codec,
    /// The size of pictures: width and height.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<(u16, u16)>,
}

/// What a track carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A person's voice.
    Microphone,
    /// A person's picture.
    Camera,
    /// A shared screen or window.
    Screen,
    /// The sound of a shared screen or window.
    ScreenAudio,
    /// Everybody's sound, mixed.
    Mix,
}

/// How a track is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Codec {
    Opus,
    Vp8,
    Vp9,
    H264,
    H265,
    Av1,
}

/// From here on somebody speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speaker {
    /// When.
    pub offset_ms: u64,
    /// Who; missing when it falls silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant: Option<String>,
}

/// A time in which a track was not recorded although it was sent. Files keep their time: what follows stands where it belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Whose.
    pub participant: String,
    /// Of what.
    pub source: Source,
    /// From when.
    pub offset_ms: u64,
    /// How long.
    pub duration_ms: u64,
    /// Why.
    pub reason: GapReason,
    /// How many frames are missing, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<u64>,
}

/// Why something was not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapReason {
    /// The network lost it, and no repair came.
    Lost,
    /// The disk was too slow, and the memory for what waits was full.
    DiskSlow,
    /// The machine was too busy to take it from the media plane.
    Overload,
}

impl From<media::Source> for Source {
    fn from(source: media::Source) -> Self {
        match source {
            media::Source::Microphone => Self::Microphone,
            media::Source::Camera => Self::Camera,
            media::Source::Screen => Self::Screen,
            media::Source::ScreenAudio => Self::ScreenAudio,
        }
    }
}

impl From<media::Codec> for Codec {
    fn from(codec: media::Codec) -> Self {
        match codec {
            media::Codec::Opus => Self::Opus,
            media::Codec::Vp8 => Self::Vp8,
            media::Codec::Vp9 => Self::Vp9,
            media::Codec::H264 => Self::H264,
            media::Codec::H265 => Self::H265,
            media::Codec::Av1 => Self::Av1,
        }
    }
}

impl File {
    /// When it ends, from the beginning of the recording.
    pub fn end_ms(&self) -> u64 {
        self.offset_ms.saturating_add(self.duration_ms)
    }

    /// The file is one of this recording's folder: its name leads nowhere else.
    pub fn has_plain_name(&self) -> bool {
        let name = &self.name;
        !name.is_empty() && !name.starts_with(['.', '-']) && !name.contains(['/', '\\', ':', '\0'])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_written_as_it_is_read() {
        let text = serde_json::json!({
            "version": 1, "id": "r1", "room": "daily",
            "started_at": "2026-11-22T07:00:00Z", "ended_at": "2026-11-22T07:00:09Z", "duration_ms": 9000, "end": "stopped",
            "participants": [{"id": "p1", "user": "ana", "name": "Ana", "joined_ms": 0, "left_ms": 8000}],
            "files": [{
                "name": "ana-1.webm", "container": "webm", "participant": "p1", "offset_ms": 40, "duration_ms": 7900, "bytes": 123,
                "tracks": [{"source": "camera", "codec": "vp8", "size": [320, 180]}, {"source": "microphone", "codec": "opus"}],
            }],
            "speakers": [{"offset_ms": 500, "participant": "p1"}, {"offset_ms": 700}],
            "gaps": [{"participant": "p1", "source": "screen-audio", "offset_ms": 5, "duration_ms": 6, "reason": "disk-slow"}],
        });
        let manifest: Manifest = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(manifest.files[0].end_ms(), 7_940);
        assert_eq!(serde_json::to_value(&manifest).unwrap(), text);
    }

    #[test]
    fn a_name_is_no_path() {
        let file = |name: &str| File {
            name: name.to_owned(),
            container: Container::Mp4,
            participant: None,
            tracks: Vec::new(),
            offset_ms: 0,
            duration_ms: 0,
            bytes: 0,
            sha256: None,
            mended: false,
        };
        assert!(file("ana-1.mp4").has_plain_name());
        for name in ["", "..", "../a.mp4", "/etc/passwd", "-i", "concat:a", "a\\b", "a\0"] {
            assert!(!file(name).has_plain_name(), "{name:?}");
        }
    }
}
