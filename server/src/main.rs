//! The binary `veche`: configuration and wiring only.

mod config;
mod tls;
mod web;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use axum::Router;
use axum_server::Handle;
use clap::Parser;
use hyper_util::rt::TokioTimer;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tracing_subscriber::EnvFilter;
use veche_access::Authority;
use veche_sfu::Sfu;
use veche_signaling::{Media, Signaling, disabled_router};

use crate::config::{Config, LogFormat};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long a client may take to send the head of a request.
const HEADER_WAIT: Duration = Duration::from_secs(10);

/// How long HTTP requests may take to finish when the server stops.
const HTTP_STOP_WAIT: Duration = Duration::from_secs(1);

/// How long the media plane may take to say goodbye.
const MEDIA_STOP_WAIT: Duration = Duration::from_secs(2);

/// Realtime media and messaging server.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration; without it `veche.toml`, where that exists.
    #[arg(long, env = "VECHE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Prints the configuration that would be used, and ends.
    #[arg(long)]
    print_config: bool,
}

/// What runs, to be stopped in the end.
struct Running {
    parts: Option<(Sfu, Signaling)>,
    http: Handle<SocketAddr>,
    /// What runs as long as the server does: each ends with what went wrong.
    tasks: JoinSet<anyhow::Error>,
}

fn main() -> ExitCode {
    // Before anything that may speak TLS: rustls has no provider of its own choice.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("veche: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let (config, notes) = Config::load(arguments.config.as_deref(), std::env::vars_os())?;
    if arguments.print_config {
        print!("{}", config.to_toml());
        return Ok(());
    }
    start_log(&config)?;
    for note in notes {
        tracing::info!("{note}");
    }
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(&config));
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

async fn serve(config: &Config) -> Result<()> {
    let listener = listen(config.http.listen, "http.listen")?;
    let https = match config.http.https_listen {
        Some(address) => Some((listen(address, "http.https_listen")?, tls::load(config).await?)),
        None => None,
    };
    let mut tasks = JoinSet::new();
    let (parts, api) = start_parts(config, &mut tasks)?;
    let router = Router::new().merge(api).fallback_service(web::router(&config.http.frame_ancestors));
    let http = Handle::new();
    announce(listener.local_addr()?, https.as_ref().map(|(listener, _)| listener.local_addr()).transpose()?);

    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    // Not `http1_only`: it would end a connection as soon as it has become a WebSocket.
    let mut server = axum_server::from_tcp(listener)?.handle(http.clone());
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADER_WAIT);
    let served = server.serve(service.clone());
    tasks.spawn(async { ended("HTTP", served.await) });
    if let Some((listener, tls)) = https {
        let mut server = axum_server::from_tcp_rustls(listener, tls.clone())?.handle(http.clone());
        server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEADER_WAIT);
        let served = server.serve(service);
        tasks.spawn(async { ended("HTTPS", served.await) });
        tls::spawn_reloader(config, tls);
    }

    let mut running = Running { parts, http, tasks };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let result = tokio::select! {
        () = either(&mut terminate, &mut interrupt) => Ok(()),
        error = running.failure() => Err(error),
    };
    if let Err(error) = &result {
        tracing::error!("{error:#}");
    }
    tracing::info!("stopping; a second signal stops at once");
    tokio::select! {
        () = running.stop() => {}
        () = either(&mut terminate, &mut interrupt) => {}
    }
    result
}

fn start_parts(
    config: &Config,
    tasks: &mut JoinSet<anyhow::Error>,
) -> Result<(Option<(Sfu, Signaling)>, Router)> {
    if !config.signaling.enabled {
        return Ok((None, disabled_router()));
    }
    let sfu = veche_sfu::start(config.sfu())?;
    let media = Media::from(sfu.handle.clone());
    let (signaling, pump) =
        Signaling::start(config.signaling.clone(), media, sfu.events.clone(), Authority::open());
    tasks.spawn(async { ended("what takes the media plane's reports", pump.await) });
    let failures = sfu.failures.clone();
    tasks.spawn(async move {
        match failures.recv_async().await {
            Ok(failure) => failure.into(),
            Err(_) => anyhow!("all media workers have ended"),
        }
    });
    let router = signaling.router();
    Ok((Some((sfu, signaling)), router))
}

/// What should not have ended, as an error.
fn ended<E: std::error::Error + Send + Sync + 'static>(what: &str, result: Result<(), E>) -> anyhow::Error {
    match result {
        Ok(()) => anyhow!("{what} has ended"),
        Err(error) => anyhow::Error::new(error).context(format!("{what} has failed")),
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

impl Running {
    /// Waits until something fails that should run on. Then the process ends, so that its supervisor starts a new one.
    async fn failure(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok(error)) => error,
            Some(Err(panicked)) => panicked.into(),
            None => anyhow!("nothing runs"),
        }
    }

    /// Within five seconds: people are told first, then media ends, then HTTP.
    async fn stop(self) {
        if let Some((sfu, signaling)) = &self.parts {
            signaling.stop().await;
            let _ = tokio::time::timeout(MEDIA_STOP_WAIT, sfu.handle.stop()).await;
        }
        self.http.graceful_shutdown(Some(HTTP_STOP_WAIT));
        while self.http.connection_count() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn listen(address: SocketAddr, setting: &str) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| {
        format!("{setting}: cannot listen on {address}; choose a free port, for example {setting} = \"0.0.0.0:8010\"")
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Every connection is an open file, and the usual limit of 1024 is soon reached.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

fn start_log(config: &Config) -> Result<()> {
    // An empty one would silence everything but errors, which nobody who leaves it empty means.
    let filter = match std::env::var("RUST_LOG").ok().filter(|filter| !filter.trim().is_empty()) {
        Some(filter) => EnvFilter::try_new(filter).context("RUST_LOG: for example RUST_LOG=info")?,
        None => {
            EnvFilter::try_new(&config.log.filter).context("log.filter: for example log.filter = \"info\"")?
        }
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

/// Says in plain words which addresses to open.
fn announce(http: SocketAddr, https: Option<SocketAddr>) {
    println!("Veche is running.");
    println!("  On this machine, open   http://localhost:{}", http.port());
    let Some(https) = https else { return };
    let addresses = if https.ip().is_unspecified() {
        let takes = |address: &IpAddr| !address.is_loopback() && (https.is_ipv6() || address.is_ipv4());
        tls::machine_addresses().into_iter().filter(takes).collect()
    } else {
        vec![https.ip()]
    };
    for address in addresses {
        println!("  From other machines:    https://{}", SocketAddr::new(address, https.port()));
    }
    println!("  (Unless you gave it a certificate, the browser warns once: accept to go on.)");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whatever_ends_first_is_the_failure_with_its_reason() {
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending());
        tasks.spawn(async { ended("HTTP", Err(std::io::Error::other("no more files"))) });
        let mut running = Running { parts: None, http: Handle::new(), tasks };
        assert_eq!(format!("{:#}", running.failure().await), "HTTP has failed: no more files");
        running.tasks.spawn(async { ended("HTTPS", Ok::<(), std::io::Error>(())) });
        assert_eq!(running.failure().await.to_string(), "HTTPS has ended");
    }
}
