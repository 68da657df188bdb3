//! Connections that say nothing, or hardly anything.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::get;
use crate::server::Server;

/// How many say nothing.
const SILENT: usize = 10_000;

/// What each of them may cost the server, in bytes.
const EACH: usize = 8 * 1024;

/// Until when somebody else is answered: long before the first of them is cut, and much for a machine that others load.
const SERVED_WITHIN: Duration = Duration::from_secs(8);

/// Until when all of them are cut.
const CUT_WITHIN: Duration = Duration::from_secs(20);

fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let maximum = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    assert!(maximum > SILENT as u64 + 100, "this test needs {SILENT} open files; raise `ulimit -n`");
}

/// Waits until the server has closed the connection.
async fn cut(mut io: TcpStream) {
    let mut rest = Vec::new();
    // The end, or a reset, which is one too.
    let _ = tokio::time::timeout(CUT_WITHIN, io.read_to_end(&mut rest)).await.expect("it is cut");
}

#[tokio::test]
async fn ten_thousand_silent_sockets_cost_little_and_are_cut_while_others_are_served() {
    raise_file_limit();
    let server = Server::start("idle", "").await;
    get(server.http(), "/health").await;
    let before = server.resident_bytes();
    let mut sockets = Vec::with_capacity(SILENT);
    for _ in 0..SILENT {
        sockets.push(TcpStream::connect(server.http()).await.unwrap());
    }
    let asked = Instant::now();
    assert_eq!(get(server.http(), "/health").await.status, 200);
    assert!(asked.elapsed() < SERVED_WITHIN, "others wait: {:?}", asked.elapsed());
    let grown = server.resident_bytes().saturating_sub(before);
    println!("{SILENT} silent sockets: {} bytes each", grown / SILENT);
    assert!(grown < SILENT * EACH, "{grown} bytes");
    for socket in sockets {
        cut(socket).await;
    }
}

#[tokio::test]
async fn who_sends_drop_by_drop_is_cut_at_every_stage() {
    let server = Server::start("drops", "[http]\nbody_idle_seconds = 2\n").await;
    let head = "GET /health HTTP/1.1\r\nX-Slow: ";
    let preface = "PRI * HTTP/2.0\r\n\r\n";
    let slow =
        [drip(server.http(), head, "a"), drip(server.http(), preface, ""), drip(server.http(), "", "G")];
    for task in slow.map(tokio::spawn) {
        task.await.unwrap();
    }
    // After one answer, a connection is kept for the next request, but not for long.
    let mut kept = TcpStream::connect(server.http()).await.unwrap();
    kept.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    // Bodies of which hardly anything comes: each drop is in time.
    for path in ["/realtime/send", "/realtime/webrtc/rooms", "/realtime/binary/upload?channel=c"] {
        let kind =
            if path.contains("upload") { "multipart/form-data; boundary=b" } else { "application/json" };
        let post = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 5000\r\n\r\n"
        );
        drip(server.http(), &post, " ").await;
    }
    // A body that does not come.
    let mut silent = TcpStream::connect(server.http()).await.unwrap();
    let post = "POST /realtime/webrtc/rooms HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    silent.write_all(format!("{post}\r\nContent-Length: 50\r\n\r\n{{").as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(CUT_WITHIN, silent.read_to_string(&mut answer)).await.expect("it is cut").unwrap();
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    cut(kept).await;
}

/// Sends how it begins, then a drop each half second until it is cut.
async fn drip(address: SocketAddr, begin: &str, drop: &str) {
    let mut io = TcpStream::connect(address).await.unwrap();
    io.write_all(begin.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = io.into_split();
    let dripping = async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if writer.write_all(drop.as_bytes()).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut rest = Vec::new();
    let read = tokio::time::timeout(CUT_WITHIN, reader.read_to_end(&mut rest));
    tokio::select! {
        ended = read => { let _ = ended.expect("it is cut"); }
        () = dripping => {}
    }
}

#[tokio::test]
async fn there_are_no_more_connections_than_may_be() {
    let server = Server::start("most", "[http]\nmax_connections = 3\n").await;
    let mut first = TcpStream::connect(server.http()).await.unwrap();
    first.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let _others =
        [TcpStream::connect(server.http()).await.unwrap(), TcpStream::connect(server.http()).await.unwrap()];
    // What the system has taken in, the server lets in in order.
    cut(TcpStream::connect(server.http()).await.unwrap()).await;
    let mut answer = [0; 12];
    first.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    drop(first);
    let mut served = false;
    let since = Instant::now();
    while !served && since.elapsed() < CUT_WITHIN {
        let mut io = TcpStream::connect(server.http()).await.unwrap();
        let _ = io.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
        let mut answer = String::new();
        served = io.read_to_string(&mut answer).await.is_ok()
            && answer.contains("veche_http_connections_refused_total");
    }
    assert!(served, "a place that is free again is taken again");
}
