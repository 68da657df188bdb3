//! What a server wants done: packets to send and relays to open or close.

use std::net::SocketAddr;

use crate::accounts::Reservation;
use crate::allocation::{AllocationId, RelayId, Transport};
use crate::five_tuple::FiveTuple;
use crate::tcp::ConnectionId;

/// The packets and actions that handling some input has made, in the caller's buffers: kept and cleared, it allocates nothing in
/// the steady state.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The packets, in the order in which they were made.
    bytes: Vec<u8>,
    packets: Vec<PacketAt>,
    runs: Vec<RunAt>,
    /// How often the packets were sent and forgotten: a [`Place`] of before is none.
    generation: u32,
    /// Whether packets of one run have those of others between them.
    scattered: bool,
    /// Where the packets of each run end and, where they were scattered, the packets, run by run.
    ends: Vec<u32>,
    gathered: Vec<u8>,
    cursors: Vec<Cursor>,
    actions: Vec<Action>,
}

#[derive(Clone, Copy, Debug)]
struct PacketAt {
    run: u32,
    len: u32,
}

#[derive(Debug)]
struct RunAt {
    to: Destination,
    bytes: usize,
    packets: usize,
}

/// Where the next packet of a run belongs.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    begin: usize,
    byte: usize,
    packet: usize,
}

/// Where the packets to somebody stand in an outbox: kept with who that is, it saves looking for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    generation: u32,
    run: u32,
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

/// Packets to one destination, in their order. There may be another run to it.
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
        /// What they speak.
        transport: Transport,
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
    /// Connect a relay of TCP with a peer, from the relay's address; to be answered with [`crate::Server::handle_connected`].
    Connect {
        /// As what.
        connection: ConnectionId,
        /// From which relay.
        relay: RelayId,
        /// With whom.
        peer: SocketAddr,
    },
    /// What the client whose packet was handled last sends from now on goes to this connection's peer as it is, and what the peer
    /// sends goes to the client.
    Bind(ConnectionId),
    /// The connection whose packet was handled last belongs to another worker. It gets this packet too.
    Move {
        /// Which worker.
        worker: u16,
    },
    /// Close a connection with a peer, and the client's that it was bound to.
    Disconnect(ConnectionId),
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
        // A place that nothing was put in yet is one of generation 0.
        Self { generation: 1, ..Self::default() }
    }

    /// The packets, gathered by where they go. Those of a run are in the order in which they were made; somebody may have two
    /// runs, since only what was added by [`Self::push_at`] finds the one before.
    pub fn runs(&mut self) -> impl Iterator<Item = Run<'_>> {
        self.gather();
        let Self { bytes, runs, ends, gathered, scattered, .. } = self;
        let (mut bytes, mut ends) = (if *scattered { &gathered[..] } else { &bytes[..] }, &ends[..]);
        runs.iter().map(move |run| {
            let (of_run, others) = bytes.split_at(run.bytes);
            let (ends_of_run, other_ends) = ends.split_at(run.packets);
            (bytes, ends) = (others, other_ends);
            Run { to: run.to, bytes: of_run, ends: ends_of_run }
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
        self.packets.clear();
        self.runs.clear();
        self.scattered = false;
        self.generation = self.generation.wrapping_add(1).max(1);
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Adds a packet, which `write` appends. It is the last so far, whoever it is for.
    pub(crate) fn push(&mut self, to: Destination, write: impl FnOnce(&mut Vec<u8>)) {
        let mut last = Place { generation: self.generation, run: self.runs.len().saturating_sub(1) as u32 };
        self.push_at(to, &mut last, write);
    }

    /// The same, to somebody whose last packets stand at `place`, perhaps.
    pub(crate) fn push_at(&mut self, to: Destination, place: &mut Place, write: impl FnOnce(&mut Vec<u8>)) {
        let known = self.runs.get(place.run as usize);
        let is_known = place.generation == self.generation && known.is_some_and(|run| run.to == to);
        if !is_known {
            *place = Place { generation: self.generation, run: self.runs.len() as u32 };
            self.runs.push(RunAt { to, bytes: 0, packets: 0 });
        }
        let begin = self.bytes.len();
        write(&mut self.bytes);
        let len = self.bytes.len() - begin;
        self.scattered |= place.run as usize + 1 != self.runs.len();
        self.packets.push(PacketAt { run: place.run, len: len as u32 });
        let run = &mut self.runs[place.run as usize];
        run.bytes += len;
        run.packets += 1;
    }

    /// Puts the packets of each run one behind the other, and finds out where each ends.
    fn gather(&mut self) {
        let Self { bytes, packets, runs, ends, gathered, cursors, scattered, .. } = self;
        cursors.clear();
        let (mut byte, mut packet) = (0, 0);
        for run in runs.iter() {
            cursors.push(Cursor { begin: byte, byte, packet });
            byte += run.bytes;
            packet += run.packets;
        }
        ends.resize(packets.len(), 0);
        // What lies there is written over: it need not be cleared.
        if *scattered && gathered.len() < bytes.len() {
            gathered.resize(bytes.len(), 0);
        }
        let mut rest = &bytes[..];
        for packet in packets.iter() {
            let (data, others) = rest.split_at(packet.len as usize);
            rest = others;
            let cursor = &mut cursors[packet.run as usize];
            if *scattered {
                gathered[cursor.byte..cursor.byte + data.len()].copy_from_slice(data);
            }
            cursor.byte += data.len();
            ends[cursor.packet] = (cursor.byte - cursor.begin) as u32;
            cursor.packet += 1;
        }
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

    #[test]
    fn packets_to_somebody_known_are_gathered_whatever_comes_between() {
        let to = |port| {
            let remote = SocketAddr::from(([192, 0, 2, 1], port));
            Destination::Client(FiveTuple { remote, link: Link::Stream(0) })
        };
        let mut outbox = Outbox::new();
        let mut places = [Place::default(); 3];
        for round in 0..3 {
            for text in ["a", "bcd", "", "ef"] {
                for (port, place) in (0..).zip(&mut places) {
                    let text = format!("{port}{text}");
                    outbox.push_at(to(port), place, |bytes| bytes.extend_from_slice(text.as_bytes()));
                }
            }
            // The run that a place names may be somebody else's.
            let mut other = Place { generation: outbox.generation, run: 0 };
            outbox.push_at(to(9), &mut other, |bytes| bytes.push(b'9'));
            let of_run =
                |run: Run<'_>| (run.to, String::from_utf8_lossy(run.bytes).into_owned(), run.ends.to_vec());
            let runs: Vec<_> = outbox.runs().map(of_run).collect();
            let expected = |port| (to(port), format!("{port}a{port}bcd{port}{port}ef"), vec![2, 6, 7, 10]);
            let expected = [expected(0), expected(1), expected(2), (to(9), "9".to_owned(), vec![1])];
            assert_eq!(runs, expected, "round {round}");
            outbox.clear_packets();
        }
    }
}
