//! A camera in a call: its frames become a video track of the room, so that a camera with nothing but HTTP takes part like others.
//!
//! It is a guest of the room (`GuestSeat`): its pictures are decoded, scaled and encoded as H264 in two layers on the pool of codecs,
//! each only while somebody wants it. When the codecs have no time a frame is left out; so many a second are taken, evenly.

mod video;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use veche_access::Identity;
use veche_doors::{Error, ErrorKind};
use veche_sfu::studio::Ask;
use veche_signaling::JoinRequest;

use crate::Shared;
use crate::camera::{Camera, Shown};
use crate::frame::Frame;
use crate::pace::Pace;
pub(crate) use video::Outcome;
use video::Video;

/// A camera that was not let in asks again after so long, if its frames still say that it shall be in the call.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// How it is with a camera and the call.
#[derive(Debug, Default)]
pub(crate) enum CallState {
    /// It was not asked to be in it.
    #[default]
    Out,
    /// It is in it, or on the way.
    In,
    /// It was not let in.
    Refused(Error, Instant),
    /// A moderator, or the room's end, has sent it out: it does not come back in this life.
    SentOut(Error),
}

impl CallState {
    /// Whether it is to be brought in now.
    pub(crate) fn begin(&mut self) -> bool {
        let begins = match self {
            Self::Out => true,
            Self::Refused(_, at) => *at + TRY_AGAIN <= Instant::now(),
            Self::In | Self::SentOut(_) => false,
        };
        if begins {
            *self = Self::In;
        }
        begins
    }

    /// Why it is not in the call.
    pub(crate) fn error(&self) -> Option<&Error> {
        match self {
            Self::Out | Self::In => None,
            Self::Refused(error, _) | Self::SentOut(error) => Some(error),
        }
    }
}

/// Brings a camera into the call of its room, in the name of whoever sends as it. Does nothing where it is there.
pub(crate) fn enter(shared: &Arc<Shared>, camera: &Arc<Camera>, identity: &Identity) {
    if !camera.call.lock().begin() {
        return;
    }
    let (shared, camera, identity) = (shared.clone(), camera.clone(), identity.clone());
    tokio::spawn(async move {
        let state = match take_part(&shared, &camera, &identity).await {
            Ok(None) => CallState::Out,
            Ok(Some(sent_out)) => CallState::SentOut(sent_out),
            Err(refused) => {
                tracing::debug!(camera = &*camera.name, error = %refused, "a camera was not let into the call");
                CallState::Refused(refused, Instant::now())
            }
        };
        *camera.call.lock() = state;
    });
}

/// From coming to going: `None` when the camera is gone, an error when it was sent out.
async fn take_part(
    shared: &Arc<Shared>,
    camera: &Arc<Camera>,
    identity: &Identity,
) -> Result<Option<Error>, Error> {
    let full = |_| {
        let message = "as many cameras are in calls as may be (cameras.max_calls)";
        Error::new(ErrorKind::TooManyCameras, message)
    };
    let _permit = shared.calls.clone().try_acquire_owned().map_err(full)?;
    let signaling = shared.signaling.get().ok_or_else(no_calls)?;
    let mut seat = signaling.join_guest(&request(camera, identity))?;
    let guest = seat.guest();
    let settings = &shared.settings;
    let mut video = Video::publish(guest.clone(), settings.call_fps);
    let mut newest = camera.watch();
    // What is there already is to be seen: the frame that the camera came with, or its end.
    newest.mark_changed();
    let pace = Pace::new(Some(settings.call_fps), Instant::now());
    let mut pace = pace.map_err(|text| Error::new(ErrorKind::BadRequest, text))?;
    let mut last: Option<Arc<Frame>> = None;
    loop {
        let frame = tokio::select! {
            error = seat.ended() => return Ok(Some(error)),
            ask = guest.asks().recv_async() => match ask {
                // Who comes to look at a camera that sends seldom sees its last picture at once.
                Ok(ask) => {
                    video.take(ask);
                    last.clone().filter(|_| matches!(ask, Ask::KeyFrame { .. }))
                }
                Err(_) => return Ok(Some(Error::new(ErrorKind::ServerStopping, "the media plane has stopped"))),
            },
            frame = next(&mut newest, &pace) => match frame {
                None => return Ok(None),
                Some(frame) => {
                    pace.sent(Instant::now());
                    last = Some(frame.clone());
                    Some(frame)
                }
            },
        };
        if let Some(frame) = frame {
            let shown = video.show(&shared.pool, &frame).await;
            shared.tally.show(shown);
        }
    }
}

/// The next frame when it is time for one; `None`: the camera is gone.
async fn next(newest: &mut watch::Receiver<Shown>, pace: &Pace) -> Option<Arc<Frame>> {
    sleep_until(pace.due()).await;
    loop {
        if newest.has_changed().unwrap_or(true) {
            let shown = newest.borrow_and_update();
            if shown.end.is_some() {
                return None;
            }
            if let Some(frame) = &shown.frame {
                return Some(frame.clone());
            }
        }
        newest.changed().await.ok()?;
        newest.mark_changed();
    }
}

fn request(camera: &Camera, identity: &Identity) -> JoinRequest {
    let peer_id = format!("camera-{}", camera.name);
    // Peers have names of ASCII letters, and short ones; for others the server makes one.
    let is_fine = peer_id.is_ascii() && peer_id.len() <= 64;
    JoinRequest {
        room_id: camera.room_id.to_string(),
        name: Some(camera.name.to_string()),
        peer_id: Some(peer_id).filter(|_| is_fine),
        identity: identity.clone(),
        ..JoinRequest::default()
    }
}

fn no_calls() -> Error {
    Error::new(ErrorKind::WebrtcDisabled, "there are no calls here")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_camera_comes_in_once_asks_again_later_and_stays_out_when_it_was_sent_out() {
        let error = || Error::new(ErrorKind::RoomFull, "full");
        let mut state = CallState::default();
        assert!(state.begin() && !state.begin() && state.error().is_none());
        state = CallState::Refused(error(), Instant::now());
        assert!(!state.begin() && state.error().is_some());
        tokio::time::advance(TRY_AGAIN).await;
        assert!(state.begin());
        state = CallState::SentOut(error());
        tokio::time::advance(TRY_AGAIN).await;
        assert!(!state.begin());
    }
}
