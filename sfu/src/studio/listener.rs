//! Who listens to a room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use veche_sfu_core::bridge::News;
use veche_sfu_core::bridge::packet::BridgeReport;
use veche_sfu_core::ids::TrackId;

use super::{Request, Studio};

/// Hears what happens in a room, and the packets of what it takes, in their order. When it is dropped nobody listens any more.
///
/// What waits for it is bounded in bytes: packets beyond that are dropped and counted ([`Listener::dropped`]). News are not
/// dropped; who does not even read those is cut off ([`ListenError::Ended`]).
#[derive(Debug)]
pub struct Listener {
    id: u64,
    studio: Studio,
    waiting: flume::Receiver<Heard>,
    shared: Arc<Shared>,
}

/// Something that was heard.
#[derive(Clone, Debug)]
pub enum Heard {
    /// Somebody or something came, changed or went: [`News::Joined`], [`News::Left`] (with all tracks), [`News::Track`],
    /// [`News::TrackGone`], [`News::Reachable`] or [`News::Layers`], and nothing else. Who listens is told first of all that
    /// there is.
    News(News),
    /// A media packet of a track that is taken.
    Packet(HeardPacket),
    /// A sender report of such a track (RFC 3550 section 6.4.1).
    Report(BridgeReport),
}

/// A decrypted media packet.
#[derive(Clone, Debug)]
pub struct HeardPacket {
    /// Of which track.
    pub track: TrackId,
    /// Of which of its layers.
    pub layer: u8,
    /// How often the layer began anew, as after a mute: numbers and times of another generation mean nothing in this one.
    pub generation: u32,
    /// It came as a repair: it was lost on the way from its publisher, and asked for again.
    pub repaired: bool,
    /// When it came, in server time ([`Listener::server_time`]).
    pub arrived: i64,
    /// The packet: header, extensions, and payload without padding. The codec is what [`News::Track`] says of its payload type.
    pub bytes: Arc<[u8]>,
}

/// Why nothing was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Nothing came in this time.
    #[error("nothing came in time")]
    Timeout,
    /// Nothing will come: the media plane has stopped, or too many news waited.
    #[error("the media plane has stopped, or who listens was too slow for it")]
    Ended,
}

/// The studio's end of a listener.
#[derive(Debug)]
pub(super) struct Ear {
    pub(super) id: u64,
    out: flume::Sender<Heard>,
    shared: Arc<Shared>,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicUsize,
    dropped: AtomicU64,
    cut_off: AtomicBool,
}

/// What anything takes beside the bytes of its packet.
const OVERHEAD: usize = 256;

/// So much more may wait in news.
const NEWS_BYTES: usize = 4 << 20;

pub(super) fn listener(id: u64, studio: Studio, max_bytes: usize) -> (Listener, Ear) {
    let (out, waiting) = flume::unbounded();
    let shared = Arc::new(Shared::default());
    (Listener { id, studio, waiting, shared: shared.clone() }, Ear { id, out, shared, max_bytes })
}

impl Listener {
    /// These layers of a track, one bit each, shall be heard from now on, and no others; sound is one layer, bit 0. Publishers are
    /// asked for layers that are taken, and need not send others. Only a track that was told of can be taken, and one that was
    /// gone, or whose owner had left, has to be taken again.
    pub fn take(&self, track: TrackId, layers: u8) {
        self.studio.ask(Request::Take { ear: self.id, track, layers });
    }

    /// Asks for a key frame. Publishers are not asked more often than they can answer; packets of before still come.
    pub fn request_key_frame(&self, track: TrackId, layer: u8) {
        self.studio.ask(Request::KeyFrame { track, layer });
    }

    /// What was heard next; waits for it.
    pub fn hear(&self, longest: Duration) -> Result<Heard, ListenError> {
        let heard = self.waiting.recv_timeout(longest).map_err(|error| match error {
            flume::RecvTimeoutError::Timeout => ListenError::Timeout,
            flume::RecvTimeoutError::Disconnected => ListenError::Ended,
        })?;
        Ok(self.taken(heard))
    }

    /// The same without waiting; `None` when nothing waits.
    pub fn try_hear(&self) -> Option<Heard> {
        self.waiting.try_recv().ok().map(|heard| self.taken(heard))
    }

    /// The same in a task.
    pub async fn hear_async(&self) -> Result<Heard, ListenError> {
        let heard = self.waiting.recv_async().await.map_err(|_| ListenError::Ended)?;
        Ok(self.taken(heard))
    }

    /// How many packets and sender reports found no room so far.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// The server time of a moment: nanoseconds since the media plane began.
    pub fn server_time(&self, at: Instant) -> i64 {
        self.studio.server_time(at)
    }

    fn taken(&self, heard: Heard) -> Heard {
        self.shared.bytes.fetch_sub(cost(&heard), Ordering::Relaxed);
        heard
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.studio.ask(Request::Hush { ear: self.id });
    }
}

impl Ear {
    /// Puts something in, or drops it. `false` when nobody listens any more, or is too slow even for news.
    pub(super) fn put(&self, heard: Heard) -> bool {
        if self.shared.cut_off.load(Ordering::Relaxed) {
            return false;
        }
        let bytes = cost(&heard);
        let waiting = self.shared.bytes.load(Ordering::Relaxed);
        let is_news = matches!(heard, Heard::News(_));
        if waiting + bytes > self.max_bytes {
            if !is_news {
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                return true;
            }
            if waiting + bytes > self.max_bytes + NEWS_BYTES {
                self.shared.cut_off.store(true, Ordering::Relaxed);
                return false;
            }
        }
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.out.send(heard).is_ok()
    }
}

fn cost(heard: &Heard) -> usize {
    OVERHEAD
        + match heard {
            Heard::Packet(packet) => packet.bytes.len(),
            Heard::News(_) | Heard::Report(_) => 0,
        }
}
