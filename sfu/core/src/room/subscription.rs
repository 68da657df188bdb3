//! Which slot shows what: ranks the room's tracks, assigns them to slots, picks layers, tells the control plane.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::assignment::{AudioSlot, TrackRef, VideoSlot, Want, assign_audio, assign_video};
use crate::batch::Batch;
use crate::context::Context;
use crate::control::{Event, Show, SlotChange, SlotReason, SlotSource};
use crate::forward::forwarder::LayerRef;
use crate::ids::{Mid, TrackId};
use crate::incoming::Format;
use crate::layer::SlotRef;
use crate::media::{MediaKind, Source};
use crate::participant::Participant;
use crate::receive::key_frame::KeyFrameReason;
use crate::sdp::{Negotiation, SectionUse};
use crate::transport::Transport;

use super::Room;
use super::fan_out::Switched;
use super::tick::RETARGET_INTERVAL;

/// The room's tracks in the order in which people want them.
#[derive(Debug, Default)]
pub(super) struct Ranking {
    video: Vec<TrackRef>,
    audio: Vec<TrackRef>,
    /// Of the audio, what is heard now: who speaks, and the sound of screens.
    audible: Vec<TrackRef>,
    by_id: FxHashMap<TrackId, TrackRef>,
    /// Reused per subscriber.
    mine: Vec<TrackRef>,
    assigned: Vec<Option<TrackRef>>,
}

/// Joins, leaves and speakers come in bursts; one assignment serves them all.
const ASSIGN_DELAY: Duration = Duration::from_millis(20);
/// In a large room more of them: it takes about five microseconds for each participant, and shall not take a tenth of a
/// processor while many join.
const ASSIGN_DELAY_EACH: Duration = Duration::from_micros(100);

/// How many packets of a new speaker from before the switch are sent, so that the start of the first word is heard:
/// as many as it takes to notice that somebody speaks.
const ONSET_PACKETS: u64 = 4;

/// Where nothing flows, it is looked so often whether slots should show another layer.
const QUIET_INTERVAL: Duration = Duration::from_millis(200);

/// A queue in which packets wait for longer is full.
const FULL_QUEUE: Duration = Duration::from_millis(100);

impl Room {
    /// Assigns slots anew within a moment.
    pub(super) fn assign_soon(&mut self, now: Instant) {
        let at = now + ASSIGN_DELAY.max(ASSIGN_DELAY_EACH * self.participants.len() as u32);
        self.assign_at = Some(self.assign_at.map_or(at, |a| a.min(at)));
        self.tick_at(at);
    }

    /// Assigns all slots of the room.
    pub(super) fn assign(&mut self, ctx: &mut Context<'_>) {
        let mut ranking = std::mem::take(&mut self.ranked);
        self.rank(ctx.now.instant, &mut ranking);
        for index in self.indices() {
            if self.participants[index as usize].slots.is_empty() {
                continue;
            }
            self.assign_video_of(ctx, index, &mut ranking);
            self.assign_audio_of(ctx, index, &mut ranking);
        }
        self.ranked = ranking;
    }

    /// Ranks tracks: screens, then who speaks or spoke last, then who came last. Audio by who speaks.
    fn rank(&self, now: Instant, ranking: &mut Ranking) {
        ranking.video.clear();
        ranking.audio.clear();
        ranking.by_id.clear();
        for (i, participant) in self.participants.iter().filter(|(_, p)| p.is_reachable()) {
            for (t, track) in &participant.tracks {
                let reference = TrackRef { participant: i as u32, track: t as u32, id: track.id };
                ranking.by_id.insert(track.id, reference);
                match track.kind {
                    MediaKind::Video if track.showable() => ranking.video.push(reference),
                    MediaKind::Audio if track.active => ranking.audio.push(reference),
                    _ => {}
                }
            }
        }
        ranking.video.sort_by_cached_key(|r| {
            let participant = &self.participants[r.participant as usize];
            let track = &participant.tracks[r.track as usize];
            let recency = participant.spoke_at.unwrap_or(track.published_at).max(track.published_at);
            std::cmp::Reverse((track.source == Source::Screen, recency, track.id))
        });
        ranking.audio.sort_by_cached_key(|r| {
            let participant = &self.participants[r.participant as usize];
            let track = &participant.tracks[r.track as usize];
            let score = self.speakers.score(participant.id);
            std::cmp::Reverse((track.source == Source::ScreenAudio, score, !track.muted, track.id))
        });
        ranking.audible.clear();
        ranking.audible.extend(ranking.audio.iter().filter(|t| {
            let owner = &self.participants[t.participant as usize];
            let source = owner.tracks.get(t.track as usize).map(|track| track.source);
            source == Some(Source::ScreenAudio) || self.speakers.is_speaking(now, owner.id)
        }));
    }

    fn assign_video_of(&mut self, ctx: &mut Context<'_>, index: u32, ranking: &mut Ranking) {
        let subscriber = &self.participants[index as usize];
        self.rank_pictures_for(index, ranking);
        let active = |s: &crate::slot::Slot| s.kind == MediaKind::Video && s.active;
        let slots: Vec<(u32, VideoSlot)> = subscriber
            .slots
            .iter()
            .filter(|(_, s)| active(s))
            .map(|(i, s)| {
                (i as u32, VideoSlot { shows: s.assigned, want: self.want(index, s.show, ranking) })
            })
            .collect();
        let views: Vec<VideoSlot> = slots.iter().map(|(_, v)| *v).collect();
        assign_video(&views, &ranking.mine, &mut ranking.assigned);
        for ((slot, view), assigned) in slots.iter().zip(&ranking.assigned) {
            let reason = match view.want {
                Want::Fixed(None) => self.why_not(index, *slot, ranking),
                _ => SlotReason::Displaced,
            };
            self.set_assigned(ctx, SlotRef { participant: index, slot: *slot }, *assigned, reason);
        }
        self.clear_inactive(ctx, index);
    }

    /// The pictures that the server would show a subscriber, the most wanted first: as many as can matter. Looking
    /// through all of them for everybody would make each assignment of a large room slow.
    fn rank_pictures_for(&self, index: u32, ranking: &mut Ranking) {
        let Ranking { video, mine, .. } = ranking;
        mine.clear();
        let subscriber = &self.participants[index as usize];
        if !subscriber.subscription.auto || !subscriber.rights.watch {
            return;
        }
        let pinned = &subscriber.subscription.pinned;
        for (place, id) in pinned.iter().enumerate() {
            if let Some(owner) = self.index_of(*id).filter(|owner| *owner != index)
                && !pinned[..place].contains(id)
            {
                mine.extend(video.iter().filter(|t| t.participant == owner));
            }
        }
        let is_pinned = |t: &TrackRef| pinned.contains(&self.participants[t.participant as usize].id);
        let others = video.iter().filter(|t| t.participant != index && !is_pinned(t));
        // Those that slots name are passed over, and there are no more of them than slots.
        mine.extend(others.take(2 * subscriber.slots.len()));
    }

    fn want(&self, subscriber: u32, show: Show, ranking: &Ranking) -> Want {
        match show {
            Show::Auto => Want::Ranked,
            Show::Nothing => Want::Fixed(None),
            Show::Track(_) if !self.participants[subscriber as usize].rights.watch => Want::Fixed(None),
            Show::Track(id) => {
                let track = ranking.by_id.get(&id).copied().filter(|t| t.participant != subscriber);
                Want::Fixed(track.filter(|t| self.track(*t).is_some_and(crate::track::Track::showable)))
            }
        }
    }

    pub(super) fn track(&self, at: TrackRef) -> Option<&crate::track::Track> {
        let track = self.participants.get(at.participant as usize)?.tracks.get(at.track as usize)?;
        (track.id == at.id).then_some(track)
    }

    pub(super) fn track_mut(&mut self, at: TrackRef) -> Option<&mut crate::track::Track> {
        let track = self.participants.get_mut(at.participant as usize)?.tracks.get_mut(at.track as usize)?;
        (track.id == at.id).then_some(track)
    }

    /// Why a slot does not show the track that its client named.
    fn why_not(&self, index: u32, slot: u32, ranking: &Ranking) -> SlotReason {
        let slot = &self.participants[index as usize].slots[slot as usize];
        match slot.show {
            _ if !self.participants[index as usize].rights.watch => SlotReason::Displaced,
            Show::Track(id) if ranking.by_id.contains_key(&id) => SlotReason::Muted,
            Show::Track(_) => SlotReason::Gone,
            _ => SlotReason::Displaced,
        }
    }

    fn assign_audio_of(&mut self, ctx: &mut Context<'_>, index: u32, ranking: &mut Ranking) {
        let subscriber = &self.participants[index as usize];
        let slots: Vec<(u32, AudioSlot)> = subscriber
            .slots
            .iter()
            .filter(|(_, s)| s.kind == MediaKind::Audio && s.active)
            .map(|(i, s)| {
                let reserved = s.pair.as_ref().and_then(|pair| self.voice_beside(index, pair));
                (i as u32, AudioSlot { shows: s.assigned, reserved })
            })
            .collect();
        let Ranking { audio, audible, mine, .. } = ranking;
        let watches = subscriber.rights.watch;
        let others = |t: &&TrackRef| watches && t.participant != index;
        mine.clear();
        mine.extend(audio.iter().filter(others).take(slots.len() + 1));
        if mine.len() > slots.len() {
            // Who is silent keeps no slot busy that somebody may need: a word that begins in an idle slot is heard
            // from its start, one that begins behind another voice only from the switch on.
            mine.clear();
            mine.extend(audible.iter().filter(others));
        }
        let views: Vec<AudioSlot> = slots.iter().map(|(_, v)| *v).collect();
        assign_audio(&views, mine, &mut ranking.assigned);
        for ((slot, _), assigned) in slots.iter().zip(&ranking.assigned) {
            let slot = SlotRef { participant: index, slot: *slot };
            self.set_assigned(ctx, slot, *assigned, SlotReason::Displaced);
        }
    }

    /// The sound that belongs to what a video slot shows.
    fn voice_beside(&self, index: u32, video_mid: &Mid) -> Option<TrackRef> {
        let subscriber = &self.participants[index as usize];
        let video = &subscriber.slots[subscriber.slot_by_mid(video_mid)? as usize];
        let shown = video.assigned?;
        let source = match self.track(shown)?.source {
            Source::Screen => Source::ScreenAudio,
            _ => Source::Microphone,
        };
        let owner = &self.participants[shown.participant as usize];
        let (t, track) = owner.tracks.iter().find(|(_, t)| t.source == source && t.showable())?;
        Some(TrackRef { participant: shown.participant, track: t as u32, id: track.id })
    }

    /// A slot that is not active shows nothing.
    fn clear_inactive(&mut self, ctx: &mut Context<'_>, index: u32) {
        let inactive: Vec<u32> = self.participants[index as usize]
            .slots
            .iter()
            .filter(|(_, s)| !s.active && s.assigned.is_some())
            .map(|(i, _)| i as u32)
            .collect();
        for slot in inactive {
            self.set_assigned(ctx, SlotRef { participant: index, slot }, None, SlotReason::Displaced);
        }
    }

    fn set_assigned(
        &mut self,
        ctx: &mut Context<'_>,
        at: SlotRef,
        assigned: Option<TrackRef>,
        reason: SlotReason,
    ) {
        let slot = &mut self.participants[at.participant as usize].slots[at.slot as usize];
        if slot.assigned == assigned {
            if assigned.is_none()
                && slot.told.is_none()
                && slot.show != Show::Auto
                && slot.reason != Some(reason)
            {
                slot.reason = Some(reason);
                self.tell_slot(ctx, at, None, Some(reason));
            }
            return;
        }
        slot.assigned = assigned;
        slot.share.reset();
        if assigned.is_some() {
            slot.reason = None;
            match slot.kind {
                MediaKind::Audio => self.retarget(ctx, at),
                // All pictures of the subscriber share what their network carries.
                MediaKind::Video => self.retarget_at = ctx.now.instant,
            }
            return;
        }
        self.detach(at);
        self.drop_waiting(at);
        let slot = &mut self.participants[at.participant as usize].slots[at.slot as usize];
        slot.forwarder.stop();
        let blank = matches!(slot.reason, Some(SlotReason::NoCommonCodec | SlotReason::Bandwidth));
        if slot.told.take().is_some() || blank {
            slot.reason = Some(reason);
            self.tell_slot(ctx, at, None, Some(reason));
        }
    }

    /// Looks at all slots whether a better layer should be shown, and asks for the key frames that are waited for.
    /// Returns how soon to look again: not at all while nobody is awake or wants a picture.
    pub(super) fn retarget_all(&mut self, ctx: &mut Context<'_>) -> Option<Duration> {
        let now = ctx.now.instant;
        let mut again = None;
        self.refresh_ladders(now);
        self.carry_views(ctx);
        for index in self.indices() {
            let participant = &self.participants[index as usize];
            let awake = participant.pulse.is_awake(now);
            if !awake && !participant.wants_pictures() {
                continue;
            }
            let interval = if awake { RETARGET_INTERVAL } else { QUIET_INTERVAL };
            again = Some(again.map_or(interval, |a: Duration| a.min(interval)));
            // Where nothing can be sent, no publisher must make key frames for it.
            if participant.transport.as_ref().is_some_and(Transport::ready) {
                self.share_bandwidth(ctx, index);
            }
        }
        self.tell_wanted_layers(ctx);
        self.tell_homes(ctx);
        again
    }

    /// Lets a slot wait for the layer that it should show.
    pub(super) fn retarget(&mut self, ctx: &mut Context<'_>, at: SlotRef) {
        let Some(chosen) = self.chosen_layer(at) else { return };
        let full = self.is_queue_full(ctx.now.instant, at.participant);
        let forwarder = &mut self.participants[at.participant as usize].slots[at.slot as usize].forwarder;
        let (current, target) = (forwarder.current(), forwarder.target());
        let waits = forwarder.needs_key_frame();
        // A key frame that is asked for now would only make the queue longer; a slot that shows nothing yet needs one all the same.
        let full = full && current.is_some();
        if current == Some(chosen) {
            if let Some(target) = target {
                forwarder.set_target(None);
                self.unlist(target, at);
            }
            if waits && !full {
                self.request_key_frame(ctx.now.instant, chosen, KeyFrameReason::Switch);
            }
            return;
        }
        if target != Some(chosen) {
            forwarder.set_target(Some(chosen));
            if let Some(target) = target {
                self.unlist(target, at);
            }
            self.list(ctx.now.instant, chosen, at);
            if self.kind_of(at) == MediaKind::Audio {
                self.replay_onset(ctx, chosen, at);
                return;
            }
        }
        let subscriber = &self.participants[at.participant as usize];
        let slot = &subscriber.slots[at.slot as usize];
        let suits = slot.assigned.and_then(|t| self.track(t)).is_some_and(|t| t.suits(&slot.codecs));
        let undecodable = !suits || slot.reason == Some(SlotReason::NoCommonCodec);
        let ready = subscriber.transport.as_ref().is_some_and(Transport::ready);
        // A change of codec would bring its own key frame.
        if ready && !undecodable && !full {
            self.request_key_frame(ctx.now.instant, chosen, KeyFrameReason::Switch);
        }
    }

    /// Asks the publisher of a layer for a key frame, merged with what others ask for.
    pub(super) fn request_key_frame(&mut self, now: Instant, at: LayerRef, reason: KeyFrameReason) {
        let Some(layer) = self.layer_mut(at) else { return };
        layer.key_frames.request(now, reason);
        self.wake(now, at.participant);
        self.look_at(at.participant, now);
    }

    /// Whether what was sent to a subscriber before waits for so long that no key frame must be asked for them.
    pub(super) fn is_queue_full(&self, now: Instant, index: u32) -> bool {
        let transport = self.participants.get(index as usize).and_then(|p| p.transport.as_ref());
        transport.is_some_and(|t| t.pacing_delay(now) > FULL_QUEUE)
    }

    fn chosen_layer(&self, at: SlotRef) -> Option<LayerRef> {
        let slot = &self.participants[at.participant as usize].slots[at.slot as usize];
        let TrackRef { participant, track, id } = slot.assigned?;
        let layer = match slot.kind {
            MediaKind::Audio => 0,
            MediaKind::Video => slot.share.level()?.layer,
        };
        Some(LayerRef { participant, track, layer, id })
    }

    fn kind_of(&self, at: SlotRef) -> MediaKind {
        self.participants[at.participant as usize].slots[at.slot as usize].kind
    }

    /// Sends the last packets of a voice from before its slot was given to it.
    fn replay_onset(&mut self, ctx: &mut Context<'_>, from: LayerRef, at: SlotRef) {
        // What waits in the batch is in the history too, and nothing may be sealed twice under one number.
        if !self.batch.is_empty() {
            return;
        }
        let participant = self.participants.get(from.participant as usize);
        if participant.and_then(|p| p.tracks.get(from.track as usize)).is_none_or(|t| t.muted) {
            return;
        }
        let mut onset = std::mem::take(&mut self.onset);
        self.keep_onset(ctx, from, &mut onset);
        let mut switched = None;
        self.forward_run(ctx, &mut onset, 0, at, |switch| switched = switched.or(Some(switch)));
        self.mark(ctx, at.participant);
        if let Some(switch) = switched {
            self.on_switched(ctx, switch);
        }
        onset.clear();
        self.onset = onset;
    }

    fn keep_onset(&self, ctx: &Context<'_>, from: LayerRef, onset: &mut Batch) {
        let Some(layer) = self.layer(from) else { return };
        let ids =
            self.participants.get(from.participant as usize).map(Participant::extensions).unwrap_or_default();
        let Some(newest) = layer.history.highest() else { return };
        for seq in newest.saturating_sub(ONSET_PACKETS - 1)..=newest {
            if let Some(incoming) = layer.stored(ctx.now.instant, seq, &ids) {
                onset.push(from, &incoming, false);
            }
        }
    }

    /// A packet of the slot's new source is on its way: this is what it shows now.
    pub(super) fn on_switched(&mut self, ctx: &mut Context<'_>, switch: Switched) {
        let (at, from) = (switch.slot, switch.source);
        if let Some(left) = switch.left.filter(|left| *left != from) {
            self.unlist(left, at);
        }
        let slot = &mut self.participants[at.participant as usize].slots[at.slot as usize];
        slot.reason = None;
        if slot.told.replace(from.id) == Some(from.id) {
            return;
        }
        let Some(owner) = self.participants.get(from.participant as usize) else { return };
        let shows = SlotSource { participant: owner.id, track: from.id, rtp_timestamp: switch.timestamp };
        self.tell_slot(ctx, at, Some(shows), None);
    }

    /// Some of these slots belong to clients that cannot decode the format of what they should show.
    pub(super) fn on_no_common_codec(
        &mut self,
        ctx: &mut Context<'_>,
        from: LayerRef,
        slots: &[SlotRef],
        format: Format,
    ) {
        let Some(owner) = self.participants.get(from.participant as usize).map(|p| p.id) else { return };
        for at in slots {
            let subscriber = self.participants.get_mut(at.participant as usize);
            let Some(slot) = subscriber.and_then(|p| p.slots.get_mut(at.slot as usize)) else { continue };
            if slot.reason == Some(SlotReason::NoCommonCodec) || slot.outgoing_format(format).is_some() {
                continue;
            }
            slot.reason = Some(SlotReason::NoCommonCodec);
            slot.told = None;
            // The picture of before ends; the slot stays ready for a codec that it can decode.
            let before = [slot.forwarder.current(), slot.forwarder.target()];
            slot.forwarder.stop();
            slot.forwarder.set_target(Some(from));
            let rtp_timestamp = slot.forwarder.report_timestamp(ctx.now.nanos);
            let shows = SlotSource { participant: owner, track: from.id, rtp_timestamp };
            self.tell_slot(ctx, *at, Some(shows), Some(SlotReason::NoCommonCodec));
            for layer in before.into_iter().flatten().filter(|layer| *layer != from) {
                self.unlist(layer, *at);
            }
        }
    }

    /// Tells again what all slots of a participant show: after an answer, since what was told before it may have been
    /// lost together with an answer of before.
    pub(super) fn tell_slots(&mut self, ctx: &mut Context<'_>, index: u32) {
        let shown: Vec<(u32, SlotSource, Option<SlotReason>)> = self.participants[index as usize]
            .slots
            .iter()
            .filter_map(|(i, slot)| {
                let current = slot.forwarder.current().filter(|l| slot.told == Some(l.id));
                let blank = matches!(slot.reason, Some(SlotReason::NoCommonCodec | SlotReason::Bandwidth));
                let (participant, track) = match (current, slot.assigned.filter(|_| blank)) {
                    (Some(layer), _) => (layer.participant, layer.id),
                    (None, Some(track)) => (track.participant, track.id),
                    (None, None) => return None,
                };
                let owner = self.participants.get(participant as usize)?.id;
                let rtp_timestamp = slot.forwarder.report_timestamp(ctx.now.nanos);
                let shows = SlotSource { participant: owner, track, rtp_timestamp };
                Some((i as u32, shows, slot.reason.filter(|_| current.is_none())))
            })
            .collect();
        for (slot, shows, reason) in shown {
            self.tell_slot(ctx, SlotRef { participant: index, slot }, Some(shows), reason);
        }
    }

    pub(super) fn tell_slot(
        &mut self,
        ctx: &mut Context<'_>,
        at: SlotRef,
        shows: Option<SlotSource>,
        reason: Option<SlotReason>,
    ) {
        let participant = &self.participants[at.participant as usize];
        let change = SlotChange { mid: participant.slots[at.slot as usize].mid.clone(), shows, reason };
        if let Some(Event::Slots { participant: last, changes }) = ctx.events.back_mut()
            && *last == participant.id
        {
            changes.push(change);
            return;
        }
        ctx.events.push_back(Event::Slots { participant: participant.id, changes: vec![change] });
    }

    fn list(&mut self, now: Instant, layer: LayerRef, slot: SlotRef) {
        // In order, so that the slots of one participant are served together.
        if let Some(layer) = self.layer_mut(layer)
            && let Err(place) = layer.subscribers.binary_search(&slot)
        {
            layer.subscribers.insert(place, slot);
            self.carriers.subscribers_changed = true;
            self.wake(now, slot.participant);
        }
    }

    fn unlist(&mut self, layer: LayerRef, slot: SlotRef) {
        self.carriers.subscribers_changed = true;
        if let Some(layer) = self.layer_mut(layer) {
            layer.subscribers.retain(|s| *s != slot);
        }
    }

    /// A slot is in no layer's list any more.
    pub(super) fn detach(&mut self, at: SlotRef) {
        let forwarder = &self.participants[at.participant as usize].slots[at.slot as usize].forwarder;
        let layers = [forwarder.current(), forwarder.target()];
        for layer in layers.into_iter().flatten() {
            self.unlist(layer, at);
        }
    }

    /// What waits to be sent in a slot is of no use any more.
    pub(super) fn drop_waiting(&mut self, at: SlotRef) {
        let participant = &mut self.participants[at.participant as usize];
        let (ssrc, rtx_ssrc) =
            (participant.slots[at.slot as usize].ssrc, participant.slots[at.slot as usize].rtx_ssrc);
        if let Some(transport) = participant.transport.as_mut() {
            transport.drop_waiting(ssrc);
            transport.drop_waiting(rtx_ssrc);
        }
    }

    /// A participant's slots are in no layer's list any more.
    pub(super) fn unsubscribe_all(&mut self, index: u32) {
        self.carriers.subscribers_changed = true;
        let slots = self.participants.get(index as usize).map(|p| &p.slots);
        let slots: Vec<u32> = slots.into_iter().flatten().map(|(i, _)| i as u32).collect();
        for slot in slots {
            self.detach(SlotRef { participant: index, slot });
        }
    }

    /// The slots that an offer ends are in no layer's list any more.
    pub(super) fn unsubscribe_ended(&mut self, index: u32, negotiation: &Negotiation) {
        let goes_on = |mid: &Mid| {
            let mut sections = negotiation.sections.iter();
            sections.any(|s| s.mid == *mid && matches!(s.usage, SectionUse::Slot(_)))
        };
        let ended: Vec<u32> = self.participants[index as usize]
            .slots
            .iter()
            .filter(|(_, s)| !goes_on(&s.mid))
            .map(|(i, _)| i as u32)
            .collect();
        for slot in ended {
            self.detach(SlotRef { participant: index, slot });
        }
    }

    /// A track is gone: slots that show it show nothing.
    pub(super) fn clear_slots_of(&mut self, ctx: &mut Context<'_>, track: TrackId) {
        for index in self.indices() {
            let showing: Vec<u32> = self.participants[index as usize]
                .slots
                .iter()
                .filter(|(_, s)| {
                    let layers = [s.forwarder.current(), s.forwarder.target()];
                    s.assigned.is_some_and(|t| t.id == track)
                        || layers.iter().flatten().any(|l| l.id == track)
                })
                .map(|(i, _)| i as u32)
                .collect();
            for slot in showing {
                let at = SlotRef { participant: index, slot };
                let assigned = self.participants[index as usize].slots[slot as usize].assigned;
                if assigned.is_some_and(|t| t.id != track) {
                    // It waits for another track already; only the old picture ends.
                    self.end_picture(at);
                } else {
                    self.set_assigned(ctx, at, None, SlotReason::Gone);
                }
            }
        }
    }

    fn end_picture(&mut self, at: SlotRef) {
        let forwarder = &mut self.participants[at.participant as usize].slots[at.slot as usize].forwarder;
        let target = forwarder.target();
        forwarder.stop();
        forwarder.set_target(target);
    }
}
