//! How rooms reach the media plane: numbers for rooms and participants, and commands.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use veche_sfu::Handle;
use veche_sfu::studio::Guest;
use veche_sfu_core::control::Command;
use veche_sfu_core::ids::{ParticipantId, RoomId};

use crate::error::{Error, ErrorKind};

/// The way to the media plane. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Media(Way);

#[derive(Clone, Debug)]
enum Way {
    Sfu(Handle),
    Queue { commands: flume::Sender<(RoomId, Command)>, last_id: Arc<AtomicU64> },
}

impl From<Handle> for Media {
    fn from(handle: Handle) -> Self {
        Self(Way::Sfu(handle))
    }
}

impl Media {
    /// A media plane that somebody else plays: commands come out of the queue, which holds `capacity` of them.
    pub fn queue(capacity: usize) -> (Self, flume::Receiver<(RoomId, Command)>) {
        let (commands, receiver) = flume::bounded(capacity);
        (Self(Way::Queue { commands, last_id: Arc::default() }), receiver)
    }

    pub(crate) fn create_room(&self) -> RoomId {
        match &self.0 {
            Way::Sfu(handle) => handle.create_room(),
            Way::Queue { last_id, .. } => RoomId(last_id.fetch_add(1, Ordering::Relaxed) + 1),
        }
    }

    pub(crate) fn create_participant(&self, room: RoomId) -> ParticipantId {
        match &self.0 {
            Way::Sfu(handle) => handle.create_participant(room),
            Way::Queue { last_id, .. } => ParticipantId(last_id.fetch_add(1, Ordering::Relaxed) + 1),
        }
    }

    /// Somebody without transport; `None` where somebody else plays the media plane.
    pub(crate) fn add_guest(&self, room: RoomId) -> Option<Guest> {
        match &self.0 {
            Way::Sfu(handle) => Some(handle.add_guest(room)),
            Way::Queue { .. } => None,
        }
    }

    /// Waits while the worker's queue is full: this is what holds back a client that asks faster than its worker
    /// answers. Fails only when the media plane has stopped.
    pub(crate) async fn command(&self, room: RoomId, command: Command) -> Result<(), Error> {
        let taken = match &self.0 {
            Way::Sfu(handle) => handle.command(room, command).await.is_ok(),
            Way::Queue { commands, .. } => commands.send_async((room, command)).await.is_ok(),
        };
        taken
            .then_some(())
            .ok_or_else(|| Error::new(ErrorKind::ServerStopping, "the media plane has stopped"))
    }
}
