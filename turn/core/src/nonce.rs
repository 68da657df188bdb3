//! Nonces that need no memory: the server recognizes its own by a keyed code over when they expire and for whom they are.

use std::net::IpAddr;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Nonces of servers that know the features of RFC 8489 begin so (section 9.2).
const COOKIE: &str = "obMatJos2";
/// The 24 bits of features in base64 (RFC 8489 section 18.1): password algorithms, and with the second bit clients hide their names,
/// which works only where the server knows all that are good.
const FEATURES: [&[u8; FEATURES_TEXT_LEN]; 2] = [b"gAAA", b"wAAA"];

/// Seconds since 1970 when it expires, and the first half of the code.
const EXPIRY_LEN: usize = 4;
const CODE_LEN: usize = 12;
const BODY_LEN: usize = EXPIRY_LEN + CODE_LEN;
/// Both in base64: of the features 3 bytes, of the body 16.
const FEATURES_TEXT_LEN: usize = 4;
const BODY_TEXT_LEN: usize = 22;

/// The length of a nonce.
pub(crate) const NONCE_LEN: usize = COOKIE.len() + FEATURES_TEXT_LEN + BODY_TEXT_LEN;

/// What nonces are made with; all workers of a server have the same.
#[derive(Clone, Debug)]
pub struct NonceKey {
    key: hmac::Key,
}

impl NonceKey {
    /// Of random bytes.
    pub fn new(random: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, random) }
    }

    /// A nonce for the client at this address; its port may change, as NATs do. It may have the client hide its name.
    pub(crate) fn make(&self, client: IpAddr, expires: u64, hides_names: bool) -> [u8; NONCE_LEN] {
        let expires = u32::try_from(expires).unwrap_or(u32::MAX).to_be_bytes();
        let mut body = [0; BODY_LEN];
        body[..EXPIRY_LEN].copy_from_slice(&expires);
        let offer = FEATURES[usize::from(hides_names)];
        body[EXPIRY_LEN..].copy_from_slice(&self.code(client, expires, *offer));
        let mut nonce = [0; NONCE_LEN];
        let (cookie, rest) = nonce.split_at_mut(COOKIE.len());
        let (features, text) = rest.split_at_mut(FEATURES_TEXT_LEN);
        cookie.copy_from_slice(COOKIE.as_bytes());
        features.copy_from_slice(offer);
        let written = URL_SAFE_NO_PAD.encode_slice(body, text);
        debug_assert_eq!(written, Ok(BODY_TEXT_LEN), "it was measured for this");
        nonce
    }

    /// Whether it is ours, for this client, and has not expired.
    pub(crate) fn is_valid(&self, nonce: &[u8], client: IpAddr, now: u64) -> bool {
        let Some(rest) = nonce.strip_prefix(COOKIE.as_bytes()) else { return false };
        let Some((features, text)) = rest.split_first_chunk::<FEATURES_TEXT_LEN>() else { return false };
        let mut body = [0; BODY_LEN + 2];
        if !FEATURES.contains(&features) || URL_SAFE_NO_PAD.decode_slice(text, &mut body) != Ok(BODY_LEN) {
            return false;
        }
        let mut expires = [0; EXPIRY_LEN];
        expires.copy_from_slice(&body[..EXPIRY_LEN]);
        let code = self.code(client, expires, *features);
        constant_time::verify_slices_are_equal(&code, &body[EXPIRY_LEN..BODY_LEN]).is_ok()
            && u64::from(u32::from_be_bytes(expires)) > now
    }

    /// Over the features too: nobody on the way can have taken one out.
    fn code(
        &self,
        client: IpAddr,
        expires: [u8; EXPIRY_LEN],
        features: [u8; FEATURES_TEXT_LEN],
    ) -> [u8; CODE_LEN] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&features);
        context.update(&expires);
        match client {
            IpAddr::V4(ip) => context.update(&ip.octets()),
            IpAddr::V6(ip) => context.update(&ip.octets()),
        }
        let mut code = [0; CODE_LEN];
        code.copy_from_slice(&context.sign().as_ref()[..CODE_LEN]);
        code
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn a_nonce_is_for_one_client_and_one_time() {
        let key = NonceKey::new(&[7; 32]);
        let (client, other): (IpAddr, IpAddr) =
            ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let nonce = key.make(client, 1000, true);
        assert!(nonce.is_ascii());
        assert!(
            key.is_valid(&nonce, client, 999) && key.is_valid(&key.make(client, 1000, false), client, 999)
        );
        let mut bid_down = nonce;
        bid_down[COOKIE.len()..COOKIE.len() + FEATURES_TEXT_LEN].copy_from_slice(FEATURES[0]);
        assert!(!key.is_valid(&bid_down, client, 999));
        assert!(!key.is_valid(&nonce, client, 1000));
        assert!(!key.is_valid(&nonce, other, 999));
        assert!(!NonceKey::new(&[8; 32]).is_valid(&nonce, client, 999));
        for at in 0..nonce.len() {
            let mut changed = nonce;
            changed[at] ^= 1;
            assert!(!key.is_valid(&changed, client, 999), "byte {at}");
        }
        assert!(!key.is_valid(&nonce[..NONCE_LEN - 1], client, 999) && !key.is_valid(b"", client, 999));
        let longer = [&nonce[..], b"AAAA"].concat();
        assert!(!key.is_valid(&longer, client, 999));
    }

    #[test]
    fn features_are_three_bytes_of_base64() {
        assert_eq!(FEATURES.map(|text| STANDARD.decode(text).unwrap()), [[0x80, 0, 0], [0xc0, 0, 0]]);
    }
}
