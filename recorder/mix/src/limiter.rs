//! Several who speak at once are louder than a sample can say: the mix then gets softer, at once, and louder again slowly.

use crate::{FRAME, Sample};

/// The loudest that comes out.
const CEILING: f32 = 0.95;

/// How much of what is missing to full loudness comes back with each frame: most of it within half a second.
const RELEASE: f32 = 0.08;

/// Over so many samples a gain moves: 2.5 ms.
const RAMP: usize = FRAME / 8;

/// Keeps a mix below its ceiling.
#[derive(Debug)]
pub(crate) struct Limiter {
    gain: f32,
}

impl Limiter {
    pub fn new() -> Self {
        Self { gain: 1.0 }
    }

    /// Changes a frame so that no sample is beyond the ceiling.
    pub fn apply(&mut self, frame: &mut [Sample]) {
        let before = self.gain;
        let loudest = frame.as_flattened().iter().fold(0.0_f32, |loudest, sample| loudest.max(sample.abs()));
        let returned = before + (1.0 - before) * RELEASE;
        self.gain = if loudest * returned > CEILING { CEILING / loudest } else { returned };
        for (index, sample) in frame.iter_mut().enumerate() {
            let moved = (index as f32 / RAMP as f32).min(1.0);
            let gain = before + (self.gain - before) * moved;
            // Where the gain has not come down yet.
            *sample = sample.map(|value| (value * gain).clamp(-CEILING, CEILING));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loudest(frame: &[Sample]) -> f32 {
        frame.as_flattened().iter().fold(0.0, |loudest, sample| loudest.max(sample.abs()))
    }

    #[test]
    fn what_is_soft_stays_as_it_is() {
        let mut limiter = Limiter::new();
        let mut frame = vec![[0.5, -0.5]; FRAME];
        limiter.apply(&mut frame);
        assert_eq!(frame, vec![[0.5, -0.5]; FRAME]);
    }

    #[test]
    fn what_is_loud_gets_softer_and_comes_back() {
        let mut limiter = Limiter::new();
        for _ in 0..10 {
            let mut frame = vec![[2.0, -1.0]; FRAME];
            limiter.apply(&mut frame);
            assert!(loudest(&frame) <= CEILING);
            assert!((frame[FRAME - 1][1] / frame[FRAME - 1][0] + 0.5).abs() < 0.01, "its form stays");
        }
        let levels: Vec<f32> = (0..50)
            .map(|_| {
                let mut frame = vec![[0.5; 2]; FRAME];
                limiter.apply(&mut frame);
                frame[FRAME - 1][0]
            })
            .collect();
        assert!(levels[0] < 0.3 && levels[49] > 0.49, "{levels:?}");
        assert!(levels.windows(2).all(|pair| pair[0] <= pair[1]));
    }
}
