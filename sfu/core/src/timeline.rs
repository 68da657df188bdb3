//! What was decided for a participant, and why: a bounded record, for people who ask what happened in their call.

use std::collections::VecDeque;

use crate::control::Quality;
use crate::ids::{Mid, TrackId};

/// One decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What.
    pub decision: Decision,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The estimate of what the way to the participant carries has changed by more than a tenth.
    Estimate {
        /// Bits per second.
        bits: u64,
        /// What their slots would take at their best, in bits per second.
        wanted: u64,
        /// The share of packets lost on the way.
        lost: f32,
    },
    /// A slot of the participant shows another layer.
    Layer {
        /// The slot.
        mid: Mid,
        /// Whose picture.
        track: TrackId,
        /// The simulcast layer, 0 the smallest.
        layer: u8,
        /// The highest spatial and temporal layers in it, where it has any.
        sublayer: Option<(u8, u8)>,
        /// Why.
        reason: LayerReason,
    },
    /// A slot shows nothing, because the network does not carry it.
    Paused {
        /// The slot.
        mid: Mid,
        /// What it would show.
        track: TrackId,
    },
    /// A key frame was asked of the participant.
    KeyFrame {
        /// Of which of their tracks.
        mid: Mid,
        /// Which layer of it.
        layer: u8,
    },
    /// Packets that were sent to them again within a second.
    Repairs {
        /// How many.
        packets: u32,
    },
    /// Their connection is told to be this good.
    Quality(Quality),
}

/// Why a slot shows another layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerReason {
    /// It shows another track, or begins to.
    Source,
    /// It is shown at another size.
    Size,
    /// The network carries more, or less.
    Bandwidth,
    /// The layer before does not come any more, or the better one has come back.
    Flow,
}

/// The latest decisions of a participant.
#[derive(Debug, Default)]
pub struct Timeline {
    entries: VecDeque<Entry>,
}

impl Timeline {
    /// How many decisions are remembered. A call of average trouble decides a few times a minute.
    pub const LENGTH: usize = 256;

    /// Notes a decision; the oldest is forgotten where there are too many.
    pub fn note(&mut self, at_ms: u64, decision: Decision) {
        if self.entries.len() == Self::LENGTH {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { at_ms, decision });
    }

    /// The decisions, the oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_decisions_are_forgotten() {
        let mut timeline = Timeline::default();
        for packets in 0..300 {
            timeline.note(u64::from(packets), Decision::Repairs { packets });
        }
        let times: Vec<u64> = timeline.entries().map(|e| e.at_ms).collect();
        assert_eq!((times.len(), times[0], times[255]), (Timeline::LENGTH, 44, 299));
    }
}
