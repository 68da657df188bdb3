//! Who is kept out of a room, and what moderators change in it.

use std::collections::BTreeSet;

use serde_json::Value;
use veche_access::{Action, Actions, Identity, Resource};
use veche_sfu_core::ids::{ParticipantId, TrackId};

use super::media_events::track_id;
use super::{Member, RoomState};
use crate::error::{Error, ErrorKind};
use crate::protocol::{Ban, Moderated, ServerMessage, TrackSource};
use crate::rooms::Moderator;

/// As many may be banned from one room; then somebody must be let in again first.
const MAX_BANS: usize = 1000;

/// Who is kept out.
#[derive(Debug, Default)]
pub(super) struct Bans(BTreeSet<Ban>);

impl RoomState {
    /// Whether somebody new may come in at all: they are not banned, and the room is not locked, or they moderate it.
    pub(crate) fn check_entry(
        &self,
        identity: &Identity,
        actions: Actions,
        peer_id: Option<&str>,
    ) -> Result<(), Error> {
        let ban = ban_of(identity.user_id.as_deref(), peer_id);
        if ban.is_some_and(|ban| self.bans.0.contains(&ban)) {
            return Err(kept_out());
        }
        if self.info.locked && !actions.contains(Action::Moderate) {
            let message = "the room is locked; ask who is in it to open it";
            return Err(Error::new(ErrorKind::RoomLocked, message));
        }
        Ok(())
    }

    /// Whether this user is kept out. Who is anonymous cannot be found again; who rules the server is bound by no room.
    pub(crate) fn is_banned(&self, identity: &Identity) -> bool {
        let ban = identity.user_id.as_deref().map(|user_id| Ban::UserId(user_id.to_owned()));
        ban.is_some_and(|ban| self.bans.0.contains(&ban))
            && identity.allows(Action::Administer, Resource::Server).is_err()
    }

    /// What is left to somebody of what they are granted, whatever door they come through; `None`: all of it. Users are
    /// known by their id; who is anonymous cannot be found again, and is taken for somebody who is not in the room.
    pub(crate) fn left_to(&self, identity: &Identity) -> Option<Actions> {
        if let Some(user_id) = identity.user_id.as_deref() {
            if self.bans.0.contains(&Ban::UserId(user_id.to_owned())) {
                return Some(Actions::NONE);
            }
            let is_them = |member: &&Member| member.identity.user_id.as_deref() == Some(user_id);
            let mut there = self.members.values().filter(is_them).peekable();
            if there.peek().is_some() {
                return there.filter_map(|member| member.granted).reduce(Actions::intersection);
            }
        }
        let moderates = identity.room_actions(&self.info.room_id).contains(Action::Moderate);
        (self.is_closed() && !moderates).then_some(Actions::NONE)
    }

    /// Whether nobody comes in unasked.
    pub(crate) fn is_closed(&self) -> bool {
        self.info.locked || self.info.waiting_room
    }

    /// Whether a participant may do this in the room's channels; `None`: what their credential says.
    pub(crate) fn lets(&self, id: ParticipantId, action: Action) -> Option<bool> {
        let Some(member) = self.members.get(&id) else { return Some(false) };
        let may = member.actions().contains(action);
        // A channel may be granted by its name to who has less in the room; not after a moderator has spoken.
        (may || member.granted.is_some()).then_some(may)
    }

    /// Whether somebody must be let in by a moderator.
    pub(crate) fn must_wait(&self, actions: Actions) -> bool {
        self.info.waiting_room && !actions.contains(Action::Moderate)
    }

    /// Everybody who is kept out.
    pub(crate) fn bans(&self) -> Vec<Ban> {
        self.bans.0.iter().cloned().collect()
    }

    /// Keeps somebody out from now on.
    pub(crate) fn ban(&mut self, ban: Ban) -> Result<(), Error> {
        if self.bans.0.len() >= MAX_BANS && !self.bans.0.contains(&ban) {
            let message = format!("{MAX_BANS} are banned, as many as may be; let somebody come again first");
            return Err(Error::new(ErrorKind::RateLimited, message));
        }
        self.bans.0.insert(ban);
        Ok(())
    }

    /// Lets somebody come again.
    pub(crate) fn unban(&mut self, ban: &Ban) -> Result<(), Error> {
        let found = self.bans.0.remove(ban);
        found.then_some(()).ok_or_else(|| {
            Error::new(ErrorKind::PeerNotFound, "nobody of this id is banned; GET …/bans lists who is")
        })
    }

    /// The participant with this peer id, or an error for who asked for them.
    pub(crate) fn expect_peer(&self, peer_id: &str) -> Result<ParticipantId, Error> {
        self.find_peer(peer_id).ok_or_else(|| {
            let shown: String = peer_id.chars().take(64).collect();
            Error::new(ErrorKind::PeerNotFound, format!("nobody in the room has the peer id `{shown}`"))
        })
    }

    /// Which ban would keep this participant out.
    pub(crate) fn ban_of_member(&self, id: ParticipantId) -> Option<Ban> {
        let member = self.members.get(&id)?;
        ban_of(member.identity.user_id.as_deref(), Some(&member.peer_id))
    }

    /// The tracks of somebody that a moderator mutes; they are told.
    pub(crate) fn moderate_mute(
        &self,
        id: ParticipantId,
        source: Option<TrackSource>,
        single: Option<&str>,
        by: Option<&str>,
    ) -> Result<Vec<TrackId>, Error> {
        let Some(member) = self.members.get(&id) else { return Ok(Vec::new()) };
        if let Some(name) = single
            && track_id(name).is_none_or(|track| !member.tracks.contains_key(&track))
        {
            let message = "track_id: not a track of theirs; take it from a `track` message";
            return Err(Error::new(ErrorKind::TrackNotFound, message));
        }
        let meant = |name: &str, of: TrackSource| {
            single.is_none_or(|single| single == name) && source.is_none_or(|source| source == of)
        };
        let tracks =
            member.tracks.iter().filter(|(_, track)| !track.muted && meant(&track.track_id, track.source));
        let (tracks, track_ids): (Vec<_>, Vec<_>) =
            tracks.map(|(id, track)| (*id, track.track_id.clone())).unzip();
        if !tracks.is_empty() {
            let (action, by) = ("mute".to_owned(), by.map(str::to_owned));
            self.tell(id, &ServerMessage::Moderated(Moderated { action, by, track_ids }));
        }
        Ok(tracks)
    }

    /// A participant may do this from now on, and nothing else; they are told.
    pub(crate) fn grant(&mut self, id: ParticipantId, granted: Actions) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.granted = Some(granted);
        self.tell(id, &ServerMessage::Grants { grants: granted.iter().collect() });
    }

    /// Notes what a moderator did.
    pub(crate) fn note_moderation(&self, kind: &str, by: Moderator<'_>, mut data: Value) {
        if let Some(peer_id) = by.peer_id {
            data["by"] = peer_id.into();
        }
        self.journal.note(kind, by.user_id, data);
    }

    /// Sends a message to everybody who moderates the room.
    pub(super) fn tell_moderators(&self, message: &ServerMessage) {
        for member in self.members.values().filter(|member| member.actions().contains(Action::Moderate)) {
            self.tell(member.id, message);
        }
    }
}

/// Users are known by their id, wherever they come from; who is anonymous, by their peer id only.
fn ban_of(user_id: Option<&str>, peer_id: Option<&str>) -> Option<Ban> {
    match (user_id, peer_id) {
        (Some(user_id), _) => Some(Ban::UserId(user_id.to_owned())),
        (None, Some(peer_id)) => Some(Ban::PeerId(peer_id.to_owned())),
        (None, None) => None,
    }
}

/// What who is banned is told.
pub(crate) fn kept_out() -> Error {
    Error::new(ErrorKind::Banned, "a moderator keeps you out of this room")
}
