//! Uploads in several requests, by the tus protocol 1.0 with its extensions creation, creation-with-upload, expiration and
//! termination (<https://tus.io/protocols/resumable-upload>).

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;
use veche_access::Identity;
use veche_doors::answers::{BodyRefusals, Refusals};
use veche_doors::extract::{Path, refuse_encoded};
use veche_doors::{Error, ErrorAnswer, ErrorKind};

use super::body::Arriving;
use super::form::flag;
use super::{Door, counted_as, identity};
use crate::resumable::{Held, unknown};
use crate::upload::NewFile;

const VERSION: &str = "1.0.0";
const EXTENSIONS: &str = "creation,creation-with-upload,expiration,termination";
const ADDRESS: &str = "/realtime/files/uploads";
/// The content type of pieces.
const PIECE: &str = "application/offset+octet-stream";
/// The longest `Upload-Metadata`, in bytes.
const MAX_METADATA_BYTES: usize = 4096;

const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const TUS_VERSION: HeaderName = HeaderName::from_static("tus-version");
const TUS_EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
const TUS_MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
const METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");

/// What a client says of a file at its creation.
#[derive(Debug, Default, PartialEq, Eq)]
struct Metadata {
    filename: Option<String>,
    content_type: Option<String>,
    channel: Option<String>,
    persistent: bool,
}

/// Says how uploads in several requests work here.
#[utoipa::path(
    options,
    path = "/realtime/files/uploads",
    operation_id = "describeUploads",
    responses(
        (status = 204, description = "Versions, extensions and the largest size, in headers of tus 1.0"),
        Refusals,
    )
)]
pub(crate) async fn describe(State(door): State<Door>) -> Response {
    let headers = [
        (TUS_VERSION, VERSION.to_owned()),
        (TUS_EXTENSION, EXTENSIONS.to_owned()),
        (TUS_MAX_SIZE, door.files.max_file_bytes().to_string()),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// Begins an upload in several requests. `Upload-Metadata` may name `filename`, `filetype`, `channel` and `persistent`.
#[utoipa::path(
    post,
    path = "/realtime/files/uploads",
    operation_id = "createUpload",
    params(
        ("Tus-Resumable" = String, Header, description = "`1.0.0`", pattern = r"^1\.0\.0$"),
        ("Upload-Length" = u64, Header, description = "The size of the file in bytes"),
        ("Upload-Metadata" = Option<String>, Header, description = "Keys and values in base64: `filename YS5wbmc=,channel Y2hhdA==`"),
    ),
    responses(
        (status = 201, description = "Begun; `Location` is where the pieces go"),
        Refusals,
        (status = 412, description = "Another version of tus", body = ErrorAnswer),
        (status = 413, description = "Too large, or beyond a quota", body = ErrorAnswer),
        (status = 415, description = "A type that is not allowed or not true", body = ErrorAnswer),
        (status = 503, description = "The storage does not work, or files are switched off", body = ErrorAnswer),
    )
)]
pub(crate) async fn create(State(door): State<Door>, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let identity = identity(&parts.extensions)?;
    check_version(&parts.headers)?;
    refuse_encoded(&parts.headers)?;
    let message = "Upload-Length: the size of the file in bytes; it must be known at the beginning";
    let size = number(&parts.headers, &UPLOAD_LENGTH, message)?;
    let metadata = Metadata::read(&parts.headers)?;
    door.authorise_upload(&identity, metadata.channel.as_deref())?;
    let (user_id, by) = counted_as(&identity, &parts.extensions);
    let new = NewFile {
        user_id,
        by,
        channel: metadata.channel,
        filename: metadata.filename,
        content_type: metadata.content_type,
        size: Some(size),
    };
    let upload = door.files.begin(new).await?;
    let location = format!("{ADDRESS}/{}", upload.file_id());
    let held = door.files.make_resumable(upload, metadata.persistent).await?;
    let body = if has_piece(&parts.headers) { body } else { Body::empty() };
    let received = door
        .continued(held, identity, Arriving::new(body, &parts.headers, door.files.max_file_bytes()))
        .await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], received).into_response())
}

/// Says how much of an upload has come.
#[utoipa::path(
    head,
    path = "/realtime/files/uploads/{upload_id}",
    operation_id = "getUploadOffset",
    params(
        ("upload_id" = String, Path, description = "The upload; the id of its file too"),
        ("Tus-Resumable" = String, Header, description = "`1.0.0`", pattern = r"^1\.0\.0$"),
    ),
    responses(
        (status = 200, description = "`Upload-Offset` says it, `Upload-Length` what there will be"),
        (status = 400, description = "Headers that cannot be read"),
        (status = 401, description = "Credentials are missing or wrong"),
        (status = 403, description = "Not from pages of this origin"),
        (status = 404, description = "No such upload"),
        (status = 412, description = "Another version of tus"),
        (status = 423, description = "Another request works on it"),
        (status = 429, description = "More requests than allowed"),
        (status = 503, description = "The storage does not work, or files are switched off"),
    )
)]
pub(crate) async fn offset(
    State(door): State<Door>,
    Path(upload_id): Path<String>,
    request: Request,
) -> Result<Response, Error> {
    let (parts, _) = request.into_parts();
    door.tell_offset(&upload_id, &parts).await
}

/// Takes the next piece of an upload; the last one makes it a file, which is announced.
#[utoipa::path(
    patch,
    path = "/realtime/files/uploads/{upload_id}",
    operation_id = "appendToUpload",
    params(
        ("upload_id" = String, Path, description = "The upload; the id of its file too"),
        ("Tus-Resumable" = String, Header, description = "`1.0.0`", pattern = r"^1\.0\.0$"),
        ("Upload-Offset" = u64, Header, description = "Where the piece begins: what `HEAD` tells"),
    ),
    request_body(content = Vec<u8>, content_type = "application/offset+octet-stream"),
    responses(
        (status = 204, description = "Taken; `Upload-Offset` says how much has come"),
        BodyRefusals,
        (status = 400, description = "Headers that are missing or wrong, or too many bytes", body = ErrorAnswer),
        (status = 403, description = "The channel does not take it (any more)", body = ErrorAnswer),
        (status = 404, description = "No such upload", body = ErrorAnswer),
        (status = 408, description = "The piece did not come in time", body = ErrorAnswer),
        (status = 409, description = "The upload is not at this offset", body = ErrorAnswer),
        (status = 412, description = "Another version of tus", body = ErrorAnswer),
        (status = 413, description = "Beyond a quota", body = ErrorAnswer),
        (status = 415, description = "Another content type, or a file whose type is not allowed or not true", body = ErrorAnswer),
        (status = 423, description = "Another request works on it", body = ErrorAnswer),
        (status = 503, description = "The storage does not work, or files are switched off", body = ErrorAnswer),
    )
)]
pub(crate) async fn append(
    State(door): State<Door>,
    Path(upload_id): Path<String>,
    request: Request,
) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    door.take_piece(&upload_id, &parts, body).await
}

/// Gives an upload up.
#[utoipa::path(
    delete,
    path = "/realtime/files/uploads/{upload_id}",
    operation_id = "deleteUpload",
    params(
        ("upload_id" = String, Path, description = "The upload"),
        ("Tus-Resumable" = String, Header, description = "`1.0.0`", pattern = r"^1\.0\.0$"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        Refusals,
        (status = 404, description = "No such upload", body = ErrorAnswer),
        (status = 412, description = "Another version of tus", body = ErrorAnswer),
        (status = 423, description = "Another request works on it", body = ErrorAnswer),
    )
)]
pub(crate) async fn terminate(
    State(door): State<Door>,
    Path(upload_id): Path<String>,
    request: Request,
) -> Result<StatusCode, Error> {
    let (parts, _) = request.into_parts();
    door.give_up(&upload_id, &parts).await
}

/// `PATCH` or `DELETE` for clients that cannot send them: `X-HTTP-Method-Override` names the method.
#[utoipa::path(
    post,
    path = "/realtime/files/uploads/{upload_id}",
    operation_id = "overrideUploadMethod",
    params(
        ("upload_id" = String, Path, description = "The upload"),
        ("Tus-Resumable" = String, Header, description = "`1.0.0`", pattern = r"^1\.0\.0$"),
        ("X-HTTP-Method-Override" = String, Header, description = "`PATCH`, `DELETE` or `HEAD`", pattern = "^(PATCH|DELETE|HEAD)$"),
    ),
    responses(
        (status = 200, description = "As with `HEAD`"),
        (status = 204, description = "As with `PATCH` or `DELETE`"),
        Refusals,
        (status = 404, description = "No such upload", body = ErrorAnswer),
        (status = 408, description = "The piece did not come in time", body = ErrorAnswer),
        (status = 409, description = "The upload is not at this offset", body = ErrorAnswer),
        (status = 412, description = "Another version of tus", body = ErrorAnswer),
        (status = 413, description = "Beyond a quota", body = ErrorAnswer),
        (status = 415, description = "Another content type", body = ErrorAnswer),
        (status = 423, description = "Another request works on it", body = ErrorAnswer),
    )
)]
pub(crate) async fn overridden(
    State(door): State<Door>,
    Path(upload_id): Path<String>,
    request: Request,
) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    match parts.headers.get(METHOD_OVERRIDE).map(HeaderValue::as_bytes) {
        Some(b"PATCH") => door.take_piece(&upload_id, &parts, body).await,
        Some(b"DELETE") => Ok(door.give_up(&upload_id, &parts).await?.into_response()),
        Some(b"HEAD") => door.tell_offset(&upload_id, &parts).await,
        _ => Err(bad("PATCH takes pieces; X-HTTP-Method-Override: `PATCH`, `DELETE` or `HEAD`")),
    }
}

/// Every answer names the version.
pub(crate) async fn mark(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(TUS_RESUMABLE, HeaderValue::from_static(VERSION));
    headers.insert(TUS_VERSION, HeaderValue::from_static(VERSION));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What the headers of an answer say of an upload.
type Progress = [(HeaderName, String); 2];

impl Door {
    async fn tell_offset(&self, upload_id: &str, parts: &Parts) -> Result<Response, Error> {
        let identity = identity(&parts.extensions)?;
        check_version(&parts.headers)?;
        let held = match self.held(upload_id, &identity).await {
            Ok(held) => held,
            Err(error) if error.kind == ErrorKind::UploadNotFound => {
                return self.tell_finished(upload_id, &identity).await;
            }
            Err(error) => return Err(error),
        };
        let size = held.state.upload.new_file().size.unwrap_or_default();
        // A client that finds everything there sends no more: an end that failed is tried again here.
        let progress =
            self.continued(held, identity, Arriving::new(Body::empty(), &parts.headers, 0)).await?;
        Ok((StatusCode::OK, [(UPLOAD_LENGTH, size.to_string())], progress).into_response())
    }

    /// The answer to the last piece may be lost: then the client asks, and hears that all is there.
    async fn tell_finished(&self, upload_id: &str, identity: &Identity) -> Result<Response, Error> {
        let size = self.finished(upload_id, identity).await?.to_string();
        Ok((StatusCode::OK, [(UPLOAD_LENGTH, size.clone()), (UPLOAD_OFFSET, size)]).into_response())
    }

    /// Browsers send a request again by themselves when the line is cut before its answer. Whose last piece comes twice is
    /// told like who sends any other piece twice.
    async fn refuse_finished(&self, upload_id: &str, identity: &Identity) -> Error {
        match self.finished(upload_id, identity).await {
            Ok(size) => {
                let message = format!("the upload is at {size}, which is its end; the file is there");
                Error::new(ErrorKind::UploadOffsetMismatch, message)
            }
            Err(error) => error,
        }
    }

    /// The size of one's own file that was such an upload.
    async fn finished(&self, upload_id: &str, identity: &Identity) -> Result<u64, Error> {
        let row = self.files.row(upload_id).await.map_err(|error| match error.kind {
            ErrorKind::FileNotFound => unknown(),
            _ => error,
        })?;
        if row.owner.is_some() && row.owner.as_deref() != identity.user_id.as_deref() {
            return Err(unknown());
        }
        Ok(row.size)
    }

    async fn take_piece(&self, upload_id: &str, parts: &Parts, body: Body) -> Result<Response, Error> {
        let identity = identity(&parts.extensions)?;
        check_version(&parts.headers)?;
        refuse_encoded(&parts.headers)?;
        if !has_piece(&parts.headers) {
            return Err(Error::new(ErrorKind::UnsupportedEncoding, format!("Content-Type: `{PIECE}`")));
        }
        let message = "Upload-Offset: where the piece begins, as HEAD tells it";
        let offset = number(&parts.headers, &UPLOAD_OFFSET, message)?;
        let held = match self.held(upload_id, &identity).await {
            Ok(held) => held,
            Err(error) if error.kind == ErrorKind::UploadNotFound => {
                return Err(self.refuse_finished(upload_id, &identity).await);
            }
            Err(error) => return Err(error),
        };
        let upload = &held.state.upload;
        let received = upload.received();
        if offset != received {
            let message = format!("the upload is at {received}, not at {offset}; go on there");
            return Err(Error::new(ErrorKind::UploadOffsetMismatch, message));
        }
        let left = upload.new_file().size.unwrap_or_default() - received;
        let length =
            parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: u64| length > left) {
            return Err(bad(&format!("{left} bytes are missing; this piece is longer")));
        }
        let progress = self
            .continued(held, identity, Arriving::new(body, &parts.headers, self.files.max_file_bytes()))
            .await?;
        Ok((StatusCode::NO_CONTENT, progress).into_response())
    }

    async fn give_up(&self, upload_id: &str, parts: &Parts) -> Result<StatusCode, Error> {
        let identity = identity(&parts.extensions)?;
        check_version(&parts.headers)?;
        let mut held = self.held(upload_id, &identity).await?;
        self.files.forget(&mut held);
        Ok(StatusCode::NO_CONTENT)
    }

    /// Takes one's own upload in hand.
    async fn held(&self, upload_id: &str, identity: &Identity) -> Result<Held, Error> {
        self.files.is_enabled()?;
        let entry = self.files.resumable(upload_id).ok_or_else(unknown)?;
        if !entry.is_of(identity.user_id.as_deref()) {
            return Err(unknown());
        }
        self.files.hold(entry).await
    }

    /// Takes what comes, and ends the upload when that was all. In a task of its own: when the client goes away, what came is
    /// put in order for its return.
    async fn continued(&self, held: Held, identity: Identity, body: Arriving) -> Result<Progress, Error> {
        let door = self.clone();
        let task = tokio::spawn(async move { door.continue_with(held, identity, body).await });
        let stopped = |_| Error::new(ErrorKind::ServerStopping, "the server stops; go on later");
        task.await.map_err(stopped)?
    }

    async fn continue_with(
        &self,
        mut held: Held,
        identity: Identity,
        mut body: Arriving,
    ) -> Result<Progress, Error> {
        let received = self.receive(&mut held, &mut body).await;
        let paused = held.state.upload.pause().await;
        if let Err(error) = received.and(paused) {
            // Cut lines and slow ones come back; what is wrong with a file stays wrong.
            if !matches!(error.kind, ErrorKind::Idle | ErrorKind::BadRequest | ErrorKind::UploadBusy) {
                self.files.forget(&mut held);
            }
            drop(held);
            body.discard().await;
            return Err(error);
        }
        let upload = &held.state.upload;
        let progress = [
            (UPLOAD_OFFSET, upload.received().to_string()),
            (UPLOAD_EXPIRES, timestamp_http(self.files.upload_expiry(&held.entry))),
        ];
        if upload.new_file().size == Some(upload.received()) {
            self.end(held, identity).await?;
        }
        Ok(progress)
    }

    async fn receive(&self, held: &mut Held, body: &mut Arriving) -> Result<(), Error> {
        loop {
            let data = tokio::select! {
                data = body.next() => data?,
                () = held.entry.wanted() => {
                    let message = "another request goes on with this upload";
                    return Err(Error::new(ErrorKind::UploadBusy, message));
                }
            };
            let Some(data) = data else { return Ok(()) };
            let upload = &mut held.state.upload;
            let size = upload.new_file().size.unwrap_or_default();
            if upload.received() + data.len() as u64 > size {
                return Err(bad(&format!("the piece goes beyond the {size} bytes that were announced")));
            }
            upload.write(&data).await?;
            self.files.touch(&held.entry);
        }
    }

    /// Makes it a file and announces it.
    async fn end(&self, mut held: Held, identity: Identity) -> Result<(), Error> {
        // The channel may have been closed to them since the beginning.
        let channel = held.state.upload.new_file().channel.clone();
        let allowed = self.authorise_upload(&identity, channel.as_deref());
        let file = match allowed {
            Ok(()) => held.state.upload.complete().await,
            Err(error) => Err(error),
        };
        let persistent = held.state.persistent;
        match file {
            Ok(file) => {
                self.files.forget(&mut held);
                drop(held);
                self.announce(identity, file, persistent, None).await.map(drop)
            }
            Err(error) => {
                if error.kind != ErrorKind::StorageUnavailable || !held.state.upload.is_whole() {
                    self.files.forget(&mut held);
                }
                Err(error)
            }
        }
    }
}

impl Metadata {
    /// `Upload-Metadata`: pairs of a key and a value in base64, separated by commas.
    fn read(headers: &HeaderMap) -> Result<Self, Error> {
        let message =
            "Upload-Metadata: `filename YS5wbmc=,channel Y2hhdA==`, values in base64, 4096 bytes at most";
        let text = match headers.get(UPLOAD_METADATA) {
            None => return Ok(Self::default()),
            Some(value) if value.len() > MAX_METADATA_BYTES => return Err(bad(message)),
            Some(value) => value.to_str().map_err(|_| bad(message))?,
        };
        let mut metadata = Self::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once(' ').unwrap_or((pair, ""));
            let value = STANDARD.decode(value.trim()).map_err(|_| bad(message))?;
            let value = String::from_utf8(value).map_err(|_| bad(message))?;
            match key {
                "filename" | "name" => metadata.filename = Some(value),
                "filetype" | "type" | "content_type" => metadata.content_type = Some(value),
                "channel" => metadata.channel = Some(value).filter(|channel| !channel.is_empty()),
                "persistent" => metadata.persistent = flag(key, &value)?,
                // Clients tell more than is asked for.
                _ => {}
            }
        }
        Ok(metadata)
    }
}

fn check_version(headers: &HeaderMap) -> Result<(), Error> {
    let is_ours = headers.get(TUS_RESUMABLE).is_some_and(|version| version == VERSION);
    let message = format!("Tus-Resumable: `{VERSION}`");
    is_ours.then_some(()).ok_or_else(|| Error::new(ErrorKind::UploadVersion, message))
}

fn has_piece(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value == PIECE)
}

fn number(headers: &HeaderMap, name: &HeaderName, message: &str) -> Result<u64, Error> {
    let text = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if is_number { text.parse().ok() } else { None };
    number.ok_or_else(|| bad(message))
}

fn bad(message: &str) -> Error {
    Error::new(ErrorKind::BadRequest, message)
}

/// The form that HTTP has for times (RFC 9110, section 5.6.7).
fn timestamp_http(milliseconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(milliseconds.div_euclid(1000));
    let time = time.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (weekday, month) = (time.weekday().to_string(), time.month().to_string());
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        &weekday[..3],
        time.day(),
        &month[..3],
        time.year(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Metadata, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(UPLOAD_METADATA, text.parse().unwrap());
        Metadata::read(&headers)
    }

    #[test]
    fn metadata_is_read_as_clients_write_it() {
        let metadata = read(
            "filename YS5wbmc=,filetype aW1hZ2UvcG5n, channel Y2hhdA==,persistent dHJ1ZQ==,relativePath bnVsbA==,empty",
        );
        let expected = Metadata {
            filename: Some("a.png".into()),
            content_type: Some("image/png".into()),
            channel: Some("chat".into()),
            persistent: true,
        };
        assert_eq!(metadata.unwrap(), expected);
        assert_eq!(Metadata::read(&HeaderMap::new()).unwrap(), Metadata::default());
        assert!(
            read("filename !!!").is_err()
                && read("filename /w==").is_err()
                && read("persistent bWF5YmU=").is_err()
        );
        assert!(read(&format!("filename {}", "A".repeat(5000))).is_err());
    }

    #[test]
    fn times_are_written_as_http_wants_them() {
        assert_eq!(timestamp_http(1_795_294_800_120), "Sat, 21 Nov 2026 21:00:00 GMT");
    }
}
