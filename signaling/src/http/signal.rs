//! A signal to a peer over HTTP, for programs that have no WebSocket.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use veche_access::Action;
use veche_doors::answers::BodyRefusals;

use super::ErrorAnswer;
use super::caller::Caller;
use super::extract::Body;
use crate::error::{Error, ErrorKind};
use crate::inbound;
use crate::rooms::Rooms;

/// A signal to a peer. Further fields are passed on as they are.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names are those of the contract")]
#[expect(dead_code, reason = "describes the body; what is passed on is the body itself")]
pub(crate) struct Signal {
    /// The peer's room.
    #[schema(example = "meeting_123")]
    room_id: String,
    /// The peer.
    #[schema(example = "peer_456")]
    target_peer_id: String,
    /// `offer`, `answer`, `ice-candidate` or any other.
    #[schema(example = "ice-candidate")]
    signal_type: String,
    /// For offers and answers.
    sdp: Option<String>,
    /// `RTCIceCandidateInit`.
    #[schema(value_type = Option<Object>)]
    ice_candidate: Option<serde_json::Value>,
}

/// What became of a signal.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Sent {
    /// Always: it is on its way.
    delivered: bool,
}

/// Sends a signal to a peer; it gets it with an empty `from_peer_id`.
#[utoipa::path(
    post,
    path = "/realtime/webrtc/signal",
    operation_id = "sendSignal",
    request_body = Signal,
    responses(
        (status = 202, description = "On its way", body = Sent),
        BodyRefusals,
        (status = 404, description = "No such room or peer", body = ErrorAnswer),
        (status = 409, description = "The peer's connection is lost, or it reads too slowly", body = ErrorAnswer),
    )
)]
pub(crate) async fn send(
    State(rooms): State<Arc<Rooms>>,
    caller: Caller,
    Body(body): Body<Box<serde_json::value::RawValue>>,
) -> Result<(StatusCode, Json<Sent>), Error> {
    let envelope: inbound::Envelope<'_> = serde_json::from_str(body.get())
        .map_err(|error| Error::new(ErrorKind::BadRequest, format!("not an object: {error}")))?;
    let needed = |field: &str| {
        inbound::string(&envelope, field)?
            .ok_or_else(|| Error::new(ErrorKind::BadRequest, format!("{field}: missing")))
    };
    let (room_id, target, signal_type) =
        (needed("room_id")?, needed("target_peer_id")?, needed("signal_type")?);
    caller.needs(Action::Send, &room_id)?;
    let room = rooms.room(&room_id)?;
    let message: Bytes = inbound::relayed(envelope, &signal_type, "")?;
    room.lock().relay(&target, message)?;
    Ok((StatusCode::ACCEPTED, Json(Sent { delivered: true })))
}
