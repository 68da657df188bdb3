//! Snapshots: channels with their histories over a restart, so that who comes back misses nothing.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use crate::channel::{Channel, Phase};
use crate::hub::Hub;
use crate::message::Message;
use crate::name::{ChannelName, Position, Timestamp};
use crate::shelf::Shelf;

/// A channel as it was. It may be restored once: an epoch that went on twice would have two messages at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelSnapshot {
    /// Its name.
    pub name: ChannelName,
    /// The newest message that was delivered.
    pub position: Position,
    /// Its history: the offset through which it is gone, and messages as for storage, each behind its length.
    pub body: Bytes,
}

impl Hub {
    /// All channels as they are. To be called after [`Hub::drain`], when nothing waits for storage any more.
    pub fn snapshot(&self) -> Vec<ChannelSnapshot> {
        self.all_channels("").iter().filter_map(|channel| snapshot(channel)).collect()
    }

    /// Puts channels back that were before; how many. To be called before anybody connects. What cannot be read is left
    /// out: who comes back to such a channel is told that it is not recovered.
    pub fn restore(&self, snapshots: Vec<ChannelSnapshot>, now: Timestamp) -> usize {
        snapshots.into_iter().filter_map(|snapshot| self.restore_one(snapshot, now)).count()
    }

    fn restore_one(&self, snapshot: ChannelSnapshot, now: Timestamp) -> Option<()> {
        let core = &self.core;
        let (through, messages) = read(&snapshot)?;
        let channel = core.restore(snapshot.name, snapshot.position, now)?;
        let mut state = channel.state.lock();
        state.history = Shelf::default();
        state.history.begin_after(through);
        let bounds = core.history_bounds(state.rule);
        for message in messages {
            state.history.push(Arc::new(message), bounds);
        }
        Some(())
    }
}

fn snapshot(channel: &Channel) -> Option<ChannelSnapshot> {
    let state = channel.state.lock();
    if matches!(state.phase, Phase::Gone) {
        return None;
    }
    let mut body = Vec::new();
    body.put_u64(state.history.through());
    for message in state.history.iter() {
        let stored = message.to_stored();
        body.put_u32(u32::try_from(stored.len()).ok()?);
        body.extend_from_slice(&stored);
    }
    Some(ChannelSnapshot { name: channel.name.clone(), position: state.position(), body: body.into() })
}

/// The history of a snapshot; `None` if it is not that of its channel, in order.
fn read(snapshot: &ChannelSnapshot) -> Option<(u64, Vec<Message>)> {
    let mut body = snapshot.body.clone();
    let through = body.try_get_u64().ok().filter(|through| *through <= snapshot.position.offset)?;
    let mut messages: Vec<Message> = Vec::new();
    while body.has_remaining() {
        let length = body.try_get_u32().ok()? as usize;
        if length > body.len() {
            return None;
        }
        let message = Message::from_stored(&body.split_to(length)).ok()?;
        let position = message.position()?;
        let before = messages.last().map_or(through, Message::offset);
        let is_in_place = position.epoch == snapshot.position.epoch
            && (before + 1..=snapshot.position.offset).contains(&position.offset)
            && message.channel() == Some(&snapshot.name);
        if !is_in_place {
            return None;
        }
        messages.push(message);
    }
    Some((through, messages))
}
