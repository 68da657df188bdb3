//! The queue of commands to a worker, which wakes it.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use veche_sfu_core::control::Command;
use veche_sfu_core::engine::Candidate;

use crate::handle::{AdoptError, CommandError};
use crate::hatch::Hatch;

/// How many commands may wait. A worker takes them within milliseconds; who fills this has outrun it.
const CAPACITY: usize = 1024;

/// How many connections may wait to be taken over. More are closed.
const ADOPTIONS: usize = 64;

/// A TCP connection that somebody else has accepted.
#[derive(Debug)]
pub(crate) struct Adoption {
    pub(crate) stream: TcpStream,
    /// What was read of it.
    pub(crate) early: Vec<u8>,
    /// Where the worker says whether it takes it.
    pub(crate) answer: flume::Sender<Result<(), AdoptError>>,
}

/// A mailbox: where commands are put in, and where the worker takes them out.
pub(crate) fn mailbox() -> io::Result<(Sender, Receiver)> {
    let (commands, inbox) = flume::bounded(CAPACITY);
    let (adoptions, orphanage) = flume::bounded(ADOPTIONS);
    // The machine's addresses do not change so often that it would need a bound.
    let (announcements, notices) = flume::unbounded();
    let (hatches, new_hatches) = flume::bounded(1);
    let bell = bell()?;
    let sender = Sender { commands, adoptions, announcements, hatches, bell: bell.clone() };
    Ok((sender, Receiver { inbox, orphanage, notices, new_hatches, bell }))
}

/// A bell, by which one thread waits for others.
pub(crate) fn bell() -> io::Result<Arc<Bell>> {
    Ok(Arc::new(Bell {
        eventfd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        stopping: AtomicBool::new(false),
    }))
}

/// The control plane's end. When it is dropped the worker stops.
#[derive(Debug)]
pub(crate) struct Sender {
    commands: flume::Sender<Command>,
    adoptions: flume::Sender<Adoption>,
    announcements: flume::Sender<Vec<Candidate>>,
    hatches: flume::Sender<Vec<Hatch>>,
    bell: Arc<Bell>,
}

/// The worker's end.
#[derive(Debug)]
pub(crate) struct Receiver {
    inbox: flume::Receiver<Command>,
    orphanage: flume::Receiver<Adoption>,
    notices: flume::Receiver<Vec<Candidate>>,
    new_hatches: flume::Receiver<Vec<Hatch>>,
    bell: Arc<Bell>,
}

/// Wakes a worker.
#[derive(Clone, Debug)]
pub(crate) struct Ringer(Arc<Bell>);

impl Ringer {
    /// What rings this bell.
    pub(crate) fn of(bell: &Arc<Bell>) -> Self {
        Self(bell.clone())
    }

    /// The worker wakes, and finds what there is to do.
    pub(crate) fn ring(&self) {
        self.0.ring();
    }

    /// The thread ends.
    pub(crate) fn stop(&self) {
        self.0.stop();
    }
}

/// What a thread waits for, beside its sockets.
#[derive(Debug)]
pub(crate) struct Bell {
    eventfd: OwnedFd,
    stopping: AtomicBool,
}

impl Sender {
    /// Puts a command in; waits while the mailbox is full.
    pub(crate) async fn send(&self, command: Command) -> Result<(), CommandError> {
        self.commands.send_async(command).await.map_err(|_| CommandError::Stopped)?;
        self.bell.ring();
        Ok(())
    }

    /// The same without waiting.
    pub(crate) fn try_send(&self, command: Command) -> Result<(), CommandError> {
        self.commands.try_send(command).map_err(|error| match error {
            flume::TrySendError::Full(_) => CommandError::Busy,
            flume::TrySendError::Disconnected(_) => CommandError::Stopped,
        })?;
        self.bell.ring();
        Ok(())
    }

    /// Hands a connection over; `false` when there is no room for it, or the worker has ended.
    pub(crate) fn adopt(&self, adoption: Adoption) -> bool {
        let taken = self.adoptions.try_send(adoption).is_ok();
        self.bell.ring();
        taken
    }

    /// Says at which addresses clients are to look for the worker from now on.
    pub(crate) fn announce(&self, candidates: Vec<Candidate>) {
        // A worker that has ended announces nothing any more.
        let _ = self.announcements.send(candidates);
        self.bell.ring();
    }

    /// Gives the worker hatches in place of those that it has. Those that it has not looked at yet are in the way of more.
    pub(crate) fn open_hatches(&self, hatches: Vec<Hatch>) {
        let _ = self.hatches.try_send(hatches);
        self.bell.ring();
    }

    /// The bell itself, for others who have something for the worker.
    pub(crate) fn bell(&self) -> io::Result<OwnedFd> {
        self.bell.eventfd.try_clone()
    }

    /// What wakes the worker.
    pub(crate) fn ringer(&self) -> Ringer {
        Ringer(self.bell.clone())
    }

    /// Asks the worker to stop. Never waits for room.
    pub(crate) fn stop(&self) {
        self.bell.stop();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Receiver {
    /// Hands over at most `most` commands, in their order, and none after the first for which `handle` says `false`.
    /// `false` when there may be more: then call again, for the bell does not ring for them again.
    pub(crate) fn take(&self, most: usize, mut handle: impl FnMut(Command) -> bool) -> bool {
        // First the bell, then the queue: a command put in between rings for the next time.
        self.bell.silence();
        for _ in 0..most {
            let Ok(command) = self.inbox.try_recv() else { return true };
            if !handle(command) {
                return false;
            }
        }
        false
    }

    /// The next connection that was handed over. To be called after [`Receiver::take`], which silences the bell, until there
    /// is none.
    pub(crate) fn take_adoption(&self) -> Option<Adoption> {
        self.orphanage.try_recv().ok()
    }

    /// The newest candidates, where there are new ones. To be called after [`Receiver::take`], as above; and before
    /// a command that was sent after them.
    pub(crate) fn take_candidates(&self) -> Option<Vec<Candidate>> {
        self.notices.try_iter().last()
    }

    /// Other hatches in place of those of now. To be called after [`Receiver::take`].
    pub(crate) fn take_hatches(&self) -> Option<Vec<Hatch>> {
        self.new_hatches.try_recv().ok()
    }

    /// Whether the worker is asked to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.bell.is_stopping()
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.eventfd.as_fd()
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

impl Bell {
    fn ring(&self) {
        // It fails only when the counter is full, and then the bell rings anyway.
        let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
    }

    /// Rings for the last time: who waits shall end.
    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.ring();
    }

    /// Whether who waits shall end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Takes note of having rung.
    pub(crate) fn silence(&self) {
        let _ = rustix::io::read(&self.eventfd, &mut [0u8; 8]);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use veche_sfu_core::ids::{ParticipantId, RequestId, RoomId};

    use super::*;
    use crate::poller::{Interest, Poller, Ready, Token};

    fn command(number: u64) -> Command {
        Command::RoomStats { room: RoomId(1), request: RequestId(number), engines: 1 }
    }

    #[test]
    fn a_command_rings_until_all_are_taken() {
        let (sender, receiver) = mailbox().unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&receiver, Token::Mailbox, Interest::Read).unwrap();
        let mut ready = Ready::new();
        let mut rings = |timeout| {
            poller.wait(&mut ready, timeout).unwrap();
            ready.tokens().count() == 1
        };
        assert!(!rings(Duration::ZERO));
        for number in 0..4 {
            sender.try_send(command(number)).unwrap();
        }
        assert!(rings(Duration::from_secs(5)));

        let mut taken = Vec::new();
        let mut take = |command| {
            if let Command::RoomStats { request, .. } = command {
                taken.push(request.0);
            }
            taken.len() != 3
        };
        assert!(!receiver.take(2, &mut take), "two are left");
        assert!(!receiver.take(2, &mut take), "the third was enough");
        assert!(receiver.take(2, &mut take));
        assert_eq!(taken, [0, 1, 2, 3]);
        assert!(!rings(Duration::ZERO));
    }

    #[test]
    fn a_full_mailbox_says_so_and_can_still_be_told_to_stop() {
        let (sender, receiver) = mailbox().unwrap();
        for number in 0..CAPACITY as u64 {
            sender.try_send(command(number)).unwrap();
        }
        assert_eq!(sender.try_send(command(0)), Err(CommandError::Busy));
        assert!(!receiver.is_stopping());
        sender.stop();
        assert!(receiver.is_stopping());
        drop(receiver);
        let last = Command::RemoveParticipant { participant: ParticipantId(1) };
        assert_eq!(sender.try_send(last), Err(CommandError::Stopped));
    }
}
