//! Stories over WebSockets.

mod story;

use serde_json::{Value, json};
use story::Server;
use veche_sfu_core::control::{
    Command, ConnectionState, Event, Quality, Show, SlotChange, SlotSource, Speaker, TrackInfo,
};
use veche_sfu_core::ids::{Mid, ParticipantId, TrackId};
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

#[tokio::test]
async fn the_second_sees_the_first_and_the_first_sees_the_second_come_and_go() {
    let server = Server::start(Settings::default()).await;
    let (mut anna, joined) = server.join("room_id=tea&name=Anna&peer_id=anna").await;
    assert_eq!(joined["peer_id"], "anna");
    assert_eq!(joined["resumed"], false);
    assert_eq!(joined["participants"], json!([]));
    assert_eq!(joined["room"], json!({ "room_id": "tea", "name": "tea", "max_participants": 100 }));
    assert_eq!(joined["ice_servers"], json!([]));
    assert_eq!(joined["limits"]["max_signal_bytes"], 262_144);

    let (mut boris, joined) = server.join("room_id=tea&name=%D0%91%D0%BE%D1%80%D0%B8%D1%81").await;
    assert_eq!(joined["participants"][0]["name"], "Anna");
    assert_eq!(joined["participants"][0]["connected"], true);
    let seen = anna.expect("participant-joined").await;
    assert_eq!(seen["participant"]["name"], "Борис");
    assert_eq!(seen["participant"]["peer_id"], joined["peer_id"]);

    boris.send(json!({ "signal_type": "update", "name": "Bob", "metadata": { "hand": true } })).await;
    for client in [&mut anna, &mut boris] {
        let updated = client.expect("participant-updated").await;
        assert_eq!(updated["participant"]["name"], "Bob");
        assert_eq!(updated["participant"]["metadata"], json!({ "hand": true }));
    }
    boris.send(json!({ "signal_type": "leave" })).await;
    assert_eq!(boris.expect("participant-left").await_err(), ());
}

/// Only for readability above: the one who leaves is not told.
trait AwaitErr {
    fn await_err(self);
}

impl<F> AwaitErr for F {
    fn await_err(self) {}
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
    let boris = added(&server).await;
    match server.command().await {
        Command::RemoveParticipant { participant } => assert_eq!(participant, boris),
        other => panic!("{other:?}"),
    }
    let token = joined["resume_token"].as_str().unwrap();
    let (_, again) = server.join(&format!("room_id=tea&peer_id=boris&resume_token={token}")).await;
    assert_eq!(again["resumed"], false);
    assert_eq!(again["peer_id"], "boris");
}
