//! The hub: the handle that doors and the server have.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;
use tokio::sync::oneshot;

use crate::answer::{Answer, Asker, Once, Receipt};
use crate::channel::Channel;
use crate::connection::Connection;
use crate::core::{Core, TooManyChannels};
use crate::error::{ConnectError, PublishError, SendError};
use crate::keeper::{Keeper, TaskQueue};
use crate::member::{Door, Member, Who};
use crate::message::{Body, Message, PresenceEntry, Sender, To};
use crate::name::{ChannelName, ConnectionId, Epoch, MessageId, Position, Timestamp};
use crate::outbox::{Disconnect, Item, Outbox, Put};
use crate::publishing::Draft;
use crate::settings::HubSettings;

/// After how many milliseconds at the latest [`Hub::tick`] wants to be called again.
const TICK: u64 = 100;

/// A handle to the hub; all clones are the same hub.
#[derive(Clone, Debug)]
pub struct Hub {
    pub(crate) core: Arc<Core>,
}

/// A message for a channel.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Where it goes.
    pub channel: ChannelName,
    /// What it says.
    pub body: Body,
    /// Who says it; a connection that publishes fills it in.
    pub sender: Option<Arc<Sender>>,
    /// Whether it is kept for new subscribers. Then it is delivered and acknowledged when it is on disk.
    pub persistent: bool,
    /// Makes a repetition harmless.
    pub once: Option<Once>,
}

impl Publication {
    /// A message without sender that is not kept.
    pub fn new(channel: ChannelName, body: Body) -> Self {
        Self { channel, body, sender: None, persistent: false, once: None }
    }
}

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// What it is called.
    pub message_id: MessageId,
    /// Its place in its channel.
    pub position: Position,
    /// In how many outboxes it was put.
    pub recipients: usize,
    /// When the hub took it.
    pub time: Timestamp,
    /// Whether this is the answer to an earlier publication with the same idempotency key.
    pub repeated: bool,
}

/// A message that is for no channel.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Whom it is for.
    pub to: Recipient,
    /// What it says.
    pub body: Body,
    /// Who says it; a connection that sends fills it in.
    pub sender: Option<Arc<Sender>>,
    /// A connection that does not get it.
    pub except: Option<ConnectionId>,
    /// Of a letter to a user: connections that are subscribed to this channel get it only if their filters there take it.
    pub filtered_as: Option<ChannelName>,
    /// Makes a repetition harmless.
    pub once: Option<Once>,
}

/// Whom a letter is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Recipient {
    /// All connections of a user.
    User(Arc<str>),
    /// One connection.
    Connection(ConnectionId),
    /// All connections.
    Everybody,
}

impl Letter {
    /// A letter without sender.
    pub fn new(to: Recipient, body: Body) -> Self {
        Self { to, body, sender: None, except: None, filtered_as: None, once: None }
    }
}

/// What became of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// What it is called.
    pub message_id: MessageId,
    /// In how many outboxes it was put.
    pub recipients: usize,
    /// When the hub took it.
    pub time: Timestamp,
    /// Whether this is the answer to an earlier letter with the same idempotency key.
    pub repeated: bool,
}

/// Which messages of a channel's history are wanted.
#[derive(Clone, Copy, Debug)]
pub struct HistoryQuery {
    /// Those after this offset, the oldest first; without it the newest ones.
    pub since: Option<u64>,
    /// The epoch of that offset. In another one the newest messages are given, and `complete` is `false`.
    pub epoch: Option<Epoch>,
    /// At most so many.
    pub limit: usize,
}

/// Messages of a channel's history, in order.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The channel's newest message; `None` if there is no such channel.
    pub position: Option<Position>,
    /// The messages.
    pub messages: Vec<Arc<Message>>,
    /// Whether, but for the limit, nothing after `since` is missing.
    pub complete: bool,
}

/// Who is in a channel.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PresenceList {
    /// The first of them, as many as the settings say.
    pub entries: Vec<PresenceEntry>,
    /// How many there are.
    pub total: usize,
}

/// A channel, as administrators see it.
#[derive(Clone, Debug)]
pub struct ChannelInfo {
    /// Its name.
    pub name: ChannelName,
    /// How many connections are subscribed.
    pub subscribers: usize,
    /// Its newest message.
    pub position: Position,
    /// How many messages its history has.
    pub history: usize,
}

/// A connection, as administrators see it.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// What it is called.
    pub connection_id: ConnectionId,
    /// Whose it is.
    pub user_id: Option<Arc<str>>,
    /// What they are called.
    pub name: Arc<str>,
    /// Where it came in.
    pub door: Door,
    /// When.
    pub since: Timestamp,
    /// To how many channels it is subscribed.
    pub channels: usize,
    /// What waits in its outbox, in bytes.
    pub waiting_bytes: usize,
}

/// Counters and present numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// WebSocket connections now.
    pub websocket: usize,
    /// SSE connections now.
    pub sse: usize,
    /// gRPC subscriptions now.
    pub grpc: usize,
    /// Channels now.
    pub channels: usize,
    /// Subscriptions now.
    pub subscriptions: usize,
    /// Messages published in channels since the start.
    pub published: u64,
    /// Messages put in outboxes since the start.
    pub delivered: u64,
    /// Connections that were closed since they did not read, since the start.
    pub slow_consumers: u64,
    /// What the histories take in memory now, in bytes.
    pub history_bytes: usize,
    /// What kept messages take in memory now, in bytes.
    pub kept_bytes: usize,
    /// Messages that wait for storage now.
    pub uncommitted: usize,
}

impl Hub {
    /// A hub from which nothing outlives the process: persistent messages are only in memory. From the same seed come the
    /// same ids, so it has to be random and secret except in tests.
    pub fn new(settings: HubSettings, seed: u64) -> Self {
        Self { core: Arc::new(Core::new(settings, seed, None)) }
    }

    /// A hub that gives persistent messages to storage.
    pub fn with_storage(settings: HubSettings, seed: u64) -> (Self, Keeper) {
        let tasks = Arc::new(TaskQueue::new(settings.uncommitted_messages, settings.uncommitted_bytes));
        let core = Arc::new(Core::new(settings, seed, Some(Arc::clone(&tasks))));
        (Self { core }, Keeper::new(tasks))
    }

    /// Lets a client in.
    pub fn connect(&self, who: Who, now: Timestamp) -> Result<(Connection, Outbox), ConnectError> {
        let core = &self.core;
        core.set_now(now);
        if core.is_draining() {
            return Err(ConnectError::Draining);
        }
        core.admit(who.door).map_err(|limit| ConnectError::TooMany { limit })?;
        let member = Arc::new(Member::new(core.connection_id(), who, now));
        core.register(&member);
        if core.is_draining() {
            // It came while everybody was told: it may not have been among them.
            member.disconnect(Disconnect::Stopping);
        }
        Ok((Connection::new(self.clone(), Arc::clone(&member)), Outbox::new(member)))
    }

    /// Takes the rules of channels and the bounds of histories by number and age from other settings, for all channels that
    /// there are and will be. Nothing else of the settings changes.
    pub fn set_rules(&self, settings: &HubSettings, now: Timestamp) {
        // First of all: a channel that is made meanwhile has the new ones, or is found below.
        self.core.set_rules(settings);
        for channel in self.all_channels("") {
            channel.set_rule(&self.core, self.core.rule_of(&channel.name), now);
        }
    }

    /// Publishes in a channel. What becomes of it is known at once, but for persistent messages, and those that come behind
    /// them in the channel.
    pub fn publish(&self, publication: Publication, now: Timestamp) -> Result<Receipt, PublishError> {
        let (asker, receipt) = oneshot::channel();
        self.publish_for(Asker::Receipt(asker), publication, now)?;
        Ok(Receipt(receipt))
    }

    pub(crate) fn publish_for(
        &self,
        asker: Asker,
        publication: Publication,
        now: Timestamp,
    ) -> Result<(), PublishError> {
        let core = &self.core;
        let Publication { channel: name, body, sender, persistent, once } = publication;
        if core.is_draining() {
            return Err(PublishError::Draining);
        }
        let (size, limit) = (body.size(), core.settings.max_message_bytes);
        if size > limit {
            return Err(PublishError::TooLarge { size, limit });
        }
        let answer = match once {
            None => Answer { asker, claim: None },
            Some(once) => {
                let fingerprint = self.fingerprint(&(name.as_str(), persistent), &body);
                match core.recent.claim(&once, fingerprint, &name, asker, now)? {
                    Some(answer) => answer,
                    None => return Ok(()),
                }
            }
        };
        let mut draft = Some(Draft { body, sender, persistent, answer });
        let entered = core.enter(&name, now, |channel, state| {
            if let Some(draft) = draft.take() {
                channel.publish(state, core, draft, now);
            }
        });
        if let (Err(TooManyChannels), Some(draft)) = (entered, draft) {
            let limit = core.settings.max_channels;
            draft.answer.tell(&core.recent, &name, Err(PublishError::TooManyChannels { limit }));
        }
        Ok(())
    }

    /// Sends to a user, a connection or everybody. It has no place in any channel, and who is not connected never gets it.
    pub fn send(&self, letter: Letter, now: Timestamp) -> Result<Sent, SendError> {
        if self.core.is_draining() {
            return Err(SendError::Draining);
        }
        let (size, limit) = (letter.body.size(), self.core.settings.max_message_bytes);
        if size > limit {
            return Err(SendError::TooLarge { size, limit });
        }
        match letter.once.clone() {
            None => self.send_now(letter, now),
            Some(once) => {
                let fingerprint = self.fingerprint(&letter.to, &letter.body);
                self.core.recent.send(&once, fingerprint, now, || self.send_now(letter, now))
            }
        }
    }

    fn send_now(&self, letter: Letter, now: Timestamp) -> Result<Sent, SendError> {
        let core = &self.core;
        let Letter { to, body, sender, except, filtered_as, .. } = letter;
        let message_id = core.message_id();
        let message = |to| Arc::new(Message::new(message_id, now, sender, to, false, body));
        let wanted = |member: &&Arc<Member>| Some(member.id) != except;
        let recipients = match to {
            Recipient::User(user_id) => {
                let members = core.members_of(&user_id);
                let message = message(To::User(user_id));
                let takes = |member: &&Arc<Member>| {
                    filtered_as.as_ref().is_none_or(|channel| member.takes(channel, &message.body))
                };
                match members
                    .iter()
                    .filter(wanted)
                    .filter(takes)
                    .filter(|member| self.deliver(member, &message))
                    .count()
                {
                    0 => return Err(SendError::NoSuchUser),
                    recipients => recipients,
                }
            }
            Recipient::Connection(id) => {
                let member = core.members.shard(&id).get(&id).map(Arc::clone);
                let member = member.ok_or(SendError::NoSuchConnection)?;
                if !self.deliver(&member, &message(To::Connection(id))) {
                    return Err(SendError::NoSuchConnection);
                }
                1
            }
            Recipient::Everybody => {
                let message = message(To::Everybody);
                let of_shard = |shard: &mut dyn Iterator<Item = &Arc<Member>>| {
                    shard.filter(wanted).filter(|member| self.deliver(member, &message)).count()
                };
                core.members.shards().map(|shard| of_shard(&mut shard.values())).sum()
            }
        };
        Ok(Sent { message_id, recipients, time: now, repeated: false })
    }

    fn deliver(&self, member: &Member, message: &Arc<Message>) -> bool {
        let put = member.deliver(message, self.core.settings.outbox_bytes);
        self.core.counters.count(put, 1);
        put == Put::Taken
    }

    /// Tells a request from another one with the same idempotency key.
    fn fingerprint(&self, to: &impl Hash, body: &Body) -> u64 {
        let mut hasher = self.core.hasher.build_hasher();
        to.hash(&mut hasher);
        body.fingerprint(&mut hasher);
        hasher.finish()
    }

    /// Messages of a channel's history.
    pub fn history(&self, channel: &ChannelName, query: HistoryQuery, now: Timestamp) -> History {
        let found = self.core.find(channel);
        found.map(|channel| channel.history(&self.core, query, now)).unwrap_or_default()
    }

    /// Who is in a channel; nobody, where a rule says that this is not told.
    pub fn presence(&self, channel: &ChannelName) -> PresenceList {
        let bound = self.core.settings.presence_entries;
        let Some(channel) = self.core.find(channel) else { return PresenceList::default() };
        let state = channel.state.lock();
        if state.rule.presence { state.presence(bound) } else { PresenceList::default() }
    }

    /// Channels whose names begin with `prefix`, in the order of their names, at most `limit`.
    pub fn channels(&self, prefix: &str, limit: usize) -> Vec<ChannelInfo> {
        let mut found = self.all_channels(prefix);
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        found.truncate(limit);
        let info = |channel: &Arc<Channel>| {
            let state = channel.state.lock();
            ChannelInfo {
                name: channel.name.clone(),
                subscribers: state.subscribers.len(),
                position: state.position(),
                history: state.history.len(),
            }
        };
        found.iter().map(info).collect()
    }

    pub(crate) fn all_channels(&self, prefix: &str) -> Vec<Arc<Channel>> {
        let mut found = Vec::new();
        for shard in self.core.channels.shards() {
            found.extend(shard.values().filter(|channel| channel.name.as_str().starts_with(prefix)).cloned());
        }
        found
    }

    /// Connections, the oldest first, at most `limit`.
    pub fn connections(&self, limit: usize) -> Vec<ConnectionInfo> {
        let mut members: Vec<Arc<Member>> = Vec::new();
        for shard in self.core.members.shards() {
            members.extend(shard.values().cloned());
        }
        members.sort_unstable_by_key(|member| (member.since, member.id));
        members.truncate(limit);
        let info = |member: &Arc<Member>| {
            let sender = member.sender();
            ConnectionInfo {
                connection_id: member.id,
                user_id: sender.user_id.clone(),
                name: Arc::clone(&sender.name),
                door: member.door,
                since: member.since,
                channels: member.subscriptions.lock().len(),
                waiting_bytes: member.queue.lock().bytes(),
            }
        };
        members.iter().map(info).collect()
    }

    /// The connections of a user.
    pub fn find_connections(&self, user_id: &str) -> Vec<ConnectionId> {
        self.core.members_of(user_id).iter().map(|member| member.id).collect()
    }

    /// Whose a connection is; `None`: nobody's known, or there is no such connection.
    pub fn user_of(&self, id: ConnectionId) -> Option<Arc<str>> {
        self.core.members.shard(&id).get(&id).and_then(|member| member.sender().user_id.clone())
    }

    /// Counters and present numbers.
    pub fn stats(&self) -> Stats {
        let core = &self.core;
        let door = |door: Door| core.counters.connections[door as usize].load(Ordering::Relaxed);
        Stats {
            websocket: door(Door::WebSocket),
            sse: door(Door::Sse),
            grpc: door(Door::Grpc),
            channels: core.channel_count(),
            subscriptions: core.counters.subscriptions.load(Ordering::Relaxed),
            published: core.counters.published.load(Ordering::Relaxed),
            delivered: core.counters.delivered.load(Ordering::Relaxed),
            slow_consumers: core.counters.slow_consumers.load(Ordering::Relaxed),
            history_bytes: core.history_bytes.load(Ordering::Relaxed),
            kept_bytes: core.kept_bytes.load(Ordering::Relaxed),
            uncommitted: core.tasks.as_ref().map_or(0, |tasks| tasks.uncommitted()),
        }
    }

    /// Ends a connection after what already waits for it; `false` if there is none, or it is being closed.
    pub fn disconnect(&self, id: ConnectionId, reason: Disconnect) -> bool {
        let member = self.core.members.shard(&id).get(&id).map(Arc::clone);
        member.is_some_and(|member| member.disconnect(reason))
    }

    /// Ends all connections of a user after what already waits for them; how many.
    pub fn disconnect_user(&self, user_id: &str, reason: &Disconnect) -> usize {
        self.core.members_of(user_id).iter().filter(|member| member.disconnect(reason.clone())).count()
    }

    /// Ends a user's subscriptions to a channel. They are told by [`Item::Unsubscribed`]; how many.
    pub fn unsubscribe_user(&self, user_id: &str, channel: &ChannelName, now: Timestamp) -> usize {
        let members = self.core.members_of(user_id);
        members.iter().filter(|member| self.end_subscription(member, channel, now)).count()
    }

    /// Ends a connection's subscription to a channel. It is told by [`Item::Unsubscribed`]; `false` if there was none.
    pub fn unsubscribe_connection(&self, id: ConnectionId, channel: &ChannelName, now: Timestamp) -> bool {
        let member = self.core.members.shard(&id).get(&id).map(Arc::clone);
        member.is_some_and(|member| self.end_subscription(&member, channel, now))
    }

    /// Ends the subscriptions to a channel of everybody but those whom `stays` names, by user and connection. They are told by
    /// [`Item::Unsubscribed`]; how many.
    pub fn unsubscribe_others(
        &self,
        channel: &ChannelName,
        stays: impl Fn(Option<&str>, ConnectionId) -> bool,
        now: Timestamp,
    ) -> usize {
        let Some(found) = self.core.find(channel) else { return 0 };
        let others: Vec<_> = {
            let state = found.state.lock();
            let members = state.subscribers.iter().map(|(_, subscriber)| &subscriber.member);
            members.filter(|m| !stays(m.sender().user_id.as_deref(), m.id)).map(Arc::clone).collect()
        };
        others.iter().filter(|member| self.end_subscription(member, channel, now)).count()
    }

    fn end_subscription(&self, member: &Arc<Member>, channel: &ChannelName, now: Timestamp) -> bool {
        let was_subscribed = self.unsubscribe(member, channel, now);
        if was_subscribed {
            member.put(Item::Unsubscribed(Box::new(channel.clone())), self.core.settings.outbox_bytes);
        }
        was_subscribed
    }

    pub(crate) fn unsubscribe(&self, member: &Arc<Member>, channel: &ChannelName, now: Timestamp) -> bool {
        let mut subscriptions = member.subscriptions.lock();
        let Some(index) = Member::find(&subscriptions, channel) else { return false };
        let subscription = subscriptions.swap_remove(index);
        subscription.channel.leave(&self.core, subscription.key, member, now);
        true
    }

    /// Does what is due, and says when it wants to be called next; earlier calls do no harm.
    pub fn tick(&self, now: Timestamp) -> Timestamp {
        self.core.set_now(now);
        self.core.on_timers(now);
        let latest = now.after(TICK);
        self.core.timers.next().map_or(latest, |next| next.clamp(now.after(1), latest))
    }

    /// Tells everybody that the connection ends; from then on nobody is let in and nothing is published. What waits for
    /// storage is still stored and delivered.
    pub fn drain(&self, reason: &Disconnect) {
        self.core.is_draining.store(true, Ordering::Release);
        for shard in self.core.members.shards() {
            for member in shard.values() {
                member.disconnect(reason.clone());
            }
        }
    }
}
