//! What an operator says about recordings.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What an operator says about recordings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether rooms can be recorded.
    pub enabled: bool,
    /// Whether each room is recorded from its first participant on.
    pub automatic: bool,
    /// Where recordings are kept; a path that is not absolute is within `http.data_dir`.
    pub folder: PathBuf,
    /// How many may run at once.
    pub max_running: usize,
    /// How long one may be, in hours.
    pub max_hours: u64,
    /// One ends when less is free on its disk, in megabytes.
    pub min_free_mb: u64,
    /// What may wait of each for a disk that is slow, in megabytes.
    pub buffer_mb: usize,
    /// One ends when nobody was in the room for so long, in seconds.
    pub empty_seconds: u64,
    /// Recordings are deleted so many days after their end; 0: never.
    pub retention_days: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            automatic: false,
            folder: PathBuf::from("recordings"),
            max_running: 32,
            max_hours: 12,
            min_free_mb: 512,
            buffer_mb: 32,
            empty_seconds: 30,
            retention_days: 0,
        }
    }
}

impl Settings {
    /// What is wrong with them: the setting, and what would be right.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.folder.as_os_str().is_empty() {
            return Err(("folder", "a folder, for example \"recordings\"".to_owned()));
        }
        let numbers = [
            ("max_running", self.max_running as u64, 1..=1_000, 32),
            ("max_hours", self.max_hours, 1..=240, 12),
            ("min_free_mb", self.min_free_mb, 0..=1 << 30, 512),
            ("buffer_mb", self.buffer_mb as u64, 1..=1_024, 32),
            ("empty_seconds", self.empty_seconds, 1..=86_400, 30),
            ("retention_days", self.retention_days, 0..=36_500, 30),
        ];
        for (name, value, range, example) in numbers {
            if !range.contains(&value) {
                let (from, to) = range.into_inner();
                return Err((name, format!("must be from {from} to {to}, for example {example}")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(Settings::default().check(), Ok(()));
        let (setting, message) = Settings { max_hours: 0, ..Settings::default() }.check().unwrap_err();
        assert_eq!((setting, message.as_str()), ("max_hours", "must be from 1 to 240, for example 12"));
        // As a number of 32 bits it would be none, and everything would be deleted.
        let long = Settings { retention_days: 1 << 32, ..Settings::default() };
        assert_eq!(long.check().unwrap_err().0, "retention_days");
        let nowhere = Settings { folder: PathBuf::new(), ..Settings::default() };
        assert_eq!(nowhere.check().unwrap_err().0, "folder");
    }
}
