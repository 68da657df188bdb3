//! Stories over WebSockets.

use crate::server::Server;
use serde_json::json;
use veche_sfu_core::control::{
    Command, ConnectionState, Event, LayerWish, Quality, Show, SlotChange, SlotReason, SlotSource, Speaker,
    TrackInfo,
};
use veche_sfu_core::ids::{Mid, ParticipantId, Rid, TrackId};
use veche_sfu_core::media::{MediaKind, Source};
use veche_sfu_core::sdp::OfferError;
use veche_signaling::Settings;

/// The participant that the media plane was told to add.
async fn added(server: &Server) -> ParticipantId {
    match server.command().await {
        Command::AddParticipant { participant, .. } => participant,
        other => panic!("{other:?}"),
    }
}

fn microphone(id: u64, muted: bool) -> TrackInfo {
    TrackInfo {
        id: TrackId(id),
        mid: Mid::new("0").unwrap(),
        kind: MediaKind::Audio,
        source: Source::Microphone,
        muted,
    }
}

fn layers_wanted(participant: ParticipantId, mid: &str, layers: &[(&str, bool)]) -> Event {
    let wish = |&(rid, wanted): &(&str, bool)| LayerWish { rid: Rid::new(rid), wanted };
    Event::LayersWanted {
        participant,
        mid: Mid::new(mid).unwrap(),
        layers: layers.iter().map(wish).collect(),
    }
}

#[tokio::test]
async fn the_second_sees_the_first_and_the_first_sees_the_second_come_and_change() {
    let server = Server::start(Settings::default()).await;
    let (mut anna, joined) = server.join("room_id=tea&name=Anna&peer_id=anna").await;
    assert_eq!((&joined["peer_id"], &joined["resumed"]), (&json!("anna"), &json!(false)));
    assert_eq!(joined["participants"], json!([]));
    assert_eq!(
        joined["room"],
        json!({ "room_id": "tea", "name": "tea", "max_participants": 100, "locked": false, "waiting_room": false })
    );
    assert_eq!(joined["ice_servers"], json!([]));
    assert_eq!(joined["limits"]["max_signal_bytes"], 262_144);

    let (mut boris, joined) = server.join("room_id=tea&name=%D0%91%D0%BE%D1%80%D0%B8%D1%81").await;
    assert_eq!(joined["participants"][0]["name"], "Anna");
    let seen = anna.expect("participant-joined").await;
    assert_eq!(seen["participant"]["name"], "Борис");
    assert_eq!(seen["participant"]["peer_id"], joined["peer_id"]);

    boris.send(json!({ "signal_type": "update", "name": "Bob", "metadata": { "hand": true } })).await;
    for client in [&mut anna, &mut boris] {
        let updated = client.expect("participant-updated").await;
        assert_eq!(updated["participant"]["name"], "Bob");
        assert_eq!(updated["participant"]["metadata"], json!({ "hand": true }));
    }
}

#[tokio::test]
async fn who_leaves_is_gone_at_once() {
    let server = Server::start(Settings::default()).await;
    let (mut anna, _) = server.join("room_id=tea").await;
    let (mut boris, joined) = server.join("room_id=tea&peer_id=boris").await;
    anna.expect("participant-joined").await;
    boris.send(json!({ "signal_type": "leave" })).await;
    assert_eq!(boris.closed().await, 1000);
    let left = anna.expect("participant-left").await;
    assert_eq!(left, json!({ "signal_type": "participant-left", "peer_id": "boris", "reason": "left" }));
    added(&server).await;
    let gone = added(&server).await;
    let command = server.command().await;
    assert!(
        matches!(command, Command::RemoveParticipant { participant } if participant == gone),
        "{command:?}"
    );
    let token = joined["resume_token"].as_str().unwrap();
    let (_, again) = server.join(&format!("room_id=tea&peer_id=boris&resume_token={token}")).await;
    assert_eq!((&again["resumed"], &again["peer_id"]), (&json!(false), &json!("boris")));
}

#[tokio::test]
async fn who_cannot_join_is_told_why() {
    let settings = Settings { max_participants_per_room: 1, max_rooms: 1, ..Settings::default() };
    let server = Server::start(settings).await;
    let refused = |query: &'static str| server.refused(query);
    assert_eq!(refused("name=Anna").await, ("bad_request".into(), 4400));
    assert_eq!(refused("room_id=a%20b").await, ("bad_request".into(), 4400));
    assert_eq!(refused("room_id=tea&peer_id=a%2Fb").await, ("bad_request".into(), 4400));
    let (_anna, _) = server.join("room_id=tea&peer_id=anna").await;
    assert_eq!(refused("room_id=tea").await, ("room_full".into(), 4423));
    assert_eq!(refused("room_id=other").await, ("too_many_rooms".into(), 4424));

    let server = Server::start(Settings { auto_create: false, ..Settings::default() }).await;
    assert_eq!(server.refused("room_id=tea").await, ("room_not_found".into(), 4404));

    let server = Server::start(Settings { max_connections: 1, ..Settings::default() }).await;
    let (_anna, _) = server.join("room_id=tea&peer_id=anna").await;
    assert!(server.connect_from("room_id=tea", None).await.is_none(), "one connection is the limit");

    let server = Server::start(Settings::default()).await;
    let (_anna, _) = server.join("room_id=tea&peer_id=anna").await;
    assert_eq!(server.refused("room_id=tea&peer_id=anna").await, ("peer_id_taken".into(), 4409));
}

#[tokio::test]
async fn pages_of_other_origins_may_not_connect_unless_listed() {
    let allowed_origins = vec!["https://app.example".to_owned()];
    let server = Server::start(Settings { allowed_origins, ..Settings::default() }).await;
    let mut evil = server.connect_from("room_id=tea", Some("https://evil.example")).await.unwrap();
    assert_eq!(evil.error().await, "forbidden_origin");
    assert_eq!(evil.closed().await, 4403);
    let own = format!("http://{}", server.address);
    for origin in ["https://app.example", &own] {
        server.connect_from("room_id=tea", Some(origin)).await.unwrap().expect("joined").await;
    }
}

#[tokio::test]
async fn the_sample_page_of_the_contract_works_as_it_stands() {
    let server = Server::start(Settings::default()).await;
    let (mut callee, _) = server.join("room_id=meeting_123&peer_id=peer_456").await;
    let (mut caller, joined) = server.join("room_id=meeting_123").await;
    callee.expect("participant-joined").await;
    caller
        .send(json!({
            "signal_type": "offer", "target_peer_id": "peer_456", "room_id": "meeting_123", "sdp": "v=0\r\n",
            "from_peer_id": "somebody else"
        }))
        .await;
    let offer = callee.expect("offer").await;
    let mut expected = json!({
        "signal_type": "offer", "target_peer_id": "peer_456", "room_id": "meeting_123", "sdp": "v=0\r\n"
    });
    expected["from_peer_id"] = joined["peer_id"].clone();
    assert_eq!(offer, expected);

    let target = offer["from_peer_id"].as_str().unwrap();
    callee.send(json!({ "signal_type": "answer", "target_peer_id": target, "sdp": "v=0\r\n" })).await;
    assert_eq!(caller.expect("answer").await["from_peer_id"], "peer_456");
    let candidate = json!({ "candidate": "candidate:1 1 udp 1 192.0.2.1 5000 typ host", "sdpMLineIndex": 0 });
    callee
        .send(json!({ "signal_type": "ice-candidate", "target_peer_id": target, "ice_candidate": candidate }))
        .await;
    assert_eq!(caller.expect("ice-candidate").await["ice_candidate"], candidate);
    callee
        .send_text(&format!(r#"{{"signal_type":"x-own","target_peer_id":"{target}","n":1.50e3,"id":7}}"#))
        .await;
    assert_eq!(caller.expect("x-own").await["n"], 1500.0);

    caller.send(json!({ "signal_type": "offer", "target_peer_id": "nobody", "sdp": "", "id": 5 })).await;
    let error = caller.expect("error").await;
    assert_eq!((&error["error"]["code"], &error["id"]), (&json!("peer_not_found"), &json!(5)));
    caller.send(json!({ "signal_type": "offer", "target_peer_id": "peer_456", "room_id": "other" })).await;
    assert_eq!(caller.error().await, "wrong_room");
    caller
        .send(json!({ "signal_type": "x", "target_peer_id": "peer_456", "data": "x".repeat(70_000) }))
        .await;
    assert_eq!(caller.error().await, "message_too_large");
}

#[tokio::test]
async fn nonsense_is_answered_and_the_connection_goes_on() {
    let server = Server::start(Settings::default()).await;
    let (mut anna, _) = server.join("room_id=tea").await;
    for nonsense in [
        "",
        "null",
        "[]",
        "{",
        "{}",
        r#"{"signal_type":7}"#,
        r#"{"signal_type":"mute"}"#,
        r#"{"signal_type":"offer","sdp":1}"#,
        r#"{"signal_type":"ping","target_peer_id":[]}"#,
        r#"{"signal_type":"ping","room_id":1}"#,
        r#"{"signal_type":"ping","id":-1}"#,
        r#"{"signal_type":"subscribe","slots":[{"mid":""}]}"#,
        r#"{"signal_type":"offer","sdp":"","tracks":[{"mid":"a b","source":"camera"}]}"#,
    ] {
        anna.send_text(nonsense).await;
        assert_eq!(anna.error().await, "bad_message", "{nonsense}");
    }
    for (signal_type, list, entry, max) in [
        ("subscribe", "slots", json!({ "mid": "0" }), 256),
        ("subscribe", "pinned", json!("anna"), 128),
        ("offer", "tracks", json!({ "mid": "0", "source": "camera" }), 256),
        ("offer", "pairs", json!({ "audio": "0", "video": "1" }), 256),
    ] {
        anna.send(json!({ "signal_type": signal_type, "sdp": "", list: vec![entry; max + 1] })).await;
        assert_eq!(anna.error().await, "bad_message", "{list}");
    }
    anna.send_binary(b"{}").await;
    assert_eq!(anna.error().await, "bad_message");
    anna.send_text(&"[".repeat(10_000)).await;
    assert_eq!(anna.error().await, "bad_message");
    anna.send(json!({ "signal_type": "dance" })).await;
    let error = anna.expect("error").await;
    assert_eq!(error["error"]["code"], "unknown_signal_type");
    assert!(error["error"]["message"].as_str().unwrap().contains("offer, ice-candidate, mute"));
    anna.send(json!({ "signal_type": "mute", "track_id": "TR1", "muted": true })).await;
    assert_eq!(anna.error().await, "track_not_found");
    anna.send(json!({ "signal_type": "update", "name": "x".repeat(65) })).await;
    assert_eq!(anna.error().await, "bad_request");
    anna.send(json!({ "signal_type": "update", "metadata": "x".repeat(9000) })).await;
    assert_eq!(anna.error().await, "message_too_large");
    anna.send(json!({ "signal_type": "ice-candidate", "ice_candidate": null })).await;
    anna.round_trip().await;
}

#[tokio::test]
async fn too_large_a_message_ends_the_connection() {
    let server = Server::start(Settings::default()).await;
    let (mut anna, _) = server.join("room_id=tea").await;
    anna.send(json!({ "signal_type": "offer", "sdp": "x".repeat(300_000) })).await;
    assert_eq!(anna.error().await, "message_too_large");
    assert_eq!(anna.closed().await, 4413);
}

#[tokio::test]
async fn who_floods_is_warned_and_then_closed() {
    let settings = Settings { messages_per_second: 1, message_burst: 10, ..Settings::default() };
    let server = Server::start(settings).await;
    let (mut anna, _) = server.join("room_id=tea").await;
    // More than twenty, in case the machine is slow and gives a few more every second.
    for _ in 0..30 {
        anna.send(json!({ "signal_type": "ice-candidate" })).await;
    }
    assert_eq!(anna.error().await, "rate_limited");
    assert_eq!(anna.closed().await, 4429);
}

#[tokio::test]
async fn offers_subscriptions_and_mutes_reach_the_media_plane_and_its_answers_come_back() {
    let server = Server::start(Settings::default()).await;
    let (mut anna, _) = server.join("room_id=tea&peer_id=anna").await;
    let participant = added(&server).await;
    anna.send(
        json!({ "signal_type": "offer", "id": 3, "sdp": "v=0", "pairs": [{ "audio": "2", "video": "3" }],
        "tracks": [{ "mid": "0", "source": "screen", "muted": true }] }),
    )
    .await;
    let Command::Offer { request, sdp, labels, .. } = server.command().await else { panic!() };
    assert_eq!(
        (sdp.as_str(), labels.published[0].source, labels.published[0].muted),
        ("v=0", Source::Screen, true)
    );
    assert_eq!(labels.pairs, [(Mid::new("2").unwrap(), Mid::new("3").unwrap())]);
    server
        .event(Event::Answer { participant, request, result: Ok("v=0 answer".into()), new_session: true })
        .await;
    assert_eq!(anna.receive().await, json!({ "signal_type": "answer", "sdp": "v=0 answer", "id": 3 }));

    anna.send(json!({ "signal_type": "offer", "id": 4, "sdp": "bad" })).await;
    let Command::Offer { request, .. } = server.command().await else { panic!() };
    let error = OfferError { line: 12, reason: "no such codec".into() };
    server.event(Event::Answer { participant, request, result: Err(error), new_session: false }).await;
    let error = anna.expect("error").await;
    assert_eq!(error["id"], 4);
    assert_eq!(error["error"], json!({ "code": "offer_invalid", "message": "SDP line 12: no such codec" }));

    server.event(Event::Track { participant, track: microphone(7, false) }).await;
    let track = anna.expect("track").await;
    assert_eq!(
        track["track"],
        json!({ "track_id": "TR7", "mid": "0", "kind": "audio", "source": "microphone",
        "muted": false })
    );
    anna.send(json!({ "signal_type": "mute", "track_id": "TR7", "muted": true })).await;
    let command = server.command().await;
    assert!(matches!(command, Command::SetMuted { track: TrackId(7), muted: true, .. }), "{command:?}");

    anna.send(json!({ "signal_type": "subscribe", "mode": "manual", "pinned": ["anna", "gone", "anna"], "slots": [
        { "mid": "3", "track_id": "TR7", "width": 640, "height": 360 }, { "mid": "4", "track_id": "" }, { "mid": "5" },
        { "mid": "3" }
    ] }))
    .await;
    let Command::Subscribe { subscription, .. } = server.command().await else { panic!() };
    assert_eq!((subscription.auto, subscription.pinned), (false, vec![participant]));
    let shown: Vec<_> = subscription.wishes.iter().map(|wish| (wish.show, wish.width)).collect();
    assert_eq!(shown, [(Show::Track(TrackId(7)), 640), (Show::Nothing, 0), (Show::Nothing, 0)]);
}

#[tokio::test]
async fn what_the_media_plane_reports_is_told_to_those_it_concerns() {
    let server = Server::start(Settings::default()).await;
    let (mut anna, _) = server.join("room_id=tea&peer_id=anna").await;
    let Command::AddParticipant { room, participant: first, .. } = server.command().await else { panic!() };
    let (mut boris, _) = server.join("room_id=tea&peer_id=boris").await;
    let second = added(&server).await;
    anna.expect("participant-joined").await;

    server.event(Event::Connection { participant: first, state: ConnectionState::Connected }).await;
    assert_eq!(anna.expect("connection").await["state"], "connected");
    server.event(Event::Track { participant: first, track: microphone(1, true) }).await;
    anna.expect("track").await;
    assert_eq!(boris.expect("track").await["peer_id"], "anna");
    let shows = Some(SlotSource { participant: first, track: TrackId(1), rtp_timestamp: 960 });
    let change = SlotChange { mid: Mid::new("2").unwrap(), shows, reason: None };
    server.event(Event::Slots { participant: second, changes: vec![change] }).await;
    let slots = boris.expect("slots").await;
    assert_eq!(
        slots["slots"],
        json!([{ "mid": "2", "peer_id": "anna", "track_id": "TR1", "rtp_timestamp": 960 }])
    );
    server.event(Event::Speakers { room, speakers: vec![Speaker { participant: first, level: 90 }] }).await;
    server.event(Event::Quality { room, changes: vec![(second, Quality::Poor)] }).await;
    for client in [&mut anna, &mut boris] {
        assert_eq!(client.expect("speakers").await["speakers"], json!([{ "peer_id": "anna", "level": 90 }]));
        let quality = client.expect("quality").await;
        assert_eq!(quality["participants"], json!([{ "peer_id": "boris", "quality": "poor" }]));
    }
    let (_clara, joined) = server.join("room_id=tea").await;
    assert_eq!(joined["participants"][0]["tracks"][0]["muted"], true);
    assert_eq!(joined["participants"][1]["quality"], "poor");
    anna.expect("participant-joined").await;
    server.event(Event::TrackGone { participant: first, track: TrackId(1) }).await;
    assert_eq!(anna.expect("track-gone").await["track_id"], "TR1");
}

#[tokio::test]
async fn a_lost_connection_is_resumed_with_everything_it_had() {
    let server = Server::start(Settings::default()).await;
    let (mut anna, _) = server.join("room_id=tea&peer_id=anna").await;
    added(&server).await;
    let (boris, joined) = server.join("room_id=tea&peer_id=boris").await;
    let second = added(&server).await;
    anna.expect("participant-joined").await;
    server.event(Event::Track { participant: second, track: microphone(1, false) }).await;
    anna.expect("track").await;
    let shows = Some(SlotSource { participant: second, track: TrackId(1), rtp_timestamp: 960 });
    let change = SlotChange { mid: Mid::new("2").unwrap(), shows, reason: None };
    server.event(Event::Slots { participant: second, changes: vec![change] }).await;

    drop(boris);
    let away = anna.expect("participant-updated").await;
    assert_eq!(
        (&away["participant"]["connected"], &away["participant"]["quality"]),
        (&json!(false), &json!("lost"))
    );
    anna.send(json!({ "signal_type": "hello", "target_peer_id": "boris" })).await;
    assert_eq!(anna.error().await, "peer_not_connected");

    let token = joined["resume_token"].as_str().unwrap();
    let (mut boris, again) = server.join(&format!("room_id=tea&resume_token={token}")).await;
    assert_eq!((&again["resumed"], &again["peer_id"]), (&json!(true), &json!("boris")));
    assert_eq!(again["tracks"][0]["track_id"], "TR1");
    assert_eq!(again["slots"][0]["mid"], "2");
    assert_ne!(again["resume_token"], joined["resume_token"]);
    assert_eq!(anna.expect("participant-updated").await["participant"]["connected"], true);
    boris.round_trip().await;
    assert!(server.commands.is_empty(), "the media plane need not know");
}

#[tokio::test]
async fn a_new_session_has_none_of_the_slots_and_states_of_the_one_before() {
    let server = Server::start(Settings::default()).await;
    let (mut anna, joined) = server.join("room_id=tea&peer_id=anna").await;
    let participant = added(&server).await;
    server.event(Event::Connection { participant, state: ConnectionState::Connected }).await;
    anna.expect("connection").await;
    let shows = Some(SlotSource { participant, track: TrackId(1), rtp_timestamp: 960 });
    let change = SlotChange { mid: Mid::new("2").unwrap(), shows, reason: None };
    server.event(Event::Slots { participant, changes: vec![change] }).await;
    anna.expect("slots").await;
    anna.send(json!({ "signal_type": "offer", "sdp": "v=0" })).await;
    let Command::Offer { request, .. } = server.command().await else { panic!() };
    server.event(Event::Answer { participant, request, result: Ok("v=0".into()), new_session: true }).await;
    anna.expect("answer").await;
    let token = joined["resume_token"].as_str().unwrap();
    let (mut anna, again) = server.join(&format!("room_id=tea&resume_token={token}")).await;
    assert_eq!((&again["resumed"], &again["slots"]), (&json!(true), &json!([])));
    anna.round_trip().await;
}

#[tokio::test]
async fn a_publisher_is_told_which_layers_are_wanted_and_told_again_after_a_loss() {
    let server = Server::start(Settings::default()).await;
    let (mut anna, joined) = server.join("room_id=tea&peer_id=anna").await;
    let (mut boris, _) = server.join("room_id=tea&peer_id=boris").await;
    anna.expect("participant-joined").await;
    let participant = added(&server).await;
    server.event(layers_wanted(participant, "1", &[("q", true), ("f", true)])).await;
    server.event(layers_wanted(participant, "1", &[("q", true), ("f", false)])).await;
    server.event(layers_wanted(participant, "4", &[("", false)])).await;
    anna.expect("layers").await;
    let newest = json!({ "signal_type": "layers", "mid": "1",
        "layers": [{ "rid": "q", "active": true }, { "rid": "f", "active": false }] });
    let single = json!({ "signal_type": "layers", "mid": "4", "layers": [{ "active": false }] });
    assert_eq!(anna.receive().await, newest);
    assert_eq!(anna.receive().await, single);
    boris.round_trip().await;

    drop(anna);
    let token = joined["resume_token"].as_str().unwrap();
    let (mut anna, again) = server.join(&format!("room_id=tea&resume_token={token}")).await;
    assert_eq!(again["resumed"], true);
    assert_eq!(anna.receive().await, newest);
    assert_eq!(anna.receive().await, single);
    anna.round_trip().await;
}

#[tokio::test]
async fn of_a_track_that_is_gone_and_of_a_session_before_no_layers_are_told() {
    let server = Server::start(Settings::default()).await;
    let (mut anna, joined) = server.join("room_id=tea&peer_id=anna").await;
    let participant = added(&server).await;
    let camera = |id, mid| TrackInfo {
        id: TrackId(id),
        mid: Mid::new(mid).unwrap(),
        kind: MediaKind::Video,
        source: Source::Camera,
        muted: false,
    };
    for (id, mid) in [(1, "0"), (2, "1")] {
        server.event(Event::Track { participant, track: camera(id, mid) }).await;
        anna.expect("track").await;
        server.event(layers_wanted(participant, mid, &[("", false)])).await;
        anna.expect("layers").await;
    }
    server.event(Event::TrackGone { participant, track: TrackId(1) }).await;
    anna.expect("track-gone").await;
    drop(anna);
    let token = joined["resume_token"].as_str().unwrap();
    let (mut anna, again) = server.join(&format!("room_id=tea&resume_token={token}")).await;
    assert_eq!(anna.expect("layers").await["mid"], "1");

    anna.send(json!({ "signal_type": "offer", "sdp": "v=0" })).await;
    let Command::Offer { request, .. } = server.command().await else { panic!() };
    server.event(Event::Answer { participant, request, result: Ok("v=0".into()), new_session: true }).await;
    anna.expect("answer").await;
    drop(anna);
    let token = again["resume_token"].as_str().unwrap();
    let (mut anna, _) = server.join(&format!("room_id=tea&resume_token={token}")).await;
    anna.round_trip().await;
}

#[tokio::test]
async fn a_slot_that_the_network_does_not_carry_says_so_and_what_it_would_show() {
    let server = Server::start(Settings::default()).await;
    let (mut anna, joined) = server.join("room_id=tea&peer_id=anna").await;
    let participant = added(&server).await;
    let shows = Some(SlotSource { participant, track: TrackId(1), rtp_timestamp: 960 });
    let reason = Some(SlotReason::Bandwidth);
    let change = SlotChange { mid: Mid::new("2").unwrap(), shows, reason };
    server.event(Event::Slots { participant, changes: vec![change] }).await;
    let paused = json!([{ "mid": "2", "peer_id": "anna", "track_id": "TR1", "rtp_timestamp": 960,
        "reason": "bandwidth" }]);
    assert_eq!(anna.expect("slots").await["slots"], paused);
    drop(anna);
    let token = joined["resume_token"].as_str().unwrap();
    let (_, again) = server.join(&format!("room_id=tea&resume_token={token}")).await;
    assert_eq!(again["slots"], paused);
}

#[tokio::test]
async fn a_track_is_told_again_only_when_it_changed() {
    let server = Server::start(Settings::default()).await;
    let (mut anna, _) = server.join("room_id=tea&peer_id=anna").await;
    let participant = added(&server).await;
    for muted in [false, false, true] {
        server.event(Event::Track { participant, track: microphone(1, muted) }).await;
    }
    for muted in [false, true] {
        assert_eq!(anna.expect("track").await["track"]["muted"], muted);
    }
}

#[tokio::test]
async fn the_same_token_again_replaces_the_connection_and_dies_once_the_new_one_is_used() {
    let server = Server::start(Settings::default()).await;
    let (mut first, joined) = server.join("room_id=tea&peer_id=anna").await;
    let token = joined["resume_token"].as_str().unwrap();
    let resume = format!("room_id=tea&resume_token={token}");
    let (mut second, again) = server.join(&resume).await;
    assert_eq!(again["resumed"], true);
    assert_eq!(first.error().await, "replaced");
    assert_eq!(first.closed().await, 4440);
    // The client may have lost the answer with the new token: the old one is good until the new one is shown to live.
    let (mut third, again) = server.join(&resume).await;
    assert_eq!(again["resumed"], true);
    assert_eq!(second.error().await, "replaced");
    third.round_trip().await;
    let (_, again) = server.join(&resume).await;
    assert_eq!(again["resumed"], false);
    third.expect("participant-joined").await;
}

#[tokio::test]
async fn a_stopping_server_says_so() {
    let server = Server::start(Settings::default()).await;
    let (mut anna, _) = server.join("room_id=tea").await;
    let signaling = server.signaling.clone();
    let stopped = tokio::spawn(async move { signaling.stop().await });
    assert_eq!(anna.error().await, "server_stopping");
    assert_eq!(anna.closed().await, 1001);
    drop(anna);
    stopped.await.unwrap();
    assert_eq!(server.refused("room_id=tea").await, ("server_stopping".into(), 1001));
}

#[tokio::test]
async fn hundreds_in_one_room_all_learn_of_each_other() {
    const MANY: usize = 300;
    let settings = Settings { max_participants_per_room: 1000, ..Settings::default() };
    let server = Server::start(settings).await;
    let mut clients = Vec::new();
    for _ in 0..MANY {
        clients.push(server.join("room_id=hall").await);
    }
    for (index, (client, joined)) in clients.iter_mut().enumerate() {
        let mut known = joined["participants"].as_array().unwrap().len();
        assert_eq!(known, index);
        while known < MANY - 1 {
            client.expect("participant-joined").await;
            known += 1;
        }
    }
}
