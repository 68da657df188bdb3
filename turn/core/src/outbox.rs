//! What a server wants done: packets to send and relays to open or close.

use std::net::SocketAddr;

use crate::accounts::Reservation;
use crate::allocation::{AllocationId, RelayId};
use crate::five_tuple::FiveTuple;

/// The packets and actions that handling some input has made, in the caller's buffers: kept and cleared, it allocates nothing in
/// the steady state.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    runs: Vec<RunAt>,
    ends: Vec<u32>,
    actions: Vec<Action>,
}

#[derive(Debug)]
struct RunAt {
    to: Destination,
    start: usize,
    first_end: usize,
}

/// Where packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To a client, the way it came.
    Client(FiveTuple),
    /// From a relay to a peer.
    Peer {
        /// From which relay.
        relay: RelayId,
        /// To whom.
        peer: SocketAddr,
        /// Whether no router on the way may cut it (RFC 8656 section 15).
        dont_fragment: bool,
    },
}

/// Packets that follow each other to one destination.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// Where they go.
    pub to: Destination,
    /// One behind the other.
    pub bytes: &'a [u8],
    /// Where in `bytes` each of them ends.
    pub ends: &'a [u32],
}

/// What is to be done with sockets. [`Action::Open`] is to be answered with [`crate::Server::handle_opened`] before any other
/// input; relays are closed after the packets of this outbox were sent.
#[derive(Debug)]
pub enum Action {
    /// Open one or two relays.
    Open {
        /// Whose.
        allocation: AllocationId,
        /// One with an IPv4 address.
        v4: bool,
        /// One with an IPv6 address.
        v6: bool,
        /// Which ports.
        ports: Ports,
        /// What the next port counts as, with [`Ports::EvenAndNext`]: to be kept for as long as that is reserved.
        reservation: Option<Reservation>,
    },
    /// Close a relay.
    Close(RelayId),
}

/// Which port a relay is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Any that is free.
    Any,
    /// An even one.
    Even,
    /// An even one, and the next is kept for whoever shows the token.
    EvenAndNext,
    /// The one that is kept under this token.
    Reserved(ReservationToken),
}

/// What a port is reserved under (RFC 8656 section 18.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReservationToken(pub [u8; 8]);

/// What became of [`Action::Open`]: the addresses as peers see them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The relay's IPv4 address.
    pub v4: Option<SocketAddr>,
    /// The relay's IPv6 address.
    pub v6: Option<SocketAddr>,
    /// The token of the next port, where it was asked for.
    pub reservation: Option<ReservationToken>,
}

impl Outbox {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// The packets, in the order in which they were made.
    pub fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        self.runs.iter().enumerate().map(|(index, run)| {
            let next = self.runs.get(index + 1);
            let end = next.map_or(self.bytes.len(), |next| next.start);
            let last_end = next.map_or(self.ends.len(), |next| next.first_end);
            Run { to: run.to, bytes: &self.bytes[run.start..end], ends: &self.ends[run.first_end..last_end] }
        })
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing to send and nothing to do.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.actions.is_empty()
    }

    /// What is to be done, in its order. Then forgotten.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Forgets the packets, when they were sent.
    pub fn clear_packets(&mut self) {
        self.bytes.clear();
        self.runs.clear();
        self.ends.clear();
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Adds a packet, which `write` appends.
    pub(crate) fn push(&mut self, to: Destination, write: impl FnOnce(&mut Vec<u8>)) {
        if self.runs.last().is_none_or(|run| run.to != to) {
            self.runs.push(RunAt { to, start: self.bytes.len(), first_end: self.ends.len() });
        }
        let start = self.runs.last().map_or(0, |run| run.start);
        write(&mut self.bytes);
        self.ends.push((self.bytes.len() - start) as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::five_tuple::Link;

    #[test]
    fn packets_to_one_destination_form_a_run() {
        let to = |port| {
            let remote = SocketAddr::from(([192, 0, 2, 1], port));
            Destination::Client(FiveTuple { remote, link: Link::Stream(0) })
        };
        let mut outbox = Outbox::new();
        for (port, text) in [(1, "ab"), (1, "c"), (2, ""), (1, "def")] {
            outbox.push(to(port), |bytes| bytes.extend_from_slice(text.as_bytes()));
        }
        let runs: Vec<_> = outbox.runs().map(|run| (run.to, run.bytes.to_vec(), run.ends.to_vec())).collect();
        let expected = [(1, &b"abc"[..], &[2, 3][..]), (2, b"", &[0]), (1, b"def", &[3])];
        assert_eq!(runs, expected.map(|(port, bytes, ends)| (to(port), bytes.to_vec(), ends.to_vec())));
        outbox.clear_packets();
        assert_eq!((outbox.is_empty(), outbox.runs().count(), outbox.len()), (true, 0, 0));
    }
}
