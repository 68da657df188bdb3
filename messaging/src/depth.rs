//! How deep a JSON text goes, found without building anything.

/// Whether arrays and objects stand in each other at most `limit` deep. The text need not be valid JSON.
pub(crate) fn is_within(text: &str, limit: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > limit {
                    return false;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_count_outside_of_strings_only() {
        assert!(is_within(r#"{"a": [1, {"b": "[[[[{{\"[["}]}"#, 3));
        assert!(!is_within(r#"{"a": [1, {"b": 1}]}"#, 2));
        assert!(is_within("[][][]", 1));
        assert!(!is_within(&"[".repeat(1_000_000), 64));
        assert!(is_within("]]]]", 1));
    }
}
