//! What is due in a room: transports' timers, feedback to publishers, reports, assignment, speakers, quality.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::context::Context;
use crate::control::{ConnectionState, Event};
use crate::pulse::BUSY_TICK;
use crate::quality::{QualityInput, judge};
use crate::timeline::Decision;
use crate::transport::Transport;

use super::{PACE_INTERVAL, Room};

/// When to send sender and receiver reports: once a second, as browsers do for video.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// When to look whether slots should show another layer.
pub(super) const RETARGET_INTERVAL: Duration = Duration::from_millis(100);
/// More audio slots than this nobody has.
const MAX_CLAIMS: usize = 16;
/// Somebody has to be the latest speaker for so long before another takes over what speakers are given.
const SPEAKER_FOR: Duration = Duration::from_secs(3);
/// When to judge the quality of connections.
pub(super) const QUALITY_INTERVAL: Duration = Duration::from_secs(2);
/// Until something happens: as good as never.
const SLEEP: Duration = Duration::from_hours(24);

impl Room {
    /// Does what is due.
    pub fn handle_timeout(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now.instant;
        if self.pace_at.is_some_and(|at| at <= now) {
            self.pace(ctx);
        }
        if self.next_tick > now {
            return;
        }
        if self.relay.poll_timeout().is_some_and(|at| at <= now) {
            self.relay.handle_timeout(now);
            self.drain_data(ctx);
        }
        if self.assign_at.is_some_and(|at| at <= now) {
            self.assign_at = None;
            self.assign(ctx);
        }
        if self.retarget_at <= now {
            self.retarget_at = now + SLEEP;
            self.follow_speaker(now);
            if let Some(again) = self.retarget_all(ctx) {
                self.retarget_at = self.retarget_at.min(now + again);
            }
            self.follow_claims(now);
        }
        self.tell_speakers(ctx);
        if self.quality_at <= now {
            let again = self.tell_quality(ctx);
            self.quality_at = now + if again { QUALITY_INTERVAL } else { SLEEP };
        }
        // Last, so that what was decided above goes out at once.
        self.take_layers(ctx);
        self.look_at_those_due(ctx);
        self.next_tick = self.next_due(now);
    }

    /// Lets packets go that waited for room, and probes.
    fn pace(&mut self, ctx: &mut Context<'_>) {
        // Whoever still waits comes back onto the list.
        let mut paced = std::mem::take(&mut self.paced);
        paced.clear();
        std::mem::swap(&mut paced, &mut self.pacing);
        for &index in &paced {
            let Some(participant) = self.participants.get_mut(index as usize) else { continue };
            participant.send_probe(&ctx.now);
            let Some(transport) = participant.transport.as_mut() else { continue };
            transport.release(&ctx.now);
            transport.unmark_paced();
            self.list_paced(ctx.now.instant, index);
            self.mark(ctx, index);
        }
        self.paced = paced;
        self.pace_at = (!self.pacing.is_empty()).then(|| ctx.now.instant + PACE_INTERVAL);
    }

    /// Whoever has packets that wait for room, or sends a probe, is looked at soon.
    pub(super) fn list_paced(&mut self, now: Instant, index: u32) {
        if self.transport_mut(index).is_some_and(Transport::mark_paced) {
            self.pacing.push(index);
            self.pace_at.get_or_insert(now + PACE_INTERVAL);
        }
    }

    fn next_due(&self, now: Instant) -> Instant {
        let data = self.relay.poll_timeout();
        let timers = [self.assign_at, data, self.speakers.poll_timeout(), self.agenda.next()];
        let due = timers.into_iter().flatten().min().unwrap_or(now + SLEEP);
        // A timer that is overdue must not make the loop spin.
        due.min(self.retarget_at).min(self.quality_at).max(now + Duration::from_millis(1))
    }

    /// Those whose time comes with the next look at somebody busy are looked at together: one after the other they would wake
    /// the worker more often.
    fn look_at_those_due(&mut self, ctx: &mut Context<'_>) {
        let mut looking = std::mem::take(&mut self.looking);
        looking.clear();
        looking.extend(std::iter::from_fn(|| self.agenda.poll(ctx.now.instant + BUSY_TICK)));
        for &index in &looking {
            self.tick_participant(ctx, index);
        }
        self.looking = looking;
    }

    /// Does what is due for a participant, and finds out when to look at them again.
    fn tick_participant(&mut self, ctx: &mut Context<'_>, index: u32) {
        let now = ctx.now.instant;
        if self.participants.get(index as usize).is_some_and(|p| p.mirror.is_some()) {
            return self.tick_mirror(ctx, index);
        }
        let Some(transport) = self.transport_mut(index) else { return };
        transport.handle_timeout(now);
        if transport.has_ice_events() {
            self.ice_spoke.push(index);
        }
        self.drain_transport(ctx, index);
        let participant = &mut self.participants[index as usize];
        let watches = participant.slots.iter().any(|(_, s)| s.carries_pictures(now));
        participant.pulse.on_look(now, participant.counters.packets_sent, watches);
        if participant.pulse.is_awake(now) {
            self.tend(ctx, index);
        }
        let participant = &self.participants[index as usize];
        let timer = participant.transport.as_ref().and_then(Transport::poll_timeout);
        let next = participant.pulse.next_look(now).into_iter().chain(timer).min();
        self.agenda.set(index, next);
    }

    /// Does what is due while media comes from a participant or goes to them.
    fn tend(&mut self, ctx: &mut Context<'_>, index: u32) {
        let now = ctx.now.instant;
        self.wake_subscribers(now, index);
        let participant = &mut self.participants[index as usize];
        let Some(transport) = participant.transport.as_mut() else { return };
        transport.estimator.handle_timeout(now);
        participant.send_feedback(ctx);
        participant.send_probe(&ctx.now);
        if participant.reports_at <= now {
            participant.reports_at = now + REPORT_INTERVAL;
            participant.renew_budgets();
            participant.redundancy.on_loss(participant.loss_down);
            participant.release_idle(now);
            participant.send_receiver_reports(ctx);
            participant.send_sender_reports(ctx);
            participant.note_repairs(ctx.now.unix_ms());
        }
        self.list_paced(now, index);
        let participant = &mut self.participants[index as usize];
        if participant.transport.as_ref().is_some_and(Transport::has_output) {
            self.mark(ctx, index);
        }
    }

    /// Those who show a layer that begins to flow are looked at from now on.
    pub(super) fn wake_subscribers(&mut self, now: Instant, index: u32) {
        let mut woken: SmallVec<[u32; 16]> = SmallVec::new();
        for (_, track) in &mut self.participants[index as usize].tracks {
            for layer in &mut track.layers {
                if layer.begins_to_flow(now) {
                    woken.extend(layer.subscribers.iter().map(|s| s.participant));
                }
            }
        }
        for subscriber in woken {
            self.wake(now, subscriber);
        }
    }

    /// Assigns anew when others have the strongest claims to audio slots, even if nobody began or ceased to speak.
    fn follow_claims(&mut self, now: Instant) {
        let ranked = self.speakers.ranked(now);
        let strongest = &ranked[..ranked.len().min(MAX_CLAIMS)];
        if self.claims != strongest {
            self.claims.clear();
            self.claims.extend_from_slice(strongest);
            self.assign_soon(now);
        }
    }

    /// Who speaks last keeps what speakers are given until somebody else has spoken for a while.
    fn follow_speaker(&mut self, now: Instant) {
        let latest = self.participants.iter().filter_map(|(_, p)| Some((p.spoke_at?, p.id))).max();
        let Some((_, latest)) = latest else { return };
        match self.speaker {
            Some((id, _)) if id == latest => {}
            Some((_, since)) if now.saturating_duration_since(since) < SPEAKER_FOR => {}
            _ => self.speaker = Some((latest, now)),
        }
    }

    fn tell_speakers(&mut self, ctx: &mut Context<'_>) {
        if let Some(speakers) = self.speakers.poll(ctx.now.instant) {
            let speakers = speakers.to_vec();
            let now = ctx.now.instant;
            for speaker in &speakers {
                if let Some((_, p)) = self.participants.iter_mut().find(|(_, p)| p.id == speaker.participant)
                {
                    p.spoke_at = Some(now);
                }
            }
            if ctx.bridges.speaks_for(self.id, self.carriers.workers()) {
                ctx.events.push_back(Event::Speakers { room: self.id, speakers });
            }
            self.assign_soon(now);
        }
    }

    /// Returns whether to judge again: while somebody is awake, or has still to be told.
    fn tell_quality(&mut self, ctx: &mut Context<'_>) -> bool {
        let mut changes = Vec::new();
        let mut again = false;
        for (_, participant) in &mut self.participants {
            let Some(state) = participant.transport.as_ref().and_then(Transport::state) else { continue };
            let input = QualityInput {
                silent: state != ConnectionState::Connected,
                loss_up: participant.loss_up,
                given: participant.given_share(),
                loss_down: participant.loss_down,
                rtt_ms: participant.rtt.smoothed().map(|r| r.as_secs_f32() * 1000.0),
            };
            if let Some(quality) = participant.quality.update(judge(&input)) {
                participant.timeline.note(ctx.now.unix_ms(), Decision::Quality(quality));
                changes.push((participant.id, quality));
            }
            again |= participant.pulse.is_awake(ctx.now.instant) || !participant.quality.is_settled();
        }
        if !changes.is_empty() {
            ctx.events.push_back(Event::Quality { room: self.id, changes });
        }
        again
    }
}
