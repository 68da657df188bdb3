//! Frames by requests: one picture, or as many as come in one request that does not end.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use utoipa::ToSchema;
use veche_doors::answers::BodyRefusals;
use veche_doors::arriving::TooSlow;
use veche_doors::extract::{Path, refuse_encoded};
use veche_doors::{Error, ErrorAnswer, ErrorKind};

use super::{Api, Place};
use crate::Shared;
use crate::camera::Owner;
use crate::multipart::{Malformed, Parts};
use crate::registry::too_large;
use crate::visitor::{Caller, Visitor};

/// What became of what was sent.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Received {
    /// The number of the newest frame of the camera that was sent here.
    frame: u64,
    /// How many frames of the request were taken.
    taken: u64,
    /// How many were not.
    refused: u64,
    /// How many look at the camera.
    viewers: usize,
}

/// Sends one picture of a camera (`image/jpeg`), or all of them in one request (`multipart/x-mixed-replace`). The camera is there
/// with its first.
#[utoipa::path(
    post,
    path = "/realtime/webrtc/rooms/{room_id}/cameras/{name}/frames",
    operation_id = "sendFrames",
    tag = "cameras",
    params(Place),
    request_body(
        description = "A picture, or parts that are pictures",
        content((Vec<u8> = "image/jpeg"), (Vec<u8> = "multipart/x-mixed-replace"))
    ),
    responses(
        (status = 200, description = "Taken", body = Received),
        BodyRefusals,
        (status = 404, description = "The room is not there", body = ErrorAnswer),
        (status = 408, description = "The body stopped coming", body = ErrorAnswer),
        (status = 409, description = "Somebody else sends as this camera", body = ErrorAnswer),
        (status = 415, description = "Not a JPEG picture, or a broken one", body = ErrorAnswer),
    )
)]
pub(crate) async fn frames(
    State(api): State<Api>,
    caller: Caller,
    Path(place): Path<Place>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Received>, Error> {
    refuse_encoded(&headers)?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("image/jpeg");
    let shared = api.shared;
    let visitor = shared.sender(caller, &place)?;
    let _permit = shared.sender_permit()?;
    let max = shared.settings.max_frame_bytes;
    let mut intake = Intake::new(&shared, visitor, place);
    if let Some(parts) = Parts::of(kind, max) {
        return take_stream(intake, parts, body).await.map(Json);
    }
    if !kind.trim().to_ascii_lowercase().starts_with("image/jpeg") {
        let shown: String = kind.chars().take(100).collect();
        let message = format!(
            "Content-Type: `{shown}` is not taken here; send image/jpeg, or multipart/x-mixed-replace with a boundary"
        );
        return Err(Error::new(ErrorKind::UnsupportedEncoding, message));
    }
    let collected = Limited::new(body, max).collect().await;
    let bytes = collected.map_err(|error| unreadable(&*error, max))?.to_bytes();
    intake.take(&bytes).await?;
    Ok(Json(intake.received))
}

/// Takes frames for as long as they come. A picture that is no good ends nothing: the next may be.
async fn take_stream(mut intake: Intake<'_>, mut parts: Parts, body: Body) -> Result<Received, Error> {
    let max = intake.shared.settings.max_frame_bytes;
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        parts.push(&piece.map_err(|error| unreadable(&error, max))?);
        while let Some(part) = parts.next_part().map_err(|malformed| wrong(malformed, max))? {
            match intake.take(&part).await {
                Err(error) if is_final(error.kind) => return Err(error),
                _ => {}
            }
        }
        if parts.is_over() {
            break;
        }
    }
    Ok(intake.received)
}

/// One sender's frames.
pub(crate) struct Intake<'a> {
    shared: &'a Shared,
    visitor: Visitor,
    place: Place,
    owner: Owner,
    received: Received,
}

impl<'a> Intake<'a> {
    pub(crate) fn new(shared: &'a Shared, visitor: Visitor, place: Place) -> Self {
        let owner = Owner::of(visitor.identity());
        Self { shared, visitor, place, owner, received: Received::default() }
    }

    /// Takes a frame, if they still may send.
    pub(crate) async fn take(&mut self, jpeg: &Bytes) -> Result<(), Error> {
        self.visitor.check().await?;
        match self.shared.registry.put(&self.place.room_id, &self.place.name, &self.owner, jpeg) {
            Ok(taken) => {
                self.received.frame = taken.number;
                self.received.viewers = taken.camera.viewers();
                self.received.taken += 1;
                Ok(())
            }
            Err(error) => {
                self.received.refused += 1;
                Err(error)
            }
        }
    }

    /// An error where they may not send any more.
    pub(crate) async fn check(&mut self) -> Result<(), Error> {
        self.visitor.check().await
    }
}

/// Whether nothing that follows would be taken either.
pub(crate) fn is_final(kind: ErrorKind) -> bool {
    !matches!(kind, ErrorKind::RateLimited | ErrorKind::BadPicture | ErrorKind::MessageTooLarge)
}

fn unreadable(error: &(dyn std::error::Error + 'static), max: usize) -> Error {
    if let Some(slow) = TooSlow::find(error) {
        return slow.into();
    }
    let is_long = std::iter::successors(Some(error), |error| error.source())
        .any(<dyn std::error::Error>::is::<LengthLimitError>);
    if is_long { too_large(max) } else { Error::new(ErrorKind::BadRequest, format!("the body: {error}")) }
}

fn wrong(malformed: Malformed, max: usize) -> Error {
    match malformed {
        Malformed::TooLarge => too_large(max),
        _ => Error::new(ErrorKind::BadRequest, malformed.to_string()),
    }
}
