//! The gradient of the one-way delay, by linear regression over the last bursts.
//!
//! draft-ietf-rmcat-gcc-02 section 5.3 uses a Kalman filter; the regression is what libwebrtc came to, with its numbers.

use super::Micros;
use super::groups::Spacing;

/// Fits a line through the last delays.
#[derive(Debug, Default)]
pub(super) struct Trendline {
    /// Arrival in ms since the first burst and the smoothed delay in ms, at `count % WINDOW`.
    points: [(f64, f64); WINDOW],
    count: usize,
    first: Micros,
    delay: f64,
    smoothed: f64,
}

const WINDOW: usize = 20;
const SMOOTHING: f64 = 0.9;

/// The slope counts for more when many bursts show it, up to this many.
const MOST_COUNTED: usize = 60;
/// Makes the slope comparable with the threshold of [`super::overuse::Overuse`].
const GAIN: f64 = 4.0;

impl Trendline {
    /// Another burst came. Gives the trend in ms, a multiple of the delay's gradient.
    pub fn on_spacing(&mut self, spacing: Spacing) -> f64 {
        if self.count == 0 {
            self.first = spacing.at;
        }
        self.delay += (spacing.arrival - spacing.sent) as f64 / 1000.0;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * self.delay;
        let at = (spacing.at - self.first) as f64 / 1000.0;
        self.points[self.count % WINDOW] = (at, self.smoothed);
        self.count += 1;
        if self.count < WINDOW {
            return 0.0;
        }
        self.slope() * self.count.min(MOST_COUNTED) as f64 * GAIN
    }

    /// Least squares.
    fn slope(&self) -> f64 {
        let n = WINDOW as f64;
        let (sum_x, sum_y) = self.points.iter().fold((0.0, 0.0), |sum, p| (sum.0 + p.0, sum.1 + p.1));
        let (mean_x, mean_y) = (sum_x / n, sum_y / n);
        let (mut covariance, mut variance) = (0.0, 0.0);
        for (x, y) in &self.points {
            covariance += (x - mean_x) * (y - mean_y);
            variance += (x - mean_x).powi(2);
        }
        if variance > 0.0 { covariance / variance } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The trend after 100 bursts every 10 ms, each `growth` µs later than the one before.
    fn trend(growth: Micros) -> f64 {
        let mut trendline = Trendline::default();
        let spacings =
            (1..=100).map(|n| Spacing { sent: 10_000, arrival: 10_000 + growth, at: n * (10_000 + growth) });
        spacings.fold(0.0, |_, spacing| trendline.on_spacing(spacing))
    }

    #[test]
    fn a_growing_queue_has_a_positive_trend() {
        assert!(trend(0).abs() < 1e-9);
        assert!((trend(500) - 0.5 / 10.5 * 240.0).abs() < 0.1, "{}", trend(500));
        assert!((trend(-500) + 0.5 / 9.5 * 240.0).abs() < 0.1, "{}", trend(-500));
    }

    #[test]
    fn times_that_do_not_advance_have_no_trend() {
        let mut trendline = Trendline::default();
        for _ in 0..100 {
            assert!(trendline.on_spacing(Spacing { sent: 7_000, arrival: 0, at: 5 }).abs() < 1e-9);
        }
    }
}
