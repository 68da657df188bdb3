//! An allocation: a client's relays, whom they may reach, and by which channels (RFC 8656 section 5).

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use smallvec::SmallVec;
use veche_stun::TransactionId;

use crate::accounts::{Holder, Traffic};
use crate::credentials::LongTermKey;
use crate::five_tuple::FiveTuple;
use crate::outbox::{Place, ReservationToken};
use crate::refusals::Refusal;
use crate::request::Family;
use crate::tcp::PeerConnection;

/// Which allocation. A number is not used again until 2^29 others of its place have gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AllocationId(pub(crate) u64);

/// Which relay of which allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayId(u64);

impl AllocationId {
    pub(crate) fn new(index: usize, generation: u32) -> Self {
        Self(u64::from(generation & 0x1fff_ffff) << 32 | index as u64)
    }

    pub(crate) fn index(self) -> usize {
        self.0 as u32 as usize
    }

    /// The relay of an allocation in a family of addresses.
    pub fn relay(self, is_v6: bool) -> RelayId {
        RelayId(self.0 << 1 | u64::from(is_v6))
    }
}

impl RelayId {
    /// As a number of at most 62 bits.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// From [`RelayId::to_bits`].
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Whose it is.
    pub fn allocation(self) -> AllocationId {
        AllocationId(self.0 >> 1)
    }

    /// Whether its address is one of IPv6.
    pub fn is_v6(self) -> bool {
        self.0 & 1 == 1
    }
}

/// Everything that a client has.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) id: AllocationId,
    pub(crate) client: FiveTuple,
    /// The name and key that it was made with, and that everything about it has to be signed with.
    pub(crate) name: Box<str>,
    pub(crate) key: LongTermKey,
    pub(crate) holder: Holder,
    /// The request that made it: when it comes again, the answer is given again.
    pub(crate) transaction: TransactionId,
    /// Until the relays are open: how to answer.
    pub(crate) pending: Option<Pending>,
    pub(crate) reservation: Option<ReservationToken>,
    /// The family of which there is no relay although both were asked for, and why.
    pub(crate) failed: Option<(Family, Refusal)>,
    pub(crate) transport: Transport,
    pub(crate) relays: [Option<Relay>; 2],
    pub(crate) permissions: Permissions,
    pub(crate) channels: Channels,
    /// Connections between its relays and peers, where those speak TCP.
    pub(crate) connections: Vec<PeerConnection>,
    pub(crate) traffic: Traffic,
    /// Where what waits for the client stands.
    pub(crate) waiting: Place,
    /// When something of it ends, or earlier.
    pub(crate) due: Instant,
}

/// What relays speak with peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Connections (RFC 6062).
    Tcp,
}

/// A relay that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Relay {
    /// As peers see it.
    pub(crate) address: SocketAddr,
    pub(crate) expires: Instant,
}

/// What is to be said when the relays are open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) sha256: bool,
    pub(crate) fingerprint: bool,
    pub(crate) lifetime: u32,
    /// Whether relays of both families were asked for.
    pub(crate) dual: bool,
}

impl Allocation {
    /// The relay in a family of addresses, if it lives.
    pub(crate) fn relay(&self, family: Family, now: Instant) -> Option<Relay> {
        self.relays[family as usize].filter(|relay| now < relay.expires)
    }

    /// The relay that can reach a peer.
    pub(crate) fn relay_to(&self, peer: SocketAddr, now: Instant) -> Option<RelayId> {
        let family = Family::of(peer.ip());
        self.relay(family, now).map(|_| self.id.relay(family == Family::V6))
    }

    /// Whether nothing of it lives.
    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        self.pending.is_none() && self.relays.iter().flatten().all(|relay| relay.expires <= now)
    }

    /// When the next thing of it ends.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let relays = self.relays.iter().flatten().map(|relay| relay.expires);
        let connections = self.connections.iter().filter_map(PeerConnection::until);
        relays.chain(self.permissions.ends()).chain(self.channels.ends()).chain(connections).min()
    }
}

impl Family {
    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// Whom the relays may reach, and until when; few, and in order.
#[derive(Debug, Default)]
pub(crate) struct Permissions(SmallVec<[(IpAddr, Instant); 2]>);

impl Permissions {
    pub(crate) fn is_granted(&self, address: IpAddr, now: Instant) -> bool {
        self.find(address).is_ok_and(|index| now < self.0[index].1)
    }

    /// Whether there is an entry, which may have ended.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.find(address).is_ok()
    }

    pub(crate) fn grant(&mut self, address: IpAddr, until: Instant) {
        match self.find(address) {
            Ok(index) => self.0[index].1 = until,
            Err(index) => self.0.insert(index, (address, until)),
        }
    }

    /// Forgets what has ended; returns how many.
    pub(crate) fn purge(&mut self, now: Instant) -> usize {
        let before = self.0.len();
        self.0.retain(|(_, until)| now < *until);
        before - self.0.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn ends(&self) -> impl Iterator<Item = Instant> {
        self.0.iter().map(|(_, until)| *until)
    }

    fn find(&self, address: IpAddr) -> Result<usize, usize> {
        self.0.binary_search_by(|(entry, _)| entry.cmp(&address))
    }
}

/// Numbers for peers; found by either.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    by_number: Vec<Channel>,
    number_by_peer: Vec<(SocketAddr, u16)>,
}

#[derive(Clone, Copy, Debug)]
struct Channel {
    number: u16,
    peer: SocketAddr,
    until: Instant,
    /// Where what waits for the peer stands.
    waiting: Place,
}

/// What binding a channel would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// A new one.
    New,
    /// It is bound so already.
    Same,
    /// The number is another peer's, or the peer has another number.
    Conflict,
}

impl Channels {
    /// Where a channel that lives stands, until one is bound or ends.
    pub(crate) fn index(&self, number: u16, now: Instant) -> Option<usize> {
        self.find(number).ok().filter(|&index| now < self.by_number[index].until)
    }

    /// Whose channel it is.
    pub(crate) fn peer(&self, index: usize) -> SocketAddr {
        self.by_number[index].peer
    }

    /// Where what waits for the peer stands.
    pub(crate) fn waiting(&mut self, index: usize) -> &mut Place {
        &mut self.by_number[index].waiting
    }

    /// Which channel this peer has.
    pub(crate) fn number(&self, peer: SocketAddr, now: Instant) -> Option<u16> {
        let number = self.number_by_peer[self.find_peer(peer).ok()?].1;
        self.index(number, now).map(|_| number)
    }

    /// What [`Channels::bind`] would do. What has ended is to be purged before.
    pub(crate) fn check(&self, number: u16, peer: SocketAddr) -> Binding {
        match (self.find(number), self.find_peer(peer)) {
            (Err(_), Err(_)) => Binding::New,
            (Ok(index), Ok(_)) if self.by_number[index].peer == peer => Binding::Same,
            _ => Binding::Conflict,
        }
    }

    pub(crate) fn bind(&mut self, number: u16, peer: SocketAddr, until: Instant) {
        match self.find(number) {
            Ok(index) => self.by_number[index].until = until,
            Err(index) => {
                let waiting = Place::default();
                self.by_number.insert(index, Channel { number, peer, until, waiting });
            }
        }
        if let Err(index) = self.find_peer(peer) {
            self.number_by_peer.insert(index, (peer, number));
        }
    }

    /// Forgets what has ended; returns how many.
    pub(crate) fn purge(&mut self, now: Instant) -> usize {
        let before = self.by_number.len();
        self.by_number.retain(|channel| now < channel.until);
        let ended = before - self.by_number.len();
        if ended > 0 {
            let left = &self.by_number;
            let lives = |number: u16| left.binary_search_by_key(&number, |channel| channel.number).is_ok();
            self.number_by_peer.retain(|(_, number)| lives(*number));
        }
        ended
    }

    pub(crate) fn len(&self) -> usize {
        self.by_number.len()
    }

    fn ends(&self) -> impl Iterator<Item = Instant> {
        self.by_number.iter().map(|channel| channel.until)
    }

    fn find(&self, number: u16) -> Result<usize, usize> {
        self.by_number.binary_search_by_key(&number, |channel| channel.number)
    }

    fn find_peer(&self, peer: SocketAddr) -> Result<usize, usize> {
        self.number_by_peer.binary_search_by(|(entry, _)| entry.cmp(&peer))
    }
}
