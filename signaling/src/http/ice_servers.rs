//! The STUN and TURN servers for clients that connect before they join, or by other means.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use veche_access::Action;
use veche_doors::answers::Refusals;

use super::Api;
use super::caller::Caller;
use super::extract::Query;
use crate::error::Error;
use crate::protocol::IceServer;

/// For which room.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Place {
    /// A room that the caller may join. It need not exist yet.
    room_id: String,
}

/// What `RTCPeerConnection` takes as `iceServers`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IceServerList {
    /// STUN and TURN servers. Credentials are good for some hours, as their names tell: until the second before the colon.
    ice_servers: Vec<Server>,
}

/// A STUN or TURN server.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IceServer)]
pub(crate) struct Server {
    /// Its addresses.
    urls: Vec<String>,
    /// For TURN.
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    /// For TURN.
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<String>,
}

/// The STUN and TURN servers, as `joined` has them, for whoever may join the room.
#[utoipa::path(
    get,
    path = "/realtime/webrtc/ice-servers",
    operation_id = "listIceServers",
    params(Place),
    responses(
        (status = 200, description = "For RTCPeerConnection", body = IceServerList),
        Refusals,
    )
)]
pub(crate) async fn list(
    State(api): State<Api>,
    caller: Caller,
    query: Result<Query<Place>, Error>,
) -> Result<impl IntoResponse, Error> {
    let Query(place) = query?;
    caller.needs(Action::Join, &place.room_id)?;
    let user_id = caller.0.user_id.as_deref();
    let ice_servers = api.rooms.ice_servers.of(user_id).into_iter().map(Server::from).collect();
    // A credential is for one client, and for now.
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(IceServerList { ice_servers })))
}

impl From<IceServer> for Server {
    fn from(IceServer { urls, username, credential }: IceServer) -> Self {
        Self { urls, username, credential }
    }
}
