//! What a participant may do, as the control plane decides.

use crate::media::{MediaKind, Source};

/// What a participant may do. Everything, until something else is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Sending sound, but for that of a screen.
    pub audio: bool,
    /// Sending pictures, but for those of a screen.
    pub video: bool,
    /// Sending a screen, and its sound.
    pub screen: bool,
    /// Sending over data channels; receiving there is not touched.
    pub data: bool,
    /// Seeing and hearing others.
    pub watch: bool,
}

impl Default for Rights {
    fn default() -> Self {
        Self { audio: true, video: true, screen: true, data: true, watch: true }
    }
}

impl Rights {
    /// Whether a track of this kind and source may be sent. Only the participant knows what it really shows.
    pub fn allow(self, kind: MediaKind, source: Source) -> bool {
        match (kind, source) {
            (MediaKind::Audio, Source::ScreenAudio) | (MediaKind::Video, Source::Screen) => self.screen,
            (MediaKind::Audio, _) => self.audio,
            (MediaKind::Video, _) => self.video,
        }
    }
}
