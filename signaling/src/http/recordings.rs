//! Recordings over HTTP.

use std::io::SeekFrom;

use axum::Json;
use axum::body::{Body as ResponseBody, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;
use utoipa::ToSchema;
use veche_access::Action;
use veche_doors::answers::{BodyRefusals, Refusals};
use veche_doors::range::{Wanted, wanted};
use veche_recorder::manifest::{Container, End, Manifest};
use veche_recorder::{Layout, Recorder, Summary};

use super::caller::Caller;
use super::extract::Path;
use super::moderation::optional;
use super::{Api, ErrorAnswer};
use crate::error::{Error, ErrorKind};
use crate::room::media_events::track_id;
use crate::rooms::recording::refused;

/// As many people or tracks may be named.
const MAX_NAMED: usize = 256;

/// What to record.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NewRecording {
    /// Of whom; absent: of everybody.
    #[schema(example = json!(["peer_4f9a"]))]
    participants: Vec<String>,
    /// Which tracks; absent: all.
    #[schema(example = json!(["TR12"]))]
    tracks: Vec<String>,
    /// How tracks are put into files.
    files: FilesPer,
}

/// How tracks are put into files.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FilesPer {
    /// Somebody's voice and camera in one, their screen and its sound in another.
    #[default]
    Participant,
    /// Each in one of its own.
    Track,
}

/// A recording.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "`recording_id` is its name in every message")]
pub(crate) struct Recording {
    /// Its name.
    recording_id: String,
    /// The room.
    room_id: String,
    /// When it began, in RFC 3339.
    started_at: String,
    /// When it ended; absent while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    ended_at: Option<String>,
    /// Why it ended: `stopped`, `room-empty`, `limit`, `disk-full`, `storage-failed`, `server-stopped`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    end: Option<End>,
    /// How long it is.
    duration_ms: u64,
    /// How many files it has.
    file_count: usize,
    /// How large they are together.
    bytes: u64,
}

/// A recording and all it says of itself.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecordingDetails {
    /// The recording.
    #[serde(flatten)]
    recording: Recording,
    /// Who was there, which file has what and from when, who spoke, what is missing.
    #[schema(value_type = Object)]
    manifest: Manifest,
}

/// The recordings of a room.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecordingList {
    /// The newest first.
    recordings: Vec<Recording>,
}

/// Begins to record a room. Everybody in it is told.
#[utoipa::path(
    post,
    path = "/realtime/webrtc/rooms/{room_id}/recordings",
    operation_id = "startRecording",
    params(("room_id" = String, Path, description = "The room")),
    request_body(content = Option<NewRecording>, description = "Nothing for the whole room"),
    responses(
        (status = 201, description = "It runs", body = Recording),
        BodyRefusals,
        (status = 404, description = "No such room", body = ErrorAnswer),
        (status = 409, description = "The room is being recorded already", body = ErrorAnswer),
        (status = 503, description = "Recordings are switched off, as many run as may, or the disk is full", body = ErrorAnswer),
    )
)]
pub(crate) async fn start(
    State(api): State<Api>,
    caller: Caller,
    Path(room_id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Recording>), Error> {
    caller.needs(Action::Record, &room_id)?;
    let NewRecording { participants, tracks, files } = optional(&body)?;
    if participants.len() > MAX_NAMED || tracks.len() > MAX_NAMED {
        let message = format!("participants, tracks: name at most {MAX_NAMED} of each, or none for all");
        return Err(Error::new(ErrorKind::BadRequest, message));
    }
    let known = |name: &String| {
        track_id(name).ok_or_else(|| {
            let message =
                format!("tracks: `{name}` is not like `TR12`; take it from the list of connections");
            Error::new(ErrorKind::BadRequest, message)
        })
    };
    let tracks = tracks.iter().map(known).collect::<Result<_, _>>()?;
    let layout = match files {
        FilesPer::Participant => Layout::Person,
        FilesPer::Track => Layout::Track,
    };
    let room = api.rooms.room(&room_id)?;
    let summary = api.rooms.start_recording(&room, participants, tracks, layout)?;
    Ok((StatusCode::CREATED, Json(summary.into())))
}

/// The recordings of a room, also of one that is gone.
#[utoipa::path(
    get,
    path = "/realtime/webrtc/rooms/{room_id}/recordings",
    operation_id = "listRecordings",
    params(("room_id" = String, Path, description = "The room")),
    responses(
        (status = 200, description = "They", body = RecordingList),
        Refusals,
        (status = 503, description = "Recordings are switched off", body = ErrorAnswer),
    )
)]
pub(crate) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Path(room_id): Path<String>,
) -> Result<Json<RecordingList>, Error> {
    caller.needs(Action::Record, &room_id)?;
    let recordings = api.rooms.recorder()?.of_room(&room_id).into_iter().map(Recording::from).collect();
    Ok(Json(RecordingList { recordings }))
}

/// A recording.
#[utoipa::path(
    get,
    path = "/realtime/webrtc/rooms/{room_id}/recordings/{recording_id}",
    operation_id = "getRecording",
    params(("room_id" = String, Path, description = "The room"), ("recording_id" = String, Path, description = "Which")),
    responses(
        (status = 200, description = "The recording", body = RecordingDetails),
        Refusals,
        (status = 404, description = "No such recording", body = ErrorAnswer),
        (status = 503, description = "Recordings are switched off", body = ErrorAnswer),
    )
)]
pub(crate) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Path((room_id, recording_id)): Path<(String, String)>,
) -> Result<Json<RecordingDetails>, Error> {
    let (recorder, summary) = find(&api, &caller, &room_id, &recording_id)?;
    let manifest = recorder.manifest(&recording_id).map_err(refused)?;
    Ok(Json(RecordingDetails { recording: summary.into(), manifest }))
}

/// Ends a recording. When this answers, all of it is written.
#[utoipa::path(
    post,
    path = "/realtime/webrtc/rooms/{room_id}/recordings/{recording_id}/stop",
    operation_id = "stopRecording",
    params(("room_id" = String, Path, description = "The room"), ("recording_id" = String, Path, description = "Which")),
    responses(
        (status = 200, description = "It has ended, now or before", body = Recording),
        Refusals,
        (status = 404, description = "No such recording", body = ErrorAnswer),
        (status = 503, description = "Recordings are switched off", body = ErrorAnswer),
    )
)]
pub(crate) async fn stop(
    State(api): State<Api>,
    caller: Caller,
    Path((room_id, recording_id)): Path<(String, String)>,
) -> Result<Json<Recording>, Error> {
    let (recorder, _) = find(&api, &caller, &room_id, &recording_id)?;
    Ok(Json(recorder.stop(&recording_id).await.map_err(refused)?.into()))
}

/// Deletes a recording that has ended, with its files.
#[utoipa::path(
    delete,
    path = "/realtime/webrtc/rooms/{room_id}/recordings/{recording_id}",
    operation_id = "deleteRecording",
    params(("room_id" = String, Path, description = "The room"), ("recording_id" = String, Path, description = "Which")),
    responses(
        (status = 204, description = "It is gone"),
        Refusals,
        (status = 404, description = "No such recording", body = ErrorAnswer),
        (status = 409, description = "It still runs", body = ErrorAnswer),
        (status = 503, description = "Recordings are switched off", body = ErrorAnswer),
    )
)]
pub(crate) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Path((room_id, recording_id)): Path<(String, String)>,
) -> Result<StatusCode, Error> {
    let (recorder, _) = find(&api, &caller, &room_id, &recording_id)?;
    let recorder = recorder.clone();
    let deleted = tokio::task::spawn_blocking(move || recorder.delete(&recording_id)).await;
    deleted
        .map_err(|error| Error::new(ErrorKind::RecordingUnavailable, error.to_string()))?
        .map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Downloads a file of a recording, or with `Range` one part of it. Of a recording that runs, what is written so far.
#[utoipa::path(
    get,
    path = "/realtime/webrtc/rooms/{room_id}/recordings/{recording_id}/files/{name}",
    operation_id = "downloadRecordingFile",
    params(
        ("room_id" = String, Path, description = "The room"),
        ("recording_id" = String, Path, description = "Which"),
        ("name" = String, Path, description = "The file's name in the manifest")
    ),
    responses(
        (status = 200, description = "The file", content_type = "*/*"),
        (status = 206, description = "A part of it", content_type = "*/*"),
        Refusals,
        (status = 404, description = "No such recording or file", body = ErrorAnswer),
        (status = 416, description = "No such part", body = ErrorAnswer),
        (status = 503, description = "Recordings are switched off", body = ErrorAnswer),
    )
)]
pub(crate) async fn download(
    State(api): State<Api>,
    caller: Caller,
    Path((room_id, recording_id, name)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let (recorder, _) = find(&api, &caller, &room_id, &recording_id)?;
    let (path, container) = recorder.file(&recording_id, &name).map_err(refused)?;
    let mut file = File::open(path).await.map_err(|_| gone())?;
    let size = file.metadata().await.map_err(|_| gone())?.len();
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let (status, part) = match range.map_or(Wanted::Whole, |range| wanted(range, size)) {
        Wanted::Whole => (StatusCode::OK, 0..size),
        Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Wanted::Nothing => {
            let message = format!("the file has {size} bytes; ask for a part that is there");
            return Err(Error::new(ErrorKind::RangeNotSatisfiable, message));
        }
    };
    file.seek(SeekFrom::Start(part.start)).await.map_err(|_| gone())?;
    let length = part.end - part.start;
    let mut response =
        (status, ResponseBody::from_stream(ReaderStream::new(file.take(length)))).into_response();
    let kind = match container {
        Container::Webm => "video/webm",
        Container::Mp4 => "video/mp4",
        Container::Ogg => "audio/ogg",
    };
    let set = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::CACHE_CONTROL, "private, no-cache".to_owned()),
        (header::CONTENT_DISPOSITION, format!("inline; filename=\"{name}\"")),
    ];
    for (header, value) in set {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(header, value);
        }
    }
    if status == StatusCode::PARTIAL_CONTENT {
        let value = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        let value = HeaderValue::from_str(&value).expect("digits fit a header");
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
}

/// A recording of this room, for somebody who may record there.
fn find<'a>(
    api: &'a Api,
    caller: &Caller,
    room_id: &str,
    recording_id: &str,
) -> Result<(&'a Recorder, Summary), Error> {
    caller.needs(Action::Record, room_id)?;
    let recorder = api.rooms.recorder()?;
    let summary = recorder.get(recording_id).map_err(refused)?;
    if summary.room != room_id {
        return Err(refused(veche_recorder::Error::NotFound));
    }
    Ok((recorder, summary))
}

fn gone() -> Error {
    Error::new(ErrorKind::RecordingNotFound, "the recording has no such file any more")
}

impl From<Summary> for Recording {
    fn from(summary: Summary) -> Self {
        let Summary { id, room, started_at, ended_at, end, duration_ms, files, bytes } = summary;
        Self {
            recording_id: id,
            room_id: room,
            started_at,
            ended_at,
            end,
            duration_ms,
            file_count: files,
            bytes,
        }
    }
}
