//! Session descriptions: an offer comes in, the participant's tracks and slots follow it.

use crate::bridge::News;
use crate::context::Context;
use crate::control::{Event, SectionLabels};
use crate::ids::{RequestId, TrackId, TrackNumbers};
use crate::sdp::Negotiation;
use crate::transport::{Transport, TransportConfig};

use super::Room;

impl Room {
    /// Answers an offer.
    pub fn handle_offer(
        &mut self,
        ctx: &mut Context<'_>,
        index: u32,
        request: RequestId,
        sdp: &str,
        labels: &SectionLabels,
        numbers: &mut TrackNumbers,
    ) {
        let Some(participant) = self.participants.get_mut(index as usize) else { return };
        let id = participant.id;
        let (result, new_session) = match participant.negotiator.answer(sdp, labels) {
            Ok(negotiation) => {
                let new_session = self.apply(ctx, index, &negotiation, labels, numbers);
                (Ok(negotiation.answer), new_session)
            }
            Err(error) => (Err(error), false),
        };
        ctx.events.push_back(Event::Answer { participant: id, request, result, new_session });
        self.tell_tracks(ctx, index);
        self.tell_slots(ctx, index);
        self.hurry(ctx.now.instant, index);
        self.look_at(index, ctx.now.instant);
    }

    /// Does what an offer asks for, and says whether it began a new session.
    fn apply(
        &mut self,
        ctx: &mut Context<'_>,
        index: u32,
        negotiation: &Negotiation,
        labels: &SectionLabels,
        numbers: &mut TrackNumbers,
    ) -> bool {
        let now = ctx.now.instant;
        let fresh = self.participants[index as usize].transport.is_none();
        let new_session = negotiation.new_session || fresh;
        if new_session {
            self.unsubscribe_all(index);
            let gone = self.participants[index as usize].reset_session();
            self.forget_tracks(ctx, index, &gone);
            self.relay.disconnect(self.participants[index as usize].id);
            let participant = &mut self.participants[index as usize];
            participant.told_state = None;
            let seed = participant.seed();
            let seed = self.config.reproducible.then_some(seed);
            participant.transport = Some(Transport::new(
                now,
                &TransportConfig {
                    ice: &negotiation.ice_local,
                    certificate: &self.config.certificate,
                    setup: negotiation.setup,
                    fingerprint: negotiation.fingerprint,
                    dtls13: self.config.dtls13,
                    seed,
                },
            ));
        } else if negotiation.ice_restarted
            && let Some(transport) = self.participants[index as usize].transport.as_mut()
        {
            transport.restart_ice(&negotiation.ice_local);
        }
        self.apply_sections(ctx, index, negotiation, labels, numbers);
        new_session
    }

    fn apply_sections(
        &mut self,
        ctx: &mut Context<'_>,
        index: u32,
        negotiation: &Negotiation,
        labels: &SectionLabels,
        numbers: &mut TrackNumbers,
    ) {
        // Slots that this offer ends must leave the lists of their layers first.
        self.unsubscribe_ended(index, negotiation);
        let participant = &mut self.participants[index as usize];
        let changes = participant.apply_sections(ctx.now.instant, negotiation, labels, numbers);
        self.forget_tracks(ctx, index, &changes.gone);
        if changes.data {
            self.connect_data(ctx, index);
        }
        let subscription = self.participants[index as usize].subscription.clone();
        self.subscribe(ctx, index, subscription);
    }

    /// Tells the control plane, and other workers, which tracks there are; they keep what they know already.
    fn tell_tracks(&mut self, ctx: &mut Context<'_>, index: u32) {
        let participant = &self.participants[index as usize];
        for (t, track) in &participant.tracks {
            ctx.events.push_back(Event::Track { participant: participant.id, track: track.info() });
            self.carry_track(ctx, index, t as u32);
        }
    }

    /// Tracks are gone: nothing may point at them any more.
    pub(super) fn forget_tracks(&mut self, ctx: &mut Context<'_>, index: u32, gone: &[(u32, TrackId)]) {
        if gone.is_empty() {
            return;
        }
        let id = self.participants[index as usize].id;
        for (_, track) in gone {
            ctx.events.push_back(Event::TrackGone { participant: id, track: *track });
            self.carry(ctx, &News::TrackGone { participant: id, track: *track });
            self.clear_slots_of(ctx, *track);
        }
        self.assign_soon(ctx.now.instant);
    }
}
