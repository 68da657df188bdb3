//! How much is answered to addresses that have not proved themselves.
//!
//! An answer to a forged address hits somebody else. It is little larger than its request, but not smaller: the first answer
//! has to tell realm and nonce (RFC 8489 section 9.2.3). So each address is answered at a bounded rate only. The table has one
//! size for ever: addresses share its places, so that a flood of forged ones leaves nothing behind.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ahash::RandomState;

/// How many places there are. Who shares a place shares its rate.
const PLACES: usize = 1 << 14;

/// How long an address that was silent may be answered at once, at its rate.
const BURST: Duration = Duration::from_secs(4);

/// A rate for each source.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// When the place has made up for its answers, in nanoseconds after `epoch`.
    free_at: Box<[u64]>,
    hash: RandomState,
    epoch: Instant,
    nanos_per_byte: u64,
}

impl Limiter {
    /// `bytes_per_second` to each address; 0 for any number.
    pub(crate) fn new(bytes_per_second: u32, hash: RandomState, epoch: Instant) -> Self {
        let nanos_per_byte = match bytes_per_second {
            0 => 0,
            rate => (1_000_000_000 / u64::from(rate)).max(1),
        };
        let places = if bytes_per_second == 0 { 0 } else { PLACES };
        Self { free_at: vec![0; places].into(), hash, epoch, nanos_per_byte }
    }

    /// Whether so many bytes may be sent to this address now.
    pub(crate) fn take(&mut self, address: IpAddr, bytes: usize, now: Instant) -> bool {
        if self.free_at.is_empty() {
            return true;
        }
        // A network of IPv6 is one household: who has one address there has 2^64.
        let place = match address.to_canonical() {
            IpAddr::V4(ip) => self.hash.hash_one(ip),
            IpAddr::V6(ip) => self.hash.hash_one(&ip.octets()[..8]),
        };
        let free_at = &mut self.free_at[place as usize % PLACES];
        let now = now.saturating_duration_since(self.epoch).as_nanos() as u64;
        let next = now.max(*free_at) + bytes as u64 * self.nanos_per_byte;
        if next > now + BURST.as_nanos() as u64 {
            return false;
        }
        *free_at = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_answered_at_its_rate_and_others_at_theirs() {
        let epoch = Instant::now();
        let mut limiter = Limiter::new(1000, RandomState::with_seeds(1, 2, 3, 4), epoch);
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut sent = |address, now| (0..1000).take_while(|_| limiter.take(address, 100, now)).count();
        assert_eq!(sent(one, epoch), 40, "four seconds of 1,000 bytes");
        assert_eq!(sent(other, epoch), 40);
        assert_eq!(sent(one, epoch + Duration::from_secs(1)), 10);
        assert_eq!(sent(one, epoch + Duration::from_secs(1000)), 40);
        let mut limiter = Limiter::new(1000, RandomState::with_seeds(1, 2, 3, 4), epoch);
        let [a, b] = ["2001:db8::1", "2001:db8::ffff"].map(|text| text.parse().unwrap());
        assert!(limiter.take(a, 4000, epoch) && !limiter.take(b, 100, epoch), "one network of IPv6");
        assert!(Limiter::new(0, RandomState::with_seeds(1, 2, 3, 4), epoch).take(one, 1 << 30, epoch));
    }
}
