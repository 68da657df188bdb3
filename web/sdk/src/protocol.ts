// Written by `cargo test -p veche-signaling export -- --ignored` from signaling/src/protocol.rs.

/**
 * What a client sends to the server.
 */
export type ClientMessage = { "signal_type": "offer" } & ClientOffer | { "signal_type": "ice-candidate", 
/**
 * `RTCIceCandidateInit`; `null` at the end.
 */
ice_candidate?: RTCIceCandidateInit | null, } | { "signal_type": "mute", 
/**
 * Which.
 */
track_id: string, 
/**
 * Muted from now on?
 */
muted: boolean, } | { "signal_type": "subscribe" } & Subscribe | { "signal_type": "update", 
/**
 * The new name; absent: unchanged.
 */
name?: string, 
/**
 * The new data; absent: unchanged.
 */
metadata?: unknown, } | { "signal_type": "moderate" } & Moderate | { "signal_type": "record", 
/**
 * Recorded from now on?
 */
on: boolean, 
/**
 * Returned in the answer.
 */
id?: number, } | { "signal_type": "leave" } | { "signal_type": "ping", 
/**
 * Returned in the pong.
 */
id?: number, };

/**
 * An SDP offer to the server.
 */
export type ClientOffer = { 
/**
 * The offer.
 */
sdp: string, 
/**
 * Returned in the answer.
 */
id?: number, 
/**
 * What the published sections are. One that is not named is a microphone or a camera.
 */
tracks?: Array<OfferedTrack>, 
/**
 * Pairs of an audio and a video slot that shall carry the same person in lip sync.
 */
pairs?: Array<SlotPair>, };

/**
 * What one published section is.
 */
export type OfferedTrack = { 
/**
 * The section.
 */
mid: string, 
/**
 * What it shows.
 */
source: TrackSource, 
/**
 * Muted from the start?
 */
muted?: boolean, };

/**
 * An audio and a video slot that shall carry the same person.
 */
export type SlotPair = { 
/**
 * The audio slot's mid.
 */
audio: string, 
/**
 * The video slot's mid.
 */
video: string, };

/**
 * What a client wants to see.
 */
export type Subscribe = { 
/**
 * Who fills the video slots that `slots` does not give a track: `auto`, the server; `manual`, nobody.
 */
mode: SubscribeMode, 
/**
 * Participants to show first, the most wanted first.
 */
pinned?: Array<string>, 
/**
 * What single slots shall show, and how large.
 */
slots?: Array<WantedSlot>, };

/**
 * Who fills the slots.
 */
export type SubscribeMode = "auto" | "manual";

/**
 * What one slot shall show.
 */
export type WantedSlot = { 
/**
 * Which slot.
 */
mid: string, 
/**
 * The track; absent: what the mode says; empty: nothing.
 */
track_id?: string, 
/**
 * The width that it is shown at, in device pixels; 0: as large as there is.
 */
width?: number, 
/**
 * The height.
 */
height?: number, };

/**
 * What the server sends to a client.
 */
export type ServerMessage = { "signal_type": "joined" } & Joined | { "signal_type": "waiting", 
/**
 * The client's own name in messages.
 */
peer_id: string, 
/**
 * The room.
 */
room: Room, } | { "signal_type": "waiting-list", 
/**
 * Everybody who waits.
 */
waiting: Array<Waiting>, } | { "signal_type": "grants", 
/**
 * All of it.
 */
grants: Array<Action>, } | { "signal_type": "moderated" } & Moderated | { "signal_type": "done", 
/**
 * The `id` of the message that asked.
 */
id?: number, } | { "signal_type": "answer", 
/**
 * The answer.
 */
sdp: string, 
/**
 * The `id` of the offer.
 */
id?: number, } | { "signal_type": "participant-joined", 
/**
 * Who.
 */
participant: Participant, } | { "signal_type": "participant-updated", 
/**
 * Who, as they are now.
 */
participant: Participant, } | { "signal_type": "participant-left", 
/**
 * Who.
 */
peer_id: string, 
/**
 * Why.
 */
reason: LeaveReason, } | { "signal_type": "track", 
/**
 * Whose.
 */
peer_id: string, 
/**
 * The track as it is now.
 */
track: Track, } | { "signal_type": "track-gone", 
/**
 * Whose it was.
 */
peer_id: string, 
/**
 * Which it was.
 */
track_id: string, } | { "signal_type": "slots", 
/**
 * The slots that changed.
 */
slots: Array<Slot>, } | { "signal_type": "layers" } & TrackLayers | { "signal_type": "speakers", 
/**
 * The loudest first.
 */
speakers: Array<ActiveSpeaker>, } | { "signal_type": "quality", 
/**
 * Of whom.
 */
participants: Array<PeerQuality>, } | { "signal_type": "connection", 
/**
 * How it is now.
 */
state: MediaState, } | { "signal_type": "data-channel-closed", 
/**
 * Its label.
 */
label: string, 
/**
 * `receiver-slow` or `limit`.
 */
reason: string, } | { "signal_type": "room-updated", 
/**
 * The room as it is now.
 */
room: Room, } | { "signal_type": "recording", 
/**
 * What runs; absent: nothing any more.
 */
recording?: RoomRecording, } | { "signal_type": "pong", 
/**
 * The `id` of the ping.
 */
id?: number, } | { "signal_type": "error", 
/**
 * What is wrong and what to change.
 */
error: ErrorBody, 
/**
 * The `id` of the message that it is about.
 */
id?: number, };

/**
 * The client's place in a room.
 */
export type Joined = { 
/**
 * The client's own name in messages.
 */
peer_id: string, 
/**
 * The room.
 */
room: Room, 
/**
 * Shown again as `resume_token` in the address within `resume_seconds`, it gives back identity, tracks and place.
 */
resume_token: string, 
/**
 * How long a resume token lives after the connection is lost.
 */
resume_seconds: number, 
/**
 * Whether this is a resumption: the media connection of before still stands.
 */
resumed: boolean, 
/**
 * For `RTCPeerConnection`.
 */
ice_servers: Array<IceServer>, 
/**
 * Everybody else.
 */
participants: Array<Participant>, 
/**
 * The client's own tracks, where it resumed.
 */
tracks: Array<Track>, 
/**
 * What the client's slots show, where it resumed.
 */
slots: Array<Slot>, 
/**
 * Limits that clients should know.
 */
limits: Limits, 
/**
 * What the client may do in the room.
 */
grants: Array<Action>, 
/**
 * The recording that runs; absent: none.
 */
recording?: RoomRecording, };

/**
 * Limits that clients should know.
 */
export type Limits = { 
/**
 * The largest signaling message, in bytes.
 */
max_signal_bytes: number, 
/**
 * The largest data channel message with its header (up to 66 bytes); larger ones go in fragments.
 */
max_data_message_bytes: number, 
/**
 * The largest message that may be sent in fragments, in bytes.
 */
max_fragmented_bytes: number, };

/**
 * A STUN or TURN server, as `RTCIceServer` wants it.
 */
export type IceServer = { 
/**
 * Its addresses.
 */
urls: Array<string>, 
/**
 * For TURN.
 */
username?: string, 
/**
 * For TURN.
 */
credential?: string, };

/**
 * A room.
 */
export type Room = { 
/**
 * Its name in addresses.
 */
room_id: string, 
/**
 * Its name for people.
 */
name: string, 
/**
 * How many may be in it.
 */
max_participants: number, 
/**
 * Closed for who is not in it?
 */
locked: boolean, 
/**
 * Must moderators admit who comes?
 */
waiting_room: boolean, };

/**
 * Somebody in a room.
 */
export type Participant = { 
/**
 * Their name in messages.
 */
peer_id: string, 
/**
 * Their name for people.
 */
name: string, 
/**
 * Their own data.
 */
metadata?: unknown, 
/**
 * Which user they are, as their token says; absent for who is anonymous.
 */
user_id?: string, 
/**
 * What their token says about them.
 */
attributes?: Record<string, unknown>, 
/**
 * `false` while their signaling connection is lost and may be resumed.
 */
connected: boolean, 
/**
 * How good their connection is.
 */
quality: ConnectionQuality, 
/**
 * Their tracks.
 */
tracks: Array<Track>, };

/**
 * A published track.
 */
export type Track = { 
/**
 * Its name in messages.
 */
track_id: string, 
/**
 * The section of the publisher's offer.
 */
mid: string, 
/**
 * `audio` or `video`.
 */
kind: TrackKind, 
/**
 * What it shows.
 */
source: TrackSource, 
/**
 * Muted by its publisher?
 */
muted: boolean, };

/**
 * Audio or video.
 */
export type TrackKind = "audio" | "video";

/**
 * What a track shows.
 */
export type TrackSource = "microphone" | "camera" | "screen" | "screen-audio";

/**
 * What one slot shows from now on.
 */
export type Slot = { 
/**
 * Which slot.
 */
mid: string, 
/**
 * Whose track; absent: nothing.
 */
peer_id?: string, 
/**
 * Which track.
 */
track_id?: string, 
/**
 * The RTP timestamp of the first packet that shows it: `requestVideoFrameCallback` reports the same.
 */
rtp_timestamp?: number, 
/**
 * Why it shows nothing.
 */
reason?: SlotReason, };

/**
 * Why a slot shows nothing.
 */
export type SlotReason = "no-common-codec" | "muted" | "gone" | "displaced" | "bandwidth";

/**
 * The layers of a published video track.
 */
export type TrackLayers = { 
/**
 * The section of the client's offer that sends it.
 */
mid: string, 
/**
 * All its layers, from the smallest to the largest.
 */
layers: Array<Layer>, };

/**
 * A layer of a published video track.
 */
export type Layer = { 
/**
 * Its rid; absent without simulcast.
 */
rid?: string, 
/**
 * `false`: nobody wants it, so it need not be sent (`encodings[].active`).
 */
active: boolean, };

/**
 * Somebody who speaks.
 */
export type ActiveSpeaker = { 
/**
 * Who.
 */
peer_id: string, 
/**
 * How loud, 0 to 127.
 */
level: number, };

/**
 * How good a connection is.
 */
export type ConnectionQuality = "lost" | "poor" | "good" | "excellent";

/**
 * Somebody's quality.
 */
export type PeerQuality = { 
/**
 * Whose.
 */
peer_id: string, 
/**
 * How good.
 */
quality: ConnectionQuality, };

/**
 * The client's media connection.
 */
export type MediaState = "connected" | "interrupted" | "expired" | "failed";

/**
 * Why somebody left.
 */
export type LeaveReason = "left" | "timed-out" | "removed" | "room-deleted" | "server-stopping";

/**
 * What is wrong, and what to change. Also the body of every HTTP error.
 */
export type ErrorBody = { 
/**
 * For programs, such as `room_full`.
 */
code: string, 
/**
 * For people.
 */
message: string, };

/**
 * A message between two peers, relayed unchanged but for `from_peer_id`.
 */
export type PeerMessage = { 
/**
 * Usually `offer`, `answer` or `ice-candidate`.
 */
signal_type: string, 
/**
 * For whom.
 */
target_peer_id: string, 
/**
 * From whom. The server sets it in every message that it relays; empty: over HTTP, from nobody in the room.
 */
from_peer_id?: string, };

/**
 * Something that a grant can permit.
 */
export type Action = "join" | "publish_audio" | "publish_video" | "publish_screen" | "publish_data" | "subscribe" | "send" | "upload" | "moderate" | "record" | "administer" | "broadcast";

/**
 * What a moderator asks for.
 */
export type Moderate = { 
/**
 * Returned in the `done`.
 */
id?: number, } & ({ "action": "mute", 
/**
 * Who.
 */
peer_id: string, 
/**
 * Which of their tracks: those of this source; absent: all.
 */
source?: TrackSource, 
/**
 * Which single track.
 */
track_id?: string, } | { "action": "remove", 
/**
 * Who.
 */
peer_id: string, 
/**
 * What they are told.
 */
reason?: string, } | { "action": "ban", 
/**
 * Who, of those who are there.
 */
peer_id?: string, 
/**
 * Which user, there or not.
 */
user_id?: string, 
/**
 * What they are told.
 */
reason?: string, } | { "action": "unban", 
/**
 * The peer id that was banned.
 */
peer_id?: string, 
/**
 * The user that was banned.
 */
user_id?: string, } | { "action": "grant", 
/**
 * Who.
 */
peer_id: string, 
/**
 * What.
 */
grants: Action[], } | { "action": "lock", 
/**
 * Closed?
 */
locked: boolean, } | { "action": "waiting-room", 
/**
 * Wait?
 */
enabled: boolean, } | { "action": "admit", 
/**
 * Who.
 */
peer_id: string, } | { "action": "deny", 
/**
 * Who.
 */
peer_id: string, });

/**
 * What shall happen to somebody, or to the room.
 */
export type Moderation = { "action": "mute", 
/**
 * Who.
 */
peer_id: string, 
/**
 * Which of their tracks: those of this source; absent: all.
 */
source?: TrackSource, 
/**
 * Which single track.
 */
track_id?: string, } | { "action": "remove", 
/**
 * Who.
 */
peer_id: string, 
/**
 * What they are told.
 */
reason?: string, } | { "action": "ban", 
/**
 * Who, of those who are there.
 */
peer_id?: string, 
/**
 * Which user, there or not.
 */
user_id?: string, 
/**
 * What they are told.
 */
reason?: string, } | { "action": "unban", 
/**
 * The peer id that was banned.
 */
peer_id?: string, 
/**
 * The user that was banned.
 */
user_id?: string, } | { "action": "grant", 
/**
 * Who.
 */
peer_id: string, 
/**
 * What.
 */
grants: Action[], } | { "action": "lock", 
/**
 * Closed?
 */
locked: boolean, } | { "action": "waiting-room", 
/**
 * Wait?
 */
enabled: boolean, } | { "action": "admit", 
/**
 * Who.
 */
peer_id: string, } | { "action": "deny", 
/**
 * Who.
 */
peer_id: string, };

/**
 * What a moderator did to the client.
 */
export type Moderated = { 
/**
 * `mute`.
 */
action: string, 
/**
 * The moderator; absent: over HTTP, from nobody in the room.
 */
by?: string, 
/**
 * The client's own tracks that it is about.
 */
track_ids: Array<string>, };

/**
 * Somebody who waits to be admitted.
 */
export type Waiting = { 
/**
 * Their name in messages, which they keep.
 */
peer_id: string, 
/**
 * Their name for people.
 */
name: string, 
/**
 * Which user they are, as their token says.
 */
user_id?: string, };

/**
 * Somebody who may not come in.
 */
export type Ban = { "user_id": string } | { "peer_id": string };

/**
 * A recording of the room that runs.
 */
export type RoomRecording = { 
/**
 * Its name.
 */
recording_id: string, 
/**
 * When it began, in RFC 3339.
 */
started_at: string, };
