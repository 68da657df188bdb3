//! API keys: secrets that this server makes itself, for programs.
//!
//! A key is `vk_` and 256 random bits in base64url. It is shown once; what is kept is its SHA-256. Slow hashes are for
//! passwords, which people choose: 256 random bits cannot be guessed, however fast the hash, and a slow one at each
//! request would let anybody busy the server. Keys are found by their digest, which a caller cannot steer without
//! knowing the key, and the digests are then compared in constant time.

use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::claims::{check_user_id, clean_name};
use crate::error::{AccessError, AccessErrorKind};
use crate::grants::{Grants, GrantsClaim};
use crate::identity::Identity;

/// What every API key begins with.
pub const API_KEY_PREFIX: &str = "vk_";

/// The length of a key's random part, in characters of base64url.
const SECRET_CHARS: usize = 43;

/// What is kept of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its name in lists and for revoking, such as `key_1f2e3d4c`.
    pub id: String,
    /// The SHA-256 of the whole key, in hexadecimal.
    pub hash: String,
    /// What it is for, for people.
    pub name: String,
    /// The user that it acts for, where it does for one.
    pub user_id: Option<String>,
    /// A [`GrantsClaim`] as JSON.
    pub grants: String,
    /// When it expires, in milliseconds since 1970.
    pub expires: Option<i64>,
    /// When it was revoked, in milliseconds since 1970.
    pub revoked: Option<i64>,
}

/// Finds what is kept of the key with this hash, also of one that has expired or was revoked; an error where that
/// cannot be said now.
pub type KeyLookup = Arc<dyn Fn(String) -> Finding + Send + Sync>;

type Finding = Pin<Box<dyn Future<Output = Result<Option<KeyRecord>, String>> + Send>>;

/// A key that was just made.
#[derive(Clone)]
pub struct NewApiKey {
    /// The key itself, to be shown once.
    pub key: String,
    /// What to keep of it.
    pub record: KeyRecord,
}

impl NewApiKey {
    /// Makes a key; an error says what of it is wrong.
    pub fn new(
        name: &str,
        user_id: Option<String>,
        grants: &GrantsClaim,
        expires: Option<SystemTime>,
    ) -> Result<Self, String> {
        let name = clean_name(name).ok_or("the key needs a name, for example \"backend\"")?;
        grants.check()?;
        if let Some(user_id) = &user_id {
            check_user_id(user_id)?;
        }
        let (mut secret, mut id) = ([0; 32], [0; 4]);
        for bytes in [&mut secret[..], &mut id[..]] {
            aws_lc_rs::rand::fill(bytes).map_err(|_| "the system gives no random bytes")?;
        }
        let key = format!("{API_KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
        let record = KeyRecord {
            id: format!("key_{}", hex(&id)),
            hash: hash(&key),
            name: name.to_string(),
            user_id,
            grants: serde_json::to_string(grants).expect("grants have string keys only"),
            expires: expires.map(milliseconds),
            revoked: None,
        };
        Ok(Self { key, record })
    }
}

/// Finds out whose key it is.
pub(crate) async fn verify(
    key: &str,
    lookup: Option<&KeyLookup>,
    now: SystemTime,
) -> Result<Identity, AccessError> {
    let refused = |why: &str| AccessError::new(AccessErrorKind::InvalidKey, why);
    let unknown = || refused("the API key is not known; `veche keys create` makes one");
    let secret = key.strip_prefix(API_KEY_PREFIX).ok_or_else(|| refused("an API key begins with `vk_`"))?;
    if secret.len() != SECRET_CHARS || URL_SAFE_NO_PAD.decode(secret).is_err() {
        return Err(unknown());
    }
    let hash = hash(key);
    let record = find(lookup, &hash).await?.ok_or_else(unknown)?;
    if verify_slices_are_equal(record.hash.as_bytes(), hash.as_bytes()).is_err() {
        return Err(unknown());
    }
    if record.revoked.is_some() {
        return Err(refused("the API key was revoked; use another"));
    }
    let expires_at = record.expires.and_then(time);
    if expires_at.is_some_and(|at| at <= now) {
        return Err(refused("the API key has expired; `veche keys create` makes another"));
    }
    let claim: GrantsClaim = serde_json::from_str(&record.grants).map_err(|error| {
        tracing::error!(key = record.id, %error, "the grants of an API key cannot be read");
        refused("the grants of this API key cannot be read; make another")
    })?;
    Ok(Identity {
        grants: Arc::new(Grants::new(&claim, record.user_id.as_deref())),
        user_id: record.user_id.map(Into::into),
        name: clean_name(&record.name),
        attributes: claim.attributes.map(Arc::new),
        expires_at,
        key_id: Some(record.id.into()),
        key_hash: Some(hash.into()),
        authenticated: true,
        ..Identity::default()
    })
}

/// Whether the key of this hash was revoked, or is gone. Who cannot say, says no: what is open stays open.
pub(crate) async fn is_revoked(hash: &str, lookup: Option<&KeyLookup>) -> bool {
    find(lookup, hash).await.is_ok_and(|record| record.is_none_or(|record| record.revoked.is_some()))
}

async fn find(lookup: Option<&KeyLookup>, hash: &str) -> Result<Option<KeyRecord>, AccessError> {
    let Some(lookup) = lookup else { return Ok(None) };
    lookup(hash.to_owned()).await.map_err(|error| {
        tracing::warn!(error, "cannot look an API key up");
        let message = "API keys cannot be looked up now; try again in a moment";
        AccessError::new(AccessErrorKind::Unavailable, message)
    })
}

fn hash(key: &str) -> String {
    hex(digest(&SHA256, key.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn time(milliseconds: i64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::action::{Action, Actions};
    use crate::grants::Resource;

    const NOW: SystemTime = UNIX_EPOCH;

    /// A lookup in what a test keeps.
    fn kept(records: &Arc<Mutex<Vec<KeyRecord>>>) -> KeyLookup {
        let records = records.clone();
        Arc::new(move |hash| {
            let found = records.lock().iter().find(|record| record.hash == hash).cloned();
            Box::pin(async move { Ok(found) })
        })
    }

    fn new_key(expires: Option<SystemTime>) -> NewApiKey {
        let rooms = [("tea".to_owned(), Actions::of(&[Action::Moderate]))].into();
        let grants = GrantsClaim { rooms, ..GrantsClaim::default() };
        NewApiKey::new("backend", Some("service".into()), &grants, expires).unwrap()
    }

    async fn refused(key: &str, lookup: &KeyLookup, now: SystemTime) -> String {
        let error = verify(key, Some(lookup), now).await.unwrap_err();
        assert_eq!(error.kind, AccessErrorKind::InvalidKey);
        error.message
    }

    #[tokio::test]
    async fn a_key_is_shown_once_kept_as_a_digest_and_grants_what_it_was_made_for() {
        let new = new_key(None);
        assert_eq!(new.key.len(), 46);
        let random = &new.key[API_KEY_PREFIX.len()..];
        assert!(!format!("{:?}", new.record).contains(random));
        assert_ne!(new.key, new_key(None).key);
        let lookup = kept(&Arc::new(Mutex::new(vec![new_key(None).record, new.record.clone()])));
        let identity = verify(&new.key, Some(&lookup), NOW).await.unwrap();
        assert_eq!(identity.user_id.as_deref(), Some("service"));
        assert_eq!(identity.key_id.as_deref(), Some(&*new.record.id));
        assert_eq!(identity.allows(Action::Moderate, Resource::Room("tea")), Ok(()));
        assert!(identity.allows(Action::Join, Resource::Room("tea")).is_err());
    }

    #[tokio::test]
    async fn unknown_revoked_and_expired_keys_are_refused() {
        let expires = NOW + Duration::from_mins(1);
        let new = new_key(Some(expires));
        let records = Arc::new(Mutex::new(vec![new.record.clone()]));
        let lookup = kept(&records);
        for key in ["", "vk_", "vk_short", &new.key[..45], &new.key.replace("vk_", "xx_"), &new_key(None).key]
        {
            assert!(!refused(key, &lookup, NOW).await.is_empty(), "{key}");
        }
        let identity = verify(&new.key, Some(&lookup), NOW).await.unwrap();
        assert!(identity.is_expired(expires));
        assert!(refused(&new.key, &lookup, expires).await.contains("expired"));
        let hash = identity.key_hash.unwrap();
        assert!(!is_revoked(&hash, Some(&lookup)).await);
        records.lock()[0].revoked = Some(1);
        assert!(is_revoked(&hash, Some(&lookup)).await);
        assert!(refused(&new.key, &lookup, NOW).await.contains("revoked"));
        assert!(verify(&new.key, None, NOW).await.is_err());
    }

    #[tokio::test]
    async fn a_digest_that_only_seems_to_match_is_refused() {
        let (mine, other) = (new_key(None), new_key(None));
        let record = other.record.clone();
        let lookup: KeyLookup = Arc::new(move |_| {
            let record = record.clone();
            Box::pin(async move { Ok(Some(record)) })
        });
        assert!(refused(&mine.key, &lookup, NOW).await.contains("not known"));
    }

    #[tokio::test]
    async fn what_cannot_be_looked_up_is_not_called_wrong() {
        let lookup: KeyLookup = Arc::new(|_| Box::pin(async { Err("the disk is full".to_owned()) }));
        let error = verify(&new_key(None).key, Some(&lookup), NOW).await.unwrap_err();
        assert_eq!(error.kind, AccessErrorKind::Unavailable);
        assert!(!error.message.contains("disk"));
        assert!(!is_revoked("x", Some(&lookup)).await);
    }
}
