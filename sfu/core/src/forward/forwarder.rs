//! The forwarder of one slot: turns packets of changing sources into one continuous stream.
//!
//! Sequence numbers, timestamps and picture ids never go back, whatever the slot shows. A switch of video waits for
//! the first packet of a key frame of the new source and keeps the old one until it comes; a switch of audio waits for
//! nothing. See research/slots.md for what browsers do otherwise. Of the frames of one source, `sublayers` chooses; a
//! packet that it leaves out takes no sequence number (`renumbering`).

use smallvec::SmallVec;

use super::picture::{PictureFields, PictureIds};
use super::renumbering::{Given, Renumbering};
use super::slot_clock::{SlotClock, snap_to_grid};
use super::sublayers::{Place, Sublayers};
use crate::drops::DropReason;
use crate::ids::TrackId;
use crate::media::MediaKind;
use crate::rtp::targets::FrameTargets;

/// One layer of one published track of the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerRef {
    /// The publisher's index in the room.
    pub participant: u32,
    /// The track's index among the publisher's.
    pub track: u32,
    /// The layer's index among the track's.
    pub layer: u8,
    /// The track's identity: indexes are used again, this is not.
    pub id: TrackId,
}

/// What the forwarder needs to know of a packet.
#[derive(Clone, Copy, Debug)]
pub struct ForwardInput {
    /// Its extended sequence number.
    pub seq: u64,
    /// Counts how often the layer began anew; numbers of different generations have nothing to do with each other.
    pub generation: u32,
    /// Its timestamp, on the publisher's clock.
    pub timestamp: u32,
    /// The server time of its sample, in nanoseconds since the engine's epoch.
    pub nanos: i64,
    /// Whether a decoder can begin with it: the first packet of a key frame.
    pub starts_key_frame: bool,
    /// It is the last one of its frame.
    pub end_of_frame: bool,
    /// It is the last one of its picture.
    pub marker: bool,
    /// What its frame is to the sub-layers of the stream; `None` where that is not known.
    pub frame: Option<FrameTargets>,
    /// Its picture counters.
    pub picture: PictureFields,
}

/// How a packet goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardOutput {
    /// Its extended sequence number; the wire has the low 16 bits, SRTP's roll-over counter is the rest.
    pub seq: u64,
    /// Its timestamp, on the slot's clock.
    pub timestamp: u32,
    /// Whether it is the last one of its picture that is sent.
    pub marker: bool,
    /// It is of a frame that is left out, but has a number already: it goes out without payload.
    pub padding: bool,
    /// What to add to its picture counters.
    pub offsets: PictureIds,
    /// How many sequence numbers after the first packet of its segment it comes.
    pub ahead: u64,
    /// The slot shows this source from this packet on; [`Forwarder::left`] says what it showed before.
    pub switched: bool,
}

/// Where a packet that was sent came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The layer.
    pub source: LayerRef,
    /// The generation of the layer at that time.
    pub generation: u32,
    /// The extended sequence number that it had there.
    pub seq: u64,
    /// The timestamp that it went out with is the source's plus this.
    pub timestamp_offset: u32,
    /// It went out with the marker, which it did not have there.
    pub marker: bool,
    /// It went out without payload.
    pub padding: bool,
    /// What was added to its picture counters.
    pub offsets: PictureIds,
}

/// A run of packets of one source, moved by constant offsets.
#[derive(Clone, Copy, Debug)]
struct Segment {
    source: LayerRef,
    generation: u32,
    first_in: u64,
    first_out: u64,
    timestamp_offset: u32,
    offsets: PictureIds,
    /// The number after the highest that came.
    next_in: u64,
    /// How many packets were left out.
    dropped: u32,
    /// How many pictures, where their ids may have no holes.
    pictures: u16,
}

/// How many sources back a repair can reach.
const SEGMENTS: usize = 8;

/// The largest gap of sequence numbers that is passed on as a gap. A larger one is no loss that could be repaired, and
/// one of more than 2^15 would leave receivers with a wrong roll-over counter (RFC 3711 section 3.3.1) for good.
const MAX_GAP: u64 = 1024;

/// The state of one slot's stream. It outlives idleness.
///
/// What each packet touches comes first, so that it is found in few cache lines.
#[derive(Debug)]
#[repr(C)]
pub struct Forwarder {
    kind: MediaKind,
    /// The current voice is not sent any more, because each of its packets would come just before one of the target,
    /// which then never fitted in.
    silenced: bool,
    clock: SlotClock,
    current: Option<LayerRef>,
    target: Option<LayerRef>,
    next_seq: u64,
    last_timestamp: Option<u32>,
    /// The server time of the sample that has it.
    last_nanos: i64,
    picture: PictureIds,
    /// What it showed before the last switch.
    left: Option<LayerRef>,
    /// Only for a slot that has ever left something out.
    renumbering: Option<Renumbering>,
    sublayers: Sublayers,
    segments: SmallVec<[Segment; SEGMENTS]>,
}

impl Forwarder {
    /// A slot that has not sent anything. `first_seq` is at most 16 bits.
    pub fn new(kind: MediaKind, clock: SlotClock, first_seq: u16) -> Self {
        Self {
            kind,
            clock,
            current: None,
            target: None,
            silenced: false,
            segments: SmallVec::new(),
            next_seq: u64::from(first_seq),
            sublayers: Sublayers::default(),
            renumbering: None,
            last_timestamp: None,
            last_nanos: 0,
            picture: PictureIds::default(),
            left: None,
        }
    }

    /// What it shows.
    pub fn current(&self) -> Option<LayerRef> {
        self.current
    }

    /// What it showed before the last switch.
    pub fn left(&self) -> Option<LayerRef> {
        self.left
    }

    /// What it waits to show.
    pub fn target(&self) -> Option<LayerRef> {
        self.target
    }

    /// Wants no higher spatial and temporal layers than these out of any stream that has them; 255 for all. It takes
    /// effect with the next picture where the structure of the stream allows; see [`Forwarder::needs_key_frame`].
    pub fn set_ceiling(&mut self, spatial: u8, temporal: u8) {
        self.sublayers.set_ceiling(spatial, temporal);
    }

    /// The spatial and temporal layer that is shown out of the current source.
    pub fn sublayer(&self) -> Option<(u8, u8)> {
        self.current.and_then(|_| self.sublayers.shown())
    }

    /// Whether a key frame of the current source is needed: the structure allows no other way to the sub-layers that are
    /// wanted, the one that was shown has stopped, or a picture that others need was discarded.
    pub fn needs_key_frame(&self) -> bool {
        self.current.is_some() && self.sublayers.needs_key_frame()
    }

    /// A picture that others need was discarded: nothing is sent before the next key frame.
    pub fn awaits_key_frame(&self) -> bool {
        self.current.is_some() && self.sublayers.awaits_key_frame()
    }

    /// The timestamp that a sample taken now would have, for sender reports: the slot clock's, corrected by what the
    /// current source deviates from it. A source's offset is fixed when the slot switches to it, while its clock
    /// drifts and its first mapping may have been some tens of milliseconds off; reported like this, voice and
    /// picture of one person stay together all the same.
    pub fn report_timestamp(&self, nanos: i64) -> u32 {
        let deviation =
            self.last_timestamp.map_or(0, |last| last.wrapping_sub(self.clock.at(self.last_nanos)));
        self.clock.at(nanos).wrapping_add(deviation)
    }

    /// Wants another source from its next key frame on; `None` stops waiting.
    pub fn set_target(&mut self, target: Option<LayerRef>) {
        self.target = target;
        self.silenced &= target.is_some();
    }

    /// Shows nothing any more and waits for nothing.
    pub fn stop(&mut self) {
        self.current = None;
        self.target = None;
        self.silenced = false;
    }

    /// Takes a packet of a layer that the slot shows or waits for. `discard`: no new picture shall begin, because what was
    /// sent before waits too long already. A picture that no other one needs is then left out without harm; any other one
    /// ends the stream until the next key frame, which is always sent.
    pub fn forward(
        &mut self,
        from: LayerRef,
        packet: &ForwardInput,
        discard: bool,
    ) -> Result<ForwardOutput, DropReason> {
        let shown = self.current == Some(from);
        if self.target.is_none() && shown {
            if !self.leaps(packet) {
                return self.send(packet, discard);
            }
            self.target = self.current.take();
        }
        if self.target == Some(from) {
            return self.begin(from, packet, discard);
        }
        if !shown || self.silenced || self.leaps(packet) {
            return Err(DropReason::BeforeSwitch);
        }
        self.send(packet, discard)
    }

    /// Takes a packet that follows another one of the same layer at once, out of the middle of the same frame: `before` came
    /// and went out last. What was decided of that one holds, which saves most of the work. `None` when this is no such
    /// packet; then it is one for [`Forwarder::forward`].
    #[inline]
    pub fn forward_next(
        &mut self,
        before: (&ForwardInput, &ForwardOutput),
        packet: &ForwardInput,
    ) -> Option<ForwardOutput> {
        let (came, went) = before;
        let spatial = |input: &ForwardInput| input.frame.as_ref().map(|frame| frame.spatial);
        let follows = packet.seq == came.seq + 1
            && packet.timestamp == came.timestamp
            && packet.generation == came.generation
            && packet.picture == came.picture
            && spatial(packet) == spatial(came)
            && !packet.starts_key_frame;
        // With the end of a frame there is something to decide again.
        let settled = !packet.marker && !packet.end_of_frame && !came.marker && !came.end_of_frame;
        if !follows || !settled || went.padding || self.target.is_some() || self.next_seq != went.seq + 1 {
            return None;
        }
        let segment = self.segments.last_mut().filter(|segment| packet.seq >= segment.next_in)?;
        let seq = self.next_seq;
        if let Some(numbers) = self.renumbering.as_mut() {
            numbers.give(
                seq,
                Given { dropped: segment.dropped, pictures: segment.pictures, ..Given::default() },
            );
        }
        segment.next_in = packet.seq + 1;
        self.next_seq = seq + 1;
        Some(ForwardOutput { seq, marker: false, ahead: went.ahead + 1, switched: false, ..*went })
    }

    /// The first packet of the slot's next source, if the source can begin with it.
    fn begin(
        &mut self,
        from: LayerRef,
        packet: &ForwardInput,
        discard: bool,
    ) -> Result<ForwardOutput, DropReason> {
        if self.kind == MediaKind::Video && !packet.starts_key_frame {
            return Err(DropReason::AwaitingKeyFrame);
        }
        let left = self.current;
        if let Err(reason) = self.switch(from, packet) {
            self.silenced = true;
            return Err(reason);
        }
        let output = self.send(packet, discard)?;
        self.left = left;
        Ok(ForwardOutput { switched: true, ..output })
    }

    /// Whether numbers or times of the source leap: after a pause of ours or the publisher's, or because it began anew.
    /// What follows then begins a new segment, as if it were another source.
    fn leaps(&self, packet: &ForwardInput) -> bool {
        let Some(segment) = self.segments.last() else { return false };
        let seq = (segment.first_out + packet.seq.saturating_sub(segment.first_in))
            .saturating_sub(u64::from(segment.dropped));
        let timestamp = packet.timestamp.wrapping_add(segment.timestamp_offset);
        let deviation = timestamp.wrapping_sub(self.clock.at(packet.nanos)) as i32;
        packet.generation != segment.generation
            || seq > self.next_seq + MAX_GAP
            || deviation.unsigned_abs() > self.clock.rate()
    }

    /// Where a packet that was sent came from; `None` when it was never sent or too many switches ago.
    pub fn sent(&self, seq: u16) -> Option<Sent> {
        let last = self.next_seq.checked_sub(1)?;
        let behind = (last as u16).wrapping_sub(seq);
        let out = last.checked_sub(u64::from(behind))?;
        let segment = self.segments.iter().rev().find(|s| s.first_out <= out)?;
        let given = match &self.renumbering {
            Some(renumbering) => renumbering.get(out, self.next_seq)?,
            None => Given::default(),
        };
        Some(Sent {
            source: segment.source,
            generation: segment.generation,
            seq: segment.first_in + (out - segment.first_out) + u64::from(given.dropped),
            timestamp_offset: segment.timestamp_offset,
            marker: given.marker,
            padding: given.padding,
            offsets: segment.offsets.without_pictures(given.pictures),
        })
    }

    fn switch(&mut self, to: LayerRef, packet: &ForwardInput) -> Result<(), DropReason> {
        let timestamp = self.first_timestamp(packet).ok_or(DropReason::BeforeSwitch)?;
        let offsets = if self.segments.is_empty() {
            self.picture.start(&packet.picture);
            PictureIds::default()
        } else {
            self.picture.continued_by(&packet.picture)
        };
        if self.segments.len() == SEGMENTS {
            self.segments.remove(0);
        }
        self.segments.push(Segment {
            source: to,
            generation: packet.generation,
            first_in: packet.seq,
            first_out: self.next_seq,
            timestamp_offset: timestamp.wrapping_sub(packet.timestamp),
            offsets,
            next_in: packet.seq,
            dropped: 0,
            pictures: 0,
        });
        self.sublayers.restart();
        self.current = Some(to);
        self.target = None;
        self.silenced = false;
        Ok(())
    }

    /// The slot clock's time of the packet, kept later than all that was sent; `None` for audio that would come
    /// before what was heard already.
    fn first_timestamp(&self, packet: &ForwardInput) -> Option<u32> {
        let timestamp = self.clock.at(packet.nanos);
        let Some(last) = self.last_timestamp else { return Some(timestamp) };
        match self.kind {
            MediaKind::Audio => snap_to_grid(timestamp, last),
            MediaKind::Video => {
                let earliest = last.wrapping_add(self.clock.rate() / 100);
                let late = (timestamp.wrapping_sub(earliest) as i32) >= 0;
                Some(if late { timestamp } else { earliest })
            }
        }
    }

    fn send(&mut self, packet: &ForwardInput, discard: bool) -> Result<ForwardOutput, DropReason> {
        let selected = self.select(packet, discard);
        let number = self.number(packet, selected)?;
        let segment = self.segments.last().expect("a slot that shows something has a segment");
        let timestamp = packet.timestamp.wrapping_add(segment.timestamp_offset);
        let offsets = segment.offsets.without_pictures(number.given.pictures);
        let ahead = packet.seq.saturating_sub(segment.first_in);
        if selected.forward {
            self.picture.advance(&packet.picture, &offsets);
        }
        if self.last_timestamp.is_none_or(|last| (timestamp.wrapping_sub(last) as i32) > 0) {
            self.last_timestamp = Some(timestamp);
            self.last_nanos = packet.nanos;
        }
        Ok(ForwardOutput {
            seq: number.seq,
            timestamp,
            marker: selected.forward && (packet.marker || number.given.marker),
            padding: number.given.padding,
            offsets,
            ahead,
            switched: false,
        })
    }

    /// Whether the packet is of a sub-layer that is sent.
    fn select(&mut self, packet: &ForwardInput, discard: bool) -> Selected {
        if self.kind == MediaKind::Audio {
            return Selected { forward: true, marker: packet.marker, drops_id: false };
        }
        let Some(frame) = &packet.frame else {
            let forward = self.sublayers.decide_unread(packet.timestamp);
            return Selected { forward, marker: packet.marker, drops_id: false };
        };
        let place =
            Place { timestamp: packet.timestamp, end_of_frame: packet.end_of_frame, marker: packet.marker };
        let decision = self.sublayers.decide(&place, frame, discard);
        Selected {
            forward: decision.forward,
            marker: decision.marker,
            drops_id: decision.drops_picture && frame.gapless_ids,
        }
    }

    /// The number of a packet: the next one, with a gap as large as the source's, or the one that was kept for it. A
    /// packet that is left out has one only if it was kept.
    fn number(&mut self, packet: &ForwardInput, selected: Selected) -> Result<Number, DropReason> {
        let segment = self.segments.last_mut().expect("a slot that shows something has a segment");
        let ahead = packet.seq.checked_sub(segment.first_in).ok_or(DropReason::BeforeSwitch)?;
        let late = packet.seq < segment.next_in;
        let adds_marker = selected.marker && !packet.marker;
        if self.renumbering.is_none() && (!selected.forward || adds_marker) {
            self.renumbering = Some(Renumbering::default());
        }
        let Some(numbers) = self.renumbering.as_mut() else {
            let seq = segment.first_out + ahead;
            segment.next_in = segment.next_in.max(packet.seq + 1);
            self.next_seq = self.next_seq.max(seq + 1);
            return Ok(Number { seq, given: Given::default() });
        };
        let mut given = Given { dropped: segment.dropped, pictures: segment.pictures, ..Given::default() };
        if late {
            let seq = numbers.find(ahead, segment.first_out, self.next_seq).ok_or(DropReason::NotSelected)?;
            given = numbers.get(seq, self.next_seq).ok_or(DropReason::TooOld)?;
            given.marker = adds_marker;
            given.padding = !selected.forward;
            numbers.give(seq, given);
            return Ok(Number { seq, given });
        }
        let seq = segment.first_out + ahead - u64::from(segment.dropped);
        // Numbers for what is missing, which may come yet.
        for missing in self.next_seq..seq {
            numbers.give(missing, given);
        }
        segment.next_in = packet.seq + 1;
        self.next_seq = seq;
        if !selected.forward {
            segment.dropped += 1;
            segment.pictures = segment.pictures.wrapping_add(u16::from(selected.drops_id));
            let waits = self.sublayers.awaits_key_frame();
            return Err(if waits { DropReason::AwaitingKeyFrame } else { DropReason::NotSelected });
        }
        given.marker = adds_marker;
        numbers.give(seq, given);
        self.next_seq = seq + 1;
        Ok(Number { seq, given })
    }
}

/// What `Sublayers` says of a packet.
#[derive(Clone, Copy)]
struct Selected {
    forward: bool,
    marker: bool,
    /// It begins a picture that is left out and whose id the next one takes.
    drops_id: bool,
}

/// The number of a packet, and how it was given out.
#[derive(Clone, Copy)]
struct Number {
    seq: u64,
    given: Given,
}

#[cfg(test)]
mod tests;
