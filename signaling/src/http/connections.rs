//! Who is connected, with what their media connections count.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};
use veche_access::Action;
use veche_doors::answers::Refusals;
use veche_sfu_core::control::ParticipantStats;

use super::caller::Caller;
use super::extract::Query;
use crate::error::Error;
use crate::protocol::{ConnectionQuality, MediaState};
use crate::room::Room;
use crate::room::media_events::media_state;
use crate::rooms::Rooms;

/// Connections in one answer, unless asked for fewer.
const MAX_LISTED: usize = 1000;

/// How long the media plane may take to count, for all rooms together.
const STATS_WAIT: Duration = Duration::from_secs(1);

/// Which connections.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// Those of this room.
    room_id: Option<String>,
    /// How many to pass over.
    #[serde(default)]
    offset: usize,
    /// How many at most; 1000 are the most that come at once.
    limit: Option<usize>,
}

/// Some of the connections.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConnectionList {
    /// How many participants there are in all, in the room where one is asked for.
    total: usize,
    /// Those asked for, ordered by room and by when they came.
    connections: Vec<Connection>,
}

/// One participant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Connection {
    /// Their room.
    room_id: String,
    /// Their name in messages.
    peer_id: String,
    /// Their name for people.
    name: String,
    /// `false` while their signaling connection is lost.
    connected: bool,
    /// How good their connection is.
    quality: ConnectionQuality,
    /// What their media connection counts; absent before they joined the media plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    media: Option<MediaCounters>,
}

/// What a media connection counts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MediaCounters {
    /// How it is; absent before the first offer.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<MediaState>,
    /// RTP packets received.
    packets_received: u64,
    /// Bytes of them.
    bytes_received: u64,
    /// RTP packets sent, repairs not counted.
    packets_sent: u64,
    /// Bytes of them.
    bytes_sent: u64,
    /// Packets that were missing and asked for again.
    nacks_sent: u64,
    /// Packets that a repair brought.
    repairs_received: u64,
    /// Packets that the participant asked for again.
    nacks_received: u64,
    /// Repairs sent to the participant.
    repairs_sent: u64,
    /// Key frames asked of the participant.
    key_frames_requested: u64,
    /// Round-trip time in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ms: Option<f32>,
    /// The share of packets lost on the way from the participant, 0 to 1.
    loss_up: f32,
    /// The share of packets lost on the way to the participant, 0 to 1.
    loss_down: f32,
    /// What the way to the participant is estimated to carry, in bits per second. Where transport-wide feedback was
    /// negotiated, it is there from the first moment, and until there is feedback it is the estimate everybody starts
    /// with; absent where their client tells nothing about the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    estimate_bps: Option<u64>,
    /// What the participant's slots would take at their best, in bits per second.
    wanted_bps: u64,
    /// What they were given of it.
    allocated_bps: u64,
    /// Bytes of padding sent to find out what the way carries.
    probe_bytes: u64,
    /// Packets dropped, by reason.
    drops: BTreeMap<String, u64>,
}

/// Lists participants and what their media connections count.
#[utoipa::path(
    get,
    path = "/realtime/webrtc/connections",
    operation_id = "listMediaConnections",
    params(Filter),
    responses(
        (status = 200, description = "Connections", body = ConnectionList),
        Refusals,
        (status = 404, description = "No such room", body = super::ErrorAnswer),
    )
)]
pub(crate) async fn list(
    State(rooms): State<Arc<Rooms>>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<ConnectionList>, Error> {
    match &filter.room_id {
        Some(room_id) => caller.needs(Action::Moderate, room_id)?,
        None => caller.needs_administration()?,
    }
    let (listed, total) = match &filter.room_id {
        Some(room_id) => {
            let room = rooms.room(room_id)?;
            let total = room.lock().members.len();
            (vec![room], total)
        }
        None => (rooms.all(), rooms.counts().participants),
    };
    let deadline = Instant::now() + STATS_WAIT;
    let mut offset = filter.offset;
    let mut room_left = filter.limit.unwrap_or(MAX_LISTED).min(MAX_LISTED);
    let mut connections = Vec::new();
    for room in listed {
        let count = room.lock().members.len();
        if count <= offset {
            offset -= count;
        } else if room_left > 0 {
            let stats = rooms.stats(&room, deadline).await;
            let some = in_room(&room, stats, std::mem::take(&mut offset), room_left);
            room_left -= some.len();
            connections.extend(some);
        }
    }
    Ok(Json(ConnectionList { total, connections }))
}

fn in_room(room: &Room, stats: Vec<ParticipantStats>, offset: usize, limit: usize) -> Vec<Connection> {
    let stats: BTreeMap<_, _> = stats.into_iter().map(|stats| (stats.participant, stats)).collect();
    let state = room.lock();
    let listed = state.members.values().skip(offset).take(limit);
    let connection = |member: &crate::room::Member| Connection {
        room_id: room.room_id.to_string(),
        peer_id: member.peer_id.to_string(),
        name: member.name.clone(),
        connected: member.link.is_some(),
        quality: member.quality(),
        media: stats.get(&member.id).map(counters),
    };
    listed.map(connection).collect()
}

fn counters(stats: &ParticipantStats) -> MediaCounters {
    MediaCounters {
        state: stats.connection.map(media_state),
        packets_received: stats.packets_received,
        bytes_received: stats.bytes_received,
        packets_sent: stats.packets_sent,
        bytes_sent: stats.bytes_sent,
        nacks_sent: stats.nacks_sent,
        repairs_received: stats.repairs_received,
        nacks_received: stats.nacks_received,
        repairs_sent: stats.repairs_sent,
        key_frames_requested: stats.key_frames_requested,
        rtt_ms: stats.rtt_ms,
        loss_up: stats.loss_up,
        loss_down: stats.loss_down,
        estimate_bps: stats.estimate,
        wanted_bps: stats.wanted,
        allocated_bps: stats.allocated,
        probe_bytes: stats.probe_bytes,
        drops: stats.drops.iter().map(|(reason, count)| (reason.name().to_owned(), count)).collect(),
    }
}
