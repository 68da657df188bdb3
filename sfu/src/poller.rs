//! Waiting for sockets: epoll, with every source named by a [`Token`].

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use veche_sfu_core::path::ConnectionId;

/// What became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// Commands wait in the mailbox.
    Mailbox,
    /// Datagrams wait in this one of the worker's UDP sockets.
    Udp(usize),
    /// Clients wait at this one of the worker's TCP listeners.
    Listener(usize),
    /// A TCP connection has bytes to read, room to write, or has ended.
    Connection(ConnectionId),
}

/// What to wait for at a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Something to read.
    Read,
    /// Something to read, or room to write.
    ReadWrite,
}

/// How many sources one wait reports. The others are reported by the next wait: readiness is by level.
const MAX_READY: usize = 128;

/// One worker's epoll instance.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
}

/// The sources that a wait found ready; kept between waits so that none allocates.
pub(crate) struct Ready(Vec<epoll::Event>);

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Waits for `source` from now on.
    pub(crate) fn add(&self, source: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, source, token.to_data(), interest.flags())?)
    }

    /// Changes what is waited for.
    pub(crate) fn modify(&self, source: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, source, token.to_data(), interest.flags())?)
    }

    /// Waits for `source` no more. Closing a source does the same.
    pub(crate) fn remove(&self, source: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, source)?)
    }

    /// Waits until a source is ready, at most for `timeout` (rounded up to a millisecond).
    pub(crate) fn wait(&self, ready: &mut Ready, timeout: Duration) -> io::Result<()> {
        ready.0.clear();
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        match epoll::wait(&self.epoll, spare_capacity(&mut ready.0), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Ready {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(MAX_READY))
    }

    pub(crate) fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        self.0.iter().map(|event| Token::from_data(event.data))
    }
}

impl Interest {
    fn flags(self) -> epoll::EventFlags {
        match self {
            Interest::Read => epoll::EventFlags::IN,
            Interest::ReadWrite => epoll::EventFlags::IN | epoll::EventFlags::OUT,
        }
    }
}

/// The two lowest bits tell the kind, the others the number.
impl Token {
    fn to_data(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Token::Mailbox => 0,
            Token::Udp(index) => (index as u64) << 2 | 1,
            Token::Listener(index) => (index as u64) << 2 | 2,
            Token::Connection(ConnectionId(id)) => id << 2 | 3,
        })
    }

    fn from_data(data: epoll::EventData) -> Self {
        let data = data.u64();
        let number = data >> 2;
        match data & 3 {
            0 => Token::Mailbox,
            1 => Token::Udp(number as usize),
            2 => Token::Listener(number as usize),
            _ => Token::Connection(ConnectionId(number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        for token in [
            Token::Mailbox,
            Token::Udp(0),
            Token::Udp(3),
            Token::Listener(1),
            Token::Connection(ConnectionId(77)),
        ] {
            assert_eq!(Token::from_data(token.to_data()), token);
        }
    }

    #[test]
    fn a_wait_ends_when_a_source_is_ready_and_names_it() {
        let poller = Poller::new().unwrap();
        let mut ready = Ready::new();
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        poller.add(&near, Token::Udp(5), Interest::Read).unwrap();
        poller.wait(&mut ready, Duration::ZERO).unwrap();
        assert_eq!(ready.tokens().count(), 0);
        io::Write::write_all(&mut &far, b"x").unwrap();
        poller.wait(&mut ready, Duration::from_secs(5)).unwrap();
        assert_eq!(ready.tokens().collect::<Vec<_>>(), [Token::Udp(5)]);
    }
}
