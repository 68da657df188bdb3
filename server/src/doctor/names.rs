//! What the server is called and where, beside what the world sees: names in the DNS, the public address, the time.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use veche_doctor::{Finding, Reach, clock, reach, seen_by};
use veche_fetch::{Client, Limits};

use crate::config::Config;
use crate::discovery::{Mapping, discover};
use crate::tls::machine_addresses;
use crate::whereabouts::reached_at;

/// How long the DNS and the authority may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at all of them.
pub(super) async fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mappings = discover(&config.media.discover, &config.media.bind).await;
    let discovered = reached_at(&mappings);
    for name in names(config) {
        findings.push(found(config, &discovered, &name).await);
    }
    if config.signaling.enabled {
        findings.extend(mapped(config, &mappings));
        findings.push(public_address(config, &discovered).await);
    }
    if !config.acme.domains.is_empty() {
        findings.push(authority(config).await);
    }
    findings
}

/// The names of this server, without addresses.
pub(super) fn names(config: &Config) -> BTreeSet<String> {
    let all = config.acme.domains.iter().chain(&config.turn.hosts);
    all.filter(|name| name.parse::<IpAddr>().is_err()).cloned().collect()
}

/// Whether a name leads to this machine.
async fn found(config: &Config, discovered: &[IpAddr], name: &str) -> Finding {
    const CHECK: &str = "dns";
    let what = format!("the addresses of {name}");
    let looked_up = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((name, 0))).await;
    let addresses: BTreeSet<IpAddr> = match looked_up.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
        Ok(addresses) => addresses.map(|address| address.ip()).collect(),
        Err(error) => {
            return Finding::failure(CHECK, what, error.to_string())
                .means("nobody finds the server by that name, and no authority gives a certificate for it")
                .mend(format!(
                    "add an A record for {name} in the DNS; or mend the name in acme.domains or turn.hosts"
                ));
        }
    };
    let list = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let own: BTreeSet<IpAddr> = machine_addresses()
        .into_iter()
        .chain(config.media.external_addresses.iter().copied())
        .chain(config.turn.external_addresses.iter().copied())
        .chain(discovered.iter().copied())
        .collect();
    if addresses.iter().any(|address| own.contains(address)) {
        return Finding::fine(CHECK, what, list);
    }
    Finding::warning(CHECK, what, format!("{list}: none of them is this machine's, nor an external address"))
        .means("who comes by that name comes to another machine, unless a router or proxy sends them on")
        .mend(format!("the A record of {name} to this machine's public address; behind a router also media.external_addresses"))
}

/// What the STUN servers say that the server asks.
fn mapped(config: &Config, mappings: &BTreeMap<IpAddr, Mapping>) -> Vec<Finding> {
    const CHECK: &str = "media.discover";
    let servers = config.media.discover.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if servers.is_empty() {
        return Vec::new();
    }
    let what = format!("how {servers} sees this machine");
    if mappings.is_empty() {
        let finding = Finding::failure(CHECK, what, "no answer over UDP")
            .means("the public address is not found: behind a NAT nobody outside hears or sees anybody");
        return vec![finding.mend(
            "let this machine send UDP to that port, or name another server: [media] discover = [\"stun:stun.example:3478\"]",
        )];
    }
    let judged = |(bound, mapping): (&IpAddr, &Mapping)| {
        let what = format!("{what}, asked from {bound}");
        match mapping {
            Mapping::Kept(ip) => Finding::fine(CHECK, what, format!("at {ip}, with the ports that it has")),
            Mapping::Moved(ip) => Finding::failure(CHECK, what, format!("at {ip}, with other ports than it has"))
                .means("the NAT in front changes ports, so that clients do not find the media there: its address is not announced")
                .mend(forwarded(config, *ip)),
            Mapping::Symmetric(ip) => {
                Finding::failure(CHECK, what, format!("each sees another port, one of them at {ip}: the NAT is symmetric"))
                    .means("nobody outside finds the media by what others see: that address is not announced")
                    .mend(forwarded(config, *ip))
            }
        }
    };
    mappings.iter().map(judged).collect()
}

/// What lets clients in through a NAT that changes ports.
fn forwarded(config: &Config, ip: IpAddr) -> String {
    let (first, turn) = (config.media.first_port, &config.turn.relay_ports);
    format!(
        "forward UDP and TCP port {first} (one for each of media.workers, from there on) and UDP {turn} to this machine at the router, \
         unchanged; then, instead of discover: [media] external_addresses = [\"{ip}\"]"
    )
}

/// Whether the public address is announced. `discovered` is told by those whom the server asks.
async fn public_address(config: &Config, discovered: &[IpAddr]) -> Finding {
    const CHECK: &str = "media.addresses";
    let announced = match veche_sfu::announced(&config.sfu(discovered)) {
        Ok(announced) => announced,
        Err(error) => {
            return Finding::failure(CHECK, "the addresses to announce for media", error.to_string())
                .means("the server does not start")
                .mend("[media] external_addresses = [\"203.0.113.5\"], with this machine's public address");
        }
    };
    let list = announced.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let servers = config.signaling.stun_servers.iter().filter(|url| url.starts_with("stun:"));
    for server in servers {
        let what = format!("how {server} sees this machine, beside what is announced for media");
        let Ok(seen) = seen_by(server).await else { continue };
        let seen = seen.ip();
        if announced.contains(&seen) {
            return Finding::fine(CHECK, what, format!("{seen} is announced"));
        }
        return Finding::failure(CHECK, what, format!("it sees {seen}; announced are {list}"))
            .means("nobody outside hears or sees anybody")
            .mend(format!(
                "[media] external_addresses = [\"{seen}\"]; or, where that address changes, discover = [\"{server}\"]"
            ));
    }
    let what = "the addresses that are announced for media";
    if announced.iter().any(|address| reach(*address) == Reach::Internet) {
        return Finding::fine(CHECK, what, list);
    }
    Finding::warning(CHECK, what, format!("only private addresses are announced: {list}"))
        .means("it works within this network; from outside nobody hears or sees anybody")
        .mend(
            "for a server on the internet: [media] external_addresses = [\"203.0.113.5\"], with its public address; veche doctor \
             --from-outside shows from another machine whether it works",
        )
}

/// Whether the authority for certificates is reached, and has the same time.
async fn authority(config: &Config) -> Finding {
    let directory = &config.acme.directory;
    let what = format!("GET {directory}");
    let client = match Client::new(Limits { timeout: PATIENCE, ..Limits::default() }) {
        Ok(client) => client,
        Err(error) => return unreached(what, &error.to_string()),
    };
    let asked = (Instant::now(), SystemTime::now());
    match client.get(directory, &[]).await {
        Ok(answer) => {
            // RFC 8555 section 7.1.1: what every directory has.
            let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            if answer.is_success() && json["newNonce"].is_string() {
                return clock("the authority", &answer.headers, asked.1, asked.0.elapsed());
            }
            Finding::failure("acme", what, format!("status {}, and no directory of ACME", answer.status))
                .means("the certificate is not renewed: when it ends, nobody connects")
                .mend("acme.directory = \"https://acme-v02.api.letsencrypt.org/directory\", or that of your authority")
        }
        // Its own certificate may be known to acme.directory_ca_file alone.
        Err(_) if config.acme.directory_ca_file.is_some() => {
            Finding::skipped("acme", what, "its certificate is not one of a public authority")
        }
        Err(error) => unreached(what, &error.to_string()),
    }
}

fn unreached(what: String, got: &str) -> Finding {
    Finding::failure("acme", what, got)
        .means("the certificate is not renewed: when it ends, nobody connects")
        .mend("let this machine reach the internet over TCP port 443; or acme.directory of an authority that it reaches")
}
