//! One upload: bytes come in, are counted, hashed, looked at and written to a staged file; at its end the content goes to the
//! store and the file into the catalogue.

use std::io;
use std::path::PathBuf;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use veche_doors::{Error, ErrorKind};
use veche_storage::{FileQuotas, FileRow, NewEvent, QuotaKind, StorageError, kind};

use crate::claims::{Claim, Scope, exceeded, room_of};
use crate::compression;
use crate::content_type::{self, HEAD_BYTES};
use crate::file::{Details, FileInfo};
use crate::files::{Files, unavailable};
use crate::id::{hex, new_id, object_key};
use crate::incoming::Note;
use crate::name;

/// What is kept of a file that waits for its disk.
const WRITE_BYTES: usize = 256 * 1024;

/// A file that is to be uploaded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NewFile {
    /// Whose it is; nobody's if they are anonymous.
    pub user_id: Option<String>,
    /// Where nobody is named: whose upload it counts as, for example an address.
    pub by: Option<String>,
    /// The channel that it is for.
    pub channel: Option<String>,
    /// Its name, as it came: it is cleaned here.
    pub filename: Option<String>,
    /// Its type, as its sender says.
    pub content_type: Option<String>,
    /// Its size, where it is known beforehand: other sizes are refused then.
    pub size: Option<u64>,
}

/// An upload under way. Dropping it ends it, and what it took is free again.
pub struct Upload {
    files: Files,
    id: String,
    new: NewFile,
    created: i64,
    received: u64,
    /// What the bytes so far amount to; `None`: they were received before a restart and are not read again yet.
    digest: Option<Context>,
    head: Vec<u8>,
    /// Known when enough has come, and found to be allowed.
    content_type: Option<String>,
    file: Option<tokio::fs::File>,
    claim: Claim,
    /// Whether a note of it is in the folder: then it may go on after a restart, or the restart cleans up.
    is_noted: bool,
    /// Whether all of it is still here, so that the end can be tried again.
    is_whole: bool,
}

impl Files {
    /// Begins an upload. No permission is asked for here.
    pub async fn begin(&self, mut new: NewFile) -> Result<Upload, Error> {
        self.is_enabled()?;
        new.filename = new.filename.as_deref().and_then(name::clean);
        if let Some(size) = new.size {
            self.check_size(size)?;
        }
        let allowed = &self.settings.allowed_types;
        content_type::check_declared(new.content_type.as_deref(), allowed)
            .map_err(|refusal| refusal.into_error(allowed))
            .inspect_err(|_| self.count_refused())?;
        let by = new.user_id.as_deref().or(new.by.as_deref()).unwrap_or_default();
        let mut claim = self.claims.begin(by).inspect_err(|_| self.count_refused())?;
        for quota in self.quotas(new.user_id.as_deref(), new.channel.as_deref()).await? {
            claim.add_quota(quota)?;
        }
        claim.grow_to(new.size.unwrap_or_default()).inspect_err(|_| self.count_refused())?;
        let (id, created) = (new_id(), self.now());
        Ok(Upload {
            files: self.clone(),
            id,
            new,
            created,
            received: 0,
            digest: Some(Context::new(&SHA256)),
            head: Vec::new(),
            content_type: None,
            file: None,
            claim,
            is_noted: false,
            is_whole: true,
        })
    }

    /// Takes up an upload that a process before this one began.
    pub(crate) async fn restore(&self, note: Note, received: u64) -> Result<Upload, Error> {
        let new = note.file;
        let by = new.user_id.as_deref().or(new.by.as_deref()).unwrap_or_default();
        let mut claim = self.claims.resume(by);
        claim.grow_to(new.size.unwrap_or_default())?;
        for quota in self.quotas(new.user_id.as_deref(), new.channel.as_deref()).await? {
            // It was within the quotas when it began; the catalogue decides at its end.
            let _ = claim.add_quota(quota);
        }
        Ok(Upload {
            files: self.clone(),
            id: note.id,
            new,
            created: note.created,
            received,
            digest: None,
            head: Vec::new(),
            content_type: None,
            file: None,
            claim,
            is_noted: true,
            is_whole: true,
        })
    }

    /// Stores what is in memory already.
    pub async fn store(&self, mut new: NewFile, data: &[u8]) -> Result<FileInfo, Error> {
        new.size = Some(data.len() as u64);
        let mut upload = self.begin(new).await?;
        upload.write(data).await?;
        upload.finish().await
    }
}

impl Upload {
    /// The id of the file that it becomes.
    pub fn file_id(&self) -> &str {
        &self.id
    }

    /// How many bytes have come.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// What it is.
    pub(crate) fn new_file(&self) -> &NewFile {
        &self.new
    }

    /// When it began.
    pub(crate) fn created(&self) -> i64 {
        self.created
    }

    /// Whether its end can be tried again.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Says for which channel it is, where that was not known at its beginning.
    pub async fn set_channel(&mut self, channel: &str) -> Result<(), Error> {
        self.new.channel = Some(channel.to_owned());
        for quota in self.files.quotas(None, Some(channel)).await? {
            if quota.scope != Scope::Total {
                self.claim.add_quota(quota)?;
            }
        }
        Ok(())
    }

    /// Takes the next bytes. After an error the upload can only be dropped.
    pub async fn write(&mut self, data: &[u8]) -> Result<(), Error> {
        self.remember().await?;
        let received = self.received + data.len() as u64;
        if self.new.size.is_some_and(|size| received > size) {
            let message =
                format!("more bytes came than the {} that were announced", self.new.size.unwrap_or(0));
            return Err(Error::new(ErrorKind::BadRequest, message));
        }
        self.files.check_size(received)?;
        self.claim.grow_to(received).inspect_err(|_| self.files.count_refused())?;
        self.look_at(data)?;
        let file = if let Some(file) = &mut self.file {
            file
        } else {
            let path = self.files.incoming.content(&self.id);
            self.file.insert(open(path).await.map_err(|error| unavailable(&error))?)
        };
        file.write_all(data).await.map_err(|error| unavailable(&error))?;
        self.digest.get_or_insert_with(|| Context::new(&SHA256)).update(data);
        self.received = received;
        Ok(())
    }

    /// Lets what came reach the disk, and the file rest until more comes.
    pub(crate) async fn pause(&mut self) -> Result<(), Error> {
        if let Some(mut file) = self.file.take() {
            let result = async {
                file.flush().await?;
                file.sync_data().await
            };
            result.await.map_err(|error| unavailable(&error))?;
        }
        Ok(())
    }

    /// Writes the note by which a restart finds it.
    pub(crate) async fn note(&mut self, resumable: bool, persistent: bool) -> Result<(), Error> {
        let (id, created, file) = (self.id.clone(), self.created, self.new.clone());
        let note = Note { id, created, resumable, persistent, file };
        self.is_noted = true;
        self.files.incoming.note(&note).await.map_err(|error| unavailable(&error))
    }

    /// Ends it: the file is in the catalogue and its content in the store when this returns. What was begun is finished even
    /// when nobody waits for it.
    pub async fn finish(mut self) -> Result<FileInfo, Error> {
        let task = tokio::spawn(async move {
            let result = self.complete().await;
            if result.is_err() {
                self.abandon();
            }
            result
        });
        task.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::StorageUnavailable, "the server stops; upload the file again"))
        })
    }

    /// Ends it, and stays to be tried again where `is_whole` says so.
    pub(crate) async fn complete(&mut self) -> Result<FileInfo, Error> {
        self.remember().await?;
        if let Some(size) = self.new.size.filter(|&size| size != self.received) {
            let message = format!("{} bytes came of the {size} that were announced", self.received);
            return Err(Error::new(ErrorKind::BadRequest, message));
        }
        let content_type = match self.content_type.take() {
            Some(content_type) => content_type,
            None => self.checked_type()?,
        };
        self.content_type = Some(content_type.clone());
        self.pause().await?;
        let content = self.files.incoming.content(&self.id);
        if self.received == 0 {
            open(content.clone()).await.map_err(|error| unavailable(&error))?;
        }
        if !self.is_noted {
            self.note(false, false).await?;
        }
        let (path, details) = self.pack(content, &content_type).await?;
        let key = object_key(&self.id);
        self.files.store.keep(&path, &key).await.map_err(|error| unavailable(&error))?;
        self.is_whole = false;
        let row = self.row(key, content_type, &details);
        if let Err(error) = self.enter(&row).await {
            self.files.remove_object(&row.object_key).await;
            return Err(error);
        }
        self.files.incoming.remove(&self.id);
        self.files.count_uploaded(row.size);
        let event = serde_json::json!({
            "file_id": row.id, "name": row.name, "size": row.size, "content_type": row.content_type,
        });
        self.files.record(kind::FILE_UPLOADED, &row, event);
        Ok(self.files.info(&row))
    }

    /// Removes all of it.
    pub(crate) fn abandon(&mut self) {
        self.file = None;
        self.files.incoming.remove(&self.id);
    }

    /// Reads again what came before a restart.
    async fn remember(&mut self) -> Result<(), Error> {
        if self.digest.is_some() {
            return Ok(());
        }
        let path = self.files.incoming.content(&self.id);
        let read = tokio::task::spawn_blocking(move || read_again(path)).await;
        let (digest, head) = match read {
            Ok(read) => read.map_err(|error| unavailable(&error))?,
            Err(error) => return Err(unavailable(&error)),
        };
        self.digest = Some(digest);
        self.head = head;
        Ok(())
    }

    /// Keeps the first bytes, and checks the type as soon as there are enough.
    fn look_at(&mut self, data: &[u8]) -> Result<(), Error> {
        let missing = HEAD_BYTES - self.head.len().min(HEAD_BYTES);
        self.head.extend_from_slice(&data[..data.len().min(missing)]);
        if self.content_type.is_none() && self.head.len() >= HEAD_BYTES {
            self.content_type = Some(self.checked_type()?);
        }
        Ok(())
    }

    fn checked_type(&self) -> Result<String, Error> {
        let allowed = &self.files.settings.allowed_types;
        content_type::check(self.new.content_type.as_deref(), &self.head, allowed)
            .map_err(|refusal| refusal.into_error(allowed))
            .inspect_err(|_| self.files.count_refused())
    }

    /// What goes to the store: the content, or its compressed form.
    async fn pack(&self, content: PathBuf, content_type: &str) -> Result<(PathBuf, Details), Error> {
        let is_worth_trying = self.files.settings.compression
            && self.received >= compression::MIN_BYTES
            && content_type::is_text_like(content_type);
        if is_worth_trying {
            let (from, to) = (content.clone(), self.files.incoming.compressed(&self.id));
            let target = to.clone();
            let done = tokio::task::spawn_blocking(move || compression::compress(&from, &target)).await;
            let stored = match done {
                Ok(done) => done.map_err(|error| unavailable(&error))?,
                Err(error) => return Err(unavailable(&error)),
            };
            if let Some(stored) = stored {
                return Ok((to, Details { zstd: true, stored }));
            }
        }
        Ok((content, Details { zstd: false, stored: self.received }))
    }

    fn row(&mut self, object_key: String, content_type: String, details: &Details) -> FileRow {
        let digest = self.digest.take().unwrap_or_else(|| Context::new(&SHA256)).finish();
        let now = self.files.now();
        FileRow {
            id: self.id.clone(),
            channel: self.new.channel.clone(),
            room: self.new.channel.as_deref().and_then(room_of).map(str::to_owned),
            owner: self.new.user_id.clone(),
            name: self.new.filename.clone().unwrap_or_default(),
            content_type,
            size: self.received,
            sha256: hex(digest.as_ref()),
            object_key,
            details: details.to_text(),
            created: now,
            expires: self.files.expiry(now),
            deleted: None,
        }
    }

    /// Into the catalogue, which compares the quotas in the same transaction.
    async fn enter(&self, row: &FileRow) -> Result<(), Error> {
        let settings = &self.files.settings;
        let limit = |limit: u64| (limit > 0).then_some(limit);
        let quotas = FileQuotas {
            owner_bytes: limit(settings.max_user_bytes),
            room_bytes: limit(settings.max_room_bytes).filter(|_| row.room.is_some()),
            channel_bytes: limit(settings.max_room_bytes).filter(|_| row.room.is_none()),
            total_bytes: limit(settings.max_total_bytes),
        };
        let inserted = self.files.database.insert_file(row, &quotas).await;
        inserted.map_err(|error| match error {
            StorageError::QuotaExceeded(which) => {
                self.files.count_refused();
                let name = |name: &Option<String>| name.clone().unwrap_or_default();
                let (scope, limit) = match which {
                    QuotaKind::Owner => (Scope::User(name(&row.owner)), settings.max_user_bytes),
                    QuotaKind::Room => (Scope::Room(name(&row.room)), settings.max_room_bytes),
                    QuotaKind::Channel => (Scope::Channel(name(&row.channel)), settings.max_room_bytes),
                    QuotaKind::Total => (Scope::Total, settings.max_total_bytes),
                };
                exceeded(&scope, limit, None)
            }
            error => unavailable(&error),
        })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // One with a note is the next start's to judge, or somebody has abandoned it already.
        if !self.is_noted {
            self.abandon();
        }
    }
}

/// The staged file, to be written on at its end.
async fn open(path: PathBuf) -> io::Result<tokio::fs::File> {
    let mut file = tokio::fs::OpenOptions::new().create(true).append(true).open(path).await?;
    file.set_max_buf_size(WRITE_BYTES);
    Ok(file)
}

/// What the bytes of a staged file amount to, and the first of them. Blocks.
fn read_again(path: PathBuf) -> io::Result<(Context, Vec<u8>)> {
    use std::io::Read as _;
    let mut file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((Context::new(&SHA256), Vec::new()));
        }
        file => file?,
    };
    let (mut digest, mut head) = (Context::new(&SHA256), Vec::new());
    let mut buffer = vec![0; WRITE_BYTES];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((digest, head));
        }
        digest.update(&buffer[..read]);
        let missing = HEAD_BYTES - head.len().min(HEAD_BYTES);
        head.extend_from_slice(&buffer[..read.min(missing)]);
    }
}

/// What the event log is told of a file.
pub(crate) fn event(kind: &str, row: &FileRow, time: i64, data: serde_json::Value) -> NewEvent {
    let mut event = NewEvent::new(kind, time);
    if let Some(room) = &row.room {
        event = event.room(room);
    }
    if let Some(channel) = &row.channel {
        event = event.channel(channel);
    }
    if let Some(user_id) = &row.owner {
        event = event.user(user_id);
    }
    event.data(data)
}
