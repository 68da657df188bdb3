//! Bytes: in JSON, in binary frames, as files.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use veche_messaging::frame::{DELIVERY, PUBLISH};

use crate::server::{Server, Setup, required};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

fn publish(channel: &str, content_type: &str, filename: &str, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![PUBLISH, 1, 0, 0, 0, 9];
    for text in [channel, content_type, filename, ""] {
        frame.push(text.len() as u8);
        frame.extend(text.as_bytes());
    }
    frame.extend(payload);
    frame
}

#[tokio::test]
async fn a_binary_frame_comes_as_json_or_as_a_frame_as_each_wants() {
    let server = Server::start().await;
    let mut anna = server.subscriber("c").await;
    let (mut clara, _) = server.join("binary=1").await;
    clara.subscribe("c").await;
    let (mut boris, _) = server.join("name=Boris").await;
    boris.send_binary(publish("c", "image/png", "a.png", PNG)).await;
    assert_eq!(boris.expect("published").await["id"], 9);
    let message = anna.expect("binary").await;
    assert_eq!((&message["content_type"], &message["filename"]), (&json!("image/png"), &json!("a.png")));
    assert_eq!((&message["size"], &message["offset"]), (&json!(PNG.len()), &json!(1)));
    let frame = clara.receive_binary().await;
    assert_eq!((frame[0], &frame[2..10]), (DELIVERY, &1_u64.to_be_bytes()[..]));
    assert!(frame.ends_with(PNG));
    let texts = String::from_utf8_lossy(&frame[22..frame.len() - PNG.len()]).into_owned();
    for text in ["msg_", "image/png", "a.png", "Boris", "conn_"] {
        assert!(texts.contains(text), "{texts}");
    }
}

#[tokio::test]
async fn without_a_channel_everybody_else_gets_it() {
    let server = Server::start().await;
    let (mut anna, _) = server.join("").await;
    let (mut boris, _) = server.join("").await;
    let message = json!({ "type": "binary", "binary_data": "aGVsbG8=", "content_type": "text/plain", "filename": "a.txt", "id": 1 });
    boris.send(message).await;
    assert_eq!(boris.expect("published").await["recipients"], 1);
    let binary = anna.expect("binary").await;
    assert_eq!((&binary["binary_data"], &binary["filename"]), (&json!("aGVsbG8="), &json!("a.txt")));
    boris.silent().await;
}

#[tokio::test]
async fn what_is_too_large_to_be_inline_becomes_a_file() {
    let server = Server::start().await;
    let mut anna = server.subscriber("c").await;
    let (mut boris, _) = server.join("").await;
    let mut payload = PNG.to_vec();
    payload.resize(300_000, 7);
    boris.send_binary(publish("c", "image/png", "large.png", &payload)).await;
    boris.expect("published").await;
    let file = anna.expect("file").await["file"].clone();
    assert_eq!((&file["size"], &file["filename"]), (&json!(300_000), &json!("large.png")));
    assert_eq!(file["sha256"].as_str().unwrap().len(), 64);
    let head = server.raw("HEAD", file["url"].as_str().unwrap(), "", b"").await;
    assert_eq!(head.status, 200);
    assert!(head.headers.contains("content-length: 300000"), "{}", head.headers);
}

#[tokio::test]
async fn what_becomes_a_file_needs_the_grant_and_stays_once() {
    let server = Server::with(Setup { access: required(), ..Setup::default() }).await;
    let grants = |actions: &[&str]| json!({ "channels": { "c": actions } });
    let token = server.granted("anna", grants(&["subscribe", "send", "upload"]));
    let (mut anna, _) = server.join(&format!("token={token}")).await;
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let mut payload = PNG.to_vec();
    payload.resize(300_000, 7);
    let large = |last: u8| {
        let mut payload = payload.clone();
        *payload.last_mut().unwrap() = last;
        json!({ "type": "binary", "binary_data": BASE64_STANDARD.encode(payload), "content_type": "image/png",
            "channel": "c", "idempotency_key": "1", "id": 1 })
    };
    for repeated in [false, true] {
        anna.send(large(7)).await;
        assert_eq!(anna.expect("published").await["repeated"].as_bool().unwrap_or_default(), repeated);
    }
    assert_eq!(anna.refused(large(8)).await, "idempotency_conflict");
    let files = server.raw("GET", "/realtime/files?channel=c", &bearer, b"").await;
    assert_eq!(files.body["files"].as_array().unwrap().len(), 1, "{}", files.body);

    let token = server.granted("boris", grants(&["subscribe", "send"]));
    let (mut boris, _) = server.join(&format!("token={token}")).await;
    assert_eq!(boris.refused(large(9)).await, "forbidden");
}

#[tokio::test]
async fn an_upload_is_announced() {
    let server = Server::start().await;
    let mut anna = server.subscriber("general").await;
    let mut body = b"--b\r\nContent-Disposition: form-data; name=\"channel\"\r\n\r\ngeneral\r\n".to_vec();
    body.extend(b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"image.png\"\r\nContent-Type: image/png\r\n\r\n");
    body.extend(PNG);
    body.extend(b"\r\n--b--\r\n");
    let form = "Content-Type: multipart/form-data; boundary=b\r\n";
    let answer = server.raw("POST", "/realtime/binary/upload", form, &body).await;
    assert!(matches!(answer.status, 200 | 201), "{} {}", answer.status, answer.body);
    let message = anna.receive().await;
    assert!(["binary", "file"].contains(&message["type"].as_str().unwrap()), "{message}");
    assert_eq!(message["message_id"], answer.body["message_id"]);
}

#[tokio::test]
async fn types_that_are_not_allowed_are_refused() {
    let server = Server::start().await;
    let (mut boris, _) = server.join("").await;
    let message = json!({ "type": "binary", "binary_data": "TVqQAAMAAAA=", "content_type": "application/x-msdownload" });
    assert_eq!(boris.refused(message).await, "type_not_allowed");
    let body = json!({ "binary_data": "TVqQAAMAAAA=", "content_type": "application/x-msdownload" });
    assert_eq!(server.post("/realtime/binary/send", body).await.code(), (415, "type_not_allowed"));
}
