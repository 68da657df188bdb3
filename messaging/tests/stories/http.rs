//! The HTTP API.

use std::time::Duration;

use serde_json::json;

use crate::server::{Server, Setup, known};

#[tokio::test]
async fn what_is_sent_reaches_channels_users_connections_and_everybody() {
    let server = Server::start().await;
    let (mut anna, welcome) = server.join("").await;
    anna.subscribe("c").await;
    let answer = server.post("/realtime/send", json!({ "channel": "c", "data": { "a": 1 } })).await;
    assert_eq!(answer.status, 200);
    assert_eq!((&answer.body["status"], &answer.body["channel"]), (&json!("sent"), &json!("c")));
    assert_eq!((&answer.body["offset"], &answer.body["recipients"]), (&json!(1), &json!(1)));
    let message = anna.expect("channel_message").await;
    assert_eq!((&message["message_id"], &message["data"]), (&answer.body["message_id"], &json!({ "a": 1 })));
    let direct = json!({ "connection_id": welcome["connection_id"], "data": 1 });
    assert_eq!(server.post("/realtime/send", direct).await.status, 200);
    anna.expect("direct").await;
    assert_eq!(server.post("/realtime/broadcast", json!({ "data": 2 })).await.body["recipients"], 1);
    assert_eq!(anna.expect("broadcast").await["data"], 2);
    let text = json!({ "text": "Это сообщение", "channel": "c" });
    assert_eq!(server.post("/realtime/binary/text", text).await.status, 200);
    let binary = anna.expect("binary").await;
    assert_eq!((&binary["content_type"], &binary["size"]), (&json!("text/plain; charset=utf-8"), &json!(25)));
    let nobody = json!({ "user_id": "nobody", "data": 1 });
    assert_eq!(server.post("/realtime/send", nobody).await.code(), (404, "recipient_not_found"));
}

#[tokio::test]
async fn notifications_go_to_a_user_a_channel_and_everybody() {
    let server = Server::start().await;
    let mut anna = server.subscriber("user_42").await;
    anna.subscribe("c").await;
    let note = json!({ "user_id": "42", "title": "t", "body": "b", "notification_type": "message", "data": { "x": 1 } });
    assert_eq!(server.post("/realtime/notifications/send", note).await.status, 200);
    let notification = anna.expect("notification").await;
    assert_eq!(
        (&notification["title"], &notification["notification_type"]),
        (&json!("t"), &json!("message"))
    );
    assert_eq!(notification["data"], json!({ "x": 1 }));
    let note = json!({ "channel": "c", "title": "for a channel" });
    assert_eq!(server.post("/realtime/notifications/channel", note).await.status, 200);
    assert_eq!(anna.expect("notification").await["notification_type"], "info");
    assert_eq!(server.post("/realtime/notifications/broadcast", json!({ "title": "all" })).await.status, 200);
    assert_eq!(anna.expect("notification").await["title"], "all");
}

#[tokio::test]
async fn a_notification_finds_those_who_want_it_or_waits_and_never_comes_twice() {
    let server = Server::start().await;
    let key = "Idempotency-Key: 1\r\n";
    let note = json!({ "user_id": "42", "title": "t", "notification_type": "call" });
    for repeated in [false, true] {
        let answer = server.post_with("/realtime/notifications/send", key, note.clone()).await;
        assert_eq!((answer.status, &answer.body["repeated"]), (200, &json!(repeated)), "nobody is there");
    }
    let other = json!({ "user_id": "42", "title": "another" });
    let answer = server.post_with("/realtime/notifications/send", key, other).await;
    assert_eq!(answer.code(), (409, "idempotency_conflict"));

    let server = Server::with(Setup { access: known(), ..Setup::default() }).await;
    let token = format!("token={}", server.token("42", Duration::from_mins(10)));
    let (mut picky, _) = server.join(&token).await;
    let filters = json!({ "notification_types": ["message"] });
    picky.send(json!({ "type": "subscribe", "channel": "user_42", "filters": filters })).await;
    picky.expect("subscribed").await;
    let (mut open, _) = server.join(&token).await;
    assert_eq!(server.post("/realtime/notifications/send", note).await.body["recipients"], 1);
    open.expect("notification").await;
    picky.silent().await;
}

#[tokio::test]
async fn an_idempotency_key_makes_a_repeated_request_harmless() {
    let server = Server::start().await;
    let mut anna = server.subscriber("c").await;
    let key = "Idempotency-Key: abc\r\n";
    for (path, body) in [
        ("/realtime/send", json!({ "channel": "c", "data": 1 })),
        ("/realtime/broadcast", json!({ "data": 1 })),
        ("/realtime/binary/send", json!({ "binary_data": "aGVsbG8=", "content_type": "text/plain" })),
        ("/realtime/notifications/broadcast", json!({ "title": "t" })),
    ] {
        let key = format!("{}-{}\r\n", key.trim_end(), path.replace('/', "-"));
        let first = server.post_with(path, &key, body.clone()).await;
        let second = server.post_with(path, &key, body).await;
        assert_eq!((first.status, second.status), (200, 200), "{}", second.body);
        assert_eq!(first.body["message_id"], second.body["message_id"]);
        assert_eq!((&first.body["repeated"], &second.body["repeated"]), (&json!(false), &json!(true)));
        anna.receive().await;
        anna.silent().await;
    }
    let send =
        async |data| server.post_with("/realtime/send", key, json!({ "channel": "c", "data": data })).await;
    assert_eq!(send(1).await.status, 200);
    assert_eq!(send(2).await.code(), (409, "idempotency_conflict"));
    let long = format!("Idempotency-Key: {}\r\n", "x".repeat(129));
    let body = json!({ "channel": "c", "data": 1 });
    assert_eq!(server.post_with("/realtime/send", &long, body).await.code(), (400, "bad_idempotency_key"));
}

#[tokio::test]
async fn who_is_connected_and_what_was_said_can_be_asked() {
    let server = Server::start().await;
    let (mut anna, welcome) = server.join("name=Anna").await;
    anna.subscribe("c/d").await;
    let _stream = server.stream("channel=c/d", "").await;
    let connections = server.get("/realtime/connections").await.body;
    assert_eq!(
        (&connections["total"], &connections["websocket"], &connections["sse"]),
        (&json!(2), &json!(1), &json!(1))
    );
    assert_eq!(connections["channels"], json!({ "c/d": 2 }));
    assert_eq!(connections["connections"][0]["connection_id"], welcome["connection_id"]);
    server.post("/realtime/send", json!({ "channel": "c/d", "data": 1 })).await;
    let channels = server.get("/realtime/channels").await.body;
    assert_eq!(
        (&channels["channels"][0]["channel"], &channels["channels"][0]["offset"]),
        (&json!("c/d"), &json!(1))
    );
    let history = server.get("/realtime/channels/c%2Fd/history").await.body;
    assert_eq!((&history["messages"][0]["data"], &history["complete"]), (&json!(1), &json!(true)));
    let presence = server.get("/realtime/channels/c%2Fd/presence").await.body;
    assert_eq!((&presence["total"], &presence["presence"][0]["name"]), (&json!(2), &json!("Anna")));
    let health = server.get("/realtime/health").await;
    assert_eq!(
        (health.status, &health.body["status"], &health.body["storage"]),
        (200, &json!("ok"), &json!("ok"))
    );
    assert_eq!(health.body["websocket"]["connections"], 1);
}

#[tokio::test]
async fn the_event_log_can_be_read_on() {
    let server = Server::start().await;
    let body = json!({ "channel": "c", "data": 1, "persistent": true });
    assert_eq!(server.post("/realtime/send", body).await.status, 200);
    server.database.flush().await.unwrap();
    let events = server.get("/realtime/channels/c/events").await.body;
    let kinds: Vec<_> =
        events["events"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"channel.created") && kinds.contains(&"message.kept"), "{kinds:?}");
    let rest = server.get(&format!("/realtime/channels/c/events?since={}", events["next"])).await.body;
    assert_eq!((&rest["events"], &rest["next"]), (&json!([]), &events["next"]));
    assert_eq!(server.get("/realtime/webrtc/rooms/r/events").await.body["events"], json!([]));
}

#[tokio::test]
async fn a_log_that_is_out_of_reach_is_told_without_its_reasons() {
    let server = Server::start().await;
    server.database.close().await;
    let answer = server.get("/realtime/channels/c/events").await;
    assert_eq!(answer.code(), (503, "storage_unavailable"));
    assert_eq!(answer.body["error"]["message"], "the event log is out of reach; try again in a moment");
}

#[tokio::test]
async fn bad_requests_are_told_what_to_change() {
    let server = Server::start().await;
    for (path, body, expected) in [
        ("/realtime/send", json!({ "data": 1 }), (400, "bad_request")),
        ("/realtime/send", json!({ "channel": "c" }), (400, "bad_request")),
        ("/realtime/send", json!({ "channel": "a b", "data": 1 }), (400, "bad_channel")),
        ("/realtime/send", json!({ "channel": "$own", "data": 1 }), (400, "bad_channel")),
        ("/realtime/send", json!({ "channel": "a", "user_id": "b", "data": 1 }), (400, "bad_message")),
        ("/realtime/send", json!({ "connection_id": "x", "data": 1 }), (400, "bad_message")),
        ("/realtime/send", json!({ "user_id": "a", "data": 1, "persistent": true }), (400, "bad_request")),
        ("/realtime/binary/send", json!({ "binary_data": "***" }), (400, "bad_message")),
        ("/realtime/notifications/send", json!({ "title": "t" }), (400, "bad_request")),
        ("/realtime/notifications/channel", json!({ "channel": "c", "title": 1 }), (400, "bad_request")),
    ] {
        let answer = server.post(path, body.clone()).await;
        assert_eq!(answer.code(), expected, "{path} {body}: {}", answer.body);
    }
    let deep = format!(r#"{{"channel":"c","data":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let json = "Content-Type: application/json\r\n";
    assert_eq!(
        server.raw("POST", "/realtime/send", json, deep.as_bytes()).await.code(),
        (400, "bad_message")
    );
    assert_eq!(server.raw("POST", "/realtime/send", json, b"{").await.code(), (400, "bad_request"));
    assert_eq!(server.raw("POST", "/realtime/send", "", b"{}").await.code(), (400, "bad_request"));
    assert_eq!(server.get("/realtime/send").await.code(), (405, "method_not_allowed"));
    assert_eq!(server.get("/realtime/channels/c/history?since=x").await.code(), (400, "bad_request"));
    assert_eq!(server.get("/realtime/channels/c/history?epoch=x").await.code(), (400, "bad_message"));
}
