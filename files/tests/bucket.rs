//! Contents in a bucket: a small service that speaks enough of S3 stands in for a real one.

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use common::{PNG, Server, form_beginning, form_end, head, read_answer, settings};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt as _;
use veche_files::{FileSettings, Secret};

const CHANNEL: &[(&str, &str)] = &[("channel", "general")];

/// The stand-in. Its parts are those of uploads that are neither completed nor aborted.
#[derive(Default)]
struct Bucket {
    objects: Mutex<BTreeMap<String, Bytes>>,
    parts: Mutex<BTreeMap<u32, Bytes>>,
    uploads: Mutex<usize>,
    refuses_parts: AtomicBool,
}

async fn start() -> (Arc<Bucket>, FileSettings) {
    let bucket = Arc::new(Bucket::default());
    let service = Router::new()
        .route("/bucket/{*key}", axum::routing::any(serve))
        .layer(DefaultBodyLimit::max(64 << 20))
        .with_state(Arc::clone(&bucket));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, service).await });
    let settings = FileSettings {
        store: "s3://bucket/veche/files".into(),
        s3_endpoint: format!("http://{address}"),
        s3_region: "eu-test-1".into(),
        s3_access_key: "key".into(),
        s3_secret_key: Secret("secret".into()),
        ..settings()
    };
    settings.check().unwrap();
    (bucket, settings)
}

async fn serve(
    State(bucket): State<Arc<Bucket>>,
    Path(key): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let authorization =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !authorization.starts_with("AWS4-HMAC-SHA256 Credential=key/")
        || !authorization.contains("/eu-test-1/s3/")
    {
        return StatusCode::FORBIDDEN.into_response();
    }
    let part = query.get("partNumber").and_then(|number| number.parse().ok());
    match (method.as_str(), part) {
        ("PUT", Some(_)) if bucket.refuses_parts.load(Ordering::Relaxed) => {
            StatusCode::FORBIDDEN.into_response()
        }
        ("PUT", Some(part)) => {
            bucket.parts.lock().insert(part, body);
            [(header::ETAG, format!("\"part-{part}\""))].into_response()
        }
        ("PUT", None) => {
            bucket.objects.lock().insert(key, body);
            [(header::ETAG, "\"whole\"")].into_response()
        }
        ("POST", _) if query.contains_key("uploads") => {
            *bucket.uploads.lock() += 1;
            "<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>"
                .into_response()
        }
        ("POST", _) => {
            let parts = std::mem::take(&mut *bucket.parts.lock());
            bucket.objects.lock().insert(key, parts.into_values().collect::<Vec<_>>().concat().into());
            "<CompleteMultipartUploadResult><ETag>\"whole\"</ETag></CompleteMultipartUploadResult>"
                .into_response()
        }
        ("DELETE", _) if query.contains_key("uploadId") => {
            *bucket.uploads.lock() -= 1;
            bucket.parts.lock().clear();
            StatusCode::NO_CONTENT.into_response()
        }
        ("DELETE", _) => {
            bucket.objects.lock().remove(&key);
            StatusCode::NO_CONTENT.into_response()
        }
        _ => give(&bucket, &key, &headers),
    }
}

fn give(bucket: &Bucket, key: &str, headers: &HeaderMap) -> Response {
    let Some(object) = bucket.objects.lock().get(key).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let size = object.len();
    let range = headers.get(header::RANGE).map(|value| value.to_str().unwrap().to_owned());
    let (first, last) =
        range.as_deref().unwrap_or("bytes=0-").strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let first: usize = first.parse().unwrap();
    let end = last.parse().map_or(size, |last: usize| last + 1);
    let status = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    Response::builder()
        .status(status)
        .header(header::ETAG, "\"whole\"")
        .header(header::LAST_MODIFIED, "Wed, 18 Nov 2026 11:06:40 GMT")
        .header(header::CONTENT_RANGE, format!("bytes {first}-{}/{size}", end - 1))
        .body(Body::from(object.slice(first..end)))
        .unwrap()
}

#[tokio::test]
async fn small_contents_go_in_one_request_and_come_back_whole_and_in_parts() {
    let (bucket, settings) = start().await;
    let server = Server::start(settings).await;
    let path = server.upload("anna", "a.png", "image/png", PNG, CHANNEL).await.path();
    let keys: Vec<_> = bucket.objects.lock().keys().cloned().collect();
    assert_eq!(keys.len(), 1);
    assert!(keys[0].starts_with("veche/files/objects/"), "{keys:?}");
    assert_eq!(server.get("anna", &path, &[]).await.body, PNG);
    assert_eq!(server.get("anna", &path, &[("range", "bytes=1-3")]).await.body, b"PNG");
    let text = "the same line\n".repeat(1000);
    let packed = server.upload("anna", "a.txt", "text/plain", text.as_bytes(), CHANNEL).await.path();
    assert!(bucket.objects.lock().values().all(|object| object.len() < 1000));
    assert!(server.get("anna", &packed, &[]).await.body == text.as_bytes());
    assert_eq!(server.get("anna", &packed, &[("range", "bytes=-5")]).await.body, b"line\n");
    assert_eq!(server.request("anna", "DELETE", &path, &[], b"").await.status, 200);
    assert_eq!(bucket.objects.lock().len(), 1);
    assert_eq!((server.on_disk("objects").len(), server.on_disk("incoming").len()), (0, 0));
}

#[tokio::test]
async fn large_contents_go_in_parts_and_failed_ones_are_aborted() {
    let (bucket, settings) = start().await;
    let server = Server::start(settings).await;
    let content: Vec<u8> = (0..20_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let path = upload(&server, &content).await.path();
    assert_eq!(*bucket.uploads.lock(), 1);
    assert!(bucket.objects.lock().values().next().unwrap()[..] == content[..]);
    assert!(server.get("anna", &path, &[]).await.body == content);
    let part = server.get("anna", &path, &[("range", "bytes=9000000-17000000")]).await;
    assert!(part.body == content[9_000_000..=17_000_000]);

    bucket.refuses_parts.store(true, Ordering::Relaxed);
    let refused = upload(&server, &content).await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "storage_unavailable"));
    assert_eq!(*bucket.uploads.lock(), 1, "the upload that failed was aborted");
    assert_eq!((bucket.objects.lock().len(), server.on_disk("incoming").len()), (1, 0));
}

#[tokio::test]
async fn what_is_lost_in_the_bucket_is_told_as_lost() {
    let (bucket, settings) = start().await;
    let server = Server::start(settings).await;
    let path = server.upload("anna", "a.png", "image/png", PNG, CHANNEL).await.path();
    bucket.objects.lock().clear();
    assert_eq!(server.get("anna", &path, &[]).await.code(), "file_not_found");
    assert_eq!(
        server.request("anna", "DELETE", &path, &[], b"").await.status,
        200,
        "it can be deleted all the same"
    );
}

async fn upload(server: &Server, content: &[u8]) -> common::Answer {
    let (beginning, end) = (form_beginning("a.bin", "application/x-noise"), form_end(CHANNEL));
    let length = (beginning.len() + content.len() + end.len()) as u64;
    let headers = [("content-type", "multipart/form-data; boundary=bound")];
    let mut stream = server.connect().await;
    stream
        .write_all(head("anna", "POST", "/realtime/binary/upload", &headers, Some(length)).as_bytes())
        .await
        .unwrap();
    for piece in [&beginning[..], content, &end] {
        stream.write_all(piece).await.unwrap();
    }
    read_answer(&mut stream, "POST").await
}
