//! Makes whole what a crash, or a full disk, has left open.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use veche_recorder_core::container::look;
use veche_recorder_core::manifest::{End, Manifest};
use veche_recorder_core::session::rfc3339;

use crate::disk::{MANIFEST, save, tidy};

/// Ends a file that was left open. Returns how long it is then, in milliseconds; `None` when it was ended already.
pub(crate) fn mend(path: &Path) -> io::Result<Option<u64>> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let Some(mend) = look(&mut file)? else { return Ok(None) };
    file.set_len(mend.keep)?;
    file.write_all_at(&mend.append, mend.keep)?;
    file.sync_data()?;
    for patch in &mend.patches {
        file.write_all_at(&patch.bytes, patch.position)?;
    }
    file.sync_all()?;
    Ok(Some(mend.duration_ms))
}

/// Reads the manifest of a folder. One of a recording that was not ended is ended first, with all its files. `None` where there is
/// no manifest.
pub(crate) fn restore(folder: &Path) -> io::Result<Option<Manifest>> {
    let bytes = match fs::read(folder.join(MANIFEST)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut manifest: Manifest = serde_json::from_slice(&bytes)?;
    if manifest.ended_at.is_some() {
        return Ok(Some(manifest));
    }
    let mut written = fs::metadata(folder.join(MANIFEST))?.modified()?;
    let mut mended = Vec::new();
    for mut file in std::mem::take(&mut manifest.files) {
        let path = folder.join(&file.name);
        if !file.has_plain_name() || !path.is_file() {
            continue;
        }
        written = written.max(fs::metadata(&path)?.modified()?);
        if let Some(duration) = mend(&path)? {
            file.mended = true;
            file.duration_ms = duration;
        }
        file.bytes = fs::metadata(&path)?.len();
        // One of which not even the beginning was written plays nothing.
        if file.duration_ms == 0 && file.bytes == 0 {
            fs::remove_file(&path)?;
            continue;
        }
        mended.push(file);
    }
    manifest.files = mended;
    let through = manifest.files.iter().map(veche_recorder_core::manifest::File::end_ms).max().unwrap_or(0);
    manifest.duration_ms = manifest.duration_ms.max(through);
    // Nobody knows better: the last file was written to until then.
    manifest.ended_at = Some(rfc3339(written));
    manifest.end = Some(End::ServerStopped);
    save(folder, &manifest)?;
    tidy(folder);
    tracing::info!(recording = manifest.id, files = manifest.files.len(), "a recording was mended");
    Ok(Some(manifest))
}
