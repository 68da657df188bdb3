//! Errors as gRPC tells them.

use axum::response::Response;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use veche_doors::{Error, ErrorKind};

/// The metadata in which the `code` of an error stands.
const ERROR_CODE: &str = "veche-error-code";

/// An error as a status, with its `code` as metadata.
pub(super) fn status(error: Error) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert(ERROR_CODE, MetadataValue::from_static(error.kind.code()));
    Status::with_metadata(code(error.kind), error.message, metadata)
}

/// The whole answer to a call that is refused.
pub(super) fn refused(error: Error) -> Response {
    status(error).into_http()
}

/// What matters to clients of gRPC: whether to try again, with other credentials, or never.
fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::IdempotencyConflict => Code::AlreadyExists,
        ErrorKind::DoorDisabled | ErrorKind::FilesDisabled | ErrorKind::WebrtcDisabled => Code::Unimplemented,
        ErrorKind::TooManySubscriptions
        | ErrorKind::TooManyChannels
        | ErrorKind::TooManyConnections
        | ErrorKind::SlowConsumer => Code::ResourceExhausted,
        kind => match kind.status().as_u16() {
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 | 410 => Code::NotFound,
            408 => Code::DeadlineExceeded,
            409 | 412 | 423 => Code::FailedPrecondition,
            413 | 429 => Code::ResourceExhausted,
            416 => Code::OutOfRange,
            503 => Code::Unavailable,
            _ => Code::InvalidArgument,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_to_do_and_has_the_code_of_the_error() {
        let found = status(Error::new(ErrorKind::BadChannel, "не канал"));
        assert_eq!((found.code(), found.message()), (Code::InvalidArgument, "не канал"));
        assert_eq!(found.metadata().get(ERROR_CODE).unwrap(), "bad_channel");
        for (kind, expected) in [
            (ErrorKind::AuthenticationRequired, Code::Unauthenticated),
            (ErrorKind::Forbidden, Code::PermissionDenied),
            (ErrorKind::RecipientNotFound, Code::NotFound),
            (ErrorKind::RateLimited, Code::ResourceExhausted),
            (ErrorKind::IdempotencyConflict, Code::AlreadyExists),
            (ErrorKind::ServerStopping, Code::Unavailable),
            (ErrorKind::DoorDisabled, Code::Unimplemented),
        ] {
            assert_eq!(code(kind), expected, "{kind:?}");
        }
    }
}
