//! How the server ends: nobody new, everybody told to come back, what has begun finished, what is to be kept kept.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::anyhow;
use axum_server::Handle;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::parts::Parts;

/// How often it is looked whether requests still run.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What runs, to be stopped in the end.
pub(crate) struct Running {
    pub(crate) parts: Parts,
    pub(crate) http: Handle<SocketAddr>,
    /// Ends the wait for those who have said nothing yet.
    pub(crate) stopping: CancellationToken,
    /// What runs as long as the server does: each ends with what went wrong.
    pub(crate) tasks: JoinSet<anyhow::Error>,
    /// How long requests may take to end.
    pub(crate) drain_wait: Duration,
}

impl Running {
    /// Waits until something fails that should run on. Then the process ends, so that its supervisor starts a new one.
    pub(crate) async fn failure(&mut self) -> anyhow::Error {
        first_failure(&mut self.tasks).await
    }

    /// Ends everything in order: listeners close at once, so that who is told to come back finds no server that is about
    /// to go, or already the next one; requests and uploads go on meanwhile.
    pub(crate) async fn drain(&self) {
        let deadline = Instant::now() + self.drain_wait;
        self.stopping.cancel();
        // Without a limit of its own: what is cut is cut below, where it is also said.
        self.http.graceful_shutdown(None);
        self.parts.stop().await;
        let all_ended = async {
            while self.http.connection_count() > 0 {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        if tokio::time::timeout_at(deadline, all_ended).await.is_err() {
            let connections = self.http.connection_count();
            tracing::warn!(connections, "requests were cut: they took longer than http.drain_seconds");
            self.http.shutdown();
        }
        self.parts.close().await;
    }
}

async fn first_failure(tasks: &mut JoinSet<anyhow::Error>) -> anyhow::Error {
    match tasks.join_next().await {
        Some(Ok(error)) => error,
        Some(Err(panicked)) => panicked.into(),
        None => anyhow!("nothing runs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::ended;

    #[tokio::test]
    async fn whatever_ends_first_is_the_failure_with_its_reason() {
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending());
        tasks.spawn(async { ended("HTTP", Err(std::io::Error::other("no more files"))) });
        assert_eq!(format!("{:#}", first_failure(&mut tasks).await), "HTTP has failed: no more files");
        tasks.spawn(async { ended("HTTPS", Ok::<(), std::io::Error>(())) });
        assert_eq!(first_failure(&mut tasks).await.to_string(), "HTTPS has ended");
    }
}
