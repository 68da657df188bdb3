//! What a delivery costs in the hub, from the publication to the item taken out of the outbox, and what a connection takes
//! in memory.
//!
//! ```sh
//! cargo bench -p veche-hub --bench fanout
//! ```
//!
//! The first column is the publisher's part with readers that do not sleep, the second what the readers spend to take the
//! items out, the third the publisher's part when each reader sleeps and has to be woken (its waker does nothing). Of
//! several rounds the best counts, in time of the processor. The memory is what the process has grown by for each connection
//! that is subscribed to one channel and idle, as the system sees it; of few connections it says nothing.

use std::hint::black_box;
use std::task::{Context, Waker};

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use serde_json::value::RawValue;
use veche_hub::{
    Body, ChannelName, Connection, Door, Hub, HubSettings, Item, Outbox, Publication, Subscribe, Timestamp,
    Who,
};

const ROUNDS: usize = 15;
const NOW: Timestamp = Timestamp(1_000);

fn main() {
    println!(
        "{:>11} {:>12} {:>12} {:>12} {:>16}",
        "subscribers", "publishing", "taking out", "with waking", "bytes/connection"
    );
    println!("{:>11} {:>12} {:>12} {:>12} {:>16}", "", "ns/delivery", "ns/delivery", "ns/delivery", "");
    for subscribers in [10, 100, 1_000, 10_000] {
        run(subscribers);
    }
}

fn run(subscribers: usize) {
    let hub = Hub::new(HubSettings { history_messages: 10, ..HubSettings::default() }, 1);
    let before = resident();
    let mut people: Vec<(Connection, Outbox)> = (0..subscribers).map(|number| join(&hub, number)).collect();
    let memory = resident().saturating_sub(before) / subscribers;
    let mut items = Vec::with_capacity(16);
    for (_, outbox) in &mut people {
        outbox.try_drain(&mut items, usize::MAX);
        items.clear();
    }
    let messages = (100_000 / subscribers).max(3);
    let (mut publishing, mut taking, mut waking) = (f64::MAX, f64::MAX, f64::MAX);
    let deliveries = (messages * subscribers) as f64;
    for _ in 0..ROUNDS {
        let (mut round_publishing, mut round_taking) = (0, 0);
        for _ in 0..messages {
            round_publishing += time(|| publish(&hub));
            round_taking += time(|| take(&mut people, &mut items));
        }
        publishing = publishing.min(round_publishing as f64 / deliveries);
        taking = taking.min(round_taking as f64 / deliveries);
    }
    for _ in 0..ROUNDS {
        let mut round = 0;
        for _ in 0..messages {
            for (_, outbox) in &mut people {
                let _ = outbox.poll_ready(&mut Context::from_waker(Waker::noop()));
            }
            round += time(|| publish(&hub));
            take(&mut people, &mut items);
        }
        waking = waking.min(round as f64 / deliveries);
    }
    println!("{subscribers:>11} {publishing:>12.1} {taking:>12.1} {waking:>12.1} {memory:>16}");
}

fn join(hub: &Hub, number: usize) -> (Connection, Outbox) {
    let user_id = Some(format!("user-{number}").into());
    let who = Who { user_id, name: "Somebody".into(), attributes: None, door: Door::WebSocket };
    let (connection, outbox) = hub.connect(who, NOW).expect("there is no limit");
    connection.subscribe(Subscribe::to(channel()), None, NOW).expect("there is no limit");
    (connection, outbox)
}

fn channel() -> ChannelName {
    ChannelName::new("news").expect("it is a name")
}

fn publish(hub: &Hub) {
    let data =
        RawValue::from_string(r#"{"text":"something new has happened somewhere"}"#.into()).expect("JSON");
    let _ = black_box(hub.publish(Publication::new(channel(), Body::Data(data)), NOW));
}

fn take(people: &mut [(Connection, Outbox)], items: &mut Vec<Item>) {
    for (_, outbox) in people {
        outbox.try_drain(items, usize::MAX);
        for item in items.drain(..) {
            if let Item::Message(message) = item {
                black_box(message.form(veche_hub::Form::Json, |_| Bytes::from_static(b"{}")));
            }
        }
    }
}

/// What the process has in memory, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let pages: usize =
        statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("its second field");
    pages * rustix::param::page_size()
}

/// Nanoseconds of this thread's processor time.
fn time(work: impl FnOnce()) -> u64 {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    };
    let before = now();
    work();
    now() - before
}
