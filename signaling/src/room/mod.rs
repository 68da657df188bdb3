//! One room: who is in it, and who is told what.
//!
//! A room's state is behind one mutex, held for the time of one decision and never across an `await`. A message for
//! many is made once and its bytes are shared.

pub(crate) mod media_events;
mod member;
pub(crate) mod moderation;
pub(crate) mod waiting;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use veche_access::{Action, Actions, Identity};
use veche_sfu_core::ids::{ParticipantId, RoomId};

use crate::error::{Error, ErrorKind};
use crate::ice_servers::IceServers;
use crate::journal::{Journal, MessagingCell};
use crate::link::{Close, Link, encode};
use crate::protocol::{
    self, ActiveSpeaker, Joined, LeaveReason, Limits, Participant, RoomRecording, ServerMessage,
};
use crate::token::{TokenDigest, new_id, new_resume_token};

pub(crate) use member::Member;

/// A room.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "`room_id` is its name in every message")]
pub struct Room {
    /// Its name in addresses.
    pub(crate) room_id: Arc<str>,
    /// Its number in the media plane.
    pub(crate) media_id: RoomId,
    pub(crate) created_at: SystemTime,
    /// Made by a request: stays when it is empty.
    pub(crate) permanent: bool,
    state: Mutex<RoomState>,
}

/// What changes in a room.
#[derive(Debug)]
pub(crate) struct RoomState {
    pub(crate) info: protocol::Room,
    /// In the order in which they came.
    pub(crate) members: BTreeMap<ParticipantId, Member>,
    id_by_peer: HashMap<Arc<str>, ParticipantId>,
    id_by_token: HashMap<TokenDigest, ParticipantId>,
    speakers: Vec<ActiveSpeaker>,
    bans: moderation::Bans,
    pub(crate) waiting: waiting::WaitingList,
    recording: Option<RoomRecording>,
    journal: Journal,
}

/// Somebody who wants to come in, as far as the room is concerned.
#[derive(Debug)]
pub(crate) struct Entrance<'a> {
    /// The number of the connection.
    pub(crate) connection: u64,
    /// The way to the client.
    pub(crate) link: Link,
    /// The name that they ask for.
    pub(crate) name: Option<String>,
    /// The peer id that they ask for.
    pub(crate) peer_id: Option<&'a str>,
    /// Whether the peer id is only a wish: a resumption that came too late.
    pub(crate) peer_id_is_wish: bool,
    /// Who they are.
    pub(crate) identity: &'a Identity,
    /// What they may do in the room.
    pub(crate) actions: Actions,
    /// Whether a moderator has let them in.
    pub(crate) admitted: bool,
    /// What every client is told.
    pub(crate) welcome: &'a Welcome,
}

/// What shall change in a room; what is absent stays.
#[derive(Clone, Debug, Default)]
pub struct RoomChange {
    /// Its name for people.
    pub name: Option<String>,
    /// How many may be in it.
    pub max_participants: Option<u32>,
    /// Closed for who is not in it?
    pub locked: Option<bool>,
    /// Must moderators admit who comes?
    pub waiting_room: Option<bool>,
}

/// What every client is told when it joins.
#[derive(Clone, Debug)]
pub(crate) struct Welcome {
    pub(crate) resume_seconds: u32,
    pub(crate) ice_servers: Arc<IceServers>,
    pub(crate) limits: Limits,
}

impl Room {
    pub(crate) fn new(
        info: protocol::Room,
        media_id: RoomId,
        permanent: bool,
        messaging: MessagingCell,
    ) -> Self {
        let room_id: Arc<str> = info.room_id.as_str().into();
        Self {
            room_id: room_id.clone(),
            media_id,
            created_at: SystemTime::now(),
            permanent,
            state: Mutex::new(RoomState {
                info,
                members: BTreeMap::new(),
                id_by_peer: HashMap::new(),
                id_by_token: HashMap::new(),
                speakers: Vec::new(),
                bans: moderation::Bans::default(),
                waiting: waiting::WaitingList::default(),
                recording: None,
                journal: Journal::new(room_id, messaging),
            }),
        }
    }

    pub(crate) fn note_created(&self) {
        let room = self.lock();
        room.journal.note("room.created", None, told_of(&room.info));
    }

    pub(crate) fn note_deleted(&self) {
        self.lock().journal.note("room.deleted", None, json!({}));
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, RoomState> {
        self.state.lock()
    }
}

impl RoomState {
    /// Takes somebody new in: they are told about the room, the others about them.
    pub(crate) fn join(&mut self, id: ParticipantId, entrance: &Entrance<'_>) -> Result<Arc<str>, Error> {
        if self.members.len() >= self.info.max_participants as usize {
            let full = format!("the room is full: it takes {} participants", self.info.max_participants);
            return Err(Error::new(ErrorKind::RoomFull, full));
        }
        self.check_entry(entrance.identity, entrance.actions, entrance.peer_id)?;
        if self.must_wait(entrance.actions) && !entrance.admitted {
            let message = "a moderator must let you in; connect again to wait for that";
            return Err(Error::new(ErrorKind::NotAdmitted, message));
        }
        let peer_id = self.free_peer_id(entrance.peer_id, entrance.peer_id_is_wish, entrance.admitted)?;
        let name = entrance.name.clone().unwrap_or_else(|| peer_id.to_string());
        let token = new_resume_token();
        let digest = TokenDigest::of(&token);
        let member = Member::new(id, peer_id.clone(), name, digest, entrance);
        let participant = member.participant();
        self.members.insert(id, member);
        self.id_by_peer.insert(peer_id.clone(), id);
        self.id_by_token.insert(digest, id);
        let data = json!({ "participant_id": participant.peer_id, "name": participant.name });
        self.journal.note("participant.joined", participant.user_id.as_deref(), data);
        self.welcome(id, token, false, entrance.welcome);
        self.tell_others(id, &ServerMessage::ParticipantJoined { participant });
        Ok(peer_id)
    }

    /// Who may resume with this token: whose it is, if they are who they were.
    pub(crate) fn find_token(&self, token: &str, identity: &Identity) -> Option<ParticipantId> {
        let id = *self.id_by_token.get(&TokenDigest::of(token))?;
        let member = self.members.get(&id)?;
        (member.identity.user_id == identity.user_id).then_some(id)
    }

    /// Gives somebody their place back, who showed `token`. A connection that still has the place is closed.
    pub(crate) fn resume(
        &mut self,
        id: ParticipantId,
        token: &str,
        entrance: Entrance<'_>,
    ) -> Option<Arc<str>> {
        let member = self.members.get_mut(&id)?;
        if let Some(replaced) = member.reconnect(entrance.connection, entrance.link) {
            let message = "the same resume token connected again, perhaps in another window";
            replaced.close(Close::Because(Error::new(ErrorKind::Replaced, message)));
        }
        let is_renamed = entrance.name.as_ref().is_some_and(|name| *name != member.name);
        if let Some(name) = entrance.name {
            member.name = name;
        }
        member.identity = entrance.identity.clone();
        member.own_actions = entrance.actions;
        let new_token = new_resume_token();
        for old in [Some(member.token), member.previous_token].into_iter().flatten() {
            self.id_by_token.remove(&old);
        }
        member.token = TokenDigest::of(&new_token);
        member.previous_token = Some(TokenDigest::of(token));
        for digest in [Some(member.token), member.previous_token].into_iter().flatten() {
            self.id_by_token.insert(digest, id);
        }
        let peer_id = member.peer_id.clone();
        let participant = member.participant();
        if is_renamed {
            self.note_name(&participant);
        }
        self.welcome(id, new_token, true, entrance.welcome);
        self.tell_others(id, &ServerMessage::ParticipantUpdated { participant });
        Some(peer_id)
    }

    /// Whether this connection has the participant's place now.
    pub(crate) fn is_current(&self, id: ParticipantId, connection: u64) -> bool {
        self.members.get(&id).is_some_and(|member| member.connection == connection && member.link.is_some())
    }

    /// A client that resumed has shown that it lives: the token before the current one dies.
    pub(crate) fn confirm(&mut self, id: ParticipantId) {
        let previous = self.members.get_mut(&id).and_then(|member| member.previous_token.take());
        if let Some(previous) = previous {
            self.id_by_token.remove(&previous);
        }
    }

    /// Notes that a connection is lost; `false` when it was not the participant's latest.
    pub(crate) fn disconnect(&mut self, id: ParticipantId, connection: u64) -> bool {
        let Some(member) = self.members.get_mut(&id) else { return false };
        if member.connection != connection || member.link.take().is_none() {
            return false;
        }
        let participant = member.participant();
        self.tell_others(id, &ServerMessage::ParticipantUpdated { participant });
        true
    }

    /// Whether somebody is still away since this connection was lost.
    pub(crate) fn is_away(&self, id: ParticipantId, connection: u64) -> bool {
        self.members.get(&id).is_some_and(|member| member.connection == connection && member.link.is_none())
    }

    /// Removes somebody for good, and tells the others.
    pub(crate) fn remove(&mut self, id: ParticipantId, reason: LeaveReason) -> Option<Member> {
        let member = self.members.remove(&id)?;
        self.id_by_peer.remove(&member.peer_id);
        self.id_by_token.remove(&member.token);
        if let Some(previous) = member.previous_token {
            self.id_by_token.remove(&previous);
        }
        let peer_id = member.peer_id.to_string();
        let data = json!({ "participant_id": peer_id, "reason": reason });
        self.journal.note("participant.left", member.identity.user_id.as_deref(), data);
        self.tell_all(&ServerMessage::ParticipantLeft { peer_id, reason });
        Some(member)
    }

    /// Whether nobody is in the room, and nobody waits for it or is on the way in.
    pub(crate) fn is_deserted(&self) -> bool {
        self.members.is_empty() && self.waiting.is_empty() && !self.waiting.has_admitted()
    }

    /// Empties the room and closes everybody's connection.
    pub(crate) fn clear(&mut self, error: &Error) -> Vec<ParticipantId> {
        self.id_by_peer.clear();
        self.id_by_token.clear();
        self.waiting.clear();
        let members = std::mem::take(&mut self.members);
        for link in members.values().filter_map(|member| member.link.as_ref()) {
            link.close(Close::Because(error.clone()));
        }
        members.into_keys().collect()
    }

    /// Closes everybody's connection; they keep their places. Who waits is told too.
    pub(crate) fn close_all(&mut self, error: &Error) {
        self.waiting.turn_away(error);
        for link in self.members.values().filter_map(|member| member.link.as_ref()) {
            link.close(Close::Because(error.clone()));
        }
    }

    /// Changes a participant's own name or data.
    pub(crate) fn update(&mut self, id: ParticipantId, name: Option<String>, metadata: Option<Value>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let is_renamed = name.as_ref().is_some_and(|name| *name != member.name);
        if let Some(name) = name {
            member.name = name;
        }
        if let Some(metadata) = metadata {
            member.metadata = Some(metadata);
        }
        let participant = member.participant();
        if is_renamed {
            self.note_name(&participant);
        }
        self.tell_all(&ServerMessage::ParticipantUpdated { participant });
    }

    fn note_name(&self, participant: &Participant) {
        let data = json!({ "participant_id": participant.peer_id, "name": participant.name });
        self.journal.note("participant.updated", participant.user_id.as_deref(), data);
    }

    /// Changes the room itself; everybody is told where something changes. What is absent stays.
    pub(crate) fn change(&mut self, change: RoomChange) {
        let before = self.info.clone();
        let RoomChange { name, max_participants, locked, waiting_room } = change;
        self.info.name = name.unwrap_or(self.info.name.clone());
        self.info.max_participants = max_participants.unwrap_or(before.max_participants);
        self.info.locked = locked.unwrap_or(before.locked);
        self.info.waiting_room = waiting_room.unwrap_or(before.waiting_room);
        if self.info != before {
            let room = self.info.clone();
            self.journal.note("room.updated", None, told_of(&room));
            self.tell_all(&ServerMessage::RoomUpdated { room });
        }
        if before.waiting_room && !self.info.waiting_room {
            self.admit_all();
        }
    }

    /// The room is being recorded from now on, or no longer; everybody is told where that changes.
    pub(crate) fn set_recording(&mut self, recording: Option<RoomRecording>) {
        if self.recording != recording {
            self.recording.clone_from(&recording);
            self.tell_all(&ServerMessage::Recording { recording });
        }
    }

    /// Notes that a recording began or ended.
    pub(crate) fn note_recording(&self, kind: &str, data: Value) {
        self.journal.note(kind, None, data);
    }

    /// What people call a peer, and which user they are.
    pub(crate) fn profile(&self, peer_id: &str) -> Option<(String, Option<String>)> {
        let member = self.members.get(&self.find_peer(peer_id)?)?;
        Some((member.name.clone(), member.identity.user_id.as_deref().map(str::to_owned)))
    }

    /// Hands a message to one peer.
    pub(crate) fn relay(&self, target: &str, message: Bytes) -> Result<(), Error> {
        let member = self.find_peer(target).and_then(|id| self.members.get(&id)).ok_or_else(|| {
            Error::new(ErrorKind::PeerNotFound, format!("nobody in the room has the peer id `{target}`"))
        })?;
        let link = member.link.as_ref().ok_or_else(|| {
            let message = format!("the connection of `{target}` is lost; try again when they are back");
            Error::new(ErrorKind::PeerNotConnected, message)
        })?;
        let busy = || {
            let message = format!("`{target}` reads more slowly than it is sent to; try again in a moment");
            Error::new(ErrorKind::PeerBusy, message)
        };
        link.send_relayed(message).then_some(()).ok_or_else(busy)
    }

    /// The participant with this peer id.
    pub(crate) fn find_peer(&self, peer_id: &str) -> Option<ParticipantId> {
        self.id_by_peer.get(peer_id).copied()
    }

    /// Everybody, as others see them.
    pub(crate) fn participants(&self) -> Vec<Participant> {
        self.members.values().map(Member::participant).collect()
    }

    /// Sends a message to one participant, if they are connected.
    pub(crate) fn tell(&self, id: ParticipantId, message: &ServerMessage) {
        if let Some(link) = self.members.get(&id).and_then(|member| member.link.as_ref()) {
            link.send(encode(message));
        }
    }

    /// Sends a message to everybody.
    fn tell_all(&self, message: &ServerMessage) {
        let bytes = encode(message);
        for link in self.members.values().filter_map(|member| member.link.as_ref()) {
            link.send(bytes.clone());
        }
    }

    /// Sends a message to everybody but one.
    fn tell_others(&self, id: ParticipantId, message: &ServerMessage) {
        let bytes = encode(message);
        for member in self.members.values().filter(|member| member.id != id) {
            if let Some(link) = &member.link {
                link.send(bytes.clone());
            }
        }
    }

    /// Tells somebody who has just come all they need to know.
    fn welcome(&self, id: ParticipantId, resume_token: String, resumed: bool, welcome: &Welcome) {
        let Some(member) = self.members.get(&id) else { return };
        let others = self.members.values().filter(|other| other.id != id);
        let joined = Joined {
            peer_id: member.peer_id.to_string(),
            room: self.info.clone(),
            resume_token,
            resume_seconds: welcome.resume_seconds,
            resumed,
            ice_servers: welcome.ice_servers.of(member.identity.user_id.as_deref()),
            participants: others.map(Member::participant).collect(),
            tracks: member.tracks.values().cloned().collect(),
            slots: member.slots.values().cloned().collect(),
            limits: welcome.limits,
            grants: member.actions().iter().collect(),
            recording: self.recording.clone(),
        };
        if let Some(link) = &member.link {
            link.send_first(encode(&ServerMessage::Joined(joined)));
        }
        if let Some(state) = member.media_state {
            self.tell(id, &ServerMessage::Connection { state });
        }
        for layers in member.layers.values() {
            self.tell(id, &ServerMessage::Layers(layers.clone()));
        }
        if !self.speakers.is_empty() {
            self.tell(id, &ServerMessage::Speakers { speakers: self.speakers.clone() });
        }
        if member.actions().contains(Action::Moderate) && !self.waiting.is_empty() {
            self.tell(id, &ServerMessage::WaitingList { waiting: self.waiting.list() });
        }
    }

    /// A peer id for somebody new. `admitted`: it was theirs already while they waited.
    pub(crate) fn free_peer_id(
        &self,
        wanted: Option<&str>,
        is_wish: bool,
        admitted: bool,
    ) -> Result<Arc<str>, Error> {
        let is_free =
            |id: &str| !self.id_by_peer.contains_key(id) && (admitted || !self.waiting.contains(id));
        match wanted {
            Some(wanted) if is_free(wanted) => return Ok(wanted.into()),
            Some(wanted) if !is_wish => {
                let message = format!("somebody in the room has the peer id `{wanted}`; choose another");
                return Err(Error::new(ErrorKind::PeerIdTaken, message));
            }
            _ => {}
        }
        loop {
            let made = new_id("peer");
            if is_free(&made) {
                return Ok(made.into());
            }
        }
    }
}

/// A room as the log has it.
fn told_of(info: &protocol::Room) -> Value {
    let protocol::Room { room_id: _, name, max_participants, locked, waiting_room } = info;
    json!({ "name": name, "max_participants": max_participants, "locked": locked, "waiting_room": waiting_room })
}
