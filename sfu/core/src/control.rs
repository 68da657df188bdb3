//! The two queues between the control plane and an engine: commands in, events out, by value.

use std::sync::Arc;

use crate::drops::DropCounts;
use crate::ids::{Mid, ParticipantId, RequestId, Rid, RoomId, TrackId};
use crate::media::{MediaKind, Source};
use crate::rights::Rights;
use crate::sdp::OfferError;
use crate::timeline::Entry;

/// What the control plane asks of an engine. A command for somebody who is not here is ignored: the control plane
/// may have sent it before it heard that they left.
#[derive(Clone, Debug)]
pub enum Command {
    /// Adds a participant, and the room when it is the first.
    AddParticipant {
        /// Where to.
        room: RoomId,
        /// Who.
        participant: ParticipantId,
        /// The name by which others know them: the `peer_id` of signaling and of data channel messages.
        /// At most 64 bytes.
        peer: Arc<str>,
    },
    /// Removes a participant, and the room when it was the last.
    RemoveParticipant {
        /// Who.
        participant: ParticipantId,
    },
    /// Answers an SDP offer with [`Event::Answer`]. An offer of another browser session (another DTLS fingerprint or
    /// `o=` session) replaces the participant's transport.
    Offer {
        /// Who offers.
        participant: ParticipantId,
        /// Returned in the answer.
        request: RequestId,
        /// The offer.
        sdp: String,
        /// What the offered sections are.
        labels: SectionLabels,
    },
    /// Mutes or unmutes a track of the participant. A muted track is not forwarded.
    SetMuted {
        /// Whose.
        participant: ParticipantId,
        /// Which.
        track: TrackId,
        /// Muted from now on?
        muted: bool,
    },
    /// Says what the participant may do from now on; until then, everything.
    SetRights {
        /// Who.
        participant: ParticipantId,
        /// What.
        rights: Rights,
    },
    /// Says what the participant wants to see; replaces what they said before.
    Subscribe {
        /// Who.
        participant: ParticipantId,
        /// What.
        subscription: Subscription,
    },
    /// Asks for [`Event::Timeline`] of a participant.
    Timeline {
        /// Whose.
        participant: ParticipantId,
        /// Returned in the event.
        request: RequestId,
    },
    /// Asks for [`Event::Stats`] of everybody in a room.
    RoomStats {
        /// Which room.
        room: RoomId,
        /// Returned in the event.
        request: RequestId,
        /// How many engines are asked, since a room may be spread over several. Returned in the event.
        engines: usize,
    },
}

/// What a client says about the sections of its offer, beside the SDP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SectionLabels {
    /// The sections that it publishes. One that is not named is a microphone or a camera.
    pub published: Vec<PublishedLabel>,
    /// Audio and video slots (in this order) that shall carry the same person in lip sync.
    pub pairs: Vec<(Mid, Mid)>,
}

/// What one published section is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedLabel {
    /// Which section.
    pub mid: Mid,
    /// What it shows.
    pub source: Source,
    /// Muted from the start?
    pub muted: bool,
}

/// How a participant's slots are filled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// Who fills the video slots that `wishes` does not name: `true` for the server (pinned, then speaking, then
    /// recent), `false` for nobody. Audio slots are always filled by the server.
    pub auto: bool,
    /// Participants to show first, the most wanted first.
    pub pinned: Vec<ParticipantId>,
    /// What the client wants of single slots.
    pub wishes: Vec<SlotWish>,
}

/// What the client wants of one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotWish {
    /// Which slot.
    pub mid: Mid,
    /// What it shall show.
    pub show: Show,
    /// The width that it is shown at, in device pixels; 0 when unknown, which means as large as there is.
    pub width: u16,
    /// The height.
    pub height: u16,
}

/// What a slot shall show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// What the server chooses; only the size is the client's.
    Auto,
    /// This track.
    Track(TrackId),
    /// Nothing.
    Nothing,
}

/// What an engine tells the control plane.
#[derive(Clone, Debug)]
pub enum Event {
    /// The answer to [`Command::Offer`].
    Answer {
        /// Who offered.
        participant: ParticipantId,
        /// The number of the offer.
        request: RequestId,
        /// The SDP answer, or why there is none; then the session stays as it was.
        result: Result<String, OfferError>,
        /// Whether the offer began a new session: slots, tracks and transport of the one before are gone.
        new_session: bool,
    },
    /// The participant's media connection came or went.
    Connection {
        /// Whose.
        participant: ParticipantId,
        /// How it is now.
        state: ConnectionState,
    },
    /// A track was published, or changed its source or its state of mute.
    Track {
        /// Whose.
        participant: ParticipantId,
        /// The track as it is now.
        track: TrackInfo,
    },
    /// A track is gone.
    TrackGone {
        /// Whose it was.
        participant: ParticipantId,
        /// Which it was.
        track: TrackId,
    },
    /// Slots of a participant show something else from now on.
    Slots {
        /// Whose slots.
        participant: ParticipantId,
        /// The slots that changed.
        changes: Vec<SlotChange>,
    },
    /// The list of speakers of a room changed. The loudest first.
    Speakers {
        /// Which room.
        room: RoomId,
        /// Who speaks.
        speakers: Vec<Speaker>,
    },
    /// The quality of connections in a room changed.
    Quality {
        /// Which room.
        room: RoomId,
        /// The participants whose quality changed.
        changes: Vec<(ParticipantId, Quality)>,
    },
    /// A data channel of a participant was closed by the server.
    DataChannelClosed {
        /// Whose.
        participant: ParticipantId,
        /// Its label.
        label: String,
        /// Why.
        reason: DataCloseReason,
    },
    /// Somebody wants to see other layers of a participant's video track than before: those that nobody wants can be
    /// switched off at their source, and must be sent again at once when they are wanted.
    LayersWanted {
        /// Whose track.
        participant: ParticipantId,
        /// The section that publishes it.
        mid: Mid,
        /// All its layers, from the smallest to the largest.
        layers: Vec<LayerWish>,
    },
    /// The answer to [`Command::Timeline`].
    Timeline {
        /// The number of the question.
        request: RequestId,
        /// The participant's latest decisions, the oldest first; empty for somebody who is not here.
        entries: Vec<Entry>,
    },
    /// The answer to [`Command::RoomStats`].
    Stats {
        /// The number of the question.
        request: RequestId,
        /// Everybody in the room who is on this engine.
        participants: Vec<ParticipantStats>,
        /// How many engines were asked: each answers for its own.
        engines: usize,
    },
}

/// The state of a media connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// ICE and DTLS are done: media flows.
    Connected,
    /// Nothing authenticated came for some seconds. It may come back by itself.
    Interrupted,
    /// Consent has expired (RFC 7675): nothing is sent any more. An ICE restart brings it back.
    Expired,
    /// It has failed and only a new offer of a new session helps.
    Failed(FailReason),
}

/// Why a media connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailReason {
    /// The client's certificate does not match the fingerprint in its offer.
    Fingerprint,
    /// The DTLS handshake did not succeed.
    Dtls,
    /// The client closed it.
    Closed,
}

/// A published track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackInfo {
    /// Which.
    pub id: TrackId,
    /// The section that publishes it.
    pub mid: Mid,
    /// Audio or video.
    pub kind: MediaKind,
    /// What it shows.
    pub source: Source,
    /// Muted by its publisher, or because they may not send it?
    pub muted: bool,
}

/// Whether a layer is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerWish {
    /// Its rid, with simulcast.
    pub rid: Option<Rid>,
    /// Whether anybody shows it, or would if it were sent.
    pub wanted: bool,
}

/// What one slot shows from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotChange {
    /// Which slot.
    pub mid: Mid,
    /// What it shows; `None` when it shows nothing any more. With [`SlotReason::NoCommonCodec`] and
    /// [`SlotReason::Bandwidth`], what it would show.
    pub shows: Option<SlotSource>,
    /// Why it shows nothing, or not what was wished.
    pub reason: Option<SlotReason>,
}

/// What a slot shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotSource {
    /// Whose track.
    pub participant: ParticipantId,
    /// Which track.
    pub track: TrackId,
    /// The RTP timestamp of the first packet that shows it, on the slot's own clock.
    pub rtp_timestamp: u32,
}

/// Why a slot does not show what one might expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotReason {
    /// Receiver and publisher have no codec in common.
    NoCommonCodec,
    /// The track was muted by its publisher.
    Muted,
    /// The track, or its publisher, is gone.
    Gone,
    /// Somebody else took the slot.
    Displaced,
    /// The subscriber's network does not carry the picture now. It comes back by itself; sound goes on.
    Bandwidth,
}

/// Somebody who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// Who.
    pub participant: ParticipantId,
    /// How loud, 0 (silent) to 127 (full scale), smoothed.
    pub level: u8,
}

/// How good a participant's connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quality {
    /// Nothing arrives.
    Lost,
    /// Picture and sound suffer.
    Poor,
    /// Losses or delays that one may notice.
    Good,
    /// As good as it gets.
    Excellent,
}

/// Why the server closed a data channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataCloseReason {
    /// The client reads more slowly than others send.
    ReceiverSlow,
    /// Too many channels, or a label that is too long.
    Limit,
}

/// Counters of one participant.
#[derive(Clone, Debug)]
pub struct ParticipantStats {
    /// Who.
    pub participant: ParticipantId,
    /// How the media connection is; `None` before the first offer.
    pub connection: Option<ConnectionState>,
    /// RTP packets received and taken.
    pub packets_received: u64,
    /// Bytes of them.
    pub bytes_received: u64,
    /// RTP packets sent, repairs not counted.
    pub packets_sent: u64,
    /// Bytes of them.
    pub bytes_sent: u64,
    /// Packets that were missing and asked for again.
    pub nacks_sent: u64,
    /// Packets that a repair brought.
    pub repairs_received: u64,
    /// Packets that the participant asked for again.
    pub nacks_received: u64,
    /// Repairs sent to the participant.
    pub repairs_sent: u64,
    /// Key frames asked of the participant.
    pub key_frames_requested: u64,
    /// Round-trip time in milliseconds.
    pub rtt_ms: Option<f32>,
    /// The share of packets lost on the way from the participant, 0.0 to 1.0.
    pub loss_up: f32,
    /// The share of packets lost on the way to the participant, as their receiver reports say.
    pub loss_down: f32,
    /// What the way to the participant is estimated to carry, in bits per second: a first guess until feedback comes;
    /// `None` where the client agreed to no transport-wide feedback and sends no estimate of its own.
    pub estimate: Option<u64>,
    /// What the participant's slots would take at their best, in bits per second.
    pub wanted: u64,
    /// What they were given of it.
    pub allocated: u64,
    /// Bytes of padding sent to find out what the way carries.
    pub probe_bytes: u64,
    /// Packets dropped, by reason.
    pub drops: DropCounts,
}
