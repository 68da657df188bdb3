//! Stories of tokens: who comes in, what they may do there, and over HTTP.

use std::time::{Duration, SystemTime};

use crate::server::{Answer, Server};
use serde_json::{Value, json};
use veche_access::{AccessSettings, Authority, GrantsClaim, NewToken, Secret, issue};
use veche_sfu_core::control::{Command, Event, TrackInfo};
use veche_sfu_core::ids::{Mid, ParticipantId, TrackId};
use veche_sfu_core::media::{MediaKind, Source};
use veche_sfu_core::rights::Rights;
use veche_signaling::Settings;

pub(crate) const ROOMS: &str = "/realtime/webrtc/rooms";

/// What servers of these stories have in common: a secret, and that they ask for a token.
pub(crate) fn settings() -> AccessSettings {
    AccessSettings {
        required: true,
        secrets: vec![Secret::Text("a secret of at least 32 bytes, for tests".into())],
        leeway_seconds: 0,
        ..AccessSettings::default()
    }
}

/// A server that asks for a token.
pub(crate) async fn closed() -> Server {
    Server::start_with(Settings::default(), Authority::new(&settings(), None).unwrap()).await
}

fn token_for(user_id: &str, veche: Option<Value>, lifetime: Duration) -> String {
    let grants = veche.map(|veche| serde_json::from_value::<GrantsClaim>(veche).unwrap());
    let name = Some(format!("{user_id} by token"));
    let new = NewToken { user_id: Some(user_id.to_owned()), name, grants, lifetime };
    issue(&settings(), &new, SystemTime::now()).unwrap()
}

/// A token of a user with the usual grants.
pub(crate) fn usual(user_id: &str) -> String {
    token_for(user_id, None, Duration::from_mins(1))
}

/// A token of a user who may do this in the room `tea`.
pub(crate) fn may(user_id: &str, actions: &[&str]) -> String {
    token_for(user_id, Some(json!({ "rooms": { "tea": actions } })), Duration::from_mins(1))
}

/// A request with a token.
pub(crate) async fn ask(
    server: &Server,
    token: &str,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> Answer {
    let headers = format!("Content-Type: application/json\r\nAuthorization: Bearer {token}\r\n");
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    server.raw(method, path, &headers, &body).await
}

async fn added(server: &Server) -> ParticipantId {
    match server.command().await {
        Command::AddParticipant { participant, .. } => participant,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_shows_no_good_token_is_told_why_and_others_come_in_as_who_they_are() {
    let server = closed().await;
    let refused = async |token: &str| server.refused(&format!("room_id=tea&token={token}")).await;
    assert_eq!(server.refused("room_id=tea").await, ("authentication_required".into(), 4001));
    assert_eq!(refused("").await, ("authentication_required".into(), 4001));
    assert_eq!(refused("nonsense").await, ("invalid_token".into(), 4002));
    assert_eq!(
        refused("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm5hIiwiZXhwIjo5OTk5OTk5OTk5fQ.").await.0,
        "invalid_token"
    );
    assert_eq!(refused(&token_for("anna", None, Duration::ZERO)).await, ("token_expired".into(), 4002));
    assert_eq!(refused("vk_unknown").await, ("invalid_api_key".into(), 4002));
    assert_eq!(refused(&may("anna", &["subscribe"])).await, ("forbidden".into(), 4403));

    let (mut anna, joined) = server.join(&format!("room_id=tea&peer_id=anna&token={}", usual("anna"))).await;
    let grants = [
        "join",
        "publish_audio",
        "publish_video",
        "publish_screen",
        "publish_data",
        "subscribe",
        "send",
        "upload",
    ];
    assert_eq!(joined["grants"], json!(grants));
    let token = may("boris", &["join"]);
    let mut boris = server.connect_with("room_id=tea&name=Bob", &token).await;
    let joined = boris.expect("joined").await;
    assert_eq!(joined["grants"], json!(["join"]));
    assert_eq!(joined["participants"][0]["user_id"], "anna");
    assert_eq!(joined["participants"][0]["name"], "anna by token");
    let came = anna.expect("participant-joined").await;
    assert_eq!(
        (&came["participant"]["user_id"], &came["participant"]["name"]),
        (&json!("boris"), &json!("Bob"))
    );
    assert_eq!(server.refused(&format!("room_id=other&token={token}")).await.0, "forbidden");
}

#[tokio::test]
async fn a_connection_ends_with_its_token() {
    let server = closed().await;
    let token = token_for("anna", None, Duration::from_secs(3));
    let (mut anna, _) = server.join(&format!("room_id=tea&token={token}")).await;
    assert_eq!(anna.error().await, "token_expired");
    assert_eq!(anna.closed().await, 4002);
}

#[tokio::test]
async fn a_place_is_given_back_only_to_who_had_it_and_with_what_they_may_do_now() {
    let server = closed().await;
    let (_anna, joined) = server.join(&format!("room_id=tea&peer_id=anna&token={}", usual("anna"))).await;
    let resume = joined["resume_token"].as_str().unwrap();
    let query = |token: &str| format!("room_id=tea&resume_token={resume}&token={token}");
    let (_boris, fresh) = server.join(&query(&usual("boris"))).await;
    assert_eq!(fresh["resumed"], false);
    let (mut anna, again) = server.join(&query(&may("anna", &["join", "moderate"]))).await;
    assert_eq!((&again["resumed"], &again["peer_id"]), (&json!(true), &json!("anna")));
    assert_eq!(again["grants"], json!(["join", "moderate"]));
    anna.round_trip().await;
    // anna, boris, and that anna may not send or watch any more.
    added(&server).await;
    added(&server).await;
    let nothing = Rights { audio: false, video: false, screen: false, data: false, watch: false };
    let command = server.command().await;
    assert!(matches!(command, Command::SetRights { rights, .. } if rights == nothing), "{command:?}");
}

#[tokio::test]
async fn what_is_not_granted_is_kept_from_the_media_plane_and_told() {
    let server = closed().await;
    let token = may("anna", &["join", "publish_audio", "publish_screen"]);
    let (mut anna, _) = server.join(&format!("room_id=tea&peer_id=anna&token={token}")).await;
    let participant = added(&server).await;
    let rights = Rights { audio: true, video: false, screen: true, data: false, watch: false };
    let command = server.command().await;
    assert!(matches!(command, Command::SetRights { rights: told, .. } if told == rights), "{command:?}");

    let camera = |muted| TrackInfo {
        id: TrackId(7),
        mid: Mid::new("1").unwrap(),
        kind: MediaKind::Video,
        source: Source::Camera,
        muted,
    };
    server.event(Event::Track { participant, track: camera(true) }).await;
    anna.expect("track").await;
    let error = anna.expect("error").await;
    assert_eq!(error["error"]["code"], "forbidden");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("section `1`") && message.contains("`publish_video`"), "{message}");
    anna.send(json!({ "signal_type": "mute", "track_id": "TR7", "muted": false })).await;
    assert_eq!(anna.error().await, "forbidden");
    anna.send(json!({ "signal_type": "subscribe" })).await;
    assert_eq!(anna.error().await, "forbidden");
    anna.send(json!({ "signal_type": "x", "target_peer_id": "anna" })).await;
    assert_eq!(anna.error().await, "forbidden");
    anna.send(json!({ "signal_type": "moderate", "action": "lock", "locked": true, "id": 3 })).await;
    let error = anna.expect("error").await;
    assert_eq!((&error["error"]["code"], &error["id"]), (&json!("forbidden"), &json!(3)));
    anna.send(json!({ "signal_type": "mute", "track_id": "TR7", "muted": true })).await;
    assert!(matches!(server.command().await, Command::SetMuted { muted: true, .. }));
}

#[tokio::test]
async fn requests_need_a_token_that_grants_what_they_ask_for() {
    let server = closed().await;
    let code = |answer: &Answer| answer.body["error"]["code"].as_str().unwrap_or_default().to_owned();
    for (method, path) in [
        ("GET", ROOMS.to_owned()),
        ("POST", ROOMS.to_owned()),
        ("GET", format!("{ROOMS}/tea")),
        ("DELETE", format!("{ROOMS}/tea")),
        ("GET", format!("{ROOMS}/tea/bans")),
        ("POST", format!("{ROOMS}/tea/participants/anna/remove")),
        ("GET", "/realtime/webrtc/connections".to_owned()),
        ("GET", "/realtime/webrtc/connections/anna/timeline".to_owned()),
    ] {
        let answer = server.request(method, &path, Some(json!({}))).await;
        assert_eq!(
            (answer.status, code(&answer)),
            (401, "authentication_required".into()),
            "{method} {path}"
        );
        let answer = ask(&server, "nonsense", method, &path, Some(json!({}))).await;
        assert_eq!((answer.status, code(&answer)), (401, "invalid_token".into()), "{method} {path}");
        let is_for_all = method == "GET" && (path == ROOMS || path.ends_with("/tea"));
        if !is_for_all {
            let answer = ask(&server, &may("anna", &["join"]), method, &path, Some(json!({}))).await;
            assert_eq!((answer.status, code(&answer)), (403, "forbidden".into()), "{method} {path}");
        }
    }
    for path in ["/health", "/realtime/webrtc/health", "/realtime/openapi.json"] {
        assert_eq!(server.request("GET", path, None).await.status, 200);
    }

    let moderator = may("anna", &["join", "moderate"]);
    let made = ask(&server, &moderator, "POST", ROOMS, Some(json!({ "room_id": "tea" }))).await;
    assert_eq!(made.status, 201);
    let other = ask(&server, &moderator, "POST", ROOMS, Some(json!({ "room_id": "coffee" }))).await;
    assert_eq!((other.status, code(&other)), (403, "forbidden".into()));
    let all = token_for("admin", Some(json!({ "admin": true })), Duration::from_mins(1));
    assert_eq!(ask(&server, &all, "POST", ROOMS, Some(json!({ "room_id": "coffee" }))).await.status, 201);
    let seen = async |token: &str| ask(&server, token, "GET", ROOMS, None).await.body["total"].clone();
    assert_eq!(seen(&all).await, 2);
    assert_eq!(seen(&moderator).await, 1);
    let coffee = format!("{ROOMS}/coffee");
    assert_eq!(ask(&server, &moderator, "GET", &coffee, None).await.status, 403);
    assert_eq!(ask(&server, &all, "GET", &coffee, None).await.status, 200);
    assert_eq!(ask(&server, &all, "GET", "/realtime/webrtc/connections", None).await.status, 200);
}

#[tokio::test]
async fn guests_take_part_where_tokens_are_known_but_not_needed_and_rule_nobody() {
    let settings = AccessSettings { required: false, ..settings() };
    let server = Server::start_with(Settings::default(), Authority::new(&settings, None).unwrap()).await;
    let (mut guest, joined) = server.join("room_id=tea&peer_id=guest").await;
    assert!(!joined["grants"].as_array().unwrap().contains(&json!("moderate")));
    guest.send(json!({ "signal_type": "moderate", "action": "lock", "locked": true })).await;
    assert_eq!(guest.error().await, "forbidden");
    assert_eq!(server.request("DELETE", &format!("{ROOMS}/tea"), None).await.status, 403);
    assert_eq!(server.request("GET", &format!("{ROOMS}/tea"), None).await.status, 200);
}
