//! Our own estimator.

use std::time::{Duration, Instant};

use veche_sfu_core::bandwidth::{Estimator, ProbeId, SentPacket};
use veche_sfu_core::rtcp::{Packet, parse};
use veche_testkit::congestion::{Controller, Probe};

pub(super) struct Ours {
    estimator: Estimator,
}

impl Ours {
    pub fn new(now: Instant) -> Self {
        Self { estimator: Estimator::new(now) }
    }
}

impl Controller for Ours {
    fn on_sent(&mut self, now: Instant, seq: u16, bytes: usize, probe: Option<u32>) {
        let packet = SentPacket { seq, bytes: bytes as u16, probe: probe.map(ProbeId) };
        self.estimator.on_sent(now, packet);
    }

    fn on_feedback(&mut self, now: Instant, rtcp: &[u8]) {
        for packet in parse(rtcp).flatten() {
            if let Packet::TransportFeedback(feedback) = packet {
                self.estimator.on_feedback(now, &feedback);
            }
        }
    }

    fn on_rtt(&mut self, _now: Instant, rtt: Duration) {
        self.estimator.on_rtt(rtt);
    }

    fn set_wanted(&mut self, now: Instant, bits: u64) {
        self.estimator.set_wanted(now, bits);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.estimator.handle_timeout(now);
    }

    fn target(&self) -> u64 {
        self.estimator.estimate()
    }

    fn poll_probe(&mut self, now: Instant) -> Option<Probe> {
        let cluster = self.estimator.poll_probe(now)?;
        Some(Probe { id: cluster.id.0, rate: cluster.rate, bytes: cluster.bytes })
    }
}
