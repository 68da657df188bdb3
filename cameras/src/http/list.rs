//! Which cameras there are.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use veche_access::Action;
use veche_doors::answers::Refusals;
use veche_doors::extract::Path;
use veche_doors::{Error, ErrorAnswer, ErrorKind};

use super::{Api, Place};
use crate::camera::{Camera, Owner};
use crate::visitor::Caller;

/// A camera.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CameraSummary {
    /// Its name.
    name: String,
    /// Its newest frame's width, in pixels.
    width: u16,
    /// Its newest frame's height, in pixels.
    height: u16,
    /// Its newest frame's size.
    bytes: usize,
    /// How many frames it has sent.
    frames: u64,
    /// When the newest came, in milliseconds since 1970.
    last_frame_at: u64,
    /// How many look at it.
    viewers: usize,
}

/// The cameras of a room.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CameraList {
    /// Those that have sent something lately, by name.
    cameras: Vec<CameraSummary>,
}

/// Lists the cameras of a room.
#[utoipa::path(
    get,
    path = "/realtime/webrtc/rooms/{room_id}/cameras",
    operation_id = "listCameras",
    tag = "cameras",
    params(("room_id" = String, Path, description = "The room")),
    responses((status = 200, description = "Cameras", body = CameraList), Refusals)
)]
pub(crate) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Path(room_id): Path<String>,
) -> Result<Json<CameraList>, Error> {
    caller.needs(Action::Subscribe, &room_id)?;
    let cameras = api.shared.registry.of_room(&room_id);
    Ok(Json(CameraList { cameras: cameras.iter().map(|camera| summary(camera)).collect() }))
}

/// Shows a camera.
#[utoipa::path(
    get,
    path = "/realtime/webrtc/rooms/{room_id}/cameras/{name}",
    operation_id = "getCamera",
    tag = "cameras",
    params(Place),
    responses(
        (status = 200, description = "The camera", body = CameraSummary),
        Refusals,
        (status = 404, description = "No such camera sends", body = ErrorAnswer),
    )
)]
pub(crate) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Path(place): Path<Place>,
) -> Result<Json<CameraSummary>, Error> {
    caller.needs(Action::Subscribe, &place.room_id)?;
    Ok(Json(summary(&*api.shared.registry.get(&place.room_id, &place.name)?)))
}

/// Removes a camera: by whoever sends as it, or a moderator. It is there again with its next frame.
#[utoipa::path(
    delete,
    path = "/realtime/webrtc/rooms/{room_id}/cameras/{name}",
    operation_id = "removeCamera",
    tag = "cameras",
    params(Place),
    responses(
        (status = 204, description = "Removed"),
        Refusals,
        (status = 404, description = "No such camera sends", body = ErrorAnswer),
    )
)]
pub(crate) async fn remove(
    State(api): State<Api>,
    caller: Caller,
    Path(place): Path<Place>,
) -> Result<StatusCode, Error> {
    let moderates = caller.needs(Action::Moderate, &place.room_id).is_ok();
    if !moderates {
        caller.needs(Action::PublishVideo, &place.room_id)?;
    }
    let camera = api.shared.registry.get(&place.room_id, &place.name)?;
    if !moderates && !camera.is_of(&Owner::of(&caller.0)) {
        let message = "the camera is somebody else's; it takes a token that grants \"moderate\" to remove it";
        return Err(Error::new(ErrorKind::Forbidden, message));
    }
    api.shared.registry.remove(&camera);
    Ok(StatusCode::NO_CONTENT)
}

fn summary(camera: &Camera) -> CameraSummary {
    let frame = camera.newest();
    let of = |value: fn(&crate::frame::Frame) -> u64| frame.as_deref().map_or(0, value);
    CameraSummary {
        name: camera.name.to_string(),
        width: of(|frame| frame.width.into()) as u16,
        height: of(|frame| frame.height.into()) as u16,
        bytes: of(|frame| frame.jpeg.len() as u64) as usize,
        frames: of(|frame| frame.number),
        last_frame_at: of(crate::frame::Frame::came_at_ms),
        viewers: camera.viewers(),
    }
}
