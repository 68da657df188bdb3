//! What a client asks for, and what its fields may be. `json.rs` and `protobuf.rs` read it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use veche_access::Credential;
use veche_doors::{Error, ErrorKind};
use veche_hub::{ChannelName, ConnectionId, Epoch, Filters, Json, Notification, Position, Signal};

/// The longest text of any field that names something: titles, types, file names, idempotency keys.
pub(crate) const MAX_TEXT_BYTES: usize = 255;

/// The longest body of a notification, in bytes.
const MAX_NOTIFICATION_BODY_BYTES: usize = 4096;

/// What a client called its request: a number or a text, as JSON. It comes back in the answer.
pub type Id = Box<str>;

/// One request of a client.
#[derive(Debug)]
pub struct Request {
    /// What the client calls it.
    pub id: Option<Id>,
    /// What it asks for.
    pub message: ClientMessage,
}

/// What a client asks for.
#[derive(Debug)]
pub enum ClientMessage {
    /// To be who the credential says; `None` where the message carries none.
    Authenticate(Option<Credential>),
    /// To get the messages of a channel.
    Subscribe {
        /// Which.
        channel: ChannelName,
        /// Which of its messages; `None`: all.
        filters: Option<Filters>,
        /// Where the client left off.
        recover: Option<Position>,
        /// Whether to be told who comes and goes.
        presence: bool,
    },
    /// To get them no more.
    Unsubscribe {
        /// Which channel's.
        channel: ChannelName,
    },
    /// To send something.
    Publish(Publish),
    /// Who subscribes to a channel.
    Presence {
        /// Which.
        channel: ChannelName,
    },
    /// The newest messages of a channel.
    History {
        /// Which.
        channel: ChannelName,
        /// Only those after this offset.
        since: Option<u64>,
        /// The epoch of that offset.
        epoch: Option<Epoch>,
        /// At most so many.
        limit: Option<usize>,
    },
    /// To pass something to a peer that wants to connect.
    Signal(Signal),
    /// A sign of life.
    Ping,
    /// A line of chat to everybody.
    Chat {
        /// Who says it.
        user: String,
        /// What.
        message: String,
    },
    /// The chat with rooms.
    Action(Action),
    /// What the server does not know, which comes back.
    Echo(Json),
}

/// Something to be sent.
#[derive(Debug)]
pub struct Publish {
    /// To whom.
    pub to: Recipient,
    /// What.
    pub content: Content,
    /// Whether to keep it for new subscribers of the channel.
    pub persistent: bool,
    /// Makes a repetition harmless.
    pub idempotency_key: Option<Box<str>>,
}

/// Who gets what a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// The subscribers of a channel.
    Channel(ChannelName),
    /// All connections of a user.
    User(Box<str>),
    /// One connection.
    Connection(ConnectionId),
    /// Everybody who is connected.
    Everybody,
}

/// What a client sends.
#[derive(Debug)]
pub enum Content {
    /// Any JSON.
    Data(Json),
    /// Bytes.
    Binary {
        /// The bytes.
        data: Bytes,
        /// What they are, where the client says so.
        content_type: Option<String>,
        /// What the file is called.
        filename: Option<String>,
    },
    /// A notification.
    Notification(Notification),
}

/// The chat with rooms.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Gives the client a name.
    SetUsername {
        /// The name.
        #[serde(default = "nobody")]
        username: String,
    },
    /// Enters a room, and leaves the one before.
    Join {
        /// The room.
        #[serde(default = "general")]
        room: String,
    },
    /// Says something in the room.
    Message {
        /// What.
        #[serde(default)]
        text: String,
    },
    /// Leaves the room.
    Leave,
}

/// The name of who has not given any.
pub(crate) fn nobody() -> String {
    "Аноним".to_owned()
}

fn general() -> String {
    "general".to_owned()
}

/// A channel's name that came from outside.
pub(crate) fn channel(name: &str) -> Result<ChannelName, Error> {
    ChannelName::new(name).map_err(|error| Error::new(ErrorKind::BadChannel, error.to_string()))
}

/// A connection's name that came from outside.
pub(crate) fn connection(name: &str) -> Result<ConnectionId, Error> {
    name.parse().map_err(|_| {
        bad("connection_id: not like `conn_0123456789abcdef`; take it from `welcome` or a `sender`")
    })
}

/// An epoch that came from outside.
pub(crate) fn epoch(text: &str) -> Result<Epoch, Error> {
    text.parse().map_err(|_| bad("epoch: eight hexadecimal digits, as `subscribed` and messages have them"))
}

/// Bytes that came as base64, of which there may be `limit`.
pub(crate) fn binary(
    base64: &str,
    content_type: Option<String>,
    filename: Option<String>,
    limit: usize,
) -> Result<Content, Error> {
    let data = BASE64_STANDARD.decode(base64).map_err(|error| {
        bad(format!("binary_data: not base64 (RFC 4648 section 4, with padding): {error}"))
    })?;
    if data.len() > limit {
        let message = format!("a binary message may have {limit} bytes; upload larger ones in pieces");
        return Err(Error::new(ErrorKind::MessageTooLarge, message));
    }
    text_within("content_type", content_type.as_deref(), MAX_TEXT_BYTES)?;
    text_within("filename", filename.as_deref(), MAX_TEXT_BYTES)?;
    Ok(Content::Binary { data: data.into(), content_type, filename })
}

/// The type of a notification that names none.
pub(crate) fn info() -> String {
    "info".to_owned()
}

/// A notification within its bounds.
pub(crate) fn notification(
    title: String,
    body: String,
    notification_type: String,
    data: Option<Json>,
) -> Result<Content, Error> {
    text_within("title", Some(&title), MAX_TEXT_BYTES)?;
    text_within("body", Some(&body), MAX_NOTIFICATION_BODY_BYTES)?;
    text_within("notification_type", Some(&notification_type), 64)?;
    Ok(Content::Notification(Notification {
        title: title.into(),
        body: body.into(),
        notification_type: notification_type.into(),
        data,
    }))
}

/// A signal within its bounds.
pub(crate) fn signal(
    signal_type: String,
    target_peer_id: String,
    room_id: Option<String>,
    sdp: Option<String>,
    ice_candidate: Option<Json>,
) -> Result<Signal, Error> {
    text_within("signal_type", Some(&signal_type), 64)?;
    text_within("target_peer_id", Some(&target_peer_id), MAX_TEXT_BYTES)?;
    text_within("room_id", room_id.as_deref(), MAX_TEXT_BYTES)?;
    Ok(Signal {
        signal_type: signal_type.into(),
        target_peer_id: target_peer_id.into(),
        room_id: room_id.map(Into::into),
        sdp: sdp.map(Into::into),
        ice_candidate,
    })
}

/// Whom fields name; `None` where they name nobody.
pub(crate) fn recipient(
    channel_name: Option<&str>,
    user_id: Option<&str>,
    connection_id: Option<&str>,
) -> Result<Option<Recipient>, Error> {
    match (channel_name, user_id, connection_id) {
        (None, None, None) => Ok(None),
        (Some(name), None, None) => channel(name).map(Recipient::Channel).map(Some),
        (None, Some(user_id), None) => {
            text_within("user_id", Some(user_id), MAX_TEXT_BYTES)?;
            Ok(Some(Recipient::User(user_id.into())))
        }
        (None, None, Some(name)) => connection(name).map(Recipient::Connection).map(Some),
        _ => Err(bad("channel, user_id, connection_id: say one of them, not several")),
    }
}

pub(crate) fn publication(
    to: Recipient,
    content: Content,
    persistent: bool,
    idempotency_key: Option<String>,
) -> Result<Publish, Error> {
    if persistent && !matches!(to, Recipient::Channel(_)) {
        return Err(bad(
            "persistent: only messages of a channel can be kept; leave it out or name a channel",
        ));
    }
    let idempotency_key = idempotency_key.filter(|key| !key.is_empty());
    text_within("idempotency_key", idempotency_key.as_deref(), 128)?;
    Ok(Publish { to, content, persistent, idempotency_key: idempotency_key.map(Into::into) })
}

/// Whether a text of a field is within its bound.
pub(crate) fn text_within(field: &str, text: Option<&str>, limit: usize) -> Result<(), Error> {
    if text.is_none_or(|text| text.len() <= limit) {
        return Ok(());
    }
    Err(bad(format!("{field}: longer than {limit} bytes; choose a shorter one")))
}

pub(crate) fn bad(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::BadMessage, message)
}
