//! Whether somebody else fills the queue, who does not care for delay.
//!
//! Carlucci et al. 2016 leave it to the adaptive threshold to live beside TCP; its long sawtooth starves us all the same. But
//! a cut takes us below what the link has just carried. When the queue grows again before we are back at that rate, others
//! have taken what we left, and after some such cuts only loss counts for a while (a mode switch as in Copa, Arun and
//! Balakrishnan 2018).

use super::Micros;

/// Follows what follows cuts.
#[derive(Debug, Default)]
pub(super) struct Competition {
    /// When the rate was cut last, and what the link carried then.
    last_cut: Option<(Micros, f64)>,
    /// More with each cut in vain, less with each other one.
    suspicion: u32,
    until: Micros,
    /// Since when so little of ours comes through that nobody else can be there.
    alone_since: Option<Micros>,
}

/// Cuts that are closer together answer the same event.
const APART: Micros = 1_500_000;
/// When the last cut is longer ago, the path may have changed.
const FORGOTTEN: Micros = 10_000_000;
/// Who does not care for delay makes a longer queue than this.
const LONG: Micros = 40_000;
/// We are not back when we send less than this part of what the link carried.
const BACK: f64 = 0.9;
/// A link that becomes slower carries less than this part of what is sent; others push us aside more slowly.
const PUSHED_ASIDE: f64 = 0.85;
/// What a cut in vain adds to the suspicion when another takes one off, and where it is no chance any more.
const IN_VAIN: u32 = 2;
const SURE: u32 = 7;
/// Competition is believed to last so long.
const LASTS: Micros = 20_000_000;
/// Beside others, more comes through when we send more. When only this part of what we may send does for so long, we fill the
/// link alone.
const ALONE: f64 = 0.82;
const ALONE_TIME: Micros = 1_000_000;

impl Competition {
    /// The rate was cut for a queue: how long it was, from what rate, what was sent and what the link carried of it, in bits a
    /// second.
    pub fn on_cut(&mut self, now: Micros, queuing: Micros, rate: f64, sent: f64, carried: f64) {
        let last = self.last_cut.replace((now, carried));
        let Some((at, before)) = last.filter(|(at, _)| now - at < FORGOTTEN) else { return };
        // What comes back now was sent as long ago as the queue is.
        if now - at < APART + 2 * queuing {
            return;
        }
        if queuing > LONG && rate < before * BACK && carried > sent * PUSHED_ASIDE {
            self.suspicion += IN_VAIN;
        } else {
            self.suspicion = self.suspicion.saturating_sub(1);
        }
        if self.suspicion >= SURE {
            self.until = now + LASTS;
            self.suspicion = SURE - IN_VAIN;
        }
    }

    /// Packets came: which part of what may be sent comes through, the lost packets beside.
    pub fn on_feedback(&mut self, now: Micros, comes_through: f64) {
        if comes_through > ALONE || !self.is_felt(now) {
            self.alone_since = None;
        } else if now - *self.alone_since.get_or_insert(now) > ALONE_TIME {
            (self.until, self.suspicion) = (now, 0);
        }
    }

    /// Whether the queue is of others.
    pub fn is_felt(&self, now: Micros) -> bool {
        now < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;

    #[test]
    fn who_is_pushed_aside_again_and_again_has_company() {
        let mut competition = Competition::default();
        let mut rate = 1e6;
        for n in 0..5 {
            assert!(!competition.is_felt(n * 3 * SECOND));
            competition.on_cut(n * 3 * SECOND, 90_000, rate, rate, rate * 0.93);
            competition.on_cut(n * 3 * SECOND + SECOND / 5, 90_000, rate * 0.8, rate * 0.8, rate * 0.8);
            rate *= 0.7;
        }
        assert!(competition.is_felt(12 * SECOND) && !competition.is_felt(40 * SECOND));
        competition.on_feedback(13 * SECOND, 0.7);
        competition.on_feedback(14 * SECOND, 0.9);
        competition.on_feedback(15 * SECOND, 0.7);
        assert!(competition.is_felt(16 * SECOND));
        competition.on_feedback(17 * SECOND, 0.7);
        assert!(!competition.is_felt(17 * SECOND), "it was ours after all");
    }

    #[test]
    fn who_comes_back_to_what_the_link_carries_fills_it_alone() {
        let mut competition = Competition::default();
        (0..20).for_each(|n| competition.on_cut(n * 3 * SECOND, 90_000, 1.02e6, 1.02e6, 1e6));
        // A link that becomes slower and slower.
        let mut rate = 1e6;
        for n in 20..40 {
            competition.on_cut(n * 3 * SECOND, 90_000, rate, rate, rate * 0.8);
            rate *= 0.7;
        }
        assert!(!competition.is_felt(60 * SECOND) && !competition.is_felt(118 * SECOND));
    }
}
