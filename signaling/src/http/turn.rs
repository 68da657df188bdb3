//! Who uses the TURN server.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use veche_doors::answers::Refusals;

use super::caller::Caller;
use crate::error::{Error, ErrorKind};
use crate::rooms::Rooms;

/// Who uses the TURN server now.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct TurnReport {
    /// What all together have now, and have used since the start.
    pub total: TurnUsage,
    /// The users who have allocations now, in the order of their names.
    pub users: Vec<TurnUserUsage>,
}

/// What a user has now, and has used since the first of their allocations.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct TurnUserUsage {
    /// `user:` and their id, for a guest a name that was made for one credential, or the name of who has a password of their own.
    pub user: String,
    /// How much.
    #[serde(flatten)]
    pub usage: TurnUsage,
}

/// What somebody has and has used.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct TurnUsage {
    /// Allocations now.
    pub allocations: u32,
    /// Permissions now.
    pub permissions: u32,
    /// Channels now.
    pub channels: u32,
    /// TCP connections between relays and peers now.
    pub connections: u32,
    /// Packets from clients to peers.
    pub packets_to_peers: u64,
    /// Bytes of their data.
    pub bytes_to_peers: u64,
    /// Packets from peers to clients.
    pub packets_to_clients: u64,
    /// Bytes of their data.
    pub bytes_to_clients: u64,
}

/// Tells who uses the TURN server now, to administrators.
#[utoipa::path(
    get,
    path = "/realtime/webrtc/turn",
    operation_id = "getTurnUsage",
    responses(
        (status = 200, description = "What users have and have relayed", body = TurnReport),
        Refusals,
        (status = 404, description = "This server runs no TURN server", body = super::ErrorAnswer),
    )
)]
pub(crate) async fn show(State(rooms): State<Arc<Rooms>>, caller: Caller) -> Result<Json<TurnReport>, Error> {
    caller.needs_administration()?;
    let report = rooms.ice_servers.turn_report().ok_or_else(|| {
        let message =
            "this server runs no TURN server: turn.enabled is false, or turn.share_port is and another program had its port";
        Error::new(ErrorKind::NotFound, message)
    })?;
    Ok(Json(report))
}
