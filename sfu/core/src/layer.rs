//! One stream of a published track: with simulcast one of several sizes, otherwise the only one.

use std::time::{Duration, Instant};

use smallvec::{SmallVec, smallvec};

use crate::allocation::Level;
use crate::context::Now;
use crate::drops::DropReason;
use crate::forward::picture::PictureFields;
use crate::forward::red::{self, Older};
use crate::ids::{Rid, Ssrc};
use crate::incoming::{Format, Incoming, StoredMeta};
use crate::media::{ExtensionIds, MediaKind};
use crate::mirror::{Takers, Told};
use crate::receive::history::{History, HistoryLimits};
use crate::receive::key_frame::{KeyFrameReason, KeyFrameRequests};
use crate::receive::loss::{Arrival, LossDetector};
use crate::receive::media_clock::MediaClock;
use crate::receive::rate::RateMeter;
use crate::receive::statistics::ReceiverStatistics;
use crate::receive::sublayers::{SubLayerRates, SubLayerView};
use crate::rtp::RtpHeader;
use crate::rtp::extension::Extensions;
use crate::rtp::frame::{FrameInfo, FrameState};
use crate::rtp::sequence::SeqExtender;
use crate::sdp::PublishedLayer;
use crate::transport::PassedExtensions;

/// A slot of a subscriber in the same room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotRef {
    /// The subscriber's index in the room.
    pub participant: u32,
    /// The slot's index among the subscriber's.
    pub slot: u32,
}

/// How long a layer may be silent and still count as flowing. Video at five frames a second must pass.
const FLOWING_WITHIN: Duration = Duration::from_millis(700);

/// One published stream.
#[derive(Debug)]
pub struct Layer {
    /// Its rid, with simulcast.
    pub rid: Option<Rid>,
    /// Its SSRC, once known.
    pub ssrc: Option<Ssrc>,
    /// The SSRC of its repairs, once known.
    pub rtx_ssrc: Option<Ssrc>,
    kind: MediaKind,
    clock_rate: u32,
    /// Counts how often the stream began anew.
    pub generation: u32,
    extender: SeqExtender,
    /// What was received, to be sent again.
    pub history: History<StoredMeta>,
    /// What is missing.
    pub loss: LossDetector,
    /// For receiver reports.
    pub statistics: ReceiverStatistics,
    /// Who waits for a key frame.
    pub key_frames: KeyFrameRequests,
    /// What arrives.
    pub rate: RateMeter,
    /// Whether it arrived when that was asked last.
    flowed: bool,
    /// Its timestamps on the server's clock.
    pub clock: MediaClock,
    frame_state: FrameState,
    /// What its sub-layers cost; only where it has any.
    sublayers: Option<SubLayerRates>,
    /// The size of its pictures, once a key frame has shown it.
    pub size: Option<(u16, u16)>,
    /// The slots that show it or wait for it, in order.
    pub subscribers: Vec<SlotRef>,
    /// The other workers that take it.
    pub takers: Takers,
    /// What its home tells, when that is another worker.
    pub told: Option<Box<Told>>,
}

impl Layer {
    /// A layer that has not arrived yet.
    pub fn new(kind: MediaKind, clock_rate: u32, negotiated: &PublishedLayer, now: Instant) -> Self {
        let limits = match kind {
            MediaKind::Audio => HistoryLimits::AUDIO,
            MediaKind::Video => HistoryLimits::VIDEO,
        };
        Self {
            rid: negotiated.rid.clone(),
            ssrc: negotiated.ssrc,
            rtx_ssrc: negotiated.rtx_ssrc,
            kind,
            clock_rate,
            generation: 0,
            extender: SeqExtender::default(),
            history: History::new(limits),
            loss: new_loss(kind),
            statistics: ReceiverStatistics::new(clock_rate),
            key_frames: KeyFrameRequests::new(),
            rate: RateMeter::new(now),
            flowed: false,
            clock: MediaClock::new(clock_rate),
            frame_state: FrameState::default(),
            sublayers: None,
            size: None,
            subscribers: Vec::new(),
            takers: Takers::default(),
            told: None,
        }
    }

    /// Takes over what a later offer says of the layer.
    pub fn update(&mut self, negotiated: &PublishedLayer) {
        let replaced = negotiated.ssrc.is_some() && self.ssrc.is_some() && negotiated.ssrc != self.ssrc;
        if replaced || self.rid != negotiated.rid {
            self.ssrc = None;
            self.rtx_ssrc = None;
            self.restart();
        }
        self.rid.clone_from(&negotiated.rid);
        self.ssrc = negotiated.ssrc.or(self.ssrc);
        self.rtx_ssrc = negotiated.rtx_ssrc.or(self.rtx_ssrc);
    }

    /// The stream begins anew: another SSRC, or after a mute. Numbers, times and packets of before mean nothing any more;
    /// the slots that show it stay.
    pub fn restart(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.extender = SeqExtender::default();
        self.history.clear();
        self.loss = new_loss(self.kind);
        self.statistics = ReceiverStatistics::new(self.clock_rate);
        self.clock = MediaClock::new(self.clock_rate);
        self.frame_state = FrameState::default();
        self.sublayers = None;
        self.takers.report = None;
    }

    /// Whether packets come that did not when this was asked last.
    pub fn begins_to_flow(&mut self, now: Instant) -> bool {
        let flows = self.rate.is_flowing(now, FLOWING_WITHIN);
        !std::mem::replace(&mut self.flowed, flows) && flows
    }

    /// What sub-layers there are and what they cost, from the lowest to the highest. A stream without any has one.
    pub fn sublayers(&self, now: Instant) -> SmallVec<[SubLayerView; 9]> {
        if let Some(told) = self.told.as_ref().filter(|told| !told.sublayers.is_empty()) {
            return SmallVec::from_slice(&told.sublayers);
        }
        if let Some(rates) = &self.sublayers {
            let size = |spatial| self.frame_state.spatial_size(spatial).or(self.size);
            return rates.views(now, FLOWING_WITHIN, size);
        }
        let rates = self.rate.rates(now);
        smallvec![SubLayerView {
            spatial: Level::ALL,
            temporal: Level::ALL,
            size: self.size,
            bits: rates.bits,
            frames: rates.frames,
            flowing: self.rate.is_flowing(now, FLOWING_WITHIN),
        }]
    }

    /// Takes a decrypted packet. `repaired` when it came as a repair.
    pub fn receive<'a>(
        &mut self,
        now: &Now,
        header: RtpHeader,
        extensions: &Extensions<'a>,
        format: Format,
        packet: &'a [u8],
        repaired: bool,
    ) -> Result<Incoming<'a>, DropReason> {
        let range = header.payload_range(packet)?;
        let payload = &packet[range.clone()];
        let before = self.extender.highest();
        let seq = self.extender.extend(header.seq);
        let newest = before.is_none_or(|b| seq > b) && !repaired;
        self.take_arrival(now, seq, &header, repaired)?;
        let (frame, picture) = match self.kind {
            MediaKind::Audio => (FrameInfo::default(), PictureFields::default()),
            MediaKind::Video => self.read_frame(now, seq, &header, format, payload, extensions),
        };
        let meta = StoredMeta { header, format, picture, payload: (range.start as u16, range.end as u16) };
        self.history.insert(now.instant, seq, &packet[..range.end], meta);
        // After a gap a whole second can be repaired at once, which is no rate.
        if !repaired {
            self.rate.on_packet(now.instant, packet.len(), frame.start_of_frame);
            self.measure_sublayers(now.instant, packet.len(), &frame);
        }
        if newest {
            self.clock.on_packet(now.nanos, header.timestamp);
        }
        let nanos = self.clock.server_time(header.timestamp).unwrap_or(now.nanos);
        let generation = self.generation;
        let passed = pass(extensions);
        Ok(Incoming { seq, generation, header, format, payload, passed, frame, picture, nanos })
    }

    /// A packet of before, as it was given out when it arrived.
    pub fn stored(&self, now: Instant, seq: u64, ids: &ExtensionIds) -> Option<Incoming<'_>> {
        let (bytes, meta) = self.history.get(now, seq)?;
        let extensions = Extensions::read(&meta.header, bytes, ids);
        Some(Incoming {
            seq,
            generation: self.generation,
            header: meta.header,
            format: meta.format,
            payload: bytes.get(meta.payload.0 as usize..meta.payload.1 as usize)?,
            passed: pass(&extensions),
            frame: FrameInfo::default(),
            picture: meta.picture,
            nanos: self.clock.server_time(meta.header.timestamp)?,
        })
    }

    fn measure_sublayers(&mut self, now: Instant, bytes: usize, frame: &FrameInfo) {
        let Some(targets) = &frame.targets else { return };
        if self.sublayers.is_none() && targets.present.count_ones() > 1 {
            self.sublayers = Some(SubLayerRates::new(now));
        }
        if let Some(rates) = &mut self.sublayers {
            rates.on_packet(now, bytes, frame.start_of_frame, targets);
        }
    }

    /// A packet of before as another can carry it along (RFC 2198).
    pub fn older(&self, now: Instant, seq: u64) -> Option<Older<'_>> {
        let (bytes, meta) = self.history.get(now, seq)?;
        let payload = bytes.get(meta.payload.0 as usize..meta.payload.1 as usize)?;
        let payload = if meta.format.red { red::primary(payload) } else { payload };
        Some(Older { timestamp: meta.header.timestamp, payload })
    }

    fn take_arrival(
        &mut self,
        now: &Now,
        seq: u64,
        header: &RtpHeader,
        repaired: bool,
    ) -> Result<(), DropReason> {
        let arrival = self.loss.on_packet(now.instant, seq, repaired);
        if !repaired {
            self.statistics.on_packet(now.instant, seq, header.timestamp);
        }
        if self.loss.take_needs_key_frame() && self.kind == MediaKind::Video {
            self.key_frames.request(now.instant, KeyFrameReason::Loss);
        }
        match arrival {
            Arrival::New | Arrival::Repaired => Ok(()),
            Arrival::Duplicate if repaired => Err(DropReason::RtxUseless),
            Arrival::Duplicate => Err(DropReason::Duplicate),
            Arrival::TooOld => Err(DropReason::TooOld),
        }
    }

    fn read_frame(
        &mut self,
        now: &Now,
        seq: u64,
        header: &RtpHeader,
        format: Format,
        payload: &[u8],
        extensions: &Extensions<'_>,
    ) -> (FrameInfo, PictureFields) {
        let descriptor = extensions.dependency_descriptor;
        let frame = FrameInfo::read(format.codec, header, payload, descriptor, &mut self.frame_state);
        if frame.key_frame && frame.start_of_frame {
            self.key_frames.on_key_frame(now.instant);
            self.loss.on_key_frame(seq);
        }
        if frame.size.is_some() {
            self.size = frame.size;
        }
        (frame, PictureFields::read(format.codec, payload, descriptor))
    }
}

fn new_loss(kind: MediaKind) -> LossDetector {
    match kind {
        MediaKind::Audio => LossDetector::audio(),
        MediaKind::Video => LossDetector::video(),
    }
}

/// The extensions that a subscriber gets as the publisher sent them.
fn pass<'a>(extensions: &Extensions<'a>) -> PassedExtensions<'a> {
    PassedExtensions {
        audio_level: extensions.audio_level.map(|l| [u8::from(l.voice) << 7 | (l.level & 0x7f)]),
        video_orientation: extensions.video_orientation.map(|o| [o]),
        playout_delay: extensions.playout_delay,
        dependency_descriptor: extensions.dependency_descriptor,
    }
}
