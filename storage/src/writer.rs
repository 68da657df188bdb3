//! The queue of what is to be written, and the task that writes it.
//!
//! Whatever has queued up while one transaction was committed goes into the next, so that a slow disk makes commits larger
//! and not the queue longer. The queue is bounded; what finds it full is refused at once, and nobody waits.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};

use crate::counters::add;
use crate::database::{Shared, now};
use crate::error::{StorageError, is_of_one_row};
use crate::events::{self, EventRow, NewEvent};
use crate::kept::{self, KeptMessage};
use crate::kind;

/// The most that one transaction writes.
const MAX_BATCH: usize = 1_024;

/// Events that may wait for each message that may: they are small, and come with messages.
const EVENTS_PER_MESSAGE: u64 = 4;

/// What a waiting message or event costs besides its content, in bytes.
const OVERHEAD: u64 = 256;

/// What goes beyond a bound is removed before it is a sixteenth of it.
const PRUNE_FRACTION: u64 = 16;

/// The way into the queue; clones are one.
#[derive(Clone)]
pub(crate) struct Queue {
    jobs: mpsc::UnboundedSender<Job>,
    gate: Arc<Gate>,
}

/// What waits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// Says when a message that was queued is on the disk, or why it is not.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Result<(), StorageError>>);

/// Something for the writer, in order.
enum Job {
    Keep { message: KeptMessage, event: EventRow, done: oneshot::Sender<Result<(), StorageError>> },
    Record(EventRow),
    Flush(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

/// Counts what waits, so that it stays within bounds.
#[derive(Debug)]
struct Gate {
    max_messages: u64,
    max_bytes: u64,
    messages: AtomicU64,
    events: AtomicU64,
    bytes: AtomicU64,
    /// Events that were lost and that the log does not tell of yet.
    unreported: AtomicU64,
}

/// The task that writes.
struct Writer {
    shared: Arc<Shared>,
    jobs: mpsc::UnboundedReceiver<Job>,
    gate: Arc<Gate>,
    /// Bytes kept and events recorded since something was removed last.
    bytes_since_pruned: u64,
    events_since_pruned: u64,
}

/// Starts the task that writes. It ends when the queue is closed, or nobody has the database any more.
pub(crate) fn start(shared: Arc<Shared>) -> Queue {
    let (sender, jobs) = mpsc::unbounded_channel();
    let gate = Arc::new(Gate {
        max_messages: shared.settings.queue_messages as u64,
        max_bytes: shared.settings.queue_bytes as u64,
        messages: AtomicU64::new(0),
        events: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        unreported: AtomicU64::new(0),
    });
    let queue = Queue { jobs: sender, gate: Arc::clone(&gate) };
    let writer = Writer { shared, jobs, gate, bytes_since_pruned: 0, events_since_pruned: 0 };
    tokio::spawn(writer.run());
    queue
}

impl Queue {
    /// Queues a message and its event.
    pub(crate) fn keep(&self, message: KeptMessage, event: EventRow) -> Result<Receipt, StorageError> {
        let size = message_size(&message);
        if !self.gate.enter(&self.gate.messages, self.gate.max_messages, size) {
            return Err(StorageError::Busy);
        }
        let (done, receipt) = oneshot::channel();
        if self.jobs.send(Job::Keep { message, event, done }).is_err() {
            self.gate.leave(&self.gate.messages, size);
            return Err(StorageError::Closed);
        }
        Ok(Receipt(receipt))
    }

    /// Queues an event. One that finds the queue full is lost, which the log tells later.
    pub(crate) fn record(&self, shared: &Shared, event: EventRow) {
        let size = event_size(&event);
        let max_events = self.gate.max_messages.saturating_mul(EVENTS_PER_MESSAGE);
        if !self.gate.enter(&self.gate.events, max_events, size) {
            self.gate.lose(shared, 1);
        } else if self.jobs.send(Job::Record(event)).is_err() {
            self.gate.leave(&self.gate.events, size);
            self.gate.lose(shared, 1);
        }
    }

    /// Waits until everything queued before is done.
    pub(crate) async fn flush(&self) -> Result<(), StorageError> {
        self.ask(Job::Flush).await
    }

    /// Lets the writer do what waits and end.
    pub(crate) async fn close(&self) {
        // An error says that it has ended before.
        let _ = self.ask(Job::Close).await;
    }

    pub(crate) fn waiting(&self) -> Waiting {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Waiting {
            messages: read(&self.gate.messages) + read(&self.gate.events),
            bytes: read(&self.gate.bytes),
        }
    }

    async fn ask(&self, job: impl FnOnce(oneshot::Sender<()>) -> Job) -> Result<(), StorageError> {
        let (done, answer) = oneshot::channel();
        self.jobs.send(job(done)).map_err(|_| StorageError::Closed)?;
        answer.await.map_err(|_| StorageError::Closed)
    }
}

impl Future for Receipt {
    type Output = Result<(), StorageError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or(Err(StorageError::Closed)))
    }
}

impl Gate {
    /// Lets one more of `counter` in, where there is room.
    fn enter(&self, counter: &AtomicU64, max: u64, size: u64) -> bool {
        if counter.fetch_add(1, Ordering::Relaxed) >= max {
            counter.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        if self.bytes.fetch_add(size, Ordering::Relaxed).saturating_add(size) > self.max_bytes {
            self.leave(counter, size);
            return false;
        }
        true
    }

    fn leave(&self, counter: &AtomicU64, size: u64) {
        counter.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(size, Ordering::Relaxed);
    }

    fn lose(&self, shared: &Shared, events: usize) {
        add(&self.unreported, events);
        add(&shared.counts.events_lost, events);
    }
}

impl Writer {
    async fn run(mut self) {
        let mut closing = Vec::new();
        loop {
            let mut jobs = Vec::new();
            if self.jobs.recv_many(&mut jobs, MAX_BATCH).await == 0 {
                break;
            }
            let mut flushed = Vec::new();
            let mut writes = Vec::with_capacity(jobs.len());
            for job in jobs {
                match job {
                    Job::Flush(done) => flushed.push(done),
                    Job::Close(done) => {
                        // What is queued already is still written; nothing more is taken.
                        self.jobs.close();
                        closing.push(done);
                    }
                    write => writes.push(write),
                }
            }
            self.write(writes).await;
            for done in flushed {
                // Whoever asked may have gone.
                let _ = done.send(());
            }
            self.prune_when_due().await;
        }
        for done in closing {
            let _ = done.send(());
        }
    }

    /// Writes all of it in one transaction, or, where one row is at fault, each on its own.
    async fn write(&mut self, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        match self.commit(&jobs).await {
            Err(error) if jobs.len() > 1 && is_of_one_row(&error) => {
                for job in jobs {
                    let result = self.commit(std::slice::from_ref(&job)).await;
                    self.settle(vec![job], result);
                }
            }
            result => self.settle(jobs, result),
        }
    }

    async fn commit(&mut self, jobs: &[Job]) -> Result<(), sqlx::Error> {
        let unreported = self.gate.unreported.load(Ordering::Relaxed);
        let gap = (unreported > 0).then(|| gap_event(unreported));
        let events: Vec<&EventRow> = gap.iter().chain(jobs.iter().filter_map(Job::event)).collect();
        let messages: Vec<&KeptMessage> = jobs.iter().filter_map(Job::message).collect();
        let mut work = self.shared.work().await?;
        kept::insert(&mut work, &messages, &self.shared.settings).await?;
        let newest = events::insert(&mut work, &events).await?;
        work.commit().await?;

        self.gate.unreported.fetch_sub(unreported, Ordering::Relaxed);
        let counts = &self.shared.counts;
        add(&counts.commits, 1);
        add(&counts.kept, messages.len());
        add(&counts.events, events.len());
        self.bytes_since_pruned += messages.iter().map(|message| message.body.len() as u64).sum::<u64>();
        self.events_since_pruned += events.len() as u64;
        if let Some(newest) = newest {
            self.shared.newest.send_replace(newest);
        }
        Ok(())
    }

    /// Tells those who wait how it went.
    fn settle(&mut self, jobs: Vec<Job>, result: Result<(), sqlx::Error>) {
        let result = result.map_err(StorageError::from);
        self.shared.note_writing(result.as_ref().err());
        for job in jobs {
            match job {
                Job::Keep { message, done, .. } => {
                    self.gate.leave(&self.gate.messages, message_size(&message));
                    if result.is_err() {
                        add(&self.shared.counts.failures, 1);
                    }
                    // Whoever published may have gone.
                    let _ = done.send(result.clone());
                }
                Job::Record(event) => {
                    self.gate.leave(&self.gate.events, event_size(&event));
                    if result.is_err() {
                        self.gate.lose(&self.shared, 1);
                    }
                }
                Job::Flush(_) | Job::Close(_) => {}
            }
        }
    }

    /// Much may come within the minute after which old things are removed anyway.
    async fn prune_when_due(&mut self) {
        let settings = &self.shared.settings;
        let is_due = self.bytes_since_pruned > settings.kept_total_bytes / PRUNE_FRACTION
            || self.events_since_pruned > settings.events / PRUNE_FRACTION;
        if !is_due {
            return;
        }
        self.bytes_since_pruned = 0;
        self.events_since_pruned = 0;
        if let Err(error) = self.shared.prune(now()).await {
            tracing::warn!(%error, "Old messages and events cannot be removed from storage");
        }
    }
}

impl Job {
    fn message(&self) -> Option<&KeptMessage> {
        match self {
            Self::Keep { message, .. } => Some(message),
            _ => None,
        }
    }

    fn event(&self) -> Option<&EventRow> {
        match self {
            Self::Keep { event, .. } | Self::Record(event) => Some(event),
            _ => None,
        }
    }
}

fn gap_event(lost: u64) -> EventRow {
    NewEvent::new(kind::LOG_GAP, now()).data(serde_json::json!({ "lost": lost })).into_row()
}

fn message_size(message: &KeptMessage) -> u64 {
    (message.body.len() + message.channel.len() + message.message_id.len()) as u64 + OVERHEAD
}

fn event_size(event: &EventRow) -> u64 {
    event.data.len() as u64 + OVERHEAD
}
