//! The settings of rooms, signaling and the HTTP API: the section `[signaling]` of the configuration.

use serde::{Deserialize, Serialize};
use veche_doors::doorkeeper::Policy;

/// The settings of rooms, signaling and the HTTP API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `false`: everything below `/realtime/webrtc` answers 503.
    pub enabled: bool,
    /// Whether joining a room that does not exist makes it.
    pub auto_create: bool,
    /// How many rooms there may be.
    pub max_rooms: usize,
    /// How many participants a room may have; a room's own `max_participants` can only be lower.
    pub max_participants_per_room: u32,
    /// How many signaling connections there may be.
    pub max_connections: usize,
    /// How long somebody whose connection is lost keeps their place, in seconds.
    pub resume_seconds: u32,
    /// How often the server pings a client, in seconds.
    pub heartbeat_seconds: u32,
    /// How long a client may be silent, in seconds; its pongs count.
    pub idle_seconds: u32,
    /// The largest message that a client may send, in bytes.
    pub max_message_bytes: u32,
    /// How many bytes may wait for a slow client before its connection is cut.
    pub max_queued_bytes: usize,
    /// How many messages a client may send in a second, on average.
    pub messages_per_second: u32,
    /// How many messages a client may send at once.
    pub message_burst: u32,
    /// How many HTTP requests, WebSocket handshakes too, one client address may make in a second, on average; 0 for any
    /// number.
    pub requests_per_second: u32,
    /// How many HTTP requests one client address may make at once.
    pub request_burst: u32,
    /// The longest name of a participant or a room, in characters.
    pub max_name_chars: usize,
    /// The largest `metadata` of a participant, in bytes of JSON.
    pub max_metadata_bytes: usize,
    /// STUN servers that clients are told to use. None are needed to reach this server.
    pub stun_servers: Vec<String>,
    /// Origins whose pages may use this server, such as `https://app.example`; `*` for all. A page that this server
    /// served itself always may.
    pub allowed_origins: Vec<String>,
    /// The largest data channel message, in bytes.
    pub max_data_message_bytes: u32,
    /// The largest message that clients may send over a data channel in fragments, in bytes.
    pub max_fragmented_bytes: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            auto_create: true,
            max_rooms: 10_000,
            max_participants_per_room: 100,
            max_connections: 20_000,
            resume_seconds: 30,
            heartbeat_seconds: 15,
            idle_seconds: 45,
            max_message_bytes: 256 * 1024,
            max_queued_bytes: 4 * 1024 * 1024,
            messages_per_second: 50,
            message_burst: 200,
            requests_per_second: 50,
            request_burst: 1000,
            max_name_chars: 64,
            max_metadata_bytes: 8 * 1024,
            stun_servers: Vec::new(),
            allowed_origins: Vec::new(),
            max_data_message_bytes: 256 * 1024,
            max_fragmented_bytes: 64 * 1024 * 1024,
        }
    }
}

impl Settings {
    /// The largest value that `max_message_bytes` may have.
    pub const MAX_MESSAGE_BYTES: u32 = 1024 * 1024;

    /// What of it is for the doorkeeper.
    pub(crate) fn policy(&self) -> Policy {
        Policy {
            allowed_origins: self.allowed_origins.clone(),
            messages_per_second: self.messages_per_second,
            message_burst: self.message_burst,
            requests_per_second: self.requests_per_second,
            request_burst: self.request_burst,
        }
    }

    /// Finds values that cannot work: the field, and what is wrong with an example of what would be right.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let positive = [
            ("max_rooms", self.max_rooms),
            ("max_participants_per_room", self.max_participants_per_room as usize),
            ("max_connections", self.max_connections),
            ("heartbeat_seconds", self.heartbeat_seconds as usize),
            ("messages_per_second", self.messages_per_second as usize),
            ("message_burst", self.message_burst as usize),
            ("request_burst", self.request_burst as usize),
            ("max_name_chars", self.max_name_chars),
        ];
        if let Some((field, _)) = positive.into_iter().find(|&(_, value)| value == 0) {
            return Err((field, "must be at least 1".into()));
        }
        if self.idle_seconds <= self.heartbeat_seconds {
            let right = self.heartbeat_seconds.saturating_mul(3);
            return Err((
                "idle_seconds",
                format!("must be longer than heartbeat_seconds, for example {right}"),
            ));
        }
        if !(1024..=Self::MAX_MESSAGE_BYTES).contains(&self.max_message_bytes) {
            return Err((
                "max_message_bytes",
                format!("must be 1024 to {}, for example 262144", Self::MAX_MESSAGE_BYTES),
            ));
        }
        if self.max_data_message_bytes < 1024 {
            return Err(("max_data_message_bytes", "must be at least 1024, for example 262144".into()));
        }
        if self.max_queued_bytes < self.max_message_bytes as usize {
            return Err((
                "max_queued_bytes",
                "must be at least max_message_bytes, for example 4194304".into(),
            ));
        }
        let is_stun = |url: &&String| !["stun:", "stuns:"].iter().any(|scheme| url.starts_with(scheme));
        if let Some(url) = self.stun_servers.iter().find(is_stun) {
            return Err(("stun_servers", format!("`{url}` is not like \"stun:stun.example:3478\"")));
        }
        let is_origin = |origin: &&String| *origin != "*" && !crate::origin::is_origin(origin);
        if let Some(origin) = self.allowed_origins.iter().find(is_origin) {
            return Err((
                "allowed_origins",
                format!("`{origin}` is not like \"https://app.example\" or \"*\""),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_work_and_what_cannot_work_is_named() {
        assert_eq!(Settings::default().check(), Ok(()));
        let field = |settings: Settings| settings.check().unwrap_err().0;
        assert_eq!(field(Settings { max_rooms: 0, ..Settings::default() }), "max_rooms");
        assert_eq!(field(Settings { idle_seconds: 15, ..Settings::default() }), "idle_seconds");
        assert_eq!(
            field(Settings { max_message_bytes: 2 << 20, ..Settings::default() }),
            "max_message_bytes"
        );
        let max_data_message_bytes = 100;
        assert_eq!(
            field(Settings { max_data_message_bytes, ..Settings::default() }),
            "max_data_message_bytes"
        );
        assert_eq!(field(Settings { max_queued_bytes: 1, ..Settings::default() }), "max_queued_bytes");
        let stun_servers = vec!["stun.example".to_owned()];
        assert_eq!(field(Settings { stun_servers, ..Settings::default() }), "stun_servers");
        let allowed_origins = vec!["app.example".to_owned()];
        assert_eq!(field(Settings { allowed_origins, ..Settings::default() }), "allowed_origins");
    }
}
