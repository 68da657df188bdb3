//! Under which addresses others see this machine: asked of a STUN server at the start, and again when something has changed.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use rand::RngExt;
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use veche_stun::{Class, Message, TransactionId, Writer, address, attribute, message_type};

/// How long an answer is waited for before the request is sent again; twice as long each time (RFC 8489 section 6.2.1).
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// How often the request is sent.
const REQUESTS: u32 = 3;

/// How often the addresses of this machine are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// After how long the STUN server is asked anyway: what is in front of this machine may have got another address.
const ASK_INTERVAL: Duration = Duration::from_mins(5);

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

impl StunServer {
    /// The addresses that it sees, one of each family at most; none where it does not answer.
    pub(crate) async fn ask(&self) -> Vec<IpAddr> {
        let resolved: Vec<SocketAddr> = match lookup_host((self.host.as_str(), self.port)).await {
            Ok(addresses) => addresses.collect(),
            Err(error) => {
                tracing::warn!("media.stun_discovery: {} is not found: {error}", self.host);
                return Vec::new();
            }
        };
        let of_family = |is_ipv4| resolved.iter().copied().find(|address| address.is_ipv4() == is_ipv4);
        let ask = async |server: Option<SocketAddr>| asked(server?).await;
        let (v4, v6) = tokio::join!(ask(of_family(true)), ask(of_family(false)));
        let seen: Vec<IpAddr> = [v4, v6].into_iter().flatten().filter(is_usable).collect();
        if seen.is_empty() {
            tracing::warn!("media.stun_discovery: {self} does not answer over UDP; is it the right one?");
        }
        seen
    }
}

/// Asks a server until it answers.
async fn asked(server: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    // Only what comes from there is received then.
    socket.connect(server).await.ok()?;
    let transaction: TransactionId = rand::rng().random();
    let mut request = Vec::new();
    Writer::begin(message_type(Class::Request, BINDING), &transaction, &mut request);
    for attempt in 0..REQUESTS {
        let deadline = Instant::now() + FIRST_WAIT * 2u32.pow(attempt);
        // A refusal of before may be told here.
        let _ = socket.send(&request).await;
        let mut answer = [0; MAX_ANSWER];
        while let Ok(received) = timeout_at(deadline, socket.recv(&mut answer)).await {
            let Ok(received) = received else { break };
            if let Some(seen) = seen(&answer[..received], &transaction) {
                return Some(seen);
            }
        }
        sleep_until(deadline).await;
    }
    None
}

/// The address in an answer to this request.
fn seen(answer: &[u8], transaction: &TransactionId) -> Option<IpAddr> {
    let message = Message::parse(answer).ok()?;
    if message.kind() != message_type(Class::Success, BINDING) || message.transaction() != *transaction {
        return None;
    }
    let mut attributes = message.attributes().filter_map(Result::ok);
    let mapped = attributes.find(|found| found.kind == attribute::XOR_MAPPED_ADDRESS)?;
    Some(address::read_xor(mapped.value, transaction).ok()?.ip().to_canonical())
}

fn is_usable(address: &IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast()
}

/// Waits until the addresses of this machine have changed, or it is time to ask anyway.
pub(crate) async fn changed(known: &mut BTreeSet<IpAddr>) {
    let asked = Instant::now();
    while asked.elapsed() < ASK_INTERVAL {
        sleep(LOOK_INTERVAL).await;
        let now = own_addresses();
        if now != *known {
            *known = now;
            return;
        }
    }
}

/// The addresses of the network interfaces.
pub(crate) fn own_addresses() -> BTreeSet<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces.iter().map(if_addrs::Interface::ip).collect()
}

impl FromStr for StunServer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "not a STUN server such as stun:stun.example:3478";
        let rest = text.strip_prefix("stun:").unwrap_or(text);
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) if host.parse::<Ipv6Addr>().is_ok() => (host, rest.strip_prefix(':')),
            Some(_) => return Err(wrong),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let is_name = !host.is_empty() && !host.contains(['/', '?', ' ', '@', '[', ']']);
        let port = port.map_or(Ok(DEFAULT_PORT), |port| port.parse().map_err(|_| wrong))?;
        if !is_name || port == 0 || text.starts_with("stuns:") || text.starts_with("turn:") {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers as `answer` says, given what it was asked; returns where it is.
    async fn server(mut answer: impl FnMut(usize, &[u8], SocketAddr) -> Option<Vec<u8>> + Send + 'static) -> StunServer {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
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

    #[tokio::test]
    async fn what_the_server_sees_is_told_though_others_answer_and_the_first_request_is_lost() {
        let outside: SocketAddr = "203.0.113.5:4000".parse().unwrap();
        let server = server(move |number, request, _| match number {
            0 => None,
            1 => Some([b"nonsense", &request[8..]].concat()),
            _ => Some(success(request, outside)),
        });
        assert_eq!(server.await.ask().await, [outside.ip()]);
    }

    #[tokio::test]
    async fn an_answer_to_another_request_is_none_and_some_addresses_are_nobodys() {
        let forged = server(|_, request, from| {
            let mut forged = success(request, from);
            forged[19] ^= 1;
            Some(forged)
        });
        let nobody = server(|_, request, _| Some(success(request, "0.0.0.0:1".parse().unwrap())));
        let (forged, nobody) = tokio::join!(forged, nobody);
        let (forged, nobody) = tokio::join!(forged.ask(), nobody.ask());
        assert!(forged.is_empty() && nobody.is_empty());
    }

    #[test]
    fn servers_are_named_as_clients_name_them() {
        let shown = |text: &str| text.parse().map(|server: StunServer| server.to_string());
        assert_eq!(shown("stun:stun.example"), Ok("stun:stun.example:3478".to_owned()));
        assert_eq!(shown("stun.example:19302"), Ok("stun:stun.example:19302".to_owned()));
        assert_eq!(shown("stun:[2001:db8::1]:80"), Ok("stun:[2001:db8::1]:80".to_owned()));
        assert_eq!(shown("[2001:db8::1]"), Ok("stun:[2001:db8::1]:3478".to_owned()));
        for wrong in ["", "stun:", "stuns:stun.example", "turn:stun.example", "stun:a:0", "a:b", "a b", "[x]:1", "http://x"] {
            assert!(shown(wrong).is_err(), "{wrong}");
        }
    }
}
