//! People who wait until a moderator lets them in.

use tokio::sync::oneshot;

use super::RoomState;
use crate::error::{Error, ErrorKind};
use crate::protocol::{ServerMessage, Waiting};

/// As many may wait for one room; more are turned away.
const MAX_WAITING: usize = 100;

/// People who wait, those who have waited longest first.
#[derive(Debug, Default)]
pub(crate) struct WaitingList(Vec<Waiter>);

#[derive(Debug)]
struct Waiter {
    who: Waiting,
    decision: oneshot::Sender<Result<(), Error>>,
}

/// What somebody who waits is told in the end: come in, or why not.
pub(crate) type Decision = oneshot::Receiver<Result<(), Error>>;

impl WaitingList {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everybody who waits.
    pub(crate) fn list(&self) -> Vec<Waiting> {
        self.0.iter().map(|waiter| waiter.who.clone()).collect()
    }

    pub(super) fn contains(&self, peer_id: &str) -> bool {
        self.0.iter().any(|waiter| waiter.who.peer_id == peer_id)
    }

    /// Nobody is decided about any more: who waits learns that the room is gone.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn take(&mut self, peer_id: &str) -> Option<Waiter> {
        let index = self.0.iter().position(|waiter| waiter.who.peer_id == peer_id)?;
        Some(self.0.remove(index))
    }
}

impl RoomState {
    /// Has somebody wait; moderators are told.
    pub(crate) fn wait(&mut self, who: Waiting) -> Result<Decision, Error> {
        if self.waiting.0.len() >= MAX_WAITING {
            let message = format!("{MAX_WAITING} people wait to be admitted already; try again later");
            return Err(Error::new(ErrorKind::RoomFull, message));
        }
        let (decision, receiver) = oneshot::channel();
        self.waiting.0.push(Waiter { who, decision });
        self.tell_waiting();
        Ok(receiver)
    }

    /// Somebody does not wait any more: their connection has ended, or they were let in.
    pub(crate) fn stop_waiting(&mut self, peer_id: &str) {
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
        // Who has gone meanwhile needs no decision.
        let _ = waiter.decision.send(decision);
        self.tell_waiting();
        Ok(())
    }

    /// Lets in everybody who waits.
    pub(crate) fn admit_all(&mut self) {
        for waiter in std::mem::take(&mut self.waiting.0) {
            let _ = waiter.decision.send(Ok(()));
        }
        self.tell_waiting();
    }

    fn tell_waiting(&self) {
        let message = ServerMessage::WaitingList { waiting: self.waiting.list() };
        self.tell_moderators(&message);
    }
}
