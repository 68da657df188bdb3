//! Publishing: a message gets its offset, waits for storage if it is to be kept and for those before it, and is delivered.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::answer::Answer;
use crate::channel::{Channel, State};
use crate::core::Core;
use crate::error::PublishError;
use crate::hub::Published;
use crate::keeper::{Keep, Task};
use crate::message::{Body, Message, Sender, To};
use crate::name::{Position, Timestamp};
use crate::outbox::Put;

/// How many messages of a channel may wait for one that is being stored; then further ones are refused as busy. What they
/// may take is bounded like what waits for storage.
const MAX_PENDING: usize = 65_536;

/// A message that has no offset yet.
#[derive(Debug)]
pub(crate) struct Draft {
    pub body: Body,
    pub sender: Option<Arc<Sender>>,
    pub persistent: bool,
    pub answer: Answer,
}

/// A message that is not delivered yet.
#[derive(Debug)]
pub(crate) struct Pending {
    message: Arc<Message>,
    answer: Answer,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    /// It is being stored.
    Storing,
    /// It only waits for those before it.
    Ready,
    /// It could not be stored.
    Failed(String),
}

impl Channel {
    /// Takes a message. Its answer is told when it is delivered, or is not.
    pub fn publish(self: &Arc<Self>, state: &mut State, core: &Arc<Core>, draft: Draft, now: Timestamp) {
        if !self.is_ready(state, core) {
            if let Some(draft) = state.postpone(draft) {
                self.refuse(core, draft.answer, PublishError::Busy);
            }
            return;
        }
        let is_stored = draft.persistent && core.tasks.is_some();
        if !is_stored && state.pending.is_empty() {
            let (message, answer) = self.number(state, core, draft, now);
            self.deliver(state, core, message, answer, now);
            return;
        }
        let size = draft.body.size();
        let is_full = state.pending.len() >= MAX_PENDING
            || state.pending_bytes + size > core.settings.uncommitted_bytes;
        if is_full && !state.pending.is_empty() {
            return self.refuse(core, draft.answer, PublishError::Busy);
        }
        let progress = if is_stored { Progress::Storing } else { Progress::Ready };
        self.wait(state, core, draft, progress, now);
    }

    /// Lets a message wait, if need be for storage.
    fn wait(
        self: &Arc<Self>,
        state: &mut State,
        core: &Arc<Core>,
        draft: Draft,
        progress: Progress,
        now: Timestamp,
    ) {
        let tasks = core.tasks.as_ref().filter(|_| matches!(progress, Progress::Storing));
        let (message, answer) = self.number(state, core, draft, now);
        if let Some(tasks) = tasks {
            if !tasks.reserve(message.size()) {
                state.next -= 1;
                return self.refuse(core, answer, PublishError::Busy);
            }
            if let Some(task) = tasks.push(Task::Keep(Keep::new(core, self, &message))) {
                task.disarm();
                state.next -= 1;
                return self.refuse(core, answer, PublishError::Storage("storage is gone".into()));
            }
        }
        state.pending_bytes += message.size();
        state.pending.push_back(Pending { message, answer, progress });
    }

    /// Gives a message its place.
    fn number(&self, state: &mut State, core: &Core, draft: Draft, now: Timestamp) -> (Arc<Message>, Answer) {
        let position = Position { epoch: state.epoch, offset: state.next };
        state.next += 1;
        let to = To::Channel { name: self.name.clone(), position };
        let message = Message::new(core.message_id(), now, draft.sender, to, draft.persistent, draft.body);
        (Arc::new(message), draft.answer)
    }

    /// Storage has kept a message, or could not.
    pub fn settled(
        self: &Arc<Self>,
        core: &Arc<Core>,
        offset: u64,
        result: Result<(), &str>,
        now: Timestamp,
    ) {
        let mut state = self.state.lock();
        // While messages wait, every further one waits behind them: there are no gaps between their offsets.
        let first = state.pending.front().map_or(u64::MAX, |pending| pending.message.offset());
        let index = offset.checked_sub(first).and_then(|index| usize::try_from(index).ok());
        let Some(pending) = index.and_then(|index| state.pending.get_mut(index)) else { return };
        pending.progress = match result {
            Ok(()) => Progress::Ready,
            Err(why) => Progress::Failed(why.to_owned()),
        };
        while let Some(pending) =
            state.pending.pop_front_if(|pending| !matches!(pending.progress, Progress::Storing))
        {
            state.pending_bytes -= pending.message.size();
            if let Progress::Failed(why) = pending.progress {
                state.delivered = pending.message.offset();
                self.refuse(core, pending.answer, PublishError::Storage(why));
            } else {
                self.deliver(&mut state, core, pending.message, pending.answer, now);
            }
        }
        self.set_expiry(&mut state, core, now);
    }

    /// Puts a message in all outboxes, in the history and among the kept ones, and tells its answer.
    fn deliver(
        self: &Arc<Self>,
        state: &mut State,
        core: &Core,
        message: Arc<Message>,
        answer: Answer,
        now: Timestamp,
    ) {
        state.delivered = message.offset();
        let recipients = fan_out(state, core, &message);
        let published = Published {
            message_id: message.id,
            position: state.position(),
            recipients,
            time: message.time,
            repeated: false,
        };
        if message.persistent {
            state.kept.push(Arc::clone(&message), core.kept_bounds());
        }
        if state.rule.history_age > 0 {
            state.history.push(message, core.history_bounds(state.rule));
        } else {
            state.history.begin_after(message.offset());
        }
        core.counters.published.fetch_add(1, Ordering::Relaxed);
        answer.tell(&core.recent, &self.name, Ok(published));
        self.set_expiry(state, core, now);
    }
}

/// Puts a message in the outboxes of who takes it; how many that are.
fn fan_out(state: &mut State, core: &Core, message: &Arc<Message>) -> usize {
    let (rule, limit) = (state.rule, core.settings.outbox_bytes);
    let (mut recipients, mut slow) = (0, 0);
    for (_, subscriber) in &mut state.subscribers {
        if subscriber.is_waiting || !subscriber.takes(&message.body) {
            continue;
        }
        match subscriber.deliver(message, rule, limit) {
            Put::Taken => recipients += 1,
            Put::Overflow => slow += 1,
            Put::Closed => {}
        }
    }
    core.counters.delivered.fetch_add(recipients as u64, Ordering::Relaxed);
    core.counters.slow_consumers.fetch_add(slow, Ordering::Relaxed);
    recipients
}
