//! Uploads that may come in several requests, and go on after a cut line or a restart.
//!
//! Who has one is bounded by the same count as other uploads (`claims.rs`); one that nobody goes on with is dropped.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedMutexGuard};
use veche_doors::{Error, ErrorKind};
use veche_storage::StorageError;

use crate::files::Files;
use crate::id::{is_id, object_key};
use crate::incoming::Left;
use crate::upload::Upload;

/// How long a request waits for the one before it, which may hang on a line that is cut, to let go of the upload.
const HANDOVER: Duration = Duration::from_secs(2);
/// How often it asks for it.
const RINGING: Duration = Duration::from_millis(50);
/// How many times its idle time an upload may live in all.
const LIVES: i64 = 24;

const MILLISECONDS_PER_MINUTE: i64 = 60 * 1000;

/// The unfinished uploads of this process and those before it.
#[derive(Default)]
pub(crate) struct Resumables {
    by_id: Mutex<HashMap<String, Arc<Entry>>>,
}

/// One of them.
pub(crate) struct Entry {
    /// Whose it is; anonymous ones are known by their id alone, which nobody guesses.
    owner: Option<String>,
    created: i64,
    /// When bytes came last.
    touched: AtomicI64,
    /// Rung by a request that wants the upload from the one that has it.
    handover: Notify,
    state: Arc<tokio::sync::Mutex<Resumable>>,
}

/// What a request works with.
pub(crate) struct Resumable {
    pub(crate) upload: Upload,
    /// Whether new subscribers are told of the file too.
    pub(crate) persistent: bool,
    /// Whether it has ended: then the file is there, or all is gone.
    pub(crate) is_over: bool,
}

/// A resumable upload in the hands of a request.
pub(crate) struct Held {
    pub(crate) entry: Arc<Entry>,
    pub(crate) state: OwnedMutexGuard<Resumable>,
}

impl Entry {
    /// Whether it is this user's.
    pub(crate) fn is_of(&self, user_id: Option<&str>) -> bool {
        self.owner.is_none() || self.owner.as_deref() == user_id
    }

    /// Comes back when another request wants the upload.
    pub(crate) async fn wanted(&self) {
        self.handover.notified().await;
    }

    /// Asks whoever has the upload to let go of it, again and again: they may be busy with the disk when it rings.
    async fn ring(&self) -> Infallible {
        loop {
            self.handover.notify_waiters();
            tokio::time::sleep(RINGING).await;
        }
    }
}

impl Files {
    /// Makes a begun upload one that can be resumed.
    pub(crate) async fn make_resumable(&self, mut upload: Upload, persistent: bool) -> Result<Held, Error> {
        let noted = upload.note(true, persistent).await;
        if let Err(error) = noted {
            upload.abandon();
            return Err(error);
        }
        let entry = self.add_resumable(upload, persistent);
        let state = Arc::clone(&entry.state).lock_owned().await;
        Ok(Held { entry, state })
    }

    /// Finds an unfinished upload; `None`: there is none of this id.
    pub(crate) fn resumable(&self, id: &str) -> Option<Arc<Entry>> {
        self.resumables.by_id.lock().get(id).cloned()
    }

    /// Takes it in hand. A request that has it is asked to let go, and has two seconds for it.
    pub(crate) async fn hold(&self, entry: Arc<Entry>) -> Result<Held, Error> {
        let state = if let Ok(state) = Arc::clone(&entry.state).try_lock_owned() {
            state
        } else {
            tokio::select! {
                state = tokio::time::timeout(HANDOVER, Arc::clone(&entry.state).lock_owned()) => {
                    state.map_err(|_| {
                        let message = "another request is working on this upload; try again in some seconds";
                        Error::new(ErrorKind::UploadBusy, message)
                    })?
                }
                never = entry.ring() => match never {},
            }
        };
        if state.is_over {
            return Err(unknown());
        }
        Ok(Held { entry, state })
    }

    /// When an unfinished upload goes, unless bytes come.
    pub(crate) fn upload_expiry(&self, entry: &Entry) -> i64 {
        let idle = i64::from(self.settings.upload_idle_minutes) * MILLISECONDS_PER_MINUTE;
        (entry.touched.load(Ordering::Relaxed) + idle).min(entry.created + idle * LIVES)
    }

    /// Notes that bytes came.
    pub(crate) fn touch(&self, entry: &Entry) {
        entry.touched.store(self.now(), Ordering::Relaxed);
    }

    /// Forgets an upload that has ended; what is left of it goes.
    pub(crate) fn forget(&self, held: &mut Held) {
        held.state.is_over = true;
        held.state.upload.abandon();
        self.resumables.by_id.lock().remove(held.state.upload.file_id());
    }

    /// Drops the uploads whose time is over, but for those that a request works on.
    pub(crate) fn drop_idle_uploads(&self, now: i64) {
        let entries: Vec<_> = self.resumables.by_id.lock().values().cloned().collect();
        for entry in entries.into_iter().filter(|entry| self.upload_expiry(entry) <= now) {
            if let Ok(state) = Arc::clone(&entry.state).try_lock_owned() {
                self.forget(&mut Held { entry, state });
            }
        }
    }

    /// Deals with what the last process left of an upload.
    pub(crate) async fn take_up(&self, left: Left) -> Result<(), StorageError> {
        let Some(note) = left.note.filter(|_| is_id(&left.id)) else {
            self.incoming.remove(&left.id);
            return Ok(());
        };
        let is_entered = self.database.file(&left.id).await?.is_some();
        if let (false, true, Some(received)) = (is_entered, note.resumable, left.received) {
            let persistent = note.persistent;
            match self.restore(note, received).await {
                Ok(upload) => {
                    self.add_resumable(upload, persistent);
                    return Ok(());
                }
                Err(error) => tracing::warn!(id = left.id, %error, "an upload could not be taken up again"),
            }
        }
        if !is_entered && !self.remove_object(&object_key(&left.id)).await {
            // The note stays, so that the next start tries again.
            return Ok(());
        }
        self.incoming.remove(&left.id);
        Ok(())
    }

    fn add_resumable(&self, upload: Upload, persistent: bool) -> Arc<Entry> {
        let id = upload.file_id().to_owned();
        let entry = Arc::new(Entry {
            owner: upload.new_file().user_id.clone(),
            created: upload.created(),
            touched: AtomicI64::new(self.now()),
            handover: Notify::new(),
            state: Arc::new(tokio::sync::Mutex::new(Resumable { upload, persistent, is_over: false })),
        });
        self.resumables.by_id.lock().insert(id, Arc::clone(&entry));
        entry
    }
}

/// The answer to who asks for an upload that is not there.
pub(crate) fn unknown() -> Error {
    let message = "no such upload: it was finished or deleted, its time is over, or it never was";
    Error::new(ErrorKind::UploadNotFound, message)
}
