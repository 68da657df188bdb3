//! The whole examination of a server by what it shows: its web page, WebSocket, media plane and TURN servers.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use hyper::{HeaderMap, StatusCode};
use rustls::pki_types::ServerName;
use serde::Deserialize;
use serde_json::Value;

use crate::certificate::Trust;
use crate::door::{Answer, Door};
use crate::finding::Finding;
use crate::line::{connect, secure};
use crate::media;
use crate::messages;
use crate::report::Report;
use crate::signaling::{JoinError, Media, Session};
use crate::target::{Target, Vantage};
use crate::turn::{self, IceServer, Surroundings};

/// How far clocks may be apart before tokens and credentials suffer, and how far they should not be.
const CLOCK_FAILURE: Duration = Duration::from_mins(1);
const CLOCK_WARNING: Duration = Duration::from_secs(10);

/// Why a room does not take this client, though the server is well.
const ROOM_REFUSALS: &[&str] =
    &["room_not_found", "room_full", "room_locked", "waiting", "not_admitted", "banned"];

/// What it means to be asked too often, and what helps.
const OFTEN: &str =
    "this address asks too often for the server; behind a proxy all users may seem to have one address";
const OFTEN_MEND: &str = "http.trusted_proxies = [\"10.0.0.0/8\"], with the address of the proxy in front, so that users are told \
                          apart; else try again in a minute, or raise signaling.requests_per_second";

/// Addresses of a name that are tried, one after the other.
const MAX_ADDRESSES: usize = 8;

/// Proxies that cut silent connections do it after half a minute at the earliest.
const CUT_AFTER: Duration = Duration::from_secs(30);

/// What a proxy has to be told.
pub(crate) const PROXY: &str = "the proxy in front must pass WebSockets on; nginx: proxy_http_version 1.1; proxy_set_header Upgrade \
                     $http_upgrade; proxy_set_header Connection \"upgrade\"; proxy_read_timeout 75s; Apache: mod_proxy_wstunnel";

/// Looks at everything that users need.
pub async fn examine(target: Target) -> Report {
    let mut report = Report::default();
    let trust = Trust::of_this_machine();
    let Some(door) = find(&target, &mut report).await else { return report };
    let Some(door) = trusted(door, &trust, &mut report).await else { return report };
    if !answers(&door, &mut report).await {
        return report;
    }
    let mut session = join(&door, &mut report).await;
    let mut known = None;
    if let Some(session) = &mut session {
        known = locate(&door, session, &mut report).await;
    }
    let servers = ice_servers(&door, &mut report).await;
    if let Some(servers) = servers {
        let surroundings =
            Surroundings { trust, media: known, door: door.address.ip(), vantage: door.target.vantage };
        report.extend(turn::examine(servers, &surroundings).await);
    }
    report.extend(messages::examine(&door).await);
    if let Some(session) = session {
        report.add(stays(&door, session).await);
    }
    report
}

/// Looks at the certificate that is shown at an address to those who ask for each of these names. Without names, its own name is
/// not looked at.
pub async fn examine_certificate(address: SocketAddr, names: &[String]) -> Vec<Finding> {
    let trust = Trust::of_this_machine();
    let asked: Vec<ServerName<'static>> =
        names.iter().filter_map(|name| ServerName::try_from(name.clone()).ok()).collect();
    let asked = if asked.is_empty() { vec![ServerName::IpAddress(address.ip().into())] } else { asked };
    let mut findings = Vec::new();
    for name in asked {
        let shown = match connect(address).await {
            Ok(stream) => secure(stream, &name, b"http/1.1").await,
            Err(error) => Err(error),
        };
        match shown {
            Ok((_, chain)) => {
                findings.extend(trust.judge(&address.to_string(), &chain, &name, SystemTime::now()).findings);
            }
            Err(error) => findings.push(no_tls(format!("a TLS handshake with {address}"), &error)),
        }
    }
    findings.retain(|finding| !names.is_empty() || finding.check != "certificate.name");
    findings
}

/// Looks where the name is, and which of its addresses can be reached. The first that can is used from then on.
async fn find(target: &Target, report: &mut Report) -> Option<Door> {
    let (host, port) = (target.host(), target.port());
    let what = format!("the addresses of {host}");
    let addresses = match target.addresses().await {
        Ok(addresses) => addresses,
        Err(error) => {
            let finding = Finding::failure("dns", what, error.to_string()).means("nobody finds the server");
            report.add(
                finding.mend(format!("add an A record for {host} in the DNS, and an AAAA record for IPv6")),
            );
            return None;
        }
    };
    let mut errors: Vec<(SocketAddr, io::Error)> = Vec::new();
    let mut reached = None;
    for address in addresses.into_iter().take(MAX_ADDRESSES) {
        match connect(address).await {
            Ok(_) => reached = reached.or(Some(address)),
            Err(error) => errors.push((address, error)),
        }
    }
    let told =
        errors.iter().map(|(address, error)| format!("{address}: {error}")).collect::<Vec<_>>().join("; ");
    let what = format!("TCP connections to {}", target.shown());
    let Some(address) = reached else {
        let is_refused = errors.iter().any(|(_, error)| error.kind() == io::ErrorKind::ConnectionRefused);
        let mend = if is_refused {
            format!(
                "nothing listens there: start the server (its log says why it ends), or set http.listen or http.https_listen to port {port}"
            )
        } else {
            format!(
                "let TCP port {port} through: in the cloud's security group, at the router, on the machine (ufw allow {port}/tcp)"
            )
        };
        report.add(Finding::failure("http", what, told).means("nobody can open the page").mend(mend));
        return None;
    };
    let is_ours = |error: &io::Error| error.kind() == io::ErrorKind::NetworkUnreachable;
    if errors.iter().any(|(_, error)| !is_ours(error)) {
        let finding = Finding::warning("dns", what.clone(), told)
            .means("who tries that address first waits, or does not get in");
        report.add(finding.mend("remove that address from the DNS, or let the server listen there: http.https_listen = \"[::]:443\""));
    }
    let Ok(name) = ServerName::try_from(host.clone()) else {
        let finding =
            Finding::failure("dns", what, format!("`{host}` is no name that a certificate can have"));
        report.add(finding.means("browsers refuse it").mend("a name of letters, digits and hyphens"));
        return None;
    };
    let is_trusted = !target.is_secure();
    Some(Door { target: target.clone(), address, name, is_trusted, certificate: None })
}

/// Looks at the certificate, where there is one.
async fn trusted(door: Door, trust: &Trust, report: &mut Report) -> Option<Door> {
    if !door.target.is_secure() {
        return Some(door);
    }
    let place = door.target.shown();
    match door.open().await {
        Ok((_, chain)) => {
            let judgement = trust.judge(place, &chain, &door.name, SystemTime::now());
            report.extend(judgement.findings);
            let is_trusted = judgement.is_trusted;
            let certificate = chain.into_iter().next().filter(|_| is_trusted);
            Some(Door { is_trusted, certificate, ..door })
        }
        Err(error) => {
            report.add(no_tls(format!("a TLS handshake with {place}"), &error));
            None
        }
    }
}

fn no_tls(what: String, error: &io::Error) -> Finding {
    Finding::failure("https", what, error.to_string()).means("nobody can open the page").mend(
        "see that http.https_listen is the port that is asked, not that of plain HTTP, and that http.certificate_file and \
         http.key_file are a pair",
    )
}

/// Asks whether the server lives, what storage says, and what time it is there.
async fn answers(door: &Door, report: &mut Report) -> bool {
    let what = format!("GET {}/health", door.target.shown());
    let asked = (Instant::now(), SystemTime::now());
    let answer = door.get("/health").await;
    let took = asked.0.elapsed();
    let version = answer.as_ref().ok().and_then(Answer::json).and_then(|json| match &json["version"] {
        Value::String(version) if json["status"] == "ok" => Some(version.clone()),
        _ => None,
    });
    let (answer, version) = match (answer, version) {
        (Ok(answer), Some(version)) => (answer, version),
        (Ok(answer), None) if answer.status == StatusCode::TOO_MANY_REQUESTS => {
            report.add(Finding::failure("http", what, answer.complaint()).means(OFTEN).mend(OFTEN_MEND));
            return false;
        }
        (answer, _) => {
            let got = answer.map_or_else(|error| error.to_string(), |answer| answer.complaint());
            let finding = Finding::failure("http", what, format!("no answer of Veche: {got}"));
            report.add(finding.means("another program answers, or a proxy that does not reach the server").mend(
                "give the server a port of its own (http.listen, http.https_listen), and point the proxy in front at http.listen",
            ));
            return false;
        }
    };
    report.add(Finding::fine("http", what, format!("version {version}, in {} ms", took.as_millis())));
    // On the same machine it is the same clock.
    if door.target.vantage == Vantage::Outside {
        report.add(clock("the server", &answer.headers, asked.1, took));
    }
    report.extend(storage(door).await);
    true
}

/// Compares another machine's clock, by the header `Date` of its answer, to this one's. `whose` says which machine that is,
/// `asked` is when it was asked, `took` how long the answer took.
pub fn clock(whose: &str, headers: &HeaderMap, asked: SystemTime, took: Duration) -> Finding {
    const CHECK: &str = "clock";
    let what = format!("the time of {whose}, by the header Date, beside that of this machine");
    let date = headers.get(hyper::header::DATE).and_then(|date| date.to_str().ok());
    let Some(there) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else {
        return Finding::skipped(CHECK, what, "there is no such header");
    };
    // The header has whole seconds, cut: on average half a second is missing.
    let there = there + Duration::from_millis(500);
    let here = asked + took / 2;
    let (apart, word) = match there.duration_since(here) {
        Ok(apart) => (apart, "ahead of"),
        Err(error) => (error.duration(), "behind"),
    };
    let got = format!("{whose} is {} s {word} this machine", apart.as_secs());
    if apart < CLOCK_WARNING {
        return Finding::fine(CHECK, what, "no difference that matters");
    }
    let finding = if apart < CLOCK_FAILURE {
        Finding::warning(CHECK, what, got)
    } else {
        Finding::failure(CHECK, what, got)
    };
    finding
        .means("tokens, TURN credentials and certificates count as expired, or as not valid yet")
        .mend("set the clock of whichever is wrong: timedatectl set-ntp true")
}

/// What the server says of its storage.
async fn storage(door: &Door) -> Option<Finding> {
    let what = "GET /realtime/health";
    let answer = door.get(what.strip_prefix("GET ")?).await.ok()?;
    let storage = answer.json()?["storage"].as_str()?.to_owned();
    Some(match storage.as_str() {
        "unavailable" => Finding::failure("storage", what, "the server cannot write to its database, or not reach it")
            .means("messages of persistent channels are refused, files and API keys do not work")
            .mend("run `veche doctor` on the server, which says why; storage.url names the database, http.data_dir its folder"),
        _ => Finding::fine("storage", what, storage),
    })
}

/// Opens the WebSocket and joins a room.
async fn join(door: &Door, report: &mut Report) -> Option<Session> {
    let what = format!("to join the room {} over a WebSocket", door.target.room());
    match Session::join(door, door.target.room()).await {
        Ok(session) => {
            report.add(Finding::fine("websocket", what, "joined"));
            Some(session)
        }
        Err(error) => {
            report.add(not_joined(door, what, error));
            None
        }
    }
}

fn not_joined(door: &Door, what: String, error: JoinError) -> Finding {
    const MEANS: &str = "the page opens, but nobody gets into a room";
    match error {
        JoinError::Unreachable(error) => Finding::failure("websocket", what, error).means(MEANS).mend(PROXY),
        JoinError::NoUpgrade { status: Some(503), got } => Finding::failure("websocket", what, got)
            .means("the server has all the connections that it may have")
            .mend("signaling.max_connections, or http.max_connections, higher; or enabled = true in [signaling]"),
        JoinError::NoUpgrade { status: Some(429), got } => Finding::failure("websocket", what, got).means(OFTEN).mend(OFTEN_MEND),
        JoinError::NoUpgrade { got, .. } => Finding::failure("websocket", what, got)
            .means(format!("{MEANS}: something on the way takes the WebSocket handshake apart"))
            .mend(PROXY),
        JoinError::Broken(got) => Finding::failure("websocket", what, format!("it opened, then came {got}"))
            .means(format!("{MEANS}: something on the way cuts WebSockets, or holds back what goes through them"))
            .mend(PROXY),
        JoinError::Refused { code, message } if ROOM_REFUSALS.contains(&&*code) => {
            let got = format!("{code}: {message}; what comes after joining was not looked at");
            Finding::skipped("access", what, got).mend("say --room NAME, of a room that this client may join at once")
        }
        JoinError::Refused { code, message } if code == "too_many_rooms" => {
            Finding::failure("access", what, format!("{code}: {message}"))
                .means("nobody opens another room; what comes after joining was not looked at")
                .mend("signaling.max_rooms higher; or say --room NAME, of a room that is there")
        }
        JoinError::Refused { code, message } => {
            let withheld = door.target.token.is_some() && door.token().is_none();
            let means = if withheld {
                "the token was not sent, for the certificate is not trusted; what comes after joining was not looked at"
            } else {
                "what comes after joining was not looked at"
            };
            let mend = if withheld {
                "mend the certificate first (see above)".to_owned()
            } else if door.target.token.is_none() {
                "say --token TOKEN; the server's operator makes one: veche token --room 'doctor-*'".to_owned()
            } else {
                "another token: veche token --room 'doctor-*', with the same access.secrets as the server, and a room that it is \
                 good for; veche doctor without --from-outside makes its own"
                    .to_owned()
            };
            Finding::failure("access", what, format!("{code}: {message}")).means(means).mend(mend)
        }
    }
}

/// Asks where the media plane is, and tries it.
async fn locate(door: &Door, session: &mut Session, report: &mut Report) -> Option<Media> {
    let mut media = match session.offer().await {
        Ok(media) => media,
        Err(error) => {
            let finding = Finding::failure("media", "an offer over the WebSocket", error.to_string());
            report.add(
                finding
                    .means("nobody hears or sees anybody")
                    .mend("look into the server's log for its media workers"),
            );
            return None;
        }
    };
    let (others, guests) = other_workers(door, &media).await;
    let all: Vec<Media> = std::iter::once(media.clone()).chain(others).collect();
    let (findings, answering) = media::examine(&all, door.address.ip(), door.target.vantage).await;
    report.extend(findings);
    for guest in guests {
        guest.leave().await;
    }
    // Through a relay those are tried first that answer without.
    media.udp.sort_by_key(|address| !answering.contains(address));
    Some(media)
}

/// Workers that are looked for: as many rooms are opened at most.
const MAX_WORKERS: usize = 32;

/// How many rooms in a row may be given to a worker that is known already.
const KNOWN_WORKERS: usize = 2;

/// Opens more rooms, which the server gives to the workers with the least to do: each has a port of its own. Who has joined stays
/// until all was looked at, so that the next is given to another.
async fn other_workers(door: &Door, first: &Media) -> (Vec<Media>, Vec<Session>) {
    let (mut others, mut guests) = (Vec::<Media>::new(), Vec::new());
    let mut known = 0;
    for number in 1..MAX_WORKERS {
        // A room that somebody has named may be the only one that there is.
        if door.target.is_room_named || known >= KNOWN_WORKERS {
            break;
        }
        // A token may be for one room, or there may be no room for another.
        let Ok(mut guest) = Session::join(door, &format!("{}-{number}", door.target.room())).await else {
            break;
        };
        let Ok(media) = guest.offer().await else { break };
        guests.push(guest);
        if std::iter::once(first).chain(&others).any(|other| other.udp == media.udp) {
            known += 1;
        } else {
            others.push(media);
            known = 0;
        }
    }
    (others, guests)
}

/// The STUN and TURN servers that clients are told of.
async fn ice_servers(door: &Door, report: &mut Report) -> Option<Vec<IceServer>> {
    #[derive(Deserialize)]
    struct List {
        ice_servers: Vec<IceServer>,
    }
    let path = format!("/realtime/webrtc/ice-servers?room_id={}", door.target.room());
    let what = "GET /realtime/webrtc/ice-servers";
    let answer = match door.get(&path).await {
        Ok(answer) => answer,
        Err(error) => {
            report.add(
                Finding::failure("ice-servers", what, error.to_string()).mend("look into the server's log"),
            );
            return None;
        }
    };
    let list = serde_json::from_slice::<List>(&answer.body).ok().filter(|_| answer.status.is_success());
    let Some(List { ice_servers }) = list else {
        let is_refused = matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        report.add(if is_refused {
            Finding::skipped("turn", what, answer.complaint())
        } else {
            Finding::failure("ice-servers", what, answer.complaint())
                .means("clients that ask for TURN servers this way get none")
                .mend("let the proxy in front pass everything below /realtime on, and look into the server's log")
        });
        return None;
    };
    let urls: Vec<&str> = ice_servers.iter().flat_map(|server| &server.urls).map(String::as_str).collect();
    if !urls.iter().any(|url| url.starts_with("turn")) {
        let finding = Finding::warning("turn", what, "the server names no TURN server");
        report.add(
            finding
                .means("who is behind a firewall that lets only some ports through does not get into calls")
                .mend("[turn] enabled = true; the server's log says where the port of TURN is another program's"),
        );
    } else if !urls.iter().any(|url| url.starts_with("turns")) && door.target.vantage == Vantage::Outside {
        let finding = Finding::warning("turn.tls", what, "the server names no TURN server over TLS");
        report.add(
            finding
                .means("who is behind a firewall that lets only TLS through does not get into calls")
                .mend("a certificate for a name: [acme] domains = [\"call.example\"], or http.certificate_file and turn.hosts"),
        );
    }
    Some(ice_servers)
}

/// Looks whether the WebSocket is still there.
async fn stays(door: &Door, mut session: Session) -> Finding {
    let idle = door.target.idle;
    let what = format!("the WebSocket after {} s without a word from here", idle.as_secs());
    let survived = session.survives(idle).await;
    session.leave().await;
    match survived {
        Ok(()) if idle < CUT_AFTER => Finding::fine(
            "websocket.idle",
            what,
            "it is still there; what cuts silent connections does it later: say --idle 90s",
        ),
        Ok(()) => Finding::fine("websocket.idle", what, "it is still there"),
        Err(error) => Finding::failure("websocket.idle", what, error.to_string())
            .means("who listens quietly is thrown out of the call again and again")
            .mend(format!("{PROXY}; or let the server speak more often: signaling.heartbeat_seconds = 10")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Level;

    #[test]
    fn a_clock_that_is_wrong_is_noticed_and_seconds_are_not() {
        let here = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        let judge = |there: SystemTime| {
            let mut headers = HeaderMap::new();
            headers.insert("date", httpdate::fmt_http_date(there).parse().unwrap());
            clock("the server", &headers, here, Duration::ZERO)
        };
        assert_eq!(judge(here + Duration::from_secs(5)).level, Level::Fine);
        assert_eq!(judge(here - Duration::from_secs(30)).level, Level::Warning);
        let ahead = judge(here + Duration::from_mins(10));
        assert_eq!((ahead.level, &*ahead.got), (Level::Failure, "the server is 600 s ahead of this machine"));
        assert!(judge(here - Duration::from_mins(10)).got.contains("behind"));
    }
}
