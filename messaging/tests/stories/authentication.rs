//! Who may come in, and for how long.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::json;
use yawc::Frame;

use crate::server::{Server, Setup, required};

const HOUR: Duration = Duration::from_hours(1);

async fn closed_server() -> Server {
    Server::with(Setup { access: required(), ..Setup::default() }).await
}

#[tokio::test]
async fn the_first_message_says_who_one_is_or_the_connection_ends() {
    let server = closed_server().await;
    let token = server.token("42", HOUR);
    for first in [json!({ "type": "auth", "token": token }), json!({ "token": token })] {
        let mut client = server.connect("").await;
        client.send(first).await;
        let welcome = client.expect("welcome").await;
        assert_eq!((&welcome["user_id"], &welcome["authenticated"]), (&json!("42"), &json!(true)));
    }
    for first in [json!({ "type": "ping" }), json!({ "type": "auth" }), json!({ "token": "" })] {
        let mut client = server.connect("").await;
        assert_eq!(client.refused(first).await, "authentication_required");
        assert_eq!(client.closed().await, (4001, "Токен не предоставлен".into()));
    }
    let mut client = server.connect("").await;
    assert_eq!(client.refused(json!({ "token": "wrong" })).await, "invalid_token");
    assert_eq!(client.closed().await, (4002, "Неверный токен".into()));
}

#[tokio::test]
async fn what_comes_right_behind_the_first_message_is_not_lost() {
    let server = closed_server().await;
    // What is asked of a channel that is there already is answered in the order of the questions.
    let (mut other, _) = server.join(&format!("token={}", server.token("43", HOUR))).await;
    other.subscribe("news").await;
    let auth = json!({ "type": "auth", "token": server.token("42", HOUR) }).to_string();
    let (begin, end) = auth.split_at(auth.len() / 2);
    let text = |value: serde_json::Value| Frame::text(value.to_string());
    for compressed in [false, true] {
        let mut client =
            if compressed { server.connect_compressed().await } else { server.connect("").await };
        let first = if compressed {
            vec![Frame::ping("here"), Frame::text(auth.clone())]
        } else {
            let begin = Frame::text(begin.to_owned()).with_fin(false);
            vec![begin, Frame::ping("here"), Frame::continuation(end.to_owned())]
        };
        let large = "x".repeat(500_000);
        let behind = [
            text(json!({ "type": "subscribe", "channel": "news" })),
            text(json!({ "type": "publish", "channel": "news", "data": large })),
            text(json!({ "type": "ping", "id": "last" })),
        ];
        client.send_at_once(first.into_iter().chain(behind).collect()).await;
        assert_eq!(client.expect("welcome").await["user_id"], "42");
        client.expect("subscribed").await;
        assert_eq!(client.expect("channel_message").await["data"], large);
        assert_eq!(client.expect("pong").await["id"], "last");
    }
}

#[tokio::test]
async fn a_stranger_may_send_little_and_unfold_little() {
    let server = closed_server().await;
    let padded = |bytes: usize| {
        let token = server.token("42", HOUR);
        Frame::text(json!({ "type": "auth", "token": token, "padding": "x".repeat(bytes) }).to_string())
    };
    let mut client = server.connect("").await;
    client.send_at_once(vec![padded(60_000)]).await;
    client.expect("welcome").await;

    let piece = || Frame::text("x".repeat(30_000)).with_fin(false);
    let pieces = vec![
        piece(),
        Frame::continuation("x".repeat(30_000)).with_fin(false),
        Frame::continuation("x".repeat(9_000)),
    ];
    let pings = vec![Frame::ping("x".repeat(100)); 700];
    for frames in [vec![padded(70_000)], vec![padded(4_000_000)], pieces, pings] {
        let mut client = server.connect("").await;
        // What comes after the refusal is not taken, so sending may fail.
        let _ = client.try_send_at_once(frames).await;
        assert_eq!(client.error().await, "message_too_large");
        assert_eq!(client.closed().await.0, 4413);
    }
    // Some 20 KB that unfold to 20 MB.
    let mut client = server.connect_compressed().await;
    client.send_at_once(vec![padded(20_000_000)]).await;
    assert_eq!(client.error().await, "message_too_large");
    assert_eq!(client.closed().await.0, 4413);
    // Who is known has the limits of the settings.
    let (mut client, _) = server.join(&format!("token={}", server.token("42", HOUR))).await;
    client.subscribe("news").await;
    client.send(json!({ "type": "publish", "channel": "news", "data": "x".repeat(500_000) })).await;
    client.expect("channel_message").await;
}

#[tokio::test]
async fn the_handshake_can_say_it_too() {
    let server = closed_server().await;
    let token = server.token("42", HOUR);
    let (_, welcome) = server.join(&format!("token={token}")).await;
    assert_eq!(welcome["user_id"], "42");
    let headers = [("Authorization", format!("Bearer {token}"))];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut client = server.connect_with("", &headers).await.unwrap();
    assert_eq!(client.expect("welcome").await["user_id"], "42");
    let mut client = server.connect("token=wrong").await;
    assert_eq!(client.error().await, "invalid_token");
    assert_eq!(client.closed().await.0, 4002);
}

#[tokio::test]
async fn expired_and_forged_tokens_are_refused_at_every_door() {
    let server = closed_server().await;
    let long_ago = SystemTime::now() - 2 * HOUR;
    let expired = server.token_at("42", HOUR, long_ago);
    let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = part(json!({ "sub": "42", "exp": 4_000_000_000_u64 }));
    let unsigned = format!("{}.{claims}.", part(json!({ "alg": "none", "typ": "JWT" })));
    for (token, code) in [(expired, "token_expired"), (unsigned, "invalid_token")] {
        let mut client = server.connect(&format!("token={token}")).await;
        assert_eq!(client.error().await, code);
        assert_eq!(client.closed().await.0, 4002);
        let bearer = format!("Authorization: Bearer {token}\r\n");
        let answer = server.post_with("/realtime/send", &bearer, json!({ "channel": "c", "data": 1 })).await;
        assert_eq!(answer.code(), (401, code));
        assert_eq!(server.get(&format!("/realtime/events?token={token}")).await.code(), (401, code));
    }
    assert_eq!(server.get("/realtime/events").await.code(), (401, "authentication_required"));
    assert_eq!(server.get("/realtime/connections").await.code(), (401, "authentication_required"));
    assert_eq!(server.get("/realtime/health").await.status, 200);
}

#[tokio::test]
async fn who_says_nothing_for_ten_seconds_is_sent_away() {
    let server = closed_server().await;
    let mut client = server.connect("").await;
    client.patience = HOUR;
    tokio::time::pause();
    assert_eq!(client.error().await, "authentication_timeout");
    assert_eq!(client.closed().await, (4003, "Таймаут аутентификации".into()));
}

#[tokio::test]
async fn a_token_ends_the_connection_with_it_unless_it_is_renewed() {
    let server = Server::with(Setup {
        access: veche_access::AccessSettings { leeway_seconds: 0, ..required() },
        ..Setup::default()
    })
    .await;
    let short = server.token("42", Duration::from_secs(4));
    let (mut renewed, _) = server.join(&format!("token={short}")).await;
    let (mut client, _) = server.join(&format!("token={short}")).await;
    renewed.send(json!({ "type": "auth", "token": server.token("42", HOUR), "id": 1 })).await;
    let authenticated = renewed.expect("authenticated").await;
    assert_eq!((&authenticated["id"], &authenticated["user_id"]), (&json!(1), &json!("42")));
    assert_eq!(client.error().await, "token_expired");
    assert_eq!(client.expect("disconnect").await["reason"], "token_expired");
    assert_eq!(client.closed().await.0, 4002);
    renewed.silent().await;
    assert_eq!(renewed.refused(json!({ "type": "auth", "token": "wrong" })).await, "invalid_token");
    renewed.send(json!({ "type": "auth", "token": server.token("43", HOUR) })).await;
    assert_eq!(renewed.expect("welcome").await["user_id"], "43");
}

#[tokio::test]
async fn a_narrower_token_ends_what_it_does_not_allow() {
    let server = closed_server().await;
    let wide = server.granted("42", json!({ "channels": { "*": ["subscribe", "send"] } }));
    let (mut client, _) = server.join(&format!("token={wide}")).await;
    client.subscribe("news").await;
    client.subscribe("tea").await;
    let narrow = server.granted("42", json!({ "channels": { "news": ["subscribe"] } }));
    client.send(json!({ "type": "auth", "token": narrow })).await;
    assert_eq!(client.expect("unsubscribed").await["channel"], "tea");
    client.expect("authenticated").await;
    assert_eq!(client.refused(json!({ "type": "publish", "channel": "news", "data": 1 })).await, "forbidden");
}

#[tokio::test]
async fn on_an_open_server_a_token_is_harmless() {
    let server = Server::start().await;
    let (mut client, _) = server.join("token=undefined").await;
    client.send(json!({ "type": "auth", "token": "undefined", "id": 1 })).await;
    assert_eq!(client.expect("authenticated").await["id"], 1);
    let bearer = "Authorization: Bearer undefined\r\n";
    let answer = server.post_with("/realtime/send", bearer, json!({ "channel": "c", "data": 1 })).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn nobody_else_reads_the_channel_of_a_user() {
    let server = closed_server().await;
    let (mut anna, _) = server.join(&format!("token={}", server.token("anna", HOUR))).await;
    let (mut boris, _) = server.join(&format!("token={}", server.token("boris", HOUR))).await;
    anna.subscribe("user_anna").await;
    let wish = json!({ "type": "subscribe", "channel": "user_anna" });
    assert_eq!(boris.refused(wish).await, "forbidden");
    let token = format!("Authorization: Bearer {}\r\n", server.token("boris", HOUR));
    let path = "/realtime/channels/user_anna/history";
    assert_eq!(server.raw("GET", path, &token, b"").await.code(), (403, "forbidden"));
}
