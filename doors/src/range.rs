//! Which part of a file a request asks for (RFC 9110, section 14).
//!
//! One range is served. Several at once, other units and what cannot be read are answered with the whole file, as the RFC
//! allows.

use std::ops::Range;

/// What to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of it.
    Whole,
    /// These bytes; never none.
    Part(Range<u64>),
    /// Bytes that are not there.
    Nothing,
}

/// What a `Range` header asks of `size` bytes.
pub fn wanted(header: &str, size: u64) -> Wanted {
    let Some(range) = header.trim().strip_prefix("bytes=").filter(|ranges| !ranges.contains(',')) else {
        return Wanted::Whole;
    };
    let Some((first, last)) = range.trim().split_once('-') else {
        return Wanted::Whole;
    };
    let part = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Some(first), None) if last.is_empty() => first..size,
        (None, Some(suffix)) if first.is_empty() => size.saturating_sub(suffix)..size,
        _ => return Wanted::Whole,
    };
    if part.is_empty() { Wanted::Nothing } else { Wanted::Part(part) }
}

/// Digits only: no sign, no space. Numbers beyond all sizes are the largest.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_what_is_there() {
        let cases = [
            ("bytes=0-99", Wanted::Part(0..100)),
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=50-", Wanted::Part(50..1000)),
            ("bytes=-10", Wanted::Part(990..1000)),
            ("bytes=-5000", Wanted::Part(0..1000)),
            ("bytes=990-2000", Wanted::Part(990..1000)),
            ("bytes=5-99999999999999999999999", Wanted::Part(5..1000)),
            ("bytes=1000-", Wanted::Nothing),
            ("bytes=99999999999999999999999-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=0-1,5-6", Wanted::Whole),
            ("bytes=6-5", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=", Wanted::Whole),
            ("items=0-1", Wanted::Whole),
        ];
        for (header, expected) in cases {
            assert_eq!(wanted(header, 1000), expected, "{header}");
        }
        assert_eq!(wanted("bytes=0-", 0), Wanted::Nothing);
    }
}
