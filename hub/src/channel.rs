//! A channel: who is subscribed, what is in its history, and when it comes and goes. What is published is in `publishing.rs`.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use slab::Slab;

use crate::answer::Answer;
use crate::core::Core;
use crate::error::{PublishError, SubscribeError};
use crate::filters::Filters;
use crate::hub::{History, HistoryQuery, PresenceList};
use crate::keeper::{Load, Task};
use crate::member::Member;
use crate::message::{Body, Message, To};
use crate::name::{ChannelName, Epoch, Position, Timestamp};
use crate::outbox::{Item, NOWHERE, Put, Subscribed, Tag};
use crate::publishing::{Draft, Pending};
use crate::settings::Rule;
use crate::shelf::Shelf;
use crate::timers::Timer;
use crate::window::{WINDOW, Window};

/// How many requests may wait until a channel is read from storage; further ones are refused as busy.
const MAX_EARLY: usize = 4_096;

/// How often at most a channel's history is looked through for what is too old, in milliseconds.
const EXPIRY_STEP: u64 = 1_000;

/// A channel.
#[derive(Debug)]
pub(crate) struct Channel {
    pub name: ChannelName,
    pub state: Mutex<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub rule: Rule,
    pub phase: Phase,
    pub epoch: Epoch,
    /// The offset of the next message that is published.
    pub next: u64,
    /// The newest offset that was delivered. What is between waits for storage, or behind what waits.
    pub delivered: u64,
    pub pending: VecDeque<Pending>,
    pub pending_bytes: usize,
    pub subscribers: Slab<Subscriber>,
    /// How many subscribers want to know who is there.
    watchers: usize,
    pub history: Shelf,
    pub kept: Shelf,
    /// Who came and left lately; its timer is set while it is there.
    window: Option<Window>,
    /// When the timer comes for what gets old; one that comes before was set for something else.
    expiry_at: Option<Timestamp>,
    /// Since when nobody is subscribed.
    idle_since: Timestamp,
}

/// Whether the channel knows what storage has of it.
#[derive(Debug)]
pub(crate) enum Phase {
    /// It does not, and nobody has asked yet.
    Unloaded,
    /// Storage is asked; meanwhile requests wait here.
    Loading(Vec<Early>),
    Ready,
    /// It has vanished: whoever finds it so looks for its name again.
    Gone,
}

/// A request that waits until the channel is read from storage.
#[derive(Debug)]
pub(crate) enum Early {
    Publish(Draft),
    Subscribe { key: usize, start: Start },
}

/// A connection's subscription, as the channel holds it.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub member: Arc<Member>,
    pub filters: Option<Box<Filters>>,
    /// In channels of which only the newest message waits: where that is in the outbox.
    pub place: u64,
    since: Timestamp,
    wants_presence: bool,
    /// Not yet: the channel is being read from storage.
    pub is_waiting: bool,
}

/// How a subscription is to begin.
#[derive(Debug)]
pub(crate) struct Start {
    pub tag: Tag,
    pub recover: Option<Position>,
    pub kept: bool,
    pub presence: bool,
}

impl Channel {
    pub fn new(name: ChannelName, rule: Rule, phase: Phase, position: Position, now: Timestamp) -> Arc<Self> {
        let mut history = Shelf::default();
        history.begin_after(position.offset);
        let state = State {
            rule,
            phase,
            epoch: position.epoch,
            next: position.offset + 1,
            delivered: position.offset,
            pending: VecDeque::new(),
            pending_bytes: 0,
            subscribers: Slab::new(),
            watchers: 0,
            history,
            kept: Shelf::default(),
            window: None,
            expiry_at: None,
            idle_since: now,
        };
        Arc::new(Self { name, state: Mutex::new(state) })
    }

    /// Begins a subscription; gives its place. What it begins with comes through the outbox, maybe later.
    pub fn subscribe(
        self: &Arc<Self>,
        state: &mut State,
        core: &Arc<Core>,
        member: &Arc<Member>,
        filters: Option<Filters>,
        start: Start,
        now: Timestamp,
    ) -> Result<u32, SubscribeError> {
        state.is_room_for_early()?;
        let subscriber = Subscriber {
            member: Arc::clone(member),
            filters: boxed(filters),
            place: NOWHERE,
            since: now,
            wants_presence: start.presence,
            is_waiting: true,
        };
        state.watchers += usize::from(start.presence);
        let key = state.subscribers.insert(subscriber);
        core.counters.subscriptions.fetch_add(1, Ordering::Relaxed);
        self.begin(state, core, key, start, now);
        Ok(key as u32)
    }

    /// Subscribed again: other filters from now on, and the answer as at first.
    pub fn subscribe_again(
        self: &Arc<Self>,
        state: &mut State,
        core: &Arc<Core>,
        key: u32,
        filters: Option<Filters>,
        start: Start,
        now: Timestamp,
    ) -> Result<(), SubscribeError> {
        state.is_room_for_early()?;
        let subscriber = &mut state.subscribers[key as usize];
        subscriber.filters = boxed(filters);
        let wanted_presence = mem::replace(&mut subscriber.wants_presence, start.presence);
        state.watchers = state.watchers + usize::from(start.presence) - usize::from(wanted_presence);
        self.begin(state, core, key as usize, start, now);
        Ok(())
    }

    fn begin(
        self: &Arc<Self>,
        state: &mut State,
        core: &Arc<Core>,
        key: usize,
        start: Start,
        now: Timestamp,
    ) {
        if self.is_ready(state, core) {
            self.admit(state, core, key, start, now);
        } else if let Phase::Loading(early) = &mut state.phase {
            early.push(Early::Subscribe { key, start });
        }
    }

    /// Whether requests are done at once. If not, they are to wait in the phase, and storage is being asked.
    pub fn is_ready(self: &Arc<Self>, state: &mut State, core: &Arc<Core>) -> bool {
        if matches!(state.phase, Phase::Unloaded) {
            state.phase = Phase::Loading(Vec::new());
            let task = Task::Load(Load::new(core, self));
            if let Some(task) = core.tasks.as_ref().and_then(|tasks| tasks.push(task)) {
                task.disarm();
                // There is no storage any more. What is published is not lost: it is in memory, as without storage.
                state.phase = Phase::Ready;
            }
        }
        matches!(state.phase, Phase::Ready)
    }

    /// The subscription begins: everything after the position that is told here will be delivered, in order and once.
    fn admit(self: &Arc<Self>, state: &mut State, core: &Core, key: usize, start: Start, now: Timestamp) {
        state.expire(core, now);
        let was_waiting = mem::replace(&mut state.subscribers[key].is_waiting, false);
        // What waits from before stands ahead of the answer: nothing newer may take its place.
        state.subscribers[key].place = NOWHERE;
        let subscriber = &state.subscribers[key];
        let recovered = start.recover.map(|position| state.can_recover(position));
        let wanted = |message: &&Arc<Message>| subscriber.takes(&message.body);
        let mut messages: Vec<Arc<Message>> = match start.recover {
            Some(position) if recovered == Some(true) => {
                state.history.after(position.offset).filter(wanted).cloned().collect()
            }
            _ if start.kept => state.kept.iter().filter(wanted).cloned().collect(),
            _ => Vec::new(),
        };
        if state.rule.latest_only && messages.len() > 1 {
            messages.drain(..messages.len() - 1);
        }
        let (missed, kept) = if recovered == Some(true) { (messages.len(), 0) } else { (0, messages.len()) };
        let presence =
            (start.presence && state.rule.presence).then(|| state.presence(core.settings.presence_entries));
        let subscribed = Subscribed {
            tag: start.tag,
            channel: self.name.clone(),
            position: state.position(),
            recovered,
            missed,
            kept,
            presence,
        };
        let settings = &core.settings;
        let first = Item::Subscribed(Box::new(subscribed));
        let put =
            subscriber.member.put_backlog(first, &messages, settings.outbox_bytes, settings.backlog_bytes);
        core.counters.count(put, messages.len());
        let others_watch = state.watchers > usize::from(subscriber.wants_presence);
        if was_waiting && state.rule.presence && others_watch {
            let entry = subscriber.member.entry(subscriber.since);
            self.window(state, core, now).join(entry, settings.presence_entries);
        }
    }

    /// Ends a subscription, if it is still this member's.
    pub fn leave(self: &Arc<Self>, core: &Core, key: u32, member: &Arc<Member>, now: Timestamp) {
        let mut state = self.state.lock();
        if !state.holds(key, member) {
            return;
        }
        let key = key as usize;
        let subscriber = state.remove_subscriber(core, key);
        if let Phase::Loading(early) = &mut state.phase {
            early.retain(|early| !matches!(early, Early::Subscribe { key: of, .. } if *of == key));
        }
        if !subscriber.is_waiting && state.rule.presence && state.watchers > 0 {
            let entry = subscriber.member.entry(subscriber.since);
            self.window(&mut state, core, now).leave(entry, core.settings.presence_entries);
        }
        if state.subscribers.is_empty() {
            state.subscribers = Slab::new();
            state.idle_since = now;
        }
        self.set_expiry(&mut state, core, now);
    }

    /// The member has another name now.
    pub fn renamed(self: &Arc<Self>, core: &Core, key: u32, member: &Arc<Member>, now: Timestamp) {
        let mut state = self.state.lock();
        if !state.holds(key, member) {
            return;
        }
        let subscriber = &state.subscribers[key as usize];
        if state.rule.presence && state.watchers > 0 && !subscriber.is_waiting {
            let entry = subscriber.member.entry(subscriber.since);
            self.window(&mut state, core, now).join(entry, core.settings.presence_entries);
        }
    }

    /// What storage has of the channel. Whoever waited for that is served now.
    pub fn found(self: &Arc<Self>, core: &Arc<Core>, highest: u64, kept: Vec<Message>, now: Timestamp) {
        let mut state = self.state.lock();
        let Phase::Loading(early) = mem::replace(&mut state.phase, Phase::Ready) else { return };
        if highest >= state.next {
            state.next = highest + 1;
            state.delivered = highest;
            state.history.begin_after(highest);
        }
        for mut message in kept {
            // Its offset goes on counting in the channel's life of now.
            if let To::Channel { position, .. } = &mut message.to {
                position.epoch = state.epoch;
            }
            if state.kept.iter().next_back().is_none_or(|last| last.offset() < message.offset()) {
                state.kept.push(Arc::new(message), core.kept_bounds());
            }
        }
        for request in early {
            match request {
                Early::Publish(draft) => self.publish(&mut state, core, draft, now),
                Early::Subscribe { key, start } => self.admit(&mut state, core, key, start, now),
            }
        }
        self.set_expiry(&mut state, core, now);
    }

    /// Storage cannot read the channel. Whoever waited for that is told, and the next one asks again.
    pub fn not_found(self: &Arc<Self>, core: &Core, why: &str, now: Timestamp) {
        let mut refused = Vec::new();
        // Who asked twice is told twice.
        let mut removed: HashMap<usize, Arc<Member>> = HashMap::new();
        let mut state = self.state.lock();
        let Phase::Loading(early) = mem::replace(&mut state.phase, Phase::Unloaded) else { return };
        for request in early {
            match request {
                Early::Publish(draft) => self.refuse(core, draft.answer, PublishError::Storage(why.into())),
                Early::Subscribe { key, start } => {
                    if state.subscribers.get(key).is_some_and(|subscriber| subscriber.is_waiting) {
                        removed.insert(key, state.remove_subscriber(core, key).member);
                    }
                    if let Some(member) = removed.get(&key) {
                        refused.push((Arc::clone(member), start.tag));
                    }
                }
            }
        }
        if state.subscribers.is_empty() {
            state.idle_since = now;
        }
        self.set_expiry(&mut state, core, now);
        drop(state);
        // A member's subscriptions are locked before channels, never after.
        for (member, tag) in refused {
            // Unless it has subscribed again meanwhile.
            member.subscriptions.lock().retain(|subscription| {
                !Arc::ptr_eq(&subscription.channel, self)
                    || self.state.lock().holds(subscription.key, &member)
            });
            let error = SubscribeError::Storage(why.into());
            let item = Item::NotSubscribed(Box::new((tag, self.name.clone(), error)));
            member.put(item, core.settings.outbox_bytes);
        }
    }

    /// Another rule from now on. Of the history, what it lets go by number goes with the next message.
    pub fn set_rule(self: &Arc<Self>, core: &Core, rule: Rule, now: Timestamp) {
        let mut state = self.state.lock();
        state.rule = rule;
        state.expire(core, now);
        // What gets old sooner now must not wait for the timer that is set.
        state.expiry_at = None;
        self.set_expiry(&mut state, core, now);
    }

    pub fn refuse(&self, core: &Core, answer: Answer, error: PublishError) {
        answer.tell(&core.recent, &self.name, Err(error));
    }

    /// A timer of the channel has come. Whether the channel may vanish.
    pub fn on_timer(self: &Arc<Self>, core: &Core, timer: Timer, now: Timestamp) -> bool {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Gone) {
            return false;
        }
        match timer {
            Timer::Presence => {
                self.tell_presence(&mut state, core, now);
                false
            }
            Timer::Expiry => {
                if state.expiry_at.is_none_or(|at| now < at) {
                    return false;
                }
                state.expiry_at = None;
                state.expire(core, now);
                let may_vanish = may_vanish(&state, core, now);
                if !may_vanish {
                    self.set_expiry(&mut state, core, now);
                }
                may_vanish
            }
        }
    }

    /// Makes the channel vanish if that may be, for whoever holds the registry: nobody finds it any more.
    pub fn vanish(self: &Arc<Self>, core: &Core, now: Timestamp) -> bool {
        let mut state = self.state.lock();
        if !may_vanish(&state, core, now) {
            self.set_expiry(&mut state, core, now);
            return false;
        }
        state.kept.clear(&core.kept_bytes);
        state.phase = Phase::Gone;
        true
    }

    /// Sets the timer for what gets old, unless it is set.
    pub fn set_expiry(self: &Arc<Self>, state: &mut State, core: &Core, now: Timestamp) {
        if state.expiry_at.is_some() {
            return;
        }
        let is_idle = state.subscribers.is_empty();
        let due = match state.history.oldest() {
            Some(oldest) => oldest.after(state.rule.history_age),
            None if is_idle => state.idle_since.after(core.linger()),
            None => return,
        };
        // A message that comes while the timer is set must not have to wait for it.
        let age = state.rule.history_age;
        let due = if age == 0 { due } else { due.min(now.after(age)) };
        let due = due.max(now.after(EXPIRY_STEP));
        state.expiry_at = Some(due);
        core.timers.set(due, Timer::Expiry, self);
    }

    fn window<'a>(self: &Arc<Self>, state: &'a mut State, core: &Core, now: Timestamp) -> &'a mut Window {
        state.window.get_or_insert_with(|| {
            core.timers.set(now.after(WINDOW), Timer::Presence, self);
            Window::default()
        })
    }

    fn tell_presence(&self, state: &mut State, core: &Core, now: Timestamp) {
        let present = state.subscribers.len();
        let Some(presence) = state.window.take().and_then(|window| window.close(present)) else { return };
        let to = To::Channel { name: self.name.clone(), position: state.position() };
        let body = Body::Presence(presence);
        let message = Arc::new(Message::new(core.message_id(), now, None, to, false, body));
        for (_, subscriber) in &state.subscribers {
            if subscriber.wants_presence && !subscriber.is_waiting {
                let put = subscriber.member.deliver(&message, core.settings.outbox_bytes);
                core.counters.count(put, 1);
            }
        }
    }

    /// The newest messages, or those after an offset.
    pub fn history(&self, core: &Core, query: HistoryQuery, now: Timestamp) -> History {
        let mut state = self.state.lock();
        state.expire(core, now);
        let position = Some(state.position());
        let is_epoch = query.epoch.is_none_or(|epoch| epoch == state.epoch);
        let (messages, complete) = match query.since {
            Some(since) if is_epoch => {
                let messages = state.history.after(since).take(query.limit).cloned().collect();
                (messages, state.history.covers(since) && since <= state.delivered)
            }
            since => {
                let after = state.history.after(0);
                let skipped = after.len().saturating_sub(query.limit);
                (after.skip(skipped).cloned().collect(), since.is_none())
            }
        };
        History { position, messages, complete }
    }
}

impl State {
    /// The newest message that was delivered.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.delivered }
    }

    /// Whether this place among the subscribers is the member's.
    pub fn holds(&self, key: u32, member: &Arc<Member>) -> bool {
        self.subscribers.get(key as usize).is_some_and(|subscriber| Arc::ptr_eq(&subscriber.member, member))
    }

    /// Whether everything after the position is in the history.
    fn can_recover(&self, position: Position) -> bool {
        position.epoch == self.epoch
            && position.offset <= self.delivered
            && self.history.covers(position.offset)
    }

    pub fn expire(&mut self, core: &Core, now: Timestamp) {
        if let Some(through) = now.0.checked_sub(self.rule.history_age) {
            self.history.expire(Timestamp(through), &core.history_bytes);
        }
    }

    pub fn presence(&self, bound: usize) -> PresenceList {
        let entries = self.subscribers.iter().take(bound);
        let entries = entries.map(|(_, subscriber)| subscriber.member.entry(subscriber.since)).collect();
        PresenceList { entries, total: self.subscribers.len() }
    }

    fn is_room_for_early(&self) -> Result<(), SubscribeError> {
        match &self.phase {
            Phase::Loading(early) if early.len() >= MAX_EARLY => Err(SubscribeError::Busy),
            _ => Ok(()),
        }
    }

    /// Lets a publication wait until the channel is read from storage, or gives it back.
    pub fn postpone(&mut self, draft: Draft) -> Option<Draft> {
        match &mut self.phase {
            Phase::Loading(early) if early.len() < MAX_EARLY => {
                early.push(Early::Publish(draft));
                None
            }
            _ => Some(draft),
        }
    }

    fn remove_subscriber(&mut self, core: &Core, key: usize) -> Subscriber {
        let subscriber = self.subscribers.remove(key);
        self.watchers -= usize::from(subscriber.wants_presence);
        core.counters.subscriptions.fetch_sub(1, Ordering::Relaxed);
        subscriber
    }
}

impl Subscriber {
    pub fn takes(&self, body: &Body) -> bool {
        self.filters.as_ref().is_none_or(|filters| filters.take(body))
    }

    /// Puts a message in the subscriber's outbox.
    pub fn deliver(&mut self, message: &Arc<Message>, rule: Rule, limit: usize) -> Put {
        if rule.latest_only {
            self.member.deliver_latest(message, limit, &mut self.place)
        } else {
            self.member.deliver(message, limit)
        }
    }
}

/// Whether nobody needs the channel any more.
fn may_vanish(state: &State, core: &Core, now: Timestamp) -> bool {
    let is_settled = matches!(state.phase, Phase::Unloaded | Phase::Ready) && state.pending.is_empty();
    // Without storage what is kept is only here.
    let is_kept_elsewhere = core.tasks.is_some() || state.kept.is_empty();
    is_settled
        && is_kept_elsewhere
        && state.subscribers.is_empty()
        && state.history.is_empty()
        && state.idle_since.after(core.linger()) <= now
}

fn boxed(filters: Option<Filters>) -> Option<Box<Filters>> {
    filters.filter(|filters| !filters.is_open()).map(Box::new)
}
