//! Sub-layers inside a stream: which frames a picture has, what each of them refers to, and the dependency structure
//! that says so. The patterns are those of <https://www.w3.org/TR/webrtc-svc/> as libwebrtc's encoders make them.

use super::payload::Bits;

/// The sub-layers of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scalability {
    /// Spatial layers, 1 to 3; each has half the size of the next.
    pub spatial: u8,
    /// Temporal layers, 1 to 3.
    pub temporal: u8,
    /// Spatial layers refer to the ones below in key pictures only.
    pub key_only: bool,
}

impl Scalability {
    /// Nothing to choose.
    pub const L1T1: Self = Self { spatial: 1, temporal: 1, key_only: false };
    /// Every other frame can be left out.
    pub const L1T2: Self = Self { temporal: 2, ..Self::L1T1 };
    /// Three frame rates.
    pub const L1T3: Self = Self { temporal: 3, ..Self::L1T1 };
    /// Three sizes and three frame rates.
    pub const L3T3: Self = Self { spatial: 3, temporal: 3, key_only: false };
    /// The same, with sizes that are independent between key pictures.
    pub const L3T3_KEY: Self = Self { key_only: true, ..Self::L3T3 };

    /// Pictures until the pattern begins anew.
    fn period(self) -> u32 {
        1 << (self.temporal - 1)
    }

    /// The frame of one spatial layer in a picture: `position` counts pictures since the last key picture, `top` is the
    /// highest spatial layer that the picture has.
    pub(super) fn frame(self, position: u32, spatial: u8, top: u8) -> FrameKind {
        let key = position == 0;
        // 0; 0 1; 0 2 1 2
        let step = position % self.period();
        let (temporal, back) = match (self.temporal, step) {
            (_, 0) => (0, self.period()),
            (2, _) => (1, 1),
            (_, 2) => (1, 2),
            _ => (2, 1),
        };
        let inter_layer = spatial > 0 && (key || !self.key_only);
        let layers = u32::from(self.spatial);
        let from_picture = (!key).then_some(back * layers);
        let references = [from_picture, inter_layer.then_some(1)];
        FrameKind {
            spatial,
            temporal,
            key,
            inter_layer,
            for_higher: spatial < top && (key || !self.key_only),
            references: references.map(|distance| distance.unwrap_or(0) as u8),
            template: self.template(key, temporal, step, spatial),
            after_middle: step == 3,
        }
    }

    /// Templates of one spatial layer: T0 of key pictures, T0, T1, and T2 before and after T1.
    fn templates_per_layer(self) -> u8 {
        match self.temporal {
            1 => 2,
            2 => 3,
            _ => 5,
        }
    }

    fn template(self, key: bool, temporal: u8, step: u32, spatial: u8) -> u8 {
        let kind = match (key, temporal) {
            (true, _) => 0,
            (false, 0) => 1,
            (false, 1) => 2,
            _ => 3 + u8::from(step == 3),
        };
        spatial * self.templates_per_layer() + kind
    }

    /// Writes the template dependency structure (RTP Payload Format For AV1, section A.8.3); `size` is that of the highest
    /// spatial layer.
    pub(super) fn write_structure(self, size: (u16, u16), bits: &mut Bits) {
        // Template ids from 0 on.
        bits.put(0, 6);
        bits.put(u32::from(self.spatial * self.temporal) - 1, 5);
        let templates: Vec<FrameKind> = self.templates();
        for (index, template) in templates.iter().enumerate() {
            let next = match templates.get(index + 1) {
                None => 3,
                Some(next) if next.spatial != template.spatial => 2,
                Some(next) => u32::from(next.temporal != template.temporal),
            };
            bits.put(next, 2);
        }
        for template in &templates {
            for target in 0..self.spatial * self.temporal {
                bits.put(self.indication(template, target / self.temporal, target % self.temporal), 2);
            }
        }
        for template in &templates {
            for distance in template.references.into_iter().filter(|distance| *distance > 0) {
                bits.put(1, 1);
                bits.put(u32::from(distance) - 1, 4);
            }
            bits.put(0, 1);
        }
        // No chains: their number, out of 0 to that of the targets, has so many bits when it is 0.
        bits.put(0, (u32::from(self.spatial * self.temporal) + 1).ilog2());
        bits.put(1, 1);
        for spatial in 0..self.spatial {
            let (width, height) = self.size(size, spatial);
            bits.put(u32::from(width) - 1, 16);
            bits.put(u32::from(height) - 1, 16);
        }
    }

    fn templates(self) -> Vec<FrameKind> {
        let positions = [0, self.period(), self.period() + 2, self.period() + 1, self.period() + 3];
        let positions = match self.temporal {
            2 => vec![0, 2, 3],
            _ => positions[..usize::from(self.templates_per_layer())].to_vec(),
        };
        let top = self.spatial - 1;
        (0..self.spatial)
            .flat_map(|spatial| positions.iter().map(move |position| self.frame(*position, spatial, top)))
            .collect()
    }

    /// What a frame is to a decode target: 0 not present, 1 discardable, 2 switch, 3 required.
    fn indication(self, frame: &FrameKind, spatial: u8, temporal: u8) -> u32 {
        let carried = self.key_only && !frame.key;
        if frame.spatial > spatial || frame.temporal > temporal || carried && frame.spatial != spatial {
            return 0;
        }
        if frame.spatial < spatial {
            return if frame.key { 2 } else { 3 };
        }
        if frame.temporal > 0 && frame.temporal == temporal { 1 } else { 2 }
    }

    /// The size of a spatial layer.
    pub(super) fn size(self, highest: (u16, u16), spatial: u8) -> (u16, u16) {
        let halvings = self.spatial - 1 - spatial;
        (highest.0 >> halvings, highest.1 >> halvings)
    }
}

/// One frame in the pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameKind {
    pub(super) spatial: u8,
    pub(super) temporal: u8,
    /// Of a key picture.
    pub(super) key: bool,
    /// It refers to the spatial layer below.
    pub(super) inter_layer: bool,
    /// The spatial layer above refers to it, or may.
    pub(super) for_higher: bool,
    /// Distances of frame numbers to the frames that it refers to; 0 for none.
    pub(super) references: [u8; 2],
    pub(super) template: u8,
    /// Of three temporal layers, it is the last picture of its group, which refers to the middle layer.
    after_middle: bool,
}

impl FrameKind {
    /// It refers to the lowest temporal layer only, though it is of a higher one.
    pub(super) fn syncs(&self) -> bool {
        self.temporal > 0 && !self.after_middle
    }
}
