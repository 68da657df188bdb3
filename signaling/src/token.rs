//! Random names and resume tokens.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};

/// What a client shows to resume: 256 random bits in hexadecimal.
pub(crate) fn new_resume_token() -> String {
    hex(&random::<32>())
}

/// A new peer id or room id.
pub(crate) fn new_id(prefix: &str) -> String {
    format!("{prefix}_{}", hex(&random::<6>()))
}

/// What the server keeps of a resume token. Tokens are found by this digest, so neither memory nor the time of a
/// look-up tells one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Of this token.
    pub(crate) fn of(token: &str) -> Self {
        let digest = digest(&SHA256, token.as_bytes());
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl std::fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_different_and_found_by_their_digest() {
        let (a, b) = (new_resume_token(), new_resume_token());
        assert_eq!(a.len(), 64);
        assert_ne!(a, b);
        assert_eq!(TokenDigest::of(&a), TokenDigest::of(&a));
        assert_ne!(TokenDigest::of(&a), TokenDigest::of(&b));
        assert_eq!(new_id("peer").len(), "peer_".len() + 12);
    }
}
