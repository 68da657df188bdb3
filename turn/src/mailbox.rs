//! The queue of commands to a worker, which wakes it.

use std::collections::VecDeque;
use std::io;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use veche_turn_core::{Credentials, PeerPolicy};

use crate::hatches::Hatches;

/// While so many commands wait, connections that are handed over are closed. What the operator says always finds room.
const MANY: usize = 256;

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Others may use the server from now on.
    SetCredentials(Arc<Credentials>),
    /// Relays may reach others from now on.
    SetPeers(PeerPolicy),
    /// Whether there are relays of IPv4 and of IPv6 from now on.
    SetFamilies([bool; 2]),
    /// Take this connection, of which some bytes were read already.
    Adopt(Box<Adoption>),
    /// Take clients at these sockets too, which are bound already.
    Listen(Vec<UdpSocket>),
    /// Give packets for media to the media workers by these, and take theirs.
    Connect(Hatches),
}

/// A connection that somebody else has accepted.
#[derive(Debug)]
pub(crate) struct Adoption {
    pub(crate) stream: TcpStream,
    pub(crate) tls: Option<rustls::ServerConnection>,
    /// What was read of it, of the TLS session's contents where there is one.
    pub(crate) early: Vec<u8>,
    /// What waits for the client.
    pub(crate) queue: VecDeque<u8>,
    /// When it came, where that was to another worker.
    pub(crate) since: Option<Instant>,
    /// Where the worker says that it takes it, if somebody waits for that. Dropped: it does not.
    pub(crate) taken: Option<flume::Sender<()>>,
}

/// A mailbox: where commands are put in, and where the worker takes them out.
pub(crate) fn mailbox() -> io::Result<(Sender, Receiver)> {
    let (commands, inbox) = flume::unbounded();
    let bell = Arc::new(Bell {
        eventfd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        stopping: AtomicBool::new(false),
    });
    Ok((Sender { courier: Courier { commands, bell: bell.clone() } }, Receiver { inbox, bell }))
}

/// The end outside. When it is dropped the worker stops.
#[derive(Debug)]
pub(crate) struct Sender {
    courier: Courier,
}

/// Puts commands in too, but the worker need not live for it: what workers have of each other.
#[derive(Clone, Debug)]
pub(crate) struct Courier {
    commands: flume::Sender<Command>,
    bell: Arc<Bell>,
}

/// The worker's end.
#[derive(Debug)]
pub(crate) struct Receiver {
    inbox: flume::Receiver<Command>,
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct Bell {
    eventfd: OwnedFd,
    stopping: AtomicBool,
}

impl Sender {
    /// See [`Courier::send`].
    pub(crate) fn send(&self, command: Command) -> bool {
        self.courier.send(command)
    }

    /// For another worker.
    pub(crate) fn courier(&self) -> Courier {
        self.courier.clone()
    }

    /// The bell itself, for others who have something for the worker.
    pub(crate) fn bell(&self) -> io::Result<OwnedFd> {
        self.courier.bell.eventfd.try_clone()
    }

    /// Asks the worker to stop. Never waits for room.
    pub(crate) fn stop(&self) {
        self.courier.bell.stopping.store(true, Ordering::Release);
        self.courier.bell.ring();
    }
}

impl Courier {
    /// Puts a command in; `false` when the worker is gone, or has too many connections to take already.
    pub(crate) fn send(&self, command: Command) -> bool {
        if matches!(command, Command::Adopt(_)) && self.commands.len() >= MANY {
            return false;
        }
        let sent = self.commands.try_send(command).is_ok();
        self.bell.ring();
        sent
    }
}

impl Bell {
    fn ring(&self) {
        // It fails when it has rung 2^64 times without being heard.
        let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Receiver {
    /// The commands that wait, but no more than so many: the bell goes on ringing for the others.
    pub(crate) fn take(&self, most: usize) -> Vec<Command> {
        // First the bell, then the queue: a command put in between rings again.
        let _ = rustix::io::read(&self.bell.eventfd, &mut [0; 8]);
        let commands = self.inbox.try_iter().take(most).collect();
        if !self.inbox.is_empty() {
            self.bell.ring();
        }
        commands
    }

    /// Whether the worker is asked to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.bell.stopping.load(Ordering::Acquire)
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.eventfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    #[test]
    fn what_is_left_for_another_turn_rings_again() {
        let (sender, receiver) = mailbox().unwrap();
        for _ in 0..20 {
            assert!(sender.send(Command::SetPeers(PeerPolicy::default())));
        }
        let is_ringing =
            || poll(&mut [PollFd::new(&receiver, PollFlags::IN)], Some(&Timespec::default())).unwrap() == 1;
        assert_eq!((is_ringing(), receiver.take(16).len()), (true, 16));
        assert_eq!((is_ringing(), receiver.take(16).len()), (true, 4));
        assert!(!is_ringing() && receiver.take(16).is_empty());
    }
}
