//! Where the system refuses trains: to some destinations (through a tunnel that encrypts, say, or a card that cannot compute
//! checksums), while all others get theirs.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

/// When to try trains to a destination again. Routes change, and the refusal may have had another reason.
const RETRY: Duration = Duration::from_mins(1);

/// How many destinations are remembered. To those beyond each train is tried, refused and sent in single packets, which is only
/// slower.
const MAX_DESTINATIONS: usize = 4096;

/// Destinations to which the system refused a train and took its packets one by one.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    since_by_destination: FxHashMap<IpAddr, Instant>,
}

impl Refusals {
    /// Whether a train to this destination would be refused, as far as is known.
    pub(crate) fn contains(&self, destination: IpAddr) -> bool {
        !self.since_by_destination.is_empty() && self.since_by_destination.contains_key(&destination)
    }

    /// A train was refused, and its packets were not.
    pub(crate) fn note(&mut self, destination: IpAddr, now: Instant) {
        if self.since_by_destination.len() < MAX_DESTINATIONS
            && self.since_by_destination.insert(destination, now).is_none()
        {
            tracing::info!(%destination, "the system refuses UDP GSO; packets are sent one by one");
        }
    }

    /// To be called about once a second: forgets what is old.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.since_by_destination.retain(|_, since| now.duration_since(*since) < RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_of_one_destination_and_forgotten_after_a_while() {
        let (refusing, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let now = Instant::now();
        let mut refusals = Refusals::default();
        refusals.note(refusing, now);
        refusals.handle_timeout(now + RETRY / 2);
        assert!(refusals.contains(refusing) && !refusals.contains(other));
        refusals.handle_timeout(now + RETRY);
        assert!(!refusals.contains(refusing));
    }

    #[test]
    fn only_so_many_are_remembered() {
        let now = Instant::now();
        let mut refusals = Refusals::default();
        for number in 0..2 * MAX_DESTINATIONS as u32 {
            refusals.note(IpAddr::from(number.to_be_bytes()), now);
        }
        assert_eq!(refusals.since_by_destination.len(), MAX_DESTINATIONS);
    }
}
