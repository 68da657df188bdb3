//! Messages of channels and letters in the forms of the doors. Each form is made once per message and shared by
//! everybody who gets it.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use veche_hub::{
    Binary, Body, ConnectionId, Epoch, Form, Item, Message, MessageId, PresenceEntry, Sender, Signal, Tag, To,
};

use super::answer::{Present, PublishedAnswer, ServerMessage, SubscribedAnswer, present, refusal};
use super::protobuf;
use crate::clock::rfc3339;
use crate::frame;

/// The tag of what the server asks for in a client's name, whose answers nobody waits for. No `id` of a client is like
/// it, since those are JSON.
pub(crate) const UNASKED: &str = "-";

/// What goes over a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encoded {
    /// A text frame.
    Text(Bytes),
    /// A binary frame.
    Binary(Bytes),
}

/// How a client wants binary messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// In JSON, as base64.
    Json,
    /// As binary frames; everything else in JSON.
    JsonBinary,
    /// As everything else, in Protobuf.
    Protobuf,
}

impl Encoding {
    /// What the server says to one client by itself.
    pub(crate) fn answer(self, answer: &ServerMessage) -> Encoded {
        match self {
            Self::Json | Self::JsonBinary => Encoded::Text(answer.to_json()),
            Self::Protobuf => Encoded::Binary(protobuf::answer(answer)),
        }
    }
}

impl Encoded {
    /// The bytes without what kind of frame they go in.
    pub(crate) fn into_bytes(self) -> Bytes {
        let (Self::Text(bytes) | Self::Binary(bytes)) = self;
        bytes
    }
}

/// What an item of an outbox is on the wire of a WebSocket; `None`: nothing to say, since nobody waits for the answer.
/// The close that follows [`Item::Disconnect`] is the door's.
pub fn encode_item(item: Item, encoding: Encoding) -> Option<Encoded> {
    let answer = match item {
        Item::Message(message) => return Some(encode(&message, encoding)),
        Item::Answer(bytes) if encoding == Encoding::Protobuf => return Some(Encoded::Binary(*bytes)),
        Item::Answer(bytes) => return Some(Encoded::Text(*bytes)),
        Item::Subscribed(subscribed) if is_unasked(&subscribed.tag) => return None,
        Item::Subscribed(subscribed) => ServerMessage::Subscribed(SubscribedAnswer::new(&subscribed)),
        Item::NotSubscribed(failed) => {
            let (tag, _, error) = *failed;
            ServerMessage::error(refusal(error.code(), error.to_string()), tag)
        }
        Item::Unsubscribed(channel) => ServerMessage::Unsubscribed { id: None, channel: *channel },
        Item::Published(published) => match *published {
            (None, _, Ok(_)) => return None,
            (tag, _, Ok(_)) if is_unasked(&tag) => return None,
            (tag, channel, Ok(published)) => {
                ServerMessage::Published(PublishedAnswer::in_channel(tag, channel, &published))
            }
            (tag, _, Err(error)) => ServerMessage::error(refusal(error.code(), error.to_string()), tag),
        },
        Item::Disconnect(why) => ServerMessage::disconnect(&why),
    };
    Some(encoding.answer(&answer))
}

fn is_unasked(tag: &Tag) -> bool {
    tag.as_deref() == Some(UNASKED)
}

fn encode(message: &Message, encoding: Encoding) -> Encoded {
    match (encoding, &message.body) {
        (Encoding::JsonBinary, Body::Binary(binary)) => {
            let encode = |message: &Message| to_frame(message, binary);
            Encoded::Binary(message.form(Form::Binary, encode).clone())
        }
        (Encoding::Protobuf, _) => Encoded::Binary(message.form(Form::Protobuf, protobuf::message).clone()),
        _ => Encoded::Text(message.form(Form::Json, to_json).clone()),
    }
}

/// The `type` of a message, which is its event's name in a stream of events, but for `message` and `binary_data`.
pub(crate) fn kind(message: &Message) -> &'static str {
    match (&message.body, &message.to) {
        (Body::Data(_), To::Channel { .. }) => "channel_message",
        (Body::Data(_), To::User(_) | To::Connection(_)) => "direct",
        (Body::Data(_), To::Everybody) => "broadcast",
        (Body::Binary(_), _) => "binary",
        (Body::File(_), _) => "file",
        (Body::Notification(_), _) => "notification",
        (Body::Signal(_), _) => "webrtc_signal",
        (Body::Presence(_), _) => "presence",
        (Body::Verbatim(_), _) => "verbatim",
    }
}

/// The JSON text of a message.
pub fn to_json(message: &Message) -> Bytes {
    if let Body::Verbatim(object) = &message.body {
        return object.get().to_owned().into();
    }
    let is_presence = matches!(message.body, Body::Presence(_));
    let (channel, position) = (message.channel(), message.position().filter(|_| !is_presence));
    let signal = if let Body::Signal(signal) = &message.body { Some(signal) } else { None };
    let binary = if let Body::Binary(binary) = &message.body { Some(binary) } else { None };
    let text = Text {
        kind: kind(message),
        channel: channel.map(AsRef::as_ref),
        data: data(&message.body),
        binary_data: binary.map(|binary| BASE64_STANDARD.encode(&binary.data)),
        content_type: binary.map(|binary| &*binary.content_type),
        filename: binary.and_then(|binary| binary.filename.as_deref()),
        size: binary.map(|binary| binary.data.len()),
        file: if let Body::File(file) = &message.body { Some(&file.description) } else { None },
        notification: notification(&message.body),
        signal: signal.map(|signal| SignalText::new(signal, message.sender.as_deref())),
        presence: presence_text(&message.body),
        message_id: (!is_presence).then_some(message.id),
        offset: position.map(|position| position.offset),
        epoch: position.map(|position| position.epoch),
        persistent: position.map(|_| message.persistent),
        sender: message.sender.as_deref().filter(|_| signal.is_none()),
        timestamp: rfc3339(message.time),
    };
    serde_json::to_vec(&text).expect("messages have text keys only").into()
}

/// A message as an event of a stream, without its `id` line, which is the stream's own.
pub(crate) fn to_sse(message: &Message) -> Bytes {
    let json = message.form(Form::Json, to_json);
    let name = match kind(message) {
        // What is verbatim says itself what it is, for whoever listens to everything.
        "channel_message" | "verbatim" => "message",
        "binary" => "binary_data",
        kind => kind,
    };
    sse_event(name, json)
}

/// An event of a stream. Line ends can stand between the parts of a JSON text, where a space does as well.
pub(crate) fn sse_event(name: &str, json: &[u8]) -> Bytes {
    let mut event = Vec::with_capacity(json.len() + name.len() + 18);
    event.extend_from_slice(b"event: ");
    event.extend_from_slice(name.as_bytes());
    event.extend_from_slice(b"\ndata: ");
    event.extend(json.iter().map(|&byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
    event.extend_from_slice(b"\n\n");
    event.into()
}

fn to_frame(message: &Message, binary: &Binary) -> Bytes {
    let position = message.position();
    let sender = message.sender.as_deref();
    let mut connection_id = String::new();
    if let Some(id) = sender.and_then(|sender| sender.connection_id) {
        let _ = write!(connection_id, "{id}");
    }
    frame::encode_delivery(&frame::Delivery {
        persistent: message.persistent,
        offset: position.map_or(0, |position| position.offset),
        epoch: position.map_or(0, |position| epoch_value(position.epoch)),
        time: message.time.0,
        message_id: &message.id.to_string(),
        channel: message.channel().map_or("", AsRef::as_ref),
        content_type: &binary.content_type,
        filename: binary.filename.as_deref().unwrap_or_default(),
        user_id: sender.and_then(|sender| sender.user_id.as_deref()).unwrap_or_default(),
        name: sender.map_or("", |sender| &sender.name),
        connection_id: &connection_id,
        payload: &binary.data,
    })
}

fn epoch_value(epoch: Epoch) -> u32 {
    u32::from_str_radix(&epoch.to_string(), 16).expect("an epoch is eight hexadecimal digits")
}

/// A message; what its type does not have is absent.
#[derive(Serialize)]
struct Text<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a RawValue>,
    #[serde(flatten)]
    notification: Option<NotificationText<'a>>,
    #[serde(flatten)]
    signal: Option<SignalText<'a>>,
    #[serde(flatten)]
    presence: Option<PresenceText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<Epoch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    persistent: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<&'a Sender>,
    timestamp: String,
}

#[derive(Serialize)]
struct NotificationText<'a> {
    title: &'a str,
    body: &'a str,
    notification_type: &'a str,
}

#[derive(Serialize)]
struct SignalText<'a> {
    signal_type: &'a str,
    target_peer_id: &'a str,
    from_peer_id: Option<ConnectionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sdp: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ice_candidate: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct PresenceText {
    joined: Vec<Present>,
    left: Vec<Present>,
    present: usize,
    #[serde(skip_serializing_if = "is_zero")]
    omitted: usize,
}

impl<'a> SignalText<'a> {
    fn new(signal: &'a Signal, sender: Option<&'a Sender>) -> Self {
        Self {
            signal_type: &signal.signal_type,
            target_peer_id: &signal.target_peer_id,
            from_peer_id: sender.and_then(|sender| sender.connection_id),
            from_user_id: sender.and_then(|sender| sender.user_id.as_deref()),
            room_id: signal.room_id.as_deref(),
            sdp: signal.sdp.as_deref(),
            ice_candidate: signal.ice_candidate.as_deref(),
        }
    }
}

fn data(body: &Body) -> Option<&RawValue> {
    match body {
        Body::Data(data) => Some(data),
        Body::Notification(notification) => notification.data.as_deref(),
        _ => None,
    }
}

fn notification(body: &Body) -> Option<NotificationText<'_>> {
    let Body::Notification(notification) = body else { return None };
    Some(NotificationText {
        title: &notification.title,
        body: &notification.body,
        notification_type: &notification.notification_type,
    })
}

fn presence_text(body: &Body) -> Option<PresenceText> {
    let Body::Presence(presence) = body else { return None };
    let listed = |entries: &[PresenceEntry]| present(entries);
    Some(PresenceText {
        joined: listed(&presence.joined),
        left: listed(&presence.left),
        present: presence.present,
        omitted: presence.omitted,
    })
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}
