//! Channels over HTTP: which there are, what was said in them, who is there, what happened.

use axum::extract::State;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use veche_access::{Action, Identity, Resource};
use veche_doors::answers::Refusals;
use veche_doors::extract::{Path, Query};
use veche_doors::{Error, ErrorAnswer, ErrorKind};
use veche_hub::{ChannelName, HistoryQuery};
use veche_storage::{Event, EventQuery, StorageError};

use super::connections::may_administer;
use super::{Api, Caller};
use crate::protocol::ServerMessage;
use crate::protocol::answer::HistoryAnswer;
use crate::protocol::request::{self, epoch};
use crate::session::{MAX_HISTORY, USUAL_HISTORY};
use crate::{Shared, check};

/// Channels that are listed at most.
const MAX_CHANNELS: usize = 1000;

/// Events that are listed at most.
const MAX_EVENTS: u32 = 1000;

/// Which channels to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ChannelsQuery {
    /// Only those whose names begin so.
    #[serde(default)]
    prefix: String,
    /// At most so many, up to 1000.
    limit: Option<usize>,
}

/// Channels.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Channels {
    /// In the order of their names.
    channels: Vec<ChannelEntry>,
}

/// One channel.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChannelEntry {
    /// Its name.
    channel: String,
    /// How many connections subscribe to it.
    subscribers: usize,
    /// Its epoch.
    epoch: String,
    /// The place of its newest message.
    offset: u64,
    /// How many messages its history has.
    history: usize,
}

/// Lists channels, for administrators.
#[utoipa::path(
    get,
    path = "/realtime/channels",
    operation_id = "listChannels",
    tag = "messaging",
    params(ChannelsQuery),
    responses(
        (status = 200, description = "The channels", body = Channels),
        Refusals,
    )
)]
pub(crate) async fn list(
    State(api): State<Api>,
    Extension(identity): Caller,
    Query(query): Query<ChannelsQuery>,
) -> Result<Json<Channels>, Error> {
    may_administer(&identity)?;
    let limit = query.limit.unwrap_or(MAX_CHANNELS).min(MAX_CHANNELS);
    let entries = api.shared.hub.channels(&query.prefix, limit).into_iter().map(|channel| ChannelEntry {
        channel: channel.name.to_string(),
        subscribers: channel.subscribers,
        epoch: channel.position.epoch.to_string(),
        offset: channel.position.offset,
        history: channel.history,
    });
    Ok(Json(Channels { channels: entries.collect() }))
}

/// Which messages to give.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct MessagesQuery {
    /// Only those after this offset, the oldest first; without it the newest ones.
    since: Option<u64>,
    /// The epoch of that offset.
    epoch: Option<String>,
    /// At most so many, up to 1000; 100 where it is not said.
    limit: Option<usize>,
}

/// Gives the newest messages of a channel, as `history` over the WebSocket does.
#[utoipa::path(
    get,
    path = "/realtime/channels/{channel}/history",
    operation_id = "getChannelHistory",
    tag = "messaging",
    params(("channel" = String, Path, description = "The channel; `/` in it as `%2F`"), MessagesQuery),
    responses(
        (status = 200, description = "The messages, in order", body = Object),
        Refusals,
    )
)]
pub(crate) async fn history(
    State(api): State<Api>,
    Extension(identity): Caller,
    Path(channel): Path<String>,
    Query(query): Query<MessagesQuery>,
) -> Result<Json<ServerMessage>, Error> {
    let channel = readable(&identity, &channel)?;
    let limit = query.limit.unwrap_or(USUAL_HISTORY).min(MAX_HISTORY);
    let epoch = query.epoch.as_deref().map(epoch).transpose()?;
    let query = HistoryQuery { since: query.since, epoch, limit };
    let history = api.shared.hub.history(&channel, query, api.shared.now());
    Ok(Json(ServerMessage::History(HistoryAnswer::new(None, channel, history))))
}

/// Says who subscribes to a channel, as `presence` over the WebSocket does.
#[utoipa::path(
    get,
    path = "/realtime/channels/{channel}/presence",
    operation_id = "getChannelPresence",
    tag = "messaging",
    params(("channel" = String, Path, description = "The channel; `/` in it as `%2F`")),
    responses(
        (status = 200, description = "Who is there", body = Object),
        Refusals,
    )
)]
pub(crate) async fn presence(
    State(api): State<Api>,
    Extension(identity): Caller,
    Path(channel): Path<String>,
) -> Result<Json<ServerMessage>, Error> {
    let channel = readable(&identity, &channel)?;
    let list = api.shared.hub.presence(&channel);
    Ok(Json(ServerMessage::presence(None, channel, &list)))
}

/// Which events to give.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// Only those after this number; 0 for all.
    #[serde(default)]
    since: i64,
    /// At most so many, up to 1000; 100 where it is not said.
    limit: Option<u32>,
}

/// What happened, in order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Events {
    /// Each with `sequence`, `kind`, `room`, `channel`, `user_id`, `time` and `data`.
    #[schema(value_type = Vec<Object>)]
    events: Vec<Event>,
    /// What to ask for as `since` next.
    next: i64,
}

/// Says what happened in a channel: the event log.
#[utoipa::path(
    get,
    path = "/realtime/channels/{channel}/events",
    operation_id = "listChannelEvents",
    tag = "messaging",
    params(("channel" = String, Path, description = "The channel; `/` in it as `%2F`"), EventsQuery),
    responses(
        (status = 200, description = "The events, in order", body = Events),
        Refusals,
        (status = 503, description = "There is no event log, or it is out of reach", body = ErrorAnswer),
    )
)]
pub(crate) async fn events(
    State(api): State<Api>,
    Extension(identity): Caller,
    Path(channel): Path<String>,
    Query(query): Query<EventsQuery>,
) -> Result<Json<Events>, Error> {
    let channel = readable(&identity, &channel)?;
    find_events(&api.shared, query, None, Some(channel.to_string())).await
}

/// Says what happened in a room of calls: the event log.
#[utoipa::path(
    get,
    path = "/realtime/webrtc/rooms/{room_id}/events",
    operation_id = "listRoomEvents",
    tag = "messaging",
    params(("room_id" = String, Path, description = "The room"), EventsQuery),
    responses(
        (status = 200, description = "The events, in order", body = Events),
        Refusals,
        (status = 503, description = "There is no event log, or it is out of reach", body = ErrorAnswer),
    )
)]
pub(crate) async fn room_events(
    State(api): State<Api>,
    Extension(identity): Caller,
    Path(room_id): Path<String>,
    Query(query): Query<EventsQuery>,
) -> Result<Json<Events>, Error> {
    check(&identity, Action::Subscribe, Resource::Room(&room_id))?;
    find_events(&api.shared, query, Some(room_id), None).await
}

async fn find_events(
    shared: &Shared,
    query: EventsQuery,
    room: Option<String>,
    channel: Option<String>,
) -> Result<Json<Events>, Error> {
    let database = shared.database.as_ref().ok_or_else(|| {
        Error::new(ErrorKind::StorageUnavailable, "this server runs without storage, and so without a log")
    })?;
    let limit = query.limit.unwrap_or(100).clamp(1, MAX_EVENTS);
    let wanted = EventQuery { since: query.since, room, channel, limit };
    let events = database.events(&wanted).await.map_err(|error| out_of_reach(&error))?;
    let next = events.last().map_or(query.since, |event| event.sequence);
    Ok(Json(Events { events, next }))
}

/// The cause is for the operator: it may name files and statements.
fn out_of_reach(error: &StorageError) -> Error {
    tracing::error!(%error, "the event log cannot be read");
    Error::new(ErrorKind::StorageUnavailable, "the event log is out of reach; try again in a moment")
}

fn readable(identity: &Identity, channel: &str) -> Result<ChannelName, Error> {
    let channel = request::channel(channel)?;
    check(identity, Action::Subscribe, Resource::Channel(channel.as_str()))?;
    Ok(channel)
}
