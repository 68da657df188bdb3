//! What a story needs: an empty database of one kind, and ways to open it.

use std::path::Path;

use sqlx::{AnyConnection, Connection as _};
use tempfile::TempDir;
use veche_storage::{Database, KeptMessage, StorageError, StorageSettings};

use crate::postgres::Server;

/// A day in milliseconds.
pub(crate) const DAY: i64 = 86_400_000;

/// Some moment of the present, in milliseconds since 1970: old things are removed in the background by the real clock.
pub(crate) fn present() -> i64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(elapsed.as_millis()).unwrap()
}

/// An empty database.
pub(crate) struct Rig {
    /// How it is opened; a story may change bounds.
    pub(crate) settings: StorageSettings,
    folder: TempDir,
}

impl Rig {
    pub(crate) fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        // With characters that mean something in an address.
        let path = folder.path().join("a b%20c?d#e.db");
        let settings = StorageSettings { url: format!("sqlite:{}", path.display()), ..Default::default() };
        Self { settings, folder }
    }

    pub(crate) async fn postgres(server: &Server, story: &str) -> Self {
        // A name has 63 characters at most.
        let name: String = story.chars().take(60).collect();
        server.create_database(&name).await;
        let settings = StorageSettings { url: server.url(&name), ..Default::default() };
        Self { settings, folder: TempDir::new().unwrap() }
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        self.settings.url.starts_with("sqlite:")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn open(&self) -> Database {
        self.try_open().await.unwrap()
    }

    pub(crate) async fn try_open(&self) -> Result<Database, StorageError> {
        Database::open(&self.settings, self.folder()).await
    }

    /// A statement past the crate.
    pub(crate) async fn execute(&self, statement: &'static str) {
        let mut connection = if self.is_sqlite() {
            let path = self.settings.url.trim_start_matches("sqlite:");
            let path = path.replace('%', "%25").replace('?', "%3F").replace('#', "%23").replace(' ', "%20");
            AnyConnection::connect(&format!("sqlite:{path}")).await.unwrap()
        } else {
            AnyConnection::connect(&self.settings.url).await.unwrap()
        };
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

/// A message of the present.
pub(crate) fn message(channel: &str, offset: u64) -> KeptMessage {
    KeptMessage {
        channel: channel.to_owned(),
        offset,
        epoch: "00c0ffee".to_owned(),
        message_id: format!("msg_{channel}_{offset}"),
        time: present(),
        user_id: offset.is_multiple_of(2).then(|| "анна".to_owned()),
        body: format!("body {offset} \0 of {channel}").into(),
    }
}

/// The offsets that are kept of a channel.
pub(crate) async fn offsets(database: &Database, channel: &str) -> Vec<u64> {
    let stored = database.channel(channel, present()).await.unwrap();
    stored.kept.iter().map(|message| message.offset).collect()
}
