//! Random publishing, subscribing, cutting, coming back, not reading, failing disks, restarts and crashes, beside a model
//! that knows what every client has to get: nothing is lost, doubled or out of order unless `recovered: false` is told.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use common::{name, rule};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use veche_hub::{
    Binary, Body, ChannelRule, Connection, Disconnect, Door, Filters, Hub, HubSettings, Item, Keeper,
    Message, MessageId, Outbox, Position, Publication, PublishError, Receipt, Subscribe, Subscribed, Task,
    Timestamp, Who,
};

const CHANNELS: [&str; 4] = ["a", "b", "short", "latest"];
const CLIENTS: usize = 6;
const STEPS: usize = 4_000;
const KEPT: usize = 5;
const HISTORY: usize = 40;
const SHORT_AGE: u64 = 3_000;

#[test]
fn nothing_is_lost_doubled_or_out_of_order() {
    let mut told = [0; 5];
    for seed in 0..60 {
        let world = World::new(seed).run();
        for (sum, count) in told.iter_mut().zip(world.told) {
            *sum += count;
        }
    }
    println!("messages, recovered, not recovered, slow, kept: {told:?}");
    // The dice would not have tried much if one of these were rare.
    assert!(told.iter().all(|count| *count > 500), "{told:?}");
}

/// What was delivered in a channel, as the model knows.
struct Entry {
    position: Position,
    id: MessageId,
    is_persistent: bool,
    is_binary: bool,
    time: Timestamp,
}

/// A client's view of a channel.
#[derive(Default)]
struct View {
    /// Where it is; what comes next must be what follows.
    position: Option<Position>,
    wants_binary: bool,
    /// Whether it asked to be subscribed in this connection.
    is_wished: bool,
    is_subscribed: bool,
    /// Kept messages that are still to come, and where it is then.
    kept: Vec<MessageId>,
    then: Option<Position>,
}

#[derive(Default)]
struct Client {
    link: Option<(Connection, Outbox)>,
    views: BTreeMap<&'static str, View>,
}

struct World {
    seed: u64,
    random: StdRng,
    now: Timestamp,
    hub: Hub,
    keeper: Keeper,
    /// What the keeper has taken and not answered.
    tasks: Vec<Task>,
    receipts: Vec<(&'static str, bool, bool, Timestamp, Receipt)>,
    /// By channel: highest offset, and what is on disk.
    disk: BTreeMap<&'static str, (u64, Vec<Bytes>)>,
    logs: BTreeMap<&'static str, Vec<Entry>>,
    clients: Vec<Client>,
    /// Messages read, recovered, not recovered, slow, kept.
    told: [usize; 5],
}

fn settings() -> HubSettings {
    HubSettings {
        history_messages: HISTORY,
        kept_messages: KEPT,
        outbox_bytes: 6_000,
        rules: vec![
            ChannelRule { history_seconds: Some(SHORT_AGE / 1_000), ..rule("short") },
            ChannelRule { latest_only: Some(true), ..rule("latest") },
        ],
        ..HubSettings::default()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let (hub, keeper) = Hub::with_storage(settings(), seed);
        Self {
            seed,
            random: StdRng::seed_from_u64(seed),
            now: Timestamp(1_000_000),
            hub,
            keeper,
            tasks: Vec::new(),
            receipts: Vec::new(),
            disk: BTreeMap::new(),
            logs: BTreeMap::new(),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            told: [0; 5],
        }
    }

    fn run(mut self) -> Self {
        for _ in 0..STEPS {
            self.step();
        }
        self.settle();
        self
    }

    fn step(&mut self) {
        let client = self.random.random_range(0..CLIENTS);
        match self.random.random_range(0..1_000) {
            0..400 => self.publish(),
            400..600 => {
                let count = self.random.random_range(1..30);
                self.read(client, count);
            }
            600..700 => self.store(),
            700..830 => self.wish(client),
            830..860 => self.unsubscribe(client),
            860..900 => self.clients[client].cut(),
            900..997 => self.pass_time(),
            997..999 => self.restart(),
            _ => self.crash(),
        }
        self.hear();
    }

    fn channel(&mut self) -> &'static str {
        CHANNELS[self.random.random_range(0..CHANNELS.len())]
    }

    fn publish(&mut self) {
        let channel = self.channel();
        for _ in 0..self.random.random_range(1..4) {
            let (is_binary, is_persistent) = (self.random.random_bool(0.3), self.random.random_bool(0.1));
            let body = if is_binary {
                Body::Binary(Binary {
                    data: Bytes::from_static(b"1"),
                    content_type: "x/y".into(),
                    filename: None,
                })
            } else {
                common::data("1")
            };
            let publication =
                Publication { persistent: is_persistent, ..Publication::new(name(channel), body) };
            let receipt = self.hub.publish(publication, self.now).unwrap();
            self.receipts.push((channel, is_persistent, is_binary, self.now, receipt));
        }
    }

    /// Writes down what was delivered.
    fn hear(&mut self) {
        let logs = &mut self.logs;
        self.receipts.retain_mut(|(channel, is_persistent, is_binary, time, receipt)| {
            let Some(result) = receipt.try_now() else { return true };
            if let Ok(published) = result {
                let log = logs.entry(channel).or_default();
                let newest = log.last().map(|entry: &Entry| entry.position);
                if let Some(newest) = newest.filter(|newest| newest.epoch == published.position.epoch) {
                    assert!(newest.offset < published.position.offset);
                } else {
                    log.clear();
                }
                log.push(Entry {
                    position: published.position,
                    id: published.message_id,
                    is_persistent: *is_persistent,
                    is_binary: *is_binary,
                    time: *time,
                });
            }
            false
        });
    }

    /// The disk does some of what it was given, or all, and sometimes fails.
    fn store(&mut self) {
        self.keeper.try_batch(&mut self.tasks);
        let count = self.random.random_range(0..=self.tasks.len());
        let tasks: Vec<Task> = self.tasks.drain(..count).collect();
        for task in tasks {
            let is_broken = self.random.random_bool(0.05);
            self.answer(task, is_broken);
            self.hear();
        }
    }

    fn answer(&mut self, task: Task, is_broken: bool) {
        match task {
            Task::Load(load) if is_broken => load.failed("broken", self.now),
            Task::Keep(keep) if is_broken => {
                keep.failed(PublishError::Storage("broken".into()), self.now);
            }
            Task::Load(load) => {
                let (highest, bodies) = self.disk.get(load.channel().as_str()).cloned().unwrap_or_default();
                let kept = bodies.iter().map(|body| Message::from_stored(body).unwrap()).collect();
                load.found(highest, kept, self.now);
            }
            Task::Keep(keep) => {
                let message = Arc::clone(keep.message());
                let channel = message.channel().unwrap().as_str();
                let channel = CHANNELS.into_iter().find(|name| *name == channel).unwrap();
                let (highest, bodies) = self.disk.entry(channel).or_default();
                let offset = message.position().unwrap().offset;
                assert!(offset > *highest, "offsets on disk never go back");
                *highest = offset;
                bodies.push(message.to_stored());
                keep.committed(self.now);
            }
            Task::Removed(_) => {}
        }
    }

    /// A client wants a channel, from where it was, and connects for that if need be.
    fn wish(&mut self, client: usize) {
        let channel = self.channel();
        let (is_recovery, wants_binary) = (self.random.random_bool(0.8), self.random.random_bool(0.7));
        let client = &mut self.clients[client];
        if client.link.is_none() {
            let who = Who { user_id: None, name: "x".into(), attributes: None, door: Door::WebSocket };
            client.link = Some(self.hub.connect(who, self.now).unwrap());
        }
        let (connection, _) = client.link.as_ref().unwrap();
        let view = client.views.entry(channel).or_default();
        if view.is_wished {
            return;
        }
        let filters = (!wants_binary).then(|| Filters { binary_data: Some(false), ..Filters::default() });
        let recover = view.position.filter(|_| is_recovery);
        if recover.is_none() {
            view.position = None;
        }
        let wish = Subscribe { filters, recover, ..Subscribe::to(name(channel)) };
        if connection.subscribe(wish, None, self.now).is_ok() {
            view.is_wished = true;
            view.wants_binary = wants_binary;
        }
    }

    /// It does not want a channel any more; what waits of it is not looked at.
    fn unsubscribe(&mut self, client: usize) {
        let channel = self.channel();
        self.read(client, usize::MAX);
        let client = &mut self.clients[client];
        if let Some((connection, _)) = &client.link {
            connection.unsubscribe(&name(channel), self.now);
            client.views.entry(channel).or_default().leave();
        }
    }

    fn pass_time(&mut self) {
        self.now = self.now.after(self.random.random_range(1..400));
        self.hub.tick(self.now);
    }

    /// Everything is told and stored, and goes on elsewhere.
    fn restart(&mut self) {
        self.hub.drain(&Disconnect::Stopping);
        self.store_all();
        for client in 0..CLIENTS {
            self.read(client, usize::MAX);
            self.clients[client].cut();
        }
        let snapshots = self.hub.snapshot();
        (self.hub, self.keeper) = Hub::with_storage(settings(), self.random.random());
        let count = snapshots.len();
        assert_eq!(self.hub.restore(snapshots, self.now), count);
    }

    /// Only what is on disk is left.
    fn crash(&mut self) {
        self.clients.iter_mut().for_each(Client::cut);
        self.receipts.clear();
        (self.hub, self.keeper) = Hub::with_storage(settings(), self.random.random());
        self.tasks.clear();
        self.logs.clear();
    }

    fn store_all(&mut self) {
        while self.keeper.try_batch(&mut self.tasks) > 0 || !self.tasks.is_empty() {
            for task in std::mem::take(&mut self.tasks) {
                self.answer(task, false);
                self.hear();
            }
        }
    }

    /// In the end everybody who is subscribed has everything.
    fn settle(&mut self) {
        self.store_all();
        for client in 0..CLIENTS {
            self.read(client, usize::MAX);
            for (channel, view) in self.clients[client].views.iter().filter(|(_, view)| view.is_subscribed) {
                let log = self.logs.get(channel).map_or(&[][..], |log| &log[..]);
                let next = next_after(log, view);
                assert!(next.is_none(), "seed {}: {channel} ends at {:?}", self.seed, view.position);
            }
        }
    }

    fn read(&mut self, client: usize, count: usize) {
        let Some((_, outbox)) = &mut self.clients[client].link else { return };
        let items: Vec<Item> = std::iter::from_fn(|| outbox.try_next()).take(count).collect();
        for item in items {
            match item {
                Item::Subscribed(subscribed) => self.subscribed(client, &subscribed),
                Item::Message(message) => self.message(client, &message),
                Item::NotSubscribed(failure) => {
                    let channel = known(failure.1.as_str());
                    self.clients[client].views.entry(channel).or_default().leave();
                }
                Item::Disconnect(reason) => {
                    self.told[3] += usize::from(*reason == Disconnect::SlowConsumer);
                    self.clients[client].cut();
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn subscribed(&mut self, client: usize, subscribed: &Subscribed) {
        let channel = known(subscribed.channel.as_str());
        let log = self.logs.get(channel).map_or(&[][..], |log| &log[..]);
        let view = self.clients[client].views.get_mut(channel).unwrap();
        view.is_subscribed = true;
        assert_eq!(subscribed.recovered.is_some(), view.position.is_some());
        if subscribed.recovered == Some(true) {
            self.told[1] += 1;
            assert_eq!(view.position.unwrap().epoch, subscribed.position.epoch);
            return;
        }
        if let Some(position) = view.position {
            self.told[2] += 1;
            let must_recover = position.epoch == subscribed.position.epoch && {
                // Of what came since, and may have come since the answer, all is young and in the history.
                let missed = log.iter().filter(|entry| entry.position.offset > position.offset);
                let before =
                    missed.clone().filter(|entry| entry.position.offset <= subscribed.position.offset);
                let is_young = |entry: &Entry| channel != "short" || entry.time.after(SHORT_AGE) > self.now;
                // What was kept before a crash has a place in this epoch, but from there on not all is known.
                let is_known = log.first().is_some_and(|first| first.position.offset <= position.offset + 1);
                is_known
                    && before.clone().count() > 0
                    && before.clone().count() < HISTORY
                    && before.clone().all(is_young)
            };
            assert!(!must_recover, "seed {}: {channel} was not recovered from {position}", self.seed);
        }
        view.position = Some(subscribed.position);
        let before = log.iter().filter(|entry| entry.position.offset <= subscribed.position.offset);
        let on_disk = self.disk.get(channel).map_or(&[][..], |(_, bodies)| &bodies[..]);
        let kept: Vec<Message> = on_disk
            .iter()
            .map(|body| Message::from_stored(body).unwrap())
            .filter(|message| message.position().unwrap().offset <= subscribed.position.offset)
            .collect();
        let newest = &kept[kept.len().saturating_sub(KEPT)..];
        let wanted =
            newest.iter().filter(|message| view.wants_binary || !matches!(message.body, Body::Binary(_)));
        view.kept = wanted.map(|message| message.id).collect();
        if channel == "latest" && view.kept.len() > 1 {
            view.kept.drain(..view.kept.len() - 1);
        }
        assert_eq!(subscribed.kept, view.kept.len(), "seed {}: {channel}", self.seed);
        assert!(before.filter(|entry| entry.is_persistent).all(|e| kept.iter().any(|m| m.id == e.id)));
        self.told[4] += view.kept.len();
        if !view.kept.is_empty() {
            view.then = view.position.take();
        }
    }

    fn message(&mut self, client: usize, message: &Message) {
        self.told[0] += 1;
        let channel = known(message.channel().unwrap().as_str());
        let log = self.logs.get(channel).map_or(&[][..], |log| &log[..]);
        let view = self.clients[client].views.get_mut(channel).unwrap();
        let position = message.position().unwrap();
        assert!(view.is_subscribed, "seed {}: {channel} without subscription", self.seed);
        // In a channel with one waiting message a live one may have taken the place of a kept one.
        if !view.kept.is_empty() && (channel != "latest" || view.kept[0] == message.id) {
            assert_eq!(view.kept.remove(0), message.id, "seed {}: kept ones in order", self.seed);
            view.position = if view.kept.is_empty() { view.then.take() } else { Some(position) };
            return;
        }
        if channel == "latest" {
            view.kept.clear();
            view.then = None;
            assert!(view.position.is_none_or(|before| before.offset < position.offset));
            assert!(log.iter().any(|entry| entry.id == message.id));
        } else {
            let next = next_after(log, view).map(|entry| (entry.position, entry.id));
            assert_eq!(next, Some((position, message.id)), "seed {}: {channel}", self.seed);
        }
        view.position = Some(position);
    }
}

impl View {
    fn leave(&mut self) {
        self.is_wished = false;
        self.is_subscribed = false;
        self.kept.clear();
        // Who leaves among the kept messages comes back for the rest from where it is.
        self.then = None;
    }
}

impl Client {
    fn cut(&mut self) {
        self.link = None;
        self.views.values_mut().for_each(View::leave);
    }
}

/// What a view has to be sent next. Of a channel with one waiting message only the newest must come.
fn next_after<'a>(log: &'a [Entry], view: &View) -> Option<&'a Entry> {
    let position = view.position?;
    let is_next =
        |entry: &&Entry| entry.position.offset > position.offset && (view.wants_binary || !entry.is_binary);
    log.iter().find(is_next)
}

fn known(channel: &str) -> &'static str {
    CHANNELS.into_iter().find(|name| *name == channel).unwrap()
}
