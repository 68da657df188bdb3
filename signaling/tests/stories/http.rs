//! Stories over HTTP.

use crate::server::Server;
use serde_json::{Value, json};
use veche_sfu_core::control::{Command, Event, ParticipantStats, Quality};
use veche_sfu_core::drops::DropCounts;
use veche_sfu_core::ids::{Mid, TrackId};
use veche_sfu_core::timeline::{Decision, Entry, LayerReason};
use veche_signaling::Settings;

const ROOMS: &str = "/realtime/webrtc/rooms";
const CONNECTIONS: &str = "/realtime/webrtc/connections";

#[tokio::test]
async fn a_room_is_made_listed_shown_changed_and_deleted() {
    let server = Server::start(Settings::default()).await;
    let new = json!({ "room_id": "meeting_123", "name": "Встреча команды", "max_participants": 10 });
    let made = server.request("POST", ROOMS, Some(new.clone())).await;
    assert_eq!(made.status, 201);
    assert!(made.headers.contains("location: /realtime/webrtc/rooms/meeting_123"));
    assert_eq!(made.body["name"], "Встреча команды");
    assert_eq!(made.body["participants"], json!([]));
    let again = server.request("POST", ROOMS, Some(new)).await;
    assert_eq!((again.status, &again.body["error"]["code"]), (409, &json!("room_exists")));

    let (mut anna, _) = server.join("room_id=meeting_123&peer_id=anna").await;
    let list = server.request("GET", ROOMS, None).await;
    assert_eq!(list.body["total"], 1);
    assert_eq!(list.body["rooms"][0]["participant_count"], 1);
    let path = format!("{ROOMS}/meeting_123");
    let shown = server.request("GET", &path, None).await;
    assert_eq!(shown.body["participants"][0]["peer_id"], "anna");
    assert_eq!(shown.body["permanent"], true);

    let changed = server.request("PUT", &path, Some(json!({ "name": "Tea", "max_participants": 1 }))).await;
    assert_eq!((changed.status, &changed.body["max_participants"]), (200, &json!(1)));
    let told = anna.expect("room-updated").await;
    assert_eq!(
        told["room"],
        json!({ "room_id": "meeting_123", "name": "Tea", "max_participants": 1, "locked": false, "waiting_room": false })
    );
    assert_eq!(server.refused("room_id=meeting_123").await.0, "room_full");

    assert_eq!(server.request("DELETE", &path, None).await.status, 204);
    assert_eq!(anna.error().await, "room_deleted");
    assert_eq!(anna.closed().await, 4410);
    assert!(matches!(server.command().await, Command::AddParticipant { .. }));
    assert!(matches!(server.command().await, Command::RemoveParticipant { .. }));
    for method in ["GET", "DELETE"] {
        let gone = server.request(method, &path, None).await;
        assert_eq!((gone.status, &gone.body["error"]["code"]), (404, &json!("room_not_found")));
    }
}

#[tokio::test]
async fn a_room_made_by_a_join_vanishes_and_one_made_by_a_request_stays() {
    let server = Server::start(Settings::default()).await;
    server.request("POST", ROOMS, Some(json!({ "room_id": "stays" }))).await;
    for room in ["stays", "vanishes"] {
        let (mut anna, _) = server.join(&format!("room_id={room}")).await;
        anna.send(json!({ "signal_type": "leave" })).await;
        assert_eq!(anna.closed().await, 1000);
    }
    let list = server.request("GET", ROOMS, None).await;
    assert_eq!((&list.body["total"], &list.body["rooms"][0]["room_id"]), (&json!(1), &json!("stays")));
}

#[tokio::test]
async fn every_error_is_json_with_a_code() {
    let server = Server::start(Settings { max_message_bytes: 1024, ..Settings::default() }).await;
    let json_type = "Content-Type: application/json\r\n";
    let large = json!({ "room_id": "x".repeat(2000) }).to_string();
    for (method, path, headers, body, status, code) in [
        ("GET", "/realtime/nowhere", "", "", 404, "not_found"),
        ("GET", "/realtime", "", "", 404, "not_found"),
        ("PATCH", ROOMS, "", "", 405, "method_not_allowed"),
        ("POST", "/health", "", "", 405, "method_not_allowed"),
        ("POST", ROOMS, json_type, "{", 400, "bad_request"),
        ("POST", ROOMS, "", "{}", 400, "bad_request"),
        ("POST", ROOMS, json_type, r#"{"rooms":1}"#, 400, "bad_request"),
        ("POST", ROOMS, json_type, r#"{"room_id":"a/b"}"#, 400, "bad_request"),
        ("POST", ROOMS, json_type, r#"{"max_participants":101}"#, 400, "bad_request"),
        ("POST", ROOMS, json_type, r#"{"max_participants":0}"#, 400, "bad_request"),
        ("POST", ROOMS, json_type, large.as_str(), 413, "message_too_large"),
        ("GET", "/realtime/webrtc/rooms?limit=x", "", "", 400, "bad_request"),
        ("GET", "/realtime/webrtc/rooms/%ff", "", "", 400, "bad_request"),
        ("PUT", "/realtime/webrtc/rooms/no", json_type, "{}", 404, "room_not_found"),
        ("GET", "/realtime/webrtc/connections?room_id=no", "", "", 404, "room_not_found"),
        ("GET", "/realtime/webrtc/signaling?room_id=tea", "", "", 400, "bad_request"),
        ("POST", "/realtime/webrtc/signal", json_type, "[]", 400, "bad_request"),
        ("POST", "/realtime/webrtc/signal", json_type, "{}", 400, "bad_request"),
    ] {
        let answer = server.raw(method, path, headers, body).await;
        let found = (answer.status, answer.body["error"]["code"].as_str().unwrap_or_default());
        assert_eq!(found, (status, code), "{method} {path} {body}");
        assert!(!answer.body["error"]["message"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_signal_over_http_reaches_its_peer() {
    let server = Server::start(Settings::default()).await;
    let (mut anna, _) = server.join("room_id=tea&peer_id=anna").await;
    let mut signal =
        json!({ "room_id": "tea", "target_peer_id": "anna", "signal_type": "offer", "sdp": "v=0" });
    let sent = server.request("POST", "/realtime/webrtc/signal", Some(signal.clone())).await;
    assert_eq!((sent.status, sent.body), (202, json!({ "delivered": true })));
    signal["from_peer_id"] = json!("");
    assert_eq!(anna.receive().await, signal);
    signal["from_peer_id"] = json!("boris");
    server.request("POST", "/realtime/webrtc/signal", Some(signal.clone())).await;
    assert_eq!(anna.receive().await["from_peer_id"], "", "only the server says who sends");
    signal["target_peer_id"] = json!("boris");
    let lost = server.request("POST", "/realtime/webrtc/signal", Some(signal)).await;
    assert_eq!((lost.status, &lost.body["error"]["code"]), (404, &json!("peer_not_found")));
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_told_so() {
    let settings = Settings { requests_per_second: 1, request_burst: 3, ..Settings::default() };
    let server = Server::start(settings).await;
    for _ in 0..3 {
        assert_eq!(server.request("GET", ROOMS, None).await.status, 200);
    }
    // However slow the machine is, some of so many come within a second.
    let more = futures_util::future::join_all((0..50).map(|_| server.request("GET", ROOMS, None))).await;
    let refused = more.iter().find(|answer| answer.status != 200).expect("one is refused");
    assert_eq!((refused.status, &refused.body["error"]["code"]), (429, &json!("rate_limited")));
    let server =
        Server::start(Settings { requests_per_second: 0, request_burst: 1, ..Settings::default() }).await;
    for _ in 0..3 {
        assert_eq!(server.request("GET", ROOMS, None).await.status, 200);
    }
}

#[tokio::test]
async fn rooms_that_stay_leave_half_of_the_rooms_to_others() {
    let server = Server::start(Settings { max_rooms: 3, ..Settings::default() }).await;
    for room in ["a", "b"] {
        assert_eq!(server.request("POST", ROOMS, Some(json!({ "room_id": room }))).await.status, 201);
    }
    let refused = server.request("POST", ROOMS, Some(json!({ "room_id": "c" }))).await;
    assert_eq!((refused.status, &refused.body["error"]["code"]), (503, &json!("too_many_rooms")));
    server.join("room_id=c").await;
    assert_eq!(server.request("DELETE", &format!("{ROOMS}/a"), None).await.status, 204);
    assert_eq!(server.request("POST", ROOMS, Some(json!({ "room_id": "a" }))).await.status, 201);
}

#[tokio::test]
async fn connections_have_the_counters_of_the_media_plane() {
    let server = Server::start(Settings::default()).await;
    let (_anna, _) = server.join("room_id=tea&peer_id=anna").await;
    let Command::AddParticipant { participant, .. } = server.command().await else { panic!() };
    let media = async {
        let Command::RoomStats { request, .. } = server.command().await else { panic!() };
        let participants = vec![stats(participant)];
        server.event(Event::Stats { request, participants, engines: 1 }).await;
    };
    let (answer, ()) = tokio::join!(server.request("GET", "/realtime/webrtc/connections", None), media);
    assert_eq!(answer.body["total"], 1);
    let connection = &answer.body["connections"][0];
    assert_eq!((&connection["peer_id"], &connection["room_id"]), (&json!("anna"), &json!("tea")));
    assert_eq!(connection["media"]["packets_received"], 5);
    assert_eq!(connection["media"]["drops"], json!({}));
    for (counter, bits) in [
        ("estimate_bps", 1_500_000),
        ("wanted_bps", 2_000_000),
        ("allocated_bps", 1_200_000),
        ("probe_bytes", 30_000),
    ] {
        assert_eq!(connection["media"][counter], bits, "{counter}");
    }
}

#[tokio::test]
async fn the_counters_of_a_room_on_two_engines_are_one_answer() {
    let server = Server::start(Settings::default()).await;
    let (_anna, _) = server.join("room_id=tea&peer_id=anna").await;
    let Command::AddParticipant { participant: anna, .. } = server.command().await else { panic!() };
    let (_boris, _) = server.join("room_id=tea&peer_id=boris").await;
    let Command::AddParticipant { participant: boris, .. } = server.command().await else { panic!() };
    let media = async {
        let Command::RoomStats { request, .. } = server.command().await else { panic!() };
        for participant in [boris, anna] {
            let participants = vec![stats(participant)];
            server.event(Event::Stats { request, participants, engines: 2 }).await;
        }
    };
    let (answer, ()) = tokio::join!(server.request("GET", "/realtime/webrtc/connections", None), media);
    assert_eq!(answer.body["total"], 2);
    for connection in answer.body["connections"].as_array().unwrap() {
        assert_eq!(connection["media"]["packets_received"], 5, "{connection}");
    }
}

#[tokio::test]
async fn a_timeline_tells_what_was_decided_for_somebody_and_why() {
    let server = Server::start(Settings::default()).await;
    let (_anna, _) = server.join("room_id=tea&peer_id=anna").await;
    let Command::AddParticipant { participant: anna, .. } = server.command().await else { panic!() };
    let (mid, track) = (Mid::new("3").unwrap(), TrackId(7));
    let layer = |sublayer, reason| Decision::Layer { mid: mid.clone(), track, layer: 1, sublayer, reason };
    let decisions = [
        Decision::Estimate { bits: 900_000, wanted: 2_000_000, lost: 0.25 },
        layer(None, LayerReason::Bandwidth),
        layer(Some((2, 1)), LayerReason::Source),
        layer(None, LayerReason::Size),
        layer(None, LayerReason::Flow),
        Decision::Paused { mid: mid.clone(), track },
        Decision::KeyFrame { mid: Mid::new("1").unwrap(), layer: 2 },
        Decision::Repairs { packets: 12 },
        Decision::Quality(Quality::Poor),
    ];
    let media = async {
        let Command::Timeline { participant, request } = server.command().await else { panic!() };
        assert_eq!(participant, anna);
        let entries =
            decisions.into_iter().zip(1_000..).map(|(decision, at_ms)| Entry { at_ms, decision }).collect();
        server.event(Event::Timeline { request, entries }).await;
    };
    let path = timeline("anna");
    let (answer, ()) = tokio::join!(server.request("GET", &path, None), media);
    let layer = |at_ms, reason| json!({ "at_ms": at_ms, "kind": "layer", "mid": "3", "track_id": "TR7", "layer": 1, "reason": reason });
    let expected = json!([
        { "at_ms": 1000, "kind": "estimate", "estimate_bps": 900_000, "wanted_bps": 2_000_000, "lost": 0.25 },
        layer(1001, "bandwidth"),
        { "at_ms": 1002, "kind": "layer", "mid": "3", "track_id": "TR7", "layer": 1, "spatial": 2, "temporal": 1,
          "reason": "source" },
        layer(1003, "size"),
        layer(1004, "flow"),
        { "at_ms": 1005, "kind": "paused", "mid": "3", "track_id": "TR7" },
        { "at_ms": 1006, "kind": "key-frame", "mid": "1", "layer": 2 },
        { "at_ms": 1007, "kind": "repairs", "packets": 12 },
        { "at_ms": 1008, "kind": "quality", "quality": "poor" },
    ]);
    assert_eq!((answer.status, answer.body), (200, expected));
}

#[tokio::test]
async fn a_timeline_is_that_of_one_person() {
    let server = Server::start(Settings::default()).await;
    let unknown = server.request("GET", &timeline("anna"), None).await;
    assert_eq!((unknown.status, &unknown.body["error"]["code"]), (404, &json!("peer_not_found")));
    let (_one, _) = server.join("room_id=tea&peer_id=anna").await;
    let (_two, _) = server.join("room_id=dance&peer_id=anna").await;
    let both = server.request("GET", &timeline("anna"), None).await;
    assert_eq!((both.status, &both.body["error"]["code"]), (400, &json!("bad_request")));
    let (Command::AddParticipant { .. }, Command::AddParticipant { participant: two, .. }) =
        (server.command().await, server.command().await)
    else {
        panic!()
    };
    let media = async {
        let Command::Timeline { participant, request } = server.command().await else { panic!() };
        assert_eq!(participant, two);
        server.event(Event::Timeline { request, entries: Vec::new() }).await;
    };
    let path = format!("{}?room_id=dance", timeline("anna"));
    let (answer, ()) = tokio::join!(server.request("GET", &path, None), media);
    assert_eq!((answer.status, answer.body), (200, json!([])));
    for (path, code) in
        [("anna/timeline?room_id=no", "room_not_found"), ("boris/timeline?room_id=tea", "peer_not_found")]
    {
        let answer = server.request("GET", &format!("{CONNECTIONS}/{path}"), None).await;
        assert_eq!((answer.status, &answer.body["error"]["code"]), (404, &json!(code)));
    }
}

#[tokio::test]
async fn a_timeline_that_the_media_plane_does_not_give_is_no_empty_one() {
    let server = Server::start(Settings::default()).await;
    let (_anna, _) = server.join("room_id=tea&peer_id=anna").await;
    let answer = server.request("GET", &timeline("anna"), None).await;
    assert_eq!((answer.status, &answer.body["error"]["code"]), (503, &json!("media_unavailable")));
    let document = server.request("GET", "/realtime/openapi.json", None).await.body;
    let described = &document["paths"]["/realtime/webrtc/connections/{peer_id}/timeline"]["get"]["responses"];
    assert_ne!(described["503"], Value::Null);
}

#[tokio::test]
async fn health_and_the_description_are_there() {
    let server = Server::start(Settings::default()).await;
    let (_anna, _) = server.join("room_id=tea").await;
    assert_eq!(server.request("GET", "/health", None).await.body["status"], "ok");
    let health = server.request("GET", "/realtime/webrtc/health", None).await.body;
    assert_eq!(
        (&health["rooms"], &health["participants"], &health["connections"]),
        (&json!(1), &json!(1), &json!(1))
    );
    let document = server.request("GET", "/realtime/openapi.json", None).await.body;
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    for schema in ["Participant", "TimelineEntry", "Decision", "LayerReason"] {
        assert_ne!(document["components"]["schemas"][schema], Value::Null, "{schema}");
    }
}

#[tokio::test]
async fn pages_of_listed_origins_may_call_and_others_may_not_read() {
    let allowed_origins = vec!["https://app.example".to_owned()];
    let server = Server::start(Settings { allowed_origins, ..Settings::default() }).await;
    let listed = server.raw("GET", ROOMS, "Origin: https://app.example\r\n", "").await;
    assert!(listed.headers.contains("access-control-allow-origin: https://app.example"));
    let evil = "Origin: https://evil.example\r\n";
    let other = server.raw("GET", ROOMS, evil, "").await;
    assert!(!other.headers.contains("access-control-allow-origin"));
    // A page needs no leave to send what it does not read the answer of.
    let muted = format!("{ROOMS}/tea/participants/anna/mute");
    let sent = server.raw("POST", &muted, evil, "").await;
    assert_eq!((sent.status, &sent.body["error"]["code"]), (403, &json!("forbidden_origin")));
    let sent = server.raw("POST", &muted, "Origin: https://app.example\r\n", "").await;
    assert_eq!((sent.status, &sent.body["error"]["code"]), (404, &json!("room_not_found")));
}

fn timeline(peer_id: &str) -> String {
    format!("{CONNECTIONS}/{peer_id}/timeline")
}

fn stats(participant: veche_sfu_core::ids::ParticipantId) -> ParticipantStats {
    ParticipantStats {
        participant,
        connection: None,
        packets_received: 5,
        bytes_received: 0,
        packets_sent: 0,
        bytes_sent: 0,
        nacks_sent: 0,
        repairs_received: 0,
        nacks_received: 0,
        repairs_sent: 0,
        key_frames_requested: 0,
        rtt_ms: None,
        loss_up: 0.0,
        loss_down: 0.0,
        estimate: Some(1_500_000),
        wanted: 2_000_000,
        allocated: 1_200_000,
        probe_bytes: 30_000,
        drops: DropCounts::default(),
    }
}
