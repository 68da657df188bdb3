//! Where WebSockets come in.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;
use veche_access::{Credential, Identity};
use veche_doors::answers::TooOften;
use veche_doors::websocket;
use yawc::IncomingUpgrade;

use super::extract::Query;
use super::{Api, ErrorAnswer};
use crate::connection::{self, Arrival};
use crate::error::{Error, ErrorKind};
use crate::rooms::JoinRequest;
use crate::settings::Settings;

/// Who connects, and where to.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ConnectQuery {
    /// The room.
    room_id: String,
    /// The client's name for people.
    name: Option<String>,
    /// The client's name in messages, where it shall not be made by the server.
    peer_id: Option<String>,
    /// The token of a connection before, to be the same participant again.
    resume_token: Option<String>,
    /// A token, where it does not stand in the header `Authorization`; browsers cannot set that for a WebSocket.
    #[expect(dead_code, reason = "describes the parameter; where credentials stand is known elsewhere")]
    token: Option<String>,
    /// An API key, where it does not stand in the header `X-API-Key`.
    #[expect(dead_code, reason = "describes the parameter; where credentials stand is known elsewhere")]
    api_key: Option<String>,
}

/// The signaling WebSocket. Connecting is joining; PROTOCOL.md describes the messages.
#[utoipa::path(
    get,
    path = "/realtime/webrtc/signaling",
    operation_id = "connectSignaling",
    params(ConnectQuery),
    responses(
        (status = 101, description = "The WebSocket is open. Whoever cannot join is told there"),
        TooOften,
        (status = 400, description = "Not a WebSocket request", body = ErrorAnswer),
        (status = 503, description = "As many connections as there may be", body = ErrorAnswer),
    )
)]
pub(crate) async fn connect(
    State(api): State<Api>,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<ConnectQuery>, Error>,
    upgrade: Result<IncomingUpgrade, StatusCode>,
) -> Result<Response, Error> {
    let not_a_websocket =
        || Error::new(ErrorKind::BadRequest, "this address is for WebSockets: connect to ws://…");
    let upgrade = upgrade.map_err(|_| not_a_websocket())?;
    let permit = api.rooms.admit()?;
    let hard_limit = Settings::MAX_MESSAGE_BYTES as usize + 1;
    let (response, upgrade) = upgrade
        .upgrade(websocket::options(hard_limit, api.deflate.clone()))
        .map_err(|_| not_a_websocket())?;
    // Browsers hide the answer to a failed handshake from the page, so refusals are told over the open WebSocket.
    let arrival = if api.rooms.doorkeeper.allows_origin(&headers, &uri) {
        query.and_then(|Query(query)| {
            let request = JoinRequest {
                room_id: query.room_id,
                name: query.name,
                peer_id: query.peer_id.filter(|peer_id| !peer_id.is_empty()),
                resume_token: query.resume_token.filter(|token| !token.is_empty()),
                identity: Identity::anonymous(false),
                admitted: false,
            };
            Ok(Arrival { credential: Credential::from_request(&headers, uri.query())?, request })
        })
    } else {
        let message = "pages of this origin may not connect; add it to signaling.allowed_origins";
        Err(Error::new(ErrorKind::ForbiddenOrigin, message))
    };
    tokio::spawn(connection::run(api.rooms, upgrade, arrival, permit));
    Ok(response.into_response())
}
