//! Stories of who is told of which TURN server.

use std::sync::Arc;

use serde_json::{Value, json};
use veche_access::{AccessSettings, Authority};
use veche_signaling::protocol::IceServer;
use veche_signaling::{Settings, TurnReport, TurnUsage, TurnUserUsage};

use crate::access::{ask, closed, may, settings, usual};
use crate::server::Server;

const ICE_SERVERS: &str = "/realtime/webrtc/ice-servers?room_id=tea";

/// Tells everybody whose usage it is.
fn tell_of_turn(server: &Server) {
    server.signaling.set_turn(Arc::new(|user| {
        vec![IceServer {
            urls: vec!["turn:192.0.2.1:3478?transport=udp".to_owned()],
            username: Some(format!("2000:{user}")),
            credential: Some("secret".to_owned()),
        }]
    }));
}

fn turn(username: &str) -> Value {
    json!({ "urls": ["turn:192.0.2.1:3478?transport=udp"], "username": username, "credential": "secret" })
}

/// The name in the last of some servers, which is a guest's.
fn guest(ice_servers: &Value) -> String {
    let last = ice_servers.as_array().and_then(|servers| servers.last()).unwrap();
    let name = last["username"].as_str().unwrap();
    assert!(name.starts_with("2000:guest_"), "{name}");
    name.to_owned()
}

#[tokio::test]
async fn whoever_joins_gets_a_credential_of_their_own() {
    let stun_servers = vec!["stun:stun.example:3478".to_owned()];
    let server = Server::start(Settings { stun_servers, ..Settings::default() }).await;
    let stun = json!({ "urls": ["stun:stun.example:3478"] });
    let (_anna, joined) = server.join("room_id=tea&peer_id=anna").await;
    assert_eq!(joined["ice_servers"], json!([stun]));
    tell_of_turn(&server);
    let (_boris, joined) = server.join("room_id=tea&peer_id=boris").await;
    let boris = guest(&joined["ice_servers"]);
    assert_eq!(joined["ice_servers"], json!([stun, turn(&boris)]));
    let answer = server.request("GET", ICE_SERVERS, None).await;
    let nobody = guest(&answer.body["ice_servers"]);
    assert_ne!(nobody, boris);
    assert_eq!((answer.status, &answer.body), (200, &json!({ "ice_servers": [stun, turn(&nobody)] })));
    assert!(answer.headers.contains("cache-control: no-store"), "{}", answer.headers);
}

#[tokio::test]
async fn a_guest_cannot_use_what_a_user_may_have() {
    let access = AccessSettings { required: false, ..settings() };
    let server = Server::start_with(Settings::default(), Authority::new(&access, None).unwrap()).await;
    tell_of_turn(&server);
    let (_guest, joined) = server.join("room_id=tea&peer_id=anna").await;
    assert!(!guest(&joined["ice_servers"]).contains("anna"));
    let (_anna, joined) = server.join(&format!("room_id=cake&token={}", usual("anna"))).await;
    assert_eq!(joined["ice_servers"], json!([turn("2000:user:anna")]));
}

#[tokio::test]
async fn who_may_not_join_gets_none() {
    let server = closed().await;
    tell_of_turn(&server);
    assert_eq!(server.request("GET", ICE_SERVERS, None).await.status, 401);
    assert_eq!(ask(&server, &may("anna", &["subscribe"]), "GET", ICE_SERVERS, None).await.status, 403);
    let answer = ask(&server, &usual("anna"), "GET", ICE_SERVERS, None).await;
    assert_eq!(answer.body, json!({ "ice_servers": [turn("2000:user:anna")] }));
    let without_room = ask(&server, &usual("anna"), "GET", "/realtime/webrtc/ice-servers", None).await;
    assert_eq!(without_room.status, 400);
}

#[tokio::test]
async fn administrators_are_told_who_uses_the_turn_server() {
    const TURN: &str = "/realtime/webrtc/turn";
    let server = Server::start(Settings::default()).await;
    let answer = server.request("GET", TURN, None).await;
    assert_eq!((answer.status, &answer.body["error"]["code"]), (404, &json!("not_found")));
    let usage = TurnUsage { allocations: 2, bytes_to_peers: 7, ..TurnUsage::default() };
    let report =
        TurnReport { total: usage, users: vec![TurnUserUsage { user: "user:anna".to_owned(), usage }] };
    server.signaling.set_turn_reports(Arc::new(move || report.clone()));
    let body = server.request("GET", TURN, None).await.body;
    assert_eq!((&body["total"]["allocations"], &body["users"][0]["user"]), (&json!(2), &json!("user:anna")));
    assert_eq!((&body["users"][0]["bytes_to_peers"], &body["users"][0]["channels"]), (&json!(7), &json!(0)));
    let answer = server.request("POST", TURN, None).await;
    assert_eq!((answer.status, &answer.body["error"]["code"]), (405, &json!("method_not_allowed")));

    let server = closed().await;
    assert_eq!(server.request("GET", TURN, None).await.status, 401);
    assert_eq!(ask(&server, &usual("anna"), "GET", TURN, None).await.status, 403);
}
