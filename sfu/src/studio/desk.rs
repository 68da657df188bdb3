//! The studio's thread: between the bridges, those who listen and the guests.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use veche_sfu_core::bridge::News;
use veche_sfu_core::bridge::packet::Record;
use veche_sfu_core::control::Event;
use veche_sfu_core::ids::{ParticipantId, RoomId, TrackId, WorkerId};
use veche_sfu_core::studio::{RoomRecord, Studio, Told};

use super::Request;
use super::guest::Ask;
use super::listener::{Ear, Heard, HeardPacket};
use crate::bridge::{self, Bridges};
use crate::mailbox::Bell;

/// What is taken of the requests in one turn.
const REQUESTS_PER_TURN: usize = 1_024;

/// How soon to try again what found no room: news for a worker, events for the control plane.
const RETRY: Duration = Duration::from_millis(5);

/// Until something happens.
const SLEEP: Duration = Duration::from_hours(1);

/// Events that may wait for the control plane: guests are few.
const MAX_EVENTS: usize = 4_096;

/// What the thread is made of.
#[derive(Debug)]
pub(crate) struct DeskParts {
    pub(super) bell: Arc<Bell>,
    pub(super) inbox: flume::Receiver<Request>,
    pub(super) workers: u16,
    pub(super) epoch: Instant,
}

/// Everything of the thread.
#[derive(Debug)]
pub(crate) struct Desk {
    bell: Arc<Bell>,
    inbox: flume::Receiver<Request>,
    bridges: Bridges,
    studio: Studio,
    events: flume::Sender<Event>,
    held: VecDeque<Event>,
    rooms: HashMap<RoomId, Audience>,
    room_by_ear: HashMap<u64, RoomId>,
    asks: HashMap<ParticipantId, flume::Sender<Ask>>,
    guest_by_track: HashMap<TrackId, ParticipantId>,
    room_by_guest: HashMap<ParticipantId, RoomId>,
    now: Instant,
    /// More requests or records wait than the last turn took.
    left: bool,
    news_wait: bool,
}

/// Who has to do with a room.
#[derive(Debug, Default)]
struct Audience {
    ears: Vec<Listening>,
    guests: usize,
}

/// Somebody who listens.
#[derive(Debug)]
struct Listening {
    ear: Ear,
    taken: HashMap<TrackId, Taken>,
}

/// What somebody takes of a track.
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// Whose it is.
    owner: ParticipantId,
    /// Which layers, one bit each.
    layers: u8,
}

impl Desk {
    pub(crate) fn new(parts: DeskParts, bridges: Bridges, events: flume::Sender<Event>) -> Self {
        let DeskParts { bell, inbox, workers, epoch } = parts;
        Self {
            bell,
            inbox,
            bridges,
            studio: Studio::new(workers, epoch),
            events,
            held: VecDeque::new(),
            rooms: HashMap::new(),
            room_by_ear: HashMap::new(),
            asks: HashMap::new(),
            guest_by_track: HashMap::new(),
            room_by_guest: HashMap::new(),
            now: Instant::now(),
            left: false,
            news_wait: false,
        }
    }

    /// Works until it is told to stop.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        while !self.bell.is_stopping() {
            self.wait()?;
            self.now = Instant::now();
            // First the bell, then the queues: what comes in between rings for the next time.
            self.bell.silence();
            self.left = false;
            self.take_requests();
            self.cross_in();
            self.studio.handle_timeout(self.now);
            self.hand_out();
            self.cross_out();
            self.hand_out();
            self.hand_out_events();
        }
        Ok(())
    }

    fn wait(&self) -> io::Result<()> {
        let now = Instant::now();
        let mut due = self.studio.poll_timeout().unwrap_or(now + SLEEP);
        if self.news_wait || !self.held.is_empty() {
            due = due.min(now + RETRY);
        }
        let patience = if self.left { Duration::ZERO } else { due.saturating_duration_since(now) };
        let timeout = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&*self.bell, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn take_requests(&mut self) {
        for _ in 0..REQUESTS_PER_TURN {
            let Ok(request) = self.inbox.try_recv() else { return };
            self.take_request(request);
        }
        self.left = true;
    }

    fn take_request(&mut self, request: Request) {
        let now = self.now;
        match request {
            Request::Listen { room, ear } => self.listen(room, ear),
            Request::Take { ear, track, layers } => self.take(ear, track, layers),
            Request::KeyFrame { track, layer } => self.studio.request_key_frame(track, layer),
            Request::Hush { ear } => self.hush(ear),
            Request::AddGuest { room, participant, asks } => {
                self.rooms.entry(room).or_default().guests += 1;
                self.room_by_guest.insert(participant, room);
                self.asks.insert(participant, asks);
                self.studio.add_guest(room, participant);
            }
            Request::RemoveGuest { participant } => self.remove_guest(participant),
            Request::Publish { participant, id, track } => {
                if self.studio.publish(now, participant, id, *track) {
                    self.guest_by_track.insert(id, participant);
                } else {
                    tracing::warn!(%participant, "a guest's track has no layer or codec, or there are too many");
                }
            }
            Request::Mute { track, muted } => self.studio.mute(now, track, muted),
            Request::Unpublish { track } => {
                self.guest_by_track.remove(&track);
                self.studio.unpublish(track);
            }
            Request::Send { track, layer, packet } => {
                if let Err(reason) = self.studio.send(now, track, layer, &packet) {
                    tracing::debug!(%track, reason = reason.name(), "a guest's packet was dropped");
                }
            }
            Request::Report { track, layer, ntp, rtp_timestamp } => {
                self.studio.report(now, track, layer, ntp, rtp_timestamp);
            }
        }
    }

    fn listen(&mut self, room: RoomId, ear: Ear) {
        self.studio.open(room);
        for news in self.studio.everything(room) {
            ear.put(Heard::News(news));
        }
        self.room_by_ear.insert(ear.id, room);
        let audience = self.rooms.entry(room).or_default();
        audience.ears.push(Listening { ear, taken: HashMap::new() });
    }

    fn take(&mut self, ear: u64, track: TrackId, layers: u8) {
        let Some(audience) = self.room_by_ear.get(&ear).and_then(|room| self.rooms.get_mut(room)) else {
            return;
        };
        let Some(owner) = self.studio.owner(track) else { return };
        if let Some(listening) = audience.ears.iter_mut().find(|listening| listening.ear.id == ear) {
            if layers == 0 {
                listening.taken.remove(&track);
            } else {
                listening.taken.insert(track, Taken { owner, layers });
            }
        }
        self.studio.take(track, audience.taken(track));
    }

    fn hush(&mut self, ear: u64) {
        let Some(room) = self.room_by_ear.remove(&ear) else { return };
        let Some(audience) = self.rooms.get_mut(&room) else { return };
        let Some(index) = audience.ears.iter().position(|listening| listening.ear.id == ear) else { return };
        for track in audience.ears.swap_remove(index).taken.into_keys() {
            self.studio.take(track, audience.taken(track));
        }
        self.close_if_idle(room);
    }

    fn remove_guest(&mut self, participant: ParticipantId) {
        self.studio.remove_guest(participant);
        self.asks.remove(&participant);
        self.guest_by_track.retain(|_, guest| *guest != participant);
        let Some(room) = self.room_by_guest.remove(&participant) else { return };
        if let Some(audience) = self.rooms.get_mut(&room) {
            audience.guests -= 1;
        }
        self.close_if_idle(room);
    }

    fn close_if_idle(&mut self, room: RoomId) {
        if self.rooms.get(&room).is_some_and(|audience| audience.ears.is_empty() && audience.guests == 0) {
            self.rooms.remove(&room);
            self.studio.close(room);
        }
    }

    fn cross_in(&mut self) {
        let Self { bridges, studio, rooms, now, left, .. } = self;
        let mut deaf = Vec::new();
        for (index, way) in bridges.ways.iter_mut().enumerate() {
            let Some(way) = way else { continue };
            let from = WorkerId(index as u16);
            let taken = way.inn.take(|crossing| {
                if let Some(record) = studio.handle_crossing(*now, from, crossing) {
                    deliver(rooms, &record, &mut deaf);
                }
                // What was told comes before the packets that it is about.
                while let Some(Told::News { room, news }) = studio.poll_news() {
                    tell(rooms, room, &news, &mut deaf);
                }
            });
            match taken {
                bridge::Taken::All => {}
                bridge::Taken::Some => *left = true,
                bridge::Taken::Gone => studio.handle_worker_gone(from),
            }
        }
        for ear in deaf {
            self.hush(ear);
        }
    }

    /// Hands out what the studio tells.
    fn hand_out(&mut self) {
        let mut deaf = Vec::new();
        while let Some(told) = self.studio.poll() {
            match told {
                Told::News { room, news } => tell(&mut self.rooms, room, &news, &mut deaf),
                Told::KeyFrame { track, layer } => self.ask(track, Ask::KeyFrame { track, layer }),
                Told::Wanted { track, layers } => self.ask(track, Ask::Wanted { track, layers }),
                Told::Event(event) if self.held.len() < MAX_EVENTS => self.held.push_back(event),
                Told::Event(_) => tracing::warn!("an event of a guest is lost: nobody reads them"),
            }
        }
        for ear in deaf {
            self.hush(ear);
        }
    }

    fn ask(&self, track: TrackId, ask: Ask) {
        let asks = self.guest_by_track.get(&track).and_then(|guest| self.asks.get(guest));
        if let Some(asks) = asks {
            // Who does not look is asked no more.
            let _ = asks.try_send(ask);
        }
    }

    fn cross_out(&mut self) {
        self.news_wait = false;
        for (index, way) in self.bridges.ways.iter_mut().enumerate() {
            let Some(way) = way else { continue };
            let to = WorkerId(index as u16);
            if self.studio.flush_bridge(to, &mut |crossing| way.out.carry(crossing)) {
                way.out.ring();
            }
            self.news_wait |= self.studio.has_news(to);
        }
    }

    fn hand_out_events(&mut self) {
        while let Some(event) = self.held.pop_front() {
            if let Err(flume::TrySendError::Full(event)) = self.events.try_send(event) {
                self.held.push_front(event);
                return;
            }
        }
    }
}

impl Audience {
    /// The layers of a track that anybody takes.
    fn taken(&self, track: TrackId) -> u8 {
        let taken = self.ears.iter().filter_map(|listening| listening.taken.get(&track));
        taken.fold(0, |all, one| all | one.layers)
    }
}

/// Tells all who listen to a room. Those who cannot be told come behind those in `deaf`.
fn tell(rooms: &mut HashMap<RoomId, Audience>, room: RoomId, news: &News, deaf: &mut Vec<u64>) {
    let Some(audience) = rooms.get_mut(&room) else { return };
    for Listening { ear, taken } in &mut audience.ears {
        match news {
            News::TrackGone { track, .. } => drop(taken.remove(track)),
            // They may come back, as when a worker tells everything anew: their tracks are to be taken again.
            News::Left { participant } => taken.retain(|_, taken| taken.owner != *participant),
            News::Track(_) | News::Joined { .. } | News::Reachable { .. } | News::Layers { .. } => {}
            _ => continue,
        }
        if !ear.put(Heard::News(news.clone())) {
            deaf.push(ear.id);
        }
    }
}

/// Gives a record to those who take its layer. It is copied once.
fn deliver(rooms: &mut HashMap<RoomId, Audience>, record: &RoomRecord<'_>, deaf: &mut Vec<u64>) {
    let Some(audience) = rooms.get(&record.room) else { return };
    let stream = match &record.record {
        Record::Packet(packet) => packet.stream,
        Record::Report(report) => report.stream,
    };
    let bit = 1_u8.checked_shl(stream.layer.into()).unwrap_or(0);
    let mut heard = None;
    for Listening { ear, taken } in &audience.ears {
        // Sound has one layer.
        if taken.get(&stream.track).is_none_or(|taken| taken.layers & bit == 0) {
            continue;
        }
        let heard = heard.get_or_insert_with(|| match &record.record {
            Record::Packet(packet) => Heard::Packet(HeardPacket {
                track: stream.track,
                layer: stream.layer,
                generation: stream.generation,
                repaired: packet.repaired,
                arrived: packet.arrived,
                bytes: packet.packet.into(),
            }),
            Record::Report(report) => Heard::Report(*report),
        });
        if !ear.put(heard.clone()) {
            deaf.push(ear.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::studio::listener::listener;

    #[test]
    fn what_somebody_took_of_who_left_counts_no_more() {
        let (studio, _parts) = crate::studio::Studio::prepare(1, Instant::now()).unwrap();
        let [theirs, others] = [TrackId(1), TrackId(2)];
        let [left, stays] = [ParticipantId(1), ParticipantId(2)];
        let (_listener, ear) = listener(0, studio, 1 << 20);
        let taken =
            [(theirs, Taken { owner: left, layers: 0b11 }), (others, Taken { owner: stays, layers: 1 })];
        let audience = Audience { ears: vec![Listening { ear, taken: taken.into() }], guests: 0 };
        let mut rooms = HashMap::from([(RoomId(1), audience)]);
        let mut deaf = Vec::new();
        tell(&mut rooms, RoomId(1), &News::Left { participant: left }, &mut deaf);
        let audience = &rooms[&RoomId(1)];
        assert_eq!((audience.taken(theirs), audience.taken(others)), (0, 1));
        assert!(deaf.is_empty());
    }
}
