//! What happens in this process with the media of rooms: who *listens* to a room gets its packets, decrypted, and a *guest* takes
//! part in it without a browser. Both live beside the workers, on one thread that hands on and decides nothing
//! ([`veche_sfu_core::studio`] does). Nobody counts them as load, and nothing of theirs holds a worker up.
//!
//! To listen ([`Handle::listen`](crate::Handle::listen)): the [`Listener`] tells who is there and what they publish, and gets the
//! packets of the layers that it takes.
//!
//! To publish ([`Handle::add_guest`](crate::Handle::add_guest)): the [`Guest`] publishes tracks and sends RTP packets of them, and is
//! asked for key frames and told which layers anybody wants. Signaling has to know of the participant by itself; the events of its
//! tracks come out with all others ([`Sfu::events`](crate::Sfu)).

mod desk;
mod guest;
mod listener;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use veche_sfu_core::ids::{ParticipantId, RoomId, TrackId, TrackNumbers, WorkerId};
use veche_sfu_core::studio::guest::GuestTrack;

use crate::mailbox::Ringer;

pub(crate) use desk::{Desk, DeskParts};
pub use guest::{Ask, Guest};
use listener::Ear;
pub use listener::{Heard, HeardPacket, ListenError, Listener};

/// Requests that may wait for the thread. It takes them within milliseconds; packets that find no room are dropped.
const CAPACITY: usize = 8_192;

/// The way to the studio's thread. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Studio {
    line: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    requests: flume::Sender<Request>,
    ringer: Ringer,
    epoch: Instant,
    numbers: Mutex<TrackNumbers>,
    next_ear: AtomicU64,
}

/// What is asked of the studio's thread.
#[derive(Debug)]
enum Request {
    Listen { room: RoomId, ear: Ear },
    Take { ear: u64, track: TrackId, layers: u8 },
    KeyFrame { track: TrackId, layer: u8 },
    Hush { ear: u64 },
    AddGuest { room: RoomId, participant: ParticipantId, asks: flume::Sender<Ask> },
    RemoveGuest { participant: ParticipantId },
    Publish { participant: ParticipantId, id: TrackId, track: Box<GuestTrack> },
    Mute { track: TrackId, muted: bool },
    Unpublish { track: TrackId },
    Send { track: TrackId, layer: u8, packet: Vec<u8> },
    Report { track: TrackId, layer: u8, ntp: u64, rtp_timestamp: u32 },
}

/// Makes the way to the studio beside so many workers, and what its thread reads.
fn line(workers: u16, ringer: Ringer, epoch: Instant) -> (Studio, flume::Receiver<Request>) {
    let (requests, inbox) = flume::bounded(CAPACITY);
    let numbers = Mutex::new(TrackNumbers::new(WorkerId(workers), workers + 1));
    let line = Line { requests, ringer, epoch, numbers, next_ear: AtomicU64::new(0) };
    (Studio { line: Arc::new(line) }, inbox)
}

impl Studio {
    /// Readies the studio beside so many workers: the way to it, what wakes it, and what its thread is made of.
    pub(crate) fn prepare(workers: u16, epoch: Instant) -> io::Result<(Self, DeskParts)> {
        let bell = crate::mailbox::bell()?;
        let (studio, inbox) = line(workers, Ringer::of(&bell), epoch);
        Ok((studio, DeskParts { bell, inbox, workers, epoch }))
    }

    /// What wakes the thread.
    pub(crate) fn ringer(&self) -> Ringer {
        self.line.ringer.clone()
    }

    /// Listens to a room; so many bytes may wait for who listens.
    pub(crate) fn listen(&self, room: RoomId, max_bytes: usize) -> Listener {
        let id = self.line.next_ear.fetch_add(1, Ordering::Relaxed);
        let (listener, ear) = listener::listener(id, self.clone(), max_bytes);
        self.ask(Request::Listen { room, ear });
        listener
    }

    /// Somebody without transport comes.
    pub(crate) fn add_guest(&self, room: RoomId, participant: ParticipantId) -> Guest {
        let (guest, asks) = guest::guest(participant, self.clone());
        self.ask(Request::AddGuest { room, participant, asks });
        guest
    }

    /// Asks the thread to end.
    pub(crate) fn stop(&self) {
        self.line.ringer.stop();
    }

    /// The server time of a moment, as packets have it: nanoseconds since the media plane began.
    fn server_time(&self, at: Instant) -> i64 {
        at.saturating_duration_since(self.line.epoch).as_nanos() as i64
    }

    fn take_number(&self) -> TrackId {
        self.line.numbers.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Asks for something, and waits while the thread has too much to do. One that has ended answers nobody.
    fn ask(&self, request: Request) {
        if self.line.requests.send(request).is_ok() {
            self.line.ringer.ring();
        }
    }

    /// The same without waiting; `false` when there was no room.
    fn try_ask(&self, request: Request) -> bool {
        let taken = self.line.requests.try_send(request).is_ok();
        self.line.ringer.ring();
        taken
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.ringer.stop();
    }
}
