//! Households: who has one address has more of them. Their connections are counted, so that none takes the room of all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Whose an address is: an address of IPv4, or a network of 64 bits of IPv6 (RFC 6177).
pub fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// How many connections one household may have; 0 for any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HouseholdLimits {
    /// In all.
    pub open: usize,
    /// Of those that have not proved yet that they are wanted.
    pub unproven: usize,
}

/// What a household has too many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowded {
    /// Connections.
    Open,
    /// Connections that have not proved yet that they are wanted.
    Unproven,
}

/// Counts the connections of households. Has an entry for each that has some, so that it is as large as the number of
/// connections.
#[derive(Debug)]
pub struct Households {
    limits: HouseholdLimits,
    counts: HashMap<IpAddr, Count>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    open: usize,
    unproven: usize,
}

impl Households {
    /// None has any yet.
    pub fn new(limits: HouseholdLimits) -> Self {
        Self { limits, counts: HashMap::new() }
    }

    /// Counts a connection from this address, which has proved nothing yet; unless its household has too many.
    pub fn enter(&mut self, address: IpAddr) -> Result<(), Crowded> {
        let household = household(address);
        let count = self.counts.get(&household).copied().unwrap_or_default();
        let is_full = |count, limit| limit != 0 && count >= limit;
        if is_full(count.open, self.limits.open) {
            return Err(Crowded::Open);
        }
        if is_full(count.unproven, self.limits.unproven) {
            return Err(Crowded::Unproven);
        }
        self.counts.insert(household, Count { open: count.open + 1, unproven: count.unproven + 1 });
        Ok(())
    }

    /// One of its connections has proved that it is wanted. To be said once of each.
    pub fn prove(&mut self, address: IpAddr) {
        if let Some(count) = self.counts.get_mut(&household(address)) {
            count.unproven = count.unproven.saturating_sub(1);
        }
    }

    /// One of its connections ends.
    pub fn leave(&mut self, address: IpAddr, was_proven: bool) {
        let household = household(address);
        let Some(count) = self.counts.get_mut(&household) else { return };
        count.open = count.open.saturating_sub(1);
        if !was_proven {
            count.unproven = count.unproven.saturating_sub(1);
        }
        if count.open == 0 {
            self.counts.remove(&household);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_household_is_an_address_of_ipv4_or_a_network_of_ipv6() {
        assert_eq!(household(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
        assert_eq!(household(ip("2001:db8::1:2:3:4")), ip("2001:db8::"));
        assert_ne!(household(ip("2001:db8:0:1::1")), household(ip("2001:db8:0:2::1")));
    }

    #[test]
    fn one_household_does_not_take_the_room_of_others_and_gets_its_own_back() {
        let mut households = Households::new(HouseholdLimits { open: 3, unproven: 2 });
        assert_eq!(households.enter(ip("2001:db8::1")), Ok(()));
        assert_eq!(households.enter(ip("2001:db8::2")), Ok(()));
        assert_eq!(households.enter(ip("2001:db8::3")), Err(Crowded::Unproven));
        assert_eq!(households.enter(ip("192.0.2.1")), Ok(()));
        households.prove(ip("2001:db8::1"));
        assert_eq!(households.enter(ip("2001:db8::3")), Ok(()));
        assert_eq!(households.enter(ip("2001:db8::4")), Err(Crowded::Open));
        households.leave(ip("2001:db8::1"), true);
        assert_eq!(households.enter(ip("2001:db8::4")), Err(Crowded::Unproven));
        for (address, was_proven) in [("2001:db8::2", false), ("2001:db8::3", false), ("192.0.2.1", false)] {
            households.leave(ip(address), was_proven);
        }
        assert!(households.counts.is_empty());
    }

    #[test]
    fn without_limits_there_may_be_any_number() {
        let mut households = Households::new(HouseholdLimits::default());
        assert!((0..10_000).all(|_| households.enter(ip("192.0.2.1")).is_ok()));
    }
}
