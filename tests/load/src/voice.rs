//! Who speaks when, and how loud: the levels that a server's speaker detection sees (RFC 6464).

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How the people of a scenario speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Speech {
    /// Everybody by themselves, in talk spurts and pauses.
    Spurts,
    /// One after the other, a few seconds each.
    Turns,
    /// Everybody all the time.
    Constant,
    /// Nobody: microphones are on, but it is quiet.
    Silent,
}

/// ITU-T P.59 table 1: talk spurts and pauses of conversational speech, on average.
const SPURT: Duration = Duration::from_millis(1004);
const PAUSE: Duration = Duration::from_millis(1587);
/// How long one speaks where people take turns.
const TURN: Duration = Duration::from_secs(4);
/// A voice, and the noise of a quiet room, in -dBov.
const LOUD: u8 = 30;
const QUIET: u8 = 90;

/// One person's voice.
#[derive(Debug)]
pub struct Voice {
    speech: Speech,
    /// Which of how many people in the room this is.
    place: (u32, u32),
    speaks: bool,
    changes_at: Duration,
    rng: StdRng,
}

impl Voice {
    /// The voice of person `place.0` of `place.1` in a room.
    pub fn new(speech: Speech, place: (u32, u32), seed: u64) -> Self {
        Self { speech, place, speaks: false, changes_at: Duration::ZERO, rng: StdRng::seed_from_u64(seed) }
    }

    /// The extension's byte for a packet at this time of the scenario, which must not go back: the voice bit and the level.
    pub fn level(&mut self, at: Duration) -> u8 {
        let speaks = match self.speech {
            Speech::Constant => true,
            Speech::Silent => false,
            Speech::Turns => {
                let turn = (at.as_millis() / TURN.as_millis()) as u32;
                turn % self.place.1.max(1) == self.place.0
            }
            Speech::Spurts => {
                while self.changes_at <= at {
                    self.speaks = !self.speaks;
                    let mean = if self.speaks { SPURT } else { PAUSE };
                    // Exponentially distributed.
                    self.changes_at += mean.mul_f64(-(1.0 - self.rng.random::<f64>()).ln());
                }
                self.speaks
            }
        };
        // Between syllables, four in a second, a voice falls for a moment.
        let between = at.as_millis() % 250 >= 200;
        let jitter = self.rng.random_range(0..6);
        match (speaks, between) {
            (true, false) => 0x80 | (LOUD + jitter),
            (true, true) => LOUD + 40 + jitter,
            (false, _) => QUIET + jitter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(speech: Speech, place: (u32, u32), seconds: u64) -> f64 {
        let mut voice = Voice::new(speech, place, 5);
        let packets = seconds * 50;
        let loud = (0..packets).filter(|n| voice.level(Duration::from_millis(20 * n)) & 0x7f < 80).count();
        loud as f64 / packets as f64
    }

    #[test]
    fn people_speak_as_much_as_they_should() {
        assert!((share(Speech::Constant, (0, 1), 10) - 1.0).abs() < 1e-9);
        assert!(share(Speech::Silent, (0, 1), 10).abs() < 1e-9);
        let spurts = share(Speech::Spurts, (0, 1), 2_000);
        assert!((spurts - 1.004 / 2.591).abs() < 0.03, "{spurts}");
        for place in 0..4 {
            let turns = share(Speech::Turns, (place, 4), 160);
            assert!((turns - 0.25).abs() < 0.01, "{turns}");
        }
    }
}
