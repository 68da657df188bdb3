//! Traces, as a collector gets them.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use rustix::process::Signal;

use crate::client::get_with;
use crate::server::Server;

/// What was posted.
type Received = Arc<Mutex<Vec<u8>>>;

#[tokio::test]
async fn requests_are_traced_within_the_trace_that_they_name() {
    let received = Received::default();
    let collect = |State(received): State<Received>, headers: HeaderMap, body: Bytes| async move {
        assert_eq!(headers["content-type"], "application/x-protobuf");
        received.lock().unwrap().extend_from_slice(&body);
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let collector = listener.local_addr().unwrap();
    let router = Router::new().route("/v1/traces", post(collect)).with_state(received.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });

    // Whatever the log is told to leave out.
    let telemetry =
        format!("[telemetry]\notlp_endpoint = \"http://{collector}/v1/traces\"\n[log]\nfilter = \"error\"\n");
    let mut server = Server::start("traces", &telemetry).await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    get_with(server.http(), "/health", &[("traceparent", &parent)]).await;
    // The last ones leave at the end.
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());

    let received = received.lock().unwrap();
    let has = |what: &[u8]| received.windows(what.len()).any(|window| window == what);
    let id: Vec<u8> =
        (0..trace.len()).step_by(2).map(|at| u8::from_str_radix(&trace[at..at + 2], 16).unwrap()).collect();
    assert!(has(b"request") && has(b"/health") && has(b"veche"), "{}", received.escape_ascii());
    assert!(has(&id), "{}", received.escape_ascii());
}
