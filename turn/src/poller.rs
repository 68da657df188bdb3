//! Waiting for sockets: epoll, with every source named by a [`Token`].

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use veche_turn_core::RelayId;

/// What became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// This one of the worker's listening sockets or, first of all, its mailbox.
    Fixed(Fixed),
    /// A relay.
    Relay(RelayId),
    /// A connection.
    Stream(u64),
}

/// Sources that are there from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fixed {
    /// Commands wait.
    Mailbox,
    /// Datagrams wait at this UDP socket.
    Udp(u16),
    /// Clients wait at this TCP listener.
    Listener(u16),
}

/// How many sources one wait reports. The others are reported by the next: readiness is by level.
const MAX_READY: usize = 512;

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

    /// Waits until there is something to read at `source`; of room to write too, with `write`.
    pub(crate) fn add(&self, source: impl AsFd, token: Token) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, source, token.to_data(), flags(false))?)
    }

    /// Changes whether room to write is waited for.
    pub(crate) fn modify(&self, source: impl AsFd, token: Token, write: bool) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, source, token.to_data(), flags(write))?)
    }

    /// Waits for `source` no more. Closing a source does the same.
    pub(crate) fn remove(&self, source: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, source)?)
    }

    /// Waits until a source is ready, at most for `timeout`.
    pub(crate) fn wait(&self, ready: &mut Ready, timeout: Duration) -> io::Result<()> {
        ready.0.clear();
        let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        match epoll::wait(&self.epoll, spare_capacity(&mut ready.0), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn flags(write: bool) -> epoll::EventFlags {
    if write { epoll::EventFlags::IN | epoll::EventFlags::OUT } else { epoll::EventFlags::IN }
}

impl Ready {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(MAX_READY))
    }

    pub(crate) fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        self.tokens_from(0)
    }

    /// The same, beginning at some place, after whose end come those before it.
    pub(crate) fn tokens_from(&self, place: usize) -> impl Iterator<Item = Token> + '_ {
        let (before, after) = self.0.split_at(place % self.0.len().max(1));
        after.iter().chain(before).map(|event| Token::from_data(event.data))
    }
}

/// The two lowest bits tell the kind, the others the number.
impl Token {
    fn to_data(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Token::Fixed(Fixed::Mailbox) => 0,
            Token::Fixed(Fixed::Udp(index)) => u64::from(index) << 3 | 4,
            Token::Fixed(Fixed::Listener(index)) => (u64::from(index) + 1) << 3,
            Token::Relay(relay) => relay.to_bits() << 2 | 1,
            Token::Stream(id) => id << 2 | 2,
        })
    }

    fn from_data(data: epoll::EventData) -> Self {
        let data = data.u64();
        match (data & 3, data & 4) {
            (1, _) => Token::Relay(RelayId::from_bits(data >> 2)),
            (2, _) => Token::Stream(data >> 2),
            (_, 4) => Token::Fixed(Fixed::Udp((data >> 3) as u16)),
            _ => match data >> 3 {
                0 => Token::Fixed(Fixed::Mailbox),
                index => Token::Fixed(Fixed::Listener((index - 1) as u16)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        for token in [
            Token::Fixed(Fixed::Mailbox),
            Token::Fixed(Fixed::Udp(0)),
            Token::Fixed(Fixed::Udp(7)),
            Token::Fixed(Fixed::Listener(0)),
            Token::Fixed(Fixed::Listener(7)),
            Token::Relay(RelayId::from_bits(0)),
            Token::Relay(RelayId::from_bits((1 << 62) - 1)),
            Token::Stream(77),
        ] {
            assert_eq!(Token::from_data(token.to_data()), token);
        }
    }
}
