//! Patterns of channel names.

use std::fmt;

/// A pattern of names, in which `*` stands for any run of characters, also none: `chat:*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Box<str>);

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pattern has 1 to 255 bytes, as in chat:* or room:*:typing")]
pub struct BadPattern;

impl Pattern {
    /// Checks a pattern's length.
    pub fn new(pattern: &str) -> Result<Self, BadPattern> {
        if pattern.is_empty() || pattern.len() > super::MAX_CHANNEL_NAME {
            return Err(BadPattern);
        }
        Ok(Self(pattern.into()))
    }

    /// Whether the whole name is like the pattern.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where the last `*` is, and up to where it stands for the name; it takes more whenever what follows does not fit.
        let mut star: Option<(usize, usize)> = None;
        while n < name.len() {
            if p < pattern.len() && pattern[p] == b'*' {
                star = Some((p, n));
                p += 1;
            } else if p < pattern.len() && pattern[p] == name[n] {
                p += 1;
                n += 1;
            } else if let Some((at, taken)) = star {
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_run() {
        let cases = [
            ("*", "anything", true),
            ("chat:*", "chat:", true),
            ("chat:*", "chat:lobby:1", true),
            ("chat:*", "chats", false),
            ("room:*:typing", "room:a:b:typing", true),
            ("room:*:typing", "room:a:typing:x", false),
            ("*a*b", "xaab", true),
            ("exact", "exact", true),
            ("exact", "exactly", false),
        ];
        for (pattern, name, is_match) in cases {
            assert_eq!(Pattern::new(pattern).unwrap().matches(name), is_match, "{pattern} {name}");
        }
    }
}
