//! Channels over a WebSocket that speaks Protobuf.

use std::time::Duration;

use prost::Message as _;
use serde_json::json;
use veche_messaging::proto::client_message::Message as Say;
use veche_messaging::proto::server_message::Message as Heard;
use veche_messaging::proto::{self, authenticate, delivery, send};

use crate::server::{Client, Server, Setup, required};

/// Asks for the sub-protocol.
const PROTOBUF: (&str, &str) = ("sec-websocket-protocol", "veche.protobuf.v1, veche.json.v1");

async fn connect(server: &Server) -> Client {
    server.connect_with("name=Boris", &[PROTOBUF]).await.expect("the WebSocket opens")
}

async fn say(client: &mut Client, id: &str, message: Say) {
    let message = proto::ClientMessage { id: id.into(), message: Some(message) };
    client.send_binary(message.encode_to_vec()).await;
}

async fn hear(client: &mut Client) -> (String, Heard) {
    let bytes = client.receive_binary().await;
    let message = proto::ServerMessage::decode(&bytes[..]).unwrap();
    (message.id, message.message.unwrap())
}

#[tokio::test]
async fn it_is_the_same_session_in_other_words() {
    let server = Server::start().await;
    let mut boris = connect(&server).await;
    let Heard::Welcome(welcome) = hear(&mut boris).await.1 else { panic!() };
    assert_eq!((&*welcome.name, welcome.session.unwrap().max_json_depth), ("Boris", 64));
    let wish = proto::Subscribe { channel: "news".into(), ..proto::Subscribe::default() };
    say(&mut boris, "s", Say::Subscribe(wish)).await;
    let (id, Heard::Subscribed(subscribed)) = hear(&mut boris).await else { panic!() };
    assert_eq!((&*id, &*subscribed.channel), ("s", "news"));

    let mut anna = server.subscriber("news").await;
    anna.send(json!({ "type": "publish", "channel": "news", "data": { "n": 1 } })).await;
    let sent = anna.expect("channel_message").await;
    let Heard::Delivery(delivery) = hear(&mut boris).await.1 else { panic!() };
    assert_eq!(sent["message_id"], delivery.message_id.as_str());
    assert_eq!(delivery.body, Some(delivery::Body::Data(r#"{"n":1}"#.into())));

    let binary = proto::Binary {
        to: Some(proto::binary::To::Channel("news".into())),
        binary_data: b"abc".to_vec().into(),
        content_type: "text/plain".into(),
        filename: "a.txt".into(),
        ..proto::Binary::default()
    };
    say(&mut boris, "", Say::Binary(binary)).await;
    let got = anna.expect("binary").await;
    assert_eq!((&got["binary_data"], &got["sender"]["name"]), (&json!("YWJj"), &json!("Boris")));
    let Heard::Delivery(delivery) = hear(&mut boris).await.1 else { panic!() };
    let Some(delivery::Body::Binary(binary)) = delivery.body else { panic!("{:?}", delivery.body) };
    assert_eq!(binary.data[..], *b"abc");

    let note = proto::Notify { title: "Hi".into(), data: "[1]".into(), ..proto::Notify::default() };
    say(&mut boris, "n", Say::Notification(note)).await;
    let got = anna.expect("notification").await;
    assert_eq!((&got["notification_type"], &got["data"]), (&json!("info"), &json!([1])));

    let wanted = proto::HistoryRequest { channel: "news".into(), since: Some(1), ..Default::default() };
    say(&mut boris, "h", Say::History(wanted)).await;
    let history = loop {
        if let (id, Heard::History(history)) = hear(&mut boris).await {
            assert_eq!(id, "h");
            break history;
        }
    };
    assert_eq!((history.messages.len(), history.messages[0].offset), (1, 2));
}

#[tokio::test]
async fn what_is_no_protobuf_is_refused_and_the_connection_goes_on() {
    let server = Server::start().await;
    let mut boris = connect(&server).await;
    hear(&mut boris).await;
    boris.send(json!({ "type": "ping" })).await;
    let Heard::Error(error) = hear(&mut boris).await.1 else { panic!() };
    assert_eq!(&*error.code, "bad_message");
    boris.send_binary(vec![0xff; 8]).await;
    let Heard::Error(error) = hear(&mut boris).await.1 else { panic!() };
    assert_eq!(&*error.code, "bad_message");
    let nowhere = proto::Send { to: None::<send::To>, data: "1".into(), ..proto::Send::default() };
    say(&mut boris, "7", Say::Send(nowhere)).await;
    let (id, Heard::Error(error)) = hear(&mut boris).await else { panic!() };
    assert_eq!((&*id, &*error.code), ("7", "bad_message"));
    say(&mut boris, "8", Say::Ping(proto::Ping {})).await;
    assert_eq!(hear(&mut boris).await.0, "8");
}

#[tokio::test]
async fn the_first_message_may_carry_the_token() {
    let server = Server::with(Setup { access: required(), ..Setup::default() }).await;
    let mut boris = connect(&server).await;
    let token = server.token("42", Duration::from_mins(1));
    let credential = Some(authenticate::Credential::Token(token));
    say(&mut boris, "", Say::Auth(proto::Authenticate { credential })).await;
    let Heard::Welcome(welcome) = hear(&mut boris).await.1 else { panic!() };
    assert_eq!(welcome.user_id.as_deref(), Some("42"));

    let mut nobody = connect(&server).await;
    say(&mut nobody, "", Say::Ping(proto::Ping {})).await;
    let Heard::Error(error) = hear(&mut nobody).await.1 else { panic!() };
    assert_eq!(&*error.code, "authentication_required");
    assert_eq!(nobody.closed().await.0, 4001);
}
