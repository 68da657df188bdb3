//! What a frame is to the decode targets of its stream, the same for all codecs: which of them need it, and to which of
//! them one may change with it.
//!
//! A decode target is a choice of sub-layers: all frames up to one spatial and one temporal layer that are needed to
//! show it. A dependency descriptor names its targets itself; for all others there is a grid of four spatial by four
//! temporal layers, target `4 x spatial + temporal`.

use super::dependency::{FrameDependencies, MAX_DECODE_TARGETS, References, Structure};
use super::h265::H265Packet;
use super::vp8::Vp8Descriptor;
use super::vp9::Vp9Descriptor;

/// How many spatial and how many temporal layers the grid has; what is above counts as the last.
pub const GRID: u8 = 4;

/// All targets of the grid.
const ALL: u32 = 0xffff;

/// What a frame is to the decode targets of its stream. Masks have one bit for each target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameTargets {
    /// The spatial layer of the frame.
    pub spatial: u8,
    /// The temporal layer of the frame.
    pub temporal: u8,
    /// The targets that the frame is part of.
    pub present: u32,
    /// Those of them that cannot go on without it.
    pub needed: u32,
    /// Those of them that one may change to with this frame, when it can be decoded.
    pub switch: u32,
    /// How that is known.
    pub condition: Condition,
    /// The targets that the sender produces.
    pub active: u32,
    /// It refers to no other frame, and no later frame to one before it.
    pub key: bool,
    /// Its picture ids must have no holes (VP8: receivers wait for what a missing id stands for).
    pub gapless_ids: bool,
    layers: TargetLayers,
}

/// When a frame that is a switch can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    None,
    /// For a target of the grid: when another of the same spatial layer, out of these, was complete so far.
    Complete(u32),
    /// When all frames that it refers to were sent.
    Sent {
        /// Its own number.
        frame_number: u16,
        /// Distances to the others.
        references: References,
    },
}

/// The spatial and temporal layer of each target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TargetLayers {
    Grid,
    Told([u8; MAX_DECODE_TARGETS]),
}

impl FrameTargets {
    /// A frame of a stream without layers. `discardable`: no other frame refers to it.
    pub(crate) fn single(key: bool, discardable: bool) -> Self {
        Self {
            spatial: 0,
            temporal: 0,
            present: 1,
            needed: u32::from(!discardable),
            switch: u32::from(key),
            condition: Condition::None,
            active: 1,
            key,
            gapless_ids: false,
            layers: TargetLayers::Grid,
        }
    }

    /// By the VP8 payload descriptor. Y: the frame refers to the lowest temporal layer only.
    pub(crate) fn vp8(descriptor: &Vp8Descriptor, key: bool) -> Self {
        let discardable = descriptor.non_reference;
        let Some(temporal) = descriptor.temporal_id else {
            return Self { gapless_ids: true, ..Self::single(key, discardable) };
        };
        let mut frame = Self::temporal_layers(temporal, key);
        frame.gapless_ids = true;
        if discardable {
            frame.needed = 0;
        }
        if descriptor.layer_sync && !key {
            frame.switch = target(0, temporal);
            frame.condition = Condition::Complete(steps(temporal));
        }
        frame
    }

    /// By the VP9 payload descriptor. `spatial_layers` is what the scalability structure told last.
    pub(crate) fn vp9(descriptor: &Vp9Descriptor, spatial_layers: Option<u8>) -> Self {
        let Some(layer) = descriptor.layer else {
            return Self::single(!descriptor.inter_picture, false);
        };
        let (spatial, temporal) = (layer.spatial_id.min(GRID - 1), layer.temporal_id.min(GRID - 1));
        // In pictures that refer to no others, higher layers may build on any lower one.
        let for_higher = !descriptor.not_for_higher_layers || !descriptor.inter_picture;
        let mut present = 0;
        for upper in spatial..if for_higher { GRID } else { spatial + 1 } {
            present |= row(upper) & from_temporal(temporal);
        }
        let alone = !descriptor.inter_picture && !layer.inter_layer;
        let switching_up = descriptor.inter_picture && layer.switching_up;
        let told = spatial_layers.filter(|count| *count < GRID);
        Self {
            spatial,
            temporal,
            present,
            needed: present,
            switch: if alone || switching_up { present } else { 0 },
            condition: if alone { Condition::None } else { Condition::Complete(steps(temporal)) },
            active: told.map_or(ALL, |count| (1 << (4 * u32::from(count.max(1)))) - 1),
            key: alone && spatial == 0,
            gapless_ids: false,
            layers: TargetLayers::Grid,
        }
    }

    /// By the headers of H265's NAL units.
    pub(crate) fn h265(packet: &H265Packet, key: bool) -> Self {
        let Some(temporal) = packet.temporal_id else { return Self::single(key, false) };
        let mut frame = Self::temporal_layers(temporal, key);
        if packet.temporal_switch && !key {
            frame.switch = frame.present;
            frame.condition = Condition::Complete(steps(temporal));
        } else if packet.temporal_step && !key {
            frame.switch = target(0, temporal);
            frame.condition = Condition::Complete(steps(temporal));
        }
        frame
    }

    /// By AV1's own layer ids, which say nothing of switches.
    pub(crate) fn av1(layer: Option<(u8, u8)>, key: bool) -> Self {
        let Some((temporal, spatial)) = layer else { return Self::single(key, false) };
        let (spatial, temporal) = (spatial.min(GRID - 1), temporal.min(GRID - 1));
        let present = (spatial..GRID).fold(0, |mask, s| mask | row(s)) & from_temporal(temporal);
        Self {
            spatial,
            temporal,
            present,
            needed: present,
            switch: if key { present } else { 0 },
            active: ALL,
            ..Self::single(key, false)
        }
    }

    /// By a dependency descriptor.
    pub(crate) fn described(
        frame: &FrameDependencies,
        structure: &Structure,
        active: u32,
        gapless_ids: bool,
    ) -> Self {
        Self {
            spatial: frame.spatial_id,
            temporal: frame.temporal_id,
            present: frame.targets.present(),
            needed: frame.targets.needed(),
            switch: frame.targets.switch(),
            condition: Condition::Sent { frame_number: frame.frame_number, references: frame.references },
            active,
            key: frame.references.distances().is_empty(),
            gapless_ids,
            layers: TargetLayers::Told(*structure.target_layers()),
        }
    }

    /// The spatial and temporal layer of a target.
    pub fn layer(&self, target: u8) -> (u8, u8) {
        match &self.layers {
            TargetLayers::Grid => (target / GRID, target % GRID),
            TargetLayers::Told(layers) => {
                layers.get(usize::from(target)).map_or((0, 0), |layer| (layer >> 4, layer & 0x0f))
            }
        }
    }

    /// Whether the frame is part of a target.
    pub fn is_in(&self, target: u8) -> bool {
        self.present.checked_shr(u32::from(target)).is_some_and(|mask| mask & 1 == 1)
    }

    /// The frame and its stream have temporal layers only.
    fn temporal_layers(temporal: u8, key: bool) -> Self {
        let temporal = temporal.min(GRID - 1);
        let present = row(0) & from_temporal(temporal);
        Self {
            temporal,
            present,
            needed: present,
            switch: if key { present } else { 0 },
            active: row(0),
            ..Self::single(key, false)
        }
    }
}

/// Of a mask of the grid: all targets of the spatial layers that have any in it.
pub fn whole_rows(mask: u32) -> u32 {
    ((mask | mask >> 1 | mask >> 2 | mask >> 3) & 0x1111) * 0x0f
}

fn target(spatial: u8, temporal: u8) -> u32 {
    1 << (GRID * spatial.min(GRID - 1) + temporal.min(GRID - 1))
}

fn row(spatial: u8) -> u32 {
    0x0f << (4 * u32::from(spatial))
}

/// All targets with this temporal layer or more.
fn from_temporal(temporal: u8) -> u32 {
    0x1111 * ((0x0f << temporal) & 0x0f)
}

/// The targets with this temporal layer and with the one below it: who has either can take the step.
fn steps(temporal: u8) -> u32 {
    let temporal = u32::from(temporal.min(GRID - 1));
    0x1111 << temporal | 0x1111 << temporal.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::mutation::hex;

    fn vp9(text: &str) -> FrameTargets {
        FrameTargets::vp9(&Vp9Descriptor::parse(&hex(text)).unwrap(), Some(3))
    }

    #[test]
    fn vp9_key_pictures_are_a_switch_for_every_target() {
        // B, SID 0, then SID 1 with D.
        let lower = vp9("a8 9234 00 17 aa");
        assert!(lower.key);
        assert_eq!((lower.present, lower.switch, lower.condition), (ALL, ALL, Condition::None));
        assert_eq!(lower.active, 0x0fff, "three spatial layers");
        let upper = vp9("a8 9234 03 17 aa");
        assert_eq!((upper.present, upper.switch), (0xfff0, 0));
    }

    #[test]
    fn vp9_layers_that_no_higher_one_builds_on_are_of_their_own_target_only() {
        // P, B, Z; TID 1 with U, SID 1.
        let frame = vp9("e9 9234 32 17 aa");
        assert_eq!((frame.spatial, frame.temporal), (1, 1));
        assert_eq!((frame.present, frame.switch), (0x00e0, 0x00e0));
        assert_eq!(frame.condition, Condition::Complete(0x3333));
        // Without Z, all above need it.
        assert_eq!(vp9("e8 9234 32 17 aa").present, 0xeee0);
    }

    #[test]
    fn vp8_frames_are_part_of_all_higher_temporal_layers() {
        let frame = |text: &str, key| FrameTargets::vp8(&Vp8Descriptor::parse(&hex(text)).unwrap(), key);
        // X, then I L T K, a picture id, TL0PICIDX and TID with Y.
        let sync = frame("90 f0 9234 17 60 11", false);
        assert_eq!((sync.temporal, sync.present, sync.switch), (1, 0b1110, 0b0010));
        let base = frame("90 f0 9234 17 00 11", false);
        assert_eq!((base.present, base.needed, base.switch), (0b1111, 0b1111, 0));
        assert_eq!(frame("b0 f0 9234 17 80 11", false).needed, 0, "N");
        assert_eq!(frame("90 f0 9234 17 00 10", true).switch, 0b1111);
        assert_eq!(frame("90 80 9234 11", false).present, 1, "no temporal layers");
    }

    #[test]
    fn rows_are_filled() {
        assert_eq!(whole_rows(0x0100), 0x0f00);
        assert_eq!(whole_rows(0x8001), 0xf00f);
        assert_eq!(whole_rows(0x0010), 0x00f0);
        assert_eq!(whole_rows(0), 0);
    }
}
