//! Participants without a browser, who publish from within this process: a camera that has nothing but HTTP. In the room they are
//! like others; what a client would be told of them comes to nobody but for its end.

use std::sync::Arc;

use veche_sfu::studio::Guest;

use super::media::media_unavailable;
use super::{JoinRequest, Rooms, Seat};
use crate::error::{Error, ErrorKind};
use crate::link::{Close, Outbox, Outgoing};
use crate::protocol::LeaveReason;
use crate::room::RoomState;

/// A guest's place in a room. Dropping it gives it up.
#[derive(Debug)]
pub struct GuestSeat {
    rooms: Arc<Rooms>,
    seat: Seat,
    outbox: Outbox,
    guest: Arc<Guest>,
}

impl Rooms {
    /// Takes a guest into a room. They do not wait to be admitted: where one must, they are refused.
    pub(crate) fn join_guest(self: &Arc<Self>, request: &JoinRequest) -> Result<GuestSeat, Error> {
        super::check_join(&request.identity, &request.room_id)?;
        let mut guest = None;
        let (seat, outbox, _) = self.take_seat(request, |room| {
            guest = self.media.add_guest(room);
            guest.as_ref().map(Guest::participant)
        })?;
        let guest = Arc::new(guest.ok_or_else(media_unavailable)?);
        if let Some(member) = seat.room.lock().members.get_mut(&seat.participant) {
            member.guest = Some(Arc::downgrade(&guest));
        }
        Ok(GuestSeat { rooms: self.clone(), seat, outbox, guest })
    }
}

impl GuestSeat {
    /// The way to the media plane.
    pub fn guest(&self) -> Arc<Guest> {
        self.guest.clone()
    }

    /// Waits until the guest is sent out, or the room or the server ends.
    pub async fn ended(&mut self) -> Error {
        loop {
            match self.outbox.next().await {
                // What a client is told of the room is of no use to one that has no client.
                Some(Outgoing::Message(_)) => {}
                Some(Outgoing::Close(Close::Because(error))) => return error,
                Some(Outgoing::Close(Close::Left)) | None => {
                    return Error::new(ErrorKind::Removed, "no longer in the room");
                }
            }
        }
    }
}

impl Drop for GuestSeat {
    fn drop(&mut self) {
        self.rooms.remove_if(&self.seat, LeaveReason::Left, RoomState::is_current);
    }
}
