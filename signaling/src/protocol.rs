//! The JSON messages of `WS /realtime/webrtc/signaling`: typed here once, exported to TypeScript from here (to
//! `web/sdk/src/protocol.ts`, by `cargo test -p veche-signaling export -- --ignored`), and described in PROTOCOL.md.
//!
//! Every message is an object with a `signal_type`. A message with a `target_peer_id` is for that peer and is relayed
//! with a `from_peer_id`; one without is for, or from, the server.

mod moderation;

use serde::{Deserialize, Serialize};
use ts_rs::TS;
use utoipa::ToSchema;
use veche_access::Action;
use veche_doors::Error;
pub use veche_doors::ErrorBody;

pub use moderation::{Ban, Moderate, Moderated, Moderation, Waiting};

/// What a client sends to the server.
#[derive(Clone, Debug, PartialEq, Deserialize, TS)]
#[serde(tag = "signal_type", rename_all = "kebab-case")]
pub enum ClientMessage {
    /// An SDP offer. Answered with `answer` or `error`, both with the same `id`.
    Offer(ClientOffer),
    /// A client candidate. Accepted and not needed: the server learns a client's addresses from its checks.
    IceCandidate {
        /// `RTCIceCandidateInit`; `null` at the end.
        #[serde(default)]
        #[ts(type = "RTCIceCandidateInit | null", optional)]
        ice_candidate: Option<serde_json::Value>,
    },
    /// Mutes or unmutes one of the client's own tracks.
    Mute {
        /// Which.
        track_id: String,
        /// Muted from now on?
        muted: bool,
    },
    /// Says what the client wants to see; replaces what it said before.
    Subscribe(Subscribe),
    /// Changes the client's own name or data.
    Update {
        /// The new name; absent: unchanged.
        #[serde(default)]
        #[ts(optional)]
        name: Option<String>,
        /// The new data; absent: unchanged.
        #[serde(default)]
        #[ts(type = "unknown", optional)]
        metadata: Option<serde_json::Value>,
    },
    /// Moderates the room; needs the grant `moderate`. Answered with `done` or `error`, both with the same `id`.
    Moderate(Moderate),
    /// Begins to record the room, or ends it; needs the grant `record`. Answered with `done` or `error`, both with the same `id`.
    Record {
        /// Recorded from now on?
        on: bool,
        /// Returned in the answer.
        #[serde(default)]
        #[ts(type = "number", optional)]
        id: Option<u64>,
    },
    /// Leaves for good: the resume token dies.
    Leave,
    /// Answered with `pong`.
    Ping {
        /// Returned in the pong.
        #[serde(default)]
        #[ts(type = "number", optional)]
        id: Option<u64>,
    },
}

/// An SDP offer to the server.
#[derive(Clone, Debug, PartialEq, Deserialize, TS)]
pub struct ClientOffer {
    /// The offer.
    pub sdp: String,
    /// Returned in the answer.
    #[serde(default)]
    #[ts(type = "number", optional)]
    pub id: Option<u64>,
    /// What the published sections are. One that is not named is a microphone or a camera.
    #[serde(default)]
    #[ts(optional, as = "Option<Vec<OfferedTrack>>")]
    pub tracks: Vec<OfferedTrack>,
    /// Pairs of an audio and a video slot that shall carry the same person in lip sync.
    #[serde(default)]
    #[ts(optional, as = "Option<Vec<SlotPair>>")]
    pub pairs: Vec<SlotPair>,
}

/// What one published section is.
#[derive(Clone, Debug, PartialEq, Deserialize, TS)]
pub struct OfferedTrack {
    /// The section.
    pub mid: String,
    /// What it shows.
    pub source: TrackSource,
    /// Muted from the start?
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub muted: bool,
}

/// An audio and a video slot that shall carry the same person.
#[derive(Clone, Debug, PartialEq, Deserialize, TS)]
pub struct SlotPair {
    /// The audio slot's mid.
    pub audio: String,
    /// The video slot's mid.
    pub video: String,
}

/// What a client wants to see.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, TS)]
pub struct Subscribe {
    /// Who fills the video slots that `slots` does not give a track: `auto`, the server; `manual`, nobody.
    #[serde(default)]
    pub mode: SubscribeMode,
    /// Participants to show first, the most wanted first.
    #[serde(default)]
    #[ts(optional, as = "Option<Vec<String>>")]
    pub pinned: Vec<String>,
    /// What single slots shall show, and how large.
    #[serde(default)]
    #[ts(optional, as = "Option<Vec<WantedSlot>>")]
    pub slots: Vec<WantedSlot>,
}

/// Who fills the slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, TS)]
#[serde(rename_all = "kebab-case")]
pub enum SubscribeMode {
    /// The server: pinned, then speaking, then recent.
    #[default]
    Auto,
    /// The client, track by track.
    Manual,
}

/// What one slot shall show.
#[derive(Clone, Debug, PartialEq, Deserialize, TS)]
pub struct WantedSlot {
    /// Which slot.
    pub mid: String,
    /// The track; absent: what the mode says; empty: nothing.
    #[serde(default)]
    #[ts(optional)]
    pub track_id: Option<String>,
    /// The width that it is shown at, in device pixels; 0: as large as there is.
    #[serde(default)]
    #[ts(optional, as = "Option<u16>")]
    pub width: u16,
    /// The height.
    #[serde(default)]
    #[ts(optional, as = "Option<u16>")]
    pub height: u16,
}

/// What the server sends to a client.
#[derive(Clone, Debug, PartialEq, Serialize, TS)]
#[serde(tag = "signal_type", rename_all = "kebab-case")]
pub enum ServerMessage {
    /// The first message: the client is in the room.
    Joined(Joined),
    /// The first message where a moderator must admit the client: `joined` follows, or an error.
    Waiting {
        /// The client's own name in messages.
        peer_id: String,
        /// The room.
        room: Room,
    },
    /// To moderators: who waits to be admitted, those who have waited longest first. Sent when it changes.
    WaitingList {
        /// Everybody who waits.
        waiting: Vec<Waiting>,
    },
    /// What the client may do in the room from now on.
    Grants {
        /// All of it.
        grants: Vec<Action>,
    },
    /// A moderator did something to the client.
    Moderated(Moderated),
    /// What was asked for is done.
    Done {
        /// The `id` of the message that asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[ts(type = "number", optional)]
        id: Option<u64>,
    },
    /// The answer to an offer.
    Answer {
        /// The answer.
        sdp: String,
        /// The `id` of the offer.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[ts(type = "number", optional)]
        id: Option<u64>,
    },
    /// Somebody came.
    ParticipantJoined {
        /// Who.
        participant: Participant,
    },
    /// Somebody's name, data or connection changed.
    ParticipantUpdated {
        /// Who, as they are now.
        participant: Participant,
    },
    /// Somebody is gone for good.
    ParticipantLeft {
        /// Who.
        peer_id: String,
        /// Why.
        reason: LeaveReason,
    },
    /// Somebody published a track, or its source or state of mute changed. Also sent for the client's own tracks: that is
    /// how it learns their `track_id`.
    Track {
        /// Whose.
        peer_id: String,
        /// The track as it is now.
        track: Track,
    },
    /// A track is gone.
    TrackGone {
        /// Whose it was.
        peer_id: String,
        /// Which it was.
        track_id: String,
    },
    /// Slots of the client show something else from now on.
    Slots {
        /// The slots that changed.
        slots: Vec<Slot>,
    },
    /// Which layers of the client's own video are worth sending: somebody looks at them, or would if they were sent.
    Layers(TrackLayers),
    /// The list of those who speak changed.
    Speakers {
        /// The loudest first.
        speakers: Vec<ActiveSpeaker>,
    },
    /// The quality of connections changed.
    Quality {
        /// Of whom.
        participants: Vec<PeerQuality>,
    },
    /// The client's own media connection.
    Connection {
        /// How it is now.
        state: MediaState,
    },
    /// A data channel of the client was closed by the server.
    DataChannelClosed {
        /// Its label.
        label: String,
        /// `receiver-slow` or `limit`.
        reason: String,
    },
    /// The room's name or limits changed.
    RoomUpdated {
        /// The room as it is now.
        room: Room,
    },
    /// The room is being recorded from now on, or no longer: everybody has to see that.
    Recording {
        /// What runs; absent: nothing any more.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        recording: Option<RoomRecording>,
    },
    /// The answer to `ping`.
    Pong {
        /// The `id` of the ping.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[ts(type = "number", optional)]
        id: Option<u64>,
    },
    /// Something the client sent cannot be done. The connection goes on unless a close follows.
    Error {
        /// What is wrong and what to change.
        error: ErrorBody,
        /// The `id` of the message that it is about.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[ts(type = "number", optional)]
        id: Option<u64>,
    },
}

/// The client's place in a room.
#[derive(Clone, Debug, PartialEq, Serialize, TS)]
pub struct Joined {
    /// The client's own name in messages.
    pub peer_id: String,
    /// The room.
    pub room: Room,
    /// Shown again as `resume_token` in the address within `resume_seconds`, it gives back identity, tracks and place.
    pub resume_token: String,
    /// How long a resume token lives after the connection is lost.
    pub resume_seconds: u32,
    /// Whether this is a resumption: the media connection of before still stands.
    pub resumed: bool,
    /// For `RTCPeerConnection`.
    pub ice_servers: Vec<IceServer>,
    /// Everybody else.
    pub participants: Vec<Participant>,
    /// The client's own tracks, where it resumed.
    pub tracks: Vec<Track>,
    /// What the client's slots show, where it resumed.
    pub slots: Vec<Slot>,
    /// Limits that clients should know.
    pub limits: Limits,
    /// What the client may do in the room.
    pub grants: Vec<Action>,
    /// The recording that runs; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub recording: Option<RoomRecording>,
}

/// A recording of the room that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, TS)]
pub struct RoomRecording {
    /// Its name.
    pub recording_id: String,
    /// When it began, in RFC 3339.
    pub started_at: String,
}

/// Limits that clients should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, TS)]
pub struct Limits {
    /// The largest signaling message, in bytes.
    pub max_signal_bytes: u32,
    /// The largest data channel message with its header (up to 66 bytes); larger ones go in fragments.
    pub max_data_message_bytes: u32,
    /// The largest message that may be sent in fragments, in bytes.
    pub max_fragmented_bytes: u32,
}

/// A STUN or TURN server, as `RTCIceServer` wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, TS)]
pub struct IceServer {
    /// Its addresses.
    pub urls: Vec<String>,
    /// For TURN.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub username: Option<String>,
    /// For TURN.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub credential: Option<String>,
}

/// A room.
#[derive(Clone, Debug, PartialEq, Serialize, TS)]
pub struct Room {
    /// Its name in addresses.
    pub room_id: String,
    /// Its name for people.
    pub name: String,
    /// How many may be in it.
    pub max_participants: u32,
    /// Closed for who is not in it?
    pub locked: bool,
    /// Must moderators admit who comes?
    pub waiting_room: bool,
}

/// Somebody in a room.
#[derive(Clone, Debug, PartialEq, Serialize, TS, ToSchema)]
pub struct Participant {
    /// Their name in messages.
    pub peer_id: String,
    /// Their name for people.
    pub name: String,
    /// Their own data.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(type = "unknown", optional)]
    #[schema(value_type = Object, nullable = false)]
    pub metadata: Option<serde_json::Value>,
    /// Which user they are, as their token says; absent for who is anonymous.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    #[schema(nullable = false)]
    pub user_id: Option<String>,
    /// What their token says about them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(type = "Record<string, unknown>", optional)]
    #[schema(value_type = Object, nullable = false)]
    pub attributes: Option<serde_json::Value>,
    /// `false` while their signaling connection is lost and may be resumed.
    pub connected: bool,
    /// How good their connection is.
    pub quality: ConnectionQuality,
    /// Their tracks.
    pub tracks: Vec<Track>,
}

/// A published track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, TS, ToSchema)]
pub struct Track {
    /// Its name in messages.
    pub track_id: String,
    /// The section of the publisher's offer.
    pub mid: String,
    /// `audio` or `video`.
    pub kind: TrackKind,
    /// What it shows.
    pub source: TrackSource,
    /// Muted by its publisher?
    pub muted: bool,
}

/// Audio or video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, TS, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TrackKind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

/// What a track shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TrackSource {
    /// A person's voice.
    Microphone,
    /// A person's picture.
    Camera,
    /// A shared screen or window.
    Screen,
    /// The sound of a shared screen or window.
    ScreenAudio,
}

/// What one slot shows from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, TS)]
pub struct Slot {
    /// Which slot.
    pub mid: String,
    /// Whose track; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub peer_id: Option<String>,
    /// Which track.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub track_id: Option<String>,
    /// The RTP timestamp of the first packet that shows it: `requestVideoFrameCallback` reports the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub rtp_timestamp: Option<u32>,
    /// Why it shows nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub reason: Option<SlotReason>,
}

/// Why a slot shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, TS)]
#[serde(rename_all = "kebab-case")]
pub enum SlotReason {
    /// Receiver and publisher have no codec in common.
    NoCommonCodec,
    /// Muted by its publisher.
    Muted,
    /// The track, or its publisher, is gone.
    Gone,
    /// Somebody else took the slot.
    Displaced,
    /// The client's network does not carry the picture now; `track_id` says what it would show. It comes back by itself.
    Bandwidth,
}

/// The layers of a published video track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, TS)]
pub struct TrackLayers {
    /// The section of the client's offer that sends it.
    pub mid: String,
    /// All its layers, from the smallest to the largest.
    pub layers: Vec<Layer>,
}

/// A layer of a published video track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, TS)]
pub struct Layer {
    /// Its rid; absent without simulcast.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub rid: Option<String>,
    /// `false`: nobody wants it, so it need not be sent (`encodings[].active`).
    pub active: bool,
}

/// Somebody who speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, TS)]
pub struct ActiveSpeaker {
    /// Who.
    pub peer_id: String,
    /// How loud, 0 to 127.
    pub level: u8,
}

/// How good a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, TS, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionQuality {
    /// Nothing arrives.
    Lost,
    /// Picture and sound suffer.
    Poor,
    /// Losses or delays that one may notice.
    Good,
    /// As good as it gets; also what is assumed before media flows.
    Excellent,
}

/// Somebody's quality.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, TS)]
pub struct PeerQuality {
    /// Whose.
    pub peer_id: String,
    /// How good.
    pub quality: ConnectionQuality,
}

/// The client's media connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, TS, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MediaState {
    /// Media flows.
    Connected,
    /// Nothing has come from the client for some seconds.
    Interrupted,
    /// Nothing has come for so long that the server stopped sending: restart ICE.
    Expired,
    /// Failed: start a new `RTCPeerConnection`.
    Failed,
}

/// Why somebody left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, TS)]
#[serde(rename_all = "kebab-case")]
pub enum LeaveReason {
    /// They said so.
    Left,
    /// They were lost and did not come back in time.
    TimedOut,
    /// A moderator sent them out.
    Removed,
    /// The room was deleted.
    RoomDeleted,
    /// The server stops.
    ServerStopping,
}

/// A message between two peers, relayed unchanged but for `from_peer_id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct PeerMessage {
    /// Usually `offer`, `answer` or `ice-candidate`.
    pub signal_type: String,
    /// For whom.
    pub target_peer_id: String,
    /// From whom. The server sets it in every message that it relays; empty: over HTTP, from nobody in the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub from_peer_id: Option<String>,
    /// Everything else, as it was sent: `room_id`, `sdp`, `ice_candidate`, …
    #[serde(flatten)]
    #[ts(skip)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

impl ServerMessage {
    /// An error for a client; `id` is that of the message it is about.
    pub fn error(error: Error, id: Option<u64>) -> Self {
        Self::Error { error: error.into_body(), id }
    }
}

impl ClientMessage {
    /// The values of `signal_type` that the server knows.
    pub const SIGNAL_TYPES: [&str; 9] =
        ["offer", "ice-candidate", "mute", "subscribe", "update", "moderate", "record", "leave", "ping"];
}

#[cfg(test)]
mod tests;
