//! What the HTTP side of every door shares: rate limits of addresses, origins of pages, and what unknown addresses and
//! wrong methods are answered.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

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

/// A middleware that lets pages of other origins change nothing ([`Doorkeeper::check_page`]).
pub async fn own_pages(State(doorkeeper): State<Arc<Doorkeeper>>, request: Request, next: Next) -> Response {
    match doorkeeper.check_page(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// A middleware that lets pages of the origins that are listed use the API (the CORS protocol of the Fetch standard). Only what
/// is a preflight is answered here: any other `OPTIONS` is a request like others, such as the one that tus begins with.
pub async fn cors(State(doorkeeper): State<Arc<Doorkeeper>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let origin = headers.get(header::ORIGIN).filter(|origin| doorkeeper.lists_origin(origin)).cloned();
    let is_preflight = request.method() == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if is_preflight { preflight() } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        expose(headers);
    }
    response
}

/// What pages may send.
fn preflight() -> Response {
    let allowed = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET,POST,PUT,PATCH,DELETE"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "content-type,authorization,range,if-range,if-none-match,x-api-key,idempotency-key,last-event-id,\
             tus-resumable,upload-length,upload-offset,upload-metadata,x-http-method-override",
        ),
    ];
    allowed.into_response()
}

/// What pages may read.
fn expose(headers: &mut HeaderMap) {
    let exposed = "location,content-disposition,content-range,etag,tus-resumable,tus-version,tus-extension,\
                   tus-max-size,upload-length,upload-offset,upload-expires";
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
}

/// The answer where nothing is.
#[expect(clippy::unused_async, reason = "handlers are asynchronous")]
pub async fn not_found(uri: Uri) -> Error {
    let path: String = uri.path().chars().take(200).collect();
    Error::new(ErrorKind::NotFound, format!("nothing is at {path}; /openapi.json lists what there is"))
}

/// The answer to a method that an address does not take.
#[expect(clippy::unused_async, reason = "handlers are asynchronous")]
pub async fn method_not_allowed(method: Method) -> Error {
    let message = format!("{method} is not for this address; the header `Allow` names what is");
    Error::new(ErrorKind::MethodNotAllowed, message)
}
