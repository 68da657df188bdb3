//! Janus's video room as a target: its JSON API over a WebSocket.
//!
//! In a video room, who publishes offers, and who watches is offered everything on one other peer connection.

mod session;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::negotiation::Negotiation;
use crate::target::{Member, Target, Told};
use session::{Reply, Session};

/// More than anybody will have in a room.
const MAX_PUBLISHERS: u32 = 10_000;

/// How long the room may take to know of publishers whose connections are up already.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait before asking again for the publishers.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// A server.
#[derive(Debug)]
pub struct Janus {
    url: String,
    rooms: Mutex<HashMap<String, Arc<Room>>>,
}

#[derive(Debug)]
struct Room {
    /// Janus numbers its rooms.
    id: u64,
    /// The names of those who joined to publish.
    publishers: Mutex<Vec<String>>,
}

/// A member of a room, as publisher or as subscriber.
#[derive(Debug)]
pub struct JanusMember {
    session: Session,
    room: Arc<Room>,
    /// Of a publisher.
    publishes_as: Option<String>,
}

impl Janus {
    /// The server whose WebSocket is at an address such as `ws://127.0.0.1:8188`.
    pub fn new(server: &str) -> Result<Self> {
        let base = server.trim_end_matches('/');
        let url = match base.split_once("://") {
            Some(("ws", rest)) => format!("ws://{rest}/"),
            Some((scheme, _)) => bail!("{server}: ws:// is understood, {scheme}:// is not"),
            None => format!("ws://{base}/"),
        };
        Ok(Self { url, rooms: Mutex::default() })
    }

    fn room(&self, name: &str) -> Result<Arc<Room>> {
        let rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.get(name).cloned().with_context(|| format!("the room {name} was not made"))
    }
}

impl Target for Janus {
    type Member = JanusMember;

    const DUPLEX: bool = false;

    async fn open_room(&self, room: &str) -> Result<()> {
        let mut session = Session::open(&self.url).await?;
        // Nothing is held back: no limit for what publishers send, no key frames but those that are asked for.
        let create = json!({
            "request": "create", "description": room, "publishers": MAX_PUBLISHERS, "bitrate": 0, "fir_freq": 0,
            "audiocodec": "opus", "videocodec": "vp8,h264,vp9,av1,h265",
        });
        let created = session.request(create, None).await?.data;
        let id = created["room"].as_u64().with_context(|| format!("Janus made no room: {created}"))?;
        let made = Arc::new(Room { id, publishers: Mutex::default() });
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner).insert(room.to_owned(), made);
        session.close().await
    }

    async fn join(&self, room: &str, name: &str, negotiation: &mut Negotiation) -> Result<JanusMember> {
        let room = self.room(room)?;
        let mut session = Session::open(&self.url).await?;
        let publishes = !negotiation.published().is_empty();
        if publishes {
            publish(&mut session, room.id, name, negotiation).await?;
            room.names().push(name.to_owned());
        } else {
            let feeds = feeds(&mut session, &room, name).await?;
            watch(&mut session, room.id, &feeds, negotiation).await?;
        }
        Ok(JanusMember { session, room, publishes_as: publishes.then(|| name.to_owned()) })
    }

    async fn close_room(&self, room: &str) -> Result<()> {
        let id = self.room(room)?.id;
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner).remove(room);
        let mut session = Session::open(&self.url).await?;
        session.request(json!({"request": "destroy", "room": id}), None).await?;
        session.close().await
    }
}

impl Member for JanusMember {
    async fn next(&mut self) -> Result<Told> {
        loop {
            let message = self.session.next().await?;
            match message["janus"].as_str() {
                Some("hangup") => return Ok(Told::Remark(format!("hung up: {}", message["reason"]))),
                Some("timeout") => bail!("the session timed out"),
                Some("error") => return Ok(Told::Remark(message["error"]["reason"].to_string())),
                _ => {}
            }
        }
    }

    async fn leave(self) -> Result<()> {
        if let Some(name) = self.publishes_as {
            self.room.names().retain(|other| *other != name);
        }
        self.session.close().await
    }
}

impl Room {
    fn names(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.publishers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn publish(session: &mut Session, room: u64, name: &str, negotiation: &mut Negotiation) -> Result<()> {
    let join = json!({"request": "joinandconfigure", "ptype": "publisher", "room": room, "display": name});
    let offer = json!({"type": "offer", "sdp": negotiation.offer()});
    let joined = session.request(join, Some(offer)).await?;
    negotiation.accept(&description(joined)?)
}

/// The feeds of all who publish but of `name`. Janus counts somebody as publishing a little after the client does.
async fn feeds(session: &mut Session, room: &Room, name: &str) -> Result<Vec<u64>> {
    let until = Instant::now() + PATIENCE;
    loop {
        let ask = json!({"request": "listparticipants", "room": room.id});
        let listed = session.request(ask, None).await?.data;
        let publishing: HashMap<&str, u64> = publishing(&listed);
        let others: Vec<String> = room.names().iter().filter(|other| *other != name).cloned().collect();
        let feeds: Option<Vec<u64>> =
            others.iter().map(|other| publishing.get(&other[..]).copied()).collect();
        match feeds {
            Some(feeds) if !feeds.is_empty() => return Ok(feeds),
            _ if Instant::now() > until => {
                bail!("of {} others in the room {} publish", others.len(), publishing.len());
            }
            _ => sleep(ASK_AGAIN).await,
        }
    }
}

/// The ids of those who publish, by their names.
fn publishing(listed: &Value) -> HashMap<&str, u64> {
    let participants = listed["participants"].as_array().into_iter().flatten();
    participants
        .filter(|participant| participant["publisher"] == true)
        .filter_map(|participant| Some((participant["display"].as_str()?, participant["id"].as_u64()?)))
        .collect()
}

async fn watch(session: &mut Session, room: u64, feeds: &[u64], negotiation: &mut Negotiation) -> Result<()> {
    let streams: Vec<Value> = feeds.iter().map(|feed| json!({"feed": feed})).collect();
    let join = json!({"request": "join", "ptype": "subscriber", "room": room, "streams": streams});
    let attached = session.request(join, None).await?;
    let answer = negotiation.answer(&description(attached)?)?;
    let start = json!({"request": "start", "room": room});
    session.request(start, Some(json!({"type": "answer", "sdp": answer}))).await?;
    Ok(())
}

fn description(reply: Reply) -> Result<String> {
    reply.sdp.with_context(|| format!("Janus sent no session description: {}", reply.data))
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt, StreamExt};
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_tungstenite::accept_hdr_async;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
    use veche_sfu_core::ids::Ssrc;
    use veche_sfu_core::media::{Codec, MediaKind, Source};
    use veche_sfu_core::sdp::Fingerprint;

    use super::*;
    use crate::negotiation::{Feedback, PublishedLayer, PublishedTrack, Slots};

    const TRANSPORT: &str = "v=0\r\na=ice-lite\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=setup:passive\r\n\
        a=fingerprint:sha-256 00:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:\
        11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F:20\r\na=candidate:1 1 udp 9 192.0.2.2 5000 typ host\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:p0\r\na=rtpmap:111 opus/48000/2\r\na=ssrc:7 cname:janus\r\n";

    /// As much of a video room as the adapter can see: who joined to publish is listed at once, but counts as publishing
    /// only when the list is asked for once more.
    #[derive(Clone, Debug, Default)]
    struct VideoRoom(Arc<Mutex<RoomState>>);

    #[derive(Debug, Default)]
    struct RoomState {
        /// Names and how often each was listed; ids are places plus 100.
        joined: Vec<(String, usize)>,
        requests: Vec<Value>,
    }

    impl VideoRoom {
        async fn start() -> (Self, String) {
            let room = Self::default();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("ws://{}", listener.local_addr().unwrap());
            let serving = room.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serving.clone().serve(stream));
                }
            });
            (room, url)
        }

        async fn serve(self, stream: TcpStream) {
            let mut socket = accept_hdr_async(stream, same_protocol).await.unwrap();
            while let Some(Ok(Message::Text(text))) = socket.next().await {
                let message: Value = serde_json::from_str(&text).unwrap();
                // What Janus tells of its own comes between.
                let mut answers = vec![json!({"janus": "webrtcup"})];
                if message["janus"] == "message" {
                    assert_eq!((&message["session_id"], &message["handle_id"]), (&json!(11), &json!(11)));
                    answers.push(json!({"janus": "ack", "transaction": message["transaction"]}));
                }
                let mut answer = self.answer(&message);
                answer["transaction"] = message["transaction"].clone();
                answers.push(answer);
                for answer in answers {
                    let _ = socket.send(Message::text(answer.to_string())).await;
                }
            }
        }

        fn answer(&self, message: &Value) -> Value {
            let mut state = self.0.lock().unwrap();
            let body = &message["body"];
            state.requests.push(message.clone());
            let (data, sdp) = match body["request"].as_str() {
                None => return json!({"janus": "success", "data": {"id": 11}}),
                Some("create") => (json!({"videoroom": "created", "room": 5}), None),
                Some("joinandconfigure") => {
                    state.joined.push((body["display"].as_str().unwrap().to_owned(), 0));
                    (json!({"videoroom": "joined"}), Some(TRANSPORT))
                }
                Some("listparticipants") => {
                    let listed = state.joined.iter_mut().enumerate().map(|(place, (name, times))| {
                        *times += 1;
                        json!({"id": place + 100, "display": name, "publisher": *times > 1})
                    });
                    (json!({"participants": listed.collect::<Vec<_>>()}), None)
                }
                Some("join") => (json!({"videoroom": "attached"}), Some(TRANSPORT)),
                Some("start") => (json!({"started": "ok"}), None),
                Some("destroy") => (json!({"error": "No such room (5)", "error_code": 426}), None),
                Some(other) => panic!("{other} is not expected"),
            };
            json!({"janus": "event", "plugindata": {"data": data}, "jsep": sdp.map(|sdp| json!({"sdp": sdp}))})
        }

        fn requests(&self, request: &str) -> Vec<Value> {
            let state = self.0.lock().unwrap();
            state.requests.iter().filter(|message| message["body"]["request"] == request).cloned().collect()
        }
    }

    #[expect(clippy::result_large_err, clippy::unnecessary_wraps, reason = "so the library wants it")]
    fn same_protocol(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        const NAME: &str = "Sec-WebSocket-Protocol";
        response.headers_mut().insert(NAME, request.headers()[NAME].clone());
        Ok(response)
    }

    fn negotiation(published: Vec<PublishedTrack>, slots: Slots) -> Negotiation {
        let mut rng = StdRng::seed_from_u64(1);
        Negotiation::new(Fingerprint([7; 32]), published, slots, Feedback::TransportCc, None, &mut rng)
    }

    fn microphone() -> Negotiation {
        let layer = PublishedLayer { rid: None, ssrc: Ssrc(30), rtx_ssrc: Ssrc(31) };
        let source = Source::Microphone;
        let track = PublishedTrack { mid: "p0".to_owned(), source, codec: Codec::Opus, layers: vec![layer] };
        negotiation(vec![track], Slots::default())
    }

    #[tokio::test]
    async fn who_watches_is_offered_all_others_as_soon_as_they_publish() {
        let (room, url) = VideoRoom::start().await;
        let janus = Janus::new(&url).unwrap();
        janus.open_room("lobby").await.unwrap();
        for name in ["anna", "boris"] {
            let mut publisher = microphone();
            janus.join("lobby", name, &mut publisher).await.unwrap();
            assert!(publisher.agreement().is_some());
        }
        let mut watching = negotiation(Vec::new(), Slots { audio: 2, ..Slots::default() });
        let member = janus.join("lobby", "anna", &mut watching).await.unwrap();
        let received = &watching.agreement().unwrap().received;
        assert_eq!(
            received.iter().map(|r| (r.ssrc, r.kind)).collect::<Vec<_>>(),
            [(Ssrc(7), MediaKind::Audio)]
        );

        let join = &room.requests("join")[0];
        assert_eq!(join["body"]["streams"], json!([{"feed": 101}]), "not what anna sends herself");
        let start = &room.requests("start")[0];
        assert!(start["jsep"]["sdp"].as_str().unwrap().contains("a=recvonly"));
        member.leave().await.unwrap();
        let error = janus.close_room("lobby").await.unwrap_err();
        assert_eq!(error.to_string(), "Janus refuses 'destroy': No such room (5) (426)");
    }

    #[test]
    fn addresses_of_servers_are_understood() {
        let url = |server| Janus::new(server).map(|janus| janus.url).ok();
        let expected = Some("ws://host:8188/".to_owned());
        assert_eq!(url("ws://host:8188/"), expected);
        assert_eq!(url("host:8188"), expected);
        assert_eq!(url("wss://host:8188"), None);
    }
}
