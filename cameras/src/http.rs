//! The doors of cameras: their routes, and what all of them share.

mod events;
mod latest;
mod list;
mod mjpeg;
mod pipe;
mod send;
mod stream;
mod take;
mod watch;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::routing::any;
use axum::{Router, middleware};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use utoipa::openapi::OpenApi as OpenApiDocument;
use utoipa::{IntoParams, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use veche_access::Action;
use veche_doors::http::{cors, limit, method_not_allowed, own_pages};
use veche_doors::{Error, ErrorAnswer, ErrorKind};

use crate::Shared;
use crate::counters::ViewerKind;
use crate::pace::Pace;
use crate::viewing::Viewing;
use crate::visitor::{Caller, Visitor};

/// What all handlers share.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) shared: Arc<Shared>,
}

#[derive(OpenApi)]
#[openapi(
    components(schemas(ErrorAnswer)),
    tags((name = "cameras", description = "Cameras that send pictures (JPEG), and who looks at them"))
)]
struct Description;

/// Where a camera is.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct Place {
    /// The room.
    pub(crate) room_id: String,
    /// The camera.
    pub(crate) name: String,
}

/// How somebody wants to look.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ViewQuery {
    /// How many frames a second at most, 0.01 to 120; absent: each as it comes.
    pub(crate) fps: Option<f32>,
    /// A token, for browsers, which cannot send headers with pictures, event streams and WebSockets.
    #[expect(dead_code, reason = "describes the parameter; where credentials stand is known elsewhere")]
    token: Option<String>,
    /// An API key, likewise.
    #[expect(dead_code, reason = "describes the parameter; where credentials stand is known elsewhere")]
    api_key: Option<String>,
}

/// All doors.
pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    let doorkeeper = &shared.doorkeeper;
    let (routes, _) = routes().split_for_parts();
    routes
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(doorkeeper.clone(), own_pages))
        .layer(middleware::from_fn_with_state(doorkeeper.clone(), limit))
        .layer(middleware::from_fn_with_state(doorkeeper.clone(), cors))
        .with_state(Api { shared: shared.clone() })
}

/// What the routes are.
pub fn description() -> OpenApiDocument {
    let (_, document) = routes().split_for_parts();
    document
}

/// What stands in for the routes when they are switched off.
pub fn disabled_router() -> Router {
    async fn disabled() -> Error {
        Error::new(ErrorKind::DoorDisabled, "cameras are switched off by cameras.enabled")
    }
    Router::new()
        .route("/realtime/webrtc/rooms/{room_id}/cameras", any(disabled))
        .route("/realtime/webrtc/rooms/{room_id}/cameras/{*path}", any(disabled))
}

fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(list::list))
        .routes(routes!(list::show, list::remove))
        .routes(routes!(take::frames))
        .routes(routes!(send::connect))
        .routes(routes!(watch::connect))
        .routes(routes!(mjpeg::stream))
        .routes(routes!(events::stream))
        .routes(routes!(latest::latest))
}

impl Shared {
    /// Somebody who wants to send as a camera of a room.
    pub(crate) fn sender(&self, caller: Caller, place: &Place) -> Result<Visitor, Error> {
        let visitor = Visitor::new(caller, self.authority.clone(), &place.room_id, Action::PublishVideo)?;
        self.check_place(&place.room_id, &place.name)?;
        Ok(visitor)
    }

    /// The right to bring frames, for as long as the permit lives.
    pub(crate) fn sender_permit(&self) -> Result<OwnedSemaphorePermit, Error> {
        permit(&self.senders, "as many bring frames as there may be cameras; try again in a second")
    }

    /// Somebody who wants to look at a camera.
    pub(crate) fn viewing(
        self: &Arc<Self>,
        caller: Caller,
        place: &Place,
        fps: Option<f32>,
        kind: ViewerKind,
    ) -> Result<Viewing, Error> {
        let visitor = Visitor::new(caller, self.authority.clone(), &place.room_id, Action::Subscribe)?;
        let pace = Pace::new(fps, Instant::now()).map_err(|text| Error::new(ErrorKind::BadRequest, text))?;
        let camera = self.registry.get(&place.room_id, &place.name)?;
        let permit = self.viewer_permit()?;
        let heartbeat = std::time::Duration::from_secs(u64::from(self.settings.heartbeat_seconds));
        Ok(Viewing::new(camera, visitor, pace, (&self.tally, kind), heartbeat, permit))
    }

    /// The right to look, for as long as the permit lives.
    pub(crate) fn viewer_permit(&self) -> Result<OwnedSemaphorePermit, Error> {
        permit(&self.viewers, "as many look at cameras as may; try again later")
    }
}

fn permit(permits: &Arc<Semaphore>, message: &str) -> Result<OwnedSemaphorePermit, Error> {
    let full = |_| Error::new(ErrorKind::TooManyConnections, message);
    permits.clone().try_acquire_owned().map_err(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_lists_every_route() {
        let mut described = Vec::new();
        for (path, item) in &description().paths.paths {
            let methods = [
                ("GET", item.get.is_some()),
                ("POST", item.post.is_some()),
                ("DELETE", item.delete.is_some()),
            ];
            let path = path.strip_prefix("/realtime/webrtc/rooms/{room_id}").expect("all are below a room");
            described.extend(methods.iter().filter(|m| m.1).map(|m| format!("{} {path}", m.0)));
        }
        described.sort();
        let expected = [
            "DELETE /cameras/{name}",
            "GET /cameras",
            "GET /cameras/{name}",
            "GET /cameras/{name}/events",
            "GET /cameras/{name}/latest.jpg",
            "GET /cameras/{name}/mjpeg",
            "GET /cameras/{name}/send",
            "GET /cameras/{name}/watch",
            "POST /cameras/{name}/frames",
        ];
        assert_eq!(described, expected);
    }
}
