//! What moderators do, over HTTP or by signals, and what the media plane is told of it.

use std::sync::Arc;

use serde_json::json;
use veche_access::{Action, Actions, Identity};
use veche_hub::ConnectionId;
use veche_sfu_core::control::Command;
use veche_sfu_core::ids::ParticipantId;
use veche_sfu_core::rights::Rights;

use super::{JoinRequest, Rooms, stopping};
use crate::error::{Error, ErrorKind};
use crate::link::Close;
use crate::name::check_peer_id;
use crate::protocol::{Ban, LeaveReason, Moderation, Waiting};
use crate::room::waiting::Decision;
use crate::room::{Member, Room, RoomChange};

/// The longest reason that somebody is told for being sent out, in characters.
const MAX_REASON_CHARS: usize = 200;

/// Who moderates.
#[derive(Clone, Copy, Debug)]
pub struct Moderator<'a> {
    /// Their name in messages; absent over HTTP.
    pub peer_id: Option<&'a str>,
    /// Which user they are, where that is known.
    pub user_id: Option<&'a str>,
    /// What they may do in the room.
    pub actions: Actions,
}

/// Who reads the channels of a room: a user, wherever they are connected, and a signaling connection.
struct Reader {
    user_id: Option<Arc<str>>,
    connection: Option<ConnectionId>,
}

/// A place in a waiting room; dropping it gives it up.
#[derive(Debug)]
pub struct Wait {
    rooms: Arc<Rooms>,
    room: Arc<Room>,
    /// Who waits.
    pub who: Waiting,
    decision: Decision,
}

impl Rooms {
    /// A place to wait where a moderator must let somebody in first; `None` where they may join at once. Fails where they
    /// could not join either.
    pub fn knock(self: &Arc<Self>, request: &JoinRequest) -> Result<Option<Wait>, Error> {
        let registry = self.registry.lock();
        if registry.stopping {
            return Err(stopping());
        }
        let Some(room) = registry.rooms.get(request.room_id.as_str()).cloned() else { return Ok(None) };
        let peer_id = request.peer_id.as_deref().map(check_peer_id).transpose()?;
        let name = self.name_of(request)?;
        let actions = request.identity.room_actions(&request.room_id);
        let (who, decision) = {
            let mut state = room.lock();
            let token = request.resume_token.as_deref().unwrap_or_default();
            if !state.must_wait(actions) || state.find_token(token, &request.identity).is_some() {
                return Ok(None);
            }
            super::check_join(&request.identity, &request.room_id)?;
            state.check_entry(&request.identity, actions, peer_id)?;
            let peer_id = state.free_peer_id(peer_id, request.resume_token.is_some(), false)?.to_string();
            let name = name.unwrap_or_else(|| peer_id.clone());
            let user_id = request.identity.user_id.as_deref().map(str::to_owned);
            let who = Waiting { peer_id, name, user_id };
            (who.clone(), state.wait(who)?)
        };
        drop(registry);
        Ok(Some(Wait { rooms: self.clone(), room, who, decision }))
    }

    /// What a room leaves to somebody, whatever door they come through; `None`: all that they are granted.
    pub(crate) fn left_to(&self, room_id: &str, identity: &Identity) -> Option<Actions> {
        self.room(room_id).ok()?.lock().left_to(identity)
    }

    /// Does what a moderator asks for.
    pub async fn moderate(&self, room: &Arc<Room>, by: Moderator<'_>, what: Moderation) -> Result<(), Error> {
        if !by.actions.contains(Action::Moderate) {
            let message =
                "moderate: not granted to you in this room; it needs a token that grants \"moderate\"";
            return Err(Error::new(ErrorKind::Forbidden, message));
        }
        match what {
            Moderation::Mute { peer_id, source, track_id } => {
                let (participant, tracks, guest) = {
                    let state = room.lock();
                    let participant = state.expect_peer(&peer_id)?;
                    let tracks = state.moderate_mute(participant, source, track_id.as_deref(), by.peer_id)?;
                    let guest = state.members.get(&participant).and_then(|member| member.guest.clone());
                    (participant, tracks, guest.and_then(|guest| guest.upgrade()))
                };
                for track in tracks {
                    if let Some(guest) = &guest {
                        guest.mute(track, true);
                        continue;
                    }
                    let command = Command::SetMuted { participant, track, muted: true };
                    self.media.command(room.media_id, command).await?;
                }
                Ok(())
            }
            Moderation::Remove { peer_id, reason } => {
                let participant = {
                    let state = room.lock();
                    let participant = state.expect_peer(&peer_id)?;
                    state.note_moderation("participant.removed", by, json!({ "participant_id": peer_id }));
                    participant
                };
                self.send_out(room, participant, reason.as_deref());
                self.close_channels(room);
                Ok(())
            }
            Moderation::Ban { peer_id, user_id, reason } => {
                self.ban(room, by, &named(peer_id, user_id)?, reason.as_deref())
            }
            Moderation::Unban { peer_id, user_id } => {
                let ban = named(peer_id, user_id)?;
                let mut state = room.lock();
                state.unban(&ban)?;
                state.note_moderation("participant.unbanned", by, json!({ "who": ban }));
                Ok(())
            }
            Moderation::Grant { peer_id, grants } => {
                let missing = grants.difference(by.actions);
                if let Some(action) = missing.iter().next() {
                    let message = format!("grants: `{}` is not yours to grant", action.name());
                    return Err(Error::new(ErrorKind::Forbidden, message));
                }
                let (participant, reader) = {
                    let mut state = room.lock();
                    let participant = state.expect_peer(&peer_id)?;
                    state.grant(participant, grants);
                    let data = json!({ "participant_id": peer_id, "grants": grants });
                    state.note_moderation("participant.granted", by, data);
                    (participant, state.members.get(&participant).map(Reader::of))
                };
                if let Some(reader) = reader.filter(|_| !grants.contains(Action::Subscribe)) {
                    self.end_reading(room, &reader);
                }
                self.tell_rights(room, participant, None).await
            }
            Moderation::Lock { locked } => {
                self.change(room, RoomChange { locked: Some(locked), ..RoomChange::default() });
                Ok(())
            }
            Moderation::WaitingRoom { enabled } => {
                self.change(room, RoomChange { waiting_room: Some(enabled), ..RoomChange::default() });
                Ok(())
            }
            Moderation::Admit { peer_id } => room.lock().decide(&peer_id, Ok(())),
            Moderation::Deny { peer_id } => {
                let error = Error::new(ErrorKind::NotAdmitted, "a moderator did not let you in");
                room.lock().decide(&peer_id, Err(error))
            }
        }
    }

    /// Tells the media plane what somebody may do. `told`: what it was told last, where that is known. What is said while
    /// another change is on its way may overtake it, so it is looked again whether it still holds.
    pub(super) async fn tell_rights(
        &self,
        room: &Room,
        participant: ParticipantId,
        mut told: Option<Rights>,
    ) -> Result<(), Error> {
        loop {
            let Some(rights) = room.lock().members.get(&participant).map(crate::room::Member::rights) else {
                return Ok(());
            };
            if told.replace(rights) == Some(rights) {
                return Ok(());
            }
            self.media.command(room.media_id, Command::SetRights { participant, rights }).await?;
        }
    }

    fn ban(
        &self,
        room: &Arc<Room>,
        by: Moderator<'_>,
        named: &Ban,
        reason: Option<&str>,
    ) -> Result<(), Error> {
        let (there, waiting) = {
            let mut state = room.lock();
            let ban = match named {
                Ban::PeerId(peer_id) => match state.find_peer(peer_id) {
                    Some(participant) => state.ban_of_member(participant).unwrap_or_else(|| named.clone()),
                    None => named.clone(),
                },
                Ban::UserId(_) => named.clone(),
            };
            state.ban(ban.clone())?;
            state.note_moderation("participant.banned", by, json!({ "who": ban }));
            let meant = |user_id: Option<&str>, peer_id: &str| match &ban {
                Ban::UserId(banned) => user_id == Some(banned),
                Ban::PeerId(banned) => user_id.is_none() && peer_id == banned,
            };
            let there = state.members.values().filter(|m| meant(m.identity.user_id.as_deref(), &m.peer_id));
            let there: Vec<_> = there.map(|member| (member.id, Reader::of(member))).collect();
            let waiting =
                state.waiting.list().into_iter().filter(|w| meant(w.user_id.as_deref(), &w.peer_id));
            (there, waiting.collect::<Vec<_>>())
        };
        for who in waiting {
            let error = Error::new(ErrorKind::Banned, told("a moderator keeps you out of this room", reason));
            let _ = room.lock().decide(&who.peer_id, Err(error));
        }
        for (participant, reader) in there {
            self.send_out(room, participant, reason);
            self.end_reading(room, &reader);
        }
        if let Ban::UserId(user_id) = named {
            // They may read without being there.
            self.end_reading(room, &Reader { user_id: Some(user_id.as_str().into()), connection: None });
        }
        Ok(())
    }

    /// Ends subscriptions to the room's channels. Without the room's lock: their end may be told in the room.
    fn end_reading(&self, room: &Room, reader: &Reader) {
        if let Some(messaging) = self.messaging() {
            messaging.leave_room(&room.room_id, reader.user_id.as_deref(), reader.connection);
        }
    }

    /// Changes a room. Where it is closed then, its channels are so, too.
    pub(super) fn change(&self, room: &Room, change: RoomChange) {
        room.lock().change(change);
        self.close_channels(room);
    }

    /// Ends the subscriptions to a closed room's channels of those who are not in the room. Who moderates from elsewhere may
    /// subscribe again.
    fn close_channels(&self, room: &Room) {
        let readers: Vec<Reader> = {
            let state = room.lock();
            if !state.is_closed() {
                return;
            }
            state.members.values().map(Reader::of).collect()
        };
        let is_there = |user_id: Option<&str>, connection: ConnectionId| {
            readers.iter().any(|reader| {
                reader.connection == Some(connection)
                    || user_id.is_some() && reader.user_id.as_deref() == user_id
            })
        };
        if let Some(messaging) = self.messaging() {
            messaging.close_room(&room.room_id, is_there);
        }
    }

    fn send_out(&self, room: &Arc<Room>, participant: ParticipantId, reason: Option<&str>) {
        let error = Error::new(ErrorKind::Removed, told("a moderator sent you out of this room", reason));
        self.remove_participant(room, participant, LeaveReason::Removed, Close::Because(error), |_| true);
    }
}

impl Reader {
    fn of(member: &Member) -> Self {
        Self { user_id: member.identity.user_id.clone(), connection: member.channels }
    }
}

impl Wait {
    /// Waits for a moderator's decision; an error says why not.
    pub async fn decided(&mut self) -> Result<(), Error> {
        let gone = || Error::new(ErrorKind::RoomDeleted, "the room was deleted");
        (&mut self.decision).await.unwrap_or_else(|_| Err(gone()))
    }

    /// The room as who waits may see it.
    pub(crate) fn room(&self) -> crate::protocol::Room {
        self.room.lock().info.clone()
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.rooms.stop_waiting(&self.room, &self.who.peer_id);
    }
}

/// Exactly one of two ids.
fn named(peer_id: Option<String>, user_id: Option<String>) -> Result<Ban, Error> {
    match (peer_id, user_id) {
        (Some(peer_id), None) => Ok(Ban::PeerId(check_peer_id(&peer_id)?.to_owned())),
        (None, Some(user_id)) if user_id.len() <= 128 => Ok(Ban::UserId(user_id)),
        (None, Some(_)) => Err(Error::new(ErrorKind::BadRequest, "user_id: longer than 128 bytes")),
        _ => Err(Error::new(ErrorKind::BadRequest, "name either `peer_id` or `user_id`")),
    }
}

fn told(what: &str, reason: Option<&str>) -> String {
    let reason: String = reason.map(veche_doors::name::clean).unwrap_or_default();
    if reason.is_empty() {
        return what.to_owned();
    }
    format!("{what}: {}", reason.chars().take(MAX_REASON_CHARS).collect::<String>())
}
