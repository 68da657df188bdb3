//! The ports that the configuration names: whether the server has them, another program, or nobody.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use veche_doctor::Finding;

use super::holder::{Holder, Protocol};
use crate::config::Config;

/// A port that the server should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    setting: &'static str,
    protocol: Protocol,
    address: SocketAddr,
}

/// How a port is.
enum State {
    Free,
    /// Somebody has it; perhaps it can be told who.
    Taken(Option<Holder>),
    /// It cannot be had at all.
    Refused(io::Error),
}

/// The ports that the configuration names. Those that the system chooses cannot be told.
pub(super) fn named(config: &Config) -> Vec<Port> {
    use Protocol::{Tcp, Udp};
    let port = |setting, protocol, address| Port { setting, protocol, address };
    let mut ports = vec![port("http.listen", Tcp, config.http.listen)];
    ports.extend(config.http.https_listen.map(|address| port("http.https_listen", Tcp, address)));
    ports.extend(
        config.telemetry.metrics_listen.map(|address| port("telemetry.metrics_listen", Tcp, address)),
    );
    let media = &config.media;
    if config.signaling.enabled && media.first_port != 0 {
        let workers = match media.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        let foreign_tcp = config.sfu(&[]).foreign_tcp;
        for number in (media.first_port..).take(workers) {
            for ip in &media.bind {
                let address = SocketAddr::new(*ip, number);
                ports.push(port("media.first_port", Udp, address));
                let tcp = media.tcp && !foreign_tcp.contains(&number);
                ports.extend(tcp.then(|| port("media.first_port", Tcp, address)));
            }
        }
    }
    if config.turn.enabled {
        let both = |address: &SocketAddr| [Udp, Tcp].map(|protocol| port("turn.listen", protocol, *address));
        ports.extend(config.turn.listen.iter().flat_map(both));
    }
    // A machine without IPv6 goes without it.
    let has_ipv6 = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    ports.retain(|port| port.address.port() != 0 && (has_ipv6 || port.address.is_ipv4()));
    ports
}

/// The server's process, as far as that can be told: who listens where HTTP should be.
pub(super) fn server(config: &Config) -> Option<Holder> {
    Holder::of(Protocol::Tcp, config.http.listen).filter(|holder| holder.process != std::process::id())
}

/// Looks at each port of a server that runs as this process, or of one that is to start.
pub(super) fn examine(config: &Config, is_running: bool, server: Option<&Holder>) -> Vec<Finding> {
    let ports = named(config);
    let wrong: Vec<Finding> = ports.iter().filter_map(|port| port.examine(is_running, server)).collect();
    if !wrong.is_empty() {
        return wrong;
    }
    let what = format!("the {} ports that the configuration names", ports.len());
    let got = if is_running { "the server has them" } else { "all are free" };
    vec![Finding::fine("ports", what, got)]
}

impl Port {
    /// What is wrong with it, if something is.
    fn examine(&self, is_running: bool, server: Option<&Holder>) -> Option<Finding> {
        const CHECK: &str = "ports";
        let Self { setting, protocol, address } = self;
        let what = format!("{setting}: {protocol:?} port {address}");
        let other = |holder: &Holder| server.is_some_and(|server| server.process != holder.process);
        match self.state() {
            State::Free if !is_running => None,
            State::Free => Some(
                Finding::failure(CHECK, what, "the server runs, and nothing listens there")
                    .means("clients are told of a port where nobody answers")
                    .mend(format!(
                        "restart the server with this configuration; its log says why it goes without {setting}"
                    )),
            ),
            State::Taken(None) if is_running => None,
            State::Taken(Some(holder)) if is_running && !other(&holder) => None,
            State::Taken(holder) => {
                let by = holder.map_or_else(|| "another program".to_owned(), |holder| holder.to_string());
                Some(
                    Finding::failure(CHECK, what, format!("the port is taken by {by}"))
                        .means(if is_running { "the server goes without that port" } else { "the server does not start" })
                        .mend(format!("stop that program, or choose another port: {}", self.example())),
                )
            }
            State::Refused(error) => Some(self.refused(&what, &error)),
        }
    }

    fn refused(&self, what: &str, error: &io::Error) -> Finding {
        let mend = if error.kind() == io::ErrorKind::PermissionDenied {
            "ports below 1024 need a right: AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit, or setcap \
             cap_net_bind_service=+ep on the program"
                .to_owned()
        } else {
            format!("name an address of this machine: {}", self.example())
        };
        Finding::failure("ports", what, error.to_string()).means("the server does not start").mend(mend)
    }

    fn example(&self) -> String {
        let Self { setting, address, .. } = self;
        let next = address.port().checked_add(10).unwrap_or(8010);
        let any: IpAddr =
            if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        match *setting {
            "media.first_port" => format!("media.first_port = {next}"),
            "turn.listen" => format!("turn.listen = [\"{}\"]", SocketAddr::new(any, next)),
            setting => format!("{setting} = \"{}\"", SocketAddr::new(any, next)),
        }
    }

    /// Tries to have it for a moment.
    fn state(&self) -> State {
        let bound = match self.protocol {
            Protocol::Udp => UdpSocket::bind(self.address).map(drop),
            Protocol::Tcp => TcpListener::bind(self.address).map(drop),
        };
        match bound {
            Ok(()) => State::Free,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                State::Taken(Holder::of(self.protocol, self.address))
            }
            Err(error) => State::Refused(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_that_is_named_is_looked_at() {
        let mut config = Config::default();
        config.media.workers = 2;
        config.media.bind = vec![Ipv4Addr::UNSPECIFIED.into()];
        config.turn.listen = vec!["0.0.0.0:3478".parse().unwrap()];
        let shown: Vec<String> = named(&config)
            .iter()
            .map(|port| format!("{} {:?} {}", port.setting, port.protocol, port.address.port()))
            .collect();
        let expected = [
            "http.listen Tcp 8000",
            "http.https_listen Tcp 8443",
            "media.first_port Udp 40000",
            "media.first_port Tcp 40000",
            "media.first_port Udp 40001",
            "media.first_port Tcp 40001",
            "turn.listen Udp 3478",
            "turn.listen Tcp 3478",
        ];
        assert_eq!(shown, expected);
        config.media.first_port = 8443;
        let udp_alone = named(&config);
        let of_8443: Vec<_> = udp_alone.iter().filter(|port| port.address.port() == 8443).collect();
        assert_eq!(of_8443.len(), 2, "HTTPS takes media over TCP there: {of_8443:?}");
        config.media.first_port = 0;
        config.turn.enabled = false;
        assert_eq!(named(&config).len(), 2, "what the system chooses cannot be told");
    }

    #[test]
    fn a_port_that_is_taken_names_who_has_it() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let port = Port { setting: "http.listen", protocol: Protocol::Tcp, address };
        let finding = port.examine(false, None).unwrap();
        assert!(finding.got.contains(&format!("process {}", std::process::id())), "{finding:?}");
        assert!(finding.mend.contains("http.listen = \"0.0.0.0:"), "{finding:?}");
        assert!(port.examine(true, None).is_none(), "it may be the server's");
        let other = Holder { process: 1, name: "veche".into() };
        assert!(port.examine(true, Some(&other)).is_some());
        drop(listener);
        assert!(port.examine(false, None).is_none());
        assert!(port.examine(true, None).unwrap().got.contains("nothing listens there"));
    }
}
