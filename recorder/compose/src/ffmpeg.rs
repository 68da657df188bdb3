//! ffmpeg as a program beside this one.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;

/// Where ffmpeg is.
#[derive(Clone, Debug)]
pub struct Tool {
    program: PathBuf,
}

/// So much of what it complains of is told, in bytes.
const COMPLAINT: usize = 2_000;

impl Tool {
    /// Under this name in the search path, or under this path. Fails when it cannot be run.
    pub fn new(program: PathBuf) -> Result<Self, Error> {
        let tool = Self { program };
        tool.output(&["-version"])?;
        Ok(tool)
    }

    /// It was built with this filter.
    pub(crate) fn has_filter(&self, filter: &str) -> Result<bool, Error> {
        let listed = self.output(&["-hide_banner", "-filters"])?;
        Ok(listed.lines().any(|line| line.split_whitespace().nth(1) == Some(filter)))
    }

    /// Runs it in a folder, and tells how many pictures it has made.
    pub(crate) fn run(
        &self,
        folder: &Path,
        arguments: &[String],
        on_pictures: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        let mut child = Command::new(&self.program)
            .args(["-hide_banner", "-nostdin", "-v", "error", "-y", "-progress", "pipe:1"])
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|_| Error::NoFfmpeg(self.program.clone()))?;
        // Read beside, or it would wait for a reader.
        let errors = child.stderr.take();
        let complaint = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = errors.map(|mut errors| errors.read_to_end(&mut text));
            String::from_utf8_lossy(&text[text.len().saturating_sub(COMPLAINT)..]).into_owned()
        });
        if let Some(told) = child.stdout.take() {
            for line in BufReader::new(told).lines().map_while(Result::ok) {
                if let Some(pictures) =
                    line.strip_prefix("frame=").and_then(|count| count.trim().parse().ok())
                {
                    on_pictures(pictures);
                }
            }
        }
        let status = child.wait().map_err(|error| Error::File(self.program.clone(), error))?;
        let complaint = complaint.join().unwrap_or_default();
        if status.success() { Ok(()) } else { Err(Error::Ffmpeg(complaint)) }
    }

    fn output(&self, arguments: &[&str]) -> Result<String, Error> {
        let output = Command::new(&self.program).args(arguments).stdin(Stdio::null()).output();
        let output = output.map_err(|_| Error::NoFfmpeg(self.program.clone()))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
