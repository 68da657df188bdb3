//! Who may use the server: time-limited names signed by a secret (the REST form that coturn uses), and static users.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use smallvec::SmallVec;
use veche_stun::IntegrityKey;

use crate::issued::IssuedNames;
use crate::refusals::Refusal;

/// A name and password for one client, for some time.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// When it expires, in seconds since 1970, and whose it is.
    pub username: String,
    /// The secret's code over the name.
    pub password: String,
}

/// Makes a credential that expires at `expires` (seconds since 1970). `user` tells whose usage it is; it must not be empty.
pub fn issue(secret: &str, user: &str, expires: u64) -> Issued {
    let username = format!("{expires}:{user}");
    let password = password(secret, &username);
    Issued { username, password }
}

/// Everybody who may use the server.
#[derive(Clone, Default)]
pub struct Credentials {
    /// All of them are accepted, so that one can follow another.
    secrets: Vec<String>,
    password_by_user: HashMap<String, String>,
    user_by_hash: HashMap<[u8; 32], String>,
    /// All names that the secrets have signed, where nobody else has those.
    issued: Option<Arc<IssuedNames>>,
}

/// The passwords that a name may have: one of each secret.
pub(crate) type Passwords = SmallVec<[String; 2]>;

impl Credentials {
    /// `secrets` sign time-limited names, `users` are names with their passwords. `realm` is part of hidden names.
    pub fn new(
        realm: &str,
        secrets: impl IntoIterator<Item = String>,
        users: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let password_by_user: HashMap<String, String> = users.into_iter().collect();
        let user_by_hash =
            password_by_user.keys().map(|user| (user_hash(user, realm), user.clone())).collect();
        Self { secrets: secrets.into_iter().collect(), password_by_user, user_by_hash, issued: None }
    }

    /// The same, where nobody else has the secrets: everything that they have signed is noted here.
    #[must_use]
    pub fn with_issued(self, issued: Arc<IssuedNames>) -> Self {
        Self { issued: Some(issued), ..self }
    }

    /// Whether clients may hide their names: whether all that are good now are known.
    pub(crate) fn knows_all_names(&self, now: u64) -> bool {
        self.secrets.is_empty() || self.issued.as_ref().is_some_and(|issued| issued.are_complete(now))
    }

    /// The name behind a USERHASH: of a static user, or one that was made here.
    pub(crate) fn name(&self, hash: &[u8]) -> Option<Cow<'_, str>> {
        let hash: &[u8; 32] = hash.try_into().ok()?;
        let user = self.user_by_hash.get(hash).map(|user| Cow::from(user.as_str()));
        user.or_else(|| Some(Cow::from(self.issued.as_ref()?.name(hash)?.into_string())))
    }

    /// The passwords that this name may have now (`now` in seconds since 1970).
    pub(crate) fn passwords(&self, name: &str, now: u64) -> Result<Passwords, Refusal> {
        if let Some(password) = self.password_by_user.get(name) {
            return Ok(SmallVec::from_iter([password.clone()]));
        }
        let expires = name.split(':').next().and_then(|text| text.parse::<u64>().ok());
        match expires {
            None => Err(Refusal::UnknownUser),
            Some(_) if self.secrets.is_empty() => Err(Refusal::UnknownUser),
            Some(expires) if expires <= now => Err(Refusal::CredentialExpired),
            Some(_) => Ok(self.secrets.iter().map(|secret| password(secret, name)).collect()),
        }
    }
}

impl Credentials {
    /// Whether a name still has the password that this key was made from, whatever its time.
    pub(crate) fn still_has(&self, name: &str, key: &LongTermKey, realm: &str) -> bool {
        let passwords = self.passwords(name, 0).unwrap_or_default();
        passwords.iter().any(|password| LongTermKey::new(key.algorithm(), name, realm, password) == *key)
    }
}

/// Secrets stay out of logs.
impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issued({})", self.username)
    }
}

/// Secrets stay out of logs.
impl fmt::Debug for LongTermKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LongTermKey({:?})", self.algorithm())
    }
}

/// Secrets stay out of logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({} secrets, {} users)", self.secrets.len(), self.password_by_user.len())
    }
}

/// Whose usage it is that a name stands for: what follows the time, where there is one.
pub(crate) fn user_of(name: &str) -> &str {
    match name.split_once(':') {
        Some((expires, user)) if expires.parse::<u64>().is_ok() && !user.is_empty() => user,
        _ => name,
    }
}

fn password(secret: &str, name: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    STANDARD.encode(hmac::sign(&key, name.as_bytes()))
}

/// What stands in USERHASH (RFC 8489 section 14.4).
pub(crate) fn user_hash(name: &str, realm: &str) -> [u8; 32] {
    sha256([name.as_bytes(), b":", realm.as_bytes()])
}

fn sha256<const N: usize>(pieces: [&[u8]; N]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for piece in pieces {
        context.update(piece);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// How a key is made from a password (RFC 8489 section 18.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PasswordAlgorithm {
    Md5,
    Sha256,
}

impl PasswordAlgorithm {
    /// All that are offered, as PASSWORD-ALGORITHMS has them: each a number and the length of its parameters.
    pub(crate) const OFFERED: [u8; 8] = [0, 1, 0, 0, 0, 2, 0, 0];

    /// Which one PASSWORD-ALGORITHM names, if it is one that was offered.
    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        match value {
            [0, 1, 0, 0] => Some(Self::Md5),
            [0, 2, 0, 0] => Some(Self::Sha256),
            _ => None,
        }
    }
}

/// The key of a user (RFC 8489 section 9.2.2), as bytes: a ready one is large, and an allocation keeps this for its life.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LongTermKey {
    Md5([u8; 16]),
    Sha256([u8; 32]),
}

impl LongTermKey {
    pub(crate) fn new(algorithm: PasswordAlgorithm, name: &str, realm: &str, password: &str) -> Self {
        match algorithm {
            PasswordAlgorithm::Md5 => {
                let mut md5 = Md5::new();
                for piece in [name, ":", realm, ":", password] {
                    md5.update(piece);
                }
                Self::Md5(md5.finalize().into())
            }
            PasswordAlgorithm::Sha256 => {
                let pieces = [name, ":", realm, ":", password].map(str::as_bytes);
                Self::Sha256(sha256(pieces))
            }
        }
    }

    pub(crate) fn algorithm(&self) -> PasswordAlgorithm {
        match self {
            Self::Md5(_) => PasswordAlgorithm::Md5,
            Self::Sha256(_) => PasswordAlgorithm::Sha256,
        }
    }

    /// Ready to sign and verify, with SHA-256 or SHA-1.
    pub(crate) fn ready(&self, sha256: bool) -> IntegrityKey {
        let key: &[u8] = match self {
            Self::Md5(key) => key,
            Self::Sha256(key) => key,
        };
        if sha256 { IntegrityKey::sha256(key) } else { IntegrityKey::sha1(key) }
    }
}

#[cfg(test)]
mod tests {
    use veche_stun::Message;

    use super::*;

    /// RFC 5769 section 2.4.
    const LONG_TERM: &str = "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe3\
        82b9000000150\
        01c662f2f3439396b39353464364f4c33346f4c394653547679363473410014000b6578616d706c652e6f72670000080014f670\
        24656dd64a3e02b8e0712e85c9a28ca89666";
    /// RFC 8489 appendix B.1, as its erratum 6268 mends it.
    const SHA256: &str = "000100902112a44278ad3433c6ad72c029da412e001e00204a3cf38fef6992bda952c6780417da0f24819415\
        569e60b205c46e41407f170400150029\
        6f624d61744a6f733241414143662f2f3439396b39353464364f4c33346f4c394653547679363473410000000014000b65\
        78616d706c652e6f726700001d000400020000001c0020b5c7bf005b6c52a21c51c5e892f81924136296cb927c43149309278c\
        c6518e65";
    const NAME: &str = "マトリックス";

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn long_term_keys_agree_with_rfc_5769_and_rfc_8489() {
        for (sample, algorithm, is_sha256) in
            [(LONG_TERM, PasswordAlgorithm::Md5, false), (SHA256, PasswordAlgorithm::Sha256, true)]
        {
            let sample = hex(sample);
            let message = Message::parse(&sample).unwrap();
            let integrity = message.attributes().map(Result::unwrap).last().unwrap();
            let key = LongTermKey::new(algorithm, NAME, "example.org", "TheMatrIX");
            assert_eq!(key.algorithm(), algorithm);
            assert!(
                key.ready(is_sha256).verify(message.before(&integrity), integrity.value),
                "{algorithm:?}"
            );
            let wrong = LongTermKey::new(algorithm, NAME, "example.org", "TheMatrix");
            assert!(!wrong.ready(is_sha256).verify(message.before(&integrity), integrity.value));
        }
        let sample = hex(SHA256);
        let hash = Message::parse(&sample).unwrap().attributes().next().unwrap().unwrap();
        assert_eq!(hash.value, user_hash(NAME, "example.org"));
        let users = [(NAME.to_owned(), "TheMatrIX".to_owned())];
        let credentials = Credentials::new("example.org", [], users);
        assert_eq!(credentials.name(hash.value).as_deref(), Some(NAME));
    }

    #[test]
    fn time_limited_names_are_good_under_every_secret_until_they_expire() {
        let secrets = ["new".to_owned(), "old".to_owned()];
        let credentials = Credentials::new("r", secrets, [("fixed".to_owned(), "pass".to_owned())]);
        for secret in ["new", "old"] {
            let issued = issue(secret, "alice", 2000);
            assert_eq!(issued.username, "2000:alice");
            let passwords = credentials.passwords(&issued.username, 1999).unwrap();
            assert!(passwords.contains(&issued.password));
            assert_eq!(credentials.passwords(&issued.username, 2000), Err(Refusal::CredentialExpired));
        }
        let stranger = issue("another", "alice", 2000);
        assert!(!credentials.passwords(&stranger.username, 0).unwrap().contains(&stranger.password));
        assert_eq!(credentials.passwords("fixed", 0).unwrap()[0], "pass");
        assert_eq!(credentials.passwords("nobody", 0), Err(Refusal::UnknownUser));
        assert_eq!(user_of("2000:alice:2"), "alice:2");
        assert_eq!(["2000", "alice", "x:y", "2000:"].map(user_of), ["2000", "alice", "x:y", "2000:"]);
        // What coturn makes of the same secret and name: echo -n 2000:alice | openssl dgst -sha1 -hmac new -binary | base64
        assert_eq!(issue("new", "alice", 2000).password, "EjbmfU/alqUjjUQr5AB91vU/IZs=");
        let issued = issue("new", "alice", 2000);
        let key = LongTermKey::new(PasswordAlgorithm::Md5, "2000:alice", "r", &issued.password);
        assert!(credentials.still_has("2000:alice", &key, "r") && !credentials.still_has("fixed", &key, "r"));
        let shown = format!("{credentials:?} {issued:?} {key:?}");
        assert_eq!(shown, "Credentials(2 secrets, 1 users) Issued(2000:alice) LongTermKey(Md5)");
    }
}
