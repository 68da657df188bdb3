//! Token buckets: for the messages of one connection, and for what each client address and each user asks.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use veche_stun::household::household;

/// Clients whose requests are counted at once.
const MAX_CLIENTS: usize = 10_000;

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
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
pub struct TokenBucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled_at: Instant,
    /// Messages dropped since the bucket was last at least half full.
    dropped: u32,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst);
        Self { per_second: f64::from(per_second), burst, tokens: burst, filled_at: now, dropped: 0 }
    }

    /// Another rate from now on. What it holds stays, up to the new burst.
    pub fn set_rate(&mut self, per_second: u32, burst: u32) {
        (self.per_second, self.burst) = (f64::from(per_second), f64::from(burst));
        self.tokens = self.tokens.min(self.burst);
    }

    /// Whether it holds as much as a new one.
    fn is_full(&self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled_at);
        self.tokens + elapsed.as_secs_f64() * self.per_second >= self.burst
    }

    /// Decides about one message. As many dropped messages as the burst is large, in one row, are too many.
    pub fn handle_message(&mut self, now: Instant) -> Verdict {
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

/// What each client may still ask; a client is whatever `K` names.
#[derive(Debug)]
pub struct ClientBuckets<K> {
    per_second: u32,
    burst: u32,
    buckets: HashMap<K, TokenBucket>,
}

impl<K: Eq + Hash> ClientBuckets<K> {
    /// Nobody has asked yet. 0 a second: any number.
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second, burst, buckets: HashMap::new() }
    }

    /// How many requests a client may make in a second.
    pub fn per_second(&self) -> u32 {
        self.per_second
    }

    /// Another rate from now on.
    pub fn set_rate(&mut self, per_second: u32, burst: u32) {
        (self.per_second, self.burst) = (per_second, burst);
        if per_second == 0 {
            self.buckets = HashMap::new();
        }
        self.buckets.values_mut().for_each(|bucket| bucket.set_rate(per_second, burst));
    }

    /// Whether a request of this client may pass. When too many clients ask at once all are forgotten: a flood from
    /// everywhere is not stopped by counting, and must not lock out the others.
    pub fn take(&mut self, client: K, now: Instant) -> bool {
        if self.per_second == 0 {
            return true;
        }
        if self.buckets.len() >= MAX_CLIENTS && !self.buckets.contains_key(&client) {
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
            if self.buckets.len() >= MAX_CLIENTS {
                self.buckets.clear();
            }
        }
        let new = || TokenBucket::new(self.per_second, self.burst, now);
        self.buckets.entry(client).or_insert_with(new).handle_message(now) == Verdict::Take
    }
}

/// The requests that each client address may still make.
#[derive(Debug)]
pub struct AddressBuckets(ClientBuckets<IpAddr>);

impl AddressBuckets {
    /// Nobody has asked yet. 0 a second: any number.
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self(ClientBuckets::new(per_second, burst))
    }

    /// Another rate from now on.
    pub fn set_rate(&mut self, per_second: u32, burst: u32) {
        self.0.set_rate(per_second, burst);
    }

    /// Whether a request of this address may pass.
    pub fn take(&mut self, address: IpAddr, now: Instant) -> bool {
        self.0.take(household(address), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_requests_and_their_number_is_bounded() {
        let start = Instant::now();
        let mut buckets = AddressBuckets::new(1, 2);
        let mut take = |address: &str, now| buckets.take(address.parse().unwrap(), now);
        assert_eq!([take("192.0.2.1", start), take("192.0.2.1", start)], [true, true]);
        assert!(!take("::ffff:192.0.2.1", start));
        assert!(take("192.0.2.2", start));
        assert!(take("192.0.2.1", start + Duration::from_secs(1)));
        assert_eq!([take("2001:db8::1", start), take("2001:db8::2", start)], [true, true]);
        assert!(!take("2001:db8::3", start));
        assert!(take("2001:db8:0:1::3", start));
        for index in 0..3 * MAX_CLIENTS as u32 {
            assert!(buckets.take(IpAddr::from(index.to_be_bytes()), start));
            assert!(buckets.0.buckets.len() <= MAX_CLIENTS);
        }
    }

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
    fn another_rate_counts_from_now_on_and_none_lets_everybody_in() {
        let start = Instant::now();
        let mut buckets = AddressBuckets::new(0, 1);
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        assert!((0..100).all(|_| buckets.take(address, start)) && buckets.0.buckets.is_empty());
        buckets.set_rate(1, 5);
        assert_eq!((0..10).filter(|_| buckets.take(address, start)).count(), 5);
        buckets.set_rate(10, 3);
        let later = start + Duration::from_secs(10);
        assert_eq!((0..10).filter(|_| buckets.take(address, later)).count(), 3);
        buckets.set_rate(0, 3);
        assert!(buckets.take(address, later));
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
