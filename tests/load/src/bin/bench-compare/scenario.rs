//! What is compared: who sends what to how many, and the same for the bare loop.

use std::fmt;

use crate::bare_loop::Load;

/// Bytes of a voice's payload, as the load tool sends it by default: 20 ms of Opus at 40 kbit/s.
const VOICE_PAYLOAD: usize = 100;

/// Bytes of payload in a packet of video, as the load tool sends it by default.
const VIDEO_PAYLOAD: usize = 1_100;

/// Packets of a frame; 30 frames a second make 300 packets/s, or 2.6 Mbit/s.
const FRAME_PACKETS: usize = 10;

/// Packets of a frame in a meeting, where pictures are small: half a megabit per second.
const MEETING_FRAME_PACKETS: usize = 2;

/// What publishers send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// A camera without simulcast.
    Video,
    /// A microphone, all the time.
    Audio,
}

/// Who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// How many rooms of the kind.
    pub rooms: usize,
    /// How many publish in each.
    pub publishers: usize,
    /// How many watch in each; in a meeting those who publish.
    pub subscribers: usize,
    /// What is published.
    pub media: Media,
    /// Whether all who publish also watch, and nobody else.
    pub meeting: bool,
}

impl Scenario {
    /// The scenarios of the comparison.
    pub const ALL: [Scenario; 7] = [
        Scenario::video(10),
        Scenario::video(50),
        Scenario::video(200),
        Scenario::video(500),
        Scenario::audio(50),
        Scenario::audio(200),
        Scenario { rooms: 1, publishers: 20, subscribers: 20, media: Media::Video, meeting: true },
    ];

    /// One camera, watched by many.
    pub const fn video(subscribers: usize) -> Self {
        Self { rooms: 1, publishers: 1, subscribers, media: Media::Video, meeting: false }
    }

    /// Ten who speak, heard by many.
    pub const fn audio(subscribers: usize) -> Self {
        Self { rooms: 1, publishers: 10, subscribers, media: Media::Audio, meeting: false }
    }

    /// Packets of a frame of video.
    pub fn frame_packets(self) -> usize {
        if self.meeting { MEETING_FRAME_PACKETS } else { FRAME_PACKETS }
    }

    /// What the bare loop does instead. Packets of several voices come one by one: there is nothing to join. Of a meeting it
    /// has the pictures only.
    pub fn bare(self) -> Load {
        let subscribers = self.rooms * self.subscribers;
        match self.media {
            Media::Video => Load { subscribers, burst: self.frame_packets(), payload: VIDEO_PAYLOAD },
            Media::Audio => Load { subscribers, burst: 1, payload: VOICE_PAYLOAD },
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rooms > 1 {
            write!(f, "{} rooms, ", self.rooms)?;
        }
        write!(f, "{}x{} ", self.publishers, self.subscribers)?;
        f.write_str(match (self.media, self.meeting) {
            (_, true) => "meeting",
            (Media::Video, false) => "video",
            (Media::Audio, false) => "audio",
        })
    }
}
