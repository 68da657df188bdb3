//! Reading what a client asks for from JSON.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use veche_access::Credential;
use veche_doors::{Error, ErrorKind};
use veche_hub::{ChannelName, Filters, Json, Position, Signal};

use super::request::{
    ClientMessage, Content, Id, Recipient, Request, bad, binary, channel, epoch, info, nobody, notification,
    publication, recipient, signal,
};
use crate::depth;
use crate::settings::Settings;

/// The longest `id` of a request, in bytes of JSON.
const MAX_ID_BYTES: usize = 66;

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

impl NotificationFields {
    fn message(self) -> Result<ClientMessage, Error> {
        let to = recipient(self.channel.as_deref(), self.user_id.as_deref(), None)?;
        let content = notification(self.title, self.body, self.notification_type, self.data)?;
        publication(to.unwrap_or(Recipient::Everybody), content, self.persistent, self.idempotency_key)
            .map(ClientMessage::Publish)
    }
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
