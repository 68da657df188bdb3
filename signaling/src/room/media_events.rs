//! What the media plane reports about a room, turned into state and messages.

use serde_json::json;
use veche_access::Action;
use veche_sfu_core::control::{
    self, ConnectionState, DataCloseReason, FailReason, LayerWish, Quality, SlotChange, Speaker, TrackInfo,
};
use veche_sfu_core::ids::{Mid, ParticipantId, RequestId, TrackId};
use veche_sfu_core::media::{MediaKind, Source};
use veche_sfu_core::sdp::OfferError;

use super::{Member, RoomState};
use crate::error::{Error, ErrorKind};
use crate::protocol::{
    ActiveSpeaker, ConnectionQuality, Layer, MediaState, PeerQuality, ServerMessage, Slot, SlotReason, Track,
    TrackKind, TrackLayers, TrackSource,
};

/// Slots, and tracks with layers, of one participant that are remembered; an SDP session has fewer sections.
const MAX_SECTIONS: usize = 1024;

impl RoomState {
    /// Nothing is left of the session before: who resumes must not hear of its slots, layers and state.
    pub(crate) fn on_new_session(&mut self, id: ParticipantId) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.slots.clear();
        member.layers.clear();
        member.media_state = None;
    }

    pub(crate) fn on_answer(
        &mut self,
        id: ParticipantId,
        request: RequestId,
        result: Result<String, OfferError>,
    ) {
        let Some(offer) = self.members.get_mut(&id).and_then(|member| member.close_offer(request)) else {
            return;
        };
        let message = match result {
            Ok(sdp) => ServerMessage::Answer { sdp, id: offer.id },
            Err(error) => {
                ServerMessage::error(Error::new(ErrorKind::OfferInvalid, error.to_string()), offer.id)
            }
        };
        self.tell(id, &message);
    }

    pub(crate) fn on_connection(&mut self, id: ParticipantId, state: ConnectionState) {
        if let Some(member) = self.members.get_mut(&id) {
            let closed = state == ConnectionState::Failed(FailReason::Closed);
            if let ConnectionState::Failed(reason) = state {
                tracing::debug!(peer = &*member.peer_id, ?reason, "a media connection failed");
            }
            let state = media_state(state);
            member.media_state = (!closed).then_some(state);
            // Whoever closed it has a reason, such as a new one. Told of the old one's end they would take it for the
            // new one's, and make yet another.
            if closed {
                return;
            }
            self.tell(id, &ServerMessage::Connection { state });
        }
    }

    pub(crate) fn on_track(&mut self, id: ParticipantId, info: &TrackInfo) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let track = track(info);
        // The media plane tells all tracks again after each offer.
        let before = member.tracks.insert(info.id, track.clone());
        if before.as_ref() == Some(&track) {
            return;
        }
        let peer_id = member.peer_id.to_string();
        let kind = if before.is_none() { "track.published" } else { "track.updated" };
        let Track { track_id, kind: media, source, muted, .. } = &track;
        let data = json!({ "participant_id": peer_id, "track_id": track_id, "kind": media, "source": source, "muted": muted });
        let user_id = self.members.get(&id).and_then(|member| member.identity.user_id.as_deref());
        self.journal.note(kind, user_id, data);
        self.tell_all(&ServerMessage::Track { peer_id, track });
        if before.is_none()
            && let Some(error) = self.forbidden_track(id, info.id)
        {
            self.tell(id, &ServerMessage::error(error, None));
        }
    }

    /// Why a track of somebody stays muted: they may not send what it shows.
    pub(crate) fn forbidden_track(&self, id: ParticipantId, track: TrackId) -> Option<Error> {
        let member = self.members.get(&id)?;
        let track = member.tracks.get(&track)?;
        let action = match (track.kind, track.source) {
            (TrackKind::Video, TrackSource::Screen) | (TrackKind::Audio, TrackSource::ScreenAudio) => {
                Action::PublishScreen
            }
            (TrackKind::Audio, _) => Action::PublishAudio,
            (TrackKind::Video, _) => Action::PublishVideo,
        };
        let (name, mid) = (action.name(), &track.mid);
        let message = format!("the section `{mid}` stays muted: `{name}` is not granted to you in this room");
        (!member.actions().contains(action)).then(|| Error::new(ErrorKind::Forbidden, message))
    }

    pub(crate) fn on_track_gone(&mut self, id: ParticipantId, track: TrackId) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if let Some(gone) = member.tracks.remove(&track) {
            member.layers.retain(|_, layers| layers.mid != gone.mid);
            let peer_id = member.peer_id.to_string();
            let data = json!({ "participant_id": peer_id, "track_id": gone.track_id });
            let user_id = member.identity.user_id.as_deref();
            self.journal.note("track.unpublished", user_id, data);
            self.tell_all(&ServerMessage::TrackGone { peer_id, track_id: track_name(track) });
        }
    }

    pub(crate) fn on_slots(&mut self, id: ParticipantId, changes: &[SlotChange]) {
        let slots: Vec<Slot> = changes.iter().map(|change| self.slot(change)).collect();
        let Some(member) = self.members.get_mut(&id) else { return };
        for (change, slot) in changes.iter().zip(&slots) {
            if slot.track_id.is_none() {
                member.slots.remove(&change.mid);
            } else if member.slots.len() < MAX_SECTIONS || member.slots.contains_key(&change.mid) {
                member.slots.insert(change.mid.clone(), slot.clone());
            }
        }
        self.tell(id, &ServerMessage::Slots { slots });
    }

    pub(crate) fn on_layers_wanted(&mut self, id: ParticipantId, mid: Mid, wishes: &[LayerWish]) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let layer =
            |wish: &LayerWish| Layer { rid: wish.rid.as_ref().map(ToString::to_string), active: wish.wanted };
        let layers = TrackLayers { mid: mid.to_string(), layers: wishes.iter().map(layer).collect() };
        if member.layers.len() < MAX_SECTIONS || member.layers.contains_key(&mid) {
            member.layers.insert(mid, layers.clone());
        }
        self.tell(id, &ServerMessage::Layers(layers));
    }

    pub(crate) fn on_speakers(&mut self, speakers: &[Speaker]) {
        let known = |speaker: &Speaker| {
            let member = self.members.get(&speaker.participant)?;
            Some(ActiveSpeaker { peer_id: member.peer_id.to_string(), level: speaker.level })
        };
        let speakers: Vec<_> = speakers.iter().filter_map(known).collect();
        self.speakers.clone_from(&speakers);
        self.tell_all(&ServerMessage::Speakers { speakers });
    }

    pub(crate) fn on_quality(&mut self, changes: &[(ParticipantId, Quality)]) {
        let mut participants = Vec::new();
        for &(id, media_quality) in changes {
            let Some(member) = self.members.get_mut(&id) else { continue };
            let before = member.quality();
            member.media_quality = quality(media_quality);
            if member.quality() != before {
                participants
                    .push(PeerQuality { peer_id: member.peer_id.to_string(), quality: member.quality() });
            }
        }
        if !participants.is_empty() {
            self.tell_all(&ServerMessage::Quality { participants });
        }
    }

    pub(crate) fn on_data_channel_closed(&self, id: ParticipantId, label: String, reason: DataCloseReason) {
        let reason = match reason {
            DataCloseReason::ReceiverSlow => "receiver-slow",
            DataCloseReason::Limit => "limit",
        };
        self.tell(id, &ServerMessage::DataChannelClosed { label, reason: reason.to_owned() });
    }

    /// A slot that shows somebody who has just left shows nothing.
    fn slot(&self, change: &SlotChange) -> Slot {
        let mid = change.mid.to_string();
        let shown = change.shows.map(|shows| (shows, self.members.get(&shows.participant)));
        match shown {
            Some((shows, Some(Member { peer_id, .. }))) => Slot {
                mid,
                peer_id: Some(peer_id.to_string()),
                track_id: Some(track_name(shows.track)),
                rtp_timestamp: Some(shows.rtp_timestamp),
                reason: change.reason.map(slot_reason),
            },
            Some((_, None)) => empty_slot(mid, Some(SlotReason::Gone)),
            None => empty_slot(mid, change.reason.map(slot_reason)),
        }
    }
}

/// A track's name in messages.
pub(crate) fn track_name(id: TrackId) -> String {
    format!("TR{id}")
}

/// The track of a name in messages.
pub(crate) fn track_id(name: &str) -> Option<TrackId> {
    let digits = name.strip_prefix("TR")?;
    let canonical = digits.bytes().all(|byte| byte.is_ascii_digit());
    canonical.then(|| digits.parse().ok().map(TrackId)).flatten()
}

/// What a client says that a track shows.
pub(crate) fn source(source: TrackSource) -> Source {
    match source {
        TrackSource::Microphone => Source::Microphone,
        TrackSource::Camera => Source::Camera,
        TrackSource::Screen => Source::Screen,
        TrackSource::ScreenAudio => Source::ScreenAudio,
    }
}

/// The state of a media connection, for clients.
pub(crate) fn media_state(state: ConnectionState) -> MediaState {
    match state {
        ConnectionState::Connected => MediaState::Connected,
        ConnectionState::Interrupted => MediaState::Interrupted,
        ConnectionState::Expired => MediaState::Expired,
        ConnectionState::Failed(_) => MediaState::Failed,
    }
}

fn track(info: &TrackInfo) -> Track {
    Track {
        track_id: track_name(info.id),
        mid: info.mid.to_string(),
        kind: match info.kind {
            MediaKind::Audio => TrackKind::Audio,
            MediaKind::Video => TrackKind::Video,
        },
        source: match info.source {
            Source::Microphone => TrackSource::Microphone,
            Source::Camera => TrackSource::Camera,
            Source::Screen => TrackSource::Screen,
            Source::ScreenAudio => TrackSource::ScreenAudio,
        },
        muted: info.muted,
    }
}

fn empty_slot(mid: String, reason: Option<SlotReason>) -> Slot {
    Slot { mid, peer_id: None, track_id: None, rtp_timestamp: None, reason }
}

fn slot_reason(reason: control::SlotReason) -> SlotReason {
    match reason {
        control::SlotReason::NoCommonCodec => SlotReason::NoCommonCodec,
        control::SlotReason::Muted => SlotReason::Muted,
        control::SlotReason::Gone => SlotReason::Gone,
        control::SlotReason::Displaced => SlotReason::Displaced,
        control::SlotReason::Bandwidth => SlotReason::Bandwidth,
    }
}

/// The quality of a connection, for clients.
pub(crate) fn quality(quality: Quality) -> ConnectionQuality {
    match quality {
        Quality::Lost => ConnectionQuality::Lost,
        Quality::Poor => ConnectionQuality::Poor,
        Quality::Good => ConnectionQuality::Good,
        Quality::Excellent => ConnectionQuality::Excellent,
    }
}
