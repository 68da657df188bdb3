//! One file of a recorded room: from the manifest and the files beside it to an MP4 or WebM that shows and sounds everybody.
//!
//! [`plan`] decides who is seen when and where; each stretch in which that stays the same is one run of ffmpeg (`filters`), whose
//! result is kept in a work folder, so that a run that was stopped goes on where it was.

#![forbid(unsafe_code)]

mod ffmpeg;
mod filters;
pub mod layout;
pub mod plan;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use veche_recorder_core::manifest::{Manifest, VERSION};

pub use ffmpeg::Tool;
use layout::Layout;
use plan::Plan;

/// What the file shall be like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Look {
    /// Who is where.
    pub layout: Layout,
    /// Width and height: even, 64 to 7,680.
    pub size: (u32, u32),
    /// Pictures in a second, 1 to 60.
    pub rate: u32,
    /// Names are shown.
    pub names: bool,
    /// The form of the file.
    pub form: Form,
}

/// The form of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Form {
    /// H264 and AAC, as most devices play it.
    Mp4,
    /// VP9 and Opus.
    Webm,
}

/// How far it is: of so many pictures so many are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Done, in this run or before.
    pub done: u64,
    /// All of them.
    pub all: u64,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifest is of a newer version.
    #[error("the manifest has version {0}, and this program knows {VERSION}: take a newer one")]
    Version(u32),
    /// Files cannot be decoded.
    #[error("the room was encrypted end to end: only who holds its keys can decode what was recorded")]
    Encrypted,
    /// There is nothing to show.
    #[error("nothing was recorded in this room")]
    Empty,
    /// A name in the manifest is none of a file beside it.
    #[error(
        "the manifest names a file {0:?}: it must be one in the manifest's own folder, such as \"ana-1.webm\""
    )]
    FileName(String),
    /// A file of the manifest is missing.
    #[error("{0} is missing: the manifest names it")]
    Missing(PathBuf),
    /// A setting makes no sense.
    #[error("{0}")]
    Setting(&'static str),
    /// There is no ffmpeg.
    #[error(
        "ffmpeg was not found as {0:?}: install it (apt install ffmpeg), or name it with --ffmpeg /path/to/ffmpeg"
    )]
    NoFfmpeg(PathBuf),
    /// It failed.
    #[error("ffmpeg failed:\n{0}")]
    Ffmpeg(String),
    /// A file could not be read or written.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
}

/// What the plan in the work folder is called: another plan makes what is there useless.
const PLAN: &str = "plan.json";

/// Makes the file `output` of what `manifest` says is in `folder`, by way of the folder `work`, which is removed in the end. Tells
/// `on_progress` how far it is.
pub fn compose(
    manifest: &Manifest,
    folder: &Path,
    output: &Path,
    work: &Path,
    look: &Look,
    tool: &Tool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    check(manifest, look)?;
    let folder = fs::canonicalize(folder).map_err(|error| Error::File(folder.to_owned(), error))?;
    for file in &manifest.files {
        if !folder.join(&file.name).is_file() {
            return Err(Error::Missing(folder.join(&file.name)));
        }
    }
    let plan = Plan::new(manifest, look);
    if plan.stretches.is_empty() {
        return Err(Error::Empty);
    }
    let shows_names = look.names && tool.has_filter("drawtext")?;
    prepare(work, &plan, look, &folder)?;
    let all = plan.stretches.iter().map(|stretch| stretch.pictures).sum::<u64>();
    let mut done = 0;
    let mut names = Vec::new();
    for (number, stretch) in plan.stretches.iter().enumerate() {
        let name = format!("stretch-{number:05}.{}", look.form.ending());
        if !work.join(&name).exists() {
            if shows_names {
                write_names(work, stretch)?;
            }
            let arguments = filters::stretch(stretch, &plan, &folder, look, shows_names);
            make(tool, work, &name, &arguments, &mut |pictures| {
                on_progress(Progress { done: (done + pictures).min(all), all });
            })?;
        }
        done += stretch.pictures;
        on_progress(Progress { done, all });
        names.push(name);
    }
    let sound = format!("sound.{}", look.form.sound_ending());
    if !plan.sounds.is_empty() && !work.join(&sound).exists() {
        make(tool, work, &sound, &filters::sound(&plan, &folder, look), &mut |_| {})?;
    }
    let list = format!("file '{}'\n", names.join("'\nfile '"));
    write(&work.join("list.txt"), &list)?;
    let whole = format!("whole.{}", look.form.ending());
    make(
        tool,
        work,
        &whole,
        &filters::whole((!plan.sounds.is_empty()).then_some(&sound), look),
        &mut |_| {},
    )?;
    move_to(&work.join(&whole), output)?;
    fs::remove_dir_all(work).map_err(|error| Error::File(work.to_owned(), error))
}

fn check(manifest: &Manifest, look: &Look) -> Result<(), Error> {
    let (width, height) = look.size;
    let is_size = |size: u32| size.is_multiple_of(2) && (64..=7_680).contains(&size);
    if manifest.version > VERSION {
        return Err(Error::Version(manifest.version));
    }
    if manifest.encrypted {
        return Err(Error::Encrypted);
    }
    if manifest.files.is_empty() || manifest.duration_ms == 0 {
        return Err(Error::Empty);
    }
    if let Some(file) = manifest.files.iter().find(|file| !file.has_plain_name()) {
        return Err(Error::FileName(file.name.clone()));
    }
    if !is_size(width) || !is_size(height) {
        return Err(Error::Setting(
            "a size has two even numbers from 64 to 7680; for example --size 1280x720",
        ));
    }
    if !(1..=60).contains(&look.rate) {
        return Err(Error::Setting("a rate is from 1 to 60 pictures in a second; for example --rate 25"));
    }
    Ok(())
}

/// Makes the work folder, or takes the one of a run before, if it was for the same.
fn prepare(work: &Path, plan: &Plan, look: &Look, folder: &Path) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(&(plan, look, folder)).unwrap_or_default();
    if work.exists() {
        match fs::read_to_string(work.join(PLAN)) {
            Ok(before) if before == text => return Ok(()),
            Ok(_) => fs::remove_dir_all(work).map_err(|error| Error::File(work.to_owned(), error))?,
            // Whatever it is, it is none of ours to be removed.
            Err(error) => return Err(Error::File(work.join(PLAN), error)),
        }
    }
    fs::create_dir_all(work).map_err(|error| Error::File(work.to_owned(), error))?;
    write(&work.join(PLAN), &text)
}

/// Names reach ffmpeg in files of their own: nothing in them is read as a filter.
fn write_names(work: &Path, stretch: &plan::Stretch) -> Result<(), Error> {
    for (number, tile) in stretch.tiles.iter().enumerate() {
        write(&work.join(filters::name_file(number)), &tile.name)?;
    }
    Ok(())
}

/// Runs ffmpeg; what it makes is there whole or not at all.
fn make(
    tool: &Tool,
    work: &Path,
    name: &str,
    arguments: &[String],
    on_pictures: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let unfinished = format!("unfinished-{name}");
    tool.run(work, &[arguments, std::slice::from_ref(&unfinished)].concat(), on_pictures)?;
    move_to(&work.join(unfinished), &work.join(name))
}

/// Also from one file system to another.
fn move_to(from: &Path, to: &Path) -> Result<(), Error> {
    if fs::rename(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to).map_err(|error| Error::File(to.to_owned(), error))?;
    fs::remove_file(from).map_err(|error| Error::File(from.to_owned(), error))
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|error| Error::File(path.to_owned(), error))
}

impl Form {
    fn ending(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::Webm => "webm",
        }
    }

    fn sound_ending(self) -> &'static str {
        match self {
            Self::Mp4 => "m4a",
            Self::Webm => "webm",
        }
    }
}
