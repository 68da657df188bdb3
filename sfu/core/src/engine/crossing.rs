//! What goes to other workers and comes from them.

use std::time::Instant;

use crate::bridge::lanes::Lost;
use crate::bridge::packet::Record;
use crate::bridge::{BridgeMessage, Crossing};
use crate::drops::DropReason;
use crate::ids::WorkerId;

use super::Engine;

impl Engine {
    /// Takes what another worker tells or sends.
    pub fn handle_crossing(&mut self, now: Instant, from: WorkerId, crossing: Crossing<'_>) {
        match crossing {
            Crossing::News(message) => self.handle_news(now, from, message),
            Crossing::Record(record) => self.handle_record(now, from, record),
        }
    }

    fn handle_news(&mut self, now: Instant, from: WorkerId, message: BridgeMessage) {
        let Some(&room) = self.room_by_id.get(&message.room) else { return };
        self.with_room(now, room, |room, ctx| room.handle_news(ctx, from, message.news));
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
        let rooms: Vec<u32> = self.rooms.iter().map(|(i, _)| i as u32).collect();
        for room in rooms {
            self.with_room(now, room, |room, ctx| room.forget_worker(ctx, worker));
        }
    }

    /// Hands out what is for another worker; `carry` gives back what it has no room for. News then wait for the next time,
    /// records are dropped. Returns whether anything went. To be called after each batch of inputs.
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
        sent > 0
    }

    /// Whether news wait for another worker that had no room for them.
    pub fn has_news(&mut self, worker: WorkerId) -> bool {
        self.bridges.lanes(worker).is_some_and(|lanes| !lanes.is_empty())
    }
}
