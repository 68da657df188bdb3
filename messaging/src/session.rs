//! What one connection does, whatever door it came through: takes a request, acts on the hub, and puts the answer in
//! the connection's outbox, in order with everything else that goes there.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use veche_access::{Action, Credential, Identity, Resource};
use veche_doors::{Error, ErrorKind};
use veche_hub::{
    Body, ChannelName, Connection, Disconnect, Door, HistoryQuery, Letter, Once, Outbox, Publication, Signal,
    Subscribe, Tag,
};

use crate::chat::Chat;
use crate::clock::rfc3339;
use crate::frame::{self, Target};
use crate::protocol::answer::{HistoryAnswer, Limits, PublishedAnswer, Welcome, json, refusal};
use crate::protocol::json::Unreadable;
use crate::protocol::message::Encoding;
use crate::protocol::request::{self, bad};
use crate::protocol::{ClientMessage, Content, Id, Publish, Recipient, Request, ServerMessage};
use crate::sending::{Outcome, Outgoing, once, to_hub};
use crate::{RoomRule, Shared, check, proto};

/// Messages that one answer to `history` has at most.
pub(crate) const MAX_HISTORY: usize = 1000;

/// Messages that one answer to `history` has where the client does not say how many.
pub(crate) const USUAL_HISTORY: usize = 100;

/// How often it is asked whether an API key is still good.
const KEY_CHECK: Duration = Duration::from_mins(1);

/// One connection's actions. Dropping it leaves all channels.
pub struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) identity: Identity,
    pub(crate) connection: Connection,
    door: Door,
    /// How answers are encoded.
    encoding: Encoding,
    /// The call's room that the connection is in, which says what it may do in its channels.
    room: Option<(Box<str>, RoomRule)>,
    chat: Chat,
    key_checked: Instant,
}

/// How it is with the credential of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Good,
    /// Its time is over.
    Expired,
    /// It is an API key that was revoked.
    Revoked,
}

/// What becomes of the connection after a request.
#[derive(Debug)]
pub enum Turn {
    /// It goes on.
    Continue,
    /// It is somebody else's from now on: the door starts a new session for them.
    Identify(Identity),
}

impl Session {
    pub(crate) fn start(
        shared: Arc<Shared>,
        door: Door,
        identity: Identity,
        name: Option<&str>,
    ) -> Result<(Self, Outbox), Error> {
        let who = shared.who(door, &identity, name)?;
        let (connection, outbox) = shared
            .hub
            .connect(who, shared.now())
            .map_err(|error| refusal(error.code(), error.to_string()))?;
        Ok((
            Self {
                shared,
                identity,
                connection,
                door,
                encoding: Encoding::Json,
                room: None,
                chat: Chat::default(),
                key_checked: Instant::now(),
            },
            outbox,
        ))
    }

    /// The hub's end of the connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whose it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Has this call's room, which the connection is in, say what it may do in `room:<id>` and the channels below it.
    pub fn enter_room(&mut self, room_id: &str, rule: RoomRule) {
        self.room = Some((room_id.into(), rule));
    }

    /// Answers in this encoding from now on, which is that of the outbox's reader; JSON before.
    pub fn speak(&mut self, encoding: Encoding) {
        self.encoding = encoding;
    }

    /// Says who the client is here, and what it may count on.
    pub fn welcome(&self) {
        let sender = self.connection.sender();
        let settings = &self.shared.settings;
        let rate = self.shared.doorkeeper.message_rate();
        let limits = Limits::new(settings, rate, self.shared.max_subscriptions);
        let heartbeat = settings.websocket_heartbeat_seconds;
        let welcome =
            Welcome::new(self.connection.id(), sender.name.clone(), self.shared.now(), limits, heartbeat);
        self.answer(&ServerMessage::Welcome(Welcome {
            user_id: self.identity.user_id.clone(),
            authenticated: self.identity.is_authenticated(),
            ..welcome
        }));
    }

    /// Takes a JSON text.
    pub async fn handle_text(&mut self, text: &str) -> Turn {
        match Request::from_json(text, &self.shared.settings) {
            Ok(request) => self.handle(request).await,
            Err(Unreadable::NoJson) if self.chat.is_used() => {
                self.shared.counters.bad_messages.add(1);
                self.refuse(Error::new(ErrorKind::BadJson, "Неверный формат JSON"), None);
                Turn::Continue
            }
            Err(Unreadable::NoJson) => {
                let timestamp = rfc3339(self.shared.now());
                let message = Some(text.to_owned());
                self.answer(&ServerMessage::Echo { id: None, original: None, message, timestamp });
                Turn::Continue
            }
            Err(Unreadable::Wrong(error, id)) => {
                self.shared.counters.bad_messages.add(1);
                self.refuse(error, id);
                Turn::Continue
            }
        }
    }

    /// Takes a binary WebSocket frame.
    pub async fn handle_frame(&mut self, bytes: &Bytes) -> Turn {
        let request = frame::parse_publish(bytes).map_err(|error| bad(error.to_string())).and_then(of_frame);
        self.handle_read(request.map_err(|error| (error, None))).await
    }

    /// Takes a `ClientMessage` of Protobuf.
    pub async fn handle_protobuf(&mut self, bytes: Bytes) -> Turn {
        let request = Request::from_protobuf(bytes, &self.shared.settings);
        self.handle_read(request).await
    }

    /// The same, decoded.
    pub(crate) async fn handle_message(&mut self, message: proto::ClientMessage) -> Turn {
        let request = Request::from_message(message, &self.shared.settings);
        self.handle_read(request).await
    }

    async fn handle_read(&mut self, request: Result<Request, (Error, Option<Id>)>) -> Turn {
        match request {
            Ok(request) => self.handle(request).await,
            Err((error, id)) => {
                self.shared.counters.bad_messages.add(1);
                self.refuse(error, id);
                Turn::Continue
            }
        }
    }

    /// Does what a client asks for. Whatever there is to say goes to the outbox.
    pub async fn handle(&mut self, request: Request) -> Turn {
        let Request { id, message } = request;
        if let Err(error) = self.shared.take_from_user(&self.identity) {
            self.refuse(error, id);
            return Turn::Continue;
        }
        match self.act(id.clone(), message).await {
            Ok(turn) => turn,
            Err(error) => {
                self.refuse(error, id);
                Turn::Continue
            }
        }
    }

    /// Says that something cannot be done; `id` is that of the request.
    pub fn refuse(&self, error: Error, id: Option<Id>) {
        tracing::debug!(connection = %self.connection.id(), %error, "refused");
        self.answer(&ServerMessage::error(error, id));
    }

    /// How it is with the credential. Doors ask at each turn, however much there is to do; that a key was revoked is seen
    /// within a minute.
    pub(crate) async fn standing(&mut self) -> Standing {
        if self.is_expired() {
            return Standing::Expired;
        }
        if self.identity.key_id.is_none() || self.key_checked.elapsed() < KEY_CHECK {
            return Standing::Good;
        }
        self.key_checked = Instant::now();
        let is_revoked = self.shared.authority.is_revoked(&self.identity).await;
        if is_revoked { Standing::Revoked } else { Standing::Good }
    }

    /// Until when at the latest to ask again how it is with the credential.
    pub(crate) fn until_standing(&self) -> Duration {
        self.identity.expires_at.map_or(KEY_CHECK, |end| {
            let left = end.duration_since(SystemTime::now()).unwrap_or_default();
            KEY_CHECK.min(left.saturating_add(Duration::from_millis(1)))
        })
    }

    /// Whether the credential has ended.
    pub(crate) fn is_expired(&self) -> bool {
        self.identity.is_expired(SystemTime::now())
    }

    /// Ends the connection after what waits, because the credential has ended.
    pub(crate) fn expire(&self) {
        self.connection.close(Disconnect::Expired);
    }

    pub(crate) fn answer(&self, message: &ServerMessage) {
        self.connection.answer(self.encoding.answer(message).into_bytes());
    }

    async fn act(&mut self, id: Tag, message: ClientMessage) -> Result<Turn, Error> {
        let now = self.shared.now();
        match message {
            ClientMessage::Authenticate(credential) => return self.authenticate(id, credential).await,
            ClientMessage::Subscribe { channel, filters, recover, presence } => {
                self.may(Action::Subscribe, &channel)?;
                let wish = Subscribe { filters, recover, presence, ..Subscribe::to(channel.clone()) };
                self.connection
                    .subscribe(wish, id, now)
                    .map_err(|error| refusal(error.code(), error.to_string()))?;
                // Who was sent away meanwhile was not subscribed yet when subscriptions were ended.
                if self.may(Action::Subscribe, &channel).is_err() {
                    self.connection.unsubscribe(&channel, now);
                    self.answer(&ServerMessage::Unsubscribed { id: None, channel });
                }
            }
            ClientMessage::Unsubscribe { channel } => {
                self.connection.unsubscribe(&channel, now);
                self.answer(&ServerMessage::Unsubscribed { id: json(id), channel });
            }
            ClientMessage::Publish(publish) => {
                self.may_send(&publish.to)?;
                self.publish(id, publish).await?;
            }
            ClientMessage::Presence { channel } => {
                self.may(Action::Subscribe, &channel)?;
                let list = self.shared.hub.presence(&channel);
                self.answer(&ServerMessage::presence(id, channel, &list));
            }
            ClientMessage::History { channel, since, epoch, limit } => {
                self.may(Action::Subscribe, &channel)?;
                let query =
                    HistoryQuery { since, epoch, limit: limit.unwrap_or(USUAL_HISTORY).min(MAX_HISTORY) };
                let history = self.shared.hub.history(&channel, query, now);
                self.answer(&ServerMessage::History(HistoryAnswer::new(id, channel, history)));
            }
            ClientMessage::Signal(signal) => self.signal(id, signal).await?,
            ClientMessage::Ping => {
                self.answer(&ServerMessage::Pong { id: json(id), timestamp: rfc3339(now) });
            }
            ClientMessage::Chat { user, message } => {
                check(&self.identity, Action::Broadcast, Resource::Server)?;
                let body = Chat::line(&user, &message, None, now);
                let result = self.send(Recipient::Everybody, body, None, true).await;
                self.settle(id, None, result).await?;
            }
            ClientMessage::Action(action) => {
                let identity = &self.identity;
                if let Some(answer) = self.chat.act(action, &self.shared, identity, &self.connection)? {
                    self.answer(&answer);
                }
            }
            ClientMessage::Echo(original) => {
                let (original, timestamp) = (Some(original), rfc3339(now));
                self.answer(&ServerMessage::Echo { id: json(id), original, message: None, timestamp });
            }
        }
        Ok(Turn::Continue)
    }

    /// A credential of the same user goes on with new grants and a new end; that of another makes another session. What
    /// is wrong is said, and changes nothing.
    async fn authenticate(&mut self, id: Tag, credential: Option<Credential>) -> Result<Turn, Error> {
        let credential = credential.ok_or_else(|| bad("auth: send `token` or `api_key`"))?;
        let door = match self.door {
            Door::Grpc => veche_access::Door::Grpc,
            Door::WebSocket | Door::Sse => veche_access::Door::WebSocket,
        };
        let identity = self.shared.identify(door, Some(&credential)).await?;
        if identity.user_id != self.identity.user_id || identity.key_id != self.identity.key_id {
            return Ok(Turn::Identify(identity));
        }
        self.identity = identity;
        self.leave_forbidden();
        let expires_at = self.identity.expires_at.and_then(|end| {
            let since = end.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            Some(rfc3339(veche_hub::Timestamp(since.as_millis() as u64)))
        });
        let user_id = self.identity.user_id.clone();
        self.answer(&ServerMessage::Authenticated { id: json(id), user_id, expires_at });
        Ok(Turn::Continue)
    }

    /// Ends the subscriptions that the credential of now does not allow.
    fn leave_forbidden(&mut self) {
        for channel in self.connection.subscriptions() {
            if self.may(Action::Subscribe, &channel).is_err() {
                self.connection.unsubscribe(&channel, self.shared.now());
                self.answer(&ServerMessage::Unsubscribed { id: None, channel });
            }
        }
    }

    async fn publish(&self, id: Tag, publish: Publish) -> Result<(), Error> {
        let Publish { to, content, persistent, idempotency_key: key } = publish;
        let sender = self.connection.sender();
        let channel = if let Recipient::Channel(channel) = &to { Some(channel.clone()) } else { None };
        let is_binary = matches!(content, Content::Binary { .. });
        let picture = self.shared.picture(&to, &content);
        // What goes to no channel is in no list of files.
        let may_upload = || channel.as_ref().map_or(Ok(()), |name| self.may(Action::Upload, name));
        let Outgoing { body, file_id } =
            self.shared.body(content, channel.as_ref(), &sender, may_upload).await?;
        self.shared.show_picture(&self.identity, picture);
        let once = once(&self.identity, key);
        let Some(channel) = channel else {
            let result = self.send(to, body, once, !is_binary).await;
            return self.settle(id, file_id, result).await;
        };
        let publication = Publication { persistent, once, ..Publication::new(channel, body) };
        if file_id.is_some() {
            let result = self.shared.publish(Publication { sender: Some(sender), ..publication }).await;
            return self.settle(id, file_id, result).await;
        }
        // What becomes of it comes through the outbox, and the client's next message is not kept waiting.
        self.connection
            .publish(publication, id, self.shared.now())
            .map_err(|error| refusal(error.code(), error.to_string()))
    }

    /// To a user, a connection or everybody; `echo`: also to the sender, where it is to everybody.
    async fn send(
        &self,
        to: Recipient,
        body: Body,
        once: Option<Once>,
        echo: bool,
    ) -> Result<Outcome, Error> {
        let sender = Some(self.connection.sender());
        let except = (!echo).then(|| self.connection.id());
        self.shared.send(Letter { sender, except, once, ..Letter::new(to_hub(to), body) }).await
    }

    /// Says what became of something, and takes back its file where nobody was told of it.
    async fn settle(
        &self,
        id: Tag,
        file_id: Option<String>,
        result: Result<Outcome, Error>,
    ) -> Result<(), Error> {
        self.shared.take_back(file_id, &result).await;
        let outcome = result?;
        if id.is_some() {
            self.answer(&ServerMessage::Published(PublishedAnswer::new(id, &outcome)));
        }
        Ok(())
    }

    async fn signal(&self, id: Tag, signal: Signal) -> Result<(), Error> {
        if let Some(room_id) = &signal.room_id {
            self.may_in_room(Action::Send, room_id, Resource::Room(room_id))?;
        }
        let (sender, from) = (self.connection.sender(), self.connection.id().to_string());
        let outcome = self.shared.signal(&self.identity, Some(sender), &from, signal).await?;
        if id.is_some() {
            let answer = match outcome {
                Some(outcome) => PublishedAnswer::new(id, &outcome),
                None => PublishedAnswer::relayed(id),
            };
            self.answer(&ServerMessage::Published(answer));
        }
        Ok(())
    }

    fn may_send(&self, to: &Recipient) -> Result<(), Error> {
        match to {
            Recipient::Channel(channel) => self.may(Action::Send, channel),
            to => self.shared.may_send(&self.identity, to),
        }
    }

    fn may(&self, action: Action, channel: &ChannelName) -> Result<(), Error> {
        let of_room = channel.as_str().strip_prefix("room:").and_then(|name| name.split(':').next());
        self.may_in_room(action, of_room.unwrap_or_default(), Resource::Channel(channel.as_str()))
    }

    /// The room that the connection is in decides by itself; others by the credential.
    fn may_in_room(&self, action: Action, room_id: &str, resource: Resource<'_>) -> Result<(), Error> {
        let own = self.room.as_ref().filter(|(own, _)| **own == *room_id);
        match own.and_then(|(_, rule)| rule(action)) {
            Some(true) => Ok(()),
            Some(false) => {
                let message =
                    format!("`{}` is not granted to you in this room; ask a moderator for it", action.name());
                Err(Error::new(ErrorKind::Forbidden, message))
            }
            None => check(&self.identity, action, resource),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.chat.leave(&self.shared, &self.connection);
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("connection", &self.connection.id())
            .field("door", &self.door)
            .finish_non_exhaustive()
    }
}

/// A binary frame as a request.
fn of_frame(publish: frame::Publish) -> Result<Request, Error> {
    let frame::Publish { id, persistent, target, content_type, filename, idempotency_key, payload } = publish;
    let to = match target {
        Target::Everybody => Recipient::Everybody,
        Target::Channel(name) => Recipient::Channel(request::channel(&name)?),
        Target::User(user_id) => Recipient::User(user_id.into()),
        Target::Connection(name) => Recipient::Connection(request::connection(&name)?),
    };
    let some = |text: String| (!text.is_empty()).then_some(text);
    let content =
        Content::Binary { data: payload, content_type: some(content_type), filename: some(filename) };
    let publish = request::publication(to, content, persistent, some(idempotency_key))?;
    Ok(Request { id: id.map(|id| id.to_string().into()), message: ClientMessage::Publish(publish) })
}
