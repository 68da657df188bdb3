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
    for server in servers {
        for text in &server.urls {
            let Some(url) = IceUrl::parse(text) else {
                let finding = Finding::failure(
                    "turn",
                    "the servers that clients are told of",
                    format!("`{text}` is no address"),
                );
                findings.push(finding.mend("signaling.stun_servers = [\"stun:stun.example:3478\"]"));
                continue;
            };
            let (server, surroundings) = (server.clone(), surroundings.clone());
            tasks.push(tokio::spawn(async move {
                let outcome = try_one(&url, &server, &surroundings).await;
                let is_outer = surroundings.vantage == Vantage::Inside
                    && url.host.parse().map_or(true, |ip: IpAddr| reach(ip) == Reach::Internet);
                let finding = outcome.unwrap_or_else(|finding| *finding);
                // Behind a NAT the server's own public address may be out of its reach.
                if is_outer { finding.at_most(Level::Warning) } else { finding }
            }));
        }
    }
    for task in tasks {
        findings.extend(task.await.ok());
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

type Outcome<T> = Result<T, Box<Finding>>;

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
    let failed = |error: &io::Error| Box::new(unreachable(url, &what, error));
    let addresses = resolve(&url.host, url.port).await.map_err(|error| {
        let finding =
            Finding::failure(url.check(), &what, format!("the name {} is not found: {error}", url.host));
        Box::new(finding.means(MEANS).mend(format!(
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
                return Err(Box::new(
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

fn unreachable(url: &IceUrl, what: &str, error: &io::Error) -> Finding {
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
        let finding = Finding::failure("stun", what, answer.to_string());
        Err(Box::new(finding.means(MEANS).mend("name another server in signaling.stun_servers")))
    }

    /// Gets a relay, and looks whether others can reach it.
    async fn allocate(&mut self, door: IpAddr) -> Outcome<SocketAddr> {
        let what = format!("an allocation through {}", self.url);
        let mut request = self.client.allocate();
        let mut answer = self.ask(&what, &request).await?;
        // Once for the nonce, and once more should it have run out just then.
        for _ in 0..2 {
            if answer.asks_again() {
                request = self.client.allocate();
                answer = self.ask(&what, &request).await?;
            }
        }
        let failure = |means: &str, mend: String| {
            let got = answer.to_string();
            Box::new(Finding::failure(self.url.check(), &what, got).means(means).mend(mend))
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
            return Err(Box::new(
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
            Box::new(finding)
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
            return Err(Box::new(finding.mend(format!(
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
            Box::new(finding.means("who needs this relay joins and hears nobody").mend(format!(
                "see that the TURN server reaches {peer} over UDP, and that replies reach its relays: turn.relay_ports through \
                 firewalls, turn.external_addresses the address that others see"
            )))
        })?;
        Ok(started.elapsed())
    }

    async fn ask(&mut self, what: &str, request: &[u8]) -> Outcome<Answer> {
        let client = &mut self.client;
        let answer = in_time(self.wire.ask(request, PATIENCE, |packet| client.read(packet))).await;
        answer.map_err(|error| Box::new(unreachable(self.url, what, &error)))
    }
}

/// What it means that a TURN server has no more room.
const FULL: &str = "nobody else gets a relay now; who needs one does not get into calls";
