//! Webhooks: the log of events, carried to others by HTTP.
//!
//! Each webhook has a task that reads the log from where it stands and posts what is wanted, in order: nothing later is
//! sent before what is earlier has arrived or was given up. Where it stands is in storage, so that a restart goes on there.
//! An event may arrive twice (its answer was lost); its `sequence` tells. Nobody waits for a webhook.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use veche_fetch::Client;

use crate::counters::add;
use crate::database::{Database, now};
use crate::error::StorageError;
use crate::events::{Event, EventQuery};

/// The header with the time and the signature.
const SIGNATURE: &str = "veche-signature";

/// The most events of one delivery.
const BATCH: u32 = 100;

/// The first wait after a failure; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// Waits differ by so much, so that many servers do not come back in step.
const JITTER: f64 = 0.2;

/// How long a delivery may take to end when the server stops.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// After so many events that were not wanted the place in the log is stored too.
const SKIPPED_BEFORE_STORED: i64 = 1_000;

/// One `[[webhooks]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// Where events are posted.
    pub url: String,
    /// What signs them.
    pub secret: String,
    /// Which kinds: `*`, `room.*` or `room.created`.
    #[serde(default = "all_kinds")]
    pub events: Vec<String>,
    /// After so many hours an event is given up.
    #[serde(default = "a_day")]
    pub give_up_hours: u32,
}

/// The tasks that deliver.
#[derive(Debug)]
pub struct Webhooks {
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    counts: Arc<Counts>,
}

/// What webhooks have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WebhookCounters {
    /// Events that arrived.
    pub delivered: u64,
    /// Deliveries that failed; most are tried again.
    pub failures: u64,
    /// Events that were given up.
    pub given_up: u64,
}

#[derive(Debug, Default)]
struct Counts {
    delivered: AtomicU64,
    failures: AtomicU64,
    given_up: AtomicU64,
}

/// How long to wait after failures.
#[derive(Clone, Copy, Debug)]
struct Pace {
    first: Duration,
    longest: Duration,
}

/// One webhook at work.
struct Courier {
    settings: WebhookSettings,
    /// What stands for it in storage.
    id: String,
    database: Database,
    client: Client,
    counts: Arc<Counts>,
    stop: watch::Receiver<bool>,
    pace: Pace,
    random: StdRng,
    /// Failures since the last delivery that arrived.
    failures: u32,
}

/// What is posted.
#[derive(Serialize)]
struct Delivery<'a> {
    events: &'a [Event],
}

/// The server stops, or storage does.
struct Stopped;

impl WebhookSettings {
    /// Whether these can all be used; what is wrong names the setting and gives an example.
    pub fn check_all(webhooks: &[Self]) -> Result<(), String> {
        for (index, webhook) in webhooks.iter().enumerate() {
            let name = |field: &str| format!("webhooks[{index}].{field}");
            veche_fetch::check_url(&webhook.url).map_err(|error| format!("{}: {error}", name("url")))?;
            if webhooks[..index].iter().any(|other| other.url == webhook.url) {
                return Err(format!(
                    "{}: {} is there twice; put all of its kinds into one, for example events = [\"room.*\", \"file.*\"]",
                    name("url"),
                    shown(&webhook.url)
                ));
            }
            if webhook.secret.is_empty() {
                return Err(format!(
                    "{}: is empty, so that nobody could tell who sends; put some random text, for example the output of \
                     'openssl rand -hex 32'",
                    name("secret")
                ));
            }
            if let Some(kind) = webhook.events.iter().find(|kind| !is_pattern(kind)) {
                return Err(format!(
                    "{}: '{kind}' is no kind of event; for example events = [\"room.*\", \"message.kept\"]",
                    name("events")
                ));
            }
            if webhook.give_up_hours == 0 {
                return Err(format!("{}: 0 would try nothing twice; for example 24", name("give_up_hours")));
            }
        }
        Ok(())
    }
}

impl Webhooks {
    /// Starts a task for each webhook, on this runtime. One that was never there before begins with what happens next.
    pub fn start(database: &Database, client: &Client, webhooks: Vec<WebhookSettings>) -> Self {
        Self::start_at(Pace { first: FIRST_WAIT, longest: LONGEST_WAIT }, database, client, webhooks)
    }

    fn start_at(pace: Pace, database: &Database, client: &Client, webhooks: Vec<WebhookSettings>) -> Self {
        let stop = watch::Sender::new(false);
        let counts = Arc::new(Counts::default());
        let tasks = webhooks.into_iter().map(|settings| {
            let courier = Courier {
                id: webhook_id(&settings.url),
                settings,
                database: database.clone(),
                client: client.clone(),
                counts: Arc::clone(&counts),
                stop: stop.subscribe(),
                pace,
                random: StdRng::seed_from_u64(now().unsigned_abs()),
                failures: 0,
            };
            tokio::spawn(courier.run())
        });
        Self { tasks: tasks.collect(), stop, counts }
    }

    /// What they have done since the start.
    pub fn counters(&self) -> WebhookCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WebhookCounters {
            delivered: read(&self.counts.delivered),
            failures: read(&self.counts.failures),
            given_up: read(&self.counts.given_up),
        }
    }

    /// Ends all tasks. A delivery on its way has two seconds; one that does not make it is repeated after the next start.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + STOP_PATIENCE;
        for mut task in self.tasks {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}

impl Courier {
    async fn run(mut self) {
        // Ends when the server stops.
        let Err(Stopped) = self.deliver_all().await;
    }

    async fn deliver_all(&mut self) -> Result<std::convert::Infallible, Stopped> {
        let mut newest = self.database.newest_sequence();
        let mut position = self.first_position().await?;
        let mut stored = position;
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return Err(Stopped),
                answer = newest.wait_for(|newest| *newest > position) => drop(answer.map_err(|_| Stopped)?),
            }
            let events = self.read(position).await?;
            let Some(last) = events.last() else {
                // They were removed before they were read.
                position = *newest.borrow();
                continue;
            };
            position = last.sequence;
            let wanted: Vec<Event> = events.into_iter().filter(|event| self.wants(&event.kind)).collect();
            let is_worth_storing = !wanted.is_empty() || position - stored >= SKIPPED_BEFORE_STORED;
            self.deliver(wanted).await?;
            if is_worth_storing {
                self.store(position).await?;
                stored = position;
            }
        }
    }

    /// Posts these events until they have arrived or are given up. As long as nothing arrives each attempt waits longer,
    /// whichever events it is for.
    async fn deliver(&mut self, mut events: Vec<Event>) -> Result<(), Stopped> {
        loop {
            if self.failures > 0 {
                self.give_up_old(&mut events);
            }
            if events.is_empty() {
                return Ok(());
            }
            if self.failures > 0 {
                let jitter = self.random.random_range(-JITTER..JITTER);
                self.wait(self.pace.wait(self.failures, jitter)).await?;
            }
            let url = shown(&self.settings.url);
            let Err(reason) = self.post(&events).await else {
                if self.failures > 0 {
                    tracing::info!(url, "Webhook works again");
                }
                self.failures = 0;
                add(&self.counts.delivered, events.len());
                return Ok(());
            };
            if self.failures == 0 {
                tracing::warn!(url, reason, "Webhook fails; it is tried again");
            }
            self.failures = self.failures.saturating_add(1);
            add(&self.counts.failures, 1);
        }
    }

    async fn post(&self, events: &[Event]) -> Result<(), String> {
        let body = Bytes::from(
            serde_json::to_vec(&Delivery { events }).expect("events are objects with text as keys"),
        );
        let signature = sign(&self.settings.secret, now() / 1_000, &body);
        let headers = [("content-type", "application/json"), (SIGNATURE, signature.as_str())];
        match self.client.post(&self.settings.url, &headers, body).await {
            Ok(answer) if answer.is_success() => Ok(()),
            Ok(answer) => Err(format!("it answered with status {}", answer.status)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Drops events that are too old to be tried again.
    fn give_up_old(&self, events: &mut Vec<Event>) {
        let oldest = now() - i64::from(self.settings.give_up_hours) * 60 * 60 * 1_000;
        let before = events.len();
        events.retain(|event| event.time > oldest);
        let given_up = before - events.len();
        if given_up > 0 {
            add(&self.counts.given_up, given_up);
            let hours = self.settings.give_up_hours;
            tracing::error!(
                url = shown(&self.settings.url),
                given_up,
                hours,
                "Webhook did not take events in time; they are given up"
            );
        }
    }

    async fn wait(&mut self, wait: Duration) -> Result<(), Stopped> {
        tokio::select! {
            () = stopped(&mut self.stop) => Err(Stopped),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }

    fn wants(&self, kind: &str) -> bool {
        self.settings.events.iter().any(|pattern| matches(pattern, kind))
    }

    /// Where it stands in the log. A new one stands at the end.
    async fn first_position(&mut self) -> Result<i64, Stopped> {
        loop {
            match self.database.webhook_position(&self.id).await {
                Ok(Some(position)) => return Ok(position),
                Ok(None) => break,
                Err(error) => self.endure(&error).await?,
            }
        }
        let newest = *self.database.newest_sequence().borrow();
        self.store(newest).await?;
        Ok(newest)
    }

    async fn read(&mut self, since: i64) -> Result<Vec<Event>, Stopped> {
        let query = EventQuery { since, limit: BATCH, ..EventQuery::default() };
        loop {
            match self.database.events(&query).await {
                Ok(events) => return Ok(events),
                Err(error) => self.endure(&error).await?,
            }
        }
    }

    async fn store(&mut self, position: i64) -> Result<(), Stopped> {
        loop {
            match self.database.store_webhook_position(&self.id, position, now()).await {
                Ok(()) => return Ok(()),
                Err(error) => self.endure(&error).await?,
            }
        }
    }

    /// Waits while storage fails; it says so itself.
    async fn endure(&mut self, error: &StorageError) -> Result<(), Stopped> {
        if *error == StorageError::Closed {
            return Err(Stopped);
        }
        self.wait(self.pace.first).await
    }
}

impl Database {
    async fn webhook_position(&self, id: &str) -> Result<Option<i64>, StorageError> {
        let select = sqlx::query("SELECT sequence FROM webhooks WHERE id = $1").bind(id.to_owned());
        let row = select.fetch_optional(self.shared.readers()).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    async fn store_webhook_position(&self, id: &str, position: i64, now: i64) -> Result<(), StorageError> {
        let mut work = self.shared.work().await?;
        let put = sqlx::query(
            "INSERT INTO webhooks (id, sequence, updated) VALUES ($1, $2, $3) \
             ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, updated = excluded.updated",
        );
        put.bind(id.to_owned()).bind(position).bind(now).execute(&mut *work).await?;
        work.commit().await?;
        Ok(())
    }
}

impl Pace {
    /// The wait after so many failures in a row; `jitter` makes it longer or shorter by that part.
    fn wait(self, failures: u32, jitter: f64) -> Duration {
        let doubled =
            2_u32.checked_pow(failures.saturating_sub(1)).and_then(|factor| self.first.checked_mul(factor));
        doubled.map_or(self.longest, |wait| wait.min(self.longest)).mul_f64(1.0 + jitter)
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that whoever could stop it has gone, which is a stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// `t=<seconds since 1970>,v1=<hex of HMAC-SHA256 of "<t>.<body>">`
fn sign(secret: &str, time: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{time}.").as_bytes());
    context.update(body);
    format!("t={time},v1={}", hex(context.sign().as_ref()))
}

/// What stands for an address in storage: not the address itself, which may hold a secret.
fn webhook_id(url: &str) -> String {
    hex(&digest::digest(&digest::SHA256, url.as_bytes()).as_ref()[..16])
}

/// An address without its query, in which a secret may stand.
fn shown(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String never fails");
        text
    })
}

fn is_pattern(pattern: &str) -> bool {
    let name = pattern.strip_suffix(".*").unwrap_or(pattern);
    pattern == "*"
        || (!name.is_empty()
            && name.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-')))
}

fn matches(pattern: &str, kind: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => pattern == kind,
    }
}

fn all_kinds() -> Vec<String> {
    vec!["*".to_owned()]
}

fn a_day() -> u32 {
    24
}

#[cfg(test)]
mod tests;
