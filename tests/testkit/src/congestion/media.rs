//! A media flow: a source that follows a controller, a pacer, and a receiver that reports.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;

use super::receiver::Receiver;
use super::source::{Source, SourceConfig};
use super::{Content, Controller, End, Flow, Packet, Probe};

/// What a media flow is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MediaConfig {
    /// Its source.
    pub source: SourceConfig,
    /// How often its receiver reports. A browser does so every 50 ms from about 200 kbit/s on.
    pub reports: Duration,
    /// Packets leave so many times as fast as the target.
    pub pace: f64,
}

impl Default for MediaConfig {
    fn default() -> Self {
        Self { source: SourceConfig::default(), reports: Duration::from_millis(50), pace: 1.5 }
    }
}

/// The largest packet.
const PACKET: usize = 1200;
/// Packets leave together that are due within this time.
const BURST: Duration = Duration::from_millis(5);
/// A frame is not encoded when so much waits for the pacer.
const LONGEST_BACKLOG: Duration = Duration::from_millis(300);
/// How often the controller is told the time.
const TICK: Duration = Duration::from_millis(10);
/// Packets whose time of leaving is remembered.
const REMEMBERED: usize = 4096;

/// A media flow.
pub struct Media {
    controller: Box<dyn Controller>,
    source: Source,
    receiver: Receiver,
    pace: f64,
    limit: u64,
    running: bool,
    next_frame: Instant,
    next_tick: Instant,
    /// Sizes of packets that wait for the pacer.
    backlog: VecDeque<usize>,
    backlog_bytes: usize,
    /// When the pacer sends next.
    next_send: Instant,
    probe: Option<Probe>,
    next_seq: u16,
    /// When packets left, by their numbers.
    left: VecDeque<(u16, Instant)>,
    out: VecDeque<(End, Packet)>,
}

impl Media {
    /// A flow that does not run yet.
    pub fn new(now: Instant, config: MediaConfig, controller: Box<dyn Controller>, rng: StdRng) -> Self {
        Self {
            controller,
            source: Source::new(config.source, rng),
            receiver: Receiver::new(now, config.reports),
            pace: config.pace,
            limit: u64::MAX,
            running: false,
            next_frame: now,
            next_tick: now,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            next_send: now,
            probe: None,
            next_seq: 0,
            left: VecDeque::new(),
            out: VecDeque::new(),
        }
    }

    /// Frames go to the pacer.
    fn encode(&mut self, now: Instant) {
        while self.running && self.next_frame <= now {
            self.next_frame += self.source.interval();
            let waits = self.backlog_bytes as f64 * 8.0 / self.pace_rate() as f64;
            let mut frame = self.source.frame(now, self.controller.target().min(self.limit));
            if waits > LONGEST_BACKLOG.as_secs_f64() {
                continue;
            }
            self.backlog_bytes += frame;
            while frame > 0 {
                // Packets of a frame are about equal.
                let packet = frame.div_ceil(frame.div_ceil(PACKET));
                self.backlog.push_back(packet);
                frame -= packet;
            }
        }
    }

    fn send(&mut self, now: Instant) {
        if self.next_send > now {
            return;
        }
        while self.next_send <= now + BURST {
            let Some(bytes) = self.next_packet() else {
                self.next_send = self.next_send.max(now);
                return;
            };
            let rate = self.probe.map_or(self.pace_rate(), |probe| probe.rate).max(1);
            let probe = self.probe.map(|probe| probe.id);
            if let Some(running) = &mut self.probe {
                running.bytes = running.bytes.saturating_sub(bytes);
            }
            self.probe.take_if(|probe| probe.bytes == 0);
            let seq = self.next_seq;
            self.next_seq = seq.wrapping_add(1);
            self.controller.on_sent(now, seq, bytes, probe);
            if self.left.len() == REMEMBERED {
                self.left.pop_front();
            }
            self.left.push_back((seq, now));
            self.out.push_back((End::Receiver, Packet { bytes, content: Content::Media { seq } }));
            let taken = Duration::from_nanos((bytes * 8) as u64 * 1_000_000_000 / rate);
            self.next_send = self.next_send.max(now) + taken;
        }
    }

    /// Media first; while a probe runs, padding fills it up.
    fn next_packet(&mut self) -> Option<usize> {
        match self.backlog.pop_front() {
            Some(bytes) => {
                self.backlog_bytes -= bytes;
                Some(bytes)
            }
            None => self.probe.map(|_| PACKET),
        }
    }

    fn pace_rate(&self) -> u64 {
        let target = self.controller.target().max(self.source.config.min);
        (target as f64 * self.pace) as u64
    }

    fn wanted(&self) -> u64 {
        if self.running { self.source.config.max.min(self.limit) } else { 0 }
    }
}

impl Flow for Media {
    fn handle_packet(&mut self, now: Instant, at: End, packet: Packet) {
        match (at, packet.content) {
            (End::Receiver, Content::Media { seq }) => self.receiver.handle_media(now, seq),
            (End::Sender, Content::Feedback { rtcp, newest: (seq, held) }) => {
                self.controller.on_feedback(now, &rtcp);
                if let Some((_, left)) = self.left.iter().rev().find(|(sent, _)| *sent == seq) {
                    self.controller.on_rtt(now, (now - *left).saturating_sub(held));
                }
            }
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Some(report) = self.receiver.poll_report(now) {
            self.out.push_back((End::Sender, report));
        }
        if self.next_tick <= now {
            self.next_tick = now + TICK;
            self.controller.handle_timeout(now);
            if self.running && self.probe.is_none() {
                self.probe = self.controller.poll_probe(now);
                // It starts now, whatever the pacer had in mind.
                if self.probe.is_some() {
                    self.next_send = now;
                }
            }
        }
        self.encode(now);
        self.send(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let sends = !self.backlog.is_empty() || self.probe.is_some();
        let frame = self.running.then_some(self.next_frame);
        let send = sends.then_some(self.next_send);
        [frame, send, self.receiver.poll_timeout(), Some(self.next_tick)].into_iter().flatten().min()
    }

    fn poll_packet(&mut self, _now: Instant) -> Option<(End, Packet)> {
        self.out.pop_front()
    }

    fn set_running(&mut self, now: Instant, running: bool) {
        self.running = running;
        self.next_frame = now;
        self.probe = None;
        self.controller.set_wanted(now, self.wanted());
    }

    fn set_limit(&mut self, now: Instant, bits: u64) {
        self.limit = bits;
        self.controller.set_wanted(now, self.wanted());
    }

    fn target(&self) -> Option<u64> {
        Some(self.controller.target())
    }
}
