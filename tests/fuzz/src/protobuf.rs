//! Messaging in Protobuf: a record for each message of a connection, whose kind does not matter. Whatever it sends, what
//! comes out is a message of the server, and the connection goes on.

use prost::Message as _;
use tokio::runtime::{Builder, Runtime};
use veche_access::{Authority, Identity};
use veche_hub::{Door, HubSettings};
use veche_messaging::proto::ServerMessage;
use veche_messaging::{Encoded, Encoding, Messaging, Parts, Settings, Turn, encode_item};

use crate::records;

/// The most messages of an input that are looked at.
const MAX_MESSAGES: usize = 32;

thread_local! {
    static RUNTIME: Runtime =
        Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime can be made");
}

pub(crate) fn run(input: &[u8]) {
    RUNTIME.with(|runtime| runtime.block_on(talk(input)));
}

async fn talk(input: &[u8]) {
    let parts =
        Parts { channels: HubSettings::default(), authority: Authority::open(), files: None, database: None };
    let messaging = Messaging::start(Settings::default(), parts).await.expect("there is nothing to fail");
    let identity = Identity::anonymous(true);
    let (mut session, mut outbox) = messaging.session(Door::Grpc, identity, None).expect("there is room");
    session.speak(Encoding::Protobuf);
    session.welcome();
    for (_, message) in records::records(input).take(MAX_MESSAGES) {
        let turn = session.handle_protobuf(message.to_vec().into()).await;
        assert!(matches!(turn, Turn::Continue), "an open server knows nobody");
        while let Some(item) = outbox.try_next() {
            match encode_item(item, Encoding::Protobuf) {
                Some(Encoded::Binary(bytes)) => {
                    let message = ServerMessage::decode(bytes).expect("what is sent can be read");
                    assert!(message.message.is_some(), "and says something");
                }
                Some(Encoded::Text(_)) => panic!("Protobuf is no text"),
                None => {}
            }
        }
    }
    messaging.stop().await;
}
