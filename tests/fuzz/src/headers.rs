//! What clients say of files: names, types and ranges. Names become harmless, ranges stay within the file, and what goes out
//! again fits a header.

use crate::content_type;
use crate::name;
use crate::range::{Wanted, wanted};

pub(crate) fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    for line in text.lines() {
        for size in [0, 1, 1000, u64::MAX] {
            if let Wanted::Part(part) = wanted(line, size) {
                assert!(part.start < part.end && part.end <= size, "{line}: {part:?} of {size}");
            }
        }
        if let Some(clean) = name::clean(line) {
            let is_bad = |c: char| c.is_control() || "/\\<>:\"|?*".contains(c);
            assert!(!clean.is_empty() && clean.len() <= 255 && !clean.contains(is_bad), "{clean:?}");
            assert_eq!(name::clean(&clean).as_ref(), Some(&clean), "what is clean stays");
        }
        for inline in [true, false] {
            let disposition = name::disposition(inline, line);
            let is_fine = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
            assert!(disposition.bytes().all(is_fine), "{disposition:?}");
            assert_eq!(disposition.matches('"').count(), 2, "{disposition}");
        }
        check_type(line, input);
    }
}

/// What is taken as a type can be shown as one, and is taken again.
fn check_type(declared: &str, head: &[u8]) {
    let everything = ["*/*".to_owned(), "image/*".to_owned()];
    if let Ok(taken) = content_type::check(Some(declared), head, &everything) {
        assert!(taken.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{taken:?}");
        assert!(content_type::matches("*/*", &taken), "{taken}");
        let _ = (content_type::is_safe_to_show(&taken), content_type::is_text_like(&taken));
    }
    let _ = content_type::is_pattern(declared);
    let _ = content_type::check_declared(Some(declared), &everything);
}
