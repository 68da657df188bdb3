//! Looking at a camera by an answer whose parts take the place of each other: what `<img>` shows as moving pictures.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use veche_doors::answers::Refusals;
use veche_doors::extract::{Path, Query};
use veche_doors::{Error, ErrorAnswer};

use super::stream::{Form, body};
use super::{Api, Place, ViewQuery};
use crate::counters::ViewerKind;
use crate::frame::BOUNDARY;
use crate::visitor::Caller;

/// A camera's frames as they come, each in the place of the one before (MJPEG).
#[utoipa::path(
    get,
    path = "/realtime/webrtc/rooms/{room_id}/cameras/{name}/mjpeg",
    operation_id = "watchMjpeg",
    tag = "cameras",
    params(Place, ViewQuery),
    responses(
        (status = 200, description = "Frames", content_type = "multipart/x-mixed-replace", body = Vec<u8>),
        Refusals,
        (status = 404, description = "No such camera sends", body = ErrorAnswer),
    )
)]
pub(crate) async fn stream(
    State(api): State<Api>,
    caller: Caller,
    Path(place): Path<Place>,
    Query(query): Query<ViewQuery>,
) -> Result<Response, Error> {
    let viewing = api.shared.viewing(caller, &place, query.fps, ViewerKind::Mjpeg)?;
    let mut response = Response::new(body(viewing, Form::Mjpeg));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_str(&format!("multipart/x-mixed-replace; boundary={BOUNDARY}"));
    headers.insert(header::CONTENT_TYPE, kind.expect("letters fit a header"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}
