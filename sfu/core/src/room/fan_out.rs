//! How packets reach everybody: what came together is kept (`batch.rs`), and then each subscriber is served in turn.

use smallvec::SmallVec;

use crate::batch::Batch;
use crate::context::Context;
use crate::demux::Place;
use crate::engine::Transmit;
use crate::forward::forwarder::LayerRef;
use crate::incoming::Incoming;
use crate::layer::{Layer, SlotRef};

use super::Room;

/// Takes what is to be sent.
pub type Send<'a> = dyn FnMut(Transmit<'_>) + 'a;

/// A slot that shows another source from this packet on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Switched {
    pub(super) slot: SlotRef,
    pub(super) source: LayerRef,
    pub(super) timestamp: u32,
    pub(super) left: Option<LayerRef>,
}

impl Room {
    /// Keeps a packet until the receive batch ends.
    pub(super) fn keep(&mut self, ctx: &mut Context<'_>, from: LayerRef, incoming: &Incoming<'_>) {
        // With a key frame slots leave what they showed: its packets of before go out before, and those behind it not at all.
        let switches = incoming.starts_key_frame() && self.batch.has_others(from);
        if self.batch.is_full() || switches {
            self.fan_out(ctx, None);
        }
        let Some(layer) = self.layer(from).filter(|layer| !layer.subscribers.is_empty()) else { return };
        let newest = layer.history.highest() == Some(incoming.seq);
        if self.batch.is_empty() {
            ctx.waiting.push(self.index);
        }
        self.batch.push(from, incoming, newest);
    }

    /// Gives the packets that were kept to every slot that shows their layer or waits for it. With `send` they are handed out
    /// at once; otherwise they wait in send buffers for the end of the receive batch.
    pub fn fan_out(&mut self, ctx: &mut Context<'_>, mut send: Option<&mut Send<'_>>) {
        if self.batch.is_empty() {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        for run in 0..batch.len() {
            let Some(run) = batch.run(run) else { continue };
            if let Some(layer) = self.layer_mut(run.from) {
                run.subscribers = std::mem::take(&mut layer.subscribers);
            }
        }
        let mut switched: SmallVec<[Switched; 4]> = SmallVec::new();
        while let Some(index) = batch.next_participant() {
            let lent =
                send.is_some() && self.transport_mut(index).is_some_and(|t| t.borrow_buffer(ctx.spare));
            for run in 0..batch.len() {
                while let Some(slot) = batch.take_slot(run, index) {
                    let at = SlotRef { participant: index, slot };
                    self.forward_run(ctx, &mut batch, run, at, |switch| switched.push(switch));
                }
            }
            self.hand_on(ctx, index, send.as_deref_mut());
            if lent && let Some(transport) = self.transport_mut(index) {
                transport.give_back_buffer(ctx.spare);
            }
        }
        self.take_lists_back(ctx, &mut batch);
        batch.clear();
        self.batch = batch;
        for switch in switched {
            self.on_switched(ctx, switch);
        }
    }

    /// Gives the packets of one layer to one slot.
    pub(super) fn forward_run(
        &mut self,
        ctx: &mut Context<'_>,
        batch: &mut Batch,
        run: usize,
        at: SlotRef,
        mut on_switch: impl FnMut(Switched),
    ) {
        let Some(source) = batch.run(run).map(|run| run.from) else { return };
        self.make_redundant(ctx, batch, run, source, at);
        let Some(subscriber) = self.participants.get_mut(at.participant as usize) else { return };
        subscriber.forward(ctx, batch, run, at.slot, |timestamp, left| {
            on_switch(Switched { slot: at, source, timestamp, left });
        });
    }

    /// Lets sound that comes without redundancy carry what was said before, where the slot's subscriber needs it.
    fn make_redundant(&self, ctx: &Context<'_>, batch: &mut Batch, run: usize, from: LayerRef, at: SlotRef) {
        let subscriber = self.participants.get(at.participant as usize);
        let older = subscriber.map_or(0, |subscriber| subscriber.redundancy_in(at.slot));
        if older == 0 {
            return;
        }
        let Some(layer) = self.layer(from) else { return };
        batch.make_redundant(run, older, |seq, back| layer.older(ctx.now.instant, seq.checked_sub(back)?));
    }

    /// What a subscriber was given goes out, now or at the end of the receive batch; or waits for room in their network.
    fn hand_on(&mut self, ctx: &mut Context<'_>, index: u32, send: Option<&mut Send<'_>>) {
        let Some(transport) = self.participants.get_mut(index as usize).and_then(|p| p.transport.as_mut())
        else {
            return;
        };
        if let Some(send) = send {
            if let Err(reason) = transport.seal() {
                ctx.drops.count(reason);
            }
            for (path, bytes, ends) in transport.output() {
                send(Transmit { path, bytes, ends });
            }
            transport.sent();
        } else if transport.mark() {
            ctx.dirty.push(Place { room: self.index, participant: index });
        }
        self.list_paced(ctx.now.instant, index);
    }

    fn take_lists_back(&mut self, ctx: &mut Context<'_>, batch: &mut Batch) {
        for index in 0..batch.len() {
            let Some(run) = batch.run(index) else { continue };
            if let Some(layer) = self.layer_mut(run.from) {
                layer.subscribers = std::mem::take(&mut run.subscribers);
            }
        }
        // What a slot showed before may be among the others: all lists must be back.
        for index in 0..batch.len() {
            let Some(run) = batch.run(index) else { continue };
            let (from, Some(format)) = (run.from, run.undecodable) else { continue };
            let Some(layer) = self.layer_mut(from) else { continue };
            let subscribers = std::mem::take(&mut layer.subscribers);
            self.on_no_common_codec(ctx, from, &subscribers, format);
            if let Some(layer) = self.layer_mut(from) {
                layer.subscribers = subscribers;
            }
        }
    }

    pub(super) fn layer(&self, at: LayerRef) -> Option<&Layer> {
        let track = self.participants.get(at.participant as usize)?.tracks.get(at.track as usize)?;
        (track.id == at.id).then_some(track)?.layers.get(at.layer as usize)
    }
}
