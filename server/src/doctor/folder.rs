//! The data folder: whether it can be written to, and how much room there is.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};
use veche_doctor::Finding;

use super::user::User;

/// With less, the next upload or hour of messages fails.
const LEAST_BYTES: u64 = 100 << 20;

/// With less, it is time to see to it.
const FEW_BYTES: u64 = 1 << 30;

/// What is written to try it out.
static PROBE: [u8; 64 * 1024] = [7; 64 * 1024];

/// How many files in the folder are looked at: the database's come first.
const MAX_FILES: usize = 200;

/// Looks at the folder, or where there is none yet, at the one that it will be made in. `user` is the server's, where this process is
/// root and may do more.
pub(super) fn examine(data_dir: &Path, user: Option<&User>) -> Finding {
    const CHECK: &str = "disk";
    let folder = existing(data_dir);
    let shown = data_dir.display();
    let name = user.map_or("veche", |user| &user.name);
    let whose = user.map_or_else(String::new, |user| format!(" as the user {}", user.name));
    let what = format!("to write to http.data_dir = \"{shown}\"{whose}");
    let tried = match user {
        Some(user) => user.act(|| try_out(&folder, data_dir)).and_then(|tried| tried),
        None => try_out(&folder, data_dir),
    };
    if let Err(error) = tried {
        return Finding::failure(CHECK, what, error.to_string())
            .means("the server does not start, or keeps no messages, files and keys")
            .mend(format!(
                "make room on that disk, or let the server's user write there (chown -R {name} \"{shown}\"); or name another \
                 folder: [http] data_dir = \"/var/lib/veche\""
            ));
    }
    let free = statvfs(&folder).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    let Ok(free) = free else { return Finding::fine(CHECK, what, "it can be written to") };
    let got = format!("{} MiB are free", free >> 20);
    let finding = match free {
        0..LEAST_BYTES => Finding::failure(CHECK, what, got),
        LEAST_BYTES..FEW_BYTES => Finding::warning(CHECK, what, got),
        _ => return Finding::fine(CHECK, what, got),
    };
    finding
        .means("when the disk is full, messages of persistent channels and files are refused")
        .mend("make room, or keep less: files.max_total_bytes, storage.kept_total_bytes, storage.events")
}

/// The folder, or the nearest one above it that is there.
fn existing(folder: &Path) -> PathBuf {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    absolute.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// Writes to the folder, and looks whether what is in it may be written: what once another user's server has made may not.
fn try_out(folder: &Path, data_dir: &Path) -> io::Result<()> {
    write(folder)?;
    let Ok(entries) = fs::read_dir(data_dir) else { return Ok(()) };
    for entry in entries.flatten().take(MAX_FILES) {
        let needed =
            if entry.path().is_dir() { Access::WRITE_OK | Access::EXEC_OK } else { Access::WRITE_OK };
        access(entry.path(), needed)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", entry.path().display())))?;
    }
    Ok(())
}

fn write(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".veche-doctor-{}", std::process::id()));
    let written = || {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        file.write_all(&PROBE)?;
        file.sync_all()
    };
    let result = written();
    let _ = fs::remove_file(&path);
    result
}
