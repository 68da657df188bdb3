//! What rooms ask of the media plane, and what it reports.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;
use veche_sfu_core::control::{Command, Event, ParticipantStats};
use veche_sfu_core::ids::{ParticipantId, RequestId, RoomId};
use veche_sfu_core::timeline::Entry;

use super::{Registry, Rooms};
use crate::error::{Error, ErrorKind};
use crate::room::Room;

/// Questions to the media plane that wait for their answers.
pub(super) type Questions<T> = HashMap<RequestId, oneshot::Sender<Vec<T>>>;

/// A question for as long as somebody waits for its answer: who asks over HTTP may go away at any `await`.
struct Waiting<'a, T> {
    registry: &'a Mutex<Registry>,
    request: RequestId,
    questions: fn(&mut Registry) -> &mut Questions<T>,
}

impl<T> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        let mut registry = self.registry.lock();
        (self.questions)(&mut registry).remove(&self.request);
        registry.partial_stats.remove(&self.request);
    }
}

impl Rooms {
    /// Asks the media plane for the counters of everybody in a room; empty when it does not answer in time, since the
    /// list of who is there is worth having without them.
    pub async fn stats(&self, room: &Room, deadline: Instant) -> Vec<ParticipantStats> {
        let request = self.next_request();
        let command = Command::RoomStats { room: room.media_id, request, engines: 1 };
        self.ask(room, request, command, |registry| &mut registry.stats_by_request, deadline)
            .await
            .unwrap_or_default()
    }

    /// Asks the media plane what was decided for a participant. Fails when it does not answer in time, or has stopped.
    pub async fn timeline(
        &self,
        room: &Room,
        participant: ParticipantId,
        deadline: Instant,
    ) -> Result<Vec<Entry>, Error> {
        let request = self.next_request();
        let command = Command::Timeline { participant, request };
        self.ask(room, request, command, |registry| &mut registry.timeline_by_request, deadline).await
    }

    async fn ask<T>(
        &self,
        room: &Room,
        request: RequestId,
        command: Command,
        questions: fn(&mut Registry) -> &mut Questions<T>,
        deadline: Instant,
    ) -> Result<Vec<T>, Error> {
        let (sender, receiver) = oneshot::channel();
        questions(&mut self.registry.lock()).insert(request, sender);
        let _waiting = Waiting { registry: &self.registry, request, questions };
        let asked = async {
            self.media.command(room.media_id, command).await?;
            receiver.await.map_err(|_| media_unavailable())
        };
        tokio::time::timeout_at(deadline, asked).await.unwrap_or_else(|_| Err(media_unavailable()))
    }

    /// Takes what the media plane reports.
    pub fn on_event(&self, event: Event) {
        match event {
            Event::Answer { participant, request, result, new_session } => {
                self.with_room_of(participant, |room| {
                    let mut room = room.lock();
                    if new_session {
                        room.on_new_session(participant);
                    }
                    room.on_answer(participant, request, result);
                });
            }
            Event::Connection { participant, state } => {
                self.with_room_of(participant, |room| room.lock().on_connection(participant, state));
            }
            Event::Track { participant, track } => {
                self.with_room_of(participant, |room| room.lock().on_track(participant, &track));
            }
            Event::TrackGone { participant, track } => {
                self.with_room_of(participant, |room| room.lock().on_track_gone(participant, track));
            }
            Event::Slots { participant, changes } => {
                self.with_room_of(participant, |room| room.lock().on_slots(participant, &changes));
            }
            Event::DataChannelClosed { participant, label, reason } => {
                self.with_room_of(participant, |room| {
                    room.lock().on_data_channel_closed(participant, label, reason);
                });
            }
            Event::Speakers { room, speakers } => {
                self.with_room(room, |room| room.lock().on_speakers(&speakers));
            }
            Event::Quality { room, changes } => {
                self.with_room(room, |room| room.lock().on_quality(&changes));
            }
            Event::LayersWanted { participant, mid, layers } => {
                self.with_room_of(participant, |room| {
                    room.lock().on_layers_wanted(participant, mid, &layers);
                });
            }
            Event::Timeline { request, entries } => {
                let sender = self.registry.lock().timeline_by_request.remove(&request);
                // Who asked may have given up.
                let _ = sender.map(|sender| sender.send(entries));
            }
            Event::Stats { request, participants, engines } => {
                self.on_stats(request, participants, engines);
            }
        }
    }

    /// A room may be spread over several engines: the answer is whole when all of them have answered.
    fn on_stats(&self, request: RequestId, mut participants: Vec<ParticipantStats>, engines: usize) {
        let mut registry = self.registry.lock();
        if !registry.stats_by_request.contains_key(&request) {
            // Who asked has given up.
            return;
        }
        let (mut whole, answers) = registry.partial_stats.remove(&request).unwrap_or_default();
        whole.append(&mut participants);
        if answers + 1 < engines {
            registry.partial_stats.insert(request, (whole, answers + 1));
        } else if let Some(sender) = registry.stats_by_request.remove(&request) {
            let _ = sender.send(whole);
        }
    }

    pub(crate) fn next_request(&self) -> RequestId {
        RequestId(self.last_request.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// In a task of its own, since whoever removes may be cut off at any `await`.
    pub(super) fn remove_from_media(&self, room: RoomId, participants: Vec<ParticipantId>) {
        let media = self.media.clone();
        tokio::spawn(async move {
            for participant in participants {
                // A media plane that has stopped has removed everybody.
                let _ = media.command(room, Command::RemoveParticipant { participant }).await;
            }
        });
    }

    fn with_room_of(&self, participant: ParticipantId, then: impl FnOnce(&Room)) {
        let room = self.registry.lock().room_by_participant.get(&participant).cloned();
        if let Some(room) = room {
            then(&room);
        }
    }

    fn with_room(&self, media_id: RoomId, then: impl FnOnce(&Room)) {
        let room = self.registry.lock().room_by_media_id.get(&media_id).cloned();
        if let Some(room) = room {
            then(&room);
        }
    }
}

pub(super) fn media_unavailable() -> Error {
    Error::new(ErrorKind::MediaUnavailable, "the media plane did not answer in time; try again in a moment")
}
