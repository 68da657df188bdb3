//! Who is connected, over HTTP.

use std::collections::BTreeMap;

use axum::{Extension, Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;
use veche_access::{Action, Identity, Resource};
use veche_doors::Error;
use veche_doors::answers::Refusals;
use veche_hub::Door;

use super::{Api, Caller};
use crate::clock::rfc3339;
use crate::{Shared, check};

/// Connections, and channels, that are listed at most.
const MAX_LISTED: usize = 1000;

/// Who is connected.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names are those of the contract")]
pub(crate) struct Connections {
    /// All connections.
    pub(crate) total: usize,
    /// Those over WebSocket.
    pub(crate) websocket: usize,
    /// Streams of events.
    pub(crate) sse: usize,
    /// Streams of gRPC.
    pub(crate) grpc: usize,
    /// The first thousand of them; empty for who may not administer.
    pub(crate) connections: Vec<ConnectionEntry>,
    /// How many subscribers each of the first thousand channels has; empty for who may not administer.
    pub(crate) channels: BTreeMap<String, usize>,
}

/// One connection.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConnectionEntry {
    /// Its name.
    pub(crate) connection_id: String,
    /// Whose it is.
    pub(crate) user_id: Option<String>,
    /// What they are called.
    pub(crate) name: String,
    /// `websocket`, `sse` or `grpc`.
    pub(crate) door: &'static str,
    /// Since when.
    pub(crate) since: String,
    /// To how many channels it subscribes.
    pub(crate) channels: usize,
    /// What waits for it, in bytes.
    pub(crate) waiting_bytes: usize,
}

/// Says who is connected.
#[utoipa::path(
    get,
    path = "/realtime/connections",
    operation_id = "listConnections",
    tag = "messaging",
    responses(
        (status = 200, description = "Numbers for everybody, lists for administrators", body = Connections),
        Refusals,
    )
)]
pub(crate) async fn list(State(api): State<Api>, Extension(identity): Caller) -> Json<Connections> {
    Json(find(&api.shared, &identity))
}

/// What there is to say of connections to somebody.
pub(crate) fn find(shared: &Shared, identity: &Identity) -> Connections {
    let hub = &shared.hub;
    let stats = hub.stats();
    let may_list = check(identity, Action::Administer, Resource::Server).is_ok();
    let limit = if may_list { MAX_LISTED } else { 0 };
    let connections = hub.connections(limit).into_iter().map(|connection| ConnectionEntry {
        connection_id: connection.connection_id.to_string(),
        user_id: connection.user_id.as_deref().map(ToOwned::to_owned),
        name: connection.name.to_string(),
        door: door(connection.door),
        since: rfc3339(connection.since),
        channels: connection.channels,
        waiting_bytes: connection.waiting_bytes,
    });
    let connections = connections.collect();
    let channels = hub.channels("", limit);
    Connections {
        total: stats.websocket + stats.sse + stats.grpc,
        websocket: stats.websocket,
        sse: stats.sse,
        grpc: stats.grpc,
        connections,
        channels: channels
            .into_iter()
            .map(|channel| (channel.name.to_string(), channel.subscribers))
            .collect(),
    }
}

fn door(door: Door) -> &'static str {
    match door {
        Door::WebSocket => "websocket",
        Door::Sse => "sse",
        Door::Grpc => "grpc",
    }
}

/// What a list of channels may not be seen without.
pub(super) fn may_administer(identity: &Identity) -> Result<(), Error> {
    check(identity, Action::Administer, Resource::Server)
}
