//! The kinds of events that are known here. The log takes any others as well.

/// The server began: rooms and channels of before are gone. Channels are created again when they are used again.
pub const SERVER_STARTED: &str = "server.started";
/// Events were lost, as many as `data.lost` says: too many waited, or the database failed.
pub const LOG_GAP: &str = "log.gap";
/// A room came to be; `data` is all that is told of it.
pub const ROOM_CREATED: &str = "room.created";
/// What is told of a room has changed: `data` has the fields that did, null for those that are gone.
pub const ROOM_UPDATED: &str = "room.updated";
/// A room is gone, with everybody in it.
pub const ROOM_DELETED: &str = "room.deleted";
/// Somebody joined: `participant_id`, `name`.
pub const PARTICIPANT_JOINED: &str = "participant.joined";
/// Somebody left: `participant_id`.
pub const PARTICIPANT_LEFT: &str = "participant.left";
/// Somebody has another name: `participant_id`, `name`.
pub const PARTICIPANT_UPDATED: &str = "participant.updated";
/// A moderator sent somebody out, which `participant.left` follows: `participant_id`, `by`.
pub const PARTICIPANT_REMOVED: &str = "participant.removed";
/// A moderator keeps somebody out: `who` (a `user_id` or `peer_id`), `by`.
pub const PARTICIPANT_BANNED: &str = "participant.banned";
/// A moderator lets somebody come again: `who`, `by`.
pub const PARTICIPANT_UNBANNED: &str = "participant.unbanned";
/// A moderator said what somebody may do: `participant_id`, `grants`, `by`.
pub const PARTICIPANT_GRANTED: &str = "participant.granted";
/// Somebody published: `participant_id`, `track_id`, `kind`, `source`, `muted`.
pub const TRACK_PUBLISHED: &str = "track.published";
/// A track has changed: `participant_id`, `track_id`, `kind`, `source`, `muted`.
pub const TRACK_UPDATED: &str = "track.updated";
/// A track ended: `participant_id`, `track_id`.
pub const TRACK_UNPUBLISHED: &str = "track.unpublished";
/// A channel came to be, or is used again after it was gone from memory.
pub const CHANNEL_CREATED: &str = "channel.created";
/// A channel is gone, because nobody used it.
pub const CHANNEL_DELETED: &str = "channel.deleted";
/// A message was kept: `message_id`, `offset`, `bytes`. Storage itself records it, together with the message.
pub const MESSAGE_KEPT: &str = "message.kept";
/// A file was uploaded: `file_id`, `name`, `size`, `content_type`.
pub const FILE_UPLOADED: &str = "file.uploaded";
/// A file is gone: `file_id`, `size`.
pub const FILE_DELETED: &str = "file.deleted";
/// A recording began: `recording_id`.
pub const RECORDING_STARTED: &str = "recording.started";
/// A recording ended: `recording_id`.
pub const RECORDING_STOPPED: &str = "recording.stopped";
