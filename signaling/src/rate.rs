//! A token bucket for the messages of one connection.

use std::time::{Duration, Instant};

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Take it.
    Take,
    /// Drop it. `tell`: the first of a row, say so to the client.
    Drop {
        /// The first of a row?
        tell: bool,
    },
    /// The client goes on although messages were dropped: close.
    Close,
}

/// The messages that one connection may still send.
#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled_at: Instant,
    /// Messages dropped since the bucket was last at least half full.
    dropped: u32,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst);
        Self { per_second: f64::from(per_second), burst, tokens: burst, filled_at: now, dropped: 0 }
    }

    /// Decides about one message. As many dropped messages as the burst is large, in one row, are too many.
    pub(crate) fn handle_message(&mut self, now: Instant) -> Verdict {
        let elapsed = now.saturating_duration_since(self.filled_at).min(Duration::from_hours(1));
        self.tokens = (self.tokens + elapsed.as_secs_f64() * self.per_second).min(self.burst);
        self.filled_at = now;
        if self.tokens >= self.burst / 2.0 {
            self.dropped = 0;
        }
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Verdict::Take;
        }
        self.dropped += 1;
        if f64::from(self.dropped) > self.burst {
            return Verdict::Close;
        }
        Verdict::Drop { tell: self.dropped == 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_messages_drop_and_a_patient_client_is_forgiven() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10, 20, start);
        for _ in 0..20 {
            assert_eq!(bucket.handle_message(start), Verdict::Take);
        }
        assert_eq!(bucket.handle_message(start), Verdict::Drop { tell: true });
        assert_eq!(bucket.handle_message(start), Verdict::Drop { tell: false });
        let later = start + Duration::from_secs(1);
        for _ in 0..10 {
            assert_eq!(bucket.handle_message(later), Verdict::Take);
        }
        assert_eq!(bucket.handle_message(later + Duration::from_secs(2)), Verdict::Take);
        assert_eq!(bucket.dropped, 0);
    }

    #[test]
    fn who_goes_on_is_closed() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10, 20, start);
        let verdicts: Vec<_> = (0..41).map(|_| bucket.handle_message(start)).collect();
        assert_eq!(verdicts[39], Verdict::Drop { tell: false });
        assert_eq!(verdicts[40], Verdict::Close);
    }
}
