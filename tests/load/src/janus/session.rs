//! Janus's JSON API over one WebSocket: a session with one handle of the video room plugin.
//!
//! <https://janus.conf.meetecho.com/docs/rest.html>, <https://janus.conf.meetecho.com/docs/videoroom.html>

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How long an answer may take. A server at its limit is slow, but one that hangs must not hang the tool.
const PATIENCE: Duration = Duration::from_secs(30);

/// Janus ends a session of which it hears nothing for a minute (`session_timeout`).
const KEEPALIVE: Duration = Duration::from_secs(20);

/// One peer connection's way to talk to Janus.
#[derive(Debug)]
pub(super) struct Session {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// 0 before there is one.
    id: u64,
    /// 0 before there is one.
    handle: u64,
    transactions: u64,
    keepalive: Interval,
}

/// What the video room answered.
#[derive(Debug)]
pub(super) struct Reply {
    /// What it says.
    pub(super) data: Value,
    /// The offer or answer that came along.
    pub(super) sdp: Option<String>,
}

impl Session {
    /// Connects, and attaches to the video room plugin.
    pub(super) async fn open(url: &str) -> Result<Self> {
        let mut request = url.into_client_request().with_context(|| format!("{url} is no address"))?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("janus-protocol"));
        let (socket, _) = timeout(PATIENCE, connect_async(request))
            .await
            .context("Janus did not take the WebSocket in time")?
            .context("Janus did not take the WebSocket")?;
        let mut keepalive = interval(KEEPALIVE);
        keepalive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut session = Self { socket, id: 0, handle: 0, transactions: 0, keepalive };
        session.id = id(&session.ask(json!({"janus": "create"})).await?)?;
        let attach = json!({"janus": "attach", "plugin": "janus.plugin.videoroom"});
        session.handle = id(&session.ask(attach).await?)?;
        Ok(session)
    }

    /// Sends a request to the video room, with an offer or answer, and waits for what becomes of it.
    pub(super) async fn request(&mut self, body: Value, jsep: Option<Value>) -> Result<Reply> {
        let request = body["request"].as_str().unwrap_or_default().to_owned();
        let mut message = json!({"janus": "message", "body": body});
        if let Some(jsep) = jsep {
            message["jsep"] = jsep;
        }
        let mut answer = self.ask(message).await?;
        let data = answer["plugindata"]["data"].take();
        match data["error"].as_str() {
            Some(error) => bail!("Janus refuses '{request}': {error} ({})", data["error_code"]),
            None => Ok(Reply { data, sdp: answer["jsep"]["sdp"].as_str().map(str::to_owned) }),
        }
    }

    /// Waits for what Janus tells of its own, and keeps the session alive meanwhile. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<Value> {
        loop {
            tokio::select! {
                _ = self.keepalive.tick() => {
                    self.send(json!({"janus": "keepalive"})).await?;
                }
                message = receive(&mut self.socket) => return message,
            }
        }
    }

    /// Ends the session; its handle and peer connection go with it.
    pub(super) async fn close(mut self) -> Result<()> {
        self.ask(json!({"janus": "destroy"})).await?;
        self.socket.close(None).await.or(Ok(()))
    }

    /// Sends a message and waits for its answer: not the acknowledgement, nor what Janus tells of its own.
    async fn ask(&mut self, message: Value) -> Result<Value> {
        let transaction = self.send(message).await?;
        let answer = async {
            loop {
                let message = receive(&mut self.socket).await?;
                if message["transaction"] == transaction && message["janus"] != "ack" {
                    return Ok(message);
                }
            }
        };
        let answer: Result<Value> =
            timeout(PATIENCE, answer).await.context("Janus did not answer in time")?;
        let answer = answer?;
        match answer["error"]["reason"].as_str() {
            Some(reason) => bail!("Janus says: {reason}"),
            None => Ok(answer),
        }
    }

    async fn send(&mut self, mut message: Value) -> Result<String> {
        self.transactions += 1;
        let transaction = self.transactions.to_string();
        message["transaction"] = transaction.clone().into();
        if self.id != 0 {
            message["session_id"] = self.id.into();
        }
        if message["janus"] == "message" {
            message["handle_id"] = self.handle.into();
        }
        self.socket.send(Message::text(message.to_string())).await.context("the WebSocket is lost")?;
        Ok(transaction)
    }
}

/// The next message. Pings are answered by the WebSocket while it is read.
async fn receive(socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>) -> Result<Value> {
    loop {
        if let Message::Text(text) = socket.next().await.context("Janus closed the WebSocket")?? {
            return serde_json::from_str(&text).with_context(|| format!("not understood: {text}"));
        }
    }
}

fn id(answer: &Value) -> Result<u64> {
    answer["data"]["id"].as_u64().with_context(|| format!("Janus answers without an id: {answer}"))
}
