//! The doors of messaging: WebSocket, server-sent events, HTTP and gRPC, to the channels of one hub.
//!
//! The way in is [`Messaging`]. A [`Session`](session::Session) is what one connection does, whatever its door; the hub
//! decides, `protocol` has the forms of what is said, and each door carries it.

mod chat;
mod clock;
pub mod counters;
mod depth;
pub mod frame;
mod grpc;
mod http;
mod keeping;
pub mod proto;
pub mod protocol;
mod sending;
pub mod session;
pub mod settings;
mod sse;
mod websocket;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use veche_access::{Action, Authority, Credential, Identity, Resource};
use veche_doors::doorkeeper::Doorkeeper;
use veche_doors::rate::ClientBuckets;
use veche_doors::websocket::{DeflatePool, deflate_pool};
use veche_doors::{Error, ErrorKind};
use veche_files::Files;
use veche_hub::{
    Body, ChannelName, ConnectionId, Disconnect, Door, Hub, HubSettings, Outbox, Publication, Signal,
    Timestamp, Who,
};
use veche_storage::{Database, NewEvent};

pub use counters::Counters;
pub use protocol::message::{Encoded, Encoding, encode_item};
pub use session::{Session, Turn};
pub use settings::Settings;

use clock::Clock;

/// How long what is being kept may take when the server stops.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// How often the hub is asked to look at the time, at least.
const TICK: Duration = Duration::from_millis(100);

/// As good as no limit, and a number that can be counted to.
const MAX_CONNECTIONS: usize = u32::MAX as usize;

/// Passes a signal to a peer of a call's room, from somebody whose connection has this name.
pub type PeerRelay = Arc<dyn Fn(&Signal, &str) -> Result<(), Error> + Send + Sync>;

/// Takes a picture (JPEG) that somebody sent into a channel of this name, beside what it is there.
pub type PictureSink = Arc<dyn Fn(&Identity, &str, &Bytes) + Send + Sync>;

/// Whether a call's room lets a connection that is in it do something in its channels; `None`: what its credential grants.
pub type RoomRule = Arc<dyn Fn(Action) -> Option<bool> + Send + Sync>;

/// What the doors lead to.
pub struct Parts {
    /// The rules of channels.
    pub channels: HubSettings,
    /// Who may do what.
    pub authority: Authority,
    /// Contents of files; `None`: binary data is switched off.
    pub files: Option<Files>,
    /// What outlives the process; `None`: nothing does.
    pub database: Option<Database>,
}

/// The running doors of messaging.
#[derive(Clone)]
pub struct Messaging {
    shared: Arc<Shared>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

/// What all connections share.
pub(crate) struct Shared {
    /// As they were at the start; what of them may change is with the doorkeeper and the users' buckets.
    pub(crate) settings: Settings,
    pub(crate) doorkeeper: Arc<Doorkeeper>,
    pub(crate) max_subscriptions: usize,
    pub(crate) hub: Hub,
    pub(crate) authority: Authority,
    pub(crate) files: Option<Files>,
    pub(crate) database: Option<Database>,
    pub(crate) counters: counters::Tally,
    pub(crate) deflate: DeflatePool,
    /// How many WebSockets may still come.
    pub(crate) websockets: Arc<Semaphore>,
    /// How many event streams may still come.
    pub(crate) streams: Arc<Semaphore>,
    /// How many streams of gRPC may still come.
    pub(crate) calls: Arc<Semaphore>,
    /// What gRPC says of how the server is.
    pub(crate) health: tonic_health::server::HealthReporter,
    pub(crate) started_at: Instant,
    users: Mutex<ClientBuckets<Arc<str>>>,
    peers: OnceLock<PeerRelay>,
    pictures: OnceLock<PictureSink>,
    clock: Clock,
}

impl Messaging {
    /// Starts it on the current tokio runtime. Channels of a stop before come back with their histories.
    pub async fn start(mut settings: Settings, parts: Parts) -> Result<Self, Error> {
        let Settings { websocket_max_connections, sse_max_connections, grpc_max_connections, .. } =
            &mut settings;
        for limit in [websocket_max_connections, sse_max_connections, grpc_max_connections] {
            *limit = (*limit).min(MAX_CONNECTIONS);
        }
        let clock = Clock::start();
        let max_subscriptions = parts.channels.max_subscriptions;
        let seed = rand::random();
        let mut tasks = Vec::new();
        let hub = match &parts.database {
            None => Hub::new(parts.channels, seed),
            Some(database) => {
                let (hub, keeper) = Hub::with_storage(parts.channels, seed);
                keeping::restore(&hub, database, clock.now()).await?;
                tasks.push(tokio::spawn(keeping::run(keeper, database.clone(), clock)));
                hub
            }
        };
        tasks.push(tokio::spawn(tick(hub.clone(), clock)));
        let users = ClientBuckets::new(settings.user_messages_per_second, settings.user_message_burst);
        let shared = Shared {
            max_subscriptions,
            hub,
            authority: parts.authority,
            files: parts.files,
            database: parts.database,
            counters: counters::Tally::default(),
            deflate: deflate_pool(),
            websockets: Arc::new(Semaphore::new(settings.websocket_max_connections)),
            streams: Arc::new(Semaphore::new(settings.sse_max_connections)),
            calls: Arc::new(Semaphore::new(settings.grpc_max_connections)),
            health: grpc::health().await,
            started_at: Instant::now(),
            users: Mutex::new(users),
            doorkeeper: Arc::new(Doorkeeper::new(settings.policy())),
            peers: OnceLock::new(),
            pictures: OnceLock::new(),
            clock,
            settings,
        };
        Ok(Self { shared: Arc::new(shared), tasks: Arc::new(Mutex::new(tasks)) })
    }

    /// Takes over what may change while it runs: origins, rates, and the rules and histories of channels. Everything else
    /// stays as it was at the start.
    pub fn reload(&self, settings: &Settings, channels: &HubSettings) {
        let shared = &self.shared;
        shared.doorkeeper.set(settings.policy());
        shared.users.lock().set_rate(settings.user_messages_per_second, settings.user_message_burst);
        shared.hub.set_rules(channels, shared.now());
    }

    /// The doors: `/realtime/ws`, `/realtime/events`, the HTTP API, and gRPC for who speaks HTTP/2. Addresses below `/realtime` that nobody has are
    /// not its own.
    pub fn router(&self) -> axum::Router {
        http::router(&self.shared)
    }

    /// The description of the HTTP API.
    pub fn document() -> utoipa::openapi::OpenApi {
        http::document()
    }

    /// Tells everybody to come back, waits until what is to be kept is kept, and saves the channels. The database stays
    /// open.
    pub async fn stop(&self) {
        let hub = &self.shared.hub;
        grpc::stop(&self.shared.health).await;
        hub.drain(&Disconnect::Stopping);
        let settings = &self.shared.settings;
        let doors = [
            (&self.shared.websockets, settings.websocket_max_connections),
            (&self.shared.streams, settings.sse_max_connections),
            (&self.shared.calls, settings.grpc_max_connections),
        ];
        let gone = async {
            while hub.stats().uncommitted > 0
                || doors.iter().any(|(permits, all)| permits.available_permits() < *all)
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = tokio::time::timeout(STOP_WAIT, gone).await;
        if let Some(database) = &self.shared.database {
            keeping::save(hub, database).await;
        }
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }

    /// What the doors have counted; [`Hub::stats`] has the rest.
    pub fn counters(&self) -> Counters {
        let settings = &self.shared.settings;
        let open = |permits: &Semaphore, all: usize| all.saturating_sub(permits.available_permits()) as u64;
        self.shared.counters.read([
            open(&self.shared.websockets, settings.websocket_max_connections),
            open(&self.shared.streams, settings.sse_max_connections),
            open(&self.shared.calls, settings.grpc_max_connections),
        ])
    }

    /// The hub.
    pub fn hub(&self) -> &Hub {
        &self.shared.hub
    }

    /// Who may do what.
    pub fn authority(&self) -> &Authority {
        &self.shared.authority
    }

    /// What outlives the process.
    pub fn database(&self) -> Option<&Database> {
        self.shared.database.as_ref()
    }

    /// The time of messages.
    pub fn now(&self) -> Timestamp {
        self.shared.now()
    }

    /// A connection of another door, whose identity that door has verified; `name` is for people.
    pub fn session(
        &self,
        door: Door,
        identity: Identity,
        name: Option<&str>,
    ) -> Result<(Session, Outbox), Error> {
        Session::start(self.shared.clone(), door, identity, name)
    }

    /// Passes signals to peers of calls from now on. Only the first counts.
    pub fn set_peers(&self, relay: PeerRelay) {
        let _ = self.shared.peers.set(relay);
    }

    /// Gives pictures that are sent into channels to cameras from now on. Only the first counts.
    pub fn set_pictures(&self, sink: PictureSink) {
        let _ = self.shared.pictures.set(sink);
    }

    /// Tells the subscribers of a call's room what happened in it and whose doing it was, as data of the channel
    /// `room:<id>`, and notes it in the log.
    pub fn note_room(&self, room_id: &str, event: &str, user_id: Option<&str>, data: serde_json::Value) {
        let now = self.now();
        let mut told = serde_json::json!({ "event": event, "room_id": room_id });
        if let (Some(told), Some(data)) = (told.as_object_mut(), data.as_object()) {
            told.extend(user_id.map(|user_id| ("user_id".to_owned(), user_id.into())));
            told.extend(data.clone());
        }
        let note = NewEvent::new(event, now.0 as i64).room(room_id).data(data);
        self.record(NewEvent { user_id: user_id.map(ToOwned::to_owned), ..note });
        let Ok(channel) = ChannelName::new(&format!("room:{room_id}")) else { return };
        let Ok(told) = serde_json::value::to_raw_value(&told) else { return };
        // A server that stops, or is full of channels, tells nobody.
        let _ = self.shared.hub.publish(Publication::new(channel, Body::Data(told)), now);
    }

    /// Ends the subscriptions of a user, and of a connection, to the channels of a call's room. They are told.
    pub fn leave_room(&self, room_id: &str, user_id: Option<&str>, connection: Option<ConnectionId>) {
        let (hub, now) = (self.hub(), self.now());
        for channel in self.channels_of_room(room_id) {
            if let Some(user_id) = user_id {
                hub.unsubscribe_user(user_id, &channel, now);
            }
            if let Some(connection) = connection {
                hub.unsubscribe_connection(connection, &channel, now);
            }
        }
    }

    /// Ends the subscriptions to the channels of a call's room of everybody but those whom `stays` names, by user and
    /// connection. They are told.
    pub fn close_room(&self, room_id: &str, stays: impl Fn(Option<&str>, ConnectionId) -> bool) {
        for channel in self.channels_of_room(room_id) {
            self.hub().unsubscribe_others(&channel, &stays, self.now());
        }
    }

    fn channels_of_room(&self, room_id: &str) -> Vec<ChannelName> {
        let own = format!("room:{room_id}");
        let is_own = |name: &str| {
            name.strip_prefix(&*own).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        };
        let channels = self.hub().channels(&own, usize::MAX).into_iter().map(|channel| channel.name);
        channels.filter(|name| is_own(name.as_str())).collect()
    }

    /// Notes an event in the log, where there is one.
    pub fn record(&self, event: NewEvent) {
        self.shared.record(event);
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("channels", &self.channels).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Messaging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Messaging").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn peers(&self) -> Option<&PeerRelay> {
        self.peers.get()
    }

    pub(crate) fn record(&self, event: NewEvent) {
        if let Some(database) = &self.database {
            database.record(event);
        }
    }

    /// Who a credential speaks for at a door.
    pub(crate) async fn identify(
        &self,
        door: veche_access::Door,
        credential: Option<&Credential>,
    ) -> Result<Identity, Error> {
        self.authority.identify(door, credential).await.map_err(|error| {
            self.counters.authentication_failures.add(1);
            error.into()
        })
    }

    /// What a request shows. A server that is open passes over what it cannot read.
    pub(crate) fn credential(
        &self,
        headers: &axum::http::HeaderMap,
        query: Option<&str>,
    ) -> Result<Option<Credential>, Error> {
        match Credential::from_request(headers, query) {
            Ok(credential) => Ok(credential),
            Err(_) if self.authority.is_open() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Counts a message or request of a user against what all their connections may send.
    pub(crate) fn take_from_user(&self, identity: &Identity) -> Result<(), Error> {
        let Some(user_id) = &identity.user_id else { return Ok(()) };
        let per_second = {
            let mut users = self.users.lock();
            if users.take(user_id.clone(), Instant::now()) {
                return Ok(());
            }
            users.per_second()
        };
        self.counters.rate_limited.add(1);
        Err(Error::new(
            ErrorKind::RateLimited,
            format!("all connections of a user together may send {per_second} messages a second"),
        ))
    }

    /// A name for people: what can be seen of it, up to the limit.
    pub(crate) fn check_name(&self, name: &str) -> Result<Option<String>, Error> {
        let clean = veche_doors::name::clean(name);
        let max = self.settings.max_name_chars;
        if clean.chars().count() > max {
            let message = format!("name: longer than {max} characters; choose a shorter one");
            return Err(Error::new(ErrorKind::BadRequest, message));
        }
        Ok((!clean.is_empty()).then_some(clean))
    }

    /// Who a connection belongs to, as the hub wants to know it.
    fn who(&self, door: Door, identity: &Identity, name: Option<&str>) -> Result<Who, Error> {
        let name = match name {
            Some(name) => self.check_name(name)?,
            None => None,
        };
        let guest = || format!("guest-{:04x}", rand::random::<u16>());
        let known = || identity.name.as_deref().or(identity.user_id.as_deref()).map(ToOwned::to_owned);
        let attributes = identity.attributes.as_deref().and_then(|attributes| {
            let text = serde_json::value::to_raw_value(attributes).ok()?;
            Some(Arc::from(text))
        });
        Ok(Who {
            user_id: identity.user_id.clone(),
            name: name.or_else(known).unwrap_or_else(guest).into(),
            attributes,
            door,
        })
    }
}

/// Whether an identity may do something.
pub(crate) fn check(identity: &Identity, action: Action, resource: Resource<'_>) -> Result<(), Error> {
    Ok(identity.allows(action, resource)?)
}

/// Has the hub look at the time.
async fn tick(hub: Hub, clock: Clock) {
    loop {
        let now = clock.now();
        let next = hub.tick(now);
        let wait = Duration::from_millis(next.0.saturating_sub(now.0).max(1)).min(TICK);
        tokio::time::sleep(wait).await;
    }
}
