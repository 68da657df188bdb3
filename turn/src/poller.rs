//! Waiting for sockets: epoll, with every source named by a [`Token`].

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use veche_turn_core::{ConnectionId, RelayId};

/// What became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// This one of the worker's listening sockets or, first of all, its mailbox.
    Fixed(Fixed),
    /// A relay.
    Relay(RelayId),
    /// A relay that has errors, and maybe packets too.
    Failed(RelayId),
    /// A client's connection.
    Stream(u64),
    /// A connection with a peer.
    Peer(ConnectionId),
}

/// What is waited for at a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Interest {
    /// Something to read.
    pub(crate) const READ: Self = Self { read: true, write: false };
    /// Room to write.
    pub(crate) const WRITE: Self = Self { read: false, write: true };
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

    /// Waits until there is something to read at `source`.
    pub(crate) fn add(&self, source: impl AsFd, token: Token) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, source, token.to_data(), flags(Interest::READ))?)
    }

    /// Changes what is waited for, where it is another thing. Of a source at which nothing is waited for not even its end is told.
    pub(crate) fn change(
        &self,
        source: impl AsFd,
        token: Token,
        now: &mut Interest,
        wanted: Interest,
    ) -> io::Result<()> {
        let none = Interest::default();
        if *now == wanted {
            return Ok(());
        } else if wanted == none {
            epoll::delete(&self.epoll, source)?;
        } else if *now == none {
            epoll::add(&self.epoll, source, token.to_data(), flags(wanted))?;
        } else {
            epoll::modify(&self.epoll, source, token.to_data(), flags(wanted))?;
        }
        *now = wanted;
        Ok(())
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

fn flags(interest: Interest) -> epoll::EventFlags {
    let mut flags = epoll::EventFlags::empty();
    flags.set(epoll::EventFlags::IN, interest.read);
    flags.set(epoll::EventFlags::OUT, interest.write);
    flags
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
        after.iter().chain(before).map(Token::of)
    }
}

/// The two lowest bits tell the kind, the others the number.
impl Token {
    fn of(event: &epoll::Event) -> Self {
        match Self::from_data(event.data) {
            Token::Relay(relay) if { event.flags }.contains(epoll::EventFlags::ERR) => Token::Failed(relay),
            token => token,
        }
    }

    fn to_data(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Token::Fixed(Fixed::Mailbox) => 0,
            Token::Fixed(Fixed::Udp(index)) => u64::from(index) << 3 | 4,
            Token::Fixed(Fixed::Listener(index)) => (u64::from(index) + 1) << 3,
            // Relays are waited for as such only.
            Token::Relay(relay) | Token::Failed(relay) => relay.to_bits() << 2 | 1,
            Token::Stream(id) => id << 2 | 2,
            Token::Peer(id) => u64::from(id.to_bits()) << 2 | 3,
        })
    }

    fn from_data(data: epoll::EventData) -> Self {
        let data = data.u64();
        match (data & 3, data & 4) {
            (1, _) => Token::Relay(RelayId::from_bits(data >> 2)),
            (2, _) => Token::Stream(data >> 2),
            (3, _) => Token::Peer(ConnectionId::from_bits((data >> 2) as u32)),
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
            Token::Peer(ConnectionId::from_bits(u32::MAX)),
        ] {
            assert_eq!(Token::from_data(token.to_data()), token);
        }
    }
}
