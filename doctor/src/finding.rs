//! What was found: one thing that was looked at, and how it is.

use std::fmt;

use serde::Serialize;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Fine,
    /// Not looked at; the finding says why.
    Skipped,
    /// It works, but not for everybody or not for long.
    Warning,
    /// It does not work.
    Failure,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which thing, such as `media.udp`. Names stay as they are between versions.
    pub check: &'static str,
    /// How it is.
    pub level: Level,
    /// What was tried.
    pub tried: String,
    /// What came back.
    pub got: String,
    /// What that means for those who use the server; empty where all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub means: String,
    /// The line of the configuration, or the command, that mends it; empty where all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mend: String,
}

impl Finding {
    /// All is well.
    pub fn fine(check: &'static str, tried: impl Into<String>, got: impl Into<String>) -> Self {
        let (tried, got) = (tried.into(), got.into());
        Self { check, level: Level::Fine, tried, got, means: String::new(), mend: String::new() }
    }

    /// It was not looked at, for this reason.
    pub fn skipped(check: &'static str, tried: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { level: Level::Skipped, ..Self::fine(check, tried, reason) }
    }

    /// It does not work.
    pub fn failure(check: &'static str, tried: impl Into<String>, got: impl Into<String>) -> Self {
        Self { level: Level::Failure, ..Self::fine(check, tried, got) }
    }

    /// It works, but not for everybody or not for long.
    pub fn warning(check: &'static str, tried: impl Into<String>, got: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::fine(check, tried, got) }
    }

    /// Says what it means for users.
    #[must_use]
    pub fn means(self, means: impl Into<String>) -> Self {
        Self { means: means.into(), ..self }
    }

    /// Says what mends it.
    #[must_use]
    pub fn mend(self, mend: impl Into<String>) -> Self {
        Self { mend: mend.into(), ..self }
    }

    /// The same, told as no worse than this. For what may be otherwise elsewhere.
    #[must_use]
    pub fn at_most(self, level: Level) -> Self {
        Self { level: self.level.min(level), ..self }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fine => "ok",
            Self::Skipped => "-",
            Self::Warning => "WARN",
            Self::Failure => "FAIL",
        })
    }
}
