//! A connection's place in a room, and how it is asked for.

use std::sync::Arc;

use parking_lot::MutexGuard;
use veche_access::Identity;
use veche_sfu_core::ids::ParticipantId;

use crate::room::{Room, RoomState};

/// What a client asks for when it connects.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// The room.
    pub room_id: String,
    /// The client's name for people.
    pub name: Option<String>,
    /// The client's name in messages.
    pub peer_id: Option<String>,
    /// The token of a connection before.
    pub resume_token: Option<String>,
    /// Who the client is.
    pub identity: Identity,
    /// Whether a moderator has let them in.
    pub admitted: bool,
}

/// Somebody of whom nothing is asked, nowhere yet.
impl Default for JoinRequest {
    fn default() -> Self {
        Self {
            room_id: String::new(),
            name: None,
            peer_id: None,
            resume_token: None,
            identity: Identity::anonymous(true),
            admitted: false,
        }
    }
}

/// A connection's place in a room.
#[derive(Clone, Debug)]
pub struct Seat {
    pub(crate) room: Arc<Room>,
    pub(crate) participant: ParticipantId,
    /// The client's name in messages.
    pub peer_id: Arc<str>,
    /// The number of the connection: a participant who comes back has the same place and another number.
    pub(crate) connection: u64,
}

impl Seat {
    /// The room, for as long as this connection has its place: one that was replaced, or lost, or whose participant is
    /// gone, changes nothing any more.
    pub(crate) fn lock(&self) -> Option<MutexGuard<'_, RoomState>> {
        let room = self.room.lock();
        room.is_current(self.participant, self.connection).then_some(room)
    }
}
