//! Recordings of rooms: who asks for them, and who is told.

use std::sync::Arc;

use serde_json::json;
use veche_recorder::{self as recorder, Event, Layout, Order, Profile, Recorder, Summary};
use veche_sfu_core::ids::TrackId;

use super::Rooms;
use crate::error::{Error, ErrorKind};
use crate::protocol::RoomRecording;
use crate::room::Room;

impl Rooms {
    /// Rooms can be recorded from now on. `false` when they could already.
    pub(crate) fn set_recorder(&self, recorder: Recorder) -> bool {
        self.recorder.set(recorder).is_ok()
    }

    /// What records rooms; an error where that is switched off.
    pub(crate) fn recorder(&self) -> Result<&Recorder, Error> {
        self.recorder.get().ok_or_else(|| {
            let message = "recordings are switched off (recording.enabled)";
            Error::new(ErrorKind::RecordingUnavailable, message)
        })
    }

    /// Begins to record a room, or part of it.
    pub(crate) fn start_recording(
        &self,
        room: &Arc<Room>,
        peers: Vec<String>,
        tracks: Vec<TrackId>,
        layout: Layout,
    ) -> Result<Summary, Error> {
        let order = Order { room: room.room_id.to_string(), media_id: room.media_id, peers, tracks, layout };
        let weak = Arc::downgrade(room);
        let people = move |peer: &str| {
            let known = weak.upgrade().and_then(|room| room.lock().profile(peer));
            known.map(|(name, user)| Profile { name, user }).unwrap_or_default()
        };
        self.recorder()?.start(order, people).map_err(refused)
    }

    /// Begins to record a room, or ends it, as a client asks. What is so already stays so.
    pub(crate) async fn record(&self, room: &Arc<Room>, on: bool) -> Result<(), Error> {
        let running = self.recorder()?.running(&room.room_id);
        match (on, running) {
            (true, None) => match self.start_recording(room, Vec::new(), Vec::new(), Layout::default()) {
                // Somebody was faster.
                Err(error) if error.kind == ErrorKind::RecordingRuns => Ok(()),
                result => result.map(drop),
            },
            (false, Some(running)) => self.recorder()?.stop(&running.id).await.map(drop).map_err(refused),
            _ => Ok(()),
        }
    }

    /// Records a room that somebody is in, where the operator wants that of each.
    pub(super) fn record_by_itself(&self, room: &Arc<Room>) {
        let Some(recorder) = self.recorder.get().filter(|recorder| recorder.is_automatic()) else { return };
        if recorder.running(&room.room_id).is_none()
            && let Err(error) = self.start_recording(room, Vec::new(), Vec::new(), Layout::default())
            && error.kind != ErrorKind::RecordingRuns
        {
            tracing::error!(room = &*room.room_id, %error, "a room is not recorded");
        }
    }

    /// The room is gone: so is whom one could record.
    pub(super) fn end_recording(&self, room_id: &str) {
        let Some(recorder) = self.recorder.get().cloned() else { return };
        if let Some(running) = recorder.running(room_id) {
            tokio::spawn(async move {
                if let Err(error) = recorder.stop(&running.id).await {
                    tracing::warn!(%error, "the recording of a room that is gone was not stopped");
                }
            });
        }
    }

    /// Takes what the recorder tells.
    pub(crate) fn on_recording(&self, event: &Event) {
        let (summary, recording, kind) = match event {
            Event::Started(summary) => {
                let Summary { id, started_at, .. } = summary.clone();
                let recording = RoomRecording { recording_id: id, started_at };
                (summary, Some(recording), "recording.started")
            }
            Event::Ended(summary) => (summary, None, "recording.stopped"),
        };
        let Ok(room) = self.room(&summary.room) else { return };
        let Summary { id, end, duration_ms, bytes, files, .. } = summary;
        let data = match recording {
            Some(_) => json!({ "recording_id": id }),
            None => json!({
                "recording_id": id, "end": end, "duration_ms": duration_ms, "bytes": bytes, "files": files
            }),
        };
        let mut state = room.lock();
        state.note_recording(kind, data);
        state.set_recording(recording);
    }
}

/// What the recorder says, for clients.
#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
pub(crate) fn refused(error: recorder::Error) -> Error {
    let kind = match &error {
        recorder::Error::AlreadyRunning(_) | recorder::Error::StillRunning => ErrorKind::RecordingRuns,
        recorder::Error::NotFound => ErrorKind::RecordingNotFound,
        recorder::Error::Stopping => ErrorKind::ServerStopping,
        recorder::Error::TooMany(_) | recorder::Error::DiskFull(_) => ErrorKind::RecordingUnavailable,
        recorder::Error::Storage(error) => {
            // What a path is called is nobody's business.
            tracing::error!(%error, "the folder of the recordings");
            return Error::new(ErrorKind::RecordingUnavailable, "the recordings' folder cannot be used now");
        }
    };
    Error::new(kind, error.to_string())
}
