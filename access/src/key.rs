//! Keys that check signatures: each for one algorithm, which the operator, not the token, has chosen.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

use crate::token::Token;

/// An uncompressed point of P-256 (SEC 1 section 2.3.3), in bytes.
const P256_POINT_BYTES: usize = 65;

/// A key that checks signatures.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// Its name, which tokens may give.
    pub(crate) kid: Option<String>,
    /// The only algorithm that it is for.
    pub(crate) algorithm: Algorithm,
    decoding: DecodingKey,
}

impl Key {
    /// A shared secret.
    pub(crate) fn secret(kid: Option<String>, secret: &str) -> Self {
        Self { kid, algorithm: Algorithm::HS256, decoding: DecodingKey::from_secret(secret.as_bytes()) }
    }

    /// A public key as PEM; what it is of says its algorithm.
    pub(crate) fn pem(kid: Option<String>, pem: &str) -> Result<Self, String> {
        if pem.contains("PRIVATE KEY") {
            return Err("is a private key, which this server must not have; give it the public one \
                        (openssl pkey -in key.pem -pubout)"
                .to_owned());
        }
        let pem = pem.as_bytes();
        let (algorithm, key) = if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
            (Algorithm::RS256, key)
        } else if let Ok(key) = DecodingKey::from_ec_pem(pem) {
            (Algorithm::ES256, key)
        } else if let Ok(key) = DecodingKey::from_ed_pem(pem) {
            (Algorithm::EdDSA, key)
        } else {
            return Err(
                "is no public key of RSA, P-256 or Ed25519 in PEM (-----BEGIN PUBLIC KEY-----)".to_owned()
            );
        };
        if algorithm == Algorithm::ES256 && key.try_get_as_bytes().map_or(0, <[u8]>::len) != P256_POINT_BYTES
        {
            return Err("is a key of another curve than P-256, which ES256 needs".to_owned());
        }
        Ok(Self { kid, algorithm, decoding: key })
    }

    /// A key of a set; `None` for what is not meant for signatures of these algorithms. Shared secrets have no place in
    /// a set that everybody can read.
    pub(crate) fn jwk(jwk: &Jwk) -> Option<Self> {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
            _ => return None,
        };
        let named = match jwk.common.key_algorithm {
            None => algorithm,
            Some(KeyAlgorithm::RS256) => Algorithm::RS256,
            Some(KeyAlgorithm::ES256) => Algorithm::ES256,
            Some(KeyAlgorithm::EdDSA) => Algorithm::EdDSA,
            Some(_) => return None,
        };
        let signs = jwk.common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature);
        if named != algorithm || !signs {
            return None;
        }
        let key = DecodingKey::from_jwk(jwk).ok()?;
        Some(Self { kid: jwk.common.key_id.clone(), algorithm, decoding: key })
    }

    /// Whether the token may have been signed with this key: its algorithm, and its name where both have one.
    pub(crate) fn suits(&self, token: &Token<'_>) -> bool {
        let named = match (&self.kid, &token.kid) {
            (Some(own), Some(wanted)) => own == wanted,
            _ => true,
        };
        named && self.algorithm == token.algorithm
    }

    /// Whether the token gives this key's name.
    pub(crate) fn is_named_by(&self, token: &Token<'_>) -> bool {
        self.kid.is_some() && self.kid.as_deref() == token.kid.as_deref()
    }

    /// Whether it has signed the token.
    pub(crate) fn verifies(&self, token: &Token<'_>) -> bool {
        self.algorithm == token.algorithm
            && jsonwebtoken::crypto::verify(
                token.signature,
                token.message.as_bytes(),
                &self.decoding,
                self.algorithm,
            )
            .unwrap_or(false)
    }
}
