//! The form of a token: three parts, a header that this server accepts, and a signature (RFC 7515, RFC 7519).
//!
//! Whoever makes a token chooses its header, so nothing in it is believed: `alg` only picks among keys that were
//! configured for that algorithm, which is why neither `none` nor a public key used as a shared secret gets through.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::AccessError;

/// The longest token, in bytes. Larger ones do not fit into the headers of many proxies anyway.
pub(crate) const MAX_BYTES: usize = 8 * 1024;

/// The longest `kid`, in bytes.
const MAX_KID_BYTES: usize = 256;

/// The algorithms of signatures that are accepted.
pub(crate) const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("HS256", Algorithm::HS256),
    ("RS256", Algorithm::RS256),
    ("ES256", Algorithm::ES256),
    ("EdDSA", Algorithm::EdDSA),
];

/// Types of tokens (RFC 8725 section 3.11) that say who somebody is, or what they may do. Others, such as those of a
/// logout, must not be taken for one.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// A token whose signature has not been checked yet.
#[derive(Debug)]
pub(crate) struct Token<'a> {
    /// How it says it is signed.
    pub(crate) algorithm: Algorithm,
    /// Which key it says signed it.
    pub(crate) kid: Option<String>,
    /// What is signed.
    pub(crate) message: &'a str,
    /// The signature, in base64url.
    pub(crate) signature: &'a str,
    /// The claims, as JSON.
    pub(crate) claims: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    /// Extensions that must be understood (RFC 7515 section 4.1.11); none are here.
    #[serde(default)]
    crit: Option<Box<RawValue>>,
}

impl<'a> Token<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, AccessError> {
        if text.len() > MAX_BYTES {
            return Err(AccessError::invalid(format!(
                "the token is longer than {MAX_BYTES} bytes; put less into its claims"
            )));
        }
        let mut parts = text.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(AccessError::invalid("not a token: a JWT has three parts with dots between them"));
        };
        let message = &text[..header.len() + 1 + claims.len()];
        let decode = |part: &str, name: &str| {
            URL_SAFE_NO_PAD.decode(part).map_err(|_| {
                AccessError::invalid(format!("the token's {name} is not base64url without padding"))
            })
        };
        let header: Header = serde_json::from_slice(&decode(header, "header")?)
            .map_err(|error| AccessError::invalid(format!("the token's header: {error}")))?;
        let claims = decode(claims, "claims")?;
        let algorithm = header.check()?;
        Ok(Self { algorithm, kid: header.kid, message, signature, claims })
    }
}

impl Header {
    fn check(&self) -> Result<Algorithm, AccessError> {
        if self.crit.is_some() {
            return Err(AccessError::invalid(
                "the token's header has `crit`, which this server does not know",
            ));
        }
        if let Some(typ) = &self.typ {
            let lower = typ.to_ascii_lowercase();
            if !TYPES.contains(&lower.strip_prefix("application/").unwrap_or(&lower)) {
                return Err(AccessError::invalid(format!(
                    "the token's `typ` is `{}`; this server accepts JWT and at+jwt",
                    short(typ)
                )));
            }
        }
        if self.kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID_BYTES) {
            return Err(AccessError::invalid(format!(
                "the token's `kid` is longer than {MAX_KID_BYTES} bytes"
            )));
        }
        let known = ALGORITHMS.iter().find(|(name, _)| *name == self.alg);
        known.map(|(_, algorithm)| *algorithm).ok_or_else(|| {
            AccessError::invalid(format!(
                "the token's `alg` is `{}`; this server accepts {}",
                short(&self.alg),
                ALGORITHMS.map(|(name, _)| name).join(", ")
            ))
        })
    }
}

/// The name of an algorithm.
pub(crate) fn algorithm_name(algorithm: Algorithm) -> &'static str {
    ALGORITHMS.iter().find(|(_, known)| *known == algorithm).map_or("?", |(name, _)| name)
}

/// As much of a text that somebody sent as a message may show.
pub(crate) fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn token(header: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2ln", part(header), part(&json!({ "sub": "anna" })))
    }

    fn refused(header: &Value) -> String {
        Token::parse(&token(header)).unwrap_err().message
    }

    #[test]
    fn a_token_is_taken_apart() {
        let text = token(&json!({ "alg": "ES256", "kid": "7", "typ": "application/at+JWT" }));
        let token = Token::parse(&text).unwrap();
        assert_eq!((token.algorithm, token.kid.as_deref()), (Algorithm::ES256, Some("7")));
        assert_eq!(format!("{}.{}", token.message, token.signature), text);
        assert_eq!(token.claims, br#"{"sub":"anna"}"#);
    }

    #[test]
    fn headers_that_ask_for_too_much_or_too_little_are_refused() {
        for alg in ["none", "None", "HS512", "PS256", "hs256", ""] {
            assert!(refused(&json!({ "alg": alg })).starts_with(&format!("the token's `alg` is `{alg}`")));
        }
        assert!(refused(&json!({ "alg": "HS256", "typ": "logout+jwt" })).contains("`typ` is `logout+jwt`"));
        assert!(refused(&json!({ "alg": "HS256", "crit": ["exp"] })).contains("`crit`"));
        assert!(refused(&json!({ "alg": "HS256", "kid": "x".repeat(300) })).contains("`kid` is longer"));
        assert!(refused(&json!({ "kid": "x" })).contains("missing field `alg`"));
        assert!(refused(&json!([1])).starts_with("the token's header"));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for (text, reason) in [
            ("", "three parts"),
            ("a.b", "three parts"),
            ("a.b.c.d", "three parts"),
            ("..", "header"),
            ("e30=.e30.", "header is not base64url"),
            ("e30.e30.", "missing field `alg`"),
        ] {
            let message = Token::parse(text).unwrap_err().message;
            assert!(message.contains(reason), "{text}: {message}");
        }
        assert!(Token::parse(&"a".repeat(9000)).unwrap_err().message.contains("longer than 8192 bytes"));
    }
}
