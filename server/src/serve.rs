//! The server's life: what is started in which order, what is waited for, and how it ends.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use axum::Router;
use axum_server::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::drain::Running;
use crate::gate::Gate;
use crate::layers;
use crate::listeners::{Listeners, Services};
use crate::metrics::Metrics;
use crate::parts::Parts;
use crate::reload::Reloader;
use crate::tally::Tally;
use crate::tls::Tls;
use crate::{banner, description, metrics, web};

/// Runs until a signal or until something fails that should run on.
pub(crate) async fn serve(mut reloader: Reloader) -> Result<()> {
    // Before anybody is told that it runs: whoever reads that may signal at once.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut running = start(&mut reloader).await?;
    let result = loop {
        tokio::select! {
            () = either(&mut terminate, &mut interrupt) => break Ok(()),
            _ = hang_up.recv() => reloader.reload().await,
            error = running.failure() => break Err(error),
        }
    };
    if let Err(error) = &result {
        tracing::error!("{error:#}");
    }
    tracing::info!("stopping; a second signal stops at once");
    tokio::select! {
        () = running.drain() => tracing::info!("stopped"),
        () = either(&mut terminate, &mut interrupt) => tracing::warn!("stopped at once"),
    }
    result
}

async fn start(reloader: &mut Reloader) -> Result<Running> {
    let config = reloader.config().clone();
    let listeners = Listeners::bind(&config)?;
    let addresses = listeners.addresses()?;
    let mut tasks = JoinSet::new();
    let tls = match addresses.https {
        Some(_) => Some(Tls::start(&config, &mut tasks)?),
        None => None,
    };
    let parts =
        Parts::start(&config, addresses.public(), tls.as_ref().map(|tls| tls.config.clone()), &mut tasks)
            .await?;
    reloader.manages(&parts, tls.as_ref());

    let gate = Gate::new(&config.http);
    let tally = Tally::default();
    let metrics = Arc::new(Metrics::new(&parts, &gate, &tally));
    let router = Router::new()
        .merge(parts.router())
        .merge(description::router(&Parts::description()))
        .merge(metrics::router(metrics.clone(), parts.authority.clone(), config.telemetry.metrics))
        .merge(web::router(&config.http.frame_ancestors));
    let (handle, stopping) = (Handle::new(), CancellationToken::new());
    let services = Services {
        router: layers::around(router, &config.http, metrics.requests.clone()),
        metrics: metrics::open_router(metrics),
        tls: tls.map(|tls| tls.config),
        turn: parts.turn.as_ref().map(|turn| turn.handle.clone()).filter(|_| config.turn.share_port),
        media: parts.calls.as_ref().map(|calls| calls.sfu.handle.clone()).filter(|_| config.shares_media()),
        gate,
        tally,
        handle: handle.clone(),
        stopping: stopping.clone(),
    };
    listeners.serve(services, &mut tasks)?;
    banner::announce(&config, addresses, &parts.authority);
    Ok(Running { parts, http: handle, stopping, tasks, drain_wait: config.http.drain_wait() })
}

/// What should not have ended, as an error.
pub(crate) fn ended<E: std::error::Error + Send + Sync + 'static>(
    what: &str,
    result: Result<(), E>,
) -> anyhow::Error {
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
