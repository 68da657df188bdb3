//! Messages: what channels carry and connections are sent, and the encoded forms that all share.

use std::hash::{Hash, Hasher};
use std::mem::discriminant;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::name::{ChannelName, ConnectionId, MessageId, Position, Timestamp};

/// JSON text that was checked when it came in and is passed on as it is.
pub type Json = Box<RawValue>;

/// What a message takes on the wire beside its body and channel, about, in bytes.
const ENVELOPE: usize = 160;

/// What a message takes in memory beside its body and its forms, about, in bytes.
const IN_MEMORY: usize = 512;

/// A message. It never changes, and everybody who is sent it shares it.
#[derive(Debug)]
pub struct Message {
    /// Unique.
    pub id: MessageId,
    /// When the hub took it.
    pub time: Timestamp,
    /// Who sent it; the server itself has no sender.
    pub sender: Option<Arc<Sender>>,
    /// Where it goes.
    pub to: To,
    /// Whether it is kept in storage for new subscribers.
    pub persistent: bool,
    /// What it says.
    pub body: Body,
    size: usize,
    forms: [OnceLock<Bytes>; Form::COUNT],
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// To those who are subscribed to a channel.
    Channel {
        /// Its name.
        name: ChannelName,
        /// The message's own place. Of a presence message: that of the last message before it.
        position: Position,
    },
    /// To all connections of a user.
    User(Arc<str>),
    /// To one connection.
    Connection(ConnectionId),
    /// To all connections.
    Everybody,
}

/// Who sent a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// The user; anonymous connections have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<Arc<str>>,
    /// What they are called.
    pub name: Arc<str>,
    /// The connection it came by; what came by plain HTTP has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<ConnectionId>,
}

/// What a message says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// Any JSON: `channel_message` in a channel, `direct` for a user or connection, `broadcast` for everybody.
    Data(Json),
    /// Bytes with a content type.
    Binary(Binary),
    /// A file that is fetched from the server.
    File(File),
    /// A notification.
    Notification(Notification),
    /// What one WebRTC peer tells another through us.
    Signal(Signal),
    /// Who came to a channel and who left; only the hub makes these.
    #[serde(skip)]
    Presence(Presence),
    /// A JSON object that is sent as it is, without an envelope around it.
    Verbatim(Json),
}

/// Bytes with a content type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binary {
    /// The bytes themselves. Storage has them behind the rest.
    #[serde(skip)]
    pub data: Bytes,
    /// Such as `image/png`.
    pub content_type: Box<str>,
    /// What the sender calls it.
    pub filename: Option<Box<str>>,
}

/// A file that is fetched from the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct File {
    /// In bytes; filters look at it.
    pub size: u64,
    /// Such as `image/png`; filters look at it.
    pub content_type: Box<str>,
    /// Of its bytes; tells it from another one when a request is repeated. Messages kept by older versions have none.
    #[serde(default)]
    pub sha256: Box<str>,
    /// The object that clients are sent.
    pub description: Json,
}

/// A notification.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Notification {
    /// Its headline.
    pub title: Box<str>,
    /// Its text.
    pub body: Box<str>,
    /// Its kind, such as `message`; filters look at it.
    pub notification_type: Box<str>,
    /// Whatever belongs to it.
    pub data: Option<Json>,
}

/// What one WebRTC peer tells another through us.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Signal {
    /// `offer`, `answer`, `ice-candidate` or another word that the peers agree on.
    pub signal_type: Box<str>,
    /// For whom it is, as the sender said.
    pub target_peer_id: Box<str>,
    /// The room that it is about.
    pub room_id: Option<Box<str>>,
    /// A session description.
    pub sdp: Option<Box<str>>,
    /// A candidate.
    pub ice_candidate: Option<Json>,
}

/// Who came to a channel and who left, in a short while.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Presence {
    /// Who came.
    pub joined: Vec<PresenceEntry>,
    /// Who left.
    pub left: Vec<PresenceEntry>,
    /// How many are there now.
    pub present: usize,
    /// How many more came and left than are listed: ask for the whole presence when it matters.
    pub omitted: usize,
}

/// A connection in a channel.
#[derive(Clone, Debug, Serialize)]
pub struct PresenceEntry {
    /// The user; anonymous connections have none.
    pub user_id: Option<Arc<str>>,
    /// What they are called.
    pub name: Arc<str>,
    /// Which of their connections.
    pub connection_id: ConnectionId,
    /// Since when.
    pub since: Timestamp,
    /// What their token says of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Arc<RawValue>>,
}

/// The encoded forms of a message. What is in each is the doors' affair; each is made at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// JSON text.
    Json,
    /// JSON text as a whole WebSocket frame.
    JsonFrame,
    /// JSON text as a whole compressed WebSocket frame.
    JsonCompressed,
    /// An event of an SSE stream.
    Sse,
    /// A native binary frame.
    Binary,
    /// A Protobuf message.
    Protobuf,
}

impl Form {
    const COUNT: usize = 6;
}

impl Message {
    pub(crate) fn new(
        id: MessageId,
        time: Timestamp,
        sender: Option<Arc<Sender>>,
        to: To,
        persistent: bool,
        body: Body,
    ) -> Self {
        let name = if let To::Channel { name, .. } = &to { name.as_str().len() } else { 0 };
        let size = body.size() + name + ENVELOPE;
        Self { id, time, sender, to, persistent, body, size, forms: std::array::from_fn(|_| OnceLock::new()) }
    }

    /// An encoded form of the message. The first who asks makes it; others wait for that and share it.
    pub fn form(&self, form: Form, encode: impl FnOnce(&Self) -> Bytes) -> &Bytes {
        self.forms[form as usize].get_or_init(|| encode(self))
    }

    /// The channel that it is in.
    pub fn channel(&self) -> Option<&ChannelName> {
        if let To::Channel { name, .. } = &self.to { Some(name) } else { None }
    }

    /// Its place in its channel.
    pub fn position(&self) -> Option<Position> {
        if let To::Channel { position, .. } = &self.to { Some(*position) } else { None }
    }

    /// About what it takes on the wire, in bytes; outboxes are bounded by it.
    pub fn size(&self) -> usize {
        self.size
    }

    /// About what it takes in memory, in bytes. Its forms stay with it, so what it says counts twice.
    pub(crate) fn weight(&self) -> usize {
        IN_MEMORY + 2 * self.size
    }

    pub(crate) fn offset(&self) -> u64 {
        self.position().map_or(0, |position| position.offset)
    }
}

impl Body {
    /// Bytes of what it says, without names of fields.
    pub(crate) fn size(&self) -> usize {
        let json = |json: &Option<Json>| json.as_ref().map_or(0, |json| json.get().len());
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        match self {
            Self::Data(data) | Self::Verbatim(data) => data.get().len(),
            Self::Binary(binary) => binary.data.len() + binary.content_type.len() + text(&binary.filename),
            Self::File(file) => file.description.get().len(),
            Self::Notification(note) => {
                note.title.len() + note.body.len() + note.notification_type.len() + json(&note.data)
            }
            Self::Signal(signal) => {
                signal.signal_type.len()
                    + signal.target_peer_id.len()
                    + text(&signal.room_id)
                    + text(&signal.sdp)
                    + json(&signal.ice_candidate)
            }
            Self::Presence(presence) => (presence.joined.len() + presence.left.len()) * 128,
        }
    }

    /// Tells what it says from anything else.
    pub(crate) fn fingerprint(&self, hasher: &mut impl Hasher) {
        let json = |json: &Option<Json>| json.as_ref().map(|json| json.get().to_owned());
        discriminant(self).hash(hasher);
        match self {
            Self::Data(data) | Self::Verbatim(data) => data.get().hash(hasher),
            Self::Binary(Binary { data, content_type, filename }) => {
                (data, content_type, filename).hash(hasher);
            }
            // The same file that is put away twice has two descriptions.
            Self::File(file) => (file.size, &file.content_type, &file.sha256).hash(hasher),
            Self::Notification(note) => {
                (&note.title, &note.body, &note.notification_type, json(&note.data)).hash(hasher);
            }
            Self::Signal(signal) => {
                let Signal { signal_type, target_peer_id, room_id, sdp, ice_candidate } = signal;
                (signal_type, target_peer_id, room_id, sdp, json(ice_candidate)).hash(hasher);
            }
            // The hub makes these itself and nobody repeats them.
            Self::Presence(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Epoch;

    #[test]
    fn a_form_is_made_once() {
        let body = Body::Data(RawValue::from_string("1".into()).unwrap());
        let message = Message::new(MessageId(1), Timestamp(0), None, To::Everybody, false, body);
        let first = message.form(Form::Json, |_| Bytes::from_static(b"one"));
        assert_eq!(first, "one");
        assert_eq!(message.form(Form::Json, |_| unreachable!("it is there")), "one");
        assert_eq!(message.form(Form::Sse, |_| Bytes::from_static(b"two")), "two");
    }

    #[test]
    fn the_size_is_that_of_what_is_said() {
        let name = ChannelName::new("чат").unwrap();
        let to = To::Channel { name, position: Position { epoch: Epoch(1), offset: 3 } };
        let data = Bytes::from(vec![0; 1_000]);
        let body = Body::Binary(Binary { data, content_type: "image/png".into(), filename: None });
        let message = Message::new(MessageId(1), Timestamp(0), None, to, false, body);
        assert_eq!(message.size(), 1_000 + 9 + 6 + ENVELOPE);
        assert_eq!(message.position().unwrap().offset, 3);
    }
}
