//! A video encoder as congestion control sees it: frames whose sizes vary about what it was told.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;

use crate::network::bell;

/// What a source is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SourceConfig {
    /// It does not go below, in bits per second.
    pub min: u64,
    /// Nor above.
    pub max: u64,
    /// Frames per second.
    pub frames: u32,
    /// Standard deviation of a frame's size, as a share of it (RFC 8593 section 5.1.3 has 0.1 and more).
    pub variation: f64,
    /// The rate changes no more often (RFC 8593 section 5.1: 0.2 s).
    pub reaction: Duration,
}

impl Default for SourceConfig {
    /// What RFC 8867 section 4.3 asks for.
    fn default() -> Self {
        Self {
            min: 150_000,
            max: 1_500_000,
            frames: 30,
            variation: 0.15,
            reaction: Duration::from_millis(200),
        }
    }
}

/// The encoder.
#[derive(Debug)]
pub struct Source {
    /// What it is like.
    pub config: SourceConfig,
    /// Bits per second now.
    rate: u64,
    changed_at: Option<Instant>,
    /// Bytes that were sent above the rate, which later frames save.
    debt: f64,
    rng: StdRng,
}

impl Source {
    /// An encoder at its lowest rate; `rng` varies its frames.
    pub fn new(config: SourceConfig, rng: StdRng) -> Self {
        Self { config, rate: config.min, changed_at: None, debt: 0.0, rng }
    }

    /// The time from frame to frame.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.config.frames
    }

    /// The size of the next frame in bytes, when so many bits per second are allowed.
    pub fn frame(&mut self, now: Instant, target: u64) -> usize {
        if self.changed_at.is_none_or(|at| now >= at + self.config.reaction) {
            self.rate = target.clamp(self.config.min, self.config.max);
            self.changed_at = Some(now);
        }
        let mean = self.rate as f64 / 8.0 / f64::from(self.config.frames);
        let noise = 1.0 + self.config.variation * bell(&mut self.rng).clamp(-3.0, 3.0);
        // What was too much is saved within half a second or so.
        let bytes = (mean * noise - self.debt / 10.0).max(mean / 4.0).max(50.0);
        self.debt += bytes - mean;
        bytes as usize
    }
}
