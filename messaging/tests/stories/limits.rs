//! Bad input, too much of it, and who may come in at all.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use veche_hub::HubSettings;
use veche_messaging::Settings;
use yawc::OpCode;

use crate::server::{PATIENCE, Server, Setup, known};

async fn with(settings: Settings) -> Server {
    Server::with(Setup { settings, ..Setup::default() }).await
}

#[tokio::test]
async fn a_limit_may_be_as_large_as_numbers_are() {
    let all = usize::MAX;
    let settings = Settings {
        websocket_max_connections: all,
        sse_max_connections: all,
        grpc_max_connections: all,
        ..Settings::default()
    };
    let server = Server::with(Setup { settings, ..Setup::default() }).await;
    server.join("").await;
    server.messaging.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_message_is_said_and_the_connection_goes_on() {
    let server = Server::start().await;
    let (mut client, _) = server.join("").await;
    let deep = format!(r#"{{"type":"publish","channel":"c","data":{}{}}}"#, "[".repeat(65), "]".repeat(65));
    client.send_text(&deep).await;
    assert_eq!(client.error().await, "bad_message");
    client.send_text(&"[".repeat(100_000)).await;
    assert_eq!(client.error().await, "bad_message");
    for (message, code) in [
        (json!({ "type": "subscribe" }), "bad_message"),
        (json!({ "type": "subscribe", "channel": "a b" }), "bad_channel"),
        (json!({ "type": "subscribe", "channel": "$own" }), "bad_channel"),
        (
            json!({ "type": "subscribe", "channel": "c", "recover": { "epoch": "x", "offset": 1 } }),
            "bad_message",
        ),
        (json!({ "type": "publish", "channel": "c" }), "bad_message"),
        (json!({ "type": "binary", "binary_data": "***" }), "bad_message"),
        (json!({ "type": "direct", "data": 1 }), "bad_message"),
        (json!({ "type": "direct", "user_id": "a", "connection_id": "b", "data": 1 }), "bad_message"),
        (json!({ "type": "broadcast", "data": 1, "persistent": true }), "bad_message"),
        (json!({ "type": "notification", "title": "x".repeat(300) }), "bad_message"),
        (json!({ "type": "ping", "id": { "a": 1 } }), "bad_message"),
        (json!({ "type": "ping", "id": "x".repeat(65) }), "bad_message"),
        (
            json!({ "type": "publish", "channel": "c", "data": 1, "idempotency_key": "x".repeat(129) }),
            "bad_message",
        ),
        (json!({ "type": "publish", "channel": "c", "data": "x".repeat(1 << 20) }), "message_too_large"),
    ] {
        assert_eq!(client.refused(message.clone()).await, code, "{message}");
    }
    let long = "x".repeat((1 << 20) + 1);
    for text in [
        format!(r#"{{"action":"message","text":"{long}"}}"#),
        format!(r#"{{"type":"unknown","data":"{long}"}}"#),
        format!(r#"["{long}"]"#),
        long.clone(),
    ] {
        client.send_text(&text).await;
        assert_eq!(client.error().await, "message_too_large", "{}", &text[..20]);
    }
    for path in ["/realtime/send", "/realtime/broadcast", "/realtime/notifications/broadcast"] {
        let answer = server.post(path, json!({ "channel": "c", "title": "t", "data": long })).await;
        assert_eq!(answer.code(), (413, "message_too_large"), "{path}");
    }
    client.send_text(r#"{"type":"ping","type":"ping"}"#).await;
    assert_eq!(client.error().await, "bad_message");
    client.send_binary(vec![0x21, 0]).await;
    assert_eq!(client.error().await, "bad_message");
    client.send(json!({ "type": "subscribe", "channel": "", "id": "mine" })).await;
    assert_eq!(client.expect("error").await["id"], "mine");
    client.silent().await;
}

#[tokio::test]
async fn what_is_far_too_large_ends_the_connection() {
    let server =
        with(Settings { websocket_binary_max_bytes: 1024, max_message_bytes: 2048, ..Settings::default() })
            .await;
    let (mut client, _) = server.join("").await;
    client.send_binary(vec![0x11; 1025]).await;
    assert_eq!(client.error().await, "message_too_large");
    assert_eq!(client.closed().await.0, 4413);
    let (mut client, _) = server.join("").await;
    client.send_text(&"x".repeat(100_000)).await;
    while client.any_frame().await.is_some_and(|frame| frame.opcode() != OpCode::Close) {}
}

#[tokio::test]
async fn who_sends_too_much_is_told_once_and_then_sent_away() {
    let server = with(Settings { messages_per_second: 1, message_burst: 5, ..Settings::default() }).await;
    let (mut client, _) = server.join("").await;
    // More than ten, in case the machine is slow and gives a few more every second.
    for _ in 0..20 {
        client.send(json!({ "type": "ping" })).await;
    }
    for _ in 0..5 {
        client.expect("pong").await;
    }
    let mut told = client.receive().await;
    while told["type"] == "pong" {
        told = client.receive().await;
    }
    assert_eq!(told["error"]["code"], "rate_limited");
    assert_eq!(client.closed().await.0, 4429);
}

#[tokio::test]
async fn all_connections_of_a_user_share_what_they_may_send() {
    let settings = Settings { user_messages_per_second: 1, user_message_burst: 3, ..Settings::default() };
    let server = Server::with(Setup { settings, access: known(), ..Setup::default() }).await;
    let token = format!("token={}", server.token("anna", Duration::from_mins(10)));
    let mut told = Vec::new();
    for _ in 0..10 {
        let (mut client, _) = server.join(&token).await;
        client.send(json!({ "type": "ping" })).await;
        told.push(client.receive().await["error"]["code"].clone());
    }
    assert!(told[0].is_null() && told.iter().any(|code| code == "rate_limited"), "{told:?}");
}

#[tokio::test]
async fn a_name_has_a_length() {
    let server = Server::start().await;
    let mut client = server.connect(&format!("name={}", "x".repeat(65))).await;
    assert_eq!(client.error().await, "bad_request");
    let (mut client, _) = server.join("").await;
    let long = json!({ "action": "set_username", "username": "x".repeat(65) });
    assert_eq!(client.refused(long).await, "bad_request");
}

#[tokio::test]
async fn what_unfolds_to_too_much_ends_the_connection() {
    let settings =
        Settings { websocket_binary_max_bytes: 1 << 20, max_message_bytes: 1 << 20, ..Settings::default() };
    let server = with(settings).await;
    let mut client = server.connect_compressed().await;
    client.expect("welcome").await;
    // Some hundred kilobytes on the line.
    client.send_text(&" ".repeat(100 << 20)).await;
    let end =
        async { while client.any_frame().await.is_some_and(|frame| frame.opcode() != OpCode::Close) {} };
    tokio::time::timeout(PATIENCE, end).await.expect("it ends");
    let (mut other, _) = server.join("").await;
    other.silent().await;
}

#[tokio::test]
async fn a_stream_that_does_not_read_is_told_and_nobody_waits_for_it() {
    let channels = HubSettings { outbox_bytes: 64 * 1024, ..HubSettings::default() };
    let server = Server::with(Setup { channels, ..Setup::default() }).await;
    let mut slow = server.stream("channel=c", "").await;
    let text = "x".repeat(60_000);
    for number in 0..400 {
        let answer = server.post("/realtime/send", json!({ "channel": "c", "data": [number, text] })).await;
        assert_eq!(answer.status, 200);
    }
    let mut last = None;
    while let Some(event) = slow.next().await {
        last = Some(event);
    }
    let last = last.unwrap();
    assert_eq!((last.name.as_str(), &last.data["reason"]), ("disconnect", &json!("slow_consumer")));
}

#[tokio::test]
async fn an_address_may_ask_only_so_often() {
    let server = with(Settings { requests_per_second: 1, request_burst: 3, ..Settings::default() }).await;
    // However slow the machine is, some of so many come within a second.
    let answers = futures_util::future::join_all((0..50).map(|_| server.get("/realtime/health"))).await;
    assert!(answers.iter().any(|answer| answer.status == 200));
    assert!(answers.iter().any(|answer| answer.code() == (429, "rate_limited")));
}

#[tokio::test]
async fn there_are_only_so_many_connections_and_channels_of_one() {
    let server = Server::with(Setup {
        settings: Settings { websocket_max_connections: 1, sse_max_connections: 1, ..Settings::default() },
        channels: HubSettings { max_subscriptions: 2, ..HubSettings::default() },
        ..Setup::default()
    })
    .await;
    let (mut client, _) = server.join("").await;
    assert!(server.connect_with("", &[]).await.is_none());
    let _stream = server.stream("channel=a", "").await;
    assert_eq!(server.get("/realtime/events").await.code(), (503, "too_many_connections"));
    client.subscribe("a").await;
    client.subscribe("b").await;
    let third = json!({ "type": "subscribe", "channel": "c" });
    assert_eq!(client.refused(third).await, "too_many_subscriptions");
    drop(client);
    let come_back = async {
        while server.connect_with("", &[]).await.is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, come_back).await.expect("a place is free again");
}

#[tokio::test]
async fn who_does_not_read_is_sent_away_and_nobody_waits_for_them() {
    let channels = HubSettings { outbox_bytes: 64 * 1024, ..HubSettings::default() };
    let server = Server::with(Setup { channels, ..Setup::default() }).await;
    let mut slow = server.subscriber("c").await;
    let mut quick = server.subscriber("c").await;
    let (mut boris, _) = server.join("").await;
    let text = "x".repeat(100_000);
    for index in 0..200 {
        let data = format!("{index}{text}");
        let answer = server.post("/realtime/send", json!({ "channel": "c", "data": data })).await;
        assert_eq!(answer.status, 200);
        assert_eq!(quick.expect("channel_message").await["offset"], index + 1);
    }
    boris.silent().await;
    let stats = server.messaging.hub().stats();
    assert_eq!(stats.slow_consumers, 1, "{stats:?}");
    let closed = slow.closed().await;
    assert_eq!(closed.0, 4290);
}

#[tokio::test]
async fn pages_of_other_origins_may_not_come_in() {
    let server =
        with(Settings { allowed_origins: vec!["https://app.example".into()], ..Settings::default() }).await;
    let mut client = server.connect_with("", &[("Origin", "https://evil.example")]).await.unwrap();
    assert_eq!(client.error().await, "forbidden_origin");
    assert_eq!(client.closed().await.0, 4403);
    let mut client = server.connect_with("", &[("Origin", "https://app.example")]).await.unwrap();
    client.expect("welcome").await;
    let answer = server.raw("GET", "/realtime/events", "Origin: https://evil.example\r\n", b"").await;
    assert_eq!(answer.code(), (403, "forbidden_origin"));
    // Browsers send a form without asking first.
    let form = "Origin: https://evil.example\r\nContent-Type: multipart/form-data; boundary=b\r\n";
    let answer = server.raw("POST", "/realtime/binary/upload", form, b"--b--\r\n").await;
    assert_eq!(answer.code(), (403, "forbidden_origin"));
    let answer = server.raw("GET", "/realtime/health", "Origin: https://app.example\r\n", b"").await;
    assert!(answer.headers.contains("access-control-allow-origin: https://app.example"));
}

#[tokio::test]
async fn a_preflight_is_answered_for_listed_pages_and_other_options_are_requests_like_others() {
    let server =
        with(Settings { allowed_origins: vec!["https://app.example".into()], ..Settings::default() }).await;
    let preflight = |origin: &str| format!("Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n");
    let uploads = "/realtime/files/uploads";
    let answer = server.raw("OPTIONS", uploads, &preflight("https://app.example"), b"").await;
    assert!(answer.headers.contains("access-control-allow-origin: https://app.example"));
    assert!(answer.headers.contains("access-control-allow-methods: get,post"));
    let answer = server.raw("OPTIONS", uploads, &preflight("https://evil.example"), b"").await;
    assert!(!answer.headers.contains("access-control-allow-origin"));
    let answer = server.raw("OPTIONS", uploads, "", b"").await;
    assert_eq!(answer.status, 204);
    assert!(answer.headers.contains("tus-extension: creation"), "{}", answer.headers);
}

#[tokio::test]
async fn switched_off_doors_say_so() {
    let server = with(Settings { websocket_enabled: false, sse_enabled: false, ..Settings::default() }).await;
    for path in ["/realtime/ws", "/realtime/events"] {
        assert_eq!(server.get(path).await.code(), (503, "door_disabled"));
    }
}

#[tokio::test]
async fn a_connection_that_dies_without_a_word_is_noticed() {
    let server = Server::with(Setup { access: known(), ..Setup::default() }).await;
    dies_unnoticed_only_for_a_while(&server, "").await;
}

#[tokio::test]
async fn so_is_one_with_a_token_which_is_looked_at_more_often() {
    let server = Server::with(Setup { access: known(), ..Setup::default() }).await;
    let token = server.token("anna", Duration::from_hours(1));
    dies_unnoticed_only_for_a_while(&server, &format!("?token={token}")).await;
}

async fn dies_unnoticed_only_for_a_while(server: &Server, query: &str) {
    let mut io = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "GET /realtime/ws{query} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        server.address
    );
    io.write_all(request.as_bytes()).await.unwrap();
    // The first half of a frame, and then nothing: no pong either.
    io.write_all(&[0x81, 0xfe, 0x10]).await.unwrap();
    let mut said = [0; 1];
    io.read_exact(&mut said).await.unwrap();
    tokio::time::pause();
    let mut said = Vec::new();
    tokio::time::timeout(Duration::from_mins(5), io.read_to_end(&mut said)).await.unwrap().unwrap();
    assert!(said.windows(4).any(|four| four == b"idle"), "{}", String::from_utf8_lossy(&said));
}
