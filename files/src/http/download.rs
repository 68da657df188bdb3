//! Downloads: whole or a part, to who may subscribe to the channel, or who has a link with a signature.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;
use veche_access::{Action, Identity, Resource};
use veche_doors::answers::Refusals;
use veche_doors::extract::{Path, Query};
use veche_doors::{Error, ErrorAnswer, ErrorKind};
use veche_storage::FileRow;

use super::{Door, refused, text};
use crate::content_type::{essence, is_safe_to_show};
use crate::file::{Details, shown_name};
use crate::name;
use veche_doors::range::{Wanted, wanted};

/// A page that a file pretends to be may load, run and send nothing.
const POLICY: &str =
    "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox";
/// The viewers of browsers for PDF do not work in a sandbox; they run no scripts of the page.
const PDF_POLICY: &str = "default-src 'none'; object-src 'self'; style-src 'unsafe-inline'";

/// How a file is asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Link {
    /// With `signature`: until when the link works, in seconds since 1970.
    expires: Option<i64>,
    /// The signature of the link.
    signature: Option<String>,
    /// `true`: to be saved, even where a browser could show it.
    #[serde(default)]
    download: bool,
}

/// How an answer's body is made.
struct Representation {
    etag: String,
    /// Whether it goes out compressed, as it is stored.
    is_packed: bool,
    size: u64,
}

/// Downloads a file, or with `Range` one part of it.
#[utoipa::path(
    get,
    path = "/realtime/files/{file_id}",
    operation_id = "downloadFile",
    params(("file_id" = String, Path, description = "The file"), Link),
    responses(
        (status = 200, description = "The file", content_type = "*/*"),
        (status = 206, description = "A part of it", content_type = "*/*"),
        (status = 304, description = "It is what `If-None-Match` names"),
        Refusals,
        (status = 401, description = "Neither credentials nor a signature", body = ErrorAnswer),
        (status = 403, description = "Not allowed, or a link whose time is over", body = ErrorAnswer),
        (status = 404, description = "No such file", body = ErrorAnswer),
        (status = 416, description = "No such part", body = ErrorAnswer),
        (status = 503, description = "The storage does not work, or files are switched off", body = ErrorAnswer),
    )
)]
pub(crate) async fn download(
    State(door): State<Door>,
    Path(file_id): Path<String>,
    Query(link): Query<Link>,
    request: Request,
) -> Result<Response, Error> {
    let (request, _) = request.into_parts();
    let is_signed = door.is_signed(&file_id, &link);
    let identity = request.extensions.get::<Identity>();
    if !is_signed && identity.is_none() {
        return Err(unknown_client(&link));
    }
    let row = door.files.row(&file_id).await?;
    if let (false, Some(identity)) = (is_signed, identity) {
        may_read(identity, &row)?;
    }
    let headers = &request.headers;
    let representation = representation(&row, headers);
    let mut response = Response::new(Body::empty());
    describe(&mut response, &row, &representation, link.download);
    if has_already(headers, &representation.etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let part = match part(headers, &representation) {
        Wanted::Whole => 0..representation.size,
        Wanted::Part(part) => {
            let range = format!("bytes {}-{}/{}", part.start, part.end - 1, representation.size);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            set(&mut response, header::CONTENT_RANGE, &range);
            part
        }
        Wanted::Nothing => return Err(beyond(representation.size)),
    };
    set(&mut response, header::CONTENT_LENGTH, &(part.end - part.start).to_string());
    if request.method != Method::HEAD {
        let content = if representation.is_packed {
            door.files.read_stored(&row, part).await?
        } else {
            door.files.read(&row, part).await?
        };
        *response.body_mut() = Body::from_stream(content);
    }
    Ok(response)
}

impl Door {
    fn is_signed(&self, file_id: &str, link: &Link) -> bool {
        let (Some(expires), Some(signature)) = (link.expires, &link.signature) else { return false };
        self.files.links.is_valid(file_id, expires, signature, self.files.now())
    }
}

/// What who shows nothing that counts is told.
fn unknown_client(link: &Link) -> Error {
    if link.signature.is_some() {
        let message = "this link is wrong or its time is over; ask for the list of files for a new one";
        return Error::new(ErrorKind::Forbidden, message);
    }
    let message =
        "show a token (`Authorization: Bearer`) or an API key (`X-API-Key`), or use a link with a signature";
    Error::new(ErrorKind::AuthenticationRequired, message)
}

/// Its owner may, and who may subscribe to its channel. A file of no channel is reached by its link.
fn may_read(identity: &Identity, row: &FileRow) -> Result<(), Error> {
    if row.owner.is_some() && row.owner.as_deref() == identity.user_id.as_deref() {
        return Ok(());
    }
    let allowed = match &row.channel {
        Some(channel) => identity.allows(Action::Subscribe, Resource::Channel(channel)),
        None => identity.allows(Action::Administer, Resource::Server),
    };
    allowed.map_err(refused)
}

/// Compressed where it is stored so, the client understands it, and no part is asked for.
fn representation(row: &FileRow, headers: &HeaderMap) -> Representation {
    let details = Details::of(row);
    let is_packed = details.zstd && !headers.contains_key(header::RANGE) && accepts_zstd(headers);
    if is_packed {
        Representation { etag: format!("\"{}-zstd\"", row.sha256), is_packed, size: details.stored }
    } else {
        Representation { etag: format!("\"{}\"", row.sha256), is_packed, size: row.size }
    }
}

fn describe(response: &mut Response, row: &FileRow, representation: &Representation, must_save: bool) {
    let is_pdf = essence(&row.content_type) == "application/pdf";
    let is_shown = is_safe_to_show(&row.content_type) && !must_save;
    let is_bare_text = row.content_type.starts_with("text/") && !row.content_type.contains(';');
    let charset = if is_bare_text { "; charset=utf-8" } else { "" };
    set(response, header::CONTENT_TYPE, &format!("{}{charset}", row.content_type));
    set(response, header::CONTENT_DISPOSITION, &name::disposition(is_shown, &shown_name(row)));
    set(response, header::CONTENT_SECURITY_POLICY, if is_pdf { PDF_POLICY } else { POLICY });
    set(response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(response, header::REFERRER_POLICY, "no-referrer");
    // Kept by the client only, and asked for again each time: a file can be deleted and a grant can end.
    set(response, header::CACHE_CONTROL, "private, no-cache");
    set(response, header::ACCEPT_RANGES, "bytes");
    set(response, header::ETAG, &representation.etag);
    if Details::of(row).zstd {
        set(response, header::VARY, "Accept-Encoding");
    }
    if representation.is_packed {
        set(response, header::CONTENT_ENCODING, "zstd");
    }
}

/// Whether the client has this very content (RFC 9110, section 13.1.2).
fn has_already(headers: &HeaderMap, etag: &str) -> bool {
    let Some(list) = text(headers, header::IF_NONE_MATCH) else { return false };
    list.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// The part that is asked for. `If-Range` with another tag, or with a time, asks for all: the file may not be the same.
fn part(headers: &HeaderMap, representation: &Representation) -> Wanted {
    let is_same = text(headers, header::IF_RANGE).is_none_or(|tag| tag.trim() == representation.etag);
    match text(headers, header::RANGE) {
        Some(range) if is_same => wanted(range, representation.size),
        _ => Wanted::Whole,
    }
}

/// Whether `Accept-Encoding` names zstd, and not with the weight zero.
fn accepts_zstd(headers: &HeaderMap) -> bool {
    let list = text(headers, header::ACCEPT_ENCODING).unwrap_or_default();
    list.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
        name.trim().eq_ignore_ascii_case("zstd") && weight.is_ok_and(|weight| weight > 0.0)
    })
}

fn beyond(size: u64) -> Error {
    Error::new(
        ErrorKind::RangeNotSatisfiable,
        format!("the file has {size} bytes; ask for a part that is there"),
    )
}

/// Sets a header; values that cannot stand in one are left out.
fn set(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_are_read_with_their_weights() {
        let accepts = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
            accepts_zstd(&headers)
        };
        assert!(accepts("gzip, deflate, br, zstd") && accepts("zstd;q=0.5") && accepts("ZSTD"));
        assert!(!accepts("gzip") && !accepts("zstd;q=0") && !accepts("zstd; q=0.0") && !accepts("zstdx"));
    }
}
