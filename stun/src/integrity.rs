//! Message integrity: a code that only who has the key can make (RFC 8489 sections 14.5 and 14.6).

use aws_lc_rs::{constant_time, hmac};

use crate::attribute::{MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256};
use crate::{ATTRIBUTE_HEADER_LEN, HEADER_LEN};

/// A key, ready to sign and verify with.
#[derive(Clone, Debug)]
pub struct IntegrityKey {
    key: hmac::Key,
    attribute: u16,
}

/// What [`IntegrityKey::sign`] makes.
pub type Tag = hmac::Tag;

impl IntegrityKey {
    /// The key of a short-term password, such as ICE's (RFC 8489 section 9.1.1).
    pub fn new(password: &str) -> Self {
        Self::sha1(password.as_bytes())
    }

    /// For MESSAGE-INTEGRITY.
    pub fn sha1(key: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
        Self { key, attribute: MESSAGE_INTEGRITY }
    }

    /// For MESSAGE-INTEGRITY-SHA256.
    pub fn sha256(key: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), attribute: MESSAGE_INTEGRITY_SHA256 }
    }

    /// The integrity of a message that goes on with the attribute behind `signed`. The length in the header is taken as if
    /// the attribute were the last, whatever stands there.
    pub fn sign(&self, signed: &[u8]) -> Tag {
        let length = (signed.len() + ATTRIBUTE_HEADER_LEN + self.tag_len()).saturating_sub(HEADER_LEN) as u16;
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&signed[..2]);
        context.update(&length.to_be_bytes());
        context.update(&signed[4..]);
        context.sign()
    }

    /// Whether `tag` is the integrity of what stands before it; in constant time. A cut one is not: neither ICE nor TURN says how
    /// much may be cut (RFC 8489 section 14.6).
    pub fn verify(&self, signed: &[u8], tag: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(self.sign(signed).as_ref(), tag).is_ok()
    }

    /// The attribute that holds it.
    pub(crate) fn attribute(&self) -> u16 {
        self.attribute
    }

    fn tag_len(&self) -> usize {
        if self.attribute == MESSAGE_INTEGRITY { 20 } else { 32 }
    }
}
