//! Signaling: messages of two peers of one room, a line each. Whatever they send, what comes out is JSON, and what one
//! peer gets from another names its true sender.

use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use veche_access::Authority;
use veche_signaling::inbound::handle_text;
use veche_signaling::link::{Outbox, Outgoing};
use veche_signaling::protocol::{ClientMessage, PeerMessage};
use veche_signaling::rooms::{JoinRequest, Rooms, Seat};
use veche_signaling::{Media, Settings};

/// The most lines of an input that are looked at.
const MAX_LINES: usize = 32;
const PEERS: [&str; 2] = ["anna", "boris"];

thread_local! {
    static RUNTIME: Runtime =
        Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime can be made");
}

pub(crate) fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    for line in text.lines().take(MAX_LINES) {
        let _ = serde_json::from_str::<ClientMessage>(line);
        let _ = serde_json::from_str::<PeerMessage>(line);
    }
    RUNTIME.with(|runtime| runtime.block_on(talk(&text)));
}

async fn talk(text: &str) {
    let (media, commands) = Media::queue(16);
    let rooms = Rooms::new(Settings::default(), media, Authority::open());
    let mut seats = Vec::new();
    for peer in PEERS {
        let request =
            JoinRequest { room_id: "room".into(), peer_id: Some(peer.into()), ..JoinRequest::default() };
        seats.push(rooms.join(&request).await.expect("there is room"));
    }
    for (index, line) in text.lines().take(MAX_LINES).enumerate() {
        let from = index % seats.len();
        let seat: &Seat = &seats[from].0;
        if let Err((error, _)) = handle_text(&rooms, seat, line).await {
            assert!(!error.to_string().is_empty(), "an error says what is wrong");
        }
        commands.drain();
        for (receiver, (_, outbox)) in seats.iter_mut().enumerate() {
            drain(outbox, from, receiver);
        }
    }
}

fn drain(outbox: &mut Outbox, from: usize, receiver: usize) {
    while let Some(Outgoing::Message(message)) = outbox.try_next() {
        let message: Value = serde_json::from_slice(&message).expect("what is sent is JSON");
        assert!(message["signal_type"].is_string(), "every message has its type");
        if message.get("target_peer_id").is_some() {
            assert_eq!(message["from_peer_id"], PEERS[from], "the sender is the true one");
            assert_eq!(message["target_peer_id"], PEERS[receiver], "and the receiver is meant");
        }
    }
}
