//! Which layers are wanted of publishers: what all slots want is collected, and told where it has changed.

use std::time::Duration;

use crate::context::Context;
use crate::control::{Event, LayerWish};
use crate::media::MediaKind;
use crate::transport::Transport;

use super::Room;
use super::bandwidth::Wanting;

/// A layer is switched off at its source when nobody has wanted it for so long.
const UNWANTED_FOR: Duration = Duration::from_secs(3);

impl Room {
    /// Notes what a slot wants of its publisher: what it is given, and what it would be given if that were sent.
    pub(super) fn wish_layers(&mut self, index: u32, want: &Wanting, given: Option<usize>, bits: u64) {
        let slot = &self.participants[index as usize].slots[want.slot as usize];
        let shown = [slot.forwarder.current(), slot.forwarder.target()];
        let Some(at) = slot.assigned else { return };
        let wanted_size = slot.wanted_size;
        let Some(track) = self.track_mut(at) else { return };
        // The smallest stays at hand: it is what a network that gets worse is given, at once.
        track.demand.want(track.ladder.least().map_or(0, |l| l.layer));
        for layer in shown.into_iter().flatten().filter(|l| l.id == at.id) {
            track.demand.want(layer.layer);
        }
        let level = given.and_then(|g| want.levels.get(g));
        if let Some(level) = level {
            track.demand.want(level.layer);
        }
        let margin = bits - bits / 8;
        if want.highest >= want.levels.len() {
            for dormant in track.ladder.dormant(wanted_size, level, margin) {
                track.demand.want(dormant.layer);
            }
        }
    }

    /// Tells publishers which of their layers are wanted, where that has changed.
    pub(super) fn tell_wanted_layers(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now.instant;
        for (_, participant) in &mut self.participants {
            if !participant.transport.as_ref().is_some_and(Transport::ready) {
                continue;
            }
            for (_, track) in participant.tracks.iter_mut().filter(|(_, t)| t.kind == MediaKind::Video) {
                for (_, layers) in &track.wanted_elsewhere {
                    track.demand.want_all(*layers);
                }
                if !track.demand.update(now, track.layers.len(), UNWANTED_FOR) {
                    continue;
                }
                let layers = track.layers.iter().enumerate();
                let layers = layers
                    .map(|(i, layer)| LayerWish {
                        rid: layer.rid.clone(),
                        wanted: track.demand.told(i as u8),
                    })
                    .collect();
                let mid = track.mid.clone();
                ctx.events.push_back(Event::LayersWanted { participant: participant.id, mid, layers });
            }
        }
    }
}
