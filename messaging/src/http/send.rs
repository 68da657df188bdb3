//! Sending over HTTP: data, bytes, text.

use axum::http::HeaderMap;
use axum::{Extension, Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use veche_access::Identity;
use veche_doors::answers::BodyRefusals;
use veche_doors::{Error, ErrorAnswer, ErrorKind};
use veche_hub::Json as RawJson;

use super::{Api, Caller, JsonBody, Once, idempotency_key};
use crate::Shared;
use crate::protocol::answer::PublishedAnswer;
use crate::protocol::request::{binary, recipient};
use crate::protocol::{Content, Publish, Recipient};

/// A message. Exactly one of `channel`, `user_id` and `connection_id` says for whom.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct SendBody {
    /// For the subscribers of a channel.
    #[schema(example = "general")]
    channel: Option<String>,
    /// For all connections of a user.
    user_id: Option<String>,
    /// For one connection.
    connection_id: Option<String>,
    /// Any JSON.
    #[schema(value_type = Value)]
    data: RawJson,
    /// Whether it is kept for new subscribers of the channel.
    #[serde(default)]
    persistent: bool,
}

/// A message to everybody.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct BroadcastBody {
    /// Any JSON.
    #[schema(value_type = Value)]
    data: RawJson,
}

/// Bytes; without a recipient they go to everybody.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct BinaryBody {
    /// The bytes as base64.
    #[schema(example = "aGVsbG8=")]
    binary_data: String,
    /// What they are.
    #[schema(example = "text/plain")]
    content_type: Option<String>,
    /// What the file is called.
    filename: Option<String>,
    /// For the subscribers of a channel.
    channel: Option<String>,
    /// For all connections of a user.
    user_id: Option<String>,
    /// For one connection.
    connection_id: Option<String>,
    /// Whether they are kept for new subscribers of the channel.
    #[serde(default)]
    persistent: bool,
}

/// Text that goes out as bytes; without a channel to everybody.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct TextBody {
    /// The text.
    text: String,
    /// For the subscribers of a channel.
    #[schema(example = "general")]
    channel: Option<String>,
    /// What the file is called.
    filename: Option<String>,
    /// What the text is; `text/plain; charset=utf-8` where it is not said.
    content_type: Option<String>,
    /// Whether it is kept for new subscribers of the channel.
    #[serde(default)]
    persistent: bool,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SentAnswer {
    /// Always `sent`.
    status: &'static str,
    /// The message's own name.
    message_id: String,
    /// In which channel it went out.
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    /// The channel's epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    /// Its place in the channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    /// How many got it at once.
    recipients: usize,
    /// Whether the same request came before, and nothing was sent again.
    repeated: bool,
}

/// Sends a message to a channel, a user or a connection.
#[utoipa::path(
    post,
    path = "/realtime/send",
    operation_id = "sendMessage",
    tag = "messaging",
    params(Once),
    request_body = SendBody,
    responses(
        (status = 200, description = "Sent", body = SentAnswer),
        BodyRefusals,
        (status = 404, description = "The user or connection is not connected", body = ErrorAnswer),
        (status = 409, description = "The idempotency key came with another message", body = ErrorAnswer),
    )
)]
pub(crate) async fn send(
    State(api): State<Api>,
    Extension(identity): Caller,
    headers: HeaderMap,
    JsonBody(body): JsonBody<SendBody>,
) -> Result<Json<SentAnswer>, Error> {
    let to = recipient(body.channel.as_deref(), body.user_id.as_deref(), body.connection_id.as_deref())?;
    let to = to.ok_or_else(|| {
        let message = "channel, user_id or connection_id: missing; for everybody, POST /realtime/broadcast";
        Error::new(ErrorKind::BadRequest, message)
    })?;
    dispatch(&api.shared, &identity, &headers, to, Content::Data(body.data), body.persistent).await
}

/// Sends a message to everybody who is connected.
#[utoipa::path(
    post,
    path = "/realtime/broadcast",
    operation_id = "broadcastMessage",
    tag = "messaging",
    params(Once),
    request_body = BroadcastBody,
    responses(
        (status = 200, description = "Sent", body = SentAnswer),
        BodyRefusals,
        (status = 409, description = "The idempotency key came with another message", body = ErrorAnswer),
    )
)]
pub(crate) async fn broadcast(
    State(api): State<Api>,
    Extension(identity): Caller,
    headers: HeaderMap,
    JsonBody(body): JsonBody<BroadcastBody>,
) -> Result<Json<SentAnswer>, Error> {
    let content = Content::Data(body.data);
    dispatch(&api.shared, &identity, &headers, Recipient::Everybody, content, false).await
}

/// Sends bytes. Those too large to be inline become a file that is announced.
#[utoipa::path(
    post,
    path = "/realtime/binary/send",
    operation_id = "sendBinary",
    tag = "messaging",
    params(Once),
    request_body = BinaryBody,
    responses(
        (status = 200, description = "Sent", body = SentAnswer),
        BodyRefusals,
        (status = 404, description = "The user or connection is not connected", body = ErrorAnswer),
        (status = 409, description = "The idempotency key came with another message", body = ErrorAnswer),
        (status = 415, description = "A type of content that is not allowed", body = ErrorAnswer),
        (status = 503, description = "Binary data is switched off, storage is behind, or the server stops", body = ErrorAnswer),
    )
)]
pub(crate) async fn send_binary(
    State(api): State<Api>,
    Extension(identity): Caller,
    headers: HeaderMap,
    JsonBody(body): JsonBody<BinaryBody>,
) -> Result<Json<SentAnswer>, Error> {
    let to = recipient(body.channel.as_deref(), body.user_id.as_deref(), body.connection_id.as_deref())?;
    let limit = api.shared.settings.websocket_binary_max_bytes;
    let content = binary(&body.binary_data, body.content_type, body.filename, limit)?;
    let to = to.unwrap_or(Recipient::Everybody);
    dispatch(&api.shared, &identity, &headers, to, content, body.persistent).await
}

/// Sends text as bytes.
#[utoipa::path(
    post,
    path = "/realtime/binary/text",
    operation_id = "sendText",
    tag = "messaging",
    params(Once),
    request_body = TextBody,
    responses(
        (status = 200, description = "Sent", body = SentAnswer),
        BodyRefusals,
        (status = 409, description = "The idempotency key came with another message", body = ErrorAnswer),
        (status = 415, description = "A type of content that is not allowed", body = ErrorAnswer),
        (status = 503, description = "Binary data is switched off, storage is behind, or the server stops", body = ErrorAnswer),
    )
)]
pub(crate) async fn send_text(
    State(api): State<Api>,
    Extension(identity): Caller,
    headers: HeaderMap,
    JsonBody(body): JsonBody<TextBody>,
) -> Result<Json<SentAnswer>, Error> {
    let to = recipient(body.channel.as_deref(), None, None)?.unwrap_or(Recipient::Everybody);
    let content_type = body.content_type.unwrap_or_else(|| "text/plain; charset=utf-8".into());
    let content =
        Content::Binary { data: body.text.into(), content_type: Some(content_type), filename: body.filename };
    dispatch(&api.shared, &identity, &headers, to, content, body.persistent).await
}

/// Sends something for somebody, if they may.
pub(super) async fn dispatch(
    shared: &Shared,
    identity: &Identity,
    headers: &HeaderMap,
    to: Recipient,
    content: Content,
    persistent: bool,
) -> Result<Json<SentAnswer>, Error> {
    if persistent && !matches!(to, Recipient::Channel(_)) {
        let message = "persistent: only messages of a channel can be kept; leave it out or name a channel";
        return Err(Error::new(ErrorKind::BadRequest, message));
    }
    let publish = Publish { to, content, persistent, idempotency_key: idempotency_key(headers)? };
    let outcome = shared.dispatch(identity, publish).await?;
    let PublishedAnswer { message_id, channel, epoch, offset, recipients, repeated, .. } =
        PublishedAnswer::new(None, &outcome);
    let message_id = message_id.map(|id| id.to_string()).unwrap_or_default();
    Ok(Json(SentAnswer {
        status: "sent",
        message_id,
        channel: channel.map(|channel| channel.to_string()),
        epoch: epoch.map(|epoch| epoch.to_string()),
        offset,
        recipients,
        repeated,
    }))
}
