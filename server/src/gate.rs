//! Who is let in: so many connections in all, so many of one client address, and fewer that have not said yet what they want.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use veche_stun::household::{Crowded, HouseholdLimits, Households};

use crate::config::{Http, Network};
use crate::tally::Unserved;

/// Lets connections in. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Inner>);

struct Inner {
    limit: usize,
    /// All clients of a proxy come from its address.
    proxies: Vec<Network>,
    crowd: Mutex<Crowd>,
}

struct Crowd {
    open: usize,
    households: Households,
}

/// A connection that was let in, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Gate,
    /// Whose it is, where that is counted.
    address: Option<IpAddr>,
    /// Whether it has said what it wants.
    is_served: bool,
}

impl Gate {
    pub(crate) fn new(settings: &Http) -> Self {
        let limits = HouseholdLimits {
            open: settings.max_connections_per_address,
            unproven: settings.max_opening_per_address,
        };
        let crowd = Crowd { open: 0, households: Households::new(limits) };
        let (limit, proxies) = (settings.max_connections, settings.trusted_proxies.clone());
        Self(Arc::new(Inner { limit, proxies, crowd: crowd.into() }))
    }

    /// How many connections there are.
    pub(crate) fn open(&self) -> usize {
        self.0.crowd.lock().open
    }

    /// Lets one in from this address, as long as there is room.
    pub(crate) fn enter(&self, address: IpAddr) -> Result<Permit, Unserved> {
        let address = address.to_canonical();
        let mut crowd = self.0.crowd.lock();
        if crowd.open >= self.0.limit {
            return Err(Unserved::Full);
        }
        // A proxy on this machine need not be named, and who is on this machine may take it for themselves anyway.
        let is_proxy = address.is_loopback() || self.0.proxies.iter().any(|proxy| proxy.contains(address));
        let counted = (!is_proxy).then_some(address);
        if let Some(address) = counted {
            crowd.households.enter(address).map_err(|crowded| match crowded {
                Crowded::Open => Unserved::Crowded,
                Crowded::Unproven => Unserved::CrowdedOpening,
            })?;
        }
        crowd.open += 1;
        Ok(Permit { gate: self.clone(), address: counted, is_served: false })
    }
}

/// In place of locks.
impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate({})", self.0.limit)
    }
}

impl Permit {
    /// It has said what it wants.
    pub(crate) fn serve(&mut self) {
        if !std::mem::replace(&mut self.is_served, true)
            && let Some(address) = self.address
        {
            self.gate.0.crowd.lock().households.prove(address);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut crowd = self.gate.0.crowd.lock();
        crowd.open -= 1;
        if let Some(address) = self.address {
            crowd.households.leave(address, self.is_served);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(limit: usize, per_address: usize, opening: usize) -> Gate {
        Gate::new(&Http {
            max_connections: limit,
            max_connections_per_address: per_address,
            max_opening_per_address: opening,
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            ..Http::default()
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn there_are_no_more_connections_than_there_may_be() {
        let gate = gate(2, 0, 0);
        let (first, _second) = (gate.enter(ip("192.0.2.1")).unwrap(), gate.enter(ip("192.0.2.1")).unwrap());
        assert!(matches!(gate.enter(ip("192.0.2.2")), Err(Unserved::Full)));
        assert_eq!(gate.open(), 2);
        drop(first);
        assert_eq!(gate.open(), 1);
        assert!(gate.enter(ip("192.0.2.2")).is_ok());
    }

    #[test]
    fn one_address_that_opens_thousands_leaves_room_for_others() {
        let gate = gate(1000, 100, 20);
        let mut held = Vec::new();
        let mut refused = 0;
        for number in 0..5000 {
            // Of one network of IPv6, which is one household.
            match gate.enter(ip(&format!("2001:db8::{number:x}"))) {
                Ok(mut permit) => {
                    permit.serve();
                    held.push(permit);
                }
                Err(Unserved::Crowded) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!((held.len(), refused), (100, 4900));
        assert!(gate.enter(ip("2001:db8:0:1::1")).is_ok() && gate.enter(ip("192.0.2.1")).is_ok());
        held.clear();
        assert_eq!(gate.open(), 0);
    }

    #[test]
    fn who_has_not_said_what_they_want_may_have_fewer_and_proxies_any_number() {
        let gate = gate(1000, 100, 2);
        let mut first = gate.enter(ip("192.0.2.1")).unwrap();
        let _second = gate.enter(ip("::ffff:192.0.2.1")).unwrap();
        assert!(matches!(gate.enter(ip("192.0.2.1")), Err(Unserved::CrowdedOpening)));
        first.serve();
        first.serve();
        let third = gate.enter(ip("192.0.2.1")).unwrap();
        assert!(gate.enter(ip("192.0.2.1")).is_err());
        drop(third);
        assert!(gate.enter(ip("192.0.2.1")).is_ok());
        for proxy in ["10.1.2.3", "127.0.0.1", "::1"] {
            let held: Vec<Permit> = (0..200).map(|_| gate.enter(ip(proxy)).unwrap()).collect();
            assert_eq!(held.len(), 200);
        }
    }
}
