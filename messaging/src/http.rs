//! The HTTP API of messaging: its routes, and who asks.

mod channels;
pub(crate) mod connections;
mod health;
mod notifications;
mod send;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router, middleware};
use futures_util::FutureExt;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use utoipa::{IntoParams, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use veche_access::{Door, Identity};
use veche_doors::extract::Body;
use veche_doors::http::{cors, limit, method_not_allowed};
use veche_doors::{Error, ErrorAnswer, ErrorKind};
use veche_files::http::{Announcement, Published, Publisher};
use veche_hub::{Letter, Publication};

use crate::protocol::answer::PublishedAnswer;
use crate::protocol::request::{bad, channel};
use crate::sending::{file, inline, sender};
use crate::{Shared, depth, grpc, sse, websocket};

/// What all handlers share.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) shared: Arc<Shared>,
}

#[derive(OpenApi)]
#[openapi(
    components(schemas(ErrorAnswer)),
    tags((name = "messaging", description = "Channels, messages and notifications"))
)]
struct Description;

/// All doors.
pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    let settings = &shared.settings;
    let doorkeeper = &shared.doorkeeper;
    let api = Api { shared: shared.clone() };
    let (asked, _) = asked_routes().split_for_parts();
    let (large, _) = large_routes().split_for_parts();
    let mut asked = asked
        .layer(DefaultBodyLimit::max(settings.max_message_bytes))
        .merge(large.layer(DefaultBodyLimit::max(settings.max_text_bytes())));
    if let Some(files) = &shared.files {
        let shared = shared.clone();
        let announce = Arc::new(move |announcement| announce(shared.clone(), announcement).boxed());
        let check_channel = |name: &str| channel(name).map(drop);
        let (routes, _) =
            veche_files::http::routes(files.clone(), Publisher { check_channel, announce }).split_for_parts();
        asked = asked.merge(routes);
    }
    let asked = asked.layer(middleware::from_fn_with_state(api.clone(), authenticate));
    let (open, _) = open_routes().split_for_parts();
    asked
        .merge(open)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(doorkeeper.clone(), limit))
        .layer(middleware::from_fn_with_state(doorkeeper.clone(), cors))
        .merge(grpc::router(shared))
        .with_state(api)
}

/// The description of all doors.
pub(crate) fn document() -> utoipa::openapi::OpenApi {
    let (_, mut document) = open_routes().split_for_parts();
    let (_, asked) = asked_routes().split_for_parts();
    document.merge(asked);
    let (_, large) = large_routes().split_for_parts();
    document.merge(large);
    document.merge(veche_files::http::document());
    document
}

/// Those that want to know who asks.
fn asked_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(send::send))
        .routes(routes!(send::broadcast))
        .routes(routes!(notifications::to_user))
        .routes(routes!(notifications::to_channel))
        .routes(routes!(notifications::to_everybody))
        .routes(routes!(connections::list))
        .routes(routes!(channels::list))
        .routes(routes!(channels::history))
        .routes(routes!(channels::presence))
        .routes(routes!(channels::events))
        .routes(routes!(channels::room_events))
}

/// Those too, with bodies as large as a binary message in base64.
fn large_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(send::send_binary))
        .routes(routes!(send::send_text))
}

/// Those that find it out themselves, or do not mind.
fn open_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(websocket::connect))
        .routes(routes!(sse::events))
        .routes(routes!(health::health))
}

/// Finds out who asks, and puts their identity beside the request. Pages of other origins change nothing here, even by
/// requests that browsers send without asking first. A signed link needs none: whoever has no credential is
/// let through to files without one, and refused there.
async fn authenticate(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let shared = &api.shared;
    if let Err(error) = shared.doorkeeper.check_page(&request) {
        return error.into_response();
    }
    let is_required = shared.authority.is_required(Door::Http);
    let credential = match shared.credential(request.headers(), request.uri().query()) {
        Ok(credential) => credential,
        Err(error) => return error.into_response(),
    };
    let reads_file = matches!(*request.method(), Method::GET | Method::HEAD)
        && request.uri().path().starts_with("/realtime/files/");
    if credential.is_none() && is_required && reads_file {
        return next.run(request).await;
    }
    let identified = shared.identify(Door::Http, credential.as_ref()).await;
    match identified.and_then(|identity| shared.take_from_user(&identity).map(|()| identity)) {
        Ok(identity) => {
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

/// Tells a channel, or everybody, of a file that has been uploaded.
async fn announce(shared: Arc<Shared>, announcement: Announcement) -> Result<Published, Error> {
    let Announcement { by, channel: name, persistent, file: info, inline: bytes } = announcement;
    let body = match bytes {
        Some(bytes) => inline(bytes, info.content_type.clone(), Some(info.filename.clone())),
        None => file(&info)?,
    };
    let sender = sender(&by);
    let outcome = if let Some(name) = name {
        let publication = Publication { persistent, sender, ..Publication::new(channel(&name)?, body) };
        shared.publish(publication).await?
    } else {
        let to = veche_hub::Recipient::Everybody;
        shared.send(Letter { sender, ..Letter::new(to, body) }).await?
    };
    let PublishedAnswer { message_id, epoch, offset, recipients, .. } = PublishedAnswer::new(None, &outcome);
    let message_id = message_id.map(|id| id.to_string()).unwrap_or_default();
    Ok(Published { message_id, epoch: epoch.map(|epoch| epoch.to_string()), offset, recipients })
}

/// Who asks.
pub(crate) type Caller = Extension<Identity>;

/// A JSON body of bounded depth.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Api> for JsonBody<T> {
    type Rejection = Error;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Error> {
        let Body(text) = Body::<Box<RawValue>>::from_request(request, api).await?;
        let limit = api.shared.settings.max_json_depth;
        if !depth::is_within(text.get(), limit) {
            return Err(bad(format!("JSON may be {limit} deep; flatten it")));
        }
        let wrong = |error: serde_json::Error| Error::new(ErrorKind::BadRequest, error.to_string());
        serde_json::from_str(text.get()).map(JsonBody).map_err(wrong)
    }
}

/// The header that makes a repetition harmless, for the description.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes the header; it is read with the others")]
pub(crate) struct Once {
    /// The same for ten minutes: the first answer again, and nothing is sent twice.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 128)]
    idempotency_key: Option<String>,
}

/// What makes a repetition of the request harmless.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<Box<str>>, Error> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let text = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= 128);
    text.map(|key| Some(key.into()))
        .ok_or_else(|| Error::new(ErrorKind::BadIdempotencyKey, "Idempotency-Key: 1 to 128 ASCII characters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_lists_every_route() {
        let mut described = Vec::new();
        let own = |path: &&String| !path.contains("/files") && !path.ends_with("/upload");
        let paths = document().paths.paths;
        for (path, item) in paths.iter().filter(|(path, _)| own(path)) {
            let methods = [("GET", item.get.is_some()), ("POST", item.post.is_some())];
            described.extend(
                methods.iter().filter(|method| method.1).map(|method| format!("{} {path}", method.0)),
            );
        }
        described.sort();
        let expected = [
            "GET /realtime/channels",
            "GET /realtime/channels/{channel}/events",
            "GET /realtime/channels/{channel}/history",
            "GET /realtime/channels/{channel}/presence",
            "GET /realtime/connections",
            "GET /realtime/events",
            "GET /realtime/health",
            "GET /realtime/webrtc/rooms/{room_id}/events",
            "GET /realtime/ws",
            "POST /realtime/binary/send",
            "POST /realtime/binary/text",
            "POST /realtime/broadcast",
            "POST /realtime/notifications/broadcast",
            "POST /realtime/notifications/channel",
            "POST /realtime/notifications/send",
            "POST /realtime/send",
        ];
        assert_eq!(described, expected);
    }
}
