//! What can go wrong between a client and the server, with the three faces each of it has: the `code` of an error
//! message, the status of an HTTP answer, and the code that closes a WebSocket.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use ts_rs::TS;
use utoipa::ToSchema;

macro_rules! error_kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal, $close:literal;)+) => {
        /// What is wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ErrorKind { $($(#[$doc])* $name),+ }

        impl ErrorKind {
            /// All of them.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$name),+];

            /// The `code` for programs.
            pub fn code(self) -> &'static str {
                match self { $(ErrorKind::$name => $code),+ }
            }

            /// The kind of this code.
            pub fn from_code(code: &str) -> Option<Self> {
                match code { $($code => Some(ErrorKind::$name),)+ _ => None }
            }

            /// The status of an HTTP answer.
            pub fn status(self) -> StatusCode {
                let status: u16 = match self { $(ErrorKind::$name => $status),+ };
                StatusCode::from_u16(status).expect("the table has valid statuses only")
            }

            /// The code with which a WebSocket is closed, where this closes it.
            pub fn close_code(self) -> u16 {
                match self { $(ErrorKind::$name => $close),+ }
            }
        }
    };
}

error_kinds! {
    /// A parameter or field that is missing or wrong.
    BadRequest = "bad_request", 400, 4400;
    /// Not JSON, or JSON that is not what its `type` or `signal_type` needs.
    BadMessage = "bad_message", 400, 4400;
    /// A `signal_type` that the server does not know, without a `target_peer_id`.
    UnknownSignalType = "unknown_signal_type", 400, 4400;
    /// A `room_id` in a message that is not the connection's room.
    WrongRoom = "wrong_room", 400, 4400;
    /// An SDP offer that cannot be used; the session stays as it was.
    OfferInvalid = "offer_invalid", 400, 4400;
    /// Text that is no JSON, of a connection that uses actions.
    BadJson = "bad_json", 400, 4400;
    /// Not the name of a channel.
    BadChannel = "bad_channel", 400, 4400;
    /// Credentials are needed, and there are none.
    AuthenticationRequired = "authentication_required", 401, 4001;
    /// The token is wrong.
    InvalidToken = "invalid_token", 401, 4002;
    /// The token was right, until it expired.
    TokenExpired = "token_expired", 401, 4002;
    /// The API key is unknown or revoked.
    InvalidApiKey = "invalid_api_key", 401, 4002;
    /// The credentials did not come in time.
    AuthenticationTimeout = "authentication_timeout", 408, 4003;
    /// What checks credentials cannot be reached.
    AuthenticationUnavailable = "authentication_unavailable", 503, 1013;
    /// The credentials do not grant this.
    Forbidden = "forbidden", 403, 4403;
    /// A page of an origin that is not allowed.
    ForbiddenOrigin = "forbidden_origin", 403, 4403;
    /// No such room.
    RoomNotFound = "room_not_found", 404, 4404;
    /// No such peer in the room.
    PeerNotFound = "peer_not_found", 404, 4404;
    /// The peer's connection is lost; it may come back.
    PeerNotConnected = "peer_not_connected", 409, 4404;
    /// The peer reads more slowly than it is sent to.
    PeerBusy = "peer_busy", 409, 4429;
    /// Nobody of this user, or no such connection, is connected.
    RecipientNotFound = "recipient_not_found", 404, 4404;
    /// Filters that are out of bounds.
    BadFilters = "bad_filters", 400, 4400;
    /// The connection subscribes to as many channels as it may.
    TooManySubscriptions = "too_many_subscriptions", 409, 4429;
    /// There are as many channels as there may be.
    TooManyChannels = "too_many_channels", 503, 4424;
    /// An idempotency key that is empty or too long.
    BadIdempotencyKey = "bad_idempotency_key", 400, 4400;
    /// The same idempotency key came with another message.
    IdempotencyConflict = "idempotency_conflict", 409, 4409;
    /// The client reads more slowly than it is sent to.
    SlowConsumer = "slow_consumer", 409, 4290;
    /// The server, or a moderator, has removed the client.
    Removed = "removed", 403, 4403;
    /// A file larger than allowed.
    FileTooLarge = "file_too_large", 413, 4413;
    /// A type of content that is not allowed.
    TypeNotAllowed = "type_not_allowed", 415, 4415;
    /// Content that is not what it is said to be.
    TypeMismatch = "type_mismatch", 415, 4415;
    /// The files of a user, of a channel, or all of them take as much as they may.
    QuotaExceeded = "quota_exceeded", 413, 4413;
    /// No such file.
    FileNotFound = "file_not_found", 404, 4404;
    /// Binary data is switched off by configuration.
    FilesDisabled = "files_disabled", 503, 1001;
    /// As many unfinished uploads as there may be.
    TooManyUploads = "too_many_uploads", 429, 4429;
    /// No such upload.
    UploadNotFound = "upload_not_found", 404, 4404;
    /// An upload goes on elsewhere than it was left.
    UploadOffsetMismatch = "upload_offset_mismatch", 409, 4409;
    /// Another version of the protocol of resumable uploads.
    UploadVersion = "upload_version", 412, 4400;
    /// Another request works on the upload.
    UploadBusy = "upload_busy", 423, 4409;
    /// A body that is compressed, or of a type that the address does not take.
    UnsupportedEncoding = "unsupported_encoding", 415, 4415;
    /// A part of a file that is not there.
    RangeNotSatisfiable = "range_not_satisfiable", 416, 4400;
    /// No such track, or not the client's own.
    TrackNotFound = "track_not_found", 404, 4404;
    /// No such camera sends.
    CameraNotFound = "camera_not_found", 404, 4404;
    /// Somebody else sends as this camera.
    CameraTaken = "camera_taken", 409, 4409;
    /// There are as many cameras as there may be.
    TooManyCameras = "too_many_cameras", 503, 4424;
    /// A picture that is broken, cut off, or of a kind that is not shown.
    BadPicture = "bad_picture", 415, 4415;
    /// No such address.
    NotFound = "not_found", 404, 4404;
    /// The address does not take this method.
    MethodNotAllowed = "method_not_allowed", 405, 4400;
    /// Silent for too long.
    Idle = "idle", 408, 4408;
    /// A room of this name exists.
    RoomExists = "room_exists", 409, 4409;
    /// Somebody has this peer id.
    PeerIdTaken = "peer_id_taken", 409, 4409;
    /// No such recording, or no such file of it.
    RecordingNotFound = "recording_not_found", 404, 4404;
    /// The room is being recorded already, or the recording still runs.
    RecordingRuns = "recording_runs", 409, 4409;
    /// Recordings are switched off, or none can begin now.
    RecordingUnavailable = "recording_unavailable", 503, 1013;
    /// The room takes nobody in now.
    RoomLocked = "room_locked", 403, 4423;
    /// A moderator keeps this user out.
    Banned = "banned", 403, 4403;
    /// A moderator did not admit the client.
    NotAdmitted = "not_admitted", 403, 4403;
    /// The room was deleted.
    RoomDeleted = "room_deleted", 410, 4410;
    /// Larger than allowed.
    MessageTooLarge = "message_too_large", 413, 4413;
    /// The room has as many participants as it may have.
    RoomFull = "room_full", 409, 4423;
    /// There are as many rooms as there may be, or as many that stay when they are empty.
    TooManyRooms = "too_many_rooms", 503, 4424;
    /// More messages, or requests of one address, than allowed.
    RateLimited = "rate_limited", 429, 4429;
    /// The same resume token connected again.
    Replaced = "replaced", 409, 4440;
    /// There are as many connections as there may be.
    TooManyConnections = "too_many_connections", 503, 4429;
    /// Switched off by configuration.
    WebrtcDisabled = "webrtc_disabled", 503, 1001;
    /// This door is switched off by configuration.
    DoorDisabled = "door_disabled", 503, 1001;
    /// Storage is behind.
    StorageBusy = "storage_busy", 503, 1013;
    /// What shall be kept, or is asked for, is out of reach.
    StorageUnavailable = "storage_unavailable", 503, 1001;
    /// The media plane did not answer in time.
    MediaUnavailable = "media_unavailable", 503, 1001;
    /// The server stops.
    ServerStopping = "server_stopping", 503, 1001;
}

/// What is wrong, and what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What is wrong.
    pub kind: ErrorKind,
    /// For people: what is wrong and what would be right.
    pub message: String,
}

impl Error {
    /// An error of this kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The body of an HTTP answer, and part of an error message.
    pub fn into_body(self) -> ErrorBody {
        ErrorBody { code: self.kind.code().to_owned(), message: self.message }
    }
}

/// What is wrong, and what to change. Also the body of every HTTP error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, TS, ToSchema)]
pub struct ErrorBody {
    /// For programs, such as `room_full`.
    pub code: String,
    /// For people.
    pub message: String,
}

/// The body of every HTTP error.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorAnswer {
    /// What is wrong.
    pub error: ErrorBody,
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        (self.kind.status(), Json(ErrorAnswer { error: self.into_body() })).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The row of a kind in a document's table of errors; a dash stands for a face that the document's doors never show.
    fn is_documented(kind: ErrorKind, document: &str) -> bool {
        let row = document.lines().find(|line| line.starts_with(&format!("| `{}` |", kind.code())));
        row.is_some_and(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let [_, _, status, close, ..] = cells[..] else { return false };
            let agree = |cell: &str, value: u16| cell == "–" || cell == value.to_string();
            agree(status, kind.status().as_u16()) && agree(close, kind.close_code())
        })
    }

    #[test]
    fn every_kind_has_its_own_code_a_valid_status_and_a_sendable_close_code_and_is_documented() {
        let documents = [
            include_str!("../../cameras/PROTOCOL.md"),
            include_str!("../../messaging/PROTOCOL.md"),
            include_str!("../../signaling/PROTOCOL.md"),
        ];
        let mut codes = std::collections::HashSet::new();
        for kind in ErrorKind::ALL {
            assert!(codes.insert(kind.code()), "{} is there twice", kind.code());
            assert!(kind.status().is_client_error() || kind.status().is_server_error());
            assert!(matches!(kind.close_code(), 1001 | 1013 | 4001..=4003 | 4290 | 4400..=4499));
            let documented = documents.iter().any(|document| is_documented(*kind, document));
            assert!(
                documented,
                "the tables of PROTOCOL.md lack {}, or say something else of it",
                kind.code()
            );
        }
    }
}
