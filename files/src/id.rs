//! Ids of files, and the keys of their contents.

use std::fmt::Write as _;

/// The key of a file's content in the store: spread over folders, and never made of a name.
pub(crate) fn object_key(id: &str) -> String {
    let digits = id.strip_prefix(ID_PREFIX).unwrap_or(id);
    format!("objects/{}/{id}", digits.get(..2).unwrap_or("xx"))
}

const ID_PREFIX: &str = "file_";
const ID_DIGITS: usize = 32;

/// A new id; 128 random bits, so that nobody guesses one.
pub(crate) fn new_id() -> String {
    let mut bytes = [0; ID_DIGITS / 2];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
    format!("{ID_PREFIX}{}", hex(&bytes))
}

/// Whether it can be an id.
pub(crate) fn is_id(text: &str) -> bool {
    text.strip_prefix(ID_PREFIX).is_some_and(|digits| {
        digits.len() == ID_DIGITS && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked_and_keys_never_leave_their_folder() {
        let id = new_id();
        assert!(is_id(&id));
        assert_eq!(object_key(&id), format!("objects/{}/{id}", &id[5..7]));
        for text in
            ["", "file_", "../../etc/passwd", "file_../../../../../../../etc/passwd0", &id.to_uppercase()]
        {
            assert!(!is_id(text), "{text}");
        }
    }
}
