//! Waiting a moment for more before a loaded worker receives, so that what comes shortly after leaves in the same trains.
//!
//! A frame comes as a burst of packets, and the first would wake the worker and leave alone, to each subscriber with a
//! send of its own. Who has little to do shall do just that: nothing is as quick. The busier a worker is, the more a send saved
//! is worth, and the less a wait adds to the time that packets take anyway. docs/speed.md has the figures.

use std::time::{Duration, Instant};

/// The longest wait.
const LONGEST: Duration = Duration::from_millis(1);

/// The share of the time that a worker is busy from which on it waits: below are quiet calls.
const LOADED: f64 = 0.02;

/// The share from which on it waits longest; below, the wait is as much shorter as the share is smaller.
const BUSY: f64 = 0.25;

/// The share is taken over so long, and then smoothed.
const WINDOW: Duration = Duration::from_millis(20);
const SMOOTHING: f64 = 0.25;

/// What is received within so long after the wait for it has begun had come before.
const AT_ONCE: Duration = Duration::from_micros(20);

/// Decides how long a worker waits for more when something has come.
#[derive(Debug)]
pub struct Hold {
    /// Whether it ever waits: always, but where its effect is measured.
    allowed: bool,
    /// The share of the time that the worker is busy.
    share: f64,
    window_began: Instant,
    worked: Duration,
    /// When the last turn began, with receiving.
    turn_began: Instant,
    /// When the last turn ended.
    turn_ended: Instant,
}

impl Hold {
    /// Nothing was done yet. `allowed`: whether it ever waits.
    pub fn new(now: Instant, allowed: bool) -> Self {
        let worked = Duration::ZERO;
        Self { allowed, share: 0.0, window_began: now, worked, turn_began: now, turn_ended: now }
    }

    /// A turn is over: it began with receiving, and all that came of it is sent.
    pub fn on_turn(&mut self, began: Instant, ended: Instant) {
        self.worked += ended.saturating_duration_since(began);
        (self.turn_began, self.turn_ended) = (began, ended);
        let window = ended.saturating_duration_since(self.window_began);
        if window >= WINDOW {
            let share = self.worked.as_secs_f64() / window.as_secs_f64();
            self.share += (share.min(1.0) - self.share) * SMOOTHING;
            self.window_began = ended;
            self.worked = Duration::ZERO;
        }
    }

    /// Whether there may be anything to wait for.
    pub fn is_on(&self) -> bool {
        self.allowed && self.share >= LOADED
    }

    /// How long to wait for more, when something was found to have come at `woken`. `left`: the last turn has left something for
    /// this one. Not at all then: a few are taken in each turn, and a flood of them would take a wait for every few.
    pub fn time(&self, woken: Instant, left: bool) -> Duration {
        if left || !self.is_on() {
            return Duration::ZERO;
        }
        let hold = LONGEST.mul_f64((self.share / BUSY).min(1.0));
        let came_before = woken.saturating_duration_since(self.turn_ended) < AT_ONCE;
        // What came during the last turn has waited already: since it began, as far as anybody knows.
        let waited =
            if came_before { woken.saturating_duration_since(self.turn_began) } else { Duration::ZERO };
        hold.saturating_sub(waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker that is busy for `work` out of each millisecond.
    fn loaded(work: Duration) -> (Hold, Instant) {
        busy(work, true)
    }

    fn busy(work: Duration, allowed: bool) -> (Hold, Instant) {
        let mut now = Instant::now();
        let mut hold = Hold::new(now, allowed);
        for _ in 0..500 {
            hold.on_turn(now, now + work);
            now += Duration::from_millis(1);
        }
        (hold, now)
    }

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn who_has_little_to_do_waits_for_nothing() {
        let (hold, now) = loaded(micros(15));
        assert!(!hold.is_on());
        assert_eq!(hold.time(now, false), Duration::ZERO);
    }

    #[test]
    fn the_wait_grows_with_the_load_up_to_its_limit() {
        let of = |work| {
            let (hold, now) = loaded(micros(work));
            hold.time(now, false)
        };
        assert!((micros(390)..micros(410)).contains(&of(100)), "{:?}", of(100));
        assert_eq!(of(300), LONGEST);
        assert_eq!(of(900), LONGEST);
    }

    #[test]
    fn what_came_during_a_turn_has_waited_already() {
        let (mut hold, now) = loaded(micros(400));
        hold.on_turn(now, now + micros(400));
        assert_eq!(hold.time(now + micros(405), false), micros(595));
        assert_eq!(hold.time(now + micros(500), false), LONGEST, "the worker slept before it came");
        // A turn that takes longer than the wait leaves nothing to wait for: a full worker never sleeps.
        hold.on_turn(now, now + micros(1200));
        assert_eq!(hold.time(now + micros(1201), false), Duration::ZERO);
    }

    #[test]
    fn what_the_last_turn_has_left_is_not_held_up() {
        let (hold, now) = loaded(micros(900));
        assert_eq!([false, true].map(|left| hold.time(now, left)), [LONGEST, Duration::ZERO]);
    }

    #[test]
    fn where_its_effect_is_measured_it_can_be_without() {
        let (hold, now) = busy(micros(900), false);
        assert!(!hold.is_on());
        assert_eq!(hold.time(now, false), Duration::ZERO);
    }

    #[test]
    fn load_that_is_over_is_forgotten_soon() {
        let (mut hold, mut now) = loaded(micros(900));
        for _ in 0..15 {
            now += WINDOW;
            hold.on_turn(now, now);
        }
        assert!(!hold.is_on());
    }
}
