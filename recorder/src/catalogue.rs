//! All recordings that are kept: a folder each, with a manifest.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use veche_recorder_core::manifest::{End, Manifest};

use crate::disk::MANIFEST;
use crate::mend::restore;

/// What a list says of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its name.
    pub id: String,
    /// The room's name.
    pub room: String,
    /// When it began, in RFC 3339.
    pub started_at: String,
    /// When it ended; `None` while it runs.
    pub ended_at: Option<String>,
    /// Why it ended.
    pub end: Option<End>,
    /// How long it is.
    pub duration_ms: u64,
    /// How many files it has.
    pub files: usize,
    /// How large they are together.
    pub bytes: u64,
}

/// The recordings of a folder.
#[derive(Debug)]
pub(crate) struct Catalogue {
    folder: PathBuf,
    by_id: BTreeMap<String, Summary>,
}

impl Summary {
    /// What a list says of a recording with this manifest.
    pub(crate) fn of(manifest: &Manifest) -> Self {
        Self {
            id: manifest.id.clone(),
            room: manifest.room.clone(),
            started_at: manifest.started_at.clone(),
            ended_at: manifest.ended_at.clone(),
            end: manifest.end,
            duration_ms: manifest.duration_ms,
            files: manifest.files.len(),
            bytes: manifest.files.iter().map(|file| file.bytes).sum(),
        }
    }
}

impl Catalogue {
    /// Makes the folder where it is missing, and reads what is in it. What was left open is mended; what cannot be read is left
    /// alone, and told of.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut by_id = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if !path.is_dir() {
                continue;
            }
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            match restore(&path) {
                Ok(Some(manifest)) if manifest.id == name => {
                    by_id.insert(name, Summary::of(&manifest));
                }
                Ok(_) => tracing::warn!(folder = name, "not a recording: it has no manifest of its own"),
                Err(error) => tracing::error!(folder = name, %error, "a recording cannot be read"),
            }
        }
        Ok(Self { folder: folder.to_owned(), by_id })
    }

    /// The folder of a recording.
    pub(crate) fn folder(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    pub(crate) fn put(&mut self, summary: Summary) {
        self.by_id.insert(summary.id.clone(), summary);
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Summary> {
        self.by_id.get(id)
    }

    /// Those of a room, the newest first.
    pub(crate) fn of_room(&self, room: &str) -> Vec<Summary> {
        self.by_id.values().rev().filter(|summary| summary.room == room).cloned().collect()
    }

    /// The manifest of a recording; `None` when there is no such.
    pub(crate) fn manifest(&self, id: &str) -> io::Result<Option<Manifest>> {
        if !self.by_id.contains_key(id) {
            return Ok(None);
        }
        let bytes = fs::read(self.folder(id).join(MANIFEST))?;
        Ok(Some(serde_json::from_slice(&bytes)?))
    }

    /// Deletes a recording with its files. The manifest goes first: what is left without is none.
    pub(crate) fn delete(&mut self, id: &str) -> io::Result<()> {
        if self.by_id.remove(id).is_some() {
            let folder = self.folder(id);
            match fs::remove_file(folder.join(MANIFEST)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => fs::remove_dir_all(folder)?,
            }
        }
        Ok(())
    }

    /// Those that ended so long ago.
    pub(crate) fn older_than(&self, age: Duration, now: SystemTime) -> Vec<String> {
        let ended = |id: &str| fs::metadata(self.folder(id).join(MANIFEST)).and_then(|meta| meta.modified());
        let is_old = |summary: &&Summary| {
            let at = ended(&summary.id).ok().filter(|_| summary.ended_at.is_some());
            at.and_then(|at| now.duration_since(at).ok()).is_some_and(|since| since >= age)
        };
        self.by_id.values().filter(is_old).map(|summary| summary.id.clone()).collect()
    }
}
