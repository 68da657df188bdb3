//! All rooms, and the ways into and out of them.
//!
//! Two locks, always taken in this order: the registry's, then a room's. Who joins or empties a room holds both, so
//! that nobody joins a room that is being forgotten; everything else takes the room's alone.

mod media;
mod moderation;
pub(crate) mod recording;
mod seat;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use veche_access::{Action, Authority, Identity, Resource};
use veche_doors::doorkeeper::Doorkeeper;
use veche_hub::Signal;
use veche_messaging::Messaging;
use veche_recorder::Recorder;
use veche_sfu_core::control::{Command, ParticipantStats};
use veche_sfu_core::ids::{ParticipantId, RequestId, RoomId};
use veche_sfu_core::rights::Rights;
use veche_sfu_core::timeline::Entry;

use crate::error::{Error, ErrorKind};
use crate::ice_servers::IceServers;
use crate::journal::MessagingCell;
use crate::link::{self, Close, Outbox};
use crate::media::Media;
use crate::name::{MAX_ROOM_ID_BYTES, check_peer_id, check_room_id};
use crate::protocol::{self, LeaveReason, Limits};
use crate::room::{Entrance, Member, Room, RoomChange, RoomState, Welcome};
use crate::settings::Settings;

use media::{Questions, media_unavailable};
pub use moderation::{Moderator, Wait};
pub use seat::{JoinRequest, Seat};

/// How long clients have to say goodbye when the server stops.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// All rooms.
#[derive(Debug)]
pub struct Rooms {
    /// As they were at the start; what of them may change is with the doorkeeper.
    pub(crate) settings: Settings,
    pub(crate) doorkeeper: Arc<Doorkeeper>,
    pub(crate) media: Media,
    pub(crate) authority: Authority,
    /// What clients are told of STUN and TURN.
    pub(crate) ice_servers: Arc<IceServers>,
    welcome: Welcome,
    registry: Mutex<Registry>,
    connections: Arc<Semaphore>,
    last_connection: AtomicU64,
    last_request: AtomicU64,
    messaging: MessagingCell,
    pub(crate) on_deleted: OnDeleted,
    recorder: OnceLock<Recorder>,
}

#[derive(Debug, Default)]
struct Registry {
    stopping: bool,
    rooms: BTreeMap<Arc<str>, Arc<Room>>,
    /// How many of them stay when they are empty.
    permanent_rooms: usize,
    room_by_media_id: HashMap<RoomId, Arc<Room>>,
    room_by_participant: HashMap<ParticipantId, Arc<Room>>,
    stats_by_request: Questions<ParticipantStats>,
    /// What some of the engines that carry a room have answered already, and how many they are.
    partial_stats: HashMap<RequestId, (Vec<ParticipantStats>, usize)>,
    timeline_by_request: Questions<Entry>,
}

/// Takes the name of a room that was deleted.
pub type RoomDeleted = Box<dyn Fn(&str) + Send + Sync>;

/// Who is told of that, once there is somebody.
#[derive(Default)]
pub(crate) struct OnDeleted(pub(crate) OnceLock<RoomDeleted>);

/// How many there are of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Rooms.
    pub rooms: usize,
    /// Participants, also those whose connection is lost.
    pub participants: usize,
    /// Signaling connections.
    pub connections: usize,
}

impl Rooms {
    /// No rooms yet.
    pub fn new(mut settings: Settings, media: Media, authority: Authority) -> Self {
        // As good as no limit, and a number that can be counted to.
        settings.max_connections = settings.max_connections.min(u32::MAX as usize);
        let ice_servers = Arc::new(IceServers::stun(&settings.stun_servers));
        let welcome = Welcome {
            resume_seconds: settings.resume_seconds,
            ice_servers: ice_servers.clone(),
            limits: Limits {
                max_signal_bytes: settings.max_message_bytes,
                max_data_message_bytes: settings.max_data_message_bytes,
                max_fragmented_bytes: settings.max_fragmented_bytes,
            },
        };
        Self {
            ice_servers,
            welcome,
            media,
            authority,
            registry: Mutex::default(),
            connections: Arc::new(Semaphore::new(settings.max_connections)),
            last_connection: AtomicU64::new(0),
            last_request: AtomicU64::new(0),
            messaging: MessagingCell::default(),
            on_deleted: OnDeleted::default(),
            recorder: OnceLock::new(),
            doorkeeper: Arc::new(Doorkeeper::new(settings.policy())),
            settings,
        }
    }

    /// Opens the channels of messaging, whose signals find peers of rooms from now on.
    pub(crate) fn connect(self: &Arc<Self>, messaging: Messaging) {
        let rooms = Arc::downgrade(self);
        messaging.set_peers(Arc::new(move |signal, from| {
            let rooms = rooms.upgrade().ok_or_else(media_unavailable)?;
            rooms.relay_signal(signal, from)
        }));
        let _ = self.messaging.set(messaging);
    }

    /// Messaging, where the server has it.
    pub(crate) fn messaging(&self) -> Option<&Messaging> {
        self.messaging.get()
    }

    /// Passes a signal of somebody at another door to a peer of a room, with their connection or nothing as
    /// `from_peer_id`.
    fn relay_signal(&self, signal: &Signal, from: &str) -> Result<(), Error> {
        let room_id = signal.room_id.as_deref().ok_or_else(|| {
            let target = &signal.target_peer_id;
            let message = format!(
                "target_peer_id: nobody is connected as `{target}`; for a peer of a call, add room_id"
            );
            Error::new(ErrorKind::RecipientNotFound, message)
        })?;
        let text = serde_json::to_string(signal)
            .map_err(|error| Error::new(ErrorKind::BadMessage, error.to_string()))?;
        let envelope = serde_json::from_str(&text)
            .map_err(|error| Error::new(ErrorKind::BadMessage, error.to_string()))?;
        let message = crate::inbound::relayed(envelope, &signal.signal_type, from)?;
        self.room(room_id)?.lock().relay(&signal.target_peer_id, message)
    }

    /// The right to one connection, for as long as the permit lives.
    pub(crate) fn admit(&self) -> Result<OwnedSemaphorePermit, Error> {
        self.connections.clone().try_acquire_owned().map_err(|_| {
            Error::new(ErrorKind::TooManyConnections, "the server has as many connections as it may have")
        })
    }

    /// Takes a client into a room, in its old place where it shows a token that still lives. The outbox starts with
    /// `joined`.
    pub async fn join(&self, request: &JoinRequest) -> Result<(Seat, Outbox), Error> {
        check_join(&request.identity, &request.room_id)?;
        let (seat, outbox, told) = self.take_seat(request)?;
        if told.is_none() {
            let command = Command::AddParticipant {
                room: seat.room.media_id,
                participant: seat.participant,
                peer: seat.peer_id.clone(),
            };
            if let Err(error) = self.media.command(seat.room.media_id, command).await {
                self.remove_if(&seat, LeaveReason::ServerStopping, RoomState::is_current);
                return Err(error);
            }
            // Whoever deleted the room meanwhile may have asked for the removal before the addition.
            if !seat.room.lock().members.contains_key(&seat.participant) {
                self.remove_from_media(seat.room.media_id, vec![seat.participant]);
            }
        }
        self.tell_rights(&seat.room, seat.participant, Some(told.unwrap_or_default())).await?;
        self.record_by_itself(&seat.room);
        Ok((seat, outbox))
    }

    /// Gives up a place for good.
    pub fn leave(&self, seat: &Seat) {
        self.remove_if(seat, LeaveReason::Left, RoomState::is_current);
    }

    /// Notes that a connection is lost. Its place is kept for a while.
    pub fn disconnect(self: &Arc<Self>, seat: Seat) {
        if !seat.room.lock().disconnect(seat.participant, seat.connection) {
            return;
        }
        let rooms = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(u64::from(rooms.settings.resume_seconds))).await;
            rooms.remove_if(&seat, LeaveReason::TimedOut, RoomState::is_away);
        });
    }

    /// Makes a room that stays when it is empty.
    pub fn create_room(
        &self,
        room_id: String,
        name: Option<String>,
        max_participants: Option<u32>,
    ) -> Result<Arc<Room>, Error> {
        let room_id = check_room_id(room_id)?;
        let name = name.map(|name| self.check_name(&name)).transpose()?.flatten();
        let max_participants = self.check_max_participants(max_participants)?;
        let mut registry = self.registry.lock();
        if registry.rooms.contains_key(room_id.as_str()) {
            return Err(Error::new(
                ErrorKind::RoomExists,
                format!("there is a room `{room_id}`; change it with PUT"),
            ));
        }
        let info = protocol::Room {
            name: name.unwrap_or_else(|| room_id.clone()),
            room_id,
            max_participants: max_participants.unwrap_or(self.settings.max_participants_per_room),
            locked: false,
            waiting_room: false,
        };
        self.add_room(&mut registry, info, true)
    }

    /// Changes a room; who is in it is told.
    pub fn update_room(&self, room_id: &str, mut change: RoomChange) -> Result<Arc<Room>, Error> {
        change.name = change.name.map(|name| self.check_name(&name)).transpose()?.flatten();
        change.max_participants = self.check_max_participants(change.max_participants)?;
        let room = self.room(room_id)?;
        self.change(&room, change);
        Ok(room)
    }

    /// Deletes a room. Who is in it is told and disconnected.
    pub fn delete_room(&self, room_id: &str) -> Result<(), Error> {
        let mut registry = self.registry.lock();
        let room = registry.rooms.remove(room_id).ok_or_else(|| no_such_room(room_id))?;
        let participants = room.lock().clear(&Error::new(ErrorKind::RoomDeleted, "the room was deleted"));
        room.note_deleted();
        registry.permanent_rooms -= usize::from(room.permanent);
        registry.room_by_media_id.remove(&room.media_id);
        for participant in &participants {
            registry.room_by_participant.remove(participant);
        }
        drop(registry);
        self.remove_from_media(room.media_id, participants);
        self.on_deleted.tell(room_id);
        self.end_recording(room_id);
        Ok(())
    }

    /// An error where nobody could join a room of this name, since it is not there and rooms do not come into being by
    /// themselves.
    pub(crate) fn check_place(&self, room_id: &str) -> Result<(), Error> {
        if self.settings.auto_create { Ok(()) } else { self.room(room_id).map(drop) }
    }

    /// The room of this name.
    pub fn room(&self, room_id: &str) -> Result<Arc<Room>, Error> {
        self.registry.lock().rooms.get(room_id).cloned().ok_or_else(|| no_such_room(room_id))
    }

    /// All rooms, ordered by name.
    pub fn all(&self) -> Vec<Arc<Room>> {
        self.registry.lock().rooms.values().cloned().collect()
    }

    /// How many there are of what.
    pub fn counts(&self) -> Counts {
        let registry = self.registry.lock();
        Counts {
            rooms: registry.rooms.len(),
            participants: registry.room_by_participant.len(),
            connections: self.settings.max_connections - self.connections.available_permits(),
        }
    }

    /// Tells everybody that the server stops, and waits for them to go.
    pub async fn stop(&self) {
        let rooms = {
            let mut registry = self.registry.lock();
            registry.stopping = true;
            registry.rooms.values().cloned().collect::<Vec<_>>()
        };
        for room in rooms {
            room.lock().close_all(&stopping());
        }
        let all = u32::try_from(self.settings.max_connections).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(STOP_WAIT, self.connections.acquire_many(all)).await;
    }

    /// A name for people: without what cannot be seen; `None` when nothing remains.
    pub(crate) fn check_name(&self, name: &str) -> Result<Option<String>, Error> {
        let clean = veche_doors::name::clean(name);
        let max = self.settings.max_name_chars;
        if clean.chars().count() > max {
            return Err(Error::new(
                ErrorKind::BadRequest,
                format!("name: longer than {max} characters; choose a shorter one"),
            ));
        }
        Ok((!clean.is_empty()).then_some(clean))
    }

    fn check_max_participants(&self, wanted: Option<u32>) -> Result<Option<u32>, Error> {
        let limit = self.settings.max_participants_per_room;
        match wanted {
            Some(wanted) if wanted == 0 || wanted > limit => Err(Error::new(
                ErrorKind::BadRequest,
                format!("max_participants: {wanted} is not within 1 to {limit}, the limit of this server"),
            )),
            _ => Ok(wanted),
        }
    }

    /// The name for people that somebody asks for, or else that their token gives.
    fn name_of(&self, request: &JoinRequest) -> Result<Option<String>, Error> {
        let asked = request.name.as_deref().map(|name| self.check_name(name)).transpose()?.flatten();
        let max = self.settings.max_name_chars;
        let given = || {
            let name = veche_doors::name::clean(request.identity.name.as_deref().unwrap_or_default());
            name.chars().take(max).collect::<String>()
        };
        Ok(asked.or_else(|| Some(given()).filter(|name| !name.is_empty())))
    }

    /// The place, and for who had one before, what the media plane was told of their rights.
    fn take_seat(&self, request: &JoinRequest) -> Result<(Seat, Outbox, Option<Rights>), Error> {
        let room_id = check_room_id(request.room_id.clone())?;
        let name = self.name_of(request)?;
        let peer_id = request.peer_id.as_deref().map(check_peer_id).transpose()?;
        let (link, outbox) = link::link(self.settings.max_queued_bytes);
        let connection = self.last_connection.fetch_add(1, Ordering::Relaxed) + 1;
        let entrance = Entrance {
            connection,
            link,
            name,
            peer_id,
            peer_id_is_wish: request.resume_token.is_some(),
            identity: &request.identity,
            actions: request.identity.room_actions(&request.room_id),
            admitted: request.admitted,
            welcome: &self.welcome,
        };

        let mut registry = self.registry.lock();
        if registry.stopping {
            return Err(stopping());
        }
        let room = self.find_or_make_room(&mut registry, room_id)?;
        let token = request.resume_token.as_deref().unwrap_or_default();
        let resuming = room.lock().find_token(token, &request.identity);
        if let Some(participant) = resuming {
            let told = room.lock().members.get(&participant).map(Member::rights);
            let peer_id = room.lock().resume(participant, token, entrance);
            let peer_id = peer_id.expect("the registry's lock keeps a participant that its token found");
            return Ok((Seat { room, participant, peer_id, connection }, outbox, told));
        }
        let participant = self.media.create_participant(room.media_id);
        let joined = room.lock().join(participant, &entrance);
        match joined {
            Ok(peer_id) => {
                registry.room_by_participant.insert(participant, room.clone());
                Ok((Seat { room, participant, peer_id, connection }, outbox, None))
            }
            Err(error) => {
                registry.forget_if_empty(&room);
                Err(error)
            }
        }
    }

    fn find_or_make_room(
        &self,
        registry: &mut MutexGuard<'_, Registry>,
        room_id: String,
    ) -> Result<Arc<Room>, Error> {
        if let Some(room) = registry.rooms.get(room_id.as_str()) {
            return Ok(room.clone());
        }
        if !self.settings.auto_create {
            return Err(no_such_room(&room_id));
        }
        let max_participants = self.settings.max_participants_per_room;
        let name = room_id.clone();
        let info = protocol::Room { room_id, name, max_participants, locked: false, waiting_room: false };
        self.add_room(registry, info, false)
    }

    fn add_room(
        &self,
        registry: &mut MutexGuard<'_, Registry>,
        info: protocol::Room,
        permanent: bool,
    ) -> Result<Arc<Room>, Error> {
        let max_rooms = self.settings.max_rooms;
        if registry.rooms.len() >= max_rooms {
            return Err(Error::new(
                ErrorKind::TooManyRooms,
                format!("there are {max_rooms} rooms, as many as there may be"),
            ));
        }
        let max_permanent = max_rooms.div_ceil(2);
        if permanent && registry.permanent_rooms >= max_permanent {
            let message = format!(
                "{max_permanent} rooms made by requests are as many as there may be, so that joins can make rooms too; \
                 delete one"
            );
            return Err(Error::new(ErrorKind::TooManyRooms, message));
        }
        let room = Arc::new(Room::new(info, self.media.create_room(), permanent, self.messaging.clone()));
        registry.permanent_rooms += usize::from(permanent);
        registry.rooms.insert(room.room_id.clone(), room.clone());
        registry.room_by_media_id.insert(room.media_id, room.clone());
        room.note_created();
        Ok(room)
    }

    /// Removes a connection's participant for good, if `condition` holds; asked under the locks, so that nobody who
    /// resumes at this moment is removed.
    fn remove_if(
        &self,
        seat: &Seat,
        reason: LeaveReason,
        condition: fn(&RoomState, ParticipantId, u64) -> bool,
    ) {
        self.remove_participant(&seat.room, seat.participant, reason, Close::Left, |room| {
            condition(room, seat.participant, seat.connection)
        });
    }

    /// Removes a participant for good, if `condition` holds, and closes their connection.
    fn remove_participant(
        &self,
        room: &Arc<Room>,
        participant: ParticipantId,
        reason: LeaveReason,
        close: Close,
        condition: impl FnOnce(&RoomState) -> bool,
    ) {
        let mut registry = self.registry.lock();
        let mut state = room.lock();
        if !condition(&state) {
            return;
        }
        let removed = state.remove(participant, reason);
        drop(state);
        registry.room_by_participant.remove(&participant);
        registry.forget_if_empty(room);
        drop(registry);
        let Some(member) = removed else { return };
        if let Some(link) = member.link {
            link.close(close);
        }
        self.remove_from_media(room.media_id, vec![participant]);
    }

    /// Somebody does not wait any more; a room that nobody is in, and nobody waits for, goes.
    fn stop_waiting(&self, room: &Arc<Room>, peer_id: &str) {
        let mut registry = self.registry.lock();
        room.lock().stop_waiting(peer_id);
        registry.forget_if_empty(room);
    }
}

impl OnDeleted {
    fn tell(&self, room_id: &str) {
        if let Some(told) = self.0.get() {
            told(room_id);
        }
    }
}

impl std::fmt::Debug for OnDeleted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OnDeleted").field(&self.0.get().is_some()).finish()
    }
}

impl Registry {
    fn forget_if_empty(&mut self, room: &Arc<Room>) {
        let is_listed = self.rooms.get(&room.room_id).is_some_and(|listed| Arc::ptr_eq(listed, room));
        if is_listed && !room.permanent && room.lock().is_deserted() {
            self.rooms.remove(&room.room_id);
            self.room_by_media_id.remove(&room.media_id);
            room.note_deleted();
        }
    }
}

fn check_join(identity: &Identity, room_id: &str) -> Result<(), Error> {
    // What the room itself says to that, it says better.
    identity.is_granted(Action::Join, Resource::Room(room_id)).map_err(Error::from)
}

fn stopping() -> Error {
    Error::new(ErrorKind::ServerStopping, "the server stops; it may be back")
}

fn no_such_room(room_id: &str) -> Error {
    let shown: String = room_id.chars().take(MAX_ROOM_ID_BYTES).collect();
    Error::new(ErrorKind::RoomNotFound, format!("there is no room `{shown}`; make it with POST"))
}

#[cfg(test)]
mod tests;
