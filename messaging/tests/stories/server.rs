//! An in-process server, and clients that talk to it over loopback.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use futures_util::SinkExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use veche_access::{AccessSettings, Authority, NewToken, Secret, issue};
use veche_files::{FileSettings, Files};
use veche_hub::HubSettings;
use veche_messaging::{Messaging, Parts, Settings};
use veche_storage::{Database, StorageSettings};
use yawc::{Frame, HttpRequest, OpCode, Options, WebSocket};

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A server with storage in a folder that lives as long as it.
pub(crate) struct Server {
    pub(crate) messaging: Messaging,
    pub(crate) database: Database,
    pub(crate) address: SocketAddr,
    pub(crate) access: AccessSettings,
    folder: TempDir,
}

/// What a server of a test is to be like.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) settings: Settings,
    pub(crate) channels: HubSettings,
    pub(crate) access: AccessSettings,
}

/// A client's WebSocket.
pub(crate) struct Client {
    socket: WebSocket<TcpStream>,
    /// How long it waits for a frame.
    pub(crate) patience: Duration,
}

/// A client's stream of events.
pub(crate) struct Stream {
    lines: BufReader<TcpStream>,
    pub(crate) head: String,
}

/// An event of a stream.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

/// An HTTP answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: Value,
}

/// Settings of access that ask everybody for a token, signed with a secret of the test.
pub(crate) fn required() -> AccessSettings {
    AccessSettings {
        required: true,
        secrets: vec![Secret::Text("a secret of a test, long enough for HS256".into())],
        ..AccessSettings::default()
    }
}

/// Settings of access that let everybody in, and know those who show a token.
pub(crate) fn known() -> AccessSettings {
    AccessSettings { required: false, ..required() }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        Self::open(setup, tempfile::tempdir().unwrap()).await
    }

    async fn open(setup: Setup, folder: TempDir) -> Self {
        let Setup { settings, channels, access } = setup;
        let data: &Path = folder.path();
        let database = Database::open(&StorageSettings::default(), data).await.unwrap();
        let clock = veche_files::Clock::system();
        let files = Files::open(FileSettings::default(), data, database.clone(), clock).await.unwrap();
        let authority = Authority::new(&access, None).unwrap();
        let parts = Parts { channels, authority, files: Some(files), database: Some(database.clone()) };
        let messaging = Messaging::start(settings, parts).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = messaging.router().into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { messaging, database, address, access, folder }
    }

    /// Stops as a server does that is told to, and starts again with the same data.
    pub(crate) async fn restart(self, setup: Setup) -> Self {
        self.messaging.stop().await;
        self.database.close().await;
        Self::open(setup, self.folder).await
    }

    /// A token of a user, good for a while.
    pub(crate) fn token(&self, user_id: &str, lifetime: Duration) -> String {
        self.token_at(user_id, lifetime, SystemTime::now())
    }

    /// The same made at another time.
    pub(crate) fn token_at(&self, user_id: &str, lifetime: Duration, at: SystemTime) -> String {
        let new = NewToken { user_id: Some(user_id.into()), lifetime, ..NewToken::default() };
        issue(&self.access, &new, at).unwrap()
    }

    /// A token of a user with these grants, good for ten minutes.
    pub(crate) fn granted(&self, user_id: &str, grants: Value) -> String {
        let grants = Some(serde_json::from_value(grants).unwrap());
        let lifetime = Duration::from_mins(10);
        let new = NewToken { user_id: Some(user_id.into()), lifetime, grants, ..NewToken::default() };
        issue(&self.access, &new, SystemTime::now()).unwrap()
    }

    /// Connects with what stands behind the `?`.
    pub(crate) async fn connect(&self, query: &str) -> Client {
        self.connect_with(query, &[]).await.expect("the WebSocket opens")
    }

    /// The same with headers.
    pub(crate) async fn connect_with(&self, query: &str, headers: &[(&str, &str)]) -> Option<Client> {
        self.handshake(query, headers, false).await
    }

    /// The same by a client that speaks permessage-deflate.
    pub(crate) async fn connect_compressed(&self) -> Client {
        self.handshake("", &[], true).await.expect("the WebSocket opens")
    }

    async fn handshake(&self, query: &str, headers: &[(&str, &str)], compressed: bool) -> Option<Client> {
        let io = TcpStream::connect(self.address).await.unwrap();
        let url = format!("ws://{}/realtime/ws?{query}", self.address).parse().unwrap();
        let mut request = HttpRequest::builder();
        for &(name, value) in headers {
            request = request.header(name, value);
        }
        let options = Options::default().with_limits(1 << 28, 1 << 28);
        let options =
            if compressed { options.with_low_latency_compression() } else { options.without_compression() };
        let socket = WebSocket::handshake_with_request(url, io, options, request).await.ok()?;
        Some(Client { socket, patience: PATIENCE })
    }

    /// Connects and takes the `welcome`.
    pub(crate) async fn join(&self, query: &str) -> (Client, Value) {
        let mut client = self.connect(query).await;
        let welcome = client.expect("welcome").await;
        (client, welcome)
    }

    /// Connects and subscribes to a channel.
    pub(crate) async fn subscriber(&self, channel: &str) -> Client {
        let (mut client, _) = self.join("").await;
        client.subscribe(channel).await;
        client
    }

    /// A stream of events; panics unless it opens.
    pub(crate) async fn stream(&self, query: &str, headers: &str) -> Stream {
        let mut io = TcpStream::connect(self.address).await.unwrap();
        let request =
            format!("GET /realtime/events?{query} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.address);
        io.write_all(request.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(io);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(lines.read_line(&mut head).await.unwrap(), 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        Stream { lines, head: head.to_lowercase() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.raw("GET", path, "", b"").await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.post_with(path, "", body).await
    }

    pub(crate) async fn post_with(&self, path: &str, headers: &str, body: Value) -> Answer {
        let headers = format!("Content-Type: application/json\r\n{headers}");
        self.raw("POST", path, &headers, body.to_string().as_bytes()).await
    }

    pub(crate) async fn raw(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut io = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        io.write_all(request.as_bytes()).await.unwrap();
        // A server that refuses a body need not read it.
        let _ = io.write_all(body).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, io.read_to_end(&mut answer)).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (headers, body) = answer.split_once("\r\n\r\n").unwrap();
        Answer {
            status: headers.split(' ').nth(1).unwrap().parse().unwrap(),
            headers: headers.to_lowercase(),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
        }
    }
}

impl Answer {
    /// The code of an error.
    pub(crate) fn code(&self) -> (u16, &str) {
        (self.status, self.body["error"]["code"].as_str().unwrap_or_default())
    }
}

impl Client {
    pub(crate) async fn send(&mut self, message: Value) {
        self.send_text(&message.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.socket.send(Frame::text(text.to_owned())).await.unwrap();
    }

    /// Sends all of these before it reads anything.
    pub(crate) async fn send_at_once(&mut self, frames: Vec<Frame>) {
        self.try_send_at_once(frames).await.unwrap();
    }

    /// The same to a server that may not take it all.
    pub(crate) async fn try_send_at_once(&mut self, frames: Vec<Frame>) -> yawc::Result<()> {
        for frame in frames {
            self.socket.feed(frame).await?;
        }
        self.socket.flush().await
    }

    pub(crate) async fn send_binary(&mut self, bytes: Vec<u8>) {
        self.socket.send(Frame::binary(bytes)).await.unwrap();
    }

    /// Subscribes, and takes the answer.
    pub(crate) async fn subscribe(&mut self, channel: &str) -> Value {
        self.send(json!({ "type": "subscribe", "channel": channel })).await;
        self.expect("subscribed").await
    }

    /// The next message.
    pub(crate) async fn receive(&mut self) -> Value {
        let frame = self.frame().await;
        assert_eq!(frame.opcode(), OpCode::Text);
        serde_json::from_slice(frame.payload()).unwrap()
    }

    /// The next binary frame.
    pub(crate) async fn receive_binary(&mut self) -> Vec<u8> {
        let frame = self.frame().await;
        assert_eq!(frame.opcode(), OpCode::Binary, "{:?}", std::str::from_utf8(frame.payload()));
        frame.payload().to_vec()
    }

    /// The next message, which has this type.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let message = self.receive().await;
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// The code of the next message, which is an error.
    pub(crate) async fn error(&mut self) -> String {
        let error = self.expect("error").await;
        assert_eq!(error["message"], error["error"]["message"]);
        error["error"]["code"].as_str().unwrap().to_owned()
    }

    /// Sends a message and says the code of the error that answers it.
    pub(crate) async fn refused(&mut self, message: Value) -> String {
        self.send(message).await;
        self.error().await
    }

    /// Reads on to the close, and says its code and reason.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            let frame = self.any_frame().await.expect("a close comes first");
            if frame.opcode() == OpCode::Close {
                let code = frame.close_code().expect("the server says why");
                let reason = frame.close_reason().unwrap().unwrap_or_default().to_owned();
                return (code.into(), reason);
            }
        }
    }

    /// Makes sure that nothing else came before the answer to a ping.
    pub(crate) async fn silent(&mut self) {
        self.send(json!({ "type": "ping", "id": "silent" })).await;
        assert_eq!(self.expect("pong").await["id"], "silent");
    }

    async fn frame(&mut self) -> Frame {
        loop {
            let frame = self.any_frame().await.expect("the connection is open");
            match frame.opcode() {
                OpCode::Text | OpCode::Binary => return frame,
                OpCode::Close => panic!("closed with {:?}", frame.close_code()),
                _ => {}
            }
        }
    }

    /// The next frame of any kind; `None`: the connection is gone.
    pub(crate) async fn any_frame(&mut self) -> Option<Frame> {
        tokio::time::timeout(self.patience, self.socket.next_frame()).await.expect("something comes").ok()
    }
}

impl Stream {
    /// The next event, comments passed over; `None`: the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                if event.name.is_empty() {
                    continue;
                }
                return Some(event);
            }
            match line.split_once(": ") {
                Some(("event", name)) => name.clone_into(&mut event.name),
                Some(("id", id)) => event.id = Some(id.to_owned()),
                Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                _ => {}
            }
        }
    }

    /// The next event, which has this name.
    pub(crate) async fn expect(&mut self, name: &str) -> Event {
        let event = self.next().await.expect("an event comes");
        assert_eq!(event.name, name, "{event:?}");
        event
    }

    /// The next line of the text of the stream, with the sizes of HTTP's chunks taken out; `None`: it has ended.
    pub(crate) async fn line(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line);
            tokio::time::timeout(PATIENCE, read).await.expect("a line comes").unwrap();
            if line == "0\r\n" || line.is_empty() {
                return None;
            }
            // Chunks begin and end with CRLF, the lines of events with LF alone.
            if !line.ends_with("\r\n") {
                return Some(line.trim_end_matches('\n').to_owned());
            }
        }
    }
}
