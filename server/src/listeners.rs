//! Where clients reach the server: HTTP and HTTPS, each for HTTP/1.1 and HTTP/2.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::connect_info::IntoMakeServiceWithConnectInfo;
use axum_server::accept::DefaultAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use hyper_util::rt::TokioTimer;
use tokio::task::JoinSet;

use crate::patience::{Gate, Guard};
use crate::serve::ended;

/// How long a client may take to send the head of a request, and between two requests.
const HEADER_WAIT: Duration = Duration::from_secs(10);

/// How often a client of HTTP/2 is asked whether it is there, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// What of a request's head, and of what is to be sent, waits in memory for each connection.
const MAX_BUFFER: usize = 64 * 1024;

/// Sockets that are bound and not served yet, so that a port in use ends the start before anything else has begun.
pub(crate) struct Listeners {
    http: TcpListener,
    https: Option<TcpListener>,
    metrics: Option<TcpListener>,
}

/// Where they are, as the system says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) metrics: Option<SocketAddr>,
}

/// What is served where.
pub(crate) struct Services {
    pub(crate) router: Router,
    pub(crate) metrics: Router,
    /// For HTTPS, where it is served.
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) gate: Gate,
    pub(crate) handle: Handle<SocketAddr>,
}

impl Listeners {
    /// Binds what the configuration names.
    pub(crate) fn bind(config: &crate::config::Config) -> Result<Self> {
        let optional = |address: Option<SocketAddr>, setting| {
            address.map(|address| listen(address, setting)).transpose()
        };
        Ok(Self {
            http: listen(config.http.listen, "http.listen")?,
            https: optional(config.http.https_listen, "http.https_listen")?,
            metrics: optional(config.telemetry.metrics_listen, "telemetry.metrics_listen")?,
        })
    }

    /// Which ports they have got.
    pub(crate) fn addresses(&self) -> Result<Addresses> {
        Ok(Addresses {
            http: self.http.local_addr()?,
            https: self.https.as_ref().map(TcpListener::local_addr).transpose()?,
            metrics: self.metrics.as_ref().map(TcpListener::local_addr).transpose()?,
        })
    }

    /// Serves them in tasks that end only by an error.
    pub(crate) fn serve(self, services: Services, tasks: &mut JoinSet<anyhow::Error>) -> Result<()> {
        let Services { router, metrics, tls, gate, handle } = services;
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let plain = |listener,
                     what,
                     service: IntoMakeServiceWithConnectInfo<Router, SocketAddr>,
                     tasks: &mut JoinSet<_>| {
            let guard = Guard::new(DefaultAcceptor::new(), gate.clone());
            let server = axum_server::from_tcp(listener)?.handle(handle.clone()).acceptor(guard);
            let served = configured(server).serve(service);
            tasks.spawn(async move { ended(what, served.await) });
            anyhow::Ok(())
        };
        plain(self.http, "HTTP", service.clone(), tasks)?;
        if let Some(listener) = self.metrics {
            let service = metrics.into_make_service_with_connect_info::<SocketAddr>();
            plain(listener, "HTTP for metrics", service, tasks)?;
        }
        if let (Some(listener), Some(tls)) = (self.https, tls) {
            let guard = Guard::new(RustlsAcceptor::new(RustlsConfig::from_config(tls)), gate.clone());
            let server = axum_server::from_tcp(listener)?.handle(handle.clone()).acceptor(guard);
            let served = configured(server).serve(service);
            tasks.spawn(async { ended("HTTPS", served.await) });
        }
        Ok(())
    }
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
    let listener = TcpListener::bind(address).with_context(|| {
        format!("{setting}: cannot listen on {address}; choose a free port, for example {setting} = \"0.0.0.0:8010\"")
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
