//! Channels over the WebSocket.

use std::time::Duration;

use serde_json::{Value, json};
use veche_hub::{ChannelRule, HubSettings};
use veche_messaging::Settings;
use yawc::OpCode;

use crate::server::{Server, Setup, known, required};

#[tokio::test]
async fn who_connects_is_welcome_and_pings_are_answered() {
    let server = Server::start().await;
    let (mut client, welcome) = server.join("name=%D0%90%D0%BD%D0%BD%D0%B0").await;
    assert_eq!(welcome["message"], "Добро пожаловать на сервер!");
    assert!(welcome["connection_id"].as_str().unwrap().starts_with("conn_"));
    assert_eq!(welcome["user_id"], Value::Null);
    assert_eq!(welcome["name"], "Анна");
    assert_eq!(welcome["heartbeat_interval"], 30);
    assert_eq!(welcome["authenticated"], false);
    assert_eq!(welcome["session"]["max_binary_bytes"], 52_428_800);
    client.send(json!({ "type": "ping", "id": 7 })).await;
    let pong = client.expect("pong").await;
    assert_eq!(pong["id"], 7);
    assert!(pong["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn what_is_published_reaches_the_subscribers_in_order_and_says_from_whom() {
    let server = Server::start().await;
    let mut anna = server.subscriber("news").await;
    let (mut boris, welcome) = server.join("name=Boris").await;
    for index in 1..=3 {
        let message =
            json!({ "type": "channel_message", "channel": "news", "id": index, "data": { "n": index } });
        boris.send(message).await;
        let published = boris.expect("published").await;
        assert_eq!(
            (&published["id"], &published["offset"], &published["recipients"]),
            (&json!(index), &json!(index), &json!(1))
        );
    }
    for index in 1..=3 {
        let message = anna.expect("channel_message").await;
        assert_eq!(message["data"], json!({ "n": index }));
        assert_eq!(message["offset"], index);
        assert_eq!(message["sender"]["connection_id"], welcome["connection_id"]);
        assert_eq!(message["sender"]["name"], "Boris");
        assert_eq!(message["persistent"], false);
        assert!(message["message_id"].as_str().unwrap().starts_with("msg_"));
    }
    anna.send(json!({ "type": "unsubscribe", "channel": "news", "id": "u" })).await;
    assert_eq!(anna.expect("unsubscribed").await["id"], "u");
    boris.send(json!({ "type": "publish", "channel": "news", "data": null })).await;
    boris.silent().await;
    anna.silent().await;
}

#[tokio::test]
async fn data_is_passed_on_as_it_was_written() {
    let server = Server::start().await;
    let mut anna = server.subscriber("raw").await;
    let (mut boris, _) = server.join("").await;
    let data = r#"{"big":12345678901234567890123, "float": 1.0e2,"html":"<b>&\u003c"}"#;
    boris.send_text(&format!(r#"{{"type":"publish","channel":"raw","data":{data}}}"#)).await;
    let frame = anna.any_frame().await.unwrap();
    let text = std::str::from_utf8(frame.payload()).unwrap();
    assert!(text.contains(data), "{text}");
}

#[tokio::test]
async fn who_comes_back_gets_what_it_missed_once_or_is_told_that_it_cannot() {
    let server = Server::start().await;
    let mut anna = server.subscriber("c").await;
    let (mut boris, _) = server.join("").await;
    let mut say = async |text: &str| {
        boris.send(json!({ "type": "publish", "channel": "c", "data": text, "id": 1 })).await;
        boris.expect("published").await
    };
    say("one").await;
    let first = anna.expect("channel_message").await;
    drop(anna);
    say("two").await;
    say("three").await;
    let (mut anna, _) = server.join("").await;
    let recover = json!({ "epoch": first["epoch"], "offset": first["offset"] });
    anna.send(json!({ "type": "subscribe", "channel": "c", "recover": recover, "id": "r" })).await;
    let subscribed = anna.expect("subscribed").await;
    assert_eq!((&subscribed["recovered"], &subscribed["missed"]), (&json!(true), &json!(2)));
    assert_eq!(anna.expect("channel_message").await["data"], "two");
    assert_eq!(anna.expect("channel_message").await["data"], "three");
    anna.silent().await;
    let (mut clara, _) = server.join("").await;
    let recover = json!({ "epoch": "00000000", "offset": 1 });
    clara.send(json!({ "type": "subscribe", "channel": "c", "recover": recover })).await;
    let subscribed = clara.expect("subscribed").await;
    assert_eq!((&subscribed["recovered"], &subscribed["offset"]), (&json!(false), &json!(3)));
    clara.silent().await;
}

#[tokio::test]
async fn persistent_messages_are_given_to_new_subscribers_also_after_a_restart() {
    let server = Server::start().await;
    let (mut boris, _) = server.join("").await;
    let message = json!({ "type": "publish", "channel": "announcements", "data": "важно", "persistent": true, "id": 1 });
    boris.send(message).await;
    let published = boris.expect("published").await;
    assert_eq!(published["offset"], 1);
    let check = async |server: &Server| {
        let (mut anna, _) = server.join("").await;
        let subscribed = anna.subscribe("announcements").await;
        assert_eq!(subscribed["kept"], 1, "{subscribed}");
        let kept = anna.expect("channel_message").await;
        assert_eq!((&kept["data"], &kept["persistent"]), (&json!("важно"), &json!(true)));
        assert_eq!(kept["message_id"], published["message_id"]);
    };
    check(&server).await;
    let server = server.restart(Setup::default()).await;
    check(&server).await;
}

#[tokio::test]
async fn who_was_there_before_a_restart_misses_nothing() {
    let server = Server::start().await;
    let mut anna = server.subscriber("c").await;
    let (mut boris, _) = server.join("").await;
    boris.send(json!({ "type": "publish", "channel": "c", "data": 1 })).await;
    let first = anna.expect("channel_message").await;
    boris.send(json!({ "type": "publish", "channel": "c", "data": 2 })).await;
    boris.silent().await;
    let server = server.restart(Setup::default()).await;
    assert_eq!(anna.expect("channel_message").await["data"], 2);
    let goodbye = anna.expect("disconnect").await;
    assert_eq!((&goodbye["reason"], &goodbye["reconnect"]), (&json!("stopping"), &json!(true)));
    assert_eq!(anna.closed().await.0, 1001);
    let (mut anna, _) = server.join("").await;
    let recover = json!({ "epoch": first["epoch"], "offset": first["offset"] });
    anna.send(json!({ "type": "subscribe", "channel": "c", "recover": recover })).await;
    assert_eq!(anna.expect("subscribed").await["recovered"], true);
    assert_eq!(anna.expect("channel_message").await["data"], 2);
}

#[tokio::test]
async fn filters_keep_out_what_is_not_wanted() {
    let server = Server::start().await;
    let (mut anna, _) = server.join("").await;
    let filters =
        json!({ "max_file_size": 10, "allowed_types": ["image/*"], "notification_types": ["call"] });
    anna.send(json!({ "type": "subscribe", "channel": "c", "filters": filters })).await;
    anna.expect("subscribed").await;
    let (mut boris, _) = server.join("").await;
    let png = "iVBORw0KGgo=";
    let large = "iVBORw0KGgoAAAAAAAAAAAAAAAAAAAAA";
    for (data, content_type) in [(large, "image/png"), ("aGVsbG8=", "text/plain"), (png, "image/png")] {
        let message = json!({ "type": "binary", "channel": "c", "binary_data": data, "content_type": content_type, "id": 1 });
        boris.send(message).await;
        boris.expect("published").await;
    }
    for kind in ["message", "call"] {
        boris
            .send(json!({ "type": "notification", "channel": "c", "title": kind, "notification_type": kind }))
            .await;
    }
    boris.send(json!({ "type": "publish", "channel": "c", "data": "end" })).await;
    let binary = anna.expect("binary").await;
    assert_eq!((&binary["binary_data"], &binary["size"]), (&json!(png), &json!(8)));
    assert_eq!(anna.expect("notification").await["title"], "call");
    assert_eq!(anna.expect("channel_message").await["data"], "end");
    let filters = json!({ "allowed_types": "image/*" });
    let wrong = json!({ "type": "subscribe", "channel": "c", "filters": filters });
    assert_eq!(anna.refused(wrong).await, "bad_message");
}

#[tokio::test]
async fn presence_says_who_is_there_who_comes_and_who_goes() {
    let server = Server::start().await;
    let (mut anna, _) = server.join("name=Anna").await;
    anna.send(json!({ "type": "subscribe", "channel": "c", "presence": true })).await;
    let subscribed = anna.expect("subscribed").await;
    assert_eq!(subscribed["presence"].as_array().unwrap().len(), 1, "{subscribed}");
    let (mut boris, welcome) = server.join("name=Boris").await;
    boris.subscribe("c").await;
    let mut joined = anna.expect("presence").await;
    if joined["joined"][0]["name"] == "Anna" && joined["joined"].as_array().unwrap().len() == 1 {
        joined = anna.expect("presence").await;
    }
    let entries = joined["joined"].as_array().unwrap();
    assert!(entries.iter().any(|entry| entry["connection_id"] == welcome["connection_id"]), "{joined}");
    anna.send(json!({ "type": "presence", "channel": "c", "id": 5 })).await;
    let list = anna.expect("presence").await;
    assert_eq!((&list["total"], &list["id"]), (&json!(2), &json!(5)));
    drop(boris);
    let left = anna.expect("presence").await;
    assert_eq!(left["left"][0]["name"], "Boris");
    assert!(left.get("offset").is_none());
}

#[tokio::test]
async fn presence_says_what_a_token_says_of_somebody_and_since_when_they_are_there() {
    let server = Server::with(Setup { access: required(), ..Setup::default() }).await;
    let grants = json!({ "channels": { "c": ["subscribe"] }, "attributes": { "role": "host" } });
    let (mut anna, _) = server.join(&format!("token={}", server.granted("anna", grants))).await;
    anna.send(json!({ "type": "subscribe", "channel": "c", "presence": true })).await;
    let entry = anna.expect("subscribed").await["presence"][0].clone();
    assert_eq!((&entry["user_id"], &entry["attributes"]), (&json!("anna"), &json!({ "role": "host" })));
    let since = entry["since"].as_str().unwrap();
    assert!(since.starts_with("20") && since.ends_with('Z'), "{since}");
}

#[tokio::test]
async fn a_quiet_connection_is_pinged_and_stays() {
    let settings = Settings { websocket_heartbeat_seconds: 1, ..Settings::default() };
    let server = Server::with(Setup { settings, ..Setup::default() }).await;
    let (mut client, _) = server.join("").await;
    for _ in 0..2 {
        let frame = client.any_frame().await.expect("the connection stays");
        assert_eq!(frame.opcode(), OpCode::Ping);
    }
}

#[tokio::test]
async fn history_gives_the_newest_messages() {
    let server = Server::start().await;
    let (mut boris, _) = server.join("").await;
    for index in 1..=5 {
        boris.send(json!({ "type": "publish", "channel": "c", "data": index })).await;
    }
    boris.send(json!({ "type": "history", "channel": "c", "limit": 2, "id": 1 })).await;
    let history = boris.expect("history").await;
    let data = |history: &Value| {
        let messages = history["messages"].as_array().unwrap();
        messages.iter().map(|message| message["data"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((data(&history), &history["offset"]), (vec![4, 5], &json!(5)));
    boris.send(json!({ "type": "history", "channel": "c", "since": 3, "epoch": history["epoch"] })).await;
    let history = boris.expect("history").await;
    assert_eq!((data(&history), &history["complete"]), (vec![4, 5], &json!(true)));
}

#[tokio::test]
async fn direct_messages_broadcasts_and_signals_reach_whom_they_name() {
    let server = Server::start().await;
    let (mut anna, anna_is) = server.join("").await;
    let (mut boris, boris_is) = server.join("").await;
    let anna_id = &anna_is["connection_id"];
    boris.send(json!({ "type": "direct", "connection_id": anna_id, "data": "psst", "id": 1 })).await;
    assert_eq!(boris.expect("published").await["recipients"], 1);
    let direct = anna.expect("direct").await;
    assert_eq!(
        (&direct["data"], &direct["sender"]["connection_id"]),
        (&json!("psst"), &boris_is["connection_id"])
    );
    boris.send(json!({ "type": "broadcast", "data": [1] })).await;
    assert_eq!(anna.expect("broadcast").await["data"], json!([1]));
    assert_eq!(boris.expect("broadcast").await["data"], json!([1]));
    let signal = json!({ "type": "webrtc_signal", "signal_type": "offer", "target_peer_id": anna_id, "sdp": "v=0\r\n", "id": 2 });
    boris.send(signal).await;
    boris.expect("published").await;
    let signal = anna.expect("webrtc_signal").await;
    assert_eq!((&signal["sdp"], &signal["from_peer_id"]), (&json!("v=0\r\n"), &boris_is["connection_id"]));
    let server = Server::with(Setup { access: known(), ..Setup::default() }).await;
    let token = format!("token={}", server.token("anna", Duration::from_mins(10)));
    let mut connections = [server.join(&token).await.0, server.join(&token).await.0];
    let (mut boris, _) = server.join("").await;
    boris.send(json!({ "type": "direct", "user_id": "anna", "data": "all", "id": 3 })).await;
    assert_eq!(boris.expect("published").await["recipients"], 2);
    for connection in &mut connections {
        assert_eq!(connection.expect("direct").await["data"], "all");
    }
    let nobody = json!({ "type": "direct", "user_id": "nobody", "data": 1 });
    assert_eq!(boris.refused(nobody).await, "recipient_not_found");
    let nobody = json!({ "type": "webrtc_signal", "signal_type": "offer", "target_peer_id": "nobody" });
    assert_eq!(boris.refused(nobody).await, "recipient_not_found");
}

#[tokio::test]
async fn a_repeated_message_goes_out_once() {
    let server = Server::start().await;
    let mut anna = server.subscriber("c").await;
    let (mut boris, _) = server.join("").await;
    let message = json!({ "type": "publish", "channel": "c", "data": 1, "idempotency_key": "k", "id": 1 });
    boris.send(message.clone()).await;
    let first = boris.expect("published").await;
    drop(boris);
    let (mut boris, _) = server.join("").await;
    boris.send(message).await;
    let second = boris.expect("published").await;
    assert_eq!((&second["message_id"], &second["repeated"]), (&first["message_id"], &json!(true)));
    let other = json!({ "type": "publish", "channel": "c", "data": 2, "idempotency_key": "k" });
    assert_eq!(boris.refused(other).await, "idempotency_conflict");
    anna.expect("channel_message").await;
    anna.silent().await;
}

#[tokio::test]
async fn only_the_newest_message_waits_where_the_rule_says_so() {
    let rule = ChannelRule { pattern: "cursor:*".into(), latest_only: Some(true), ..ChannelRule::default() };
    let channels = HubSettings { rules: vec![rule], ..HubSettings::default() };
    let server = Server::with(Setup { channels, ..Setup::default() }).await;
    let mut anna = server.subscriber("cursor:1").await;
    let (mut boris, _) = server.join("").await;
    for index in 1..=200 {
        boris.send(json!({ "type": "publish", "channel": "cursor:1", "data": index })).await;
    }
    let mut last = 0;
    while last < 200 {
        let next = anna.expect("channel_message").await["data"].as_u64().unwrap();
        assert!(next > last);
        last = next;
    }
}

#[tokio::test]
async fn compression_changes_nothing_but_the_size() {
    let server = Server::start().await;
    let mut anna = server.connect_compressed().await;
    anna.expect("welcome").await;
    anna.subscribe("c").await;
    let text = "long ".repeat(10_000);
    anna.send(json!({ "type": "publish", "channel": "c", "data": text })).await;
    assert_eq!(anna.expect("channel_message").await["data"], text);
}
