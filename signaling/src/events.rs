//! Takes what the media plane reports to the rooms it is about.

use std::sync::Weak;

use veche_sfu_core::control::Event;

use crate::rooms::Rooms;

/// Runs until the media plane stops or the rooms are gone.
pub(crate) async fn pump(rooms: Weak<Rooms>, events: flume::Receiver<Event>) {
    while let Ok(event) = events.recv_async().await {
        let Some(rooms) = rooms.upgrade() else { return };
        rooms.on_event(event);
    }
    tracing::debug!("the media plane has stopped reporting");
}
