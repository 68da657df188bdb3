//! The chat with rooms: `set_username`, `join`, `message` and `leave`. A room is the channel `chat:<room>`, and what is
//! said in it are objects of the chat's own.

use serde::Serialize;
use serde_json::value::to_raw_value;
use veche_access::{Action as Permission, Identity, Resource};
use veche_doors::{Error, ErrorKind};
use veche_hub::{Body, ChannelName, Connection, Publication, Subscribe, Timestamp};

use crate::clock::rfc3339;
use crate::protocol::answer::refusal;
use crate::protocol::message::UNASKED;
use crate::protocol::request::nobody;
use crate::protocol::{Action, ServerMessage, request};
use crate::{Shared, check};

/// Where a connection is in the chat.
#[derive(Debug, Default)]
pub(crate) struct Chat {
    username: Option<String>,
    room: Option<Room>,
    used: bool,
}

#[derive(Debug)]
struct Room {
    name: String,
    channel: ChannelName,
    /// Whether the subscription is the client's own, made before it joined; then it stays.
    was_subscribed: bool,
}

/// What is said in a room.
#[derive(Serialize)]
struct Said<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a str>,
    timestamp: String,
}

impl Chat {
    /// Whether the connection has used an action.
    pub(crate) fn is_used(&self) -> bool {
        self.used
    }

    /// Something that somebody says.
    pub(crate) fn line(user: &str, message: &str, room: Option<&str>, now: Timestamp) -> Body {
        said("chat", Some(user), message, room, now)
    }

    /// Does what an action asks for, and says what there is to answer.
    pub(crate) fn act(
        &mut self,
        action: Action,
        shared: &Shared,
        identity: &Identity,
        connection: &Connection,
    ) -> Result<Option<ServerMessage>, Error> {
        self.used = true;
        match action {
            Action::SetUsername { username } => {
                let username = shared.check_name(&username)?.unwrap_or_else(nobody);
                connection.rename(&username, shared.now());
                let message = format!("Имя установлено: {username}");
                self.username = Some(username);
                return Ok(Some(ServerMessage::System { message }));
            }
            Action::Join { room } => self.join(&room, shared, identity, connection)?,
            Action::Message { text } => {
                let Some(room) = &self.room else {
                    return Err(Error::new(ErrorKind::BadRequest, "Вы не находитесь в комнате"));
                };
                check(identity, Permission::Send, Resource::Channel(room.channel.as_str()))?;
                let body = Self::line(&self.username(), &text, Some(&room.name), shared.now());
                say(shared, connection, &room.channel, body)?;
            }
            Action::Leave => self.leave(shared, connection),
        }
        Ok(None)
    }

    /// Leaves the room, if the connection is in one, and tells those who stay.
    pub(crate) fn leave(&mut self, shared: &Shared, connection: &Connection) {
        let Some(Room { name, channel, was_subscribed }) = self.room.take() else { return };
        let now = shared.now();
        if !was_subscribed {
            connection.unsubscribe(&channel, now);
        }
        let message = format!("{} покинул комнату", self.username());
        let body = said("system", None, &message, Some(&name), now);
        // A server that stops has nobody to tell.
        let _ = say(shared, connection, &channel, body);
    }

    fn join(
        &mut self,
        name: &str,
        shared: &Shared,
        identity: &Identity,
        connection: &Connection,
    ) -> Result<(), Error> {
        let channel = request::channel(&format!("chat:{name}"))?;
        for action in [Permission::Subscribe, Permission::Send] {
            check(identity, action, Resource::Channel(channel.as_str()))?;
        }
        self.leave(shared, connection);
        let now = shared.now();
        let was_subscribed = connection.is_subscribed(&channel);
        if !was_subscribed {
            let wish = Subscribe { kept: false, ..Subscribe::to(channel.clone()) };
            connection
                .subscribe(wish, Some(UNASKED.into()), now)
                .map_err(|error| refusal(error.code(), error.to_string()))?;
        }
        self.room = Some(Room { name: name.to_owned(), channel: channel.clone(), was_subscribed });
        let message = format!("{} присоединился к комнате", self.username());
        say(shared, connection, &channel, said("system", None, &message, Some(name), now))
    }

    fn username(&self) -> String {
        self.username.clone().unwrap_or_else(nobody)
    }
}

fn said(kind: &'static str, user: Option<&str>, message: &str, room: Option<&str>, now: Timestamp) -> Body {
    let said = Said { kind, user, message, room, timestamp: rfc3339(now) };
    Body::Verbatim(to_raw_value(&said).expect("an object with text keys is JSON"))
}

fn say(shared: &Shared, connection: &Connection, channel: &ChannelName, body: Body) -> Result<(), Error> {
    let publication = Publication::new(channel.clone(), body);
    connection
        .publish(publication, Some(UNASKED.into()), shared.now())
        .map_err(|error| refusal(error.code(), error.to_string()))
}
