//! API keys as they are stored: their hashes, never the keys.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::database::Database;
use crate::error::StorageError;
use crate::rows::query;

/// An API key without the key. Times are in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its name for operators, unique.
    pub id: String,
    /// The hash of the key, unique.
    pub hash: String,
    /// What it is for.
    pub name: String,
    /// The user whose key it is.
    pub user_id: Option<String>,
    /// What it permits: JSON that storage does not look into.
    pub grants: String,
    /// When it was made.
    pub created: i64,
    /// From when on it is not valid.
    pub expires: Option<i64>,
    /// When it was revoked.
    pub revoked: Option<i64>,
    /// When it was used last, as far as [`Database::key_used`] was told.
    pub last_used: Option<i64>,
}

const SELECT: &str =
    "SELECT id, hash, name, user_id, grants, created, expires, revoked, last_used FROM api_keys";

impl Database {
    /// Stores a new key.
    pub async fn create_key(&self, key: &ApiKey) -> Result<(), StorageError> {
        let mut work = self.shared.work().await?;
        let insert = sqlx::query(
            "INSERT INTO api_keys (id, hash, name, user_id, grants, created, expires, revoked, last_used) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        );
        insert
            .bind(key.id.clone())
            .bind(key.hash.clone())
            .bind(key.name.clone())
            .bind(key.user_id.clone())
            .bind(key.grants.clone())
            .bind(key.created)
            .bind(key.expires)
            .bind(key.revoked)
            .bind(key.last_used)
            .execute(&mut *work)
            .await?;
        work.commit().await?;
        Ok(())
    }

    /// The key with this hash, though it may be revoked or expired.
    pub async fn key_by_hash(&self, hash: &str) -> Result<Option<ApiKey>, StorageError> {
        let select = query(format!("{SELECT} WHERE hash = $1")).bind(hash.to_owned());
        let row = select.fetch_optional(self.shared.readers()).await?;
        Ok(row.as_ref().map(parse).transpose()?)
    }

    /// All keys, the newest first.
    pub async fn keys(&self) -> Result<Vec<ApiKey>, StorageError> {
        let select = query(format!("{SELECT} ORDER BY created DESC, id"));
        let rows = select.fetch_all(self.shared.readers()).await?;
        Ok(rows.iter().map(parse).collect::<Result<_, _>>()?)
    }

    /// Revokes a key at `now`; false where there is none of this id, or it was revoked before.
    pub async fn revoke_key(&self, id: &str, now: i64) -> Result<bool, StorageError> {
        let mut work = self.shared.work().await?;
        let revoke = sqlx::query("UPDATE api_keys SET revoked = $2 WHERE id = $1 AND revoked IS NULL");
        let revoked = revoke.bind(id.to_owned()).bind(now).execute(&mut *work).await?.rows_affected();
        work.commit().await?;
        Ok(revoked > 0)
    }

    /// Notes that a key was used at `now`. Once a minute for each key is enough.
    pub async fn key_used(&self, id: &str, now: i64) -> Result<(), StorageError> {
        let mut work = self.shared.work().await?;
        let used = sqlx::query(
            "UPDATE api_keys SET last_used = $2 WHERE id = $1 AND (last_used IS NULL OR last_used < $2)",
        );
        used.bind(id.to_owned()).bind(now).execute(&mut *work).await?;
        work.commit().await?;
        Ok(())
    }
}

fn parse(row: &AnyRow) -> Result<ApiKey, sqlx::Error> {
    Ok(ApiKey {
        id: row.try_get("id")?,
        hash: row.try_get("hash")?,
        name: row.try_get("name")?,
        user_id: row.try_get("user_id")?,
        grants: row.try_get("grants")?,
        created: row.try_get("created")?,
        expires: row.try_get("expires")?,
        revoked: row.try_get("revoked")?,
        last_used: row.try_get("last_used")?,
    })
}
