//! What loss says of the path: queues too short to show as delay, and active queue management.
//!
//! Random loss does not depend on the rate, congestion does. So loss above what is known to be inherent cuts the rate to what
//! was delivered; when that does not help, the loss was inherent, the cut is taken back and the level remembered. The idea
//! of an inherent level is libwebrtc's (its loss-based estimator fits a model; this tries instead).

use super::Micros;
use super::arrivals::PacketResult;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// No more than this gets through, in bits a second.
    Cut(f64),
    /// The last cut was an error.
    TakeBack,
}

/// Follows the loss of a path.
#[derive(Debug, Default)]
pub(super) struct Loss {
    window: Window,
    /// Of all packets, whatever the rate.
    inherent: f64,
    smoothed: f64,
    /// Windows in a row with too much loss.
    strikes: u32,
    /// Packets sent before this time tell nothing of the last cut.
    effective: Micros,
    /// The share that was lost before the last cut, while its effect is waited for.
    trial: Option<f64>,
}

/// The packets of a short time.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    packets: u32,
    lost: u32,
    bytes: u64,
    bytes_lost: u64,
    first_sent: Micros,
    last_sent: Micros,
}

/// A window is as long as the first, when it has so many packets, and at most as long as the second.
const SHORT: Micros = 200_000;
const ENOUGH: u32 = 20;
const LONG: Micros = 1_000_000;
/// Fewer packets than this tell nothing.
const FEW: u32 = 5;

/// Above the inherent loss and its noise, in two windows in a row: the path is full.
const MODERATE: f64 = 0.01;
/// The same in one window (draft-ietf-rmcat-gcc-02 section 6 backs off from 10 % on).
const HEAVY: f64 = 0.1;
/// Of the delivered rate, after moderate and after heavy loss, so that the queue can empty.
const MODERATE_CUT: f64 = 0.97;
const HEAVY_CUT: f64 = 0.9;
/// Standard deviations of noise.
const NOISE: f64 = 2.5;
/// The inherent loss follows lower loss faster than higher: a low quantile of what is usual.
const RISE: f64 = 0.1;
const FALL: f64 = 0.2;
/// No path is believed to lose more by itself.
const MOST_INHERENT: f64 = 0.3;
/// A cut that did not help is taken back only below this loss.
const MOST_TAKEN_BACK: f64 = 0.1;
/// Time to react to a cut, in which the sender may still finish a frame.
const REACTION: Micros = 100_000;
/// Of packets in the smoothed loss.
const WEIGHT: f64 = 1.0 / 128.0;

impl Loss {
    /// A packet has come or is lost, of those sent at a rate of at most `delivered` if it is known.
    pub fn on_packet(&mut self, result: &PacketResult) {
        let lost = result.arrival.is_none();
        self.smoothed += (f64::from(u8::from(lost)) - self.smoothed) * WEIGHT;
        if result.sent.at >= self.effective {
            self.window.add(result.sent.at, result.sent.bytes, lost);
        }
    }

    /// What follows from the packets so far. `now` is the time on the sender's clock.
    pub fn poll_verdict(&mut self, now: Micros) -> Option<Verdict> {
        let span = self.window.last_sent - self.window.first_sent;
        let complete = span >= SHORT && self.window.packets >= ENOUGH;
        if !complete && span < LONG {
            return None;
        }
        let window = std::mem::take(&mut self.window);
        if window.packets < FEW {
            return None;
        }
        self.judge(now, &window)
    }

    /// The smoothed share of lost packets.
    pub fn smoothed(&self) -> f64 {
        self.smoothed
    }

    fn judge(&mut self, now: Micros, window: &Window) -> Option<Verdict> {
        let loss = window.loss();
        if let Some(before) = self.trial.take()
            && loss > self.inherent + (before - self.inherent) / 2.0
        {
            self.inherent = loss.min(MOST_INHERENT);
            self.strikes = 0;
            return (loss <= MOST_TAKEN_BACK).then_some(Verdict::TakeBack);
        }
        let level = self.inherent.max(MODERATE);
        let noise = (level * (1.0 - level) / f64::from(window.packets)).sqrt();
        let heavy = loss > self.inherent + HEAVY + noise;
        if loss > self.inherent + MODERATE + NOISE * noise {
            self.strikes += 1;
        } else {
            self.strikes = 0;
            let speed = if loss > self.inherent { RISE } else { FALL };
            self.inherent += (loss - self.inherent) * speed;
        }
        if !heavy && self.strikes < 2 {
            return None;
        }
        self.strikes = 0;
        self.trial = Some(loss);
        self.effective = now + REACTION;
        self.window = Window::default();
        let delivered = window.delivered() / (1.0 - self.inherent);
        Some(Verdict::Cut(delivered * if heavy { HEAVY_CUT } else { MODERATE_CUT }))
    }
}

impl Window {
    fn add(&mut self, sent: Micros, bytes: u16, lost: bool) {
        if self.packets == 0 {
            (self.first_sent, self.last_sent) = (sent, sent);
        }
        self.first_sent = self.first_sent.min(sent);
        self.last_sent = self.last_sent.max(sent);
        self.packets += 1;
        self.bytes += u64::from(bytes);
        if lost {
            self.lost += 1;
            self.bytes_lost += u64::from(bytes);
        }
    }

    fn loss(&self) -> f64 {
        f64::from(self.lost) / f64::from(self.packets.max(1))
    }

    /// Bits a second. The last packet's time is not in the span, so one packet is left out.
    fn delivered(&self) -> f64 {
        let bytes = (self.bytes - self.bytes_lost) as f64;
        let others = f64::from(self.packets - 1) / f64::from(self.packets.max(1));
        bytes * others * 8e6 / (self.last_sent - self.first_sent).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::super::sent::{Sent, State};
    use super::*;

    /// Sends at `rate` for a time through what loses a packet when `lost` says so.
    fn run(
        loss: &mut Loss,
        now: &mut Micros,
        seconds: f64,
        rate: &mut f64,
        mut lost: impl FnMut(f64) -> bool,
    ) -> (u32, u32) {
        let (mut cuts, mut before, mut back) = (0, *rate, 0);
        let end = *now + (seconds * 1e6) as Micros;
        while *now < end {
            *now += (8000.0 * 1e6 / *rate) as Micros;
            let sent = Sent { seq: 1, at: *now, bytes: 1000, probe: None, state: State::Settled };
            loss.on_packet(&PacketResult { sent, arrival: (!lost(*rate)).then_some(0) });
            match loss.poll_verdict(*now) {
                Some(Verdict::Cut(to)) => {
                    before = *rate;
                    *rate = rate.min(to);
                    cuts += 1;
                }
                Some(Verdict::TakeBack) => {
                    *rate = rate.max(before);
                    back += 1;
                }
                None => {}
            }
        }
        (cuts, back)
    }

    #[test]
    fn inherent_loss_is_learned() {
        for seed in 0..5 {
            let mut rng = StdRng::seed_from_u64(seed);
            let (mut loss, mut now, mut rate) = (Loss::default(), 0, 2e6);
            run(&mut loss, &mut now, 20.0, &mut rate, |_| rng.random_bool(0.05));
            assert!(rate > 1.75e6, "seed {seed}: {rate}");
            assert!((0.02..0.08).contains(&loss.inherent), "seed {seed}: {}", loss.inherent);
            assert!((0.02..0.08).contains(&loss.smoothed()));
        }
    }

    #[test]
    fn a_full_path_cuts_to_what_it_delivers() {
        let mut rng = StdRng::seed_from_u64(1);
        let (mut loss, mut now, mut rate) = (Loss::default(), 0, 2e6);
        let policed = |rate: f64| (1.0 - 1e6 / rate).max(0.0);
        let (cuts, back) = run(&mut loss, &mut now, 3.0, &mut rate, |rate| rng.random_bool(policed(rate)));
        assert!((0.8e6..1.05e6).contains(&rate), "{rate}");
        assert!((1..=3).contains(&cuts) && back == 0, "{cuts} {back}");
    }

    #[test]
    fn loss_that_no_cut_helps_does_not_end_in_nothing() {
        let mut rng = StdRng::seed_from_u64(2);
        let (mut loss, mut now, mut rate) = (Loss::default(), 0, 2e6);
        run(&mut loss, &mut now, 20.0, &mut rate, |_| rng.random_bool(0.25));
        assert!(rate > 0.8e6, "{rate}");
    }

    #[test]
    fn packets_from_before_a_cut_are_not_held_against_it() {
        let mut loss = Loss::default();
        let sent = |at| Sent { seq: 1, at, bytes: 1000, probe: None, state: State::Settled };
        let mut cuts = 0;
        for at in (0..400_000).step_by(4_000) {
            loss.on_packet(&PacketResult { sent: sent(at), arrival: None });
            cuts += u32::from(loss.poll_verdict(400_000).is_some());
        }
        assert_eq!(cuts, 1);
    }
}
