//! The HTTP API: its routes, and what all of them share.
//!
//! Every error has the body `{"error": {"code", "message"}}`, also those of unknown addresses, wrong methods and
//! bodies that are no JSON.

mod caller;
mod connections;
mod health;
mod ice_servers;
mod moderation;
mod recordings;
mod rooms;
mod signal;
mod timeline;
mod turn;
mod websocket;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, FromRef, State};
use axum::routing::{any, get};
use axum::{Json, Router, middleware};
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as OpenApiDocument;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use veche_doors::answers::TooOften;
use veche_doors::http::{cors, limit, method_not_allowed, not_found, own_pages};
use veche_doors::websocket::{DeflatePool, deflate_pool};
use veche_doors::{ErrorAnswer, extract};

pub use turn::{TurnReport, TurnUsage, TurnUserUsage};

use crate::error::{Error, ErrorKind};
use crate::rooms::Rooms;

/// What all handlers share.
#[derive(Clone)]
pub(crate) struct Api {
    rooms: Arc<Rooms>,
    deflate: DeflatePool,
    started_at: Instant,
    document: Arc<OpenApiDocument>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Veche",
        description = "Rooms of video calls. Calls themselves go over the WebSocket: see PROTOCOL.md."
    ),
    components(schemas(ErrorAnswer))
)]
struct Description;

/// The routes below `/realtime`, and `/health`.
pub(crate) fn router(rooms: Arc<Rooms>) -> Router {
    let (routes, _) = routes().split_for_parts();
    let document = description();
    let doorkeeper = rooms.doorkeeper.clone();
    let body_limit = DefaultBodyLimit::max(rooms.settings.max_message_bytes as usize);
    let deflate = deflate_pool();
    let api = Api { rooms, deflate, started_at: Instant::now(), document: Arc::new(document) };
    routes
        .route("/realtime", any(not_found))
        .route("/realtime/{*path}", any(not_found))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(body_limit)
        .layer(middleware::from_fn_with_state(doorkeeper.clone(), own_pages))
        .layer(middleware::from_fn_with_state(doorkeeper.clone(), limit))
        .layer(middleware::from_fn_with_state(doorkeeper, cors))
        .with_state(api)
}

/// What the routes are, for programs and for a description of the whole server.
pub fn description() -> OpenApiDocument {
    let (_, mut document) = routes().split_for_parts();
    env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
    document
}

/// What stands in for the routes when they are switched off.
pub fn disabled_router() -> Router {
    async fn disabled() -> Error {
        Error::new(ErrorKind::WebrtcDisabled, "switched off by WEBRTC_ENABLED or signaling.enabled")
    }
    Router::new()
        .route("/health", get(health::alive).fallback(method_not_allowed))
        .route("/realtime/webrtc", any(disabled))
        .route("/realtime/webrtc/{*path}", any(disabled))
        .route("/realtime", any(not_found))
        .route("/realtime/{*path}", any(not_found))
}

fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(websocket::connect))
        .routes(routes!(rooms::create, rooms::list))
        .routes(routes!(rooms::show, rooms::update, rooms::delete))
        .routes(routes!(moderation::mute))
        .routes(routes!(moderation::remove))
        .routes(routes!(moderation::ban))
        .routes(routes!(moderation::grant))
        .routes(routes!(moderation::bans, moderation::add_ban, moderation::unban))
        .routes(routes!(moderation::waiting))
        .routes(routes!(moderation::admit))
        .routes(routes!(moderation::deny))
        .routes(routes!(recordings::start, recordings::list))
        .routes(routes!(recordings::show, recordings::delete))
        .routes(routes!(recordings::stop))
        .routes(routes!(recordings::download))
        .routes(routes!(signal::send))
        .routes(routes!(connections::list))
        .routes(routes!(timeline::show))
        .routes(routes!(ice_servers::list))
        .routes(routes!(turn::show))
        .routes(routes!(health::health))
        .routes(routes!(health::webrtc_health))
        .routes(routes!(openapi))
}

/// This description.
#[utoipa::path(
    get,
    path = "/realtime/openapi.json",
    operation_id = "getOpenApi",
    responses((status = 200, description = "OpenAPI 3.1", body = Object), TooOften),
    security(())
)]
async fn openapi(State(document): State<Arc<OpenApiDocument>>) -> Json<OpenApiDocument> {
    Json(OpenApiDocument::clone(&document))
}

impl FromRef<Api> for Arc<Rooms> {
    fn from_ref(api: &Api) -> Self {
        api.rooms.clone()
    }
}

impl FromRef<Api> for Arc<OpenApiDocument> {
    fn from_ref(api: &Api) -> Self {
        api.document.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_lists_every_route() {
        let (_, document) = routes().split_for_parts();
        let mut described = Vec::new();
        for (path, item) in &document.paths.paths {
            let methods = [
                ("GET", item.get.is_some()),
                ("POST", item.post.is_some()),
                ("PUT", item.put.is_some()),
                ("DELETE", item.delete.is_some()),
            ];
            described.extend(methods.iter().filter(|m| m.1).map(|m| format!("{} {path}", m.0)));
        }
        described.sort();
        let expected = [
            "DELETE /realtime/webrtc/rooms/{room_id}",
            "DELETE /realtime/webrtc/rooms/{room_id}/bans",
            "DELETE /realtime/webrtc/rooms/{room_id}/recordings/{recording_id}",
            "GET /health",
            "GET /realtime/openapi.json",
            "GET /realtime/webrtc/connections",
            "GET /realtime/webrtc/connections/{peer_id}/timeline",
            "GET /realtime/webrtc/health",
            "GET /realtime/webrtc/ice-servers",
            "GET /realtime/webrtc/rooms",
            "GET /realtime/webrtc/rooms/{room_id}",
            "GET /realtime/webrtc/rooms/{room_id}/bans",
            "GET /realtime/webrtc/rooms/{room_id}/recordings",
            "GET /realtime/webrtc/rooms/{room_id}/recordings/{recording_id}",
            "GET /realtime/webrtc/rooms/{room_id}/recordings/{recording_id}/files/{name}",
            "GET /realtime/webrtc/rooms/{room_id}/waiting",
            "GET /realtime/webrtc/signaling",
            "GET /realtime/webrtc/turn",
            "POST /realtime/webrtc/rooms",
            "POST /realtime/webrtc/rooms/{room_id}/bans",
            "POST /realtime/webrtc/rooms/{room_id}/participants/{peer_id}/ban",
            "POST /realtime/webrtc/rooms/{room_id}/participants/{peer_id}/mute",
            "POST /realtime/webrtc/rooms/{room_id}/participants/{peer_id}/remove",
            "POST /realtime/webrtc/rooms/{room_id}/recordings",
            "POST /realtime/webrtc/rooms/{room_id}/recordings/{recording_id}/stop",
            "POST /realtime/webrtc/rooms/{room_id}/waiting/{peer_id}/admit",
            "POST /realtime/webrtc/rooms/{room_id}/waiting/{peer_id}/deny",
            "POST /realtime/webrtc/signal",
            "PUT /realtime/webrtc/rooms/{room_id}",
            "PUT /realtime/webrtc/rooms/{room_id}/participants/{peer_id}/grants",
        ];
        assert_eq!(described, expected);
    }
}
