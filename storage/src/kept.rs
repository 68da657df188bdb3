//! Kept messages: the newest of each channel, within bounds of count, bytes and age.

use std::collections::BTreeMap;

use bytes::Bytes;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::database::{Database, Shared, Work};
use crate::error::StorageError;
use crate::events::{EventRow, NewEvent};
use crate::kind;
use crate::rows::{chunks, query, signed, unsigned, values};
use crate::settings::StorageSettings;
use crate::writer::Receipt;

/// Rows that are looked at together when old ones are removed.
const PRUNE_PAGE: i64 = 256;

/// A message as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptMessage {
    /// The channel's name.
    pub channel: String,
    /// The message's offset; each can be kept once.
    pub offset: u64,
    /// The channel's epoch in which the offset was given.
    pub epoch: String,
    /// The message's own name.
    pub message_id: String,
    /// When it was sent, in milliseconds since 1970.
    pub time: i64,
    /// Who sent it.
    pub user_id: Option<String>,
    /// The message in whatever form the caller understands later.
    pub body: Bytes,
}

/// What is known of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredChannel {
    /// The highest offset that was ever kept, though its message may be gone; 0 when there was none.
    pub highest_offset: u64,
    /// The messages that are still kept, by offset.
    pub kept: Vec<KeptMessage>,
}

/// What a transaction adds to a channel.
#[derive(Default)]
struct Added {
    highest_offset: u64,
    messages: u64,
    bytes: u64,
    time: i64,
}

impl Database {
    /// Queues a message, without waiting. The receipt resolves when it is on the disk, together with the event
    /// `message.kept`; messages are committed in the order of these calls.
    pub fn keep(&self, message: KeptMessage) -> Result<Receipt, StorageError> {
        let limit = self.shared.settings.kept_bytes;
        if message.body.len() as u64 > limit {
            return Err(StorageError::TooLarge { limit });
        }
        let event = kept_event(&message);
        self.queue.keep(message, event)
    }

    /// What is known of a channel at `now`, with everything that was queued before.
    pub async fn channel(&self, name: &str, now: i64) -> Result<StoredChannel, StorageError> {
        self.flush().await?;
        let mut view = self.shared.view().await?;
        let channel = sqlx::query("SELECT highest_offset FROM channels WHERE name = $1");
        let Some(channel) = channel.bind(name.to_owned()).fetch_optional(&mut *view).await? else {
            return Ok(StoredChannel::default());
        };
        let rows = sqlx::query(
            "SELECT channel, message_offset, epoch, message_id, time, user_id, body FROM kept \
             WHERE channel = $1 AND time > $2 ORDER BY message_offset",
        );
        let oldest = now.saturating_sub(self.shared.settings.kept_millis());
        let rows = rows.bind(name.to_owned()).bind(oldest).fetch_all(&mut *view).await?;
        Ok(StoredChannel {
            highest_offset: unsigned(channel.try_get(0)?),
            kept: rows.iter().map(parse).collect::<Result<_, _>>()?,
        })
    }

    /// Removes what is kept of a channel and says how many messages that were. Its highest offset stays known.
    pub async fn forget_channel(&self, name: &str) -> Result<u64, StorageError> {
        self.flush().await?;
        let mut work = self.shared.work().await?;
        let removed = remove_up_to(&mut work, name, i64::MAX).await?;
        work.commit().await?;
        Ok(removed)
    }
}

/// Writes messages and keeps their channels within bounds.
pub(crate) async fn insert(
    work: &mut Work,
    messages: &[&KeptMessage],
    settings: &StorageSettings,
) -> Result<(), sqlx::Error> {
    let mut added_by_channel: BTreeMap<&str, Added> = BTreeMap::new();
    for message in messages {
        let added = added_by_channel.entry(&message.channel).or_default();
        added.highest_offset = added.highest_offset.max(message.offset);
        added.messages += 1;
        added.bytes += message.body.len() as u64;
        added.time = added.time.max(message.time);
    }
    for chunk in chunks(messages) {
        let text =
            "INSERT INTO kept (channel, message_offset, epoch, message_id, time, user_id, size, body) ";
        let mut query = query(text.to_owned() + &values(chunk.len(), 8));
        for message in chunk {
            query = query
                .bind(message.channel.clone())
                .bind(signed(message.offset))
                .bind(message.epoch.clone())
                .bind(message.message_id.clone())
                .bind(message.time)
                .bind(message.user_id.clone())
                .bind(signed(message.body.len() as u64))
                .bind(message.body.to_vec());
        }
        query.execute(&mut **work).await?;
    }
    let added: Vec<_> = added_by_channel.into_iter().collect();
    for chunk in chunks(&added) {
        add_to_channels(work, chunk, settings).await?;
    }
    Ok(())
}

/// Removes messages that are too old at `now`, and the oldest of all where all together are too large.
pub(crate) async fn prune(shared: &Shared, now: i64) -> Result<(), StorageError> {
    let cutoff = now.saturating_sub(shared.settings.kept_millis());
    // One transaction for each page, so that messages that are to be kept need not wait for long.
    while prune_old(shared, cutoff).await? {}
    while prune_total(shared).await? {}
    // Nobody has an offset of theirs that could be recovered: a channel that comes again has a new epoch.
    let mut work = shared.work().await?;
    let unused = sqlx::query("DELETE FROM channels WHERE kept_messages = 0 AND updated <= $1");
    unused.bind(cutoff).execute(&mut *work).await?;
    work.commit().await?;
    Ok(())
}

async fn add_to_channels(
    work: &mut Work,
    added: &[(&str, Added)],
    settings: &StorageSettings,
) -> Result<(), sqlx::Error> {
    let text = format!(
        "INSERT INTO channels (name, highest_offset, kept_messages, kept_bytes, updated) {} \
         ON CONFLICT (name) DO UPDATE SET \
         highest_offset = CASE WHEN excluded.highest_offset > channels.highest_offset \
           THEN excluded.highest_offset ELSE channels.highest_offset END, \
         kept_messages = channels.kept_messages + excluded.kept_messages, \
         kept_bytes = channels.kept_bytes + excluded.kept_bytes, \
         updated = excluded.updated \
         RETURNING name, kept_messages, kept_bytes",
        values(added.len(), 5)
    );
    let mut query = query(text);
    for (channel, added) in added {
        query = query
            .bind((*channel).to_owned())
            .bind(signed(added.highest_offset))
            .bind(signed(added.messages))
            .bind(signed(added.bytes))
            .bind(added.time);
    }
    for row in query.fetch_all(&mut **work).await? {
        let messages = unsigned(row.try_get(1)?);
        let bytes = unsigned(row.try_get(2)?);
        if messages > settings.kept_messages || bytes > settings.kept_bytes {
            trim(work, row.try_get(0)?, messages, bytes, settings).await?;
        }
    }
    Ok(())
}

/// Removes a channel's oldest messages until it is within its bounds.
async fn trim(
    work: &mut Work,
    channel: String,
    mut messages: u64,
    mut bytes: u64,
    settings: &StorageSettings,
) -> Result<(), sqlx::Error> {
    let is_within =
        |messages: u64, bytes: u64| messages <= settings.kept_messages && bytes <= settings.kept_bytes;
    let mut removed_up_to = 0;
    while !is_within(messages, bytes) {
        let oldest = sqlx::query(
            "SELECT message_offset, size FROM kept WHERE channel = $1 AND message_offset > $2 \
             ORDER BY message_offset LIMIT $3",
        );
        let oldest =
            oldest.bind(channel.clone()).bind(removed_up_to).bind(PRUNE_PAGE).fetch_all(&mut **work).await?;
        if oldest.is_empty() {
            break;
        }
        for row in oldest {
            if is_within(messages, bytes) {
                break;
            }
            removed_up_to = row.try_get(0)?;
            messages = messages.saturating_sub(1);
            bytes = bytes.saturating_sub(unsigned(row.try_get(1)?));
        }
    }
    let removed = sqlx::query("DELETE FROM kept WHERE channel = $1 AND message_offset <= $2");
    removed.bind(channel.clone()).bind(removed_up_to).execute(&mut **work).await?;
    let rest = sqlx::query("UPDATE channels SET kept_messages = $2, kept_bytes = $3 WHERE name = $1");
    rest.bind(channel).bind(signed(messages)).bind(signed(bytes)).execute(&mut **work).await?;
    Ok(())
}

/// Removes a page of messages that were sent before `cutoff`; says whether there may be more.
async fn prune_old(shared: &Shared, cutoff: i64) -> Result<bool, StorageError> {
    let mut work = shared.work().await?;
    let old = sqlx::query("SELECT channel, message_offset FROM kept WHERE time <= $1 ORDER BY time LIMIT $2");
    let old = old.bind(cutoff).bind(PRUNE_PAGE).fetch_all(&mut *work).await?;
    remove(&mut work, &old).await?;
    work.commit().await?;
    Ok(!old.is_empty())
}

/// Removes a page of the oldest messages where all together are too large; says whether there may be more.
async fn prune_total(shared: &Shared) -> Result<bool, StorageError> {
    let mut work = shared.work().await?;
    let total = sqlx::query("SELECT CAST(COALESCE(SUM(kept_bytes), 0) AS BIGINT) FROM channels");
    let mut total = unsigned(total.fetch_one(&mut *work).await?.try_get(0)?);
    if total <= shared.settings.kept_total_bytes {
        return Ok(false);
    }
    let oldest = sqlx::query("SELECT channel, message_offset, size FROM kept ORDER BY time LIMIT $1");
    let mut oldest = oldest.bind(PRUNE_PAGE).fetch_all(&mut *work).await?;
    let mut needed = 0;
    for row in &oldest {
        if total <= shared.settings.kept_total_bytes {
            break;
        }
        total = total.saturating_sub(unsigned(row.try_get(2)?));
        needed += 1;
    }
    oldest.truncate(needed);
    remove(&mut work, &oldest).await?;
    work.commit().await?;
    Ok(needed > 0)
}

/// Removes these messages (channel, offset), and what is older in their channels.
async fn remove(work: &mut Work, rows: &[AnyRow]) -> Result<(), sqlx::Error> {
    let mut highest_by_channel: BTreeMap<String, i64> = BTreeMap::new();
    for row in rows {
        let highest = highest_by_channel.entry(row.try_get(0)?).or_default();
        *highest = (*highest).max(row.try_get(1)?);
    }
    for (channel, offset) in highest_by_channel {
        remove_up_to(work, &channel, offset).await?;
    }
    Ok(())
}

/// Removes a channel's messages up to an offset and counts the rest anew.
async fn remove_up_to(work: &mut Work, channel: &str, offset: i64) -> Result<u64, sqlx::Error> {
    let removed = sqlx::query("DELETE FROM kept WHERE channel = $1 AND message_offset <= $2");
    let removed = removed.bind(channel.to_owned()).bind(offset).execute(&mut **work).await?.rows_affected();
    let rest = sqlx::query(
        "UPDATE channels SET kept_messages = (SELECT COUNT(*) FROM kept WHERE channel = $1), \
         kept_bytes = (SELECT COALESCE(SUM(size), 0) FROM kept WHERE channel = $1) WHERE name = $1",
    );
    rest.bind(channel.to_owned()).execute(&mut **work).await?;
    Ok(removed)
}

fn kept_event(message: &KeptMessage) -> EventRow {
    let data = serde_json::json!({
        "message_id": message.message_id,
        "offset": message.offset,
        "bytes": message.body.len(),
    });
    let mut event = NewEvent::new(kind::MESSAGE_KEPT, message.time).channel(&message.channel).data(data);
    event.room = room_of(&message.channel).map(str::to_owned);
    event.user_id.clone_from(&message.user_id);
    event.into_row()
}

/// The call room whose channel this is: `room:<id>` or `room:<id>:<anything>`.
fn room_of(channel: &str) -> Option<&str> {
    let room = channel.strip_prefix("room:")?.split(':').next()?;
    (!room.is_empty()).then_some(room)
}

fn parse(row: &AnyRow) -> Result<KeptMessage, sqlx::Error> {
    Ok(KeptMessage {
        channel: row.try_get("channel")?,
        offset: unsigned(row.try_get("message_offset")?),
        epoch: row.try_get("epoch")?,
        message_id: row.try_get("message_id")?,
        time: row.try_get("time")?,
        user_id: row.try_get("user_id")?,
        body: row.try_get::<Vec<u8>, _>("body")?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_of_call_rooms_are_known_by_name() {
        assert_eq!(room_of("room:42"), Some("42"));
        assert_eq!(room_of("room:42:typing"), Some("42"));
        assert_eq!(room_of("rooms:42"), None);
        assert_eq!(room_of("room:"), None);
    }
}
