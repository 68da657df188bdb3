//! Why somebody is not let in, or may not do something.

use veche_doors::{Error, ErrorKind};

/// What is wrong with a credential, or with what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessErrorKind {
    /// A credential is needed and none was shown.
    Missing,
    /// The token is not one that this server accepts.
    Invalid,
    /// The token was good once.
    Expired,
    /// The API key is unknown, expired or revoked.
    InvalidKey,
    /// The credential is good, but does not grant this.
    Forbidden,
    /// What is needed to check the credential cannot be reached now.
    Unavailable,
}

/// Why somebody is not let in, or may not do something; the message says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AccessError {
    /// What is wrong.
    pub kind: AccessErrorKind,
    /// For people: what is wrong and what would be right.
    pub message: String,
}

impl AccessErrorKind {
    /// The kind that doors tell.
    pub fn door_kind(self) -> ErrorKind {
        match self {
            Self::Missing => ErrorKind::AuthenticationRequired,
            Self::Invalid => ErrorKind::InvalidToken,
            Self::Expired => ErrorKind::TokenExpired,
            Self::InvalidKey => ErrorKind::InvalidApiKey,
            Self::Forbidden => ErrorKind::Forbidden,
            Self::Unavailable => ErrorKind::AuthenticationUnavailable,
        }
    }

    /// The `code` for programs.
    pub fn code(self) -> &'static str {
        self.door_kind().code()
    }

    /// The status of an HTTP answer.
    pub fn status(self) -> http::StatusCode {
        self.door_kind().status()
    }

    /// The code with which a WebSocket is closed.
    pub fn close_code(self) -> u16 {
        self.door_kind().close_code()
    }
}

impl AccessError {
    /// An error of this kind.
    pub fn new(kind: AccessErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A token that is not accepted.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(AccessErrorKind::Invalid, message)
    }
}

impl From<AccessError> for Error {
    fn from(error: AccessError) -> Self {
        Self::new(error.kind.door_kind(), error.message)
    }
}
