//! The folder of one recording: its files as they grow, and its manifest.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use veche_recorder_core::container::Patch;
use veche_recorder_core::manifest::Manifest;
use veche_recorder_core::session::FileId;

use crate::mend::mend;

/// The name of a manifest in its folder.
pub(crate) const MANIFEST: &str = "manifest.json";

/// A file that only takes room, so that the rest can be written when there is none left.
const RESERVE: &str = ".reserve";

/// As much as the ends of some files, and a long manifest, take.
const RESERVE_BYTES: usize = 1 << 20;

/// The folder of a recording that runs.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
    open: BTreeMap<FileId, Open>,
}

/// A file that grows.
#[derive(Debug)]
struct Open {
    file: File,
    path: PathBuf,
    /// What of it was written whole.
    len: u64,
    /// Not all of that is on the disk yet.
    dirty: bool,
    /// Something could not be written: nothing that follows fits.
    broken: bool,
}

impl Disk {
    /// Makes the folder of a new recording.
    pub(crate) fn create(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir(&folder)?;
        let mut reserve = File::create(folder.join(RESERVE))?;
        reserve.write_all(&vec![0; RESERVE_BYTES])?;
        Ok(Self { folder, open: BTreeMap::new() })
    }

    /// Makes a file that begins so.
    pub(crate) fn open(&mut self, id: FileId, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.folder.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let open = Open { file, path, len: 0, dirty: false, broken: false };
        self.open.insert(id, open);
        self.append(id, bytes)?;
        sync_folder(&self.folder)
    }

    /// Puts bytes behind what a file has: all of them, or none.
    pub(crate) fn append(&mut self, id: FileId, bytes: &[u8]) -> io::Result<()> {
        let Some(open) = self.open.get_mut(&id).filter(|open| !open.broken) else { return Ok(()) };
        if let Err(error) = open.file.write_all_at(bytes, open.len) {
            open.broken = true;
            open.file.set_len(open.len)?;
            return Err(error);
        }
        open.len += bytes.len() as u64;
        open.dirty = true;
        Ok(())
    }

    /// Ends a file. One of which something could not be written is ended where that was. Returns how large it is, and how long if
    /// that is not as was meant.
    pub(crate) fn close(
        &mut self,
        id: FileId,
        bytes: &[u8],
        patches: &[Patch],
    ) -> io::Result<Option<(u64, Option<u64>)>> {
        let end = self.append(id, bytes);
        let Some(open) = self.open.remove(&id) else { return Ok(None) };
        if open.broken {
            let duration = mend(&open.path)?;
            return Ok(Some((fs::metadata(&open.path)?.len(), duration)));
        }
        end?;
        open.file.sync_data()?;
        for patch in patches {
            open.file.write_all_at(&patch.bytes, patch.position)?;
        }
        open.file.sync_all()?;
        Ok(Some((open.len, None)))
    }

    /// Everything that was written is on the disk when this returns.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        for open in self.open.values_mut().filter(|open| open.dirty) {
            open.file.sync_data()?;
            open.dirty = false;
        }
        Ok(())
    }

    /// How much is free, in bytes.
    pub(crate) fn free(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.folder)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Makes room for what has to be written at the end.
    pub(crate) fn release_reserve(&self) {
        if let Err(error) = fs::remove_file(self.folder.join(RESERVE)) {
            tracing::debug!(%error, "there was no reserve");
        }
    }

    /// Writes the manifest, as a whole or not at all.
    pub(crate) fn save(&self, manifest: &Manifest) -> io::Result<()> {
        save(&self.folder, manifest)
    }
}

/// Writes a manifest into its folder, as a whole or not at all.
pub(crate) fn save(folder: &Path, manifest: &Manifest) -> io::Result<()> {
    let new = folder.join(".manifest.new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec_pretty(manifest)?)?;
    file.sync_all()?;
    fs::rename(&new, folder.join(MANIFEST))?;
    sync_folder(folder)
}

/// What is in a recording's folder besides its files goes.
pub(crate) fn tidy(folder: &Path) {
    for name in [RESERVE, ".manifest.new"] {
        let _ = fs::remove_file(folder.join(name));
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
