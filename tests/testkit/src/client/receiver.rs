//! One slot on the receiving side: puts frames together in order, asks for what is missing, and notes everything that
//! a browser would stumble over.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use veche_sfu_core::ids::{Mid, PayloadType, Ssrc};
use veche_sfu_core::media::{Codec, MediaKind};
use veche_sfu_core::rtp::RtpHeader;
use veche_sfu_core::rtp::vp8::Vp8Descriptor;
use veche_sfu_core::rtp::vp9::Vp9Descriptor;

use super::red;
use super::sdp::{RED, payload_types};
use crate::media::Stamp;

/// A frame of video or a packet of audio that could be played.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// When it was complete and its turn.
    pub at: Instant,
    /// Its RTP timestamp without wrapping.
    pub timestamp: i64,
    /// What it says about itself.
    pub stamp: Stamp,
    /// Its codec.
    pub codec: Codec,
}

/// The last sender report.
#[derive(Clone, Copy, Debug)]
pub struct SenderClock {
    /// NTP time, 32.32 fixed-point.
    pub ntp: u64,
    /// The same on the slot's clock.
    pub timestamp: u32,
    /// When it came.
    pub at: Instant,
}

/// The receiving side of a slot.
#[derive(Debug)]
pub struct SlotReceiver {
    /// The slot.
    pub mid: Mid,
    /// Audio or video.
    pub kind: MediaKind,
    /// Of its media.
    pub ssrc: Ssrc,
    /// Of its repairs.
    pub rtx_ssrc: Option<Ssrc>,
    /// Everything that could be played, in order.
    pub frames: Vec<Frame>,
    /// What no browser should ever see.
    pub faults: Vec<String>,
    /// Media packets that came, repairs not counted.
    pub packets: u64,
    /// Packets that a repair brought.
    pub repaired: u64,
    /// Repairs of packets that were there already.
    pub useless_repairs: u64,
    /// Media packets that came twice, or after they were given up.
    pub duplicates: u64,
    /// Packets that came in RED.
    pub red: u64,
    /// Packets that were lost, and carried along by later ones.
    pub restored: u64,
    /// Bytes of payload that came, repairs not counted.
    pub octets: u64,
    /// Packets that never came.
    pub given_up: u64,
    /// Sequence numbers that were asked for again.
    pub nacked: u64,
    /// When something was asked for again last.
    pub last_nack: Option<Instant>,
    /// Key frames that were asked for.
    pub key_requests: u64,
    /// The last sender report.
    pub clock: Option<SenderClock>,
    highest: Option<u64>,
    next: u64,
    pending: BTreeMap<u64, Pending>,
    missing: BTreeMap<u64, Missing>,
    partial: Vec<Pending>,
    picture: Option<(u16, Option<u8>)>,
    last_timestamp: Option<i64>,
    /// Something was lost since the last frame: numbers may jump, and video needs a key frame.
    broken: bool,
    /// Source, layer and number of the last frames that could be decoded.
    decoded: VecDeque<(u32, u8, u32)>,
    asked_key_at: Option<Instant>,
    reported: (u64, u64),
}

#[derive(Clone, Debug)]
struct Pending {
    timestamp: u32,
    marker: bool,
    codec: Codec,
    stamp: Option<Stamp>,
    /// Picture id and TL0PICIDX.
    picture: Option<(u16, Option<u8>)>,
    padding: bool,
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    since: Instant,
    asked_at: Option<Instant>,
    tries: u32,
}

/// A missing packet is waited for so long.
const PATIENCE_VIDEO: Duration = Duration::from_secs(1);
const PATIENCE_AUDIO: Duration = Duration::from_millis(200);
/// It is asked for again after so long; browsers wait for a round trip.
const ASK_AGAIN: Duration = Duration::from_millis(60);
const MAX_TRIES: u32 = 10;
/// What was only overtaken comes within so long. A key picture behind what is missing for longer is shown, and what was
/// before it left out: as in libwebrtc, whose frame buffer takes the first picture of which all references are there.
const OVERTAKEN: Duration = Duration::from_millis(40);
const MAX_GAP: u64 = 500;
const MAX_FAULTS: usize = 20;
/// Frames refer to none further back.
const REMEMBERED: usize = 64;

impl SlotReceiver {
    /// A slot that has received nothing.
    pub(super) fn new(mid: Mid, kind: MediaKind, ssrc: Ssrc, rtx_ssrc: Option<Ssrc>) -> Self {
        Self {
            mid,
            kind,
            ssrc,
            rtx_ssrc,
            frames: Vec::new(),
            faults: Vec::new(),
            packets: 0,
            repaired: 0,
            useless_repairs: 0,
            duplicates: 0,
            red: 0,
            restored: 0,
            octets: 0,
            given_up: 0,
            nacked: 0,
            last_nack: None,
            key_requests: 0,
            clock: None,
            highest: None,
            next: 0,
            pending: BTreeMap::new(),
            missing: BTreeMap::new(),
            partial: Vec::new(),
            picture: None,
            last_timestamp: None,
            broken: false,
            decoded: VecDeque::new(),
            asked_key_at: None,
            reported: (0, 0),
        }
    }

    /// Takes a decrypted packet, or what a repair contains.
    pub(super) fn handle_packet(&mut self, now: Instant, header: &RtpHeader, payload: &[u8], repair: bool) {
        self.octets += if repair { 0 } else { payload.len() as u64 };
        if header.payload_type.0 == RED {
            return self.handle_red(now, header, payload, repair);
        }
        self.take_packet(now, header, payload, repair);
    }

    /// The newest block is the packet; older ones stand in for those that were lost.
    fn handle_red(&mut self, now: Instant, header: &RtpHeader, payload: &[u8], repair: bool) {
        let blocks = red::read(payload);
        let opus = payload_types(Codec::Opus).0;
        let Some((newest, older)) = blocks.as_ref().and_then(|b| b.split_last()) else {
            return self.fault("RED that does not parse");
        };
        if repair || blocks.iter().flatten().any(|block| block.payload_type != opus) {
            return self.fault("RED in a repair, or around something else than Opus");
        }
        self.red += 1;
        let plain = RtpHeader { payload_type: PayloadType(opus), ..*header };
        self.take_packet(now, &plain, newest.payload, false);
        let Some(stamp) = Stamp::read(newest.payload) else { return };
        for block in older {
            let before =
                Stamp::read(block.payload).filter(|s| (s.source, s.layer) == (stamp.source, stamp.layer));
            let Some(before) = before.filter(|before| before.frame < stamp.frame) else {
                self.fault("an older block is damaged, or of somebody else");
                continue;
            };
            let timestamp = header.timestamp.wrapping_sub(block.distance);
            let mut heard = self.frames.iter().rev().take(8);
            if heard.any(|frame| frame.timestamp as u32 == timestamp && frame.stamp != before) {
                self.fault("an older block stands where something else was heard");
            }
            let back = stamp.frame - before.frame;
            let seq = self.extend(header.seq) - u64::from(back);
            if self.missing.remove(&seq).is_some() {
                self.restored += 1;
                let pending = read(&RtpHeader { timestamp, ..plain }, block.payload);
                self.pending.extend(pending.map(|pending| (seq, pending)));
                self.deliver(now);
            }
        }
    }

    fn take_packet(&mut self, now: Instant, header: &RtpHeader, payload: &[u8], repair: bool) {
        let seq = self.extend(header.seq);
        self.packets += u64::from(!repair);
        if self.highest.is_some() && (seq < self.next || self.pending.contains_key(&seq)) {
            *(if repair { &mut self.useless_repairs } else { &mut self.duplicates }) += 1;
            return;
        }
        self.note_gap(now, seq);
        let was_missing = self.missing.remove(&seq).is_some();
        self.repaired += u64::from(was_missing && repair);
        match read(header, payload) {
            Some(pending) => {
                self.pending.insert(seq, pending);
            }
            None => self.fault(&format!("payload type {} was not negotiated", header.payload_type)),
        }
        self.deliver(now);
    }

    fn extend(&self, seq: u16) -> u64 {
        // Far from 0, so that a first packet that was overtaken has a number too.
        let highest = self.highest.unwrap_or(1 << 32 | u64::from(seq));
        let step = i64::from(seq.wrapping_sub(highest as u16) as i16);
        highest.saturating_add_signed(step)
    }

    fn note_gap(&mut self, now: Instant, seq: u64) {
        let Some(highest) = self.highest else {
            self.highest = Some(seq);
            self.next = seq;
            return;
        };
        if seq <= highest {
            return;
        }
        self.highest = Some(seq);
        if seq - highest > MAX_GAP {
            // As browsers do: nothing of this is asked for, it goes on with a key frame.
            self.given_up += seq - highest - 1 + self.missing.len() as u64;
            self.missing.clear();
            self.pending.clear();
            self.partial.clear();
            self.next = seq;
            self.lose();
            return;
        }
        for missing in highest + 1..seq {
            self.missing.insert(missing, Missing { since: now, asked_at: None, tries: 0 });
        }
    }

    /// Something is lost for good: what follows needs a key picture.
    fn lose(&mut self) {
        self.broken = true;
        self.decoded.clear();
    }

    fn deliver(&mut self, now: Instant) {
        while let Some(packet) = self.pending.remove(&self.next) {
            self.next += 1;
            if !packet.padding {
                self.assemble(now, packet);
            }
        }
    }

    fn assemble(&mut self, now: Instant, packet: Pending) {
        if let Some(first) = self.partial.first()
            && first.timestamp != packet.timestamp
        {
            if !self.broken {
                self.fault("a frame has no end");
            }
            self.partial.clear();
        }
        let ends = packet.marker || self.kind == MediaKind::Audio;
        self.partial.push(packet);
        if ends {
            let packets = std::mem::take(&mut self.partial);
            self.finish(now, &packets);
        }
    }

    /// Takes the packets of a picture, which has a frame for each of its spatial layers.
    fn finish(&mut self, now: Instant, packets: &[Pending]) {
        let first = &packets[0];
        let mut top = None;
        let mut rest = packets;
        while let Some(stamp) = rest.first().map(|packet| packet.stamp) {
            let Some(stamp) = stamp else { return self.fault("a payload is damaged") };
            let frame = &rest[..rest.len().min(usize::from(stamp.count))];
            let whole = frame.len() == usize::from(stamp.count)
                && frame.iter().enumerate().all(|(index, packet)| {
                    packet.stamp == Some(Stamp { index: index as u8, ..stamp }) && packet.codec == first.codec
                });
            if !whole {
                if !self.broken {
                    self.fault(&format!("a frame is not whole: {} packets of {stamp:?}", frame.len()));
                }
                return;
            }
            if !self.decodable(&stamp) {
                return;
            }
            top = Some(stamp);
            rest = &rest[frame.len()..];
        }
        let Some(stamp) = top else { return };
        let timestamp = self.unwrap_timestamp(first.timestamp);
        self.check_timestamp(timestamp);
        self.check_picture(first.picture, first.codec, &stamp);
        self.check_source(&stamp);
        self.broken = false;
        self.last_timestamp = Some(timestamp);
        self.frames.push(Frame { at: now, timestamp, stamp, codec: first.codec });
    }

    /// Whether everything came that a frame refers to. After a loss, that must begin with a key picture.
    fn decodable(&mut self, stamp: &Stamp) -> bool {
        if self.kind == MediaKind::Audio {
            return true;
        }
        if stamp.key && stamp.spatial == 0 {
            self.decoded.clear();
        } else if self.broken && self.decoded.is_empty() {
            return false;
        }
        let references = stamp.references.into_iter().filter(|distance| *distance > 0);
        let missing = references
            .map(|distance| (stamp.source, stamp.layer, stamp.frame.wrapping_sub(u32::from(distance))))
            .find(|reference| !self.decoded.contains(reference));
        if let Some((_, _, number)) = missing {
            if !self.broken {
                self.fault(&format!("frame {number} never came, to which {stamp:?} refers"));
            }
            return false;
        }
        if self.decoded.len() == REMEMBERED {
            self.decoded.pop_front();
        }
        self.decoded.push_back((stamp.source, stamp.layer, stamp.frame));
        true
    }

    fn unwrap_timestamp(&self, timestamp: u32) -> i64 {
        let last = self.last_timestamp.unwrap_or(i64::from(timestamp));
        last + i64::from(timestamp.wrapping_sub(last as u32) as i32)
    }

    fn check_timestamp(&mut self, timestamp: i64) {
        let Some(last) = self.last_timestamp else { return };
        if timestamp <= last {
            self.fault(&format!("the timestamp went from {last} to {timestamp}"));
        }
        if self.kind == MediaKind::Audio && (timestamp - last) % 960 != 0 {
            self.fault(&format!("the timestamp left the 20 ms grid by {}", (timestamp - last) % 960));
        }
    }

    fn check_picture(&mut self, picture: Option<(u16, Option<u8>)>, codec: Codec, stamp: &Stamp) {
        let last = std::mem::replace(&mut self.picture, picture);
        let (Some((last, last_tl0)), Some((now, tl0))) = (last, picture) else { return };
        let step = now.wrapping_sub(last) & 0x7fff;
        // A slot that changes codecs on the way has two counters.
        // Those of VP9 keep their holes, since what a picture refers to is told by distances.
        let holes = codec == Codec::Vp9 && (1..0x4000).contains(&step);
        if step != 1 && !holes && !self.broken {
            self.fault(&format!("the picture id went from {last} to {now} ({stamp:?})"));
        }
        if let (Some(last), Some(now)) = (last_tl0, tl0)
            && now.wrapping_sub(last) > 1
            && !self.broken
            && !stamp.key
        {
            self.fault(&format!("TL0PICIDX went from {last} to {now}"));
        }
    }

    fn check_source(&mut self, stamp: &Stamp) {
        let Some(last) = self.frames.last().map(|f| f.stamp) else {
            if self.kind == MediaKind::Video && !stamp.key {
                self.fault("the first frame is no key frame");
            }
            return;
        };
        let same = (last.source, last.layer) == (stamp.source, stamp.layer);
        if self.kind == MediaKind::Video && !same && !stamp.key {
            self.fault(&format!("a switch from {last:?} to {stamp:?} without a key frame"));
        }
        if same && stamp.frame <= last.frame {
            self.fault(&format!("frame {} came after {}", stamp.frame, last.frame));
        }
    }

    /// The numbers to ask for now, and whether a key frame is needed.
    pub(super) fn poll_requests(&mut self, now: Instant, nacks: &mut Vec<u16>) -> bool {
        self.give_up(now);
        // Audio is not repaired: browsers do not negotiate it.
        if self.kind == MediaKind::Video {
            for (seq, missing) in &mut self.missing {
                let due = missing.asked_at.is_none_or(|at| now >= at + ASK_AGAIN);
                if due && missing.tries < MAX_TRIES {
                    missing.asked_at = Some(now);
                    missing.tries += 1;
                    nacks.push(*seq as u16);
                }
            }
            if !nacks.is_empty() {
                self.nacked += nacks.len() as u64;
                self.last_nack = Some(now);
            }
        }
        let stuck = self.broken && self.kind == MediaKind::Video;
        let ask = stuck && self.asked_key_at.is_none_or(|at| now >= at + Duration::from_millis(300));
        if ask {
            self.asked_key_at = Some(now);
            self.key_requests += 1;
        }
        ask
    }

    /// Whether something is missing, so that time matters.
    pub(super) fn waits(&self) -> bool {
        !self.missing.is_empty() || self.broken
    }

    fn give_up(&mut self, now: Instant) {
        self.skip_to_key_picture(now);
        let patience = if self.kind == MediaKind::Audio { PATIENCE_AUDIO } else { PATIENCE_VIDEO };
        while let Some((&seq, missing)) = self.missing.first_key_value()
            && now >= missing.since + patience
        {
            self.missing.remove(&seq);
            self.given_up += 1;
            self.lose();
            self.partial.clear();
            self.next = self.next.max(seq + 1);
            self.deliver(now);
        }
    }

    fn skip_to_key_picture(&mut self, now: Instant) {
        let late =
            self.missing.first_key_value().is_some_and(|(_, missing)| now >= missing.since + OVERTAKEN);
        if self.kind == MediaKind::Audio || !late {
            return;
        }
        let Some(first) = self.pending.keys().copied().find(|seq| self.is_whole_key_picture(*seq)) else {
            return;
        };
        let later = self.missing.split_off(&first);
        self.given_up += self.missing.len() as u64;
        self.missing = later;
        self.pending = self.pending.split_off(&first);
        self.partial.clear();
        self.lose();
        self.next = first;
        self.deliver(now);
    }

    /// Whether a key picture begins with this packet, and all of it is there.
    fn is_whole_key_picture(&self, first: u64) -> bool {
        let begins = |p: &Pending| p.stamp.is_some_and(|s| s.key && s.spatial == 0 && s.index == 0);
        if !self.pending.get(&first).is_some_and(begins) {
            return false;
        }
        let rest =
            self.pending.range(first..).zip(first..).map_while(|((seq, p), n)| (*seq == n).then_some(p));
        rest.take_while(|p| p.timestamp == self.pending[&first].timestamp).any(|p| p.marker)
    }

    /// The share lost since the last report in 1/256, lost in all, and the highest number.
    pub(super) fn report(&mut self) -> Option<(u8, i32, u32)> {
        let highest = self.highest?;
        let lost = self.given_up + self.repaired + self.restored + self.missing.len() as u64;
        let (expected_before, lost_before) = std::mem::replace(&mut self.reported, (highest, lost));
        let expected = if expected_before == 0 { self.packets } else { highest - expected_before };
        let lost_now = lost.saturating_sub(lost_before);
        let fraction = (lost_now * 256).checked_div(expected).unwrap_or(0).min(255) as u8;
        Some((fraction, lost as i32, highest as u32))
    }

    /// The highest sequence number that came.
    pub fn highest_seq(&self) -> u16 {
        self.highest.map_or(0, |highest| highest as u16)
    }

    /// Frames from then on.
    pub fn frames_since(&self, at: Instant) -> impl DoubleEndedIterator<Item = &Frame> {
        self.frames.iter().filter(move |frame| frame.at >= at)
    }

    /// Whose frames came last.
    pub fn shows(&self) -> Option<u32> {
        self.frames.last().map(|frame| frame.stamp.source)
    }

    /// The longest time without a frame between two moments.
    pub fn longest_gap(&self, from: Instant, to: Instant) -> Duration {
        let inside = self.frames.iter().map(|f| f.at).filter(|at| (from..to).contains(at));
        let mut last = from;
        let mut longest = Duration::ZERO;
        for at in inside.chain([to]) {
            longest = longest.max(at - last);
            last = at;
        }
        longest
    }

    /// How far the timestamps strayed from the clock on the wall: the spread of arrival minus timestamp.
    pub fn clock_spread(&self) -> Duration {
        let Some(first) = self.frames.first() else { return Duration::ZERO };
        let rate = if self.kind == MediaKind::Audio { 48_000.0 } else { 90_000.0 };
        let lateness =
            |f: &Frame| (f.at - first.at).as_secs_f64() - (f.timestamp - first.timestamp) as f64 / rate;
        let (mut low, mut high) = (0.0_f64, 0.0_f64);
        for frame in &self.frames {
            low = low.min(lateness(frame));
            high = high.max(lateness(frame));
        }
        Duration::from_secs_f64(high - low)
    }

    /// When the last frame was sampled, in seconds of the server's NTP clock, as its sender report says; and when it
    /// truly was, in the time of the world.
    pub fn sampled(&self) -> Option<(f64, Duration)> {
        let (clock, frame) = (self.clock?, self.frames.last()?);
        let rate = if self.kind == MediaKind::Audio { 48_000.0 } else { 90_000.0 };
        let ticks = (frame.timestamp as u32).wrapping_sub(clock.timestamp) as i32;
        let ntp = clock.ntp as f64 / 4_294_967_296.0;
        Some((ntp + f64::from(ticks) / rate, frame.stamp.captured))
    }

    fn fault(&mut self, text: &str) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(format!("slot {}: {text}", self.mid));
        }
    }
}

/// `None` for a payload type that was not offered.
fn read(header: &RtpHeader, payload: &[u8]) -> Option<Pending> {
    let codecs = [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1];
    let codec = codecs.into_iter().find(|c| payload_types(*c).0 == header.payload_type.0)?;
    let picture = match codec {
        Codec::Vp8 => Vp8Descriptor::parse(payload).and_then(|d| Some((d.picture_id?.value, d.tl0_pic_idx))),
        Codec::Vp9 => Vp9Descriptor::parse(payload).and_then(|d| Some((d.picture_id?, d.tl0_pic_idx))),
        _ => None,
    };
    Some(Pending {
        timestamp: header.timestamp,
        marker: header.marker,
        codec,
        stamp: Stamp::read(payload),
        picture,
        padding: payload.is_empty(),
    })
}
