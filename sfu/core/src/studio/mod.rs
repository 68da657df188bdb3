//! The studio: one more carrier of rooms, behind the workers, that has no sockets. What happens in this process with the
//! media of a room, such as recording it, happens here; and who takes part in a room without a browser, such as a camera
//! that knows HTTP only, is at home here.
//!
//! For the workers it is a worker like any other: it says hello to a room, is told who is there and what their tracks are
//! like, takes layers, gets their packets over a bridge (sound always), and asks for key frames. Nobody counts it: it is no
//! participant. Those at home here are *guests* ([`guest`]): they stand as mirrors in the shards of the workers.
//!
//! Like an engine it decides only; `veche_sfu::studio` is the thread around it.

pub mod guest;
mod hall;
mod told;

use std::collections::VecDeque;
use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::bridge::lanes::Bridges;
use crate::bridge::packet::Record;
use crate::bridge::{BridgeMessage, Crossing, News};
use crate::control::Event;
use crate::data::across;
use crate::drops::{DropCounts, DropReason};
use crate::ids::{ParticipantId, RoomId, TrackId, WorkerId};

use guest::Guest;
use hall::Hall;
pub use told::{RoomRecord, Told};

/// The studio beside the workers of a process.
#[derive(Debug)]
pub struct Studio {
    bridges: Bridges,
    /// Server time counts from here.
    epoch: Instant,
    halls: FxHashMap<RoomId, Hall>,
    /// Where tracks of people are, and those of guests.
    room_by_track: FxHashMap<TrackId, RoomId>,
    room_by_guest: FxHashMap<ParticipantId, RoomId>,
    guest_by_track: FxHashMap<TrackId, ParticipantId>,
    told: VecDeque<Told>,
    drops: DropCounts,
    /// When the tracks of guests are looked at.
    look_at: Option<Instant>,
}

impl Studio {
    /// The studio beside so many workers, whose number is the next. `epoch` is that of their engines.
    pub fn new(workers: u16, epoch: Instant) -> Self {
        Self {
            bridges: Bridges::new(WorkerId(workers), workers + 1),
            epoch,
            halls: FxHashMap::default(),
            room_by_track: FxHashMap::default(),
            room_by_guest: FxHashMap::default(),
            guest_by_track: FxHashMap::default(),
            told: VecDeque::new(),
            drops: DropCounts::default(),
            look_at: None,
        }
    }

    /// Listens to a room from now on: everybody who is there, and comes, is told of ([`Told::News`]). Does nothing where it
    /// listens already.
    pub fn open(&mut self, room: RoomId) {
        if let std::collections::hash_map::Entry::Vacant(entry) = self.halls.entry(room) {
            entry.insert(Hall::default());
            self.bridges.tell_all(room, &News::Hello);
        }
    }

    /// Listens to a room no longer. Its guests must have left.
    pub fn close(&mut self, room: RoomId) {
        if self.halls.remove(&room).is_some() {
            self.room_by_track.retain(|_, r| *r != room);
            self.bridges.tell_all(room, &News::Goodbye);
        }
    }

    /// All that is known of a room, as it would be told to who has just begun to listen.
    pub fn everything(&self, room: RoomId) -> Vec<News> {
        self.halls.get(&room).map(Hall::everything).unwrap_or_default()
    }

    /// These layers of somebody's video track, one bit each, are wanted and shall come from now on, and no others. Their
    /// publisher is asked to send them. Sound comes anyway.
    pub fn take(&mut self, track: TrackId, layers: u8) {
        let Some(room) = self.room_by_track.get(&track).copied() else { return };
        if let Some(hall) = self.halls.get_mut(&room) {
            hall.take(&mut self.bridges, room, track, layers);
        }
    }

    /// Whose a track is, of those who are at home on workers.
    pub fn owner(&self, track: TrackId) -> Option<ParticipantId> {
        let hall = self.halls.get(self.room_by_track.get(&track)?)?;
        hall.owner(track).map(|(participant, _)| participant)
    }

    /// Asks for a key frame of somebody's layer.
    pub fn request_key_frame(&mut self, track: TrackId, layer: u8) {
        let Some(room) = self.room_by_track.get(&track).copied() else { return };
        if let Some((participant, home)) = self.halls.get(&room).and_then(|hall| hall.owner(track)) {
            self.bridges.tell(home, room, News::KeyFrame { participant, track, layer });
        }
    }

    /// Takes what a worker tells or sends. What it sends of the media of somebody known comes out at once.
    pub fn handle_crossing<'a>(
        &mut self,
        now: Instant,
        from: WorkerId,
        crossing: Crossing<'a>,
    ) -> Option<RoomRecord<'a>> {
        match crossing {
            Crossing::News(BridgeMessage::News { room, news }) => self.handle_news(now, from, room, news),
            Crossing::News(BridgeMessage::Anew) => self.forget_worker(from),
            Crossing::Record(record) => {
                let found = Record::parse(record).and_then(|record| {
                    let (Record::Packet(crate::bridge::packet::BridgePacket { stream, .. })
                    | Record::Report(crate::bridge::packet::BridgeReport { stream, .. })) = record;
                    Some(RoomRecord { room: *self.room_by_track.get(&stream.track)?, record })
                });
                if found.is_none() {
                    self.drops.count(DropReason::BridgeStale);
                }
                return found;
            }
        }
        None
    }

    /// A worker is gone, and all who were there.
    pub fn handle_worker_gone(&mut self, worker: WorkerId) {
        if let Some(lanes) = self.bridges.lanes(worker) {
            lanes.close();
        }
        self.forget_worker(worker);
    }

    /// What has happened, in its order; `None` when that is all.
    pub fn poll(&mut self) -> Option<Told> {
        self.told.pop_front()
    }

    /// The next of what has happened, if it is news: those of packets that come next are among them.
    pub fn poll_news(&mut self) -> Option<Told> {
        self.told.pop_front_if(|told| matches!(told, Told::News { .. }))
    }

    /// Hands out what is for a worker; `carry` gives back what it has no room for. News then wait for the next time, and records
    /// are dropped. Returns whether anything went. To be called after each batch of inputs.
    pub fn flush_bridge(
        &mut self,
        worker: WorkerId,
        carry: &mut dyn FnMut(Crossing<'_>) -> Result<(), Crossing<'_>>,
    ) -> bool {
        let Some(lanes) = self.bridges.lanes(worker).filter(|lanes| !lanes.is_empty()) else { return false };
        let (told, drops) = (&mut self.told, &mut self.drops);
        let mut lost = None;
        let sent = lanes.send(carry, |next| {
            drops.count(DropReason::BridgeFull);
            let (track, layer) = (next.layer.id, next.layer.layer);
            // Records of one layer come in runs.
            if lost.replace((track, layer)) != Some((track, layer)) {
                told.push_back(Told::KeyFrame { track, layer });
            }
        });
        if lanes.is_overfull() {
            self.begin_anew(worker);
        }
        sent > 0
    }

    /// Whether news wait for a worker that had no room for them.
    pub fn has_news(&mut self, worker: WorkerId) -> bool {
        self.bridges.lanes(worker).is_some_and(|lanes| !lanes.is_empty())
    }

    /// What was dropped so far.
    pub fn drops(&self) -> &DropCounts {
        &self.drops
    }

    fn handle_news(&mut self, now: Instant, from: WorkerId, room: RoomId, news: News) {
        let Some(hall) = self.halls.get_mut(&room) else { return };
        match news {
            News::Hello => {
                self.forget(room, from);
                self.bridges.forget_room(from, room);
                self.bridges.tell_standing(from, room, News::Here);
                self.welcome(room, from);
            }
            News::Here => {
                self.drop_people(room, from);
                self.welcome(room, from);
            }
            News::Goodbye => self.forget(room, from),
            // From before it said hello.
            _ if !hall.is_carried_by(from) => {}
            // Guests have no data channels, but who sends to all waits for everybody.
            News::Data(message) => {
                let (sender, bytes) = (message.sender, across::cost(&message.message));
                self.bridges.tell(from, room, News::DataTaken { sender, bytes });
            }
            News::Wanted { participant, track, layers } => {
                if let Some(guest) = hall.guests.get_mut(&participant) {
                    guest.on_wanted(from, track, layers);
                    self.look_at = Some(now);
                }
            }
            News::Take { participant, track, layer, on } => {
                if let Some(guest) = hall.guests.get_mut(&participant) {
                    guest.on_take(&mut self.bridges, from, track, layer, on);
                }
            }
            News::KeyFrame { participant, track, layer } => {
                if hall.guests.contains_key(&participant) {
                    self.told.push_back(Told::KeyFrame { track, layer });
                }
            }
            News::DataTaken { .. } => {}
            News::Left { participant } => {
                if let Some(tracks) = hall.remove_person(from, participant) {
                    self.tell_left(room, participant, &tracks);
                }
            }
            news => {
                if hall.learn(from, &news) {
                    self.note_track(room, &news);
                    self.told.push_back(Told::News { room, news });
                }
            }
        }
    }

    /// Where a track is, for its packets.
    fn note_track(&mut self, room: RoomId, news: &News) {
        match news {
            News::Track(track) => drop(self.room_by_track.insert(track.id, room)),
            News::TrackGone { track, .. } => drop(self.room_by_track.remove(track)),
            _ => {}
        }
    }

    /// A worker carries the room: it is told of the guests, once.
    fn welcome(&mut self, room: RoomId, worker: WorkerId) {
        let Some(hall) = self.halls.get_mut(&room) else { return };
        if hall.add_carrier(worker) {
            for (participant, guest) in &hall.guests {
                guest.tell(&mut self.bridges, worker, room, *participant);
            }
        }
    }

    /// In all rooms: nothing of what that worker told holds any more.
    fn forget_worker(&mut self, worker: WorkerId) {
        let rooms: Vec<RoomId> = self.halls.keys().copied().collect();
        for room in rooms {
            self.forget(room, worker);
        }
    }

    /// A worker carries the room no longer.
    fn forget(&mut self, room: RoomId, worker: WorkerId) {
        if let Some(hall) = self.halls.get_mut(&room) {
            hall.remove_carrier(worker);
            self.drop_people(room, worker);
        }
    }

    /// Nobody is known on that worker any more.
    fn drop_people(&mut self, room: RoomId, worker: WorkerId) {
        let Some(hall) = self.halls.get_mut(&room) else { return };
        for (participant, tracks) in hall.drop_people(worker) {
            self.tell_left(room, participant, &tracks);
        }
    }

    /// Somebody has left, with these tracks.
    fn tell_left(&mut self, room: RoomId, participant: ParticipantId, tracks: &[TrackId]) {
        for track in tracks {
            self.room_by_track.remove(track);
        }
        self.told.push_back(Told::News { room, news: News::Left { participant } });
    }

    /// Too much waits for a worker that does not listen: it is told everything when it listens again.
    fn begin_anew(&mut self, worker: WorkerId) {
        self.forget_worker(worker);
        let Some(lanes) = self.bridges.lanes(worker) else { return };
        for _ in 0..lanes.begin_anew() {
            self.drops.count(DropReason::BridgeFull);
        }
        for room in self.halls.keys() {
            self.bridges.tell_standing(worker, *room, News::Hello);
        }
    }

    fn tell_event(&mut self, event: Event) {
        self.told.push_back(Told::Event(event));
    }

    fn guest_mut(&mut self, participant: ParticipantId) -> Option<(RoomId, &mut Hall)> {
        let room = *self.room_by_guest.get(&participant)?;
        Some((room, self.halls.get_mut(&room)?))
    }
}

/// Server time.
fn nanos(epoch: Instant, now: Instant) -> i64 {
    now.saturating_duration_since(epoch).as_nanos() as i64
}
