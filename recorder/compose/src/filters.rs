//! The arguments of ffmpeg's runs. They hold numbers and names of our own only: what people typed is in files.

use std::fmt::Write;
use std::path::Path;

use crate::plan::{Plan, Stretch, Tile};
use crate::{Form, Look};

/// Behind everything, and behind who shows nothing.
const BACKGROUND: &str = "0x17181b";
const NOTHING: &str = "0x34363c";

/// The file that has the name of the tile with this number.
pub(crate) fn name_file(tile: usize) -> String {
    format!("name-{tile}.txt")
}

/// Makes the pictures of a stretch.
pub(crate) fn stretch(
    stretch: &Stretch,
    plan: &Plan,
    folder: &Path,
    look: &Look,
    shows_names: bool,
) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut filter = Filter(String::new());
    let (width, height) = look.size;
    filter.add(format_args!("color=c={BACKGROUND}:s={width}x{height}:r={}[back0]", look.rate));
    let mut inputs = 0;
    for (number, tile) in stretch.tiles.iter().enumerate() {
        let (tile_width, tile_height) = (tile.place.width, tile.place.height);
        if let Some(view) = tile.view {
            arguments.extend(input(folder, &plan.files[view.file], view.from_ms));
            filter.add(format_args!("[{inputs}:v:{}]fps={}:start_time=0,", view.track, look.rate));
            let fit = "force_original_aspect_ratio=decrease:force_divisible_by=2";
            filter.go_on(format_args!("scale={tile_width}:{tile_height}:{fit},format=yuv420p,"));
            filter.go_on(format_args!("pad={tile_width}:{tile_height}:-1:-1:{BACKGROUND},setsar=1"));
            inputs += 1;
        } else {
            filter
                .add(format_args!("color=c={NOTHING}:s={tile_width}x{tile_height}:r={},setsar=1", look.rate));
        }
        if shows_names && !tile.name.is_empty() {
            filter.go_on(format_args!(",{}", name(tile, number)));
        }
        filter.go_on(format_args!("[tile{number}]"));
        let (x, y) = (tile.place.x, tile.place.y);
        let next = number + 1;
        filter.add(format_args!("[back{number}][tile{number}]overlay={x}:{y}:eof_action=repeat[back{next}]"));
    }
    filter.add(format_args!("[back{}]format=yuv420p[out]", stretch.tiles.len()));
    arguments.extend(words(&["-filter_complex", &filter.0, "-map", "[out]"]));
    arguments.extend(words(&["-frames:v", &stretch.pictures.to_string(), "-r", &look.rate.to_string()]));
    arguments.extend(words(match look.form {
        Form::Mp4 => {
            &["-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-video_track_timescale", "90000"]
        }
        Form::Webm => &[
            "-c:v",
            "libvpx-vp9",
            "-deadline",
            "realtime",
            "-cpu-used",
            "6",
            "-row-mt",
            "1",
            "-crf",
            "34",
            "-b:v",
            "0",
        ],
    }));
    arguments
}

/// Makes the sound of the whole recording.
pub(crate) fn sound(plan: &Plan, folder: &Path, look: &Look) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut filter = Filter(String::new());
    for (number, sound) in plan.sounds.iter().enumerate() {
        arguments.extend(input(folder, &plan.files[sound.file], 0));
        // Pauses keep their length, and everything is at its time.
        filter.add(format_args!("[{number}:a:{}]aresample=48000:async=1:first_pts=0,", sound.track));
        filter.go_on(format_args!(
            "aformat=channel_layouts=stereo,adelay={}:all=1[s{number}]",
            sound.offset_ms
        ));
    }
    filter.add(format_args!(""));
    for number in 0..plan.sounds.len() {
        filter.go_on(format_args!("[s{number}]"));
    }
    let end = seconds(plan.duration_ms);
    filter.go_on(format_args!(
        "amix=inputs={}:normalize=0,alimiter=limit=0.95:level=0,apad,atrim=end={end}[out]",
        plan.sounds.len()
    ));
    arguments.extend(words(&["-filter_complex", &filter.0, "-map", "[out]"]));
    arguments.extend(words(match look.form {
        Form::Mp4 => &["-c:a", "aac", "-b:a", "128k"],
        Form::Webm => &["-c:a", "libopus", "-b:a", "96k"],
    }));
    arguments
}

/// Puts the stretches of the list one behind the other, with the sound.
pub(crate) fn whole(sound: Option<&String>, look: &Look) -> Vec<String> {
    let mut arguments = words(&["-f", "concat", "-i", "list.txt"]);
    if let Some(sound) = sound {
        arguments.extend(words(&["-i", sound, "-map", "1:a"]));
    }
    arguments.extend(words(&["-map", "0:v", "-c", "copy"]));
    if look.form == Form::Mp4 {
        arguments.extend(words(&["-movflags", "+faststart"]));
    }
    arguments
}

/// A file from some time of its own on. The protocol is named, so that no file name is read as one.
fn input(folder: &Path, file: &str, from_ms: u64) -> Vec<String> {
    let path = format!("file:{}", folder.join(file).display());
    words(&["-seek_timestamp", "1", "-ss", &seconds(from_ms), "-i", &path])
}

/// The name in a tile's lower left corner; in the middle where there is nothing else.
fn name(tile: &Tile, number: usize) -> String {
    let size = (tile.place.height / 16).clamp(10, 28);
    let file = name_file(number);
    let place = match tile.view {
        Some(_) => format!("x={0}:y=h-th-{0}", size / 2),
        None => "x=(w-tw)/2:y=(h-th)/2".to_owned(),
    };
    let colours = format!("fontcolor=white:box=1:boxcolor=black@0.5:boxborderw={}", size / 4);
    format!("drawtext=textfile={file}:expansion=none:fontsize={size}:{colours}:{place}")
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Chains of filters.
struct Filter(String);

impl Filter {
    /// Begins another chain.
    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        if !self.0.is_empty() {
            self.0.push(';');
        }
        self.go_on(text);
    }

    fn go_on(&mut self, text: std::fmt::Arguments<'_>) {
        // Text takes whatever is written.
        let _ = self.0.write_fmt(text);
    }
}
