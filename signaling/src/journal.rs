//! What happens in rooms, for the event log and for whoever subscribes to the channel `room:<id>`.

use std::sync::{Arc, OnceLock};

use serde_json::Value;
use veche_messaging::Messaging;

/// Messaging, once it is there; rooms that are made before find it too.
pub(crate) type MessagingCell = Arc<OnceLock<Messaging>>;

/// Where one room notes what happens in it.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    room_id: Arc<str>,
    messaging: MessagingCell,
}

impl Journal {
    pub(crate) fn new(room_id: Arc<str>, messaging: MessagingCell) -> Self {
        Self { room_id, messaging }
    }

    /// Notes an event of one of the kinds that the log knows, and whose doing it was.
    pub(crate) fn note(&self, kind: &str, user_id: Option<&str>, data: Value) {
        if let Some(messaging) = self.messaging.get() {
            messaging.note_room(&self.room_id, kind, user_id, data);
        }
    }
}
