//! Who takes part in a room without a browser.

use veche_sfu_core::ids::{ParticipantId, TrackId};
use veche_sfu_core::studio::guest::GuestTrack;

use super::{Request, Studio};

/// A participant who publishes from within this process. When it is dropped they leave.
#[derive(Debug)]
pub struct Guest {
    participant: ParticipantId,
    studio: Studio,
    asks: flume::Receiver<Ask>,
}

/// What is asked of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A key frame of a layer: until it comes somebody sees nothing.
    KeyFrame {
        /// Of which track.
        track: TrackId,
        /// Of which of its layers.
        layer: u8,
    },
    /// From now on these layers are wanted, one bit each. The others need not be made: nobody shows them, nor would if they came.
    /// In the beginning all are wanted.
    Wanted {
        /// Of which track.
        track: TrackId,
        /// Which layers.
        layers: u8,
    },
}

/// What may be asked before the guest has looked; more is not told.
const MAX_ASKS: usize = 1_024;

pub(super) fn guest(participant: ParticipantId, studio: Studio) -> (Guest, flume::Sender<Ask>) {
    let (out, asks) = flume::bounded(MAX_ASKS);
    (Guest { participant, studio, asks }, out)
}

impl Guest {
    /// Their number, as events have it.
    pub fn participant(&self) -> ParticipantId {
        self.participant
    }

    /// Publishes a track from now on. Its section needs a codec with a payload type (any from 96 to 127), and a layer for each
    /// stream, from the smallest to the largest; with several layers each needs a rid of its own. A guest has at most 16 tracks of
    /// at most 8 layers.
    pub fn publish(&self, track: GuestTrack) -> TrackId {
        let id = self.studio.take_number();
        let participant = self.participant;
        self.studio.ask(Request::Publish { participant, id, track: Box::new(track) });
        id
    }

    /// Mutes a track, or unmutes it: then its numbers and times may begin anew.
    pub fn mute(&self, track: TrackId, muted: bool) {
        self.studio.ask(Request::Mute { track, muted });
    }

    /// Publishes a track no longer.
    pub fn unpublish(&self, track: TrackId) {
        self.studio.ask(Request::Unpublish { track });
    }

    /// Sends an RTP packet of one of their layers: header with sequence number, timestamp on the codec's clock and the payload type
    /// of the section (`veche_sfu_core::rtp::HeaderWriter` writes one), and payload of at most 1,200 bytes. The marker ends a picture.
    /// Sequence numbers of a layer follow each other. Never waits; `false` when there was no room for it.
    pub fn send(&self, track: TrackId, layer: u8, packet: Vec<u8>) -> bool {
        self.studio.try_ask(Request::Send { track, layer, packet })
    }

    /// Says what time it was on a layer's clock: `ntp` is a 32.32 fixed-point timestamp (RFC 5905) on a clock that all tracks of the
    /// guest share. It keeps picture and sound together; with one track it is not needed.
    pub fn report(&self, track: TrackId, layer: u8, ntp: u64, rtp_timestamp: u32) -> bool {
        self.studio.try_ask(Request::Report { track, layer, ntp, rtp_timestamp })
    }

    /// What is asked of the guest. To be read all the time.
    pub fn asks(&self) -> &flume::Receiver<Ask> {
        &self.asks
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.studio.ask(Request::RemoveGuest { participant: self.participant });
    }
}
