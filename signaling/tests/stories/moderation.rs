//! Stories of moderators: over HTTP, and by signals.

use crate::access::{ROOMS, ask, closed, may, usual};
use crate::server::{Client, Server};
use serde_json::{Value, json};
use veche_sfu_core::control::{Command, Event, TrackInfo};
use veche_sfu_core::ids::{Mid, ParticipantId, TrackId};
use veche_sfu_core::media::{MediaKind, Source};
use veche_sfu_core::rights::Rights;

/// A moderator anna, boris, and what the media plane was told of boris.
struct Call {
    server: Server,
    anna: Client,
    boris: Client,
    boris_id: ParticipantId,
    moderator: String,
}

impl Call {
    async fn start() -> Self {
        let server = closed().await;
        let moderator = may("anna", &["*"]);
        let (mut anna, _) = server.join(&format!("room_id=tea&peer_id=anna&token={moderator}")).await;
        let (boris, _) = server.join(&format!("room_id=tea&peer_id=boris&token={}", usual("boris"))).await;
        anna.expect("participant-joined").await;
        server.command().await;
        let boris_id = match server.command().await {
            Command::AddParticipant { participant, .. } => participant,
            other => panic!("{other:?}"),
        };
        Self { server, anna, boris, boris_id, moderator }
    }

    /// A request of the moderator about the room: its status.
    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> u16 {
        ask(&self.server, &self.moderator, method, &format!("{ROOMS}/tea{path}"), body).await.status
    }

    /// Something that the moderator asks for by a signal, which is done.
    async fn moderate(&mut self, mut message: Value) {
        message["signal_type"] = "moderate".into();
        message["id"] = 5.into();
        self.anna.send(message).await;
    }

    async fn done(&mut self) {
        assert_eq!(self.anna.expect("done").await["id"], 5);
    }

    async fn publish(&mut self, id: u64, kind: MediaKind, source: Source) {
        let mid = Mid::new(&id.to_string()).unwrap();
        let track = TrackInfo { id: TrackId(id), mid, kind, source, muted: false };
        self.server.event(Event::Track { participant: self.boris_id, track }).await;
        for client in [&mut self.anna, &mut self.boris] {
            client.expect("track").await;
        }
    }
}

#[tokio::test]
async fn tracks_are_muted_by_source_or_one_by_one_and_their_owner_is_told() {
    let mut call = Call::start().await;
    call.publish(1, MediaKind::Audio, Source::Microphone).await;
    call.publish(2, MediaKind::Video, Source::Camera).await;
    let muted = async |call: &Call| match call.server.command().await {
        Command::SetMuted { participant, track, muted: true } => {
            assert_eq!(participant, call.boris_id);
            track.0
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(call.ask("POST", "/participants/boris/mute", Some(json!({ "source": "camera" }))).await, 204);
    assert_eq!(muted(&call).await, 2);
    let told = call.boris.expect("moderated").await;
    assert_eq!(told, json!({ "signal_type": "moderated", "action": "mute", "track_ids": ["TR2"] }));
    assert_eq!(call.ask("POST", "/participants/boris/mute", None).await, 204);
    assert_eq!((muted(&call).await, muted(&call).await), (1, 2));
    call.boris.expect("moderated").await;
    call.moderate(json!({ "action": "mute", "peer_id": "boris", "track_id": "TR1" })).await;
    call.done().await;
    assert_eq!(muted(&call).await, 1);
    assert_eq!(call.boris.expect("moderated").await["by"], "anna");
    for (path, body, status) in [
        ("/participants/nobody/mute", json!({}), 404),
        ("/participants/boris/mute", json!({ "track_id": "TR9" }), 404),
        ("/participants/boris/mute", json!({ "sorce": "camera" }), 400),
    ] {
        assert_eq!(call.ask("POST", path, Some(body)).await, status, "{path}");
    }
}

#[tokio::test]
async fn who_is_removed_may_come_back_and_who_is_banned_may_not() {
    let mut call = Call::start().await;
    let reason = json!({ "reason": "off topic" });
    assert_eq!(call.ask("POST", "/participants/boris/remove", Some(reason)).await, 204);
    let error = call.boris.expect("error").await;
    assert_eq!(error["error"]["code"], "removed");
    assert!(error["error"]["message"].as_str().unwrap().ends_with(": off topic"), "{error}");
    assert_eq!(call.boris.closed().await, 4403);
    assert_eq!(call.anna.expect("participant-left").await["reason"], "removed");
    assert!(
        matches!(call.server.command().await, Command::RemoveParticipant { participant } if participant == call.boris_id)
    );

    let again = format!("room_id=tea&peer_id=bob&token={}", usual("boris"));
    let (mut boris, _) = call.server.join(&again).await;
    call.anna.expect("participant-joined").await;
    call.moderate(json!({ "action": "ban", "peer_id": "bob" })).await;
    assert_eq!(call.anna.expect("participant-left").await["peer_id"], "bob");
    call.done().await;
    assert_eq!((boris.error().await, boris.closed().await), ("removed".into(), 4403));
    // Under any other name: it is the user who is banned.
    let other = format!("room_id=tea&peer_id=bobby&token={}", usual("boris"));
    assert_eq!(call.server.refused(&other).await, ("banned".into(), 4403));
    let bans = ask(&call.server, &call.moderator, "GET", &format!("{ROOMS}/tea/bans"), None).await;
    assert_eq!(bans.body, json!({ "bans": [{ "user_id": "boris" }] }));
    assert_eq!(call.ask("DELETE", "/bans", Some(json!({ "user_id": "boris" }))).await, 204);
    assert_eq!(call.ask("DELETE", "/bans", Some(json!({ "user_id": "boris" }))).await, 404);
    call.server.join(&other).await;

    assert_eq!(call.ask("POST", "/bans", Some(json!({ "user_id": "carl" }))).await, 204);
    let carl = format!("room_id=tea&token={}", usual("carl"));
    assert_eq!(call.server.refused(&carl).await.0, "banned");
    assert_eq!(call.ask("POST", "/bans", Some(json!({ "user_id": "a", "peer_id": "b" }))).await, 400);
    assert_eq!(call.ask("POST", "/bans", Some(json!({ "peer_id": "b".repeat(65) }))).await, 400);
}

#[tokio::test]
async fn who_is_anonymous_is_banned_by_their_peer_id() {
    let server = Server::start(veche_signaling::Settings::default()).await;
    let (mut anna, _) = server.join("room_id=tea&peer_id=anna").await;
    let (mut boris, _) = server.join("room_id=tea&peer_id=boris").await;
    anna.expect("participant-joined").await;
    anna.send(json!({ "signal_type": "moderate", "action": "ban", "peer_id": "boris" })).await;
    assert_eq!(boris.error().await, "removed");
    assert_eq!(server.refused("room_id=tea&peer_id=boris").await, ("banned".into(), 4403));
    server.join("room_id=tea&peer_id=boris2").await;
}

#[tokio::test]
async fn grants_change_live_and_nobody_grants_what_they_may_not_do() {
    let mut call = Call::start().await;
    let path = "/participants/boris/grants";
    let changed = ask(
        &call.server,
        &call.moderator,
        "PUT",
        &format!("{ROOMS}/tea{path}"),
        Some(json!({ "grants": ["join", "publish_audio", "subscribe"] })),
    )
    .await;
    assert_eq!(changed.body, json!({ "grants": ["join", "publish_audio", "subscribe"] }));
    let told = call.boris.expect("grants").await;
    assert_eq!(told["grants"], json!(["join", "publish_audio", "subscribe"]));
    let rights = Rights { audio: true, video: false, screen: false, data: false, watch: true };
    let command = call.server.command().await;
    assert!(matches!(command, Command::SetRights { rights: told, .. } if told == rights), "{command:?}");
    call.boris.send(json!({ "signal_type": "x", "target_peer_id": "anna" })).await;
    assert_eq!(call.boris.error().await, "forbidden");

    call.moderate(
        json!({ "action": "grant", "peer_id": "boris", "grants": ["publish", "moderate", "send"] }),
    )
    .await;
    call.done().await;
    call.boris.expect("grants").await;
    assert!(matches!(call.server.command().await, Command::SetRights { .. }));
    // Now boris moderates too, but cannot give away more than he has.
    let lock = json!({ "signal_type": "moderate", "action": "lock", "locked": true });
    call.boris.send(lock).await;
    call.boris.expect("room-updated").await;
    call.boris.expect("done").await;
    let too_much =
        json!({ "signal_type": "moderate", "action": "grant", "peer_id": "boris", "grants": ["record"] });
    call.boris.send(too_much).await;
    assert_eq!(call.boris.error().await, "forbidden");
    assert_eq!(call.ask("PUT", path, Some(json!({ "grants": ["jion"] }))).await, 400);
}

#[tokio::test]
async fn a_locked_room_takes_nobody_in_but_moderators_and_those_who_come_back() {
    let mut call = Call::start().await;
    assert_eq!(call.ask("PUT", "", Some(json!({ "locked": true }))).await, 200);
    assert_eq!(call.boris.expect("room-updated").await["room"]["locked"], true);
    let carl = format!("room_id=tea&token={}", usual("carl"));
    assert_eq!(call.server.refused(&carl).await, ("room_locked".into(), 4423));
    // She stays: that she is gone would be told too.
    let _dora = call.server.join(&format!("room_id=tea&token={}", may("dora", &["join", "moderate"]))).await;
    call.anna.expect("room-updated").await;
    call.anna.expect("participant-joined").await;
    call.moderate(json!({ "action": "lock", "locked": false })).await;
    assert_eq!(call.anna.expect("room-updated").await["room"]["locked"], false);
    call.done().await;
    call.server.join(&carl).await;
}

#[tokio::test]
async fn people_wait_until_a_moderator_decides() {
    let mut call = Call::start().await;
    call.moderate(json!({ "action": "waiting-room", "enabled": true })).await;
    assert_eq!(call.anna.expect("room-updated").await["room"]["waiting_room"], true);
    call.done().await;
    call.boris.expect("room-updated").await;

    let query = |user: &str| format!("room_id=tea&peer_id={user}&name={user}&token={}", usual(user));
    let mut carl = call.server.connect(&query("carl")).await;
    let waiting = carl.expect("waiting").await;
    assert_eq!((&waiting["peer_id"], &waiting["room"]["room_id"]), (&json!("carl"), &json!("tea")));
    let list = call.anna.expect("waiting-list").await;
    assert_eq!(list["waiting"], json!([{ "peer_id": "carl", "name": "carl", "user_id": "carl" }]));
    let mut dora = call.server.connect(&query("dora")).await;
    dora.expect("waiting").await;
    assert_eq!(call.anna.expect("waiting-list").await["waiting"][1]["peer_id"], "dora");
    // Nobody takes the name of who waits.
    assert_eq!(
        call.server.refused(&format!("room_id=tea&peer_id=carl&token={}", usual("eve"))).await.0,
        "peer_id_taken"
    );

    call.moderate(json!({ "action": "admit", "peer_id": "carl" })).await;
    assert_eq!(call.anna.expect("waiting-list").await["waiting"][0]["peer_id"], "dora");
    call.done().await;
    assert_eq!(carl.expect("joined").await["peer_id"], "carl");
    assert_eq!(call.anna.expect("participant-joined").await["participant"]["peer_id"], "carl");
    assert_eq!(call.boris.expect("participant-joined").await["participant"]["peer_id"], "carl");

    assert_eq!(call.ask("POST", "/waiting/dora/deny", None).await, 204);
    assert_eq!(call.anna.expect("waiting-list").await["waiting"], json!([]));
    assert_eq!((dora.error().await, dora.closed().await), ("not_admitted".into(), 4403));
    assert_eq!(call.ask("POST", "/waiting/dora/admit", None).await, 404);

    // Who goes away does not wait any more; who waits when waiting ends comes in.
    let eve = call.server.connect(&query("eve")).await;
    assert_eq!(call.anna.expect("waiting-list").await["waiting"][0]["peer_id"], "eve");
    drop(eve);
    assert_eq!(call.anna.expect("waiting-list").await["waiting"], json!([]));
    let mut fred = call.server.connect(&query("fred")).await;
    fred.expect("waiting").await;
    call.anna.expect("waiting-list").await;
    assert_eq!(call.ask("PUT", "", Some(json!({ "waiting_room": false }))).await, 200);
    fred.expect("joined").await;
}
