//! The catalogue of files: what is known of each, and how much there is. The contents are in object storage.

use std::fmt;

use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::database::{Database, Work};
use crate::error::StorageError;
use crate::rows::{Query, Select, query, signed, unsigned};

/// The most files of one answer.
const MAX_LIMIT: u32 = 1_000;

/// A file. Times are in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRow {
    /// Its id, unique.
    pub id: String,
    /// The channel in which it was announced.
    pub channel: Option<String>,
    /// The room to which it belongs.
    pub room: Option<String>,
    /// The user who uploaded it.
    pub owner: Option<String>,
    /// Its name, as people see it.
    pub name: String,
    /// Its media type.
    pub content_type: String,
    /// Its size in bytes, as it is downloaded.
    pub size: u64,
    /// The SHA-256 of its contents in hex.
    pub sha256: String,
    /// Where its contents are in object storage; several files may share them.
    pub object_key: String,
    /// What else is to be remembered: JSON that storage does not look into.
    pub details: String,
    /// When it was uploaded.
    pub created: i64,
    /// From when on it is not offered any more.
    pub expires: Option<i64>,
    /// When it was deleted; its contents may be there a little longer.
    pub deleted: Option<i64>,
}

/// How many bytes of files there may be, with a new one; none for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileQuotas {
    /// Of its owner.
    pub owner_bytes: Option<u64>,
    /// In its room.
    pub room_bytes: Option<u64>,
    /// In its channel.
    pub channel_bytes: Option<u64>,
    /// Of everybody.
    pub total_bytes: Option<u64>,
}

/// Which quota a file would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaKind {
    /// That of its owner.
    Owner,
    /// That of its room.
    Room,
    /// That of its channel.
    Channel,
    /// That of the server.
    Total,
}

/// Which files are wanted: those that are neither deleted nor expired, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileQuery {
    /// Only those of this channel.
    pub channel: Option<String>,
    /// Only those of this room.
    pub room: Option<String>,
    /// Only those of this owner.
    pub owner: Option<String>,
    /// The time at which they are not expired.
    pub now: i64,
    /// The most to answer, 1,000 at most.
    pub limit: u32,
    /// Only those after this one (created, id), the last of an answer before.
    pub before: Option<(i64, String)>,
}

/// Whose files are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileScope<'a> {
    /// Those of an owner.
    Owner(&'a str),
    /// Those of a room.
    Room(&'a str),
    /// Those of a channel.
    Channel(&'a str),
    /// All.
    Total,
}

/// How much there is, deleted files aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileUsage {
    /// How many files.
    pub files: u64,
    /// How many bytes.
    pub bytes: u64,
}

const COLUMNS: &str = "id, channel, room, owner, name, content_type, size, sha256, object_key, details, created, expires, deleted";

impl Database {
    /// Adds a file that stays within the quotas, and waits until it is on the disk.
    pub async fn insert_file(&self, file: &FileRow, quotas: &FileQuotas) -> Result<(), StorageError> {
        let mut work = self.shared.work().await?;
        check_quotas(&mut work, file, quotas).await?;
        let text = format!("INSERT INTO files ({COLUMNS}) {}", crate::rows::values(1, 13));
        let insert = query(text)
            .bind(file.id.clone())
            .bind(file.channel.clone())
            .bind(file.room.clone())
            .bind(file.owner.clone())
            .bind(file.name.clone())
            .bind(file.content_type.clone())
            .bind(signed(file.size))
            .bind(file.sha256.clone())
            .bind(file.object_key.clone())
            .bind(file.details.clone())
            .bind(file.created)
            .bind(file.expires)
            .bind(file.deleted);
        insert.execute(&mut *work).await?;
        work.commit().await?;
        Ok(())
    }

    /// A file, though it may be deleted or expired.
    pub async fn file(&self, id: &str) -> Result<Option<FileRow>, StorageError> {
        let select = query(format!("SELECT {COLUMNS} FROM files WHERE id = $1")).bind(id.to_owned());
        let row = select.fetch_optional(self.shared.readers()).await?;
        Ok(row.as_ref().map(parse).transpose()?)
    }

    /// The files that are wanted.
    pub async fn files(&self, wanted: &FileQuery) -> Result<Vec<FileRow>, StorageError> {
        let text =
            format!("SELECT {COLUMNS} FROM files WHERE deleted IS NULL AND (expires IS NULL OR expires > ");
        let mut select = Select::new(text)
            .value(wanted.now)
            .then(")")
            .and_equal("channel", wanted.channel.as_ref())
            .and_equal("room", wanted.room.as_ref())
            .and_equal("owner", wanted.owner.as_ref());
        if let Some((created, id)) = &wanted.before {
            select =
                select.then(" AND (created, id) < (").value(*created).then(", ").value(id.clone()).then(")");
        }
        let limit = i64::from(wanted.limit.min(MAX_LIMIT));
        let select = select.then(" ORDER BY created DESC, id DESC LIMIT ").value(limit).query();
        self.read_files(select).await
    }

    /// Marks a file as deleted at `now` and says what it was; none where it is unknown or was deleted before.
    pub async fn delete_file(&self, id: &str, now: i64) -> Result<Option<FileRow>, StorageError> {
        let mut work = self.shared.work().await?;
        let mark =
            format!("UPDATE files SET deleted = $2 WHERE id = $1 AND deleted IS NULL RETURNING {COLUMNS}");
        let rows = query(mark).bind(id.to_owned()).bind(now).fetch_all(&mut *work).await?;
        work.commit().await?;
        Ok(rows.first().map(parse).transpose()?)
    }

    /// Files that are expired at `now` and not deleted yet.
    pub async fn expired_files(&self, now: i64, limit: u32) -> Result<Vec<FileRow>, StorageError> {
        let limit = limit.min(MAX_LIMIT);
        let text = format!(
            "SELECT {COLUMNS} FROM files WHERE deleted IS NULL AND expires <= $1 ORDER BY expires LIMIT {limit}"
        );
        self.read_files(query(text).bind(now)).await
    }

    /// Files that are deleted while their contents may still be there. Once those are removed, [`Database::purge_file`].
    pub async fn deleted_files(&self, limit: u32) -> Result<Vec<FileRow>, StorageError> {
        let limit = limit.min(MAX_LIMIT);
        let text =
            format!("SELECT {COLUMNS} FROM files WHERE deleted IS NOT NULL ORDER BY deleted LIMIT {limit}");
        self.read_files(query(text)).await
    }

    /// Forgets a file.
    pub async fn purge_file(&self, id: &str) -> Result<(), StorageError> {
        let mut work = self.shared.work().await?;
        sqlx::query("DELETE FROM files WHERE id = $1").bind(id.to_owned()).execute(&mut *work).await?;
        work.commit().await?;
        Ok(())
    }

    /// How many files, deleted ones too, have their contents there.
    pub async fn object_uses(&self, object_key: &str) -> Result<u64, StorageError> {
        let count =
            sqlx::query("SELECT COUNT(*) FROM files WHERE object_key = $1").bind(object_key.to_owned());
        Ok(unsigned(count.fetch_one(self.shared.readers()).await?.try_get(0)?))
    }

    /// How much there is, deleted files aside.
    pub async fn file_usage(&self, scope: FileScope<'_>) -> Result<FileUsage, StorageError> {
        Ok(parse_usage(&usage_query(scope).fetch_one(self.shared.readers()).await?)?)
    }

    async fn read_files(&self, select: Query) -> Result<Vec<FileRow>, StorageError> {
        let rows = select.fetch_all(self.shared.readers()).await?;
        Ok(rows.iter().map(parse).collect::<Result<_, _>>()?)
    }
}

impl fmt::Display for QuotaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Owner => "of one user",
            Self::Room => "in one room",
            Self::Channel => "in one channel",
            Self::Total => "on this server",
        })
    }
}

async fn check_quotas(work: &mut Work, file: &FileRow, quotas: &FileQuotas) -> Result<(), StorageError> {
    let scopes = [
        (QuotaKind::Owner, quotas.owner_bytes, file.owner.as_deref().map(FileScope::Owner)),
        (QuotaKind::Room, quotas.room_bytes, file.room.as_deref().map(FileScope::Room)),
        (QuotaKind::Channel, quotas.channel_bytes, file.channel.as_deref().map(FileScope::Channel)),
        (QuotaKind::Total, quotas.total_bytes, Some(FileScope::Total)),
    ];
    for (kind, quota, scope) in scopes {
        let (Some(quota), Some(scope)) = (quota, scope) else { continue };
        let usage = parse_usage(&usage_query(scope).fetch_one(&mut **work).await?)?;
        if usage.bytes.saturating_add(file.size) > quota {
            return Err(StorageError::QuotaExceeded(kind));
        }
    }
    Ok(())
}

fn usage_query(scope: FileScope<'_>) -> Query {
    let (filter, value) = match scope {
        FileScope::Owner(owner) => (" AND owner = $1", Some(owner)),
        FileScope::Room(room) => (" AND room = $1", Some(room)),
        FileScope::Channel(channel) => (" AND channel = $1", Some(channel)),
        FileScope::Total => ("", None),
    };
    let sum = "SELECT COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM files WHERE deleted IS NULL";
    let query = query(format!("{sum}{filter}"));
    match value {
        Some(value) => query.bind(value.to_owned()),
        None => query,
    }
}

fn parse_usage(row: &AnyRow) -> Result<FileUsage, sqlx::Error> {
    Ok(FileUsage { files: unsigned(row.try_get(0)?), bytes: unsigned(row.try_get(1)?) })
}

fn parse(row: &AnyRow) -> Result<FileRow, sqlx::Error> {
    Ok(FileRow {
        id: row.try_get("id")?,
        channel: row.try_get("channel")?,
        room: row.try_get("room")?,
        owner: row.try_get("owner")?,
        name: row.try_get("name")?,
        content_type: row.try_get("content_type")?,
        size: unsigned(row.try_get("size")?),
        sha256: row.try_get("sha256")?,
        object_key: row.try_get("object_key")?,
        details: row.try_get("details")?,
        created: row.try_get("created")?,
        expires: row.try_get("expires")?,
        deleted: row.try_get("deleted")?,
    })
}
