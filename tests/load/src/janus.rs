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
        let feeds: Option<Vec<u64>> = others.iter().map(|other| publishing.get(&other[..]).copied()).collect();
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
    use super::*;

    #[test]
    fn addresses_of_servers_are_understood() {
        let url = |server| Janus::new(server).map(|janus| janus.url).ok();
        let expected = Some("ws://host:8188/".to_owned());
        assert_eq!(url("ws://host:8188/"), expected);
        assert_eq!(url("host:8188"), expected);
        assert_eq!(url("wss://host:8188"), None);
    }

    #[test]
    fn only_those_who_publish_are_feeds() {
        let listed = json!({"videoroom": "participants", "participants": [
            {"id": 7, "display": "anna", "publisher": true},
            {"id": 8, "display": "boris", "publisher": false},
            {"id": 9, "publisher": true},
        ]});
        assert_eq!(publishing(&listed), HashMap::from([("anna", 7)]));
    }
}
