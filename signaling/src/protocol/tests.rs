//! The types in TypeScript, and the messages of the documentation.

use std::path::PathBuf;

use serde_json::json;
use ts_rs::Config;

use super::*;

fn typescript() -> String {
    let config = Config::default();
    let mut file = String::from(
        "// Written by `cargo test -p veche-signaling export -- --ignored` from signaling/src/protocol.rs.\n",
    );
    macro_rules! export {
        ($($name:ident)+) => { $(
            file.push('\n');
            file.push_str(&$name::docs().unwrap_or_default());
            file.push_str("export ");
            file.push_str(&$name::decl(&config));
            file.push('\n');
        )+ };
    }
    export! {
        ClientMessage ClientOffer OfferedTrack SlotPair Subscribe SubscribeMode WantedSlot ServerMessage Joined
        Limits IceServer Room Participant Track TrackKind TrackSource Slot SlotReason TrackLayers
        Layer ActiveSpeaker ConnectionQuality PeerQuality MediaState LeaveReason ErrorBody PeerMessage
        Action Moderate Moderation Moderated Waiting Ban RoomRecording
    }
    file
}

fn typescript_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../web/sdk/src/protocol.ts")
}

#[test]
#[ignore = "writes web/sdk/src/protocol.ts; run it after a change of a type"]
fn export_the_types_to_typescript() {
    std::fs::write(typescript_path(), typescript()).unwrap();
}

#[test]
fn the_typescript_types_are_those_of_the_server() {
    let written = std::fs::read_to_string(typescript_path()).unwrap_or_default();
    assert!(
        written == typescript(),
        "web/sdk/src/protocol.ts is old: run `cargo test -p veche-signaling export -- --ignored`"
    );
}

#[test]
fn every_type_that_is_used_is_exported() {
    let file = typescript();
    let sources = [include_str!("../protocol.rs"), include_str!("moderation.rs")];
    for line in sources.iter().flat_map(|source| source.lines()) {
        let name = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum "));
        if let Some(name) = name.and_then(|rest| rest.split([' ', '<', ';']).next()) {
            assert!(file.contains(&format!("export type {name} = ")), "{name} is not exported");
        }
    }
}

#[test]
fn the_known_signal_types_are_those_of_the_enum() {
    let unknown = serde_json::from_value::<ClientMessage>(json!({ "signal_type": "?" })).unwrap_err();
    let known = ClientMessage::SIGNAL_TYPES.map(|name| format!("`{name}`")).join(", ");
    assert_eq!(unknown.to_string(), format!("unknown variant `?`, expected one of {known}"));
}

#[test]
fn messages_of_the_documented_form_are_understood() {
    let offer = json!({ "signal_type": "offer", "id": 7, "sdp": "v=0", "tracks":
        [{ "mid": "0", "source": "screen-audio" }], "pairs": [{ "audio": "1", "video": "2" }] });
    let ClientMessage::Offer(offer) = serde_json::from_value(offer).unwrap() else { panic!() };
    assert_eq!((offer.id, offer.tracks[0].source), (Some(7), TrackSource::ScreenAudio));
    let end = json!({ "signal_type": "ice-candidate", "ice_candidate": null });
    assert_eq!(
        serde_json::from_value::<ClientMessage>(end).unwrap(),
        ClientMessage::IceCandidate { ice_candidate: None }
    );
    let error = ServerMessage::Error {
        error: ErrorBody { code: "room_full".into(), message: "full".into() },
        id: None,
    };
    assert_eq!(
        serde_json::to_value(error).unwrap(),
        json!({ "signal_type": "error", "error": { "code": "room_full", "message": "full" } })
    );
}
