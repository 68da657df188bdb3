//! How good a connection is, in one word for people: from losses both ways, round-trip time and silence.

use crate::control::Quality;

/// What the judgement rests on.
#[derive(Clone, Copy, Debug)]
pub struct QualityInput {
    /// Nothing authenticated has come for some seconds, or consent has expired.
    pub silent: bool,
    /// The share of packets lost from the participant, after repair is not considered: 0.0 to 1.0.
    pub loss_up: f32,
    /// The share of packets lost to the participant.
    pub loss_down: f32,
    /// The share of what the participant wants to see that their network carries: 0.0 to 1.0.
    pub given: f32,
    /// Round-trip time in milliseconds.
    pub rtt_ms: Option<f32>,
}

/// Judges a connection. Thresholds as people feel them: repaired losses of some percent cost delay only, beyond ten the
/// picture suffers; a conversation gets hard above half a second each way. A picture of half the size takes a quarter.
pub fn judge(input: &QualityInput) -> Quality {
    let loss = input.loss_up.max(input.loss_down);
    let rtt = input.rtt_ms.unwrap_or(0.0);
    if input.silent {
        Quality::Lost
    } else if loss > 0.10 || rtt > 800.0 || input.given < 0.25 {
        Quality::Poor
    } else if loss > 0.03 || rtt > 300.0 || input.given < 0.75 {
        Quality::Good
    } else {
        Quality::Excellent
    }
}

/// A judgement that does not flap: a change must be judged twice in a row, but a loss is told at once.
#[derive(Clone, Copy, Debug)]
pub struct SteadyQuality {
    told: Quality,
    candidate: Quality,
}

impl Default for SteadyQuality {
    fn default() -> Self {
        Self { told: Quality::Excellent, candidate: Quality::Excellent }
    }
}

impl SteadyQuality {
    /// Takes the next judgement; gives the quality to tell when it changes.
    pub fn update(&mut self, judged: Quality) -> Option<Quality> {
        let confirmed = judged == self.candidate || judged == Quality::Lost || self.told == Quality::Lost;
        self.candidate = judged;
        if !confirmed || judged == self.told {
            return None;
        }
        self.told = judged;
        Some(judged)
    }

    /// Whether the last judgement is what was told.
    pub fn is_settled(self) -> bool {
        self.candidate == self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_follow_the_network() {
        let good = QualityInput { silent: false, loss_up: 0.0, loss_down: 0.0, given: 1.0, rtt_ms: None };
        assert_eq!(judge(&good), Quality::Excellent);
        assert_eq!(judge(&QualityInput { loss_up: 0.05, ..good }), Quality::Good);
        assert_eq!(judge(&QualityInput { loss_down: 0.2, ..good }), Quality::Poor);
        assert_eq!(judge(&QualityInput { rtt_ms: Some(900.0), ..good }), Quality::Poor);
        assert_eq!(judge(&QualityInput { given: 0.6, ..good }), Quality::Good);
        assert_eq!(judge(&QualityInput { given: 0.1, ..good }), Quality::Poor);
        assert_eq!(judge(&QualityInput { silent: true, ..good }), Quality::Lost);
    }

    #[test]
    fn one_odd_judgement_is_not_told_but_a_loss_is() {
        let mut steady = SteadyQuality::default();
        assert_eq!(steady.update(Quality::Poor), None);
        assert_eq!(steady.update(Quality::Excellent), None);
        assert_eq!(steady.update(Quality::Good), None);
        assert_eq!(steady.update(Quality::Good), Some(Quality::Good));
        assert_eq!(steady.update(Quality::Lost), Some(Quality::Lost));
        assert_eq!(steady.update(Quality::Excellent), Some(Quality::Excellent));
    }
}
