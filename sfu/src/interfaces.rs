//! Which addresses are announced to clients: at the start, and when interfaces have come or gone.

use std::net::IpAddr;

use veche_sfu_core::engine::Candidate;

use crate::handle::{SfuConfig, StartError};

/// Knows what is announced, and why.
#[derive(Debug)]
pub(crate) struct Announcer {
    config: SfuConfig,
    bound: Vec<IpAddr>,
    addresses: Vec<IpAddr>,
}

impl Announcer {
    /// Looks at the interfaces. `bound` is what media comes to.
    pub(crate) fn new(config: SfuConfig, bound: Vec<IpAddr>) -> Result<Self, StartError> {
        let addresses = announced_addresses(&config, &bound)?;
        Ok(Self { config, bound, addresses })
    }

    /// What is announced, best first.
    pub(crate) fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The candidates of the worker with this port.
    pub(crate) fn candidates(&self, port: u16) -> Vec<Candidate> {
        candidates(&self.config, &self.addresses, port)
    }

    /// Looks at the interfaces again. Whether something else is announced now.
    pub(crate) fn renew(&mut self, discovered: &[IpAddr]) -> Result<bool, StartError> {
        let config = SfuConfig { discovered_addresses: discovered.to_vec(), ..self.config.clone() };
        let addresses = announced_addresses(&config, &self.bound)?;
        let is_new =
            addresses != self.addresses || config.discovered_addresses != self.config.discovered_addresses;
        (self.config, self.addresses) = (config, addresses);
        Ok(is_new)
    }
}

/// The IP addresses to announce, best first: those configured, or else those that were discovered and those of the network
/// interfaces that `bound` covers.
pub(crate) fn announced_addresses(config: &SfuConfig, bound: &[IpAddr]) -> Result<Vec<IpAddr>, StartError> {
    let addresses = if config.external_addresses.is_empty() {
        let interfaces = if_addrs::get_if_addrs()
            .map_err(|error| no_addresses(format!("the network interfaces cannot be read ({error})")))?;
        let interfaces: Vec<IpAddr> = interfaces.iter().map(if_addrs::Interface::ip).collect();
        choose_local(&interfaces, &config.discovered_addresses, bound, config.loopback)
    } else {
        choose_external(&config.external_addresses, bound)
    };
    if addresses.is_empty() {
        return Err(no_addresses(format!(
            "no address to announce to clients fits those that are bound, {bound:?}"
        )));
    }
    Ok(addresses)
}

/// The candidates of a worker: UDP before TCP, each in the order of `addresses`; behind them the port of all workers.
fn candidates(config: &SfuConfig, addresses: &[IpAddr], port: u16) -> Vec<Candidate> {
    let at = |port, tcp| move |&ip: &IpAddr| Candidate { address: (ip, port).into(), tcp };
    let mut candidates: Vec<_> = addresses.iter().map(at(port, false)).collect();
    if config.takes_tcp(port) {
        candidates.extend(addresses.iter().map(at(port, true)));
    }
    if let Some(shared) = config.shared_tcp {
        let is_external =
            |ip| !config.external_addresses.is_empty() || config.discovered_addresses.contains(ip);
        let covered = addresses.iter().filter(|ip| covers(shared.ip(), **ip, is_external(ip)));
        candidates.extend(covered.map(at(shared.port(), true)));
    }
    candidates
}

/// Whether what comes to `announced` arrives at a listener. Behind a NAT its own address is another one.
fn covers(listener: IpAddr, announced: IpAddr, is_external: bool) -> bool {
    if listener.is_unspecified() {
        // A listener of `::` takes IPv4 as well.
        return listener.is_ipv6() || announced.is_ipv4();
    }
    let behind_nat = is_external && !listener.is_loopback() && listener.is_ipv4() == announced.is_ipv4();
    listener == announced || behind_nat
}

fn no_addresses(reason: String) -> StartError {
    StartError {
        setting: "media.external_addresses",
        reason: reason
            + "; set it (VECHE_MEDIA_EXTERNAL_ADDRESSES) to the addresses at which clients reach this machine, for \
               example [\"203.0.113.7\"], or bind more (media.bind)",
    }
}

/// Those of a family that is bound: clients could not reach the others.
fn choose_external(configured: &[IpAddr], bound: &[IpAddr]) -> Vec<IpAddr> {
    let (mut reachable, unreachable): (Vec<_>, Vec<_>) =
        configured.iter().partition(|ip| bound.iter().any(|b| b.is_ipv4() == ip.is_ipv4()));
    for address in unreachable {
        tracing::warn!(%address, "not announced: no address of its family is bound");
    }
    reachable.sort_by_key(IpAddr::is_ipv6);
    reachable
}

/// Those that others see come before the interfaces' own of their family: who is far away needs them, who is near has time.
fn choose_local(
    interfaces: &[IpAddr],
    discovered: &[IpAddr],
    bound: &[IpAddr],
    loopback: bool,
) -> Vec<IpAddr> {
    let covered =
        |ip: &IpAddr| bound.iter().any(|b| b == ip || b.is_unspecified() && b.is_ipv4() == ip.is_ipv4());
    let mut addresses: Vec<IpAddr> =
        interfaces.iter().copied().filter(|ip| covered(ip) && is_usable(ip)).collect();
    if !loopback && addresses.iter().any(|ip| !ip.is_loopback()) {
        addresses.retain(|ip| !ip.is_loopback());
    }
    let is_reachable = |ip: &&IpAddr| bound.iter().any(|b| b.is_ipv4() == ip.is_ipv4());
    addresses.retain(|ip| !discovered.contains(ip));
    addresses.extend(discovered.iter().filter(is_reachable));
    addresses.sort_by_key(|ip| (ip.is_ipv6(), ip.is_loopback(), !discovered.contains(ip)));
    addresses.dedup();
    addresses
}

/// Link-local addresses need a zone, which candidates cannot carry (RFC 8839 section 5.1).
fn is_usable(ip: &IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !link_local && !ip.is_multicast() && !ip.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn chosen(bound: &[&str], loopback: bool) -> Vec<String> {
        let interfaces =
            ips(&["127.0.0.1", "2001:db8::5", "fe80::1", "::1", "169.254.3.4", "192.0.2.2", "172.17.0.1"]);
        choose_local(&interfaces, &[], &ips(bound), loopback).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_others_see_is_announced_first_and_the_interfaces_after_it() {
        let interfaces = ips(&["127.0.0.1", "192.0.2.2", "2001:db8::5"]);
        let discovered = ips(&["2001:db8::5", "203.0.113.7"]);
        let chosen = |bound: &[&str]| choose_local(&interfaces, &discovered, &ips(bound), false);
        assert_eq!(chosen(&["0.0.0.0", "::"]), ips(&["203.0.113.7", "192.0.2.2", "2001:db8::5"]));
        assert_eq!(chosen(&["192.0.2.2"]), ips(&["203.0.113.7", "192.0.2.2"]));
    }

    #[test]
    fn what_was_discovered_later_is_announced_too_and_the_port_of_all_there() {
        let bound = ips(&["127.0.0.1"]);
        let shared = Some("10.0.0.5:443".parse().unwrap());
        let config = SfuConfig { tcp: true, shared_tcp: shared, ..SfuConfig::on_loopback(1) };
        let mut announcer = Announcer::new(config, bound).unwrap();
        let shown = |announcer: &Announcer| {
            let candidates = announcer.candidates(7000).into_iter();
            candidates.map(|candidate| candidate.address.to_string()).collect::<Vec<_>>()
        };
        assert!(!announcer.renew(&[]).unwrap());
        assert_eq!(shown(&announcer), ["127.0.0.1:7000", "127.0.0.1:7000"]);
        assert!(announcer.renew(&ips(&["203.0.113.7"])).unwrap());
        let expected =
            ["203.0.113.7:7000", "127.0.0.1:7000", "203.0.113.7:7000", "127.0.0.1:7000", "203.0.113.7:443"];
        assert_eq!(shown(&announcer), expected);
        assert!(!announcer.renew(&ips(&["203.0.113.7"])).unwrap());
        assert!(announcer.renew(&[]).unwrap());
        assert_eq!(announcer.addresses(), ips(&["127.0.0.1"]));
    }

    #[test]
    fn all_interfaces_are_announced_ipv4_first() {
        assert_eq!(chosen(&["0.0.0.0", "::"], false), ["192.0.2.2", "172.17.0.1", "2001:db8::5"]);
        assert_eq!(
            chosen(&["0.0.0.0", "::"], true),
            ["192.0.2.2", "172.17.0.1", "127.0.0.1", "2001:db8::5", "::1"]
        );
    }

    #[test]
    fn only_what_is_bound_is_announced() {
        assert_eq!(chosen(&["0.0.0.0"], false), ["192.0.2.2", "172.17.0.1"]);
        assert_eq!(chosen(&["192.0.2.2"], true), ["192.0.2.2"]);
        assert_eq!(chosen(&["127.0.0.1"], false), ["127.0.0.1"], "there is nothing else");
    }

    #[test]
    fn configured_addresses_replace_those_of_the_interfaces() {
        let configured = ips(&["2001:db8::9", "203.0.113.7"]);
        assert_eq!(
            choose_external(&configured, &ips(&["0.0.0.0", "::"])),
            ips(&["203.0.113.7", "2001:db8::9"])
        );
        assert_eq!(choose_external(&configured, &ips(&["0.0.0.0"])), ips(&["203.0.113.7"]));
    }

    #[test]
    fn udp_is_offered_before_tcp() {
        let config = SfuConfig { tcp: true, ..SfuConfig::on_loopback(1) };
        let candidates = candidates(&config, &ips(&["192.0.2.2", "::1"]), 7000);
        let shown: Vec<_> = candidates.iter().map(|c| (c.address.to_string(), c.tcp)).collect();
        let expected = [
            ("192.0.2.2:7000", false),
            ("[::1]:7000", false),
            ("192.0.2.2:7000", true),
            ("[::1]:7000", true),
        ];
        assert_eq!(shown, expected.map(|(address, tcp)| (address.to_owned(), tcp)));
    }

    #[test]
    fn a_port_of_all_workers_is_announced_at_the_addresses_that_lead_there() {
        let shared = |listener: &str, external: &[&str]| {
            let config = SfuConfig {
                shared_tcp: Some(listener.parse().unwrap()),
                external_addresses: ips(external),
                ..SfuConfig::on_loopback(1)
            };
            let announced =
                if external.is_empty() { ips(&["192.0.2.2", "127.0.0.1", "::1"]) } else { ips(external) };
            let candidates = candidates(&config, &announced, 7000);
            let shared = candidates.iter().filter(|candidate| candidate.tcp);
            shared.map(|candidate| candidate.address.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(shared("0.0.0.0:443", &[]), ["192.0.2.2:443", "127.0.0.1:443"]);
        assert_eq!(shared("[::]:443", &[]), ["192.0.2.2:443", "127.0.0.1:443", "[::1]:443"]);
        assert_eq!(shared("127.0.0.1:443", &[]), ["127.0.0.1:443"]);
        assert_eq!(shared("10.0.0.5:443", &["203.0.113.5", "2001:db8::5"]), ["203.0.113.5:443"]);
        assert!(shared("127.0.0.1:443", &["203.0.113.5"]).is_empty(), "behind a proxy of this machine");
    }
}
