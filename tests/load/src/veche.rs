//! Veche as a target: the signaling of signaling/PROTOCOL.md over a WebSocket.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use veche_sfu_core::media::{MediaKind, Source};

use crate::negotiation::Negotiation;
use crate::target::{Member, Target, Told};

/// How long the server may take to answer. A server under load is slow, but not so slow.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server.
#[derive(Clone, Debug)]
pub struct Veche {
    url: String,
    /// The size that pictures are shown at, in device pixels; 0 for as large as there is.
    size: (u32, u32),
}

/// A member of a room.
#[derive(Debug)]
pub struct VecheMember {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// What came while something else was waited for.
    told: VecDeque<Told>,
}

/// What of the server's messages matters here.
#[derive(Debug, Deserialize)]
#[serde(tag = "signal_type", rename_all = "kebab-case")]
enum FromServer {
    Joined,
    Answer {
        sdp: String,
    },
    Layers {
        mid: String,
        layers: Vec<LayerWish>,
    },
    Error {
        error: ErrorBody,
    },
    Connection {
        state: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
struct LayerWish {
    rid: Option<String>,
    active: bool,
}

#[derive(Debug, Deserialize)]
struct ErrorBody {
    code: String,
    message: String,
}

impl Veche {
    /// The server at an address such as `http://127.0.0.1:8000`.
    pub fn new(server: &str, size: (u32, u32)) -> Result<Self> {
        let base = server.trim_end_matches('/');
        let url = match base.split_once("://") {
            Some(("http" | "ws", rest)) => format!("ws://{rest}/realtime/webrtc/signaling"),
            Some((scheme, _)) => bail!("{server}: http:// is understood, {scheme}:// is not"),
            None => format!("ws://{base}/realtime/webrtc/signaling"),
        };
        Ok(Self { url, size })
    }
}

impl Target for Veche {
    type Member = VecheMember;

    const DUPLEX: bool = true;

    /// Rooms are made by joining them.
    async fn open_room(&self, _room: &str) -> Result<()> {
        Ok(())
    }

    async fn join(&self, room: &str, name: &str, negotiation: &mut Negotiation) -> Result<VecheMember> {
        let url = format!("{}?room_id={room}&peer_id={name}", self.url);
        let (socket, _) = timeout(PATIENCE, connect_async(url))
            .await
            .context("the server did not take the WebSocket in time")?
            .context("the server did not take the WebSocket")?;
        let mut member = VecheMember { socket, told: VecDeque::new() };
        member.until(|message| matches!(message, FromServer::Joined).then_some(())).await?;
        member.send(&offer(negotiation)).await?;
        let answer = member.until(|message| match message {
            FromServer::Answer { sdp } => Some(std::mem::take(sdp)),
            _ => None,
        });
        negotiation.accept(&answer.await?)?;
        if negotiation.slots().video > 0 {
            let (width, height) = self.size;
            let slots: Vec<Value> = negotiation
                .slot_mids(MediaKind::Video)
                .map(|mid| json!({"mid": mid, "width": width, "height": height}))
                .collect();
            member.send(&json!({"signal_type": "subscribe", "mode": "auto", "slots": slots})).await?;
        }
        Ok(member)
    }

    /// Rooms vanish when they are empty.
    async fn close_room(&self, _room: &str) -> Result<()> {
        Ok(())
    }
}

impl Member for VecheMember {
    async fn next(&mut self) -> Result<Told> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Ok(told);
            }
            let message = self.receive().await?;
            self.keep(message);
        }
    }

    async fn leave(mut self) -> Result<()> {
        self.send(&json!({"signal_type": "leave"})).await?;
        // The server closes; whatever it still says is of no interest.
        let closed = async { while self.receive().await.is_ok() {} };
        timeout(PATIENCE, closed).await.context("the server did not close in time")
    }
}

impl VecheMember {
    async fn send(&mut self, message: &Value) -> Result<()> {
        let text = message.to_string();
        self.socket.send(Message::text(text)).await.context("the WebSocket is lost")
    }

    /// Reads until something comes that is asked for; what matters later is kept.
    async fn until<T>(&mut self, mut asked_for: impl FnMut(&mut FromServer) -> Option<T>) -> Result<T> {
        let found = async {
            loop {
                let mut message = self.receive().await?;
                if let FromServer::Error { error } = &message {
                    bail!("the server says {}: {}", error.code, error.message);
                }
                if let Some(found) = asked_for(&mut message) {
                    return Ok(found);
                }
                self.keep(message);
            }
        };
        timeout(PATIENCE, found).await.context("the server did not answer in time")?
    }

    fn keep(&mut self, message: FromServer) {
        match message {
            FromServer::Layers { mid, layers } => {
                let wanted = layers.into_iter().map(|layer| (layer.rid, layer.active)).collect();
                self.told.push_back(Told::Layers { mid, wanted });
            }
            FromServer::Error { error } => {
                self.told.push_back(Told::Remark(format!("{}: {}", error.code, error.message)));
            }
            FromServer::Connection { state } if state != "connected" => {
                self.told.push_back(Told::Remark(format!("the media connection is {state}")));
            }
            _ => {}
        }
    }

    /// The next message. Pings are answered by the WebSocket while it is read.
    async fn receive(&mut self) -> Result<FromServer> {
        loop {
            match self.socket.next().await.context("the server closed the WebSocket")?? {
                Message::Text(text) => {
                    return serde_json::from_str(&text).with_context(|| format!("not understood: {text}"));
                }
                Message::Close(Some(frame)) => {
                    bail!("the server closed the WebSocket: {} {}", u16::from(frame.code), frame.reason)
                }
                _ => {}
            }
        }
    }
}

fn offer(negotiation: &Negotiation) -> Value {
    #[derive(Serialize)]
    struct Label<'a> {
        mid: &'a str,
        source: &'static str,
    }
    let source = |source| match source {
        Source::Microphone => "microphone",
        Source::Camera => "camera",
        Source::Screen => "screen",
        Source::ScreenAudio => "screen-audio",
    };
    let tracks: Vec<Label<'_>> = negotiation
        .published()
        .iter()
        .map(|track| Label { mid: &track.mid, source: source(track.source) })
        .collect();
    json!({"signal_type": "offer", "id": 1, "sdp": negotiation.offer(), "tracks": tracks})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_servers_are_understood() {
        let url = |server| Veche::new(server, (0, 0)).map(|veche| veche.url).ok();
        let expected = Some("ws://host:8000/realtime/webrtc/signaling".to_owned());
        assert_eq!(url("http://host:8000/"), expected);
        assert_eq!(url("host:8000"), expected);
        assert_eq!(url("https://host:8000"), None);
    }

    #[test]
    fn unknown_messages_are_passed_over_and_known_ones_kept() {
        let read = |text| serde_json::from_str::<FromServer>(text).unwrap();
        assert!(matches!(
            read(r#"{"signal_type":"participant-joined","participant":{}}"#),
            FromServer::Other
        ));
        assert!(matches!(read(r#"{"signal_type":"joined","peer_id":"a"}"#), FromServer::Joined));
        let layers = read(
            r#"{"signal_type":"layers","mid":"p0","layers":[{"rid":"q","active":true},{"active":false}]}"#,
        );
        let FromServer::Layers { layers, .. } = layers else { panic!("layers") };
        assert_eq!((layers[0].rid.as_deref(), layers[1].active), (Some("q"), false));
    }
}
