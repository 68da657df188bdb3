//! The HTTP doors of files: uploads in one request or in several, downloads, lists.

mod body;
mod download;
mod form;
mod list;
mod multipart;
mod repeats;
mod resumable;

use std::sync::Arc;

use axum::http::{Extensions, HeaderMap, header};
use axum::middleware;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use veche_access::{AccessError, AccessErrorKind, Action, Identity, Resource};
use veche_doors::{Error, ErrorKind};

use self::repeats::Repeats;
use crate::file::FileInfo;
use crate::files::Files;

/// How others hear of a file; given by the part of the server that knows channels.
#[derive(Clone)]
pub struct Publisher {
    /// Whether it is the name of a channel that clients may use.
    pub check_channel: fn(&str) -> Result<(), Error>,
    /// Publishes an announcement.
    pub announce: Announce,
}

/// Publishes an announcement.
pub type Announce = Arc<dyn Fn(Announcement) -> BoxFuture<'static, Result<Published, Error>> + Send + Sync>;

/// A file that has come, for others to hear of.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// Who uploaded it.
    pub by: Identity,
    /// The channel; `None`: everybody who is connected.
    pub channel: Option<String>,
    /// Whether those who subscribe later are told too.
    pub persistent: bool,
    /// The file.
    pub file: FileInfo,
    /// Its content, where it is small enough to travel within the message.
    pub inline: Option<Bytes>,
}

/// How an announcement was published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// The message.
    pub message_id: String,
    /// The epoch of its channel.
    pub epoch: Option<String>,
    /// Its offset in the channel.
    pub offset: Option<u64>,
    /// To how many connections it went.
    pub recipients: usize,
}

/// The answer to an upload.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Uploaded {
    /// `sent`.
    status: String,
    /// The message that announces the file.
    message_id: String,
    /// Where it went; absent where it went to everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    /// The epoch of the channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    /// The offset of the message in its channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    /// To how many connections it went.
    recipients: usize,
    /// The file.
    file: FileInfo,
}

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Door {
    files: Files,
    publisher: Publisher,
    repeats: Repeats,
}

/// The routes of files, below `/realtime`. What wraps them puts an [`Identity`] into the extensions of each request; without
/// one, only links that carry a signature work.
pub fn routes<S>(files: Files, publisher: Publisher) -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    described().with_state(Door { files, publisher, repeats: Repeats::default() })
}

/// The description of these routes.
pub fn document() -> OpenApi {
    described().split_for_parts().1
}

fn described() -> OpenApiRouter<Door> {
    let resumable = OpenApiRouter::new()
        .routes(routes!(resumable::describe, resumable::create))
        .routes(routes!(resumable::offset, resumable::append, resumable::terminate, resumable::overridden))
        .layer(middleware::map_response(resumable::mark));
    OpenApiRouter::new()
        .routes(routes!(form::upload))
        .routes(routes!(list::list))
        .routes(routes!(download::download, list::delete))
        .merge(resumable)
}

impl Door {
    /// Whether they may upload to this channel, or to everybody.
    fn authorise_upload(&self, identity: &Identity, channel: Option<&str>) -> Result<(), Error> {
        match channel {
            Some(channel) => {
                (self.publisher.check_channel)(channel)?;
                identity.allows(Action::Upload, Resource::Channel(channel)).map_err(refused)
            }
            None => identity.allows(Action::Broadcast, Resource::Server).map_err(refused),
        }
    }

    /// Tells others of a file. One that cannot be announced is not kept.
    async fn announce(
        &self,
        by: Identity,
        file: FileInfo,
        persistent: bool,
        inline: Option<Bytes>,
    ) -> Result<Uploaded, Error> {
        let channel = file.channel.clone();
        let announcement =
            Announcement { by, channel: channel.clone(), persistent, file: file.clone(), inline };
        match (self.publisher.announce)(announcement).await {
            Ok(published) => Ok(Uploaded {
                status: "sent".to_owned(),
                message_id: published.message_id,
                channel,
                epoch: published.epoch,
                offset: published.offset,
                recipients: published.recipients,
                file,
            }),
            Err(error) => {
                let _ = self.files.delete(&file.file_id).await;
                Err(error)
            }
        }
    }
}

/// Who asks.
fn identity(extensions: &Extensions) -> Result<Identity, Error> {
    extensions.get::<Identity>().cloned().ok_or_else(|| {
        let message = "show a token (`Authorization: Bearer`) or an API key (`X-API-Key`)";
        Error::new(ErrorKind::AuthenticationRequired, message)
    })
}

/// Whose upload it counts as: the user's, or that of the address they come from.
fn counted_as(identity: &Identity, extensions: &Extensions) -> (Option<String>, Option<String>) {
    let address = veche_doors::http::client_address(extensions);
    (identity.user_id.as_deref().map(str::to_owned), address.map(|address| address.to_string()))
}

/// An access error in the words of HTTP.
fn refused(error: AccessError) -> Error {
    let kind = match error.kind {
        AccessErrorKind::Missing => ErrorKind::AuthenticationRequired,
        AccessErrorKind::Invalid => ErrorKind::InvalidToken,
        AccessErrorKind::Expired => ErrorKind::TokenExpired,
        AccessErrorKind::InvalidKey => ErrorKind::InvalidApiKey,
        AccessErrorKind::Forbidden => ErrorKind::Forbidden,
        AccessErrorKind::Unavailable => ErrorKind::AuthenticationUnavailable,
    };
    Error::new(kind, error.message)
}

/// A header as text; `None` where it is missing or not ASCII.
fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
