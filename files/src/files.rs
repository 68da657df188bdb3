//! All files: what is known of them, who counts them, and how they go.

use std::io;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use veche_doors::{Error, ErrorKind};
use veche_storage::{Database, FileQuery, FileRow, FileScope, StorageError, kind, rfc3339};

use crate::claims::{Claims, Quota, Scope};
use crate::content_type;
use crate::file::{Checked, Details, FileInfo, FileList, shown_name};
use crate::id::is_id;
use crate::incoming::Incoming;
use crate::links::Links;
use crate::name;
use crate::resumable::Resumables;
use crate::settings::FileSettings;
use crate::store::{Content, Store};
use crate::{compression, upload};

/// How often the sweeper looks.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);
/// How many files go in one step of it.
const SWEEP_STEP: u32 = 100;
/// How many files are told at once.
const MAX_LISTED: u32 = 200;

const MILLISECONDS_PER_HOUR: i64 = 3600 * 1000;

/// All files. A handle: clones are the same files.
#[derive(Clone)]
pub struct Files(Arc<Inner>);

/// What stands behind the handle.
pub struct Inner {
    pub(crate) settings: FileSettings,
    pub(crate) database: Database,
    pub(crate) store: Store,
    pub(crate) incoming: Incoming,
    pub(crate) links: Links,
    pub(crate) claims: Arc<Claims>,
    pub(crate) resumables: Resumables,
    clock: Clock,
    uploaded: AtomicU64,
    uploaded_bytes: AtomicU64,
    downloaded: AtomicU64,
    refused: AtomicU64,
    deleted: AtomicU64,
}

/// Tells the time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

/// What has been counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Uploads under way now.
    pub uploads: u64,
    /// Files that came.
    pub uploaded: u64,
    /// Their bytes.
    pub uploaded_bytes: u64,
    /// Downloads begun.
    pub downloaded: u64,
    /// Uploads refused for their type, their size, a quota or their number.
    pub refused: u64,
    /// Files that were deleted or have expired.
    pub deleted: u64,
}

/// Why files cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be used.
    #[error("files cannot be kept in {folder}: {error}; make it writable or change http.data_dir")]
    Folder {
        /// The folder.
        folder: String,
        /// What is wrong with it.
        error: io::Error,
    },
    /// The store cannot be used.
    #[error("files.store = \"{store}\" cannot be used: {error}")]
    Store {
        /// As it stands in the settings.
        store: String,
        /// What is wrong with it.
        error: String,
    },
    /// The catalogue cannot be read.
    #[error("the catalogue of files cannot be read: {0}")]
    Catalogue(#[from] StorageError),
}

impl Deref for Files {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Clock {
    /// The system's.
    pub fn system() -> Self {
        Self(Arc::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            since.as_millis() as i64
        }))
    }

    /// Another: milliseconds since 1970.
    pub fn new(now: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }
}

impl Files {
    /// Whether the bucket that the settings name takes, gives and removes a small object, which is called `key` there; `None`
    /// where contents are kept in a local folder.
    pub async fn try_bucket(settings: &FileSettings, key: &str) -> Option<Result<(), String>> {
        settings.bucket()?;
        // The folder is for local contents only.
        let store = Store::open(settings, Path::new("."));
        Some(match store {
            Ok(store) => store.try_out(key).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        })
    }

    /// Opens the store, and takes up or removes what the last process left.
    pub async fn open(
        settings: FileSettings,
        data_dir: &Path,
        database: Database,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let folder = data_dir.join("files");
        let of_folder = |error| OpenError::Folder { folder: folder.display().to_string(), error };
        let incoming = Incoming::open(&folder).map_err(of_folder)?;
        let lifetime = i64::from(settings.link_hours) * MILLISECONDS_PER_HOUR;
        let links = Links::open(data_dir.join("file_links"), lifetime, (clock.0)()).map_err(of_folder)?;
        let store = Store::open(&settings, &folder)
            .map_err(|error| OpenError::Store { store: settings.store.clone(), error: error.to_string() })?;
        let left = incoming.left().map_err(of_folder)?;
        let files = Self(Arc::new(Inner {
            claims: Claims::new(&settings),
            resumables: Resumables::default(),
            settings,
            database,
            store,
            incoming,
            links,
            clock,
            uploaded: AtomicU64::default(),
            uploaded_bytes: AtomicU64::default(),
            downloaded: AtomicU64::default(),
            refused: AtomicU64::default(),
            deleted: AtomicU64::default(),
        }));
        for left in left {
            files.take_up(left).await?;
        }
        Ok(files)
    }

    /// Sweeps once a minute; never returns.
    pub async fn run(&self) {
        let mut interval = tokio::time::interval(SWEEP_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "files that have expired could not be removed; trying again in a minute");
            }
        }
    }

    /// Removes what has expired, contents that could not be removed before, and resumable uploads that nobody goes on with.
    pub async fn sweep(&self) -> Result<(), StorageError> {
        let now = self.now();
        self.drop_idle_uploads(now);
        if let Err(error) = self.links.rotate(now) {
            tracing::warn!(%error, "new link secrets could not be written");
        }
        loop {
            let expired = self.database.expired_files(now, SWEEP_STEP).await?;
            for row in &expired {
                self.remove(row).await?;
            }
            if expired.len() < SWEEP_STEP as usize {
                break;
            }
        }
        for row in self.database.deleted_files(SWEEP_STEP).await? {
            self.purge(&row).await?;
        }
        Ok(())
    }

    /// What is known of a file.
    pub async fn get(&self, file_id: &str) -> Result<FileInfo, Error> {
        Ok(self.info(&self.row(file_id).await?))
    }

    /// The files of a channel, the newest first; `before` is the `next` of the list before.
    pub async fn list(&self, channel: &str, limit: u32, before: Option<&str>) -> Result<FileList, Error> {
        self.is_enabled()?;
        let before = before.map(|text| {
            let cursor =
                text.split_once('.').and_then(|(time, id)| Some((time.parse().ok()?, id.to_owned())));
            let message = "before: the `next` of the list before, or nothing";
            cursor.ok_or_else(|| Error::new(ErrorKind::BadRequest, message))
        });
        let limit = limit.clamp(1, MAX_LISTED);
        let query = FileQuery {
            channel: Some(channel.to_owned()),
            room: None,
            owner: None,
            now: self.now(),
            limit,
            before: before.transpose()?,
        };
        let rows = self.database.files(&query).await.map_err(|error| unavailable(&error))?;
        let is_full = rows.len() == limit as usize;
        let next = rows.last().filter(|_| is_full).map(|row| format!("{}.{}", row.created, row.id));
        Ok(FileList { files: rows.iter().map(|row| self.info(row)).collect(), next })
    }

    /// Deletes a file.
    pub async fn delete(&self, file_id: &str) -> Result<(), Error> {
        let row = self.row(file_id).await?;
        self.remove(&row).await.map_err(|error| unavailable(&error))
    }

    /// Deletes all files of a room; tells how many there were.
    pub async fn delete_room(&self, room: &str) -> Result<u64, Error> {
        let query = FileQuery {
            channel: None,
            room: Some(room.to_owned()),
            owner: None,
            now: self.now(),
            limit: SWEEP_STEP,
            before: None,
        };
        let mut deleted = 0;
        loop {
            let rows = self.database.files(&query).await.map_err(|error| unavailable(&error))?;
            for row in &rows {
                self.remove(row).await.map_err(|error| unavailable(&error))?;
            }
            deleted += rows.len() as u64;
            if rows.len() < SWEEP_STEP as usize {
                return Ok(deleted);
            }
        }
    }

    /// Checks what travels within a message: its type, its size, its name. Nothing is stored.
    pub fn check_inline(
        &self,
        content_type: Option<&str>,
        filename: Option<&str>,
        data: &[u8],
    ) -> Result<Checked, Error> {
        self.is_enabled()?;
        self.check_size(data.len() as u64)?;
        let allowed = &self.settings.allowed_types;
        let head = &data[..data.len().min(content_type::HEAD_BYTES)];
        let content_type = content_type::check(content_type, head, allowed)
            .map_err(|refusal| refusal.into_error(allowed))
            .inspect_err(|_| self.count_refused())?;
        Ok(Checked { content_type, filename: filename.and_then(name::clean) })
    }

    /// Up to which size binaries travel within messages.
    pub fn inline_bytes(&self) -> usize {
        self.settings.inline_bytes as usize
    }

    /// The largest file.
    pub fn max_file_bytes(&self) -> u64 {
        self.settings.max_file_bytes
    }

    /// What has been counted.
    pub fn counters(&self) -> Counters {
        Counters {
            uploads: self.claims.uploads() as u64,
            uploaded: self.uploaded.load(Ordering::Relaxed),
            uploaded_bytes: self.uploaded_bytes.load(Ordering::Relaxed),
            downloaded: self.downloaded.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            deleted: self.deleted.load(Ordering::Relaxed),
        }
    }

    /// The row of a file that is there.
    pub(crate) async fn row(&self, file_id: &str) -> Result<FileRow, Error> {
        self.is_enabled()?;
        let row = if is_id(file_id) {
            self.database.file(file_id).await.map_err(|error| unavailable(&error))?
        } else {
            None
        };
        let now = self.now();
        let is_there =
            |row: &FileRow| row.deleted.is_none() && row.expires.is_none_or(|expires| expires > now);
        row.filter(is_there).ok_or_else(|| {
            Error::new(ErrorKind::FileNotFound, "no such file: it was deleted, has expired, or never was")
        })
    }

    /// The content of a file, or a part of it, as it was uploaded.
    pub(crate) async fn read(&self, row: &FileRow, part: Range<u64>) -> Result<Content, Error> {
        let details = Details::of(row);
        self.downloaded.fetch_add(1, Ordering::Relaxed);
        if !details.zstd {
            return self.read_stored(row, part).await;
        }
        let packed = self.read_stored(row, 0..details.stored).await?;
        compression::decompress(packed, part).await.map_err(|error| unavailable(&error))
    }

    /// The content as it is stored.
    pub(crate) async fn read_stored(&self, row: &FileRow, part: Range<u64>) -> Result<Content, Error> {
        self.store.read(&row.object_key, part).await.map_err(|error| match error {
            object_store::Error::NotFound { .. } => {
                tracing::error!(file = row.id, "the content of a file is missing in the store");
                Error::new(ErrorKind::FileNotFound, "the content of this file is lost; upload it again")
            }
            error => unavailable(&error),
        })
    }

    pub(crate) fn info(&self, row: &FileRow) -> FileInfo {
        FileInfo {
            file_id: row.id.clone(),
            filename: shown_name(row),
            content_type: row.content_type.clone(),
            size: row.size,
            sha256: row.sha256.clone(),
            url: self.links.sign(&row.id, row.expires, self.now()),
            expires_at: row.expires.map(rfc3339),
            created_at: rfc3339(row.created),
            user_id: row.owner.clone(),
            channel: row.channel.clone(),
        }
    }

    /// What limits an upload of this user to this channel, with what the catalogue has.
    pub(crate) async fn quotas(
        &self,
        user_id: Option<&str>,
        channel: Option<&str>,
    ) -> Result<Vec<Quota>, Error> {
        let wanted = [
            (Some(Scope::Total), self.settings.max_total_bytes),
            (user_id.map(|user_id| Scope::User(user_id.to_owned())), self.settings.max_user_bytes),
            (channel.map(Scope::of_channel), self.settings.max_room_bytes),
        ];
        let mut quotas = Vec::new();
        for (scope, limit) in wanted {
            let Some(scope) = scope.filter(|_| limit > 0) else { continue };
            let of = match &scope {
                Scope::Total => FileScope::Total,
                Scope::User(user_id) => FileScope::Owner(user_id),
                Scope::Room(room) => FileScope::Room(room),
                Scope::Channel(channel) => FileScope::Channel(channel),
            };
            let usage = self.database.file_usage(of).await.map_err(|error| unavailable(&error))?;
            quotas.push(Quota { scope, limit, stored: usage.bytes });
        }
        Ok(quotas)
    }

    /// Marks a file as deleted and removes its content. Where that fails, the sweeper goes on.
    async fn remove(&self, row: &FileRow) -> Result<(), StorageError> {
        if self.database.delete_file(&row.id, self.now()).await?.is_none() {
            return Ok(());
        }
        self.deleted.fetch_add(1, Ordering::Relaxed);
        self.record(kind::FILE_DELETED, row, serde_json::json!({"file_id": row.id, "size": row.size}));
        self.purge(row).await
    }

    async fn purge(&self, row: &FileRow) -> Result<(), StorageError> {
        if self.remove_object(&row.object_key).await {
            self.database.purge_file(&row.id).await?;
        }
        Ok(())
    }

    /// Removes a content from the store; whether it is gone.
    pub(crate) async fn remove_object(&self, key: &str) -> bool {
        let result = self.store.remove(key).await;
        if let Err(error) = &result {
            tracing::warn!(key, %error, "a content could not be removed from the store");
        }
        result.is_ok()
    }

    pub(crate) fn record(&self, kind: &str, row: &FileRow, data: serde_json::Value) {
        self.database.record(upload::event(kind, row, self.now(), data));
    }

    pub(crate) fn now(&self) -> i64 {
        (self.clock.0)()
    }

    pub(crate) fn expiry(&self, now: i64) -> Option<i64> {
        let hours = i64::from(self.settings.expire_hours);
        (hours > 0).then(|| now + hours * MILLISECONDS_PER_HOUR)
    }

    pub(crate) fn is_enabled(&self) -> Result<(), Error> {
        let message = "files are switched off by BINARY_DATA_ENABLED or files.enabled";
        self.settings.enabled.then_some(()).ok_or_else(|| Error::new(ErrorKind::FilesDisabled, message))
    }

    pub(crate) fn check_size(&self, size: u64) -> Result<(), Error> {
        let limit = self.settings.max_file_bytes;
        if size <= limit {
            return Ok(());
        }
        self.count_refused();
        let message = format!("a file may have {limit} bytes (BINARY_MAX_FILE_SIZE)");
        Err(Error::new(ErrorKind::FileTooLarge, message))
    }

    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_uploaded(&self, size: u64) {
        self.uploaded.fetch_add(1, Ordering::Relaxed);
        self.uploaded_bytes.fetch_add(size, Ordering::Relaxed);
    }
}

/// What a client is told when a disk, a bucket or the catalogue fails; the log has the reason.
pub(crate) fn unavailable(error: &(dyn std::error::Error + 'static)) -> Error {
    tracing::error!(%error, "a file could not be stored or read");
    let message = "the storage of files does not work at the moment; try again";
    Error::new(ErrorKind::StorageUnavailable, message)
}
