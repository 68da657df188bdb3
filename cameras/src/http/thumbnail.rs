//! A camera's newest picture, small: for lists and dashboards.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use veche_access::Action;
use veche_doors::answers::Refusals;
use veche_doors::extract::Path;
use veche_doors::{Error, ErrorAnswer, ErrorKind};

use super::{Api, Place};
use crate::Shared;
use crate::camera::{Camera, End, Thumbnail};
use crate::frame::tag_in;
use crate::jpeg::MAX_SIDE;
use crate::visitor::Caller;

/// At most so large, in pixels.
const SIZE: (u32, u32) = (320, 180);

/// A camera has no more than one new thumbnail in so long.
const EVERY: Duration = Duration::from_secs(1);

/// A camera's newest picture as WebP of at most 320 x 180 pixels, made at most once a second.
#[utoipa::path(
    get,
    path = "/realtime/webrtc/rooms/{room_id}/cameras/{name}/thumbnail.webp",
    operation_id = "getThumbnail",
    tag = "cameras",
    params(
        Place,
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of the picture that one has"),
    ),
    responses(
        (status = 200, description = "The picture", content_type = "image/webp", body = Vec<u8>),
        (status = 304, description = "There is none newer"),
        Refusals,
        (status = 404, description = "No such camera sends", body = ErrorAnswer),
    )
)]
pub(crate) async fn thumbnail(
    State(api): State<Api>,
    caller: Caller,
    Path(place): Path<Place>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    caller.needs(Action::Subscribe, &place.room_id)?;
    let camera = api.shared.registry.get(&place.room_id, &place.name)?;
    let thumbnail = newest(&api.shared, &camera).await?;
    let tag = format!("{}-{}", camera.tag(), thumbnail.number);
    let had = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).unwrap_or_default();
    let is_known = had.split(',').any(|had| tag_in(had) == tag);
    let tag = HeaderValue::from_str(&format!("\"{tag}\"")).expect("digits and a dash fit a header");
    let common = [(header::ETAG, tag), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    if is_known {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    Ok((common, [(header::CONTENT_TYPE, "image/webp")], thumbnail.webp).into_response())
}

/// That of the newest frame, or one that is nearly as new. Where the codecs have no time an older one will do.
async fn newest(shared: &Shared, camera: &Camera) -> Result<Thumbnail, Error> {
    let frame = camera.newest().ok_or_else(|| End::Silent.error())?;
    let made = camera.thumbnail.lock().clone();
    if let Some(made) = &made
        && (made.number == frame.number || made.made_at + EVERY > Instant::now())
    {
        return Ok(made.clone());
    }
    let (number, jpeg) = (frame.number, frame.jpeg.clone());
    let job = move || veche_codecs::thumbnail(&jpeg, MAX_SIDE.into(), SIZE.0, SIZE.1);
    match shared.pool.run(job).await {
        Ok(Ok(webp)) => {
            let new = Thumbnail { number, webp: webp.into(), made_at: Instant::now() };
            *camera.thumbnail.lock() = Some(new.clone());
            Ok(new)
        }
        Ok(Err(error)) => Err(Error::new(ErrorKind::BadPicture, error.to_string())),
        Err(busy) => {
            let message = format!("{busy}; try again in a moment");
            made.ok_or_else(|| Error::new(ErrorKind::MediaUnavailable, message))
        }
    }
}
