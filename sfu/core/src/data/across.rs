//! Data channel messages between members of a room that are on different workers.
//!
//! A member on another worker is a member without an association. What is for it goes there as a [`DataMessage`]; what
//! it sends comes in the same form, waits in its inbox, and is relayed in its turn as if it had been read here. Each
//! message is acknowledged when it has found its receivers, or nobody: a sender with [`WINDOW`] bytes on their way to
//! one worker is not read until some are, so a slow receiver holds back whoever sends to them, wherever that is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;

use crate::data::relay::{DataMessage, DataOutput, DataRelay, Member};
use crate::ids::{ParticipantId, WorkerId};

/// So much of one sender may be on its way to one worker; the message that goes beyond it is the last for now. As much as one of
/// the largest messages, or some milliseconds of many small ones.
pub(super) const WINDOW: usize = 256 * 1024;

/// What a message takes beside its bytes.
const OVERHEAD: usize = 200;

/// What of a member's messages is between workers.
#[derive(Debug, Default)]
pub(super) struct Across {
    /// The worker that the member is on, when it is another.
    pub(super) home: Option<WorkerId>,
    /// Of a member here: what is on its way to other workers, as messages cost.
    unacknowledged: SmallVec<[(WorkerId, usize); 2]>,
    /// Of a member elsewhere: what waits for its turn. The sender's window bounds it.
    inbox: VecDeque<DataMessage>,
    /// Of a member elsewhere: what the message that is being relayed costs.
    owed: usize,
}

impl Across {
    fn is_full(&self) -> bool {
        self.unacknowledged.iter().any(|(_, bytes)| *bytes >= WINDOW)
    }
}

impl Member {
    /// Whether another message of the member may be read.
    pub(super) fn may_be_read(&self) -> bool {
        self.held.is_none() && !self.across.is_full()
    }
}

impl DataRelay {
    /// Somebody is on another worker.
    pub fn add_elsewhere(&mut self, participant: ParticipantId, peer: Arc<str>, worker: WorkerId) {
        self.insert(participant, peer, Across { home: Some(worker), ..Across::default() });
        *self.elsewhere.entry(worker).or_default() += 1;
    }

    /// Somebody has left that worker. A message of theirs that waits is gone with them.
    pub fn remove_elsewhere(&mut self, participant: ParticipantId, worker: WorkerId) {
        if self.members.get(&participant).is_some_and(|member| member.across.home == Some(worker)) {
            self.remove(participant);
        }
    }

    /// A worker is gone, with all who were there: nobody waits for its acknowledgements.
    pub fn forget_worker(&mut self, now: Instant, worker: WorkerId) {
        self.now = now;
        let there = |member: &Member| member.across.home == Some(worker);
        let gone: Vec<ParticipantId> =
            self.members.iter().filter(|(_, m)| there(m)).map(|(id, _)| *id).collect();
        for participant in gone {
            self.remove(participant);
        }
        let mut waiting = Vec::new();
        for (id, member) in &mut self.members {
            let before = member.across.unacknowledged.len();
            member.across.unacknowledged.retain(|(w, _)| *w != worker);
            if member.across.unacknowledged.len() < before && member.may_be_read() {
                waiting.push(*id);
            }
        }
        for participant in waiting {
            self.resume(participant);
        }
    }

    /// The name of a member.
    pub fn peer(&self, participant: ParticipantId) -> Option<Arc<str>> {
        self.members.get(&participant).map(|member| member.peer.clone())
    }

    /// Takes a message of a member on another worker.
    pub fn handle_across(&mut self, now: Instant, from: WorkerId, message: DataMessage) {
        self.now = now;
        let sender = message.sender;
        let member = self.members.get_mut(&sender).filter(|m| m.across.home == Some(from));
        let Some(member) = member else { return };
        member.across.inbox.push_back(message);
        self.make_ready(sender);
    }

    /// So much of a member here has found their receivers on another worker.
    pub fn handle_taken(&mut self, now: Instant, from: WorkerId, sender: ParticipantId, bytes: usize) {
        self.now = now;
        let Some(member) = self.members.get_mut(&sender) else { return };
        let mut waiting = member.across.unacknowledged.iter_mut();
        let Some((_, waiting)) = waiting.find(|(worker, _)| *worker == from) else { return };
        *waiting = waiting.saturating_sub(bytes);
        if member.may_be_read() {
            self.resume(sender);
        }
    }

    /// Sends a message to everybody on other workers.
    pub(super) fn send_to_all_across(&mut self, sender: ParticipantId, label: &Arc<str>, message: &[u8]) {
        let workers: SmallVec<[WorkerId; 4]> = self.elsewhere.keys().copied().collect();
        for worker in workers {
            self.send_across(sender, worker, None, label.clone(), message.to_vec());
        }
    }

    /// Sends a message to somebody, or all, on another worker.
    pub(super) fn send_across(
        &mut self,
        sender: ParticipantId,
        worker: WorkerId,
        receiver: Option<ParticipantId>,
        label: Arc<str>,
        message: Vec<u8>,
    ) {
        let Some(member) = self.members.get_mut(&sender) else { return };
        let waiting = &mut member.across.unacknowledged;
        match waiting.iter_mut().find(|(w, _)| *w == worker) {
            Some((_, bytes)) => *bytes += cost(&message),
            None => waiting.push((worker, cost(&message))),
        }
        if !member.may_be_read()
            && let Some(association) = &mut member.association
        {
            association.stop_reading();
        }
        let message = Box::new(DataMessage { sender, receiver, label, message });
        self.outputs.push_back(DataOutput::Across { worker, message });
    }

    /// Relays what has come of a member on another worker, at most so many messages, until one has to wait.
    pub(super) fn take_across(&mut self, participant: ParticipantId, most: usize) {
        for _ in 0..most {
            let Some(member) = self.members.get_mut(&participant) else { return };
            let Some(worker) = member.across.home.filter(|_| member.held.is_none()) else { return };
            let bytes = std::mem::take(&mut member.across.owed);
            let next = member.across.inbox.pop_front();
            member.across.owed = next.as_ref().map_or(0, |next| cost(&next.message));
            if bytes > 0 {
                self.outputs.push_back(DataOutput::Taken { worker, sender: participant, bytes });
            }
            match next {
                None => return,
                Some(DataMessage { receiver: Some(receiver), label, message, .. }) => {
                    self.relay_to_one(participant, receiver, label, message);
                }
                Some(DataMessage { receiver: None, label, message, .. }) => {
                    self.relay_to_all(participant, &label, &message);
                }
            }
        }
        self.make_ready(participant);
    }

    /// A member that was on another worker, if it was, is no longer counted there.
    pub(super) fn leave_worker(&mut self, worker: Option<WorkerId>) {
        if let Some(worker) = worker
            && let Some(count) = self.elsewhere.get_mut(&worker)
        {
            *count -= 1;
            if *count == 0 {
                self.elsewhere.remove(&worker);
            }
        }
    }
}

/// What a message takes of its sender's window.
pub(crate) fn cost(message: &[u8]) -> usize {
    message.len() + OVERHEAD
}
