//! Snapshots of channels: their histories and epochs, from a graceful stop to the next start.

use bytes::Bytes;
use sqlx::Row as _;

use crate::database::{Database, Work};
use crate::error::StorageError;
use crate::rows::{chunks, query, signed, unsigned, values};

/// A channel at the moment when the server stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelSnapshot {
    /// The channel's name.
    pub channel: String,
    /// Its epoch.
    pub epoch: String,
    /// The newest offset that it gave.
    pub offset: u64,
    /// Its history in whatever form the caller understands later.
    pub body: Bytes,
}

impl Database {
    /// Puts these snapshots in place of all there are, once everything that is queued is written.
    pub async fn save_snapshots(&self, snapshots: Vec<ChannelSnapshot>) -> Result<(), StorageError> {
        self.flush().await?;
        let mut work = self.shared.work().await?;
        clear(&mut work).await?;
        for chunk in chunks(&snapshots) {
            let text = "INSERT INTO snapshots (channel, epoch, newest_offset, body) ";
            let mut query = query(text.to_owned() + &values(chunk.len(), 4));
            for snapshot in chunk {
                query = query
                    .bind(snapshot.channel.clone())
                    .bind(snapshot.epoch.clone())
                    .bind(signed(snapshot.offset))
                    .bind(snapshot.body.to_vec());
            }
            query.execute(&mut *work).await?;
        }
        work.commit().await?;
        Ok(())
    }

    /// The snapshots of the last graceful stop. They are removed at once: after a crash they would be of the past, and a
    /// position in them would promise what cannot be held.
    pub async fn take_snapshots(&self) -> Result<Vec<ChannelSnapshot>, StorageError> {
        let mut work = self.shared.work().await?;
        let rows = sqlx::query("SELECT channel, epoch, newest_offset, body FROM snapshots ORDER BY channel");
        let mut snapshots = Vec::new();
        for row in rows.fetch_all(&mut *work).await? {
            snapshots.push(ChannelSnapshot {
                channel: row.try_get(0)?,
                epoch: row.try_get(1)?,
                offset: unsigned(row.try_get(2)?),
                body: row.try_get::<Vec<u8>, _>(3)?.into(),
            });
        }
        clear(&mut work).await?;
        work.commit().await?;
        Ok(snapshots)
    }
}

async fn clear(work: &mut Work) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM snapshots").execute(&mut **work).await.map(drop)
}
