//! How much a transport can carry, found out by the sender from transport-wide feedback.
//!
//! Google Congestion Control (draft-ietf-rmcat-gcc-02; Carlucci et al. 2016, "Analysis and Design of the Google Congestion
//! Control for Web Real-time Communication") with what a media server needs beside it: it sends layers, so most of the time
//! less than it could. Then only probes show how much more there is. Each file is one algorithm on plain numbers.

mod alr;
mod arrivals;
mod competition;
mod delay;
mod groups;
mod loss;
mod overuse;
mod probe;
mod rate_control;
mod receiver_reports;
mod sent;
mod throughput;
mod trendline;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use self::alr::ApplicationLimit;
use self::arrivals::Arrivals;
use self::competition::Competition;
use self::delay::Delay;
use self::groups::Groups;
use self::loss::{Loss, Verdict};
use self::overuse::Overuse;
use self::probe::{Outcome, Prober};
use self::rate_control::{Change, Observed, RateControl};
use self::receiver_reports::ReceiverReports;
use self::sent::{Sent, SentRing};
use self::throughput::Throughput;
use self::trendline::Trendline;
use crate::rtcp::TransportFeedback;

/// Microseconds: on our clock since the estimator was made, or on the receiver's since any moment.
type Micros = i64;

/// Identity of a probe cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeId(pub u32);

/// A packet that leaves.
#[derive(Clone, Copy, Debug)]
pub struct SentPacket {
    /// Its transport-wide sequence number; they are given in order.
    pub seq: u16,
    /// The whole UDP payload.
    pub bytes: u16,
    /// The cluster that is being sent, for padding as for the media between it.
    pub probe: Option<ProbeId>,
}

/// A burst of padding that shall be sent now.
#[derive(Clone, Copy, Debug)]
pub struct ProbeCluster {
    /// To be given back with each of its packets.
    pub id: ProbeId,
    /// Bits a second, media that is sent meanwhile included.
    pub rate: u64,
    /// To send in all, in five packets or more; media that is sent meanwhile counts.
    pub bytes: usize,
}

/// How what is sent compares with what the path carries, by its delay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Usage {
    /// The delay does not change.
    #[default]
    Normal,
    /// A queue grows.
    Overuse,
    /// A queue empties.
    Underuse,
}

/// Estimates what one transport can carry.
///
/// What each sent packet touches comes first, so that it is found in few cache lines.
#[derive(Debug)]
#[repr(C)]
pub struct Estimator {
    /// When something happened last.
    instant: Instant,
    now: Micros,
    fresh: Fresh,
    sent: SentRing,
    last_sent: Micros,
    /// Since when packets are sent without any feedback.
    unheard_since: Option<Micros>,
    epoch: Instant,
    arrivals: Arrivals,
    path: Path,
    loss: Loss,
    competition: Competition,
    limit: ApplicationLimit,
    prober: Prober,
    control: RateControl,
    reports: ReceiverReports,
    sending: Throughput,
    usage: Usage,
    has_feedback: bool,
    /// The estimate was cut because nothing was heard.
    silent: bool,
    /// The rate before the last cut for loss.
    before_loss: f64,
}

/// What was sent at one moment and is not accounted for yet: a batch costs hardly more than one packet.
#[derive(Clone, Copy, Debug, Default)]
struct Fresh {
    at: Micros,
    bytes: u32,
    /// Those of packets with a number.
    numbered: u32,
    /// Packets of media that belong to no cluster, and their bytes.
    packets: u32,
    media: u32,
    /// A cluster is being sent, so that each packet counts by itself.
    probing: bool,
}

/// What is measured with the receiver's clock, and worthless after it was set.
#[derive(Debug, Default)]
struct Path {
    groups: Groups,
    trendline: Trendline,
    overuse: Overuse,
    delay: Delay,
    delivered: Throughput,
    last_arrival: Micros,
}

/// Overuse counts only when every packet is delayed by so much: jitter alone is no queue.
const QUEUE: Micros = 12_000;
/// The delivered rate that a cut goes by is that of so long: a link that became slow shows soon.
const RECENT: Micros = 250_000;
/// Of the estimate, when loss cannot be compared with what is delivered because so little is sent.
const LOSS_CUT: f64 = 0.85;
/// Feedback comes several times as often.
const BLIND: Micros = 400_000;
/// Feedback that stays away so long, while packets are sent, means that nothing gets through.
const SILENCE: Micros = 1_000_000;
/// Without a full queue, the first probes are believed whatever they show for so long.
const YOUNG: Micros = 5_000_000;
/// Probes wait for so long after a cut, and while the queue is longer than this.
const CALM: Micros = 1_000_000;
const CALM_QUEUE: Micros = 40_000;
/// A probe must show this multiple of the estimate: on a full link when media is limited, and when it is not. A burst takes
/// room from other flows for a moment that it could not keep.
const CLEARLY_MORE: f64 = 1.2;
const FAR_MORE: f64 = 1.5;

impl Estimator {
    /// The first estimate in bits a second: voice and a small picture.
    pub const START: u64 = 600_000;

    /// Nothing was sent yet. No time given later is before `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            instant: now,
            now: 0,
            fresh: Fresh::default(),
            sent: SentRing::default(),
            last_sent: 0,
            unheard_since: None,
            epoch: now,
            arrivals: Arrivals::default(),
            path: Path::default(),
            loss: Loss::default(),
            competition: Competition::default(),
            limit: ApplicationLimit::default(),
            prober: Prober::new(0),
            control: RateControl::new(Self::START as f64),
            reports: ReceiverReports::new(Self::START as f64),
            sending: Throughput::default(),
            usage: Usage::Normal,
            has_feedback: false,
            silent: false,
            before_loss: 0.0,
        }
    }

    /// The network is back after a time in which nothing was heard: what was learned of it may not hold any more, so it is
    /// found out as quickly as that of somebody new.
    fn restart(&mut self) {
        let fresh = Self::new(self.epoch);
        let prober = self.prober.restarted(self.now);
        let (sent, arrivals) = (std::mem::take(&mut self.sent), std::mem::take(&mut self.arrivals));
        *self = Self { sent, arrivals, instant: self.instant, now: self.now, prober, ..fresh };
    }

    /// A packet leaves.
    #[inline]
    pub fn on_sent(&mut self, now: Instant, packet: SentPacket) {
        let bytes = u32::from(packet.bytes);
        let now = self.note_bytes(now, bytes);
        self.fresh.numbered += bytes;
        let probe = if self.fresh.probing || packet.probe.is_some() {
            self.prober.on_sent(now, packet.bytes, packet.probe)
        } else {
            self.fresh.packets += 1;
            self.fresh.media += bytes;
            None
        };
        self.sent.insert(now, packet.seq, packet.bytes, probe);
        self.unheard_since.get_or_insert(now);
        self.last_sent = now;
    }

    /// A packet leaves that the client tells nothing of, because it did not agree to transport-wide feedback.
    pub fn on_unnumbered(&mut self, now: Instant, bytes: usize) {
        self.note_bytes(now, bytes as u32);
    }

    /// Transport-wide feedback came.
    pub fn on_feedback(&mut self, now: Instant, feedback: &TransportFeedback<'_>) {
        let now = self.advance(now);
        self.arrivals.read(&mut self.sent, feedback);
        if self.arrivals.results().is_empty() {
            return;
        }
        if self.silent && self.arrivals.results().iter().any(|r| r.arrival.is_some()) {
            self.restart();
        }
        if self.arrivals.clock_jumped() {
            self.path = Path::default();
        }
        let mut came = false;
        for result in self.arrivals.results() {
            self.loss.on_packet(result);
            self.prober.on_result(result);
            if let Some(arrival) = result.arrival {
                came = true;
                self.path.on_packet(&result.sent, arrival);
            }
        }
        if came {
            self.path.delivered.add(self.path.last_arrival, self.arrivals.unreported());
            self.has_feedback = true;
            self.unheard_since = None;
        }
        self.decide(now);
    }

    /// Whether packets are sent since long without any feedback: the client, or its whole network, is away, and what the
    /// estimate says means little.
    pub fn is_blind(&self) -> bool {
        let blind = |since| self.now - since > BLIND && self.last_sent - since > BLIND / 2;
        self.silent || self.has_feedback && self.unheard_since.is_some_and(blind)
    }

    /// Whether little is known of the path yet, and nothing bad.
    pub fn is_young(&self) -> bool {
        self.now < YOUNG && self.control.last_cut().is_none()
    }

    /// The round-trip time was measured.
    pub fn on_rtt(&mut self, rtt: Duration) {
        self.control.on_rtt(rtt.as_micros().min(10_000_000) as Micros);
    }

    /// A receiver report came: the share of packets that were lost since the one before. It counts only without
    /// transport-wide feedback.
    pub fn on_report_loss(&mut self, now: Instant, lost: f32) {
        let now = self.advance(now);
        let sent = self.sending.rate_until(now, throughput::LONGEST).unwrap_or(0.0);
        self.reports.on_loss(now, f64::from(lost), sent);
    }

    /// The client's own estimate of what it can receive, in bits a second. It counts only without transport-wide feedback.
    pub fn on_remb(&mut self, now: Instant, bits: u64) {
        let now = self.advance(now);
        self.reports.on_remb(now, bits as f64);
    }

    /// The most that the subscriber could use, in bits a second. Probes do not go above it but for a little headroom.
    pub fn set_wanted(&mut self, now: Instant, bits: u64) {
        let now = self.advance(now);
        self.prober.set_wanted(now, bits as f64);
    }

    /// Time passes; to be called every 10 to 100 ms.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.advance(now);
        self.limit.update(now, self.control.rate());
        // One lost packet before a pause is no silence: packets must go out while nothing comes back.
        let silent = |since| now - since > SILENCE && self.last_sent - since > SILENCE / 2;
        if self.has_feedback && self.unheard_since.is_some_and(silent) {
            self.unheard_since = Some(now);
            self.silent = true;
            self.control.on_silence(now);
            self.prober.on_cut(now, true);
        }
        self.judge_probes(now);
    }

    /// A probe cluster that shall be sent now. To be asked only while media flows.
    pub fn poll_probe(&mut self, now: Instant) -> Option<ProbeCluster> {
        let now = self.advance(now);
        let calm = self.control.last_cut().is_none_or(|at| now - at > CALM)
            && self.usage != Usage::Overuse
            && !self.loss.is_on_trial()
            && self.path.delay.queuing() < CALM_QUEUE;
        if !self.has_feedback || !calm {
            return None;
        }
        let tried = !self.limit.is_limited() && self.control.knows_capacity();
        let cluster = self.prober.poll(now, self.control.rate(), tried);
        self.fresh.probing |= cluster.is_some();
        cluster
    }

    /// The rest of a cluster will not be sent: nothing carries it any more.
    pub fn on_probe_given_up(&mut self, id: ProbeId) {
        self.prober.give_up(id);
    }

    /// Bits a second that can be sent, counted in whole UDP payloads.
    pub fn estimate(&self) -> u64 {
        if self.has_feedback { self.control.rate() as u64 } else { self.reports.rate(self.now) as u64 }
    }

    /// Bits a second that have come of late, as media or in a probe: the estimate grows beyond what is sent, and on a link that was
    /// full before, only this is known to get through. No limit where nothing ever spoke against the estimate.
    pub fn proven(&self) -> u64 {
        let was_full = self.has_feedback && self.control.last_cut().is_some();
        if was_full { self.control.proven() as u64 } else { u64::MAX }
    }

    /// Bits a second that have come lately, by transport-wide feedback.
    pub fn acknowledged(&self) -> Option<u64> {
        self.path.delivered.rate(throughput::LONGEST).map(|rate| rate as u64)
    }

    /// The share of packets that are lost, smoothed.
    pub fn loss(&self) -> f32 {
        if self.has_feedback { self.loss.smoothed() as f32 } else { self.reports.loss() as f32 }
    }

    /// How far the one-way delay is above the lowest of the last half minute.
    pub fn queuing_delay(&self) -> Duration {
        Duration::from_micros(self.path.delay.queuing().unsigned_abs())
    }

    /// What the delay says of the last packets.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Whether the client has told what it can receive: by transport-wide feedback, or its own estimate.
    pub fn is_told(&self) -> bool {
        self.has_feedback || self.reports.is_told()
    }

    /// Whether the client sends transport-wide feedback.
    pub fn has_feedback(&self) -> bool {
        self.has_feedback
    }

    /// The bytes of the packets that were sent as part of clusters so far.
    pub fn probe_bytes(&self) -> u64 {
        self.prober.spent()
    }

    /// It is later, and what was sent before is to be looked at.
    fn advance(&mut self, now: Instant) -> Micros {
        self.settle();
        self.micros(now)
    }

    fn micros(&mut self, now: Instant) -> Micros {
        if now != self.instant {
            self.instant = now;
            self.now = now.saturating_duration_since(self.epoch).as_micros() as Micros;
        }
        self.now
    }

    fn note_bytes(&mut self, now: Instant, bytes: u32) -> Micros {
        let now = self.micros(now);
        if now != self.fresh.at {
            self.settle();
            self.fresh.at = now;
        }
        self.fresh.bytes = self.fresh.bytes.saturating_add(bytes);
        now
    }

    /// Accounts for what was sent.
    fn settle(&mut self) {
        let Fresh { at, bytes, numbered, packets, media, .. } = self.fresh;
        let probing = self.prober.is_sending();
        self.fresh = Fresh { at, probing, ..Fresh::default() };
        if bytes > 0 {
            self.sending.add(at, bytes);
            self.limit.on_sent(numbered);
            self.prober.on_media(packets, media);
        }
    }

    fn decide(&mut self, now: Micros) {
        self.limit.update(now, self.control.rate());
        self.usage = self.path.usage();
        let mut observed = Observed {
            usage: self.usage,
            // What is lost whatever the rate is has been carried by the link all the same.
            delivered: self.path.delivered.rate(RECENT).map(|rate| rate / (1.0 - self.loss.inherent())),
            sent: self.sending.rate_until(now, throughput::LONGEST),
            queuing: self.path.delay.queuing(),
            limited: self.limit.is_limited(),
            wanted: self.prober.highest_useful(),
            hold: self.loss.is_on_trial(),
            competing: false,
        };
        self.competition.on_feedback(now, self.comes_through());
        let competing = self.competition.is_felt(now);
        if competing {
            (observed.usage, observed.queuing) = (Usage::Normal, 0);
        }
        observed.competing = competing;
        let before = self.control.rate();
        match self.control.on_feedback(now, &observed) {
            Some(Change::Cut) => {
                if let (Some(sent), Some(delivered)) = (observed.sent, observed.delivered) {
                    self.competition.on_cut(now, observed.queuing, before, sent, delivered);
                }
                self.prober.on_cut(now, self.control.dropped_far());
            }
            Some(Change::Wider) => self.prober.on_wider_path(now),
            None => {}
        }
        match self.loss.poll_verdict(now, competing) {
            Some(Verdict::Cut { part, heavy }) => {
                let before = self.control.rate();
                self.before_loss = before;
                let mut to = observed.delivered.map_or(before * LOSS_CUT, |rate| rate * part);
                if observed.limited && !heavy {
                    to = to.max(before * LOSS_CUT);
                }
                self.control.on_loss(now, to, observed.delivered);
                self.prober.on_cut(now, self.control.dropped_far());
            }
            Some(Verdict::TakeBack) => self.control.raise(self.before_loss),
            _ => {}
        }
        self.judge_probes(now);
    }

    /// The part of the estimate that comes through, lost packets beside; 1 when less is sent.
    fn comes_through(&self) -> f64 {
        let Some(delivered) =
            self.path.delivered.rate(throughput::LONGEST).filter(|_| !self.limit.is_limited())
        else {
            return 1.0;
        };
        delivered / (1.0 - self.loss.smoothed().min(0.5)) / self.control.rate()
    }

    fn judge_probes(&mut self, now: Micros) {
        while let Some(Outcome { rate, saturated }) = self.prober.poll_outcome(now) {
            if let Some(rate) = rate {
                self.control.on_shown(rate);
            }
            let least = match (saturated, self.limit.is_limited()) {
                _ if self.control.last_cut().is_none() && now < YOUNG => 1.0,
                (false, _) => 1.0,
                (true, true) => CLEARLY_MORE,
                (true, false) => FAR_MORE,
            };
            let proven =
                rate.filter(|rate| *rate > self.control.rate() * least && self.usage != Usage::Overuse);
            if let Some(rate) = proven {
                self.control.on_probe(rate, saturated);
            }
            self.prober.on_judged(now, proven.is_some(), proven.is_some() && !saturated);
        }
    }
}

impl Path {
    fn on_packet(&mut self, sent: &Sent, arrival: Micros) {
        self.last_arrival = self.last_arrival.max(arrival);
        self.delivered.add(arrival, u32::from(sent.bytes));
        self.delay.on_packet(sent.at, arrival);
        if sent.probe.is_some() {
            return; // The queue of a probe is none of the media.
        }
        if let Some(spacing) = self.groups.on_packet(sent.at, arrival) {
            let trend = self.trendline.on_spacing(spacing);
            self.overuse.on_trend(trend, spacing.sent, spacing.at);
        }
    }

    fn usage(&self) -> Usage {
        match self.overuse.usage() {
            Usage::Overuse if self.delay.queuing() < QUEUE => Usage::Normal,
            usage => usage,
        }
    }
}
