//! The receiving end of media: writes down what came when, and reports it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use veche_sfu_core::ids::Ssrc;
use veche_sfu_core::rtcp::TransportFeedbackBuilder;

use super::{Content, Packet};

/// The receiver of a media flow.
#[derive(Debug)]
pub(super) struct Receiver {
    start: Instant,
    interval: Duration,
    /// What came since the last report, by its extended number, in ticks of 250 µs.
    arrivals: BTreeMap<i64, i64>,
    highest: i64,
    /// The first number that was not reported on.
    next: Option<i64>,
    newest: Option<(u16, Instant)>,
    report_at: Option<Instant>,
    builder: TransportFeedbackBuilder,
}

impl Receiver {
    pub fn new(start: Instant, interval: Duration) -> Self {
        Self {
            start,
            interval,
            arrivals: BTreeMap::new(),
            highest: 0,
            next: None,
            newest: None,
            report_at: None,
            builder: TransportFeedbackBuilder::new(Ssrc(1), Ssrc(2)),
        }
    }

    pub fn handle_media(&mut self, now: Instant, seq: u16) {
        let extended = self.highest + i64::from(seq.wrapping_sub(self.highest as u16) as i16);
        self.highest = self.highest.max(extended);
        let ticks = (now - self.start).as_micros() as i64 / 250;
        self.arrivals.entry(extended).or_insert(ticks);
        self.newest = Some((seq, now));
        self.report_at.get_or_insert(now + self.interval);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.report_at
    }

    /// The report that is due.
    pub fn poll_report(&mut self, now: Instant) -> Option<Packet> {
        self.report_at.take_if(|at| *at <= now)?;
        let (&first, _) = self.arrivals.first_key_value()?;
        let (&last, _) = self.arrivals.last_key_value()?;
        // Late ones are reported on again.
        let base = self.next.map_or(first, |next| next.min(first));
        let arrivals: Vec<(u16, i64)> = self.arrivals.iter().map(|(seq, at)| (*seq as u16, *at)).collect();
        let mut rtcp = Vec::new();
        self.builder.write(base as u16, &arrivals, &mut rtcp);
        self.arrivals.clear();
        self.next = Some(self.next.map_or(last + 1, |next| next.max(last + 1)));
        let (newest, came_at) = self.newest?;
        // SRTCP adds an index and a tag.
        let bytes = rtcp.len() + 14;
        Some(Packet { bytes, content: Content::Feedback { rtcp, newest: (newest, now - came_at) } })
    }
}
