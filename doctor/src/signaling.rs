//! A call as a client joins it: the signaling WebSocket, an offer, and the answer that tells where the media plane is.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::SinkExt as _;
use hyper::header::{AUTHORIZATION, HOST, USER_AGENT};
use serde_json::{Value, json};
use yawc::{Frame, HttpRequest, OpCode, Options, WebSocket, WebSocketError};

use crate::door::{AGENT, Door};
use crate::line::{Line, PATIENCE};

/// An offer of a data channel and nothing else. The fingerprint is nobody's, for no media is sent.
const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:vdoc\r\n\
a=ice-pwd:vechedoctorvechedoctor24\r\na=fingerprint:sha-256 \
00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n\
a=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\n";

/// The user name fragment in [`OFFER`].
pub(crate) const OWN_FRAGMENT: &str = "vdoc";

/// The largest message that is read.
const MAX_MESSAGE: usize = 1024 * 1024;

/// A client that has joined a room.
pub(crate) struct Session {
    socket: WebSocket<Line>,
}

/// Why it could not.
#[derive(Debug)]
pub(crate) enum JoinError {
    /// There is no connection.
    Unreachable(String),
    /// Something answered, but did not make a WebSocket of the connection.
    NoUpgrade { status: Option<u16>, got: String },
    /// The server speaks, and refuses.
    Refused { code: String, message: String },
    /// It opened, and then nothing or nonsense came.
    Broken(String),
}

/// Where the media plane is, and who may ask it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Media {
    pub(crate) fragment: String,
    pub(crate) password: String,
    /// In the order in which they are announced.
    pub(crate) udp: Vec<SocketAddr>,
    pub(crate) tcp: Vec<SocketAddr>,
}

impl Session {
    /// Connects, and waits until the server says that it has joined this room.
    pub(crate) async fn join(door: &Door, room: &str) -> Result<Self, JoinError> {
        let path = format!("/realtime/webrtc/signaling?room_id={room}&name=veche-doctor");
        let mut session = Self { socket: websocket(door, &path).await? };
        match session.expect("joined").await {
            Ok(_) => Ok(session),
            Err(error) => Err(error),
        }
    }

    /// Makes the offer and takes the answer apart.
    pub(crate) async fn offer(&mut self) -> Result<Media, JoinError> {
        self.send(&json!({ "signal_type": "offer", "id": 1, "sdp": OFFER })).await?;
        let answer = self.expect("answer").await?;
        Ok(Media::read(answer["sdp"].as_str().unwrap_or_default()))
    }

    /// Says nothing for a while, and then asks whether the connection is still there.
    pub(crate) async fn survives(&mut self, idle: Duration) -> Result<(), JoinError> {
        let silence = tokio::time::sleep(idle);
        tokio::pin!(silence);
        loop {
            tokio::select! {
                () = &mut silence => break,
                // Reading answers the server's pings, as every browser does.
                frame = self.socket.next_frame() => drop(frame.map_err(|error| broken(&error))?),
            }
        }
        self.send(&json!({ "signal_type": "ping", "id": 2 })).await?;
        self.expect("pong").await.map(drop)
    }

    /// Leaves for good.
    pub(crate) async fn leave(mut self) {
        let _ = self.send(&json!({ "signal_type": "leave" })).await;
    }

    async fn send(&mut self, message: &Value) -> Result<(), JoinError> {
        self.socket.send(Frame::text(message.to_string())).await.map_err(|error| broken(&error))
    }

    /// The next message of a type; others are passed over.
    async fn expect(&mut self, signal_type: &str) -> Result<Value, JoinError> {
        let wanted = async {
            loop {
                let frame = self.socket.next_frame().await.map_err(|error| broken(&error))?;
                match frame.opcode() {
                    OpCode::Text => {}
                    OpCode::Close => {
                        let code = frame.close_code().map_or(1005, u16::from);
                        return Err(JoinError::Broken(format!("a close with the code {code}")));
                    }
                    _ => continue,
                }
                let message: Value = serde_json::from_slice(frame.payload()).unwrap_or_default();
                match message["signal_type"].as_str() {
                    Some(kind) if kind == signal_type => return Ok(message),
                    Some("waiting") => return Err(refusal("waiting", "a moderator must let this client in")),
                    Some("error") => {
                        let text = |field: &str| message["error"][field].as_str().unwrap_or_default();
                        return Err(refusal(text("code"), text("message")));
                    }
                    _ => {}
                }
            }
        };
        let nothing = || JoinError::Broken(format!("no `{signal_type}` within {} s", PATIENCE.as_secs()));
        tokio::time::timeout(PATIENCE, wanted).await.map_err(|_| nothing())?
    }
}

/// A WebSocket at the server.
pub(crate) async fn websocket(door: &Door, path: &str) -> Result<WebSocket<Line>, JoinError> {
    let (line, _) = door.open().await.map_err(|error| JoinError::Unreachable(error.to_string()))?;
    let scheme = if door.target.is_secure() { "wss" } else { "ws" };
    let host = door.authority();
    let url = format!("{scheme}://{host}{path}");
    let url = url.parse().map_err(|error| JoinError::Unreachable(format!("{url}: {error}")))?;
    let mut request = HttpRequest::builder().header(HOST, host).header(USER_AGENT, AGENT);
    if let Some(token) = door.token() {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let options = Options::default().with_limits(MAX_MESSAGE, MAX_MESSAGE);
    let handshake = WebSocket::handshake_with_request(url, line, options, request);
    match tokio::time::timeout(PATIENCE, handshake).await {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(error)) => Err(no_upgrade(&error)),
        Err(_) => Err(JoinError::NoUpgrade { status: None, got: "nothing".to_owned() }),
    }
}

/// Addresses of one protocol that are looked at: a server has a few.
const MAX_CANDIDATES: usize = 32;

impl Media {
    /// What an answer says of the transport.
    fn read(sdp: &str) -> Self {
        let mut media = Self::default();
        for line in sdp.lines().map(str::trim_end) {
            if let Some(fragment) = line.strip_prefix("a=ice-ufrag:") {
                fragment.clone_into(&mut media.fragment);
            } else if let Some(password) = line.strip_prefix("a=ice-pwd:") {
                password.clone_into(&mut media.password);
            } else if let Some((is_tcp, address)) = line.strip_prefix("a=candidate:").and_then(candidate) {
                let list = if is_tcp { &mut media.tcp } else { &mut media.udp };
                if !list.contains(&address) && list.len() < MAX_CANDIDATES {
                    list.push(address);
                }
            }
        }
        media
    }
}

/// `foundation component transport priority address port …` (RFC 8839 section 5.1).
fn candidate(text: &str) -> Option<(bool, SocketAddr)> {
    let fields: Vec<&str> = text.split(' ').collect();
    let [_, _, transport, _, ip, port, ..] = fields[..] else { return None };
    let address = SocketAddr::new(ip.parse().ok()?, port.parse().ok()?);
    Some((transport.eq_ignore_ascii_case("tcp"), address))
}

fn refusal(code: &str, message: &str) -> JoinError {
    JoinError::Refused { code: code.to_owned(), message: message.to_owned() }
}

pub(crate) fn broken(error: &WebSocketError) -> JoinError {
    JoinError::Broken(error.to_string())
}

fn no_upgrade(error: &WebSocketError) -> JoinError {
    let status = match error {
        WebSocketError::InvalidStatusCode(status) => Some(*status),
        _ => None,
    };
    let got = match error {
        WebSocketError::InvalidStatusCode(status) => format!("status {status} instead of 101"),
        WebSocketError::Redirected { status_code, location } => {
            format!("status {status_code}, a redirection to {location}")
        }
        WebSocketError::InvalidUpgradeHeader => "status 101 without `Upgrade: websocket`".to_owned(),
        WebSocketError::InvalidConnectionHeader => "status 101 without `Connection: upgrade`".to_owned(),
        other => other.to_string(),
    };
    JoinError::NoUpgrade { status, got }
}

impl std::fmt::Display for JoinError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(got) | Self::Broken(got) | Self::NoUpgrade { got, .. } => f.write_str(got),
            Self::Refused { code, message } => write!(f, "{code}: {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_where_the_media_plane_is() {
        let sdp = "v=0\r\na=ice-lite\r\na=ice-ufrag:evtj\r\na=ice-pwd:VOkJxbRl1RmTxUk/WvJxBt\r\n\
                   a=candidate:1 1 udp 2130706431 203.0.113.5 40000 typ host\r\n\
                   a=candidate:2 1 UDP 2130706430 2001:db8::5 40000 typ host\r\n\
                   a=candidate:3 1 tcp 1 203.0.113.5 40000 typ host tcptype passive\r\n\
                   a=candidate:nonsense\r\na=candidate:4 1 udp 1 host.local 5 typ host\r\n";
        let media = Media::read(sdp);
        assert_eq!((&*media.fragment, &*media.password), ("evtj", "VOkJxbRl1RmTxUk/WvJxBt"));
        let shown: Vec<String> = media.udp.iter().chain(&media.tcp).map(ToString::to_string).collect();
        assert_eq!(shown, ["203.0.113.5:40000", "[2001:db8::5]:40000", "203.0.113.5:40000"]);
    }
}
