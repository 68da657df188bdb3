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
        let (tried, got) = (plain(tried.into()), plain(got.into()));
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
        Self { means: plain(means.into()), ..self }
    }

    /// Says what mends it.
    #[must_use]
    pub fn mend(self, mend: impl Into<String>) -> Self {
        Self { mend: plain(mend.into()), ..self }
    }

    /// The same, told as no worse than this. For what may be otherwise elsewhere.
    #[must_use]
    pub fn at_most(self, level: Level) -> Self {
        Self { level: self.level.min(level), ..self }
    }
}

/// The most that is shown of a text, in characters.
const MAX_TEXT: usize = 800;

/// A text in which others may have had a word, for a terminal: no control characters, and not without end.
fn plain(text: String) -> String {
    let is_fine = |c: char| c == '\n' || !c.is_control();
    if text.len() <= MAX_TEXT && text.chars().all(is_fine) {
        return text;
    }
    text.chars().take(MAX_TEXT).map(|c| if is_fine(c) { c } else { '\u{fffd}' }).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_moves_no_cursor_and_ends() {
        let finding = Finding::failure("a", "b", "\u{1b}[2Jall is well\n").mend("x".repeat(10_000));
        assert_eq!(finding.got, "\u{fffd}[2Jall is well\n");
        assert_eq!(finding.mend.len(), MAX_TEXT);
    }
}
