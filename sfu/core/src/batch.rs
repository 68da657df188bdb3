//! The media packets that came together, kept until the receive batch ends. Then each subscriber gets all of them in one go, so
//! that what is known of the subscriber is looked up once, and stays in the processor's cache while it is needed.

use std::ops::Range;

use crate::forward::forwarder::{ForwardInput, LayerRef};
use crate::forward::red::{self, MAX_OLDER, Older, RedPayloads};
use crate::ids::{PayloadType, Ssrc};
use crate::incoming::{Format, Incoming};
use crate::layer::SlotRef;
use crate::media::{Codec, ExtensionIds};
use crate::transport::template::Template;
use crate::transport::{OutgoingRtp, PassedExtensions};

/// Packets of several layers.
#[derive(Debug, Default)]
pub struct Batch {
    runs: Vec<Run>,
    packets: Vec<Kept>,
    /// Payloads and dependency descriptors.
    bytes: Vec<u8>,
    /// Sound with redundancy, for the packet at the same place.
    red: Vec<RedPayloads>,
    /// The combinations of header extensions that subscribers agreed on; the usual ones.
    kinds: Vec<ExtensionIds>,
    templates: Vec<Made>,
    written: Vec<u8>,
    /// How much of `written` belongs to `templates`; behind it is what was written for one subscriber alone.
    shared: usize,
}

/// The packets of one layer, in the order in which they came, and who gets them.
#[derive(Debug)]
pub struct Run {
    /// The layer.
    pub from: LayerRef,
    first: u32,
    last: u32,
    /// The slots that show the layer or wait for it, by participant; lent by the layer while they are served.
    pub subscribers: Vec<SlotRef>,
    /// How many of them were served.
    served: usize,
    /// Some of them cannot decode this.
    pub undecodable: Option<Format>,
}

/// A packet that was kept: all that subscribers need of it, worked out once.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What forwarders need to know.
    pub input: ForwardInput,
    /// Its format.
    pub format: Format,
    /// It is of a key frame.
    pub key_frame: bool,
    passed: PassedExtensions<'static>,
    descriptor: Option<Range<usize>>,
    payload: Range<usize>,
    /// The payload without RED.
    primary: Range<usize>,
    /// Of how many older packets its RED tells, as it came.
    older: usize,
    /// It is sound that may carry older packets.
    extensible: bool,
    next: Option<u32>,
    template: Option<u32>,
    /// The template without redundancy, for each of the usual kinds.
    plain: [Option<Template>; KINDS],
}

/// In which shape a packet goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Without redundancy.
    Plain,
    /// With the redundancy that it came with.
    AsItCame,
    /// With up to so many older packets.
    Redundant(u8),
    /// Without payload: it has a number, but is not wanted.
    Padding,
}

/// A packet that was written for subscribers with the same header extensions.
#[derive(Clone, Copy, Debug)]
struct Made {
    ids: ExtensionIds,
    shape: Shape,
    template: Template,
    next: Option<u32>,
}

/// More is not kept at a time: a batch of this size fits the processor's second-level cache together with what one subscriber
/// needs, and the send buffer of each.
const MAX_BYTES: usize = 128 * 1024;
const MAX_PACKETS: usize = 256;
/// As many layers: whose packets a subscriber gets is looked for among them.
const MAX_RUNS: usize = 32;

/// What a browser agrees on is the same for all who use it; there are not more of them.
const KINDS: usize = 3;

/// So many combinations of header extensions and shapes of a packet are kept. Browsers have three; more only cost time.
const MAX_TEMPLATES: usize = 8;

impl Batch {
    /// Whether nothing was kept.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Whether another packet may not fit.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= MAX_BYTES || self.packets.len() >= MAX_PACKETS || self.runs.len() >= MAX_RUNS
    }

    /// Whether packets of other layers were kept.
    pub fn has_others(&self, than: LayerRef) -> bool {
        self.runs.iter().any(|run| run.from != than)
    }

    /// Keeps a packet. `newest`: none of its layer came before it that was sent after it.
    pub fn push(&mut self, from: LayerRef, incoming: &Incoming<'_>, newest: bool) {
        let index = self.packets.len() as u32;
        let payload = self.keep(incoming.payload);
        let format = incoming.format;
        let sound = format.codec == Codec::Opus;
        let (primary, older) = if format.red {
            (payload.end - incoming.primary().len()..payload.end, red::older_blocks(incoming.payload))
        } else {
            (payload.clone(), 0)
        };
        let descriptor = incoming.passed.dependency_descriptor.map(|descriptor| self.keep(descriptor));
        self.packets.push(Kept {
            input: incoming.forward_input(),
            format,
            key_frame: incoming.frame.key_frame,
            passed: incoming.passed.without_descriptor(),
            descriptor,
            payload,
            primary,
            older,
            extensible: sound && !format.red && newest,
            next: None,
            template: None,
            plain: [None; KINDS],
        });
        if sound {
            self.clear_red(index as usize);
        }
        self.append(from, index);
    }

    /// How many layers there are packets of.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// The packets of one layer.
    pub fn run(&mut self, run: usize) -> Option<&mut Run> {
        self.runs.get_mut(run)
    }

    /// The first packet of a run.
    pub fn first(&self, run: usize) -> Option<u32> {
        self.runs.get(run).map(|run| run.first)
    }

    /// The packet of the same run after this one.
    pub fn next(&self, index: u32) -> Option<u32> {
        self.get(index)?.next
    }

    /// A packet.
    pub fn get(&self, index: u32) -> Option<&Kept> {
        self.packets.get(index as usize)
    }

    /// The participant who is to be served next.
    pub fn next_participant(&self) -> Option<u32> {
        let waiting = |run: &Run| run.subscribers.get(run.served).map(|slot| slot.participant);
        self.runs.iter().filter_map(waiting).min()
    }

    /// The next slot of a participant that is to be served with a run.
    pub fn take_slot(&mut self, run: usize, participant: u32) -> Option<u32> {
        let run = self.runs.get_mut(run)?;
        let slot = run.subscribers.get(run.served).filter(|slot| slot.participant == participant)?;
        run.served += 1;
        Some(slot.slot)
    }

    /// Makes the packets of a run carry up to so many older ones, where that was not done yet. `find` gives the one that came
    /// so many sequence numbers before another.
    pub fn make_redundant<'a>(
        &mut self,
        run: usize,
        older: u8,
        find: impl Fn(u64, u64) -> Option<Older<'a>>,
    ) {
        let mut next = self.first(run);
        while let Some(index) = next {
            let Some(kept) = self.packets.get(index as usize) else { return };
            next = kept.next;
            if kept.extensible
                && let Some(red) = self.red.get_mut(index as usize)
            {
                let (seq, payload) =
                    (kept.input.seq, self.bytes.get(kept.payload.clone()).unwrap_or_default());
                red.get(older, kept.input.timestamp, payload, |back| find(seq, back));
            }
        }
    }

    /// Somebody cannot decode a packet of a run.
    pub fn note_undecodable(&mut self, run: usize, index: u32) {
        let format = self.get(index).map(|kept| kept.format);
        if let Some(run) = self.runs.get_mut(run) {
            run.undecodable = format;
        }
    }

    /// In which shape a packet goes to who wants it with so many older ones, and how many packets of its source must have
    /// gone to them before: what it carries along must be of the same source.
    pub fn redundant_shape(&self, index: u32, older: u8) -> Option<(Shape, u64)> {
        let kept = self.get(index).filter(|kept| older > 0 && kept.format.codec == Codec::Opus)?;
        if kept.format.red {
            return Some((Shape::AsItCame, kept.older.max(MAX_OLDER) as u64));
        }
        let made = kept.extensible && self.red.get(index as usize)?.made(older).is_some();
        made.then_some((Shape::Redundant(older), MAX_OLDER as u64))
    }

    /// The number of a combination of header extensions, for [`Batch::template`].
    pub fn kind(&mut self, ids: &ExtensionIds) -> usize {
        let known = self.kinds.iter().position(|kind| kind == ids);
        known.unwrap_or_else(|| {
            if self.kinds.len() < KINDS {
                self.kinds.push(*ids);
                self.kinds.len() - 1
            } else {
                KINDS
            }
        })
    }

    /// A packet as those get it who agreed on these header extensions, of this kind, and the bytes that it is in.
    #[inline]
    pub fn template(
        &mut self,
        index: u32,
        (kind, ids): (usize, &ExtensionIds),
        shape: Shape,
    ) -> Option<(Template, &[u8])> {
        if shape == Shape::Plain
            && let Some(template) = self.get(index)?.plain.get(kind).copied().flatten()
        {
            return Some((template, &self.written));
        }
        let template = self.find_template(index, ids, shape)?;
        // What was written for one subscriber alone does not stay.
        if shape == Shape::Plain
            && self.written.len() == self.shared
            && let Some(place) = self.packets.get_mut(index as usize)?.plain.get_mut(kind)
        {
            *place = Some(template);
        }
        Some((template, &self.written))
    }

    fn find_template(&mut self, index: u32, ids: &ExtensionIds, shape: Shape) -> Option<Template> {
        let mut next = self.get(index)?.template;
        let mut count = 0;
        while let Some(made) = next.and_then(|at| self.templates.get(at as usize)) {
            if made.ids == *ids && made.shape == shape {
                return Some(made.template);
            }
            next = made.next;
            count += 1;
        }
        self.written.truncate(self.shared);
        let template = self.write(index, ids, shape)?;
        if count < MAX_TEMPLATES {
            self.shared = self.written.len();
            let kept = self.packets.get_mut(index as usize)?;
            let next = kept.template.replace(self.templates.len() as u32);
            self.templates.push(Made { ids: *ids, shape, template, next });
        }
        Some(template)
    }

    /// Forgets everything; the memory stays.
    pub fn clear(&mut self) {
        self.runs.clear();
        self.packets.clear();
        self.bytes.clear();
        self.kinds.clear();
        self.templates.clear();
        self.written.clear();
        self.shared = 0;
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    fn clear_red(&mut self, index: usize) {
        if self.red.len() <= index {
            self.red.resize_with(index + 1, RedPayloads::default);
        }
        if let Some(red) = self.red.get_mut(index) {
            red.clear();
        }
    }

    fn append(&mut self, from: LayerRef, index: u32) {
        let Some(run) = self.runs.iter_mut().rev().find(|run| run.from == from) else {
            let run = Run {
                from,
                first: index,
                last: index,
                subscribers: Vec::new(),
                served: 0,
                undecodable: None,
            };
            return self.runs.push(run);
        };
        let before = std::mem::replace(&mut run.last, index);
        if let Some(before) = self.packets.get_mut(before as usize) {
            before.next = Some(index);
        }
    }

    fn write(&mut self, index: u32, ids: &ExtensionIds, shape: Shape) -> Option<Template> {
        let Self { packets, bytes, red, written, .. } = self;
        let kept = packets.get(index as usize)?;
        let payload = match shape {
            Shape::Plain => bytes.get(kept.primary.clone())?,
            Shape::AsItCame => bytes.get(kept.payload.clone())?,
            Shape::Redundant(older) => red.get(index as usize)?.made(older)?,
            Shape::Padding => &[],
        };
        let dependency_descriptor = kept.descriptor.clone().and_then(|descriptor| bytes.get(descriptor));
        let packet = OutgoingRtp {
            payload_type: PayloadType(0),
            marker: false,
            seq: 0,
            timestamp: 0,
            ssrc: Ssrc(0),
            extensions: PassedExtensions { dependency_descriptor, ..kept.passed },
            prefix: &[],
            payload,
            padding: 0,
        };
        Some(Template::write(written, ids, &packet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::picture::PictureFields;
    use crate::ids::TrackId;
    use crate::media::{CodecProfile, Extension};
    use crate::rtp::RtpHeader;
    use crate::rtp::frame::FrameInfo;

    const OPUS: Format = Format {
        codec: Codec::Opus,
        profile: CodecProfile { profile: 0, packetization_mode: 0, level: 0 },
        red: false,
    };

    fn layer(participant: u32) -> LayerRef {
        LayerRef { participant, track: 0, layer: 0, id: TrackId(u64::from(participant)) }
    }

    fn incoming(seq: u64, format: Format, payload: &[u8]) -> Incoming<'_> {
        let header = RtpHeader::parse(&[0x80, 0x60, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1]).expect("a header");
        let (frame, picture) = (FrameInfo::default(), PictureFields::default());
        let passed = PassedExtensions::default();
        Incoming { seq, generation: 0, header, format, payload, passed, frame, picture, nanos: 0 }
    }

    fn slots(participants: &[u32]) -> Vec<SlotRef> {
        participants.iter().map(|participant| SlotRef { participant: *participant, slot: 3 }).collect()
    }

    #[test]
    fn packets_of_a_layer_stay_in_order_and_each_participant_is_served_once() {
        let mut batch = Batch::default();
        for (from, seq) in [(1, 10), (2, 500), (1, 11), (1, 12), (2, 501)] {
            batch.push(layer(from), &incoming(seq, OPUS, &[seq as u8]), true);
        }
        let run = |batch: &Batch, run| {
            let packets = std::iter::successors(batch.first(run), |index| batch.next(*index));
            packets.map(|index| batch.get(index).expect("it was kept").input.seq).collect::<Vec<_>>()
        };
        assert_eq!((batch.len(), run(&batch, 0), run(&batch, 1)), (2, vec![10, 11, 12], vec![500, 501]));
        assert!(batch.has_others(layer(1)) && batch.has_others(layer(3)));
        batch.run(0).expect("the first layer").subscribers = slots(&[2, 5, 6, 6]);
        batch.run(1).expect("the second layer").subscribers = slots(&[1, 5]);
        let mut served = Vec::new();
        while let Some(participant) = batch.next_participant() {
            for run in 0..batch.len() {
                while batch.take_slot(run, participant).is_some() {
                    served.push((participant, run));
                }
            }
        }
        assert_eq!(served, [(1, 1), (2, 0), (5, 0), (5, 1), (6, 0), (6, 0)]);
        batch.clear();
        assert!(batch.is_empty() && batch.next_participant().is_none());
        assert!(!batch.has_others(layer(1)));
    }

    #[test]
    fn what_many_get_alike_is_written_once_and_for_odd_ones_again() {
        let mut batch = Batch::default();
        batch.push(layer(1), &incoming(7, OPUS, &[1, 2, 3]), true);
        let ids = |id| {
            let mut ids = ExtensionIds::default();
            ids.set(Extension::TransportCc, id);
            ids
        };
        let written = |batch: &mut Batch, id, shape| {
            let kind = batch.kind(&ids(id));
            let (template, bytes) =
                batch.template(0, (kind, &ids(id)), shape).expect("there is such a packet");
            (template.payload_len(), bytes.len())
        };
        let one = written(&mut batch, 1, Shape::Plain);
        assert_eq!(one, (3, 12 + 4 + 4 + 3));
        assert_eq!(written(&mut batch, 1, Shape::Padding), (0, one.1 + 12 + 4 + 4 + 1));
        let both = written(&mut batch, 1, Shape::Plain);
        assert_eq!(both.1, one.1 + 21);
        for _ in 0..10 {
            for id in 2..50 {
                assert_eq!(written(&mut batch, id, Shape::Plain).0, 3);
            }
        }
        let (_, bytes) = batch.template(0, (0, &ids(1)), Shape::Plain).expect("the first one");
        assert!(bytes.len() <= both.1 + MAX_TEMPLATES * 40, "{}", bytes.len());
        assert!(batch.template(1, (0, &ids(1)), Shape::Plain).is_none(), "there is no such packet");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut batch = Batch::default();
        let payload = [0; 1_200];
        let mut count = 0;
        while !batch.is_full() {
            batch.push(layer(1), &incoming(count, OPUS, &payload), false);
            count += 1;
        }
        assert!(batch.bytes.len() < MAX_BYTES + 2 * payload.len());
        batch.clear();
        for participant in 0..MAX_RUNS as u32 {
            assert!(!batch.is_full());
            batch.push(layer(participant), &incoming(1, OPUS, &[]), false);
        }
        assert!(batch.is_full());
    }

    #[test]
    fn redundancy_is_made_for_the_newest_sound_without_any() {
        let mut batch = Batch::default();
        batch.push(layer(1), &incoming(7, OPUS, &[7]), true);
        batch.push(layer(1), &incoming(6, OPUS, &[6]), false);
        let red = [0xef, 0, 0, 1, 111, 5, 8];
        batch.push(layer(1), &incoming(8, Format { red: true, ..OPUS }, &red), true);
        let older = |seq: u64, back: u64| {
            let payload: &[u8] = if seq - back == 6 { &[6] } else { &[5] };
            Some(Older { timestamp: 9_u32.wrapping_sub(960 * back as u32), payload })
        };
        assert_eq!(batch.redundant_shape(0, 1), None, "nobody wanted it yet");
        batch.make_redundant(0, 1, older);
        assert_eq!(batch.redundant_shape(0, 1), Some((Shape::Redundant(1), 2)));
        assert_eq!(
            [batch.redundant_shape(0, 0), batch.redundant_shape(0, 2), batch.redundant_shape(1, 1)],
            [None; 3]
        );
        assert_eq!(batch.redundant_shape(2, 1), Some((Shape::AsItCame, 2)));
        let ids = ExtensionIds::default();
        let mut len = |index, shape| {
            batch.template(index, (0, &ids), shape).map(|(template, _)| template.payload_len())
        };
        assert_eq!(len(0, Shape::Redundant(1)), Some(4 + 1 + 1 + 1));
        assert_eq!([len(2, Shape::AsItCame), len(2, Shape::Plain)], [Some(7), Some(1)]);
    }
}
