//! One slot: a section in which a subscriber receives what the server chooses.

use std::time::{Duration, Instant};

use crate::assignment::TrackRef;
use crate::control::{Show, SlotReason};
use crate::forward::forwarder::{Forwarder, LayerRef};
use crate::forward::slot_clock::SlotClock;
use crate::ids::{Mid, PayloadType, Ssrc, TrackId};
use crate::incoming::Format;
use crate::media::{Codecs, MediaKind};
use crate::receive::key_frame::KeyFrameAsks;
use crate::repairs::Repairs;
use crate::sdp::SlotSection;
use crate::share::Share;

/// The longest that pictures wait for room in the network.
const MAX_WAIT: Duration = Duration::from_millis(250);

/// A key frame of a screen takes so long to leave at most.
const BEHIND_KEY_FRAME: Duration = Duration::from_millis(1_500);

/// A slot in which nothing was sent for longer carries no pictures now, and no probes.
const CARRIES_WITHIN: Duration = Duration::from_millis(300);

/// A slot of a subscriber.
///
/// What each packet touches comes first, so that it is found in few cache lines.
#[derive(Debug)]
#[repr(C)]
pub struct Slot {
    /// Audio or video.
    pub kind: MediaKind,
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// The payload type that the last format went out with; formats change rarely.
    cached: Option<(Format, OutgoingFormat)>,
    /// When media was sent last.
    pub sent_at: Option<Instant>,
    /// When a key frame was sent last.
    pub key_frame_at: Option<Instant>,
    /// Sender report: packets and payload bytes sent, modulo 2^32 (RFC 3550 section 6.4.1).
    pub sent_packets: u32,
    /// See `sent_packets`.
    pub sent_octets: u32,
    /// Its stream.
    pub forwarder: Forwarder,
    /// Its section.
    pub mid: Mid,
    /// Whether the client receives now.
    pub active: bool,
    /// What the client can decode.
    pub codecs: Codecs,
    /// The SSRC of its repairs.
    pub rtx_ssrc: Ssrc,
    /// The slot of the other kind that shares its stream.
    pub pair: Option<Mid>,
    /// What the client wants of it.
    pub show: Show,
    /// The size that it is shown at, in device pixels; 0 when unknown.
    pub wanted_size: (u16, u16),
    /// The size that it was given a picture for last.
    pub given_size: (u16, u16),
    /// The track that it shall show.
    pub assigned: Option<TrackRef>,
    /// What the control plane was told that it shows.
    pub told: Option<TrackId>,
    /// Why it shows nothing, as the control plane was told.
    pub reason: Option<SlotReason>,
    /// What it is given of the subscriber's network.
    pub share: Share,
    /// What it shows until the key frame comes that it waits for takes far more than the network carries: only broken pictures
    /// would come, so none of them begins any more.
    pub starved: bool,
    /// Its requests for key frames.
    pub key_frame_asks: KeyFrameAsks,
    /// What was sent again.
    pub repairs: Repairs,
}

/// How a subscriber gets a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutgoingFormat {
    /// The payload type of the media.
    pub payload_type: PayloadType,
    /// The payload type of its repairs.
    pub rtx: Option<PayloadType>,
    /// The payload type of RED around it, if the subscriber knows that.
    pub red: Option<PayloadType>,
}

impl Slot {
    /// A slot that shows nothing yet. `clock_base` and `first_seq` are random.
    pub fn new(mid: Mid, section: &SlotSection, clock_base: u32, first_seq: u16) -> Self {
        let rate = match section.kind {
            MediaKind::Audio => 48_000,
            MediaKind::Video => 90_000,
        };
        Self {
            mid,
            kind: section.kind,
            active: section.active,
            codecs: section.codecs.clone(),
            ssrc: section.ssrc,
            rtx_ssrc: section.rtx_ssrc,
            pair: section.pair.clone(),
            show: Show::Auto,
            wanted_size: (0, 0),
            given_size: (0, 0),
            assigned: None,
            told: None,
            reason: None,
            share: Share::default(),
            starved: false,
            key_frame_asks: KeyFrameAsks::default(),
            forwarder: Forwarder::new(section.kind, SlotClock::new(clock_base, rate), first_seq),
            repairs: Repairs::default(),
            sent_at: None,
            key_frame_at: None,
            sent_packets: 0,
            sent_octets: 0,
            cached: None,
        }
    }

    /// Takes over what a later offer changed.
    pub fn update(&mut self, section: &SlotSection) {
        self.active = section.active;
        self.pair.clone_from(&section.pair);
        if self.codecs != section.codecs {
            self.codecs.clone_from(&section.codecs);
            self.cached = None;
        }
    }

    /// How the subscriber gets this format, in RED or not; `None` when it cannot decode it.
    pub fn outgoing_format(&mut self, format: Format) -> Option<OutgoingFormat> {
        let format = Format { red: false, ..format };
        if let Some((cached, outgoing)) = self.cached
            && cached == format
        {
            return Some(outgoing);
        }
        let outgoing = self.find_format(format)?;
        self.cached = Some((format, outgoing));
        Some(outgoing)
    }

    /// No picture begins when it would wait for longer before it leaves: what comes too late is of no use to a call. Those
    /// after a key frame wait for it to leave, since another one would only take as long.
    pub fn longest_wait(&self, now: Instant) -> Duration {
        let behind_key_frame =
            self.key_frame_at.is_some_and(|at| now.saturating_duration_since(at) < BEHIND_KEY_FRAME);
        if behind_key_frame { 4 * MAX_WAIT } else { MAX_WAIT }
    }

    /// Whether repairs of a source are of no use any more: the slot has gone down to a smaller layer, whose key frame is shown
    /// without what was before it, or is about to. A network that has become slow has no room for them.
    pub fn has_left(&self, source: LayerRef) -> bool {
        let current = self.forwarder.current();
        let smaller = self.share.level().is_some_and(|level| level.layer < source.layer);
        self.kind == MediaKind::Video && (self.starved || smaller && current.is_some_and(|c| c != source))
    }

    /// The payload type of padding that finds out what the network carries: that of repairs of what was sent last.
    pub fn padding_type(&self) -> Option<PayloadType> {
        self.cached.and_then(|(_, outgoing)| outgoing.rtx)
    }

    fn find_format(&self, format: Format) -> Option<OutgoingFormat> {
        let matching = |c: &&crate::media::NegotiatedCodec| {
            c.codec == format.codec && format.profile.compatible(c.profile)
        };
        let codec = self.codecs.iter().find(matching)?;
        Some(OutgoingFormat { payload_type: codec.payload_type, rtx: codec.rtx, red: codec.red })
    }

    /// Whether the subscriber knows RED.
    pub fn takes_red(&self) -> bool {
        self.codecs.iter().any(|codec| codec.red.is_some())
    }

    /// Whether the slot should send now.
    pub fn wants_media(&self) -> bool {
        self.active && self.assigned.is_some()
    }

    /// Whether pictures are sent in it now.
    pub fn carries_pictures(&self, now: Instant) -> bool {
        self.kind == MediaKind::Video
            && self.forwarder.current().is_some()
            && self.sent_at.is_some_and(|at| now.saturating_duration_since(at) < CARRIES_WITHIN)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
mod tests {
    use super::*;
    use crate::allocation::Level;
    use crate::forward::forwarder::ForwardInput;
    use crate::forward::picture::PictureFields;

    fn layer(layer: u8) -> LayerRef {
        LayerRef { participant: 1, track: 0, layer, id: TrackId(5) }
    }

    fn slot(kind: MediaKind) -> Slot {
        let (ssrc, rtx_ssrc) = (Ssrc(1), Ssrc(2));
        let section = SlotSection { kind, active: true, codecs: Codecs::new(), ssrc, rtx_ssrc, pair: None };
        Slot::new(Mid::new("0").unwrap(), &section, 0, 0)
    }

    impl Slot {
        /// Gives it a layer of simulcast.
        fn give(&mut self, now: Instant, layer: u8) {
            let level = Level { layer, spatial: Level::ALL, temporal: Level::ALL, bits: 1 << layer };
            self.share.give(now, Some(0), &[level]);
            self.forwarder.set_target(Some(self::layer(layer)));
        }

        /// A key frame of a layer comes.
        fn come(&mut self, layer: u8, millis: i64) {
            let input = ForwardInput {
                seq: 1,
                generation: 0,
                timestamp: 0,
                nanos: millis * 1_000_000,
                starts_key_frame: true,
                end_of_frame: true,
                marker: true,
                frame: None,
                picture: PictureFields::default(),
            };
            assert!(self.forwarder.forward(self::layer(layer), &input, false).unwrap().switched);
        }

        fn left(&self) -> [bool; 3] {
            [0, 1, 2].map(|l| self.has_left(layer(l)))
        }
    }

    #[test]
    fn a_layer_is_left_for_a_smaller_one_when_that_is_shown() {
        let now = Instant::now();
        let mut slot = slot(MediaKind::Video);
        assert_eq!(slot.left(), [false; 3], "it has shown nothing yet");
        slot.give(now, 2);
        slot.come(2, 0);
        assert_eq!(slot.left(), [false; 3]);
        slot.give(now, 0);
        assert_eq!(slot.left(), [false, true, false], "what is shown until the key frame comes is repaired");
        slot.come(0, 100);
        assert_eq!(slot.left(), [false, true, true]);
        // On the way up the pictures before the larger one are shown as well.
        slot.give(now, 1);
        assert_eq!(slot.left(), [false, false, true]);
        slot.come(1, 200);
        assert_eq!(slot.left(), [false, false, true]);
    }

    #[test]
    fn a_slot_that_is_starved_wants_nothing_repaired_and_sound_is_never_left() {
        let now = Instant::now();
        let mut pictures = slot(MediaKind::Video);
        pictures.give(now, 2);
        pictures.come(2, 0);
        pictures.starved = true;
        assert_eq!(pictures.left(), [true; 3]);
        let mut sound = slot(MediaKind::Audio);
        sound.give(now, 0);
        sound.come(0, 0);
        sound.starved = true;
        assert_eq!(sound.left(), [false; 3]);
    }
}
