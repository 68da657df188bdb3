//! When a viewer is to be sent the next frame: as often as they asked for, evenly, and never to make up for lost time.

use std::time::Duration;

use tokio::time::Instant;

/// The fewest and the most frames that can be asked for in a second.
const RATES: std::ops::RangeInclusive<f32> = 0.01..=120.0;

/// A viewer's pace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// From one frame to the next; zero for each as it comes.
    interval: Duration,
    due: Instant,
}

impl Pace {
    /// So many frames a second at most; `None`: each as it comes. `Err`: no such rate.
    pub(crate) fn new(per_second: Option<f32>, now: Instant) -> Result<Self, String> {
        let interval = match per_second {
            None => Duration::ZERO,
            Some(rate) if RATES.contains(&rate) => Duration::from_secs_f64(f64::from(rate).recip()),
            Some(rate) => {
                let message = format!("fps: {rate} is not within {} to {}", RATES.start(), RATES.end());
                return Err(message);
            }
        };
        Ok(Self { interval, due: now })
    }

    /// Not before then.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// One was sent. Who is behind goes on from now.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.due = (self.due + self.interval).max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_due_evenly_and_what_was_missed_is_not_made_up_for() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::new(Some(10.0), start).unwrap();
        assert_eq!(pace.due(), start);
        // Somewhat late each time, it does not drift.
        for turn in 0..50 {
            pace.sent(ms(turn * 100 + 7));
            assert_eq!(pace.due(), ms(turn * 100 + 100));
        }
        pace.sent(ms(60_000));
        assert_eq!(pace.due(), ms(60_000));
        let mut any = Pace::new(None, start).unwrap();
        any.sent(ms(5));
        assert_eq!(any.due(), ms(5));
        for rate in [0.0, -1.0, 1000.0, f32::NAN, f32::INFINITY] {
            assert!(Pace::new(Some(rate), start).is_err(), "{rate}");
        }
    }
}
