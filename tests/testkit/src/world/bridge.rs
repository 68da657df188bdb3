//! The bridges between the engines of a world.

use std::collections::HashMap;
use std::time::Duration;

use veche_sfu_core::bridge::packet::Record;
use veche_sfu_core::bridge::{BridgeMessage, Crossing};
use veche_sfu_core::ids::{TrackId, WorkerId};

use super::World;
use super::due::What;
use crate::allocations;

/// How long what one engine hands to another takes: as long as a worker that sleeps takes to wake up.
const CROSSING: Duration = Duration::from_micros(100);

/// All bridges of a world.
#[derive(Debug, Default)]
pub(super) struct Bridge {
    /// Nothing but news fits.
    full: bool,
    /// Nothing fits.
    stopped: bool,
    carried: HashMap<(usize, usize, TrackId, u8), Carried>,
}

/// What went from one engine to another, of one layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Media packets.
    pub packets: u64,
    /// Sender reports.
    pub reports: u64,
}

impl World {
    /// From now on, or no longer, the ways between engines are full: packets on them are dropped.
    pub fn fill_bridges(&mut self, full: bool) {
        self.bridge.full = full;
    }

    /// From now on, or no longer, engines do not listen to each other: packets on their way are dropped, news wait.
    pub fn stop_bridges(&mut self, stopped: bool) {
        self.bridge.stopped = stopped;
        for engine in 0..self.engines.len() {
            self.cross_bridges(engine);
        }
    }

    /// What went from one engine to another so far, of a layer.
    pub fn carried(&self, from: usize, to: usize, track: TrackId, layer: u8) -> Carried {
        self.bridge.carried.get(&(from, to, track, layer)).copied().unwrap_or_default()
    }

    /// An engine is gone, as when its thread has failed: the others hear of it.
    pub fn lose_engine(&mut self, gone: usize) {
        for engine in (0..self.engines.len()).filter(|engine| *engine != gone) {
            self.engines[engine].handle_worker_gone(self.now, WorkerId(gone as u16));
            self.drain_engine(engine);
        }
        for seat in self.seats.iter_mut().filter(|seat| seat.engine == gone) {
            seat.gone = true;
        }
    }

    /// What an engine has for others is put on its way.
    pub(super) fn cross_bridges(&mut self, from: usize) {
        let Bridge { full, stopped, .. } = self.bridge;
        for to in (0..self.engines.len()).filter(|to| *to != from) {
            let (mut told, mut records) = (Vec::new(), Vec::new());
            self.engines[from].flush_bridge(self.now, WorkerId(to as u16), &mut |crossing| {
                match crossing {
                    _ if stopped => return Err(crossing),
                    Crossing::News(message) => told.push(message),
                    Crossing::Record(_) if full => return Err(crossing),
                    Crossing::Record(record) => records.push(record.to_vec()),
                }
                Ok(())
            });
            let at = self.now + CROSSING;
            for message in told {
                self.plan(at, What::News { from, to, message });
            }
            if !records.is_empty() {
                self.count(from, to, &records);
                self.plan(at, What::Records { from, to, records });
            }
        }
    }

    pub(super) fn take_news(&mut self, from: usize, to: usize, message: BridgeMessage) {
        self.engines[to].handle_crossing(self.now, WorkerId(from as u16), Crossing::News(message));
        self.drain_engine(to);
    }

    pub(super) fn take_records(&mut self, from: usize, to: usize, records: &[Vec<u8>]) {
        let before = allocations::count();
        for record in records {
            self.engines[to].handle_crossing(self.now, WorkerId(from as u16), Crossing::Record(record));
        }
        self.flush(to);
        self.media_path.received += records.len() as u64;
        self.media_path.sent += self.flushed.packets.len() as u64;
        self.media_path.allocations += allocations::count() - before;
        self.deliver(to);
    }

    fn count(&mut self, from: usize, to: usize, records: &[Vec<u8>]) {
        for record in records {
            let record = Record::parse(record).expect("engines write records that can be read");
            let stream = match &record {
                Record::Packet(packet) => packet.stream,
                Record::Report(report) => report.stream,
            };
            let carried = self.bridge.carried.entry((from, to, stream.track, stream.layer)).or_default();
            match record {
                Record::Packet(_) => carried.packets += 1,
                Record::Report(_) => carried.reports += 1,
            }
        }
    }
}
