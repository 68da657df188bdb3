//! Streams of events.

use std::time::Duration;

use serde_json::json;
use veche_messaging::Settings;

use crate::server::{Server, Setup};

async fn publish(server: &Server, channel: &str, data: u64) {
    let answer = server.post("/realtime/send", json!({ "channel": channel, "data": data })).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn a_stream_says_who_one_is_and_then_what_is_published() {
    let server = Server::start().await;
    let mut stream = server.stream("channel=a", "").await;
    assert!(stream.head.contains("content-type: text/event-stream"), "{}", stream.head);
    assert!(stream.head.contains("cache-control: no-store"));
    assert_eq!(stream.line().await.unwrap(), "retry: 3000");
    let connected = stream.expect("connected").await;
    assert_eq!(connected.data["channels"], json!(["a"]));
    let subscribed = stream.expect("subscribed").await;
    let epoch = subscribed.data["epoch"].as_str().unwrap();
    assert_eq!(subscribed.id.unwrap(), format!("{epoch}:0"));
    publish(&server, "a", 1).await;
    let event = stream.expect("message").await;
    assert_eq!(event.id.unwrap(), format!("{epoch}:1"));
    assert_eq!((&event.data["type"], &event.data["data"]), (&json!("channel_message"), &json!(1)));
}

#[tokio::test]
async fn events_have_the_names_of_the_contract() {
    let server = Server::start().await;
    let mut stream = server.stream("channel=a&name=Anna", "").await;
    let connection = stream.expect("connected").await.data["connection_id"].clone();
    stream.expect("subscribed").await;
    let note =
        json!({ "channel": "a", "title": "t", "body": "b", "notification_type": "call", "data": { "x": 1 } });
    assert_eq!(server.post("/realtime/notifications/channel", note).await.status, 200);
    let event = stream.expect("notification").await;
    assert_eq!(
        (&event.data["title"], &event.data["body"], &event.data["data"]),
        (&json!("t"), &json!("b"), &json!({ "x": 1 }))
    );
    let binary = json!({ "binary_data": "aGVsbG8=", "content_type": "text/plain", "filename": "a.txt" });
    assert_eq!(server.post("/realtime/binary/send", binary).await.status, 200);
    let event = stream.expect("binary_data").await;
    assert_eq!((&event.data["binary_data"], &event.data["filename"]), (&json!("aGVsbG8="), &json!("a.txt")));
    assert_eq!(event.id, None);
    let direct = json!({ "connection_id": connection, "data": 1 });
    assert_eq!(server.post("/realtime/send", direct).await.status, 200);
    stream.expect("direct").await;
    assert_eq!(server.post("/realtime/broadcast", json!({ "data": 2 })).await.status, 200);
    stream.expect("broadcast").await;
    // Line ends between the parts of a JSON text would end the event's line.
    let text = b"{\"channel\":\"a\",\r\n \"data\":{\n\"x\":1}}";
    server.raw("POST", "/realtime/send", "Content-Type: application/json\r\n", text).await;
    assert_eq!(stream.expect("message").await.data["data"], json!({ "x": 1 }));
}

#[tokio::test]
async fn who_comes_back_with_the_last_id_gets_what_it_missed() {
    let server = Server::start().await;
    let mut stream = server.stream("channel=a", "").await;
    stream.expect("connected").await;
    stream.expect("subscribed").await;
    publish(&server, "a", 1).await;
    let id = stream.expect("message").await.id.unwrap();
    drop(stream);
    publish(&server, "a", 2).await;
    publish(&server, "a", 3).await;
    for (query, headers) in [
        ("channel=a".to_owned(), format!("Last-Event-ID: {id}\r\n")),
        (format!("channel=a&last_event_id={id}"), String::new()),
    ] {
        let mut stream = server.stream(&query, &headers).await;
        stream.expect("connected").await;
        assert_eq!(stream.expect("subscribed").await.data["recovered"], true);
        assert_eq!(stream.expect("message").await.data["data"], 2);
        assert_eq!(stream.expect("message").await.data["data"], 3);
    }
    let mut stream = server.stream("channel=a", "Last-Event-ID: 00000000:1\r\n").await;
    stream.expect("connected").await;
    assert_eq!(stream.expect("subscribed").await.data["recovered"], false);
}

#[tokio::test]
async fn several_channels_have_their_places_in_one_id() {
    let server = Server::start().await;
    let mut stream = server.stream("channel=a&channels=b,c&channel=a", "").await;
    assert_eq!(stream.expect("connected").await.data["channels"], json!(["a", "b", "c"]));
    let mut epochs = std::collections::HashMap::new();
    for _ in 0..3 {
        let subscribed = stream.expect("subscribed").await.data;
        let text = |field: &str| subscribed[field].as_str().unwrap().to_owned();
        epochs.insert(text("channel"), text("epoch"));
    }
    publish(&server, "b", 1).await;
    let id = stream.expect("message").await.id.unwrap();
    assert_eq!(id, format!("{}:0,{}:1,{}:0", epochs["a"], epochs["b"], epochs["c"]));
    drop(stream);
    publish(&server, "a", 2).await;
    publish(&server, "b", 3).await;
    let mut stream = server.stream("channels=a,b,c", &format!("Last-Event-ID: {id}\r\n")).await;
    stream.expect("connected").await;
    let mut seen = Vec::new();
    let mut subscribed = 0;
    while seen.len() < 2 || subscribed < 3 {
        let event = stream.next().await.unwrap();
        match event.name.as_str() {
            "subscribed" => subscribed += 1,
            _ => seen.push(event.data["data"].as_u64().unwrap()),
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, [2, 3]);
}

#[tokio::test]
async fn kept_messages_come_first_and_do_not_set_the_place_back() {
    let server = Server::start().await;
    for data in 1..=3 {
        let body = json!({ "channel": "a", "data": data, "persistent": data < 3 });
        assert_eq!(server.post("/realtime/send", body).await.body["offset"], data);
    }
    let mut stream = server.stream("channel=a", "").await;
    stream.expect("connected").await;
    let subscribed = stream.expect("subscribed").await;
    assert_eq!((&subscribed.data["kept"], subscribed.id.as_deref()), (&json!(2), Some("-")));
    let epoch = subscribed.data["epoch"].as_str().unwrap().to_owned();
    assert_eq!(stream.expect("message").await.id.unwrap(), format!("{epoch}:1"));
    assert_eq!(stream.expect("message").await.id.unwrap(), format!("{epoch}:3"));
}

#[tokio::test]
async fn filters_stand_in_the_address() {
    let server = Server::start().await;
    let mut stream = server.stream("channel=a&binary_data=false&notification_types=call,file", "").await;
    stream.expect("connected").await;
    stream.expect("subscribed").await;
    let binary = json!({ "binary_data": "aGVsbG8=", "content_type": "text/plain", "channel": "a" });
    assert_eq!(server.post("/realtime/binary/send", binary).await.status, 200);
    for kind in ["message", "file"] {
        let note = json!({ "channel": "a", "title": kind, "notification_type": kind });
        server.post("/realtime/notifications/channel", note).await;
    }
    assert_eq!(stream.expect("notification").await.data["title"], "file");
    assert_eq!(server.get("/realtime/events?channel=a&max_file_size=x").await.code(), (400, "bad_request"));
    assert_eq!(server.get("/realtime/events?channel=a%20b").await.code(), (400, "bad_channel"));
}

#[tokio::test]
async fn a_silent_stream_gets_comments_and_a_stopping_server_says_goodbye() {
    let settings = Settings { sse_heartbeat_seconds: 1, sse_retry_milliseconds: 5, ..Settings::default() };
    let server = Server::with(Setup { settings, ..Setup::default() }).await;
    let started = std::time::Instant::now();
    let mut stream = server.stream("channel=a", "").await;
    assert_eq!(stream.line().await.unwrap(), "retry: 5");
    stream.expect("connected").await;
    stream.expect("subscribed").await;
    assert_eq!(stream.line().await.unwrap(), ": heartbeat");
    assert!(started.elapsed() > Duration::from_millis(900));
    server.messaging.stop().await;
    let goodbye = stream.expect("disconnect").await;
    assert_eq!((&goodbye.data["reason"], &goodbye.data["reconnect"]), (&json!("stopping"), &json!(true)));
    assert_eq!(stream.next().await, None);
}
