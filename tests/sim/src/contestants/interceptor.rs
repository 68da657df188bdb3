//! The estimator of the crate rtc-interceptor, which knows no probes and takes what was reported of each packet.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rtc_interceptor::{BandwidthEstimator, Gcc, PacketReport};
use rtc_rtcp::transport_feedbacks::cc_feedback_report::Ecn;
use veche_sfu_core::rtcp::{Packet, TransportFeedback, parse};
use veche_testkit::congestion::Controller;

/// Packets that are remembered until they are reported on.
const REMEMBERED: usize = 4096;
/// One unit of the reference time, and of a delta.
const REFERENCE: Duration = Duration::from_millis(64);
const TICK: f64 = 250e-6;

pub(super) struct Interceptor {
    gcc: Gcc,
    /// What was sent and not yet reported on: identity, number, size and time.
    sent: VecDeque<(u64, u16, usize, Instant)>,
    next_id: u64,
}

impl Interceptor {
    pub fn new(min: u64, max: u64) -> Self {
        // It is told where to begin; this is where ours does.
        let start = 600_000.0;
        Self { gcc: Gcc::new(start, min as f64, max as f64 * 2.0), sent: VecDeque::new(), next_id: 0 }
    }

    fn report(&mut self, feedback: &TransportFeedback<'_>) -> Vec<PacketReport> {
        let mut arrival = REFERENCE.as_secs_f64() * f64::from(feedback.reference_time);
        let mut reports = Vec::new();
        for (seq, delta) in feedback.statuses() {
            arrival += delta.map_or(0.0, |delta| f64::from(delta) * TICK);
            let Some(index) = self.sent.iter().position(|(_, sent, ..)| *sent == seq) else { continue };
            let Some((id, _, size, departure)) = self.sent.remove(index) else { continue };
            reports.push(PacketReport {
                ssrc: 1,
                id,
                rtp_sequence_number: seq,
                is_twcc: true,
                twcc_sequence_number: seq,
                size,
                arrived: delta.is_some(),
                departure,
                arrival: delta.map(|_| Duration::from_secs_f64(arrival.max(0.0))),
                ecn: Ecn::default(),
            });
        }
        reports
    }
}

impl Controller for Interceptor {
    fn on_sent(&mut self, now: Instant, seq: u16, bytes: usize, _probe: Option<u32>) {
        if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back((self.next_id, seq, bytes, now));
        self.next_id += 1;
    }

    fn on_feedback(&mut self, now: Instant, rtcp: &[u8]) {
        for packet in parse(rtcp).flatten() {
            if let Packet::TransportFeedback(feedback) = packet {
                let reports = self.report(&feedback);
                self.gcc.on_reports(now, &reports);
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.gcc.handle_timeout(now);
    }

    fn target(&self) -> u64 {
        self.gcc.target_bitrate() as u64
    }
}
