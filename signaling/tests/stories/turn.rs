//! Stories of who is told of which TURN server.

use std::sync::Arc;

use serde_json::{Value, json};
use veche_signaling::Settings;
use veche_signaling::protocol::IceServer;

use crate::access::{ask, closed, may, usual};
use crate::server::Server;

const ICE_SERVERS: &str = "/realtime/webrtc/ice-servers?room_id=tea";

/// Tells everybody their own name.
fn tell_of_turn(server: &Server) {
    server.signaling.set_turn(Arc::new(|user| {
        vec![IceServer {
            urls: vec!["turn:192.0.2.1:3478?transport=udp".to_owned()],
            username: Some(format!("2000:{user}")),
            credential: Some("secret".to_owned()),
        }]
    }));
}

fn turn(user: &str) -> Value {
    json!({ "urls": ["turn:192.0.2.1:3478?transport=udp"], "username": format!("2000:{user}"), "credential": "secret" })
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
    assert_eq!(joined["ice_servers"], json!([stun, turn("boris")]));
    let answer = server.request("GET", ICE_SERVERS, None).await;
    assert_eq!((answer.status, &answer.body), (200, &json!({ "ice_servers": [stun, turn("anonymous")] })));
    assert!(answer.headers.contains("cache-control: no-store"), "{}", answer.headers);
}

#[tokio::test]
async fn who_may_not_join_gets_none() {
    let server = closed().await;
    tell_of_turn(&server);
    assert_eq!(server.request("GET", ICE_SERVERS, None).await.status, 401);
    assert_eq!(ask(&server, &may("anna", &["subscribe"]), "GET", ICE_SERVERS, None).await.status, 403);
    let answer = ask(&server, &usual("anna"), "GET", ICE_SERVERS, None).await;
    assert_eq!(answer.body, json!({ "ice_servers": [turn("anna")] }));
    let without_room = ask(&server, &usual("anna"), "GET", "/realtime/webrtc/ice-servers", None).await;
    assert_eq!(without_room.status, 400);
}
