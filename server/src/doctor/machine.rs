//! What the machine grants: open files, buffers of sockets, and sending many packets at once.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};

use quinn_udp::{UdpSockRef, UdpSocketState};
use rustix::process::{Resource, getrlimit};
use veche_doctor::Finding;

use crate::config::Config;

/// What the media plane asks for each UDP socket, in bytes.
const SOCKET_BUFFER: usize = 4 << 20;

/// With fewer open files hardly a room works.
const FEWEST_FILES: u64 = 1024;

/// Looks at what is granted to the server, or where it does not run, to this process. `server` is its process.
pub(super) fn examine(config: &Config, server: Option<u32>) -> Vec<Finding> {
    let mut findings = vec![open_files(config, server)];
    if config.signaling.enabled {
        findings.push(buffers());
        findings.push(trains());
    }
    findings
}

fn open_files(config: &Config, server: Option<u32>) -> Finding {
    const CHECK: &str = "open-files";
    let own = || getrlimit(Resource::Nofile).maximum;
    // The server raises its own limit to the highest that it may have.
    let limit = server.and_then(limit_of).or_else(own).unwrap_or(u64::MAX);
    let what = format!(
        "the limit of open files of {}",
        if server.is_some() { "the server" } else { "this process" }
    );
    let settings = connections(config);
    let wanted = settings.iter().map(|(_, most)| most).sum::<u64>() + FEWEST_FILES;
    if limit >= wanted {
        return Finding::fine(
            CHECK,
            what,
            format!("{limit} are enough for all connections that there may be"),
        );
    }
    let settings: Vec<_> = settings.iter().map(|(setting, most)| format!("{setting} = {most}")).collect();
    let got = format!("{limit}, and {} want {wanted}", settings.join(", "));
    let finding = if limit < FEWEST_FILES {
        Finding::failure(CHECK, what, got)
    } else {
        Finding::warning(CHECK, what, got)
    };
    finding.means("every connection is an open file: when there are as many, nobody else gets in").mend(format!(
        "LimitNOFILE={wanted} in the systemd unit, --ulimit nofile={wanted}:{wanted} for docker run, ulimit -Hn {wanted} in a \
         shell; or http.max_connections = {}",
        limit.saturating_sub(wanted - config.http.max_connections as u64).max(limit / 2)
    ))
}

/// How many connections there may be, by the setting that says so.
fn connections(config: &Config) -> Vec<(&'static str, u64)> {
    let mut connections = vec![("http.max_connections", config.http.max_connections as u64)];
    if config.turn.enabled {
        connections.push(("turn.max_connections", config.turn.max_connections as u64));
    }
    if config.turn.enabled && config.turn.tcp_relays {
        connections.push(("turn.total_peer_connections", config.turn.total_peer_connections.into()));
    }
    connections
}

/// The highest limit of another process: the fifth word of `Max open files  SOFT  HARD  files` (proc_pid_limits(5)).
fn limit_of(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Asks for buffers as the media plane does, which the system cuts silently.
fn buffers() -> Finding {
    const CHECK: &str = "socket-buffers";
    let what = format!("UDP buffers of {SOCKET_BUFFER} bytes");
    let granted = socket().and_then(|(socket, state)| {
        let socket = || UdpSockRef::from(&socket);
        state.set_recv_buffer_size(socket(), SOCKET_BUFFER)?;
        state.set_send_buffer_size(socket(), SOCKET_BUFFER)?;
        // Linux tells twice what it grants (socket(7)).
        Ok(state.recv_buffer_size(socket())?.min(state.send_buffer_size(socket())?) / 2)
    });
    let granted = match granted {
        Ok(granted) if granted >= SOCKET_BUFFER => return Finding::fine(CHECK, what, "granted"),
        Ok(granted) => format!("the system grants {granted}"),
        Err(error) => error.to_string(),
    };
    Finding::warning(CHECK, what, granted)
        .means(
            "a key frame to many viewers at once, or a busy moment, loses packets: pictures freeze briefly",
        )
        .mend(format!(
            "sysctl -w net.core.rmem_max={SOCKET_BUFFER} net.core.wmem_max={SOCKET_BUFFER}, and the same in \
             /etc/sysctl.d/veche.conf to keep it"
        ))
}

/// Whether many packets to one receiver are sent by one call (GSO).
fn trains() -> Finding {
    let what = "sending many packets by one call (UDP_SEGMENT)";
    match socket().map(|(_, state)| state.max_gso_segments()) {
        Ok(longest) if longest > 1 => Finding::fine("gso", what, format!("up to {longest}")),
        Ok(_) => gso_missing(what, "the system does not know it"),
        Err(error) => gso_missing(what, &error.to_string()),
    }
}

fn gso_missing(what: &str, got: &str) -> Finding {
    Finding::warning("gso", what, got)
        .means("the same calls cost about twice the processor time")
        .mend("a Linux kernel of 4.18 or newer; gVisor and old virtual machines do not have it")
}

fn socket() -> std::io::Result<(UdpSocket, UdpSocketState)> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    Ok((socket, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_a_process_is_read() {
        let own = getrlimit(Resource::Nofile).maximum;
        assert_eq!(limit_of(std::process::id()), own);
        assert_eq!(limit_of(0), None);
    }
}
