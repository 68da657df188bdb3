//! The way in: starting and stopping recordings, and those that are kept.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use veche_recorder_core::manifest::{Container, End, Manifest};
use veche_recorder_core::session::{Layout, Plan, Profile, rfc3339};
use veche_sfu::Handle;
use veche_sfu_core::ids::{RoomId, TrackId};

use crate::catalogue::{Catalogue, Summary};
use crate::disk::{Disk, tidy};
use crate::settings::Settings;
use crate::tape::{Bounds, Tape};

/// Records rooms. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    media: Handle,
    events: flume::Sender<Event>,
    catalogue: Mutex<Catalogue>,
    running: Mutex<Running>,
    totals: Mutex<Totals>,
}

/// What has been recorded since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Recordings that have begun.
    pub started: u64,
    /// Those that a full or broken disk has ended.
    pub failed: u64,
    /// Bytes of those that have ended.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Running {
    /// By the room's name.
    by_room: HashMap<String, Job>,
    stopping: bool,
}

/// A recording that runs.
#[derive(Debug)]
struct Job {
    id: String,
    stop: flume::Sender<End>,
    /// Disconnected when all is written.
    done: flume::Receiver<()>,
    summary: Arc<Mutex<Summary>>,
}

/// What shall be recorded.
#[derive(Clone, Debug)]
pub struct Order {
    /// The room's name.
    pub room: String,
    /// Its number in the media plane.
    pub media_id: RoomId,
    /// Peers of whom something is recorded; empty: of all.
    pub peers: Vec<String>,
    /// Tracks that are recorded; empty: all.
    pub tracks: Vec<TrackId>,
    /// How tracks are put into files.
    pub layout: Layout,
}

/// What has happened with a recording.
#[derive(Clone, Debug)]
pub enum Event {
    /// One has begun.
    Started(Summary),
    /// One has ended; all of it is written, unless its end says that it could not be.
    Ended(Summary),
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The room is being recorded already.
    #[error("the room is being recorded already, as `{0}`")]
    AlreadyRunning(String),
    /// As many recordings run as may.
    #[error("{0} recordings run, as many as may (recording.max_running)")]
    TooMany(usize),
    /// There is no such recording.
    #[error("there is no such recording")]
    NotFound,
    /// It still runs.
    #[error("the recording still runs; stop it first")]
    StillRunning,
    /// The server stops.
    #[error("the server stops")]
    Stopping,
    /// Less is free than a recording needs.
    #[error("the disk of the recordings is full: less than {0} MB are free (recording.min_free_mb)")]
    DiskFull(u64),
    /// The folder cannot be read or written.
    #[error("the folder of the recordings: {0}")]
    Storage(#[from] io::Error),
}

impl Recorder {
    /// Opens the folder of the recordings. What a crash has left open in it is mended. Events go to `events`.
    pub fn open(settings: Settings, media: Handle, events: flume::Sender<Event>) -> Result<Self, Error> {
        let catalogue = Catalogue::open(&settings.folder)?;
        let (catalogue, running, totals) = (Mutex::new(catalogue), Mutex::default(), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { settings, media, events, catalogue, running, totals }) })
    }

    /// Whether each room is recorded from its first participant on.
    pub fn is_automatic(&self) -> bool {
        self.inner.settings.automatic
    }

    /// Begins to record a room. `people` tells of a peer what people call them.
    pub fn start(
        &self,
        order: Order,
        people: impl Fn(&str) -> Profile + Send + Sync + 'static,
    ) -> Result<Summary, Error> {
        let inner = &*self.inner;
        let mut running = inner.running.lock();
        if running.stopping {
            return Err(Error::Stopping);
        }
        if let Some(one) = running.by_room.get(&order.room) {
            return Err(Error::AlreadyRunning(one.id.clone()));
        }
        if running.by_room.len() >= inner.settings.max_running {
            return Err(Error::TooMany(inner.settings.max_running));
        }
        let Order { room, media_id, peers, tracks, layout } = order;
        let id = new_id(SystemTime::now());
        let folder = inner.catalogue.lock().folder(&id);
        let disk = Disk::create(folder)?;
        let min_free = inner.settings.min_free_mb << 20;
        if disk.free()? < min_free {
            let _ = std::fs::remove_dir_all(inner.catalogue.lock().folder(&id));
            return Err(Error::DiskFull(inner.settings.min_free_mb));
        }
        let bounds = Bounds {
            longest: Duration::from_hours(inner.settings.max_hours),
            empty: Duration::from_secs(inner.settings.empty_seconds),
            min_free,
        };
        let listener = inner.media.listen(media_id, inner.settings.buffer_mb << 20);
        let plan = Plan { id: id.clone(), room: room.clone(), peers, tracks, layout };
        let (stop, stopped) = flume::bounded(1);
        let (finished, done) = flume::bounded(0);
        let tape = Tape::new(listener, plan, disk, Arc::new(people), bounds, stopped)?;
        let shared = tape.summary();
        let summary = shared.lock().clone();
        // Listed before it could end.
        inner.catalogue.lock().put(summary.clone());
        inner.totals.lock().started += 1;
        let _ = inner.events.send(Event::Started(summary.clone()));
        let recorder = self.clone();
        thread::Builder::new().name("recording".to_owned()).spawn(move || {
            let (end, summary) = tape.run();
            recorder.on_ended(end, summary);
            drop(finished);
        })?;
        running.by_room.insert(room, Job { id, stop, done, summary: shared });
        Ok(summary)
    }

    /// Stops the recording of a room, and waits until all of it is written.
    pub async fn stop(&self, id: &str) -> Result<Summary, Error> {
        let done = {
            let running = self.inner.running.lock();
            let found = running.by_room.values().find(|one| one.id == id);
            found.map(|one| {
                let _ = one.stop.try_send(End::Stopped);
                one.done.clone()
            })
        };
        if let Some(done) = done {
            // Never a message, only the end.
            let _ = done.recv_async().await;
        }
        self.get(id)
    }

    /// What runs in a room.
    pub fn running(&self, room: &str) -> Option<Summary> {
        self.inner.running.lock().by_room.get(room).map(|one| one.summary.lock().clone())
    }

    /// How many run.
    pub fn count(&self) -> usize {
        self.inner.running.lock().by_room.len()
    }

    /// What has been recorded since the start.
    pub fn totals(&self) -> Totals {
        *self.inner.totals.lock()
    }

    /// A recording.
    pub fn get(&self, id: &str) -> Result<Summary, Error> {
        let running = self.inner.running.lock();
        if let Some(one) = running.by_room.values().find(|one| one.id == id) {
            return Ok(one.summary.lock().clone());
        }
        self.inner.catalogue.lock().get(id).cloned().ok_or(Error::NotFound)
    }

    /// The recordings of a room, the newest first.
    pub fn of_room(&self, room: &str) -> Vec<Summary> {
        let mut all = self.inner.catalogue.lock().of_room(room);
        if let Some(running) = self.running(room) {
            all.iter_mut().filter(|one| one.id == running.id).for_each(|one| one.clone_from(&running));
        }
        all
    }

    /// What a recording says of itself.
    pub fn manifest(&self, id: &str) -> Result<Manifest, Error> {
        self.inner.catalogue.lock().manifest(id)?.ok_or(Error::NotFound)
    }

    /// Where a file of a recording is, by its name in the manifest, and what it is.
    pub fn file(&self, id: &str, name: &str) -> Result<(PathBuf, Container), Error> {
        let catalogue = self.inner.catalogue.lock();
        let manifest = catalogue.manifest(id)?.ok_or(Error::NotFound)?;
        let file = manifest.files.iter().find(|file| file.name == name && file.has_plain_name());
        let found = file.map(|file| (catalogue.folder(id).join(&file.name), file.container));
        found.ok_or(Error::NotFound)
    }

    /// Deletes a recording with its files.
    pub fn delete(&self, id: &str) -> Result<(), Error> {
        if self.inner.running.lock().by_room.values().any(|one| one.id == id) {
            return Err(Error::StillRunning);
        }
        let mut catalogue = self.inner.catalogue.lock();
        if catalogue.get(id).is_none() {
            return Err(Error::NotFound);
        }
        Ok(catalogue.delete(id)?)
    }

    /// Deletes what is older than the operator wants to keep. To be called now and then.
    pub fn sweep(&self, now: SystemTime) {
        let days = self.inner.settings.retention_days;
        if days == 0 {
            return;
        }
        let mut catalogue = self.inner.catalogue.lock();
        for id in catalogue.older_than(Duration::from_hours(24).saturating_mul(days as u32), now) {
            match catalogue.delete(&id) {
                Ok(()) => tracing::info!(recording = id, "a recording has expired"),
                Err(error) => tracing::warn!(recording = id, %error, "a recording that has expired stays"),
            }
        }
    }

    /// Ends all recordings, and begins no more. Returns when all is written.
    pub async fn close(&self) {
        let done: Vec<_> = {
            let mut running = self.inner.running.lock();
            running.stopping = true;
            let ending = |one: &Job| {
                let _ = one.stop.try_send(End::ServerStopped);
                one.done.clone()
            };
            running.by_room.values().map(ending).collect()
        };
        for done in done {
            let _ = done.recv_async().await;
        }
    }

    fn on_ended(&self, end: End, summary: Summary) {
        tidy(&self.inner.catalogue.lock().folder(&summary.id));
        tracing::info!(
            recording = summary.id,
            room = summary.room,
            ?end,
            bytes = summary.bytes,
            "a recording has ended"
        );
        let mut totals = self.inner.totals.lock();
        totals.failed += u64::from(matches!(end, End::DiskFull | End::StorageFailed));
        totals.bytes += summary.bytes;
        drop(totals);
        // Listed as ended before anybody could begin another.
        self.inner.catalogue.lock().put(summary.clone());
        let mut running = self.inner.running.lock();
        running.by_room.retain(|_, one| one.id != summary.id);
        drop(running);
        let _ = self.inner.events.send(Event::Ended(summary));
    }
}

/// A name of its own: the time, so that they sort by it, and something that no other has.
fn new_id(now: SystemTime) -> String {
    let time: String = rfc3339(now).chars().filter(char::is_ascii_alphanumeric).collect();
    let random = RandomState::new().hash_one(now) as u32;
    format!("{}-{random:08x}", time.trim_end_matches('Z'))
}
