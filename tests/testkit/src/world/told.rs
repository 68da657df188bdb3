//! What engines tell, and what clients learn of it, as by signaling.

use std::collections::HashMap;
use std::time::Instant;

use veche_sfu_core::control::{ConnectionState, Event, Quality, SlotChange, TrackInfo};
use veche_sfu_core::ids::{Mid, ParticipantId};
use veche_sfu_core::sdp::OfferError;

use super::World;

/// What a client would have learnt by signaling.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Its slots.
    pub slots: HashMap<Mid, SlotChange>,
    /// The tracks that it publishes.
    pub tracks: Vec<TrackInfo>,
    /// Its connection.
    pub connection: Option<ConnectionState>,
    /// All states of its connection, with their times.
    pub connections: Vec<(Instant, ConnectionState)>,
    /// The quality of its connection.
    pub quality: Option<Quality>,
    /// Why its last offer was refused.
    pub refused: Option<OfferError>,
}

impl World {
    /// Takes what an engine tells, and tells it to the client whom it is for.
    pub(super) fn take_event(&mut self, event: Event) {
        let seat = |participant: &ParticipantId| self.seat_by_participant.get(participant).copied();
        match &event {
            Event::Answer { participant, result, .. } => {
                if let Some(seat) = seat(participant) {
                    match result {
                        Ok(answer) => self.seats[seat].client.handle_answer(self.now, answer),
                        Err(error) => self.seats[seat].told.refused = Some(error.clone()),
                    }
                    self.drain_client(seat);
                }
            }
            Event::Stats { request, participants, .. } => {
                self.stats.insert(*request, participants.clone());
            }
            Event::Speakers { room, speakers } => {
                self.speakers.insert(*room, speakers.clone());
            }
            Event::Quality { changes, .. } => {
                for (participant, quality) in changes {
                    if let Some(seat) = seat(participant) {
                        self.seats[seat].told.quality = Some(*quality);
                    }
                }
            }
            Event::Connection { participant, .. }
            | Event::Track { participant, .. }
            | Event::TrackGone { participant, .. }
            | Event::Slots { participant, .. } => {
                if let Some(seat) = seat(participant) {
                    self.seats[seat].told.take(self.now, &event);
                }
            }
            Event::Timeline { request, entries } => {
                self.timelines.insert(*request, entries.clone());
            }
            Event::LayersWanted { participant, mid, layers } => {
                if let Some(seat) = seat(participant) {
                    let now = self.now;
                    self.seats[seat].client.set_wanted(now, mid, layers);
                    self.drain_client(seat);
                }
            }
            Event::DataChannelClosed { .. } => {}
        }
        self.events.push((self.now, event));
    }
}

impl Told {
    fn take(&mut self, now: Instant, event: &Event) {
        match event {
            Event::Connection { state, .. } => {
                self.connection = Some(*state);
                self.connections.push((now, *state));
            }
            Event::Track { track, .. } => {
                self.tracks.retain(|known| known.id != track.id);
                self.tracks.push(track.clone());
            }
            Event::TrackGone { track, .. } => self.tracks.retain(|known| known.id != *track),
            Event::Slots { changes, .. } => {
                for change in changes {
                    self.slots.insert(change.mid.clone(), change.clone());
                }
            }
            _ => {}
        }
    }
}
