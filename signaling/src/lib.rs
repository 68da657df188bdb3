//! What clients talk to: rooms, signaling over a WebSocket, and the HTTP API.
//!
//! The way in is [`Signaling`]. Inside, [`Rooms`](rooms::Rooms) holds the rooms, [`room`] decides what happens in one,
//! `connection` carries one client's WebSocket, and `events` turns what the media plane reports into messages.

mod channels;
mod connection;
mod events;
mod http;
mod ice_servers;
pub mod inbound;
mod journal;
pub mod link;
pub mod media;
mod name;
pub mod protocol;
pub mod room;
pub mod rooms;
pub mod settings;
mod token;

use std::sync::Arc;

pub use veche_access::Authority;
use veche_messaging::Messaging;
use veche_recorder::Recorder;
use veche_sfu_core::control::Event;

pub use http::{TurnReport, TurnUsage, TurnUserUsage, description, disabled_router};
pub use ice_servers::{TurnReports, TurnSource};
pub use media::Media;
pub use rooms::{Counts, RoomDeleted};
pub use settings::Settings;
pub use veche_doors::error::{self, Error, ErrorKind};
use veche_doors::{origin, rate};

use rooms::Rooms;

/// The running control plane.
#[derive(Clone, Debug)]
pub struct Signaling {
    rooms: Arc<Rooms>,
}

impl Signaling {
    /// Starts it on the current tokio runtime: it takes the media plane's events from now on, in a task that ends only
    /// with the media plane, or by a bug; then calls go on as they are, but nothing new is told.
    pub fn start(
        settings: Settings,
        media: Media,
        events: flume::Receiver<Event>,
        authority: Authority,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let rooms = Arc::new(Rooms::new(settings, media, authority));
        let limits = Arc::downgrade(&rooms);
        rooms.authority.limit_rooms(Box::new(move |room_id, identity| {
            limits.upgrade().and_then(|rooms| rooms.left_to(room_id, identity))
        }));
        let pump = tokio::spawn(events::pump(Arc::downgrade(&rooms), events));
        (Self { rooms }, pump)
    }

    /// Opens the channels of messaging to those who are in calls, and notes from now on what happens in rooms. Only the
    /// first counts.
    pub fn connect(&self, messaging: Messaging) {
        self.rooms.connect(messaging);
    }

    /// Takes over what may change while it runs: origins and rates. Everything else stays as it was at the start.
    pub fn reload(&self, settings: &Settings) {
        self.rooms.doorkeeper.set(settings.policy());
    }

    /// Clients are told of these TURN servers from now on, with a credential for each. Only the first source counts.
    pub fn set_turn(&self, source: TurnSource) {
        self.rooms.ice_servers.set_turn(source);
    }

    /// Administrators are told from here who uses the TURN server. Only the first source counts.
    pub fn set_turn_reports(&self, reports: TurnReports) {
        self.rooms.ice_servers.set_turn_reports(reports);
    }

    /// Rooms can be recorded from now on; `events` are the recorder's. Only the first counts.
    pub fn set_recorder(&self, recorder: Recorder, events: flume::Receiver<veche_recorder::Event>) {
        if self.rooms.set_recorder(recorder) {
            let rooms = Arc::downgrade(&self.rooms);
            tokio::spawn(async move {
                while let Ok(event) = events.recv_async().await {
                    let Some(rooms) = rooms.upgrade() else { return };
                    rooms.on_recording(&event);
                }
            });
        }
    }

    /// Tells from now on which room was deleted. Only the first counts.
    pub fn on_room_deleted(&self, told: RoomDeleted) {
        let _ = self.rooms.on_deleted.0.set(told);
    }

    /// An error where there is no such room, and none comes into being by who joins.
    pub fn check_room(&self, room_id: &str) -> Result<(), Error> {
        self.rooms.check_place(room_id)
    }

    /// Everything below `/realtime`, and `/health`.
    pub fn router(&self) -> axum::Router {
        http::router(self.rooms.clone())
    }

    /// How many rooms, participants and connections there are.
    pub fn counts(&self) -> Counts {
        self.rooms.counts()
    }

    /// Takes nobody in any more, tells everybody that the server stops, and returns when they are gone (or after two
    /// seconds).
    pub async fn stop(&self) {
        self.rooms.stop().await;
    }
}
