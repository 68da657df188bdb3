//! What is served, and how: versions of HTTP and TLS, compression, the description, metrics.

use std::sync::Arc;

use futures_util::SinkExt;
use tokio::net::TcpStream;
use yawc::{Frame, OpCode, Options, WebSocket};

use crate::client::{certificate, get, get_http2, get_with, tls};
use crate::server::{Folder, Server};

const HTTPS: &str = "[http]\nhttps_listen = \"127.0.0.1:0\"\n";

#[tokio::test]
async fn both_versions_of_http_are_spoken_plain_and_over_both_versions_of_tls() {
    let server = Server::start("versions", HTTPS).await;
    assert_eq!(get(server.http(), "/health").await.json()["status"], "ok");
    let io = TcpStream::connect(server.http()).await.unwrap();
    assert_eq!(get_http2(io, "/health").await.json()["status"], "ok");

    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let stream = tls(server.https(), "localhost", &["h2", "http/1.1"], version).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        assert_eq!(get_http2(stream, "/health").await.json()["status"], "ok");

        let stream = tls(server.https(), "localhost", &["http/1.1"], version).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        join_over(stream, "wss://localhost").await;
    }
    join_over(TcpStream::connect(server.http()).await.unwrap(), "ws://localhost").await;
}

/// A WebSocket over this stream carries messages in both directions.
async fn join_over(
    io: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    host: &str,
) {
    let url = format!("{host}/realtime/webrtc/signaling?room_id=tea").parse().unwrap();
    let mut socket = WebSocket::handshake(url, io, Options::default()).await.unwrap();
    let ping = r#"{"signal_type":"ping","id":7}"#;
    socket.send(Frame::text(ping)).await.unwrap();
    loop {
        let frame = socket.next_frame().await.unwrap();
        if frame.opcode() == OpCode::Text && frame.as_str().contains("\"pong\"") {
            return;
        }
    }
}

#[tokio::test]
async fn answers_are_compressed_numbered_and_safe() {
    let server = Server::start("answers", "").await;
    for coding in ["br", "zstd", "gzip"] {
        let answer = get_with(server.http(), "/openapi.json", &[("accept-encoding", coding)]).await;
        assert_eq!(answer.headers["content-encoding"], coding);
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["x-request-id"].len(), 16);
    }
    let given = get_with(server.http(), "/health", &[("x-request-id", "from-the-proxy")]).await;
    assert_eq!(given.headers["x-request-id"], "from-the-proxy");
}

#[tokio::test]
async fn the_api_is_described_for_programs_and_people() {
    let server = Server::start("description", "").await;
    let description = get(server.http(), "/openapi.json").await.json();
    for (path, method) in
        [("/health", "get"), ("/realtime/webrtc/rooms", "post"), ("/realtime/webrtc/rooms/{room_id}", "put")]
    {
        assert!(description["paths"][path][method]["responses"].is_object(), "{method} {path}");
    }
    let page = get(server.http(), "/docs").await;
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'self'"), "{policy}");
    // Nothing of it comes from elsewhere.
    assert!(!page.text().contains("//"), "{}", page.text());
    let script = get(server.http(), "/docs.js").await;
    assert_eq!(script.headers["content-type"], "text/javascript; charset=utf-8");
    assert!(!script.text().contains("innerHTML"));
}

#[tokio::test]
async fn pages_to_try_the_doors_stand_among_the_api() {
    let server = Server::start("pages", "").await;
    for path in ["/realtime/test", "/realtime/sse-test"] {
        let page = get(server.http(), path).await;
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
        assert!(page.headers.contains_key("content-security-policy"));
    }
    assert_eq!(get(server.http(), "/realtime/client.js").await.status, 200);
    let missing = get(server.http(), "/realtime/nothing").await;
    assert_eq!((missing.status.as_u16(), missing.json()["error"]["code"].as_str()), (404, Some("not_found")));
    let room = get(server.http(), "/r/tea").await;
    assert_eq!(room.headers["content-type"], "text/html; charset=utf-8");
}

#[tokio::test]
async fn metrics_tell_what_happened_to_who_may_know() {
    let server = Server::start("metrics", "[telemetry]\nmetrics_listen = \"127.0.0.1:0\"\n").await;
    get(server.http(), "/health").await;
    get(server.http(), "/no/such/../page?token=secret").await;
    let answer = get(server.http(), "/metrics").await;
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let text = answer.text();
    for line in [
        "veche_http_requests_total{method=\"GET\",route=\"/health\",status=\"200\"} 1",
        "veche_http_requests_total{method=\"GET\",route=\"other\",status=\"404\"} 1",
        "veche_http_request_seconds_count{route=\"/health\"} 1",
        "veche_media_worker_running{worker=\"0\"} 1",
        "veche_rooms 0",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    for name in
        ["veche_process_resident_memory_bytes", "veche_process_cpu_seconds_total", "veche_http_connections"]
    {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} is not in {text}");
    }
    assert!(!text.contains("secret"));

    let through_a_proxy = get_with(server.http(), "/metrics", &[("x-forwarded-for", "203.0.113.5")]).await;
    assert_eq!(through_a_proxy.status, 403);
    assert_eq!(through_a_proxy.json()["error"]["code"], "forbidden");
    let said = server.said();
    let own = said
        .lines()
        .find_map(|line| line.split_once("http://127.0.0.1:")?.1.strip_suffix("/metrics"))
        .unwrap();
    let own = format!("127.0.0.1:{own}").parse().unwrap();
    assert_eq!(get_with(own, "/metrics", &[("x-forwarded-for", "203.0.113.5")]).await.status, 200);
    assert_eq!(get(own, "/health").await.status, 404);
}

#[tokio::test]
async fn renewed_certificates_are_taken_by_the_clock_and_by_the_signal() {
    let folder = Arc::new(Folder::new("certificates"));
    let write = |name: &str, certificate: &str, key: &str| {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        folder.write(key, &made.signing_key.serialize_pem());
        folder.write(certificate, &made.cert.pem());
        made.cert.der().to_vec()
    };
    let first = write("a.example", "one.pem", "one.key");
    let configuration =
        |one: &str| format!("{HTTPS}certificate_file = \"{one}.pem\"\nkey_file = \"{one}.key\"\n");
    let configured = configuration("one");
    let second = write("b.example", "two.pem", "two.key");
    let server = Server::start_in(folder.clone(), &configured).await;
    assert_eq!(certificate(server.https(), "a.example").await, first);

    server.folder.write("veche.toml", &configuration("two"));
    server.signal(rustix::process::Signal::HUP);
    server.logs("the configuration was read again").await;
    assert_eq!(certificate(server.https(), "b.example").await, second);

    let made = rcgen::generate_simple_self_signed(["c.example".to_owned()]).unwrap();
    server.folder.write("two.key", &made.signing_key.serialize_pem());
    server.folder.write("two.pem", &made.cert.pem());
    server.logs("read the renewed certificate").await;
    assert_eq!(certificate(server.https(), "c.example").await, made.cert.der().to_vec());

    // What is wrong elsewhere leaves all as it was.
    let wrong = "[access]\npublic_keys = [\"gone.pem\"]\n";
    server.folder.write("veche.toml", &format!("{configured}{wrong}"));
    server.signal(rustix::process::Signal::HUP);
    server.logs("cannot be used; the one before is").await;
    assert_eq!(certificate(server.https(), "c.example").await, made.cert.der().to_vec());
}
