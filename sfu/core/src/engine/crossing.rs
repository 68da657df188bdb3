//! What goes to other workers and comes from them.

use std::time::Instant;

use crate::bridge::lanes::Lost;
use crate::bridge::packet::Record;
use crate::bridge::{BridgeMessage, Crossing, News};
use crate::drops::DropReason;
use crate::ids::{RoomId, WorkerId};

use super::Engine;

impl Engine {
    /// Takes what another worker tells or sends.
    pub fn handle_crossing(&mut self, now: Instant, from: WorkerId, crossing: Crossing<'_>) {
        match crossing {
            Crossing::News(BridgeMessage::News { room, news }) => self.handle_news(now, from, room, news),
            Crossing::News(BridgeMessage::Anew) => self.forget_worker(now, from),
            Crossing::Record(record) => self.handle_record(now, from, record),
        }
    }

    fn handle_news(&mut self, now: Instant, from: WorkerId, room: RoomId, news: News) {
        let Some(&room) = self.room_by_id.get(&room) else { return };
        self.with_room(now, room, |room, ctx| room.handle_news(ctx, from, news));
    }

    fn handle_record(&mut self, now: Instant, from: WorkerId, record: &[u8]) {
        let record = Record::parse(record);
        let track = record.map(|r| match r {
            Record::Packet(packet) => packet.stream.track,
            Record::Report(report) => report.stream.track,
        });
        let place = track.and_then(|track| self.bridges.place(track));
        let (Some(record), Some(place)) = (record, place) else {
            return self.drops.count(DropReason::BridgeStale);
        };
        self.waiting_since = now;
        self.lend_room(now, place.room, |room, ctx| room.handle_record(ctx, from, place, &record));
    }

    /// Another worker is gone, and all who were there.
    pub fn handle_worker_gone(&mut self, now: Instant, worker: WorkerId) {
        if let Some(lanes) = self.bridges.lanes(worker) {
            lanes.close();
        }
        self.forget_worker(now, worker);
    }

    /// In all rooms: nothing is known of those who are on that worker, and nothing of theirs that was told holds any more.
    fn forget_worker(&mut self, now: Instant, worker: WorkerId) {
        for room in self.room_indices() {
            self.with_room(now, room, |room, ctx| room.forget_worker(ctx, worker));
        }
    }

    fn room_indices(&self) -> Vec<u32> {
        self.rooms.iter().map(|(i, _)| i as u32).collect()
    }

    /// Hands out what is for another worker; `carry` gives back what it has no room for. News then wait for the next time,
    /// as many as may, and records are dropped. Returns whether anything went. To be called after each batch of inputs.
    pub fn flush_bridge(
        &mut self,
        now: Instant,
        worker: WorkerId,
        carry: &mut dyn FnMut(Crossing<'_>) -> Result<(), Crossing<'_>>,
    ) -> bool {
        let Some(lanes) = self.bridges.lanes(worker).filter(|lanes| !lanes.is_empty()) else { return false };
        let mut lost: Option<Lost> = None;
        let (rooms, timers, drops) = (&mut self.rooms, &mut self.timers, &mut self.drops);
        let sent = lanes.send(carry, |next| {
            drops.count(DropReason::BridgeFull);
            // Records of one layer come in runs.
            let same = lost.is_some_and(|l| l.room == next.room && l.layer == next.layer);
            if !same && let Some(room) = rooms.get_mut(next.room as usize) {
                room.on_bridge_full(now, next.layer);
                timers.set(next.room, Some(room.next_tick()));
            }
            lost = Some(next);
        });
        if lanes.is_overfull() {
            self.begin_anew(now, worker);
        }
        sent > 0
    }

    /// Too much waits for a worker that does not listen: what it was told is void, and when it listens again it is told
    /// everything, as by an engine that has just begun.
    fn begin_anew(&mut self, now: Instant, worker: WorkerId) {
        // First, for it has something to tell as well.
        self.forget_worker(now, worker);
        let Some(lanes) = self.bridges.lanes(worker) else { return };
        for _ in 0..lanes.begin_anew() {
            self.drops.count(DropReason::BridgeFull);
        }
        for room in self.room_indices() {
            self.with_room(now, room, |room, ctx| room.greet(ctx, worker));
        }
    }

    /// Whether news wait for another worker that had no room for them.
    pub fn has_news(&mut self, worker: WorkerId) -> bool {
        self.bridges.lanes(worker).is_some_and(|lanes| !lanes.is_empty())
    }
}
