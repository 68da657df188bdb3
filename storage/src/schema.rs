//! The tables, in versions: a database is brought to the newest one when it is opened.

use sqlx::{AssertSqlSafe, Row as _};

use crate::database::{Kind, Shared};
use crate::error::StorageError;

/// What leads from each version to the next. Those that were released are never changed.
const MIGRATIONS: [&str; 1] = [include_str!("schema/1.sql")];

/// The name of the version in `meta`.
const VERSION: &str = "schema";

/// Makes or updates the tables, in one transaction; refuses a database that is newer than this program.
pub(crate) async fn migrate(shared: &Shared) -> Result<(), StorageError> {
    let mut work = shared.work().await?;
    if shared.kind() == Kind::Postgres {
        // Two programs that start at once take turns. SQLite's transactions do so anyway.
        sqlx::query("SELECT pg_advisory_xact_lock(1)").execute(&mut *work).await?;
    }
    sqlx::query("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
        .execute(&mut *work)
        .await?;
    let row = sqlx::query("SELECT value FROM meta WHERE name = $1")
        .bind(VERSION)
        .fetch_optional(&mut *work)
        .await?;
    let database = match row {
        Some(row) => parse_version(&row.try_get::<String, _>(0)?)?,
        None => 0,
    };
    let known = MIGRATIONS.len() as i64;
    if database > known {
        return Err(StorageError::Newer { database, known });
    }
    for migration in &MIGRATIONS[database as usize..] {
        sqlx::raw_sql(AssertSqlSafe(in_dialect(migration, shared.kind()))).execute(&mut *work).await?;
    }
    if database < known {
        let text = "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        sqlx::query(text).bind(VERSION).bind(known.to_string()).execute(&mut *work).await?;
    }
    work.commit().await?;
    Ok(())
}

fn parse_version(text: &str) -> Result<i64, StorageError> {
    let version = text.parse().ok().filter(|version| *version >= 0);
    version.ok_or_else(|| {
        StorageError::Failed(format!("the table meta has no version that can be read, but '{text}'"))
    })
}

fn in_dialect(migration: &str, kind: Kind) -> String {
    let (bytes, sequence) = match kind {
        // AUTOINCREMENT never gives the number of a removed event again.
        Kind::Sqlite => ("BLOB", "INTEGER PRIMARY KEY AUTOINCREMENT"),
        Kind::Postgres => ("BYTEA", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
    };
    migration.replace("{bytes}", bytes).replace("{sequence}", sequence)
}
