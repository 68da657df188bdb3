//! The webhooks that run now, and others in their place when the configuration changes.

use std::sync::Arc;

use anyhow::Result;
use parking_lot::Mutex;
use veche_fetch::{Client, Limits};
use veche_storage::{Database, WebhookCounters, WebhookSettings, Webhooks};

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Couriers {
    database: Database,
    running: Arc<Mutex<Option<Webhooks>>>,
}

impl Couriers {
    /// None yet.
    pub(crate) fn new(database: Database) -> Self {
        Self { database, running: Arc::default() }
    }

    /// These, and no others. Those of before end first: nothing shall be delivered twice.
    pub(crate) async fn set(&self, settings: &[WebhookSettings]) -> Result<()> {
        let next = if settings.is_empty() { None } else { Some(Client::new(Limits::default())?) };
        self.stop().await;
        let start = |client| Webhooks::start(&self.database, &client, settings.to_vec());
        *self.running.lock() = next.map(start);
        Ok(())
    }

    /// Lets deliveries that are under way arrive, and ends.
    pub(crate) async fn stop(&self) {
        let running = self.running.lock().take();
        if let Some(running) = running {
            running.stop().await;
        }
    }

    /// Since the configuration was last read.
    pub(crate) fn counters(&self) -> WebhookCounters {
        self.running.lock().as_ref().map(Webhooks::counters).unwrap_or_default()
    }
}
