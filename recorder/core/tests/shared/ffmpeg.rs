//! Real encoders, by ffmpeg: frames as they come out of them, and a folder for what tests make.

use std::path::{Path, PathBuf};
use std::process::Command;

/// How long the pictures are.
pub const SECONDS: i64 = 4;

/// How many there are in a second.
pub const RATE: i64 = 25;

/// A folder that goes with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("veche-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::env::var_os("KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// Runs a program that has nothing to complain of; what it prints.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("scripts/need media installs it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// An encoder in the mood of a call: no frame waits for others. A key frame comes each two seconds.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "each test uses its own")]
pub enum Encoder {
    Vp8,
    Vp9,
    Av1,
    H264,
    H265,
}

impl Encoder {
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Vp8 => &["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8"],
            Self::Vp9 => {
                &["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-lag-in-frames", "0"]
            }
            Self::Av1 => {
                &["-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-lag-in-frames", "0"]
            }
            Self::H264 => &[
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
                "-tune",
                "zerolatency",
                "-x264-params",
                "aud=1:scenecut=0",
            ],
            Self::H265 => &[
                "-c:v",
                "libx265",
                "-preset",
                "ultrafast",
                "-tune",
                "zerolatency",
                "-x265-params",
                "aud=1:log-level=none:keyint=50:scenecut=0:repeat-headers=1",
            ],
        }
    }

    /// Where a frame begins in a stream of units: with an access unit delimiter. The others are in IVF files.
    fn delimiter(self) -> Option<&'static [u8]> {
        match self {
            Self::H264 => Some(&[0, 0, 0, 1, 9]),
            Self::H265 => Some(&[0, 0, 0, 1, 0x46, 1]),
            _ => None,
        }
    }

    /// The frames of a moving test card of 320x180.
    pub fn frames(self, folder: &Path) -> Vec<Vec<u8>> {
        let ending = match self {
            Self::H264 => "h264",
            Self::H265 => "hevc",
            _ => "ivf",
        };
        let file = folder.join(format!("camera.{ending}"));
        let source = format!("testsrc2=size=320x180:rate={RATE}:duration={SECONDS}");
        let before = ["-v", "error", "-y", "-f", "lavfi", "-i", &source, "-pix_fmt", "yuv420p"];
        let after = ["-g", "50", "-b:v", "500k", file.to_str().unwrap()];
        run("ffmpeg", &[&before[..], self.options(), &after].concat());
        let bytes = std::fs::read(file).unwrap();
        match self.delimiter() {
            Some(delimiter) => split(&bytes, delimiter).iter().map(|frame| with_long_marks(frame)).collect(),
            None => unwrapped(&bytes),
        }
    }
}

fn split(bytes: &[u8], delimiter: &[u8]) -> Vec<Vec<u8>> {
    let starts: Vec<usize> =
        (0..bytes.len()).filter(|at| bytes[*at..].starts_with(delimiter)).chain([bytes.len()]).collect();
    starts.windows(2).map(|around| bytes[around[0]..around[1]].to_vec()).collect()
}

/// Puts four bytes before each unit, where encoders put three before some: payloaders want one kind.
fn with_long_marks(frame: &[u8]) -> Vec<u8> {
    let starts: Vec<usize> =
        (0..frame.len()).filter(|at| frame[*at..].starts_with(&[0, 0, 1])).chain([frame.len()]).collect();
    let unit = |around: &[usize]| {
        let unit = &frame[around[0] + 3..around[1]];
        let end = unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        [&[0, 0, 0, 1], &unit[..end]].concat()
    };
    starts.windows(2).flat_map(unit).collect()
}

/// The frames of an IVF file.
fn unwrapped(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut frames) = (&bytes[32..], Vec::new());
    while let Some((head, after)) = rest.split_first_chunk::<12>() {
        let len = u32::from_le_bytes(*head.first_chunk().unwrap()) as usize;
        frames.push(after[..len].to_vec());
        rest = &after[len..];
    }
    frames
}
