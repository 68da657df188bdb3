//! What chance decides on a link.

use rand::RngExt;
use rand::rngs::StdRng;

/// Loss in bursts by the chain of Gilbert and Elliott: two states with their own share of loss, changed by chance
/// before each packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bursts {
    /// The chance to go from the good state to the bad one.
    pub begin: f64,
    /// The chance to go back.
    pub end: f64,
    /// The share that is lost in the good state.
    pub loss_good: f64,
    /// The share that is lost in the bad state.
    pub loss_bad: f64,
}

impl Bursts {
    /// Loses this share of all packets, below 1, in runs that are so many packets long on average, at least 1.
    pub fn losing(share: f64, run: f64) -> Self {
        let end = 1.0 / run.max(1.0);
        let begin = (end * share / (1.0 - share).max(f64::EPSILON)).min(1.0);
        Self { begin, end, loss_good: 0.0, loss_bad: 1.0 }
    }

    /// Whether a packet is lost, after which `bad` says in which state the chain is.
    pub(super) fn lose(&self, bad: &mut bool, rng: &mut StdRng) -> bool {
        if happens(if *bad { self.end } else { self.begin }, rng) {
            *bad = !*bad;
        }
        happens(if *bad { self.loss_bad } else { self.loss_good }, rng)
    }
}

/// A number of the standard normal distribution (Box and Muller 1958).
pub fn bell(rng: &mut StdRng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

/// Whether something of this share happens. What never happens draws no number.
pub(super) fn happens(share: f64, rng: &mut StdRng) -> bool {
    share > 0.0 && rng.random_bool(share.min(1.0))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn bursts_lose_their_share_in_runs_of_their_length() {
        let mut rng = StdRng::seed_from_u64(3);
        let bursts = Bursts::losing(0.05, 8.0);
        let mut bad = false;
        let lost: Vec<bool> = (0..200_000).map(|_| bursts.lose(&mut bad, &mut rng)).collect();
        let share = lost.iter().filter(|lost| **lost).count() as f64 / lost.len() as f64;
        assert!((0.045..0.055).contains(&share), "{share}");
        let runs = lost.windows(2).filter(|pair| pair[0] && !pair[1]).count() as f64;
        let length = share * lost.len() as f64 / runs;
        assert!((7.0..9.0).contains(&length), "{length}");
    }

    #[test]
    fn the_bell_has_its_mean_and_width() {
        let mut rng = StdRng::seed_from_u64(4);
        let values: Vec<f64> = (0..100_000).map(|_| bell(&mut rng)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }
}
