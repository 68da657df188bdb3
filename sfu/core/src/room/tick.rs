//! What is due in a room: transports' timers, feedback to publishers, reports, assignment, speakers, quality.

use std::time::{Duration, Instant};

use crate::context::Context;
use crate::control::{ConnectionState, Event};
use crate::quality::{QualityInput, judge};
use crate::timeline::Decision;
use crate::transport::Transport;

use super::{BUSY_TICK, PACE_INTERVAL, QUIET_TICK, Room};

/// When to send sender and receiver reports: once a second, as browsers do for video.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// When to look whether slots should show another layer.
const RETARGET_INTERVAL: Duration = Duration::from_millis(100);
/// More audio slots than this nobody has.
const MAX_CLAIMS: usize = 16;
/// When to judge the quality of connections.
const QUALITY_INTERVAL: Duration = Duration::from_secs(2);

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
            self.retarget_at = now + RETARGET_INTERVAL;
            self.retarget_all(ctx);
            self.follow_claims(now);
        }
        self.tell_speakers(ctx);
        if self.quality_at <= now {
            self.quality_at = now + QUALITY_INTERVAL;
            self.tell_quality(ctx);
        }
        // Last, so that what was decided above goes out at once.
        for index in self.indices() {
            self.tick_participant(ctx, index);
        }
        self.tick_mirrors(ctx);
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
        let pause = if now < self.busy_until { BUSY_TICK } else { QUIET_TICK };
        let assign = self.assign_at.unwrap_or(now + pause);
        let data = self.relay.poll_timeout().unwrap_or(now + pause);
        // A timer that is overdue must not make the loop spin.
        (now + pause).min(assign).min(data).max(now + Duration::from_millis(1))
    }

    fn tick_participant(&mut self, ctx: &mut Context<'_>, index: u32) {
        let now = ctx.now.instant;
        let participant = &mut self.participants[index as usize];
        let Some(transport) = participant.transport.as_mut() else { return };
        transport.handle_timeout(now);
        transport.estimator.handle_timeout(now);
        self.drain_transport(ctx, index);
        let participant = &mut self.participants[index as usize];
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

    fn tell_quality(&mut self, ctx: &mut Context<'_>) {
        let mut changes = Vec::new();
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
        }
        if !changes.is_empty() {
            ctx.events.push_back(Event::Quality { room: self.id, changes });
        }
    }
}
