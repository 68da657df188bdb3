//! Rooms over HTTP.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use veche_access::Action;
use veche_doors::answers::{BodyRefusals, Refusals};

use super::ErrorAnswer;
use super::caller::Caller;
use super::extract::{Body, Path, Query};
use crate::error::Error;
use crate::protocol::Participant;
use crate::room::moderation::kept_out;
use crate::room::{self, Room};
use crate::rooms::Rooms;

/// Rooms in one answer, unless asked for fewer.
const MAX_LISTED: usize = 1000;

/// A room to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRoom {
    /// Its name in addresses; absent: made by the server.
    #[schema(example = "meeting_123")]
    room_id: Option<String>,
    /// Its name for people; absent: the `room_id`.
    #[schema(example = "Team meeting")]
    name: Option<String>,
    /// How many may be in it; absent: as many as the server allows.
    #[schema(example = 10, minimum = 1)]
    max_participants: Option<u32>,
}

/// What shall change; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoomChange {
    /// The same as in the address, where given.
    room_id: Option<String>,
    /// Its name for people.
    name: Option<String>,
    /// How many may be in it. Nobody is removed when more are.
    #[schema(minimum = 1)]
    max_participants: Option<u32>,
    /// Closed for who is not in it?
    locked: Option<bool>,
    /// Must moderators admit who comes? Switched off, it lets in who waits.
    waiting_room: Option<bool>,
}

/// A room.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RoomSummary {
    /// Its name in addresses.
    room_id: String,
    /// Its name for people.
    name: String,
    /// How many may be in it.
    max_participants: u32,
    /// How many are in it, also those whose connection is lost.
    participant_count: usize,
    /// Closed for who is not in it?
    locked: bool,
    /// Must moderators admit who comes?
    waiting_room: bool,
    /// Whether it stays when it is empty.
    permanent: bool,
    /// When it was made, in seconds since 1970.
    created_at: u64,
}

/// A room and who is in it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RoomDetails {
    /// The room.
    #[serde(flatten)]
    summary: RoomSummary,
    /// Who is in it, in the order in which they came.
    participants: Vec<Participant>,
}

/// Some of the rooms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RoomList {
    /// How many there are in all.
    total: usize,
    /// Those asked for, ordered by `room_id`.
    rooms: Vec<RoomSummary>,
}

/// Which rooms.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// How many to pass over.
    #[serde(default)]
    offset: usize,
    /// How many at most; 1000 are the most that come at once.
    limit: Option<usize>,
}

/// Makes a room that stays when it is empty.
#[utoipa::path(
    post,
    path = "/realtime/webrtc/rooms",
    operation_id = "createRoom",
    request_body = NewRoom,
    responses(
        (status = 201, description = "Made", body = RoomDetails),
        BodyRefusals,
        (status = 409, description = "The room exists", body = ErrorAnswer),
        (status = 503, description = "As many rooms as there may be", body = ErrorAnswer),
    )
)]
pub(crate) async fn create(
    State(rooms): State<Arc<Rooms>>,
    caller: Caller,
    Body(new): Body<NewRoom>,
) -> Result<impl IntoResponse, Error> {
    let room_id = new.room_id.unwrap_or_else(|| crate::token::new_id("room"));
    caller.needs(Action::Moderate, &room_id)?;
    let room = rooms.create_room(room_id, new.name, new.max_participants)?;
    let location = format!("/realtime/webrtc/rooms/{}", percent_encode(&room.room_id));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(details(&room))))
}

/// Lists the rooms that the caller may come into, or moderate.
#[utoipa::path(
    get,
    path = "/realtime/webrtc/rooms",
    operation_id = "listRooms",
    params(Page),
    responses((status = 200, description = "Rooms", body = RoomList), Refusals)
)]
pub(crate) async fn list(
    State(rooms): State<Arc<Rooms>>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Json<RoomList> {
    let mut all = rooms.all();
    all.retain(|room| caller.may_see(&room.room_id) && !room.lock().is_banned(&caller.0));
    let limit = page.limit.unwrap_or(MAX_LISTED).min(MAX_LISTED);
    let listed = all.iter().skip(page.offset).take(limit).map(|room| summary(room)).collect();
    Json(RoomList { total: all.len(), rooms: listed })
}

/// Shows a room and who is in it.
#[utoipa::path(
    get,
    path = "/realtime/webrtc/rooms/{room_id}",
    operation_id = "getRoom",
    params(("room_id" = String, Path, description = "The room")),
    responses(
        (status = 200, description = "The room", body = RoomDetails),
        Refusals,
        (status = 404, description = "No such room", body = ErrorAnswer),
    )
)]
pub(crate) async fn show(
    State(rooms): State<Arc<Rooms>>,
    caller: Caller,
    Path(room_id): Path<String>,
) -> Result<Json<RoomDetails>, Error> {
    caller.needs_sight(&room_id)?;
    let room = rooms.room(&room_id)?;
    if room.lock().is_banned(&caller.0) {
        return Err(kept_out());
    }
    Ok(Json(details(&room)))
}

/// Changes a room's name or limit; who is in it is told.
#[utoipa::path(
    put,
    path = "/realtime/webrtc/rooms/{room_id}",
    operation_id = "updateRoom",
    params(("room_id" = String, Path, description = "The room")),
    request_body = RoomChange,
    responses(
        (status = 200, description = "The room as it is now", body = RoomDetails),
        BodyRefusals,
        (status = 404, description = "No such room", body = ErrorAnswer),
    )
)]
pub(crate) async fn update(
    State(rooms): State<Arc<Rooms>>,
    caller: Caller,
    Path(room_id): Path<String>,
    Body(change): Body<RoomChange>,
) -> Result<Json<RoomDetails>, Error> {
    caller.needs(Action::Moderate, &room_id)?;
    if change.room_id.is_some_and(|named| named != room_id) {
        let message = "room_id: a room keeps its room_id; leave it out, or make another room";
        return Err(Error::new(crate::ErrorKind::BadRequest, message));
    }
    let RoomChange { name, max_participants, locked, waiting_room, .. } = change;
    let change = room::RoomChange { name, max_participants, locked, waiting_room };
    let room = rooms.update_room(&room_id, change)?;
    Ok(Json(details(&room)))
}

/// Deletes a room. Who is in it is told and disconnected.
#[utoipa::path(
    delete,
    path = "/realtime/webrtc/rooms/{room_id}",
    operation_id = "deleteRoom",
    params(("room_id" = String, Path, description = "The room")),
    responses(
        (status = 204, description = "Deleted"),
        Refusals,
        (status = 404, description = "No such room", body = ErrorAnswer),
    )
)]
pub(crate) async fn delete(
    State(rooms): State<Arc<Rooms>>,
    caller: Caller,
    Path(room_id): Path<String>,
) -> Result<StatusCode, Error> {
    caller.needs(Action::Moderate, &room_id)?;
    rooms.delete_room(&room_id)?;
    Ok(StatusCode::NO_CONTENT)
}

fn summary(room: &Room) -> RoomSummary {
    let state = room.lock();
    RoomSummary {
        room_id: state.info.room_id.clone(),
        name: state.info.name.clone(),
        max_participants: state.info.max_participants,
        participant_count: state.members.len(),
        locked: state.info.locked,
        waiting_room: state.info.waiting_room,
        permanent: room.permanent,
        created_at: room.created_at.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs()),
    }
}

fn details(room: &Room) -> RoomDetails {
    let summary = summary(room);
    let participants = room.lock().participants();
    RoomDetails { summary: RoomSummary { participant_count: participants.len(), ..summary }, participants }
}

/// Room ids may have letters of any script; headers may not.
fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"_-.".contains(&byte) {
            encoded.push(byte as char);
        } else {
            use std::fmt::Write as _;
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}
