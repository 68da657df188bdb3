//! The HTTP API: its routes, and what all of them share.
//!
//! Every error has the body `{"error": {"code", "message"}}`, also those of unknown addresses, wrong methods and
//! bodies that are no JSON.

mod connections;
mod extract;
mod health;
mod rooms;
mod signal;
mod timeline;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRef, Request, State};
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use parking_lot::Mutex;
use serde::Serialize;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::openapi::OpenApi as OpenApiDocument;
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use yawc::DeflatePool;

use crate::error::{Error, ErrorKind};
use crate::origin;
use crate::protocol::ErrorBody;
use crate::rate::AddressBuckets;
use crate::rooms::Rooms;
use crate::settings::Settings;

/// Compressors that wait for their next message, shared by all connections.
const POOLED_COMPRESSORS: usize = 32;

/// What all handlers share.
#[derive(Clone)]
pub(crate) struct Api {
    rooms: Arc<Rooms>,
    deflate: DeflatePool,
    started_at: Instant,
    document: Arc<OpenApiDocument>,
}

/// What each client address may still ask.
type Limiter = Arc<Mutex<AddressBuckets>>;

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorAnswer {
    /// What is wrong.
    error: ErrorBody,
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Veche",
    description = "Rooms of video calls. Calls themselves go over the WebSocket: see PROTOCOL.md."
))]
struct Description;

/// The routes below `/realtime`, and `/health`.
pub(crate) fn router(rooms: Arc<Rooms>) -> Router {
    let (routes, mut document) = routes().split_for_parts();
    env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
    let cors = cors(&rooms.settings);
    let body_limit = DefaultBodyLimit::max(rooms.settings.max_message_bytes as usize);
    let limiter = limiter(&rooms.settings);
    let deflate = DeflatePool::new(POOLED_COMPRESSORS);
    let api = Api { rooms, deflate, started_at: Instant::now(), document: Arc::new(document) };
    let mut router = routes
        .route("/realtime", any(not_found))
        .route("/realtime/{*path}", any(not_found))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(body_limit);
    if let Some(limiter) = limiter {
        router = router.layer(middleware::from_fn_with_state(limiter, limit));
    }
    router.layer(cors).with_state(api)
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
        .routes(routes!(signal::send))
        .routes(routes!(connections::list))
        .routes(routes!(timeline::show))
        .routes(routes!(health::health))
        .routes(routes!(health::webrtc_health))
        .routes(routes!(openapi))
}

/// This description.
#[utoipa::path(get, path = "/realtime/openapi.json", responses((status = 200, description = "OpenAPI 3.1")))]
async fn openapi(State(document): State<Arc<OpenApiDocument>>) -> Json<OpenApiDocument> {
    Json(OpenApiDocument::clone(&document))
}

async fn not_found(uri: Uri) -> Error {
    let path: String = uri.path().chars().take(200).collect();
    Error::new(
        ErrorKind::NotFound,
        format!("nothing is at {path}; /realtime/openapi.json lists what there is"),
    )
}

async fn method_not_allowed(method: Method) -> Error {
    let message = format!("{method} is not for this address; the header `Allow` names what is");
    Error::new(ErrorKind::MethodNotAllowed, message)
}

fn limiter(settings: &Settings) -> Option<Limiter> {
    let Settings { requests_per_second, request_burst, .. } = *settings;
    let buckets = || Arc::new(Mutex::new(AddressBuckets::new(requests_per_second, request_burst)));
    (requests_per_second > 0).then(buckets)
}

/// Answers 429 to an address that asks too often. The address is known where the server is started with
/// `into_make_service_with_connect_info`.
async fn limit(State(limiter): State<Limiter>, request: Request, next: Next) -> Response {
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    if address.is_some_and(|address| !limiter.lock().take(address, Instant::now())) {
        let message = "too many requests from this address; try again in some seconds";
        return Error::new(ErrorKind::RateLimited, message).into_response();
    }
    next.run(request).await
}

fn cors(settings: &Settings) -> CorsLayer {
    let allowed = settings.allowed_origins.clone();
    let is_allowed = move |origin: &HeaderValue, _: &_| origin::is_listed(origin, &allowed);
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(is_allowed))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([header::CONTENT_TYPE, header::AUTHORIZATION])
        .expose_headers([header::LOCATION])
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        (self.kind.status(), Json(ErrorAnswer { error: self.into_body() })).into_response()
    }
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
            "GET /health",
            "GET /realtime/openapi.json",
            "GET /realtime/webrtc/connections",
            "GET /realtime/webrtc/connections/{peer_id}/timeline",
            "GET /realtime/webrtc/health",
            "GET /realtime/webrtc/rooms",
            "GET /realtime/webrtc/rooms/{room_id}",
            "GET /realtime/webrtc/signaling",
            "POST /realtime/webrtc/rooms",
            "POST /realtime/webrtc/signal",
            "PUT /realtime/webrtc/rooms/{room_id}",
        ];
        assert_eq!(described, expected);
    }
}
