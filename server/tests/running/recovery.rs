//! A subscriber under load, over a stop and a start of the server: nothing is lost, doubled or out of order.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::SinkExt;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::watch;
use yawc::{Frame, OpCode};

use crate::client::{Caller, websocket};
use crate::server::{PATIENCE, Server};

/// How many messages come before the server is stopped, and after it has been started again.
const BEFORE: usize = 2000;
const AFTER: usize = 500;

/// Limits are not what this is about.
const CONFIGURATION: &str = "[messaging]\nrequests_per_second = 0\nuser_messages_per_second = 0\n";

/// One message, as the subscriber gets it.
#[derive(Clone, Debug, PartialEq)]
struct Received {
    offset: u64,
    data: u64,
}

/// Where the subscriber stands.
#[derive(Default)]
struct Subscriber {
    epoch: String,
    received: Vec<Received>,
    told_to_come_back: bool,
}

impl Subscriber {
    /// Subscribes, from where it stood where it stood anywhere, and reads until it has this number or is cut.
    async fn read(&mut self, address: SocketAddr, last: u64, seen: &watch::Sender<usize>) -> Option<u16> {
        let mut socket = websocket(address).await.unwrap();
        let mut subscribe = json!({ "type": "subscribe", "id": 1, "channel": "load" });
        if let Some(last) = self.received.last() {
            subscribe["recover"] = json!({ "epoch": self.epoch, "offset": last.offset });
        }
        socket.send(Frame::text(subscribe.to_string())).await.unwrap();
        while self.received.last().is_none_or(|received| received.data != last) {
            let frame =
                tokio::time::timeout(PATIENCE, socket.next_frame()).await.expect("something comes").ok()?;
            match frame.opcode() {
                OpCode::Close => return frame.close_code().map(u16::from),
                OpCode::Text => self.take(&serde_json::from_slice(frame.payload()).unwrap()),
                _ => {}
            }
            seen.send_replace(self.received.len());
        }
        None
    }

    fn take(&mut self, message: &Value) {
        match message["type"].as_str().unwrap() {
            "subscribed" => {
                assert!(self.received.is_empty() || message["recovered"] == true, "{message}");
                message["epoch"].as_str().unwrap().clone_into(&mut self.epoch);
            }
            "channel_message" => {
                let number = |field: &str| message[field].as_u64().unwrap();
                self.received.push(Received { offset: number("offset"), data: number("data") });
            }
            "disconnect" => {
                assert_eq!(message["reconnect"], true, "{message}");
                self.told_to_come_back = true;
            }
            "welcome" => {}
            other => panic!("{other}: {message}"),
        }
    }
}

/// Publishes numbers from `first` on, `count` of them or until the server takes no more. Says which were acknowledged.
async fn publish(address: SocketAddr, first: u64, count: usize) -> Vec<u64> {
    let mut caller = Caller::connect(address).await.unwrap();
    let mut acknowledged = Vec::new();
    for number in first..first + count as u64 {
        let body = json!({ "channel": "load", "data": number });
        match caller.post("/realtime/send", &body).await {
            Some(answer) if answer.json()["status"] == "sent" => acknowledged.push(number),
            _ => break,
        }
    }
    acknowledged
}

#[tokio::test]
async fn who_comes_back_with_a_position_after_a_restart_misses_nothing() {
    let mut server = Server::start("recovery", CONFIGURATION).await;
    let mut subscriber = Subscriber::default();
    let (seen, mut watch) = watch::channel(0);
    let address = server.http();
    let publishing = tokio::spawn(publish(address, 1, usize::MAX >> 1));
    let reading = tokio::spawn(async move {
        let closed = subscriber.read(address, u64::MAX, &seen).await;
        (subscriber, closed)
    });
    watch.wait_for(|count| *count >= BEFORE).await.unwrap();
    server.signal(Signal::TERM);
    let (mut subscriber, closed) = tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap();
    assert_eq!(closed, Some(1001));
    assert!(subscriber.told_to_come_back);
    let mut acknowledged = tokio::time::timeout(PATIENCE, publishing).await.unwrap().unwrap();
    assert!(server.ended().await.success());

    let server = Server::start_in(server.folder.clone(), CONFIGURATION).await;
    // Some come while it is away.
    let next = acknowledged.last().unwrap() + 1_000_000;
    acknowledged.extend(publish(server.http(), next, AFTER).await);
    let (seen, _watch) = watch::channel(0);
    let last = *acknowledged.last().unwrap();
    let closed = tokio::time::timeout(PATIENCE, subscriber.read(server.http(), last, &seen)).await.unwrap();
    assert_eq!(closed, None);

    let offsets: Vec<u64> = subscriber.received.iter().map(|received| received.offset).collect();
    let first = offsets[0];
    assert_eq!(
        offsets,
        (first..first + offsets.len() as u64).collect::<Vec<_>>(),
        "in order, once, without a gap"
    );
    let data: Vec<u64> = subscriber.received.iter().map(|received| received.data).collect();
    // What was published before it had subscribed, it need not have. What was not acknowledged may have come.
    let expected: Vec<u64> = acknowledged.into_iter().filter(|number| *number >= data[0]).collect();
    let came: Vec<u64> =
        data.iter().copied().filter(|number| expected.binary_search(number).is_ok()).collect();
    assert_eq!(came, expected);
    assert!(data.len() <= expected.len() + 1, "only the one request that was cut may have come besides");
}

#[tokio::test]
async fn who_reads_until_the_end_gets_what_was_acknowledged_before_the_close() {
    let mut server = Server::start("last-words", CONFIGURATION).await;
    let address = server.http();
    let (seen, mut watch) = watch::channel(0);
    let reading = tokio::spawn(async move {
        let mut subscriber = Subscriber::default();
        subscriber.read(address, u64::MAX, &seen).await;
        subscriber
    });
    // It is subscribed when it has one.
    let mut number = 0;
    while *watch.borrow_and_update() == 0 {
        number += 1;
        assert_eq!(publish(address, number, 1).await, [number]);
        let _ = tokio::time::timeout(Duration::from_millis(10), watch.changed()).await;
    }
    let acknowledged = publish(address, number + 1, 100).await;
    server.signal(Signal::TERM);
    let subscriber = tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap();
    let data: Vec<u64> = subscriber.received.iter().map(|received| received.data).collect();
    assert!(data.ends_with(&acknowledged), "{data:?}");
    assert!(server.ended().await.success());
}
