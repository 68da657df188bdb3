//! What comes out of the studio.

use crate::bridge::News;
use crate::bridge::packet::Record;
use crate::control::Event;
use crate::ids::{RoomId, TrackId};

/// Something that has happened.
#[derive(Clone, Debug)]
pub enum Told {
    /// In a room that is listened to: [`News::Joined`], [`News::Left`] (with all tracks), [`News::Track`], [`News::TrackGone`],
    /// [`News::Reachable`] or [`News::Layers`], and nothing else.
    News {
        /// Which room.
        room: RoomId,
        /// What.
        news: News,
    },
    /// Somebody needs a key frame of a guest's layer: now, or the picture stays away.
    KeyFrame {
        /// Which track.
        track: TrackId,
        /// Which layer.
        layer: u8,
    },
    /// These layers of a guest's track, one bit each, are wanted from now on. Others need not be made: nobody shows them, nor
    /// would if they came.
    Wanted {
        /// Which track.
        track: TrackId,
        /// Which layers.
        layers: u8,
    },
    /// For the control plane, as from any other home.
    Event(Event),
}

/// A packet or a sender report of somebody in a room that is listened to.
#[derive(Clone, Copy, Debug)]
pub struct RoomRecord<'a> {
    /// Which room.
    pub room: RoomId,
    /// What came.
    pub record: Record<'a>,
}
