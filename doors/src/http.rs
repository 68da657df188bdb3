//! What the HTTP side of every door shares: rate limits of addresses, origins of pages, and what unknown addresses and
//! wrong methods are answered.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Extensions, HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::doorkeeper::Doorkeeper;
use crate::error::{Error, ErrorKind};

/// The address that a request came from; known where the server is started with
/// `into_make_service_with_connect_info::<SocketAddr>`.
pub fn client_address(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip())
}

/// A middleware that answers 429 to an address that asks too often.
pub async fn limit(State(doorkeeper): State<Arc<Doorkeeper>>, request: Request, next: Next) -> Response {
    let address = client_address(request.extensions());
    if address.is_some_and(|address| !doorkeeper.takes_request(address, Instant::now())) {
        let message = "too many requests from this address; try again in some seconds";
        return Error::new(ErrorKind::RateLimited, message).into_response();
    }
    next.run(request).await
}

/// Lets pages of the origins that are listed use the API.
pub fn cors(doorkeeper: Arc<Doorkeeper>) -> CorsLayer {
    let is_allowed = move |origin: &HeaderValue, _: &_| doorkeeper.lists_origin(origin);
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(is_allowed))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::CONTENT_TYPE,
            header::AUTHORIZATION,
            header::RANGE,
            header::IF_RANGE,
            header::IF_NONE_MATCH,
            HeaderName::from_static("x-api-key"),
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("last-event-id"),
            HeaderName::from_static("tus-resumable"),
            HeaderName::from_static("upload-length"),
            HeaderName::from_static("upload-offset"),
            HeaderName::from_static("upload-metadata"),
            HeaderName::from_static("x-http-method-override"),
        ])
        .expose_headers([
            header::LOCATION,
            header::CONTENT_DISPOSITION,
            header::CONTENT_RANGE,
            header::ETAG,
            HeaderName::from_static("tus-resumable"),
            HeaderName::from_static("tus-version"),
            HeaderName::from_static("tus-extension"),
            HeaderName::from_static("tus-max-size"),
            HeaderName::from_static("upload-length"),
            HeaderName::from_static("upload-offset"),
            HeaderName::from_static("upload-expires"),
        ])
}

/// The answer where nothing is.
#[expect(clippy::unused_async, reason = "handlers are asynchronous")]
pub async fn not_found(uri: Uri) -> Error {
    let path: String = uri.path().chars().take(200).collect();
    Error::new(
        ErrorKind::NotFound,
        format!("nothing is at {path}; /realtime/openapi.json lists what there is"),
    )
}

/// The answer to a method that an address does not take.
#[expect(clippy::unused_async, reason = "handlers are asynchronous")]
pub async fn method_not_allowed(method: Method) -> Error {
    let message = format!("{method} is not for this address; the header `Allow` names what is");
    Error::new(ErrorKind::MethodNotAllowed, message)
}
