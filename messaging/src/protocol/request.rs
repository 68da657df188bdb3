//! What a client asks for, and reading it from JSON.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use veche_access::Credential;
use veche_doors::{Error, ErrorKind};
use veche_hub::{ChannelName, ConnectionId, Epoch, Filters, Json, Notification, Position, Signal};

use crate::depth;
use crate::settings::Settings;

/// The longest `id` of a request, in bytes of JSON.
const MAX_ID_BYTES: usize = 66;

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

/// What stands in front of every message.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    action: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    token: Option<&'a RawValue>,
}

/// Why a text is no request.
#[derive(Debug)]
pub enum Unreadable {
    /// It is no JSON at all.
    NoJson,
    /// It asks for something in a wrong way.
    Wrong(Error, Option<Id>),
}

impl Request {
    /// Reads a JSON text.
    pub fn from_json(text: &str, settings: &Settings) -> Result<Self, Unreadable> {
        if text.len() > settings.max_message_bytes && !is_binary(text) {
            return Err(Unreadable::Wrong(too_large(settings.max_message_bytes), None));
        }
        if !depth::is_within(text, settings.max_json_depth) {
            let message = format!("JSON may be {} deep; flatten it", settings.max_json_depth);
            return Err(Unreadable::Wrong(bad(message), None));
        }
        let whole: &RawValue = serde_json::from_str(text).map_err(|_| Unreadable::NoJson)?;
        if !whole.get().starts_with('{') {
            return Ok(Self { id: None, message: ClientMessage::Echo(whole.to_owned()) });
        }
        let head: Head<'_> =
            serde_json::from_str(text).map_err(|error| Unreadable::Wrong(bad(error.to_string()), None))?;
        let id = request_id(head.id).map_err(|error| Unreadable::Wrong(error, None))?;
        match message(text, &head, settings) {
            Ok(Some(message)) => Ok(Self { id, message }),
            Ok(None) => Ok(Self { id, message: ClientMessage::Echo(whole.to_owned()) }),
            Err(error) => Err(Unreadable::Wrong(error, id)),
        }
    }
}

/// The types of messages that clients may send; another one comes back as `echo`.
pub const CLIENT_TYPES: [&str; 14] = [
    "auth",
    "subscribe",
    "unsubscribe",
    "channel_message",
    "publish",
    "binary",
    "direct",
    "broadcast",
    "notification",
    "presence",
    "history",
    "webrtc_signal",
    "ping",
    "chat",
];

/// Only bytes in base64 may be longer than other messages.
fn is_binary(text: &str) -> bool {
    let head = serde_json::from_str::<Head<'_>>(text);
    head.is_ok_and(|head| head.kind.is_some_and(|kind| kind.get() == "\"binary\""))
}

/// What is said of a JSON text above the limit.
pub(crate) fn too_large(limit: usize) -> Error {
    let message = format!("a message may have {limit} bytes; send larger things as `binary` or upload them");
    Error::new(ErrorKind::MessageTooLarge, message)
}

/// `None`: the server does not know what this is.
fn message(text: &str, head: &Head<'_>, settings: &Settings) -> Result<Option<ClientMessage>, Error> {
    let kind: Option<String> = head.kind.and_then(|kind| serde_json::from_str(kind.get()).ok());
    let Some(kind) = kind.as_deref() else {
        return match (head.kind, head.action, head.token) {
            (None, Some(_), _) => Ok(action(text)),
            (None, None, Some(_)) => authenticate(text).map(Some),
            _ => Ok(None),
        };
    };
    let message = match kind {
        "auth" => authenticate(text)?,
        "subscribe" => read::<SubscribeFields>(text, kind)?.message()?,
        "unsubscribe" => ClientMessage::Unsubscribe { channel: channel_of(text, kind)? },
        "channel_message" | "publish" => read::<DataFields>(text, kind)?.into_channel()?,
        "direct" => read::<DataFields>(text, kind)?.into_direct()?,
        "broadcast" => read::<DataFields>(text, kind)?.publish(Recipient::Everybody)?,
        "binary" => read::<BinaryFields>(text, kind)?.message(settings)?,
        "notification" => read::<NotificationFields>(text, kind)?.message()?,
        "presence" => ClientMessage::Presence { channel: channel_of(text, kind)? },
        "history" => read::<HistoryFields>(text, kind)?.message()?,
        "webrtc_signal" => ClientMessage::Signal(read::<SignalFields>(text, kind)?.signal()?),
        "ping" => ClientMessage::Ping,
        "chat" => {
            let ChatFields { user, message } = read(text, kind)?;
            ClientMessage::Chat { user, message }
        }
        _ => return Ok(None),
    };
    Ok(Some(message))
}

/// An action that is unknown, or whose fields are no texts, comes back like everything unknown.
fn action(text: &str) -> Option<ClientMessage> {
    serde_json::from_str(text).ok().map(ClientMessage::Action)
}

fn authenticate(text: &str) -> Result<ClientMessage, Error> {
    let fields: AuthFields = read(text, "auth")?;
    let token = fields.token.as_deref().and_then(Credential::from_text);
    let key = || fields.api_key.as_deref().and_then(Credential::api_key);
    Ok(ClientMessage::Authenticate(token.or_else(key)))
}

fn request_id(id: Option<&RawValue>) -> Result<Option<Id>, Error> {
    let Some(id) = id else { return Ok(None) };
    let text = id.get();
    let is_name = text.starts_with(['"', '-']) || text.starts_with(|c: char| c.is_ascii_digit());
    if is_name && text.len() <= MAX_ID_BYTES {
        return Ok(Some(text.into()));
    }
    Err(bad("id: a number, or a text of up to 64 bytes"))
}

fn read<'a, T: Deserialize<'a>>(text: &'a str, kind: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| bad(format!("{kind}: {error}")))
}

fn channel_of(text: &str, kind: &str) -> Result<ChannelName, Error> {
    #[derive(Deserialize)]
    struct Fields {
        channel: String,
    }
    channel(&read::<Fields>(text, kind)?.channel)
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

#[derive(Deserialize)]
struct AuthFields {
    token: Option<String>,
    api_key: Option<String>,
}

#[derive(Deserialize)]
struct ChatFields {
    #[serde(default = "nobody")]
    user: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct SubscribeFields {
    channel: String,
    filters: Option<Filters>,
    recover: Option<Recover>,
    #[serde(default)]
    presence: bool,
}

#[derive(Deserialize)]
struct Recover {
    epoch: String,
    offset: u64,
}

impl SubscribeFields {
    fn message(self) -> Result<ClientMessage, Error> {
        let recover = match self.recover {
            Some(recover) => Some(Position { epoch: epoch(&recover.epoch)?, offset: recover.offset }),
            None => None,
        };
        Ok(ClientMessage::Subscribe {
            channel: channel(&self.channel)?,
            filters: self.filters,
            recover,
            presence: self.presence,
        })
    }
}

/// An epoch that came from outside.
pub(crate) fn epoch(text: &str) -> Result<Epoch, Error> {
    text.parse().map_err(|_| bad("epoch: eight hexadecimal digits, as `subscribed` and messages have them"))
}

/// Data with its recipient, as WebSocket messages and HTTP bodies have it.
#[derive(Debug, Deserialize)]
pub(crate) struct DataFields {
    channel: Option<String>,
    user_id: Option<String>,
    connection_id: Option<String>,
    #[serde(default, deserialize_with = "even_null")]
    data: Option<Json>,
    #[serde(default)]
    persistent: bool,
    idempotency_key: Option<String>,
}

/// Data may be `null`, which is not the same as none.
fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

impl DataFields {
    fn into_channel(self) -> Result<ClientMessage, Error> {
        let name = self.channel.as_deref().ok_or_else(|| bad("channel: missing; say which one"))?;
        let to = Recipient::Channel(channel(name)?);
        self.publish(to)
    }

    fn into_direct(self) -> Result<ClientMessage, Error> {
        let to = recipient(None, self.user_id.as_deref(), self.connection_id.as_deref())?;
        let to = to.ok_or_else(|| bad("user_id or connection_id: missing; say who shall get it"))?;
        self.publish(to)
    }

    fn publish(self, to: Recipient) -> Result<ClientMessage, Error> {
        let data = self.data.ok_or_else(|| bad("data: missing; it may be any JSON"))?;
        publication(to, Content::Data(data), self.persistent, self.idempotency_key)
            .map(ClientMessage::Publish)
    }
}

/// Bytes in base64 with their recipient.
#[derive(Debug, Deserialize)]
struct BinaryFields {
    binary_data: String,
    content_type: Option<String>,
    filename: Option<String>,
    channel: Option<String>,
    user_id: Option<String>,
    connection_id: Option<String>,
    #[serde(default)]
    persistent: bool,
    idempotency_key: Option<String>,
}

impl BinaryFields {
    fn message(self, settings: &Settings) -> Result<ClientMessage, Error> {
        let to = recipient(self.channel.as_deref(), self.user_id.as_deref(), self.connection_id.as_deref())?;
        let limit = settings.websocket_binary_max_bytes;
        let content = binary(&self.binary_data, self.content_type, self.filename, limit)?;
        publication(to.unwrap_or(Recipient::Everybody), content, self.persistent, self.idempotency_key)
            .map(ClientMessage::Publish)
    }
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

#[derive(Deserialize)]
struct NotificationFields {
    title: String,
    #[serde(default)]
    body: String,
    #[serde(default = "info")]
    notification_type: String,
    data: Option<Json>,
    user_id: Option<String>,
    channel: Option<String>,
    #[serde(default)]
    persistent: bool,
    idempotency_key: Option<String>,
}

/// The type of a notification that names none.
pub(crate) fn info() -> String {
    "info".to_owned()
}

impl NotificationFields {
    fn message(self) -> Result<ClientMessage, Error> {
        let to = recipient(self.channel.as_deref(), self.user_id.as_deref(), None)?;
        let content = notification(self.title, self.body, self.notification_type, self.data)?;
        publication(to.unwrap_or(Recipient::Everybody), content, self.persistent, self.idempotency_key)
            .map(ClientMessage::Publish)
    }
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

#[derive(Deserialize)]
struct HistoryFields {
    channel: String,
    since: Option<u64>,
    epoch: Option<String>,
    limit: Option<usize>,
}

impl HistoryFields {
    fn message(self) -> Result<ClientMessage, Error> {
        Ok(ClientMessage::History {
            channel: channel(&self.channel)?,
            since: self.since,
            epoch: self.epoch.as_deref().map(epoch).transpose()?,
            limit: self.limit,
        })
    }
}

#[derive(Deserialize)]
struct SignalFields {
    signal_type: String,
    target_peer_id: String,
    room_id: Option<String>,
    sdp: Option<String>,
    ice_candidate: Option<Json>,
}

impl SignalFields {
    fn signal(self) -> Result<Signal, Error> {
        let Self { signal_type, target_peer_id, room_id, sdp, ice_candidate } = self;
        signal(signal_type, target_peer_id, room_id, sdp, ice_candidate)
    }
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
