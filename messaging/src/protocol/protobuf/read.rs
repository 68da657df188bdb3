//! Reading what a client asks for from Protobuf.

use prost::Message as _;
use serde_json::value::RawValue;
use veche_access::Credential;
use veche_doors::{Error, ErrorKind};
use veche_hub::{Epoch, Filters, HistoryQuery, Json, Position, Signal, Subscribe};

use crate::depth;
use crate::proto::{self, action, authenticate, binary, client_message, notify, send};
use crate::protocol::request::{
    MAX_TEXT_BYTES, Publish, bad, channel, epoch, info, notification, publication, recipient,
    signal as checked, text_within,
};
use crate::protocol::{Action, ClientMessage, Content, Id, Recipient, Request};
use crate::settings::Settings;

/// The longest `id` of a request, in bytes.
const MAX_ID_BYTES: usize = 64;

impl Request {
    /// Reads a `ClientMessage`. An error comes with the id of the request, where that can be read.
    pub fn from_protobuf(bytes: bytes::Bytes, settings: &Settings) -> Result<Self, (Error, Option<Id>)> {
        let message = proto::ClientMessage::decode(bytes)
            .map_err(|error| (bad(format!("not a veche.v1.ClientMessage: {error}")), None))?;
        Self::from_message(message, settings)
    }

    /// The same, decoded.
    pub(crate) fn from_message(
        message: proto::ClientMessage,
        settings: &Settings,
    ) -> Result<Self, (Error, Option<Id>)> {
        let is_binary = matches!(message.message, Some(client_message::Message::Binary(_)));
        let is_too_large = !is_binary && message.encoded_len() > settings.max_message_bytes;
        let id = request_id(&message.id).map_err(|error| (error, None))?;
        if is_too_large {
            let limit = settings.max_message_bytes;
            let text =
                format!("a message may have {limit} bytes; send larger things as `binary` or upload them");
            return Err((Error::new(ErrorKind::MessageTooLarge, text), id));
        }
        match of_kind(message.message, settings) {
            Ok(message) => Ok(Self { id, message }),
            Err(error) => Err((error, id)),
        }
    }
}

/// What a client calls its request, as JSON.
fn request_id(text: &str) -> Result<Option<Id>, Error> {
    if text.len() > MAX_ID_BYTES {
        return Err(bad(format!("id: longer than {MAX_ID_BYTES} bytes; choose a shorter one")));
    }
    Ok((!text.is_empty()).then(|| serde_json::Value::from(text).to_string().into()))
}

fn of_kind(message: Option<client_message::Message>, settings: &Settings) -> Result<ClientMessage, Error> {
    use client_message::Message;
    let message =
        message.ok_or_else(|| bad("message: missing, or of a kind that this server does not know"))?;
    Ok(match message {
        Message::Auth(auth) => ClientMessage::Authenticate(credential(auth)),
        Message::Subscribe(wish) => {
            let Subscribe { channel, filters, recover, presence, .. } = subscribe(wish)?;
            ClientMessage::Subscribe { channel, filters, recover, presence }
        }
        Message::Unsubscribe(wish) => ClientMessage::Unsubscribe { channel: channel(&wish.channel)? },
        Message::Send(message) => ClientMessage::Publish(send(message, settings)?),
        Message::Broadcast(message) => ClientMessage::Publish(broadcast(message, settings)?),
        Message::Binary(message) => ClientMessage::Publish(binary(message)?),
        Message::Notification(message) => ClientMessage::Publish(notify(message, settings)?),
        Message::Presence(wish) => ClientMessage::Presence { channel: channel(&wish.channel)? },
        Message::History(wish) => {
            let (channel, since, epoch, limit) =
                (channel(&wish.channel)?, wish.since, of_epoch(&wish.epoch)?, wish.limit);
            ClientMessage::History { channel, since, epoch, limit: limit.map(|limit| limit as usize) }
        }
        Message::WebrtcSignal(message) => ClientMessage::Signal(signal(message, settings)?),
        Message::Ping(proto::Ping {}) => ClientMessage::Ping,
        Message::Chat(proto::Chat { user, message, .. }) => ClientMessage::Chat { user, message },
        Message::Action(action) => ClientMessage::Action(chat_action(action)?),
    })
}

fn credential(auth: proto::Authenticate) -> Option<Credential> {
    match auth.credential? {
        authenticate::Credential::Token(token) => Credential::from_text(&token),
        authenticate::Credential::ApiKey(key) => Credential::api_key(&key),
    }
}

/// A wish for a channel.
pub(crate) fn subscribe(wish: proto::Subscribe) -> Result<Subscribe, Error> {
    let recover = match wish.recover {
        Some(place) => Some(Position { epoch: epoch(&place.epoch)?, offset: place.offset }),
        None => None,
    };
    let list = |names: Vec<String>| (!names.is_empty()).then_some(names);
    let filters = wish.filters.map(|filters| Filters {
        binary_data: filters.binary_data,
        max_file_size: filters.max_file_size,
        allowed_types: list(filters.allowed_types),
        notification_types: list(filters.notification_types),
    });
    Ok(Subscribe { filters, recover, presence: wish.presence, ..Subscribe::to(channel(&wish.channel)?) })
}

/// Data for a channel, a user or a connection.
pub(crate) fn send(message: proto::Send, settings: &Settings) -> Result<Publish, Error> {
    let to = match message.to {
        Some(send::To::Channel(name)) => recipient(Some(&name), None, None)?,
        Some(send::To::UserId(user_id)) => recipient(None, Some(&user_id), None)?,
        Some(send::To::ConnectionId(name)) => recipient(None, None, Some(&name))?,
        None => None,
    };
    let to =
        to.ok_or_else(|| bad("channel, user_id or connection_id: missing; for everybody, use Broadcast"))?;
    let content = Content::Data(json("data", message.data, settings)?);
    publication(to, content, message.persistent, Some(message.idempotency_key))
}

/// Data for everybody.
pub(crate) fn broadcast(message: proto::Broadcast, settings: &Settings) -> Result<Publish, Error> {
    let content = Content::Data(json("data", message.data, settings)?);
    publication(Recipient::Everybody, content, false, Some(message.idempotency_key))
}

/// Bytes.
pub(crate) fn binary(message: proto::Binary) -> Result<Publish, Error> {
    let to = match message.to {
        Some(binary::To::Channel(name)) => recipient(Some(&name), None, None)?,
        Some(binary::To::UserId(user_id)) => recipient(None, Some(&user_id), None)?,
        Some(binary::To::ConnectionId(name)) => recipient(None, None, Some(&name))?,
        None => None,
    };
    let content_type = some(message.content_type);
    let filename = some(message.filename);
    text_within("content_type", content_type.as_deref(), MAX_TEXT_BYTES)?;
    text_within("filename", filename.as_deref(), MAX_TEXT_BYTES)?;
    let content = Content::Binary { data: message.binary_data, content_type, filename };
    let to = to.unwrap_or(Recipient::Everybody);
    publication(to, content, message.persistent, Some(message.idempotency_key))
}

/// A notification.
pub(crate) fn notify(message: proto::Notify, settings: &Settings) -> Result<Publish, Error> {
    let to = match message.to {
        Some(notify::To::Channel(name)) => recipient(Some(&name), None, None)?,
        Some(notify::To::UserId(user_id)) => recipient(None, Some(&user_id), None)?,
        None => None,
    };
    let data = some(message.data).map(|data| json("data", data, settings)).transpose()?;
    let kind = some(message.notification_type).unwrap_or_else(info);
    let content = notification(message.title, message.body, kind, data)?;
    let to = to.unwrap_or(Recipient::Everybody);
    publication(to, content, message.persistent, Some(message.idempotency_key))
}

/// What one peer tells another.
pub(crate) fn signal(message: proto::Signal, settings: &Settings) -> Result<Signal, Error> {
    let proto::Signal { signal_type, target_peer_id, room_id, sdp, ice_candidate, .. } = message;
    let candidate = ice_candidate.map(|candidate| json("ice_candidate", candidate, settings)).transpose()?;
    checked(signal_type, target_peer_id, room_id, sdp, candidate)
}

/// What of a channel's history is asked for; `usual` messages where that is not said, and `most` at most.
pub(crate) fn history(
    wish: &proto::HistoryRequest,
    usual: usize,
    most: usize,
) -> Result<HistoryQuery, Error> {
    let limit = wish.limit.map_or(usual, |limit| limit as usize).min(most);
    Ok(HistoryQuery { since: wish.since, epoch: of_epoch(&wish.epoch)?, limit })
}

fn of_epoch(text: &str) -> Result<Option<Epoch>, Error> {
    (!text.is_empty()).then(|| epoch(text)).transpose()
}

fn chat_action(action: proto::Action) -> Result<Action, Error> {
    Ok(
        match action
            .action
            .ok_or_else(|| bad("action: missing, or of a kind that this server does not know"))?
        {
            action::Action::SetUsername(username) => Action::SetUsername { username },
            action::Action::Join(room) => Action::Join { room },
            action::Action::Message(text) => Action::Message { text },
            action::Action::Leave(proto::Leave {}) => Action::Leave,
        },
    )
}

/// JSON that came as text.
fn json(field: &str, text: String, settings: &Settings) -> Result<Json, Error> {
    if !depth::is_within(&text, settings.max_json_depth) {
        return Err(bad(format!("{field}: JSON may be {} deep; flatten it", settings.max_json_depth)));
    }
    RawValue::from_string(text).map_err(|error| bad(format!("{field}: not JSON: {error}")))
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use client_message::Message;

    fn read(id: &str, message: Message) -> Result<Request, (Error, Option<Id>)> {
        let message = proto::ClientMessage { id: id.into(), message: Some(message) };
        Request::from_protobuf(message.encode_to_vec().into(), &Settings::default())
    }

    fn data(data: &str) -> Message {
        let to = Some(send::To::Channel("news".into()));
        Message::Send(proto::Send { to, data: data.into(), ..proto::Send::default() })
    }

    #[test]
    fn a_request_is_what_its_json_would_be() {
        let request = read("a\"1", data(r#"{"n": 1.0}"#)).unwrap();
        assert_eq!(request.id.as_deref(), Some(r#""a\"1""#));
        let text = r#"{"type":"publish","id":"a\"1","channel":"news","data":{"n": 1.0}}"#;
        let same = Request::from_json(text, &Settings::default()).unwrap();
        assert_eq!(format!("{request:?}"), format!("{same:?}"));

        let filters = proto::Filters { binary_data: Some(false), ..proto::Filters::default() };
        let recover = Some(proto::Position { epoch: "0badcafe".into(), offset: 7 });
        let wish = proto::Subscribe { channel: "c".into(), filters: Some(filters), recover, presence: true };
        let request = read("", Message::Subscribe(wish)).unwrap();
        let text = r#"{"type":"subscribe","channel":"c","filters":{"binary_data":false},
            "recover":{"epoch":"0badcafe","offset":7},"presence":true}"#;
        let same = Request::from_json(text, &Settings::default()).unwrap();
        assert_eq!(format!("{request:?}"), format!("{same:?}"));

        let note = proto::Notify { title: "Hi".into(), data: "[1]".into(), ..proto::Notify::default() };
        let request = read("", Message::Notification(note)).unwrap();
        let text = r#"{"type":"notification","title":"Hi","data":[1]}"#;
        let same = Request::from_json(text, &Settings::default()).unwrap();
        assert_eq!(format!("{request:?}"), format!("{same:?}"));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_id_of_the_request() {
        let (error, id) = read("7", data("{not json")).unwrap_err();
        assert_eq!((error.kind, id.as_deref()), (ErrorKind::BadMessage, Some("\"7\"")));
        assert!(error.message.starts_with("data: not JSON"), "{error}");
        let (error, _) = read("7", data(&"[".repeat(65))).unwrap_err();
        assert!(error.message.contains("64 deep"), "{error}");
        let (error, _) = read("7", data(&format!("\"{}\"", "x".repeat(1 << 20)))).unwrap_err();
        assert_eq!(error.kind, ErrorKind::MessageTooLarge);
        let (error, id) = read(&"7".repeat(65), data("1")).unwrap_err();
        assert_eq!((error.kind, id), (ErrorKind::BadMessage, None));
        let (error, _) = read("", Message::Send(proto::Send::default())).unwrap_err();
        assert!(error.message.starts_with("channel, user_id or connection_id"), "{error}");
        let (error, _) = Request::from_protobuf(bytes::Bytes::new(), &Settings::default()).unwrap_err();
        assert!(error.message.starts_with("message: missing"), "{error}");
        let bytes = bytes::Bytes::from_static(&[0xff; 4]);
        let (error, _) = Request::from_protobuf(bytes, &Settings::default()).unwrap_err();
        assert!(error.message.starts_with("not a veche.v1.ClientMessage"), "{error}");
    }
}
