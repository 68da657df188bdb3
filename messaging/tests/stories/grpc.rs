//! Channels over gRPC, with tonic as the client.

use std::time::Duration;

use axum::http::uri::PathAndQuery;
use futures_util::stream;
use prost::Message;
use serde_json::json;
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use veche_messaging::Settings;
use veche_messaging::proto::{self, client_message, delivery, send, server_message};

use crate::server::{PATIENCE, Server, Setup, required};

/// A client of the service.
struct Caller {
    grpc: Grpc<Channel>,
    token: Option<String>,
}

/// What a client of `Connect` has.
struct Session {
    requests: mpsc::Sender<proto::ClientMessage>,
    answers: Streaming<proto::ServerMessage>,
}

async fn channel(server: &Server) -> Channel {
    Endpoint::from_shared(format!("http://{}", server.address)).unwrap().connect().await.unwrap()
}

impl Caller {
    async fn new(server: &Server) -> Self {
        Self { grpc: Grpc::new(channel(server).await), token: None }
    }

    fn request<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        request
    }

    async fn call<Q, A>(&mut self, method: &str, message: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.grpc.ready().await.unwrap();
        let request = self.request(message);
        self.grpc.unary(request, path(method), ProstCodec::<Q, A>::default()).await.map(Response::into_inner)
    }

    async fn send(&mut self, channel: &str, data: &str) -> Result<proto::Published, Status> {
        self.call("Send", data_for(channel, data)).await
    }

    async fn subscribe(&mut self, wish: proto::Subscribe) -> Result<Streaming<proto::ServerMessage>, Status> {
        self.grpc.ready().await.unwrap();
        let wish = proto::SubscribeRequest { channels: vec![wish], name: "Анна".into() };
        let request = self.request(wish);
        let answer = self.grpc.server_streaming(request, path("Subscribe"), ProstCodec::default()).await;
        answer.map(Response::into_inner)
    }

    async fn connect(&mut self) -> Result<Session, Status> {
        self.grpc.ready().await.unwrap();
        let (requests, receiver) = mpsc::channel(16);
        let messages = stream::unfold(receiver, |mut receiver: mpsc::Receiver<proto::ClientMessage>| async {
            Some((receiver.recv().await?, receiver))
        });
        let mut request = self.request(messages);
        request.metadata_mut().insert("name", "Boris".parse().unwrap());
        let answers = self.grpc.streaming(request, path("Connect"), ProstCodec::default()).await?;
        Ok(Session { requests, answers: answers.into_inner() })
    }
}

impl Session {
    async fn say(&mut self, id: &str, message: client_message::Message) {
        let message = proto::ClientMessage { id: id.into(), message: Some(message) };
        self.requests.send(message).await.unwrap();
    }
}

fn path(method: &str) -> PathAndQuery {
    format!("/veche.v1.Messaging/{method}").parse().unwrap()
}

fn data_for(channel: &str, data: &str) -> proto::Send {
    let to = Some(send::To::Channel(channel.into()));
    proto::Send { to, data: data.into(), ..proto::Send::default() }
}

fn wish(channel: &str) -> proto::Subscribe {
    proto::Subscribe { channel: channel.into(), ..proto::Subscribe::default() }
}

/// The next message of a stream, which has one.
async fn next(stream: &mut Streaming<proto::ServerMessage>) -> (String, server_message::Message) {
    let next = tokio::time::timeout(PATIENCE, stream.message()).await.expect("something comes");
    let message = next.unwrap().expect("the stream goes on");
    (message.id, message.message.expect("the client knows every kind of message"))
}

async fn delivered(stream: &mut Streaming<proto::ServerMessage>) -> proto::Delivery {
    match next(stream).await.1 {
        server_message::Message::Delivery(delivery) => delivery,
        other => panic!("{other:?}"),
    }
}

fn code_of(status: &Status) -> (Code, &str) {
    (status.code(), status.metadata().get("veche-error-code").map_or("", |code| code.to_str().unwrap()))
}

#[tokio::test]
async fn what_is_sent_by_grpc_reaches_websockets_and_the_other_way_round() {
    let server = Server::start().await;
    let mut anna = Caller::new(&server).await;
    let mut stream = anna.subscribe(wish("news")).await.unwrap();
    let server_message::Message::Welcome(welcome) = next(&mut stream).await.1 else { panic!() };
    assert_eq!(welcome.name, "Анна");
    assert!(welcome.connection_id.starts_with("conn_"));
    let server_message::Message::Subscribed(subscribed) = next(&mut stream).await.1 else { panic!() };
    assert_eq!((&*subscribed.channel, subscribed.offset, subscribed.recovered), ("news", 0, None));

    let mut boris = server.subscriber("news").await;
    let published = anna.send("news", r#"{"n": 1.0}"#).await.unwrap();
    assert_eq!((&*published.channel, published.offset, published.recipients), ("news", 1, 2));
    let message = boris.expect("channel_message").await;
    assert_eq!(message["data"], json!({ "n": 1.0 }));
    assert_eq!(message["message_id"], published.message_id.as_str());
    let delivery = delivered(&mut stream).await;
    assert_eq!(delivery.message_id, published.message_id);
    assert_eq!(delivery.body, Some(delivery::Body::Data(r#"{"n": 1.0}"#.into())));
    assert_eq!((delivery.audience(), delivery.sender), (proto::Audience::Channel, None));

    boris
        .send(json!({ "type": "binary", "binary_data": "YWJj", "content_type": "text/plain",
            "filename": "a.txt", "channel": "news" }))
        .await;
    boris.expect("binary").await;
    let delivery = delivered(&mut stream).await;
    assert_eq!((delivery.offset, &*delivery.epoch), (2, &*published.epoch));
    assert!(delivery.sender.unwrap().connection_id.unwrap().starts_with("conn_"));
    let Some(delivery::Body::Binary(binary)) = delivery.body else { panic!("{:?}", delivery.body) };
    assert_eq!((&binary.data[..], &*binary.filename), (&b"abc"[..], "a.txt"));

    let wanted = proto::HistoryRequest { channel: "news".into(), ..proto::HistoryRequest::default() };
    let history: proto::History = anna.call("History", wanted).await.unwrap();
    assert_eq!((history.offset, history.messages.len(), history.complete), (2, 2, true));
    assert_eq!(history.messages[0].message_id, published.message_id);
    let wanted = proto::PresenceRequest { channel: "news".into() };
    let presence: proto::Presence = anna.call("Presence", wanted).await.unwrap();
    assert_eq!((presence.total, presence.presence.len()), (2, 2));
    let connections: proto::Connections =
        anna.call("ListConnections", proto::ListConnectionsRequest {}).await.unwrap();
    assert_eq!((connections.total, connections.websocket, connections.grpc), (2, 1, 1));
    assert_eq!(server.messaging.counters().grpc_connections, 1);
}

#[tokio::test]
async fn who_comes_back_gets_what_it_missed() {
    let server = Server::start().await;
    let mut anna = Caller::new(&server).await;
    let first = anna.send("c", "1").await.unwrap();
    anna.send("c", "2").await.unwrap();
    let recover = Some(proto::Position { epoch: first.epoch, offset: first.offset });
    let mut stream = anna.subscribe(proto::Subscribe { recover, ..wish("c") }).await.unwrap();
    next(&mut stream).await;
    let server_message::Message::Subscribed(subscribed) = next(&mut stream).await.1 else { panic!() };
    assert_eq!((subscribed.recovered, subscribed.missed, subscribed.offset), (Some(true), 1, 2));
    assert_eq!(delivered(&mut stream).await.body, Some(delivery::Body::Data("2".into())));
}

#[tokio::test]
async fn a_session_does_what_a_websocket_does_and_goes_on_listening_after_its_last_word() {
    use client_message::Message as Say;
    use server_message::Message as Heard;
    let server = Server::start().await;
    let mut session = Caller::new(&server).await.connect().await.unwrap();
    let Heard::Welcome(welcome) = next(&mut session.answers).await.1 else { panic!() };
    assert_eq!(welcome.name, "Boris");
    session.say("1", Say::Ping(proto::Ping {})).await;
    let (id, pong) = next(&mut session.answers).await;
    assert!(id == "1" && matches!(pong, Heard::Pong(_)), "{pong:?}");
    session.say("2", Say::Subscribe(proto::Subscribe { presence: true, ..wish("c") })).await;
    let (id, Heard::Subscribed(subscribed)) = next(&mut session.answers).await else { panic!() };
    assert_eq!((&*id, subscribed.presence.len()), ("2", 1));
    session.say("3", Say::Send(data_for("c", "[1]"))).await;
    // Its own message and the acknowledgement, in the order of the channel.
    let mut heard = vec![next(&mut session.answers).await, next(&mut session.answers).await];
    heard.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(matches!(&heard[0].1, Heard::Delivery(delivery) if delivery.offset == 1), "{heard:?}");
    assert!(matches!(&heard[1], (id, Heard::Published(_)) if id == "3"), "{heard:?}");
    session.say("4", Say::Send(data_for("no such name", "1"))).await;
    let (id, Heard::Error(error)) = next(&mut session.answers).await else { panic!() };
    assert_eq!((&*id, &*error.code), ("4", "bad_channel"));
    let join = proto::Action { action: Some(proto::action::Action::SetUsername("Иван".into())) };
    session.say("", Say::Action(join)).await;
    let Heard::System(system) = next(&mut session.answers).await.1 else { panic!() };
    assert_eq!(system.message, "Имя установлено: Иван");

    let Session { requests, mut answers } = session;
    drop(requests);
    let (mut anna, _) = server.join("").await;
    anna.send(json!({ "type": "direct", "connection_id": welcome.connection_id, "data": "psst", "id": 1 }))
        .await;
    anna.expect("published").await;
    let delivery = delivered(&mut answers).await;
    assert_eq!(delivery.audience(), proto::Audience::Direct);
    assert_eq!(delivery.body, Some(delivery::Body::Data("\"psst\"".into())));
    drop(answers);
    let gone = async {
        while server.messaging.counters().grpc_connections > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("who hangs up is gone");
}

#[tokio::test]
async fn without_credentials_or_with_wrong_ones_nothing_is_done_where_they_are_required() {
    let server = Server::with(Setup { access: required(), ..Setup::default() }).await;
    let mut anna = Caller::new(&server).await;
    let status = anna.send("c", "1").await.unwrap_err();
    assert_eq!(code_of(&status), (Code::Unauthenticated, "authentication_required"));
    let status = anna.subscribe(wish("c")).await.unwrap_err();
    assert_eq!(code_of(&status), (Code::Unauthenticated, "authentication_required"));
    assert!(anna.connect().await.is_err());
    anna.token = Some("nonsense".into());
    let status = anna.send("c", "1").await.unwrap_err();
    assert_eq!(code_of(&status), (Code::Unauthenticated, "invalid_token"));
    anna.token = Some(server.token("42", Duration::from_mins(1)));
    anna.send("c", "1").await.unwrap();
    let mut session = anna.connect().await.unwrap();
    let server_message::Message::Welcome(welcome) = next(&mut session.answers).await.1 else { panic!() };
    assert_eq!((welcome.user_id.as_deref(), welcome.authenticated), (Some("42"), true));
    // Only the user reads what is theirs.
    let status = anna.subscribe(wish("user_7")).await.unwrap_err();
    assert_eq!(code_of(&status), (Code::PermissionDenied, "forbidden"));
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let server = Server::with(Setup {
        access: veche_access::AccessSettings { leeway_seconds: 0, ..required() },
        ..Setup::default()
    })
    .await;
    let mut anna = Caller::new(&server).await;
    anna.token = Some(server.token("42", Duration::from_secs(4)));
    let mut stream = anna.subscribe(wish("c")).await.unwrap();
    next(&mut stream).await;
    next(&mut stream).await;
    let server_message::Message::Disconnect(end) = next(&mut stream).await.1 else { panic!() };
    assert_eq!(&*end.reason, "token_expired");
    let status = stream.message().await.unwrap_err();
    assert_eq!(code_of(&status), (Code::Unauthenticated, "token_expired"));
}

#[tokio::test]
async fn errors_say_what_is_wrong_and_limits_hold() {
    let settings = Settings { max_message_bytes: 4096, grpc_max_connections: 1, ..Settings::default() };
    let server = Server::with(Setup { settings, ..Setup::default() }).await;
    let mut anna = Caller::new(&server).await;
    let status = anna.send("no such name", "1").await.unwrap_err();
    assert_eq!(code_of(&status), (Code::InvalidArgument, "bad_channel"));
    let status = anna.send("c", "{").await.unwrap_err();
    assert_eq!(code_of(&status), (Code::InvalidArgument, "bad_message"));
    let status = anna.send("c", &format!("\"{}\"", "x".repeat(5000))).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    let direct = proto::Send { to: Some(send::To::UserId("nobody".into())), ..data_for("", "1") };
    let status = anna.call::<_, proto::Published>("Send", direct).await.unwrap_err();
    assert_eq!(code_of(&status), (Code::NotFound, "recipient_not_found"));
    let status = anna.call::<_, proto::Published>("Missing", data_for("c", "1")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);

    let once = proto::Send { idempotency_key: "k".into(), ..data_for("c", "1") };
    let first: proto::Published = anna.call("Send", once.clone()).await.unwrap();
    let second: proto::Published = anna.call("Send", once.clone()).await.unwrap();
    assert_eq!((first.offset, first.repeated), (second.offset, false));
    assert!(second.repeated);
    let other = proto::Send { data: "2".into(), ..once };
    let status = anna.call::<_, proto::Published>("Send", other).await.unwrap_err();
    assert_eq!(code_of(&status), (Code::AlreadyExists, "idempotency_conflict"));

    let stream = anna.subscribe(wish("c")).await.unwrap();
    let status = anna.subscribe(wish("c")).await.unwrap_err();
    assert_eq!(code_of(&status), (Code::ResourceExhausted, "too_many_connections"));
    drop(stream);
}

#[tokio::test]
async fn health_tells_that_the_server_stops_and_streams_end() {
    let server = Server::start().await;
    let mut stream = Caller::new(&server).await.subscribe(wish("c")).await.unwrap();
    next(&mut stream).await;
    next(&mut stream).await;
    let mut health = HealthClient::new(channel(&server).await);
    let asked = || HealthCheckRequest { service: "veche.v1.Messaging".into() };
    let status = health.check(asked()).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::Serving);
    let stopping = server.messaging.clone();
    let stopped = tokio::spawn(async move { stopping.stop().await });
    let server_message::Message::Disconnect(end) = next(&mut stream).await.1 else { panic!() };
    assert_eq!((&*end.reason, end.reconnect), ("stopping", true));
    let status = stream.message().await.unwrap_err();
    assert_eq!(code_of(&status), (Code::Unavailable, "server_stopping"));
    stopped.await.unwrap();
    let status = health.check(asked()).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::NotServing);
}

#[tokio::test]
async fn reflection_describes_the_service() {
    let server = Server::start().await;
    let mut reflection = ServerReflectionClient::new(channel(&server).await);
    let ask = |asked| ServerReflectionRequest { host: String::new(), message_request: Some(asked) };
    let asked = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("veche.v1.Messaging".into()),
    ];
    let mut answers =
        reflection.server_reflection_info(stream::iter(asked.map(ask))).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("services are listed")
    };
    let mut names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "veche.v1.Messaging"]);
    let Some(MessageResponse::FileDescriptorResponse(file)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("the file is described")
    };
    assert!(!file.file_descriptor_proto.is_empty());
}
