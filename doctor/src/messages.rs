//! Whether messages of channels come: the WebSocket of channels, and the stream of events, which proxies like to hold back.

use hyper::StatusCode;
use serde_json::Value;
use yawc::OpCode;

use crate::door::Door;
use crate::finding::Finding;
use crate::line::PATIENCE;
use crate::outside::PROXY;
use crate::signaling::{JoinError, broken, websocket};

/// What a proxy in front has to be told for events.
const STREAMS: &str = "the proxy in front must not gather what the server sends; nginx: proxy_buffering off; proxy_http_version 1.1; \
                       proxy_read_timeout 1h; and compress no text/event-stream";

/// Tries both.
pub(crate) async fn examine(door: &Door) -> [Finding; 2] {
    let (socket, events) = tokio::join!(socket(door), events(door));
    [socket, events]
}

async fn socket(door: &Door) -> Finding {
    const CHECK: &str = "messages.websocket";
    let what = "the WebSocket of channels, /realtime/ws, and its first message";
    match first_message(door).await {
        Ok(message) if message["type"] == "welcome" => Finding::fine(CHECK, what, "it welcomes"),
        // It speaks, and asks for another credential.
        Ok(message) => {
            let error = &message["error"];
            let text = |field: &str| error[field].as_str().unwrap_or_default();
            Finding::skipped(CHECK, what, format!("{}: {}", text("code"), text("message")))
        }
        Err(JoinError::NoUpgrade { status: Some(503), got }) => Finding::failure(CHECK, what, got)
            .means("the server has all the connections of that kind that it may have")
            .mend("messaging.websocket_max_connections, or http.max_connections, higher"),
        Err(error) => Finding::failure(CHECK, what, error.to_string())
            .means("messages of channels and files' progress do not come")
            .mend(PROXY),
    }
}

async fn first_message(door: &Door) -> Result<Value, JoinError> {
    let mut socket = websocket(door, "/realtime/ws").await?;
    let first = async {
        loop {
            let frame = socket.next_frame().await.map_err(|error| broken(&error))?;
            match frame.opcode() {
                OpCode::Text => return Ok(serde_json::from_slice(frame.payload()).unwrap_or_default()),
                OpCode::Close => return Err(JoinError::Broken("it was closed".to_owned())),
                _ => {}
            }
        }
    };
    let nothing = || JoinError::Broken(format!("no message within {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, first).await.map_err(|_| nothing())?
}

async fn events(door: &Door) -> Finding {
    const CHECK: &str = "messages.events";
    const MEANS: &str = "clients of events get their messages late, many at once, or never";
    let path = format!("/realtime/events?channel=room:{}", door.target.room());
    let what = "the stream of events, /realtime/events, and what comes first";
    let answer = match door.begin(&path).await {
        Ok(answer) => answer,
        Err(error) => return Finding::failure(CHECK, what, error.to_string()).means(MEANS).mend(STREAMS),
    };
    let kind = answer.headers.get(hyper::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    match answer.status {
        StatusCode::OK if answer.body.starts_with(b"retry:") => {
            Finding::fine(CHECK, what, "it begins at once")
        }
        StatusCode::OK if kind.is_some_and(|kind| kind.starts_with("text/event-stream")) => {
            let got = if answer.body.is_empty() {
                "its head came, and then nothing"
            } else {
                "its beginning is another"
            };
            Finding::failure(CHECK, what, got).means(MEANS).mend(STREAMS)
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Finding::skipped(CHECK, what, answer.complaint()),
        StatusCode::SERVICE_UNAVAILABLE => Finding::failure(CHECK, what, answer.complaint())
            .means("the server has all the streams that it may have")
            .mend("messaging.sse_max_connections, or http.max_connections, higher"),
        _ => Finding::failure(CHECK, what, answer.complaint()).means(MEANS).mend(
            "let the proxy in front pass everything below /realtime on, and look into the server's log",
        ),
    }
}
