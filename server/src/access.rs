//! Who may do what, with the keys that storage has.

use std::sync::Arc;

use anyhow::Result;
use veche_access::{AccessSettings, Authority, KeyLookup, KeyRecord};
use veche_storage::{ApiKey, Database};

/// How old what is noted of a key's use may be, in milliseconds.
const USE_NOTED_AFTER: i64 = 60_000;

/// By these settings, and the API keys of the database.
pub(crate) fn authority(settings: &AccessSettings, database: &Database) -> Result<Authority> {
    let database = database.clone();
    let lookup: KeyLookup = Arc::new(move |hash| {
        let database = database.clone();
        Box::pin(async move {
            let key = database.key_by_hash(&hash).await.map_err(|error| error.to_string())?;
            if let Some(key) = &key {
                note_use(&database, key);
            }
            Ok(key.map(|key| KeyRecord {
                id: key.id,
                hash: key.hash,
                name: key.name,
                user_id: key.user_id,
                grants: key.grants,
                expires: key.expires,
                revoked: key.revoked,
            }))
        })
    });
    Ok(Authority::new(settings, Some(lookup))?)
}

/// Notes that a key is used, once a minute. Nobody waits for that.
fn note_use(database: &Database, key: &ApiKey) {
    let now = database.now();
    let is_fresh = key.last_used.is_some_and(|at| now.saturating_sub(at) < USE_NOTED_AFTER);
    if is_fresh || key.revoked.is_some() || key.expires.is_some_and(|at| at <= now) {
        return;
    }
    let (database, id) = (database.clone(), key.id.clone());
    tokio::spawn(async move {
        if let Err(error) = database.key_used(&id, now).await {
            tracing::debug!(%error, key = id, "its use is not noted");
        }
    });
}
