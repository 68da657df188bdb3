//! Guests: participants at home in the studio. They have no transport; what they publish is given to the studio as RTP
//! packets, and goes to the workers that take it.
//!
//! How to publish: [`Studio::add_guest`], then [`Studio::publish`] for each track, then [`Studio::send`] for each packet.
//! [`Told::Wanted`] says which layers anybody wants, [`Told::KeyFrame`] that a key frame is needed. The control plane is told
//! of the tracks as of anybody's ([`Told::Event`]); that there is such a participant it must know by itself.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::bridge::lanes::Bridges;
use crate::bridge::packet::{BridgePacket, BridgeReport, StreamId};
use crate::bridge::{LayerView, News, TrackNews};
use crate::control::{Event, TrackInfo};
use crate::demand::LayerDemand;
use crate::drops::DropReason;
use crate::forward::forwarder::LayerRef;
use crate::ids::{Mid, ParticipantId, RoomId, TrackId, WorkerId};
use crate::media::{ExtensionIds, MediaKind, Source};
use crate::receive::rate::RateMeter;
use crate::receive::sublayers::SubLayerView;
use crate::rtp::frame::{FrameInfo, FrameState};
use crate::rtp::{Extensions, RtpHeader};
use crate::sdp::PublishedSection;

use super::{Studio, Told, nanos};

/// What a guest publishes.
#[derive(Clone, Debug)]
pub struct GuestTrack {
    /// What it shows.
    pub source: Source,
    /// Muted from the start?
    pub muted: bool,
    /// Kind, codecs with the payload types of the packets, and layers from the smallest to the largest. One codec is enough;
    /// what it says of feedback is of no matter.
    pub section: PublishedSection,
    /// The ids of header extensions in the packets, where they have any.
    pub extensions: ExtensionIds,
}

/// A participant without transport.
#[derive(Debug, Default)]
pub(super) struct Guest {
    tracks: Vec<Published>,
}

/// A track of theirs.
#[derive(Debug)]
struct Published {
    id: TrackId,
    mid: Mid,
    track: GuestTrack,
    since: i64,
    demand: LayerDemand,
    /// The layers that workers want, one bit each.
    wanted: SmallVec<[(WorkerId, u8); 2]>,
    /// What the workers were told of the layers that are asked for.
    asked: Option<u8>,
    layers: SmallVec<[Layer; 3]>,
}

/// A stream of it.
#[derive(Debug)]
struct Layer {
    generation: u32,
    rate: RateMeter,
    state: FrameState,
    size: Option<(u16, u16)>,
    takers: SmallVec<[WorkerId; 2]>,
    report: Option<BridgeReport>,
    told: LayerView,
}

/// How often the layers of guests are looked at: as often as bandwidth is shared.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A layer that nobody has wanted for so long need not be made.
const UNWANTED_FOR: Duration = Duration::from_secs(3);

/// How long a layer may be silent and still count as flowing: cameras of one frame a second pass.
const FLOWING_WITHIN: Duration = Duration::from_millis(2_500);

/// Tracks that a guest may have.
const MAX_TRACKS: usize = 16;

/// Layers that a track may have.
const MAX_LAYERS: usize = 8;

impl Studio {
    /// Somebody without transport takes part in a room from now on, which is listened to (`open`).
    pub fn add_guest(&mut self, room: RoomId, participant: ParticipantId) {
        self.open(room);
        if let Some(hall) = self.halls.get_mut(&room) {
            hall.guests.entry(participant).or_default();
            self.room_by_guest.insert(participant, room);
        }
    }

    /// A guest leaves, with all tracks.
    pub fn remove_guest(&mut self, participant: ParticipantId) {
        let Some((room, hall)) = self.guest_mut(participant) else { return };
        let guest = hall.guests.remove(&participant).unwrap_or_default();
        let carriers: SmallVec<[WorkerId; 4]> = SmallVec::from_slice(hall.carriers());
        self.room_by_guest.remove(&participant);
        for worker in carriers {
            self.bridges.tell(worker, room, News::Left { participant });
        }
        for track in guest.tracks {
            self.guest_by_track.remove(&track.id);
            self.tell_event(Event::TrackGone { participant, track: track.id });
        }
    }

    /// A guest publishes a track from now on. `id` must be one of the studio's numbers
    /// ([`TrackNumbers`](crate::ids::TrackNumbers)). `false` when there is no such guest, or the track has no layer or codec, or
    /// too many.
    pub fn publish(
        &mut self,
        now: Instant,
        participant: ParticipantId,
        id: TrackId,
        track: GuestTrack,
    ) -> bool {
        let since = nanos(self.epoch, now);
        let layers = track.section.layers.len();
        let is_sound = (1..=MAX_LAYERS).contains(&layers) && !track.section.codecs.is_empty();
        let Some((_, hall)) = self.guest_mut(participant) else { return false };
        let Some(guest) = hall.guests.get_mut(&participant).filter(|guest| guest.tracks.len() < MAX_TRACKS)
        else {
            return false;
        };
        if !is_sound || guest.tracks.iter().any(|published| published.id == id) {
            return false;
        }
        guest.tracks.push(Published::new(id, track, since, now));
        self.guest_by_track.insert(id, participant);
        self.look_at = Some(now);
        self.tell_track(now, participant, id);
        true
    }

    /// A guest mutes a track or unmutes it. What is sent of a muted one is dropped.
    pub fn mute(&mut self, now: Instant, id: TrackId, muted: bool) {
        let Some(published) = self.published(id) else { return };
        if std::mem::replace(&mut published.track.muted, muted) == muted {
            return;
        }
        if !muted {
            for layer in &mut published.layers {
                layer.restart();
            }
        }
        if let Some(participant) = self.guest_by_track.get(&id).copied() {
            self.tell_track(now, participant, id);
        }
    }

    /// A guest publishes a track no longer.
    pub fn unpublish(&mut self, id: TrackId) {
        let Some(participant) = self.guest_by_track.remove(&id) else { return };
        let Some((room, hall)) = self.guest_mut(participant) else { return };
        if let Some(guest) = hall.guests.get_mut(&participant) {
            guest.tracks.retain(|published| published.id != id);
        }
        let carriers: SmallVec<[WorkerId; 4]> = SmallVec::from_slice(hall.carriers());
        for worker in carriers {
            self.bridges.tell(worker, room, News::TrackGone { participant, track: id });
        }
        self.tell_event(Event::TrackGone { participant, track: id });
    }

    /// Takes an RTP packet (RFC 3550, without padding and without repairs) of a guest's layer, with one of the payload types of
    /// its section. Layers that nobody takes need not be sent, and do no harm.
    pub fn send(&mut self, now: Instant, id: TrackId, layer: u8, packet: &[u8]) -> Result<(), DropReason> {
        let arrived = nanos(self.epoch, now);
        let participant = self.guest_by_track.get(&id).copied().ok_or(DropReason::UnknownSsrc)?;
        let room = self.room_by_guest.get(&participant).copied().ok_or(DropReason::UnknownSsrc)?;
        let hall = self.halls.get_mut(&room).ok_or(DropReason::UnknownSsrc)?;
        let carriers: SmallVec<[WorkerId; 4]> = SmallVec::from_slice(hall.carriers());
        let guest = hall.guests.get_mut(&participant).ok_or(DropReason::UnknownSsrc)?;
        let published = guest.tracks.iter_mut().find(|p| p.id == id).ok_or(DropReason::UnknownSsrc)?;
        if published.track.muted {
            return Err(DropReason::InactiveTrack);
        }
        let (header, takers) = published.take(now, layer, packet, &carriers)?;
        let generation = published.layers[usize::from(layer)].generation;
        let stream = StreamId { track: id, layer, generation };
        let record = BridgePacket { stream, repaired: false, arrived, packet };
        let at = LayerRef { participant: 0, track: 0, layer, id };
        for worker in takers {
            let write = |out: &mut Vec<u8>| record.write(header.payload_type, header.seq, out);
            if !self.bridges.record(worker, 0, at, write) {
                self.drops.count(DropReason::BridgeFull);
            }
        }
        Ok(())
    }

    /// Says what time it was on the clock of a guest's layer: `ntp` as in a sender report. It keeps picture and sound of one
    /// guest together; with one track it is not needed.
    pub fn report(&mut self, now: Instant, id: TrackId, layer: u8, ntp: u64, rtp_timestamp: u32) {
        let arrived = nanos(self.epoch, now);
        let room = self.guest_by_track.get(&id).and_then(|guest| self.room_by_guest.get(guest));
        let carriers = room.and_then(|room| self.halls.get(room)).map(|hall| hall.carriers().to_vec());
        let Some(published) = self.published(id) else { return };
        let kind = published.track.section.kind;
        let Some(found) = published.layers.get_mut(usize::from(layer)) else { return };
        let stream = StreamId { track: id, layer, generation: found.generation };
        let report = BridgeReport { stream, arrived, ntp, rtp_timestamp };
        found.report = Some(report);
        let takers = match kind {
            MediaKind::Audio => carriers.unwrap_or_default(),
            MediaKind::Video => found.takers.to_vec(),
        };
        let at = LayerRef { participant: 0, track: 0, layer, id };
        for worker in takers {
            self.bridges.record(worker, 0, at, |out| report.write(out));
        }
    }

    /// When [`Studio::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.look_at.filter(|_| !self.guest_by_track.is_empty())
    }

    /// Tells workers what the layers of guests are like, and guests which are wanted, where that has changed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        self.look_at = Some(now + LOOK_INTERVAL);
        for (&room, hall) in &mut self.halls {
            let carriers: SmallVec<[WorkerId; 4]> = SmallVec::from_slice(hall.carriers());
            for (&participant, guest) in &mut hall.guests {
                let tracks = guest.tracks.iter_mut();
                for published in tracks.filter(|p| p.track.section.kind == MediaKind::Video) {
                    if published.update_demand(now) {
                        let (track, layers) = (published.id, published.asked_layers());
                        self.told.push_back(Told::Wanted { track, layers });
                    }
                    if let Some(news) = published.changed_layers(now, participant) {
                        for worker in &carriers {
                            self.bridges.tell(*worker, room, news.clone());
                        }
                    }
                }
            }
        }
    }

    /// Tells the workers, and the control plane, what a guest's track is now.
    fn tell_track(&mut self, now: Instant, participant: ParticipantId, id: TrackId) {
        let Some((room, hall)) = self.guest_mut(participant) else { return };
        let carriers: SmallVec<[WorkerId; 4]> = SmallVec::from_slice(hall.carriers());
        let guest = hall.guests.get(&participant);
        let Some(published) = guest.and_then(|g| g.tracks.iter().find(|p| p.id == id)) else { return };
        let (news, track) = (published.news(participant), published.info());
        let views = published.layers_news(now, participant);
        for worker in carriers {
            self.bridges.tell(worker, room, news.clone());
            self.bridges.tell(worker, room, views.clone());
        }
        self.tell_event(Event::Track { participant, track });
    }

    fn published(&mut self, id: TrackId) -> Option<&mut Published> {
        let participant = self.guest_by_track.get(&id).copied()?;
        let (_, hall) = self.guest_mut(participant)?;
        hall.guests.get_mut(&participant)?.tracks.iter_mut().find(|published| published.id == id)
    }
}

impl Guest {
    /// Tells a worker all there is to know. It is not told that they joined: that is about data channels, which they have not.
    pub(super) fn tell(
        &self,
        bridges: &mut Bridges,
        worker: WorkerId,
        room: RoomId,
        participant: ParticipantId,
    ) {
        for published in &self.tracks {
            bridges.tell_standing(worker, room, published.news(participant));
            let layers = published.layers.iter().map(|layer| layer.told.clone()).collect();
            let asked = published.asked.unwrap_or(u8::MAX);
            let news = News::Layers { participant, track: published.id, asked, layers };
            bridges.tell_standing(worker, room, news);
        }
    }

    /// A worker wants these layers.
    pub(super) fn on_wanted(&mut self, worker: WorkerId, track: TrackId, layers: u8) {
        let Some(published) = self.tracks.iter_mut().find(|published| published.id == track) else { return };
        published.wanted.retain(|(w, _)| *w != worker);
        published.wanted.push((worker, layers));
    }

    /// A worker takes a layer from now on, or no longer.
    pub(super) fn on_take(
        &mut self,
        bridges: &mut Bridges,
        worker: WorkerId,
        id: TrackId,
        layer: u8,
        on: bool,
    ) {
        let Some(published) = self.tracks.iter_mut().find(|published| published.id == id) else { return };
        let Some(found) = published.layers.get_mut(usize::from(layer)) else { return };
        found.takers.retain(|taker| *taker != worker);
        if on {
            found.takers.push(worker);
            if let Some(report) = found.report {
                let at = LayerRef { participant: 0, track: 0, layer, id };
                bridges.record(worker, 0, at, |out| report.write(out));
            }
        }
    }

    /// Nothing is for this worker any more.
    pub(super) fn release(&mut self, worker: WorkerId) {
        for published in &mut self.tracks {
            published.wanted.retain(|(w, _)| *w != worker);
            for layer in &mut published.layers {
                layer.takers.retain(|taker| *taker != worker);
            }
        }
    }
}

impl Published {
    fn new(id: TrackId, track: GuestTrack, since: i64, now: Instant) -> Self {
        let layers = track.section.layers.iter().map(|_| Layer::new(now)).collect();
        // Nobody offers it, but it has a name as if somebody did.
        let mid = Mid::new(&format!("studio{}", id.0)).expect("letters and digits make a token");
        let demand = LayerDemand::default();
        Self { id, mid, track, since, demand, wanted: SmallVec::new(), asked: None, layers }
    }

    /// Measures a packet. Returns its header, and who takes it.
    fn take(
        &mut self,
        now: Instant,
        layer: u8,
        packet: &[u8],
        carriers: &[WorkerId],
    ) -> Result<(RtpHeader, SmallVec<[WorkerId; 4]>), DropReason> {
        let header = RtpHeader::parse(packet)?;
        let codec = self.track.section.codecs.iter().find(|c| c.payload_type == header.payload_type);
        let codec = codec.ok_or(DropReason::UnknownPayloadType)?.codec;
        let payload = &packet[header.payload_range(packet)?];
        let extensions = Extensions::read(&header, packet, &self.track.extensions);
        let found = self.layers.get_mut(usize::from(layer)).ok_or(DropReason::UnknownRid)?;
        let info =
            FrameInfo::read(codec, &header, payload, extensions.dependency_descriptor, &mut found.state);
        found.size = info.size.or(found.size);
        found.rate.on_packet(now, packet.len(), info.start_of_frame);
        let takers = match codec.kind() {
            MediaKind::Audio => SmallVec::from_slice(carriers),
            MediaKind::Video => found.takers.iter().copied().collect(),
        };
        Ok((header, takers))
    }

    /// Collects what workers want. Returns whether the guest must be told.
    fn update_demand(&mut self, now: Instant) -> bool {
        self.demand.begin();
        for (_, layers) in &self.wanted {
            self.demand.want_all(*layers);
        }
        self.demand.update(now, self.layers.len(), UNWANTED_FOR)
    }

    fn asked_layers(&self) -> u8 {
        let known = 1_u8.checked_shl(self.layers.len() as u32).unwrap_or(0).wrapping_sub(1);
        self.demand.told_layers() & known
    }

    /// What the layers are like, when that differs from what was told.
    fn changed_layers(&mut self, now: Instant, participant: ParticipantId) -> Option<News> {
        let asked = self.demand.told_layers();
        let same = self.asked == Some(asked);
        let mut differs = !same;
        for layer in &mut self.layers {
            let view = layer.view(now);
            if view.differs(&layer.told) {
                layer.told = view;
                differs = true;
            }
        }
        self.asked = Some(asked);
        differs.then(|| self.layers_news(now, participant))
    }

    fn layers_news(&self, now: Instant, participant: ParticipantId) -> News {
        let layers = self.layers.iter().map(|layer| layer.view(now)).collect();
        News::Layers { participant, track: self.id, asked: self.demand.told_layers(), layers }
    }

    fn news(&self, participant: ParticipantId) -> News {
        News::Track(Box::new(TrackNews {
            participant,
            reachable: true,
            id: self.id,
            mid: self.mid.clone(),
            section: self.track.section.clone(),
            source: self.track.source,
            muted: self.track.muted,
            published: self.since,
            extensions: self.track.extensions,
        }))
    }

    fn info(&self) -> TrackInfo {
        TrackInfo {
            id: self.id,
            mid: self.mid.clone(),
            kind: self.track.section.kind,
            source: self.track.source,
            muted: self.track.muted,
        }
    }
}

impl Layer {
    fn new(now: Instant) -> Self {
        Self {
            generation: 0,
            rate: RateMeter::new(now),
            state: FrameState::default(),
            size: None,
            takers: SmallVec::new(),
            report: None,
            told: LayerView::default(),
        }
    }

    /// The stream begins anew.
    fn restart(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.state = FrameState::default();
        self.report = None;
    }

    fn view(&self, now: Instant) -> LayerView {
        let rates = self.rate.rates(now);
        let whole = SubLayerView {
            spatial: crate::allocation::Level::ALL,
            temporal: crate::allocation::Level::ALL,
            size: self.size,
            bits: rates.bits,
            frames: rates.frames,
            flowing: self.rate.is_flowing(now, FLOWING_WITHIN),
        };
        LayerView { size: self.size, sublayers: vec![whole] }
    }
}
