//! What the tool must know of a server: how somebody joins a room there, and what is said afterwards.
//!
//! Media is the same everywhere: the tool makes it. A target only carries session descriptions, in the order that its
//! protocol wants: [`Negotiation`] offers and takes the answer, or answers an offer.

use std::future::Future;

use anyhow::Result;

use crate::negotiation::Negotiation;

/// A kind of server.
pub trait Target: Send + Sync + 'static {
    /// Somebody's membership of a room, as long as it lasts.
    type Member: Member;

    /// Whether one connection both publishes and watches. Otherwise somebody who does both joins twice by the same name:
    /// first to publish, and, when all of the room publish, to watch.
    const DUPLEX: bool;

    /// Makes a room ready. Called once for each, before anybody joins it.
    fn open_room(&self, room: &str) -> impl Future<Output = Result<()>> + Send;

    /// Joins `room` as `name` and negotiates: afterwards the negotiation is agreed. A negotiation that has something to
    /// [publish](Negotiation::published) is a publisher's, one that has [slots](Negotiation::slots) a subscriber's.
    /// Who watches only joins when those who publish in this room are connected, and should get what all of them send,
    /// but not what somebody of the same name does.
    fn join(
        &self,
        room: &str,
        name: &str,
        negotiation: &mut Negotiation,
    ) -> impl Future<Output = Result<Self::Member>> + Send;

    /// Removes a room that [`Target::open_room`] made. Called once for each, after everybody has left.
    fn close_room(&self, room: &str) -> impl Future<Output = Result<()>> + Send;
}

/// Somebody who has joined.
pub trait Member: Send + 'static {
    /// Waits for the next thing that matters, and keeps the signaling connection alive meanwhile. An error means that it
    /// is lost. May be dropped while it waits without losing anything.
    fn next(&mut self) -> impl Future<Output = Result<Told>> + Send;

    /// Leaves the room for good.
    fn leave(self) -> impl Future<Output = Result<()>> + Send;
}

/// What a server says to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Which layers of a published section are worth sending: rid (`None` without simulcast) and whether. Layers that are
    /// not named stay as they are.
    Layers {
        /// The section.
        mid: String,
        /// Its layers.
        wanted: Vec<(Option<String>, bool)>,
    },
    /// Something about this member that is worth a line on the terminal, such as an error message.
    Remark(String),
}
