//! A call of three people is composed, and what comes of it is looked at: who is where at its beginning, middle and end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use veche_recorder_compose::layout::{Layout, Place, grid, strip};
use veche_recorder_compose::{Error, Form, Look, Progress, Tool, compose};
use veche_recorder_core::manifest::Manifest;

const SIZE: (u32, u32) = (640, 360);

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        // A name that ffmpeg would take for something else, if it were not told.
        let path =
            std::env::temp_dir().join(format!("veche-compose-{name}-{}-it's [0:v];a", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().expect("scripts/need media installs it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{program} {arguments:?}: {said}");
    output.stdout
}

/// Somebody in one colour who hums, for so many seconds.
fn record(folder: &Path, name: &str, colour: &str, hertz: u32, seconds: u32) {
    let picture = format!("color=c={colour}:s=320x180:r=25:d={seconds}");
    let sound = format!("sine=frequency={hertz}:sample_rate=48000:d={seconds}");
    let codec = if name.ends_with("webm") { "libvpx" } else { "libx264" };
    let inputs = ["-v", "error", "-y", "-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound];
    let file = folder.join(name);
    let outputs = [
        "-c:v",
        codec,
        "-g",
        "25",
        "-pix_fmt",
        "yuv420p",
        "-c:a",
        "libopus",
        "-strict",
        "-2",
        file.to_str().unwrap(),
    ];
    run("ffmpeg", &[&inputs[..], &outputs].concat());
}

/// Ana (red) all the time, Boris (green) from 2 s to 6 s, Cem (blue), who shares a yellow screen from 4 s to 6 s.
fn call(folder: &Path) -> Manifest {
    record(folder, "a.webm", "red", 400, 8);
    record(folder, "b.mp4", "lime", 700, 4);
    record(folder, "c.webm", "blue", 1_100, 8);
    record(folder, "c-screen.webm", "yellow", 2_000, 2);
    let file = |name: &str, id: &str, picture: &str, sound: &str, from: u64, duration: u64| {
        serde_json::json!({
            "name": name, "container": if name.ends_with("mp4") { "mp4" } else { "webm" }, "participant": id,
            "tracks": [{"source": picture, "codec": "vp8"}, {"source": sound, "codec": "opus"}],
            "offset_ms": from, "duration_ms": duration, "bytes": 1,
        })
    };
    serde_json::from_value(serde_json::json!({
        "version": 1, "id": "r", "room": "daily", "started_at": "2026-11-22T07:00:00Z", "duration_ms": 8_000,
        "participants": [
            {"id": "a", "name": "Ana':x=0,drawbox=c=white:t=fill,[out];%{pts}\\", "joined_ms": 0},
            {"id": "b", "name": "Борис", "joined_ms": 2_000, "left_ms": 6_000},
            {"id": "c", "name": "C\ne\u{202e}m", "joined_ms": 0},
        ],
        "files": [
            file("a.webm", "a", "camera", "microphone", 0, 8_000),
            file("b.mp4", "b", "camera", "microphone", 2_000, 4_000),
            file("c.webm", "c", "camera", "microphone", 0, 8_000),
            file("c-screen.webm", "c", "screen", "screen-audio", 4_000, 2_000),
        ],
        "speakers": [{"offset_ms": 0, "participant": "c"}, {"offset_ms": 2_500, "participant": "b"}],
    }))
    .unwrap()
}

fn look(layout: Layout, form: Form) -> Look {
    Look { layout, size: SIZE, rate: 25, names: true, form }
}

fn composed(manifest: &Manifest, folder: &Folder, look: &Look) -> (PathBuf, Vec<Progress>) {
    let output = folder.0.join(format!("composed.{}", if look.form == Form::Mp4 { "mp4" } else { "webm" }));
    let tool = Tool::new("ffmpeg".into()).unwrap();
    let mut told = Vec::new();
    let work = folder.0.join("work");
    compose(manifest, &folder.0, &output, &work, look, &tool, &mut |progress| told.push(progress)).unwrap();
    assert!(!work.exists(), "it is tidied");
    (output, told)
}

/// The colour in the middle of a place at a time, as red, green and blue: 255 where there is much of it, 0 where little.
fn colour(file: &Path, at: &str, place: Place) -> [u8; 3] {
    // Above the name of who shows nothing.
    let crop = format!("crop=8:8:{}:{}", place.x + place.width / 2, place.y + place.height / 3);
    let file = file.to_str().unwrap();
    let arguments = ["-v", "error", "-ss", at, "-i", file, "-frames:v", "1", "-vf", &crop];
    let pixels = run("ffmpeg", &[&arguments[..], &["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]].concat());
    [0, 1, 2].map(|channel| if pixels[channel] > 128 { 255 } else { 0 })
}

const RED: [u8; 3] = [255, 0, 0];
const LIME: [u8; 3] = [0, 255, 0];
const BLUE: [u8; 3] = [0, 0, 255];
const YELLOW: [u8; 3] = [255, 255, 0];

fn probe(file: &Path) -> (f64, u64) {
    let entries = ["-v", "error", "-count_packets", "-select_streams", "v"];
    let shown =
        ["-show_entries", "format=duration:stream=nb_read_packets", "-of", "csv=p=0", file.to_str().unwrap()];
    let told = String::from_utf8(run("ffprobe", &[&entries[..], &shown].concat())).unwrap();
    let mut lines = told.lines();
    let pictures = lines.next().unwrap().trim_end_matches(',').parse().unwrap();
    (lines.next().unwrap().parse().unwrap(), pictures)
}

/// How loud a tone is in a second of the file, in decibels of what passes a narrow filter.
fn loudness(file: &Path, at: &str, hertz: u32) -> f32 {
    let filter = format!("bandpass=f={hertz}:width_type=h:w=40,volumedetect");
    let arguments =
        ["-v", "info", "-hide_banner", "-nostats", "-ss", at, "-t", "0.8", "-i", file.to_str().unwrap()];
    let output = Command::new("ffmpeg")
        .args(arguments)
        .args(["-vn", "-af", &filter, "-f", "null", "-"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let level = said.split("mean_volume: ").nth(1).unwrap();
    level.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_call_of_three_is_seen_and_heard() {
    let folder = Folder::new("grid");
    let manifest = call(&folder.0);
    let (file, told) = composed(&manifest, &folder, &look(Layout::Grid, Form::Mp4));
    let (duration, pictures) = probe(&file);
    assert!((duration - 8.0).abs() < 0.1, "{duration}");
    assert_eq!(pictures, 200);
    assert_eq!(told.last(), Some(&Progress { done: 200, all: 200 }));
    assert!(told.windows(2).all(|pair| pair[0].done <= pair[1].done));

    let (two, three, four) = (grid(2, SIZE), grid(3, SIZE), grid(4, SIZE));
    for at in ["0.1", "1.9", "6.1", "7.8"] {
        assert_eq!([colour(&file, at, two[0]), colour(&file, at, two[1])], [RED, BLUE], "{at}");
    }
    assert_eq!([0, 1, 2].map(|tile| colour(&file, "3", three[tile])), [RED, LIME, BLUE]);
    assert_eq!([0, 1, 2, 3].map(|tile| colour(&file, "5", four[tile])), [YELLOW, RED, LIME, BLUE]);

    for (at, hertz, is_there) in
        [("0.1", 400, true), ("0.1", 700, false), ("3", 700, true), ("3", 2_000, false)]
    {
        assert_eq!(
            loudness(&file, at, hertz) > -35.0,
            is_there,
            "{hertz} at {at}: {}",
            loudness(&file, at, hertz)
        );
    }
    assert!(loudness(&file, "5", 2_000) > -35.0 && loudness(&file, "7", 700) < -35.0);
}

#[test]
fn a_screen_goes_first_then_who_speaks() {
    let folder = Folder::new("screen");
    let manifest = call(&folder.0);
    let (file, _) = composed(&manifest, &folder, &look(Layout::Screen, Form::Webm));
    let (one, two, three) = (strip(1, SIZE), strip(2, SIZE), strip(3, SIZE));
    assert_eq!([colour(&file, "1", one[0]), colour(&file, "1", one[1])], [BLUE, RED], "Cem speaks");
    assert_eq!(colour(&file, "3", two[0]), LIME, "Boris speaks");
    assert_eq!([0, 1, 2].map(|tile| colour(&file, "5", three[tile])), [YELLOW, LIME, BLUE]);
    assert!((probe(&file).0 - 8.0).abs() < 0.1);
}

#[test]
fn what_was_made_before_is_not_made_again() {
    let folder = Folder::new("resumed");
    let manifest = call(&folder.0);
    let (work, output) = (folder.0.join("work"), folder.0.join("composed.mp4"));
    let (look, tool) = (look(Layout::Grid, Form::Mp4), Tool::new("ffmpeg".into()).unwrap());
    // It ends after the first stretch: a file that comes next is none.
    fs::rename(folder.0.join("b.mp4"), folder.0.join("kept")).unwrap();
    fs::write(folder.0.join("b.mp4"), "no file of pictures").unwrap();
    let go = || compose(&manifest, &folder.0, &output, &work, &look, &tool, &mut |_| {});
    assert!(matches!(go(), Err(Error::Ffmpeg(said)) if said.contains("b.mp4")));
    let first = work.join("stretch-00000.mp4");
    assert!(!output.exists() && !work.join("stretch-00001.mp4").exists());

    // What is there is taken as it is: even if it is white.
    fs::rename(folder.0.join("kept"), folder.0.join("b.mp4")).unwrap();
    let white = ["-v", "error", "-y", "-f", "lavfi", "-i", "color=c=white:s=640x360:r=25", "-frames:v", "50"];
    let encoded = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-pix_fmt", "yuv420p"];
    let file = ["-video_track_timescale", "90000", first.to_str().unwrap()];
    run("ffmpeg", &[&white[..], &encoded, &file].concat());
    go().unwrap();
    assert_eq!(colour(&output, "1", grid(2, SIZE)[0]), [255; 3]);
    assert_eq!(colour(&output, "3", grid(3, SIZE)[1]), LIME);
    assert_eq!(probe(&output).1, 200);

    // A folder of others is left alone.
    fs::create_dir_all(&work).unwrap();
    fs::write(work.join("mine"), "mine").unwrap();
    assert!(matches!(go(), Err(Error::File(path, _)) if path == work.join("plan.json")));
    assert!(work.join("mine").exists());
}

#[test]
fn what_cannot_be_composed_is_told() {
    let folder = Folder::new("refused");
    let manifest: Manifest = serde_json::from_value(serde_json::json!({
        "version": 1, "id": "r", "room": "daily", "started_at": "2026-11-22T07:00:00Z", "duration_ms": 8_000,
        "participants": [], "files": [{
            "name": "a.webm", "container": "webm", "participant": "a", "tracks": [], "offset_ms": 0, "duration_ms": 1, "bytes": 1,
        }],
    }))
    .unwrap();
    let tool = Tool::new("ffmpeg".into()).unwrap();
    let told = |change: &dyn Fn(&mut Manifest, &mut Look)| {
        let (mut manifest, mut look) = (manifest.clone(), look(Layout::Grid, Form::Mp4));
        change(&mut manifest, &mut look);
        let (output, work) = (folder.0.join("out.mp4"), folder.0.join("work"));
        compose(&manifest, &folder.0, &output, &work, &look, &tool, &mut |_| {}).unwrap_err().to_string()
    };
    assert!(told(&|_, _| {}).ends_with("a.webm is missing: the manifest names it"));
    assert!(told(&|manifest, _| manifest.files[0].name = "../a".to_owned()).contains("\"../a\""));
    assert!(told(&|manifest, _| manifest.version = 9).contains("version 9"));
    assert!(told(&|manifest, _| manifest.encrypted = true).contains("encrypted"));
    assert!(told(&|manifest, _| manifest.files.clear()).contains("nothing was recorded"));
    assert!(told(&|_, look| look.size = (641, 360)).contains("--size 1280x720"));
    assert!(told(&|_, look| look.rate = 0).contains("--rate 25"));
    let error = Tool::new("/nowhere/ffmpeg".into()).unwrap_err().to_string();
    assert!(error.contains("--ffmpeg"), "{error}");
}
