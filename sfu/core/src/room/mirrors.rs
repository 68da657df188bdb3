//! Those who are on other workers: what is told of them, what comes of their media, and what is asked of their homes.

use std::time::{Duration, Instant};

use crate::bridge::lanes::MirrorPlace;
use crate::bridge::packet::Record;
use crate::bridge::{LayerView, News, TrackNews};
use crate::context::Context;
use crate::drops::DropReason;
use crate::ids::{ParticipantId, TrackId, WorkerId};
use crate::media::{MediaKind, Source};
use crate::mirror::{Mirror, Told};
use crate::receive::key_frame::KeyFrameReason;
use crate::track::Track;

use super::Room;

impl Room {
    /// Takes what another worker tells.
    pub fn handle_news(&mut self, ctx: &mut Context<'_>, from: WorkerId, news: News) {
        match news {
            News::Hello => {
                self.forget_worker(ctx, from);
                ctx.bridges.forget_room(from, self.id);
                self.carriers.add(from);
                ctx.bridges.tell_standing(from, self.id, News::Here);
                self.tell_everything(ctx, from);
            }
            News::Here => {
                self.drop_mirrors(ctx, from);
                if self.carriers.add(from) {
                    self.tell_everything(ctx, from);
                }
            }
            News::Goodbye => self.forget_worker(ctx, from),
            // From before it said hello to this shard.
            _ if !self.carriers.workers().contains(&from) => {}
            News::Joined { participant, peer } => {
                if self.index_of(participant).is_none_or(|i| self.is_mirror(i, from)) {
                    self.relay.add_elsewhere(participant, peer, from);
                }
            }
            News::Left { participant } => {
                self.relay.remove_elsewhere(participant, from);
                if let Some(index) = self.mirror_of(participant, from) {
                    self.drop_mirror(ctx, index);
                }
                self.drain_data(ctx);
            }
            News::Track(track) => self.on_track(ctx, from, &track),
            News::TrackGone { participant, track } => self.on_track_gone(ctx, from, participant, track),
            News::Reachable { participant, reachable } => {
                if let Some(index) = self.mirror_of(participant, from)
                    && let Some(mirror) = self.participants[index as usize].mirror.as_mut()
                {
                    mirror.reachable = reachable;
                    self.assign_soon(ctx.now.instant);
                }
            }
            News::Layers { participant, track, asked, layers } => {
                self.on_layers(ctx.now.instant, from, participant, track, asked, &layers);
            }
            news => self.on_wish(ctx, from, news),
        }
    }

    /// Takes what another worker wants of those who are here.
    fn on_wish(&mut self, ctx: &mut Context<'_>, from: WorkerId, news: News) {
        match news {
            News::Wanted { participant, track, layers } => {
                let Some(at) = self.own_layer(participant, track, 0) else { return };
                let owner = &mut self.participants[at.participant as usize];
                let Some(track) = owner.tracks.get_mut(at.track as usize) else { return };
                track.wanted_elsewhere.retain(|(worker, _)| *worker != from);
                track.wanted_elsewhere.push((from, layers));
                self.retarget_now(ctx.now.instant);
            }
            News::Take { participant, track, layer, on } => {
                if let Some(at) = self.own_layer(participant, track, layer) {
                    self.on_take(ctx.bridges, from, at, on);
                }
            }
            News::KeyFrame { participant, track, layer } => {
                if let Some(at) = self.own_layer(participant, track, layer) {
                    // Whether one that has just come is the one that is asked for was judged over there.
                    self.request_key_frame(ctx.now.instant, at, KeyFrameReason::Switch);
                }
            }
            News::Data(message) => {
                self.relay.handle_across(ctx.now.instant, from, *message);
                self.drain_data(ctx);
            }
            News::DataTaken { sender, bytes } => {
                self.relay.handle_taken(ctx.now.instant, from, sender, bytes);
                self.drain_data(ctx);
            }
            _ => {}
        }
    }

    /// Takes a packet or a sender report of a mirror.
    pub fn handle_record(
        &mut self,
        ctx: &mut Context<'_>,
        from: WorkerId,
        place: MirrorPlace,
        record: &Record<'_>,
    ) {
        if !self.is_mirror(place.participant, from) {
            return ctx.drops.count(DropReason::BridgeStale);
        }
        self.hurry(ctx.now.instant, place.participant);
        let participant = &mut self.participants[place.participant as usize];
        let result = match record {
            Record::Packet(packet) => match participant.receive_bridged(&ctx.now, place.track, packet) {
                Ok(received) => {
                    self.take_received(ctx, place.participant, &received);
                    Ok(())
                }
                Err(reason) => Err(reason),
            },
            Record::Report(report) => participant.receive_report(place.track, report),
        };
        if let Err(reason) = result {
            ctx.drop_packet(&mut self.participants[place.participant as usize].drops, reason);
        }
    }

    /// A worker carries the room no longer.
    pub fn forget_worker(&mut self, ctx: &mut Context<'_>, worker: WorkerId) {
        self.carriers.remove(worker);
        self.release_takers(worker);
        self.drop_mirrors(ctx, worker);
    }

    /// Nobody is known on that worker any more.
    pub(super) fn drop_mirrors(&mut self, ctx: &mut Context<'_>, worker: WorkerId) {
        for index in self.indices() {
            if self.is_mirror(index, worker) {
                self.drop_mirror(ctx, index);
            }
        }
        self.relay.forget_worker(ctx.now.instant, worker);
        self.drain_data(ctx);
    }

    fn drop_mirror(&mut self, ctx: &mut Context<'_>, index: u32) {
        let participant = &self.participants[index as usize];
        let tracks: Vec<TrackId> = participant.tracks.iter().map(|(_, t)| t.id).collect();
        for track in tracks {
            self.drop_track(ctx, index, track);
        }
        let participant = self.participants.remove(index as usize);
        self.agenda.set(index, None);
        self.index_by_participant.remove(&participant.id);
        self.speakers.remove(participant.id);
        self.carriers.mirrors -= 1;
        self.assign_soon(ctx.now.instant);
    }

    fn on_track(&mut self, ctx: &mut Context<'_>, from: WorkerId, news: &TrackNews) {
        let now = ctx.now.instant;
        let index = match self.index_of(news.participant) {
            Some(index) if self.is_mirror(index, from) => index,
            Some(_) => return,
            None => self.insert_mirror(now, from, news.participant),
        };
        let participant = &mut self.participants[index as usize];
        if let Some(mirror) = participant.mirror.as_mut() {
            mirror.reachable = news.reachable;
            mirror.extensions = news.extensions;
        }
        let known = participant.tracks.iter().find(|(_, t)| t.id == news.id).map(|(i, _)| i);
        let track_index = known.unwrap_or_else(|| {
            let mid = news.mid.clone();
            participant.tracks.insert(Track::new(news.id, mid, &news.section, news.source, news.muted, now))
        });
        let track = &mut participant.tracks[track_index];
        let age = Duration::from_nanos(u64::try_from(ctx.now.nanos - news.published).unwrap_or(0));
        track.published_at = now.checked_sub(age).unwrap_or(now);
        track.update(&news.section, now);
        track.source = news.source;
        track.set_muted(news.muted);
        for layer in &mut track.layers {
            layer.told.get_or_insert_default();
        }
        if news.muted && news.source == Source::Microphone {
            self.speakers.remove(news.participant);
        }
        let place = MirrorPlace { room: self.index, participant: index, track: track_index as u32 };
        ctx.bridges.add_track(news.id, place);
        self.assign_soon(now);
        self.retarget_now(now);
    }

    fn on_track_gone(
        &mut self,
        ctx: &mut Context<'_>,
        from: WorkerId,
        participant: ParticipantId,
        track: TrackId,
    ) {
        let Some(index) = self.mirror_of(participant, from) else { return };
        self.drop_track(ctx, index, track);
        if self.participants[index as usize].tracks.is_empty() {
            self.drop_mirror(ctx, index);
        }
    }

    /// Nothing may point at the track of a mirror any more.
    fn drop_track(&mut self, ctx: &mut Context<'_>, index: u32, id: TrackId) {
        let participant = &mut self.participants[index as usize];
        let Some(home) = participant.mirror.as_ref().map(|m| m.home) else { return };
        let Some(t) = participant.tracks.iter().find(|(_, t)| t.id == id).map(|(i, _)| i) else { return };
        let track = participant.tracks.remove(t);
        let owner = participant.id;
        for (l, _) in track.layers.iter().enumerate().filter(|(_, l)| is_taken(l.told.as_deref())) {
            let news = News::Take { participant: owner, track: id, layer: l as u8, on: false };
            ctx.bridges.tell(home, self.id, news);
        }
        ctx.bridges.remove_track(id);
        self.clear_slots_of(ctx, id);
        self.assign_soon(ctx.now.instant);
    }

    fn on_layers(
        &mut self,
        now: Instant,
        from: WorkerId,
        participant: ParticipantId,
        track: TrackId,
        asked: u8,
        views: &[LayerView],
    ) {
        let Some(index) = self.mirror_of(participant, from) else { return };
        let mut tracks = self.participants[index as usize].tracks.iter_mut();
        let Some((_, track)) = tracks.find(|(_, t)| t.id == track) else { return };
        track.demand.set_told(asked);
        let mut flow_changed = false;
        for (layer, view) in track.layers.iter_mut().zip(views) {
            layer.size = view.size;
            let Some(told) = layer.told.as_mut() else { continue };
            let flows = |s: &[_]| s.iter().any(|s: &crate::receive::sublayers::SubLayerView| s.flowing);
            flow_changed |= flows(&told.sublayers) != flows(&view.sublayers);
            told.sublayers.clear();
            told.sublayers.extend_from_slice(&view.sublayers);
        }
        if flow_changed {
            self.retarget_now(now);
        }
    }

    fn retarget_now(&mut self, now: Instant) {
        self.retarget_at = now;
        self.tick_at(now);
    }

    fn insert_mirror(&mut self, now: Instant, home: WorkerId, id: ParticipantId) -> u32 {
        let index = self.insert(now, id);
        let mirror = Mirror { home, reachable: true, extensions: crate::media::ExtensionIds::default() };
        self.participants[index as usize].mirror = Some(Box::new(mirror));
        self.carriers.mirrors += 1;
        index
    }

    fn is_mirror(&self, index: u32, home: WorkerId) -> bool {
        let mirror = self.participants.get(index as usize).and_then(|p| p.mirror.as_ref());
        mirror.is_some_and(|m| m.home == home)
    }

    fn mirror_of(&self, participant: ParticipantId, home: WorkerId) -> Option<u32> {
        self.index_of(participant).filter(|i| self.is_mirror(*i, home))
    }

    /// Tells homes which layers of their tracks are wanted here, where that has changed.
    pub(super) fn tell_homes(&mut self, ctx: &mut Context<'_>) {
        if self.carriers.mirrors == 0 {
            return;
        }
        for (_, participant) in &mut self.participants {
            let Some(home) = participant.mirror.as_ref().map(|m| m.home) else { continue };
            for (_, track) in participant.tracks.iter_mut().filter(|(_, t)| t.kind == MediaKind::Video) {
                let layers = track.demand.wanted();
                if track.wanted_elsewhere.as_slice() == [(home, layers)] {
                    continue;
                }
                track.wanted_elsewhere.clear();
                track.wanted_elsewhere.push((home, layers));
                let news = News::Wanted { participant: participant.id, track: track.id, layers };
                ctx.bridges.tell(home, self.id, news);
            }
        }
    }

    /// Takes the layers of mirrors that are shown here, and no others.
    pub(super) fn take_layers(&mut self, ctx: &mut Context<'_>) {
        if !std::mem::take(&mut self.carriers.subscribers_changed) || self.carriers.mirrors == 0 {
            return;
        }
        for (_, participant) in &mut self.participants {
            let Some(home) = participant.mirror.as_ref().map(|m| m.home) else { continue };
            let id = participant.id;
            for (_, track) in participant.tracks.iter_mut().filter(|(_, t)| t.kind == MediaKind::Video) {
                for (index, layer) in track.layers.iter_mut().enumerate() {
                    let shown = !layer.subscribers.is_empty();
                    let Some(told) = layer.told.as_mut() else { continue };
                    if std::mem::replace(&mut told.taken, shown) == shown {
                        continue;
                    }
                    if shown {
                        // Much may have passed since it was taken last.
                        layer.restart();
                    }
                    let (track, layer) = (track.id, index as u8);
                    let news = News::Take { participant: id, track, layer, on: shown };
                    ctx.bridges.tell(home, self.id, news);
                }
            }
        }
    }

    /// Does what is due for a mirror, and finds out when to look at it again: asks for the key frames that are waited for.
    pub(super) fn tick_mirror(&mut self, ctx: &mut Context<'_>, index: u32) {
        let now = ctx.now.instant;
        self.wake_subscribers(now, index);
        let participant = &mut self.participants[index as usize];
        let Some(home) = participant.mirror.as_ref().map(|m| m.home) else { return };
        for (_, track) in participant.tracks.iter_mut().filter(|(_, t)| t.kind == MediaKind::Video) {
            for (l, layer) in track.layers.iter_mut().enumerate() {
                if layer.subscribers.is_empty() || track.muted {
                    layer.key_frames.cancel();
                } else if layer.key_frames.poll(now) {
                    let (participant, track, layer) = (participant.id, track.id, l as u8);
                    ctx.bridges.tell(home, self.id, News::KeyFrame { participant, track, layer });
                }
            }
        }
        if participant.reports_at <= now {
            participant.reports_at = now + RELEASE_INTERVAL;
            participant.release_idle(now);
        }
        let next = participant.pulse.next_look(now);
        self.agenda.set(index, next);
    }
}

/// When to give back what layers that have ceased still hold.
const RELEASE_INTERVAL: Duration = Duration::from_secs(1);

fn is_taken(told: Option<&Told>) -> bool {
    told.is_some_and(|told| told.taken)
}
