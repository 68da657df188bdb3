//! The engine: everything of one worker that decides. Datagrams and commands go in, datagrams and events come out.

mod crossing;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustc_hash::FxHashMap;
use slab::Slab;

use crate::bridge::lanes::Bridges;
use crate::context::{Context, Now};
use crate::control::{Command, Event};
use crate::demux::{Demux, Place, Protocol};
use crate::drops::{DropCounts, DropReason};
use crate::dtls::Certificate;
use crate::handshakes::HandshakeQueue;
use crate::ice::IceEvent;
use crate::ids::{ParticipantId, RoomId, TrackNumbers, WorkerId};
use crate::path::Path;
use crate::room::{Room, RoomConfig};
use crate::rtcp::CompoundWriter;
use crate::sdp::negotiator::LocalDescription;
use crate::stun::BindingRequest;
use crate::timers::Timers;
use crate::transport::send_buffer::SendBuffer;

/// What an engine needs to know at its start.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The candidates of the answers: the worker's addresses as clients reach them, best first.
    pub candidates: Vec<Candidate>,
    /// The certificate of the process.
    pub certificate: Arc<Certificate>,
    /// Seeds all randomness: SSRCs, credentials, first sequence numbers. Must be secret and unpredictable in
    /// production.
    pub seed: [u8; 32],
    /// A moment not after the engine's start, whose NTP timestamp is known.
    pub epoch: Instant,
    /// The 32.32 fixed-point NTP timestamp (RFC 5905) at `epoch`, for sender reports.
    pub epoch_ntp: u64,
    /// Offer DTLS 1.3 as well as 1.2.
    pub dtls13: bool,
    /// Take the randomness of DTLS from the seed as well, for tests: each join then costs several times as much.
    pub reproducible: bool,
    /// The largest data channel message, in bytes; announced as `a=max-message-size`.
    pub max_message_size: usize,
}

/// A host candidate of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The address that clients send to.
    pub address: SocketAddr,
    /// Passive TCP (RFC 6544) instead of UDP.
    pub tcp: bool,
}

/// A run of packets for one path, one behind the other.
#[derive(Debug)]
pub struct Transmit<'a> {
    /// Where to.
    pub path: Path,
    /// The packets.
    pub bytes: &'a [u8],
    /// Where each packet ends in `bytes`.
    pub ends: &'a [u32],
}

/// The core of one worker.
#[derive(Debug)]
pub struct Engine {
    epoch: Instant,
    epoch_ntp: u64,
    room_config: Arc<RoomConfig>,
    rng: StdRng,
    demux: Demux,
    rooms: Slab<Room>,
    room_by_id: HashMap<RoomId, u32>,
    place_by_participant: FxHashMap<ParticipantId, Place>,
    numbers: TrackNumbers,
    bridges: Bridges,
    /// When each room wants to be called.
    timers: Timers,
    /// Packets of handshakes for which there was no time.
    handshakes: HandshakeQueue,
    /// How many joins may still be worked on before the next flush.
    work_left: u32,
    events: VecDeque<Event>,
    dirty: Vec<Place>,
    /// The rooms that have kept packets for the end of the batch, and when the last of them came.
    waiting: Vec<u32>,
    waiting_since: Instant,
    spare: SendBuffer,
    drops: DropCounts,
    rtcp: CompoundWriter,
    missing: Vec<u16>,
    arrived: Vec<(u16, i64)>,
    /// Answers to STUN requests, which go back on the path of the request.
    stun_replies: Vec<(Path, Vec<u8>)>,
    spare_replies: Vec<Vec<u8>>,
}

/// Events that may wait for the control plane before those of passing interest are dropped.
const MAX_EVENTS: usize = 16_384;

/// Packets of handshakes and offers that are taken between two flushes. Each takes 0.1 to 0.2 ms, and media waits meanwhile
/// (docs/speed.md, "Arrivals").
const WORK_PER_TURN: u32 = 4;

/// Answers to STUN requests that may wait within one batch of inputs.
const MAX_STUN_REPLIES: usize = 256;

impl Engine {
    /// An engine without rooms.
    pub fn new(config: EngineConfig, now: Instant) -> Self {
        let mut rng = StdRng::from_seed(config.seed);
        let local = LocalDescription {
            candidates: config.candidates,
            fingerprint: config.certificate.fingerprint(),
            max_message_size: config.max_message_size,
            worker: WorkerId(0),
        };
        let room_config = RoomConfig {
            local,
            certificate: config.certificate,
            dtls13: config.dtls13,
            reproducible: config.reproducible,
            max_message_size: config.max_message_size,
            epoch: config.epoch,
        };
        Self {
            epoch: config.epoch,
            epoch_ntp: config.epoch_ntp,
            room_config: Arc::new(room_config),
            demux: Demux::new(rng.random()),
            rng,
            rooms: Slab::new(),
            room_by_id: HashMap::default(),
            place_by_participant: FxHashMap::default(),
            numbers: TrackNumbers::new(WorkerId(0), 1),
            bridges: Bridges::new(WorkerId(0), 1),
            timers: Timers::default(),
            handshakes: HandshakeQueue::default(),
            work_left: WORK_PER_TURN,
            events: VecDeque::new(),
            dirty: Vec::new(),
            waiting: Vec::new(),
            waiting_since: now,
            spare: SendBuffer::default(),
            drops: DropCounts::default(),
            rtcp: CompoundWriter::default(),
            missing: Vec::new(),
            arrived: Vec::new(),
            stun_replies: Vec::new(),
            spare_replies: Vec::new(),
        }
    }

    /// Makes it the engine of one of several workers, which carry rooms together: what one gives to
    /// [`Engine::flush_bridge`] has to be handed to the others. To be said before anything else.
    #[must_use]
    pub fn among(mut self, worker: WorkerId, workers: u16) -> Self {
        let config = Arc::get_mut(&mut self.room_config).expect("there are no rooms yet");
        config.local.worker = worker;
        self.numbers = TrackNumbers::new(worker, workers);
        self.bridges = Bridges::new(worker, workers);
        self
    }

    /// Tells those who join from now on of other candidates; those who are here keep theirs.
    pub fn set_candidates(&mut self, candidates: Vec<Candidate>) {
        Arc::make_mut(&mut self.room_config).local.candidates = candidates;
        for (_, room) in &mut self.rooms {
            room.set_config(self.room_config.clone());
        }
    }

    /// Whether somebody was authenticated on this path, and is still here.
    pub fn is_known(&self, path: &Path) -> bool {
        self.demux.by_path(path).is_some()
    }

    /// The same with the [studio](crate::studio) beside the workers, which has the next number.
    #[must_use]
    pub fn among_with_studio(self, worker: WorkerId, workers: u16) -> Self {
        let mut engine = self.among(worker, workers);
        engine.numbers = TrackNumbers::new(worker, workers + 1);
        engine.bridges = Bridges::with_studio(worker, workers);
        engine
    }

    /// Takes a command of the control plane.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::AddParticipant { room, participant, peer } => self.add(now, room, participant, peer),
            Command::RemoveParticipant { participant } => self.remove(now, participant),
            Command::Offer { participant, request, sdp, labels } => {
                self.work_left = self.work_left.saturating_sub(1);
                // The offer may replace the transport: its names and paths go first, and come back if it stays.
                self.unmap(participant);
                let mut numbers = std::mem::take(&mut self.numbers);
                self.with_participant(now, participant, |room, ctx, index| {
                    room.handle_offer(ctx, index, request, &sdp, &labels, &mut numbers);
                });
                self.numbers = numbers;
                self.map(participant);
            }
            Command::SetMuted { participant, track, muted } => {
                self.with_participant(now, participant, |room, ctx, index| {
                    room.set_muted(ctx, index, track, muted);
                });
            }
            Command::SetRights { participant, rights } => {
                self.with_participant(now, participant, |room, ctx, index| {
                    room.set_rights(ctx, index, rights);
                });
            }
            Command::Subscribe { participant, subscription } => {
                self.with_participant(now, participant, |room, ctx, index| {
                    room.subscribe(ctx, index, subscription);
                });
            }
            Command::Timeline { participant, request } => {
                let place = self.place_by_participant.get(&participant).copied();
                let entries = place.and_then(|place| {
                    let found =
                        self.rooms.get(place.room as usize)?.participants.get(place.participant as usize)?;
                    Some(found.timeline.entries().cloned().collect())
                });
                self.events.push_back(Event::Timeline { request, entries: entries.unwrap_or_default() });
            }
            Command::RoomStats { room, request, engines } => {
                let room = self.room_by_id.get(&room).and_then(|r| self.rooms.get(*r as usize));
                let participants = room.map(Room::stats).unwrap_or_default();
                self.events.push_back(Event::Stats { request, participants, engines });
            }
        }
    }

    /// Takes one datagram (over TCP: one RFC 4571 frame). It is decrypted in place. Media is kept for [`Engine::flush`].
    pub fn handle_datagram(&mut self, now: Instant, path: Path, datagram: &mut [u8]) {
        let result = match Protocol::of(datagram) {
            Some(Protocol::Stun) => self.handle_stun(now, path, datagram),
            Some(protocol) => match self.demux.by_path(&path) {
                Some(place) if protocol == Protocol::Dtls && self.is_handshaking(place) => {
                    self.take_or_queue(now, path, place, datagram)
                }
                Some(place) => {
                    self.give(now, path, place, datagram);
                    Ok(())
                }
                None => Err(DropReason::UnknownAddress),
            },
            None => Err(DropReason::UnknownProtocol),
        };
        if let Err(reason) = result {
            self.drops.count(reason);
        }
    }

    /// Whether as many joins were worked on as shall be before the next [`Engine::flush`]. Offers that come now had better wait.
    /// While packets of handshakes wait, half of the work is theirs: who offers again and again must not keep others from joining.
    pub fn is_spent(&self) -> bool {
        self.work_left <= if self.has_handshakes() { WORK_PER_TURN / 2 } else { 0 }
    }

    /// Whether packets of handshakes wait, for which there was no time yet.
    pub fn has_handshakes(&self) -> bool {
        !self.handshakes.is_empty()
    }

    /// A TCP connection is gone: its path is dead.
    pub fn handle_disconnect(&mut self, now: Instant, path: Path) {
        let Some(place) = self.demux.by_path(&path) else { return };
        self.with_room(now, place.room, |room, _| {
            if let Some(transport) = room.transport_mut(place.participant) {
                transport.handle_disconnect(now, path);
            }
        });
        self.poll_ice(now, place);
    }

    /// Does what is due. To be called at or after the time of [`Engine::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(room) = self.timers.poll(now) {
            self.with_room(now, room, Room::handle_timeout);
            while let Some(participant) = self.rooms.get_mut(room as usize).and_then(Room::poll_ice_spoke) {
                self.poll_ice(now, Place { room, participant });
            }
        }
        self.take_handshakes(now);
    }

    /// When [`Engine::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        // What waits is taken after the next flush.
        let waiting = self.handshakes.since().filter(|_| self.work_left > 0);
        self.timers.next().into_iter().chain(waiting).min()
    }

    /// The next event for the control plane.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Hands out all that is to be sent, run by run. To be called after each batch of inputs.
    pub fn flush(&mut self, send: &mut dyn FnMut(Transmit<'_>)) {
        for (path, reply) in self.stun_replies.drain(..) {
            send(Transmit { path, bytes: &reply, ends: &[reply.len() as u32] });
            self.spare_replies.push(reply);
        }
        while let Some(room) = self.waiting.pop() {
            self.lend_room(self.waiting_since, room, |room, ctx| room.fan_out(ctx, Some(send)));
        }
        for place in self.dirty.drain(..) {
            let Some(room) = self.rooms.get_mut(place.room as usize) else { continue };
            let Some(transport) = room.transport_mut(place.participant) else { continue };
            if let Err(reason) = transport.seal() {
                self.drops.count(reason);
            }
            for (path, bytes, ends) in transport.output() {
                send(Transmit { path, bytes, ends });
            }
            transport.sent();
        }
        self.work_left = WORK_PER_TURN;
    }

    /// All packets dropped so far, by reason.
    pub fn drops(&self) -> &DropCounts {
        &self.drops
    }

    /// How many participants there are.
    pub fn participants(&self) -> usize {
        self.place_by_participant.len()
    }

    /// How many ICE user name fragments lead to somebody.
    pub fn ufrags(&self) -> usize {
        self.demux.ufrags()
    }

    /// How many tracks of people on other workers are known here.
    pub fn mirrored_tracks(&self) -> usize {
        self.bridges.tracks()
    }

    /// How many network paths lead to somebody.
    pub fn paths(&self) -> usize {
        self.demux.paths()
    }

    /// Says good-bye to all clients; to be followed by a last [`Engine::flush`].
    pub fn close(&mut self, now: Instant) {
        let rooms: Vec<u32> = self.rooms.iter().map(|(i, _)| i as u32).collect();
        for room in rooms {
            self.with_room(now, room, Room::close);
        }
    }

    fn add(&mut self, now: Instant, room: RoomId, participant: ParticipantId, peer: Arc<str>) {
        if self.place_by_participant.contains_key(&participant) {
            return;
        }
        let index = if let Some(index) = self.room_by_id.get(&room) {
            *index
        } else {
            let entry = self.rooms.vacant_entry();
            let index = entry.key() as u32;
            let rng = StdRng::from_seed(self.rng.random());
            entry.insert(Room::new(room, index, self.room_config.clone(), rng, now));
            self.room_by_id.insert(room, index);
            self.with_room(now, index, |room, ctx| room.open_bridges(ctx));
            index
        };
        let mut place = Place { room: index, participant: 0 };
        self.with_room(now, index, |room, ctx| {
            place.participant = room.add(ctx, participant, peer);
        });
        self.place_by_participant.insert(participant, place);
    }

    fn remove(&mut self, now: Instant, participant: ParticipantId) {
        self.unmap(participant);
        let Some(place) = self.place_by_participant.remove(&participant) else { return };
        self.with_room(now, place.room, |room, ctx| room.remove(ctx, place.participant));
        if self.rooms[place.room as usize].is_deserted() {
            self.with_room(now, place.room, Room::close_bridges);
            let room = self.rooms.remove(place.room as usize);
            self.room_by_id.remove(&room.id);
            self.timers.set(place.room, None);
        }
    }

    fn is_handshaking(&mut self, place: Place) -> bool {
        let room = self.rooms.get_mut(place.room as usize);
        room.and_then(|r| r.transport_mut(place.participant)).is_some_and(|t| t.is_handshaking())
    }

    /// Takes a packet of a handshake if there is time for it, or lets it wait behind those before it.
    fn take_or_queue(
        &mut self,
        now: Instant,
        path: Path,
        place: Place,
        datagram: &mut [u8],
    ) -> Result<(), DropReason> {
        if self.work_left == 0 || !self.handshakes.is_empty() {
            return self.handshakes.push(now, path, place, datagram);
        }
        self.work_left -= 1;
        self.give(now, path, place, datagram);
        Ok(())
    }

    /// Takes packets of handshakes that wait, as many as there is time for.
    fn take_handshakes(&mut self, now: Instant) {
        while self.work_left > 0
            && let Some((path, mut datagram)) = self.handshakes.pop()
        {
            // Its path may have come to somebody else meanwhile, or to nobody.
            match self.demux.by_path(&path) {
                Some(place) => {
                    self.work_left -= 1;
                    self.give(now, path, place, &mut datagram);
                }
                None => self.drops.count(DropReason::UnknownAddress),
            }
            self.handshakes.recycle(datagram);
        }
    }

    /// Gives a datagram to whom it is from.
    fn give(&mut self, now: Instant, path: Path, place: Place, datagram: &mut [u8]) {
        self.waiting_since = now;
        self.lend_room(now, place.room, |room, ctx| {
            room.handle_datagram(ctx, place.participant, path, datagram);
        });
        self.poll_ice(now, place);
    }

    /// No datagram is for this participant any more.
    fn unmap(&mut self, participant: ParticipantId) {
        let Some(&place) = self.place_by_participant.get(&participant) else { return };
        let Some(transport) = self.rooms[place.room as usize].transport_mut(place.participant) else {
            return;
        };
        for ufrag in transport.ufrags() {
            self.demux.remove_ufrag(ufrag);
        }
        for path in transport.paths() {
            self.demux.remove_path(&path, place);
        }
    }

    fn handle_stun(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Result<(), DropReason> {
        let request = BindingRequest::parse(datagram)?;
        let place = self.demux.by_ufrag(request.local_ufrag).ok_or(DropReason::StunUnknownUser)?;
        if self.stun_replies.len() >= MAX_STUN_REPLIES {
            return Err(DropReason::SendBufferFull);
        }
        let mut reply = self.spare_replies.pop().unwrap_or_default();
        let mut result = Err(DropReason::StunUnknownUser);
        self.with_room(now, place.room, |room, ctx| {
            result = room.handle_stun(ctx, place.participant, path, &request, &mut reply);
        });
        if reply.is_empty() {
            self.spare_replies.push(reply);
        } else {
            self.stun_replies.push((path, reply));
        }
        self.poll_ice(now, place);
        result
    }

    /// Keeps the tables of paths and user names as ICE says.
    fn poll_ice(&mut self, now: Instant, place: Place) {
        let mut changed = false;
        while let Some(event) = self.next_ice_event(place) {
            match event {
                IceEvent::PathKnown(path) => self.take_path(now, path, place),
                IceEvent::PathForgotten(path) => self.demux.remove_path(&path, place),
                IceEvent::UfragForgotten(ufrag) => self.demux.remove_ufrag(&ufrag),
                IceEvent::Selected(_) | IceEvent::State(_) => changed = true,
            }
        }
        if changed {
            self.with_room(now, place.room, |room, ctx| room.on_ice(ctx, place.participant));
        }
    }

    fn next_ice_event(&mut self, place: Place) -> Option<IceEvent> {
        self.rooms.get_mut(place.room as usize)?.transport_mut(place.participant)?.poll_ice()
    }

    /// A path moves to whoever was authenticated on it last; its owner of before must not send there any more.
    fn take_path(&mut self, now: Instant, path: Path, place: Place) {
        let before = self.demux.by_path(&path).filter(|p| *p != place);
        self.demux.add_path(path, place);
        let Some(before) = before else { return };
        let room = self.rooms.get_mut(before.room as usize);
        if let Some(transport) = room.and_then(|r| r.transport_mut(before.participant)) {
            transport.handle_disconnect(now, path);
        }
        self.poll_ice(now, before);
    }

    /// Datagrams with these user names and on these paths are for this participant.
    fn map(&mut self, participant: ParticipantId) {
        let Some(&place) = self.place_by_participant.get(&participant) else { return };
        let Some(transport) = self.rooms[place.room as usize].transport_mut(place.participant) else {
            return;
        };
        for ufrag in transport.ufrags() {
            self.demux.add_ufrag(ufrag, place);
        }
        for path in transport.paths() {
            self.demux.add_path(path, place);
        }
    }

    fn with_participant(
        &mut self,
        now: Instant,
        participant: ParticipantId,
        act: impl FnOnce(&mut Room, &mut Context<'_>, u32),
    ) {
        let Some(&place) = self.place_by_participant.get(&participant) else { return };
        self.with_room(now, place.room, |room, ctx| act(room, ctx, place.participant));
    }

    fn with_room(&mut self, now: Instant, room: u32, act: impl FnOnce(&mut Room, &mut Context<'_>)) {
        self.lend_room(now, room, |room, ctx| {
            // What came before is forwarded before anything else happens.
            room.fan_out(ctx, None);
            act(room, ctx);
        });
    }

    fn lend_room(&mut self, now: Instant, index: u32, act: impl FnOnce(&mut Room, &mut Context<'_>)) {
        self.bound_events();
        let Some(room) = self.rooms.get_mut(index as usize) else { return };
        let mut ctx = Context {
            now: Now::new(now, self.epoch, self.epoch_ntp),
            events: &mut self.events,
            dirty: &mut self.dirty,
            bridges: &mut self.bridges,
            waiting: &mut self.waiting,
            spare: &mut self.spare,
            drops: &mut self.drops,
            rtcp: &mut self.rtcp,
            missing: &mut self.missing,
            arrived: &mut self.arrived,
        };
        act(room, &mut ctx);
        self.timers.set(index, Some(room.next_tick()));
    }

    /// A control plane that does not listen loses what is told again or only of passing interest.
    fn bound_events(&mut self) {
        if self.events.len() > MAX_EVENTS {
            let passing = |e: &Event| {
                matches!(e, Event::Speakers { .. } | Event::Quality { .. } | Event::DataChannelClosed { .. })
            };
            self.events.retain(|e| !passing(e));
        }
    }
}
