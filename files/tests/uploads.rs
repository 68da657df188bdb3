//! Uploads through real connections: whole ones, refused ones, cut ones, large ones.

mod common;

use std::time::Duration;

use common::{HOUR, PNG, Server, form, form_beginning, form_end, head, read_answer, settings};
use tokio::io::AsyncWriteExt as _;
use veche_files::{FileSettings, NewFile};
use veche_storage::FileScope;

#[tokio::test]
async fn a_small_file_travels_within_its_message_and_is_kept_all_the_same() {
    let server = Server::start(settings()).await;
    let answer = server.upload("anna", "a.png", "image/png", PNG, &[("channel", "general")]).await;
    let told = server.told.lock().pop().unwrap();
    assert_eq!(told.inline.as_deref(), Some(PNG));
    assert_eq!((told.channel.as_deref(), told.persistent), (Some("general"), false));
    assert_eq!(told.by.user_id.as_deref(), Some("anna"));

    let json = answer.json();
    assert_eq!((json["status"].as_str(), json["message_id"].as_str()), (Some("sent"), Some("msg_1")));
    assert_eq!((json["epoch"].as_str(), json["offset"].as_u64()), (Some("0badcafe"), Some(1)));
    assert_eq!((json["channel"].as_str(), json["recipients"].as_u64()), (Some("general"), Some(3)));
    let file = &json["file"];
    assert_eq!(
        (file["filename"].as_str(), file["content_type"].as_str()),
        (Some("a.png"), Some("image/png"))
    );
    assert_eq!((file["size"].as_u64(), file["user_id"].as_str()), (Some(PNG.len() as u64), Some("anna")));
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, PNG);
    let hex = common::hex(digest.as_ref());
    assert_eq!(file["sha256"].as_str(), Some(hex.as_str()));
    assert_eq!(file["created_at"].as_str(), Some("2026-11-18T11:06:40.000Z"));

    let answer = server.get("boris", &answer.path(), &[]).await;
    assert_eq!((answer.status, &answer.body[..]), (200, PNG));
}

#[tokio::test]
async fn wishes_are_taken_from_the_form_and_from_the_address() {
    let server = Server::start(settings()).await;
    let fields = [("channel", "general"), ("persistent", "true"), ("inline", "false"), ("csrf", "x")];
    assert_eq!(server.upload("anna", "a.png", "image/png", PNG, &fields).await.status, 200);
    let told = server.told.lock().pop().unwrap();
    assert!(told.persistent && told.inline.is_none());

    let headers = [("content-type", "multipart/form-data; boundary=bound")];
    let path = "/realtime/binary/upload?channel=general&persistent=true";
    let body = form("a.png", "image/png", PNG, &[]);
    assert_eq!(server.request("anna", "POST", path, &headers, &body).await.status, 200);
    assert_eq!(server.told.lock().pop().unwrap().channel.as_deref(), Some("general"));
    let body = form("a.png", "image/png", PNG, &[("channel", "another")]);
    assert_eq!(server.request("anna", "POST", path, &headers, &body).await.code(), "bad_request");
    let body = form_end(&[("channel", "general")]);
    assert_eq!(server.request("anna", "POST", path, &headers, &body).await.code(), "bad_request");
    let twice =
        [form_beginning("a", "image/png"), b"\r\n".to_vec(), form("b", "image/png", PNG, &[])].concat();
    assert_eq!(server.request("anna", "POST", path, &headers, &twice).await.code(), "bad_request");

    let large = vec![b'a'; 300 * 1024];
    assert_eq!(
        server.upload("anna", "a.txt", "text/plain", &large, &[("channel", "general")]).await.status,
        200
    );
    assert!(server.told.lock().pop().unwrap().inline.is_none(), "larger than 256 KiB: a link");
    // Without a channel it goes to everybody, which takes a grant of its own.
    assert_eq!(server.upload("nobody", "a.png", "image/png", PNG, &[]).await.code(), "forbidden");
    assert_eq!(server.upload("anna", "a.png", "image/png", PNG, &[]).await.status, 200);
    assert_eq!(server.told.lock().pop().unwrap().channel, None);
}

#[tokio::test]
async fn an_upload_that_is_repeated_with_its_key_happens_once() {
    let server = Server::start(settings()).await;
    let send = |who: &'static str, key: &'static str, content: &'static [u8]| {
        let server = &server;
        async move {
            let body = form("a.png", "image/png", content, &[("channel", "general")]);
            let headers = [("content-type", "multipart/form-data; boundary=bound"), ("idempotency-key", key)];
            server.request(who, "POST", "/realtime/binary/upload", &headers, &body).await
        }
    };
    let first = send("anna", "one", PNG).await;
    assert_eq!(send("anna", "one", PNG).await.body, first.body);
    assert_eq!(server.told.lock().len(), 1);
    assert_ne!(send("anna", "two", PNG).await.body, first.body);
    assert_ne!(send("boris", "one", PNG).await.body, first.body);
    assert_eq!(send("anna", "three", b"words").await.code(), "type_mismatch");
    assert_eq!(send("anna", "three", PNG).await.status, 200, "what failed may be tried again");
    server.pass(10 * 60 * 1000);
    assert_ne!(send("anna", "one", PNG).await.body, first.body);
    let long: &'static str = "x".repeat(129).leak();
    assert_eq!(send("anna", long, PNG).await.code(), "bad_idempotency_key");
}

#[tokio::test]
async fn names_never_become_paths_and_come_back_harmless() {
    let server = Server::start(settings()).await;
    let names = [
        ("../../../../tmp/evil.png", "evil.png"),
        ("..%2f..%2fevil.png", "..%2f..%2fevil.png"),
        ("C:\\Users\\x\\evil.png", "evil.png"),
        ("gnp\u{202e}.exe.png", "gnp.exe.png"),
        ("a%0D%0ASet-Cookie: x=y.png", "aSet-Cookie_ x=y.png"),
    ];
    for (sent, shown) in names {
        let answer = server.upload("anna", sent, "image/png", PNG, &[("channel", "general")]).await;
        assert_eq!(answer.json()["file"]["filename"].as_str(), Some(shown), "{sent}");
        let answer = server.get("anna", &answer.path(), &[]).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("set-cookie"), None);
        assert!(answer.header("content-disposition").unwrap().contains("evil") || !shown.contains("evil"));
    }
    let answer = server.upload("anna", "..", "image/png", PNG, &[("channel", "general")]).await;
    let json = answer.json();
    assert_eq!(json["file"]["filename"], json["file"]["file_id"], "no name is left");
    for path in server.on_disk("") {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("file_") && name.len() == 37, "{name}");
    }
    assert_eq!(server.on_disk("incoming").len(), 0);
}

#[tokio::test]
async fn lies_about_types_are_refused_and_leave_nothing() {
    let server = Server::start(FileSettings::default()).await;
    let channel = [("channel", "general")];
    let page = b"<!doctype html><script>alert(1)</script>";
    let cases: [(&str, &[u8], &str); 8] = [
        ("image/png", page, "type_mismatch"),
        ("image/png", b"MZ\x90\0\x03\0", "type_mismatch"),
        ("application/pdf", b"PK\x03\x04", "type_mismatch"),
        ("text/plain", b"\x7fELF\x02\x01", "type_mismatch"),
        ("application/zip", b"PK\x03\x04", "type_not_allowed"),
        ("application/octet-stream", b"PK\x03\x04", "type_not_allowed"),
        ("application/octet-stream", b"\0\x01\x02", "type_not_allowed"),
        ("nonsense", PNG, "bad_request"),
    ];
    for (content_type, content, code) in cases {
        let answer = server.upload("anna", "a.png", content_type, content, &channel).await;
        assert_eq!(answer.code(), code, "{content_type}");
    }
    // What is said early is refused early; what is shown late is refused too.
    let late = [&vec![b' '; 5000][..], page].concat();
    assert_eq!(server.upload("anna", "a", "image/gif", &late, &channel).await.code(), "type_mismatch");
    let answer = server.upload("anna", "a.png", "application/octet-stream", PNG, &channel).await;
    assert_eq!(answer.json()["file"]["content_type"].as_str(), Some("image/png"), "found out");
    assert_eq!(server.on_disk("incoming").len(), 0);
    assert_eq!(server.on_disk("objects").len(), 1);
    assert_eq!(server.told.lock().len(), 1);
}

#[tokio::test]
async fn larger_files_than_allowed_are_refused_while_they_come_in_flat_memory() {
    let server =
        Server::start(FileSettings { max_file_bytes: 48 << 20, compression: false, ..settings() }).await;
    let before = memory();
    // Of unknown length: refused when it has become too large.
    let mut stream = server.connect().await;
    let headers = [("content-type", "multipart/form-data; boundary=bound")];
    let path = "/realtime/binary/upload?channel=general";
    stream.write_all(head("anna", "POST", path, &headers, None).as_bytes()).await.unwrap();
    write_chunk(&mut stream, &form_beginning("a.bin", "application/x-noise")).await.unwrap();
    let chunk = vec![7; 1 << 20];
    let mut most = 0;
    for _ in 0..60 {
        if write_chunk(&mut stream, &chunk).await.is_err() {
            break;
        }
        most = most.max(memory());
    }
    let _ = stream.write_all(b"0\r\n\r\n").await;
    assert_eq!(read_answer(&mut stream, "POST").await.code(), "file_too_large");
    assert!(most < before + (24 << 20), "from {before} to {most} bytes");
    server.until("nothing is left", || server.on_disk("incoming").is_empty()).await;

    // Of known length: refused before it comes.
    let mut stream = server.connect().await;
    stream.write_all(head("anna", "POST", path, &headers, Some(1 << 30)).as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(read_answer(&mut stream, "POST").await.code(), "file_too_large");

    // As large as allowed: taken, and given out, in flat memory too.
    let before = memory();
    let mut stream = server.connect().await;
    let (beginning, end) = (form_beginning("a.bin", "application/x-noise"), form_end(&[]));
    let length = (beginning.len() + (48 << 20) + end.len()) as u64;
    stream.write_all(head("anna", "POST", path, &headers, Some(length)).as_bytes()).await.unwrap();
    stream.write_all(&beginning).await.unwrap();
    let mut most = 0;
    for _ in 0..48 {
        stream.write_all(&chunk).await.unwrap();
        most = most.max(memory());
    }
    stream.write_all(&end).await.unwrap();
    let answer = read_answer(&mut stream, "POST").await;
    assert_eq!(answer.status, 200);
    assert!(most < before + (24 << 20), "from {before} to {most} bytes");
    assert_eq!(server.files.counters().uploaded_bytes, 48 << 20);
}

#[tokio::test]
async fn uploads_that_are_cut_leave_nothing_and_free_their_place() {
    let settings = FileSettings { max_uploads: 4, ..settings() };
    let server = Server::start(settings).await;
    for round in 0..3 {
        let mut streams = Vec::new();
        for _ in 0..4 {
            let mut stream = server.connect().await;
            let headers = [("content-type", "multipart/form-data; boundary=bound")];
            let path = "/realtime/binary/upload?channel=general";
            stream.write_all(head("anna", "POST", path, &headers, Some(1 << 20)).as_bytes()).await.unwrap();
            stream.write_all(&form_beginning("a.txt", "text/plain")).await.unwrap();
            stream.write_all(&[b'a'; 5000]).await.unwrap();
            streams.push(stream);
        }
        server.until("all have begun", || server.on_disk("incoming").len() == 4).await;
        let refused = server.upload("boris", "a.png", "image/png", PNG, &[("channel", "general")]).await;
        assert_eq!(refused.code(), "too_many_uploads", "in round {round}");
        drop(streams);
        server.until("all are gone", || server.on_disk("incoming").is_empty()).await;
        server.until("all are free", || server.files.counters().uploads == 0).await;
    }
    let answer = server.upload("boris", "a.png", "image/png", PNG, &[("channel", "general")]).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn compressed_bodies_are_refused_and_archives_stay_packed() {
    let server = Server::start(settings()).await;
    let body = form("a.png", "image/png", PNG, &[("channel", "general")]);
    for coding in ["gzip", "zstd", "br", "deflate"] {
        let headers = [("content-type", "multipart/form-data; boundary=bound"), ("content-encoding", coding)];
        let answer = server.request("anna", "POST", "/realtime/binary/upload", &headers, &body).await;
        assert_eq!(answer.code(), "unsupported_encoding", "{coding}");
    }
    // A frame of zstd that unfolds to 64 MiB of zeros, as a file: it is kept as it is.
    let bomb = zstd::encode_all(&vec![0; 64 << 20][..], 19).unwrap();
    assert!(bomb.len() < 8192);
    let before = memory();
    let answer = server.upload("anna", "a.zst", "application/zstd", &bomb, &[("channel", "general")]).await;
    let answer = server.get("anna", &answer.path(), &[("accept-encoding", "zstd")]).await;
    assert_eq!((answer.header("content-encoding"), &answer.body), (None, &bomb));
    assert!(memory() < before + (16 << 20));
}

#[tokio::test]
async fn what_is_no_form_gets_a_clear_answer() {
    let server = Server::start(settings()).await;
    let path = "/realtime/binary/upload";
    let form_type = "multipart/form-data; boundary=bound";
    let cases: [(&str, &[u8]); 6] = [
        ("application/json", b"{}"),
        ("multipart/form-data", b"--bound"),
        (form_type, b""),
        (form_type, b"--bound\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nendless"),
        (
            form_type,
            b"--bound\r\nContent-Disposition: form-data; name=\"other\"; filename=\"x\"\r\n\r\n\r\n--bound--",
        ),
        (form_type, b"--bound\r\n\r\n\r\n--bound--"),
    ];
    for (content_type, body) in cases {
        let answer = server.request("anna", "POST", path, &[("content-type", content_type)], body).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"), "{content_type}");
    }
    assert_eq!(server.request("", "POST", path, &[], b"").await.code(), "authentication_required");
    let endless = [b"--bound\r\nX: ".to_vec(), vec![b'a'; 100_000]].concat();
    let answer = server.request("anna", "POST", path, &[("content-type", form_type)], &endless).await;
    assert_eq!(answer.code(), "bad_request");
    let bad_channel = server.upload("anna", "a", "image/png", PNG, &[("channel", "a b")]).await;
    assert_eq!(bad_channel.code(), "bad_channel");
    let off = Server::start(FileSettings { enabled: false, ..settings() }).await;
    assert_eq!(off.upload("anna", "a", "image/png", PNG, &[("channel", "c")]).await.code(), "files_disabled");
}

#[tokio::test]
async fn quotas_hold_to_the_last_byte_for_users_rooms_and_all() {
    let settings =
        FileSettings { max_user_bytes: 1000, max_room_bytes: 1500, max_total_bytes: 2000, ..settings() };
    let server = Server::start(settings).await;
    let send = |who: &'static str, channel: &'static str, size: usize| {
        let server = &server;
        async move {
            let fields = [("channel", channel)];
            server.upload(who, "a.txt", "text/plain", &vec![b'a'; size], &fields).await
        }
    };
    let first = send("anna", "room:tea", 400).await;
    assert_eq!(send("anna", "room:tea:chat", 601).await.code(), "quota_exceeded", "of the user");
    assert_eq!(send("anna", "room:tea:chat", 600).await.status, 200);
    assert_eq!(send("anna", "general", 1).await.code(), "quota_exceeded");
    assert_eq!(send("boris", "room:tea", 501).await.code(), "quota_exceeded", "of the room");
    assert_eq!(send("boris", "room:tea", 500).await.status, 200);
    assert_eq!(send("clara", "general", 501).await.code(), "quota_exceeded", "of all");
    assert_eq!(send("clara", "general", 500).await.status, 200);
    let deleted = server.request("anna", "DELETE", &first.path(), &[], b"").await;
    assert_eq!(deleted.status, 200);
    assert_eq!(send("clara", "general", 400).await.status, 200, "what is deleted is free again");
    let usage = server.database.file_usage(FileScope::Total).await.unwrap();
    assert_eq!((usage.files, usage.bytes), (4, 2000));
    assert_eq!(server.on_disk("objects").len(), 4, "refused ones leave nothing");
}

#[tokio::test]
async fn two_uploads_at_once_cannot_share_the_same_last_bytes() {
    let server = Server::start(FileSettings { max_user_bytes: 1000, ..settings() }).await;
    let new = || NewFile {
        user_id: Some("anna".into()),
        content_type: Some("text/plain".into()),
        ..NewFile::default()
    };
    let mut first = server.files.begin(new()).await.unwrap();
    let mut second = server.files.begin(new()).await.unwrap();
    first.write(&[b'a'; 600]).await.unwrap();
    assert_eq!(second.write(&[b'a'; 401]).await.unwrap_err().kind.code(), "quota_exceeded");
    drop(second);
    first.finish().await.unwrap();
    assert!(server.files.store(new(), &[b'a'; 400]).await.is_ok());
    assert_eq!(server.files.store(new(), b"a").await.unwrap_err().kind.code(), "quota_exceeded");
}

#[tokio::test]
async fn a_file_that_cannot_be_announced_is_not_kept() {
    let server = Server::start(settings()).await;
    let answer = server.upload("anna", "a.png", "image/png", PNG, &[("channel", "full")]).await;
    assert_eq!(answer.code(), "too_many_channels");
    server.until("it is gone", || server.on_disk("objects").is_empty()).await;
}

#[tokio::test]
async fn files_expire_with_their_contents() {
    let server = Server::start(FileSettings { expire_hours: 2, ..settings() }).await;
    let answer = server.upload("anna", "a.png", "image/png", PNG, &[("channel", "general")]).await;
    assert_eq!(answer.json()["file"]["expires_at"].as_str(), Some("2026-11-18T13:06:40.000Z"));
    let path = answer.path();
    server.pass(2 * HOUR - 1);
    server.files.sweep().await.unwrap();
    assert_eq!(server.get("anna", &path, &[]).await.status, 200);
    server.pass(1);
    assert_eq!(server.get("anna", &path, &[]).await.code(), "file_not_found");
    assert_eq!(server.on_disk("objects").len(), 1);
    server.files.sweep().await.unwrap();
    assert_eq!(server.on_disk("objects").len(), 0);
    assert_eq!(server.files.counters().deleted, 1);
    let id = path.rsplit('/').next().unwrap();
    assert_eq!(server.database.file(id).await.unwrap(), None, "its row is gone too");
}

#[tokio::test]
async fn the_files_of_a_room_go_together() {
    let server = Server::start(settings()).await;
    for channel in ["room:tea", "room:tea:chat", "room:teapot", "general"] {
        assert_eq!(
            server.upload("anna", "a.png", "image/png", PNG, &[("channel", channel)]).await.status,
            200
        );
    }
    assert_eq!(server.files.delete_room("tea").await.unwrap(), 2);
    assert_eq!(server.on_disk("objects").len(), 2);
}

#[tokio::test]
async fn a_crash_leaves_no_orphans() {
    let server = Server::start(settings()).await;
    let kept = server.upload("anna", "a.png", "image/png", PNG, &[("channel", "general")]).await;
    let id = "file_00112233445566778899aabbccddeeff";
    let files = server.data_dir().join("files");
    // One that was cut by the crash; one whose content had reached the store, but not the catalogue; rubbish.
    std::fs::write(files.join("incoming/file_ffeeddccbbaa99887766554433221100"), b"half").unwrap();
    std::fs::write(files.join("incoming/half.new"), b"half").unwrap();
    std::fs::create_dir_all(files.join("objects/00")).unwrap();
    std::fs::write(files.join("objects/00").join(id), b"whole").unwrap();
    let note =
        serde_json::json!({"id": id, "created": 0, "resumable": false, "persistent": false, "file": {}});
    std::fs::write(files.join(format!("incoming/{id}.json")), note.to_string()).unwrap();
    let server = server.restart(settings()).await;
    assert_eq!(server.on_disk("incoming").len(), 0);
    assert_eq!(server.on_disk("objects").len(), 1);
    assert_eq!(server.get("anna", &kept.path(), &[]).await.body, PNG);
}

#[tokio::test]
async fn small_binaries_of_other_doors_are_checked_without_being_kept() {
    let server = Server::start(FileSettings { max_file_bytes: 100, ..FileSettings::default() }).await;
    let checked = server.files.check_inline(Some("image/png"), Some("../a.png"), PNG).unwrap();
    assert_eq!((checked.content_type.as_str(), checked.filename.as_deref()), ("image/png", Some("a.png")));
    let refused = |content_type, data: &[u8]| {
        server.files.check_inline(Some(content_type), None, data).unwrap_err().kind.code()
    };
    assert_eq!(refused("application/zip", b"PK\x03\x04"), "type_not_allowed");
    assert_eq!(refused("image/png", b"words"), "type_mismatch");
    assert_eq!(refused("text/plain", &[b'a'; 101]), "file_too_large");
    assert_eq!(server.on_disk("objects").len(), 0);
}

async fn write_chunk(stream: &mut tokio::net::TcpStream, data: &[u8]) -> std::io::Result<()> {
    let writing = async {
        stream.write_all(format!("{:x}\r\n", data.len()).as_bytes()).await?;
        stream.write_all(data).await?;
        stream.write_all(b"\r\n").await
    };
    tokio::time::timeout(Duration::from_secs(10), writing).await.expect("the server reads on")
}

/// What this process holds in memory, in bytes. Tests run in processes of their own.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
