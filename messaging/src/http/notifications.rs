//! Notifications over HTTP.

use axum::http::HeaderMap;
use axum::{Extension, Json, extract::State};
use serde::Deserialize;
use utoipa::ToSchema;
use veche_doors::answers::BodyRefusals;
use veche_doors::{Error, ErrorAnswer};
use veche_hub::Json as RawJson;

use super::send::{SentAnswer, dispatch};
use super::{Api, Caller, JsonBody, Once};
use crate::protocol::Recipient;
use crate::protocol::request::{self, info, notification, recipient};

// The fields that all have stand in each: `flatten` cannot pass JSON on as it is.

/// A notification for a user.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct UserNotification {
    /// For whom.
    #[schema(example = "42")]
    user_id: String,
    /// The headline.
    title: String,
    /// The text.
    #[serde(default)]
    body: String,
    /// What kind it is; clients filter by it.
    #[serde(default = "info")]
    #[schema(example = "message")]
    notification_type: String,
    /// Any JSON.
    #[schema(value_type = Option<Value>)]
    data: Option<RawJson>,
}

/// A notification for the subscribers of a channel.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ChannelNotification {
    /// Which channel.
    #[schema(example = "general")]
    channel: String,
    /// The headline.
    title: String,
    /// The text.
    #[serde(default)]
    body: String,
    /// What kind it is; clients filter by it.
    #[serde(default = "info")]
    #[schema(example = "message")]
    notification_type: String,
    /// Any JSON.
    #[schema(value_type = Option<Value>)]
    data: Option<RawJson>,
    /// Whether it is kept for new subscribers.
    #[serde(default)]
    persistent: bool,
}

/// A notification for everybody.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names are those of the contract")]
pub(crate) struct Notification {
    /// The headline.
    title: String,
    /// The text.
    #[serde(default)]
    body: String,
    /// What kind it is; clients filter by it.
    #[serde(default = "info")]
    #[schema(example = "message")]
    notification_type: String,
    /// Any JSON.
    #[schema(value_type = Option<Value>)]
    data: Option<RawJson>,
}

/// Notifies a user: all their connections, or, while there are none, the channel `user_<id>`.
#[utoipa::path(
    post,
    path = "/realtime/notifications/send",
    operation_id = "notifyUser",
    tag = "messaging",
    params(Once),
    request_body = UserNotification,
    responses(
        (status = 200, description = "Sent", body = SentAnswer),
        BodyRefusals,
        (status = 404, description = "The user is not connected, and no channel can have their name", body = ErrorAnswer),
        (status = 409, description = "The idempotency key came with another message", body = ErrorAnswer),
    )
)]
pub(crate) async fn to_user(
    State(api): State<Api>,
    Extension(identity): Caller,
    headers: HeaderMap,
    JsonBody(body): JsonBody<UserNotification>,
) -> Result<Json<SentAnswer>, Error> {
    let to = recipient(None, Some(&body.user_id), None)?.unwrap_or(Recipient::User(body.user_id.into()));
    let content = notification(body.title, body.body, body.notification_type, body.data)?;
    dispatch(&api.shared, &identity, &headers, to, content, false).await
}

/// Notifies the subscribers of a channel.
#[utoipa::path(
    post,
    path = "/realtime/notifications/channel",
    operation_id = "notifyChannel",
    tag = "messaging",
    params(Once),
    request_body = ChannelNotification,
    responses(
        (status = 200, description = "Sent", body = SentAnswer),
        BodyRefusals,
        (status = 409, description = "The idempotency key came with another message", body = ErrorAnswer),
    )
)]
pub(crate) async fn to_channel(
    State(api): State<Api>,
    Extension(identity): Caller,
    headers: HeaderMap,
    JsonBody(body): JsonBody<ChannelNotification>,
) -> Result<Json<SentAnswer>, Error> {
    let to = Recipient::Channel(request::channel(&body.channel)?);
    let content = notification(body.title, body.body, body.notification_type, body.data)?;
    dispatch(&api.shared, &identity, &headers, to, content, body.persistent).await
}

/// Notifies everybody who is connected.
#[utoipa::path(
    post,
    path = "/realtime/notifications/broadcast",
    operation_id = "notifyEverybody",
    tag = "messaging",
    params(Once),
    request_body = Notification,
    responses(
        (status = 200, description = "Sent", body = SentAnswer),
        BodyRefusals,
        (status = 409, description = "The idempotency key came with another message", body = ErrorAnswer),
    )
)]
pub(crate) async fn to_everybody(
    State(api): State<Api>,
    Extension(identity): Caller,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Notification>,
) -> Result<Json<SentAnswer>, Error> {
    let content = notification(body.title, body.body, body.notification_type, body.data)?;
    dispatch(&api.shared, &identity, &headers, Recipient::Everybody, content, false).await
}
