//! The folder of contents that are on their way in, and the notes by which a restart knows what to do with them.
//!
//! An upload `x` has its content in `x`, a compressed form of it in `x.zst`, and its note in `x.json`. A content without a
//! note is of an upload that ended with the process: it goes at the next start. A note tells that an upload can be resumed,
//! or that its content may have reached the store while the catalogue does not know it yet.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::upload::NewFile;

/// The name of the folder, beside the objects.
pub(crate) const INCOMING: &str = "incoming";

/// What is noted of an upload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The id of the file that it becomes.
    pub(crate) id: String,
    /// When it began, in milliseconds since 1970.
    pub(crate) created: i64,
    /// Whether it may go on after a restart.
    pub(crate) resumable: bool,
    /// Whether new subscribers of the channel are told of it too.
    pub(crate) persistent: bool,
    /// What it is.
    pub(crate) file: NewFile,
}

/// An upload that the last process left.
pub(crate) struct Left {
    pub(crate) id: String,
    pub(crate) note: Option<Note>,
    /// How many bytes of it came; `None`: its content is not here (any more).
    pub(crate) received: Option<u64>,
}

/// The folder.
pub(crate) struct Incoming {
    folder: PathBuf,
}

impl Incoming {
    /// Makes the folder in `parent` if need be.
    pub(crate) fn open(parent: &Path) -> io::Result<Self> {
        let folder = parent.join(INCOMING);
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// Where the content of an upload is.
    pub(crate) fn content(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    /// Where its compressed form is.
    pub(crate) fn compressed(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.zst"))
    }

    /// Writes a note; it is whole or not there.
    pub(crate) async fn note(&self, note: &Note) -> io::Result<()> {
        let path = self.folder.join(format!("{}.json", note.id));
        let new = self.folder.join(format!("{}.new", note.id));
        let text = serde_json::to_vec(note).map_err(io::Error::other)?;
        tokio::fs::write(&new, text).await?;
        tokio::fs::rename(new, path).await
    }

    /// Removes all of an upload; what is not there need not be removed.
    pub(crate) fn remove(&self, id: &str) {
        for ending in ["", ".zst", ".new", ".json"] {
            let path = self.folder.join(format!("{id}{ending}"));
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "an upload could not be removed");
                }
                _ => {}
            }
        }
    }

    /// What the last process left.
    pub(crate) fn left(&self) -> io::Result<Vec<Left>> {
        let mut ids = BTreeSet::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            ids.insert(name.split('.').next().unwrap_or_default().to_owned());
        }
        Ok(ids.into_iter().map(|id| self.left_of(id)).collect())
    }

    fn left_of(&self, id: String) -> Left {
        let text = std::fs::read(self.folder.join(format!("{id}.json")));
        let note = text.ok().and_then(|text| serde_json::from_slice(&text).ok());
        let received = std::fs::metadata(self.content(&id)).ok().map(|metadata| metadata.len());
        Left { id, note, received }
    }
}
