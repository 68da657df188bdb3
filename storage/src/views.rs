//! What the log of events says about rooms and channels.
//!
//! [`rebuild`] is a pure function: whoever reads the log from its beginning gets the same views as storage, and the same
//! as those who lived through it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::Row as _;

use crate::database::Work;
use crate::error::StorageError;
use crate::events::Event;
use crate::kind;

/// The name in `meta` of what removed events have led to.
const BASE: &str = "views";

/// The rooms and channels of a moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Views {
    /// Rooms by their ids.
    pub rooms: BTreeMap<String, RoomView>,
    /// Channels by their names.
    pub channels: BTreeMap<String, ChannelView>,
}

/// A room.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoomView {
    /// When it came to be, in milliseconds since 1970.
    pub created: i64,
    /// What is told of it: the data of its creation with all changes.
    pub data: Map<String, Value>,
    /// Who is in it, by participant id.
    pub participants: BTreeMap<String, ParticipantView>,
    /// Recordings that run, by their ids.
    pub recordings: BTreeSet<String>,
}

/// Somebody in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParticipantView {
    /// Their name.
    pub name: String,
    /// Which user they are.
    pub user_id: Option<String>,
    /// When they joined, in milliseconds since 1970.
    pub joined: i64,
    /// What they publish, by track id.
    pub tracks: BTreeMap<String, TrackView>,
}

/// Something that is published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackView {
    /// `audio` or `video`.
    pub kind: String,
    /// What it shows: camera, screen, …
    pub source: String,
    /// Since when, in milliseconds since 1970.
    pub published: i64,
    /// Whether it is muted.
    #[serde(default)]
    pub muted: bool,
}

/// A channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelView {
    /// When it came to be, in milliseconds since 1970.
    pub created: i64,
    /// How many messages were kept since then.
    pub kept: u64,
    /// The highest offset of those.
    pub kept_offset: u64,
    /// Files that were uploaded since then and are not deleted, by id, with their sizes in bytes.
    pub files: BTreeMap<String, u64>,
}

/// The views that these events lead to, from nothing.
pub fn rebuild<'a>(events: impl IntoIterator<Item = &'a Event>) -> Views {
    let mut views = Views::default();
    for event in events {
        views.apply(event);
    }
    views
}

impl Views {
    /// What is different after an event. Events that make no sense here (somebody leaves who never came) change nothing.
    pub fn apply(&mut self, event: &Event) {
        match event.kind.as_str() {
            kind::SERVER_STARTED => *self = Self::default(),
            kind::ROOM_CREATED | kind::ROOM_UPDATED | kind::ROOM_DELETED => self.apply_to_rooms(event),
            kind::PARTICIPANT_JOINED
            | kind::PARTICIPANT_UPDATED
            | kind::PARTICIPANT_LEFT
            | kind::TRACK_PUBLISHED
            | kind::TRACK_UPDATED
            | kind::TRACK_UNPUBLISHED
            | kind::RECORDING_STARTED
            | kind::RECORDING_STOPPED => {
                if let Some(room) = event.room.as_ref().and_then(|id| self.rooms.get_mut(id)) {
                    room.apply(event);
                }
            }
            kind::CHANNEL_CREATED | kind::CHANNEL_DELETED => self.apply_to_channels(event),
            kind::MESSAGE_KEPT | kind::FILE_UPLOADED | kind::FILE_DELETED => self.apply_to_a_channel(event),
            _ => {}
        }
    }

    fn apply_to_rooms(&mut self, event: &Event) {
        let Some(id) = &event.room else { return };
        match event.kind.as_str() {
            kind::ROOM_CREATED => {
                let data = event.data.as_object().cloned().unwrap_or_default();
                self.rooms.insert(id.clone(), RoomView { created: event.time, data, ..RoomView::default() });
            }
            kind::ROOM_DELETED => {
                self.rooms.remove(id);
            }
            _ => {
                let (Some(room), Some(changes)) = (self.rooms.get_mut(id), event.data.as_object()) else {
                    return;
                };
                for (field, value) in changes {
                    if value.is_null() {
                        room.data.remove(field);
                    } else {
                        room.data.insert(field.clone(), value.clone());
                    }
                }
            }
        }
    }

    fn apply_to_channels(&mut self, event: &Event) {
        let Some(name) = &event.channel else { return };
        if event.kind == kind::CHANNEL_CREATED {
            // Files may have come before anybody used the channel.
            self.channels.entry(name.clone()).or_default().created = event.time;
        } else {
            self.channels.remove(name);
        }
    }

    /// What comes to a channel makes it, where it is not there.
    fn apply_to_a_channel(&mut self, event: &Event) {
        let Some(name) = &event.channel else { return };
        if event.kind == kind::FILE_DELETED {
            if let Some(channel) = self.channels.get_mut(name) {
                channel.files.remove(&text(event, "file_id"));
            }
            return;
        }
        let created = event.time;
        let made = || ChannelView { created, ..ChannelView::default() };
        let channel = self.channels.entry(name.clone()).or_insert_with(made);
        if event.kind == kind::FILE_UPLOADED {
            channel.files.insert(text(event, "file_id"), number(event, "size"));
        } else {
            channel.kept += 1;
            channel.kept_offset = channel.kept_offset.max(number(event, "offset"));
        }
    }
}

impl RoomView {
    fn apply(&mut self, event: &Event) {
        let participant_id = text(event, "participant_id");
        match event.kind.as_str() {
            kind::RECORDING_STARTED => {
                self.recordings.insert(text(event, "recording_id"));
            }
            kind::RECORDING_STOPPED => {
                self.recordings.remove(&text(event, "recording_id"));
            }
            kind::PARTICIPANT_JOINED => {
                let participant = ParticipantView {
                    name: text(event, "name"),
                    user_id: event.user_id.clone(),
                    joined: event.time,
                    tracks: BTreeMap::new(),
                };
                self.participants.insert(participant_id, participant);
            }
            kind::PARTICIPANT_LEFT => {
                self.participants.remove(&participant_id);
            }
            _ => {
                if let Some(participant) = self.participants.get_mut(&participant_id) {
                    participant.apply(event);
                }
            }
        }
    }
}

impl ParticipantView {
    fn apply(&mut self, event: &Event) {
        let track_id = text(event, "track_id");
        let (kind, source) = (text(event, "kind"), text(event, "source"));
        let muted = event.data.get("muted").and_then(Value::as_bool).unwrap_or_default();
        match event.kind.as_str() {
            kind::PARTICIPANT_UPDATED => self.name = text(event, "name"),
            kind::TRACK_PUBLISHED => {
                self.tracks.insert(track_id, TrackView { kind, source, published: event.time, muted });
            }
            kind::TRACK_UPDATED => {
                if let Some(track) = self.tracks.get_mut(&track_id) {
                    *track = TrackView { kind, source, published: track.published, muted };
                }
            }
            _ => drop(self.tracks.remove(&track_id)),
        }
    }
}

/// The views that removed events have led to.
pub(crate) async fn read_base(work: &mut Work) -> Result<Views, StorageError> {
    let base = sqlx::query("SELECT value FROM meta WHERE name = $1").bind(BASE);
    let Some(row) = base.fetch_optional(&mut **work).await? else { return Ok(Views::default()) };
    serde_json::from_str(&row.try_get::<String, _>(0)?)
        .map_err(|error| StorageError::Failed(format!("the base of the views cannot be read: {error}")))
}

/// Puts the views that removed events have led to in place of those before.
pub(crate) async fn write_base(work: &mut Work, base: &Views) -> Result<(), StorageError> {
    let text = serde_json::to_string(base).expect("views are maps with text as keys");
    let put = sqlx::query(
        "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    );
    put.bind(BASE).bind(text).execute(&mut **work).await?;
    Ok(())
}

fn text(event: &Event, field: &str) -> String {
    event.data.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn number(event: &Event, field: &str) -> u64 {
    event.data.get(field).and_then(Value::as_u64).unwrap_or_default()
}
