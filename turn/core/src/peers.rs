//! Whom relays may reach. A relay stands inside the operator's network: without this it would be a door into it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

/// All addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// The addresses that have the first `bits` bits of `address`; more than it has count as all.
    pub const fn new(address: IpAddr, bits: u8) -> Self {
        Self { address, bits }
    }

    /// Whether an address is one of these.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - u32::from(self.bits.min(32));
                (own.to_bits() ^ other.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128 - u32::from(self.bits.min(128));
                (own.to_bits() ^ other.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// Networks of IPv4 that are nobody's on the internet, or somebody's who must not be asked from inside.
const REFUSED_V4: [Network; 13] = [
    // This network, private ones, shared address space of providers (RFC 6890, RFC 1918, RFC 6598).
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([172, 16, 0, 0], 12),
    v4([192, 168, 0, 0], 16),
    // This machine, link-local: the metadata of most clouds is at 169.254.169.254.
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    // Protocol assignments, the former 6to4 relays, benchmarks.
    v4([192, 0, 0, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([198, 18, 0, 0], 15),
    // What Azure tells its machines comes from a public address.
    v4([168, 63, 129, 16], 32),
    // Multicast; reserved, and broadcast.
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
];

/// The same of IPv6. Those that have an address of IPv4 in them are looked at by that.
const REFUSED_V6: [Network; 8] = [
    // Unspecified, loopback, and IPv4 in the old form; mapped IPv4, which no packet on a wire has.
    v6(Ipv6Addr::UNSPECIFIED, 96),
    v6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 80),
    // NAT64 by a prefix of one's own (RFC 8215), discarded (RFC 6666).
    v6(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    v6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64),
    // Unique local: metadata of clouds is here too. Link-local, the former site-local.
    v6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    v6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    v6(Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10),
    // Multicast.
    v6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

const fn v4(octets: [u8; 4], bits: u8) -> Network {
    let [a, b, c, d] = octets;
    Network::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits)
}

const fn v6(address: Ipv6Addr, bits: u8) -> Network {
    Network::new(IpAddr::V6(address), bits)
}

/// Whom relays may reach: the server's own media addresses; else nobody who is denied; else who is allowed; else, where that
/// is wanted, everybody who has an address on the internet, but of this machine only the ports that relays have.
#[derive(Clone, Debug)]
pub struct PeerPolicy {
    /// The server's own media addresses: exactly these ports.
    pub own: Vec<SocketAddr>,
    /// All addresses of this machine, and those at which a NAT leads to it. Of what listens there a firewall may hide much from
    /// others, but not from relays.
    pub machine: Vec<IpAddr>,
    /// The ports of relays: two clients may have one each. What else listens there is not told apart.
    pub relays: RangeInclusive<u16>,
    /// Networks that may be reached although they are private, say.
    pub allow: Vec<Network>,
    /// Networks that may not be reached.
    pub deny: Vec<Network>,
    /// Whether the internet may be reached. Without, whoever gets a credential gets no further than the server's own media.
    pub internet: bool,
}

impl Default for PeerPolicy {
    fn default() -> Self {
        let (own, machine, allow, deny) = Default::default();
        Self { own, machine, relays: 49_152..=u16::MAX, allow, deny, internet: true }
    }
}

impl PeerPolicy {
    /// Whether packets may go to this peer, and come from it.
    pub fn allows(&self, peer: SocketAddr) -> bool {
        let is_hidden = || self.is_machine(peer.ip()) && !self.relays.contains(&peer.port());
        peer.port() != 0
            && (self.own.contains(&peer)
                || match self.access(peer.ip()) {
                    Access::Denied => false,
                    Access::Allowed => true,
                    Access::Internet => !is_hidden(),
                })
    }

    /// Whether there is a port at this address that may be reached: permissions are for addresses (RFC 8656 section 9).
    pub fn allows_some(&self, address: IpAddr) -> bool {
        self.own.iter().any(|own| own.ip() == address) || self.access(address) != Access::Denied
    }

    fn access(&self, address: IpAddr) -> Access {
        let among = |networks: &[Network]| {
            let mut faces = faces(address);
            faces.any(|face| networks.iter().any(|network| network.contains(face)))
        };
        if among(&self.deny) {
            Access::Denied
        } else if among(&self.allow) {
            Access::Allowed
        } else if self.internet && !is_refused(address) {
            Access::Internet
        } else {
            Access::Denied
        }
    }

    fn is_machine(&self, address: IpAddr) -> bool {
        faces(address).any(|face| self.machine.contains(&face))
    }
}

/// What the networks of a policy say of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Denied,
    /// By the operator, whatever it is.
    Allowed,
    /// Because it is one of the internet.
    Internet,
}

/// An address, and the address of IPv4 that packets to it reach in the end.
fn faces(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    [Some(address), embedded(address).map(IpAddr::V4)].into_iter().flatten()
}

fn is_refused(address: IpAddr) -> bool {
    let refused = |networks: &[Network], address| networks.iter().any(|network| network.contains(address));
    match address {
        IpAddr::V4(_) => refused(&REFUSED_V4, address),
        IpAddr::V6(_) => {
            refused(&REFUSED_V6, address)
                || embedded(address).is_some_and(|ip| refused(&REFUSED_V4, IpAddr::V4(ip)))
        }
    }
}

/// The address of IPv4 in one of IPv6, where a gateway takes it out again: mapped ones, NAT64 (RFC 6052), 6to4 (RFC 3056),
/// Teredo (RFC 4380), SIIT (RFC 2765) and ISATAP (RFC 5214).
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let join = |high: u16, low: u16| Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [.., 0 | 0x200, 0x5efe, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => join(high, low),
        [0x2001, 0, .., high, low] => join(!high, !low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn nobody_inside_is_reached_however_the_address_is_written() {
        let policy = PeerPolicy::default();
        for inside in [
            "0.0.0.0",
            "127.0.0.1",
            "127.255.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "198.19.0.1",
            "224.0.0.1",
            "239.255.255.250",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::808:808",
            "2002:7f00:1::1",
            "2002:a00:1::",
            "2001:0:4136:e378:8000:63bf:80ff:fffe",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "fec0::1",
            "ff02::1",
            "100::1",
            "::ffff:0:10.0.0.1",
            "2a00::5efe:192.168.1.1",
            "2a00::200:5efe:127.0.0.1",
        ] {
            assert!(!policy.allows_some(address(inside)), "{inside}");
            assert!(!policy.allows(SocketAddr::new(address(inside), 3478)), "{inside}");
        }
        for outside in [
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "::ffff:0:8.8.8.8",
            "2a00::5efe:8.8.8.8",
        ] {
            assert!(policy.allows_some(address(outside)), "{outside}");
            assert!(!policy.allows(SocketAddr::new(address(outside), 0)), "{outside}");
        }
    }

    #[test]
    fn of_this_machine_only_media_and_relays_are_reached() {
        let policy = PeerPolicy {
            own: vec!["203.0.113.5:40000".parse().unwrap()],
            machine: ["203.0.113.5", "10.0.0.5", "2a00::5"].map(address).into(),
            ..PeerPolicy::default()
        };
        let allows = |policy: &PeerPolicy, text: &str| policy.allows(text.parse().unwrap());
        for (peer, expected) in [
            ("203.0.113.5:40000", true),
            ("203.0.113.5:53", false),
            ("203.0.113.5:49151", false),
            ("203.0.113.5:49152", true),
            ("203.0.113.6:53", true),
            ("[2a00::5]:53", false),
            ("[2a00::5]:65535", true),
            ("[64:ff9b::cb00:7105]:53", false),
            ("10.0.0.5:50000", false),
        ] {
            assert_eq!(allows(&policy, peer), expected, "{peer}");
        }
        assert!(policy.allows_some(address("203.0.113.5")), "for relays");
        let few = PeerPolicy { relays: 60_000..=60_009, ..policy.clone() };
        assert!(allows(&few, "203.0.113.5:60009") && !allows(&few, "203.0.113.5:60010"));
        let closed = PeerPolicy { internet: false, ..policy.clone() };
        assert!(allows(&closed, "203.0.113.5:40000") && !allows(&closed, "203.0.113.5:50000"));
        let named = PeerPolicy { allow: vec![Network::new(address("203.0.113.5"), 32)], ..policy };
        assert!(allows(&named, "203.0.113.5:53"), "the operator says so");
    }

    #[test]
    fn own_addresses_come_before_denied_ones_and_those_before_allowed_ones() {
        let policy = PeerPolicy {
            own: vec!["127.0.0.1:40000".parse().unwrap(), "[::1]:40000".parse().unwrap()],
            allow: vec![Network::new(address("10.0.0.0"), 8), Network::new(address("::1"), 128)],
            deny: vec![Network::new(address("10.9.0.0"), 16), Network::new(address("8.8.0.0"), 16)],
            ..PeerPolicy::default()
        };
        let allows = |text: &str| policy.allows(text.parse().unwrap());
        assert!(allows("127.0.0.1:40000") && !allows("127.0.0.1:40001"));
        assert!(policy.allows_some(address("127.0.0.1")) && !policy.allows_some(address("127.0.0.2")));
        assert!(
            allows("10.1.1.1:5") && !allows("10.9.1.1:5") && !allows("8.8.8.8:53") && allows("8.9.8.8:53")
        );
        assert!(allows("[::1]:99"));
        assert!(!allows("[64:ff9b::808:808]:53"), "what is denied is denied through NAT64 too");
        let closed = PeerPolicy { internet: false, ..policy };
        let allows = |text: &str| closed.allows(text.parse().unwrap());
        assert!(allows("127.0.0.1:40000") && allows("10.1.1.1:5") && !allows("8.9.8.8:53"));
        let all = Network::new(address("0.0.0.0"), 0);
        assert!(all.contains(address("255.1.1.1")) && !all.contains(address("::1")));
        assert!(Network::new(address("::"), 0).contains(address("ffff::")));
    }
}
