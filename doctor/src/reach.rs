//! Who can reach an address: everybody, or only those in the same network or on the same machine.

use std::net::{IpAddr, Ipv4Addr};

/// Who can reach an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// This machine.
    Machine,
    /// A private network, or the customers of one provider (RFC 1918, RFC 6598, RFC 4193), or a link.
    Network,
    /// Everybody.
    Internet,
}

/// Who can reach this address.
pub fn reach(address: IpAddr) -> Reach {
    match address.to_canonical() {
        IpAddr::V4(ip) if ip.is_loopback() || ip.is_unspecified() => Reach::Machine,
        IpAddr::V4(ip) if ip.is_private() || ip.is_link_local() || is_shared(ip) => Reach::Network,
        IpAddr::V6(ip) if ip.is_loopback() || ip.is_unspecified() => Reach::Machine,
        IpAddr::V6(ip) if ip.is_unique_local() || ip.is_unicast_link_local() => Reach::Network,
        _ => Reach::Internet,
    }
}

/// The shared space of providers (RFC 6598).
fn is_shared(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    first == 100 && (64..128).contains(&second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_for_everybody_or_for_some() {
        let of = |text: &str| reach(text.parse().unwrap());
        for machine in ["127.0.0.1", "127.8.8.8", "::1", "0.0.0.0", "::ffff:127.0.0.1"] {
            assert_eq!(of(machine), Reach::Machine, "{machine}");
        }
        for network in
            ["10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.1.1", "100.64.0.1", "fd00::2", "fe80::1"]
        {
            assert_eq!(of(network), Reach::Network, "{network}");
        }
        for internet in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111"] {
            assert_eq!(of(internet), Reach::Internet, "{internet}");
        }
    }
}
