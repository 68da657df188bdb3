//! Uploads in several requests, as clients of tus 1.0 send them.

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Answer, PNG, Server, head, settings};
use tokio::io::AsyncWriteExt as _;
use veche_files::FileSettings;

const ADDRESS: &str = "/realtime/files/uploads";
const VERSION: (&str, &str) = ("tus-resumable", "1.0.0");
const PIECE: (&str, &str) = ("content-type", "application/offset+octet-stream");
const MINUTE: i64 = 60 * 1000;

fn metadata(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<_> =
        pairs.iter().map(|(key, value)| format!("{key} {}", STANDARD.encode(value))).collect();
    pairs.join(",")
}

fn content() -> Vec<u8> {
    let mut content = PNG.to_vec();
    content.extend((0..2_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8));
    content
}

async fn create(server: &Server, who: &str, size: usize, pairs: &[(&str, &str)]) -> Answer {
    let (size, pairs) = (size.to_string(), metadata(pairs));
    let headers = [VERSION, ("upload-length", &*size), ("upload-metadata", &*pairs)];
    server.request(who, "POST", ADDRESS, &headers, b"").await
}

async fn begun(server: &Server, who: &str, size: usize) -> String {
    let pairs = [("filename", "a.png"), ("filetype", "image/png"), ("channel", "general")];
    let answer = create(server, who, size, &pairs).await;
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.header("tus-resumable"), Some("1.0.0"));
    answer.header("location").unwrap().to_owned()
}

async fn append(server: &Server, who: &str, location: &str, offset: usize, piece: &[u8]) -> Answer {
    let offset = offset.to_string();
    server.request(who, "PATCH", location, &[VERSION, PIECE, ("upload-offset", &*offset)], piece).await
}

/// Where the upload is.
async fn offset(server: &Server, who: &str, location: &str) -> usize {
    let answer = server.request(who, "HEAD", location, &[VERSION], b"").await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")));
    answer.header("upload-offset").unwrap().parse().unwrap()
}

/// Sends a piece whose end never comes.
async fn cut(server: &Server, who: &str, location: &str, from: usize, piece: &[u8], announced: usize) {
    let mut stream = server.connect().await;
    let from = from.to_string();
    let headers = [VERSION, PIECE, ("upload-offset", &*from)];
    stream
        .write_all(head(who, "PATCH", location, &headers, Some(announced as u64)).as_bytes())
        .await
        .unwrap();
    stream.write_all(piece).await.unwrap();
    stream.flush().await.unwrap();
}

#[tokio::test]
async fn an_upload_survives_cuts_and_is_announced_once_when_it_is_whole() {
    let server = Server::start(settings()).await;
    let content = content();
    let location = begun(&server, "anna", content.len()).await;
    assert_eq!(offset(&server, "anna", &location).await, 0);
    let answer = append(&server, "anna", &location, 0, &content[..500_000]).await;
    assert_eq!((answer.status, answer.header("upload-offset")), (204, Some("500000")));
    assert!(answer.header("upload-expires").unwrap().ends_with("GMT"));
    let mut at = 500_000;
    while at < content.len() - 400_000 {
        cut(&server, "anna", &location, at, &content[at..at + 300_000], content.len() - at).await;
        // What came before the cut may have been read or not; the client asks.
        let now = offset(&server, "anna", &location).await;
        assert!((at..=at + 300_000).contains(&now));
        let end = (now + 200_000).min(content.len() - 1);
        assert_eq!(append(&server, "anna", &location, now, &content[now..end]).await.status, 204);
        at = end;
    }
    assert!(server.told.lock().is_empty());
    assert_eq!(append(&server, "anna", &location, at, &content[at..]).await.status, 204);
    let told = server.told.lock().clone();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].channel.as_deref(), told[0].file.filename.as_str()), (Some("general"), "a.png"));
    let id = location.rsplit('/').next().unwrap();
    assert_eq!(told[0].file.file_id, id, "the upload's id is the file's");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content);
    let hex = common::hex(digest.as_ref());
    assert_eq!(told[0].file.sha256, hex);
    assert!(server.get("boris", &format!("/realtime/files/{id}"), &[]).await.body == content);
    assert_eq!(server.on_disk("incoming").len(), 0);
    // The answer to the last piece was lost: the client asks and hears that all is there.
    assert_eq!(offset(&server, "anna", &location).await, content.len());
    // A browser sends the last piece again by itself.
    assert_eq!(append(&server, "anna", &location, at, &content[at..]).await.code(), "upload_offset_mismatch");
    assert_eq!(append(&server, "boris", &location, at, &content[at..]).await.code(), "upload_not_found");
    assert_eq!(server.told.lock().len(), 1);
}

#[tokio::test]
async fn an_upload_survives_a_restart_of_the_server() {
    let settings = || FileSettings { max_uploads: 1, ..settings() };
    let server = Server::start(settings()).await;
    let content = content();
    let location = begun(&server, "anna", content.len()).await;
    assert_eq!(append(&server, "anna", &location, 0, &content[..700_001]).await.status, 204);
    let server = server.restart(settings()).await;
    assert_eq!(
        create(&server, "nobody", 5, &[]).await.code(),
        "forbidden",
        "without a channel it takes a grant too"
    );
    assert_eq!(create(&server, "boris", 5, &[("channel", "general")]).await.code(), "too_many_uploads");
    assert_eq!(offset(&server, "anna", &location).await, 700_001);
    let server = server.restart(settings()).await;
    let answer = append(&server, "anna", &location, 700_001, &content[700_001..]).await;
    assert_eq!(answer.status, 204, "{}", String::from_utf8_lossy(&answer.body));
    let id = location.rsplit('/').next().unwrap();
    let answer = server.get("anna", &format!("/realtime/files/{id}"), &[]).await;
    assert!(answer.body == content);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content);
    let hex = common::hex(digest.as_ref());
    assert_eq!(answer.header("etag"), Some(&*format!("\"{hex}\"")));
}

#[tokio::test]
async fn a_request_that_hangs_lets_go_when_its_client_comes_back() {
    let server = Server::start(settings()).await;
    let content = content();
    let location = begun(&server, "anna", content.len()).await;
    // The line is dead, but the server does not know it yet.
    let mut dead = server.connect().await;
    let headers = [VERSION, PIECE, ("upload-offset", "0")];
    let length = Some(content.len() as u64);
    dead.write_all(head("anna", "PATCH", &location, &headers, length).as_bytes()).await.unwrap();
    dead.write_all(&content[..100_000]).await.unwrap();
    server.until("some of it is there", || server.on_disk("incoming").len() == 2).await;
    let at = offset(&server, "anna", &location).await;
    assert!(at <= 100_000);
    assert_eq!(append(&server, "anna", &location, at, &content[at..]).await.status, 204);
    assert_eq!(server.told.lock().len(), 1);
}

#[tokio::test]
async fn creation_may_bring_the_first_piece_or_all_or_an_empty_file() {
    let server = Server::start(settings()).await;
    let pairs = metadata(&[("filename", "a.txt"), ("channel", "general"), ("persistent", "true")]);
    let headers = [VERSION, PIECE, ("upload-length", "5"), ("upload-metadata", &*pairs)];
    let answer = server.request("anna", "POST", ADDRESS, &headers, b"hel").await;
    assert_eq!((answer.status, answer.header("upload-offset")), (201, Some("3")));
    let location = answer.header("location").unwrap().to_owned();
    let overridden = [VERSION, PIECE, ("upload-offset", "3"), ("x-http-method-override", "PATCH")];
    assert_eq!(server.request("anna", "POST", &location, &overridden, b"lo").await.status, 204);
    assert!(server.told.lock()[0].persistent);
    let answer = server.request("anna", "POST", ADDRESS, &headers, b"hello").await;
    assert_eq!((answer.status, answer.header("upload-offset")), (201, Some("5")));
    let empty = create(&server, "anna", 0, &[("channel", "general")]).await;
    assert_eq!(empty.status, 201);
    assert_eq!(server.told.lock().len(), 3);
    assert_eq!(server.told.lock()[2].file.size, 0);
    let path = empty.header("location").unwrap().replace("/uploads", "");
    let answer = server.get("anna", &path, &[]).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}

#[tokio::test]
async fn the_server_says_what_it_can_and_refuses_what_it_cannot() {
    let server = Server::start(FileSettings { max_file_bytes: 1000, ..FileSettings::default() }).await;
    let answer = server.request("", "OPTIONS", ADDRESS, &[], b"").await;
    assert_eq!((answer.status, answer.header("tus-version")), (204, Some("1.0.0")));
    assert_eq!(answer.header("tus-extension"), Some("creation,creation-with-upload,expiration,termination"));
    assert_eq!(answer.header("tus-max-size"), Some("1000"));

    let other = server
        .request("anna", "POST", ADDRESS, &[("tus-resumable", "0.2.2"), ("upload-length", "5")], b"")
        .await;
    assert_eq!((other.status, other.header("tus-version")), (412, Some("1.0.0")));
    let none = server.request("anna", "POST", ADDRESS, &[VERSION, ("upload-defer-length", "1")], b"").await;
    assert_eq!(none.code(), "bad_request");
    assert_eq!(create(&server, "", 5, &[]).await.code(), "authentication_required");
    assert_eq!(create(&server, "nobody", 5, &[("channel", "general")]).await.code(), "forbidden");
    assert_eq!(create(&server, "anna", 1001, &[("channel", "general")]).await.code(), "file_too_large");
    let zip = [("channel", "general"), ("filetype", "application/zip")];
    assert_eq!(create(&server, "anna", 5, &zip).await.code(), "type_not_allowed", "before anything comes");

    let location = begun(&server, "anna", 100).await;
    assert_eq!(append(&server, "anna", &location, 5, b"x").await.code(), "upload_offset_mismatch");
    assert_eq!(
        append(&server, "anna", &location, 0, &[0; 101]).await.code(),
        "bad_request",
        "beyond its size"
    );
    assert_eq!(append(&server, "boris", &location, 0, b"x").await.code(), "upload_not_found", "not his");
    assert_eq!(server.request("boris", "HEAD", &location, &[VERSION], b"").await.status, 404);
    let typed = [VERSION, ("content-type", "image/png"), ("upload-offset", "0")];
    assert_eq!(server.request("anna", "PATCH", &location, &typed, b"x").await.status, 415);
    let packed = [VERSION, PIECE, ("upload-offset", "0"), ("content-encoding", "gzip")];
    assert_eq!(
        server.request("anna", "PATCH", &location, &packed, b"x").await.code(),
        "unsupported_encoding"
    );
    assert_eq!(server.request("anna", "POST", &location, &[VERSION], b"").await.code(), "bad_request");
    // None of that has done harm; a lie about the type does.
    assert_eq!(offset(&server, "anna", &location).await, 0);
    assert_eq!(append(&server, "anna", &location, 0, &[b'a'; 100]).await.code(), "type_mismatch");
    assert_eq!(server.request("anna", "HEAD", &location, &[VERSION], b"").await.status, 404);
    assert_eq!(server.on_disk("incoming").len(), 0);
    let unknown = format!("{ADDRESS}/../../../etc/passwd");
    assert_eq!(server.request("anna", "HEAD", &unknown, &[VERSION], b"").await.status, 404);
}

#[tokio::test]
async fn unfinished_uploads_are_few_can_be_given_up_and_do_not_live_for_ever() {
    let settings =
        FileSettings { max_uploads: 3, max_uploads_per_user: 2, upload_idle_minutes: 10, ..settings() };
    let server = Server::start(FileSettings { max_user_bytes: 250, ..settings }).await;
    let first = begun(&server, "anna", 100).await;
    let second = begun(&server, "anna", 100).await;
    let general = [("channel", "general")];
    assert_eq!(create(&server, "anna", 1, &general).await.code(), "too_many_uploads");
    let third = begun(&server, "boris", 100).await;
    assert_eq!(create(&server, "clara", 1, &general).await.code(), "too_many_uploads");

    assert_eq!(server.request("boris", "DELETE", &first, &[VERSION], b"").await.code(), "upload_not_found");
    assert_eq!(server.request("anna", "DELETE", &first, &[VERSION], b"").await.status, 204);
    assert_eq!(server.request("anna", "HEAD", &first, &[VERSION], b"").await.status, 404);
    assert_eq!(
        create(&server, "anna", 151, &general).await.code(),
        "quota_exceeded",
        "what is announced counts"
    );

    server.pass(9 * MINUTE);
    assert_eq!(append(&server, "anna", &second, 0, &PNG[..10]).await.status, 204);
    server.pass(MINUTE);
    server.files.sweep().await.unwrap();
    assert_eq!(
        server.request("boris", "HEAD", &third, &[VERSION], b"").await.status,
        404,
        "nothing came for ten minutes"
    );
    // One to which a byte comes now and then lives longer, but not for ever.
    let mut at = offset(&server, "anna", &second).await;
    let padded = [PNG, &[0; 100]].concat();
    for _ in 0..40 {
        server.pass(8 * MINUTE);
        server.files.sweep().await.unwrap();
        if append(&server, "anna", &second, at, &padded[at..=at]).await.status != 204 {
            break;
        }
        at += 1;
    }
    assert!(at > 30 && at < 42, "24 times ten minutes, and not for ever: {at}");
    server.pass(10 * MINUTE);
    server.files.sweep().await.unwrap();
    assert_eq!(server.on_disk("incoming").len(), 0);
    assert_eq!(server.files.counters().uploads, 0);
}
