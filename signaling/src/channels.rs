//! The channels of a call's room over its signaling WebSocket: chat, typing, reactions and the like, without another
//! connection. A message with a `type` and no `signal_type` goes to a session of messaging; what comes from there goes out
//! between the messages of signaling.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;
use veche_access::Identity;
use veche_hub::{Disconnect, Door, Item};
use veche_messaging::{Encoded, Encoding, Session, encode_item};
use yawc::Frame;

use crate::rooms::{Rooms, Seat};

/// About how many bytes are taken at once.
const TAKEN_BYTES: usize = 64 * 1024;

/// What the channels send to a client.
pub(crate) struct Channels(Option<veche_hub::Outbox>);

/// Opens a client's way to the channels of its room; nothing where the server has no messaging, or stops.
pub(crate) fn open(rooms: &Rooms, seat: &Seat, identity: Identity) -> (Option<Session>, Channels) {
    let name =
        seat.lock().and_then(|room| room.members.get(&seat.participant).map(|member| member.name.clone()));
    let opened =
        rooms.messaging().map(|messaging| messaging.session(Door::WebSocket, identity, name.as_deref()));
    match opened {
        Some(Ok((mut session, outbox))) => {
            if let Some(mut room) = seat.lock()
                && let Some(member) = room.members.get_mut(&seat.participant)
            {
                member.channels = Some(session.connection().id());
            }
            let own = seat.clone();
            // A connection that has lost its place may do nothing there.
            let rule =
                move |action| own.lock().map_or(Some(false), |room| room.lets(own.participant, action));
            session.enter_room(&seat.room.room_id, Arc::new(rule));
            (Some(session), Channels(Some(outbox)))
        }
        Some(Err(error)) => {
            tracing::debug!(%error, "no channels for this connection");
            (None, Channels(None))
        }
        None => (None, Channels(None)),
    }
}

/// Whether a message is for the channels.
pub(crate) fn is_for_channels(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Kinds {
        #[serde(rename = "type")]
        kind: Option<IgnoredAny>,
        action: Option<IgnoredAny>,
        signal_type: Option<IgnoredAny>,
    }
    serde_json::from_str::<Kinds>(text)
        .is_ok_and(|kinds| kinds.signal_type.is_none() && (kinds.kind.is_some() || kinds.action.is_some()))
}

impl Channels {
    /// Waits until there is something to write. `None`: the connection is too slow and shall end. For ever, where there are
    /// no channels (any more).
    pub(crate) async fn next(&mut self) -> Option<Vec<Frame>> {
        let Some(outbox) = &mut self.0 else { return std::future::pending().await };
        let mut items = Vec::new();
        if !outbox.drain(&mut items, TAKEN_BYTES).await {
            self.0 = None;
            return Some(Vec::new());
        }
        let mut frames = Vec::with_capacity(items.len());
        for item in items {
            if let Item::Disconnect(why) = &item {
                self.0 = None;
                if **why == Disconnect::SlowConsumer {
                    return None;
                }
                // A server that stops says so by signaling too.
                return Some(frames);
            }
            frames.extend(encode_item(item, Encoding::Json).map(|encoded| match encoded {
                Encoded::Text(text) => Frame::text(text),
                Encoded::Binary(bytes) => Frame::binary(bytes),
            }));
        }
        Some(frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_type_and_no_signal_type_is_for_the_channels() {
        assert!(is_for_channels(r#"{"type": "publish", "channel": "room:a", "data": 1}"#));
        assert!(is_for_channels(r#"{"action": "join"}"#));
        assert!(!is_for_channels(r#"{"signal_type": "offer", "type": "offer", "sdp": ""}"#));
        assert!(!is_for_channels(r#"{"signal_type": "ping"}"#));
        assert!(!is_for_channels("{}"));
        assert!(!is_for_channels("[]"));
        assert!(!is_for_channels("{"));
    }
}
