//! How storage holds messages: a version, the length of a JSON head, the head, and bytes as they are.

use bytes::{BufMut, Bytes};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

use crate::message::{Body, Message, Sender, To};
use crate::name::{ChannelName, MessageId, Position, Timestamp};

const VERSION: u8 = 1;

/// Why bytes from storage are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored message: {0}")]
pub struct BadStored(pub(crate) String);

#[derive(Serialize, Deserialize)]
struct Head<'a> {
    id: MessageId,
    time: Timestamp,
    channel: ChannelName,
    position: Position,
    persistent: bool,
    sender: Option<Cow<'a, Sender>>,
    body: Cow<'a, Body>,
}

impl Message {
    /// The message for storage. Only what is published in a channel is stored; of the rest there is nothing.
    pub fn to_stored(&self) -> Bytes {
        let To::Channel { name, position } = &self.to else { return Bytes::new() };
        if matches!(self.body, Body::Presence(_)) {
            return Bytes::new();
        }
        let head = Head {
            id: self.id,
            time: self.time,
            channel: name.clone(),
            position: *position,
            persistent: self.persistent,
            sender: self.sender.as_deref().map(Cow::Borrowed),
            body: Cow::Borrowed(&self.body),
        };
        let head = serde_json::to_vec(&head).expect("names, numbers and checked JSON always encode");
        let data = if let Body::Binary(binary) = &self.body { &binary.data[..] } else { &[] };
        let mut stored = Vec::with_capacity(5 + head.len() + data.len());
        stored.put_u8(VERSION);
        stored.put_u32(u32::try_from(head.len()).expect("messages are bounded far below 4 GiB"));
        stored.extend_from_slice(&head);
        stored.extend_from_slice(data);
        stored.into()
    }

    /// Reads what [`Message::to_stored`] wrote.
    pub fn from_stored(stored: &[u8]) -> Result<Self, BadStored> {
        let bad = |what: &str| BadStored(what.to_owned());
        let (&version, rest) = stored.split_first().ok_or_else(|| bad("it is empty"))?;
        if version != VERSION {
            return Err(BadStored(format!("version {version} is not known here")));
        }
        let (length, rest) = rest.split_first_chunk().ok_or_else(|| bad("it is cut off"))?;
        let (head, data) = rest
            .split_at_checked(u32::from_be_bytes(*length) as usize)
            .ok_or_else(|| bad("it is cut off"))?;
        let head: Head<'static> =
            serde_json::from_slice(head).map_err(|error| BadStored(error.to_string()))?;
        let mut body = head.body.into_owned();
        if let Body::Binary(binary) = &mut body {
            binary.data = Bytes::copy_from_slice(data);
        }
        let sender = head.sender.map(|sender| Arc::new(sender.into_owned()));
        let to = To::Channel { name: head.channel, position: head.position };
        Ok(Self::new(head.id, head.time, sender, to, head.persistent, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Binary, Notification};
    use crate::name::{ConnectionId, Epoch};
    use serde_json::value::RawValue;

    fn message(body: Body) -> Message {
        let name = ChannelName::new("чат:1").unwrap();
        let to = To::Channel { name, position: Position { epoch: Epoch(7), offset: 9 } };
        let sender =
            Sender {
                user_id: Some("u1".into()), name: "Вера".into(), connection_id: Some(ConnectionId(3))
            };
        Message::new(MessageId(5), Timestamp(1_234), Some(Arc::new(sender)), to, true, body)
    }

    #[test]
    fn what_is_stored_is_read_again() {
        let json = RawValue::from_string(r#"{"b": 1, "a":[1.50, "ж"]}"#.into()).unwrap();
        let binary = Binary {
            data: Bytes::from_static(&[0, 255, 7]),
            content_type: "image/png".into(),
            filename: Some("a.png".into()),
        };
        let note = Notification {
            title: "t".into(),
            body: "b".into(),
            notification_type: "message".into(),
            data: Some(json.clone()),
        };
        for body in [Body::Data(json), Body::Binary(binary), Body::Notification(note)] {
            let message = message(body);
            let again = Message::from_stored(&message.to_stored()).unwrap();
            assert_eq!((again.id, again.time, &again.to), (message.id, message.time, &message.to));
            assert_eq!(again.sender, message.sender);
            assert_eq!(format!("{:?}", again.body), format!("{:?}", message.body));
        }
    }

    #[test]
    fn what_is_cut_off_or_changed_is_refused_and_never_panics() {
        let stored = message(Body::Data(RawValue::from_string("[1,2,3]".into()).unwrap())).to_stored();
        for length in 0..stored.len() {
            assert!(Message::from_stored(&stored[..length]).is_err(), "{length}");
        }
        for index in 0..stored.len() {
            let mut changed = stored.to_vec();
            changed[index] ^= 0x55;
            let _ = Message::from_stored(&changed);
        }
    }
}
