//! Where clients reach the server: HTTP and HTTPS, each for HTTP/1.1 and HTTP/2, and what shares their ports.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Error, Result};
use axum::Router;
use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use axum_server::{Handle, Server};
use hyper_util::rt::TokioTimer;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::entrance::{Entrance, Offers, TURN_PROTOCOLS};
use crate::gate::Gate;
use crate::serve::ended;
use crate::tally::Tally;

/// How long a client may take to send the head of a request, and between two requests.
const HEADER_WAIT: Duration = Duration::from_secs(10);

/// How often a client of HTTP/2 is asked whether it is there, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// What of a request's head, and of what is to be sent, waits in memory for each connection.
const MAX_BUFFER: usize = 64 * 1024;

/// What lets a server without root have a port below 1024.
const NO_PERMISSION: &str = "this user may not have the port: with systemd, AmbientCapabilities=CAP_NET_BIND_SERVICE allows it \
                             (packaging/veche.service), otherwise `sudo setcap cap_net_bind_service=+ep veche`; see \
                             docs/running.md, \"Ports below 1024\"";

/// Sockets that are bound and not served yet, so that a port in use ends the start before anything else has begun.
pub(crate) struct Listeners {
    http: TcpListener,
    /// Another than that of HTTP, where they have not the same address.
    https: Option<TcpListener>,
    metrics: Option<TcpListener>,
    /// Whether HTTPS is served at the address of HTTP.
    is_one: bool,
}

/// Where they are, as the system says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) metrics: Option<SocketAddr>,
}

/// The port that a firewall lets through: of HTTPS, or of HTTP where there is none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublicPort {
    /// Where it is bound.
    pub(crate) address: SocketAddr,
    /// Whether TLS is spoken there.
    pub(crate) tls: bool,
}

/// What is served where.
pub(crate) struct Services {
    pub(crate) router: Router,
    pub(crate) metrics: Router,
    /// For HTTPS, where it is served.
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    /// TURN, where it shares the ports.
    pub(crate) turn: Option<veche_turn::Handle>,
    /// Media over TCP, where it does.
    pub(crate) media: Option<veche_sfu::Handle>,
    pub(crate) gate: Gate,
    pub(crate) tally: Tally,
    pub(crate) handle: Handle<SocketAddr>,
    pub(crate) stopping: CancellationToken,
}

impl Listeners {
    /// Binds what the configuration names.
    pub(crate) fn bind(config: &Config) -> Result<Self> {
        let optional = |address: Option<SocketAddr>, setting| {
            address.map(|address| listen(address, setting)).transpose()
        };
        let is_one = config.http.https_listen == Some(config.http.listen) && config.http.listen.port() != 0;
        Ok(Self {
            http: listen(config.http.listen, "http.listen")?,
            https: optional(config.http.https_listen.filter(|_| !is_one), "http.https_listen")?,
            metrics: optional(config.telemetry.metrics_listen, "telemetry.metrics_listen")?,
            is_one,
        })
    }

    /// Which ports they have got.
    pub(crate) fn addresses(&self) -> Result<Addresses> {
        let http = self.http.local_addr()?;
        let https = self.https.as_ref().map(TcpListener::local_addr).transpose()?;
        Ok(Addresses {
            http,
            https: if self.is_one { Some(http) } else { https },
            metrics: self.metrics.as_ref().map(TcpListener::local_addr).transpose()?,
        })
    }

    /// Serves them in tasks that end only by an error.
    pub(crate) fn serve(self, services: Services, tasks: &mut JoinSet<anyhow::Error>) -> Result<()> {
        let Services { router, metrics, tls, turn, media, gate, tally, handle, stopping } = services;
        let tls = tls.map(|tls| acceptor(&tls, turn.is_some()));
        let router = router.into_make_service_with_connect_info::<SocketAddr>();
        let public = |http, tls| Offers { http, tls, turn: turn.clone(), media: media.clone() };
        let mut serve =
            |listener, what, offers, service: &IntoMakeServiceWithConnectInfo<Router, SocketAddr>| {
                let entrance = Entrance::new(offers, gate.clone(), tally.clone(), stopping.clone());
                let server = axum_server::from_tcp(listener)?.handle(handle.clone()).acceptor(entrance);
                let served = configured(server).serve(service.clone());
                tasks.spawn(async move { ended(what, served.await) });
                anyhow::Ok(())
            };
        serve(self.http, "HTTP", public(true, tls.clone().filter(|_| self.is_one)), &router)?;
        if let Some(listener) = self.https {
            serve(listener, "HTTPS", public(false, tls), &router)?;
        }
        if let Some(listener) = self.metrics {
            let offers = Offers { http: true, tls: None, turn: None, media: None };
            let service = metrics.into_make_service_with_connect_info::<SocketAddr>();
            serve(listener, "HTTP for metrics", offers, &service)?;
        }
        Ok(())
    }
}

impl Addresses {
    /// The port that others share.
    pub(crate) fn public(&self) -> PublicPort {
        PublicPort { address: self.https.unwrap_or(self.http), tls: self.https.is_some() }
    }
}

impl PublicPort {
    /// As clients find it: a NAT may show another number.
    pub(crate) fn announced(&self, config: &Config) -> SocketAddr {
        let port = match config.http.external_port {
            0 => self.address.port(),
            port => port,
        };
        SocketAddr::new(self.address.ip(), port)
    }
}

/// How TLS is spoken at the ports of HTTP: with the names of TURN too, where it shares them. They come first: some clients of TURN
/// name HTTP beside it, and no browser names TURN.
fn acceptor(tls: &rustls::ServerConfig, turn: bool) -> TlsAcceptor {
    let mut tls = tls.clone();
    if turn {
        tls.alpn_protocols.splice(..0, TURN_PROTOCOLS.map(<[u8]>::to_vec));
    }
    Arc::new(tls).into()
}

/// Not `http1_only`: it would end a connection as soon as it has become a WebSocket.
fn configured<A>(mut server: Server<SocketAddr, A>) -> Server<SocketAddr, A> {
    let builder = server.http_builder();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_WAIT).max_buf_size(MAX_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    server
}

fn listen(address: SocketAddr, setting: &str) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).map_err(|error| {
        let mend = match error.kind() {
            ErrorKind::PermissionDenied => NO_PERMISSION.to_owned(),
            _ => format!("choose a free port, for example {setting} = \"0.0.0.0:8010\""),
        };
        Error::new(error).context(format!("{setting}: cannot listen on {address}; {mend}"))
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
