//! Answers as clients get them through all layers.

use axum::routing::{get, post};
use prometheus_client::registry::Registry;
use tower::ServiceExt;

use super::*;

fn router(change: impl FnOnce(&mut Http)) -> Router {
    let text = || async { "word ".repeat(1000) };
    let ranged = || async { ([(header::ACCEPT_RANGES, "bytes")], "word ".repeat(1000)) };
    let events = || async { ([(header::CONTENT_TYPE, "text/event-stream")], "data: a\n\n".repeat(1000)) };
    let image = || async { ([(header::CONTENT_TYPE, "image/png")], "word ".repeat(1000)) };
    let router = Router::new()
        .route("/text", get(text))
        .route("/small", get(|| async { "word" }))
        .route("/ranged", get(ranged))
        .route("/events", get(events))
        .route("/image", get(image))
        .route("/taken", post(|body: axum::body::Bytes| async move { body.len().to_string() }));
    let mut http = Http::default();
    change(&mut http);
    around(router, &http, Requests::register(&mut Registry::default()))
}

async fn ask(router: Router, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn what_is_worth_it_is_compressed_as_the_client_wants_it() {
    for coding in ["br", "zstd", "gzip"] {
        let answer = ask(router(|_| ()), "/text", &[("accept-encoding", coding)]).await;
        assert_eq!(answer.headers()[header::CONTENT_ENCODING], coding);
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        assert!(body.len() < 500, "{coding}: {}", body.len());
    }
    for path in ["/small", "/ranged", "/events", "/image"] {
        let answer = ask(router(|_| ()), path, &[("accept-encoding", "br, zstd, gzip")]).await;
        assert!(!answer.headers().contains_key(header::CONTENT_ENCODING), "{path}");
    }
    let plain = ask(router(|_| ()), "/text", &[]).await;
    assert!(!plain.headers().contains_key(header::CONTENT_ENCODING));
}

#[tokio::test]
async fn every_answer_has_an_id_of_its_own_or_that_of_the_proxy_and_is_safe() {
    let router = router(|http| http.hsts_seconds = 60);
    let id = |answer: &Response| answer.headers()[X_REQUEST_ID].to_str().unwrap().to_owned();
    let first = ask(router.clone(), "/small", &[]).await;
    let second = ask(router.clone(), "/nowhere", &[]).await;
    assert_ne!(id(&first), id(&second));
    assert_eq!(id(&ask(router.clone(), "/small", &[("x-request-id", "proxy-1.2")]).await), "proxy-1.2");
    for odd in ["", "a b", "a\"b", &"a".repeat(65)] {
        assert_eq!(id(&ask(router.clone(), "/small", &[("x-request-id", odd)]).await).len(), 16, "{odd}");
    }
    assert_eq!(first.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(first.headers()[header::REFERRER_POLICY], "no-referrer");
    assert_eq!(first.headers()[header::STRICT_TRANSPORT_SECURITY], "max-age=60");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_is_not_waited_for() {
    let silent =
        Body::from_stream(futures_util::stream::pending::<Result<axum::body::Bytes, std::io::Error>>());
    let started = tokio::time::Instant::now();
    let request = Request::post("/taken").body(silent).unwrap();
    let answer = router(|http| http.body_idle_seconds = 7).oneshot(request).await.unwrap();
    assert!(answer.status().is_client_error(), "{}", answer.status());
    assert_eq!(started.elapsed(), Duration::from_secs(7));

    let request = Request::post("/taken").body(Body::from("word")).unwrap();
    let answer = router(|_| ()).oneshot(request).await.unwrap();
    assert_eq!(axum::body::to_bytes(answer.into_body(), 10).await.unwrap(), "4");
}
