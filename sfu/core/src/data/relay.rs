//! The relay of data channel messages inside one room: who gets what, and what happens when somebody is slow.
//!
//! A message goes from a client's channel to the channels of the same label of the others, or of the one named
//! ([`crate::data::frame`]). What it can hold up is bounded per participant: [`MAX_QUEUED`] towards them, a receive
//! window from them, and one message of theirs that waits for a slow receiver.
//!
//! Members on other workers take part in it: what is for them goes across a bridge (`across.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::control::{DataCloseReason, Event};
use crate::data::across::Across;
#[cfg(doc)]
use crate::data::association::MAX_QUEUED;
use crate::data::association::{Association, AssociationOutput, Refusal};
use crate::data::frame::{Frame, MAX_OVERHEAD};
use crate::drops::DropReason;
use crate::ids::{ParticipantId, WorkerId};
use crate::sdp::DataSection;

/// How long a message to one participant waits for room in their queue.
pub const MAX_WAIT: Duration = Duration::from_secs(10);
/// The messages of one participant that are relayed before it is another's turn.
const TURN: usize = 16;

/// What the relay wants of its owner.
#[derive(Clone, Debug)]
pub enum DataOutput {
    /// To be sent to a participant over DTLS.
    Packet {
        /// To whom.
        participant: ParticipantId,
        /// One SCTP packet.
        bytes: Vec<u8>,
    },
    /// For the control plane.
    Event(Event),
    /// A packet or a message was dropped, to be counted for a participant: the sender for what is wrong with it or
    /// has no receiver, the receiver for what it is too slow for.
    Dropped {
        /// For whom.
        participant: ParticipantId,
        /// Why.
        reason: DropReason,
    },
    /// A message for members on another worker.
    Across {
        /// Which.
        worker: WorkerId,
        /// The message.
        message: Box<DataMessage>,
    },
    /// A message of a member on another worker has found its receivers.
    Taken {
        /// Where the member is.
        worker: WorkerId,
        /// The member.
        sender: ParticipantId,
        /// What it cost of their window.
        bytes: usize,
    },
}

/// A message on its way between workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataMessage {
    /// Who sends it.
    pub sender: ParticipantId,
    /// For whom; `None` for all over there.
    pub receiver: Option<ParticipantId>,
    /// In the channels of this label.
    pub label: Arc<str>,
    /// A frame with the sender's name.
    pub message: Vec<u8>,
}

/// The relay of one room, or of its shard.
pub struct DataRelay {
    max_message_size: usize,
    pub(super) now: Instant,
    pub(super) members: BTreeMap<ParticipantId, Member>,
    participants_by_peer: BTreeMap<Arc<str>, ParticipantId>,
    /// Members that have something to do, each once, in the order of their turns.
    ready: VecDeque<ParticipantId>,
    timers: BTreeSet<(Instant, ParticipantId)>,
    pub(super) outputs: VecDeque<DataOutput>,
    /// How many members are on which other worker.
    pub(super) elsewhere: BTreeMap<WorkerId, usize>,
}

pub(super) struct Member {
    pub(super) peer: Arc<str>,
    pub(super) association: Option<Association>,
    /// May not send; what they send is dropped.
    silent: bool,
    /// A message of this member that waits for its receiver; until then, no other is read.
    pub(super) held: Option<Held>,
    /// The members whose held messages wait for this one, in the order of their arrival.
    waiting: VecDeque<ParticipantId>,
    is_ready: bool,
    timer: Option<Instant>,
    /// What is on its way to and from other workers.
    pub(super) across: Across,
}

pub(super) struct Held {
    receiver: ParticipantId,
    label: Arc<str>,
    message: Vec<u8>,
    deadline: Instant,
}

impl DataRelay {
    /// A relay without participants. A channel in which a client sends more than `max_message_size` bytes at once is
    /// closed; a payload must leave room for the frame's header with the longest peer id ([`MAX_OVERHEAD`]).
    pub fn new(max_message_size: usize, now: Instant) -> Self {
        Self {
            max_message_size,
            now,
            members: BTreeMap::new(),
            participants_by_peer: BTreeMap::new(),
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
            elsewhere: BTreeMap::new(),
        }
    }

    /// Adds a participant, known to others by the name `peer` (at most [`crate::data::frame::MAX_PEER`] bytes).
    pub fn add(&mut self, participant: ParticipantId, peer: Arc<str>) {
        self.insert(participant, peer, Across::default());
    }

    pub(super) fn insert(&mut self, participant: ParticipantId, peer: Arc<str>, across: Across) {
        self.remove(participant);
        // Of two of one name, who came last has the larger number; news of them from two workers may come in any order.
        let named = self.participants_by_peer.entry(peer.clone()).or_insert(participant);
        *named = participant.max(*named);
        let member = Member {
            peer,
            association: None,
            silent: false,
            held: None,
            waiting: VecDeque::new(),
            is_ready: false,
            timer: None,
            across,
        };
        self.members.insert(participant, member);
    }

    /// Removes a participant. A message of theirs that waits is gone with them.
    pub fn remove(&mut self, participant: ParticipantId) {
        self.disconnect(participant);
        let Some(member) = self.members.remove(&participant) else { return };
        if self.participants_by_peer.get(&member.peer) == Some(&participant) {
            self.participants_by_peer.remove(&member.peer);
        }
        if let Some(timer) = member.timer {
            self.timers.remove(&(timer, participant));
        }
        if let Some(receiver) = member.held.as_ref().and_then(|held| self.members.get_mut(&held.receiver)) {
            receiver.waiting.retain(|&sender| sender != participant);
        }
        self.ready.retain(|&ready| ready != participant);
        self.leave_worker(member.across.home);
    }

    /// A participant may not send any more, or may again. What they sent before still arrives.
    pub fn set_silent(&mut self, participant: ParticipantId, silent: bool) {
        if let Some(member) = self.members.get_mut(&participant) {
            member.silent = silent;
        }
    }

    /// A participant's DTLS session is up and SCTP was negotiated in it: a fresh association, without channels.
    pub fn connect(&mut self, now: Instant, participant: ParticipantId, section: DataSection) {
        self.now = now;
        let association = Association::new(now, section, self.max_message_size);
        self.replace_association(participant, Some(association));
    }

    /// A participant's DTLS session is gone, and with it the association.
    pub fn disconnect(&mut self, participant: ParticipantId) {
        self.replace_association(participant, None);
    }

    /// Takes an SCTP packet that came over a participant's DTLS session.
    pub fn handle_packet(&mut self, now: Instant, participant: ParticipantId, packet: &[u8]) {
        self.now = now;
        match self.members.get_mut(&participant).and_then(|member| member.association.as_mut()) {
            Some(association) => {
                association.handle_packet(now, packet);
                self.make_ready(participant);
            }
            None => self.count(participant, DropReason::DataMalformed),
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        while let Some(&(at, participant)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            let Some(member) = self.members.get_mut(&participant) else { continue };
            member.timer = None;
            if let Some(association) = &mut member.association {
                association.handle_timeout(now);
            }
            if let Some(held) = member.held.take_if(|held| held.deadline <= now) {
                self.give_up(participant, &held);
            }
            self.make_ready(participant);
        }
    }

    /// When [`DataRelay::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|&(at, _)| at)
    }

    /// The next thing to do for the owner. To be called until `None` after each input: this is where messages are
    /// relayed, in turns.
    pub fn poll_output(&mut self) -> Option<DataOutput> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            let participant = self.ready.pop_front()?;
            self.take_turn(participant);
        }
    }

    /// How much waits to be sent to a participant or to be acknowledged by them, in bytes.
    pub fn queued(&self, participant: ParticipantId) -> usize {
        let association = self.members.get(&participant).and_then(|member| member.association.as_ref());
        association.map_or(0, Association::queued)
    }

    /// How many messages of a participant wait to be read.
    #[cfg(test)]
    pub(super) fn unread(&self, participant: ParticipantId) -> usize {
        let association = self.members.get(&participant).and_then(|member| member.association.as_ref());
        association.map_or(0, Association::unread)
    }

    fn take_turn(&mut self, participant: ParticipantId) {
        if let Some(member) = self.members.get_mut(&participant) {
            member.is_ready = false;
        }
        let mut messages = 0;
        while let Some(output) = self.poll_association(participant) {
            messages += usize::from(matches!(output, AssociationOutput::Message { .. }));
            self.on_output(participant, output);
            if messages == TURN {
                self.make_ready(participant);
                break;
            }
        }
        self.take_across(participant, TURN);
        self.release_waiting(participant);
        self.reschedule(participant);
    }

    fn poll_association(&mut self, participant: ParticipantId) -> Option<AssociationOutput> {
        self.members.get_mut(&participant)?.association.as_mut()?.poll_output()
    }

    fn on_output(&mut self, participant: ParticipantId, output: AssociationOutput) {
        match output {
            AssociationOutput::Packet(bytes) => {
                self.outputs.push_back(DataOutput::Packet { participant, bytes });
            }
            AssociationOutput::Message { stream, label, bytes } => {
                self.relay(participant, stream, label, &bytes);
            }
            AssociationOutput::Closed { label, reason } => {
                let label = label.to_string();
                let event = Event::DataChannelClosed { participant, label, reason };
                self.outputs.push_back(DataOutput::Event(event));
            }
            AssociationOutput::Dropped(reason) => self.count(participant, reason),
        }
    }

    fn relay(&mut self, sender: ParticipantId, stream: u16, label: Arc<str>, bytes: &[u8]) {
        let Some(frame) = Frame::parse(bytes) else {
            return self.count(sender, DropReason::DataMalformed);
        };
        let Some(member) = self.members.get_mut(&sender) else { return };
        if member.silent {
            return self.count(sender, DropReason::DataForbidden);
        }
        if frame.payload.len() + MAX_OVERHEAD > self.max_message_size {
            if let Some(association) = &mut member.association {
                association.close(stream, DataCloseReason::Limit);
            }
            return self.count(sender, DropReason::DataLimit);
        }
        let message = Frame { peer: &member.peer, ..frame }.write();
        if frame.peer.is_empty() {
            self.relay_to_all(sender, &label, &message);
            self.send_to_all_across(sender, &label, &message);
        } else if let Some(&receiver) = self.participants_by_peer.get(frame.peer) {
            match self.members.get(&receiver).and_then(|member| member.across.home) {
                Some(worker) => self.send_across(sender, worker, Some(receiver), label, message),
                None => self.relay_to_one(sender, receiver, label, message),
            }
        } else {
            self.count(sender, DropReason::DataNoReceiver);
        }
    }

    /// A receiver that is slow loses the message or, where it must not, the channel; nobody waits for it.
    pub(super) fn relay_to_all(&mut self, sender: ParticipantId, label: &str, message: &[u8]) {
        let mut receivers = Vec::new();
        for (&participant, member) in &mut self.members {
            let Some(association) = member.association.as_mut().filter(|_| participant != sender) else {
                continue;
            };
            let Some(stream) = association.open_channel(label) else { continue };
            if let Err(refusal) = association.send(self.now, stream, message.to_vec()) {
                association.lose(stream, refusal);
            }
            receivers.push(participant);
        }
        if receivers.is_empty() && self.elsewhere.is_empty() {
            self.count(sender, DropReason::DataNoReceiver);
        }
        for participant in receivers {
            self.make_ready(participant);
        }
    }

    /// When the receiver is slow, the message waits, and the sender with it.
    pub(super) fn relay_to_one(
        &mut self,
        sender: ParticipantId,
        receiver: ParticipantId,
        label: Arc<str>,
        message: Vec<u8>,
    ) {
        let held = Held { receiver, label, message, deadline: self.now + MAX_WAIT };
        // Those who wait already come first.
        let must_wait = self.members.get(&receiver).is_some_and(|member| !member.waiting.is_empty());
        let held = if must_wait { Some(held) } else { self.deliver(sender, held) };
        let Some(held) = held else { return };
        if let Some(member) = self.members.get_mut(&receiver) {
            member.waiting.push_back(sender);
        }
        if let Some(member) = self.members.get_mut(&sender) {
            member.held = Some(held);
            if let Some(association) = &mut member.association {
                association.stop_reading();
            }
        }
    }

    /// Hands a message to its receiver, or gives it back when the receiver has no room now.
    fn deliver(&mut self, sender: ParticipantId, mut held: Held) -> Option<Held> {
        let now = self.now;
        let receiver = held.receiver;
        let association = self.members.get_mut(&receiver).and_then(|member| member.association.as_mut());
        let channel = association.and_then(|a| a.open_channel(&held.label).map(|stream| (a, stream)));
        let Some((association, stream)) = channel else {
            self.count(sender, DropReason::DataNoReceiver);
            return None;
        };
        if !association.has_room(held.message.len()) {
            return Some(held);
        }
        if let Err(refusal) = association.send(now, stream, std::mem::take(&mut held.message)) {
            association.lose(stream, refusal);
        }
        self.make_ready(receiver);
        None
    }

    /// Delivers what waits for a member, as far as there is room, and lets those senders go on.
    fn release_waiting(&mut self, receiver: ParticipantId) {
        while let Some(&sender) = self.members.get(&receiver).and_then(|member| member.waiting.front()) {
            let held = self.members.get_mut(&sender).and_then(|member| member.held.take());
            if let Some(held) = held.and_then(|held| self.deliver(sender, held)) {
                if let Some(member) = self.members.get_mut(&sender) {
                    member.held = Some(held);
                }
                return;
            }
            if let Some(member) = self.members.get_mut(&receiver) {
                member.waiting.pop_front();
            }
            self.resume(sender);
        }
    }

    /// A message has waited too long for its receiver.
    fn give_up(&mut self, sender: ParticipantId, held: &Held) {
        if let Some(member) = self.members.get_mut(&held.receiver) {
            member.waiting.retain(|&waiting| waiting != sender);
            if let Some(association) = &mut member.association
                && let Some(stream) = association.open_channel(&held.label)
            {
                association.lose(stream, Refusal::Full);
            }
        }
        self.make_ready(held.receiver);
        self.resume(sender);
    }

    pub(super) fn resume(&mut self, sender: ParticipantId) {
        if let Some(member) = self.members.get_mut(&sender).filter(|member| member.may_be_read())
            && let Some(association) = &mut member.association
        {
            association.resume_reading();
        }
        self.make_ready(sender);
    }

    /// What waits for the member has no channel to go to any more; what the member sent may still wait for others.
    fn replace_association(&mut self, participant: ParticipantId, association: Option<Association>) {
        let Some(member) = self.members.get_mut(&participant) else { return };
        member.association = association;
        let may_be_read = member.may_be_read();
        if let Some(association) = member.association.as_mut().filter(|_| !may_be_read) {
            association.stop_reading();
        }
        self.release_waiting(participant);
        self.make_ready(participant);
        self.reschedule(participant);
    }

    pub(super) fn make_ready(&mut self, participant: ParticipantId) {
        if let Some(member) = self.members.get_mut(&participant).filter(|member| !member.is_ready) {
            member.is_ready = true;
            self.ready.push_back(participant);
        }
    }

    fn reschedule(&mut self, participant: ParticipantId) {
        let Some(member) = self.members.get_mut(&participant) else { return };
        let association = member.association.as_ref().and_then(Association::poll_timeout);
        let timer = association.into_iter().chain(member.held.as_ref().map(|held| held.deadline)).min();
        if timer != member.timer {
            if let Some(old) = std::mem::replace(&mut member.timer, timer) {
                self.timers.remove(&(old, participant));
            }
            self.timers.extend(timer.map(|at| (at, participant)));
        }
    }

    fn count(&mut self, participant: ParticipantId, reason: DropReason) {
        self.outputs.push_back(DataOutput::Dropped { participant, reason });
    }
}

impl fmt::Debug for DataRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataRelay").field("members", &self.members.len()).finish_non_exhaustive()
    }
}
