//! Messaging: JSON messages of two connections, a line each. Whatever they send, what comes out is JSON with a type, and
//! the connection goes on.

use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use veche_access::{Authority, Identity};
use veche_hub::{Door, HubSettings, Outbox};
use veche_messaging::{Encoded, Encoding, Messaging, Parts, Settings, Turn, encode_item};

/// The most lines of an input that are looked at.
const MAX_LINES: usize = 32;

thread_local! {
    static RUNTIME: Runtime =
        Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime can be made");
}

pub(crate) fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    RUNTIME.with(|runtime| runtime.block_on(talk(&text)));
}

async fn talk(text: &str) {
    let parts =
        Parts { channels: HubSettings::default(), authority: Authority::open(), files: None, database: None };
    let messaging = Messaging::start(Settings::default(), parts).await.expect("there is nothing to fail");
    let enter = || {
        let identity = Identity::anonymous(true);
        messaging.session(Door::WebSocket, identity, None).expect("there is room")
    };
    let mut clients = [enter(), enter()];
    for (index, line) in text.lines().take(MAX_LINES).enumerate() {
        let turn = clients[index % 2].0.handle_text(line).await;
        assert!(matches!(turn, Turn::Continue), "an open server knows nobody");
        for (_, outbox) in &mut clients {
            drain(outbox);
        }
    }
    messaging.stop().await;
}

fn drain(outbox: &mut Outbox) {
    while let Some(item) = outbox.try_next() {
        let Some(Encoded::Text(json)) = encode_item(item, Encoding::Json) else { continue };
        let message: Value = serde_json::from_slice(&json).expect("what is sent is JSON");
        assert!(message["type"].is_string(), "every message has its type");
    }
}
