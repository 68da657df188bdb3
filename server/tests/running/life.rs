//! Signals: a new configuration, and an end that cuts nobody off.

use futures_util::SinkExt;
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use yawc::{Frame, OpCode, Options, WebSocket};

use crate::client::{Caller, get, get_with, receive, websocket};
use crate::server::{PATIENCE, Server};

#[tokio::test]
async fn a_new_configuration_changes_what_can_change_and_names_what_cannot() {
    let mut server = Server::start("reload", "[log]\nfilter = \"warn\"\n").await;
    get(server.http(), "/health").await;
    server.folder.write("veche.toml", "[log]\nfilter = \"info,veche=debug\"\n[signaling]\nmax_rooms = 5\n");
    server.signal(Signal::HUP);
    server.logs("the configuration was read again").await;
    assert!(!server.log().contains("answered"), "asked for warnings only, and long before");
    server.logs("signaling.max_rooms has changed, which takes a restart").await;
    get(server.http(), "/health?token=secret").await;
    server.logs("answered").await;
    let log = server.log();
    let line = log.lines().find(|line| line.contains("answered")).unwrap();
    assert!(line.contains("/health") && line.contains("id=") && line.contains("client="), "{line}");
    assert!(!log.contains("secret"));

    server.folder.write("veche.toml", "[log]\nfilter = 5\n");
    server.signal(Signal::HUP);
    server.logs("cannot be used; the one before is").await;
    get(server.http(), "/health").await;
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());
}

#[tokio::test]
async fn origins_rates_and_rules_of_channels_change_for_those_who_are_there() {
    let server = Server::start("rules", "").await;
    let address = server.http();
    let mut early = websocket(address).await.unwrap();
    assert_eq!(receive(&mut early).await.unwrap()["type"], "welcome");
    let mut caller = Caller::connect(address).await.unwrap();
    let origin = [("origin", "https://app.example")];
    let page = async || get_with(address, "/realtime/health", &origin).await.headers;
    assert!(!page().await.contains_key("access-control-allow-origin"));
    for number in 0..3 {
        let answer = caller.post("/realtime/send", &json!({ "channel": "log:a", "data": number })).await;
        assert_eq!(answer.unwrap().status, 200);
    }
    let history = async || get(address, "/realtime/channels/log:a/history").await.json();
    assert_eq!(history().await["messages"].as_array().unwrap().len(), 3);

    server.folder.write(
        "veche.toml",
        "[messaging]\nallowed_origins = [\"https://app.example\"]\nmessages_per_second = 1\nmessage_burst = 3\n\
         [signaling]\nallowed_origins = [\"https://app.example\"]\nrequests_per_second = 1\nrequest_burst = 3\n\
         [channels]\nrules = [{ pattern = \"log:*\", history_messages = 1 }]\n",
    );
    server.signal(Signal::HUP);
    server.logs("the configuration was read again").await;
    assert!(!server.log().contains("takes a restart"), "{}", server.log());
    assert_eq!(page().await["access-control-allow-origin"], "https://app.example");
    for _ in 0..6 {
        early.send(Frame::text(r#"{"type":"ping"}"#)).await.unwrap();
    }
    for _ in 0..3 {
        assert_eq!(receive(&mut early).await.unwrap()["type"], "pong");
    }
    while receive(&mut early).await.unwrap()["type"] != "error" {}
    caller.post("/realtime/send", &json!({ "channel": "log:a", "data": 3 })).await.unwrap();
    let history = history().await;
    assert_eq!(history["messages"].as_array().unwrap().len(), 1, "{history}");
    // However slow the machine is, some of so many come within a second.
    let rooms = futures_util::future::join_all((0..50).map(|_| get(address, "/realtime/webrtc/rooms"))).await;
    assert!(rooms.iter().any(|answer| answer.status == 429));
}

#[tokio::test]
async fn who_is_there_is_told_and_what_has_begun_is_finished() {
    let mut server = Server::start("drain", "").await;
    let url = "ws://localhost/realtime/webrtc/signaling?room_id=tea".parse().unwrap();
    let io = TcpStream::connect(server.http()).await.unwrap();
    let mut socket = WebSocket::handshake(url, io, Options::default()).await.unwrap();

    // A request whose body has only begun.
    let body = r#"{"room_id":"begun"}"#;
    let mut upload = begin_request(&server, body.len()).await;

    server.signal(Signal::TERM);
    let closed = async {
        loop {
            let frame = socket.next_frame().await.expect("a close comes first");
            if frame.opcode() == OpCode::Close {
                return frame.close_code().map(u16::from);
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, closed).await.unwrap(), Some(1001));
    let nobody_is_let_in = async { while TcpStream::connect(server.http()).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, nobody_is_let_in).await.expect("nobody new is let in");
    upload.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    upload.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(server.ended().await.success());
    assert!(server.log().contains("stopped"), "{}", server.log());
}

#[tokio::test]
async fn a_second_signal_waits_for_nobody() {
    let mut server = Server::start("at-once", "[http]\ndrain_seconds = 600\n").await;
    let _upload = begin_request(&server, 5).await;
    server.signal(Signal::TERM);
    server.logs("stopping").await;
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());
    server.logs("stopped at once").await;
}

#[tokio::test]
async fn what_takes_too_long_is_cut_in_the_end() {
    let mut server = Server::start("cut", "[http]\ndrain_seconds = 1\n").await;
    let _upload = begin_request(&server, 5).await;
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());
    server.logs("requests were cut").await;
}

/// A request of which the server has read the head and waits for the body.
async fn begin_request(server: &Server, body_bytes: usize) -> TcpStream {
    let mut upload = TcpStream::connect(server.http()).await.unwrap();
    let head = format!(
        "POST /realtime/webrtc/rooms HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Expect: 100-continue\r\nContent-Length: {body_bytes}\r\n\r\n"
    );
    upload.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    upload.read_exact(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 100"), "{}", String::from_utf8_lossy(&answer));
    upload
}
