//! The door of gRPC: the service `veche.v1.Messaging` on the port of HTTP, with health and reflection beside it.
//!
//! Its methods are routes like those of HTTP, with tonic for what stands in the bodies: `unary` has those that are
//! answered once, `stream` the streams.

mod status;
mod stream;
mod unary;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_reflection::server::Builder;
use veche_access::{Door, Identity};
use veche_doors::doorkeeper::Doorkeeper;
use veche_doors::http::{client_address, method_not_allowed};
use veche_doors::{Error, ErrorKind};

use crate::Shared;
use crate::http::Api;
use crate::proto::DESCRIPTORS;
use status::refused;

/// The name of the service.
const SERVICE: &str = "veche.v1.Messaging";

/// The methods of the service, health and reflection.
pub(crate) fn router(shared: &Arc<Shared>) -> Router<Api> {
    let path = |method: &str| format!("/{SERVICE}/{method}");
    let health = HealthServer::new(HealthService::from_health_reporter(shared.health.clone()));
    let reflection = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let valid = "the descriptors are of a compiler";
    Router::new()
        .route(&path("Send"), post(unary::send))
        .route(&path("Broadcast"), post(unary::broadcast))
        .route(&path("SendBinary"), post(unary::send_binary))
        .route(&path("Notify"), post(unary::notify))
        .route(&path("Signal"), post(unary::signal))
        .route(&path("History"), post(unary::history))
        .route(&path("Presence"), post(unary::presence))
        .route(&path("ListConnections"), post(unary::list_connections))
        .route(&path("Subscribe"), post(stream::subscribe))
        .route(&path("Connect"), post(stream::connect))
        .route_service("/grpc.health.v1.Health/{method}", health)
        .route_service("/grpc.reflection.v1.ServerReflection/{method}", reflection().build_v1().expect(valid))
        // What most clients still speak.
        .route_service(
            "/grpc.reflection.v1alpha.ServerReflection/{method}",
            reflection().build_v1alpha().expect(valid),
        )
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn(only_grpc))
        .layer(from_fn_with_state(shared.doorkeeper.clone(), limit))
}

/// What tells how the server is: well, until it stops.
pub(crate) async fn health() -> HealthReporter {
    let health = HealthReporter::new();
    health.set_service_status(SERVICE, ServingStatus::Serving).await;
    health
}

/// Tells whoever watches that the server stops.
pub(crate) async fn stop(health: &HealthReporter) {
    for service in ["", SERVICE] {
        health.set_service_status(service, ServingStatus::NotServing).await;
    }
}

/// Other bodies than those of gRPC are refused, as its specification wants it.
async fn only_grpc(request: Request, next: Next) -> Response {
    let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if request.method() == Method::POST
        && !content_type.is_some_and(|value| value.starts_with(b"application/grpc"))
    {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    next.run(request).await
}

/// Answers `RESOURCE_EXHAUSTED` to an address that asks too often.
async fn limit(State(doorkeeper): State<Arc<Doorkeeper>>, request: Request, next: Next) -> Response {
    let address = client_address(request.extensions());
    if address.is_some_and(|address| !doorkeeper.takes_request(address, Instant::now())) {
        let message = "too many requests from this address; try again in some seconds";
        return refused(Error::new(ErrorKind::RateLimited, message));
    }
    next.run(request).await
}

/// Who calls.
#[derive(Clone)]
struct Caller {
    shared: Arc<Shared>,
    identity: Identity,
}

impl Caller {
    /// Finds out who calls by the metadata, which are headers.
    async fn find(api: Api, headers: &HeaderMap) -> Result<Self, Error> {
        let shared = api.shared;
        if !shared.settings.grpc_enabled {
            return Err(Error::new(
                ErrorKind::DoorDisabled,
                "gRPC is switched off by messaging.grpc_enabled",
            ));
        }
        let credential = shared.credential(headers, None)?;
        let identity = shared.identify(Door::Grpc, credential.as_ref()).await?;
        shared.take_from_user(&identity)?;
        Ok(Self { shared, identity })
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_method_of_the_service_has_a_route() {
        let source = include_str!("../proto/veche/v1/messaging.proto");
        let methods = source.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
        let methods: Vec<_> = methods.collect();
        assert_eq!(methods.len(), 10);
        for method in methods {
            let route = format!(".route(&path(\"{method}\")");
            assert!(include_str!("grpc.rs").contains(&route), "{method} has no route");
        }
    }
}
