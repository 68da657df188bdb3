//! Merges and throttles the key-frame requests to one layer (RFC 4585 section 6.3.1).

use std::time::{Duration, Instant};

/// Why a key frame is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFrameReason {
    /// A slot is to show the layer and waits for the picture to begin.
    Switch,
    /// A receiver cannot decode any more and sent a PLI or FIR.
    Receiver,
    /// More was lost on the way from the publisher than can be asked for again.
    Loss,
}

/// The requests of one receiver: everybody else who watches pays for them, too.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyFrameAsks {
    since: Option<Instant>,
    count: u32,
    last: Option<Instant>,
}

/// So many in so long are what losses and switches bring about; receivers repeat what is not answered at once.
const MANY: u32 = 12;
const MANY_WITHIN: Duration = Duration::from_secs(6);
/// Beyond it, one is passed on so often.
const SELDOM: Duration = Duration::from_secs(2);

impl KeyFrameAsks {
    /// Whether a request is passed on.
    pub fn allow(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) > MANY_WITHIN) {
            (self.since, self.count) = (Some(now), 0);
        }
        self.count += 1;
        let seldom = self.last.is_none_or(|last| now.saturating_duration_since(last) >= SELDOM);
        let allowed = self.count <= MANY || seldom;
        if allowed {
            self.last = Some(now);
        }
        allowed
    }
}

/// Counters of [`KeyFrameRequests`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyFrameCounts {
    /// Times that somebody wanted one, by reason in the order of [`KeyFrameReason`].
    pub wanted: [u64; 3],
    /// Requests sent to the publisher.
    pub requested: u64,
    /// Key frames that came while one was wanted.
    pub answered: u64,
}

/// The key-frame requests of one layer.
///
/// The first want is asked for at once, further ones join it, and the request is repeated while it is unanswered: often
/// at first, seldom when the publisher does not seem able to answer.
#[derive(Debug, Default)]
pub struct KeyFrameRequests {
    wanted_since: Option<Instant>,
    last_request: Option<Instant>,
    last_key_frame: Option<Instant>,
    /// Requests since the last key frame.
    unanswered: u32,
    counts: KeyFrameCounts,
}

/// Repeats go out so often, and key frames that are answered are not asked for faster either.
const INTERVAL: Duration = Duration::from_millis(400);

/// After so many unanswered requests the interval doubles with each one.
const PATIENCE: u32 = 5;

/// The longest interval.
const MAX_INTERVAL: Duration = Duration::from_secs(2);

/// A receiver that complains so soon after a key frame complains of what was before it.
const GRACE: Duration = Duration::from_millis(100);

impl KeyFrameRequests {
    /// Nobody wants one yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Somebody wants a key frame.
    pub fn request(&mut self, now: Instant, reason: KeyFrameReason) {
        self.counts.wanted[reason as usize] += 1;
        let answered = self.last_key_frame.is_some_and(|at| now.saturating_duration_since(at) < GRACE);
        if reason != KeyFrameReason::Receiver || !answered {
            self.wanted_since.get_or_insert(now);
        }
    }

    /// A key frame of the layer came.
    pub fn on_key_frame(&mut self, now: Instant) {
        self.counts.answered += u64::from(self.wanted_since.is_some());
        self.wanted_since = None;
        self.last_key_frame = Some(now);
        self.unanswered = 0;
    }

    /// Nobody wants a key frame any more: those who did are gone, or the layer is muted.
    pub fn cancel(&mut self) {
        self.wanted_since = None;
    }

    /// Whether to ask the publisher now; when it says so, it counts as done.
    pub fn poll(&mut self, now: Instant) -> bool {
        let due = self.poll_timeout().is_some_and(|at| at <= now);
        if due {
            self.last_request = Some(now);
            self.unanswered = self.unanswered.saturating_add(1);
            self.counts.requested += 1;
        }
        due
    }

    /// When [`Self::poll`] will say yes; `None` while nobody wants a key frame.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let wanted = self.wanted_since?;
        Some(self.last_request.map_or(wanted, |at| wanted.max(at + self.interval())))
    }

    /// The counters since the start.
    pub fn counts(&self) -> KeyFrameCounts {
        self.counts
    }

    fn interval(&self) -> Duration {
        let doublings = self.unanswered.saturating_sub(PATIENCE).min(8);
        (INTERVAL * (1 << doublings)).min(MAX_INTERVAL)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn who_asks_all_the_time_is_heard_seldom() {
        let start = Instant::now();
        let mut asks = KeyFrameAsks::default();
        let allowed = |asks: &mut KeyFrameAsks, from: u64, to: u64| {
            (from..to).filter(|n| asks.allow(start + Duration::from_millis(100 * n))).count()
        };
        assert_eq!(allowed(&mut asks, 0, 10), 10, "one loss and its repetitions");
        assert!(allowed(&mut asks, 10, 600) < 150);
        assert_eq!(allowed(&mut asks, 1_000, 1_010), 10, "it is forgiven");
    }

    #[test]
    fn a_hundred_wants_become_one_request() {
        let start = Instant::now();
        let mut requests = KeyFrameRequests::new();
        assert_eq!(requests.poll_timeout(), None);
        let mut sent = 0;
        for n in 0..100 {
            requests.request(start + ms(n), KeyFrameReason::Switch);
            sent += u32::from(requests.poll(start + ms(n)));
        }
        assert_eq!(sent, 1);
        requests.on_key_frame(start + ms(150));
        assert_eq!(requests.poll_timeout(), None);
        let counts = requests.counts();
        assert_eq!((counts.wanted, counts.requested, counts.answered), ([100, 0, 0], 1, 1));
    }

    #[test]
    fn repeats_every_400_ms_and_backs_off_when_nobody_answers() {
        let start = Instant::now();
        let mut requests = KeyFrameRequests::new();
        requests.request(start, KeyFrameReason::Switch);
        let mut times = Vec::new();
        while let Some(at) = requests.poll_timeout().filter(|&at| at < start + ms(20_000)) {
            assert!(at == start || !requests.poll(start + ((at - start).saturating_sub(ms(1)))));
            assert!(requests.poll(at));
            times.push((at - start).as_millis());
        }
        assert_eq!(times[..8], [0, 400, 800, 1200, 1600, 2000, 2800, 4400]);
        assert!(times[8..].windows(2).all(|w| w[1] - w[0] == 2000), "{times:?}");

        requests.on_key_frame(start + ms(20_000));
        requests.request(start + ms(20_500), KeyFrameReason::Switch);
        assert!(requests.poll(start + ms(20_500)), "an answer makes it quick again");
        assert_eq!(requests.poll_timeout(), Some(start + ms(20_900)));
        requests.cancel();
        assert_eq!(requests.poll_timeout(), None);
    }

    #[test]
    fn answered_wants_are_throttled_too() {
        let start = Instant::now();
        let mut requests = KeyFrameRequests::new();
        let mut sent = 0;
        // A receiver on a bad network complains ten times a second; each key frame comes after 50 ms.
        let mut answer = None;
        for step in 0..1000 {
            let now = start + ms(step * 10);
            if step % 10 == 0 {
                requests.request(now, KeyFrameReason::Receiver);
            }
            if requests.poll(now) {
                sent += 1;
                answer = Some(now + ms(50));
            }
            if answer.is_some_and(|at| at <= now) {
                answer = None;
                requests.on_key_frame(now);
            }
        }
        assert!((20..=25).contains(&sent), "{sent} in 10 s");
    }

    #[test]
    fn a_complaint_that_crossed_the_key_frame_is_answered_already() {
        let start = Instant::now();
        let mut requests = KeyFrameRequests::new();
        requests.on_key_frame(start);
        requests.request(start + ms(50), KeyFrameReason::Receiver);
        assert_eq!(requests.poll_timeout(), None);
        requests.request(start + ms(60), KeyFrameReason::Switch);
        assert!(requests.poll(start + ms(60)), "a slot that missed its first packet does need another");
    }
}
