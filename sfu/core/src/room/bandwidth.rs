//! What each subscriber's network carries, shared among their slots.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::allocation::{Budget, Demand, Level, Rank, allocate};
use crate::context::Context;
use crate::control::{SlotReason, SlotSource};
use crate::ids::ParticipantId;
use crate::ladder::Levels;
use crate::layer::SlotRef;
use crate::media::{MediaKind, Source};
use crate::participant::Participant;
use crate::share::Change;
use crate::timeline::{Decision, LayerReason};
use crate::transport::Transport;

use super::Room;

/// Pictures vary in what they take: more than the best of them take on average is of use.
const USEFUL_MARGIN: f64 = 1.3;

/// The queue before a slow line is full when packets wait there for so long.
const CONGESTED: Duration = Duration::from_millis(150);

/// Pictures leave at up to so many times what the network is estimated to carry: key frames are larger than others.
const PACING_FACTOR: f64 = 1.5;

/// Where the network carries clearly more than is given: usual frames leave whole, and only key frames are spread. With 30
/// frames a second and an estimate of half as much again as they take, which is what probes look for, that is a burst of
/// [`BURST`](crate::transport::pacer::BURST) at five times the estimate.
const AMPLE_PACING_FACTOR: f64 = 5.0;

/// The same where only losses tell what the network carries, which bursts must not make.
const LOOSE_PACING_FACTOR: f64 = 4.0;

/// Before anything bad is known of a new network: the first pictures shall come soon.
const FIRST_PACING_FACTOR: f64 = 6.0;

/// No line is paced slower than this, in bits per second.
const MIN_PACING: u64 = 100_000;

/// A video slot that wants a picture.
pub(super) struct Wanting {
    pub(super) slot: u32,
    pub(super) rank: Rank,
    pub(super) levels: Levels,
    pub(super) shown: Option<usize>,
    pub(super) highest: usize,
    pub(super) best: u64,
    /// It is paused, and not yet to be tried.
    pub(super) waiting: bool,
}

/// What there is to share among a subscriber's slots, in bits per second.
#[derive(Clone, Copy)]
struct Supply {
    /// What the network is estimated to carry; `None` where the client tells nothing about it.
    estimate: Option<u64>,
    /// What voices take, with their redundancy.
    sound: u64,
    /// What all would take at its best.
    wanted: u64,
    /// What is there for pictures.
    pictures: Budget,
    /// A queue waits before a slow line.
    congested: bool,
    /// Nothing comes back, so that the estimate means little.
    blind: bool,
}

impl Room {
    /// Measures what all pictures of the room take.
    pub(super) fn refresh_ladders(&mut self, now: Instant) {
        for (_, participant) in &mut self.participants {
            for (_, track) in participant.tracks.iter_mut().filter(|(_, t)| t.kind == MediaKind::Video) {
                track.ladder.refresh(now, &track.layers, &track.demand);
                track.demand.begin();
            }
        }
    }

    /// Shares what a subscriber's network carries among their video slots.
    pub(super) fn share_bandwidth(&mut self, ctx: &mut Context<'_>, index: u32) {
        let now = ctx.now.instant;
        let mut wanting = self.wanting(index);
        let voices = self.sound_bits(now, index);
        let subscriber = &mut self.participants[index as usize];
        let Some(supply) = supply(subscriber, now, &wanting, voices) else { return };
        let shown = wanting.iter().map(Wanting::shown_bits).sum();
        let patience = subscriber.patience(now, supply.pictures.bits, shown);
        let known = supply.pictures.bits.min(supply.pictures.proven);
        recall(subscriber, now, &mut wanting, known.saturating_sub(shown));
        let demands: SmallVec<[Demand<'_>; 16]> = wanting.iter().map(Wanting::demand).collect();
        let mut given = std::mem::take(&mut self.given);
        let left = allocate(supply.pictures, patience, &demands, &mut given);
        drop(demands);
        if supply.blind {
            self.keep_all(now, index, &wanting, &mut given);
        } else {
            self.try_paused(now, index, &wanting, &mut given, supply.congested);
        }
        let allocated = self.give_all(ctx, index, &wanting, &given, left);
        self.given = given;
        let offered = wanting.iter().filter_map(|w| w.levels.last()).map(|l| l.bits).sum::<u64>();
        let subscriber = &mut self.participants[index as usize];
        subscriber.wanted_bits = supply.wanted;
        subscriber.offered_bits = offered + supply.sound;
        subscriber.allocated_bits = allocated + supply.sound;
        subscriber.shared_estimate = supply.estimate.unwrap_or(u64::MAX);
        if let Some(estimate) = supply.estimate {
            pace(subscriber, estimate, supply.congested);
            subscriber.limit_repairs();
            subscriber.note_estimate(ctx.now.unix_ms(), estimate);
        }
    }

    /// Gives all slots their shares; `left` is over. Returns what the pictures take.
    fn give_all(
        &mut self,
        ctx: &mut Context<'_>,
        index: u32,
        wanting: &[Wanting],
        given: &[Option<usize>],
        left: u64,
    ) -> u64 {
        let mut allocated = 0;
        for (want, given) in wanting.iter().zip(given) {
            let bits = given.and_then(|g| want.levels.get(g)).map_or(0, |l| l.bits);
            allocated += bits;
            self.wish_layers(index, want, *given, left.saturating_add(bits));
            let at = SlotRef { participant: index, slot: want.slot };
            self.give(ctx, at, want, *given);
            self.starve(ctx, at, left.saturating_add(bits));
        }
        allocated
    }

    /// The video slots of a subscriber that have something to show, with what they can choose from.
    fn wanting(&self, index: u32) -> SmallVec<[Wanting; 8]> {
        let subscriber = &self.participants[index as usize];
        let mut wanting = SmallVec::new();
        for (i, slot) in &subscriber.slots {
            if slot.kind != MediaKind::Video || !slot.wants_media() {
                continue;
            }
            let Some((at, track)) = slot.assigned.and_then(|t| Some((t, self.track(t)?))) else { continue };
            let owner = self.participants[at.participant as usize].id;
            let rank = self.rank_of(subscriber, owner, track.source);
            let mut levels = track.ladder.levels(slot.wanted_size);
            let decodable = slot.reason != Some(SlotReason::NoCommonCodec) && track.suits(&slot.codecs);
            if !decodable {
                // It waits for another codec, and takes nothing until then.
                levels.iter_mut().for_each(|level| level.bits = 0);
            }
            let (shown, highest) = (slot.share.shown(&levels), levels.len());
            let best = track.ladder.best(slot.wanted_size).filter(|_| decodable).map_or(0, |l| l.bits);
            wanting.push(Wanting { slot: i as u32, rank, levels, shown, highest, best, waiting: false });
        }
        wanting
    }

    /// How much a subscriber wants to see a track of `owner`.
    fn rank_of(&self, subscriber: &Participant, owner: ParticipantId, source: Source) -> Rank {
        if subscriber.subscription.pinned.contains(&owner) {
            Rank::Pinned
        } else if source == Source::Screen {
            Rank::Screen
        } else if self.speaker.is_some_and(|(id, _)| id == owner) {
            Rank::Speaker
        } else {
            Rank::Rest
        }
    }

    /// What the voices in a subscriber's slots take, without redundancy.
    fn sound_bits(&self, now: Instant, index: u32) -> u64 {
        let slots = self.participants[index as usize].slots.iter();
        let heard = slots.filter(|(_, s)| s.kind == MediaKind::Audio && s.wants_media());
        let track = heard.filter_map(|(_, s)| self.track(s.assigned?));
        track.flat_map(|t| t.layers.iter()).map(|l| l.rate.rates(now).bits).sum()
    }

    /// What is new, and what is paused since long, is tried: one at a time, the most wanted first.
    fn try_paused(
        &mut self,
        now: Instant,
        index: u32,
        wanting: &[Wanting],
        given: &mut [Option<usize>],
        congested: bool,
    ) {
        let slots = &mut self.participants[index as usize].slots;
        let mut order: SmallVec<[usize; 8]> = (0..wanting.len()).filter(|&i| given[i].is_none()).collect();
        order.sort_by_key(|&i| wanting[i].rank);
        for (want, _) in wanting.iter().zip(&*given).filter(|(_, given)| given.is_some()) {
            slots[want.slot as usize].share.release();
        }
        if order.len() == wanting.len()
            && let Some(&i) = order.iter().find(|&&i| slots[wanting[i].slot as usize].share.is_held(now))
        {
            given[i] = Some(0);
            return;
        }
        let mut trying = false;
        for &i in &order {
            if slots[wanting[i].slot as usize].share.is_on_trial(now, congested) {
                given[i] = Some(0);
                trying = true;
            }
        }
        let mut begin = |i: &&usize| slots[wanting[**i].slot as usize].share.begin_trial(now, congested);
        if !trying && let Some(&i) = order.iter().find(&mut begin) {
            given[i] = Some(0);
        }
    }

    /// Where nothing is known, because nothing comes back, no picture is paused; and when the network is back, all of them are
    /// tried before that.
    fn keep_all(&mut self, now: Instant, index: u32, wanting: &[Wanting], given: &mut [Option<usize>]) {
        let slots = &mut self.participants[index as usize].slots;
        for (want, given) in wanting.iter().zip(given) {
            let share = &mut slots[want.slot as usize].share;
            if share.level().is_some() {
                share.extend_trial(now);
                *given = given.or(Some(0));
            }
        }
    }

    /// Gives a slot its share, and tells when its picture pauses.
    fn give(&mut self, ctx: &mut Context<'_>, at: SlotRef, want: &Wanting, given: Option<usize>) {
        let subscriber = &mut self.participants[at.participant as usize];
        let slot = &mut subscriber.slots[at.slot as usize];
        let Some(assigned) = slot.assigned else { return };
        let before = slot.share.level();
        match slot.share.give(ctx.now.instant, given, &want.levels) {
            Change::None if slot.share.is_paused() => {}
            Change::None => self.retarget(ctx, at),
            Change::Paused => self.pause(ctx, at),
            Change::Level => {
                let Some(level) = slot.share.level() else { return };
                let mid = slot.mid.clone();
                slot.forwarder.set_ceiling(level.spatial, level.temporal);
                let resized = std::mem::replace(&mut slot.given_size, slot.wanted_size) != slot.wanted_size;
                let paused = slot.reason == Some(SlotReason::Bandwidth);
                let flows = before.is_none_or(|b| self.track(assigned).is_some_and(|t| t.ladder.flows(&b)));
                let reason = match before {
                    None if !paused => LayerReason::Source,
                    Some(_) if !flows => LayerReason::Flow,
                    Some(_) if resized => LayerReason::Size,
                    _ => LayerReason::Bandwidth,
                };
                let sublayer = (level.spatial != Level::ALL).then_some((level.spatial, level.temporal));
                let decision =
                    Decision::Layer { mid, track: assigned.id, layer: level.layer, sublayer, reason };
                self.participants[at.participant as usize].timeline.note(ctx.now.unix_ms(), decision);
                self.retarget(ctx, at);
            }
        }
    }

    /// Sends no more of what takes far more than the `bits` per second that are there, while its slot waits for a key frame to show
    /// less: it would only keep the queue full, behind which the key frame has to wait.
    fn starve(&mut self, ctx: &mut Context<'_>, at: SlotRef, bits: u64) {
        let takes = self.takes_until_key_frame(at);
        let starved = takes.is_some_and(|takes| takes > bits.saturating_mul(2));
        let slot = &mut self.participants[at.participant as usize].slots[at.slot as usize];
        if std::mem::replace(&mut slot.starved, starved) || !starved {
            return;
        }
        self.drop_waiting(at);
        self.retarget(ctx, at);
    }

    /// What a slot's pictures take at least, in bits per second, while it waits for a key frame to show less than it does.
    fn takes_until_key_frame(&self, at: SlotRef) -> Option<u64> {
        let slot = &self.participants[at.participant as usize].slots[at.slot as usize];
        let (current, level) = (slot.forwarder.current()?, slot.share.level()?);
        let track = self.track(slot.assigned.filter(|assigned| assigned.id == current.id)?)?;
        let spatial = slot.forwarder.sublayer().map_or(0, |(spatial, _)| spatial);
        let less = level.layer < current.layer
            || level.layer == current.layer && level.spatial < spatial && slot.forwarder.needs_key_frame();
        track.ladder.least_of(current.layer, spatial).filter(|_| less)
    }

    fn pause(&mut self, ctx: &mut Context<'_>, at: SlotRef) {
        self.detach(at);
        self.drop_waiting(at);
        let slot = &mut self.participants[at.participant as usize].slots[at.slot as usize];
        slot.forwarder.stop();
        slot.told = None;
        slot.reason = Some(SlotReason::Bandwidth);
        let rtp_timestamp = slot.forwarder.report_timestamp(ctx.now.nanos);
        let (mid, Some(track)) = (slot.mid.clone(), slot.assigned) else { return };
        let Some(owner) = self.participants.get(track.participant as usize).map(|p| p.id) else { return };
        let decision = Decision::Paused { mid, track: track.id };
        self.participants[at.participant as usize].timeline.note(ctx.now.unix_ms(), decision);
        let shows = SlotSource { participant: owner, track: track.id, rtp_timestamp };
        self.tell_slot(ctx, at, Some(shows), Some(SlotReason::Bandwidth));
    }
}

impl Wanting {
    fn demand(&self) -> Demand<'_> {
        let levels = if self.waiting { &[] } else { &self.levels[..] };
        Demand { rank: self.rank, levels, shown: self.shown, highest: self.highest }
    }

    /// What it shows takes so many bits per second.
    fn shown_bits(&self) -> u64 {
        self.shown.and_then(|shown| self.levels.get(shown)).map_or(0, |level| level.bits)
    }
}

/// What there is to share: what the network is estimated to carry, less what sound and repairs take of it.
fn supply(subscriber: &mut Participant, now: Instant, wanting: &[Wanting], voices: u64) -> Option<Supply> {
    let estimate = subscriber.transport.as_ref().and_then(Transport::estimate);
    // A voice that is alone on its line may fill it.
    let room = estimate.filter(|_| !wanting.is_empty()).map_or(u64::MAX, |bits| bits / 2 / voices.max(1));
    subscriber.redundancy.limit(room);
    let sound = voices * (1 + u64::from(subscriber.redundancy.older()));
    let best = wanting.iter().map(|w| w.best).sum::<u64>();
    let taken = sound + subscriber.repair_bits;
    let estimator = &mut subscriber.transport.as_mut()?.estimator;
    estimator.set_wanted(now, (best as f64 * USEFUL_MARGIN) as u64 + sound);
    Some(Supply {
        estimate,
        sound,
        wanted: best + sound,
        pictures: Budget {
            bits: estimate.map_or(u64::MAX, |bits| bits.saturating_sub(taken)),
            proven: estimator.proven().saturating_sub(taken),
        },
        congested: estimator.queuing_delay() > CONGESTED,
        blind: estimator.is_blind(),
    })
}

/// Recalls what each slot has learned by trying, where so many bits are free beside what all of them show. When people look
/// at something else than before, what was learned is forgotten.
fn recall(subscriber: &mut Participant, now: Instant, wanting: &mut [Wanting], free: u64) {
    let mut ranks_changed = false;
    for want in &*wanting {
        ranks_changed |= subscriber.slots[want.slot as usize].share.follow_rank(want.rank);
    }
    for want in wanting {
        let share = &mut subscriber.slots[want.slot as usize].share;
        if ranks_changed {
            share.forgive();
        }
        let bits = free.saturating_add(want.shown_bits());
        want.highest = share.highest(now, &want.levels, bits);
        want.waiting = share.is_waiting(now, bits, &want.levels);
    }
}

/// Paces what a subscriber is sent by what their network is estimated to carry, in bits per second.
fn pace(subscriber: &mut Participant, estimate: u64, congested: bool) {
    let allocated = subscriber.allocated_bits;
    let Some(transport) = subscriber.transport.as_mut() else { return };
    let ample = !congested && estimate > allocated + allocated / 4;
    let factor = match (transport.estimator.is_young(), ample) {
        (true, _) => FIRST_PACING_FACTOR,
        (false, true) if transport.estimator.has_feedback() => AMPLE_PACING_FACTOR,
        (false, true) => LOOSE_PACING_FACTOR,
        (false, false) => PACING_FACTOR,
    };
    let pacing = (estimate.max(allocated) as f64 * factor) as u64;
    transport.set_pacing(Some(pacing.max(MIN_PACING)));
}

#[cfg(test)]
mod tests;
