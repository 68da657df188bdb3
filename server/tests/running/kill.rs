//! Kill -9 of the server under load, again and again: what was acknowledged as kept is given to who comes afterwards, in
//! order and once, and so is what anybody has seen of it.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::SinkExt;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use yawc::Frame;

use crate::client::{Caller, receive, websocket};
use crate::server::{Folder, PATIENCE, Server};

/// How often the server is killed.
const KILLS: u64 = 12;

const CHANNELS: [&str; 2] = ["first", "second"];

/// How many publish into each channel, through HTTP and through WebSockets.
const PUBLISHERS: u64 = 3;

/// How many messages a WebSocket has sent that are not acknowledged yet.
const WINDOW: u64 = 16;

/// Limits are not what this is about; nothing that is kept may go to make room.
const CONFIGURATION: &str = "[messaging]\nrequests_per_second = 0\nuser_messages_per_second = 0\n\
     messages_per_second = 1000000\nmessage_burst = 1000000\n\
     [channels]\nkept_messages = 1000000\nkept_bytes = 268435456\noutbox_bytes = 268435456\n\
     [storage]\nkept_messages = 1000000\nkept_bytes = 268435456\n";

/// What stands at an offset.
type Kept = BTreeMap<u64, String>;

/// What the server has said so far, channel by channel: it stays bound to it.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<BTreeMap<&'static str, Kept>>>);

impl Said {
    /// The server has acknowledged or delivered this.
    fn note(&self, channel: &'static str, offset: u64, data: &str) {
        let mut said = self.0.lock();
        let before = said.entry(channel).or_default().insert(offset, data.to_owned());
        assert!(before.is_none_or(|before| before == data), "{channel} {offset} is two messages");
    }

    fn total(&self) -> usize {
        self.0.lock().values().map(Kept::len).sum()
    }

    fn of(&self, channel: &str) -> Kept {
        self.0.lock().get(channel).cloned().unwrap_or_default()
    }
}

/// Publishes through HTTP, one after the other, until the server is gone.
async fn publish_over_http(address: SocketAddr, channel: &'static str, who: String, said: Said) {
    let Some(mut caller) = Caller::connect(address).await else { return };
    for number in 0_u64.. {
        let data = format!("{who}-{number:06}");
        let body = json!({ "channel": channel, "data": data, "persistent": true });
        let Some(answer) = caller.post("/realtime/send", &body).await else { return };
        assert_eq!(answer.status, 200, "{}", answer.text());
        said.note(channel, answer.json()["offset"].as_u64().unwrap(), &data);
    }
}

/// Publishes through a WebSocket, several at once, until the server is gone.
async fn publish_over_websocket(address: SocketAddr, channel: &'static str, who: String, said: Said) {
    let Some(mut socket) = websocket(address).await else { return };
    let (mut next, mut answered) = (0, 0);
    loop {
        while next < answered + WINDOW {
            let data = format!("{who}-{next:06}");
            let publish = json!({ "type": "publish", "id": next, "channel": channel, "data": data, "persistent": true });
            if socket.send(Frame::text(publish.to_string())).await.is_err() {
                return;
            }
            next += 1;
        }
        let Some(message) = receive(&mut socket).await else { return };
        match message["type"].as_str().unwrap() {
            "published" => {
                let number = message["id"].as_u64().unwrap();
                assert_eq!(number, answered, "answers come in order");
                said.note(channel, message["offset"].as_u64().unwrap(), &format!("{who}-{number:06}"));
                answered += 1;
            }
            "welcome" => {}
            other => panic!("{other}: {message}"),
        }
    }
}

/// Reads a channel from its beginning until the server is gone.
async fn watch_channel(address: SocketAddr, channel: &'static str, said: Said, seen: watch::Sender<usize>) {
    let Some(mut socket) = websocket(address).await else { return };
    let subscribe = json!({ "type": "subscribe", "channel": channel });
    if socket.send(Frame::text(subscribe.to_string())).await.is_err() {
        return;
    }
    while let Some(message) = receive(&mut socket).await {
        if message["type"] == "channel_message" {
            said.note(channel, message["offset"].as_u64().unwrap(), message["data"].as_str().unwrap());
            seen.send_modify(|count| *count += 1);
        }
    }
}

/// What the server gives to a new subscriber, or to one who comes back with a position.
async fn kept(address: SocketAddr, channel: &str, recover: Option<&Value>) -> Kept {
    let mut socket = websocket(address).await.expect("the WebSocket opens");
    let mut subscribe = json!({ "type": "subscribe", "channel": channel });
    if let Some(position) = recover {
        subscribe["recover"] = position.clone();
    }
    socket.send(Frame::text(subscribe.to_string())).await.unwrap();
    let subscribed = loop {
        let message = receive(&mut socket).await.expect("an answer comes");
        if message["type"] == "subscribed" {
            break message;
        }
    };
    if recover.is_some() {
        // The life of the channel that it knows has ended with the process.
        assert_eq!(subscribed["recovered"], false, "{subscribed}");
    }
    let mut kept = Kept::new();
    let mut ids = HashSet::new();
    for _ in 0..subscribed["kept"].as_u64().unwrap() {
        let message = receive(&mut socket).await.expect("what was promised comes");
        let offset = message["offset"].as_u64().unwrap();
        assert!(kept.keys().next_back().is_none_or(|last| *last < offset), "out of order: {message}");
        assert!(ids.insert(message["message_id"].to_string()), "twice: {message}");
        assert_eq!(message["epoch"], subscribed["epoch"]);
        kept.insert(offset, message["data"].as_str().unwrap().to_owned());
    }
    assert!(kept.keys().next_back().is_none_or(|last| Some(*last) == subscribed["offset"].as_u64()));
    kept
}

/// Whether what is there is all that was said, and each publisher's messages are there once and in order, without a gap.
fn check(kept: &Kept, said: &Kept, kill: u64) {
    for (offset, data) in said {
        assert_eq!(kept.get(offset), Some(data), "kill {kill}: {offset} was said and is lost");
    }
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    for data in kept.values() {
        let (who, number) = data.rsplit_once('-').unwrap();
        let expected = next.entry(who).or_default();
        assert_eq!(number.parse::<u64>().unwrap(), *expected, "kill {kill}: {who}");
        *expected += 1;
    }
}

/// Publishers and a reader of each channel, which end with the server.
fn load(address: SocketAddr, kill: u64, said: &Said, seen: &watch::Sender<usize>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for channel in CHANNELS {
        for number in 0..PUBLISHERS {
            let name = |door: &str| format!("{door}-{number}-{kill}");
            tasks.spawn(publish_over_http(address, channel, name("http"), said.clone()));
            tasks.spawn(publish_over_websocket(address, channel, name("ws"), said.clone()));
        }
        tasks.spawn(watch_channel(address, channel, said.clone(), seen.clone()));
    }
    tasks
}

#[tokio::test]
async fn what_was_acknowledged_as_kept_outlives_kill_9() {
    let mut random = StdRng::seed_from_u64(9);
    let folder = Arc::new(Folder::new("kill"));
    let said = Said::default();
    let mut position = None;
    for kill in 0..=KILLS {
        let mut server = Server::start_in(folder.clone(), CONFIGURATION).await;
        let address = server.http();
        for channel in CHANNELS {
            check(&kept(address, channel, None).await, &said.of(channel), kill);
        }
        if let Some(position) = &position {
            check(&kept(address, CHANNELS[0], Some(position)).await, &said.of(CHANNELS[0]), kill);
        }
        if kill == KILLS {
            break;
        }
        let mut caller = Caller::connect(address).await.unwrap();
        let mark =
            json!({ "channel": CHANNELS[0], "data": format!("mark-{kill}-000000"), "persistent": true });
        let answer = caller.post("/realtime/send", &mark).await.unwrap().json();
        said.note(CHANNELS[0], answer["offset"].as_u64().unwrap(), mark["data"].as_str().unwrap());
        position = Some(json!({ "epoch": answer["epoch"], "offset": answer["offset"] }));

        // Killed in the middle: after some messages more than everybody had before, and a moment.
        let (seen, mut watched) = watch::channel(0);
        let before = said.total();
        let tasks = load(address, kill, &said, &seen);
        let messages = before + random.random_range(200..2000);
        watched.wait_for(|count| *count >= messages).await.unwrap();
        tokio::time::sleep(Duration::from_micros(random.random_range(0..20_000))).await;
        server.signal(Signal::KILL);
        assert!(!server.ended().await.success());
        tokio::time::timeout(PATIENCE, tasks.join_all()).await.expect("everybody notices");
    }
    println!("{} messages were acknowledged or delivered over {KILLS} kills", said.total());
}
