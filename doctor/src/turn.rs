//! Whether a STUN or TURN server works as clients need it: an allocation, and a packet that goes through it to the media plane
//! and back.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use rustls::pki_types::ServerName;
use serde::Deserialize;
use tokio_util::either::Either;
use veche_turn_core::client::{Answer, Client};

use crate::certificate::Trust;
use crate::finding::{Finding, Level};
use crate::ice::Check;
use crate::ice_url::{IceUrl, Way};
use crate::line::{PATIENCE, connect, in_time, secure};
use crate::reach::{Reach, reach};
use crate::signaling::Media;
use crate::target::{Vantage, resolve};
use crate::wire::Wire;

/// What a client of TURN over TLS may call the protocol (RFC 7443).
const PROTOCOL: &[u8] = b"stun.turn";

/// How long a packet may take through the relay and back.
const ECHO_PATIENCE: Duration = Duration::from_millis(1500);

/// Addresses of the media plane that are tried through a relay.
const PEERS: usize = 3;

/// The first channel number (RFC 8656 section 12).
const FIRST_CHANNEL: u16 = 0x4000;

/// Addresses of STUN and TURN servers that are tried: a server tells of a few.
const MAX_URLS: usize = 16;

/// A STUN or TURN server as clients are told of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct IceServer {
    pub(crate) urls: Vec<String>,
    pub(crate) username: String,
    pub(crate) credential: String,
}

/// What is known when a server is tried.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) trust: Trust,
    /// The media plane, where it has told of itself; with those addresses first that answer.
    pub(crate) media: Option<Media>,
    /// Where the web page was reached.
    pub(crate) door: IpAddr,
    pub(crate) vantage: Vantage,
}

/// One server that is tried, by one of its addresses.
struct Trial<'a> {
    url: &'a IceUrl,
    wire: Wire,
    client: Client,
}

/// Tries every address of every server.
pub(crate) async fn examine(servers: Vec<IceServer>, surroundings: &Surroundings) -> Vec<Finding> {
    let mut tasks = Vec::new();
    let mut findings = Vec::new();
    let mut left = MAX_URLS;
    // Relays are the same by whichever way a client comes.
    let mut has_v6 = false;
    for server in servers {
        for text in server.urls.iter().take(left) {
            left -= 1;
            let Some(url) = IceUrl::parse(text) else {
                let finding = Finding::failure(
                    "turn",
                    "the servers that clients are told of",
                    format!("`{text}` is no address"),
                );
                findings.push(finding.mend("signaling.stun_servers = [\"stun:stun.example:3478\"]"));
                continue;
            };
            if url.is_turn && url.way == Way::Udp && !has_v6 {
                has_v6 = true;
                let (url, server, surroundings) = (url.clone(), server.clone(), surroundings.clone());
                tasks.push(tokio::spawn(async move { try_v6(&url, &server, &surroundings).await }));
            }
            let (server, surroundings) = (server.clone(), surroundings.clone());
            tasks.push(tokio::spawn(async move {
                let outcome = try_one(&url, &server, &surroundings).await;
                outcome.unwrap_or_else(|fault| {
                    let may_be_nat = fault.is_silence && surroundings.vantage == Vantage::Inside;
                    let is_name = || url.host.parse().map_or(true, |ip: IpAddr| reach(ip) == Reach::Internet);
                    let finding = *fault.finding;
                    if may_be_nat && is_name() { finding.at_most(Level::Warning) } else { finding }
                })
            }));
        }
    }
    for task in tasks {
        let failed =
            |error: tokio::task::JoinError| Finding::failure("turn", "a TURN server", error.to_string());
        findings.push(task.await.unwrap_or_else(failed));
    }
    findings
}

/// The address at which a STUN server sees this machine.
pub async fn seen_by(stun_server: &str) -> Result<SocketAddr, String> {
    let url = IceUrl::parse(stun_server).filter(|url| url.way == Way::Udp);
    let url = url.ok_or_else(|| format!("`{stun_server}` is no address of a STUN server over UDP"))?;
    let addresses = resolve(&url.host, url.port).await.map_err(|error| error.to_string())?;
    let asked = async {
        let mut wire = Wire::udp(addresses[0]).await?;
        let mut client = Client::new("", "", rand::random());
        let request = client.binding();
        wire.ask(&request, PATIENCE, |packet| client.read(packet)).await
    };
    let answer = asked.await.map_err(|error| error.to_string())?;
    answer.mapped().ok_or_else(|| answer.to_string())
}

type Outcome<T> = Result<T, Fault>;

/// What is wrong with a server.
struct Fault {
    finding: Box<Finding>,
    /// Nothing came back: from the server's own machine its public address may be out of reach.
    is_silence: bool,
}

fn fault(finding: Finding) -> Fault {
    Fault { finding: Box::new(finding), is_silence: false }
}

/// Tries a relay of IPv6, where the media plane has an address of it.
async fn try_v6(url: &IceUrl, server: &IceServer, surroundings: &Surroundings) -> Finding {
    const CHECK: &str = "turn.ipv6";
    let what = format!("a relay of IPv6 and an echo through {url}");
    let Some(media) = surroundings.media.as_ref().filter(|media| media.udp.iter().any(SocketAddr::is_ipv6))
    else {
        return Finding::skipped(CHECK, what, "no address of IPv6 is announced for media");
    };
    let tried = async {
        let wire = open(url, surroundings).await?;
        let client = Client::new(&server.username, &server.credential, rand::random());
        let mut trial = Trial { url, wire, client };
        let relayed = trial.allocate_by(Client::allocate_v6, surroundings.door).await?;
        let echoed = trial.echo(media, relayed).await?;
        let end = trial.client.refresh(0);
        let _ = trial.wire.send(&end).await;
        Ok((relayed, echoed))
    };
    match tried.await {
        Ok((relayed, (peer, took))) => {
            let took = took.as_secs_f64() * 1000.0;
            let got =
                format!("the relay {relayed} reaches the media plane at {peer} and back in {took:.1} ms");
            Finding::fine(CHECK, what, got)
        }
        // Where IPv4 does not work either, that is told by itself.
        Err(Fault { finding, .. }) => {
            let finding = Finding { check: CHECK, ..*finding };
            let finding = if finding.got.contains(FAMILY_REFUSED) {
                finding.mend("turn.external_addresses with an address of IPv6 too, or give this machine one; in coturn: relay-ip")
            } else {
                finding
            };
            finding
                .means("a peer that has IPv6 only is not reached through the relay")
                .at_most(Level::Warning)
        }
    }
}

/// How a server says that it has no relays of a family (RFC 8656 section 18.4).
const FAMILY_REFUSED: &str = "440";

async fn try_one(url: &IceUrl, server: &IceServer, surroundings: &Surroundings) -> Outcome<Finding> {
    let wire = open(url, surroundings).await?;
    let client = Client::new(&server.username, &server.credential, rand::random());
    let mut trial = Trial { url, wire, client };
    if !url.is_turn {
        return trial.bind().await;
    }
    let relayed = trial.allocate(surroundings.door).await?;
    let echoed = match &surroundings.media {
        None => None,
        Some(media) => Some(trial.echo(media, relayed).await?),
    };
    let end = trial.client.refresh(0);
    let _ = trial.wire.send(&end).await;
    let what = format!("an allocation and an echo through {url}");
    let got = match echoed {
        Some((peer, took)) => format!(
            "the relay {relayed} reaches the media plane at {peer} and back in {:.1} ms",
            took.as_secs_f64() * 1000.0
        ),
        None => format!(
            "it gives the relay {relayed}; what goes through it was not tried, for the media plane is not known"
        ),
    };
    Ok(Finding::fine(url.check(), what, got))
}

/// Connects as the address says.
async fn open(url: &IceUrl, surroundings: &Surroundings) -> Outcome<Wire> {
    let what = format!("to reach {url}");
    let failed = |error: &io::Error| silent(url, &what, error);
    let addresses = resolve(&url.host, url.port).await.map_err(|error| {
        if !url.is_turn {
            return fault(no_stun(&what, format!("the name {} is not found: {error}", url.host)));
        }
        let finding =
            Finding::failure(url.check(), &what, format!("the name {} is not found: {error}", url.host));
        fault(finding.means(MEANS).mend(format!(
            "add an A record for {} in the DNS, or name another host: [turn] hosts = [\"turn.example\"]",
            url.host
        )))
    })?;
    let address = addresses[0];
    match url.way {
        Way::Udp => Wire::udp(address).await.map_err(|error| failed(&error)),
        Way::Tcp => {
            let stream = connect(address).await.map_err(|error| failed(&error))?;
            Ok(Wire::stream(Either::Left(stream)))
        }
        Way::Tls => {
            let stream = connect(address).await.map_err(|error| failed(&error))?;
            let name =
                ServerName::try_from(url.host.clone()).map_err(|error| failed(&io::Error::other(error)))?;
            let (line, chain) = secure(stream, &name, PROTOCOL).await.map_err(|error| failed(&error))?;
            let judgement = surroundings.trust.judge(&url.to_string(), &chain, &name, SystemTime::now());
            let wrong = judgement.findings.into_iter().find(|finding| finding.level >= Level::Warning);
            if let Some(wrong) = wrong.filter(|_| !judgement.is_trusted) {
                let finding = Finding::failure(url.check(), wrong.tried, wrong.got);
                return Err(fault(
                    finding
                        .means(
                            "browsers refuse TURN over TLS without a word when its certificate is not right",
                        )
                        .mend(wrong.mend),
                ));
            }
            Ok(Wire::stream(line))
        }
    }
}

/// What it means that a TURN server is out of reach.
const MEANS: &str = "whose network lets only this way through does not get into calls";

fn silent(url: &IceUrl, what: &str, error: &io::Error) -> Fault {
    Fault { finding: Box::new(unreachable(url, what, error)), is_silence: true }
}

fn unreachable(url: &IceUrl, what: &str, error: &io::Error) -> Finding {
    if !url.is_turn {
        return no_stun(what, error.to_string());
    }
    let (port, way) = (url.port, url.way.firewall());
    let finding = Finding::failure(url.check(), what, error.to_string()).means(MEANS);
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return finding.mend(format!(
            "nothing listens there: see that the TURN server runs ([turn] enabled = true, listen = [\"0.0.0.0:{port}\"]; its log \
             warns when another program has the port), and that a container publishes the port (docker run -p \
             {port}:{port}/{way})"
        ));
    }
    finding.mend(format!(
        "let {} port {port} through, in the cloud's security group, at the router, and on the machine, for example: ufw allow \
         {port}/{way}; and see that [turn] hosts or external_addresses name this server",
        way.to_uppercase()
    ))
}

impl Trial<'_> {
    /// Asks a STUN server which address it sees.
    async fn bind(&mut self) -> Outcome<Finding> {
        let what = format!("a binding request to {}", self.url);
        let request = self.client.binding();
        let answer = self.ask(&what, &request).await?;
        if let Some(mapped) = answer.mapped() {
            return Ok(Finding::fine("stun", what, format!("it sees this machine at {mapped}")));
        }
        Err(fault(no_stun(&what, answer.to_string())))
    }

    /// Gets a relay, and looks whether others can reach it.
    async fn allocate(&mut self, door: IpAddr) -> Outcome<SocketAddr> {
        self.allocate_by(Client::allocate, door).await
    }

    /// The same by this request.
    async fn allocate_by(
        &mut self,
        allocate: fn(&mut Client) -> Vec<u8>,
        door: IpAddr,
    ) -> Outcome<SocketAddr> {
        let what = format!("an allocation through {}", self.url);
        let mut request = allocate(&mut self.client);
        let mut answer = self.ask(&what, &request).await?;
        // Once for the nonce, and once more should it have run out just then.
        for _ in 0..2 {
            if answer.asks_again() {
                request = allocate(&mut self.client);
                answer = self.ask(&what, &request).await?;
            }
        }
        let failure = |means: &str, mend: String| {
            let got = answer.to_string();
            fault(Finding::failure(self.url.check(), &what, got).means(means).mend(mend))
        };
        let relayed = match answer.code {
            0 => answer
                .relayed()
                .ok_or_else(|| failure("clients get no relay", "update the TURN server".to_owned()))?,
            401 | 438 => {
                return Err(failure(
                    "the TURN server does not take the credentials that clients get here: nobody gets through it",
                    "give both the same secret: [turn] secrets = [\"…\"] here, static-auth-secret in coturn; and set the clocks \
                     of both, for credentials expire"
                        .to_owned(),
                ));
            }
            486 => {
                return Err(failure(
                    FULL,
                    "raise turn.user_allocations or turn.address_allocations".to_owned(),
                ));
            }
            300 | 508 => {
                return Err(failure(
                    FULL,
                    "give it more: turn.relay_ports = \"49152-65535\", turn.total_allocations, the limit of open files (ulimit -n)"
                        .to_owned(),
                ));
            }
            _ => {
                return Err(failure(
                    "clients get no relay",
                    "look into the log of the TURN server".to_owned(),
                ));
            }
        };
        if reach(relayed.ip()) < reach(door) {
            let got = format!(
                "the relay is at {relayed}, a private address, though the server was reached at {door}"
            );
            return Err(fault(
                Finding::failure(self.url.check(), what, got)
                    .means("peers outside cannot send to the relay")
                    .mend(format!("[turn] external_addresses = [\"{door}\"]")),
            ));
        }
        Ok(relayed)
    }

    /// Sends a check through the relay to the media plane, which answers it to the relay.
    async fn echo(&mut self, media: &Media, relayed: SocketAddr) -> Outcome<(SocketAddr, Duration)> {
        let peers = media.udp.iter().filter(|peer| peer.is_ipv4() == relayed.is_ipv4()).take(PEERS);
        let mut worst = None;
        for (number, &peer) in (FIRST_CHANNEL..).zip(peers) {
            match self.echo_from(media, number, peer).await {
                Ok(took) => return Ok((peer, took)),
                Err(finding) => worst = worst.or(Some(finding)),
            }
        }
        Err(worst.unwrap_or_else(|| {
            let what = format!("an echo through {}", self.url);
            let finding = Finding::skipped(
                self.url.check(),
                what,
                "the media plane has no address of the relay's family",
            );
            fault(finding)
        }))
    }

    async fn echo_from(&mut self, media: &Media, number: u16, peer: SocketAddr) -> Outcome<Duration> {
        let what = format!("an echo through {} from the media plane at {peer}", self.url);
        let request = self.client.create_permission(peer);
        let permitted = self.ask(&what, &request).await?;
        let request = self.client.bind_channel(number, peer);
        let bound = if permitted.code == 0 { self.ask(&what, &request).await? } else { permitted };
        if bound.code != 0 {
            let got = format!("the TURN server refuses to relay to it: {bound}");
            let finding = Finding::failure(self.url.check(), what, got)
                .means("who needs this relay joins and hears nobody");
            return Err(fault(finding.mend(format!(
                "[turn] allow = [\"{}/{}\"], and no deny that covers it; in coturn: allowed-peer-ip={}",
                peer.ip(),
                if peer.is_ipv4() { 32 } else { 128 },
                peer.ip()
            ))));
        }
        let check = Check::new(media);
        let packet = Client::channel_data(number, &check.request);
        let started = tokio::time::Instant::now();
        let answered = self.wire.ask(&packet, ECHO_PATIENCE, |packet| {
            Client::read_channel_data(packet)
                .filter(|(from, _)| *from == number)
                .and_then(|(_, data)| check.read(data))
        });
        answered.await.map_err(|error| {
            let finding = Finding::failure(self.url.check(), &what, format!("nothing came back: {error}"));
            fault(finding.means("who needs this relay joins and hears nobody").mend(format!(
                "see that the TURN server reaches {peer} over UDP, and that replies reach its relays: turn.relay_ports through \
                 firewalls, turn.external_addresses the address that others see"
            )))
        })?;
        Ok(started.elapsed())
    }

    async fn ask(&mut self, what: &str, request: &[u8]) -> Outcome<Answer> {
        let client = &mut self.client;
        let answer = in_time(self.wire.ask(request, PATIENCE, |packet| client.read(packet))).await;
        answer.map_err(|error| silent(self.url, what, &error))
    }
}

/// A STUN server that is named does not help. Calls to this server do not need one.
fn no_stun(what: &str, got: String) -> Finding {
    Finding::warning("stun", what, got)
        .means("clients wait for it in vain; calls to this server do without, those between two people may not connect")
        .mend("name another server in signaling.stun_servers, or none")
}

/// What it means that a TURN server has no more room.
const FULL: &str = "nobody else gets a relay now; who needs one does not get into calls";
