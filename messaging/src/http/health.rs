//! How messaging is, over HTTP.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Json, response::IntoResponse};
use serde::Serialize;
use utoipa::ToSchema;
use veche_doors::answers::TooOften;

use super::Api;

/// How messaging is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MessagingHealth)]
pub(crate) struct Health {
    /// `ok`, or `degraded` where storage is out of reach.
    status: &'static str,
    /// For how long the server has run.
    uptime_seconds: u64,
    /// The WebSocket door.
    websocket: DoorHealth,
    /// The door of event streams.
    sse: DoorHealth,
    /// The door of gRPC.
    grpc: DoorHealth,
    /// Channels in memory.
    channels: usize,
    /// `ok`, `unavailable`, or `none` where the server runs without.
    storage: &'static str,
}

/// How a door is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DoorHealth {
    /// Whether it is switched on.
    enabled: bool,
    /// How many have come through it and are there.
    connections: usize,
    /// How many may be there.
    max_connections: usize,
}

/// Says how messaging is.
#[utoipa::path(
    get,
    path = "/realtime/health",
    operation_id = "getMessagingHealth",
    tag = "messaging",
    responses(
        (status = 200, description = "Everything works", body = Health),
        TooOften,
        (status = 503, description = "Storage is out of reach: nothing can be kept", body = Health),
    ),
    security(())
)]
pub(crate) async fn health(State(api): State<Api>) -> impl IntoResponse {
    let shared = &api.shared;
    let storage = match &shared.database {
        None => "none",
        Some(database) if database.check().await.is_ok() => "ok",
        Some(_) => "unavailable",
    };
    let is_well = storage != "unavailable";
    let door = |enabled, max_connections: usize, free: usize| DoorHealth {
        enabled,
        connections: max_connections.saturating_sub(free),
        max_connections,
    };
    let settings = &shared.settings;
    let health = Health {
        status: if is_well { "ok" } else { "degraded" },
        uptime_seconds: shared.started_at.elapsed().as_secs(),
        websocket: door(
            settings.websocket_enabled,
            settings.websocket_max_connections,
            shared.websockets.available_permits(),
        ),
        sse: door(settings.sse_enabled, settings.sse_max_connections, shared.streams.available_permits()),
        grpc: door(settings.grpc_enabled, settings.grpc_max_connections, shared.calls.available_permits()),
        channels: shared.hub.stats().channels,
        storage,
    };
    let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health))
}
