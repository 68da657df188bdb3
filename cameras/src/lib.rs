//! Cameras that send pictures: JPEG frames come in by requests, streams and WebSockets, and go out by WebSockets, event streams,
//! MJPEG and single pictures. The newest frame wins: of a camera nothing else is kept, and each viewer gets it at their own pace.
//!
//! The way in is [`Cameras`]. `registry` has all cameras, `camera` one of them, `viewing` is what one viewer is to be sent next,
//! whatever their door; `jpeg` looks at pictures without decoding them, `multipart` reads streams of them. `PROTOCOL.md` describes
//! what clients see.

mod camera;
mod counters;
mod frame;
mod http;
pub mod jpeg;
pub mod multipart;
mod name;
mod pace;
mod registry;
mod settings;
mod viewing;
mod visitor;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use veche_access::{Action, Authority, Identity, Resource};
use veche_doors::Error;
use veche_doors::doorkeeper::Doorkeeper;

pub use counters::{Counters, REFUSALS, ViewerKind};
pub use http::{description, disabled_router};
pub use settings::Settings;

use camera::Owner;
use counters::Tally;
use registry::Registry;

/// How often cameras are looked for that send nothing any more.
const SWEEP: Duration = Duration::from_secs(1);

/// As good as no limit, and a number that can be counted to.
const MAX_PERMITS: usize = u32::MAX as usize;

/// Whether a room may have cameras: an error where it is not there and does not come into being by itself.
pub type RoomCheck = Arc<dyn Fn(&str) -> Result<(), Error> + Send + Sync>;

/// The running cameras. Cheap to clone.
#[derive(Clone)]
pub struct Cameras {
    shared: Arc<Shared>,
    sweeper: AbortHandle,
}

/// What all handlers share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) authority: Authority,
    pub(crate) doorkeeper: Arc<Doorkeeper>,
    pub(crate) registry: Registry,
    pub(crate) tally: Arc<Tally>,
    /// How many may still come to look.
    pub(crate) viewers: Arc<Semaphore>,
    /// How many requests may still come that bring frames: each has one in memory.
    pub(crate) senders: Arc<Semaphore>,
    rooms: OnceLock<RoomCheck>,
}

impl Cameras {
    /// Starts it on the current tokio runtime.
    pub fn start(mut settings: Settings, authority: Authority) -> Self {
        settings.max_viewers = settings.max_viewers.min(MAX_PERMITS);
        settings.max_cameras = settings.max_cameras.min(MAX_PERMITS);
        let tally = Arc::<Tally>::default();
        let shared = Arc::new(Shared {
            authority,
            doorkeeper: Arc::new(Doorkeeper::new(settings.policy())),
            registry: Registry::new(settings.clone(), tally.clone()),
            tally,
            viewers: Arc::new(Semaphore::new(settings.max_viewers)),
            senders: Arc::new(Semaphore::new(settings.max_cameras)),
            rooms: OnceLock::new(),
            settings,
        });
        let swept = shared.clone();
        let sweeper = tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                swept.registry.sweep(Instant::now());
            }
        });
        Self { shared, sweeper: sweeper.abort_handle() }
    }

    /// Asks from now on whether a room may have cameras. Only the first counts.
    pub fn check_rooms(&self, check: RoomCheck) {
        let _ = self.shared.rooms.set(check);
    }

    /// Takes over what may change while it runs: origins and requests. Everything else stays as it was at the start.
    pub fn reload(&self, settings: &Settings) {
        self.shared.doorkeeper.set(settings.policy());
    }

    /// Everything below `/realtime/webrtc/rooms/{room_id}/cameras`.
    pub fn router(&self) -> axum::Router {
        http::router(&self.shared)
    }

    /// A picture that came as a message of somebody into the channel `room:<room>:camera:<name>` is one of that camera, if they may publish
    /// video in the room. What is in other channels, and pictures that are no good, change nothing but counters.
    pub fn take_message(&self, identity: &Identity, channel: &str, jpeg: &Bytes) {
        let Some((room_id, name)) = name::of_channel(channel) else { return };
        if identity.allows(Action::PublishVideo, Resource::Room(room_id)).is_err() {
            self.shared.tally.refuse("refused");
            return;
        }
        let put = self
            .shared
            .check_place(room_id, name)
            .and_then(|()| self.shared.registry.put(room_id, name, &Owner::of(identity), jpeg));
        if let Err(error) = put {
            tracing::debug!(%error, channel, "a picture was not taken");
        }
    }

    /// Removes the cameras of a room that was deleted.
    pub fn remove_room(&self, room_id: &str) {
        self.shared.registry.remove_room(room_id);
    }

    /// What has been counted.
    pub fn counters(&self) -> Counters {
        self.shared.tally.read(self.shared.registry.len())
    }

    /// Ends all cameras, and tells who looks at them.
    pub fn stop(&self) {
        self.shared.registry.stop();
        self.sweeper.abort();
    }
}

impl Shared {
    /// An error where no camera can be: names that are none, and rooms that are not there.
    pub(crate) fn check_place(&self, room_id: &str, name: &str) -> Result<(), Error> {
        name::check(room_id, name)?;
        self.rooms.get().map_or(Ok(()), |check| check(room_id))
    }
}
