//! Subscribers that are cut again and again under load: nothing is lost, doubled or out of order, unless it is told.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use veche_hub::HubSettings;
use veche_messaging::Settings;
use veche_storage::{NewEvent, kind};

use crate::server::{Server, Setup};

const MESSAGES: u64 = 20_000;
const CUTS: u64 = 200;

/// How many messages a publisher may be ahead of the slowest answer.
const AHEAD: u64 = 500;

/// Messages that are published between two cuts, on average.
const BETWEEN_CUTS: u64 = MESSAGES / CUTS;

/// A server whose histories hold all that is published here, as one would set it for channels where nothing may be lost.
async fn server() -> Server {
    let channels = HubSettings { history_messages: MESSAGES as usize, ..HubSettings::default() };
    let channels = HubSettings { history_bytes: 64 << 20, ..channels };
    let settings = Settings {
        messages_per_second: 1_000_000,
        message_burst: 1_000_000,
        user_messages_per_second: 0,
        requests_per_second: 0,
        ..Settings::default()
    };
    Server::with(Setup { settings, channels, ..Setup::default() }).await
}

/// Publishes numbers from 1 on, some to be kept, and waits for every answer.
async fn publish(server: &Server, channel: &str) {
    let (mut publisher, _) = server.join("").await;
    let mut answered = 0;
    for number in 1..=MESSAGES {
        let persistent = number % 50 == 0;
        let message = json!({ "type": "publish", "id": number, "channel": channel, "data": number, "persistent": persistent });
        publisher.send(message).await;
        while number - answered >= AHEAD || (number == MESSAGES && answered < MESSAGES) {
            let published = publisher.expect("published").await;
            answered += 1;
            assert_eq!(
                (published["id"].as_u64(), published["offset"].as_u64()),
                (Some(answered), Some(answered))
            );
        }
    }
}

/// What a subscriber has seen.
#[derive(Default)]
struct Seen {
    newest: u64,
    cuts: u64,
}

impl Seen {
    /// The next message has to be the next number.
    fn take(&mut self, message: &Value) {
        assert_eq!(message["data"].as_u64(), Some(self.newest + 1), "after {} cuts", self.cuts);
        assert_eq!(message["offset"], message["data"]);
        self.newest += 1;
    }

    fn is_done(&self) -> bool {
        self.newest == MESSAGES && self.cuts >= CUTS
    }

    /// After how many messages more it is cut; in the end at once, until there were cuts enough.
    fn next_cut(&self, random: &mut StdRng) -> u64 {
        let left = MESSAGES - self.newest;
        random.random_range(0..=(BETWEEN_CUTS * 2).min(left))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_that_is_cut_two_hundred_times_misses_nothing() {
    let server = server().await;
    let mut random = StdRng::seed_from_u64(1);
    let first = server.subscriber("load").await.subscribe("load").await;
    let mut position = json!({ "epoch": first["epoch"], "offset": 0 });
    let subscriber = async {
        let mut seen = Seen::default();
        while !seen.is_done() {
            let (mut client, _) = server.join("").await;
            client.send(json!({ "type": "subscribe", "channel": "load", "recover": position })).await;
            let subscribed = client.expect("subscribed").await;
            assert_eq!(subscribed["recovered"], true, "{subscribed}");
            for _ in 0..seen.next_cut(&mut random) {
                let message = client.expect("channel_message").await;
                seen.take(&message);
                position["offset"] = message["offset"].clone();
            }
            seen.cuts += 1;
        }
        seen
    };
    let ((), seen) = tokio::join!(publish(&server, "load"), subscriber);
    assert!(seen.cuts >= CUTS && seen.newest == MESSAGES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_events_that_is_cut_two_hundred_times_misses_nothing() {
    let server = server().await;
    let mut random = StdRng::seed_from_u64(2);
    let mut stream = server.stream("channel=load", "").await;
    stream.expect("connected").await;
    let mut id = stream.expect("subscribed").await.id.expect("events of channels have an id");
    drop(stream);
    let subscriber = async {
        let mut seen = Seen::default();
        while !seen.is_done() {
            let mut stream = server.stream("channel=load", &format!("Last-Event-ID: {id}\r\n")).await;
            stream.expect("connected").await;
            let subscribed = stream.expect("subscribed").await;
            assert_eq!(subscribed.data["recovered"], true, "{subscribed:?}");
            for _ in 0..seen.next_cut(&mut random) {
                let event = stream.expect("message").await;
                seen.take(&event.data);
                id = event.id.expect("events of channels have an id");
            }
            seen.cuts += 1;
        }
        seen
    };
    let ((), seen) = tokio::join!(publish(&server, "load"), subscriber);
    assert!(seen.cuts >= CUTS && seen.newest == MESSAGES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_told_and_comes_back_for_the_rest() {
    let channels = HubSettings { outbox_bytes: 200_000, history_bytes: 256 << 20, ..HubSettings::default() };
    let server = Server::with(Setup { channels, ..Setup::default() }).await;
    let mut slow = server.subscriber("load").await;
    slow.patience = Duration::from_mins(1);
    let (mut publisher, _) = server.join("").await;
    publisher.send(json!({ "type": "publish", "id": 0, "channel": "load", "data": [1] })).await;
    publisher.expect("published").await;
    let mut last = slow.expect("channel_message").await;
    let text = "x".repeat(50_000);
    // Many times more than the outbox and the buffers of the connection hold.
    for number in 2..=400 {
        publisher
            .send(json!({ "type": "publish", "id": number, "channel": "load", "data": [number, text] }))
            .await;
        publisher.expect("published").await;
    }
    let goodbye = loop {
        let message = slow.receive().await;
        match message["type"].as_str() {
            Some("channel_message") => last = message,
            _ => break message,
        }
    };
    assert!(goodbye.to_string().contains("slow_consumer"), "{goodbye}");
    assert_eq!(slow.closed().await.0, 4290);
    let (mut back, _) = server.join("").await;
    let recover = json!({ "epoch": last["epoch"], "offset": last["offset"] });
    back.send(json!({ "type": "subscribe", "channel": "load", "recover": recover })).await;
    let subscribed = back.expect("subscribed").await;
    let newest = last["offset"].as_u64().unwrap();
    assert!(newest < 400, "it was slow");
    assert_eq!(subscribed["recovered"], true, "{subscribed}");
    for offset in newest + 1..=400 {
        assert_eq!(back.expect("channel_message").await["data"][0], offset);
    }
}

#[tokio::test]
async fn a_channel_with_kept_messages_is_in_the_views_again_after_a_restart() {
    let server = Server::start().await;
    let send = async |server: &Server| {
        let body = json!({ "channel": "c", "data": 1, "persistent": true });
        assert_eq!(server.post("/realtime/send", body).await.status, 200);
    };
    send(&server).await;
    server.database.record(NewEvent::new(kind::SERVER_STARTED, 1));
    let server = server.restart(Setup::default()).await;
    server.subscriber("c").await;
    send(&server).await;
    server.database.flush().await.unwrap();
    let view = server.database.views().await.unwrap().channels["c"].clone();
    assert_eq!((view.kept, view.kept_offset), (1, 2));
    assert!(view.created > 1);
}
