//! Messages about who may do what in a room.

use serde::{Deserialize, Serialize};
use ts_rs::TS;
use utoipa::ToSchema;
use veche_access::Actions;

use super::TrackSource;

/// What a moderator asks for.
#[derive(Clone, Debug, PartialEq, Deserialize, TS)]
pub struct Moderate {
    /// Returned in the `done`.
    #[serde(default)]
    #[ts(type = "number", optional)]
    pub id: Option<u64>,
    /// What shall happen.
    #[serde(flatten)]
    #[ts(flatten)]
    pub what: Moderation,
}

/// What shall happen to somebody, or to the room.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, TS)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Moderation {
    /// Mutes tracks of somebody. They may unmute them; take their grants to prevent that.
    Mute {
        /// Who.
        peer_id: String,
        /// Which of their tracks: those of this source; absent: all.
        #[serde(default)]
        #[ts(optional)]
        source: Option<TrackSource>,
        /// Which single track.
        #[serde(default)]
        #[ts(optional)]
        track_id: Option<String>,
    },
    /// Sends somebody out. They may come back.
    Remove {
        /// Who.
        peer_id: String,
        /// What they are told.
        #[serde(default)]
        #[ts(optional)]
        reason: Option<String>,
    },
    /// Keeps somebody out: a user by their id, somebody anonymous by their peer id.
    Ban {
        /// Who, of those who are there.
        #[serde(default)]
        #[ts(optional)]
        peer_id: Option<String>,
        /// Which user, there or not.
        #[serde(default)]
        #[ts(optional)]
        user_id: Option<String>,
        /// What they are told.
        #[serde(default)]
        #[ts(optional)]
        reason: Option<String>,
    },
    /// Lets somebody come again.
    Unban {
        /// The peer id that was banned.
        #[serde(default)]
        #[ts(optional)]
        peer_id: Option<String>,
        /// The user that was banned.
        #[serde(default)]
        #[ts(optional)]
        user_id: Option<String>,
    },
    /// Says what somebody may do from now on; replaces what they could before. Nobody can grant what they may not do.
    Grant {
        /// Who.
        peer_id: String,
        /// What.
        #[ts(type = "Action[]")]
        grants: Actions,
    },
    /// Closes the room for who is not in it, or opens it.
    Lock {
        /// Closed?
        locked: bool,
    },
    /// Has people wait until a moderator admits them. Switched off, it lets in who waits.
    WaitingRoom {
        /// Wait?
        enabled: bool,
    },
    /// Lets in somebody who waits.
    Admit {
        /// Who.
        peer_id: String,
    },
    /// Sends away somebody who waits.
    Deny {
        /// Who.
        peer_id: String,
    },
}

/// What a moderator did to the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, TS)]
pub struct Moderated {
    /// `mute`.
    pub action: String,
    /// The moderator; absent: over HTTP, from nobody in the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub by: Option<String>,
    /// The client's own tracks that it is about.
    pub track_ids: Vec<String>,
}

/// Somebody who waits to be admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, TS, ToSchema)]
pub struct Waiting {
    /// Their name in messages, which they keep.
    pub peer_id: String,
    /// Their name for people.
    pub name: String,
    /// Which user they are, as their token says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    #[schema(nullable = false)]
    pub user_id: Option<String>,
}

/// Somebody who may not come in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, TS, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ban {
    /// A user, as tokens say.
    UserId(String),
    /// Somebody anonymous, by the name in messages. They may choose another.
    PeerId(String),
}
