//! The HTTP doors of messaging: requests one after the other, each `METHOD address` and a body, separated by empty lines.
//! Whatever comes, the answer is no failure of the server's, and an error is JSON that says what to change.

use axum::body::{Body, to_bytes};
use axum::http::Request;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt as _;
use veche_access::Authority;
use veche_hub::HubSettings;
use veche_messaging::{Messaging, Parts, Settings};

/// The most requests of an input that are made.
const MAX_REQUESTS: usize = 16;

thread_local! {
    static RUNTIME: Runtime =
        Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime can be made");
}

pub(crate) fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    RUNTIME.with(|runtime| runtime.block_on(ask(&text)));
}

async fn ask(text: &str) {
    let parts =
        Parts { channels: HubSettings::default(), authority: Authority::open(), files: None, database: None };
    let messaging = Messaging::start(Settings::default(), parts).await.expect("there is nothing to fail");
    let router = messaging.router();
    for request in text.split("\n\n").take(MAX_REQUESTS) {
        let (head, body) = request.split_once('\n').unwrap_or((request, ""));
        let Some((method, address)) = head.split_once(' ') else { continue };
        let request = Request::builder()
            .method(method)
            .uri(address)
            .header("content-type", "application/json")
            .body(Body::from(body.to_owned()));
        let Ok(request) = request else { continue };
        // A stream of events does not end.
        if request.uri().path() == "/realtime/events" {
            continue;
        }
        let answer = router.clone().oneshot(request).await.expect("a router always answers");
        let status = answer.status();
        // 503: files and storage are switched off here.
        assert!(!status.is_server_error() || status == 503, "{status} for {head}");
        let body = to_bytes(answer.into_body(), usize::MAX).await.expect("it is all there");
        if (status.is_client_error() || status == 503) && !body.is_empty() && method != "HEAD" {
            let body: Value = serde_json::from_slice(&body).expect("an error is JSON");
            let error = &body["error"];
            let says = |field: &str| error[field].as_str().is_some_and(|text| !text.is_empty());
            assert!(status == 503 || (says("code") && says("message")), "{head}: {body}");
        }
    }
    messaging.stop().await;
}
