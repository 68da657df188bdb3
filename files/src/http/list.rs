//! Which files there are, and their end.

use axum::Json;
use axum::extract::{Request, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use veche_access::{Action, Resource};
use veche_doors::answers::Refusals;
use veche_doors::extract::{Path, Query};
use veche_doors::{Error, ErrorAnswer};

use super::{Door, identity, refused};
use crate::file::FileList;

/// How many files are told unless asked for otherwise.
const USUAL: u32 = 50;

/// Which files.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// Those of this channel.
    channel: String,
    /// How many at most, up to 200; 50 unless said.
    limit: Option<u32>,
    /// Those behind a list before: its `next`.
    before: Option<String>,
}

/// That a file is gone.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Deleted {
    /// `deleted`.
    status: &'static str,
    /// Which file.
    file_id: String,
}

/// Lists the files of a channel, the newest first.
#[utoipa::path(
    get,
    path = "/realtime/files",
    operation_id = "listFiles",
    params(Filter),
    responses(
        (status = 200, description = "Files", body = FileList),
        Refusals,
        (status = 503, description = "The storage does not work, or files are switched off", body = ErrorAnswer),
    )
)]
pub(crate) async fn list(
    State(door): State<Door>,
    Query(filter): Query<Filter>,
    request: Request,
) -> Result<Json<FileList>, Error> {
    let identity = identity(request.extensions())?;
    (door.publisher.check_channel)(&filter.channel)?;
    identity.allows(Action::Subscribe, Resource::Channel(&filter.channel)).map_err(refused)?;
    let limit = filter.limit.unwrap_or(USUAL);
    door.files.list(&filter.channel, limit, filter.before.as_deref()).await.map(Json)
}

/// Deletes a file: its owner may, and who moderates its channel.
#[utoipa::path(
    delete,
    path = "/realtime/files/{file_id}",
    operation_id = "deleteFile",
    params(("file_id" = String, Path, description = "The file")),
    responses(
        (status = 200, description = "It is gone", body = Deleted),
        Refusals,
        (status = 403, description = "Not yours to delete", body = ErrorAnswer),
        (status = 404, description = "No such file", body = ErrorAnswer),
        (status = 503, description = "The storage does not work, or files are switched off", body = ErrorAnswer),
    )
)]
pub(crate) async fn delete(
    State(door): State<Door>,
    Path(file_id): Path<String>,
    request: Request,
) -> Result<Json<Deleted>, Error> {
    let identity = identity(request.extensions())?;
    let row = door.files.row(&file_id).await?;
    let is_own = row.owner.is_some() && row.owner.as_deref() == identity.user_id.as_deref();
    if !is_own {
        let allowed = match &row.channel {
            Some(channel) => identity.allows(Action::Moderate, Resource::Channel(channel)),
            None => identity.allows(Action::Administer, Resource::Server),
        };
        allowed.map_err(refused)?;
    }
    door.files.delete(&file_id).await?;
    Ok(Json(Deleted { status: "deleted", file_id }))
}
