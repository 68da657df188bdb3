//! What the whole HTTP API is, for programs; the page at `/docs` shows it to people.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use utoipa::openapi::OpenApi;

/// `/openapi.json`, written once.
pub(crate) fn router(description: &OpenApi) -> Router {
    let text = description.to_json().expect("a description of names and texts can be written");
    let text = Bytes::from(text);
    let show = || async move { ([(header::CONTENT_TYPE, "application/json")], text).into_response() };
    Router::new().route("/openapi.json", get(show))
}
