//! Whether the server lives.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use veche_doors::answers::TooOften;

use super::Api;

/// That the server answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`.
    status: &'static str,
    /// The server's version.
    version: &'static str,
}

/// What the calls part of the server holds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WebrtcHealth {
    /// `ok`.
    status: &'static str,
    /// How long it has been running, in seconds.
    uptime_seconds: u64,
    /// Rooms.
    rooms: usize,
    /// Participants, also those whose connection is lost.
    participants: usize,
    /// Signaling connections.
    connections: usize,
}

/// Says that the server answers.
#[utoipa::path(
    get,
    path = "/health",
    operation_id = "getHealth",
    responses((status = 200, description = "It does", body = Health), TooOften),
    security(())
)]
pub(crate) async fn health() -> Json<Health> {
    alive().await
}

/// Says how much is going on.
#[utoipa::path(
    get,
    path = "/realtime/webrtc/health",
    operation_id = "getCallsHealth",
    responses((status = 200, description = "Counts", body = WebrtcHealth), TooOften),
    security(())
)]
pub(crate) async fn webrtc_health(State(api): State<Api>) -> Json<WebrtcHealth> {
    let counts = api.rooms.counts();
    Json(WebrtcHealth {
        status: "ok",
        uptime_seconds: api.started_at.elapsed().as_secs(),
        rooms: counts.rooms,
        participants: counts.participants,
        connections: counts.connections,
    })
}

pub(super) async fn alive() -> Json<Health> {
    Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") })
}
