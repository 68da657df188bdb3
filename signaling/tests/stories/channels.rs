//! The channels of a room over its signaling WebSocket.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use veche_access::{Authority, Credential, Door};
use veche_hub::{HubSettings, Outbox};
use veche_messaging::{Encoded, Encoding, Messaging, Parts, Session, encode_item};
use veche_signaling::Settings;

use crate::access;
use crate::server::{Client, Server};

async fn server() -> (Server, Messaging) {
    server_with(Authority::open()).await
}

async fn server_with(authority: Authority) -> (Server, Messaging) {
    let server = Server::start_with(Settings::default(), authority.clone()).await;
    let parts = Parts { channels: HubSettings::default(), authority, files: None, database: None };
    let messaging = Messaging::start(veche_messaging::Settings::default(), parts).await.unwrap();
    server.signaling.connect(messaging.clone());
    (server, messaging)
}

/// The next message with this type, others passed over.
async fn next(client: &mut Client, kind: &str) -> Value {
    loop {
        let message = client.receive().await;
        if message["type"] == kind {
            return message;
        }
    }
}

#[tokio::test]
async fn who_is_in_a_room_may_use_its_channels_and_no_others() {
    let (server, _messaging) = server_with(Authority::new(&access::settings(), None).unwrap()).await;
    let query = |name: &str| {
        let token = access::may(name, &["join", "subscribe", "send"]);
        format!("room_id=tea&name={name}&token={token}")
    };
    let (mut anna, _) = server.join(&query("Anna")).await;
    let (mut boris, _) = server.join(&query("Boris")).await;
    anna.send(json!({ "type": "subscribe", "channel": "room:tea:chat", "presence": true, "id": 1 })).await;
    assert_eq!(next(&mut anna, "subscribed").await["channel"], "room:tea:chat");
    boris
        .send(json!({ "type": "channel_message", "channel": "room:tea:chat", "data": "Привет", "id": 2 }))
        .await;
    assert_eq!(next(&mut boris, "published").await["recipients"], 1);
    let message = next(&mut anna, "channel_message").await;
    assert_eq!((&message["data"], &message["sender"]["name"]), (&json!("Привет"), &json!("Boris")));
    for channel in ["room:other", "room:tea2", "news"] {
        boris.send(json!({ "type": "subscribe", "channel": channel })).await;
        assert_eq!(next(&mut boris, "error").await["error"]["code"], "forbidden", "{channel}");
    }
    boris.round_trip().await;
}

#[tokio::test]
async fn the_channel_of_a_room_tells_what_happens_in_it() {
    let (server, _messaging) = server().await;
    let (mut anna, _) = server.join("room_id=r&name=Anna").await;
    anna.send(json!({ "type": "subscribe", "channel": "room:r" })).await;
    next(&mut anna, "subscribed").await;
    let (mut boris, joined) = server.join("room_id=r&name=Boris").await;
    let event = next(&mut anna, "channel_message").await["data"].clone();
    assert_eq!((&event["event"], &event["name"]), (&json!("participant.joined"), &json!("Boris")));
    assert_eq!(event["participant_id"], joined["peer_id"]);
    boris.send(json!({ "signal_type": "leave" })).await;
    assert_eq!(next(&mut anna, "channel_message").await["data"]["event"], "participant.left");
}

/// Somebody at another door than signaling.
struct Elsewhere {
    session: Session,
    outbox: Outbox,
}

impl Elsewhere {
    async fn open(messaging: &Messaging, token: &str) -> Self {
        let credential = Credential::Token(token.to_owned());
        let identity = messaging.authority().identify(Door::WebSocket, Some(&credential)).await.unwrap();
        let (session, outbox) = messaging.session(veche_hub::Door::WebSocket, identity, None).unwrap();
        Self { session, outbox }
    }

    async fn send(&mut self, message: Value) {
        self.session.handle_text(&message.to_string()).await;
    }

    /// The next message of this type, others passed over.
    async fn next(&mut self, kind: &str) -> Value {
        loop {
            let item = self.outbox.next().await.expect("the connection is open");
            let Some(Encoded::Text(text)) = encode_item(item, Encoding::Json) else { continue };
            let message: Value = serde_json::from_slice(&text).unwrap();
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// What becomes of a request: its type, or the code of the error.
    async fn outcome(&mut self, mut request: Value) -> String {
        request["id"] = 7.into();
        self.send(request).await;
        loop {
            let item = self.outbox.next().await.expect("the connection is open");
            let Some(Encoded::Text(text)) = encode_item(item, Encoding::Json) else { continue };
            let message: Value = serde_json::from_slice(&text).unwrap();
            if message["id"] == 7 {
                let code = message["error"]["code"].as_str();
                return code.or(message["type"].as_str()).unwrap().to_owned();
            }
        }
    }
}

/// The status of sending into the room's channel over HTTP.
async fn sent(doors: &Server, token: &str) -> u16 {
    let body = json!({ "channel": "room:tea:chat", "data": 1 });
    access::ask(doors, token, "POST", "/realtime/send", Some(body)).await.status
}

#[tokio::test]
async fn what_moderators_say_binds_a_user_at_every_door() {
    let (server, messaging) = server_with(Authority::new(&access::settings(), None).unwrap()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = messaging.router().into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let Server { signaling, commands, events, .. } = &server;
    let doors =
        Server { signaling: signaling.clone(), address, commands: commands.clone(), events: events.clone() };
    let (moderator, boris) = (access::may("anna", &["*"]), access::may("boris", &["*"]));
    let moderate = async |path: &str, method: &str, body: Value| {
        let path = format!("{}/tea{path}", access::ROOMS);
        access::ask(&server, &moderator, method, &path, Some(body)).await.status
    };
    let (mut anna, _) = server.join(&format!("room_id=tea&peer_id=host&token={moderator}")).await;
    let (mut there, _) = server.join(&format!("room_id=tea&peer_id=boris&token={boris}")).await;
    let mut elsewhere = Elsewhere::open(&messaging, &boris).await;
    let subscribe = json!({ "type": "subscribe", "channel": "room:tea:chat" });
    let publish = json!({ "type": "publish", "channel": "room:tea:chat", "data": 1 });
    let signal =
        json!({ "type": "webrtc_signal", "room_id": "tea", "target_peer_id": "host", "signal_type": "x" });
    assert_eq!(elsewhere.outcome(subscribe.clone()).await, "subscribed");
    assert_eq!(elsewhere.outcome(publish.clone()).await, "published");
    assert_eq!(elsewhere.outcome(signal.clone()).await, "published");
    let from = elsewhere.session.connection().id().to_string();
    assert_eq!(heard(&mut anna, "x").await["from_peer_id"], from);
    assert_eq!(sent(&doors, &boris).await, 200);

    // They may only read.
    let grants = json!({ "grants": ["join", "subscribe"] });
    assert_eq!(moderate("/participants/boris/grants", "PUT", grants).await, 200);
    for request in [&publish, &signal] {
        assert_eq!(elsewhere.outcome(request.clone()).await, "forbidden", "{request}");
    }
    there.send(publish.clone()).await;
    assert_eq!(next(&mut there, "error").await["error"]["code"], "forbidden");
    assert_eq!(sent(&doors, &boris).await, 403);
    let body = json!({ "room_id": "tea", "target_peer_id": "host", "signal_type": "y" });
    let relayed = access::ask(&server, &boris, "POST", "/realtime/webrtc/signal", Some(body)).await;
    assert_eq!(relayed.status, 403);
    // Nor give back to themselves what their token grants.
    let path = format!("{}/tea/participants/boris/grants", access::ROOMS);
    let restored =
        access::ask(&server, &boris, "PUT", &path, Some(json!({ "grants": ["join", "send"] }))).await;
    assert_eq!(restored.status, 403);
    assert_eq!(elsewhere.outcome(subscribe.clone()).await, "subscribed");

    // They may not even read: what they read ends.
    there.send(subscribe.clone()).await;
    next(&mut there, "subscribed").await;
    assert_eq!(moderate("/participants/boris/grants", "PUT", json!({ "grants": ["join"] })).await, 200);
    assert_eq!(elsewhere.next("unsubscribed").await["channel"], "room:tea:chat");
    assert_eq!(next(&mut there, "unsubscribed").await["channel"], "room:tea:chat");
    assert_eq!(elsewhere.outcome(subscribe.clone()).await, "forbidden");
    there.send(subscribe.clone()).await;
    assert_eq!(next(&mut there, "error").await["error"]["code"], "forbidden");

    // Who is banned has nothing of the room at all.
    assert_eq!(moderate("/participants/boris/grants", "PUT", json!({ "grants": ["*"] })).await, 200);
    assert_eq!(elsewhere.outcome(subscribe.clone()).await, "subscribed");
    assert_eq!(moderate("/participants/boris/ban", "POST", json!({})).await, 204);
    elsewhere.next("unsubscribed").await;
    for request in [&subscribe, &publish, &signal] {
        assert_eq!(elsewhere.outcome(request.clone()).await, "forbidden", "{request}");
    }
    assert_eq!(sent(&doors, &boris).await, 403);
    let seen = access::ask(&server, &boris, "GET", &format!("{}/tea", access::ROOMS), None).await;
    assert_eq!((seen.status, &seen.body["error"]["code"]), (403, &json!("banned")));
    let listed = access::ask(&server, &boris, "GET", access::ROOMS, None).await;
    assert_eq!(listed.body["total"], 0);
    assert_eq!(moderate("/bans", "DELETE", json!({ "user_id": "boris" })).await, 204);
    assert_eq!(sent(&doors, &boris).await, 200);

    // A locked room, and one with a waiting room, are closed for who is not in them; not for who is.
    let carol = access::may("carol", &["join", "subscribe", "send"]);
    assert_eq!(sent(&doors, &carol).await, 200);
    for field in ["locked", "waiting_room"] {
        let mut reader = Elsewhere::open(&messaging, &carol).await;
        assert_eq!(reader.outcome(subscribe.clone()).await, "subscribed");
        anna.send(subscribe.clone()).await;
        next(&mut anna, "subscribed").await;
        assert_eq!(moderate("", "PUT", json!({ field: true })).await, 200);
        assert_eq!(reader.next("unsubscribed").await["channel"], "room:tea:chat");
        anna.send(publish.clone()).await;
        next(&mut anna, "channel_message").await;
        assert_eq!(sent(&doors, &carol).await, 403, "{field}");
        assert_eq!(sent(&doors, &moderator).await, 200, "{field}");
        assert_eq!(moderate("", "PUT", json!({ field: false })).await, 200);
    }
    let (_carol, _) = server.join(&format!("room_id=tea&peer_id=carol&token={carol}")).await;
    assert_eq!(moderate("", "PUT", json!({ "locked": true })).await, 200);
    assert_eq!(sent(&doors, &carol).await, 200);
}

/// The next signal of this type.
async fn heard(client: &mut Client, signal_type: &str) -> Value {
    loop {
        let message = client.receive().await;
        if message["signal_type"] == signal_type {
            return message;
        }
    }
}

#[tokio::test]
async fn what_is_told_of_a_room_is_all_there_is_and_says_whose_doing_it_was() {
    let (server, _messaging) = server_with(Authority::new(&access::settings(), None).unwrap()).await;
    let token = access::may("anna", &["*"]);
    let (mut anna, _) = server.join(&format!("room_id=tea&peer_id=anna&token={token}")).await;
    anna.send(json!({ "type": "subscribe", "channel": "room:tea" })).await;
    next(&mut anna, "subscribed").await;
    let (mut boris, _) =
        server.join(&format!("room_id=tea&peer_id=b&token={}", access::usual("boris"))).await;
    let mut told = async || next(&mut anna, "channel_message").await["data"].clone();
    let joined = told().await;
    assert_eq!((&joined["event"], &joined["user_id"]), (&json!("participant.joined"), &json!("boris")));
    boris.send(json!({ "signal_type": "update", "name": "Bob", "metadata": { "hand": true } })).await;
    boris.send(json!({ "signal_type": "update", "metadata": { "hand": false } })).await;
    let renamed = told().await;
    assert_eq!((&renamed["event"], &renamed["name"]), (&json!("participant.updated"), &json!("Bob")));

    let room = format!("{}/tea", access::ROOMS);
    let ask = async |method, path: &str, body| {
        let status = access::ask(&server, &token, method, &format!("{room}{path}"), Some(body)).await.status;
        assert!(status < 300, "{path}: {status}");
    };
    ask("PUT", "", json!({ "locked": true })).await;
    let updated = told().await;
    assert_eq!(
        updated,
        json!({
            "event": "room.updated", "room_id": "tea", "name": "tea",
            "max_participants": updated["max_participants"], "locked": true, "waiting_room": false
        })
    );
    ask("PUT", "/participants/b/grants", json!({ "grants": ["join"] })).await;
    let granted = told().await;
    assert_eq!((&granted["event"], &granted["grants"]), (&json!("participant.granted"), &json!(["join"])));
    assert_eq!((&granted["user_id"], &granted["participant_id"]), (&json!("anna"), &json!("b")));
    ask("POST", "/participants/b/ban", json!({})).await;
    let banned = told().await;
    assert_eq!(
        (&banned["event"], &banned["who"]),
        (&json!("participant.banned"), &json!({ "user_id": "boris" }))
    );
    let left = told().await;
    assert_eq!((&left["event"], &left["user_id"]), (&json!("participant.left"), &json!("boris")));
    ask("DELETE", "/bans", json!({ "user_id": "boris" })).await;
    assert_eq!(told().await["event"], "participant.unbanned");
}

#[tokio::test]
async fn without_messaging_a_type_alone_is_no_signal() {
    let server = Server::start(Settings::default()).await;
    let (mut anna, _) = server.join("room_id=r").await;
    anna.send(json!({ "type": "ping" })).await;
    assert_eq!(anna.error().await, "bad_message");
}
