//! A recording of a room: who is there and what they send comes in, what is to be written comes out.
//!
//! For each of somebody's pairs of sound and picture there is a [`reel`]: a row of files, one after the other. A track gives
//! its frames to its reel by a [`lane`], which takes the best of its layers that flows. Whoever owns a session carries its
//! [`Output`]s out in their order, hands it what a listener in the studio hears, and calls [`Session::handle_timeout`] some times a second.

mod lane;
mod plan;
mod reel;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use veche_sfu_core::bridge::packet::BridgeReport;
use veche_sfu_core::bridge::{News, TrackNews};
use veche_sfu_core::ids::{ParticipantId, TrackId};
use veche_sfu_core::media::{MediaKind, Source};
use veche_sfu_core::receive::media_clock::NtpClock;
use veche_sfu_core::rtp::{Extensions, RtpHeader};
use veche_sfu_core::speakers::Speakers;

use crate::container::Patch;
use crate::manifest::{self, End, GapReason, Manifest};
use crate::order::Packet;

use lane::Lane;
pub use plan::{Layout, Plan, Profile, rfc3339};
use reel::{Reel, Roll};

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Take these layers of a track, one bit each, and no others.
    Take {
        /// Which track.
        track: TrackId,
        /// Which layers.
        layers: u8,
    },
    /// Ask for a key frame.
    KeyFrame {
        /// Of which track.
        track: TrackId,
        /// Of which layer.
        layer: u8,
    },
    /// Make a file.
    Open {
        /// By which it is called from now on.
        file: FileId,
        /// Its name in the recording's folder.
        name: String,
        /// How it begins.
        bytes: Vec<u8>,
    },
    /// Put these bytes behind what the file has.
    Write {
        /// Which.
        file: FileId,
        /// What.
        bytes: Vec<u8>,
    },
    /// The same, for the last time; then put the patches to their places, in their order.
    Close {
        /// Which.
        file: FileId,
        /// What goes behind.
        bytes: Vec<u8>,
        /// What goes to places before.
        patches: Vec<Patch>,
    },
}

/// A file of a recording: its place in the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub usize);

/// A media packet that was heard.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// Of which track.
    pub track: TrackId,
    /// Of which layer.
    pub layer: u8,
    /// How often the layer began anew.
    pub generation: u32,
    /// It came as a repair.
    pub repaired: bool,
    /// When it came, in server time (nanoseconds).
    pub arrived: i64,
    /// Header and payload, without padding.
    pub bytes: &'a [u8],
}

/// A recording that runs. All times are server times, in nanoseconds.
#[derive(Debug)]
pub struct Session {
    plan: Plan,
    began: i64,
    /// The same moment on other clocks.
    instant: Instant,
    date: SystemTime,
    people: BTreeMap<ParticipantId, Person>,
    lanes: BTreeMap<TrackId, Lane>,
    reels: Vec<Reel>,
    speakers: Speakers,
    manifest: Manifest,
    output: VecDeque<Output>,
    next_serial: usize,
}

/// Somebody in the room.
#[derive(Debug)]
struct Person {
    peer: Arc<str>,
    joined: i64,
    /// In the manifest, once something of theirs is recorded.
    index: Option<usize>,
    /// What keeps their tracks together.
    ntp: NtpClock,
}

/// Files that a recording may have: whoever changes the size of their pictures all the time fills no folder.
const MAX_FILES: usize = 10_000;

/// People, changes of speaker and gaps that a manifest may have.
const MAX_LISTED: usize = 20_000;

/// Sound of which so little is missing is heard as whole.
const SHORT_GAP: i64 = 100_000_000;

const MS: i64 = 1_000_000;

impl Session {
    /// One that begins at the server time `began`, which is `instant` and `date` on other clocks.
    pub fn new(plan: Plan, began: i64, instant: Instant, date: SystemTime) -> Self {
        let manifest = plan.manifest(date);
        Self {
            plan,
            began,
            instant,
            date,
            people: BTreeMap::new(),
            lanes: BTreeMap::new(),
            reels: Vec::new(),
            speakers: Speakers::new(),
            manifest,
            output: VecDeque::new(),
            next_serial: 0,
        }
    }

    /// Takes news of the room. `profile` tells of a peer what people call them.
    pub fn handle_news(&mut self, now: i64, news: &News, profile: impl Fn(&str) -> Profile) {
        match news {
            News::Joined { participant, peer } => {
                let new =
                    || Person { peer: peer.clone(), joined: now, index: None, ntp: NtpClock::default() };
                self.people.entry(*participant).or_insert_with(new);
            }
            News::Left { participant } => self.handle_left(now, *participant),
            News::Track(news) => self.handle_track(now, news, profile),
            News::TrackGone { track, .. } => self.drop_lane(now, *track),
            News::Layers { track, layers, .. } => {
                if let Some(lane) = self.lanes.get_mut(track) {
                    lane.handle_layers(layers);
                    lane.choose(&mut self.next_serial, &mut self.output);
                }
            }
            _ => {}
        }
    }

    /// Takes a packet of a track.
    pub fn handle_packet(&mut self, now: i64, sent: &Sent<'_>) {
        let Some(lane) = self.lanes.get_mut(&sent.track) else { return };
        let Some(header) = RtpHeader::parse(sent.bytes).ok() else { return };
        if lane.news.source == Source::Microphone {
            let extensions = Extensions::read(&header, sent.bytes, &lane.news.extensions);
            if let Some(level) = extensions.audio_level {
                let at = self.instant + nanos(now - self.began);
                self.speakers.on_level(at, lane.news.participant, level.level, level.voice);
            }
        }
        let Some((codec, red)) = lane.format(header.payload_type) else { return };
        let Some(reel) = self.reels.get_mut(lane.reel) else { return };
        let Sent { layer, generation, repaired, arrived, bytes, .. } = *sent;
        let packet = Packet { arrived, repaired, red, header, bytes: bytes.to_vec() };
        lane.handle_packet(now, (layer, generation, codec), packet, &mut self.next_serial, reel);
    }

    /// Takes a sender report of a track.
    pub fn handle_report(&mut self, report: &BridgeReport) {
        let Some(lane) = self.lanes.get_mut(&report.stream.track) else { return };
        if let Some(person) = self.people.get_mut(&lane.news.participant) {
            lane.handle_report(&mut person.ntp, report);
        }
    }

    /// Writes what is due. To be called some times a second.
    pub fn handle_timeout(&mut self, now: i64) {
        for lane in self.lanes.values_mut() {
            if let Some(reel) = self.reels.get_mut(lane.reel) {
                lane.take_frames(now, reel);
                lane.choose(&mut self.next_serial, &mut self.output);
                lane.ask(now, reel.wants_key, &mut self.output);
                let gaps = lane.take_gaps();
                note_gaps(&mut self.manifest, &self.people, lane, self.began, &gaps);
            }
        }
        let mut roll = Roll {
            now,
            began: self.began,
            date: self.date,
            manifest: &mut self.manifest,
            output: &mut self.output,
        };
        for (index, reel) in self.reels.iter_mut().enumerate() {
            let lanes = self.lanes.values().filter(|lane| lane.reel == index);
            let complete = lanes.clone().map(|lane| lane.complete_through(now)).min();
            let sound = lanes.clone().any(|lane| lane.news.section.kind == MediaKind::Audio);
            let comes = |lane: &Lane| lane.news.section.kind == MediaKind::Video && lane.is_expected(now);
            let pictures = lanes.clone().any(comes);
            reel.write(&mut roll, complete.unwrap_or(now), (sound, pictures));
            if lanes.clone().next().is_none() && !self.people.contains_key(&reel.participant) {
                reel.close(&mut roll);
            }
        }
        if let Some(speakers) = self.speakers.poll(self.instant + nanos(now - self.began)) {
            let loudest = speakers.first().and_then(|speaker| self.people.get(&speaker.participant));
            let participant = loudest.map(|person| person.peer.to_string());
            let offset_ms = offset(self.began, now);
            let before = self.manifest.speakers.last().and_then(|speaker| speaker.participant.as_ref());
            if before != participant.as_ref() && self.manifest.speakers.len() < MAX_LISTED {
                self.manifest.speakers.push(manifest::Speaker { offset_ms, participant });
            }
        }
        self.manifest.duration_ms = offset(self.began, now);
    }

    /// Ends the recording: everything is written and closed.
    pub fn finish(&mut self, now: i64, end: End) {
        let tracks: Vec<TrackId> = self.lanes.keys().copied().collect();
        for track in tracks {
            self.drop_lane(now, track);
        }
        for participant in self.people.keys().copied().collect::<Vec<_>>() {
            self.handle_left(now, participant);
        }
        let Self { began, date, manifest, output, reels, .. } = self;
        let mut roll = Roll { now, began: *began, date: *date, manifest, output };
        for reel in reels {
            reel.close(&mut roll);
        }
        let length = nanos(now - self.began);
        self.manifest.duration_ms = length.as_millis() as u64;
        self.manifest.ended_at = Some(plan::rfc3339(self.date + length));
        self.manifest.end = Some(end);
    }

    /// Since the time `from` packets were dropped since there was no room for them: everything that was being recorded has a gap.
    pub fn note_dropped(&mut self, from: i64, to: i64, reason: GapReason) {
        for lane in self.lanes.values().filter(|lane| lane.is_expected(to)) {
            let Some(person) = self.people.get(&lane.news.participant) else { continue };
            let gap = manifest::Gap {
                participant: person.peer.to_string(),
                source: lane.news.source.into(),
                offset_ms: offset(self.began, from),
                duration_ms: offset(from, to),
                reason,
                frames: None,
            };
            push_gap(&mut self.manifest, gap);
        }
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    /// What the recording says of itself, as of now.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The same, to say what only who writes knows.
    pub fn manifest_mut(&mut self) -> &mut Manifest {
        &mut self.manifest
    }

    /// Whether anybody is in the room.
    pub fn has_people(&self) -> bool {
        !self.people.is_empty()
    }

    fn handle_track(&mut self, now: i64, news: &TrackNews, profile: impl Fn(&str) -> Profile) {
        if news.muted && news.source == Source::Microphone {
            self.speakers.remove(news.participant);
        }
        if let Some(lane) = self.lanes.get_mut(&news.id) {
            lane.handle_news(now, news);
            return lane.choose(&mut self.next_serial, &mut self.output);
        }
        // Guests have no data channels, and are not told of as joined.
        let guest = || Person {
            peer: format!("guest-{}", news.participant).into(),
            joined: now,
            index: None,
            ntp: NtpClock::default(),
        };
        let person = self.people.entry(news.participant).or_insert_with(guest);
        if !self.plan.covers(&person.peer, news.id) {
            return;
        }
        if person.index.is_none() && self.manifest.participants.len() < MAX_LISTED {
            let Profile { name, user } = profile(&person.peer);
            person.index = Some(self.manifest.participants.len());
            let joined_ms = offset(self.began, person.joined);
            let id = person.peer.to_string();
            self.manifest.participants.push(manifest::Participant {
                id,
                user,
                name,
                joined_ms,
                left_ms: None,
            });
        }
        let Some(index) = person.index else { return };
        let peer = person.peer.clone();
        let reel = self.reel_for(news, index, &peer);
        let mut lane = Lane::new(now, news.clone(), reel);
        lane.choose(&mut self.next_serial, &mut self.output);
        self.lanes.insert(news.id, lane);
    }

    /// The reel of somebody that takes such a track and has none of its kind now.
    fn reel_for(&mut self, news: &TrackNews, person: usize, peer: &str) -> usize {
        let group = self.plan.layout.group(news.source);
        let taken = |index: usize| {
            let mut lanes = self.lanes.values().filter(|lane| lane.reel == index);
            lanes.any(|lane| lane.news.section.kind == news.section.kind)
        };
        let fits = |(index, reel): &(usize, &Reel)| {
            reel.participant == news.participant && reel.group == group && !taken(*index)
        };
        if let Some((index, _)) = self.reels.iter().enumerate().find(fits) {
            return index;
        }
        let reels = self.reels.iter().filter(|reel| reel.participant == news.participant).count();
        let name = plan::file_stem(person, peer, group, reels);
        self.reels.push(Reel::new(news.participant, peer, group, name));
        self.reels.len() - 1
    }

    fn handle_left(&mut self, now: i64, participant: ParticipantId) {
        let theirs = |lane: &&Lane| lane.news.participant == participant;
        let tracks: Vec<TrackId> = self.lanes.values().filter(theirs).map(|lane| lane.news.id).collect();
        for track in tracks {
            self.drop_lane(now, track);
        }
        self.speakers.remove(participant);
        let Some(person) = self.people.remove(&participant) else { return };
        if let Some(left) = person.index.and_then(|index| self.manifest.participants.get_mut(index)) {
            left.left_ms = Some(offset(self.began, now));
        }
    }

    /// Nothing comes of a track any more: what has come of it is whole.
    fn drop_lane(&mut self, now: i64, track: TrackId) {
        let Some(mut lane) = self.lanes.remove(&track) else { return };
        if let Some(reel) = self.reels.get_mut(lane.reel) {
            lane.drain(now, reel);
        }
        let gaps = lane.take_gaps();
        note_gaps(&mut self.manifest, &self.people, &lane, self.began, &gaps);
        self.output.push_back(Output::Take { track, layers: 0 });
    }
}

/// Notes of which times frames of a lane are missing.
fn note_gaps(
    manifest: &mut Manifest,
    people: &BTreeMap<ParticipantId, Person>,
    lane: &Lane,
    began: i64,
    gaps: &[crate::stream::Gap],
) {
    let Some(person) = people.get(&lane.news.participant) else { return };
    let is_sound = lane.news.section.kind == MediaKind::Audio;
    for gap in gaps.iter().filter(|gap| !is_sound || gap.to - gap.from > SHORT_GAP) {
        let gap = manifest::Gap {
            participant: person.peer.to_string(),
            source: lane.news.source.into(),
            offset_ms: offset(began, gap.from),
            duration_ms: offset(gap.from, gap.to),
            reason: GapReason::Lost,
            frames: None,
        };
        push_gap(manifest, gap);
    }
}

/// A gap that goes on is one gap.
fn push_gap(manifest: &mut Manifest, gap: manifest::Gap) {
    let mut latest = manifest.gaps.iter_mut().rev().take(64);
    let same = latest.find(|last| last.participant == gap.participant && last.source == gap.source);
    if let Some(last) = same
        && last.reason == gap.reason
        && last.offset_ms + last.duration_ms + 100 >= gap.offset_ms
    {
        last.duration_ms = (gap.offset_ms + gap.duration_ms).saturating_sub(last.offset_ms);
    } else if manifest.gaps.len() < MAX_LISTED {
        manifest.gaps.push(gap);
    }
}

/// From one server time to another, in milliseconds.
fn offset(from: i64, to: i64) -> u64 {
    u64::try_from((to - from) / MS).unwrap_or(0)
}

fn nanos(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}
