//! Bodies, paths and queries, whose rejections are this API's errors.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::arriving::TooSlow;
use crate::error::{Error, ErrorKind};

/// A JSON body.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        refuse_encoded(request.headers())?;
        let Json(body) = Json::from_request(request, state).await?;
        Ok(Self(body))
    }
}

/// Refuses compressed bodies: what they unfold to could be anything.
pub fn refuse_encoded(headers: &HeaderMap) -> Result<(), Error> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            let message = "send the body as it is, without `Content-Encoding`";
            Err(Error::new(ErrorKind::UnsupportedEncoding, message))
        }
        _ => Ok(()),
    }
}

/// What the path names.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Error))]
pub struct Path<T>(pub T);

/// What stands behind the `?`.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Error))]
pub struct Query<T>(pub T);

impl From<JsonRejection> for Error {
    fn from(rejection: JsonRejection) -> Self {
        if let Some(slow) = TooSlow::find(&rejection) {
            return slow.into();
        }
        let kind = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ErrorKind::MessageTooLarge,
            _ => ErrorKind::BadRequest,
        };
        Self::new(kind, rejection.body_text())
    }
}

impl From<PathRejection> for Error {
    fn from(rejection: PathRejection) -> Self {
        Self::new(ErrorKind::BadRequest, rejection.body_text())
    }
}

impl From<QueryRejection> for Error {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(ErrorKind::BadRequest, rejection.body_text())
    }
}
