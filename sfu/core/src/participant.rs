//! One participant of a room: a transport, the tracks that it publishes, the slots in which it receives.

use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;
use rustc_hash::FxHashMap;
use slab::Slab;

use crate::allocation::Patience;
use crate::control::{ConnectionState, ParticipantStats, SectionLabels, Subscription};
use crate::drops::DropCounts;
use crate::forward::redundancy::Redundancy;
use crate::ids::{Mid, ParticipantId, Ssrc, TrackId, TrackNumbers};
use crate::media::{ExtensionIds, MediaKind, Source};
use crate::mirror::Mirror;
use crate::pulse::Pulse;
use crate::quality::SteadyQuality;
use crate::receive::media_clock::NtpClock;
use crate::receive::rtt::RttEstimator;
use crate::receive::transport_feedback::ArrivalRecorder;
use crate::rights::Rights;
use crate::rtcp::TransportFeedbackBuilder;
use crate::sdp::negotiator::Negotiator;
use crate::sdp::{DataSection, Negotiation, PublishedSection, SectionUse, SlotSection};
use crate::slot::Slot;
use crate::timeline::{Decision, Timeline};
use crate::track::Track;
use crate::transport::Transport;

/// What an SSRC of the participant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamRef {
    /// The track's index.
    pub track: u32,
    /// The layer's index.
    pub layer: u8,
    /// Its repairs instead of its media.
    pub repairs: bool,
}

/// Counters for statistics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// RTP packets received and taken.
    pub packets_received: u64,
    /// Bytes of them.
    pub bytes_received: u64,
    /// RTP packets sent, repairs not counted.
    pub packets_sent: u64,
    /// Bytes of them.
    pub bytes_sent: u64,
    /// Packets asked for again.
    pub nacks_sent: u64,
    /// Packets that a repair brought.
    pub repairs_received: u64,
    /// Packets that the participant asked for again.
    pub nacks_received: u64,
    /// Repairs sent.
    pub repairs_sent: u64,
    /// Key frames asked of the participant.
    pub key_frames_requested: u64,
}

/// Somebody in a room.
///
/// What each packet touches comes first, so that it is found in few cache lines.
#[derive(Debug)]
#[repr(C)]
pub struct Participant {
    /// How much redundancy their sound needs.
    pub redundancy: Redundancy,
    /// Counters.
    pub counters: Counters,
    /// In what they receive.
    pub slots: Slab<Slot>,
    /// Their transport, after the first offer.
    pub transport: Option<Transport>,
    /// Their number.
    pub id: ParticipantId,
    /// Their session description.
    pub negotiator: Negotiator,
    /// What they publish.
    pub tracks: Slab<Track>,
    /// Their SSRCs, known from the offer or from authenticated packets.
    pub streams: FxHashMap<Ssrc, StreamRef>,
    /// Their slots by SSRC.
    pub slot_by_ssrc: FxHashMap<Ssrc, u32>,
    /// Their SCTP section.
    pub data: Option<DataSection>,
    /// What they want to see.
    pub subscription: Subscription,
    /// What they may do.
    pub rights: Rights,
    /// Their NTP clock on the server's, for lip sync.
    pub ntp_clock: NtpClock,
    /// When their packets arrived, for transport-wide feedback.
    pub arrivals: ArrivalRecorder,
    /// Writes that feedback.
    pub feedback: TransportFeedbackBuilder,
    /// The round-trip time.
    pub rtt: RttEstimator,
    /// The share of packets lost to them, as they report.
    pub loss_down: f32,
    /// The share of packets lost from them, as our reports say.
    pub loss_up: f32,
    /// What the room was told of their connection.
    pub quality: SteadyQuality,
    /// What the control plane was told of their connection.
    pub told_state: Option<ConnectionState>,
    /// Dropped packets.
    pub drops: DropCounts,
    /// The CNAME of all slots, for sender reports.
    pub cname: String,
    /// On how many packets transport-wide feedback may still report in this second.
    pub feedback_budget: u32,
    /// How many bytes may still be sent again in this second.
    pub repair_budget: usize,
    /// How many bytes were sent again in this second.
    pub repaired_bytes: usize,
    /// Bits per second that are sent again, smoothed.
    pub repair_bits: u64,
    /// `counters.bytes_sent` a second ago.
    pub bytes_before: u64,
    /// The SSRC that feedback is sent with.
    pub feedback_ssrc: Ssrc,
    /// How often they are looked at.
    pub pulse: Pulse,
    /// When reports are due.
    pub reports_at: Instant,
    /// When they spoke last.
    pub spoke_at: Option<Instant>,
    /// What was decided for them.
    pub timeline: Timeline,
    /// What their video slots would take at their best, and what they were given, in bits per second.
    pub wanted_bits: u64,
    /// What their slots would take at the best of what publishers send now.
    pub offered_bits: u64,
    /// See `wanted_bits`.
    pub allocated_bits: u64,
    /// The estimate that was shared last.
    pub shared_estimate: u64,
    /// Since when their slots show more than their network is estimated to carry.
    pub short_since: Option<Instant>,
    /// The estimate that the timeline has.
    pub noted_estimate: u64,
    /// `counters.repairs_sent` as the timeline has it.
    pub noted_repairs: u64,
    /// The padding of which slot finds out what their network carries.
    pub probe_slot: Option<u32>,
    /// Set when they are at home on another worker: then there is no transport and there are no slots.
    pub mirror: Option<Box<Mirror>>,
    epoch: Instant,
    rng: StdRng,
}

/// What an offer changed beside the participant itself.
#[derive(Debug, Default)]
pub struct SectionChanges {
    /// Tracks that are gone.
    pub gone: Vec<(u32, TrackId)>,
    /// The SCTP section is new.
    pub data: bool,
}

/// Repairs in a second, in bytes, that anybody may ask for; beyond it, twice what was sent the second before.
const MIN_REPAIR_BUDGET: usize = 128 * 1024;

/// Packets in a second on which anybody may report; beyond it, several times what was sent the second before.
const MIN_FEEDBACK_BUDGET: u32 = 4_096;

/// For so long somebody may be short of a fifth before anything is taken from them.
const SHORTAGE: Duration = Duration::from_secs(2);

/// No more than this part of what the network is estimated to carry is spent on repairs: one in so many.
const MOST_REPAIRS: u64 = 3;

impl Participant {
    /// Somebody who has not offered anything yet.
    pub fn new(
        id: ParticipantId,
        negotiator: Negotiator,
        mut rng: StdRng,
        now: Instant,
        epoch: Instant,
    ) -> Self {
        let feedback_ssrc = Ssrc(rng.random());
        Self {
            id,
            negotiator,
            transport: None,
            tracks: Slab::new(),
            slots: Slab::new(),
            streams: FxHashMap::default(),
            slot_by_ssrc: FxHashMap::default(),
            data: None,
            subscription: Subscription { auto: true, ..Subscription::default() },
            rights: Rights::default(),
            ntp_clock: NtpClock::default(),
            arrivals: ArrivalRecorder::new(epoch),
            feedback: TransportFeedbackBuilder::new(feedback_ssrc, Ssrc(0)),
            rtt: RttEstimator::default(),
            loss_down: 0.0,
            redundancy: Redundancy::default(),
            loss_up: 0.0,
            quality: SteadyQuality::default(),
            told_state: None,
            counters: Counters::default(),
            drops: DropCounts::default(),
            cname: String::new(),
            feedback_budget: MIN_FEEDBACK_BUDGET,
            repair_budget: MIN_REPAIR_BUDGET,
            repaired_bytes: 0,
            repair_bits: 0,
            bytes_before: 0,
            feedback_ssrc,
            pulse: Pulse::new(now),
            reports_at: now,
            spoke_at: None,
            timeline: Timeline::default(),
            wanted_bits: 0,
            offered_bits: 0,
            allocated_bits: 0,
            shared_estimate: u64::MAX,
            short_since: None,
            noted_estimate: 0,
            noted_repairs: 0,
            probe_slot: None,
            mirror: None,
            epoch,
            rng,
        }
    }

    /// The round-trip time, measured or assumed.
    pub fn rtt(&self) -> Duration {
        self.rtt.or_default()
    }

    /// The ids of header extensions on their transport.
    pub fn extensions(&self) -> ExtensionIds {
        if let Some(mirror) = &self.mirror {
            return mirror.extensions;
        }
        self.transport.as_ref().map(|t| t.extensions).unwrap_or_default()
    }

    /// To be called once a second.
    pub fn renew_budgets(&mut self) {
        let sent = self.counters.bytes_sent - self.bytes_before;
        // No packet that is worth a thought has fewer bytes.
        self.feedback_budget = MIN_FEEDBACK_BUDGET + (sent / 25) as u32;
        self.bytes_before = self.counters.bytes_sent;
        self.repair_budget = (2 * sent as usize).max(MIN_REPAIR_BUDGET);
        self.limit_repairs();
        let repaired = 8 * std::mem::take(&mut self.repaired_bytes) as u64;
        self.repair_bits = (3 * self.repair_bits + repaired) / 4;
    }

    /// Repairs take only a part of what the network is estimated to carry. To be called whenever that has become less: what was lost
    /// when it did would fill it.
    pub fn limit_repairs(&mut self) {
        // What is new comes first: repairs that fill the network cause the next loss.
        let estimate = self.transport.as_ref().and_then(Transport::estimate);
        let most = estimate.map_or(usize::MAX, |bits| (bits / 8 / MOST_REPAIRS) as usize);
        self.repair_budget = self.repair_budget.min(most);
    }

    /// Whether their media can be expected to come: not when consent has expired or DTLS has failed.
    pub fn is_reachable(&self) -> bool {
        if let Some(mirror) = &self.mirror {
            return mirror.reachable;
        }
        let state = self.transport.as_ref().and_then(Transport::state);
        !matches!(state, Some(ConnectionState::Expired | ConnectionState::Failed(_)))
    }

    /// Whether a slot of theirs waits for pictures or shows some.
    pub fn wants_pictures(&self) -> bool {
        let mut slots = self.slots.iter();
        slots.any(|(_, s)| s.kind == MediaKind::Video && s.assigned.is_some() && s.wants_media())
    }

    /// A seed for the randomness of a part.
    pub fn seed(&mut self) -> u64 {
        self.rng.random()
    }

    /// Forgets everything of the browser session of before. Returns its tracks.
    pub fn reset_session(&mut self) -> Vec<(u32, TrackId)> {
        let gone = self.tracks.iter().map(|(i, t)| (i as u32, t.id)).collect();
        self.transport = None;
        self.tracks.clear();
        self.slots.clear();
        self.streams.clear();
        self.slot_by_ssrc.clear();
        self.data = None;
        self.ntp_clock = NtpClock::default();
        self.arrivals = ArrivalRecorder::new(self.epoch);
        self.rtt = RttEstimator::default();
        self.redundancy = Redundancy::default();
        (self.loss_down, self.loss_up) = (0.0, 0.0);
        (self.wanted_bits, self.offered_bits, self.allocated_bits) = (0, 0, 0);
        (self.short_since, self.probe_slot) = (None, None);
        gone
    }

    /// Takes over the sections that offer and answer agreed on.
    pub fn apply_sections(
        &mut self,
        now: Instant,
        negotiation: &Negotiation,
        labels: &SectionLabels,
        numbers: &mut TrackNumbers,
    ) -> SectionChanges {
        let mut changes = SectionChanges::default();
        let mut data = None;
        self.remove_missing(negotiation, &mut changes);
        for section in &negotiation.sections {
            match &section.usage {
                SectionUse::Stopped => {}
                SectionUse::Published(published) => {
                    self.apply_published(now, &section.mid, published, labels, numbers);
                }
                SectionUse::Slot(slot) => self.apply_slot(&section.mid, slot),
                SectionUse::Data(section) => data = Some(*section),
            }
        }
        changes.data = data.is_some() && self.data.is_none();
        self.data = data;
        self.cname.clone_from(&negotiation.cname);
        if let Some(transport) = self.transport.as_mut() {
            transport.set_extensions(negotiation.extensions, negotiation.writable_extensions);
        }
        changes
    }

    fn remove_missing(&mut self, negotiation: &Negotiation, changes: &mut SectionChanges) {
        let published = |mid: &Mid| {
            let mut sections = negotiation.sections.iter();
            sections.any(|s| s.mid == *mid && matches!(s.usage, SectionUse::Published(_)))
        };
        let slot = |mid: &Mid| {
            let mut sections = negotiation.sections.iter();
            sections.any(|s| s.mid == *mid && matches!(s.usage, SectionUse::Slot(_)))
        };
        changes
            .gone
            .extend(self.tracks.iter().filter(|(_, t)| !published(&t.mid)).map(|(i, t)| (i as u32, t.id)));
        for (track, _) in &changes.gone {
            self.tracks.remove(*track as usize);
            let Self { streams, transport, .. } = self;
            streams.retain(|ssrc, stream| {
                let keep = stream.track != *track;
                if !keep && let Some(transport) = transport.as_mut() {
                    transport.forget_stream(*ssrc);
                }
                keep
            });
        }
        self.slots.retain(|_, s| slot(&s.mid));
        let slots = &self.slots;
        self.slot_by_ssrc.retain(|_, slot| slots.contains(*slot as usize));
    }

    fn apply_published(
        &mut self,
        now: Instant,
        mid: &Mid,
        section: &PublishedSection,
        labels: &SectionLabels,
        numbers: &mut TrackNumbers,
    ) {
        let label = labels.published.iter().find(|l| l.mid == *mid);
        let known = self.tracks.iter().find(|(_, t)| t.mid == *mid).map(|(i, _)| i);
        let index = if let Some(index) = known {
            let track = &mut self.tracks[index];
            track.update(section, now);
            if let Some(label) = label {
                track.source = label.source;
                track.set_muted(label.muted);
            }
            index
        } else {
            let source = label.map_or(default_source(section.kind), |l| l.source);
            let muted = label.is_some_and(|l| l.muted);
            self.tracks.insert(Track::new(numbers.take(), mid.clone(), section, source, muted, now))
        };
        let track = &mut self.tracks[index];
        track.set_forbidden(!self.rights.allow(track.kind, track.source));
        self.forget_replaced_streams(index as u32);
        for (i, layer) in self.tracks[index].layers.iter().enumerate() {
            let stream = StreamRef { track: index as u32, layer: i as u8, repairs: false };
            if let Some(ssrc) = layer.ssrc {
                self.streams.insert(ssrc, stream);
            }
            if let Some(ssrc) = layer.rtx_ssrc {
                self.streams.insert(ssrc, StreamRef { repairs: true, ..stream });
            }
        }
    }

    /// Forgets the SSRCs that a track had before the offer.
    fn forget_replaced_streams(&mut self, track: u32) {
        let Self { tracks, streams, transport, .. } = self;
        let layers = &tracks[track as usize].layers;
        streams.retain(|ssrc, stream| {
            let layer = layers.get(stream.layer as usize);
            let known = layer.and_then(|l| if stream.repairs { l.rtx_ssrc } else { l.ssrc });
            let keep = stream.track != track || known == Some(*ssrc);
            if !keep && let Some(transport) = transport.as_mut() {
                transport.forget_stream(*ssrc);
            }
            keep
        });
    }

    fn apply_slot(&mut self, mid: &Mid, section: &SlotSection) {
        let known = self.slots.iter().find(|(_, s)| s.mid == *mid).map(|(i, _)| i);
        if let Some(index) = known {
            self.slots[index].update(section);
            return;
        }
        // The first sequence number stays below 2^15 (RFC 3711 section 3.3.1: a first packet lost near the wrap would
        // leave the receiver with the wrong roll-over).
        let first_seq = self.rng.random::<u16>() & 0x7fff;
        let index = self.slots.insert(Slot::new(mid.clone(), section, self.rng.random(), first_seq));
        self.slot_by_ssrc.insert(section.ssrc, index as u32);
    }

    /// The share of what publishers send for their slots that their network carries.
    pub fn given_share(&self) -> f32 {
        if self.offered_bits == 0 { 1.0 } else { self.allocated_bits as f32 / self.offered_bits as f32 }
    }

    /// How much may be missing now, where `shown` bits per second of pictures are shown and `carried` have room: much, while
    /// something is missing since a moment only.
    pub fn patience(&mut self, now: Instant, carried: u64, shown: u64) -> Patience {
        if shown <= carried {
            self.short_since = None;
            return Patience::Much;
        }
        let since = *self.short_since.get_or_insert(now);
        if now.saturating_duration_since(since) < SHORTAGE { Patience::Much } else { Patience::Little }
    }

    /// Notes an estimate that differs from the last one by more than a tenth.
    pub fn note_estimate(&mut self, at_ms: u64, bits: u64) {
        if bits.abs_diff(self.noted_estimate) > self.noted_estimate / 10 {
            self.noted_estimate = bits;
            let lost = self.transport.as_ref().map_or(0.0, |t| t.estimator.loss());
            self.timeline.note(at_ms, Decision::Estimate { bits, wanted: self.wanted_bits, lost });
        }
    }

    /// Notes how many packets were sent to them again. To be called once a second.
    pub fn note_repairs(&mut self, at_ms: u64) {
        let packets = self.counters.repairs_sent
            - std::mem::replace(&mut self.noted_repairs, self.counters.repairs_sent);
        if packets > 0 {
            self.timeline.note(at_ms, Decision::Repairs { packets: packets as u32 });
        }
    }

    /// The slot with a mid.
    pub fn slot_by_mid(&self, mid: &Mid) -> Option<u32> {
        self.slots.iter().find(|(_, s)| s.mid == *mid).map(|(i, _)| i as u32)
    }

    /// For the control plane.
    pub fn stats(&self) -> ParticipantStats {
        let c = &self.counters;
        ParticipantStats {
            participant: self.id,
            connection: self.transport.as_ref().and_then(Transport::state),
            packets_received: c.packets_received,
            bytes_received: c.bytes_received,
            packets_sent: c.packets_sent,
            bytes_sent: c.bytes_sent,
            nacks_sent: c.nacks_sent,
            repairs_received: c.repairs_received,
            nacks_received: c.nacks_received,
            repairs_sent: c.repairs_sent,
            key_frames_requested: c.key_frames_requested,
            rtt_ms: self.rtt.smoothed().map(|r| r.as_secs_f32() * 1000.0),
            loss_up: self.loss_up,
            loss_down: self.loss_down,
            estimate: self.transport.as_ref().and_then(Transport::estimate),
            wanted: self.wanted_bits,
            allocated: self.allocated_bits,
            probe_bytes: self.transport.as_ref().map_or(0, |t| t.estimator.probe_bytes()),
            drops: self.drops.clone(),
        }
    }
}

fn default_source(kind: MediaKind) -> Source {
    match kind {
        MediaKind::Audio => Source::Microphone,
        MediaKind::Video => Source::Camera,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
mod tests {
    use std::sync::Arc;

    use rand::SeedableRng;

    use super::*;
    use crate::dtls::tests::certificate;
    use crate::sdp::negotiator::LocalDescription;
    use crate::sdp::{IceCredentials, SetupRole};
    use crate::transport::TransportConfig;

    fn somebody(now: Instant) -> Participant {
        let certificate = Arc::new(certificate());
        let fingerprint = certificate.fingerprint();
        let local = LocalDescription {
            candidates: Vec::new(),
            fingerprint,
            max_message_size: 0,
            worker: crate::ids::WorkerId(0),
        };
        let [for_answers, for_itself] = [1, 2].map(StdRng::seed_from_u64);
        let negotiator = Negotiator::new(local, for_answers);
        let mut participant = Participant::new(ParticipantId(1), negotiator, for_itself, now, now);
        let config = TransportConfig {
            ice: &IceCredentials { ufrag: "server".into(), pwd: "p".repeat(22) },
            certificate: &certificate,
            setup: SetupRole::Passive,
            fingerprint,
            dtls13: false,
            seed: None,
        };
        participant.transport = Some(Transport::new(now, &config));
        participant
    }

    impl Participant {
        /// A second is over in which so many bytes were sent.
        fn after_a_second(&mut self, bytes: u64) -> usize {
            self.counters.bytes_sent += bytes;
            self.renew_budgets();
            self.repair_budget
        }

        /// Their network is estimated to carry so many bits per second.
        fn on_estimate(&mut self, at: Instant, bits: u64) -> usize {
            self.transport.as_mut().unwrap().estimator.on_remb(at, bits);
            self.limit_repairs();
            self.repair_budget
        }
    }

    #[test]
    fn repairs_take_a_third_of_what_the_network_carries_and_less_at_once_when_that_falls() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let mut participant = somebody(now);
        assert_eq!(participant.after_a_second(0), MIN_REPAIR_BUDGET, "nothing is known of the network");
        assert_eq!(participant.after_a_second(1_000_000), 2_000_000);
        assert_eq!(participant.on_estimate(at(100), 2_400_000), 100_000);
        assert_eq!(participant.on_estimate(at(200), 1_200_000), 50_000);
        participant.repair_budget -= 20_000;
        assert_eq!(participant.on_estimate(at(300), 1_200_000), 30_000, "what was spent stays spent");
        assert_eq!(participant.on_estimate(at(400), 4_800_000), 30_000, "more is there in the next second");
        assert_eq!(participant.after_a_second(1_000_000), 200_000);
        assert_eq!(participant.after_a_second(10_000), MIN_REPAIR_BUDGET, "little was sent");
    }
}
