//! Why storage did not do something.

use sqlx::error::ErrorKind;

use crate::files::QuotaKind;

/// Why storage did not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The disk does not keep up: too much waits for it already. Try again later.
    #[error("storage does not keep up with what is to be kept; try again in a moment")]
    Busy,
    /// Storage was closed; the server is stopping.
    #[error("storage is closed, because the server is stopping")]
    Closed,
    /// A message is larger than all that is kept of a channel.
    #[error("a kept message may have {limit} bytes at most")]
    TooLarge {
        /// The most bytes that are kept of a channel.
        limit: u64,
    },
    /// The address names no database.
    #[error("{0}")]
    BadUrl(String),
    /// Another server works with this database.
    #[error(
        "{0} is used by another running server; stop that one, or name another database with storage.url"
    )]
    InUse(String),
    /// The database was written by a newer version of this program.
    #[error(
        "the database has version {database}, and this program knows versions up to {known}; start a newer one, or name \
         another database with storage.url"
    )]
    Newer {
        /// The version of the database.
        database: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// A file would go beyond what may be stored.
    #[error("the file goes beyond what may be stored {0}")]
    QuotaExceeded(QuotaKind),
    /// The database or the disk failed: full, gone, unreachable.
    #[error("storage failed: {0}")]
    Failed(String),
}

impl StorageError {
    /// A name for programs; it stays the same when the text changes.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Busy => "storage_busy",
            Self::Closed => "storage_closed",
            Self::TooLarge { .. } => "message_too_large",
            Self::BadUrl(_) => "storage_url",
            Self::InUse(_) => "storage_in_use",
            Self::Newer { .. } => "storage_newer",
            Self::QuotaExceeded(_) => "quota_exceeded",
            Self::Failed(_) => "storage_failed",
        }
    }
}

impl From<sqlx::Error> for StorageError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolClosed => Self::Closed,
            sqlx::Error::PoolTimedOut => Self::Failed("no connection to the database in time".to_owned()),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// Whether an error is one row's fault, so that others written with it would do without it.
pub(crate) fn is_of_one_row(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    // PostgreSQL's classes 22 and 54: text that it cannot store, values too long for it.
    let refused_value = error
        .code()
        .is_some_and(|code| code.len() == 5 && (code.starts_with("22") || code.starts_with("54")));
    refused_value || !matches!(error.kind(), ErrorKind::Other)
}
