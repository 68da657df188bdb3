//! `veche compose`: one file of a recorded room.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use veche_recorder_compose::layout::Layout;
use veche_recorder_compose::{Form, Look, Tool, compose};
use veche_recorder_core::manifest::Manifest;

/// What the file shall be.
#[derive(Debug, Args)]
pub(crate) struct ComposeArguments {
    /// The recording: its folder, or the manifest in it
    recording: PathBuf,
    /// The file to be made, .mp4 or .webm; without it <recording>.mp4 beside the recording
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Who is where
    #[arg(long, value_enum, default_value = "screen")]
    layout: LayoutName,
    /// Width and height
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "1280x720", value_parser = parse_size)]
    size: (u32, u32),
    /// Pictures in a second
    #[arg(long, default_value_t = 25)]
    rate: u32,
    /// Without names
    #[arg(long)]
    no_names: bool,
    /// Replaces the file if it is there already
    #[arg(long)]
    force: bool,
    /// ffmpeg, where it is not in the search path
    #[arg(long, value_name = "FILE", default_value = "ffmpeg")]
    ffmpeg: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LayoutName {
    /// Everybody as large as everybody else
    Grid,
    /// Who speaks large, the others in a strip
    Speaker,
    /// A shared screen large, people in a strip; without one as `speaker`
    Screen,
}

/// What a manifest is called in the folder of its recording.
const MANIFEST: &str = "manifest.json";

/// Makes the file, with a bar that shows how far it is.
pub(crate) fn run(arguments: &ComposeArguments) -> Result<()> {
    let mut path = arguments.recording.clone();
    if path.is_dir() {
        path.push(MANIFEST);
    }
    let text = fs::read_to_string(&path)
        .with_context(|| format!("{}: name the folder of a recording, or its manifest", path.display()))?;
    let manifest: Manifest = serde_json::from_str(&text)
        .with_context(|| format!("{} is no manifest of a recording", path.display()))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let output = output(arguments, folder)?;
    let look = Look {
        layout: arguments.layout.into(),
        size: arguments.size,
        rate: arguments.rate,
        names: !arguments.no_names,
        form: form(&output)?,
    };
    ensure!(
        arguments.force || !output.exists(),
        "{} exists already: name another with --output, or replace it with --force",
        output.display()
    );
    let tool = Tool::new(arguments.ffmpeg.clone())?;
    let mut work = output.clone().into_os_string();
    work.push(".parts");
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("{bar:40} {percent:>3} %  {pos}/{len} pictures, {eta} left")
            .context("the bar's template")?,
    );
    let made = compose(&manifest, folder, &output, Path::new(&work), &look, &tool, &mut |progress| {
        bar.set_length(progress.all);
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    made.with_context(|| {
        format!("{} was not made; the same command goes on where it was", output.display())
    })?;
    println!("{}", output.display());
    Ok(())
}

/// Beside the folder of the recording, when nothing else is said.
fn output(arguments: &ComposeArguments, folder: &Path) -> Result<PathBuf> {
    if let Some(output) = &arguments.output {
        return Ok(output.clone());
    }
    let folder = fs::canonicalize(folder).with_context(|| folder.display().to_string())?;
    let mut output = folder.into_os_string();
    output.push(".mp4");
    Ok(output.into())
}

fn form(output: &Path) -> Result<Form> {
    match output.extension().and_then(|ending| ending.to_str()) {
        Some("mp4") => Ok(Form::Mp4),
        Some("webm") => Ok(Form::Webm),
        _ => bail!("{} is neither .mp4 nor .webm; for example --output meeting.mp4", output.display()),
    }
}

fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let size =
        text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    size.ok_or_else(|| "for example 1280x720".to_owned())
}

impl From<LayoutName> for Layout {
    fn from(name: LayoutName) -> Self {
        match name {
            LayoutName::Grid => Self::Grid,
            LayoutName::Speaker => Self::Speaker,
            LayoutName::Screen => Self::Screen,
        }
    }
}
