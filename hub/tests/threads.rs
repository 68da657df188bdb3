//! Real threads at once: publishing, storing, subscribing, cutting and coming back, looking at everything.

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use common::{NOW, connect, data, name, text_of};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use veche_hub::{
    ChannelName, Hub, HubSettings, Item, Keeper, Position, Publication, PublishError, Subscribe, Task,
    Timestamp,
};

const CHANNELS: [&str; 3] = ["a", "b", "c"];
const PUBLISHERS: u64 = 4;
const SUBSCRIBERS: u64 = 4;
/// From each publisher in each channel.
const MESSAGES: u64 = 2_000;

/// The clock that all share: it moves when it is looked at.
#[derive(Default)]
struct Clock(AtomicU64);

impl Clock {
    fn now(&self) -> Timestamp {
        Timestamp(NOW.0 + self.0.fetch_add(1, Ordering::Relaxed) / 100)
    }
}

#[test]
fn at_once_nothing_is_lost_doubled_or_out_of_order() {
    let settings = HubSettings {
        history_messages: 100_000,
        history_bytes: usize::MAX,
        history_total_bytes: usize::MAX,
        history_seconds: 1_000_000,
        ..HubSettings::default()
    };
    let (hub, keeper) = Hub::with_storage(settings, 7);
    let clock = Clock::default();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| store(keeper, &clock));
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                hub.tick(clock.now());
                assert!(hub.presence(&name("a")).total as u64 <= SUBSCRIBERS * 2);
                hub.channels("", 10);
                hub.connections(10);
                thread::yield_now();
            }
            // The keeper ends with the last handle.
        });
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|number| {
                scope.spawn({
                    let (hub, clock) = (&hub, &clock);
                    move || publish(hub, number, clock)
                })
            })
            .collect();
        let subscribers: Vec<_> = (0..SUBSCRIBERS)
            .map(|number| {
                scope.spawn({
                    let (hub, clock) = (&hub, &clock);
                    move || subscribe(hub, number, clock)
                })
            })
            .collect();
        for thread in publishers {
            thread.join().unwrap();
        }
        for thread in subscribers {
            let cuts = thread.join().unwrap();
            assert!(cuts > 20, "{cuts} cuts are too few to show anything");
        }
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(hub.stats().published, PUBLISHERS * MESSAGES * CHANNELS.len() as u64);
        assert_eq!((hub.stats().websocket, hub.stats().subscriptions, hub.stats().uncommitted), (0, 0, 0));
        hub.drain(&veche_hub::Disconnect::Stopping);
        OVER.store(true, Ordering::Relaxed);
    });
}

static OVER: AtomicBool = AtomicBool::new(false);

fn store(mut keeper: Keeper, clock: &Clock) {
    let mut tasks = Vec::new();
    while !OVER.load(Ordering::Relaxed) {
        keeper.try_batch(&mut tasks);
        for task in tasks.drain(..) {
            match task {
                Task::Load(load) => load.found(0, Vec::new(), clock.now()),
                Task::Keep(keep) => keep.committed(clock.now()),
                Task::Removed(_) => {}
            }
        }
        thread::yield_now();
    }
}

/// Publishes numbers, some persistent; when storage is busy, again.
fn publish(hub: &Hub, publisher: u64, clock: &Clock) {
    for number in 0..MESSAGES {
        for channel in CHANNELS {
            loop {
                let publication = Publication {
                    persistent: number % 10 == publisher,
                    ..Publication::new(name(channel), data(&(publisher * 1_000_000 + number).to_string()))
                };
                let mut receipt = hub.publish(publication, clock.now()).unwrap();
                match receipt.try_now() {
                    Some(Err(PublishError::Busy)) => thread::yield_now(),
                    Some(Err(error)) => panic!("{error}"),
                    Some(Ok(_)) | None => break,
                }
            }
        }
        if number % 16 == 0 {
            thread::yield_now();
        }
    }
}

/// What a subscriber has of a channel.
struct Seen {
    position: Option<Position>,
    count: u64,
    /// The next number of each publisher.
    next: [u64; PUBLISHERS as usize],
}

/// Reads everything from the first message on, and is cut at random; gives how often.
fn subscribe(hub: &Hub, seed: u64, clock: &Clock) -> usize {
    let mut random = StdRng::seed_from_u64(seed);
    let mut seen: HashMap<ChannelName, Seen> = CHANNELS
        .iter()
        .map(|channel| (name(channel), Seen { position: None, count: 0, next: [0; PUBLISHERS as usize] }))
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut cuts = 0;
    // The first position of each channel has to be known, for nothing before it is promised.
    for (channel, seen) in &mut seen {
        let mut receipt =
            hub.history(channel, veche_hub::HistoryQuery { since: None, epoch: None, limit: 0 }, clock.now());
        while receipt.position.is_none() {
            thread::yield_now();
            receipt = hub.history(
                channel,
                veche_hub::HistoryQuery { since: None, epoch: None, limit: 0 },
                clock.now(),
            );
        }
        seen.position = receipt.position.map(|position| Position { offset: 0, ..position });
    }
    loop {
        let mut client = connect(hub, "", clock.now());
        for (channel, seen) in &seen {
            let wish = Subscribe { recover: seen.position, presence: true, ..Subscribe::to(channel.clone()) };
            client.connection.subscribe(wish, None, clock.now()).unwrap();
        }
        let enough = random.random_range(1..1_500);
        for _ in 0..enough {
            match runtime.block_on(client.outbox.next()).unwrap() {
                Item::Subscribed(subscribed) => assert_eq!(subscribed.recovered, Some(true)),
                Item::Message(message) if matches!(message.body, veche_hub::Body::Presence(_)) => {}
                Item::Message(message) => take(seen.get_mut(message.channel().unwrap()).unwrap(), &message),
                Item::Disconnect(_) => break,
                other => panic!("{other:?}"),
            }
            if seen.values().all(|seen| seen.count == PUBLISHERS * MESSAGES) {
                return cuts;
            }
        }
        cuts += 1;
    }
}

fn take(seen: &mut Seen, message: &Arc<veche_hub::Message>) {
    let position = message.position().unwrap();
    assert_eq!(position.offset, seen.position.unwrap().offset + 1);
    seen.position = Some(position);
    seen.count += 1;
    let number: u64 = text_of(message).parse().unwrap();
    let next = &mut seen.next[(number / 1_000_000) as usize];
    assert_eq!(number % 1_000_000, *next);
    *next += 1;
}
