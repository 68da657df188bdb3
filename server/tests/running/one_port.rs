//! One port for everything: web pages, TURN over TCP and TLS, and media over TCP, told apart by their first bytes.

use axum::http::Request;
use http_body_util::Full;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{ask, get, get_http2, raw, receive, tls, websocket};
use crate::ports;
use crate::server::{PATIENCE, Server};

/// A request for one's own address, which a STUN server answers (RFC 8489 section 6).
const BINDING: [u8; 20] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
/// A request for a relay over UDP, without credentials (RFC 8656 section 7).
const ALLOCATE: [u8; 28] =
    [0, 3, 0, 8, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 0, 0x19, 0, 4, 17, 0, 0, 0];

const TLS13: &rustls::SupportedProtocolVersion = &rustls::version::TLS13;
const TLS12: &rustls::SupportedProtocolVersion = &rustls::version::TLS12;

/// The answers of a TURN server to both: an address, and a request for credentials.
async fn speaks_turn(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    // In pieces, of which the first tells nothing yet.
    for piece in [&BINDING[..1], &BINDING[1..7], &BINDING[7..], &ALLOCATE[..]] {
        io.write_all(piece).await.unwrap();
        io.flush().await.unwrap();
    }
    for (kind, request) in [([1, 1], &BINDING[..]), ([1, 0x13], &ALLOCATE[..])] {
        let mut head = [0; 20];
        let read = tokio::time::timeout(PATIENCE, io.read_exact(&mut head)).await;
        read.expect("an answer comes").unwrap();
        assert_eq!((&head[..2], &head[4..]), (&kind[..], &request[4..20]));
        let mut rest = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
        io.read_exact(&mut rest).await.unwrap();
    }
}

async fn health(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> u16 {
    let request = Request::get("/health").header("host", "localhost").body(Full::default()).unwrap();
    ask(io, request).await.status.as_u16()
}

/// What the server has counted under this name.
async fn count(server: &Server, name: &str) -> u64 {
    let metrics = get(server.http(), "/metrics").await;
    let line = metrics.text().lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
    line.map_or(0, |line| line.trim().parse().unwrap())
}

async fn closed(server: &Server, reason: &str) -> u64 {
    count(server, &format!("veche_connections_closed_total{{reason=\"{reason}\"}}")).await
}

#[tokio::test]
async fn https_and_turn_share_a_port_by_alpn_or_by_what_comes_first() {
    let server = Server::start("one-port", "[http]\nhttps_listen = \"127.0.0.1:0\"\n").await;
    let port = server.https();
    assert_eq!(health(tls(port, "localhost", &["http/1.1"], TLS13).await).await, 200);
    assert_eq!(health(tls(port, "localhost", &[], TLS13).await).await, 200, "it is told by the request");
    let stream = tls(port, "localhost", &["h2"], TLS12).await;
    assert_eq!(get_http2(stream, "/health").await.status, 200);
    // The last but one is what coturn's client names.
    for protocols in [&["stun.turn"][..], &["stun.nat-discovery"], &["http/1.1", "stun.turn"], &[]] {
        speaks_turn(tls(port, "localhost", protocols, TLS13).await).await;
        speaks_turn(tls(port, "localhost", protocols, TLS12).await).await;
    }
    speaks_turn(TcpStream::connect(port).await.unwrap()).await;
    let refused = raw(port, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("\"https_only\""), "{refused}");

    for (kind, connections) in [("https", 3), ("turn_tls", 8), ("turn", 1)] {
        let opened = count(&server, &format!("veche_connections_total{{kind=\"{kind}\"}}")).await;
        assert_eq!(opened, connections, "{kind}");
    }
    assert_eq!(closed(&server, "not_https").await, 1);
}

#[tokio::test]
async fn one_address_may_take_everything_with_and_without_tls() {
    let free = ports::free();
    let one = format!("[http]\nlisten = \"{free}\"\nhttps_listen = \"{free}\"\n[turn]\nlisten = []\n");
    let mut server = Server::start("one-address", &one).await;
    assert_eq!((server.http(), server.https()), (free, free));
    assert_eq!(get(free, "/health").await.status, 200);
    assert_eq!(get_http2(TcpStream::connect(free).await.unwrap(), "/health").await.status, 200);
    assert_eq!(health(tls(free, "localhost", &["http/1.1"], TLS13).await).await, 200);
    speaks_turn(TcpStream::connect(free).await.unwrap()).await;
    speaks_turn(tls(free, "localhost", &[], TLS13).await).await;
    let mut socket = websocket(free).await.unwrap();
    assert_eq!(receive(&mut socket).await.unwrap()["type"], "welcome");

    // Who has said nothing yet does not hold the end up.
    let _silent = TcpStream::connect(free).await.unwrap();
    let mut half = TcpStream::connect(free).await.unwrap();
    half.write_all(&[22, 3, 1]).await.unwrap();
    assert_eq!(get(free, "/health").await.status, 200);
    server.signal(rustix::process::Signal::TERM);
    assert!(server.ended().await.success());
    assert!(!server.log().contains("requests were cut"), "{}", server.log());
}

#[tokio::test]
async fn strangers_are_closed_and_counted() {
    let server = Server::start("one-port-strangers", "[http]\nhttps_listen = \"127.0.0.1:0\"\n").await;
    let port = server.https();
    assert_eq!(raw(port, b"\0\0\0\0\0\0\0\0\0\0").await, "");
    // An alert of TLS may come, or be lost when the rest is not read.
    raw(port, &[&[0x16, 3, 1, 0, 5][..], b"hello"].concat()).await;
    // A first frame of media that asks for nobody.
    let request = [&[0, 20][..], &BINDING].concat();
    assert_eq!(raw(port, &request).await, "");
    assert_eq!(raw(server.http(), &[22, 3, 1, 0, 5]).await, "");
    let mut proof = tls(port, "localhost", &["stun.turn"], TLS13).await;
    proof.shutdown().await.unwrap();
    drop(TcpStream::connect(port).await.unwrap());
    for (reason, connections) in
        [("unknown", 1), ("handshake", 1), ("stranger", 1), ("no_tls", 1), ("ended", 1)]
    {
        let counted = async {
            while closed(&server, reason).await < connections {
                tokio::task::yield_now().await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, counted).await;
        assert!(in_time.is_ok(), "{reason} is counted");
        assert_eq!(closed(&server, reason).await, connections, "{reason}");
    }
}

/// It takes as long as the server waits.
#[tokio::test]
async fn who_does_not_say_what_it_wants_is_not_waited_for() {
    let server = Server::start("one-port-slow", "[http]\nhttps_listen = \"127.0.0.1:0\"\n").await;
    let port = server.https();
    // Nothing, half a handshake, half a cookie, half a frame, and nothing within TLS.
    let part = [&[0, 60][..], &BINDING[..9]].concat();
    let slow = [&[][..], &[22, 3, 1, 1, 0, 1], &BINDING[..6], &part].map(|bytes| async move {
        assert!(raw(port, bytes).await.len() < 8);
    });
    let mut silent = tls(port, "localhost", &[], TLS13).await;
    let ends = tokio::spawn(async move { silent.read(&mut [0; 1]).await.is_ok_and(|read| read > 0) });
    futures_util::future::join_all(slow).await;
    assert!(!tokio::time::timeout(PATIENCE, ends).await.expect("it ends").unwrap());
    assert_eq!(closed(&server, "slow").await, 5);
}
