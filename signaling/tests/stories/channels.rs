//! The channels of a room over its signaling WebSocket.

use serde_json::{Value, json};
use veche_access::Authority;
use veche_hub::HubSettings;
use veche_messaging::{Messaging, Parts};
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

#[tokio::test]
async fn without_messaging_a_type_alone_is_no_signal() {
    let server = Server::start(Settings::default()).await;
    let (mut anna, _) = server.join("room_id=r").await;
    anna.send(json!({ "type": "ping" })).await;
    assert_eq!(anna.error().await, "bad_message");
}
