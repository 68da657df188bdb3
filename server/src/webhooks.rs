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

/// Webhooks that are ready to be started.
pub(crate) struct Prepared {
    couriers: Couriers,
    client: Option<Client>,
    settings: Vec<WebhookSettings>,
}

impl Couriers {
    /// None yet.
    pub(crate) fn new(database: Database) -> Self {
        Self { database, running: Arc::default() }
    }

    /// These, and no others, once they are started.
    pub(crate) fn prepare(&self, settings: &[WebhookSettings]) -> Result<Prepared> {
        let client = if settings.is_empty() { None } else { Some(Client::new(Limits::default())?) };
        Ok(Prepared { couriers: self.clone(), client, settings: settings.to_vec() })
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

impl Prepared {
    /// Those of before end first: nothing shall be delivered twice.
    pub(crate) async fn start(self) {
        let Self { couriers, client, settings } = self;
        couriers.stop().await;
        let start = |client| Webhooks::start(&couriers.database, &client, settings);
        *couriers.running.lock() = client.map(start);
    }
}
