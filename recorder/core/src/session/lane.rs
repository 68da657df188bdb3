//! One track on its way into a reel: the best of its layers that flows.

use std::collections::VecDeque;

use veche_sfu_core::bridge::packet::BridgeReport;
use veche_sfu_core::bridge::{LayerView, TrackNews};
use veche_sfu_core::ids::PayloadType;
use veche_sfu_core::media::{Codec, MediaKind};
use veche_sfu_core::receive::media_clock::NtpClock;

use super::Output;
use super::reel::Reel;
use crate::order::Packet;
use crate::stream::{Gap, Stream};

/// A track that is recorded.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) news: TrackNews,
    /// Where its frames go.
    pub(super) reel: usize,
    /// What is recorded.
    current: Option<Take>,
    /// What will be, from its first key frame on.
    next: Option<Take>,
    /// The layers that flow, one bit each, as far as is told.
    flowing: u8,
    /// The layers that are taken, as was said.
    taken: u8,
    /// When a key frame was asked for last.
    asked_at: i64,
    key_at: i64,
    /// When it was published, or unmuted: something is about to come.
    since: i64,
    packet_at: Option<i64>,
    gaps: Vec<Gap>,
}

/// A layer that is taken.
#[derive(Debug)]
struct Take {
    layer: u8,
    /// Once a packet has come: how often the layer began anew, and its stream.
    stream: Option<(u32, Codec, Stream)>,
    serial: usize,
}

/// What was given to a reel at once.
#[derive(Clone, Copy, Debug, Default)]
struct Given {
    any: bool,
    key: bool,
}

/// How often a key frame is asked for while one is needed: as long as a slow one takes.
const ASK_AGAIN: i64 = 500_000_000;

/// Files get a key frame at least so often, so that one can jump in them.
const KEY_INTERVAL: i64 = 20_000_000_000;

/// Somebody who has just unmuted is waited for so long, and somebody who has fallen silent.
const EXPECTED_FOR: i64 = 2_000_000_000;

/// Enough for all that still waits for repairs to be given up.
const GIVE_UP: i64 = 2_000_000_000;

impl Lane {
    pub(super) fn new(now: i64, news: TrackNews, reel: usize) -> Self {
        Self {
            news,
            reel,
            current: None,
            next: None,
            flowing: 0,
            taken: 0,
            asked_at: i64::MIN / 2,
            key_at: now,
            since: now,
            packet_at: None,
            gaps: Vec::new(),
        }
    }

    /// The track is like this now.
    pub(super) fn handle_news(&mut self, now: i64, news: &TrackNews) {
        if self.news.muted && !news.muted {
            self.since = now;
        }
        self.news = news.clone();
    }

    /// Its layers are like this now.
    pub(super) fn handle_layers(&mut self, layers: &[LayerView]) {
        let flows = |view: &LayerView| view.sublayers.iter().any(|sub| sub.flowing);
        let bits = (0..8_u8).zip(layers).filter(|(_, view)| flows(view));
        self.flowing = bits.fold(0, |all, (layer, _)| all | 1 << layer);
    }

    /// Takes the best layer that flows, and wants all that are better.
    pub(super) fn choose(&mut self, next_serial: &mut usize, output: &mut VecDeque<Output>) {
        let top = (self.news.section.layers.len().clamp(1, 8) - 1) as u8;
        let current = self.current.as_ref().map(|take| take.layer);
        let best = match self.flowing {
            0 => current.unwrap_or(top),
            flowing => (7 - flowing.leading_zeros() as u8).min(top),
        };
        if current == Some(best) {
            self.next = None;
        } else if self.next.as_ref().is_none_or(|next| next.layer != best) {
            self.next = Some(Take::new(best, next_serial));
            self.asked_at = i64::MIN / 2;
        }
        // Of those that do not come it is not known which can.
        let better = (best..=top).fold(0, |all, layer| all | 1 << layer);
        let takes = [self.current.as_ref(), self.next.as_ref()];
        let layers = takes.into_iter().flatten().fold(better, |all, take| all | 1 << take.layer);
        if std::mem::replace(&mut self.taken, layers) != layers {
            output.push_back(Output::Take { track: self.news.id, layers });
        }
    }

    /// What a payload type means: a codec, perhaps wrapped in RED.
    pub(super) fn format(&self, payload_type: PayloadType) -> Option<(Codec, bool)> {
        self.news.section.codecs.iter().find_map(|c| {
            let red = c.red == Some(payload_type);
            (c.payload_type == payload_type || red).then_some((c.codec, red))
        })
    }

    /// Takes a packet of this layer, generation and codec.
    pub(super) fn handle_packet(
        &mut self,
        now: i64,
        (layer, generation, codec): (u8, u32, Codec),
        packet: Packet,
        next_serial: &mut usize,
        reel: &mut Reel,
    ) {
        self.packet_at = Some(now);
        let takes = [self.current.as_mut(), self.next.as_mut()];
        let Some(take) = takes.into_iter().flatten().find(|take| take.layer == layer) else { return };
        match &mut take.stream {
            Some((known, _, _)) if (generation.wrapping_sub(*known) as i32) < 0 => return,
            Some((known, same, stream)) if *known == generation && *same == codec => {
                stream.on_packet(packet);
                return;
            }
            // It began anew: what was before is whole.
            Some((_, codec, stream)) => {
                drain(take.serial, *codec, stream, now, reel);
                self.gaps.append(&mut stream.take_gaps());
                take.serial = count(next_serial);
            }
            None => {}
        }
        let mut stream = Stream::new(codec, self.news.extensions);
        stream.on_packet(packet);
        take.stream = Some((generation, codec, stream));
    }

    /// Takes a sender report.
    pub(super) fn handle_report(&mut self, ntp: &mut NtpClock, report: &BridgeReport) {
        let takes = [self.current.as_mut(), self.next.as_mut()];
        for take in takes.into_iter().flatten().filter(|take| take.layer == report.stream.layer) {
            if let Some((generation, _, stream)) = &mut take.stream
                && *generation == report.stream.generation
            {
                stream.on_report(ntp, report.arrived, report.ntp, report.rtp_timestamp);
            }
        }
    }

    /// Gives the frames that are whole to the reel. The first of the next layer ends the one before.
    pub(super) fn take_frames(&mut self, now: i64, reel: &mut Reel) {
        let given = self.current.as_mut().map(|take| take.give(now, reel)).unwrap_or_default();
        let begun = self.next.as_mut().map(|take| take.give(now, reel)).unwrap_or_default();
        if given.key || begun.key {
            self.key_at = now;
        }
        if begun.any {
            if let Some((_, _, stream)) = self.current.as_mut().and_then(|take| take.stream.as_mut()) {
                self.gaps.append(&mut stream.take_gaps());
            }
            self.current = self.next.take();
        }
    }

    /// Asks for a key frame, where one is needed (here, or by the reel) and can come.
    pub(super) fn ask(&mut self, now: i64, by_reel: bool, output: &mut VecDeque<Output>) {
        if self.news.section.kind == MediaKind::Audio || self.news.muted || now - self.asked_at < ASK_AGAIN {
            return;
        }
        let needs = |take: &&Take| take.stream.as_ref().is_none_or(|(_, _, stream)| stream.wants_key_frame());
        let takes = [self.next.as_ref(), self.current.as_ref()];
        let needed = takes.into_iter().flatten().find(needs);
        let is_long = now - self.key_at >= KEY_INTERVAL && now - self.asked_at >= KEY_INTERVAL / 4;
        let take = needed.or(self.current.as_ref().filter(|_| is_long || by_reel));
        if let Some(take) = take {
            self.asked_at = now;
            output.push_back(Output::KeyFrame { track: self.news.id, layer: take.layer });
        }
    }

    /// Whether something of it is about to come: it has just begun, or of late something came.
    pub(super) fn is_expected(&self, now: i64) -> bool {
        let since = self.packet_at.map_or(self.since, |at| at.max(self.since));
        !self.news.muted && self.news.section.active && now - since < EXPECTED_FOR
    }

    /// No frame that is still to come is older than this, as far as can be known.
    pub(super) fn complete_through(&self, now: i64) -> i64 {
        let stream = self.current.as_ref().and_then(|take| take.stream.as_ref());
        stream.map_or(now, |(_, _, stream)| stream.complete_through(now))
    }

    /// The times of which frames are missing, since this was asked last.
    pub(super) fn take_gaps(&mut self) -> Vec<Gap> {
        if let Some((_, _, stream)) = self.current.as_mut().and_then(|take| take.stream.as_mut()) {
            self.gaps.append(&mut stream.take_gaps());
        }
        std::mem::take(&mut self.gaps)
    }

    /// Nothing will come any more: what has come goes to the reel.
    pub(super) fn drain(&mut self, now: i64, reel: &mut Reel) {
        self.take_frames(now, reel);
        if let Some(take) = &mut self.current
            && let Some((_, codec, stream)) = &mut take.stream
        {
            drain(take.serial, *codec, stream, now, reel);
        }
    }
}

impl Take {
    fn new(layer: u8, next_serial: &mut usize) -> Self {
        Self { layer, stream: None, serial: count(next_serial) }
    }

    /// Gives the frames that are whole to the reel.
    fn give(&mut self, now: i64, reel: &mut Reel) -> Given {
        let mut given = Given::default();
        let Some((_, codec, stream)) = &mut self.stream else { return given };
        let mut frames = Vec::new();
        stream.take(now, &mut frames);
        for timed in frames {
            given = Given { any: true, key: given.key | timed.frame.key };
            reel.push(self.serial, *codec, timed);
        }
        given
    }
}

/// What waits in a stream is not waited for any longer.
fn drain(serial: usize, codec: Codec, stream: &mut Stream, now: i64, reel: &mut Reel) {
    let mut frames = Vec::new();
    stream.take(now + GIVE_UP, &mut frames);
    for timed in frames {
        reel.push(serial, codec, timed);
    }
}

fn count(next: &mut usize) -> usize {
    *next += 1;
    *next
}
