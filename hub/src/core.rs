//! The core: what all handles share. It holds the registries of channels, connections and users.
//!
//! Locks are taken in this order, and never the other way: a member's subscriptions, a part of a registry, a channel, and
//! last an outbox, the tasks of storage, the timers, what was asked for lately.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use ahash::RandomState;
use parking_lot::RwLock;
use smallvec::SmallVec;

use crate::answer::Recent;
use crate::channel::{Channel, Phase, State};
use crate::keeper::{Task, TaskQueue};
use crate::member::{Door, Member};
use crate::name::{ChannelName, ConnectionId, Epoch, MessageId, Position, Timestamp};
use crate::outbox::Put;
use crate::settings::{HubSettings, Rule, Rules};
use crate::sharded::Sharded;
use crate::shelf::Bounds;
use crate::timers::Timers;

#[derive(Debug)]
pub(crate) struct Core {
    pub settings: HubSettings,
    rules: RwLock<Rules>,
    seed: u64,
    pub hasher: RandomState,
    numbers: AtomicU64,
    /// The latest time that anybody told.
    now: AtomicU64,
    pub channels: Sharded<ChannelName, Arc<Channel>>,
    channel_count: AtomicUsize,
    pub members: Sharded<ConnectionId, Arc<Member>>,
    pub users: Sharded<Arc<str>, SmallVec<[Arc<Member>; 1]>>,
    pub recent: Recent,
    pub timers: Timers,
    /// What waits for storage, if there is one.
    pub tasks: Option<Arc<TaskQueue>>,
    pub counters: Counters,
    pub history_bytes: AtomicUsize,
    pub kept_bytes: AtomicUsize,
    pub is_draining: AtomicBool,
}

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub connections: [AtomicUsize; Door::COUNT],
    pub subscriptions: AtomicUsize,
    pub published: AtomicU64,
    pub delivered: AtomicU64,
    pub slow_consumers: AtomicU64,
}

impl Counters {
    /// Counts what became of messages for one connection.
    pub fn count(&self, put: Put, messages: usize) {
        match put {
            Put::Taken => drop(self.delivered.fetch_add(messages as u64, Ordering::Relaxed)),
            Put::Overflow => drop(self.slow_consumers.fetch_add(1, Ordering::Relaxed)),
            Put::Closed => {}
        }
    }
}

/// No further channel can be made.
#[derive(Debug)]
pub(crate) struct TooManyChannels;

impl Core {
    pub fn new(settings: HubSettings, seed: u64, tasks: Option<Arc<TaskQueue>>) -> Self {
        let random = |number| spread(seed.wrapping_sub(number));
        let hasher = RandomState::with_seeds(random(1), random(2), random(3), random(4));
        Self {
            rules: RwLock::new(Rules::new(&settings)),
            settings,
            seed,
            numbers: AtomicU64::new(0),
            now: AtomicU64::new(0),
            channels: Sharded::new(hasher.clone()),
            channel_count: AtomicUsize::new(0),
            members: Sharded::new(hasher.clone()),
            users: Sharded::new(hasher.clone()),
            recent: Recent::new(hasher.clone()),
            hasher,
            timers: Timers::default(),
            tasks,
            counters: Counters::default(),
            history_bytes: AtomicUsize::new(0),
            kept_bytes: AtomicUsize::new(0),
            is_draining: AtomicBool::new(false),
        }
    }

    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// The latest time that anybody told: for what happens without being told one.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }

    pub fn set_now(&self, now: Timestamp) {
        self.now.fetch_max(now.0, Ordering::Relaxed);
    }

    /// How long an empty channel is remembered, in milliseconds.
    pub fn linger(&self) -> u64 {
        self.settings.channel_linger_seconds.saturating_mul(1_000)
    }

    /// What the rules say of a channel.
    pub fn rule_of(&self, name: &ChannelName) -> Rule {
        self.rules.read().of(name.as_str())
    }

    pub fn set_rules(&self, settings: &HubSettings) {
        *self.rules.write() = Rules::new(settings);
    }

    pub fn message_id(&self) -> MessageId {
        MessageId(self.number())
    }

    pub fn connection_id(&self) -> ConnectionId {
        ConnectionId(self.number())
    }

    /// A number that was not given before and cannot be guessed from the others without the seed.
    fn number(&self) -> u64 {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        spread(self.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    pub fn kept_bounds(&self) -> Bounds<'_> {
        Bounds {
            messages: self.settings.kept_messages,
            bytes: self.settings.kept_bytes,
            total: &self.kept_bytes,
            total_bytes: self.settings.kept_total_bytes,
            share: self.settings.kept_total_bytes / self.channel_count().max(1),
        }
    }

    /// What the history of a channel with this rule may hold.
    pub fn history_bounds(&self, rule: Rule) -> Bounds<'_> {
        Bounds {
            messages: rule.history_messages,
            bytes: self.settings.history_bytes,
            total: &self.history_bytes,
            total_bytes: self.settings.history_total_bytes,
            share: self.settings.history_total_bytes / self.channel_count().max(1),
        }
    }

    /// Does something in a channel, which is made if there is none.
    pub fn enter<R>(
        &self,
        name: &ChannelName,
        now: Timestamp,
        act: impl FnOnce(&Arc<Channel>, &mut State) -> R,
    ) -> Result<R, TooManyChannels> {
        loop {
            let channel = self.get_or_make(name, now)?;
            let mut state = channel.state.lock();
            // It may have vanished since it was found; the registry then has it no more.
            if !matches!(state.phase, Phase::Gone) {
                return Ok(act(&channel, &mut state));
            }
        }
    }

    pub fn find(&self, name: &ChannelName) -> Option<Arc<Channel>> {
        self.channels.shard(name).get(name).map(Arc::clone)
    }

    fn get_or_make(&self, name: &ChannelName, now: Timestamp) -> Result<Arc<Channel>, TooManyChannels> {
        let mut shard = self.channels.shard(name);
        if let Some(channel) = shard.get(name) {
            return Ok(Arc::clone(channel));
        }
        if self.channel_count.fetch_add(1, Ordering::Relaxed) >= self.settings.max_channels {
            self.channel_count.fetch_sub(1, Ordering::Relaxed);
            return Err(TooManyChannels);
        }
        let position = Position { epoch: Epoch(self.number() as u32), offset: 0 };
        let channel = self.make(name.clone(), position, now);
        shard.insert(name.clone(), Arc::clone(&channel));
        Ok(channel)
    }

    fn make(&self, name: ChannelName, position: Position, now: Timestamp) -> Arc<Channel> {
        let phase = if self.tasks.is_some() { Phase::Unloaded } else { Phase::Ready };
        let rule = self.rule_of(&name);
        let channel = Channel::new(name, rule, phase, position, now);
        channel.set_expiry(&mut channel.state.lock(), self, now);
        channel
    }

    /// Puts a channel of before in its place; `None` if there is one by that name.
    pub fn restore(&self, name: ChannelName, position: Position, now: Timestamp) -> Option<Arc<Channel>> {
        let mut shard = self.channels.shard(&name);
        if shard.contains_key(&name) {
            return None;
        }
        self.channel_count.fetch_add(1, Ordering::Relaxed);
        let channel = self.make(name.clone(), position, now);
        shard.insert(name, Arc::clone(&channel));
        Some(channel)
    }

    /// Does what is due.
    pub fn on_timers(&self, now: Timestamp) {
        while let Some((timer, channel)) = self.timers.pop(now) {
            if channel.on_timer(self, timer, now) {
                self.remove(&channel, now);
            }
        }
    }

    fn remove(&self, channel: &Arc<Channel>, now: Timestamp) {
        let mut shard = self.channels.shard(&channel.name);
        if !channel.vanish(self, now) {
            return;
        }
        shard.remove(&channel.name);
        drop(shard);
        self.channel_count.fetch_sub(1, Ordering::Relaxed);
        if let Some(task) =
            self.tasks.as_ref().and_then(|tasks| tasks.push(Task::Removed(channel.name.clone())))
        {
            task.disarm();
        }
    }

    pub fn channel_count(&self) -> usize {
        self.channel_count.load(Ordering::Relaxed)
    }

    /// Lets a member in, if its door has room.
    pub fn admit(&self, door: Door) -> Result<(), usize> {
        let limit = match door {
            Door::WebSocket => self.settings.max_websocket,
            Door::Sse => self.settings.max_sse,
            Door::Grpc => self.settings.max_grpc,
        };
        let count = &self.counters.connections[door as usize];
        let before = count.fetch_add(1, Ordering::AcqRel);
        match limit {
            Some(limit) if before >= limit => {
                count.fetch_sub(1, Ordering::AcqRel);
                Err(limit)
            }
            _ => Ok(()),
        }
    }

    pub fn register(&self, member: &Arc<Member>) {
        self.members.shard(&member.id).insert(member.id, Arc::clone(member));
        if let Some(user) = &member.sender().user_id {
            self.users.shard(&**user).entry(Arc::clone(user)).or_default().push(Arc::clone(member));
        }
    }

    pub fn unregister(&self, member: &Arc<Member>) {
        self.members.shard(&member.id).remove(&member.id);
        if let Some(user) = &member.sender().user_id {
            let mut shard = self.users.shard(&**user);
            if let Some(members) = shard.get_mut(user) {
                members.retain(|other| !Arc::ptr_eq(other, member));
                if members.is_empty() {
                    shard.remove(user);
                }
            }
        }
        self.counters.connections[member.door as usize].fetch_sub(1, Ordering::AcqRel);
    }

    /// All connections of a user.
    pub fn members_of(&self, user_id: &str) -> SmallVec<[Arc<Member>; 1]> {
        self.users.shard(user_id).get(user_id).cloned().unwrap_or_default()
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Some(tasks) = &self.tasks {
            tasks.close();
        }
    }
}

/// Spreads numbers over all 64 bits, each to another one (the finaliser of SplitMix64).
fn spread(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
