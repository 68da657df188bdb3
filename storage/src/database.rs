//! The database: where it is, how it is opened, and who may write.
//!
//! SQLite and PostgreSQL are driven by the same statements. One connection writes, others read. What is acknowledged is on
//! the disk: SQLite works with a write-ahead log that is synchronised at every commit (`synchronous = FULL`; with `NORMAL`
//! a power cut could take the last commits back), PostgreSQL with `synchronous_commit`. That a commit waits for the disk
//! costs little, because everything that waits meanwhile goes into the next one (`writer.rs`).

use std::fmt;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{Any, AnyConnection, AnyPool, Connection as _, Executor as _, Transaction};
use tokio::sync::watch;

use crate::counters::{Counters, Counts};
use crate::error::StorageError;
use crate::lock::Lock;
use crate::schema;
use crate::settings::StorageSettings;
use crate::writer::{self, Queue};

/// The file in the data folder, where nothing else is named.
const DEFAULT_FILE: &str = "veche.db";

/// Connections that read. SQLite has a thread for each.
const READERS: u32 = 4;

/// How long a statement waits for a connection, for instance while PostgreSQL restarts.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often what is too old is removed.
const PRUNE_INTERVAL: Duration = Duration::from_mins(1);

/// A transaction on either database.
pub(crate) type Work = Transaction<'static, Any>;

/// What outlives the process. Cheap to clone; all clones are one.
///
/// Not for a runtime with paused time: the database answers in real time, and waiting for it would time out at once.
#[derive(Clone)]
pub struct Database {
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: Queue,
}

/// What the writer's task and all clones share.
pub(crate) struct Shared {
    pub(crate) settings: StorageSettings,
    pub(crate) counts: Counts,
    /// The sequence of the newest committed event.
    pub(crate) newest: watch::Sender<i64>,
    kind: Kind,
    readers: AnyPool,
    /// One connection, so that writers take turns.
    writer: AnyPool,
    /// Held as long as a server works with this database; a command beside it has none.
    lock: Option<Lock>,
}

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

/// Where the database is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Sqlite(PathBuf),
    Postgres(String),
}

impl Database {
    /// Opens the database of a server, makes or updates its tables, and starts the task that writes on this runtime.
    pub async fn open(settings: &StorageSettings, data_dir: &Path) -> Result<Self, StorageError> {
        Self::open_with(settings, data_dir, true).await
    }

    /// The same for a command that runs beside a server, like `veche keys`: it takes no lock and prunes nothing.
    pub async fn open_beside(settings: &StorageSettings, data_dir: &Path) -> Result<Self, StorageError> {
        Self::open_with(settings, data_dir, false).await
    }

    /// Asks the database for something small, and leaves it as it is: no table is made or changed, no lock taken. `false` where
    /// it is a file that is not there yet.
    pub async fn reach(settings: &StorageSettings, data_dir: &Path) -> Result<bool, StorageError> {
        sqlx::any::install_default_drivers();
        let place = Place::of(settings, data_dir)?;
        if let Place::Sqlite(path) = &place
            && !path.exists()
        {
            return Ok(false);
        }
        let mut connection = AnyConnection::connect_with(&place.prepare()?).await?;
        sqlx::query("SELECT CAST(1 AS BIGINT)").fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(true)
    }

    async fn open_with(
        settings: &StorageSettings,
        data_dir: &Path,
        is_server: bool,
    ) -> Result<Self, StorageError> {
        sqlx::any::install_default_drivers();
        let place = Place::of(settings, data_dir)?;
        let options = place.prepare()?;
        let lock = if is_server { Some(Lock::take(place.clone(), options.clone()).await?) } else { None };
        let kind = place.kind();
        let shared = Arc::new(Shared {
            settings: settings.clone(),
            counts: Counts::default(),
            newest: watch::Sender::new(0),
            kind,
            readers: pool(kind, READERS, kind.reader_set_up()).connect_lazy_with(options.clone()),
            writer: pool(kind, 1, kind.writer_set_up()).connect_lazy_with(options),
            lock,
        });
        schema::migrate(&shared).await?;
        shared.newest.send_replace(crate::events::newest_sequence(&shared).await?);
        let queue = writer::start(Arc::clone(&shared));
        let database = Self { shared, queue };
        if is_server {
            tokio::spawn(prune_regularly(Arc::downgrade(&database.shared)));
        }
        Ok(database)
    }

    /// Writes what waits and closes the database. Everything else is [`StorageError::Closed`] from now on.
    pub async fn close(&self) {
        self.queue.close().await;
        self.shared.readers.close().await;
        self.shared.writer.close().await;
        if let Some(lock) = &self.shared.lock {
            lock.release().await;
        }
    }

    /// Asks the database for something small; and to write something small, where it could not at the last attempt.
    pub async fn check(&self) -> Result<(), StorageError> {
        sqlx::query("SELECT CAST(1 AS BIGINT)").fetch_one(self.shared.readers()).await?;
        if !self.shared.counts.is_failing.load(Ordering::Relaxed) {
            return Ok(());
        }
        let result = self.shared.try_writing().await;
        self.shared.note_writing(result.as_ref().err());
        result
    }

    /// The time, in milliseconds since 1970, as everything that is stored has it.
    pub fn now(&self) -> i64 {
        now()
    }

    /// What has been done so far.
    pub fn counters(&self) -> Counters {
        self.shared.counts.read(self.queue.waiting())
    }

    /// Waits until everything that was queued before is committed, or was lost because the database failed.
    pub async fn flush(&self) -> Result<(), StorageError> {
        self.queue.flush().await
    }

    /// Removes what is too old at `now`, or too much. A server's database does so by itself every minute.
    pub async fn prune(&self, now: i64) -> Result<(), StorageError> {
        self.shared.prune(now).await
    }

    /// Makes sure that the database is still this server's alone. A server's database does so by itself every minute.
    pub async fn look_after_lock(&self) {
        if let Some(lock) = &self.shared.lock {
            lock.look_after().await;
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("kind", &self.shared.kind).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn readers(&self) -> &AnyPool {
        &self.readers
    }

    async fn try_writing(&self) -> Result<(), StorageError> {
        let mut work = self.work().await?;
        let put = sqlx::query(
            "INSERT INTO meta (name, value) VALUES ('checked', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        );
        put.bind(now().to_string()).execute(&mut *work).await?;
        work.commit().await?;
        Ok(())
    }

    /// Notes how an attempt to write went: one line in the log when the database begins to fail, one when it works again.
    pub(crate) fn note_writing(&self, error: Option<&StorageError>) {
        let was_failing = self.counts.is_failing.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !was_failing => {
                tracing::error!(%error, "Storage fails: messages are not kept and events are lost until it works again");
            }
            None if was_failing => tracing::info!("Storage works again"),
            _ => {}
        }
    }

    /// Removes what is too old at `now`, or too much.
    pub(crate) async fn prune(&self, now: i64) -> Result<(), StorageError> {
        crate::kept::prune(self, now).await?;
        crate::events::prune(self, now).await
    }

    /// A transaction that may write. Others wait until it ends; SQLite is told at once, so that what it has read stays
    /// true until it writes.
    pub(crate) async fn work(&self) -> Result<Work, sqlx::Error> {
        match self.kind {
            Kind::Sqlite => self.writer.begin_with("BEGIN IMMEDIATE").await,
            Kind::Postgres => self.writer.begin().await,
        }
    }

    /// A transaction that reads one state of the database, whatever is written meanwhile.
    pub(crate) async fn view(&self) -> Result<Work, sqlx::Error> {
        match self.kind {
            Kind::Sqlite => self.readers.begin().await,
            Kind::Postgres => {
                self.readers.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
            }
        }
    }
}

impl Kind {
    /// What a connection that writes is told first.
    fn writer_set_up(self) -> &'static str {
        match self {
            Self::Sqlite => {
                "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                 PRAGMA journal_size_limit = 67108864"
            }
            // Stronger settings of the operator (waiting for replicas) stay as they are.
            Self::Postgres => {
                "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
            }
        }
    }

    /// What a connection that reads is told first.
    fn reader_set_up(self) -> &'static str {
        match self {
            Self::Sqlite => "PRAGMA busy_timeout = 5000; PRAGMA query_only = ON",
            Self::Postgres => "SET default_transaction_read_only = on",
        }
    }
}

impl Place {
    /// The one that the settings name.
    fn of(settings: &StorageSettings, data_dir: &Path) -> Result<Self, StorageError> {
        match settings.url.as_str() {
            "" => Ok(Self::Sqlite(data_dir.join(DEFAULT_FILE))),
            url => Self::parse(url),
        }
    }

    /// Understands `sqlite:PATH` and `postgres://…`.
    pub(crate) fn parse(url: &str) -> Result<Self, StorageError> {
        let scheme = url.split(':').next().unwrap_or_default();
        match scheme {
            "sqlite" => {
                let path = url.trim_start_matches("sqlite:");
                let path = path.strip_prefix("//").unwrap_or(path);
                if path.is_empty() || path == ":memory:" || path.contains('\0') {
                    return Err(StorageError::BadUrl(format!(
                        "'{url}' names no file; for example sqlite:data/veche.db"
                    )));
                }
                Ok(Self::Sqlite(PathBuf::from(path)))
            }
            "postgres" | "postgresql" if url.parse::<AnyConnectOptions>().is_ok() => {
                Ok(Self::Postgres(url.to_owned()))
            }
            // The rest of the address may hold a password.
            _ => Err(StorageError::BadUrl(format!(
                "'{scheme}:…' is no database; for example sqlite:data/veche.db or postgres://user:password@localhost/veche"
            ))),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Sqlite(_) => Kind::Sqlite,
            Self::Postgres(_) => Kind::Postgres,
        }
    }

    /// Makes SQLite's file and its folder, and the options to connect with.
    fn prepare(&self) -> Result<AnyConnectOptions, StorageError> {
        let url = match self {
            Self::Postgres(url) => url.clone(),
            Self::Sqlite(path) => {
                let failed =
                    |error: std::io::Error| StorageError::Failed(format!("{}: {error}", path.display()));
                let path = std::path::absolute(path).map_err(failed)?;
                if let Some(folder) = path.parent() {
                    std::fs::create_dir_all(folder).map_err(failed)?;
                }
                create_private(&path).map_err(failed)?;
                let text = path.to_str().ok_or_else(|| {
                    StorageError::BadUrl(format!("{}: a database needs a path that is UTF-8", path.display()))
                })?;
                format!("sqlite://{}", escape_path(text))
            }
        };
        url.parse().map_err(|error: sqlx::Error| StorageError::BadUrl(error.to_string()))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "the database {}", path.display()),
            // Without its address, which may hold a password.
            Self::Postgres(_) => f.write_str("the PostgreSQL database"),
        }
    }
}

fn pool(kind: Kind, connections: u32, set_up: &'static str) -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .max_lifetime(None)
        .idle_timeout(None)
        // A server may have restarted; a file does not.
        .test_before_acquire(kind == Kind::Postgres)
        .after_connect(move |connection, _| {
            Box::pin(async move { connection.execute(sqlx::raw_sql(set_up)).await.map(drop) })
        })
        // After an error of the disk SQLite itself ends the transaction, and the driver cannot end it any more: such a
        // connection would refuse everything. The ping comes after a rollback that is still on its way.
        .after_release(|connection, _| {
            Box::pin(async move { connection.ping().await.map(|()| !connection.is_in_transaction()) })
        })
}

/// Opens a file that only this user may read, or makes it; messages and hashes of keys are nobody else's.
pub(crate) fn create_private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// A path as it stands in an address.
fn escape_path(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3F").replace('#', "%23").replace(' ', "%20")
}

/// Prunes as long as somebody has the database open.
async fn prune_regularly(shared: Weak<Shared>) {
    let first = tokio::time::Instant::now() + PRUNE_INTERVAL;
    let mut interval = tokio::time::interval_at(first, PRUNE_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        if let Some(lock) = &shared.lock {
            lock.look_after().await;
        }
        match shared.prune(now()).await {
            Ok(()) => {}
            Err(StorageError::Closed) => return,
            Err(error) => tracing::warn!(%error, "Old messages and events cannot be removed from storage"),
        }
    }
}

/// Milliseconds since 1970.
pub(crate) fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use sqlx::Row as _;

    use super::*;

    #[tokio::test]
    async fn sqlite_waits_for_the_disk_and_its_files_are_private() {
        let folder = tempfile::TempDir::new().unwrap();
        let database = Database::open(&StorageSettings::default(), folder.path()).await.unwrap();
        let mut work = database.shared.work().await.unwrap();
        let synchronous = sqlx::query("PRAGMA synchronous").fetch_one(&mut *work).await.unwrap();
        let journal = sqlx::query("PRAGMA journal_mode").fetch_one(&mut *work).await.unwrap();
        // 2 is FULL.
        assert_eq!(synchronous.try_get::<i64, _>(0).unwrap(), 2);
        assert_eq!(journal.try_get::<String, _>(0).unwrap(), "wal");
        work.rollback().await.unwrap();

        let mode = |name: &str| {
            let metadata = std::fs::metadata(folder.path().join(name)).unwrap();
            std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777
        };
        assert_eq!((mode("veche.db"), mode("veche.db-wal"), mode("veche.db.lock")), (0o600, 0o600, 0o600));
        database.close().await;
    }

    #[test]
    fn an_address_that_is_none_is_told_without_its_password() {
        for url in ["mysql://user:secret@host/db", "secret", "sqlite:", "sqlite::memory:"] {
            let Err(StorageError::BadUrl(text)) = Place::parse(url) else { panic!("{url}") };
            assert!(text.contains("for example sqlite:") && !text.contains("user:secret"), "{text}");
        }
        assert_eq!(Place::parse("postgres://u:secret@h/d").unwrap().to_string(), "the PostgreSQL database");
        assert!(Place::parse("sqlite:data/x.db").unwrap() == Place::Sqlite("data/x.db".into()));
        assert!(Place::parse("sqlite:///var/x.db").unwrap() == Place::Sqlite("/var/x.db".into()));
    }
}
