//! One camera: its newest frame, which is all that is kept of it, and who waits for the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use veche_access::Identity;
use veche_doors::rate::{TokenBucket, Verdict};
use veche_doors::{Error, ErrorKind};

use crate::frame::Frame;
use crate::jpeg::Jpeg;

/// A camera.
#[derive(Debug)]
pub(crate) struct Camera {
    pub(crate) room_id: Arc<str>,
    pub(crate) name: Arc<str>,
    /// Of this life; another camera of the same name has another.
    epoch: u32,
    /// Who may send and remove it.
    owner: Owner,
    newest: watch::Sender<Shown>,
    intake: Mutex<Intake>,
    viewers: AtomicUsize,
}

/// What is shown of a camera.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) frame: Option<Arc<Frame>>,
    /// It is gone for good, and why.
    pub(crate) end: Option<End>,
}

/// Why a camera is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was silent for too long.
    Silent,
    /// It was removed, by itself or with its room.
    Removed,
    /// The server stops.
    Stopping,
}

/// Whose a camera is: a user's, an API key's, or that of somebody who showed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner(Option<Arc<str>>);

#[derive(Debug)]
struct Intake {
    bucket: TokenBucket,
    frames: u64,
    heard_at: Instant,
}

impl Owner {
    pub(crate) fn of(identity: &Identity) -> Self {
        Self(identity.user_id.clone().or_else(|| identity.key_id.clone()))
    }
}

impl End {
    pub(crate) fn error(self) -> Error {
        let (kind, message) = match self {
            Self::Silent => (ErrorKind::CameraNotFound, "the camera sends nothing any more"),
            Self::Removed => (ErrorKind::CameraNotFound, "the camera was removed"),
            Self::Stopping => (ErrorKind::ServerStopping, "the server stops; it may be back"),
        };
        Error::new(kind, message)
    }
}

impl Camera {
    pub(crate) fn new(room_id: Arc<str>, name: Arc<str>, owner: Owner, max_fps: u32) -> Self {
        let now = Instant::now();
        Self {
            room_id,
            name,
            epoch: rand::random(),
            owner,
            newest: watch::Sender::new(Shown::default()),
            intake: Mutex::new(Intake {
                bucket: TokenBucket::new(max_fps, max_fps, now.into_std()),
                frames: 0,
                heard_at: now,
            }),
            viewers: AtomicUsize::new(0),
        }
    }

    /// Whether a frame may come now; one that may not is dropped. What is a burst of the network, up to a second, passes.
    pub(crate) fn has_room(&self) -> bool {
        let mut intake = self.intake.lock();
        let now = Instant::now();
        intake.heard_at = now;
        intake.bucket.handle_message(now.into_std()) == Verdict::Take
    }

    /// Shows a frame in the place of the one before; its number.
    pub(crate) fn show(&self, bytes: bytes::Bytes, jpeg: Jpeg) -> u64 {
        let mut intake = self.intake.lock();
        intake.frames += 1;
        let frame = Frame::new(intake.frames, self.epoch, (jpeg.width, jpeg.height), bytes);
        // Within the lock, so that the newest is that of the highest number.
        self.newest.send_modify(|shown| shown.frame = Some(Arc::new(frame)));
        intake.frames
    }

    /// Ends it: who looks is told.
    pub(crate) fn end(&self, end: End) {
        self.newest.send_modify(|shown| {
            shown.end.get_or_insert(end);
        });
    }

    pub(crate) fn is_of(&self, owner: &Owner) -> bool {
        self.owner == *owner
    }

    /// When it last sent something.
    pub(crate) fn heard_at(&self) -> Instant {
        self.intake.lock().heard_at
    }

    pub(crate) fn newest(&self) -> Option<Arc<Frame>> {
        self.newest.borrow().frame.clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Shown> {
        self.newest.subscribe()
    }

    /// How many look at it.
    pub(crate) fn viewers(&self) -> usize {
        self.viewers.load(Ordering::Relaxed)
    }

    /// One more looks at it, or one fewer.
    pub(crate) fn count_viewer(&self, comes: bool) {
        if comes {
            self.viewers.fetch_add(1, Ordering::Relaxed);
        } else {
            self.viewers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
