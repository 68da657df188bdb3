//! The settings of the doors of messaging: the section `[messaging]` of the configuration.

use serde::{Deserialize, Serialize};
use veche_doors::doorkeeper::Policy;

/// The settings of the doors of messaging.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `false`: `/realtime/ws` answers 503.
    pub websocket_enabled: bool,
    /// How many WebSockets there may be.
    pub websocket_max_connections: usize,
    /// How often the server pings a WebSocket, in seconds. One that is silent for twice as long and 15 s more, not even
    /// answering pings, is closed.
    pub websocket_heartbeat_seconds: u32,
    /// The largest binary message, in bytes.
    pub websocket_binary_max_bytes: usize,
    /// `false`: `/realtime/events` answers 503.
    pub sse_enabled: bool,
    /// How many event streams there may be.
    pub sse_max_connections: usize,
    /// How often a silent event stream gets a comment, in seconds.
    pub sse_heartbeat_seconds: u32,
    /// How long browsers wait before they connect again, in milliseconds.
    pub sse_retry_milliseconds: u32,
    /// `false`: gRPC answers `UNIMPLEMENTED`.
    pub grpc_enabled: bool,
    /// How many streams of gRPC there may be.
    pub grpc_max_connections: usize,
    /// The largest JSON text, in bytes; `binary` messages have the limit of binary ones.
    pub max_message_bytes: usize,
    /// How deep arrays and objects may stand in each other.
    pub max_json_depth: usize,
    /// The longest name for people, in characters.
    pub max_name_chars: usize,
    /// How many messages a connection may send in a second, on average.
    pub messages_per_second: u32,
    /// How many messages a connection may send at once.
    pub message_burst: u32,
    /// How many messages and requests a user may send in a second over all connections, on average; 0 for any number.
    pub user_messages_per_second: u32,
    /// How many messages and requests a user may send at once.
    pub user_message_burst: u32,
    /// How many HTTP requests, handshakes too, one client address may make in a second, on average; 0 for any number.
    pub requests_per_second: u32,
    /// How many HTTP requests one client address may make at once.
    pub request_burst: u32,
    /// Origins whose pages may use this server, such as `https://app.example`; `*` for all. A page that this server
    /// served itself always may.
    pub allowed_origins: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            websocket_enabled: true,
            websocket_max_connections: 20_000,
            websocket_heartbeat_seconds: 30,
            websocket_binary_max_bytes: 50 * 1024 * 1024,
            sse_enabled: true,
            sse_max_connections: 20_000,
            sse_heartbeat_seconds: 15,
            sse_retry_milliseconds: 3000,
            grpc_enabled: true,
            grpc_max_connections: 20_000,
            max_message_bytes: 1024 * 1024,
            max_json_depth: 64,
            max_name_chars: 64,
            messages_per_second: 100,
            message_burst: 400,
            user_messages_per_second: 500,
            user_message_burst: 2000,
            requests_per_second: 50,
            request_burst: 1000,
            allowed_origins: Vec::new(),
        }
    }
}

impl Settings {
    /// Finds values that cannot work: the field, and what is wrong with an example of what would be right.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let positive = [
            ("websocket_max_connections", self.websocket_max_connections),
            ("websocket_heartbeat_seconds", self.websocket_heartbeat_seconds as usize),
            ("sse_max_connections", self.sse_max_connections),
            ("sse_heartbeat_seconds", self.sse_heartbeat_seconds as usize),
            ("grpc_max_connections", self.grpc_max_connections),
            ("max_name_chars", self.max_name_chars),
            ("messages_per_second", self.messages_per_second as usize),
            ("message_burst", self.message_burst as usize),
            ("user_message_burst", self.user_message_burst as usize),
            ("request_burst", self.request_burst as usize),
        ];
        if let Some((field, _)) = positive.into_iter().find(|&(_, value)| value == 0) {
            return Err((field, "must be at least 1".into()));
        }
        if self.max_message_bytes < 1024 {
            return Err(("max_message_bytes", "must be at least 1024, for example 1048576".into()));
        }
        if !(1024..=Self::MAX_BINARY_BYTES).contains(&self.websocket_binary_max_bytes) {
            let right = format!("must be 1024 to {}, for example 52428800", Self::MAX_BINARY_BYTES);
            return Err(("websocket_binary_max_bytes", right));
        }
        if !(4..=1000).contains(&self.max_json_depth) {
            return Err(("max_json_depth", "must be 4 to 1000, for example 64".into()));
        }
        let is_origin = |origin: &&String| *origin != "*" && !veche_doors::origin::is_origin(origin);
        if let Some(origin) = self.allowed_origins.iter().find(is_origin) {
            return Err((
                "allowed_origins",
                format!("`{origin}` is not like \"https://app.example\" or \"*\""),
            ));
        }
        Ok(())
    }

    /// The largest value that `websocket_binary_max_bytes` may have: such a message is in memory as a whole.
    pub const MAX_BINARY_BYTES: usize = 1024 * 1024 * 1024;

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

    /// The largest JSON text of any type: a binary message in base64, and some fields around it.
    pub(crate) fn max_text_bytes(&self) -> usize {
        self.max_message_bytes.max(self.websocket_binary_max_bytes.div_ceil(3) * 4 + 4096)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_work_and_what_cannot_work_is_named() {
        assert_eq!(Settings::default().check(), Ok(()));
        let field = |settings: Settings| settings.check().unwrap_err().0;
        assert_eq!(
            field(Settings { websocket_max_connections: 0, ..Settings::default() }),
            "websocket_max_connections"
        );
        assert_eq!(field(Settings { max_message_bytes: 100, ..Settings::default() }), "max_message_bytes");
        assert_eq!(
            field(Settings { websocket_binary_max_bytes: 2 << 30, ..Settings::default() }),
            "websocket_binary_max_bytes"
        );
        assert_eq!(field(Settings { max_json_depth: 2, ..Settings::default() }), "max_json_depth");
        let allowed_origins = vec!["app.example".to_owned()];
        assert_eq!(field(Settings { allowed_origins, ..Settings::default() }), "allowed_origins");
    }
}
