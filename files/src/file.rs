//! What is known of a file: to clients, and to the catalogue.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use veche_storage::FileRow;

/// A file, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileInfo {
    /// Its id: `file_` and 32 hexadecimal digits.
    pub file_id: String,
    /// Its name; for people only.
    pub filename: String,
    /// Its type, checked.
    pub content_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// The SHA-256 of its content, in hexadecimal.
    pub sha256: String,
    /// Where it is: path and query, with a signature that opens it for a while without any token.
    pub url: String,
    /// When it goes (RFC 3339).
    #[schema(nullable)]
    pub expires_at: Option<String>,
    /// When it came (RFC 3339).
    pub created_at: String,
    /// Whose it is.
    #[schema(nullable)]
    pub user_id: Option<String>,
    /// The channel that it was uploaded for.
    #[schema(nullable)]
    pub channel: Option<String>,
}

/// Some of the files of a channel, the newest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FileList {
    /// The files.
    pub files: Vec<FileInfo>,
    /// What `before` is for those that follow; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A small binary that may travel within a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its type.
    pub content_type: String,
    /// Its name, if it has one.
    pub filename: Option<String>,
}

/// What the catalogue keeps of how a content is stored.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Details {
    /// Whether it is compressed.
    pub(crate) zstd: bool,
    /// What it takes in the store, in bytes.
    pub(crate) stored: u64,
}

impl Details {
    pub(crate) fn to_text(self) -> String {
        serde_json::to_string(&self).expect("plain fields become JSON")
    }

    pub(crate) fn of(row: &FileRow) -> Self {
        serde_json::from_str(&row.details).unwrap_or(Self { zstd: false, stored: row.size })
    }
}

/// Its name, or one made of its id.
pub(crate) fn shown_name(row: &FileRow) -> String {
    if row.name.is_empty() { row.id.clone() } else { row.name.clone() }
}
