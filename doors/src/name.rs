//! Names for people, without what people cannot see, and names in addresses.

/// Invisible characters that are no control characters: the format characters (Unicode category Cf), which turn text
/// around or hide in it, and the separators of lines and paragraphs. The ranges are of Unicode 17.
const INVISIBLE: [(char, char); 20] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0001}', '\u{e0001}'),
    ('\u{e0020}', '\u{e007f}'),
];

/// A name without control and format characters and outer spaces; empty when nothing remains.
pub fn clean(name: &str) -> String {
    let visible: String = name.chars().filter(|c| !c.is_control() && !is_invisible(*c)).collect();
    visible.trim().to_owned()
}

/// Whether a name can stand in addresses: letters and digits of any script, `_`, `-` and `.`, of at most so many bytes.
pub fn is_address(name: &str, max_bytes: usize) -> bool {
    (1..=max_bytes).contains(&name.len())
        && name.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c))
        && !name.chars().all(|c| c == '.')
}

fn is_invisible(c: char) -> bool {
    INVISIBLE.iter().any(|&(first, last)| (first..=last).contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_addresses_need_no_escape_and_lead_nowhere_else() {
        for name in ["tea", "чай-2", "a.b_c"] {
            assert!(is_address(name, 16), "{name}");
        }
        for name in ["", "..", "a/b", "a b", "a:b", "12345678901234567"] {
            assert!(!is_address(name, 16), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_removed_and_what_can_stays() {
        assert_eq!(clean(" Anna\u{202e}\u{7} \u{200b}"), "Anna");
        assert_eq!(clean("\u{feff}An\u{200d}na\u{2066}"), "Anna");
        assert_eq!(clean("\u{200b}\u{e0041}\u{2028}"), "");
        for name in ["Борис Иванович", "李雷", "محمد", "Zoë", "👩 d'Arc (2)"] {
            assert_eq!(clean(name), name);
        }
    }
}
