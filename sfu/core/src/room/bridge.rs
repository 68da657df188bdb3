//! What the other workers that carry the room are told of those who are here, and sent of their media.

use smallvec::SmallVec;

use crate::bridge::lanes::Bridges;
use crate::bridge::packet::{BridgePacket, BridgeReport, StreamId};
use crate::bridge::{LayerView, News, TrackNews};
use crate::context::Context;
use crate::drops::DropReason;
use crate::forward::forwarder::LayerRef;
use crate::ids::{ParticipantId, TrackId, WorkerId};
use crate::layer::Layer;
use crate::media::MediaKind;
use crate::receive::key_frame::KeyFrameReason;
use crate::rtcp::SenderInfo;
use crate::track::Track;
use crate::uplink::Received;

use super::Room;

/// The other workers that carry the room.
#[derive(Debug, Default)]
pub(super) struct Carriers {
    workers: SmallVec<[WorkerId; 4]>,
    /// Those that were not told how layers are, since they were far behind.
    missed: SmallVec<[WorkerId; 1]>,
    /// Layers have other subscribers than when it was looked which are to be taken.
    pub(super) subscribers_changed: bool,
    /// How many participants of the room are mirrors.
    pub(super) mirrors: usize,
}

impl Carriers {
    /// Who they are.
    pub(super) fn workers(&self) -> &[WorkerId] {
        &self.workers
    }

    /// Another one; `false` when it is known.
    pub(super) fn add(&mut self, worker: WorkerId) -> bool {
        let new = !self.workers.contains(&worker);
        if new {
            self.workers.push(worker);
        }
        new
    }

    /// One less.
    pub(super) fn remove(&mut self, worker: WorkerId) {
        self.workers.retain(|w| *w != worker);
        self.missed.retain(|w| *w != worker);
    }
}

impl Room {
    /// The room has a shard here from now on.
    pub fn open_bridges(&self, ctx: &mut Context<'_>) {
        ctx.bridges.tell_all(self.id, &News::Hello);
    }

    /// Says the same to a worker that has missed what it was told.
    pub fn greet(&self, ctx: &mut Context<'_>, worker: WorkerId) {
        ctx.bridges.tell_standing(worker, self.id, News::Hello);
    }

    /// The room has no shard here any more.
    pub fn close_bridges(&mut self, ctx: &mut Context<'_>) {
        for worker in std::mem::take(&mut self.carriers.workers) {
            self.drop_mirrors(ctx, worker);
        }
        // To all: some may have taken the hello without having answered yet.
        ctx.bridges.tell_all(self.id, &News::Goodbye);
    }

    /// Whether nobody is here who is at home here.
    pub fn is_deserted(&self) -> bool {
        self.participants.len() == self.carriers.mirrors
    }

    /// Tells all others who carry the room.
    pub(super) fn carry(&self, ctx: &mut Context<'_>, news: &News) {
        for worker in self.carriers.workers() {
            ctx.bridges.tell(*worker, self.id, news.clone());
        }
    }

    /// Tells all others what a track is now.
    pub(super) fn carry_track(&self, ctx: &mut Context<'_>, index: u32, track: u32) {
        if self.carriers.workers.is_empty() {
            return;
        }
        if let Some(news) = self.track_news(ctx, index, track) {
            self.carry(ctx, &News::Track(Box::new(news)));
        }
    }

    /// Tells somebody who has just come all there is to know.
    pub(super) fn tell_everything(&self, ctx: &mut Context<'_>, to: WorkerId) {
        for (index, participant) in self.participants.iter().filter(|(_, p)| p.mirror.is_none()) {
            let id = participant.id;
            if let Some(peer) = self.relay.peer(id) {
                ctx.bridges.tell_standing(to, self.id, News::Joined { participant: id, peer });
            }
            for (t, _) in &participant.tracks {
                if let Some(news) = self.track_news(ctx, index as u32, t as u32) {
                    ctx.bridges.tell_standing(to, self.id, News::Track(Box::new(news)));
                }
            }
        }
        self.tell_views(ctx, to);
    }

    /// Tells somebody what the layers of all pictures here are like, as the others know already.
    fn tell_views(&self, ctx: &mut Context<'_>, to: WorkerId) {
        for (_, participant) in self.participants.iter().filter(|(_, p)| p.mirror.is_none()) {
            for (_, track) in participant.tracks.iter().filter(|(_, t)| t.kind == MediaKind::Video) {
                let views = track.layers.iter().map(|layer| layer.takers.told.clone()).collect();
                ctx.bridges.tell_standing(to, self.id, layers_news(participant.id, track, views));
            }
        }
    }

    fn track_news(&self, ctx: &Context<'_>, index: u32, track: u32) -> Option<TrackNews> {
        let participant = self.participants.get(index as usize)?;
        let track = participant.tracks.get(track as usize)?;
        let age = ctx.now.instant.saturating_duration_since(track.published_at);
        Some(TrackNews {
            participant: participant.id,
            reachable: participant.is_reachable(),
            id: track.id,
            mid: track.mid.clone(),
            section: track.section(),
            source: track.source,
            muted: track.muted,
            published: ctx.now.nanos - age.as_nanos() as i64,
            extensions: participant.extensions(),
        })
    }

    /// Tells all others what the layers of the pictures here are like, where that has changed.
    pub(super) fn carry_views(&mut self, ctx: &mut Context<'_>) {
        if self.carriers.workers.is_empty() {
            return;
        }
        let caught_up = |worker: &&WorkerId| !ctx.bridges.is_behind(**worker);
        if let Some(worker) = self.carriers.missed.iter().find(caught_up).copied() {
            self.carriers.missed.retain(|w| *w != worker);
            self.tell_views(ctx, worker);
        }
        let Self { id: room, participants, carriers, .. } = self;
        for (_, participant) in participants.iter_mut().filter(|(_, p)| p.mirror.is_none()) {
            let id = participant.id;
            for (_, track) in participant.tracks.iter_mut().filter(|(_, t)| t.kind == MediaKind::Video) {
                let view =
                    |l: &Layer| LayerView { size: l.size, sublayers: l.sublayers(ctx.now.instant).to_vec() };
                let views: Vec<LayerView> = track.layers.iter().map(view).collect();
                let asked = track.demand.told_layers();
                let told = |(view, layer): (&LayerView, &Layer)| !view.differs(&layer.takers.told);
                if track.asked_as_told == asked && views.iter().zip(&track.layers).all(told) {
                    continue;
                }
                track.asked_as_told = asked;
                for (layer, view) in track.layers.iter_mut().zip(&views) {
                    layer.takers.told.clone_from(view);
                }
                let news = layers_news(id, track, views);
                for worker in &carriers.workers {
                    if !ctx.bridges.is_behind(*worker) {
                        ctx.bridges.tell(*worker, *room, news.clone());
                    } else if !carriers.missed.contains(worker) {
                        carriers.missed.push(*worker);
                    }
                }
            }
        }
    }

    /// Sends a packet to the workers that take its layer.
    pub(super) fn carry_packet(&self, ctx: &mut Context<'_>, from: LayerRef, received: &Received<'_>) {
        if self.carriers.workers.is_empty() {
            return;
        }
        let Some(participant) = self.participants.get(from.participant as usize) else { return };
        let Some(track) = participant.tracks.get(from.track as usize) else { return };
        let Some(layer) = track.layers.get(from.layer as usize) else { return };
        let takers = self.takers(track, layer);
        if participant.mirror.is_some() || takers.is_empty() {
            return;
        }
        let incoming = &received.incoming;
        // As it is kept for repairs: decrypted, unwrapped, without padding.
        let Some((bytes, meta)) = layer.history.get(ctx.now.instant, incoming.seq) else { return };
        let stream = StreamId { track: from.id, layer: from.layer, generation: incoming.generation };
        let packet =
            BridgePacket { stream, repaired: received.repaired, arrived: ctx.now.nanos, packet: bytes };
        let header = &meta.header;
        for worker in takers {
            let write = |out: &mut Vec<u8>| packet.write(header.payload_type, header.seq, out);
            if !ctx.bridges.record(*worker, self.index, from, write) {
                ctx.drops.count(DropReason::BridgeFull);
            }
        }
    }

    /// Sends a sender report to the workers that take its layer, and keeps it for those that will.
    pub(super) fn carry_report(&mut self, ctx: &mut Context<'_>, from: LayerRef, info: &SenderInfo) {
        let arrived = ctx.now.nanos;
        let Some(layer) = self.layer_mut(from) else { return };
        let stream = StreamId { track: from.id, layer: from.layer, generation: layer.generation };
        let report = BridgeReport { stream, arrived, ntp: info.ntp, rtp_timestamp: info.rtp_timestamp };
        layer.takers.report = Some(report);
        let Some(track) = self.participants[from.participant as usize].tracks.get(from.track as usize) else {
            return;
        };
        let takers = track.layers.get(from.layer as usize).map(|layer| self.takers(track, layer));
        for worker in takers.unwrap_or_default() {
            ctx.bridges.record(*worker, self.index, from, |out| report.write(out));
        }
    }

    /// The workers that take a layer: sound goes to all, since every one of them has listeners.
    fn takers<'a>(&'a self, track: &Track, layer: &'a Layer) -> &'a [WorkerId] {
        match track.kind {
            MediaKind::Audio => &self.carriers.workers,
            MediaKind::Video => &layer.takers.workers,
        }
    }

    /// A worker takes a layer from now on, or no longer.
    pub(super) fn on_take(&mut self, bridges: &mut Bridges, worker: WorkerId, at: LayerRef, on: bool) {
        let index = self.index;
        let Some(layer) = self.layer_mut(at) else { return };
        if layer.takers.set(worker, on)
            && on
            && let Some(report) = layer.takers.report
        {
            bridges.record(worker, index, at, |out| report.write(out));
        }
    }

    /// What a worker should have had of a layer found the way full: only a key frame helps those who look there.
    pub fn on_bridge_full(&mut self, now: std::time::Instant, at: LayerRef) {
        if self.layer_mut(at).is_some_and(|layer| !layer.takers.workers.is_empty()) {
            self.request_key_frame(now, at, KeyFrameReason::Loss);
        }
    }

    /// A worker carries the room no longer: nothing of what is here is for it.
    pub(super) fn release_takers(&mut self, worker: WorkerId) {
        for (_, participant) in self.participants.iter_mut().filter(|(_, p)| p.mirror.is_none()) {
            for (_, track) in &mut participant.tracks {
                track.wanted_elsewhere.retain(|(w, _)| *w != worker);
                for layer in &mut track.layers {
                    layer.takers.set(worker, false);
                }
            }
        }
    }

    /// The layer of somebody who is at home here.
    pub(super) fn own_layer(
        &self,
        participant: ParticipantId,
        track: TrackId,
        layer: u8,
    ) -> Option<LayerRef> {
        let index = self.index_of(participant)?;
        let owner = self.participants.get(index as usize).filter(|p| p.mirror.is_none())?;
        let (t, found) = owner.tracks.iter().find(|(_, t)| t.id == track)?;
        let at = LayerRef { participant: index, track: t as u32, layer, id: track };
        found.layers.get(layer as usize).map(|_| at)
    }
}

fn layers_news(participant: ParticipantId, track: &Track, layers: Vec<LayerView>) -> News {
    News::Layers { participant, track: track.id, asked: track.demand.told_layers(), layers }
}
