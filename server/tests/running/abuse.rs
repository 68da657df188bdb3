//! Input that is too large, too deep, too slow, or unfolds to too much, and names that are paths: a clear answer, and no more
//! memory than before.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use axum::http::Request;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::SinkExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use yawc::{Frame, Options};

use crate::client::{Answer, ask, raw, receive, websocket_at};
use crate::server::{PATIENCE, Server};

const MIB: usize = 1 << 20;

/// What nobody may ever read: it stands in the configuration.
const MARK: &str = "nobody-may-read-this";

async fn start(name: &str, configuration: &str) -> Server {
    let limits = "requests_per_second = 0\nmessages_per_second = 100000\nmessage_burst = 100000\n";
    let configuration = format!("# {MARK}\n[signaling]\n{limits}[messaging]\n{limits}{configuration}");
    Server::start(name, &configuration).await
}

async fn post(server: &Server, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
    let mut request = Request::post(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let io = TcpStream::connect(server.http()).await.unwrap();
    ask(io, request.body(body.into().into()).unwrap()).await
}

fn code(answer: &Answer) -> (u16, String) {
    let code = answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
    (answer.status.as_u16(), code)
}

const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=b");

/// A form with one file.
fn form(filename: &str, content: &str) -> String {
    format!(
        "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{filename}\"\r\n\
         Content-Type: text/plain\r\n\r\n{content}\r\n--b--\r\n"
    )
}

#[tokio::test]
async fn what_is_compressed_never_unfolds_to_more_than_may_be_sent() {
    let server = start("bombs", "websocket_binary_max_bytes = 1048576\n").await;
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    std::io::Write::write_all(&mut bomb, &vec![b' '; 128 * MIB]).unwrap();
    let bomb = bomb.finish().unwrap();
    let before = server.peak_bytes();
    for coding in ["gzip", "zstd", "br", "deflate"] {
        let coded = ("content-encoding", coding);
        for path in ["/realtime/send", "/realtime/webrtc/rooms", "/realtime/webrtc/signal"] {
            let answer = post(&server, path, &[JSON, coded], &bomb[..]).await;
            assert_eq!(code(&answer), (415, "unsupported_encoding".to_owned()), "{coding} {path}");
        }
        let answer = post(&server, "/realtime/binary/upload?channel=c", &[FORM, coded], &bomb[..]).await;
        assert_eq!(code(&answer), (415, "unsupported_encoding".to_owned()), "{coding}");
    }
    // The same by permessage-deflate: each is some KB that would unfold to 128 MB.
    let text = " ".repeat(128 * MIB);
    for path in ["/realtime/ws", "/realtime/webrtc/signaling?room_id=tea"] {
        for _ in 0..3 {
            let options = Options::default().with_low_latency_compression();
            let mut socket = websocket_at(server.http(), path, options).await.unwrap();
            let _ = socket.send(Frame::text(text.clone())).await;
            while receive(&mut socket).await.is_some() {}
        }
    }
    let grown = server.peak_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "{grown} bytes");
}

#[tokio::test]
async fn uploads_are_cut_where_they_become_too_large_in_flat_memory() {
    let server = start("oversized", "[files]\nmax_file_bytes = 1048576\n").await;
    let before = server.peak_bytes();
    // Said beforehand.
    let head = "POST /realtime/binary/upload?channel=c HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                Content-Type: multipart/form-data; boundary=b\r\n";
    let answer = raw(server.http(), format!("{head}Content-Length: 1000000000000\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("file_too_large"), "{answer}");
    // Not said, and without an end.
    let mut io = TcpStream::connect(server.http()).await.unwrap();
    io.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).await.unwrap();
    let (mut reader, mut writer) = io.into_split();
    let begin = form("endless.txt", "");
    let begin = begin.strip_suffix("\r\n--b--\r\n").unwrap();
    let endless = async {
        writer.write_all(format!("{:x}\r\n{begin}\r\n", begin.len()).as_bytes()).await?;
        let chunk = format!("{MIB:x}\r\n{}\r\n", "x".repeat(MIB));
        loop {
            writer.write_all(chunk.as_bytes()).await?;
        }
    };
    let mut answer = Vec::new();
    let exchange = async {
        let (_written, _read): (std::io::Result<()>, _) =
            tokio::join!(endless, reader.read_to_end(&mut answer));
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("it is cut");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("file_too_large"), "{answer}");
    // Bodies of JSON.
    let large = json!({ "channel": "c", "data": "x".repeat(2 * MIB) }).to_string();
    for path in ["/realtime/webrtc/rooms", "/realtime/send"] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json"
        );
        let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{large}", large.len());
        let answer = raw(server.http(), request.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 413") && answer.contains("message_too_large"),
            "{path}: {answer}"
        );
    }
    let grown = server.peak_bytes().saturating_sub(before);
    assert!(grown < 24 * MIB, "{grown} bytes");
    let nothing_is_left = async {
        while !files_in(&server.folder.0.join("data/files")).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, nothing_is_left).await.expect("nothing is left");
}

#[tokio::test]
async fn names_that_are_paths_lead_nowhere() {
    let server = start("paths", "").await;
    for name in
        ["../../../../evil.txt", "..\\..\\evil.txt", "/tmp/evil.txt", "%2e%2e%2fevil.txt", "....//evil.txt"]
    {
        let answer = post(&server, "/realtime/binary/upload?channel=c", &[FORM], form(name, "hello")).await;
        let kept = answer.json()["file"]["filename"].as_str().unwrap().to_owned();
        assert!(!kept.contains(['/', '\\']), "{name} is kept as {kept}");
    }
    // Contents have names of the server's own.
    let named: Vec<_> = files_in(&server.folder.0)
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("evil"))
        .collect();
    assert_eq!(named, Vec::<PathBuf>::new());
    assert!(!Path::new("/tmp/evil.txt").exists());

    let up = ["..", "%2e%2e", ".%2e", "..%2f..", "..%5c..", "..%252f..", "%c0%ae%c0%ae"];
    let places = ["/", "/realtime/files/", "/assets/", "/realtime/", "/r/", "/realtime/files/uploads/"];
    for place in places {
        for up in up {
            for depth in 1..4 {
                let path = format!("{place}{}veche.toml", format!("{up}/").repeat(depth));
                let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
                let answer = raw(server.http(), request.as_bytes()).await;
                assert!(answer.starts_with("HTTP/1.1 "), "{path}: {answer}");
                assert!(!answer.contains(MARK), "{path}: {answer}");
            }
        }
    }
    let answer = raw(server.http(), b"GET /realtime/files/a\0b HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn depth_and_lengths_have_limits_that_are_said() {
    let server = start("depth", "").await;
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for depth in [65, 100_000] {
        let body = format!(r#"{{"channel":"c","data":{}}}"#, deep(depth));
        let answer = post(&server, "/realtime/send", &[JSON], body).await;
        assert_eq!(code(&answer).0, 400);
        assert!(answer.text().contains("64 deep"), "{}", answer.text());
        for path in ["/realtime/webrtc/rooms", "/realtime/webrtc/signal"] {
            let answer = post(&server, path, &[JSON], deep(depth)).await;
            assert_eq!(code(&answer).0, 400, "{path}");
        }
    }
    let long = "x".repeat(300);
    for (path, body) in [
        ("/realtime/send", json!({ "channel": long, "data": 1 })),
        ("/realtime/notifications/broadcast", json!({ "title": long, "body": "b" })),
        ("/realtime/binary/send", json!({ "channel": "c", "binary_data": "aGk=", "filename": long })),
        ("/realtime/webrtc/rooms", json!({ "room_id": long })),
        ("/realtime/webrtc/rooms", json!({ "room_id": "tea", "name": long })),
    ] {
        let answer = post(&server, path, &[JSON], body.to_string()).await;
        assert_eq!(code(&answer).0, 400, "{path}: {}", answer.text());
        assert!(answer.json()["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
    }
    for path in ["/realtime/ws?", "/realtime/webrtc/signaling?room_id=tea&"] {
        let path = format!("{path}name={long}");
        let mut socket = websocket_at(server.http(), &path, Options::default()).await.unwrap();
        let error = receive(&mut socket).await.unwrap();
        assert_eq!(error["error"]["code"], "bad_request", "{path}: {error}");
    }
    // Heads of requests.
    let get = |path: &str, headers: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
    };
    let mut headers = String::new();
    for number in 0..500 {
        write!(headers, "X-Header-{number}: x\r\n").unwrap();
    }
    for (what, request, status) in [
        // By how much of it comes at once, it is the address that is too long or the whole head.
        ("a long address", get(&format!("/{}", "x".repeat(100_000)), ""), ["414", "431"]),
        ("many headers", get("/health", &headers), ["431"; 2]),
        ("a large header", get("/health", &format!("X-Large: {}\r\n", "x".repeat(MIB))), ["431"; 2]),
    ] {
        let answer = raw(server.http(), request.as_bytes()).await;
        let is_told = status.iter().any(|status| answer.starts_with(&format!("HTTP/1.1 {status}")));
        assert!(is_told, "{what}: {answer}");
    }
}

/// All files below a folder.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let entries = entries.map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_in(&path) } else { vec![path] }).collect()
}
