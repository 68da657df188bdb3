//! People who wait until a moderator lets them in.

use tokio::sync::oneshot;

use super::RoomState;
use crate::error::{Error, ErrorKind};
use crate::protocol::{ServerMessage, Waiting};

/// As many may wait for one room; more are turned away.
const MAX_WAITING: usize = 100;

/// People who wait, those who have waited longest first, and those who were let in and are not there yet.
#[derive(Debug, Default)]
pub(crate) struct WaitingList {
    waiters: Vec<Waiter>,
    /// The peer ids of those who were let in.
    admitted: Vec<String>,
}

#[derive(Debug)]
struct Waiter {
    who: Waiting,
    decision: oneshot::Sender<Result<(), Error>>,
}

/// What somebody who waits is told in the end: come in, or why not.
pub(crate) type Decision = oneshot::Receiver<Result<(), Error>>;

impl WaitingList {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Whether somebody was let in who is not there yet.
    pub(super) fn has_admitted(&self) -> bool {
        !self.admitted.is_empty()
    }

    /// Everybody who waits.
    pub(crate) fn list(&self) -> Vec<Waiting> {
        self.waiters.iter().map(|waiter| waiter.who.clone()).collect()
    }

    pub(super) fn contains(&self, peer_id: &str) -> bool {
        self.waiters.iter().any(|waiter| waiter.who.peer_id == peer_id)
            || self.admitted.iter().any(|admitted| admitted == peer_id)
    }

    /// Nobody is decided about any more: who waits learns that the room is gone.
    pub(super) fn clear(&mut self) {
        self.waiters.clear();
    }

    /// Nobody is let in any more; who waits learns why.
    pub(super) fn turn_away(&mut self, error: &Error) {
        for waiter in self.waiters.drain(..) {
            waiter.tell(Err(error.clone()));
        }
    }

    fn decide(&mut self, waiter: Waiter, decision: Result<(), Error>) {
        if decision.is_ok() {
            self.admitted.push(waiter.who.peer_id.clone());
        }
        waiter.tell(decision);
    }

    fn take(&mut self, peer_id: &str) -> Option<Waiter> {
        let index = self.waiters.iter().position(|waiter| waiter.who.peer_id == peer_id)?;
        Some(self.waiters.remove(index))
    }
}

impl Waiter {
    /// Who has gone meanwhile needs no decision.
    fn tell(self, decision: Result<(), Error>) {
        let _ = self.decision.send(decision);
    }
}

impl RoomState {
    /// Has somebody wait; moderators are told.
    pub(crate) fn wait(&mut self, who: Waiting) -> Result<Decision, Error> {
        if self.waiting.waiters.len() >= MAX_WAITING {
            let message = format!("{MAX_WAITING} people wait to be admitted already; try again later");
            return Err(Error::new(ErrorKind::RoomFull, message));
        }
        let (decision, receiver) = oneshot::channel();
        self.waiting.waiters.push(Waiter { who, decision });
        self.tell_waiting();
        Ok(receiver)
    }

    /// Somebody does not wait any more: their connection has ended, or they are in.
    pub(crate) fn stop_waiting(&mut self, peer_id: &str) {
        self.waiting.admitted.retain(|admitted| admitted != peer_id);
        if self.waiting.take(peer_id).is_some() {
            self.tell_waiting();
        }
    }

    /// Lets somebody in, or sends them away.
    pub(crate) fn decide(&mut self, peer_id: &str, decision: Result<(), Error>) -> Result<(), Error> {
        let waiter = self.waiting.take(peer_id).ok_or_else(|| {
            let shown: String = peer_id.chars().take(64).collect();
            Error::new(
                ErrorKind::PeerNotFound,
                format!("nobody of the peer id `{shown}` waits to be admitted"),
            )
        })?;
        self.waiting.decide(waiter, decision);
        self.tell_waiting();
        Ok(())
    }

    /// Lets in everybody who waits.
    pub(crate) fn admit_all(&mut self) {
        for waiter in std::mem::take(&mut self.waiting.waiters) {
            self.waiting.decide(waiter, Ok(()));
        }
        self.tell_waiting();
    }

    fn tell_waiting(&self) {
        let message = ServerMessage::WaitingList { waiting: self.waiting.list() };
        self.tell_moderators(&message);
    }
}
