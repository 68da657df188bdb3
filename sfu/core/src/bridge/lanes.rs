//! What waits to go over an engine's bridges: for each other worker a lane of news and one of records.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::{BridgeMessage, Crossing, News};
use crate::forward::forwarder::LayerRef;
use crate::ids::{RoomId, TrackId, WorkerId};

/// All bridges of an engine.
#[derive(Debug)]
pub struct Bridges {
    own: WorkerId,
    /// How many workers there are, the studio not counted.
    workers: u16,
    /// By the number of the worker, and then that to the studio; the own one stays empty.
    lanes: Vec<Lanes>,
    /// Where the tracks of mirrors are: what a record needs to know.
    place_by_track: FxHashMap<TrackId, MirrorPlace>,
}

/// Where a track of a mirror is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MirrorPlace {
    /// The room's index.
    pub room: u32,
    /// The mirror's index in the room.
    pub participant: u32,
    /// The track's index.
    pub track: u32,
}

/// What goes to one worker.
#[derive(Debug, Default)]
pub struct Lanes {
    news: VecDeque<Waiting>,
    /// How many of them are changes.
    changes: usize,
    /// Records, one behind the other.
    records: Vec<u8>,
    queued: Vec<Queued>,
    /// The worker is gone.
    closed: bool,
}

/// Something to be told that waits for room on its way.
#[derive(Debug)]
struct Waiting {
    message: BridgeMessage,
    /// It counts towards [`MAX_CHANGES`].
    change: bool,
}

/// A record that waits for the end of the batch.
#[derive(Clone, Copy, Debug)]
struct Queued {
    end: usize,
    room: u32,
    layer: LayerRef,
}

/// A layer of which a record found the way full.
#[derive(Clone, Copy, Debug)]
pub struct Lost {
    /// The room's index.
    pub room: u32,
    /// The layer.
    pub layer: LayerRef,
}

/// Records of one batch of inputs that may wait, in bytes: more than a worker receives at once.
const MAX_RECORDS: usize = 4 << 20;

/// While so many news wait, those that are told again anyway are left out.
const MANY_NEWS: usize = 1_024;

/// So many changes may wait for a worker. People make changes, as often as they like; beyond this the worker is told anew how
/// everything is. What is not counted has its own bounds: that by what there is, messages of data channels by a window for each
/// sender (`data/across.rs`).
const MAX_CHANGES: usize = 16_384;

impl Bridges {
    /// Those of one of so many workers.
    pub fn new(own: WorkerId, workers: u16) -> Self {
        let lanes = (0..workers).map(|_| Lanes::default()).collect();
        Self { own, workers, lanes, place_by_track: FxHashMap::default() }
    }

    /// The same with one to the studio, whose number is the next after those of the workers.
    pub fn with_studio(own: WorkerId, workers: u16) -> Self {
        Self { workers, ..Self::new(own, workers + 1) }
    }

    /// Tells a worker what has changed.
    pub fn tell(&mut self, worker: WorkerId, room: RoomId, news: News) {
        let change = !matches!(news, News::Data(_) | News::DataTaken { .. });
        self.push(worker, Waiting { message: BridgeMessage::News { room, news }, change });
    }

    /// Tells a worker what is so anyway, once for each time that it has to be told everything.
    pub fn tell_standing(&mut self, worker: WorkerId, room: RoomId, news: News) {
        self.push(worker, Waiting { message: BridgeMessage::News { room, news }, change: false });
    }

    /// What waits for a worker about a room is void: it is about to be told everything.
    pub fn forget_room(&mut self, worker: WorkerId, room: RoomId) {
        let of_room =
            |waiting: &Waiting| matches!(&waiting.message, BridgeMessage::News { room: r, .. } if *r == room);
        if let Some(lanes) = self.lanes(worker) {
            lanes.retain(|waiting| !of_room(waiting));
        }
    }

    fn push(&mut self, worker: WorkerId, waiting: Waiting) {
        if let Some(lanes) = self.lanes(worker).filter(|lanes| !lanes.closed) {
            lanes.changes += usize::from(waiting.change);
            lanes.news.push_back(waiting);
        }
    }

    /// Tells all other workers something.
    pub fn tell_all(&mut self, room: RoomId, news: &News) {
        for worker in 0..self.lanes.len() as u16 {
            if worker != self.own.0 {
                self.tell(WorkerId(worker), room, news.clone());
            }
        }
    }

    /// Whether so much waits for a worker that what is told again anyway should be left out.
    pub fn is_behind(&self, worker: WorkerId) -> bool {
        self.lanes.get(usize::from(worker.0)).is_none_or(|lanes| lanes.news.len() >= MANY_NEWS)
    }

    /// Lets `write` put a record behind the others for a worker. `layer` of the room with index `room` is what it is of.
    /// Returns whether there was room.
    pub fn record(
        &mut self,
        worker: WorkerId,
        room: u32,
        layer: LayerRef,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let Some(lanes) = self.lanes.get_mut(usize::from(worker.0)) else { return false };
        if lanes.closed || lanes.records.len() >= MAX_RECORDS {
            return false;
        }
        write(&mut lanes.records);
        lanes.queued.push(Queued { end: lanes.records.len(), room, layer });
        true
    }

    /// Whether this worker is the one that speaks for a room which these `others` carry too: the room's first worker,
    /// or the lowest when that does not carry it.
    pub fn speaks_for(&self, room: RoomId, others: &[WorkerId]) -> bool {
        let first = WorkerId((room.0 % u64::from(self.workers.max(1))) as u16);
        if others.contains(&first) {
            return false;
        }
        self.own == first || others.iter().all(|other| self.own < *other)
    }

    /// Records about this track are for this place.
    pub fn add_track(&mut self, track: TrackId, place: MirrorPlace) {
        self.place_by_track.insert(track, place);
    }

    /// The track is gone.
    pub fn remove_track(&mut self, track: TrackId) {
        self.place_by_track.remove(&track);
    }

    /// Where a track is.
    pub fn place(&self, track: TrackId) -> Option<MirrorPlace> {
        self.place_by_track.get(&track).copied()
    }

    /// What waits for a worker.
    pub fn lanes(&mut self, worker: WorkerId) -> Option<&mut Lanes> {
        self.lanes.get_mut(usize::from(worker.0))
    }

    /// How many tracks of mirrors there are.
    pub fn tracks(&self) -> usize {
        self.place_by_track.len()
    }
}

impl Lanes {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.news.is_empty() && self.queued.is_empty()
    }

    /// Whether more changes wait than may. To be followed by [`Lanes::begin_anew`].
    pub fn is_overfull(&self) -> bool {
        self.changes > MAX_CHANGES
    }

    /// Says that all that was told is void, instead of all that waits but messages of data channels. Everything has to be told
    /// then. Returns how many news are lost.
    pub fn begin_anew(&mut self) -> usize {
        let before = self.news.len();
        self.retain(|waiting| {
            matches!(
                &waiting.message,
                BridgeMessage::News { news: News::Data(_) | News::DataTaken { .. }, .. }
            )
        });
        let lost = before - self.news.len();
        self.news.push_back(Waiting { message: BridgeMessage::Anew, change: false });
        lost
    }

    fn retain(&mut self, keep: impl FnMut(&Waiting) -> bool) {
        self.news.retain(keep);
        self.changes = self.news.iter().filter(|waiting| waiting.change).count();
    }

    /// Hands out what waits; `carry` gives back what it has no room for. News then wait, with those behind them; records
    /// are dropped and named to `lost`. Returns how many went.
    pub fn send(
        &mut self,
        carry: &mut dyn FnMut(Crossing<'_>) -> Result<(), Crossing<'_>>,
        mut lost: impl FnMut(Lost),
    ) -> usize {
        let mut sent = 0;
        while let Some(Waiting { message, change }) = self.news.pop_front() {
            if let Err(Crossing::News(message)) = carry(Crossing::News(message)) {
                self.news.push_front(Waiting { message, change });
                break;
            }
            self.changes -= usize::from(change);
            sent += 1;
        }
        let mut start = 0;
        for queued in self.queued.drain(..) {
            let record = &self.records[start..queued.end];
            start = queued.end;
            if carry(Crossing::Record(record)).is_ok() {
                sent += 1;
            } else {
                lost(Lost { room: queued.room, layer: queued.layer });
            }
        }
        self.records.clear();
        sent
    }

    /// The worker is gone: nobody will read what waits, or what comes.
    pub fn close(&mut self) {
        *self = Self { closed: true, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ParticipantId;

    fn layer() -> LayerRef {
        LayerRef { participant: 3, track: 0, layer: 1, id: TrackId(5) }
    }

    #[test]
    fn the_first_worker_speaks_for_a_room_or_else_the_lowest() {
        let speaks = |own, others: &[u16]| {
            let others: Vec<WorkerId> = others.iter().map(|o| WorkerId(*o)).collect();
            Bridges::new(WorkerId(own), 4).speaks_for(RoomId(6), &others)
        };
        assert!(speaks(2, &[0, 3]), "6 modulo 4");
        assert!(!speaks(0, &[2, 3]));
        assert!(speaks(0, &[1, 3]) && !speaks(1, &[0, 3]));
        assert!(speaks(3, &[]));
    }

    #[test]
    fn the_studio_never_speaks_for_a_room() {
        let speaks = |own, others: &[u16]| {
            let others: Vec<WorkerId> = others.iter().map(|o| WorkerId(*o)).collect();
            Bridges::with_studio(WorkerId(own), 2).speaks_for(RoomId(5), &others)
        };
        assert!(speaks(1, &[0, 2]), "5 modulo 2");
        assert!(speaks(0, &[2]) && !speaks(0, &[1, 2]));
    }

    #[test]
    fn news_wait_and_records_do_not() {
        let mut bridges = Bridges::new(WorkerId(0), 2);
        bridges.tell_all(RoomId(1), &News::Hello);
        bridges.tell(WorkerId(1), RoomId(1), News::Goodbye);
        for byte in [7, 8] {
            assert!(bridges.record(WorkerId(1), 4, layer(), |out| out.push(byte)));
        }
        assert!(bridges.lanes(WorkerId(0)).unwrap().is_empty(), "nobody tells themselves");
        let lanes = bridges.lanes(WorkerId(1)).unwrap();

        let mut lost = Vec::new();
        let mut room_for = [1, 1];
        let sent = lanes.send(
            &mut |crossing| {
                let room = &mut room_for[usize::from(matches!(crossing, Crossing::News(_)))];
                *room -= 1;
                if *room < 0 { Err(crossing) } else { Ok(()) }
            },
            |l| lost.push(l.room),
        );
        assert_eq!(sent, 2, "one of each");
        assert_eq!(lanes.send(&mut |crossing| Err(crossing), |l| lost.push(l.room)), 0);
        assert_eq!(lost, [4]);
        assert_eq!(told(lanes), ["1 Goodbye"]);
        lanes.close();
        bridges.tell_all(RoomId(1), &News::Hello);
        assert!(!bridges.record(WorkerId(1), 4, layer(), |out| out.push(9)));
        assert!(bridges.lanes(WorkerId(1)).unwrap().is_empty());
    }

    /// What a worker that takes everything is told.
    fn told(lanes: &mut Lanes) -> Vec<String> {
        let mut told = Vec::new();
        lanes.send(
            &mut |crossing| {
                match crossing {
                    Crossing::News(BridgeMessage::News { room, news }) => {
                        told.push(format!("{room} {news:?}"));
                    }
                    Crossing::News(BridgeMessage::Anew) => told.push("anew".to_owned()),
                    Crossing::Record(_) => {}
                }
                Ok(())
            },
            |_| {},
        );
        told
    }

    fn left(participant: u64) -> News {
        News::Left { participant: ParticipantId(participant) }
    }

    fn taken() -> News {
        News::DataTaken { sender: ParticipantId(1), bytes: 1 }
    }

    #[test]
    fn changes_that_nobody_hears_are_bounded_and_all_begins_anew() {
        let mut bridges = Bridges::new(WorkerId(0), 2);
        for n in 0..MAX_CHANGES as u64 {
            bridges.tell(WorkerId(1), RoomId(1), left(n));
            bridges.tell(WorkerId(1), RoomId(1), taken());
            bridges.tell_standing(WorkerId(1), RoomId(2), News::Here);
        }
        assert!(!bridges.lanes(WorkerId(1)).unwrap().is_overfull(), "only changes count");
        bridges.tell(WorkerId(1), RoomId(1), left(7));
        let lanes = bridges.lanes(WorkerId(1)).unwrap();
        assert!(lanes.is_overfull());
        assert_eq!(lanes.begin_anew(), 2 * MAX_CHANGES + 1);
        assert!(!lanes.is_overfull());
        let told = told(lanes);
        assert_eq!(told.len(), MAX_CHANGES + 1, "messages of data channels wait as before");
        assert_eq!(told.last().map(String::as_str), Some("anew"));
        // What was sent is not counted any more.
        for n in 0..MAX_CHANGES as u64 {
            bridges.tell(WorkerId(1), RoomId(1), left(n));
        }
        assert!(!bridges.lanes(WorkerId(1)).unwrap().is_overfull());
    }

    #[test]
    fn what_waits_about_a_room_is_forgotten_when_everything_is_told_of_it() {
        let mut bridges = Bridges::new(WorkerId(0), 2);
        for room in [1, 2, 1] {
            bridges.tell(WorkerId(1), RoomId(room), News::Goodbye);
            bridges.tell(WorkerId(1), RoomId(room), taken());
        }
        bridges.forget_room(WorkerId(1), RoomId(1));
        let lanes = bridges.lanes(WorkerId(1)).unwrap();
        assert_eq!(lanes.changes, 1);
        assert_eq!(told(lanes), ["2 Goodbye", "2 DataTaken { sender: ParticipantId(1), bytes: 1 }"]);
        assert_eq!(lanes.changes, 0);
    }

    #[test]
    fn records_that_nobody_fetches_do_not_grow_for_ever() {
        let mut bridges = Bridges::new(WorkerId(0), 2);
        let mut taken = 0;
        while bridges.record(WorkerId(1), 0, layer(), |out| out.extend([0; 1_000])) {
            taken += 1;
        }
        assert!((4_000..5_000).contains(&taken), "{taken}");
    }
}
