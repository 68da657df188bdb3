//! Looking at a camera by an event stream: for pages that can have nothing else, and programs that read JSON.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::Response;
use veche_doors::answers::Refusals;
use veche_doors::extract::{Path, Query};
use veche_doors::{Error, ErrorAnswer, ErrorKind};

use super::stream::{Form, body};
use super::{Api, Place, ViewQuery};
use crate::counters::ViewerKind;
use crate::frame::tag_in;
use crate::visitor::Caller;

/// A camera's frames as events `binary_data`, in base64. PROTOCOL.md describes them.
#[utoipa::path(
    get,
    path = "/realtime/webrtc/rooms/{room_id}/cameras/{name}/events",
    operation_id = "watchEvents",
    tag = "cameras",
    params(Place, ViewQuery),
    responses(
        (status = 200, description = "The stream", content_type = "text/event-stream", body = String),
        Refusals,
        (status = 404, description = "No such camera sends", body = ErrorAnswer),
    )
)]
pub(crate) async fn stream(
    State(api): State<Api>,
    caller: Caller,
    Path(place): Path<Place>,
    Query(query): Query<ViewQuery>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Error> {
    if !api.shared.doorkeeper.allows_origin(&headers, &uri) {
        let message = "pages of this origin may not look; add it to cameras.allowed_origins";
        return Err(Error::new(ErrorKind::ForbiddenOrigin, message));
    }
    let mut viewing = api.shared.viewing(caller, &place, query.fps, ViewerKind::Sse)?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(tag_in);
    if let Some(frame) = viewing.camera.newest().filter(|frame| last == Some(&*frame.tag())) {
        viewing.has_seen(&frame);
    }
    let mut response = Response::new(body(viewing, Form::Events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}
