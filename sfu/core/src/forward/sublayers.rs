//! Chooses among the sub-layers inside one stream, frame by frame: which decode target a slot shows, when it may change
//! to another, and which frames it needs for that.
//!
//! The idea that carries all codecs: a target is *complete* as long as none of the frames that it needs was left out.
//! A slot may change at once, at the start of a picture, to every target that is complete; so switches down need nothing
//! in most structures. A target becomes complete with a frame that is a switch to it and can be decoded with what was
//! sent. Where neither is in sight (K-SVC between key frames), a key frame must be asked for.

use crate::rtp::targets::{Condition, FrameTargets, whole_rows};

/// What the choice needs to know of a packet beside its frame.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The timestamp of its picture.
    pub timestamp: u32,
    /// It is the last one of its frame.
    pub end_of_frame: bool,
    /// It is the last one of its picture, as the publisher sent it.
    pub marker: bool,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// It is sent.
    pub forward: bool,
    /// With the marker: nothing of its picture is sent after it.
    pub marker: bool,
    /// It begins a picture that is not sent, newer than all before.
    pub drops_picture: bool,
}

/// What was decided of a frame.
#[derive(Clone, Copy, Debug, Default)]
struct Decided {
    timestamp: u32,
    spatial: u8,
    forward: bool,
    /// Nothing of its picture is sent after it.
    last: bool,
    /// The target of its picture; `None` when that was left out as a whole.
    target: Option<u8>,
}

/// The picture that came last.
#[derive(Clone, Copy, Debug, Default)]
struct Picture {
    timestamp: u32,
    key: bool,
    /// The highest spatial layer of it that is sent.
    sent: Option<u8>,
    /// A frame is sent as its last.
    closed: bool,
    /// It was left out as a whole.
    discarded: bool,
    /// The targets that needed what was left out of it.
    lacking: u32,
    /// The target should have something of it.
    due: bool,
}

/// How many frames the decisions are remembered of, for packets that come late.
const REMEMBERED: usize = 16;

/// A layer that was in none of so many pictures does not flow: encoders leave out a frame now and then, and of three
/// temporal layers the middle one is in every fourth picture.
const SPATIAL_PATIENCE: u32 = 4;
const TEMPORAL_PATIENCE: u32 = 16;

/// Packets of a picture come at most so many pictures late, as a rule: a round trip of 250 ms at 30 pictures a second.
const LATE: u32 = 8;

/// So many pictures in a row without anything for the target: its layer has stopped.
const MAX_IDLE: u8 = 3;

/// A temporal layer that no frame allows to begin is waited for so long, in ticks of video's 90 kHz; then a key frame
/// must bring it.
const TEMPORAL_WAIT: i32 = 90_000;

/// Temporal layers have three bits everywhere; spatial ones are fewer.
const LAYERS: usize = 8;

/// The sub-layers of what a slot shows.
#[derive(Clone, Debug)]
pub struct Sublayers {
    /// The highest spatial and temporal layer that is wanted.
    ceiling: (u8, u8),
    /// A picture has begun since the ceiling changed.
    settled: bool,
    /// A packet came.
    started: bool,
    /// The decode target that is shown; `None` while a key frame is waited for.
    target: Option<u8>,
    /// Its layer.
    layer: (u8, u8),
    /// The target of before, and the picture from which on the other one is shown: for packets that come late.
    before: Option<u8>,
    since: u32,
    /// The targets of which everything that they need was sent.
    complete: u32,
    sent: SentFrames,
    picture: Picture,
    /// How many pictures came.
    pictures: u32,
    /// In which of them each layer was last.
    spatial_seen: [Option<u32>; LAYERS],
    temporal_seen: [Option<u32>; LAYERS],
    /// Which picture was the last without each spatial layer that the stream has.
    missed: [Option<u32>; LAYERS],
    /// Pictures in a row without anything for the target.
    idle: u8,
    /// The sender says that it does not produce the target any more.
    inactive: bool,
    /// Since when a higher temporal layer is waited for.
    waits_since: Option<u32>,
    /// The highest spatial layer of the last picture that was sent.
    shown_spatial: u8,
    decided: [Option<Decided>; REMEMBERED],
    newest: usize,
}

impl Default for Sublayers {
    /// Everything is wanted, and nothing came yet.
    fn default() -> Self {
        Self {
            ceiling: (u8::MAX, u8::MAX),
            settled: false,
            started: false,
            target: None,
            layer: (0, 0),
            before: None,
            since: 0,
            complete: 0,
            sent: SentFrames::default(),
            picture: Picture::default(),
            pictures: 0,
            spatial_seen: [None; LAYERS],
            temporal_seen: [None; LAYERS],
            missed: [None; LAYERS],
            idle: 0,
            inactive: false,
            waits_since: None,
            shown_spatial: 0,
            decided: [None; REMEMBERED],
            newest: 0,
        }
    }
}

impl Sublayers {
    /// Another stream begins; the ceiling stays.
    pub fn restart(&mut self) {
        *self = Self { ceiling: self.ceiling, ..Self::default() };
    }

    /// Wants no higher layers than these from the next picture on, where the structure allows.
    pub fn set_ceiling(&mut self, spatial: u8, temporal: u8) {
        if self.ceiling != (spatial, temporal) {
            self.ceiling = (spatial, temporal);
            self.settled = false;
            self.waits_since = None;
        }
    }

    /// The spatial and temporal layer that is shown; `None` while nothing is.
    pub fn shown(&self) -> Option<(u8, u8)> {
        self.target?;
        let temporal = highest(&self.temporal_seen, self.pictures, TEMPORAL_PATIENCE).unwrap_or(0);
        Some((self.layer.0.min(self.shown_spatial), self.layer.1.min(temporal)))
    }

    /// A frame that all later ones need was left out: nothing is sent before the next key frame.
    pub fn awaits_key_frame(&self) -> bool {
        self.started && self.target.is_none()
    }

    /// Whether only a key frame brings what is wanted: the picture stands still, or the structure allows no other way to
    /// the layers under the ceiling.
    pub fn needs_key_frame(&self) -> bool {
        if !self.started {
            return false;
        }
        if self.target.is_none() || self.inactive || self.idle >= MAX_IDLE {
            return true;
        }
        let flows = highest(&self.spatial_seen, self.pictures, SPATIAL_PATIENCE).unwrap_or(self.layer.0);
        let other_size = self.layer.0 < self.ceiling.0.min(flows) || self.shown_spatial > self.ceiling.0;
        let waited = |since| self.picture.timestamp.wrapping_sub(since) as i32 >= TEMPORAL_WAIT;
        self.settled && other_size || self.waits_since.is_some_and(waited)
    }

    /// Decides what becomes of a packet. `discard`: no new picture shall begin; key frames do nevertheless, since they
    /// would only have to be asked for again.
    pub fn decide(&mut self, place: &Place, frame: &FrameTargets, discard: bool) -> Decision {
        let step = place.timestamp.wrapping_sub(self.picture.timestamp) as i32;
        let current = self.started && step == 0;
        let (decided, drops_picture) = match self.recall(place.timestamp, frame.spatial) {
            Some(decided) => (decided, false),
            None if self.started && step < 0 => (self.decide_late(place.timestamp, frame), false),
            None => {
                if !current {
                    self.begin_picture(place.timestamp);
                }
                let decided = self.decide_frame(place.timestamp, frame, !current, discard);
                (decided, !current && !decided.forward)
            }
        };
        if place.marker && self.picture.key && place.timestamp == self.picture.timestamp {
            // The key picture has no higher layers, so none can go on from it.
            self.complete = select(self.complete, |target| frame.layer(target).0 <= frame.spatial);
        }
        let marker = place.marker || decided.last && place.end_of_frame;
        Decision { forward: decided.forward, marker: decided.forward && marker, drops_picture }
    }

    /// Whether a packet of a frame that cannot be read is sent: with its picture, or as long as anything is.
    pub fn decide_unread(&self, timestamp: u32) -> bool {
        let of_picture = self.started && timestamp == self.picture.timestamp;
        if of_picture { self.picture.sent.is_some() } else { !self.awaits_key_frame() }
    }

    fn begin_picture(&mut self, timestamp: u32) {
        if let Some(spatial) = self.picture.sent {
            self.shown_spatial = spatial;
            self.idle = 0;
        } else if self.picture.due {
            self.idle = self.idle.saturating_add(1);
        }
        for (seen, missed) in self.spatial_seen.iter().zip(&mut self.missed) {
            if seen.is_some_and(|seen| seen != self.pictures) {
                *missed = Some(self.pictures);
            }
        }
        self.picture = Picture { timestamp, ..Picture::default() };
        self.pictures = self.pictures.wrapping_add(1);
        self.started = true;
        self.settled = true;
    }

    fn decide_frame(&mut self, timestamp: u32, frame: &FrameTargets, begins: bool, discard: bool) -> Decided {
        if let Some(seen) = self.spatial_seen.get_mut(usize::from(frame.spatial)) {
            *seen = Some(self.pictures);
        }
        if let Some(seen) = self.temporal_seen.get_mut(usize::from(frame.temporal)) {
            *seen = Some(self.pictures);
        }
        let reachable = if frame.switch == 0 { 0 } else { self.reachable(frame) } & !self.picture.lacking;
        if frame.key && reachable != 0 && !self.picture.key {
            // Nothing from before counts any more; a structure may have come that names other targets.
            self.complete = 0;
            self.picture.key = true;
            self.idle = 0;
        }
        // With its lowest layer on the way still, the picture has begun already as far as others know.
        self.picture.discarded |= discard && begins && frame.spatial == 0 && !self.picture.key;
        self.retarget(timestamp, frame, reachable, begins);
        self.picture.due |= !self.picture.discarded && frame.temporal <= self.layer.1;
        let forward = !self.picture.discarded && self.target.is_some_and(|target| frame.is_in(target));
        let last = forward && frame.spatial == self.layer.0;
        if forward {
            self.complete |= reachable;
            self.picture.sent = self.picture.sent.max(Some(frame.spatial));
            self.picture.closed |= last;
            if begins && self.pictures == 1 {
                self.shown_spatial = frame.spatial;
            }
        }
        self.note(frame, forward);
        let target = self.target.filter(|_| !self.picture.discarded);
        self.remember(Decided { timestamp, spatial: frame.spatial, forward, last, target })
    }

    /// A frame of a picture older than the newest, of which no packet came before.
    fn decide_late(&mut self, timestamp: u32, frame: &FrameTargets) -> Decided {
        let old = (timestamp.wrapping_sub(self.since) as i32) < 0;
        let then = if old { self.before } else { self.target };
        let others = self.decided.iter().flatten().find(|d| d.timestamp == timestamp);
        let target = others.map_or(then, |other| other.target);
        let forward = target.is_some_and(|target| frame.is_in(target));
        let last = forward && target.is_some_and(|target| frame.layer(target).0 == frame.spatial);
        self.note(frame, forward);
        self.remember(Decided { timestamp, spatial: frame.spatial, forward, last, target })
    }

    /// The targets that one may change to with this frame.
    fn reachable(&self, frame: &FrameTargets) -> u32 {
        let allowed = match frame.condition {
            Condition::None => u32::MAX,
            Condition::Complete(steps) => whole_rows(self.trusted(frame) & steps),
            Condition::Sent { frame_number, references } => {
                let sent = |distance: &u16| self.sent.contains(frame_number.wrapping_sub(*distance));
                if references.distances().iter().all(sent) { u32::MAX } else { 0 }
            }
        };
        frame.switch & frame.present & allowed
    }

    /// Changes to the best target that can be decoded; in the middle of a picture only where the frame leads there, and to
    /// another size only while none was sent as the last.
    fn retarget(&mut self, timestamp: u32, frame: &FrameTargets, reachable: u32, begins: bool) {
        if !begins && reachable & !self.complete == 0 {
            return;
        }
        let trusted = self.trusted(frame) | reachable;
        let best = self.choose(if trusted == 0 { self.complete } else { trusted }, frame);
        let layer = best.map_or((0, 0), |target| frame.layer(target));
        if begins
            || best.is_some_and(|t| reachable >> t & 1 == 1)
                && (layer.0 == self.layer.0 || !self.picture.closed)
        {
            if best != self.target {
                self.before = self.target;
                self.since = timestamp;
                self.target = best;
            }
            self.layer = layer;
        }
        self.inactive = self.target.is_some_and(|target| frame.active >> target & 1 == 0);
        let flows = highest(&self.temporal_seen, self.pictures, TEMPORAL_PATIENCE).unwrap_or(0);
        if self.layer.1 >= self.ceiling.1.min(flows) {
            self.waits_since = None;
        } else {
            self.waits_since.get_or_insert(timestamp);
        }
    }

    /// The targets that are surely as complete as they seem: a frame that was overtaken may yet turn out to be one that was
    /// left out, if it is not of the spatial layer that is shown.
    fn trusted(&self, frame: &FrameTargets) -> u32 {
        select(self.complete, |target| {
            let spatial = frame.layer(target).0;
            let missed = self.missed.get(usize::from(spatial)).copied().flatten();
            spatial == self.layer.0 || missed.is_none_or(|at| self.pictures.wrapping_sub(at) > LATE)
        })
    }

    /// The highest of these targets under the ceiling, the larger picture first; where none is, the one nearest above.
    /// Those that the sender still produces are preferred.
    fn choose(&self, candidates: u32, frame: &FrameTargets) -> Option<u8> {
        let flowing = candidates & frame.active;
        let candidates = if flowing == 0 { candidates } else { flowing };
        targets(candidates).max_by_key(|target| {
            let (spatial, temporal) = frame.layer(*target);
            match (spatial <= self.ceiling.0, temporal <= self.ceiling.1) {
                (true, true) => (2, spatial, temporal),
                (_, true) => (1, u8::MAX - spatial, temporal),
                (_, false) => (0, u8::MAX - spatial, u8::MAX - temporal),
            }
        })
    }

    /// Keeps account of what was sent and what was left out.
    fn note(&mut self, frame: &FrameTargets, forward: bool) {
        if forward {
            if let Condition::Sent { frame_number, .. } = frame.condition {
                self.sent.insert(frame_number);
            }
            return;
        }
        self.complete &= !frame.needed;
        self.picture.lacking |= frame.needed;
        if self.complete == 0 && self.target.is_some() {
            self.before = self.target.take();
            self.since = self.picture.timestamp;
        }
    }

    fn recall(&self, timestamp: u32, spatial: u8) -> Option<Decided> {
        let is = |d: &Decided| d.timestamp == timestamp && d.spatial == spatial;
        let newest = self.decided[self.newest];
        if newest.as_ref().is_some_and(is) {
            return newest;
        }
        if self.started && (timestamp.wrapping_sub(self.picture.timestamp) as i32) > 0 {
            return None;
        }
        self.decided.iter().flatten().find(|d| is(d)).copied()
    }

    fn remember(&mut self, decided: Decided) -> Decided {
        self.newest = (self.newest + 1) % REMEMBERED;
        self.decided[self.newest] = Some(decided);
        decided
    }
}

/// The highest layer that was in one of the last `patience` pictures.
fn highest(seen: &[Option<u32>; LAYERS], pictures: u32, patience: u32) -> Option<u8> {
    let flows = |at: &Option<u32>| at.is_some_and(|at| pictures.wrapping_sub(at) < patience);
    seen.iter().rposition(flows).map(|layer| layer as u8)
}

/// The targets of a mask.
fn targets(mut mask: u32) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let target = (mask != 0).then(|| mask.trailing_zeros() as u8)?;
        mask &= mask - 1;
        Some(target)
    })
}

/// Those targets of a mask that are so.
fn select(mask: u32, so: impl Fn(u8) -> bool) -> u32 {
    targets(mask).filter(|target| so(*target)).fold(0, |mask, target| mask | 1 << target)
}

/// Which of the last frames were sent, by their frame numbers.
#[derive(Clone, Copy, Debug, Default)]
struct SentFrames {
    newest: Option<u16>,
    /// The lowest bit is the newest.
    sent: u128,
}

impl SentFrames {
    fn insert(&mut self, number: u16) {
        let Some(newest) = self.newest else {
            *self = Self { newest: Some(number), sent: 1 };
            return;
        };
        let step = i32::from(number.wrapping_sub(newest) as i16);
        if step > 0 {
            self.sent = self.sent.checked_shl(step as u32).unwrap_or(0) | 1;
            self.newest = Some(number);
        } else {
            self.sent |= 1_u128.checked_shl(step.unsigned_abs()).unwrap_or(0);
        }
    }

    fn contains(&self, number: u16) -> bool {
        let back = self.newest.map(|newest| u32::from(newest.wrapping_sub(number)));
        back.and_then(|back| self.sent.checked_shr(back)).is_some_and(|sent| sent & 1 == 1)
    }
}
