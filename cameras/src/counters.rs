//! What the doors of cameras count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How somebody looks at a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewerKind {
    /// By a WebSocket.
    WebSocket,
    /// By an event stream.
    Sse,
    /// By a stream of pictures in one answer.
    Mjpeg,
}

impl ViewerKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::WebSocket, Self::Sse, Self::Mjpeg];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Sse => "sse",
            Self::Mjpeg => "mjpeg",
        }
    }
}

/// Why a frame was not taken, as it is counted.
pub const REFUSALS: [&str; 9] = [
    "not_jpeg",
    "truncated",
    "broken",
    "unsupported",
    "too_many_pixels",
    "too_many_scans",
    "too_large",
    "too_fast",
    "refused",
];

/// What has been counted since the start, and what there is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Cameras that have sent something lately.
    pub cameras: u64,
    /// Who looks, in the order of [`ViewerKind::ALL`].
    pub viewers: [u64; 3],
    /// Frames that were taken.
    pub frames_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Frames that were written to viewers, each time.
    pub frames_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Frames that a viewer was not sent, since it was slow or had asked for fewer.
    pub frames_skipped: u64,
    /// Frames that were not taken, in the order of [`REFUSALS`].
    pub refused: [u64; REFUSALS.len()],
}

/// The same, as it is counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) frames_in: Count,
    pub(crate) bytes_in: Count,
    pub(crate) frames_out: Count,
    pub(crate) bytes_out: Count,
    pub(crate) frames_skipped: Count,
    viewers: [AtomicU64; 3],
    refused: [Count; REFUSALS.len()],
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Somebody who looks, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Counted {
    tally: Arc<Tally>,
    kind: ViewerKind,
}

impl Tally {
    pub(crate) fn refuse(&self, reason: &str) {
        let index = REFUSALS.iter().position(|name| *name == reason);
        self.refused[index.expect("every reason is in the table")].add(1);
    }

    pub(crate) fn viewer(self: &Arc<Self>, kind: ViewerKind) -> Counted {
        self.viewers[kind as usize].fetch_add(1, Ordering::Relaxed);
        Counted { tally: self.clone(), kind }
    }

    pub(crate) fn read(&self, cameras: usize) -> Counters {
        Counters {
            cameras: cameras as u64,
            viewers: std::array::from_fn(|index| self.viewers[index].load(Ordering::Relaxed)),
            frames_in: self.frames_in.get(),
            bytes_in: self.bytes_in.get(),
            frames_out: self.frames_out.get(),
            bytes_out: self.bytes_out.get(),
            frames_skipped: self.frames_skipped.get(),
            refused: std::array::from_fn(|index| self.refused[index].get()),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.tally.viewers[self.kind as usize].fetch_sub(1, Ordering::Relaxed);
    }
}
