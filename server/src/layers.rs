//! What is around every request: its number, its line in the log, its counters, headers of safety, compression.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use tower_http::compression::{CompressionLayer, CompressionLevel, Predicate, predicate::SizeAbove};
use tracing::Instrument;
use veche_doors::arriving::Arriving;

use crate::config::Http;
use crate::forwarded;
use crate::metrics::Requests;
use crate::traces;

/// By which a request is found in the log.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken from a client or proxy, in bytes.
const MAX_REQUEST_ID: usize = 64;

/// Answers smaller than this are sent as they are, in bytes.
const WORTH_COMPRESSING: u64 = 512;

/// How much of an address is logged, in characters.
const MAX_LOGGED_PATH: usize = 200;

/// What every request is handled with.
struct Around {
    requests: Requests,
    body_idle: Duration,
    /// `Strict-Transport-Security`, where it is said.
    hsts: Option<HeaderValue>,
    /// Of this process: ids are counted from here.
    first_id: u64,
    ids: AtomicU64,
}

/// Puts all of it around the router.
pub(crate) fn around(router: Router, http: &Http, requests: Requests) -> Router {
    let hsts = (http.hsts_seconds > 0).then(|| format!("max-age={}", http.hsts_seconds));
    let around = Around {
        requests,
        body_idle: Duration::from_secs(http.body_idle_seconds),
        hsts: hsts.map(|text| HeaderValue::from_str(&text).expect("digits fit a header")),
        first_id: RandomState::new().hash_one(()),
        ids: AtomicU64::new(0),
    };
    let router = router.layer(compression()).layer(middleware::from_fn_with_state(Arc::new(around), handle));
    if http.trusted_proxies.is_empty() {
        return router;
    }
    let trusted: Arc<[_]> = http.trusted_proxies.clone().into();
    router.layer(middleware::from_fn_with_state(trusted, forwarded::see_through))
}

async fn handle(State(around): State<Arc<Around>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = around.id(request.headers());
    let span = span(&request, &id);
    traces::adopt(&span, request.headers());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(around.with_patience(request)).instrument(span.clone()).await;

    let (status, elapsed) = (response.status(), started.elapsed());
    around.requests.count(&method, route.as_ref().map(MatchedPath::as_str), status, elapsed);
    let milliseconds = elapsed.as_millis() as u64;
    let _entered = span.enter();
    if status.is_server_error() {
        tracing::warn!(status = status.as_u16(), milliseconds, "answered");
    } else {
        tracing::debug!(status = status.as_u16(), milliseconds, "answered");
    }
    around.add_headers(response.headers_mut(), id);
    response
}

/// The query is left out: it may have a token.
fn span(request: &Request, id: &HeaderValue) -> tracing::Span {
    let path: String = request.uri().path().chars().take(MAX_LOGGED_PATH).collect();
    let client = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    tracing::info_span!(
        "request",
        id = id.to_str().unwrap_or_default(),
        method = %request.method(),
        path,
        client = client.map(tracing::field::display),
    )
}

impl Around {
    /// That of a proxy, where it has given one, or a new one.
    fn id(&self, headers: &HeaderMap) -> HeaderValue {
        let is_fine = |id: &&HeaderValue| {
            let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
            (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(allowed)
        };
        let new = || {
            let id = self.first_id.wrapping_add(self.ids.fetch_add(1, Ordering::Relaxed));
            HeaderValue::from_str(&format!("{id:016x}")).expect("hexadecimal digits fit a header")
        };
        headers.get(X_REQUEST_ID).filter(is_fine).cloned().unwrap_or_else(new)
    }

    /// Who sends nothing of a body for too long, or hardly anything, is not waited for. Streams of gRPC may be silent.
    fn with_patience(&self, request: Request) -> Request {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let is_grpc = content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if request.body().is_end_stream() || is_grpc {
            return request;
        }
        request.map(|body| Body::new(Arriving::new(body, self.body_idle)))
    }

    fn add_headers(&self, headers: &mut HeaderMap, id: HeaderValue) {
        headers.insert(X_REQUEST_ID, id);
        headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
        headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
        // Browsers heed it over HTTPS only.
        if let Some(hsts) = &self.hsts {
            headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert_with(|| hsts.clone());
        }
    }
}

fn compression() -> CompressionLayer<impl Predicate> {
    let worth_it = SizeAbove::new(WORTH_COMPRESSING).and(is_compressible);
    CompressionLayer::new().quality(CompressionLevel::Default).compress_when(worth_it)
}

/// Text of all kinds. Events must leave at once, gRPC has a compression of its own, and a range is one of the bytes as
/// they are.
fn is_compressible(status: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is_text = kind.starts_with("text/") && kind != "text/event-stream"
        || matches!(
            kind,
            "application/json" | "application/javascript" | "application/xml" | "application/wasm"
        )
        || matches!(kind, "application/manifest+json" | "application/openmetrics-text" | "image/svg+xml");
    let is_whole = status != StatusCode::PARTIAL_CONTENT && !headers.contains_key(header::ACCEPT_RANGES);
    is_text && is_whole
}

#[cfg(test)]
mod tests;
