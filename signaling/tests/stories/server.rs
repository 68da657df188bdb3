//! An in-process server, and clients that talk to it over loopback.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::request::Builder;
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use veche_access::Authority;
use veche_sfu_core::control::{Command, Event};
use veche_sfu_core::ids::RoomId;
use veche_signaling::{Media, Settings, Signaling};
use yawc::{Frame, HttpRequest, OpCode, Options, WebSocket};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server whose media plane the test plays.
pub(crate) struct Server {
    pub(crate) signaling: Signaling,
    pub(crate) address: SocketAddr,
    pub(crate) commands: flume::Receiver<(RoomId, Command)>,
    pub(crate) events: flume::Sender<Event>,
}

/// A client's WebSocket.
pub(crate) struct Client {
    socket: WebSocket<TcpStream>,
}

/// An HTTP answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: Value,
}

impl Server {
    pub(crate) async fn start(settings: Settings) -> Self {
        Self::start_with(settings, Authority::open()).await
    }

    /// One that asks for credentials, or not.
    pub(crate) async fn start_with(settings: Settings, authority: Authority) -> Self {
        let (media, commands) = Media::queue(1024);
        let (events, receiver) = flume::bounded(1024);
        let (signaling, _) = Signaling::start(settings, media, receiver, authority);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = signaling.router().into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { signaling, address, commands, events }
    }

    /// Connects with what stands behind the `?`.
    pub(crate) async fn connect(&self, query: &str) -> Client {
        self.connect_from(query, None).await.expect("the WebSocket opens")
    }

    /// The same as a page of an origin.
    pub(crate) async fn connect_from(&self, query: &str, origin: Option<&str>) -> Option<Client> {
        let io = TcpStream::connect(self.address).await.unwrap();
        let url = format!("ws://{}/realtime/webrtc/signaling?{query}", self.address).parse().unwrap();
        let mut request = HttpRequest::builder();
        if let Some(origin) = origin {
            request = request.header("Origin", origin);
        }
        self.handshake(url, io, request).await
    }

    /// Connects with a token in the header.
    pub(crate) async fn connect_with(&self, query: &str, token: &str) -> Client {
        let io = TcpStream::connect(self.address).await.unwrap();
        let url = format!("ws://{}/realtime/webrtc/signaling?{query}", self.address).parse().unwrap();
        let request = HttpRequest::builder().header("Authorization", format!("Bearer {token}"));
        self.handshake(url, io, request).await.expect("the WebSocket opens")
    }

    async fn handshake(&self, url: url::Url, io: TcpStream, request: Builder) -> Option<Client> {
        let options = Options::default().with_low_latency_compression();
        let socket = WebSocket::handshake_with_request(url, io, options, request).await.ok()?;
        Some(Client { socket })
    }

    /// Connects and takes the `joined` message.
    pub(crate) async fn join(&self, query: &str) -> (Client, Value) {
        let mut client = self.connect(query).await;
        let joined = client.receive().await;
        assert_eq!(joined["signal_type"], "joined", "{joined}");
        (client, joined)
    }

    /// Connects in vain: the code of the error, and that of the close.
    pub(crate) async fn refused(&self, query: &str) -> (String, u16) {
        let mut client = self.connect(query).await;
        let error = client.receive().await;
        (error["error"]["code"].as_str().unwrap_or_default().to_owned(), client.closed().await)
    }

    pub(crate) async fn command(&self) -> Command {
        let next = tokio::time::timeout(PATIENCE, self.commands.recv_async());
        next.await.expect("a command comes").unwrap().1
    }

    pub(crate) async fn event(&self, event: Event) {
        self.events.send_async(event).await.unwrap();
    }

    pub(crate) async fn request(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let body = body.map(|body| body.to_string());
        self.raw(method, path, "Content-Type: application/json\r\n", body.as_deref().unwrap_or_default())
            .await
    }

    pub(crate) async fn raw(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut io = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        io.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, io.read_to_end(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (headers, body) = answer.split_once("\r\n\r\n").unwrap();
        Answer {
            status: headers.split(' ').nth(1).unwrap().parse().unwrap(),
            headers: headers.to_lowercase(),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
        }
    }
}

impl Client {
    pub(crate) async fn send(&mut self, message: Value) {
        self.send_text(&message.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.socket.send(Frame::text(text.to_owned())).await.unwrap();
    }

    pub(crate) async fn send_binary(&mut self, bytes: &[u8]) {
        self.socket.send(Frame::binary(bytes.to_vec())).await.unwrap();
    }

    /// The next message.
    pub(crate) async fn receive(&mut self) -> Value {
        loop {
            let frame = self.frame().await.expect("the connection is open");
            match frame.opcode() {
                OpCode::Text => return serde_json::from_slice(frame.payload()).unwrap(),
                OpCode::Close => panic!("closed with {:?}", frame.close_code()),
                _ => {}
            }
        }
    }

    /// The next message, which has this type.
    pub(crate) async fn expect(&mut self, signal_type: &str) -> Value {
        let message = self.receive().await;
        assert_eq!(message["signal_type"], signal_type, "{message}");
        message
    }

    /// The code of the next message, which is an error.
    pub(crate) async fn error(&mut self) -> String {
        self.expect("error").await["error"]["code"].as_str().unwrap().to_owned()
    }

    /// Reads on to the close, and says its code.
    pub(crate) async fn closed(&mut self) -> u16 {
        loop {
            let frame = self.frame().await.expect("a close comes first");
            if frame.opcode() == OpCode::Close {
                return frame.close_code().map_or(1005, u16::from);
            }
        }
    }

    /// Makes sure that everything sent before has been taken.
    pub(crate) async fn round_trip(&mut self) {
        self.send(json!({ "signal_type": "ping", "id": 99 })).await;
        assert_eq!(self.receive().await, json!({ "signal_type": "pong", "id": 99 }));
    }

    async fn frame(&mut self) -> Option<Frame> {
        tokio::time::timeout(PATIENCE, self.socket.next_frame()).await.expect("something comes").ok()
    }
}
