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
    /// No more gets through than what is delivered, beside the inherent loss: cut the rate to this part of it.
    Cut { part: f64, heavy: bool },
    /// The last cut was an error.
    TakeBack,
}

/// Follows the loss of a path.
#[derive(Debug, Default)]
pub(super) struct Loss {
    /// Shows heavy loss soon.
    short: Window,
    /// Shows moderate loss in spite of noise.
    long: Window,
    /// Of all packets, whatever the rate.
    inherent: f64,
    smoothed: f64,
    /// Packets sent before this time tell nothing of the last cut.
    effective: Micros,
    /// The share that was lost before the last cuts, while their effect is waited for.
    trial: Option<f64>,
    /// Short windows within the long one, those of them with too much loss, and the last of these in a row with heavy loss.
    parts: u32,
    lossy_parts: u32,
    heavy_parts: u32,
    /// Cuts for heavy loss in a row.
    heavy_cuts: u32,
}

/// The packets of some time.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    packets: u32,
    lost: u32,
    first_sent: Micros,
    last_sent: Micros,
}

/// How long a window is, how many packets it has at least, and how long it gets when it does not get so many.
const SHORT: (Micros, u32, Micros) = (200_000, 20, 1_000_000);
const LONG: (Micros, u32, Micros) = (800_000, 100, 3_000_000);
/// Fewer packets than this tell nothing.
const FEW: u32 = 5;

/// Above the inherent loss and its noise, in a long window and in most of its parts: the path is full. A burst of loss is in one.
const MODERATE: f64 = 0.01;
/// The same in short ones (draft-ietf-rmcat-gcc-02 section 6 backs off from 10 % on), in so many in a row, and what is enough
/// in one.
const HEAVY: f64 = 0.1;
const IN_A_ROW: u32 = 2;
const HEAVIEST: f64 = 0.4;
/// Of the delivered rate, after moderate and after heavy loss, so that the queue can empty.
const MODERATE_CUT: f64 = 0.93;
const HEAVY_CUT: f64 = 0.9;
/// Standard deviations of noise.
const NOISE: f64 = 2.5;
/// How fast the inherent loss follows what is lost without need for a cut.
const FOLLOW: f64 = 0.15;
/// No path is believed to lose more by itself.
const MOST_INHERENT: f64 = 0.3;
/// Beside others who fill the queue no more than this is believed.
const INHERENT_BESIDE_OTHERS: f64 = 0.01;
/// A cut was in vain when so much of the loss above the inherent one stays.
const IN_VAIN: f64 = 0.35;
/// After so many cuts for heavy loss in a row, what is left of it is inherent.
const MOST_HEAVY_CUTS: u32 = 4;
/// A cut in vain is taken back only below this loss.
const MOST_TAKEN_BACK: f64 = 0.12;
/// After a cut for heavy loss so many packets in a row that all come are enough to see that it has helped.
const HELPED: u32 = 30;
/// Time to react to a cut, in which the sender may still finish a frame.
const REACTION: Micros = 100_000;
/// Of packets in the smoothed loss.
const WEIGHT: f64 = 1.0 / 128.0;

impl Loss {
    /// A packet has come or is lost.
    pub fn on_packet(&mut self, result: &PacketResult) {
        let lost = result.arrival.is_none();
        self.smoothed += (f64::from(u8::from(lost)) - self.smoothed) * WEIGHT;
        if result.sent.at >= self.effective {
            self.short.add(result.sent.at, lost);
            self.long.add(result.sent.at, lost);
        }
    }

    /// What follows from the packets so far. While others fill the queue (`competing`), all loss is of the queue and nothing is
    /// learned from it.
    pub fn poll_verdict(&mut self, now: Micros, competing: bool) -> Option<Verdict> {
        if competing {
            self.trial = None;
            self.heavy_cuts = 0;
            self.inherent = self.inherent.min(INHERENT_BESIDE_OTHERS);
        }
        if let Some(window) = self.short.take_complete(SHORT) {
            let loss = window.loss() - self.inherent;
            self.parts += 1;
            self.lossy_parts += u32::from(loss > MODERATE);
            let heavy = loss > HEAVY + self.noise(&window);
            self.heavy_parts = if heavy { self.heavy_parts + 1 } else { 0 };
            if self.heavy_parts >= IN_A_ROW || loss > HEAVIEST {
                if self.heavy_cuts < MOST_HEAVY_CUTS {
                    self.heavy_cuts += 1;
                    return Some(self.cut(now, window.loss(), HEAVY_CUT));
                }
                return self.learn(window.loss());
            }
        }
        // Few packets come after a deep cut: the usual window would take seconds, in which the rate must not grow.
        let helped = self.long.packets >= HELPED && self.long.lost == 0;
        self.trial = self.trial.filter(|before| *before < HEAVY || !helped);
        let window = self.long.take_complete(LONG)?;
        let loss = window.loss();
        let throughout = self.lossy_parts * 2 > self.parts;
        (self.parts, self.lossy_parts, self.heavy_cuts) = (0, 0, 0);
        match self.trial.take() {
            Some(before) if loss > self.inherent + (before - self.inherent) * IN_VAIN => self.learn(loss),
            _ if throughout && loss > self.inherent + MODERATE + self.noise(&window) => {
                let part = if competing { HEAVY_CUT } else { MODERATE_CUT };
                Some(self.cut(now, loss, part))
            }
            // The cut has helped: what was lost beyond this was not inherent.
            Some(_) => {
                self.inherent = self.inherent.min(loss);
                None
            }
            None => {
                self.inherent += (loss - self.inherent) * FOLLOW;
                None
            }
        }
    }

    /// Whether the effect of a cut is waited for. The rate should not change meanwhile.
    pub fn is_on_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// The share that is lost whatever the rate is.
    pub fn inherent(&self) -> f64 {
        self.inherent
    }

    /// The smoothed share of lost packets.
    pub fn smoothed(&self) -> f64 {
        self.smoothed
    }

    /// How much more than the inherent loss may be chance.
    fn noise(&self, window: &Window) -> f64 {
        let level = self.inherent.max(MODERATE);
        NOISE * (level * (1.0 - level) / f64::from(window.packets)).sqrt()
    }

    /// Cuts were in vain.
    fn learn(&mut self, loss: f64) -> Option<Verdict> {
        self.inherent = loss.min(MOST_INHERENT);
        self.heavy_cuts = 0;
        self.trial = None;
        (loss <= MOST_TAKEN_BACK).then_some(Verdict::TakeBack)
    }

    fn cut(&mut self, now: Micros, loss: f64, part: f64) -> Verdict {
        self.trial.get_or_insert(loss);
        self.effective = now + REACTION;
        (self.short, self.long) = (Window::default(), Window::default());
        (self.parts, self.lossy_parts, self.heavy_parts) = (0, 0, 0);
        Verdict::Cut { part, heavy: part < MODERATE_CUT }
    }
}

impl Window {
    fn add(&mut self, sent: Micros, lost: bool) {
        if self.packets == 0 {
            (self.first_sent, self.last_sent) = (sent, sent);
        }
        self.first_sent = self.first_sent.min(sent);
        self.last_sent = self.last_sent.max(sent);
        self.packets += 1;
        self.lost += u32::from(lost);
    }

    fn take_complete(&mut self, (least, enough, most): (Micros, u32, Micros)) -> Option<Self> {
        let span = self.last_sent - self.first_sent;
        if span < least || self.packets < enough && span < most {
            return None;
        }
        Some(std::mem::take(self)).filter(|window| window.packets >= FEW)
    }

    fn loss(&self) -> f64 {
        f64::from(self.lost) / f64::from(self.packets.max(1))
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
        let (mut cuts, mut before, mut back, mut usual) = (0, *rate, 0, 0.0);
        let end = *now + (seconds * 1e6) as Micros;
        while *now < end {
            *now += (8000.0 * 1e6 / *rate) as Micros;
            let sent = Sent { seq: 1, at: *now, bytes: 1000, probe: None, state: State::Settled };
            let lost = lost(*rate);
            usual += (f64::from(u8::from(lost)) - usual) / 50.0;
            loss.on_packet(&PacketResult { sent, arrival: (!lost).then_some(0) });
            match loss.poll_verdict(*now, false) {
                Some(Verdict::Cut { part, .. }) => {
                    before = *rate;
                    *rate = rate.min(*rate * (1.0 - usual) / (1.0 - loss.inherent()) * part);
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
            assert!(rate > 1.5e6, "seed {seed}: {rate}");
            assert!((0.02..0.08).contains(&loss.inherent), "seed {seed}: {}", loss.inherent);
            assert!((0.01..0.1).contains(&loss.smoothed()));
        }
    }

    #[test]
    fn a_full_path_cuts_to_what_it_delivers() {
        let (mut loss, mut now, mut rate) = (Loss::default(), 0, 2e6);
        let mut excess = 0.0;
        let policed = |rate: f64| {
            excess += (1.0 - 1e6 / rate).max(0.0);
            let lost = excess >= 1.0;
            excess -= f64::from(u8::from(lost));
            lost
        };
        let (cuts, back) = run(&mut loss, &mut now, 3.0, &mut rate, policed);
        assert!((0.8e6..1.05e6).contains(&rate), "{rate}");
        assert!((1..=3).contains(&cuts) && back == 0, "{cuts} {back}");
    }

    #[test]
    fn loss_that_no_cut_helps_does_not_end_in_nothing() {
        let mut rng = StdRng::seed_from_u64(2);
        let (mut loss, mut now, mut rate) = (Loss::default(), 0, 2e6);
        run(&mut loss, &mut now, 20.0, &mut rate, |_| rng.random_bool(0.25));
        assert!(rate > 0.2e6, "{rate}");
    }

    #[test]
    fn packets_from_before_a_cut_are_not_held_against_it() {
        let mut loss = Loss::default();
        let sent = |at| Sent { seq: 1, at, bytes: 1000, probe: None, state: State::Settled };
        let mut cuts = 0;
        for at in (0..400_000).step_by(4_000) {
            loss.on_packet(&PacketResult { sent: sent(at), arrival: None });
            cuts += u32::from(loss.poll_verdict(400_000, false).is_some());
        }
        assert_eq!(cuts, 1);
    }
}
