//! Counters for Prometheus: read where they are when somebody asks, and told without a label per person.

mod collect;
mod process;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use veche_access::{Action, Authority, Credential, Resource};

use crate::config::Reach;
use crate::forwarded::X_FORWARDED_FOR;
use crate::gate::Gate;
use crate::parts::Parts;
use crate::tally::Tally;

/// The form of OpenMetrics, which Prometheus reads.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where answers are counted by how long they took, in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Everything that is told.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    /// What the layer around all requests counts.
    pub(crate) requests: Requests,
}

/// HTTP requests. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    answered: Family<Answer, Counter>,
    seconds: Family<Route, Histogram, fn() -> Histogram>,
}

/// A kind of answer. Routes are those of the router, so there are as many as it has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

impl Metrics {
    /// Of these parts.
    pub(crate) fn new(parts: &Parts, gate: &Gate, tally: &Tally) -> Self {
        let mut registry = Registry::with_prefix("veche");
        let requests = Requests::register(&mut registry);
        tally.register(&mut registry);
        collect::register(&mut registry, parts, gate, tally);
        process::register(&mut registry);
        Self { registry, requests }
    }

    fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Requests {
    /// None yet.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let requests = Self {
            answered: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
        };
        registry.register("http_requests", "HTTP requests answered", requests.answered.clone());
        let help = "Seconds until the head of the answer, WebSockets' and event streams' too";
        registry.register("http_request_seconds", help, requests.seconds.clone());
        requests
    }

    /// One was answered. A `route` that is none of ours is the client's own choice and therefore not told.
    pub(crate) fn count(&self, method: &Method, route: Option<&str>, status: StatusCode, elapsed: Duration) {
        let route = route.unwrap_or("other").to_owned();
        let method = match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            Method::OPTIONS => "OPTIONS",
            _ => "other",
        };
        let answer = Answer { method, route: route.clone(), status: status.as_u16() };
        self.answered.get_or_create(&answer).inc();
        self.seconds.get_or_create(&Route { route }).observe(elapsed.as_secs_f64());
    }
}

/// `/metrics` among everything else, for whom `reach` says.
pub(crate) fn router(metrics: Arc<Metrics>, authority: Authority, reach: Reach) -> Router {
    match reach {
        Reach::Off => Router::new(),
        Reach::Local => Router::new().route("/metrics", get(show_local)).with_state((metrics, authority)),
        Reach::All => open_router(metrics),
    }
}

/// `/metrics` for everybody.
pub(crate) fn open_router(metrics: Arc<Metrics>) -> Router {
    Router::new().route("/metrics", get(show)).with_state(metrics)
}

async fn show(State(metrics): State<Arc<Metrics>>) -> Response {
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn show_local(
    State((metrics, authority)): State<(Arc<Metrics>, Authority)>,
    request: Request,
) -> Response {
    let credential = Credential::from_request(request.headers(), request.uri().query());
    if is_from_here(&request) || is_administrator(&authority, credential.ok().flatten()).await {
        return show(State(metrics)).await;
    }
    let message = "/metrics is for this machine and for administrators; set telemetry.metrics = \"all\" or \
                   telemetry.metrics_listen";
    let body = serde_json::json!({ "error": { "code": "forbidden", "message": message } });
    (StatusCode::FORBIDDEN, axum::Json(body)).into_response()
}

/// A proxy on this machine that passes on requests from elsewhere says so.
fn is_from_here(request: &Request) -> bool {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_canonical());
    let is_passed_on = request.headers().contains_key(X_FORWARDED_FOR)
        || request.headers().contains_key(header::FORWARDED)
        || request.headers().contains_key("x-real-ip");
    peer.is_some_and(|address| address.is_loopback()) && !is_passed_on
}

/// Who shows a token or key that says so. Where nothing is required, nobody else is one.
async fn is_administrator(authority: &Authority, credential: Option<Credential>) -> bool {
    let Some(credential) = credential else { return false };
    let identity = authority.verify(&credential).await;
    identity.is_ok_and(|identity| identity.allows(Action::Administer, Resource::Server).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_here_reads_them() {
        let request = |peer: &str, header: Option<&str>| {
            let mut request = Request::new(axum::body::Body::empty());
            request.extensions_mut().insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
            if let Some(name) = header {
                let name: axum::http::HeaderName = name.parse().unwrap();
                request.headers_mut().insert(name, "203.0.113.5".parse().unwrap());
            }
            is_from_here(&request)
        };
        assert!(request("127.0.0.1", None) && request("::1", None) && request("::ffff:127.0.0.1", None));
        assert!(!request("192.0.2.1", None));
        for header in ["x-forwarded-for", "forwarded", "x-real-ip"] {
            assert!(!request("127.0.0.1", Some(header)), "{header}");
        }
    }
}
