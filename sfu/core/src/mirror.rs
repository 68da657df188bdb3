//! Mirrors: participants of another worker, as they stand in a shard of their room. A mirror has tracks and layers but
//! no transport: what arrives for it came over a bridge.

use smallvec::SmallVec;

use crate::bridge::LayerView;
use crate::bridge::packet::{BridgePacket, BridgeReport};
use crate::context::Now;
use crate::drops::DropReason;
use crate::ids::WorkerId;
use crate::layer::Layer;
use crate::media::ExtensionIds;
use crate::participant::Participant;
use crate::receive::sublayers::SubLayerView;
use crate::rtp::RtpHeader;
use crate::rtp::extension::Extensions;
use crate::track::{Payload, Track};
use crate::uplink::Received;

/// What makes a participant a mirror.
#[derive(Debug)]
pub struct Mirror {
    /// Where the participant is at home.
    pub home: WorkerId,
    /// Whether their media can be expected to come.
    pub reachable: bool,
    /// The ids of header extensions in their packets.
    pub extensions: ExtensionIds,
}

/// What a layer of a mirror is told from its home.
#[derive(Debug, Default)]
pub struct Told {
    /// What its sub-layers take, whether they are taken or not.
    pub sublayers: SmallVec<[SubLayerView; 1]>,
    /// Whether its packets were asked for.
    pub taken: bool,
    /// How often it began anew at home.
    generation: Option<u32>,
}

/// What the home of a layer keeps for the workers that take it.
#[derive(Debug, Default)]
pub struct Takers {
    /// Who takes its packets. Sound goes to all who carry the room.
    pub workers: SmallVec<[WorkerId; 4]>,
    /// The last sender report, for who takes it next.
    pub report: Option<BridgeReport>,
    /// What was told of it last.
    pub told: LayerView,
}

impl Takers {
    /// A worker takes the layer from now on, or no longer. Returns whether that is new.
    pub fn set(&mut self, worker: WorkerId, on: bool) -> bool {
        let known = self.workers.iter().position(|w| *w == worker);
        match (known, on) {
            (None, true) => self.workers.push(worker),
            (Some(index), false) => drop(self.workers.swap_remove(index)),
            _ => return false,
        }
        true
    }
}

impl Layer {
    /// Follows its home to this generation; refuses what belongs to one before.
    fn follow(&mut self, generation: u32) -> Result<(), DropReason> {
        let told = self.told.as_mut().ok_or(DropReason::BridgeStale)?;
        match told.generation.replace(generation) {
            Some(known) if known == generation => {}
            Some(known) if (generation.wrapping_sub(known) as i32) < 0 => {
                told.generation = Some(known);
                return Err(DropReason::BridgeStale);
            }
            Some(_) => self.restart(),
            None => {}
        }
        Ok(())
    }
}

impl Participant {
    /// Takes a packet that came over a bridge, as [`Participant::receive_rtp`] takes one from the network.
    pub fn receive_bridged<'a>(
        &mut self,
        now: &Now,
        track_index: u32,
        packet: &BridgePacket<'a>,
    ) -> Result<Received<'a>, DropReason> {
        let ids = self.extensions();
        let stream = packet.stream;
        let track = self.bridged_track(track_index, stream.track)?;
        if track.muted || !track.active {
            return Err(DropReason::InactiveTrack);
        }
        let header = RtpHeader::parse(packet.packet)?;
        let Some(Payload::Media(format)) = track.payload(header.payload_type) else {
            return Err(DropReason::UnknownPayloadType);
        };
        let layer = track.layers.get_mut(stream.layer as usize).ok_or(DropReason::BridgeStale)?;
        layer.follow(stream.generation)?;
        let extensions = Extensions::read(&header, packet.packet, &ids);
        let level = extensions.audio_level.map(|l| (l.voice, l.level));
        // Its clock shall say the same as at home; what is measured here is measured here.
        let arrived = Now { nanos: packet.arrived, ..*now };
        let incoming =
            layer.receive(&arrived, header, &extensions, format, packet.packet, packet.repaired)?;
        Ok(Received { track: track_index, layer: stream.layer, incoming, level, repaired: packet.repaired })
    }

    /// Takes a sender report that came over a bridge.
    pub fn receive_report(&mut self, track_index: u32, report: &BridgeReport) -> Result<(), DropReason> {
        let Self { tracks, ntp_clock, .. } = self;
        let track = tracks.get_mut(track_index as usize).filter(|t| t.id == report.stream.track);
        let layer = track.and_then(|t| t.layers.get_mut(report.stream.layer as usize));
        let layer = layer.ok_or(DropReason::BridgeStale)?;
        layer.follow(report.stream.generation)?;
        layer.clock.on_sender_report(ntp_clock, report.arrived, report.ntp, report.rtp_timestamp);
        Ok(())
    }

    fn bridged_track(&mut self, index: u32, id: crate::ids::TrackId) -> Result<&mut Track, DropReason> {
        let track = self.tracks.get_mut(index as usize).filter(|t| t.id == id);
        track.ok_or(DropReason::BridgeStale)
    }
}
