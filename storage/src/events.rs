//! The log of events: appended to, read from any point, bounded by age and count.
//!
//! Events that are removed live on in the base of the views (`views.rs`), in the same transaction, so that views can be
//! rebuilt at any time.

use serde::Serialize;
use serde_json::Value;
use sqlx::Row as _;
use sqlx::any::AnyRow;
use tokio::sync::watch;

use crate::database::{Database, Shared, Work};
use crate::error::StorageError;
use crate::rows::{Select, chunks, query, signed, values};
use crate::timestamp;
use crate::views::{self, Views};

/// The most events of one answer.
const MAX_LIMIT: u32 = 1_000;

/// Events that are read together where all are read.
const PAGE: i64 = 1_000;

/// Pages that one transaction removes: nothing else is written meanwhile.
const PAGES_PRUNED_AT_ONCE: usize = 16;

/// Something that happened, before it has a place in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// What happened: one of [`crate::kind`], or anything else of that form.
    pub kind: String,
    /// The room that it is about.
    pub room: Option<String>,
    /// The channel that it is about.
    pub channel: Option<String>,
    /// Whose doing it was.
    pub user_id: Option<String>,
    /// When, in milliseconds since 1970.
    pub time: i64,
    /// What else there is to say: an object.
    pub data: Value,
}

/// Something that happened, as the log has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Its place in the log: later events have higher ones, not always the next.
    pub sequence: i64,
    /// What happened.
    pub kind: String,
    /// The room that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// The channel that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Whose doing it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// When, in milliseconds since 1970; RFC 3339 in JSON.
    #[serde(serialize_with = "timestamp::serialize")]
    pub time: i64,
    /// What else there is to say.
    pub data: Value,
}

/// Which events are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Only those after this sequence; 0 for all.
    pub since: i64,
    /// Only those about this room.
    pub room: Option<String>,
    /// Only those about this channel.
    pub channel: Option<String>,
    /// The most to answer, 1,000 at most.
    pub limit: u32,
}

/// An event as it waits to be written: its data is text already, so that its size is known.
#[derive(Clone, Debug)]
pub(crate) struct EventRow {
    kind: String,
    room: Option<String>,
    channel: Option<String>,
    user_id: Option<String>,
    time: i64,
    pub(crate) data: String,
}

impl NewEvent {
    /// Something of this kind that happened at `time`.
    pub fn new(kind: &str, time: i64) -> Self {
        let data = Value::Object(serde_json::Map::new());
        Self { kind: kind.to_owned(), room: None, channel: None, user_id: None, time, data }
    }

    /// It is about this room.
    #[must_use]
    pub fn room(mut self, room: &str) -> Self {
        self.room = Some(room.to_owned());
        self
    }

    /// It is about this channel.
    #[must_use]
    pub fn channel(mut self, channel: &str) -> Self {
        self.channel = Some(channel.to_owned());
        self
    }

    /// It was this user's doing.
    #[must_use]
    pub fn user(mut self, user_id: &str) -> Self {
        self.user_id = Some(user_id.to_owned());
        self
    }

    /// What else there is to say.
    #[must_use]
    pub fn data(mut self, data: Value) -> Self {
        self.data = data;
        self
    }

    pub(crate) fn into_row(self) -> EventRow {
        EventRow {
            kind: self.kind,
            room: self.room,
            channel: self.channel,
            user_id: self.user_id,
            time: self.time,
            data: self.data.to_string(),
        }
    }
}

impl Database {
    /// Queues an event, without waiting. It never fails: where the queue is full or the database fails, the event is lost
    /// and counted, and the log tells so later with `log.gap`.
    pub fn record(&self, event: NewEvent) {
        self.queue.record(&self.shared, event.into_row());
    }

    /// Events in the order of the log.
    pub async fn events(&self, query: &EventQuery) -> Result<Vec<Event>, StorageError> {
        let select = Select::new(format!("{SELECT} WHERE sequence > "))
            .value(query.since)
            .and_equal("room", query.room.as_ref())
            .and_equal("channel", query.channel.as_ref())
            .then(" ORDER BY sequence LIMIT ")
            .value(i64::from(query.limit.min(MAX_LIMIT)));
        let rows = select.query().fetch_all(self.shared.readers()).await?;
        rows.iter().map(parse).collect()
    }

    /// The sequence of the newest event; changes with every commit that has some.
    pub fn newest_sequence(&self) -> watch::Receiver<i64> {
        self.shared.newest.subscribe()
    }

    /// The rooms and channels that the log tells of, removed events included.
    pub async fn views(&self) -> Result<Views, StorageError> {
        let mut view = self.shared.view().await?;
        let mut views = views::read_base(&mut view).await?;
        let mut since = 0;
        loop {
            let page = page(&mut view, since, i64::MAX).await?;
            let Some(last) = page.last() else { return Ok(views) };
            since = last.sequence;
            for event in &page {
                views.apply(event);
            }
        }
    }
}

/// Appends events; the sequence of the last one, where there are any.
pub(crate) async fn insert(work: &mut Work, events: &[&EventRow]) -> Result<Option<i64>, sqlx::Error> {
    let mut newest = None;
    for chunk in chunks(events) {
        let text = "INSERT INTO events (time, kind, room, channel, user_id, data) ";
        let mut query = query(text.to_owned() + &values(chunk.len(), 6) + " RETURNING sequence");
        for event in chunk {
            query = query
                .bind(event.time)
                .bind(event.kind.clone())
                .bind(event.room.clone())
                .bind(event.channel.clone())
                .bind(event.user_id.clone())
                .bind(event.data.clone());
        }
        for row in query.fetch_all(&mut **work).await? {
            newest = newest.max(Some(row.try_get(0)?));
        }
    }
    Ok(newest)
}

/// The sequence of the newest event that there is; 0 for none.
pub(crate) async fn newest_sequence(shared: &Shared) -> Result<i64, StorageError> {
    let newest = sqlx::query("SELECT COALESCE(MAX(sequence), 0) FROM events");
    Ok(newest.fetch_one(shared.readers()).await?.try_get(0)?)
}

/// Removes events that are too old at `now` or too many; the base of the views takes them in.
pub(crate) async fn prune(shared: &Shared, now: i64) -> Result<(), StorageError> {
    let last = last_to_prune(shared, now).await?;
    while prune_some(shared, last).await? {}
    Ok(())
}

/// Removes events up to `last`, but no more than others may wait for; whether there may be more. The base of the views,
/// which may be large, is read and written once for all of them.
async fn prune_some(shared: &Shared, last: i64) -> Result<bool, StorageError> {
    let mut work = shared.work().await?;
    let mut base = None;
    let mut removed = 0;
    for _ in 0..PAGES_PRUNED_AT_ONCE {
        let page = page(&mut work, removed, last).await?;
        let Some(newest) = page.last() else { break };
        removed = newest.sequence;
        let base = match &mut base {
            Some(base) => base,
            none => none.insert(views::read_base(&mut work).await?),
        };
        for event in &page {
            base.apply(event);
        }
    }
    let Some(base) = base else { return Ok(false) };
    views::write_base(&mut work, &base).await?;
    let delete = sqlx::query("DELETE FROM events WHERE sequence <= $1");
    delete.bind(removed).execute(&mut *work).await?;
    work.commit().await?;
    Ok(true)
}

/// The sequence of the last event that is to go. What comes after the first event that is young enough stays, whatever
/// its time is.
async fn last_to_prune(shared: &Shared, now: i64) -> Result<i64, StorageError> {
    let newest = newest_sequence(shared).await?;
    let cutoff = now.saturating_sub(shared.settings.event_millis());
    let young = sqlx::query("SELECT COALESCE(MIN(sequence), $2) FROM events WHERE time > $1");
    let young = young.bind(cutoff).bind(newest.saturating_add(1));
    let first_young: i64 = young.fetch_one(shared.readers()).await?.try_get(0)?;
    let too_many = newest.saturating_sub(signed(shared.settings.events));
    Ok(too_many.max(first_young - 1))
}

const SELECT: &str = "SELECT sequence, time, kind, room, channel, user_id, data FROM events";

async fn page(work: &mut Work, since: i64, last: i64) -> Result<Vec<Event>, StorageError> {
    let text = format!("{SELECT} WHERE sequence > $1 AND sequence <= $2 ORDER BY sequence LIMIT {PAGE}");
    let rows = query(text).bind(since).bind(last).fetch_all(&mut **work).await?;
    rows.iter().map(parse).collect()
}

fn parse(row: &AnyRow) -> Result<Event, StorageError> {
    let data: String = row.try_get("data")?;
    Ok(Event {
        sequence: row.try_get("sequence")?,
        kind: row.try_get("kind")?,
        room: row.try_get("room")?,
        channel: row.try_get("channel")?,
        user_id: row.try_get("user_id")?,
        time: row.try_get("time")?,
        data: serde_json::from_str(&data)
            .map_err(|error| StorageError::Failed(format!("an event's data is no JSON: {error}")))?,
    })
}
