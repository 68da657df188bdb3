//! Takes what the media plane reports to the rooms it is about.

use std::sync::Weak;

use veche_sfu_core::control::Event;

use crate::hub::Hub;

/// Runs until the media plane stops or the hub is gone.
pub(crate) async fn pump(hub: Weak<Hub>, events: flume::Receiver<Event>) {
    while let Ok(event) = events.recv_async().await {
        let Some(hub) = hub.upgrade() else { return };
        hub.on_event(event);
    }
    tracing::debug!("the media plane has stopped reporting");
}
