//! The bridges between the engines that carry one room: what each tells the others, as plain data.
//!
//! A room that outgrows a worker has a *shard* on each worker that carries it. Whoever publishes stands in the other
//! shards as a *mirror* ([`crate::mirror`]): the home worker tells what the track is and how its layers are
//! ([`News`]), and sends the packets of the layers that a shard takes ([`packet::BridgePacket`]), each once per worker.
//! News arrive in their order, or else all begins anew; packets may be dropped when the way is full.
//!
//! How shards meet: a new one says [`News::Hello`] to all workers. Those that carry the room answer with
//! [`News::Here`] and all they have, and get the same in return. [`News::Goodbye`] ends it. A worker that does not listen
//! for so long that too many news wait for it misses them ([`BridgeMessage::Anew`]), and is said hello again.

pub mod lanes;
pub mod packet;

use std::sync::Arc;

use crate::data::relay::DataMessage;
use crate::ids::{Mid, ParticipantId, RoomId, TrackId};
use crate::media::{ExtensionIds, Source};
use crate::receive::sublayers::SubLayerView;
use crate::sdp::PublishedSection;

/// Something on its way from one engine to another.
#[derive(Clone, Debug)]
pub enum Crossing<'a> {
    /// News: where there is no room for them they wait.
    News(BridgeMessage),
    /// A record ([`packet::Record`]): where there is no room for it, it is dropped.
    Record(&'a [u8]),
}

/// What one engine tells another.
#[derive(Clone, Debug)]
pub enum BridgeMessage {
    /// About a room.
    News {
        /// Which room.
        room: RoomId,
        /// What.
        news: News,
    },
    /// Whatever was told before, of any room, is void: too much waited to be told all of it. All that there is follows, as of an
    /// engine that has just begun.
    Anew,
}

/// What a shard tells another.
#[derive(Clone, Debug)]
pub enum News {
    /// The room has a shard here from now on.
    Hello,
    /// So it has here; all that it has follows, and whatever was said before is void.
    Here,
    /// It has none any more.
    Goodbye,
    /// Somebody is here.
    Joined {
        /// Who.
        participant: ParticipantId,
        /// The name by which others know them.
        peer: Arc<str>,
    },
    /// Somebody has left.
    Left {
        /// Who.
        participant: ParticipantId,
    },
    /// A track as it is now.
    Track(Box<TrackNews>),
    /// A track is gone.
    TrackGone {
        /// Whose.
        participant: ParticipantId,
        /// Which.
        track: TrackId,
    },
    /// Whether somebody's media can be expected to come.
    Reachable {
        /// Whose.
        participant: ParticipantId,
        /// Whether.
        reachable: bool,
    },
    /// What the layers of a video track are like at the moment.
    Layers {
        /// Whose.
        participant: ParticipantId,
        /// Which track.
        track: TrackId,
        /// The layers that its publisher is asked for, one bit each.
        asked: u8,
        /// All its layers.
        layers: Vec<LayerView>,
    },
    /// The layers of a track that this shard wants to be sent, one bit each: what is shown, and what would be.
    Wanted {
        /// Whose.
        participant: ParticipantId,
        /// Which track.
        track: TrackId,
        /// Which layers.
        layers: u8,
    },
    /// The packets of a video layer shall come from now on, or no longer. Sound always comes.
    Take {
        /// Whose.
        participant: ParticipantId,
        /// Which track.
        track: TrackId,
        /// Which layer.
        layer: u8,
        /// From now on?
        on: bool,
    },
    /// Somebody here needs a key frame.
    KeyFrame {
        /// Whose.
        participant: ParticipantId,
        /// Of which track.
        track: TrackId,
        /// Of which layer.
        layer: u8,
    },
    /// A data channel message for people of the other shard.
    Data(Box<DataMessage>),
    /// So much of a sender's messages has found its receivers: more may come.
    DataTaken {
        /// The sender.
        sender: ParticipantId,
        /// How much of the window.
        bytes: usize,
    },
}

/// A track as others need to know it.
#[derive(Clone, Debug)]
pub struct TrackNews {
    /// Whose.
    pub participant: ParticipantId,
    /// Whether their media can be expected to come.
    pub reachable: bool,
    /// Which.
    pub id: TrackId,
    /// Its section at its publisher's.
    pub mid: Mid,
    /// What was agreed on, without SSRCs.
    pub section: PublishedSection,
    /// What it shows.
    pub source: Source,
    /// Muted by its publisher.
    pub muted: bool,
    /// When it was published, in server time.
    pub published: i64,
    /// The ids of header extensions in its packets.
    pub extensions: ExtensionIds,
}

/// What a layer is like at the moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerView {
    /// The size of its pictures, once known.
    pub size: Option<(u16, u16)>,
    /// What its sub-layers take.
    pub sublayers: Vec<SubLayerView>,
}

/// Rates that differ by less than one in so many are not told again.
const TOLD_STEP: u64 = 16;

impl LayerView {
    /// Whether somebody who knows `told` should hear of this.
    pub fn differs(&self, told: &LayerView) -> bool {
        let same = |(new, old): (&SubLayerView, &SubLayerView)| {
            let rest = SubLayerView { bits: old.bits, frames: old.frames, ..*new } == *old;
            let bits = new.bits.abs_diff(old.bits) <= old.bits / TOLD_STEP;
            rest && bits && (new.frames - old.frames).abs() <= 1.0
        };
        self.size != told.size
            || self.sublayers.len() != told.sublayers.len()
            || !self.sublayers.iter().zip(&told.sublayers).all(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocation::Level;

    #[test]
    fn only_what_matters_is_told_again() {
        let sub = SubLayerView {
            spatial: Level::ALL,
            temporal: Level::ALL,
            size: None,
            bits: 1_000_000,
            frames: 30.0,
            flowing: true,
        };
        let view = |sub| LayerView { size: Some((640, 360)), sublayers: vec![sub] };
        let told = view(sub);
        assert!(!view(SubLayerView { bits: 1_050_000, frames: 29.5, ..sub }).differs(&told));
        assert!(view(SubLayerView { bits: 1_100_000, ..sub }).differs(&told));
        assert!(view(SubLayerView { flowing: false, ..sub }).differs(&told));
        assert!(view(SubLayerView { frames: 15.0, ..sub }).differs(&told));
        assert!(LayerView { size: None, ..told.clone() }.differs(&told));
        assert!(told.differs(&LayerView::default()));
    }
}
