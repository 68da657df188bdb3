//! The keeper: the seam to storage. Channels ask through it for what is stored of them, and for messages to be kept; whoever
//! runs storage takes these tasks and answers each.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use parking_lot::Mutex;

use crate::channel::Channel;
use crate::core::Core;
use crate::error::PublishError;
use crate::message::Message;
use crate::name::{ChannelName, Timestamp};

/// How many channels that vanished may wait to be told to storage; of further ones it is not told.
const MAX_REMOVED: usize = 16_384;

/// Takes what storage is to do. When it is dropped, what waits and what comes is answered as failed.
#[derive(Debug)]
pub struct Keeper {
    queue: Arc<TaskQueue>,
}

/// Something that storage is to do. Tasks of one channel are in order, and are to be done in order.
#[derive(Debug)]
pub enum Task {
    /// To say what is known of a channel.
    Load(Load),
    /// To keep a message.
    Keep(Keep),
    /// To note that a channel has vanished from memory.
    Removed(ChannelName),
}

/// Asks what is stored of a channel. Dropped without an answer it has failed.
#[derive(Debug)]
pub struct Load {
    core: Arc<Core>,
    channel: Option<Arc<Channel>>,
    name: ChannelName,
}

/// Asks for a message to be kept. Dropped without an answer it has failed.
#[derive(Debug)]
pub struct Keep {
    core: Arc<Core>,
    channel: Option<Arc<Channel>>,
    message: Arc<Message>,
}

impl Task {
    /// Drops a task whose channel is locked by the caller, who sees to the failure.
    pub(crate) fn disarm(self) {
        match self {
            Self::Load(mut load) => drop(load.channel.take()),
            Self::Keep(mut keep) => {
                keep.give_back();
                keep.channel = None;
            }
            Self::Removed(_) => {}
        }
    }
}

impl Keeper {
    pub(crate) fn new(queue: Arc<TaskQueue>) -> Self {
        Self { queue }
    }

    /// Waits for tasks and moves all that wait to `into`. `false` when the hub is gone.
    pub async fn next_batch(&mut self, into: &mut Vec<Task>) -> bool {
        poll_fn(|cx| {
            let mut tasks = self.queue.tasks.lock();
            if tasks.waiting.is_empty() && !tasks.is_closed {
                tasks.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            tasks.removed = 0;
            let is_something = !tasks.waiting.is_empty();
            into.extend(tasks.waiting.drain(..));
            Poll::Ready(is_something)
        })
        .await
    }

    /// What waits now; returns how many tasks were moved.
    pub fn try_batch(&mut self, into: &mut Vec<Task>) -> usize {
        let mut tasks = self.queue.tasks.lock();
        tasks.removed = 0;
        let before = into.len();
        into.extend(tasks.waiting.drain(..));
        into.len() - before
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Load {
    pub(crate) fn new(core: &Arc<Core>, channel: &Arc<Channel>) -> Self {
        Self { core: Arc::clone(core), name: channel.name.clone(), channel: Some(Arc::clone(channel)) }
    }

    /// Which channel.
    pub fn channel(&self) -> &ChannelName {
        &self.name
    }

    /// The highest offset that was ever kept of it (0: none) and the messages that are, in order of offset.
    pub fn found(mut self, highest_offset: u64, kept: Vec<Message>, now: Timestamp) {
        if let Some(channel) = self.channel.take() {
            channel.found(&self.core, highest_offset, kept, now);
        }
    }

    /// It cannot be read. Who waits for the channel is told.
    pub fn failed(mut self, why: &str, now: Timestamp) {
        if let Some(channel) = self.channel.take() {
            channel.not_found(&self.core, why, now);
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(channel) = self.channel.take() {
            channel.not_found(&self.core, "storage is gone", self.core.now());
        }
    }
}

impl Keep {
    pub(crate) fn new(core: &Arc<Core>, channel: &Arc<Channel>, message: &Arc<Message>) -> Self {
        let (core, channel) = (Arc::clone(core), Arc::clone(channel));
        Self { core, channel: Some(channel), message: Arc::clone(message) }
    }

    /// What is to be kept.
    pub fn message(&self) -> &Arc<Message> {
        &self.message
    }

    /// It is on disk: it may be delivered and acknowledged.
    pub fn committed(mut self, now: Timestamp) {
        self.settle(Ok(()), now);
    }

    /// It could not be kept: it is delivered to nobody, and its sender is told why.
    pub fn failed(mut self, why: PublishError, now: Timestamp) {
        self.settle(Err(why), now);
    }

    fn give_back(&self) {
        if let Some(queue) = &self.core.tasks {
            queue.uncommitted.fetch_sub(1, Ordering::Relaxed);
            queue.uncommitted_bytes.fetch_sub(self.message.size(), Ordering::Relaxed);
        }
    }

    fn settle(&mut self, result: Result<(), PublishError>, now: Timestamp) {
        let Some(channel) = self.channel.take() else { return };
        self.give_back();
        channel.settled(&self.core, self.message.offset(), result, now);
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        self.settle(Err(PublishError::Storage("storage is gone".into())), self.core.now());
    }
}

/// What waits for storage. Messages are bounded together with those that the keeper has taken and not answered; loads, by
/// the channels.
#[derive(Debug)]
pub(crate) struct TaskQueue {
    tasks: Mutex<Tasks>,
    uncommitted: AtomicUsize,
    uncommitted_bytes: AtomicUsize,
    max_messages: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Tasks {
    waiting: VecDeque<Task>,
    removed: usize,
    is_closed: bool,
    reader: Option<Waker>,
}

impl TaskQueue {
    pub fn new(max_messages: usize, max_bytes: usize) -> Self {
        let (uncommitted, uncommitted_bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { tasks: Mutex::default(), uncommitted, uncommitted_bytes, max_messages, max_bytes }
    }

    /// Messages that are not on disk yet.
    pub fn uncommitted(&self) -> usize {
        self.uncommitted.load(Ordering::Relaxed)
    }

    /// Room for a message to be kept; `false`: there is none. One message always has room.
    pub fn reserve(&self, size: usize) -> bool {
        let messages = self.uncommitted.fetch_add(1, Ordering::Relaxed);
        let bytes = self.uncommitted_bytes.fetch_add(size, Ordering::Relaxed);
        let fits = messages == 0 || (messages < self.max_messages && bytes + size <= self.max_bytes);
        if !fits {
            self.uncommitted.fetch_sub(1, Ordering::Relaxed);
            self.uncommitted_bytes.fetch_sub(size, Ordering::Relaxed);
        }
        fits
    }

    /// Gives a task to the keeper, or back if there is no keeper any more.
    #[must_use]
    pub fn push(&self, task: Task) -> Option<Task> {
        let mut tasks = self.tasks.lock();
        if tasks.is_closed {
            return Some(task);
        }
        if matches!(task, Task::Removed(_)) {
            if tasks.removed >= MAX_REMOVED {
                return None;
            }
            tasks.removed += 1;
        }
        tasks.waiting.push_back(task);
        let reader = tasks.reader.take();
        drop(tasks);
        if let Some(reader) = reader {
            reader.wake();
        }
        None
    }

    pub fn close(&self) {
        let mut tasks = self.tasks.lock();
        tasks.is_closed = true;
        let waiting = mem::take(&mut tasks.waiting);
        let reader = tasks.reader.take();
        drop(tasks);
        // Unanswered tasks answer that they failed, which takes the locks of their channels.
        drop(waiting);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}
