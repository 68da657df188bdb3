//! What outlives the process: kept messages, snapshots of channels, the log of events, API keys, the catalogue of files;
//! and webhooks, which carry the log to others.
//!
//! [`Database`] is the door to all of it. Messages and events are queued and committed in groups; a message is acknowledged
//! when it is on the disk, so that neither a crash nor a power cut takes it back. Everything that grows is bounded by
//! [`StorageSettings`].

mod counters;
mod database;
mod error;
mod events;
mod files;
mod kept;
mod keys;
pub mod kind;
mod lock;
mod rows;
mod schema;
mod settings;
mod snapshots;
mod timestamp;
mod views;
mod webhooks;
mod writer;

pub use counters::Counters;
pub use database::Database;
pub use error::StorageError;
pub use events::{Event, EventQuery, NewEvent};
pub use files::{FileQuery, FileQuotas, FileRow, FileScope, FileUsage, QuotaKind};
pub use kept::{KeptMessage, StoredChannel};
pub use keys::ApiKey;
pub use settings::StorageSettings;
pub use snapshots::ChannelSnapshot;
pub use timestamp::rfc3339;
pub use views::{ChannelView, ParticipantView, RoomView, TrackView, Views, rebuild};
pub use webhooks::{WebhookCounters, WebhookSettings, Webhooks};
pub use writer::Receipt;
