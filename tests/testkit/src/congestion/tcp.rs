//! A TCP connection as far as the network can tell: CUBIC (RFC 9438), losses found by selective acknowledgement (RFC 6675),
//! timeouts (RFC 6298). It downloads for good, or now and then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Content, End, Flow, Packet};

/// What a connection has to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Downloads {
    /// More than there is time for.
    Endless,
    /// Files one after the other, with idle times between (RFC 8867 section 5.7).
    Files {
        /// The smallest, in bytes; sizes are evenly distributed.
        smallest: u64,
        /// The largest.
        largest: u64,
        /// Idle times are exponentially distributed about this.
        idle: Duration,
        /// It begins with a file, not with an idle time.
        begins: bool,
    },
}

/// A segment with its headers, less those of IP and UDP that every packet is charged for: 1500 bytes in all.
const SEGMENT: usize = 1472;
/// What it carries.
const PAYLOAD: u64 = 1448;
/// An acknowledgement, likewise.
const ACK: usize = 32;
/// RFC 6928.
const INITIAL_WINDOW: f64 = 10.0;
/// What most systems use instead of the second of RFC 6298.
const LEAST_TIMEOUT: Duration = Duration::from_millis(200);
/// Segments above a missing one that tell it is lost (RFC 6675).
const REORDERING: usize = 3;
/// The constants of RFC 9438 section 4.
const CUBIC_C: f64 = 0.4;
const CUBIC_BETA: f64 = 0.7;

/// A TCP connection.
#[derive(Debug)]
pub struct Tcp {
    downloads: Downloads,
    rng: StdRng,
    running: bool,
    /// When the next file begins.
    begins_at: Option<Instant>,
    /// Segments below this are to be sent.
    end: u64,
    /// The next segment that was never sent.
    next: u64,
    /// Those on their way: when they were sent, and whether again.
    in_flight: BTreeMap<u64, (Instant, bool)>,
    /// Those to be sent again.
    lost: BTreeSet<u64>,
    /// Losses below this number belong to the event that was answered already.
    recover: u64,
    window: f64,
    threshold: f64,
    cubic: Cubic,
    smoothed_rtt: Option<(f64, f64)>,
    backoff: u32,
    expires_at: Option<Instant>,
    receiver: TcpReceiver,
    out: VecDeque<(End, Packet)>,
}

#[derive(Debug, Default)]
struct TcpReceiver {
    below: u64,
    above: BTreeSet<u64>,
}

/// The growth of the window since the last loss.
#[derive(Debug, Default)]
struct Cubic {
    largest: f64,
    since: Option<Instant>,
    /// What Reno would have (RFC 9438 section 4.3).
    reno: f64,
}

impl Tcp {
    /// A connection that does not run yet.
    pub fn new(downloads: Downloads, rng: StdRng) -> Self {
        Self {
            downloads,
            rng,
            running: false,
            begins_at: None,
            end: 0,
            next: 0,
            in_flight: BTreeMap::new(),
            lost: BTreeSet::new(),
            recover: 0,
            window: INITIAL_WINDOW,
            threshold: f64::INFINITY,
            cubic: Cubic::default(),
            smoothed_rtt: None,
            backoff: 0,
            expires_at: None,
            receiver: TcpReceiver::default(),
            out: VecDeque::new(),
        }
    }

    fn begin_file(&mut self) {
        self.end = match self.downloads {
            Downloads::Endless => u64::MAX,
            Downloads::Files { smallest, largest, .. } => {
                self.next + self.rng.random_range(smallest..=largest).div_ceil(PAYLOAD)
            }
        };
        // A new connection for each file.
        self.window = INITIAL_WINDOW;
        self.threshold = f64::INFINITY;
        self.cubic = Cubic::default();
    }

    fn end_file(&mut self, now: Instant) {
        if let Downloads::Files { idle, .. } = self.downloads {
            let pause = self.pause(idle);
            self.begins_at = self.running.then_some(now + pause);
        }
    }

    /// Exponentially distributed about a mean.
    fn pause(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-(1.0 - self.rng.random::<f64>()).ln())
    }

    fn send(&mut self, now: Instant) {
        while self.running && (self.in_flight.len() as f64) < self.window {
            let (number, again) = if let Some(number) = self.lost.pop_first() {
                (number, true)
            } else if self.next < self.end {
                self.next += 1;
                (self.next - 1, false)
            } else {
                break;
            };
            self.in_flight.insert(number, (now, again));
            let packet = Packet { bytes: SEGMENT, content: Content::Segment { number } };
            self.out.push_back((End::Receiver, packet));
            if self.expires_at.is_none() {
                self.expires_at = Some(now + self.timeout());
            }
        }
    }

    fn handle_ack(&mut self, now: Instant, below: u64, came: u64) {
        let unfinished = self.unfinished();
        let sent = self.in_flight.remove(&came);
        self.lost.remove(&came);
        let rest = self.in_flight.split_off(&below);
        let newly = self.in_flight.len() + usize::from(sent.is_some());
        self.in_flight = rest;
        self.lost = self.lost.split_off(&below);
        if let Some((at, false)) = sent {
            self.measure(now - at);
        }
        if newly > 0 {
            self.backoff = 0;
            self.expires_at = (!self.in_flight.is_empty()).then(|| now + self.timeout());
            if came >= self.recover {
                self.grow(now, newly as f64);
            }
        }
        self.find_losses(now, came);
        if unfinished && !self.unfinished() {
            self.end_file(now);
        }
        self.send(now);
    }

    fn unfinished(&self) -> bool {
        self.next < self.end || !self.in_flight.is_empty() || !self.lost.is_empty()
    }

    /// What was sent before one that came, with enough numbers between, is lost. What was sent again waits for its
    /// timeout instead.
    fn find_losses(&mut self, now: Instant, came: u64) {
        let limit = came.saturating_sub(REORDERING as u64 - 1);
        let missing: Vec<u64> = self
            .in_flight
            .range(..limit)
            .filter(|(_, (_, again))| !again)
            .map(|(number, _)| *number)
            .collect();
        for number in missing {
            self.in_flight.remove(&number);
            self.lost.insert(number);
            if number >= self.recover {
                self.recover = self.next;
                self.cubic = Cubic { largest: self.window, since: Some(now), reno: self.window * CUBIC_BETA };
                self.window = (self.window * CUBIC_BETA).max(2.0);
                self.threshold = self.window;
            }
        }
    }

    fn grow(&mut self, now: Instant, acked: f64) {
        if self.window < self.threshold {
            self.window += acked;
            return;
        }
        let rtt = self.smoothed_rtt.map_or(0.1, |(rtt, _)| rtt);
        let since = *self.cubic.since.get_or_insert(now);
        self.cubic.largest = self.cubic.largest.max(1.0);
        let bend = (self.cubic.largest * (1.0 - CUBIC_BETA) / CUBIC_C).cbrt();
        let time = (now - since).as_secs_f64() + rtt - bend;
        let wanted = (CUBIC_C * time.powi(3) + self.cubic.largest).clamp(self.window, 1.5 * self.window);
        self.cubic.reno += 3.0 * (1.0 - CUBIC_BETA) / (1.0 + CUBIC_BETA) * acked / self.window;
        self.window += (wanted - self.window) / self.window * acked;
        self.window = self.window.max(self.cubic.reno);
    }

    /// RFC 6298 section 2.
    fn measure(&mut self, rtt: Duration) {
        let rtt = rtt.as_secs_f64();
        self.smoothed_rtt = Some(match self.smoothed_rtt {
            None => (rtt, rtt / 2.0),
            Some((smoothed, deviation)) => {
                let deviation = 0.75 * deviation + 0.25 * (smoothed - rtt).abs();
                (0.875 * smoothed + 0.125 * rtt, deviation)
            }
        });
    }

    fn timeout(&self) -> Duration {
        let measured = self.smoothed_rtt.map_or(1.0, |(rtt, deviation)| rtt + 4.0 * deviation);
        Duration::from_secs_f64(measured).max(LEAST_TIMEOUT) * 2u32.pow(self.backoff.min(6))
    }

    /// Nothing was heard for too long: everything is taken for lost.
    fn expire(&mut self, now: Instant) {
        self.expires_at = None;
        self.lost.extend(std::mem::take(&mut self.in_flight).into_keys());
        self.backoff += 1;
        self.threshold = (self.window * CUBIC_BETA).max(2.0);
        self.cubic = Cubic { largest: self.window, since: None, reno: 1.0 };
        self.window = 1.0;
        self.recover = self.next;
        self.send(now);
    }
}

impl TcpReceiver {
    fn take(&mut self, number: u64) -> Content {
        if number >= self.below {
            self.above.insert(number);
        }
        while self.above.remove(&self.below) {
            self.below += 1;
        }
        Content::Ack { below: self.below, came: number }
    }
}

impl Flow for Tcp {
    fn handle_packet(&mut self, now: Instant, at: End, packet: Packet) {
        match (at, packet.content) {
            (End::Receiver, Content::Segment { number }) => {
                let content = self.receiver.take(number);
                self.out.push_back((End::Sender, Packet { bytes: ACK, content }));
            }
            (End::Sender, Content::Ack { below, came }) => self.handle_ack(now, below, came),
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.begins_at.take_if(|at| *at <= now).is_some() {
            self.begin_file();
        }
        if self.expires_at.is_some_and(|at| at <= now) {
            self.expire(now);
        }
        self.send(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.begins_at.into_iter().chain(self.expires_at).min()
    }

    fn poll_packet(&mut self, _now: Instant) -> Option<(End, Packet)> {
        self.out.pop_front()
    }

    fn set_running(&mut self, now: Instant, running: bool) {
        self.running = running;
        self.expires_at = None;
        self.begins_at = None;
        if running {
            if let Downloads::Files { begins: false, idle, .. } = self.downloads {
                self.begins_at = Some(now + self.pause(idle));
            } else {
                self.begin_file();
                self.send(now);
            }
        }
    }
}
