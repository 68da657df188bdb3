//! How far each connection has come: begun, connected, with a picture, failed.

use std::ops::Range;
use std::time::Instant;

use crate::generator::PeerId;
use crate::report::{Quantiles, Report};
use veche_load::histogram::Histogram;

/// All connections of a run.
#[derive(Debug)]
pub struct Arrivals(Vec<Arrival>);

#[derive(Clone, Copy, Debug, Default)]
struct Arrival {
    started: Option<Instant>,
    connected: Option<Instant>,
    first_frame: Option<Instant>,
    all_frames: Option<Instant>,
    failed: bool,
}

impl Arrivals {
    /// So many, none of which has begun.
    pub fn new(count: usize) -> Self {
        Self(vec![Arrival::default(); count])
    }

    /// A join has begun.
    pub fn on_started(&mut self, id: PeerId, at: Instant) {
        self.0[id.0].started = Some(at);
    }

    /// The media connection is there.
    pub fn on_connected(&mut self, id: PeerId, at: Instant) {
        self.0[id.0].connected = Some(at);
    }

    /// The first frame is whole.
    pub fn on_first_frame(&mut self, id: PeerId, at: Instant) {
        self.0[id.0].first_frame = Some(at);
    }

    /// All streams have had a whole frame.
    pub fn on_all_frames(&mut self, id: PeerId, at: Instant) {
        self.0[id.0].all_frames = Some(at);
    }

    /// It failed. Whether that is new.
    pub fn on_failed(&mut self, id: PeerId) -> bool {
        !std::mem::replace(&mut self.0[id.0].failed, true)
    }

    /// Those that are not connected by now have failed.
    pub fn give_up(&mut self, range: Range<usize>) {
        for arrival in &mut self.0[range] {
            arrival.failed |= arrival.connected.is_none();
        }
    }

    /// How many have been connected.
    pub fn connected(&self) -> usize {
        self.0.iter().filter(|arrival| arrival.connected.is_some()).count()
    }

    /// How many have failed.
    pub fn failed(&self) -> usize {
        self.0.iter().filter(|arrival| arrival.failed).count()
    }

    /// How many are connected or have failed.
    pub fn settled(&self) -> usize {
        self.0.iter().filter(|arrival| arrival.settled()).count()
    }

    /// Whether all of these are connected or have failed.
    pub fn all_settled(&self, range: Range<usize>) -> bool {
        self.0[range].iter().all(Arrival::settled)
    }

    /// Whether there is nothing to wait for.
    pub fn has_all_frames_or_failed(&self, index: usize) -> bool {
        self.0[index].all_frames.is_some() || self.0[index].failed
    }

    /// Writes what became of all; `watches` tells of each whether it receives something.
    pub fn fill(&self, report: &mut Report, watches: &[bool]) {
        let [mut join, mut first_frame, mut all_frames] = [(); 3].map(|()| Histogram::default());
        for arrival in &self.0 {
            let since = |at: Option<Instant>| at.zip(arrival.started).map(|(at, started)| at - started);
            let record = |at, histogram: &mut Histogram| {
                if let Some(duration) = since(at) {
                    histogram.record(duration);
                }
            };
            record(arrival.connected, &mut join);
            record(arrival.first_frame, &mut first_frame);
            record(arrival.all_frames, &mut all_frames);
        }
        let watching =
            || self.0.iter().zip(watches).filter(|(_, watches)| **watches).map(|(arrival, _)| arrival);
        report.clients = self.0.len();
        report.failed = self.failed();
        report.subscribers = watching().filter(|arrival| !arrival.failed).count();
        report.without_frame = watching().filter(|a| !a.failed && a.first_frame.is_none()).count();
        report.join_ms = Quantiles::of(&join);
        report.first_frame_ms = Quantiles::of(&first_frame);
        report.all_frames_ms = Quantiles::of(&all_frames);
    }
}

impl Arrival {
    fn settled(&self) -> bool {
        self.connected.is_some() || self.failed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_became_of_whom_is_reported() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new(4);
        for index in 0..4 {
            arrivals.on_started(PeerId(index), start);
        }
        for index in 0..3 {
            arrivals.on_connected(PeerId(index), start + Duration::from_millis(100));
        }
        arrivals.on_first_frame(PeerId(1), start + Duration::from_millis(300));
        assert!(!arrivals.all_settled(0..4) && arrivals.all_settled(0..3));
        arrivals.give_up(0..4);
        assert!(!arrivals.on_failed(PeerId(3)), "it has failed already");
        let mut report = Report::default();
        arrivals.fill(&mut report, &[false, true, true, true]);
        assert_eq!((report.clients, report.failed, report.subscribers, report.without_frame), (4, 1, 2, 1));
        assert_eq!((report.join_ms.max, report.first_frame_ms.max), (Some(100.0), Some(300.0)));
    }
}
