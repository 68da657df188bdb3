//! What the server says to one client by itself: answers, errors, and what becomes of the connection.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use veche_doors::{Error, ErrorBody, ErrorKind};
use veche_hub::{
    ChannelName, ConnectionId, Disconnect, Epoch, Form, History, Json, Message, MessageId, Position,
    PresenceEntry, PresenceList, Published, Subscribed, Tag, Timestamp,
};

use super::message;
use crate::clock::rfc3339;
use crate::sending::Outcome;
use crate::settings::Settings;

/// What the server says to one client by itself.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// The first message: who the client is here, and what it may count on.
    Welcome(Welcome),
    /// The answer to `auth` of a client that stays who it is.
    Authenticated {
        /// The `id` of the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Json>,
        /// Who the client is; absent: nobody known.
        user_id: Option<Arc<str>>,
        /// When the credential ends.
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<String>,
    },
    /// The client gets the messages of a channel from now on.
    Subscribed(SubscribedAnswer),
    /// The client gets them no more.
    Unsubscribed {
        /// The `id` of the request; absent where the server took the channel away.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Json>,
        /// Which channel's.
        channel: ChannelName,
    },
    /// What the client sent is out, and kept where it was to be.
    Published(PublishedAnswer),
    /// The answer to `presence`.
    Presence {
        /// The `id` of the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Json>,
        /// Which channel.
        channel: ChannelName,
        /// Who subscribes to it.
        presence: Vec<Present>,
        /// How many they are, also those beyond what one answer holds.
        total: usize,
    },
    /// The answer to `history`.
    History(HistoryAnswer),
    /// The answer to `ping`.
    Pong {
        /// The `id` of the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Json>,
        /// Now.
        timestamp: String,
    },
    /// Back comes what the server does not know.
    Echo {
        /// The `id` of the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Json>,
        /// JSON that came.
        #[serde(skip_serializing_if = "Option::is_none")]
        original: Option<Json>,
        /// Text that came and is no JSON.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// Now.
        timestamp: String,
    },
    /// What the chat with rooms says to one client.
    System {
        /// For people.
        message: String,
    },
    /// Something cannot be done. The connection goes on unless a close follows.
    Error {
        /// The `id` of the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Json>,
        /// For programs.
        error: ErrorBody,
        /// For people.
        message: String,
    },
    /// The server closes the connection.
    Disconnect {
        /// Why: `stopping`, `slow_consumer`, …
        reason: &'static str,
        /// Whether coming back makes sense.
        reconnect: bool,
    },
}

/// Who the client is here, and what it may count on.
#[derive(Debug, Serialize)]
pub struct Welcome {
    /// For people.
    pub message: &'static str,
    /// The connection's name.
    pub connection_id: ConnectionId,
    /// Who the client is; `null`: nobody known.
    pub user_id: Option<Arc<str>>,
    /// The name that others see.
    pub name: Arc<str>,
    /// How often the server pings, in seconds.
    pub heartbeat_interval: u32,
    /// Whether the client came with a credential.
    pub authenticated: bool,
    /// Limits.
    pub session: Limits,
    /// Now.
    pub timestamp: String,
}

/// Limits of a connection.
#[derive(Clone, Debug, Serialize)]
pub struct Limits {
    /// The largest JSON text, in bytes.
    pub max_message_bytes: usize,
    /// The largest binary message, in bytes.
    pub max_binary_bytes: usize,
    /// How many channels the connection may subscribe to.
    pub max_subscriptions: usize,
    /// How deep JSON may go.
    pub max_json_depth: usize,
    /// How many messages it may send in a second, on average.
    pub messages_per_second: u32,
    /// How many messages it may send at once.
    pub message_burst: u32,
}

/// The client gets the messages of a channel from now on.
#[derive(Debug, Serialize)]
pub struct SubscribedAnswer {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<Json>,
    pub(crate) channel: ChannelName,
    pub(crate) epoch: Epoch,
    pub(crate) offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recovered: Option<bool>,
    pub(crate) kept: usize,
    pub(crate) missed: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) presence: Option<Vec<Present>>,
}

/// What the client sent is out.
#[derive(Debug, Serialize)]
pub struct PublishedAnswer {
    /// The `id` of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Json>,
    /// The message's own name; a signal passed to a peer of a call has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    /// In which channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelName>,
    /// The channel's epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The message's place in the channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// How many got it at once.
    pub recipients: usize,
    /// Whether it had been sent before with the same idempotency key, and was not sent again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
}

/// The newest messages of a channel.
#[derive(Debug, Serialize)]
pub struct HistoryAnswer {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<Json>,
    pub(crate) channel: ChannelName,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) offset: u64,
    /// Whether nothing is missing between `since` and the first of the messages.
    pub(crate) complete: bool,
    #[serde(serialize_with = "as_json")]
    pub(crate) messages: Vec<Arc<Message>>,
}

/// Somebody who subscribes to a channel.
#[derive(Debug, Serialize)]
pub struct Present {
    pub(crate) user_id: Option<Arc<str>>,
    pub(crate) name: Arc<str>,
    pub(crate) connection_id: ConnectionId,
    pub(crate) since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) attributes: Option<Arc<RawValue>>,
}

impl ServerMessage {
    /// The JSON text.
    pub fn to_json(&self) -> Bytes {
        serde_json::to_vec(self).expect("messages have text keys only").into()
    }

    /// An error.
    pub fn error(error: Error, id: Tag) -> Self {
        let error = error.into_body();
        Self::Error { id: json(id), message: error.message.clone(), error }
    }

    /// Why the server closes the connection.
    pub fn disconnect(why: &Disconnect) -> Self {
        Self::Disconnect { reason: why.code(), reconnect: why.reconnect() }
    }
}

impl Welcome {
    /// For a connection of this name.
    pub(crate) fn new(
        connection_id: ConnectionId,
        name: Arc<str>,
        now: Timestamp,
        session: Limits,
        heartbeat: u32,
    ) -> Self {
        Self {
            message: "Добро пожаловать на сервер!",
            connection_id,
            user_id: None,
            name,
            heartbeat_interval: heartbeat,
            authenticated: false,
            session,
            timestamp: rfc3339(now),
        }
    }
}

impl Limits {
    /// By these settings.
    pub(crate) fn new(settings: &Settings, message_rate: (u32, u32), max_subscriptions: usize) -> Self {
        let (messages_per_second, message_burst) = message_rate;
        Self {
            max_message_bytes: settings.max_message_bytes,
            max_binary_bytes: settings.websocket_binary_max_bytes,
            max_subscriptions,
            max_json_depth: settings.max_json_depth,
            messages_per_second,
            message_burst,
        }
    }
}

impl SubscribedAnswer {
    /// As the hub says it.
    pub(crate) fn new(subscribed: &Subscribed) -> Self {
        let Position { epoch, offset } = subscribed.position;
        Self {
            id: json(subscribed.tag.clone()),
            channel: subscribed.channel.clone(),
            epoch,
            offset,
            recovered: subscribed.recovered,
            kept: subscribed.kept,
            missed: subscribed.missed,
            presence: subscribed.presence.as_ref().map(|list| present(&list.entries)),
        }
    }
}

impl PublishedAnswer {
    /// A message of a channel.
    pub(crate) fn in_channel(id: Tag, channel: ChannelName, published: &Published) -> Self {
        Self {
            id: json(id),
            message_id: Some(published.message_id),
            channel: Some(channel),
            epoch: Some(published.position.epoch),
            offset: Some(published.position.offset),
            recipients: published.recipients,
            repeated: published.repeated,
        }
    }

    /// A signal that was passed to a peer of a call.
    pub(crate) fn relayed(id: Tag) -> Self {
        Self {
            id: json(id),
            message_id: None,
            channel: None,
            epoch: None,
            offset: None,
            recipients: 1,
            repeated: false,
        }
    }

    /// What went out, wherever it went.
    pub(crate) fn new(id: Tag, outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Published(channel, published) => Self::in_channel(id, channel.clone(), published),
            Outcome::Sent(sent) => Self {
                id: json(id),
                message_id: Some(sent.message_id),
                channel: None,
                epoch: None,
                offset: None,
                recipients: sent.recipients,
                repeated: sent.repeated,
            },
        }
    }
}

impl HistoryAnswer {
    /// As the hub says it.
    pub(crate) fn new(id: Tag, channel: ChannelName, history: History) -> Self {
        Self {
            id: json(id),
            channel,
            epoch: history.position.map(|position| position.epoch),
            offset: history.position.map_or(0, |position| position.offset),
            complete: history.complete,
            messages: history.messages,
        }
    }
}

impl ServerMessage {
    /// Who subscribes to a channel.
    pub(crate) fn presence(id: Tag, channel: ChannelName, list: &PresenceList) -> Self {
        Self::Presence { id: json(id), channel, presence: present(&list.entries), total: list.total }
    }
}

/// People of a channel as clients see them.
pub(crate) fn present(entries: &[PresenceEntry]) -> Vec<Present> {
    let present = |entry: &PresenceEntry| Present {
        user_id: entry.user_id.clone(),
        name: entry.name.clone(),
        connection_id: entry.connection_id,
        since: rfc3339(entry.since),
        attributes: entry.attributes.clone(),
    };
    entries.iter().map(present).collect()
}

/// A tag as JSON again, which it was when it came.
pub(crate) fn json(tag: Tag) -> Option<Json> {
    tag.and_then(|tag| RawValue::from_string(tag.into_string()).ok())
}

/// A refusal of the hub, of files or of storage, which have codes of their own that mean the same at the doors.
pub(crate) fn refusal(code: &str, message: String) -> Error {
    let kind = match code {
        "stopping" | "connection_closed" => ErrorKind::ServerStopping,
        "unauthorized" => ErrorKind::AuthenticationRequired,
        code => ErrorKind::from_code(code).unwrap_or(ErrorKind::BadRequest),
    };
    Error::new(kind, message)
}

fn as_json<S: Serializer>(messages: &[Arc<Message>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(messages.iter().map(|message| Raw(message.form(Form::Json, message::to_json))))
}

/// JSON that is written as it is.
struct Raw<'a>(&'a Bytes);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = std::str::from_utf8(self.0).map_err(serde::ser::Error::custom)?;
        let raw: &RawValue = serde_json::from_str(text).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}
