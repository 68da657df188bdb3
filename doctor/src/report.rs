//! All findings together, for people and for programs.

use std::fmt::{self, Write as _};

use serde_json::json;

use crate::finding::{Finding, Level};

/// How wide a line of text may be.
const WIDTH: usize = 110;

/// How far the text of a finding is from the left.
const INDENT: usize = 26;

/// All findings of one examination, in the order in which things depend on each other.
#[derive(Clone, Debug, Default)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// Adds one.
    pub fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// All of them.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The worst; fine where nothing was looked at.
    pub fn level(&self) -> Level {
        self.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Fine)
    }

    /// Whether something does not work.
    pub fn has_failures(&self) -> bool {
        self.level() == Level::Failure
    }

    /// For programs: `{"level": …, "findings": […]}`.
    pub fn to_json(&self) -> String {
        let value = json!({ "level": self.level(), "findings": self.findings });
        serde_json::to_string_pretty(&value).expect("text and lists can be JSON")
    }

    fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }
}

impl Extend<Finding> for Report {
    fn extend<T: IntoIterator<Item = Finding>>(&mut self, findings: T) {
        self.findings.extend(findings);
    }
}

/// A table for people: what is fine in one line, everything else with what to do.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let Finding { check, level, tried, got, means, mend } = finding;
            let head = format!("  {level:<5} {check:<18}");
            let is_wrong = matches!(level, Level::Warning | Level::Failure);
            let first = if is_wrong || tried.is_empty() { got.clone() } else { format!("{tried}: {got}") };
            f.write_str(&wrapped(&head, &first))?;
            let parts = [("tried", tried), ("means", means), ("mend", mend)];
            for (name, text) in parts.iter().filter(|(_, text)| is_wrong && !text.is_empty()) {
                f.write_str(&wrapped(&format!("{name:>INDENT$}"), text))?;
            }
        }
        let (failures, warnings) = (self.count(Level::Failure), self.count(Level::Warning));
        let fine = self.count(Level::Fine);
        writeln!(f, "{failures} wrong, {warnings} to look at, {fine} fine.")
    }
}

/// A text beside its head, on as many lines as it takes. Lines of the text itself stay apart, words are never cut.
fn wrapped(head: &str, text: &str) -> String {
    let mut out = String::new();
    for (number, line) in text.lines().enumerate() {
        let head = if number == 0 { head } else { "" };
        let _ = write!(out, "{head:<INDENT$} ");
        let mut width = INDENT;
        for word in line.split(' ') {
            let len = word.chars().count() + 1;
            if width + len > WIDTH && width > INDENT {
                let _ = write!(out, "\n{:INDENT$} ", "");
                width = INDENT;
            }
            if width > INDENT {
                out.push(' ');
            }
            out.push_str(word);
            width += len;
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report.add(Finding::fine("http", "GET http://a/health", "200"));
        report.add(Finding::skipped("turn", "", "the server names none"));
        let long = "word ".repeat(40);
        report
            .add(Finding::failure("media.udp", "a binding request", "nothing").means(long).mend("a = 1\nb"));
        report
    }

    #[test]
    fn what_is_wrong_is_told_at_length_and_what_is_fine_in_a_line() {
        let text = report().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "  ok    http               GET http://a/health: 200");
        assert_eq!(lines[1], "  -     turn               the server names none");
        assert_eq!(lines[2], "  FAIL  media.udp          nothing");
        assert_eq!(lines[3], "                     tried a binding request");
        assert!(lines[4].starts_with("                     means word word"), "{text}");
        assert!(lines.iter().all(|line| line.len() <= WIDTH), "{text}");
        assert!(text.contains("                      mend a = 1\n                           b\n"), "{text}");
        assert_eq!(lines.last(), Some(&"1 wrong, 0 to look at, 1 fine."));
    }

    #[test]
    fn programs_are_told_the_worst_and_everything() {
        let json: serde_json::Value = serde_json::from_str(&report().to_json()).unwrap();
        assert_eq!(json["level"], "failure");
        assert_eq!(json["findings"][0]["check"], "http");
        assert!(json["findings"][0].get("mend").is_none());
        assert_eq!(json["findings"][2]["mend"], "a = 1\nb");
        assert!(report().has_failures());
        assert_eq!(Report::default().level(), Level::Fine);
        let warned = Finding::failure("a", "", "").at_most(Level::Warning);
        assert_eq!(warned.level, Level::Warning);
        assert_eq!(Finding::fine("a", "", "").at_most(Level::Warning).level, Level::Fine);
    }
}
