//! Who may do what, with the keys that storage has.

use std::sync::Arc;

use anyhow::Result;
use veche_access::{AccessSettings, Authority, KeyLookup, KeyRecord};
use veche_storage::Database;

/// By these settings, and the API keys of the database.
pub(crate) fn authority(settings: &AccessSettings, database: &Database) -> Result<Authority> {
    let database = database.clone();
    let lookup: KeyLookup = Arc::new(move |hash| {
        let database = database.clone();
        Box::pin(async move {
            let key = database.key_by_hash(&hash).await.map_err(|error| error.to_string())?;
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
