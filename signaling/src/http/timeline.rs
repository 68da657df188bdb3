//! What was decided for a participant, and why.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};
use veche_access::Action;
use veche_doors::answers::Refusals;
use veche_sfu_core::ids::ParticipantId;
use veche_sfu_core::timeline;

use super::caller::Caller;
use super::extract::{Path, Query};
use crate::error::{Error, ErrorKind};
use crate::protocol::ConnectionQuality;
use crate::room::Room;
use crate::room::media_events::{quality, track_name};
use crate::rooms::Rooms;

/// How long the media plane may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

/// Where to look for the participant.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Place {
    /// Their room. Needed where several rooms have somebody of this peer id.
    room_id: Option<String>,
}

/// One decision.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TimelineEntry)]
pub(crate) struct Entry {
    /// When, in milliseconds since the Unix epoch.
    at_ms: u64,
    /// What.
    #[serde(flatten)]
    decision: Decision,
}

/// What was decided.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Decision {
    /// The estimate of what the way to the participant carries has changed by more than a tenth.
    Estimate {
        /// Bits per second.
        estimate_bps: u64,
        /// What their slots would take at their best, in bits per second.
        wanted_bps: u64,
        /// The share of packets lost on the way, 0 to 1.
        lost: f32,
    },
    /// A slot of the participant shows another layer.
    Layer {
        /// The slot.
        mid: String,
        /// Whose picture.
        track_id: String,
        /// The simulcast layer, 0 the smallest.
        layer: u8,
        /// The highest spatial layer in it, where it has any.
        #[serde(skip_serializing_if = "Option::is_none")]
        spatial: Option<u8>,
        /// The highest temporal layer in it, where it has any.
        #[serde(skip_serializing_if = "Option::is_none")]
        temporal: Option<u8>,
        /// Why.
        reason: LayerReason,
    },
    /// A slot shows nothing, because the network does not carry it.
    Paused {
        /// The slot.
        mid: String,
        /// What it would show.
        track_id: String,
    },
    /// A key frame was asked of the participant.
    KeyFrame {
        /// Of which of their tracks: its section.
        mid: String,
        /// Which layer of it.
        layer: u8,
    },
    /// Packets that were sent to them again within a second.
    Repairs {
        /// How many.
        packets: u32,
    },
    /// Their connection is told to be this good.
    Quality {
        /// How good.
        quality: ConnectionQuality,
    },
}

/// Why a slot shows another layer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LayerReason {
    /// It shows another track, or begins to.
    Source,
    /// It is shown at another size.
    Size,
    /// The network carries more, or less.
    Bandwidth,
    /// The layer before does not come any more, or the better one has come back.
    Flow,
}

/// Lists the latest decisions about what a participant gets, the oldest first.
#[utoipa::path(
    get,
    path = "/realtime/webrtc/connections/{peer_id}/timeline",
    operation_id = "getTimeline",
    params(("peer_id" = String, Path, description = "Their name in messages"), Place),
    responses(
        (status = 200, description = "Decisions", body = [Entry]),
        Refusals,
        (status = 400, description = "Several rooms have somebody of this peer id", body = super::ErrorAnswer),
        (status = 404, description = "No such peer, or room", body = super::ErrorAnswer),
    )
)]
pub(crate) async fn show(
    State(rooms): State<Arc<Rooms>>,
    caller: Caller,
    Path(peer_id): Path<String>,
    Query(place): Query<Place>,
) -> Result<Json<Vec<Entry>>, Error> {
    match &place.room_id {
        Some(room_id) => caller.needs(Action::Moderate, room_id)?,
        None => caller.needs_administration()?,
    }
    let places = match &place.room_id {
        Some(room_id) => vec![rooms.room(room_id)?],
        None => rooms.all(),
    };
    let (room, participant) = find(&places, &peer_id)?;
    let entries = rooms.timeline(room, participant, Instant::now() + ANSWER_WAIT).await?;
    Ok(Json(entries.into_iter().map(Entry::from).collect()))
}

/// The only participant of this peer id.
fn find<'a>(rooms: &'a [Arc<Room>], peer_id: &str) -> Result<(&'a Room, ParticipantId), Error> {
    let mut found = rooms.iter().filter_map(|room| Some((&**room, room.lock().find_peer(peer_id)?)));
    let shown: String = peer_id.chars().take(64).collect();
    let first = found
        .next()
        .ok_or_else(|| Error::new(ErrorKind::PeerNotFound, format!("nobody has the peer id `{shown}`")))?;
    if found.next().is_some() {
        let message = format!("several rooms have a `{shown}`; say which with `?room_id=`");
        return Err(Error::new(ErrorKind::BadRequest, message));
    }
    Ok(first)
}

impl From<timeline::Entry> for Entry {
    fn from(entry: timeline::Entry) -> Self {
        Self { at_ms: entry.at_ms, decision: entry.decision.into() }
    }
}

impl From<timeline::Decision> for Decision {
    fn from(decision: timeline::Decision) -> Self {
        use timeline::Decision as Core;
        match decision {
            Core::Estimate { bits, wanted, lost } => {
                Self::Estimate { estimate_bps: bits, wanted_bps: wanted, lost }
            }
            Core::Layer { mid, track, layer, sublayer, reason } => Self::Layer {
                mid: mid.to_string(),
                track_id: track_name(track),
                layer,
                spatial: sublayer.map(|(spatial, _)| spatial),
                temporal: sublayer.map(|(_, temporal)| temporal),
                reason: reason.into(),
            },
            Core::Paused { mid, track } => Self::Paused { mid: mid.to_string(), track_id: track_name(track) },
            Core::KeyFrame { mid, layer } => Self::KeyFrame { mid: mid.to_string(), layer },
            Core::Repairs { packets } => Self::Repairs { packets },
            Core::Quality(told) => Self::Quality { quality: quality(told) },
        }
    }
}

impl From<timeline::LayerReason> for LayerReason {
    fn from(reason: timeline::LayerReason) -> Self {
        match reason {
            timeline::LayerReason::Source => Self::Source,
            timeline::LayerReason::Size => Self::Size,
            timeline::LayerReason::Bandwidth => Self::Bandwidth,
            timeline::LayerReason::Flow => Self::Flow,
        }
    }
}
