//! A server, and clients that talk to it over loopback.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use veche_access::{AccessSettings, Authority, NewToken, Secret, issue};
use veche_cameras::{Cameras, Counters, Settings};
use yawc::{Frame, HttpRequest, OpCode, Options, WebSocket};

/// Where the cameras of these stories are.
pub(crate) const CAMERAS: &str = "/realtime/webrtc/rooms/tea/cameras";

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    pub(crate) cameras: Cameras,
    pub(crate) address: SocketAddr,
}

/// An HTTP answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

/// A client's WebSocket.
pub(crate) struct Client(WebSocket<TcpStream>);

/// An answer that does not end.
pub(crate) struct Stream {
    io: TcpStream,
    text: String,
}

/// A picture of so many pixels, of one colour or of a source of ffmpeg's.
pub(crate) fn jpeg(source: &str, width: u32, height: u32) -> Vec<u8> {
    let input = if source.starts_with("test") || source == "mandelbrot" {
        format!("{source}=s={width}x{height}")
    } else {
        format!("color=c={source}:s={width}x{height}")
    };
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &input, "-frames:v", "1", "-q:v", "2", "-f", "mjpeg", "-"])
        .stdin(Stdio::null())
        .output()
        .expect("ffmpeg runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    made.stdout
}

pub(crate) fn from_base64(text: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

fn access() -> AccessSettings {
    AccessSettings {
        required: true,
        secrets: vec![Secret::Text("a secret of at least 32 bytes, for tests".into())],
        ..AccessSettings::default()
    }
}

impl Server {
    pub(crate) async fn start(settings: Settings) -> Self {
        Self::start_with(settings, Authority::open()).await
    }

    /// One that asks for tokens.
    pub(crate) async fn start_closed() -> Self {
        Self::start_with(Settings::default(), Authority::new(&access(), None).unwrap()).await
    }

    async fn start_with(settings: Settings, authority: Authority) -> Self {
        let settings = Settings { requests_per_second: 0, ..settings };
        let cameras = Cameras::start(settings, authority);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = cameras.router().into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { cameras, address }
    }

    /// A token of a user who may look, and send if they are not eve.
    pub(crate) fn token(user_id: &str) -> String {
        let actions =
            if user_id == "eve" { json!(["subscribe"]) } else { json!(["subscribe", "publish_video"]) };
        let grants = serde_json::from_value(json!({ "rooms": { "tea": actions } })).unwrap();
        let new = NewToken {
            user_id: Some(user_id.to_owned()),
            name: None,
            grants: Some(grants),
            lifetime: Duration::from_mins(1),
        };
        issue(&access(), &new, SystemTime::now()).unwrap()
    }

    pub(crate) async fn get(&self, path: &str, headers: &str) -> Answer {
        self.request("GET", path, headers, b"").await
    }

    pub(crate) async fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Answer {
        self.request("POST", path, &format!("Content-Type: {content_type}\r\n"), body).await
    }

    pub(crate) async fn request(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut io = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "{method} {CAMERAS}{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        io.write_all(head.as_bytes()).await.unwrap();
        // Who is refused early may find the line closed.
        let _ = io.write_all(body).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, io.read_to_end(&mut answer)).await.expect("it answers");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer has a head") + 4;
        let body = answer.split_off(end);
        let head = String::from_utf8(answer).unwrap().to_lowercase();
        Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body }
    }

    /// Begins to read an answer that does not end.
    pub(crate) async fn stream(&self, path: &str) -> Stream {
        let mut io = TcpStream::connect(self.address).await.unwrap();
        // The old version has no chunks.
        let head = format!("GET {CAMERAS}{path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
        io.write_all(head.as_bytes()).await.unwrap();
        Stream { io, text: String::new() }
    }

    pub(crate) async fn connect(&self, path: &str) -> Client {
        let io = TcpStream::connect(self.address).await.unwrap();
        let url = format!("ws://{}{CAMERAS}{path}", self.address).parse().unwrap();
        let options = Options::default().with_limits(16 << 20, 16 << 20);
        let socket = WebSocket::handshake_with_request(url, io, options, HttpRequest::builder()).await;
        Client(socket.expect("the WebSocket opens"))
    }

    /// Waits until the counters are like this.
    pub(crate) async fn until(&self, are: impl Fn(Counters) -> bool) {
        let all = async {
            while !are(self.cameras.counters()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, all).await;
        assert!(waited.is_ok(), "{:?}", self.cameras.counters());
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> String {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|line| line.0 == name).map(|line| line.1.to_owned()).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The code of an error.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Stream {
    /// The data of the next event.
    pub(crate) async fn event(&mut self) -> String {
        loop {
            if let Some((before, rest)) = self.text.split_once("\n\n") {
                let data = before.lines().find_map(|line| line.strip_prefix("data: ")).map(str::to_owned);
                let rest = rest.to_owned();
                self.text = rest;
                if let Some(data) = data {
                    return data;
                }
                continue;
            }
            let mut buffer = [0; 4096];
            let read =
                tokio::time::timeout(PATIENCE, self.io.read(&mut buffer)).await.expect("it goes on").unwrap();
            assert!(read > 0, "it ended with {}", self.text);
            self.text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
    }
}

impl Client {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.send(Frame::binary(bytes.to_vec())).await.unwrap();
    }

    /// The next message, which is JSON.
    pub(crate) async fn json(&mut self) -> Value {
        let frame = self.message().await;
        assert_eq!(frame.opcode(), OpCode::Text);
        serde_json::from_slice(frame.payload()).unwrap()
    }

    /// The next message, which is binary.
    pub(crate) async fn binary(&mut self) -> Vec<u8> {
        let frame = self.message().await;
        assert_eq!(frame.opcode(), OpCode::Binary, "{:?}", frame.payload());
        frame.payload().to_vec()
    }

    /// Reads on to the close, and says its code.
    pub(crate) async fn closed(&mut self) -> u16 {
        let frame = self.message().await;
        assert_eq!(frame.opcode(), OpCode::Close);
        frame.close_code().map_or(1005, u16::from)
    }

    async fn message(&mut self) -> Frame {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.0.next_frame()).await.expect("something comes");
            let frame = next.expect("the connection is open");
            if !matches!(frame.opcode(), OpCode::Ping | OpCode::Pong) {
                return frame;
            }
        }
    }
}
