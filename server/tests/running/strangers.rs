//! Expired, forged and missing credentials at every door that the server has.

use std::time::{Duration, SystemTime};

use axum::http::{Method, Request};
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use veche_access::{AccessSettings, NewToken, Secret, issue};
use yawc::{Frame, Options};

use crate::client::{ask, ask_http2, get, receive, websocket, websocket_at};
use crate::server::{Folder, Server};

const SECRET: &str = "a secret of a test, long enough for HS256";

/// What answers everybody: it says how the server is and what its doors are like, or is a page for people.
const OPEN: &[&str] = &["/health", "/realtime/health", "/realtime/webrtc/health", "/realtime/openapi.json"];

/// A token signed with this text as the secret of HS256, which begins at this time and lasts an hour.
fn token(secret: &str, at: SystemTime) -> String {
    let settings = AccessSettings { secrets: vec![Secret::Text(secret.into())], ..AccessSettings::default() };
    let lifetime = Duration::from_hours(1);
    issue(&settings, &NewToken { user_id: Some("42".into()), lifetime, ..NewToken::default() }, at).unwrap()
}

/// A server that asks everybody, with a secret and a public key.
async fn closed_server(name: &str) -> (Server, String) {
    let key = rcgen::KeyPair::generate().unwrap().public_key_pem();
    let folder = Folder::new(name);
    folder.write("token.pem", &key);
    let configuration = format!(
        "[access]\nrequired = true\nsecrets = [\"{SECRET}\"]\npublic_keys = [\"token.pem\"]\n\
         [messaging]\nrequests_per_second = 0\n[signaling]\nrequests_per_second = 0\n"
    );
    (Server::start_in(folder.into(), &configuration).await, key)
}

/// Tokens that are no good, with what they are told.
fn bad_tokens(public_key: &str) -> Vec<(&'static str, String, &'static str)> {
    let now = SystemTime::now();
    let good = token(SECRET, now);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (_, claims) = signed.split_once('.').unwrap();
    // {"alg":"none","typ":"JWT"} and {"alg":"ES256","typ":"JWT"}
    let (none, es256) = ("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0", "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9");
    let other = token(SECRET, now - Duration::from_mins(1));
    let (other, _) = other.rsplit_once('.').unwrap();
    vec![
        ("expired", token(SECRET, now - Duration::from_hours(2)), "token_expired"),
        ("alg none", format!("{none}.{claims}."), "invalid_token"),
        ("alg none with a signature", format!("{none}.{claims}.{signature}"), "invalid_token"),
        ("no signature", format!("{signed}."), "invalid_token"),
        ("another's signature", format!("{other}.{signature}"), "invalid_token"),
        ("another secret", token("another secret of at least 32 bytes here", now), "invalid_token"),
        ("the public key as a secret", token(public_key, now), "invalid_token"),
        ("HS256 said to be ES256", format!("{es256}.{claims}.{signature}"), "invalid_token"),
        ("nonsense", "a.b.c".to_owned(), "invalid_token"),
    ]
}

/// Addresses of WebSockets, over which they tell what is wrong.
const WEBSOCKETS: [&str; 4] = [
    "/realtime/ws",
    "/realtime/webrtc/signaling",
    "/realtime/webrtc/rooms/{room_id}/cameras/{name}/send",
    "/realtime/webrtc/rooms/{room_id}/cameras/{name}/watch",
];

/// Every address and method that the server describes, but for those that answer everybody.
async fn doors(server: &Server) -> Vec<(Method, String)> {
    let description = get(server.http(), "/openapi.json").await.json();
    let mut doors = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        let is_websocket = WEBSOCKETS.contains(&path.as_str());
        if is_websocket || OPEN.contains(&path.as_str()) {
            continue;
        }
        let path: Vec<&str> =
            path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect();
        for method in methods.as_object().unwrap().keys().filter(|method| *method != "options") {
            doors.push((method.to_uppercase().parse().unwrap(), path.join("/")));
        }
    }
    assert!(doors.len() > 30, "{doors:?}");
    doors
}

async fn asked(server: &Server, method: &Method, path: &str, bearer: Option<&str>) -> (u16, Value) {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    request = request.header("content-type", "application/json").header("tus-resumable", "1.0.0");
    if let Some(bearer) = bearer {
        request = request.header("authorization", format!("Bearer {bearer}"));
    }
    let io = TcpStream::connect(server.http()).await.unwrap();
    let answer = ask(io, request.body("{}".into()).unwrap()).await;
    // The answer to HEAD has no body.
    let body = serde_json::from_slice(&answer.body).unwrap_or_default();
    (answer.status.as_u16(), body)
}

#[tokio::test]
async fn no_bad_token_opens_any_door_of_http() {
    let (server, key) = closed_server("strangers-http").await;
    let bad = bad_tokens(&key);
    for (method, path) in doors(&server).await {
        let (status, body) = asked(&server, &method, &path, None).await;
        assert_eq!(status, 401, "{method} {path} without a token: {body}");
        for (what, token, code) in &bad {
            let (status, body) = asked(&server, &method, &path, Some(token)).await;
            assert_eq!(status, 401, "{method} {path} with {what}: {body}");
            if method != Method::HEAD {
                assert_eq!(body["error"]["code"], *code, "{method} {path} with {what}: {body}");
            }
        }
        // A stream of events would not end.
        if path == "/realtime/events" {
            continue;
        }
        let (status, body) = asked(&server, &method, &path, Some(&token(SECRET, SystemTime::now()))).await;
        assert_ne!(status, 401, "{method} {path} with a good token: {body}");
    }
}

#[tokio::test]
async fn no_bad_token_opens_a_websocket_or_a_call_of_grpc() {
    let (server, key) = closed_server("strangers-sockets").await;
    let good = token(SECRET, SystemTime::now());
    for (what, token, code) in bad_tokens(&key) {
        for path in WEBSOCKETS {
            let path = path.replace("{room_id}", "tea").replace("{name}", "door");
            let path = format!("{path}?room_id=tea&token={token}");
            let mut socket = websocket_at(server.http(), &path, Options::default()).await.unwrap();
            let error = receive(&mut socket).await.unwrap();
            assert_eq!(error["error"]["code"], code, "{what} at {path}: {error}");
            assert_eq!(receive(&mut socket).await, None, "{what} at {path}");
        }
        let mut socket = websocket(server.http()).await.unwrap();
        socket.send(Frame::text(json!({ "type": "auth", "token": token }).to_string())).await.unwrap();
        let error = receive(&mut socket).await.unwrap();
        assert_eq!(error["error"]["code"], code, "{what} in the first message: {error}");
        assert_eq!(receive(&mut socket).await, None, "{what}");
        for method in ["Send", "SendBinary", "History", "Subscribe", "Connect"] {
            assert_eq!(grpc(&server, method, &token).await, (16, code.to_owned()), "{method} with {what}");
        }
    }
    let mut socket = websocket(server.http()).await.unwrap();
    socket.send(Frame::text(json!({ "token": good }).to_string())).await.unwrap();
    assert_eq!(receive(&mut socket).await.unwrap()["type"], "welcome");
    assert_ne!(grpc(&server, "Send", &good).await.0, 16);
}

/// The status of a call with an empty message, and the code of its error.
async fn grpc(server: &Server, method: &str, token: &str) -> (u32, String) {
    let request = Request::post(format!("http://localhost/veche.v1.Messaging/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"))
        .body(vec![0; 5].into())
        .unwrap();
    let answer = ask_http2(TcpStream::connect(server.http()).await.unwrap(), request).await;
    let text =
        |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    (text("grpc-status").parse().unwrap_or_default(), text("veche-error-code").to_owned())
}
