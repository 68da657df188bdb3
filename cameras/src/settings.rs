//! The settings of cameras: the section `[cameras]` of the configuration.

use serde::{Deserialize, Serialize};
use veche_doors::doorkeeper::Policy;

/// The settings of cameras.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `false`: everything below `/realtime/webrtc/rooms/{room_id}/cameras` answers 503.
    pub enabled: bool,
    /// How many cameras there may be, in all rooms together.
    pub max_cameras: usize,
    /// How many cameras a room may have.
    pub max_cameras_per_room: usize,
    /// How many may look at cameras at once.
    pub max_viewers: usize,
    /// The largest picture, in bytes.
    pub max_frame_bytes: usize,
    /// The largest picture, in pixels.
    pub max_pixels: u32,
    /// How many pictures a camera may send in a second; others are dropped.
    pub max_fps: u32,
    /// A camera that sends nothing for so many seconds is gone.
    pub idle_seconds: u32,
    /// How often a silent event stream gets a comment, and a WebSocket a ping, in seconds.
    pub heartbeat_seconds: u32,
    /// How many HTTP requests, handshakes too, one client address may make in a second, on average; 0 for any number.
    pub requests_per_second: u32,
    /// How many HTTP requests one client address may make at once.
    pub request_burst: u32,
    /// Origins whose pages may use these doors, such as `https://app.example`; `*` for all. A page that this server served
    /// itself always may.
    pub allowed_origins: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            max_cameras: 1000,
            max_cameras_per_room: 16,
            max_viewers: 5000,
            max_frame_bytes: 2 * 1024 * 1024,
            max_pixels: 3840 * 2160,
            max_fps: 60,
            idle_seconds: 60,
            heartbeat_seconds: 15,
            requests_per_second: 200,
            request_burst: 1000,
            allowed_origins: Vec::new(),
        }
    }
}

impl Settings {
    /// Finds values that cannot work: the field, and what is wrong with an example of what would be right.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let positive = [
            ("max_cameras", self.max_cameras),
            ("max_cameras_per_room", self.max_cameras_per_room),
            ("max_viewers", self.max_viewers),
            ("max_fps", self.max_fps as usize),
            ("idle_seconds", self.idle_seconds as usize),
            ("heartbeat_seconds", self.heartbeat_seconds as usize),
            ("request_burst", self.request_burst as usize),
        ];
        if let Some((field, _)) = positive.into_iter().find(|&(_, value)| value == 0) {
            return Err((field, "must be at least 1".into()));
        }
        if !(1024..=Self::MAX_FRAME_BYTES).contains(&self.max_frame_bytes) {
            let right = format!("must be 1024 to {}, for example 2097152", Self::MAX_FRAME_BYTES);
            return Err(("max_frame_bytes", right));
        }
        if !(64..=Self::MAX_PIXELS).contains(&self.max_pixels) {
            let right = format!("must be 64 to {}, for example 8294400 for 3840 x 2160", Self::MAX_PIXELS);
            return Err(("max_pixels", right));
        }
        let is_origin = |origin: &&String| *origin != "*" && !veche_doors::origin::is_origin(origin);
        if let Some(origin) = self.allowed_origins.iter().find(is_origin) {
            let message = format!("`{origin}` is not like \"https://app.example\" or \"*\"");
            return Err(("allowed_origins", message));
        }
        Ok(())
    }

    /// The largest value that `max_frame_bytes` may have: each viewer who is slow may hold one frame.
    pub const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024;

    /// The largest value that `max_pixels` may have.
    pub const MAX_PIXELS: u32 = 64 * 1024 * 1024;

    /// What of it is for the doorkeeper. A camera's own frames are counted by its `max_fps`.
    pub(crate) fn policy(&self) -> Policy {
        Policy {
            allowed_origins: self.allowed_origins.clone(),
            messages_per_second: self.max_fps,
            message_burst: self.max_fps,
            requests_per_second: self.requests_per_second,
            request_burst: self.request_burst,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_work_and_what_cannot_work_is_named() {
        assert_eq!(Settings::default().check(), Ok(()));
        let field = |settings: Settings| settings.check().unwrap_err().0;
        assert_eq!(field(Settings { max_viewers: 0, ..Settings::default() }), "max_viewers");
        assert_eq!(field(Settings { max_frame_bytes: 100, ..Settings::default() }), "max_frame_bytes");
        assert_eq!(field(Settings { max_pixels: 1, ..Settings::default() }), "max_pixels");
        let allowed_origins = vec!["app.example".to_owned()];
        assert_eq!(field(Settings { allowed_origins, ..Settings::default() }), "allowed_origins");
    }
}
