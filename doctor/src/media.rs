//! Whether the media plane can be reached at what it announces.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio_util::either::Either;

use crate::finding::{Finding, Level};
use crate::ice::Check;
use crate::line::{PATIENCE, connect};
use crate::reach::{Reach, reach};
use crate::signaling::Media;
use crate::target::Vantage;
use crate::wire::Wire;

/// What became of one address: the address that the server saw, or why there was no answer.
type Tried = (SocketAddr, io::Result<SocketAddr>);

/// How the way to an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    fn check(self) -> &'static str {
        match self {
            Self::Udp => "media.udp",
            Self::Tcp => "media.tcp",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

/// Tries every address that is announced, by each of the workers. `door` is where the web page was reached. Gives those that answer over UDP too, the
/// first of which are best.
pub(crate) async fn examine(
    media: &[Media],
    door: IpAddr,
    vantage: Vantage,
) -> (Vec<Finding>, Vec<SocketAddr>) {
    let (udp, tcp) = tokio::join!(try_all(media, Transport::Udp), try_all(media, Transport::Tcp));
    let answering = udp.iter().filter(|(_, result)| result.is_ok()).map(|(address, _)| *address).collect();
    let mut findings =
        vec![judge(Transport::Udp, &udp, door, vantage), judge(Transport::Tcp, &tcp, door, vantage)];
    // The loopback says nothing of what users need to be told.
    if vantage == Vantage::Outside {
        findings.insert(0, announced(media, door));
    }
    (findings, answering)
}

async fn try_all(media: &[Media], transport: Transport) -> Vec<Tried> {
    let mut tasks: Vec<(SocketAddr, tokio::task::JoinHandle<_>)> = Vec::new();
    for media in media {
        for &address in if transport == Transport::Udp { &media.udp } else { &media.tcp } {
            // Workers may share a port.
            if tasks.iter().all(|(other, _)| *other != address) {
                let check = Check::new(media);
                let task = tokio::spawn(async move { try_one(address, transport, &check).await });
                tasks.push((address, task));
            }
        }
    }
    let mut tried = Vec::new();
    for (address, task) in tasks {
        tried.push((address, task.await.unwrap_or_else(|error| Err(io::Error::other(error)))));
    }
    tried
}

async fn try_one(address: SocketAddr, transport: Transport, check: &Check) -> io::Result<SocketAddr> {
    let mut wire = match transport {
        Transport::Udp => Wire::udp(address).await?,
        Transport::Tcp => Wire::framed(Either::Left(connect(address).await?)),
    };
    wire.ask(&check.request, PATIENCE, |packet| check.read(packet)).await
}

/// Whether what is announced can be reached by those who reach the web page.
fn announced(media: &[Media], door: IpAddr) -> Finding {
    const CHECK: &str = "media.addresses";
    let tried = "the addresses that the server announces for media";
    let mut ips: Vec<IpAddr> = Vec::new();
    for ip in media.iter().flat_map(|media| media.udp.iter().chain(&media.tcp)).map(SocketAddr::ip) {
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    let list = ips.iter().take(8).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match ips.iter().map(|ip| reach(*ip)).max() {
        None => Finding::failure(CHECK, tried, "it announces none")
            .means("nobody hears or sees anybody")
            .mend(external(door)),
        Some(best) if best < reach(door) => {
            let of = if best == Reach::Machine { "this machine itself" } else { "its own network" };
            Finding::failure(
                CHECK,
                tried,
                format!("only private addresses are announced: {list}; they are for {of}"),
            )
            .means(format!("the web page opens at {door}, but nobody outside hears or sees anybody"))
            .mend(external(door))
        }
        Some(_) => Finding::fine(CHECK, tried, list),
    }
}

fn judge(transport: Transport, tried: &[Tried], door: IpAddr, vantage: Vantage) -> Finding {
    let (check, name) = (transport.check(), transport.name());
    let what = format!("an ICE check over {name} at each announced address");
    if tried.is_empty() {
        if transport == Transport::Tcp {
            return Finding::warning(check, what, "the server announces no address for media over TCP")
                .means("who is behind a firewall without UDP needs the TURN server")
                .mend("media.tcp = true");
        }
        return Finding::failure(check, what, "the server announces no address for media over UDP")
            .mend(external(if vantage == Vantage::Outside { door } else { EXAMPLE }));
    }
    let answered: Vec<&Tried> = tried.iter().filter(|(_, result)| result.is_ok()).collect();
    let silent: Vec<&Tried> = tried.iter().filter(|(_, result)| result.is_err()).collect();
    let list = |some: &[&Tried]| {
        some.iter().take(6).map(|(address, _)| address.to_string()).collect::<Vec<_>>().join(", ")
    };
    let Some((_, Ok(seen))) = answered.first() else {
        let finding = unreachable(transport, tried, door, vantage);
        // Who stands behind the server's own NAT may not get back in.
        let is_outer = vantage == Vantage::Inside
            && tried.iter().all(|(address, _)| reach(address.ip()) == Reach::Internet);
        return finding.at_most(if is_outer { Level::Warning } else { Level::Failure });
    };
    let mut got = format!("answered by {}; it sees this machine at {seen}", list(&answered));
    // Private addresses are tried by everybody, and meant for those nearby.
    let is_missing = |(address, result): &&Tried| {
        reach(address.ip()) >= reach(door) && !result.as_ref().is_err_and(is_ours)
    };
    // Some ports of an address get through and others do not: a firewall.
    let is_blocked = |(address, _): &&&Tried| {
        answered.iter().any(|(other, _)| other.ip() == address.ip() && other.port() != address.port())
    };
    let blocked: Vec<&Tried> = silent.iter().filter(is_blocked).copied().collect();
    if let Some((address, _)) = blocked.first() {
        let port = address.port();
        let lower = name.to_lowercase();
        let _ = write!(got, "; no answer from {}", list(&blocked));
        return Finding::failure(check, what, got)
            .means(format!("each worker has a port of its own: who is in a room there does not get media over {name}"))
            .mend(format!(
                "let {name} port {port} through as well, one port for each of media.workers from media.first_port on: in the cloud's \
                 security group, at the router, and on the machine, for example: ufw allow {port}/{lower}"
            ));
    }
    let missing: Vec<&Tried> = silent.into_iter().filter(is_missing).collect();
    if missing.is_empty() || vantage == Vantage::Inside {
        if vantage == Vantage::Outside {
            got.push_str("; that are the ports of the workers that this examination was given");
        }
        return Finding::fine(check, what, got);
    }
    let _ = write!(got, "; no answer from {}", list(&missing));
    Finding::warning(check, what, got)
        .means("clients try the dead address first or lose seconds with it")
        .mend(format!("announce only what can be reached: {}", external(answered[0].0.ip())))
}

/// Whether this machine could not even send: it has no address of that family, say.
fn is_ours(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable)
}

/// None of the addresses answers.
fn unreachable(transport: Transport, tried: &[Tried], door: IpAddr, vantage: Vantage) -> Finding {
    let (check, name) = (transport.check(), transport.name());
    let what = format!("an ICE check over {name} at each announced address");
    let described = |(address, result): &Tried| match result {
        Ok(_) => address.to_string(),
        Err(error) => format!("{address}: {error}"),
    };
    let got = tried.iter().take(6).map(described).collect::<Vec<_>>().join("; ");
    let port = tried[0].0.port();
    let is_refused = |(_, result): &Tried| {
        result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    let refused = tried.iter().any(is_refused);
    let means = match transport {
        Transport::Udp => "calls connect over TCP or TURN at best: later, with more delay, or not at all",
        Transport::Tcp => "who is behind a firewall without UDP gets in only by the TURN server",
    };
    let lower = name.to_lowercase();
    let open = if refused {
        format!(
            "nothing listens there: where the server runs in a container, publish the port (docker run -p \
             {port}:{port}/{lower}) or use its host's network; behind a router forward {name} port {port}"
        )
    } else {
        format!(
            "let {name} port {port} through (one port for each of media.workers, from media.first_port on): in the cloud's \
             security group, at the router, and on the machine, for example: ufw allow {port}/{lower}"
        )
    };
    if vantage == Vantage::Inside {
        let mend =
            format!("{open}\nfrom another machine veche doctor --from-outside tells whether users get there");
        return Finding::failure(check, what, got).means(means).mend(mend);
    }
    if tried.iter().any(|(address, _)| address.ip() == door) {
        return Finding::failure(check, what, got).means(means).mend(open);
    }
    let mend = format!(
        "the web page was reached at {door}, which is not announced; if that is the server itself: {}\notherwise {open}",
        external(door)
    );
    Finding::failure(check, what, got).means(means).mend(mend)
}

/// What stands for the server's public address where that is not known.
const EXAMPLE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 5));

/// The line that announces an address.
fn external(address: IpAddr) -> String {
    format!("[media] external_addresses = [\"{address}\"]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn tried(address_text: &str, error: Option<io::ErrorKind>) -> Tried {
        let seen = address("198.51.100.7:5555");
        (address(address_text), error.map_or(Ok(seen), |kind| Err(kind.into())))
    }

    fn door() -> IpAddr {
        "203.0.113.5".parse().unwrap()
    }

    #[test]
    fn private_addresses_alone_are_named_with_the_line_that_mends_them() {
        let media = |list: &[&str]| Media {
            udp: list.iter().map(|text| address(text)).collect(),
            ..Media::default()
        };
        let finding = announced(&[media(&["10.0.0.5:40000", "127.0.0.1:40000"])], door());
        assert_eq!(finding.level, Level::Failure);
        assert!(
            finding.got.contains("only private addresses are announced: 10.0.0.5, 127.0.0.1"),
            "{finding:?}"
        );
        assert!(finding.mend.contains("external_addresses = [\"203.0.113.5\"]"), "{finding:?}");
        assert_eq!(announced(&[media(&["10.0.0.5:1", "203.0.113.5:1"])], door()).level, Level::Fine);
        assert_eq!(announced(&[media(&["10.0.0.5:1"])], "10.0.0.5".parse().unwrap()).level, Level::Fine);
        assert_eq!(announced(&[media(&[])], door()).level, Level::Failure);
    }

    #[test]
    fn silence_is_a_firewall_and_refusal_is_a_port_that_nobody_has() {
        let silent = [tried("203.0.113.5:40000", Some(io::ErrorKind::TimedOut))];
        let finding = judge(Transport::Udp, &silent, door(), Vantage::Outside);
        assert_eq!(finding.level, Level::Failure);
        assert!(
            finding.mend.contains("ufw allow 40000/udp") && !finding.mend.contains("external"),
            "{finding:?}"
        );
        assert_eq!(judge(Transport::Udp, &silent, door(), Vantage::Inside).level, Level::Warning);
        let refused = [tried("10.0.0.5:40000", Some(io::ErrorKind::ConnectionRefused))];
        let finding = judge(Transport::Tcp, &refused, door(), Vantage::Outside);
        assert!(finding.mend.contains("docker run -p 40000:40000/tcp"), "{finding:?}");
        assert!(finding.mend.contains("external_addresses = [\"203.0.113.5\"]"), "{finding:?}");
    }

    #[test]
    fn one_address_that_answers_is_enough_and_dead_public_ones_are_to_be_looked_at() {
        let private = tried("10.0.0.5:40000", Some(io::ErrorKind::TimedOut));
        let good = || tried("203.0.113.5:40000", None);
        let dead = tried("203.0.113.9:40000", Some(io::ErrorKind::TimedOut));
        assert_eq!(judge(Transport::Udp, &[private, good()], door(), Vantage::Outside).level, Level::Fine);
        let finding = judge(Transport::Udp, &[good(), dead], door(), Vantage::Outside);
        assert_eq!(finding.level, Level::Warning);
        assert!(finding.got.contains("no answer from 203.0.113.9:40000"), "{finding:?}");
        assert_eq!(judge(Transport::Tcp, &[], door(), Vantage::Outside).level, Level::Warning);
        let blocked = tried("203.0.113.5:40001", Some(io::ErrorKind::TimedOut));
        let finding = judge(Transport::Udp, &[good(), blocked], door(), Vantage::Outside);
        assert_eq!(finding.level, Level::Failure);
        assert!(finding.mend.contains("ufw allow 40001/udp"), "{finding:?}");
    }
}
