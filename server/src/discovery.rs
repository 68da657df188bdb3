//! Under which addresses others see this machine, asked of STUN servers, and what a NAT on the way makes of its ports.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use rand::RngExt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};
use veche_stun::{Class, Message, TransactionId, Writer, address, attribute, message_type};

/// How long answers are waited for before the request is sent again; twice as long each time (RFC 8489 section 6.2.1).
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// How often the request is sent. All of that takes 3.5 seconds.
const REQUESTS: u32 = 3;

/// How long the DNS may take.
const LOOK_UP_WAIT: Duration = Duration::from_secs(3);

/// The port of STUN (RFC 8489 section 18.6).
const DEFAULT_PORT: u16 = 3478;

/// The method of requests for one's own address.
const BINDING: u16 = 1;

/// The largest answer that is read.
const MAX_ANSWER: usize = 1500;

/// A STUN server: `stun:HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StunServer {
    host: String,
    port: u16,
}

/// How others see a port of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// With its own number at this address: the machine's, or that of a NAT that keeps numbers.
    Kept(IpAddr),
    /// With another number at this address.
    Moved(IpAddr),
    /// Each with another one: a symmetric NAT. The address is what one of them sees.
    Symmetric(IpAddr),
}

/// How others see each of these addresses, to which media is bound; those of which no server tells are left out.
pub(crate) async fn discover(servers: &[StunServer], bound: &[IpAddr]) -> BTreeMap<IpAddr, Mapping> {
    let mut places = Vec::new();
    for server in servers {
        match timeout(LOOK_UP_WAIT, lookup_host((&*server.host, server.port))).await {
            Ok(Ok(found)) => places.extend(server.places(found)),
            Ok(Err(error)) => tracing::warn!("media.discover: {} is not found: {error}", server.host),
            Err(_) => tracing::warn!("media.discover: the DNS does not say where {} is", server.host),
        }
    }
    let mut asking = tokio::task::JoinSet::new();
    for &ip in bound {
        let places: Vec<SocketAddr> =
            places.iter().copied().filter(|place| place.is_ipv4() == ip.is_ipv4()).collect();
        asking.spawn(async move { (ip, ask(ip, &places).await) });
    }
    let mut mappings = BTreeMap::new();
    while let Some(asked) = asking.join_next().await {
        match asked {
            Ok((ip, Ok(Some(mapping)))) => drop(mappings.insert(ip, mapping)),
            Ok((ip, Err(error))) => tracing::debug!("media.discover: nobody can be asked from {ip}: {error}"),
            _ => {}
        }
    }
    mappings
}

/// Asks all servers from one port of this address, again and again until all have answered.
async fn ask(ip: IpAddr, servers: &[SocketAddr]) -> io::Result<Option<Mapping>> {
    if servers.is_empty() {
        return Ok(None);
    }
    let socket = UdpSocket::bind((ip, 0)).await?;
    let mut waiting: Vec<(SocketAddr, TransactionId)> =
        servers.iter().map(|server| (*server, rand::rng().random())).collect();
    let mut seen = Vec::new();
    for attempt in 0..REQUESTS {
        let deadline = Instant::now() + FIRST_WAIT * 2u32.pow(attempt);
        for (server, transaction) in &waiting {
            // Where one cannot be reached another may be.
            let _ = socket.send_to(&request(transaction), server).await;
        }
        let mut answer = [0; MAX_ANSWER];
        while !waiting.is_empty() {
            let Ok(received) = timeout_at(deadline, socket.recv_from(&mut answer)).await else { break };
            let Ok((len, from)) = received else { continue };
            let from = SocketAddr::new(from.ip().to_canonical(), from.port());
            let asked = waiting.iter().position(|(server, _)| *server == from);
            let Some(index) = asked else { continue };
            if let Some(address) = read(&answer[..len], &waiting[index].1) {
                seen.push(address);
                waiting.swap_remove(index);
            }
        }
        if waiting.is_empty() {
            break;
        }
    }
    Ok(judge(socket.local_addr()?.port(), &seen))
}

fn request(transaction: &TransactionId) -> Vec<u8> {
    let mut request = Vec::new();
    Writer::begin(message_type(Class::Request, BINDING), transaction, &mut request);
    request
}

/// The address in an answer to this request.
fn read(answer: &[u8], transaction: &TransactionId) -> Option<SocketAddr> {
    let message = Message::parse(answer).ok()?;
    if message.kind() != message_type(Class::Success, BINDING) || message.transaction() != *transaction {
        return None;
    }
    let mut attributes = message.attributes().filter_map(Result::ok);
    let mapped = attributes.find(|found| found.kind == attribute::XOR_MAPPED_ADDRESS)?;
    let seen = address::read_xor(mapped.value, transaction).ok()?;
    let ip = seen.ip().to_canonical();
    can_be_seen(ip).then_some(SocketAddr::new(ip, seen.port()))
}

/// Whether others can see this machine at an address. One of its own loopback or link, which a liar would name, must not become
/// an address that relays may reach.
fn can_be_seen(ip: IpAddr) -> bool {
    let is_near = match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    };
    !is_near && !ip.is_unspecified() && !ip.is_multicast()
}

/// What it means that a port is seen so.
fn judge(port: u16, seen: &[SocketAddr]) -> Option<Mapping> {
    let first = seen.first()?;
    Some(match first.ip() {
        ip if seen.iter().any(|other| other != first) => Mapping::Symmetric(ip),
        ip if first.port() == port => Mapping::Kept(ip),
        ip => Mapping::Moved(ip),
    })
}

impl Mapping {
    /// The address at which clients find media by the ports that it is bound to.
    pub(crate) fn reached_at(self) -> Option<IpAddr> {
        match self {
            Self::Kept(ip) => Some(ip),
            Self::Moved(_) | Self::Symmetric(_) => None,
        }
    }
}

/// What it means for those who run the server.
impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept(ip) => write!(f, "others see it at {ip}, with the ports that it has"),
            Self::Moved(ip) => write!(
                f,
                "others see it at {ip} with other ports: the NAT in front does not keep them, and that address is not announced. \
                 Forward the ports there, and set media.external_addresses = [\"{ip}\"]"
            ),
            Self::Symmetric(ip) => write!(
                f,
                "each who is asked sees another port, one of them at {ip}: the NAT in front is symmetric, and lets in nobody by \
                 itself; that address is not announced. Forward the ports there, and set media.external_addresses = [\"{ip}\"]; or \
                 clients need a TURN server elsewhere"
            ),
        }
    }
}

impl StunServer {
    /// One of its addresses of each family.
    fn places(&self, found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
        let found: Vec<SocketAddr> =
            found.map(|place| SocketAddr::new(place.ip().to_canonical(), self.port)).collect();
        let first = |is_ipv4| found.iter().copied().find(|place| place.is_ipv4() == is_ipv4);
        [first(true), first(false)].into_iter().flatten().collect()
    }
}

impl FromStr for StunServer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "not a STUN server such as stun:stun.example:3478";
        let rest = text.strip_prefix("stun:").ok_or(wrong)?;
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) if host.parse::<Ipv6Addr>().is_ok() => (host, None),
            Some((host, rest)) if host.parse::<Ipv6Addr>().is_ok() => {
                (host, Some(rest.strip_prefix(':').ok_or(wrong)?))
            }
            Some(_) => return Err(wrong),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let is_name = !host.is_empty() && !host.contains(['/', '?', ' ', '@', '[', ']']);
        let port = port.map_or(Ok(DEFAULT_PORT), |port| port.parse().map_err(|_| wrong))?;
        if !is_name || port == 0 {
            return Err(wrong);
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for StunServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "stun:[{host}]:{port}") } else { write!(f, "stun:{host}:{port}") }
    }
}

impl Serialize for StunServer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StunServer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// A server that answers as `answer` says, given the number of the request, the request and whom it is from.
    async fn server(
        mut answer: impl FnMut(usize, &[u8], SocketAddr) -> Option<Vec<u8>> + Send + 'static,
    ) -> StunServer {
        let socket = UdpSocket::bind((HERE, 0)).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut request = [0; MAX_ANSWER];
            for number in 0.. {
                let (len, from) = socket.recv_from(&mut request).await.unwrap();
                if let Some(answer) = answer(number, &request[..len], from) {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        StunServer { host: "127.0.0.1".to_owned(), port }
    }

    fn success(request: &[u8], seen: SocketAddr) -> Vec<u8> {
        let transaction = Message::parse(request).unwrap().transaction();
        let mut answer = Vec::new();
        let mut writer = Writer::begin(message_type(Class::Success, BINDING), &transaction, &mut answer);
        writer.attribute(attribute::SOFTWARE, b"a test");
        writer.xor_address(attribute::XOR_MAPPED_ADDRESS, seen);
        answer
    }

    fn outside(port: u16) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, 5], port))
    }

    async fn mapping(servers: &[StunServer]) -> Option<Mapping> {
        discover(servers, &[HERE]).await.get(&HERE).copied()
    }

    #[tokio::test]
    async fn a_nat_that_keeps_ports_is_told_though_strangers_answer_and_the_first_request_is_lost() {
        let server = server(|number, request, from| match number {
            0 => None,
            1 => Some([b"nonsense", &request[8..]].concat()),
            _ => Some(success(request, outside(from.port()))),
        });
        let mapping = mapping(&[server.await]).await.unwrap();
        assert_eq!(mapping, Mapping::Kept(outside(0).ip()));
        assert_eq!(mapping.reached_at(), Some(outside(0).ip()));
    }

    #[test]
    fn an_address_at_which_nobody_else_can_see_this_machine_is_no_answer() {
        let seen = |text: &str| can_be_seen(text.parse().unwrap());
        for near in
            ["127.0.0.1", "169.254.169.254", "255.255.255.255", "0.0.0.0", "224.0.0.1", "::1", "fe80::1"]
        {
            assert!(!seen(near), "{near}");
        }
        assert!(seen("203.0.113.5") && seen("10.1.2.3") && seen("2001:db8::5"));
    }

    #[tokio::test]
    async fn a_nat_that_changes_ports_and_a_symmetric_one_are_told_apart() {
        let moved = || server(|_, request, _| Some(success(request, outside(7))));
        let other = server(|_, request, _| Some(success(request, outside(8))));
        let (one, same, other) = (moved().await, moved().await, other.await);
        assert_eq!(mapping(&[one.clone(), same]).await, Some(Mapping::Moved(outside(0).ip())));
        let symmetric = mapping(&[one, other]).await.unwrap();
        assert!(matches!(symmetric, Mapping::Symmetric(_)) && symmetric.reached_at().is_none());
        assert!(symmetric.to_string().contains("symmetric"), "{symmetric}");
    }

    #[tokio::test]
    async fn an_answer_to_another_request_is_none_and_some_addresses_are_nobodys() {
        let forged = server(|_, request, from| {
            let mut forged = success(request, from);
            forged[19] ^= 1;
            Some(forged)
        });
        let nobody = server(|_, request, _| Some(success(request, "0.0.0.0:1".parse().unwrap())));
        assert_eq!(mapping(&[forged.await, nobody.await]).await, None);
    }

    #[test]
    fn servers_are_named_as_clients_name_them() {
        let shown = |text: &str| text.parse().map(|server: StunServer| server.to_string());
        assert_eq!(shown("stun:stun.example"), Ok("stun:stun.example:3478".to_owned()));
        assert_eq!(shown("stun:stun.example:19302"), Ok("stun:stun.example:19302".to_owned()));
        assert_eq!(shown("stun:[2001:db8::1]:80"), Ok("stun:[2001:db8::1]:80".to_owned()));
        assert_eq!(shown("stun:[2001:db8::1]"), Ok("stun:[2001:db8::1]:3478".to_owned()));
        for wrong in [
            "",
            "stun:",
            "stun.example",
            "stuns:stun.example",
            "stun:a:0",
            "stun:a:b",
            "stun:a b",
            "stun:[x]:1",
            "stun:[::1]1",
        ] {
            assert!(shown(wrong).is_err(), "{wrong}");
        }
    }
}
