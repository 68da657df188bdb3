//! What one slot is given of its subscriber's network, and what was learned by trying.
//!
//! A level that had to be given up soon after it was reached is not tried again for a while, and for longer each time: on
//! a steady network the picture then stays as it is. A picture that seems not to fit is tried at its least level: at first,
//! when little is known of the network, and from time to time, since nothing else would tell that it has recovered.

use std::time::{Duration, Instant};

use crate::allocation::{Level, Rank};

/// A level that is given up within so long after it was reached was a mistake.
const MISTAKE_WITHIN: Duration = Duration::from_secs(10);
/// How long it is not tried then: at first, and at most.
const FIRST_BAR: Duration = Duration::from_secs(10);
const LONGEST_BAR: Duration = Duration::from_secs(80);
/// When a paused picture is tried first, and how long at most until it is tried again.
const FIRST_TRIAL: Duration = Duration::from_secs(2);
const LATEST_TRIAL: Duration = Duration::from_secs(15);
/// After a level was lowered none is raised for so long: the network that became slower is still being found out.
const SETTLING: Duration = Duration::from_millis(1500);
/// A paused picture comes back before its trial only when the network carries this multiple of it.
const PLENTY: u64 = 2;
/// The last picture of somebody is held for so long when nothing fits any more: most networks that fade are soon back, and
/// a picture that is sent shows that at once.
const HOLD: Duration = Duration::from_secs(2);
/// Something new that does not fit is not called paused, nor a level that was too much for it barred, before so long: the
/// estimate of a new network rises quickly.
const FRESH: Duration = Duration::from_secs(2);
/// How long a trial goes on without proof that it fits.
const TRIAL: Duration = Duration::from_secs(5);

/// One slot's share.
#[derive(Clone, Copy, Debug, Default)]
pub struct Share {
    level: Option<Level>,
    /// How much the picture is wanted.
    rank: Option<Rank>,
    /// There is something to show, and the network does not carry it.
    paused: bool,
    /// When there was a picture after there was none.
    begun_at: Option<Instant>,
    raised_at: Option<Instant>,
    lowered_at: Option<Instant>,
    bar: Option<Bar>,
    /// Since when there is something to show that was never given anything.
    fresh_since: Option<Instant>,
    trial_at: Option<Instant>,
    /// How long it waits for its trial, from the pause on.
    trial_after: Duration,
    trial_ends: Option<Instant>,
    /// Since when it is held though nothing fits.
    held_since: Option<Instant>,
}

/// A level that is not to be tried.
#[derive(Clone, Copy, Debug)]
struct Bar {
    /// This and all that take as much, unless the network carries half as much again.
    level: Level,
    until: Instant,
    length: Duration,
}

/// How a slot's level has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Not at all.
    None,
    /// Another level, or the first one.
    Level,
    /// No level fits any more.
    Paused,
}

impl Share {
    /// What is given; `None` while paused, and before there was anything to give.
    pub fn level(&self) -> Option<Level> {
        self.level
    }

    /// Takes how much the picture is wanted; returns whether that has changed.
    pub fn follow_rank(&mut self, rank: Rank) -> bool {
        self.rank.replace(rank) != Some(rank)
    }

    /// Something else is looked at than before: what is lowered now was no mistake, and nothing is barred by one of before.
    pub fn forgive(&mut self) {
        (self.raised_at, self.bar) = (None, None);
    }

    /// Whether the picture is paused for want of bandwidth.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Another track is shown: nothing that was learned holds for it.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// The place of what is given now among `levels`, ascending: the highest that takes no more.
    pub fn shown(&self, levels: &[Level]) -> Option<usize> {
        let level = self.level?;
        let same = levels.iter().position(|l| l.is_same(&level));
        same.or_else(|| levels.iter().rposition(|l| l.bits <= level.bits))
    }

    /// The highest of `levels` that may be tried now, with so many bits per second for this slot.
    pub fn highest(&self, now: Instant, levels: &[Level], bits: u64) -> usize {
        if let Some(shown) = self.shown(levels)
            && self.lowered_at.is_some_and(|at| now.saturating_duration_since(at) < SETTLING)
        {
            return shown;
        }
        let holds = |bar: &Bar| now < bar.until && bits < bar.level.bits + bar.level.bits / 2;
        let Some(Bar { level, .. }) = self.bar.filter(holds) else { return levels.len() };
        // What it takes is measured anew all the time, and may be a little less than when it failed.
        let failed = levels.iter().position(|l| l.is_same(&level) || l.bits >= level.bits);
        let below = failed.map_or(levels.len(), |failed| failed.saturating_sub(1));
        below.max(self.shown(levels).unwrap_or(0))
    }

    /// Whether a paused picture waits for its trial, where the network carries so many bits per second.
    pub fn is_waiting(&self, now: Instant, bits: u64, levels: &[Level]) -> bool {
        let plenty = levels.first().is_some_and(|least| bits >= least.bits * PLENTY);
        self.paused && !plenty && self.trial_at.is_some_and(|at| now < at)
    }

    /// Whether the picture is held for a moment though nothing fits: one that is new was a trial, and has failed.
    pub fn is_held(&mut self, now: Instant) -> bool {
        let new = self.begun_at.is_some_and(|at| now.saturating_duration_since(at) < TRIAL);
        self.level.is_some()
            && !new
            && now.saturating_duration_since(*self.held_since.get_or_insert(now)) < HOLD
    }

    /// Something fits.
    pub fn release(&mut self) {
        self.held_since = None;
    }

    /// Whether the picture is being tried and nothing speaks against it.
    pub fn is_on_trial(&mut self, now: Instant, congested: bool) -> bool {
        if self.trial_ends.is_some_and(|ends| now >= ends || congested) {
            self.trial_ends = None;
        }
        self.trial_ends.is_some()
    }

    /// Tries the picture, if it is time to: it is new, or paused for long.
    pub fn begin_trial(&mut self, now: Instant, congested: bool) -> bool {
        let fresh = self.level.is_none() && !self.paused;
        let due = fresh || self.paused && self.trial_at.is_some_and(|at| at <= now);
        if due && !congested {
            self.trial_ends = Some(now + TRIAL);
        }
        self.trial_ends.is_some()
    }

    /// Tries the picture from now on.
    pub fn extend_trial(&mut self, now: Instant) {
        self.trial_ends = Some(now + TRIAL);
    }

    /// Takes what the allocation gives. `levels` are those it could choose from.
    pub fn give(&mut self, now: Instant, given: Option<usize>, levels: &[Level]) -> Change {
        let Some(level) = given.and_then(|g| levels.get(g)).copied() else { return self.pause(now) };
        self.fresh_since = None;
        let before = self.level.replace(level);
        self.paused = false;
        match before {
            Some(before) if before.is_same(&level) => return Change::None,
            Some(before) => {
                if levels.iter().any(|l| l.is_same(&before)) && level.bits < before.bits {
                    if self.has_just_begun(now) {
                        // Neither the network nor what the levels take was known; that is no mistake.
                        (self.lowered_at, self.raised_at) = (Some(now), None);
                    } else {
                        self.on_lowered(now, before);
                    }
                } else if level.bits > before.bits {
                    self.raised_at = Some(now);
                }
            }
            None => (self.raised_at, self.begun_at) = (Some(now), Some(now)),
        }
        Change::Level
    }

    fn has_just_begun(&self, now: Instant) -> bool {
        self.begun_at.is_some_and(|at| now.saturating_duration_since(at) < FRESH)
    }

    fn pause(&mut self, now: Instant) -> Change {
        let fresh = self.level.is_none()
            && now.saturating_duration_since(*self.fresh_since.get_or_insert(now)) < FRESH;
        if self.paused || fresh {
            return Change::None;
        }
        self.paused = true;
        match self.level.take() {
            Some(level) => self.on_lowered(now, level),
            None => self.lowered_at = Some(now),
        }
        // After each trial in vain it waits for longer.
        let length =
            self.bar.map_or(FIRST_TRIAL, |_| (self.trial_after * 2).clamp(FIRST_TRIAL, LATEST_TRIAL));
        self.trial_after = length;
        self.trial_at = Some(now + length);
        // How long it waits is told by the trial; there is nothing lower to bar it from.
        (self.trial_ends, self.held_since) = (None, None);
        Change::Paused
    }

    fn on_lowered(&mut self, now: Instant, from: Level) {
        self.lowered_at = Some(now);
        let mistake =
            self.raised_at.take().is_some_and(|at| now.saturating_duration_since(at) < MISTAKE_WITHIN);
        self.bar = mistake.then(|| {
            let length = self.bar.map_or(FIRST_BAR, |bar| (bar.length * 2).min(LONGEST_BAR));
            Bar { level: from, until: now + length, length }
        });
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
mod tests {
    use super::*;

    fn levels() -> [Level; 3] {
        [(0, 150_000), (1, 500_000), (2, 1_700_000)].map(|(layer, bits)| Level {
            layer,
            spatial: Level::ALL,
            temporal: Level::ALL,
            bits,
        })
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_level_that_failed_is_barred_for_longer_each_time() {
        let (start, levels) = (Instant::now(), levels());
        let mut share = Share::default();
        assert_eq!(share.give(start, Some(1), &levels), Change::Level);
        assert_eq!(share.give(after(start, 20), Some(2), &levels), Change::Level);
        assert_eq!(share.give(after(start, 22), Some(1), &levels), Change::Level);
        assert_eq!(share.highest(after(start, 31), &levels, 0), 1);
        assert_eq!(share.highest(after(start, 33), &levels, 0), 3);
        share.give(after(start, 33), Some(2), &levels);
        share.give(after(start, 34), Some(1), &levels);
        assert_eq!(share.highest(after(start, 53), &levels, 0), 1);
        assert_eq!(share.highest(after(start, 55), &levels, 0), 3);
        assert_eq!(share.highest(after(start, 40), &levels, 2_600_000), 3, "the network is another one");
    }

    #[test]
    fn a_bar_holds_though_its_level_takes_a_little_less_by_now() {
        let (start, mut levels) = (Instant::now(), levels());
        let mut share = Share::default();
        share.give(start, Some(0), &levels);
        share.give(after(start, 20), Some(1), &levels);
        share.give(after(start, 22), Some(0), &levels);
        levels[1].bits -= 10_000;
        assert_eq!(share.highest(after(start, 25), &levels, 0), 0);
        assert_eq!(share.highest(after(start, 33), &levels, 0), 3);
    }

    #[test]
    fn a_picture_is_held_for_a_moment_unless_it_has_just_begun() {
        let (start, levels) = (Instant::now(), levels());
        let mut share = Share::default();
        share.give(start, Some(0), &levels);
        assert!(!share.is_held(after(start, 4)), "a trial that has failed");
        share.give(after(start, 8), Some(1), &levels);
        assert!(share.is_held(after(start, 9)), "raised, but shown for long");
        assert!(!share.is_held(after(start, 11)), "for a moment only");
    }

    #[test]
    fn a_level_that_held_for_long_is_not_barred() {
        let (start, levels) = (Instant::now(), levels());
        let mut share = Share::default();
        share.give(start, Some(2), &levels);
        assert_eq!(share.give(after(start, 60), Some(0), &levels), Change::Level);
        assert_eq!(share.highest(after(start, 61), &levels, 0), 0, "not at once");
        assert_eq!(share.highest(after(start, 62), &levels, 0), 3);
    }

    #[test]
    fn a_paused_picture_is_tried_again() {
        let (start, levels) = (Instant::now(), levels());
        let mut share = Share::default();
        share.give(start, Some(0), &levels);
        assert_eq!(share.give(after(start, 60), None, &levels), Change::Paused);
        assert!(share.is_paused());
        assert!(!share.begin_trial(after(start, 61), false));
        assert!(!share.begin_trial(after(start, 65), true), "not while the network is full");
        assert!(share.begin_trial(after(start, 65), false));
        assert_eq!(share.give(after(start, 65), Some(0), &levels), Change::Level);
        assert!(share.is_on_trial(after(start, 69), false));
        assert!(!share.is_on_trial(after(start, 71), false), "a trial ends");
        assert_eq!(share.give(after(start, 71), None, &levels), Change::Paused);
        assert!(!share.begin_trial(after(start, 74), false), "and the next comes later");
        assert!(share.begin_trial(after(start, 76), false));
    }

    #[test]
    fn something_new_is_tried_at_once_and_not_called_paused_at_once() {
        let (start, levels) = (Instant::now(), levels());
        let mut share = Share::default();
        assert_eq!(share.give(start, None, &levels), Change::None);
        assert_eq!(share.give(after(start, 1), None, &levels), Change::None);
        assert_eq!(share.give(after(start, 2), None, &levels), Change::Paused);
        let mut tried = Share::default();
        assert!(tried.begin_trial(start, false));
        assert_eq!(tried.give(start, Some(0), &levels), Change::Level);
        assert!(tried.is_on_trial(after(start, 4), false) && !tried.is_on_trial(after(start, 5), false));
    }

    #[test]
    fn what_a_new_network_does_not_carry_at_once_is_not_barred() {
        let (start, levels) = (Instant::now(), levels());
        let mut share = Share::default();
        share.give(start, Some(1), &levels);
        share.give(start + Duration::from_millis(300), Some(0), &levels);
        assert_eq!(share.highest(after(start, 1), &levels, 0), 0, "not at once");
        assert_eq!(share.highest(after(start, 2), &levels, 0), 3);
        share.give(after(start, 2), Some(1), &levels);
        share.give(after(start, 4), Some(0), &levels);
        assert_eq!(share.highest(after(start, 9), &levels, 0), 0, "the second time it is");
    }

    #[test]
    fn a_level_that_stops_to_flow_is_no_mistake() {
        let (start, levels) = (Instant::now(), levels());
        let mut share = Share::default();
        share.give(start, Some(2), &levels);
        assert_eq!(share.shown(&levels[..2]), Some(1));
        assert_eq!(share.give(after(start, 1), Some(1), &levels[..2]), Change::Level);
        assert_eq!(share.highest(after(start, 2), &levels, 0), 3);
    }
}
