//! The door of server-sent events: one stream, whose channels the address names.
//!
//! The `id` of an event is where the client stands in each of its channels, in the order of the address: a position like
//! `1f2e3d4c:17`, or `-` where it has none yet, separated by commas. A browser sends the last one back as
//! `Last-Event-ID` when it comes again.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};
use utoipa::IntoParams;
use veche_access::{Action, Door as AccessDoor, Resource};
use veche_doors::answers::Refusals;
use veche_doors::extract::Query;
use veche_doors::{Error, ErrorKind};
use veche_hub::{
    Body as MessageBody, ChannelName, ConnectionId, Door, Filters, Form, Item, Message, Outbox, Position,
    Subscribe,
};

use crate::clock::rfc3339;
use crate::http::Api;
use crate::protocol::ServerMessage;
use crate::protocol::answer::{SubscribedAnswer, refusal};
use crate::protocol::message::{sse_event, to_sse};
use crate::protocol::request;
use crate::session::{Session, Standing};
use crate::{Shared, check};

/// About how many bytes go out in one piece.
const PIECE_BYTES: usize = 64 * 1024;

/// What a stream carries. Read by hand, since `channel` may come several times.
#[derive(Debug, Default, IntoParams)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// A channel; may come several times.
    #[param(value_type = Vec<String>, required = false)]
    channel: Vec<ChannelName>,
    /// Channels separated by commas.
    #[expect(dead_code, reason = "for the description; they go to `channel`")]
    channels: Option<String>,
    /// `false`: no binary messages and files.
    binary_data: Option<bool>,
    /// The largest binary message or file, in bytes.
    max_file_size: Option<u64>,
    /// Content types of binary messages and files, separated by commas: `image/*,application/pdf`.
    allowed_types: Option<String>,
    /// Kinds of notifications, separated by commas: `message,call`.
    notification_types: Option<String>,
    /// Whether to be told who comes and goes.
    #[param(required = false)]
    presence: bool,
    /// The client's name for people.
    name: Option<String>,
    /// What the last event before had as its id, for clients that cannot send the header.
    last_event_id: Option<String>,
    /// A token, for browsers, which cannot send headers with an `EventSource`.
    #[expect(dead_code, reason = "for the description; read with the headers")]
    token: Option<String>,
    /// An API key, likewise.
    #[expect(dead_code, reason = "for the description; read with the headers")]
    api_key: Option<String>,
}

/// One client's stream.
struct Events {
    shared: Arc<Shared>,
    session: Session,
    outbox: Outbox,
    places: Vec<Place>,
    /// What stands at the beginning of the stream, until it is sent.
    greeting: Option<Bytes>,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

/// Where the client stands in one channel.
struct Place {
    channel: ChannelName,
    position: Option<Position>,
    /// Kept messages that are still to come, after which the client stands at `newest`.
    kept: usize,
    newest: Option<Position>,
}

/// The first event.
#[derive(Serialize)]
struct Connected<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    connection_id: ConnectionId,
    user_id: Option<&'a str>,
    authenticated: bool,
    channels: Vec<&'a str>,
    heartbeat_interval: u32,
    timestamp: String,
}

/// A stream of events. PROTOCOL.md describes them.
#[utoipa::path(
    get,
    path = "/realtime/events",
    operation_id = "streamEvents",
    tag = "messaging",
    params(EventsQuery),
    responses(
        (status = 200, description = "The stream", content_type = "text/event-stream", body = String),
        Refusals,
    )
)]
pub(crate) async fn events(
    State(api): State<Api>,
    headers: HeaderMap,
    uri: Uri,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Error> {
    let shared = api.shared;
    if !shared.settings.sse_enabled {
        return Err(Error::new(ErrorKind::DoorDisabled, "event streams are switched off by SSE_ENABLED"));
    }
    if !shared.doorkeeper.allows_origin(&headers, &uri) {
        let message = "pages of this origin may not connect; add it to messaging.allowed_origins";
        return Err(Error::new(ErrorKind::ForbiddenOrigin, message));
    }
    let query = EventsQuery::read(pairs)?;
    let credential = shared.credential(&headers, uri.query())?;
    let identity = shared.identify(AccessDoor::Sse, credential.as_ref()).await?;
    for channel in &query.channel {
        check(&identity, Action::Subscribe, Resource::Channel(channel.as_str()))?;
    }
    let permit = shared.streams.clone().try_acquire_owned().map_err(|_| {
        shared.counters.refused_connections.add(1);
        let message = "the server has as many event streams as it may have; try again later";
        Error::new(ErrorKind::TooManyConnections, message)
    })?;
    let (session, outbox) = Session::start(shared.clone(), Door::Sse, identity, query.name.as_deref())?;
    let last_event_id = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let places = places(&query, last_event_id.or(query.last_event_id.as_deref()));
    for place in &places {
        let wish = Subscribe {
            filters: query.filters(),
            recover: place.position,
            presence: query.presence,
            ..Subscribe::to(place.channel.clone())
        };
        session
            .connection
            .subscribe(wish, None, shared.now())
            .map_err(|error| refusal(error.code(), error.to_string()))?;
    }
    let mut events =
        Events { session, outbox, places, greeting: None, ended: false, _permit: permit, shared };
    events.greeting = Some(events.greet());
    let body = stream::unfold(events, |mut events| async move {
        let piece = events.next().await?;
        Some((Ok::<_, Infallible>(piece), events))
    });
    Ok(response(Body::from_stream(body)))
}

fn response(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies like nginx hold a stream back otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Where the client stands in its channels, as it says itself.
fn places(query: &EventsQuery, last_event_id: Option<&str>) -> Vec<Place> {
    let mut positions = last_event_id.unwrap_or_default().split(',').map(|text| text.trim().parse().ok());
    let place = |channel: &ChannelName| Place {
        channel: channel.clone(),
        position: positions.next().flatten(),
        kept: 0,
        newest: None,
    };
    query.channel.iter().map(place).collect()
}

impl EventsQuery {
    /// Reads what stands behind the `?`; unknown names are passed over.
    fn read(pairs: Vec<(String, String)>) -> Result<Self, Error> {
        let mut query = Self::default();
        let mut names = Vec::new();
        for (name, value) in pairs {
            match name.as_str() {
                "channel" => names.push(value),
                "channels" => names.extend(value.split(',').map(|name| name.trim().to_owned())),
                "binary_data" => query.binary_data = Some(parse(&name, &value, "true or false")?),
                "max_file_size" => query.max_file_size = Some(parse(&name, &value, "a number of bytes")?),
                "allowed_types" => query.allowed_types = Some(value),
                "notification_types" => query.notification_types = Some(value),
                "presence" => query.presence = parse(&name, &value, "true or false")?,
                "name" => query.name = Some(value),
                "last_event_id" => query.last_event_id = Some(value),
                _ => {}
            }
        }
        let mut seen = HashSet::new();
        for name in names.iter().filter(|name| !name.is_empty() && seen.insert(name.as_str())) {
            query.channel.push(request::channel(name)?);
        }
        Ok(query)
    }

    fn filters(&self) -> Option<Filters> {
        let list = |text: &Option<String>| {
            text.as_ref().map(|text| text.split(',').map(|entry| entry.trim().to_owned()).collect())
        };
        let filters = Filters {
            binary_data: self.binary_data,
            max_file_size: self.max_file_size,
            allowed_types: list(&self.allowed_types),
            notification_types: list(&self.notification_types),
        };
        (filters != Filters::default()).then_some(filters)
    }
}

fn parse<T: std::str::FromStr>(name: &str, value: &str, what: &str) -> Result<T, Error> {
    let wrong = |_| Error::new(ErrorKind::BadRequest, format!("{name}: `{value}` is not {what}"));
    value.parse().map_err(wrong)
}

impl Events {
    fn greet(&self) -> Bytes {
        let identity = self.session.identity();
        let connected = Connected {
            kind: "connected",
            connection_id: self.session.connection.id(),
            user_id: identity.user_id.as_deref(),
            authenticated: identity.is_authenticated(),
            channels: self.places.iter().map(|place| place.channel.as_str()).collect(),
            heartbeat_interval: self.shared.settings.sse_heartbeat_seconds,
            timestamp: rfc3339(self.shared.now()),
        };
        let json = serde_json::to_vec(&connected).expect("an object with text keys is JSON");
        let mut greeting = BytesMut::new();
        greeting.extend_from_slice(
            format!("retry: {}\n\n", self.shared.settings.sse_retry_milliseconds).as_bytes(),
        );
        greeting.extend_from_slice(&sse_event("connected", &json));
        greeting.freeze()
    }

    /// The next piece of the stream; `None`: it ends.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(greeting) = self.greeting.take() {
            return Some(greeting);
        }
        if self.ended {
            return None;
        }
        let heartbeat = Duration::from_secs(u64::from(self.shared.settings.sse_heartbeat_seconds));
        let heartbeat_at = Instant::now() + heartbeat;
        loop {
            match self.session.standing().await {
                Standing::Good => {}
                Standing::Expired => self.session.expire(),
                Standing::Revoked => {
                    self.ended = true;
                    let reason = ErrorKind::InvalidApiKey.code();
                    let answer = ServerMessage::Disconnect { reason, reconnect: false };
                    return Some(sse_event("disconnect", &answer.to_json()));
                }
            }
            let wait = heartbeat_at.duration_since(Instant::now()).min(self.session.until_standing());
            let mut items = Vec::new();
            match timeout(wait, self.outbox.drain(&mut items, PIECE_BYTES)).await {
                Ok(false) => return None,
                Ok(true) => {
                    let piece = self.write(items);
                    if !piece.is_empty() {
                        return Some(piece);
                    }
                    if self.ended {
                        return None;
                    }
                }
                Err(_) if Instant::now() < heartbeat_at => {}
                Err(_) => return Some(Bytes::from_static(b": heartbeat\n\n")),
            }
        }
    }

    fn write(&mut self, items: Vec<Item>) -> Bytes {
        let mut piece = BytesMut::new();
        let count = items.len() as u64;
        for item in items {
            match item {
                Item::Message(message) => self.write_message(&message, &mut piece),
                Item::Subscribed(subscribed) => {
                    self.place(&subscribed.channel, |place| {
                        place.newest = Some(subscribed.position);
                        place.kept = subscribed.kept;
                        if subscribed.recovered != Some(true) {
                            place.position = (subscribed.kept == 0).then_some(subscribed.position);
                        }
                    });
                    let answer = ServerMessage::Subscribed(SubscribedAnswer::new(&subscribed));
                    self.write_id(&mut piece);
                    piece.extend_from_slice(&sse_event("subscribed", &answer.to_json()));
                }
                Item::NotSubscribed(failed) => {
                    let error = refusal(failed.2.code(), format!("{}: {}", failed.1, failed.2));
                    let answer = ServerMessage::error(error, None);
                    piece.extend_from_slice(&sse_event("refused", &answer.to_json()));
                }
                Item::Unsubscribed(channel) => {
                    let answer = ServerMessage::Unsubscribed { id: None, channel: *channel };
                    piece.extend_from_slice(&sse_event("unsubscribed", &answer.to_json()));
                }
                Item::Disconnect(why) => {
                    let answer = ServerMessage::disconnect(&why);
                    piece.extend_from_slice(&sse_event("disconnect", &answer.to_json()));
                    self.ended = true;
                }
                Item::Published(_) | Item::Answer(_) => {}
            }
        }
        self.shared.counters.messages_out.add(count);
        self.shared.counters.bytes_out.add(piece.len() as u64);
        piece.freeze()
    }

    fn write_message(&mut self, message: &Message, piece: &mut BytesMut) {
        let is_presence = matches!(message.body, MessageBody::Presence(_));
        if let (Some(channel), Some(position), false) = (message.channel(), message.position(), is_presence) {
            self.place(channel, |place| {
                let epoch = place.newest.map_or(position.epoch, |newest| newest.epoch);
                place.position = Some(Position { epoch, ..position });
                if place.kept > 0 {
                    place.kept -= 1;
                    if place.kept == 0 {
                        place.position = place.newest;
                    }
                }
            });
            self.write_id(piece);
        }
        piece.extend_from_slice(message.form(Form::Sse, to_sse));
    }

    fn place(&mut self, channel: &ChannelName, change: impl FnOnce(&mut Place)) {
        if let Some(place) = self.places.iter_mut().find(|place| place.channel == *channel) {
            change(place);
        }
    }

    fn write_id(&self, piece: &mut BytesMut) {
        let _ = piece.write_str("id: ");
        for (index, place) in self.places.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = match place.position {
                Some(position) => write!(piece, "{comma}{position}"),
                None => write!(piece, "{comma}-"),
            };
        }
        let _ = piece.write_str("\n");
    }
}
