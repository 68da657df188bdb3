//! A camera's newest picture, once, and waiting for the next.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::time::timeout;
use utoipa::IntoParams;
use veche_access::Action;
use veche_doors::answers::Refusals;
use veche_doors::extract::{Path, Query};
use veche_doors::{Error, ErrorAnswer};

use super::{Api, Place};
use crate::camera::{Camera, End};
use crate::frame::{Frame, tag_in};
use crate::visitor::Caller;

/// How long is waited for the next frame, in seconds, unless asked for less.
const WAIT: u32 = 25;

/// Which picture.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LatestQuery {
    /// Only one that is newer than the one with this `ETag`; waits for it.
    after: Option<String>,
    /// How long to wait for it at most, in seconds, up to 25.
    #[param(maximum = 25)]
    wait: Option<u32>,
    /// A token, for browsers, which cannot send headers with pictures.
    #[expect(dead_code, reason = "describes the parameter; where credentials stand is known elsewhere")]
    token: Option<String>,
    /// An API key, likewise.
    #[expect(dead_code, reason = "describes the parameter; where credentials stand is known elsewhere")]
    api_key: Option<String>,
}

/// A camera's newest picture. With `after` it waits for a newer one, and answers 304 where none comes.
#[utoipa::path(
    get,
    path = "/realtime/webrtc/rooms/{room_id}/cameras/{name}/latest.jpg",
    operation_id = "getLatestFrame",
    tag = "cameras",
    params(
        Place,
        LatestQuery,
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of the picture that one has"),
    ),
    responses(
        (status = 200, description = "The picture", content_type = "image/jpeg", body = Vec<u8>),
        (status = 304, description = "There is none newer"),
        Refusals,
        (status = 404, description = "No such camera sends", body = ErrorAnswer),
    )
)]
pub(crate) async fn latest(
    State(api): State<Api>,
    caller: Caller,
    Path(place): Path<Place>,
    Query(query): Query<LatestQuery>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    caller.needs(Action::Subscribe, &place.room_id)?;
    let camera = api.shared.registry.get(&place.room_id, &place.name)?;
    let mut is_known = false;
    let frame = match query.after.as_deref().map(tag_in) {
        None => camera.newest(),
        Some(after) => {
            let _permit = api.shared.viewer_permit()?;
            let wait = Duration::from_secs(u64::from(query.wait.unwrap_or(WAIT).min(WAIT)));
            if let Ok(newer) = timeout(wait, newer(&camera, after)).await {
                Some(newer?)
            } else {
                is_known = true;
                camera.newest()
            }
        }
    };
    let frame = frame.ok_or_else(|| End::Silent.error())?;
    let had = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).unwrap_or_default();
    is_known |= had.split(',').any(|tag| tag_in(tag) == frame.tag());
    if !is_known {
        api.shared.tally.frames_out.add(1);
        api.shared.tally.bytes_out.add(frame.jpeg.len() as u64);
    }
    Ok(answer(&frame, is_known))
}

/// Waits for a frame that is not this one.
async fn newer(camera: &Camera, tag: &str) -> Result<Arc<Frame>, Error> {
    let mut newest = camera.watch();
    loop {
        {
            let shown = newest.borrow_and_update();
            if let Some(end) = shown.end {
                return Err(end.error());
            }
            if let Some(frame) = shown.frame.as_ref().filter(|frame| frame.tag() != tag) {
                return Ok(frame.clone());
            }
        }
        // An error is the camera's end, which it has told.
        let _ = newest.changed().await;
    }
}

/// The picture, or only that it is the one that the client has.
fn answer(frame: &Frame, is_known: bool) -> Response {
    let mut response =
        if is_known { StatusCode::NOT_MODIFIED.into_response() } else { frame.jpeg.clone().into_response() };
    let headers = response.headers_mut();
    let tag = HeaderValue::from_str(&format!("\"{}\"", frame.tag()));
    headers.insert(header::ETAG, tag.expect("digits and a dash fit a header"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if !is_known {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"));
        headers.insert("x-frame-at", HeaderValue::from(frame.came_at_ms()));
    }
    response
}
