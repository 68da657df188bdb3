//! The AV1 dependency descriptor (RTP Payload Format For AV1, appendix A), which browsers send with other codecs too.
//! It stays clear under end-to-end encryption.

use super::bits::BitReader;

/// How many templates a structure can have: their ids have six bits.
pub const MAX_TEMPLATES: usize = 64;
/// How many decode targets a structure can have.
pub const MAX_DECODE_TARGETS: usize = 32;
/// How many spatial layers a structure can have.
pub const MAX_SPATIAL_LAYERS: usize = 4;
/// How many frames a frame may refer to here; AV1 has eight references.
pub const MAX_REFERENCES: usize = 8;

const MAX_TEMPORAL_ID: u8 = 7;

/// What a frame is to a decode target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeTargetIndication {
    /// Not part of it.
    NotPresent,
    /// Part of it, and nothing refers to the frame.
    Discardable,
    /// Part of it, and one may switch to it with this frame.
    Switch,
    /// Part of it, and needed.
    Required,
}

/// What a frame is to each of the decode targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeTargets(u64);

impl DecodeTargets {
    /// What the frame is to this decode target.
    pub fn get(self, target: usize) -> DecodeTargetIndication {
        if target >= MAX_DECODE_TARGETS {
            return DecodeTargetIndication::NotPresent;
        }
        match self.0 >> (2 * target) & 3 {
            0 => DecodeTargetIndication::NotPresent,
            1 => DecodeTargetIndication::Discardable,
            2 => DecodeTargetIndication::Switch,
            _ => DecodeTargetIndication::Required,
        }
    }

    /// The decode targets that the frame is part of, one bit each.
    pub fn present(self) -> u32 {
        even_bits(self.0 | self.0 >> 1)
    }

    /// The decode targets that cannot go on without the frame.
    pub fn needed(self) -> u32 {
        even_bits(self.0 >> 1)
    }

    /// The decode targets that one may switch to with the frame.
    pub fn switch(self) -> u32 {
        even_bits(self.0 >> 1 & !self.0)
    }

    fn read(reader: &mut BitReader<'_>, count: u8) -> Option<Self> {
        let mut bits = 0;
        for target in 0..count {
            bits |= u64::from(reader.bits(2)?) << (2 * target);
        }
        Some(Self(bits))
    }
}

/// Every second bit, the lowest first, moved together.
fn even_bits(bits: u64) -> u32 {
    let mut bits = bits & 0x5555_5555_5555_5555;
    bits = (bits | bits >> 1) & 0x3333_3333_3333_3333;
    bits = (bits | bits >> 2) & 0x0f0f_0f0f_0f0f_0f0f;
    bits = (bits | bits >> 4) & 0x00ff_00ff_00ff_00ff;
    bits = (bits | bits >> 8) & 0x0000_ffff_0000_ffff;
    (bits | bits >> 16) as u32
}

/// The frames that a frame refers to, as distances of frame numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct References {
    count: u8,
    distances: [u16; MAX_REFERENCES],
}

impl References {
    /// How far back each of them is, 1 or more.
    pub fn distances(&self) -> &[u16] {
        &self.distances[..usize::from(self.count)]
    }

    fn push(&mut self, distance: u16) -> Option<()> {
        *self.distances.get_mut(usize::from(self.count))? = distance;
        self.count += 1;
        Some(())
    }
}

/// What is told of the frame that a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameDependencies {
    /// The packet is the first of its frame, that is of one spatial layer of a picture.
    pub start_of_frame: bool,
    /// The packet is the last of its frame.
    pub end_of_frame: bool,
    /// The number of the frame. All spatial layers count.
    pub frame_number: u16,
    /// The spatial layer.
    pub spatial_id: u8,
    /// The temporal layer.
    pub temporal_id: u8,
    /// The packet brings a structure: a receiver that has none can begin with it.
    pub structure_attached: bool,
    /// What the frame is to each decode target.
    pub targets: DecodeTargets,
    /// What it refers to.
    pub references: References,
}

impl FrameDependencies {
    /// Whether the packet starts a key frame with which a receiver that knows nothing can begin: it brings the
    /// structure, and the frame refers to no other. A frame that refers to none but brings no structure (the upper
    /// layer of an independent pair, say) is of no use to such a receiver.
    pub fn starts_key_frame(&self) -> bool {
        self.start_of_frame && self.structure_attached && self.references.count == 0
    }
}

/// What a stream's descriptors refer to: the last structure. One for each received stream.
#[derive(Clone, Debug, Default)]
pub struct DependencyState {
    structure: Option<Box<Structure>>,
    active_targets: u32,
}

impl DependencyState {
    /// Parses the descriptor of one packet, and keeps the structure that it brings (which allocates, once per key
    /// frame). `None`, and no change, when it is malformed or refers to a structure that is not known.
    pub fn read(&mut self, descriptor: &[u8]) -> Option<FrameDependencies> {
        let mut reader = BitReader::new(descriptor);
        let start_of_frame = reader.bit()?;
        let end_of_frame = reader.bit()?;
        let template_id = reader.bits(6)? as u8;
        let frame_number = reader.bits(16)? as u16;
        let extended = if descriptor.len() > 3 { Extended::read(&mut reader)? } else { Extended::default() };
        let structure = extended.structure.as_deref().or(self.structure.as_deref())?;
        let active_targets = if extended.active_targets_present {
            Some(reader.bits(u32::from(structure.decode_targets))?)
        } else {
            extended.structure.is_some().then(|| all_targets(structure.decode_targets))
        };
        let frame = structure.read_frame(&mut reader, template_id, &extended)?;
        let dependencies = FrameDependencies {
            start_of_frame,
            end_of_frame,
            frame_number,
            spatial_id: frame.spatial_id,
            temporal_id: frame.temporal_id,
            structure_attached: extended.structure.is_some(),
            targets: frame.targets,
            references: frame.references,
        };
        if extended.structure.is_some() {
            self.structure = extended.structure;
        }
        self.active_targets = active_targets.unwrap_or(self.active_targets);
        Some(dependencies)
    }

    /// The last structure.
    pub fn structure(&self) -> Option<&Structure> {
        self.structure.as_deref()
    }

    /// The decode targets that the sender produces, one bit each, as it told last.
    pub fn active_targets(&self) -> u32 {
        self.active_targets
    }
}

fn all_targets(count: u8) -> u32 {
    u32::MAX.checked_shr(32 - u32::from(count)).unwrap_or(0)
}

/// What follows the mandatory fields (section A.8.3).
#[derive(Default)]
struct Extended {
    structure: Option<Box<Structure>>,
    active_targets_present: bool,
    custom_targets: bool,
    custom_references: bool,
    custom_chains: bool,
}

impl Extended {
    fn read(reader: &mut BitReader<'_>) -> Option<Self> {
        let structure_present = reader.bit()?;
        let mut extended = Self {
            structure: None,
            active_targets_present: reader.bit()?,
            custom_targets: reader.bit()?,
            custom_references: reader.bit()?,
            custom_chains: reader.bit()?,
        };
        if structure_present {
            extended.structure = Some(Box::new(Structure::read(reader)?));
        }
        Some(extended)
    }
}

/// What a stream consists of, and templates for its frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// The id of the first template.
    template_id_offset: u8,
    /// How many decode targets there are, 1 to 32.
    decode_targets: u8,
    templates: Vec<Template>,
    /// How many chains of frames there are; nothing else of them is kept.
    chains: u8,
    sizes: Option<[(u16, u16); MAX_SPATIAL_LAYERS]>,
    /// The layers of each decode target, worked out once: spatial in the high half, temporal in the low one.
    target_layers: [u8; MAX_DECODE_TARGETS],
}

/// A kind of frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Template {
    spatial_id: u8,
    temporal_id: u8,
    targets: DecodeTargets,
    references: References,
}

impl Structure {
    const EMPTY: Structure = Structure {
        template_id_offset: 0,
        decode_targets: 0,
        templates: Vec::new(),
        chains: 0,
        sizes: None,
        target_layers: [0; MAX_DECODE_TARGETS],
    };

    /// How many decode targets there are, 1 to 32.
    pub fn decode_targets(&self) -> usize {
        usize::from(self.decode_targets)
    }

    /// The layers of a decode target: spatial and temporal id of the highest frames that are part of it.
    pub fn target_layer(&self, target: usize) -> (u8, u8) {
        self.target_layers.get(target).map_or((0, 0), |packed| (packed >> 4, packed & 0x0f))
    }

    /// The same for all decode targets, packed: spatial in the high half, temporal in the low one.
    pub(super) fn target_layers(&self) -> &[u8; MAX_DECODE_TARGETS] {
        &self.target_layers
    }

    fn find_target_layer(&self, target: usize) -> (u8, u8) {
        let part = |t: &&Template| t.targets.get(target) != DecodeTargetIndication::NotPresent;
        let mut layer = (0, 0);
        for template in self.templates.iter().filter(part) {
            layer = (layer.0.max(template.spatial_id), layer.1.max(template.temporal_id));
        }
        layer
    }

    /// How many spatial layers there are.
    pub fn spatial_layers(&self) -> u8 {
        self.templates.iter().map(|t| t.spatial_id + 1).max().unwrap_or(0)
    }

    /// The size that a spatial layer is shown at, where it is told.
    pub fn size(&self, spatial_id: u8) -> Option<(u16, u16)> {
        self.sizes?.get(usize::from(spatial_id)).copied().filter(|_| spatial_id < self.spatial_layers())
    }

    /// The size of the highest spatial layer, where it is told.
    pub fn largest(&self) -> Option<(u16, u16)> {
        self.size(self.spatial_layers().checked_sub(1)?)
    }

    /// Section A.8.3, `template_dependency_structure`.
    fn read(reader: &mut BitReader<'_>) -> Option<Self> {
        let template_id_offset = reader.bits(6)? as u8;
        let decode_targets = reader.bits(5)? as u8 + 1;
        let mut templates = read_layers(reader)?;
        for template in &mut templates {
            template.targets = DecodeTargets::read(reader, decode_targets)?;
        }
        for template in &mut templates {
            while reader.bit()? {
                template.references.push(reader.bits(4)? as u16 + 1)?;
            }
        }
        let chains = reader.non_symmetric(u32::from(decode_targets) + 1)? as u8;
        if chains > 0 {
            for _ in 0..decode_targets {
                reader.non_symmetric(u32::from(chains))?;
            }
            reader.skip(4 * u32::from(chains) * templates.len() as u32)?;
        }
        let mut structure = Self { template_id_offset, decode_targets, templates, chains, ..Self::EMPTY };
        for target in 0..structure.decode_targets() {
            let (spatial, temporal) = structure.find_target_layer(target);
            structure.target_layers[target] = spatial << 4 | temporal;
        }
        if reader.bit()? {
            let mut sizes = [(0, 0); MAX_SPATIAL_LAYERS];
            for size in sizes.iter_mut().take(usize::from(structure.spatial_layers())) {
                let (width, height) = (reader.bits(16)? as u16, reader.bits(16)? as u16);
                *size = (width.checked_add(1)?, height.checked_add(1)?);
            }
            structure.sizes = Some(sizes);
        }
        Some(structure)
    }

    /// Section A.8.3, `frame_dependency_definition`.
    fn read_frame(
        &self,
        reader: &mut BitReader<'_>,
        template_id: u8,
        extended: &Extended,
    ) -> Option<Template> {
        let index = (template_id + 64 - self.template_id_offset) % 64;
        let mut frame = *self.templates.get(usize::from(index))?;
        if extended.custom_targets {
            frame.targets = DecodeTargets::read(reader, self.decode_targets)?;
        }
        if extended.custom_references {
            frame.references = read_custom_references(reader)?;
        }
        if extended.custom_chains {
            reader.skip(8 * u32::from(self.chains))?;
        }
        Some(frame)
    }
}

/// Section A.8.3, `template_layers`: each template with its layers, and nothing else yet.
fn read_layers(reader: &mut BitReader<'_>) -> Option<Vec<Template>> {
    let (mut spatial_id, mut temporal_id) = (0, 0);
    let mut templates = Vec::new();
    loop {
        if templates.len() == MAX_TEMPLATES {
            return None;
        }
        templates.push(Template {
            spatial_id,
            temporal_id,
            targets: DecodeTargets::default(),
            references: References::default(),
        });
        match reader.bits(2)? {
            0 => {}
            1 => temporal_id += 1,
            2 => (spatial_id, temporal_id) = (spatial_id + 1, 0),
            _ => return Some(templates),
        }
        if temporal_id > MAX_TEMPORAL_ID || usize::from(spatial_id) >= MAX_SPATIAL_LAYERS {
            return None;
        }
    }
}

/// Section A.8.3, `frame_fdiffs`: distances of 4, 8 or 12 bits.
fn read_custom_references(reader: &mut BitReader<'_>) -> Option<References> {
    let mut references = References::default();
    loop {
        match reader.bits(2)? {
            0 => return Some(references),
            size => references.push(reader.bits(4 * size)? as u16 + 1)?,
        }
    }
}

#[cfg(test)]
mod tests;
