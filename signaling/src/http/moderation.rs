//! What moderators do, over HTTP.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use veche_access::{Action, Actions};
use veche_doors::answers::{BodyRefusals, Refusals};

use super::caller::Caller;
use super::extract::{Body, Path};
use super::{Api, ErrorAnswer};
use crate::error::{Error, ErrorKind};
use crate::protocol::{Ban, Moderation, TrackSource, Waiting};
use crate::rooms::Moderator;

/// Which tracks to mute.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mute {
    /// Those of this source; absent: all.
    source: Option<TrackSource>,
    /// A single one.
    #[schema(example = "TR12")]
    track_id: Option<String>,
}

/// Why somebody is sent out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reason {
    /// What they are told.
    #[schema(example = "off topic")]
    reason: Option<String>,
}

/// What somebody may do from now on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewGrants {
    /// All of it: what is not in the list they may not do any more. `publish` stands for the four `publish_…`.
    #[schema(value_type = Vec<String>, example = json!(["join", "subscribe", "publish_audio"]))]
    grants: Actions,
}

/// What somebody may do now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GrantList {
    /// All of it.
    grants: Vec<Action>,
}

/// Who is banned.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BanList {
    /// Users, and peer ids of those who were anonymous.
    bans: Vec<Ban>,
}

/// Whom to ban, or to let come again: one of the two.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Banned {
    /// A user, as tokens say.
    #[schema(example = "anna")]
    user_id: Option<String>,
    /// The peer id of somebody anonymous.
    peer_id: Option<String>,
    /// What they are told; only for a ban.
    reason: Option<String>,
}

/// Who waits to be admitted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WaitingList {
    /// Those who have waited longest first.
    waiting: Vec<Waiting>,
}

/// Mutes tracks of somebody. They may unmute them; take their grants to prevent that.
#[utoipa::path(
    post,
    path = "/realtime/webrtc/rooms/{room_id}/participants/{peer_id}/mute",
    operation_id = "muteParticipant",
    params(("room_id" = String, Path, description = "The room"), ("peer_id" = String, Path, description = "Who")),
    request_body(content = Option<Mute>, description = "Nothing for all tracks"),
    responses(
        (status = 204, description = "Done"),
        BodyRefusals,
        (status = 404, description = "No such room, peer or track", body = ErrorAnswer),
    )
)]
pub(crate) async fn mute(
    State(api): State<Api>,
    caller: Caller,
    Path((room_id, peer_id)): Path<(String, String)>,
    body: Bytes,
) -> Result<StatusCode, Error> {
    let Mute { source, track_id } = optional(&body)?;
    moderate(&api, &caller, &room_id, Moderation::Mute { peer_id, source, track_id }).await
}

/// Sends somebody out. They may come back.
#[utoipa::path(
    post,
    path = "/realtime/webrtc/rooms/{room_id}/participants/{peer_id}/remove",
    operation_id = "removeParticipant",
    params(("room_id" = String, Path, description = "The room"), ("peer_id" = String, Path, description = "Who")),
    request_body(content = Option<Reason>, description = "Nothing for no reason"),
    responses(
        (status = 204, description = "Done"),
        BodyRefusals,
        (status = 404, description = "No such room or peer", body = ErrorAnswer),
    )
)]
pub(crate) async fn remove(
    State(api): State<Api>,
    caller: Caller,
    Path((room_id, peer_id)): Path<(String, String)>,
    body: Bytes,
) -> Result<StatusCode, Error> {
    let Reason { reason } = optional(&body)?;
    moderate(&api, &caller, &room_id, Moderation::Remove { peer_id, reason }).await
}

/// Sends somebody out and keeps them out: as a user, or by their peer id where they are anonymous.
#[utoipa::path(
    post,
    path = "/realtime/webrtc/rooms/{room_id}/participants/{peer_id}/ban",
    operation_id = "banParticipant",
    params(("room_id" = String, Path, description = "The room"), ("peer_id" = String, Path, description = "Who")),
    request_body(content = Option<Reason>, description = "Nothing for no reason"),
    responses(
        (status = 204, description = "Done"),
        BodyRefusals,
        (status = 404, description = "No such room", body = ErrorAnswer),
        (status = 429, description = "As many bans as there may be", body = ErrorAnswer),
    )
)]
pub(crate) async fn ban(
    State(api): State<Api>,
    caller: Caller,
    Path((room_id, peer_id)): Path<(String, String)>,
    body: Bytes,
) -> Result<StatusCode, Error> {
    let Reason { reason } = optional(&body)?;
    let ban = Moderation::Ban { peer_id: Some(peer_id), user_id: None, reason };
    moderate(&api, &caller, &room_id, ban).await
}

/// Says what somebody may do from now on; they are told. Nobody can grant what they may not do themselves.
#[utoipa::path(
    put,
    path = "/realtime/webrtc/rooms/{room_id}/participants/{peer_id}/grants",
    operation_id = "setGrants",
    params(("room_id" = String, Path, description = "The room"), ("peer_id" = String, Path, description = "Who")),
    request_body = NewGrants,
    responses(
        (status = 200, description = "What they may do now", body = GrantList),
        BodyRefusals,
        (status = 403, description = "Not granted, or not yours to grant", body = ErrorAnswer),
        (status = 404, description = "No such room or peer", body = ErrorAnswer),
    )
)]
pub(crate) async fn grant(
    State(api): State<Api>,
    caller: Caller,
    Path((room_id, peer_id)): Path<(String, String)>,
    Body(NewGrants { grants }): Body<NewGrants>,
) -> Result<Json<GrantList>, Error> {
    moderate(&api, &caller, &room_id, Moderation::Grant { peer_id, grants }).await?;
    Ok(Json(GrantList { grants: grants.iter().collect() }))
}

/// Lists who is kept out of a room.
#[utoipa::path(
    get,
    path = "/realtime/webrtc/rooms/{room_id}/bans",
    operation_id = "listBans",
    params(("room_id" = String, Path, description = "The room")),
    responses(
        (status = 200, description = "Who is banned", body = BanList),
        Refusals,
        (status = 404, description = "No such room", body = ErrorAnswer),
    )
)]
pub(crate) async fn bans(
    State(api): State<Api>,
    caller: Caller,
    Path(room_id): Path<String>,
) -> Result<Json<BanList>, Error> {
    caller.needs(Action::Moderate, &room_id)?;
    let bans = api.rooms.room(&room_id)?.lock().bans();
    Ok(Json(BanList { bans }))
}

/// Keeps somebody out who need not be there.
#[utoipa::path(
    post,
    path = "/realtime/webrtc/rooms/{room_id}/bans",
    operation_id = "addBan",
    params(("room_id" = String, Path, description = "The room")),
    request_body = Banned,
    responses(
        (status = 204, description = "Done"),
        BodyRefusals,
        (status = 404, description = "No such room", body = ErrorAnswer),
        (status = 429, description = "As many bans as there may be", body = ErrorAnswer),
    )
)]
pub(crate) async fn add_ban(
    State(api): State<Api>,
    caller: Caller,
    Path(room_id): Path<String>,
    Body(Banned { user_id, peer_id, reason }): Body<Banned>,
) -> Result<StatusCode, Error> {
    moderate(&api, &caller, &room_id, Moderation::Ban { peer_id, user_id, reason }).await
}

/// Lets somebody come again.
#[utoipa::path(
    delete,
    path = "/realtime/webrtc/rooms/{room_id}/bans",
    operation_id = "removeBan",
    params(("room_id" = String, Path, description = "The room")),
    request_body = Banned,
    responses(
        (status = 204, description = "Done"),
        BodyRefusals,
        (status = 404, description = "No such room, or they are not banned", body = ErrorAnswer),
    )
)]
pub(crate) async fn unban(
    State(api): State<Api>,
    caller: Caller,
    Path(room_id): Path<String>,
    Body(Banned { user_id, peer_id, .. }): Body<Banned>,
) -> Result<StatusCode, Error> {
    moderate(&api, &caller, &room_id, Moderation::Unban { peer_id, user_id }).await
}

/// Lists who waits to be admitted to a room.
#[utoipa::path(
    get,
    path = "/realtime/webrtc/rooms/{room_id}/waiting",
    operation_id = "listWaiting",
    params(("room_id" = String, Path, description = "The room")),
    responses(
        (status = 200, description = "Who waits", body = WaitingList),
        Refusals,
        (status = 404, description = "No such room", body = ErrorAnswer),
    )
)]
pub(crate) async fn waiting(
    State(api): State<Api>,
    caller: Caller,
    Path(room_id): Path<String>,
) -> Result<Json<WaitingList>, Error> {
    caller.needs(Action::Moderate, &room_id)?;
    let waiting = api.rooms.room(&room_id)?.lock().waiting.list();
    Ok(Json(WaitingList { waiting }))
}

/// Lets in somebody who waits.
#[utoipa::path(
    post,
    path = "/realtime/webrtc/rooms/{room_id}/waiting/{peer_id}/admit",
    operation_id = "admitParticipant",
    params(("room_id" = String, Path, description = "The room"), ("peer_id" = String, Path, description = "Who")),
    responses(
        (status = 204, description = "Done"),
        Refusals,
        (status = 404, description = "No such room, or nobody of this peer id waits", body = ErrorAnswer),
    )
)]
pub(crate) async fn admit(
    State(api): State<Api>,
    caller: Caller,
    Path((room_id, peer_id)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    moderate(&api, &caller, &room_id, Moderation::Admit { peer_id }).await
}

/// Sends away somebody who waits.
#[utoipa::path(
    post,
    path = "/realtime/webrtc/rooms/{room_id}/waiting/{peer_id}/deny",
    operation_id = "denyParticipant",
    params(("room_id" = String, Path, description = "The room"), ("peer_id" = String, Path, description = "Who")),
    responses(
        (status = 204, description = "Done"),
        Refusals,
        (status = 404, description = "No such room, or nobody of this peer id waits", body = ErrorAnswer),
    )
)]
pub(crate) async fn deny(
    State(api): State<Api>,
    caller: Caller,
    Path((room_id, peer_id)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    moderate(&api, &caller, &room_id, Moderation::Deny { peer_id }).await
}

/// Whether they may is asked first: who may not learns nothing about the room.
async fn moderate(api: &Api, caller: &Caller, room_id: &str, what: Moderation) -> Result<StatusCode, Error> {
    caller.needs(Action::Moderate, room_id)?;
    let room = api.rooms.room(room_id)?;
    let user_id = caller.0.user_id.as_deref();
    let by = Moderator { peer_id: None, user_id, actions: caller.0.actions_now(room_id) };
    api.rooms.moderate(&room, by, what).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A JSON body that may be left out.
pub(super) fn optional<T: Default + DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    if body.is_empty() {
        return Ok(T::default());
    }
    let sent: Result<Option<T>, _> = serde_json::from_slice(body);
    sent.map(Option::unwrap_or_default)
        .map_err(|error| Error::new(ErrorKind::BadRequest, format!("the body: {error}; it may be left out")))
}
