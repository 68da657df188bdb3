//! Signals: a new configuration, and an end that cuts nobody off.

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use yawc::{OpCode, Options, WebSocket};

use crate::client::get;
use crate::server::{PATIENCE, Server};

#[tokio::test]
async fn a_new_configuration_changes_what_can_change_and_names_what_cannot() {
    let mut server = Server::start("reload", "[log]\nfilter = \"warn\"\n").await;
    get(server.http(), "/health").await;
    assert!(!server.log().contains("answered"));
    server.folder.write("veche.toml", "[log]\nfilter = \"info,veche=debug\"\n[signaling]\nmax_rooms = 5\n");
    server.signal(Signal::HUP);
    server.logs("the configuration was read again").await;
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
async fn who_is_there_is_told_and_what_has_begun_is_finished() {
    let mut server = Server::start("drain", "").await;
    let url = "ws://localhost/realtime/webrtc/signaling?room_id=tea".parse().unwrap();
    let io = TcpStream::connect(server.http()).await.unwrap();
    let mut socket = WebSocket::handshake(url, io, Options::default()).await.unwrap();

    // A request whose body has only begun.
    let mut upload = TcpStream::connect(server.http()).await.unwrap();
    let body = r#"{"room_id":"begun"}"#;
    let head = "POST /realtime/webrtc/rooms HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    upload
        .write_all(format!("{head}\r\nContent-Length: {}\r\n\r\n{}", body.len(), &body[..5]).as_bytes())
        .await
        .unwrap();
    // It has been taken when another, which came later, is answered.
    get(server.http(), "/health").await;

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
    assert!(TcpStream::connect(server.http()).await.is_err(), "nobody new is let in");
    upload.write_all(&body.as_bytes()[5..]).await.unwrap();
    let mut answer = String::new();
    upload.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(server.ended().await.success());
    assert!(server.log().contains("stopped"), "{}", server.log());
}

#[tokio::test]
async fn a_second_signal_waits_for_nobody() {
    let mut server = Server::start("at-once", "[http]\ndrain_seconds = 600\n").await;
    let mut upload = TcpStream::connect(server.http()).await.unwrap();
    let head = "POST /realtime/webrtc/rooms HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 5\r\n\r\n";
    upload.write_all(head.as_bytes()).await.unwrap();
    get(server.http(), "/health").await;
    server.signal(Signal::TERM);
    server.logs("stopping").await;
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());
    server.logs("stopped at once").await;
}

#[tokio::test]
async fn what_takes_too_long_is_cut_in_the_end() {
    let mut server = Server::start("cut", "[http]\ndrain_seconds = 1\n").await;
    let mut upload = TcpStream::connect(server.http()).await.unwrap();
    let head = "POST /realtime/webrtc/rooms HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 5\r\n\r\n";
    upload.write_all(head.as_bytes()).await.unwrap();
    get(server.http(), "/health").await;
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());
    server.logs("requests were cut").await;
}
