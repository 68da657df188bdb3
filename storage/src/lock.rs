//! What keeps a second server away from a database.

use std::fs::{File, TryLockError};
use std::time::Duration;

use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, Connection as _, Row as _};
use tokio::sync::Mutex;

use crate::database::{Place, create_private};
use crate::error::StorageError;

/// How long a starting server waits for one that is stopping.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it looks.
const POLL: Duration = Duration::from_millis(50);

/// The advisory lock of PostgreSQL that a server holds: "veche" in ASCII.
const POSTGRES_LOCK: i64 = 0x76_65_63_68_65;

/// Keeps a second server away, until it is released or dropped.
pub(crate) struct Lock {
    place: Place,
    options: AnyConnectOptions,
    held: Mutex<Held>,
}

enum Held {
    File {
        _file: File,
    },
    /// PostgreSQL gives the lock up when this connection ends.
    Connection(Box<AnyConnection>),
    /// The connection has ended, and the lock with it. How often somebody else was found to have it since.
    Lost(u32),
    Released,
}

impl Lock {
    /// Waits for a server that is stopping; one that goes on is an error.
    pub(crate) async fn take(place: Place, options: AnyConnectOptions) -> Result<Self, StorageError> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(held) = try_take(&place, &options).await? {
                return Ok(Self { place, options, held: Mutex::new(held) });
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(StorageError::InUse(place.to_string()));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Lets another server in, at once.
    pub(crate) async fn release(&self) {
        let mut held = self.held.lock().await;
        if let Held::Connection(connection) = &mut *held {
            let unlock = sqlx::query("SELECT pg_advisory_unlock($1)").bind(POSTGRES_LOCK);
            // Where that fails, the end of the connection does it.
            let _ = tokio::time::timeout(PATIENCE, unlock.execute(&mut **connection)).await;
        }
        *held = Held::Released;
    }

    /// Takes it again where it was lost, as it is when PostgreSQL starts anew. Where another server was faster, the log
    /// says so each time.
    pub(crate) async fn look_after(&self) {
        let mut held = self.held.lock().await;
        let is_lost = match &mut *held {
            Held::Connection(connection) => {
                let answered = tokio::time::timeout(PATIENCE, connection.ping()).await;
                !answered.is_ok_and(|answer| answer.is_ok())
            }
            Held::Lost(_) => true,
            Held::File { .. } | Held::Released => false,
        };
        if !is_lost {
            return;
        }
        let refused = if let Held::Lost(refused) = *held { refused } else { 0 };
        *held = Held::Lost(refused);
        let tried = tokio::time::timeout(PATIENCE, try_take(&self.place, &self.options)).await;
        let tried = tried.unwrap_or_else(|_| Err(StorageError::Failed("no answer".to_owned())));
        match tried {
            Ok(Some(again)) => {
                *held = again;
                tracing::warn!("the lock of the database was lost with its connection, and is taken again");
            }
            // The connection that was lost may have it for a while yet: PostgreSQL notices late.
            Ok(None) if refused == 0 => {
                *held = Held::Lost(1);
                tracing::warn!("the lock of the database is lost, and not free yet");
            }
            Ok(None) => tracing::error!(
                "another server works with the same database, which ruins what both keep; stop one of them, or name \
                 another database with storage.url"
            ),
            Err(error) => tracing::warn!(%error, "the lock of the database is lost and cannot be taken now"),
        }
    }
}

async fn try_take(place: &Place, options: &AnyConnectOptions) -> Result<Option<Held>, StorageError> {
    match place {
        Place::Sqlite(path) => {
            let path = path.with_added_extension("lock");
            let failed = |error: std::io::Error| StorageError::Failed(format!("{}: {error}", path.display()));
            let file = create_private(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => Ok(Some(Held::File { _file: file })),
                Err(TryLockError::WouldBlock) => Ok(None),
                Err(TryLockError::Error(error)) => Err(failed(error)),
            }
        }
        Place::Postgres(_) => {
            let mut connection = AnyConnection::connect_with(options).await?;
            // When the network is cut, the lock of a server that is gone ends after half a minute.
            sqlx::raw_sql(
                "SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3",
            )
            .execute(&mut connection)
            .await?;
            let taken = sqlx::query("SELECT pg_try_advisory_lock($1)").bind(POSTGRES_LOCK);
            let taken: bool = taken.fetch_one(&mut connection).await?.try_get(0)?;
            Ok(taken.then(|| Held::Connection(Box::new(connection))))
        }
    }
}
