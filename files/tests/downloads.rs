//! Downloads through real connections: parts, conditions, links, grants, lists.

mod common;

use common::{HOUR, PNG, Server, settings};
use veche_files::FileSettings;

const CHANNEL: &[(&str, &str)] = &[("channel", "general")];

fn text(size: usize) -> Vec<u8> {
    (0..).flat_map(|n: u32| format!("line {n}\n").into_bytes()).take(size).collect()
}

#[tokio::test]
async fn headers_keep_a_browser_from_running_what_it_is_given() {
    let server = Server::start(settings()).await;
    let cases: [(&str, &str, &[u8], &str); 6] = [
        ("a.png", "image/png", PNG, "inline"),
        ("a.pdf", "application/pdf", b"%PDF-1.7 ...", "inline"),
        ("a.mp3", "audio/mpeg", b"ID3\x04...", "inline"),
        ("a.html", "text/html", b"<html><script>alert(1)</script>", "attachment"),
        ("a.svg", "image/svg+xml", b"<svg onload=\"alert(1)\"/>", "attachment"),
        ("a.txt", "text/plain", b"hello", "attachment"),
    ];
    for (name, content_type, content, disposition) in cases {
        let uploaded = server.upload("anna", name, content_type, content, CHANNEL).await;
        let answer = server.get("anna", &uploaded.path(), &[]).await;
        assert_eq!((answer.status, &answer.body[..]), (200, content));
        assert!(answer.header("content-type").unwrap().starts_with(content_type));
        assert_eq!(
            answer.header("content-disposition"),
            Some(&*format!("{disposition}; filename=\"{name}\""))
        );
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'"));
        assert!(policy.ends_with("sandbox") || content_type == "application/pdf");
        let saved = server.get("anna", &format!("{}?download=true", uploaded.path()), &[]).await;
        assert!(saved.header("content-disposition").unwrap().starts_with("attachment"));
    }
    let uploaded = server.upload("anna", "Отчёт.txt", "text/plain", b"hello", CHANNEL).await;
    let answer = server.get("anna", &uploaded.path(), &[]).await;
    let disposition = answer.header("content-disposition").unwrap();
    assert_eq!(
        disposition,
        "attachment; filename=\"_____.txt\"; filename*=UTF-8''%D0%9E%D1%82%D1%87%D1%91%D1%82.txt"
    );
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
}

#[tokio::test]
async fn parts_are_given_where_they_are_asked_for() {
    let server = Server::start(FileSettings { compression: false, ..settings() }).await;
    check_parts(&server).await;
    assert_eq!(server.on_disk("objects")[0].metadata().unwrap().len(), 100_000);
}

#[tokio::test]
async fn parts_of_what_is_stored_compressed_are_the_same() {
    let server = Server::start(settings()).await;
    check_parts(&server).await;
    assert!(server.on_disk("objects")[0].metadata().unwrap().len() < 50_000);
}

async fn check_parts(server: &Server) {
    let content = text(100_000);
    let path = server.upload("anna", "a.txt", "text/plain", &content, CHANNEL).await.path();
    let cases: [(&str, u16, Option<&str>, &[u8]); 7] = [
        ("bytes=0-9", 206, Some("bytes 0-9/100000"), &content[..10]),
        ("bytes=70000-70999", 206, Some("bytes 70000-70999/100000"), &content[70_000..71_000]),
        ("bytes=99999-", 206, Some("bytes 99999-99999/100000"), &content[99_999..]),
        ("bytes=-5", 206, Some("bytes 99995-99999/100000"), &content[99_995..]),
        ("bytes=99990-200000", 206, Some("bytes 99990-99999/100000"), &content[99_990..]),
        ("bytes=0-1,5-6", 200, None, &content),
        ("nonsense", 200, None, &content),
    ];
    for (range, status, content_range, expected) in cases {
        let answer = server.get("anna", &path, &[("range", range), ("accept-encoding", "zstd")]).await;
        assert_eq!((answer.status, answer.header("content-range")), (status, content_range), "{range}");
        assert!(answer.body == expected, "{range}");
        assert_eq!(answer.header("content-encoding"), None);
    }
    let beyond = server.get("anna", &path, &[("range", "bytes=100000-")]).await;
    assert_eq!((beyond.status, beyond.code().as_str()), (416, "range_not_satisfiable"));

    let whole = server.request("anna", "HEAD", &path, &[], b"").await;
    assert_eq!((whole.status, whole.header("content-length"), whole.body.len()), (200, Some("100000"), 0));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let tag = whole.header("etag").unwrap();
    let part = [("range", "bytes=0-9"), ("if-range", tag)];
    assert_eq!(server.get("anna", &path, &part).await.status, 206);
    for other in ["\"another\"", "Wed, 18 Nov 2026 11:06:40 GMT"] {
        let part = [("range", "bytes=0-9"), ("if-range", other)];
        assert_eq!(server.get("anna", &path, &part).await.body.len(), 100_000, "{other}");
    }
    let same = server.get("anna", &path, &[("if-none-match", &*format!("\"x\", W/{tag}"))]).await;
    assert_eq!((same.status, same.body.len()), (304, 0));
    assert_eq!(server.get("anna", &path, &[("if-none-match", "\"x\"")]).await.status, 200);
}

#[tokio::test]
async fn who_understands_zstd_gets_it_as_it_is_stored() {
    let server = Server::start(settings()).await;
    let content = text(200_000);
    let path = server.upload("anna", "a.txt", "text/plain", &content, CHANNEL).await.path();
    let packed = server.get("anna", &path, &[("accept-encoding", "gzip, zstd")]).await;
    assert_eq!(packed.header("content-encoding"), Some("zstd"));
    assert_eq!(packed.header("vary"), Some("Accept-Encoding"));
    assert!(packed.body.len() < 100_000);
    assert!(zstd::decode_all(&packed.body[..]).unwrap() == content);
    let plain = server.get("anna", &path, &[]).await;
    assert!(plain.header("content-encoding").is_none() && plain.body == content);
    assert_ne!(plain.header("etag"), packed.header("etag"), "they are not the same bytes");
    let noise: Vec<u8> = (0..20_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x80).collect();
    let path = server.upload("anna", "a.txt", "text/plain", &noise, CHANNEL).await.path();
    let answer = server.get("anna", &path, &[("accept-encoding", "zstd")]).await;
    assert!(answer.body == noise || zstd::decode_all(&answer.body[..]).unwrap() == noise);
}

#[tokio::test]
async fn links_open_one_file_without_a_token_for_a_while() {
    let server = Server::start(FileSettings { link_hours: 2, ..settings() }).await;
    let url = server.upload("anna", "a.png", "image/png", PNG, CHANNEL).await.url();
    let other = server.upload("anna", "b.png", "image/png", PNG, CHANNEL).await.path();
    let (path, query) = url.split_once('?').unwrap();
    assert_eq!(server.get("", &url, &[]).await.body, PNG);
    assert_eq!(server.get("nobody", &url, &[]).await.body, PNG);
    let part = server.get("", &url, &[("range", "bytes=0-3")]).await;
    assert_eq!((part.status, &part.body[..]), (206, &PNG[..4]));

    assert_eq!(server.get("", path, &[]).await.code(), "authentication_required");
    assert_eq!(server.get("", &format!("{other}?{query}"), &[]).await.code(), "forbidden");
    let longer = url.replace("expires=", "expires=9");
    assert_eq!(server.get("", &longer, &[]).await.code(), "forbidden");
    let cut = &url[..url.len() - 1];
    assert_eq!(server.get("", cut, &[]).await.code(), "forbidden");
    assert_eq!(server.get("", &format!("{path}?expires=never&signature=x"), &[]).await.code(), "bad_request");

    let server = server.restart(FileSettings { link_hours: 2, ..settings() }).await;
    assert_eq!(server.get("", &url, &[]).await.status, 200, "links survive a restart");
    server.pass(2 * HOUR);
    assert_eq!(server.get("", &url, &[]).await.code(), "forbidden");
    assert_eq!(server.get("anna", &url, &[]).await.status, 200, "a grant still counts");
}

#[tokio::test]
async fn grants_decide_who_reads_lists_and_deletes() {
    let server = Server::start(settings()).await;
    let private = [("channel", "user:anna")];
    let path = server.upload("admin", "a.png", "image/png", PNG, &private).await.path();
    assert_eq!(server.get("anna", &path, &[]).await.status, 200);
    assert_eq!(server.get("boris", &path, &[]).await.code(), "forbidden");
    assert_eq!(server.get("boris", "/realtime/files?channel=user:anna", &[]).await.code(), "forbidden");
    assert_eq!(server.get("anna", "/realtime/files?channel=user:anna", &[]).await.status, 200);
    assert_eq!(
        server.get("", "/realtime/files?channel=general", &[]).await.code(),
        "authentication_required"
    );
    let refused = server.upload("nobody", "a.png", "image/png", PNG, CHANNEL).await;
    assert_eq!(refused.code(), "forbidden");

    let path = server.upload("boris", "a.png", "image/png", PNG, CHANNEL).await.path();
    assert_eq!(server.request("anna", "DELETE", &path, &[], b"").await.code(), "forbidden");
    assert_eq!(server.request("", "DELETE", &path, &[], b"").await.code(), "authentication_required");
    let deleted = server.request("boris", "DELETE", &path, &[], b"").await;
    assert_eq!((deleted.status, deleted.json()["status"].as_str()), (200, Some("deleted")));
    assert_eq!(server.get("boris", &path, &[]).await.code(), "file_not_found");
    assert_eq!(server.request("boris", "DELETE", &path, &[], b"").await.code(), "file_not_found");
    let path = server.upload("boris", "a.png", "image/png", PNG, CHANNEL).await.path();
    assert_eq!(server.request("admin", "DELETE", &path, &[], b"").await.status, 200);
    assert_eq!(server.on_disk("objects").len(), 1);

    for path in ["/realtime/files/..%2f..%2fetc%2fpasswd", "/realtime/files/file_x", "/realtime/files/%00"] {
        assert_eq!(server.get("anna", path, &[]).await.code(), "file_not_found", "{path}");
    }
}

#[tokio::test]
async fn who_comes_late_sees_the_list_in_pages() {
    let server = Server::start(settings()).await;
    for n in 0..7 {
        server.pass(i64::from(n % 2 == 0));
        let name = format!("{n}.png");
        assert_eq!(server.upload("anna", &name, "image/png", PNG, CHANNEL).await.status, 200);
    }
    server.upload("anna", "other.png", "image/png", PNG, &[("channel", "other")]).await;
    let mut names = Vec::new();
    let mut before = String::new();
    loop {
        let path = format!("/realtime/files?channel=general&limit=3{before}");
        let answer = server.get("boris", &path, &[]).await.json();
        for file in answer["files"].as_array().unwrap() {
            names.push(file["filename"].as_str().unwrap().to_owned());
            assert_eq!(server.get("", file["url"].as_str().unwrap(), &[]).await.status, 200);
        }
        match answer["next"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    assert_eq!(names.len(), 7);
    assert_eq!(names[0], "6.png");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 7, "each once");
    let wrong = server.get("boris", "/realtime/files?channel=general&before=x", &[]).await;
    assert_eq!(wrong.code(), "bad_request");
    assert_eq!(server.get("boris", "/realtime/files", &[]).await.code(), "bad_request");
}
