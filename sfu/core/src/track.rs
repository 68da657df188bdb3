//! A published track: a section in which a participant sends.

use smallvec::SmallVec;
use std::time::Instant;

use crate::control::TrackInfo;
use crate::demand::LayerDemand;
use crate::ids::{Mid, PayloadType, Rid, TrackId, WorkerId};
use crate::incoming::Format;
use crate::ladder::Ladder;
use crate::layer::Layer;
use crate::media::{Codecs, MediaKind, NegotiatedCodec, Source};
use crate::sdp::{PublishedLayer, PublishedSection};

/// A published track.
#[derive(Debug)]
pub struct Track {
    /// Its identity.
    pub id: TrackId,
    /// Its section.
    pub mid: Mid,
    /// Audio or video.
    pub kind: MediaKind,
    /// What it shows.
    pub source: Source,
    /// Muted: by its publisher, or because they may not send it.
    pub muted: bool,
    muted_by_publisher: bool,
    forbidden: bool,
    /// Whether the section is active.
    pub active: bool,
    /// When it was published: newer ones are shown before older ones that never spoke.
    pub published_at: Instant,
    codecs: Codecs,
    /// Its streams, from the smallest to the largest.
    pub layers: SmallVec<[Layer; 3]>,
    /// The ways to show it, with what each takes.
    pub ladder: Ladder,
    /// Which layers anybody wants.
    pub demand: LayerDemand,
    /// The layers that people on other workers want, one bit each. A mirror has its own here, as told to its home.
    pub wanted_elsewhere: SmallVec<[(WorkerId, u8); 2]>,
    /// The layers that its publisher is asked for, as other workers were told.
    pub asked_as_told: u8,
}

/// What the payload type of a received packet means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Media of this format.
    Media(Format),
    /// A repair (RFC 4588) of a packet that had this payload type.
    Repair(PayloadType),
}

impl Track {
    /// A track that has not sent anything yet.
    pub fn new(
        id: TrackId,
        mid: Mid,
        section: &PublishedSection,
        source: Source,
        muted: bool,
        now: Instant,
    ) -> Self {
        let mut track = Self {
            id,
            mid,
            kind: section.kind,
            source,
            muted,
            muted_by_publisher: muted,
            forbidden: false,
            active: section.active,
            published_at: now,
            codecs: section.codecs.clone(),
            layers: SmallVec::new(),
            ladder: Ladder::default(),
            demand: LayerDemand::default(),
            wanted_elsewhere: SmallVec::new(),
            asked_as_told: u8::MAX,
        };
        track.add_layers(section, now);
        track
    }

    /// Takes over what a later offer changed. Streams that are known go on.
    pub fn update(&mut self, section: &PublishedSection, now: Instant) {
        self.active = section.active;
        self.codecs.clone_from(&section.codecs);
        self.add_layers(section, now);
    }

    fn add_layers(&mut self, section: &PublishedSection, now: Instant) {
        let rate = section.codecs.first().map_or(90_000, |c| c.codec.clock_rate());
        for (i, negotiated) in section.layers.iter().enumerate() {
            match self.layers.get_mut(i) {
                Some(layer) => layer.update(negotiated),
                None => self.layers.push(Layer::new(self.kind, rate, negotiated, now)),
            }
        }
    }

    /// Its publisher mutes or unmutes it. What was said while it was muted is never sent to anybody.
    pub fn set_muted(&mut self, muted: bool) {
        self.muted_by_publisher = muted;
        self.follow_muting();
    }

    /// Its publisher may send it or not. One that is allowed again is as muted as its publisher left it.
    pub fn set_forbidden(&mut self, forbidden: bool) {
        self.forbidden = forbidden;
        self.follow_muting();
    }

    fn follow_muting(&mut self) {
        let muted = self.muted_by_publisher || self.forbidden;
        if self.muted && !muted {
            for layer in &mut self.layers {
                layer.restart();
            }
        }
        self.muted = muted;
    }

    /// What a payload type means here.
    pub fn payload(&self, payload_type: PayloadType) -> Option<Payload> {
        self.codecs.iter().find_map(|c| {
            let format = |red| Format { codec: c.codec, profile: c.profile, red };
            if c.payload_type == payload_type {
                Some(Payload::Media(format(false)))
            } else if c.red == Some(payload_type) {
                Some(Payload::Media(format(true)))
            } else if c.rtx == Some(payload_type) {
                Some(Payload::Repair(c.payload_type))
            } else {
                None
            }
        })
    }

    /// What was agreed on, without SSRCs: those matter at its home only.
    pub fn section(&self) -> PublishedSection {
        let layer = |layer: &Layer| PublishedLayer { rid: layer.rid.clone(), ..PublishedLayer::default() };
        PublishedSection {
            kind: self.kind,
            active: self.active,
            codecs: self.codecs.clone(),
            layers: self.layers.iter().map(layer).collect(),
        }
    }

    /// Whether its publisher agreed to send packets again.
    pub fn takes_nack(&self) -> bool {
        self.codecs.iter().any(|c| c.nack)
    }

    /// Whether a slot that takes these codecs can decode anything that the publisher may send.
    pub fn suits(&self, codecs: &Codecs) -> bool {
        let taken = |c: &NegotiatedCodec| {
            codecs.iter().any(|t| t.codec == c.codec && c.profile.compatible(t.profile))
        };
        self.codecs.iter().any(taken)
    }

    /// The layer with a rid; without simulcast the only one.
    pub fn layer_by_rid(&self, rid: Option<&Rid>) -> Option<usize> {
        match rid {
            Some(rid) => self.layers.iter().position(|l| l.rid.as_ref() == Some(rid)),
            None => (self.layers.len() == 1).then_some(0),
        }
    }

    /// For the control plane.
    pub fn info(&self) -> TrackInfo {
        TrackInfo {
            id: self.id,
            mid: self.mid.clone(),
            kind: self.kind,
            source: self.source,
            muted: self.muted,
        }
    }

    /// Whether it can be shown now.
    pub fn showable(&self) -> bool {
        self.active && !self.muted
    }
}
