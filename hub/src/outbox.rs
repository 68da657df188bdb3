//! Outboxes: what waits for one connection, bounded in bytes. Many put something in, one takes it out.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use crate::error::{PublishError, SubscribeError};
use crate::hub::{PresenceList, Published};
use crate::member::Member;
use crate::message::Message;
use crate::name::{ChannelName, Position};

/// What a request was called by its client, as JSON text; its answer has it again.
pub type Tag = Option<Box<str>>;

/// What an item takes that is not a message, about, in bytes.
const SMALL: usize = 128;

/// An emptied queue that could hold more items than this gives its memory back.
const KEEP_CAPACITY: usize = 64;

/// What waits for one connection. Whoever has it writes it to the client.
///
/// Dropping it makes everything that comes later be thrown away.
#[derive(Debug)]
pub struct Outbox {
    member: Arc<Member>,
}

/// Something for the client, in order.
#[derive(Clone, Debug)]
pub enum Item {
    /// A message.
    Message(Arc<Message>),
    /// A subscription begins: what comes of the channel comes after this.
    Subscribed(Box<Subscribed>),
    /// A subscription that had to wait for storage has failed.
    NotSubscribed(Box<(Tag, ChannelName, SubscribeError)>),
    /// The server has ended a subscription.
    Unsubscribed(Box<ChannelName>),
    /// A message of this connection is published, or is not.
    Published(Box<(Tag, ChannelName, Result<Published, PublishError>)>),
    /// An answer of the door itself, encoded.
    Answer(Box<Bytes>),
    /// The last item: the connection is to be closed.
    Disconnect(Box<Disconnect>),
}

/// How a subscription begins.
#[derive(Clone, Debug)]
pub struct Subscribed {
    /// What the request was called.
    pub tag: Tag,
    /// The channel.
    pub channel: ChannelName,
    /// The newest message before the subscription.
    pub position: Position,
    /// Whether all that was missed since the position that the client told follows; `None` if it told none.
    pub recovered: Option<bool>,
    /// How many missed messages follow at once.
    pub missed: usize,
    /// How many kept messages follow at once.
    pub kept: usize,
    /// Who is there, if that was asked for.
    pub presence: Option<PresenceList>,
}

/// Why the server ends a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// More waited for it than may wait. What waited is gone.
    SlowConsumer,
    /// The server stops; the client should come back.
    Stopping,
    /// Its token has expired; with another one the client may come back.
    Expired,
    /// Somebody removed it, and says why.
    Removed(Box<str>),
}

impl Disconnect {
    /// The word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::SlowConsumer => "slow_consumer",
            Self::Stopping => "stopping",
            Self::Expired => "token_expired",
            Self::Removed(_) => "removed",
        }
    }

    /// Whether the client should come back by itself.
    pub fn reconnect(&self) -> bool {
        matches!(self, Self::SlowConsumer | Self::Stopping)
    }
}

impl Item {
    fn size(&self) -> usize {
        match self {
            Self::Message(message) => message.size(),
            Self::Answer(bytes) => bytes.len() + SMALL,
            Self::Subscribed(subscribed) => {
                SMALL + subscribed.presence.as_ref().map_or(0, |presence| presence.entries.len() * SMALL)
            }
            Self::NotSubscribed(_) | Self::Unsubscribed(_) | Self::Published(_) | Self::Disconnect(_) => {
                SMALL
            }
        }
    }
}

impl Outbox {
    pub(crate) fn new(member: Arc<Member>) -> Self {
        Self { member }
    }

    /// The next item; `None` when the connection was dropped and nothing more waits.
    pub async fn next(&mut self) -> Option<Item> {
        poll_fn(|cx| {
            let mut queue = self.member.queue.lock();
            match queue.pop() {
                Some(item) => Poll::Ready(Some(item)),
                None if queue.state == State::Ended => Poll::Ready(None),
                None => queue.wait(cx),
            }
        })
        .await
    }

    /// The next item, if one waits.
    pub fn try_next(&mut self) -> Option<Item> {
        self.member.queue.lock().pop()
    }

    /// Waits until something is there. It may also be the end.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.member.queue.lock();
        if queue.items.is_empty() && queue.state != State::Ended { queue.wait(cx) } else { Poll::Ready(()) }
    }

    /// Waits until something is there and moves items to `into` until they have `max_bytes` or nothing waits any more.
    /// `false` when the connection was dropped and nothing waits.
    pub async fn drain(&mut self, into: &mut Vec<Item>, max_bytes: usize) -> bool {
        poll_fn(|cx| {
            let mut queue = self.member.queue.lock();
            if queue.items.is_empty() {
                return if queue.state == State::Ended { Poll::Ready(false) } else { queue.wait(cx) };
            }
            let mut taken = 0;
            while taken < max_bytes
                && let Some(item) = queue.pop()
            {
                taken += item.size();
                into.push(item);
            }
            Poll::Ready(true)
        })
        .await
    }

    /// Like [`Outbox::drain`], of what waits now; returns how many items were moved.
    pub fn try_drain(&mut self, into: &mut Vec<Item>, max_bytes: usize) -> usize {
        let mut queue = self.member.queue.lock();
        let (mut taken, before) = (0, into.len());
        while taken < max_bytes
            && let Some(item) = queue.pop()
        {
            taken += item.size();
            into.push(item);
        }
        into.len() - before
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let mut queue = self.member.queue.lock();
        queue.close();
        let items = mem::take(&mut queue.items);
        let room = queue.room.take();
        drop(queue);
        drop(items);
        if let Some((room, _)) = room {
            room.wake();
        }
    }
}

/// What became of an item that was put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Taken,
    /// It was too much: the connection is told and closed.
    Overflow,
    /// The connection is being closed already.
    Closed,
}

/// The queue of an outbox.
#[derive(Debug)]
pub(crate) struct Queue {
    items: VecDeque<Item>,
    /// What the items take.
    bytes: usize,
    /// How many of these bytes are kept or missed messages, at most.
    backlog: usize,
    /// How many items were ever taken out.
    popped: u64,
    state: State,
    /// The reader, while it waits.
    reader: Option<Waker>,
    /// Who waits until no more than so many bytes wait.
    room: Option<(Waker, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing more comes in; what is there still goes out.
    Closed,
    /// The connection was dropped.
    Ended,
}

/// A place in a queue where nothing was put yet.
pub(crate) const NOWHERE: u64 = u64::MAX;

impl Queue {
    pub fn new() -> Mutex<Self> {
        Mutex::new(Self {
            items: VecDeque::new(),
            bytes: 0,
            backlog: 0,
            popped: 0,
            state: State::Open,
            reader: None,
            room: None,
        })
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_closed(&self) -> bool {
        self.state != State::Open
    }

    /// Puts an item in if the queue with it is within `limit`, or empty without it.
    fn put(&mut self, item: Item, size: usize, limit: usize) -> Put {
        if self.state != State::Open {
            return Put::Closed;
        }
        if self.bytes + size > limit + self.backlog && !self.items.is_empty() {
            return Put::Overflow;
        }
        self.bytes += size;
        self.items.push_back(item);
        Put::Taken
    }

    /// Puts a message in the place of one that waits since `place`, or at the end; `place` is then where it is.
    fn put_latest(&mut self, message: &Arc<Message>, limit: usize, place: &mut u64) -> Put {
        let waiting = (*place != NOWHERE).then(|| place.checked_sub(self.popped)).flatten();
        if let Some(old) = waiting.and_then(|index| self.items.get_mut(index as usize)) {
            let bytes = self.bytes - old.size() + message.size();
            if bytes > limit + self.backlog && bytes > message.size() {
                return Put::Overflow;
            }
            self.bytes = bytes;
            *old = Item::Message(Arc::clone(message));
            return Put::Taken;
        }
        let put = self.put(Item::Message(Arc::clone(message)), message.size(), limit);
        if put == Put::Taken {
            *place = self.popped + self.items.len() as u64 - 1;
        }
        put
    }

    fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.popped += 1;
        self.bytes -= item.size();
        self.backlog = self.backlog.min(self.bytes);
        if self.items.is_empty() && self.items.capacity() > KEEP_CAPACITY {
            self.items = VecDeque::new();
        }
        if let Some((room, _)) = self.room.take_if(|(_, enough)| self.bytes <= *enough) {
            room.wake();
        }
        Some(item)
    }

    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        if !self.reader.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.reader = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    pub fn poll_room(&mut self, enough: usize, cx: &Context<'_>) -> Poll<()> {
        if self.bytes <= enough || self.state != State::Open {
            return Poll::Ready(());
        }
        self.room = Some((cx.waker().clone(), enough));
        Poll::Pending
    }

    fn close(&mut self) {
        if self.state == State::Open {
            self.state = State::Closed;
        }
    }
}

/// Putting things in, for all who have the member.
impl Member {
    /// A message that is there now; `false` if the member does not get it.
    pub fn deliver(&self, message: &Arc<Message>, limit: usize) -> Put {
        let mut queue = self.queue.lock();
        if queue.state != State::Open {
            return Put::Closed;
        }
        let put = queue.put(Item::Message(Arc::clone(message)), message.size(), limit);
        finish(queue, put)
    }

    /// A message beside which no older one of its channel may wait.
    pub fn deliver_latest(&self, message: &Arc<Message>, limit: usize, place: &mut u64) -> Put {
        let mut queue = self.queue.lock();
        if queue.state != State::Open {
            return Put::Closed;
        }
        let put = queue.put_latest(message, limit, place);
        finish(queue, put)
    }

    /// Anything else.
    pub fn put(&self, item: Item, limit: usize) -> Put {
        let mut queue = self.queue.lock();
        let size = item.size();
        let put = queue.put(item, size, limit);
        finish(queue, put)
    }

    /// The beginning of a subscription with the messages that belong to it, at once.
    pub fn put_backlog(&self, first: Item, messages: &[Arc<Message>], limit: usize, backlog: usize) -> Put {
        let mut queue = self.queue.lock();
        let size = first.size();
        let mut put = queue.put(first, size, limit);
        let more: usize = messages.iter().map(|message| message.size()).sum();
        if put == Put::Taken && queue.backlog + more > backlog {
            put = Put::Overflow;
        }
        if put == Put::Taken {
            queue.bytes += more;
            queue.backlog += more;
            queue.items.extend(messages.iter().map(|message| Item::Message(Arc::clone(message))));
        }
        finish(queue, put)
    }

    /// The last item, after all that waits already.
    pub fn disconnect(&self, reason: Disconnect) -> bool {
        let mut queue = self.queue.lock();
        if queue.state != State::Open {
            return false;
        }
        queue.put_last(reason);
        finish(queue, Put::Taken);
        true
    }

    /// The connection is gone: its reader is told when it has taken what waits.
    pub fn end(&self) {
        let mut queue = self.queue.lock();
        queue.state = State::Ended;
        finish(queue, Put::Taken);
    }
}

/// Ends what is done to a queue: makes good an overflow, and wakes who waits, without the lock.
fn finish(mut queue: MutexGuard<'_, Queue>, put: Put) -> Put {
    let mut gone = VecDeque::new();
    if put == Put::Overflow {
        gone = mem::take(&mut queue.items);
        queue.bytes = 0;
        queue.backlog = 0;
        queue.put_last(Disconnect::SlowConsumer);
    }
    let reader = queue.reader.take();
    let room = if queue.state == State::Open { None } else { queue.room.take() };
    drop(queue);
    drop(gone);
    if let Some(reader) = reader {
        reader.wake();
    }
    if let Some((room, _)) = room {
        room.wake();
    }
    put
}

impl Queue {
    fn put_last(&mut self, reason: Disconnect) {
        let item = Item::Disconnect(Box::new(reason));
        self.bytes += item.size();
        self.items.push_back(item);
        self.state = State::Closed;
    }
}
