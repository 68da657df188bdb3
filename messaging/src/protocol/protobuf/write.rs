//! Writing what clients get in Protobuf.

use bytes::Bytes;
use serde::Deserialize;
use veche_files::FileInfo;
use veche_hub::{Body, Json, Message, PresenceEntry, Signal, To};

use super::encode;
use crate::clock::rfc3339;
use crate::proto::{self, delivery, server_message};
use crate::protocol::ServerMessage;
use crate::protocol::answer::{
    HistoryAnswer, Limits, Present, PublishedAnswer, SubscribedAnswer, Welcome, present,
};

/// What the server says to one client by itself.
pub(crate) fn answer(answer: &ServerMessage) -> Bytes {
    use server_message::Message;
    let (id, message) = match answer {
        ServerMessage::Welcome(welcome) => (None, Message::Welcome(welcome.into())),
        ServerMessage::Authenticated { id, user_id, expires_at } => {
            let (user_id, expires_at) = (user_id.as_deref().map(ToOwned::to_owned), expires_at.clone());
            (id.as_ref(), Message::Authenticated(proto::Authenticated { user_id, expires_at }))
        }
        ServerMessage::Subscribed(answer) => (answer.id.as_ref(), Message::Subscribed(answer.into())),
        ServerMessage::Unsubscribed { id, channel } => {
            (id.as_ref(), Message::Unsubscribed(proto::Unsubscribed { channel: channel.to_string() }))
        }
        ServerMessage::Published(answer) => (answer.id.as_ref(), Message::Published(answer.into())),
        ServerMessage::Presence { id, channel, presence, total } => {
            let presence = presence.iter().map(Into::into).collect();
            let answer = proto::Presence { channel: channel.to_string(), presence, total: *total as u64 };
            (id.as_ref(), Message::Presence(answer))
        }
        ServerMessage::History(answer) => (answer.id.as_ref(), Message::History(answer.into())),
        ServerMessage::Pong { id, timestamp } => {
            (id.as_ref(), Message::Pong(proto::Pong { timestamp: timestamp.clone() }))
        }
        ServerMessage::Echo { id, original, message, timestamp } => {
            let original = original.as_ref().map(|json| json.get().to_owned()).or_else(|| message.clone());
            let echo = proto::Echo { original: original.unwrap_or_default(), timestamp: timestamp.clone() };
            (id.as_ref(), Message::Echo(echo))
        }
        ServerMessage::System { message } => {
            (None, Message::System(proto::System { message: message.clone(), room: String::new() }))
        }
        ServerMessage::Error { id, error, .. } => {
            let error = proto::Error { code: error.code.clone(), message: error.message.clone() };
            (id.as_ref(), Message::Error(error))
        }
        ServerMessage::Disconnect { reason, reconnect } => {
            let disconnect = proto::Disconnect { reason: (*reason).to_owned(), reconnect: *reconnect };
            (None, Message::Disconnect(disconnect))
        }
    };
    encode(&proto::ServerMessage { id: id.map(plain).unwrap_or_default(), message: Some(message) })
}

/// An id as the client wrote it: what was text is text again.
fn plain(id: &Json) -> String {
    serde_json::from_str(id.get()).unwrap_or_else(|_| id.get().to_owned())
}

/// A message of a channel, or one for a client.
pub(crate) fn message(message: &Message) -> Bytes {
    let said = match &message.body {
        Body::Presence(change) => {
            let listed = |entries: &[PresenceEntry]| present(entries).iter().map(Into::into).collect();
            server_message::Message::PresenceChange(proto::PresenceChange {
                channel: message.channel().map(ToString::to_string).unwrap_or_default(),
                joined: listed(&change.joined),
                left: listed(&change.left),
                present: change.present as u64,
                omitted: change.omitted as u64,
                timestamp: rfc3339(message.time),
            })
        }
        _ => server_message::Message::Delivery(message.into()),
    };
    encode(&proto::ServerMessage { id: String::new(), message: Some(said) })
}

impl From<&Message> for proto::Delivery {
    fn from(message: &Message) -> Self {
        let audience = match message.to {
            To::Channel { .. } => proto::Audience::Channel,
            To::User(_) | To::Connection(_) => proto::Audience::Direct,
            To::Everybody => proto::Audience::Everybody,
        };
        let position = message.position();
        let sender = message.sender.as_deref().map(|sender| proto::Sender {
            user_id: sender.user_id.as_deref().map(ToOwned::to_owned),
            name: sender.name.to_string(),
            connection_id: sender.connection_id.map(|id| id.to_string()),
        });
        Self {
            message_id: message.id.to_string(),
            audience: audience.into(),
            channel: message.channel().map(ToString::to_string).unwrap_or_default(),
            epoch: position.map(|position| position.epoch.to_string()).unwrap_or_default(),
            offset: position.map_or(0, |position| position.offset),
            persistent: message.persistent,
            sender,
            timestamp: rfc3339(message.time),
            body: body(message),
        }
    }
}

fn body(message: &Message) -> Option<delivery::Body> {
    Some(match &message.body {
        Body::Data(data) => delivery::Body::Data(data.get().to_owned()),
        Body::Binary(binary) => delivery::Body::Binary(proto::BinaryData {
            data: binary.data.clone(),
            content_type: binary.content_type.to_string(),
            filename: binary.filename.as_deref().unwrap_or_default().to_owned(),
        }),
        Body::File(file) => delivery::Body::File(of_file(&file.description)),
        Body::Notification(note) => delivery::Body::Notification(proto::Notification {
            title: note.title.to_string(),
            body: note.body.to_string(),
            notification_type: note.notification_type.to_string(),
            data: note.data.as_ref().map(|data| data.get().to_owned()).unwrap_or_default(),
        }),
        Body::Signal(signal) => delivery::Body::WebrtcSignal(of_signal(signal, message)),
        Body::Verbatim(object) => said(object),
        // It has a form of its own, and is in no history.
        Body::Presence(_) => return None,
    })
}

/// A description that an older server has kept, and that lacks something now, is only as good as empty.
fn of_file(description: &Json) -> proto::File {
    let Ok(info) = serde_json::from_str::<FileInfo>(description.get()) else { return proto::File::default() };
    proto::File {
        file_id: info.file_id,
        filename: info.filename,
        content_type: info.content_type,
        size: info.size,
        sha256: info.sha256,
        url: info.url,
        expires_at: info.expires_at,
    }
}

fn of_signal(signal: &Signal, message: &Message) -> proto::Signal {
    let sender = message.sender.as_deref();
    proto::Signal {
        signal_type: signal.signal_type.to_string(),
        target_peer_id: signal.target_peer_id.to_string(),
        room_id: signal.room_id.as_deref().map(ToOwned::to_owned),
        sdp: signal.sdp.as_deref().map(ToOwned::to_owned),
        ice_candidate: signal.ice_candidate.as_ref().map(|candidate| candidate.get().to_owned()),
        from_peer_id: sender
            .and_then(|sender| sender.connection_id)
            .map(|id| id.to_string())
            .unwrap_or_default(),
        from_user_id: sender.and_then(|sender| sender.user_id.as_deref()).unwrap_or_default().to_owned(),
    }
}

/// What the chat with rooms says.
#[derive(Default, Deserialize)]
struct Said {
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    message: String,
    #[serde(default)]
    room: String,
}

fn said(object: &Json) -> delivery::Body {
    let Said { user, message, room } = serde_json::from_str(object.get()).unwrap_or_default();
    match user {
        Some(user) => delivery::Body::Chat(proto::Chat { user, message, room }),
        None => delivery::Body::System(proto::System { message, room }),
    }
}

impl From<&Welcome> for proto::Welcome {
    fn from(welcome: &Welcome) -> Self {
        Self {
            message: welcome.message.to_owned(),
            connection_id: welcome.connection_id.to_string(),
            user_id: welcome.user_id.as_deref().map(ToOwned::to_owned),
            name: welcome.name.to_string(),
            heartbeat_interval: welcome.heartbeat_interval,
            authenticated: welcome.authenticated,
            session: Some((&welcome.session).into()),
            timestamp: welcome.timestamp.clone(),
        }
    }
}

impl From<&Limits> for proto::Limits {
    fn from(limits: &Limits) -> Self {
        Self {
            max_message_bytes: limits.max_message_bytes as u64,
            max_binary_bytes: limits.max_binary_bytes as u64,
            max_subscriptions: limits.max_subscriptions as u64,
            max_json_depth: limits.max_json_depth as u64,
            messages_per_second: limits.messages_per_second,
            message_burst: limits.message_burst,
        }
    }
}

impl From<&SubscribedAnswer> for proto::Subscribed {
    fn from(answer: &SubscribedAnswer) -> Self {
        Self {
            channel: answer.channel.to_string(),
            epoch: answer.epoch.to_string(),
            offset: answer.offset,
            recovered: answer.recovered,
            kept: answer.kept as u64,
            missed: answer.missed as u64,
            presence: answer.presence.iter().flatten().map(Into::into).collect(),
        }
    }
}

impl From<&PublishedAnswer> for proto::Published {
    fn from(answer: &PublishedAnswer) -> Self {
        Self {
            message_id: answer.message_id.map(|id| id.to_string()).unwrap_or_default(),
            channel: answer.channel.as_ref().map(ToString::to_string).unwrap_or_default(),
            epoch: answer.epoch.map(|epoch| epoch.to_string()).unwrap_or_default(),
            offset: answer.offset.unwrap_or_default(),
            recipients: answer.recipients as u64,
            repeated: answer.repeated,
        }
    }
}

impl From<&HistoryAnswer> for proto::History {
    fn from(answer: &HistoryAnswer) -> Self {
        Self {
            channel: answer.channel.to_string(),
            epoch: answer.epoch.map(|epoch| epoch.to_string()).unwrap_or_default(),
            offset: answer.offset,
            complete: answer.complete,
            messages: answer.messages.iter().map(|message| (&**message).into()).collect(),
        }
    }
}

impl From<&Present> for proto::Present {
    fn from(present: &Present) -> Self {
        Self {
            user_id: present.user_id.as_deref().map(ToOwned::to_owned),
            name: present.name.to_string(),
            connection_id: present.connection_id.to_string(),
            since: present.since.clone(),
            attributes: present.attributes.as_ref().map(|attributes| attributes.get().to_owned()),
        }
    }
}
