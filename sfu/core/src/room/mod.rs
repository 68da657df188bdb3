//! A room: its participants, and how a packet of one reaches the others.
//!
//! - `mod.rs`: members, datagrams in
//! - `fan_out.rs`: media packets out
//! - `offer.rs`: session descriptions
//! - `subscription.rs`: which slot shows what
//! - `bandwidth.rs`: what each network carries, shared among slots
//! - `demand.rs`: which layers are wanted of publishers
//! - `feedback.rs`: RTCP from participants
//! - `tick.rs`: what is due
//! - `bridge.rs`: what other workers that carry the room are told
//! - `mirrors.rs`: people who are on those

mod bandwidth;
mod bridge;
mod demand;
mod fan_out;
mod feedback;
mod mirrors;
mod offer;
mod subscription;
mod tick;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustc_hash::FxHashMap;
use slab::Slab;
use smallvec::SmallVec;

use crate::batch::Batch;
use crate::bridge::News;
use crate::context::Context;
use crate::control::{Event, ParticipantStats, Subscription};
use crate::data::relay::{DataOutput, DataRelay};
use crate::demux::Place;
use crate::drops::DropReason;
use crate::dtls::Certificate;
use crate::forward::forwarder::LayerRef;
use crate::ids::{ParticipantId, RoomId, TrackId};
use crate::layer::Layer;
use crate::media::Source;
use crate::participant::Participant;
use crate::path::Path;
use crate::pulse::BUSY_TICK;
use crate::rights::Rights;
use crate::rtp::is_rtcp;
use crate::sdp::negotiator::{LocalDescription, Negotiator};
use crate::speakers::Speakers;
use crate::stun::BindingRequest;
use crate::timers::Timers;
use crate::track::Track;
use crate::transport::{Transport, TransportEvent};
use crate::uplink::Received;

use tick::RETARGET_INTERVAL;

/// What all rooms of an engine have in common.
#[derive(Clone, Debug)]
pub struct RoomConfig {
    /// What every answer says of the server.
    pub local: LocalDescription,
    /// The certificate of the process.
    pub certificate: Arc<Certificate>,
    /// Whether DTLS 1.3 is offered.
    pub dtls13: bool,
    /// Whether DTLS takes its randomness from the seed.
    pub reproducible: bool,
    /// The largest data channel message, in bytes.
    pub max_message_size: usize,
    /// Server time counts from here.
    pub epoch: Instant,
}

/// How often packets that wait for room in their network, and probes, are looked at.
const PACE_INTERVAL: Duration = Duration::from_millis(5);

/// A room.
#[derive(Debug)]
pub struct Room {
    /// Its number.
    pub id: RoomId,
    index: u32,
    config: Arc<RoomConfig>,
    /// Who is in it.
    pub participants: Slab<Participant>,
    index_by_participant: FxHashMap<ParticipantId, u32>,
    relay: DataRelay,
    speakers: Speakers,
    /// The strongest claims to audio slots, as assigned last.
    claims: Vec<ParticipantId>,
    rng: StdRng,
    /// When each participant is looked at.
    agenda: Timers,
    /// Those whose turn it is; reused.
    looking: Vec<u32>,
    /// Those whose ICE has something to say.
    ice_spoke: Vec<u32>,
    next_tick: Instant,
    assign_at: Option<Instant>,
    retarget_at: Instant,
    quality_at: Instant,
    /// Who is given what speakers are given, and since when.
    speaker: Option<(ParticipantId, Instant)>,
    /// Those with packets that wait for room in their network, or that send a probe.
    pacing: Vec<u32>,
    /// Its other half, reused.
    paced: Vec<u32>,
    pace_at: Option<Instant>,
    /// Who else carries the room.
    carriers: bridge::Carriers,
    /// Reused by the sharing of bandwidth.
    given: Vec<Option<usize>>,
    /// What came since the last flush.
    batch: Batch,
    /// Reused for what is sent of a voice from before its slot was given to it.
    onset: Batch,
    /// Reused by the assignment.
    ranked: subscription::Ranking,
}

/// As many participants can be pinned, and as many slots wished for. More slots than this no session has.
const MAX_PINNED: usize = 128;
const MAX_WISHES: usize = 256;

impl Room {
    /// An empty room, at `index` of the engine's.
    pub fn new(id: RoomId, index: u32, config: Arc<RoomConfig>, rng: StdRng, now: Instant) -> Self {
        let relay = DataRelay::new(config.max_message_size, now);
        Self {
            id,
            index,
            config,
            participants: Slab::new(),
            index_by_participant: FxHashMap::default(),
            relay,
            speakers: Speakers::new(),
            claims: Vec::new(),
            rng,
            agenda: Timers::default(),
            looking: Vec::new(),
            ice_spoke: Vec::new(),
            next_tick: now,
            assign_at: None,
            retarget_at: now,
            quality_at: now,
            speaker: None,
            pacing: Vec::new(),
            paced: Vec::new(),
            pace_at: None,
            carriers: bridge::Carriers::default(),
            given: Vec::new(),
            batch: Batch::default(),
            onset: Batch::default(),
            ranked: subscription::Ranking::default(),
        }
    }

    /// When [`Room::handle_timeout`] wants to be called next.
    pub fn next_tick(&self) -> Instant {
        self.pace_at.map_or(self.next_tick, |at| at.min(self.next_tick))
    }

    /// Counters of everybody who is on this worker.
    pub fn stats(&self) -> Vec<ParticipantStats> {
        self.participants.iter().filter(|(_, p)| p.mirror.is_none()).map(|(_, p)| p.stats()).collect()
    }

    /// For those who are added from now on.
    pub fn set_config(&mut self, config: Arc<RoomConfig>) {
        self.config = config;
    }

    /// Adds somebody. Returns their index.
    pub fn add(&mut self, ctx: &mut Context<'_>, id: ParticipantId, peer: Arc<str>) -> u32 {
        self.carry(ctx, &News::Joined { participant: id, peer: peer.clone() });
        self.relay.add(id, peer);
        self.insert(ctx.now.instant, id)
    }

    fn insert(&mut self, now: Instant, id: ParticipantId) -> u32 {
        let negotiator = Negotiator::new(self.config.local.clone(), self.fork_rng());
        let rng = self.fork_rng();
        let participant = Participant::new(id, negotiator, rng, now, self.config.epoch);
        let index = self.participants.insert(participant) as u32;
        self.index_by_participant.insert(id, index);
        index
    }

    /// Removes somebody, their tracks and all that showed them.
    pub fn remove(&mut self, ctx: &mut Context<'_>, index: u32) {
        self.unsubscribe_all(index);
        let Some(participant) = self.participants.get_mut(index as usize) else { return };
        let gone = participant.reset_session();
        self.forget_tracks(ctx, index, &gone);
        let participant = self.participants.remove(index as usize);
        self.agenda.set(index, None);
        self.index_by_participant.remove(&participant.id);
        self.carry(ctx, &News::Left { participant: participant.id });
        self.relay.remove(participant.id);
        self.speakers.remove(participant.id);
        self.drain_data(ctx);
        self.tick_at(ctx.now.instant);
    }

    /// Says good-bye to everybody.
    pub fn close(&mut self, ctx: &mut Context<'_>) {
        for i in self.indices() {
            if let Some(transport) = self.participants[i as usize].transport.as_mut() {
                transport.close();
            }
            self.drain_transport(ctx, i);
        }
    }

    /// A participant mutes or unmutes a track.
    pub fn set_muted(&mut self, ctx: &mut Context<'_>, index: u32, id: TrackId, muted: bool) {
        let Some(participant) = self.participants.get(index as usize) else { return };
        let found = participant.tracks.iter().find(|(_, track)| track.id == id);
        if let Some((track, _)) = found {
            self.change_muting(ctx, index, track, |track| track.set_muted(muted));
        }
    }

    /// A participant may do this from now on, and nothing else.
    pub fn set_rights(&mut self, ctx: &mut Context<'_>, index: u32, rights: Rights) {
        let Some(participant) = self.participants.get_mut(index as usize) else { return };
        participant.rights = rights;
        let id = participant.id;
        let tracks: Vec<usize> = participant.tracks.iter().map(|(track, _)| track).collect();
        for track in tracks {
            self.change_muting(ctx, index, track, |track| {
                track.set_forbidden(!rights.allow(track.kind, track.source));
            });
        }
        self.relay.set_silent(id, !rights.data);
        self.assign_soon(ctx.now.instant);
    }

    /// Does what may mute a track, and tells what came of it.
    fn change_muting(
        &mut self,
        ctx: &mut Context<'_>,
        index: u32,
        track_index: usize,
        change: impl FnOnce(&mut Track),
    ) {
        let Some(participant) = self.participants.get_mut(index as usize) else { return };
        let Some(track) = participant.tracks.get_mut(track_index) else { return };
        let before = track.muted;
        change(track);
        let muted = track.muted;
        if muted == before {
            return;
        }
        let event = Event::Track { participant: participant.id, track: track.info() };
        if muted && track.source == Source::Microphone {
            self.speakers.remove(participant.id);
        }
        let track = track_index as u32;
        ctx.events.push_back(event);
        self.carry_track(ctx, index, track);
        self.assign_soon(ctx.now.instant);
    }

    /// Takes what a participant wants to see.
    pub fn subscribe(&mut self, ctx: &mut Context<'_>, index: u32, mut subscription: Subscription) {
        subscription.pinned.truncate(MAX_PINNED);
        subscription.wishes.truncate(MAX_WISHES);
        let Some(participant) = self.participants.get_mut(index as usize) else { return };
        for (_, slot) in &mut participant.slots {
            let wish = subscription.wishes.iter().find(|w| w.mid == slot.mid);
            slot.show = wish.map_or(crate::control::Show::Auto, |w| w.show);
            slot.wanted_size = wish.map_or((0, 0), |w| (w.width, w.height));
        }
        participant.subscription = subscription;
        self.assign_soon(ctx.now.instant);
        self.retarget_at = ctx.now.instant;
    }

    /// A participant's transport.
    pub fn transport_mut(&mut self, index: u32) -> Option<&mut Transport> {
        self.participants.get_mut(index as usize)?.transport.as_mut()
    }

    /// Answers a STUN request; `reply` is to be sent back on the same path.
    pub fn handle_stun(
        &mut self,
        ctx: &mut Context<'_>,
        index: u32,
        path: Path,
        request: &BindingRequest<'_>,
        reply: &mut Vec<u8>,
    ) -> Result<(), DropReason> {
        let participant = self.participants.get_mut(index as usize).ok_or(DropReason::StunUnknownUser)?;
        let transport = participant.transport.as_mut().ok_or(DropReason::StunUnknownUser)?;
        let result = transport.handle_stun(ctx.now.instant, path, request, reply);
        if let Err(reason) = result {
            participant.drops.count(reason);
        }
        result
    }

    /// ICE has another path or another state.
    pub fn on_ice(&mut self, ctx: &mut Context<'_>, index: u32) {
        if let Some(transport) = self.transport_mut(index) {
            transport.follow_path(ctx.now.instant);
        }
        self.drain_transport(ctx, index);
        self.follow_timers(index);
    }

    /// The next participant whose ICE had something to say when something was due.
    pub fn poll_ice_spoke(&mut self) -> Option<u32> {
        self.ice_spoke.pop()
    }

    /// Takes a datagram that came on a path of the participant; STUN excepted.
    pub fn handle_datagram(&mut self, ctx: &mut Context<'_>, index: u32, path: Path, datagram: &mut [u8]) {
        if !self.participants.contains(index as usize) {
            return;
        }
        let result = if datagram.first().is_some_and(|b| (20..=63).contains(b)) {
            self.fan_out(ctx, None);
            self.hurry(ctx.now.instant, index);
            self.handle_dtls(ctx, index, datagram)
        } else if is_rtcp(datagram) {
            self.look_if_awake(ctx.now.instant, index);
            self.handle_rtcp(ctx, index, path, datagram)
        } else {
            self.hurry(ctx.now.instant, index);
            self.handle_rtp(ctx, index, path, datagram)
        };
        if let Err(reason) = result {
            ctx.drop_packet(&mut self.participants[index as usize].drops, reason);
        }
    }

    fn handle_rtp(
        &mut self,
        ctx: &mut Context<'_>,
        index: u32,
        path: Path,
        datagram: &mut [u8],
    ) -> Result<(), DropReason> {
        let participant = &mut self.participants[index as usize];
        let received = participant.receive_rtp(&ctx.now, path, datagram)?;
        self.take_received(ctx, index, &received);
        Ok(())
    }

    /// A packet of somebody here, or of a mirror, was taken: everybody gets it.
    fn take_received(&mut self, ctx: &mut Context<'_>, index: u32, received: &Received<'_>) {
        if let Some((voice, level)) = received.level {
            self.hear(ctx.now.instant, index, received, voice, level);
        }
        let id = self.participants[index as usize].tracks[received.track as usize].id;
        let from = LayerRef { participant: index, track: received.track, layer: received.layer, id };
        self.carry_packet(ctx, from, received);
        self.keep(ctx, from, &received.incoming);
    }

    fn hear(&mut self, now: Instant, index: u32, received: &Received<'_>, voice: bool, level: u8) {
        let participant = &mut self.participants[index as usize];
        if participant.tracks[received.track as usize].source != Source::Microphone {
            return;
        }
        if self.speakers.on_level(now, participant.id, level, voice) {
            // A word has begun: every moment counts.
            participant.spoke_at = Some(now);
            self.assign_at = Some(now);
            self.tick_at(now);
        }
    }

    fn handle_dtls(&mut self, ctx: &mut Context<'_>, index: u32, datagram: &[u8]) -> Result<(), DropReason> {
        let participant = &mut self.participants[index as usize];
        let transport = participant.transport.as_mut().ok_or(DropReason::DtlsUnexpected)?;
        let result = transport.handle_dtls(ctx.now.instant, datagram);
        self.drain_transport(ctx, index);
        self.follow_timers(index);
        result
    }

    /// Takes what came out of a participant's DTLS and tells what became of their connection.
    fn drain_transport(&mut self, ctx: &mut Context<'_>, index: u32) {
        loop {
            let Some(participant) = self.participants.get_mut(index as usize) else { return };
            let Some(event) = participant.transport.as_mut().and_then(Transport::poll) else {
                break;
            };
            match event {
                TransportEvent::Secured => self.connect_data(ctx, index),
                TransportEvent::Data(data) => {
                    self.relay.handle_packet(ctx.now.instant, participant.id, &data);
                }
                TransportEvent::Dropped(reason) => ctx.drop_packet(&mut participant.drops, reason),
            }
        }
        self.drain_data(ctx);
        self.tell_state(ctx, index);
        self.mark(ctx, index);
    }

    /// Sets SCTP up, once DTLS is there and the section was negotiated.
    fn connect_data(&mut self, ctx: &mut Context<'_>, index: u32) {
        let participant = &self.participants[index as usize];
        let secured = participant.transport.as_ref().is_some_and(|t| t.state().is_some());
        if let Some(data) = participant.data
            && secured
        {
            self.relay.connect(ctx.now.instant, participant.id, data);
        }
    }

    /// Sends what the relay has to send, and follows its timers.
    fn drain_data(&mut self, ctx: &mut Context<'_>) {
        while let Some(output) = self.relay.poll_output() {
            match output {
                DataOutput::Packet { participant, bytes } => {
                    let Some(index) = self.index_of(participant) else { continue };
                    self.send_data(ctx, index, &bytes);
                }
                DataOutput::Event(event) => ctx.events.push_back(event),
                DataOutput::Dropped { participant, reason } => match self.index_of(participant) {
                    Some(index) => {
                        ctx.drop_packet(&mut self.participants[index as usize].drops, reason);
                    }
                    None => ctx.drops.count(reason),
                },
                DataOutput::Across { worker, message } => {
                    ctx.bridges.tell(worker, self.id, News::Data(message));
                }
                DataOutput::Taken { worker, sender, bytes } => {
                    ctx.bridges.tell(worker, self.id, News::DataTaken { sender, bytes });
                }
            }
        }
        // What came over a bridge wakes nobody else who would look when this is due.
        if let Some(at) = self.relay.poll_timeout() {
            self.tick_at(at);
        }
    }

    fn send_data(&mut self, ctx: &mut Context<'_>, index: u32, bytes: &[u8]) {
        let participant = &mut self.participants[index as usize];
        let Some(transport) = participant.transport.as_mut() else { return };
        if let Err(reason) = transport.send_data(bytes) {
            ctx.drop_packet(&mut participant.drops, reason);
        }
        while let Some(event) = transport.poll() {
            if let TransportEvent::Dropped(reason) = event {
                ctx.drop_packet(&mut participant.drops, reason);
            }
        }
        self.mark(ctx, index);
    }

    /// Tells the control plane when the state of a connection has changed.
    fn tell_state(&mut self, ctx: &mut Context<'_>, index: u32) {
        let participant = &mut self.participants[index as usize];
        let state = participant.transport.as_ref().and_then(Transport::state);
        if state == participant.told_state {
            return;
        }
        participant.told_state = state;
        if let Some(state) = state {
            let (participant, reachable) = (participant.id, participant.is_reachable());
            ctx.events.push_back(Event::Connection { participant, state });
            self.carry(ctx, &News::Reachable { participant, reachable });
            self.assign_soon(ctx.now.instant);
            self.quality_at = ctx.now.instant;
            self.retarget_at = self.retarget_at.min(ctx.now.instant + RETARGET_INTERVAL);
            self.tick_at(ctx.now.instant);
            if self.transport_mut(index).is_some_and(|t| t.ready()) {
                // What others send already shall be seen at once.
                self.hurry(ctx.now.instant, index);
                self.share_bandwidth(ctx, index);
            }
        }
    }

    /// A participant has something to send.
    fn mark(&mut self, ctx: &mut Context<'_>, index: u32) {
        let place = Place { room: self.index, participant: index };
        if self.transport_mut(index).is_some_and(Transport::mark) {
            ctx.dirty.push(place);
        }
    }

    fn layer_mut(&mut self, at: LayerRef) -> Option<&mut Layer> {
        let track = self.participants.get_mut(at.participant as usize)?.tracks.get_mut(at.track as usize)?;
        (track.id == at.id).then_some(track)?.layers.get_mut(at.layer as usize)
    }

    fn index_of(&self, id: ParticipantId) -> Option<u32> {
        self.index_by_participant.get(&id).copied()
    }

    fn indices(&self) -> SmallVec<[u32; 16]> {
        self.participants.iter().map(|(i, _)| i as u32).collect()
    }

    fn fork_rng(&mut self) -> StdRng {
        StdRng::from_seed(self.rng.random())
    }

    /// Something is due in the room no later than at this time.
    fn tick_at(&mut self, at: Instant) {
        self.next_tick = self.next_tick.min(at);
    }

    /// Something comes from a participant: they are looked at often for a while.
    fn hurry(&mut self, now: Instant, index: u32) {
        let Some(participant) = self.participants.get_mut(index as usize) else { return };
        let was_awake = participant.pulse.is_awake(now);
        participant.pulse.hurry(now);
        self.look_at(index, now + BUSY_TICK);
        if !was_awake {
            self.share_again(now);
        }
    }

    /// Something goes to a participant from now on, or is wanted of them.
    fn wake(&mut self, now: Instant, index: u32) {
        let Some(participant) = self.participants.get_mut(index as usize) else { return };
        let was_awake = participant.pulse.is_awake(now);
        participant.pulse.wake(now);
        if !was_awake {
            self.look_at(index, now + BUSY_TICK);
            self.share_again(now);
        }
    }

    /// What an awake participant tells may have to be followed soon.
    fn look_if_awake(&mut self, now: Instant, index: u32) {
        if self.participants.get(index as usize).is_some_and(|p| p.pulse.is_awake(now)) {
            self.look_at(index, now + BUSY_TICK);
        }
    }

    /// A participant is looked at no later than at this time.
    fn look_at(&mut self, index: u32, at: Instant) {
        self.agenda.bring_forward(index, at);
        self.tick_at(at);
    }

    /// The timers of a participant's transport may have changed.
    fn follow_timers(&mut self, index: u32) {
        if let Some(at) = self.transport_mut(index).and_then(|t| t.poll_timeout()) {
            self.look_at(index, at);
        }
    }

    /// Bandwidth is shared, and quality judged, again from now on, if both had ceased because nothing happened.
    fn share_again(&mut self, now: Instant) {
        self.retarget_at = self.retarget_at.min(now + BUSY_TICK);
        self.quality_at = self.quality_at.min(now + tick::QUALITY_INTERVAL);
        self.tick_at(self.retarget_at);
    }
}
