//! Carrying bytes between a client's connection and the one with a peer that it is bound to, both ways.

use crate::connection::{CloseReason, Connection};
use crate::poller::Interest;
use crate::tcp_relays::Peer;

/// When so many bytes wait for somebody, nothing more is read of the other, who has to wait too.
const MAX_WAITING: usize = 64 << 10;

/// What was carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) to_peer: usize,
    pub(crate) to_client: usize,
    /// Whether something came from one of them, or one of them took something.
    pub(crate) has_moved: bool,
    /// Whether one of them will send no more.
    pub(crate) is_half_closed: bool,
    /// Whether both have said, and were told, that no more will come.
    pub(crate) is_over: bool,
}

/// Carries what there is, once each way; `may_take` says whether anything may be read. An error ends both connections.
pub(crate) fn carry(
    client: &mut Connection,
    peer: &mut Peer,
    may_take: bool,
    scratch: &mut [u8],
) -> Result<Carried, CloseReason> {
    let mut carried = Carried::default();
    let waiting = client.queued() + peer.queue.len();
    client.write()?;
    peer.write()?;
    let (from_client, from_peer) = sources(client, peer, may_take);
    if from_client {
        carried.to_peer = client.read_bound(scratch, &mut peer.queue)?;
    }
    if from_peer {
        let room = scratch.len() / 2;
        if let Some(bytes) = peer.read(&mut scratch[..room])? {
            carried.to_client = bytes.len();
            if !client.put(bytes) {
                return Err(CloseReason::Slow);
            }
        }
    }
    client.write()?;
    peer.write()?;
    if client.has_ended {
        peer.finish()?;
    }
    if peer.has_ended {
        client.finish()?;
    }
    let has_read = carried.to_peer + carried.to_client > 0;
    carried.has_moved = has_read || client.queued() + peer.queue.len() < waiting;
    carried.is_half_closed = client.has_ended || peer.has_ended;
    carried.is_over = peer.is_finished && client.is_finished;
    Ok(carried)
}

/// What is to be waited for at the client's connection and at the peer's.
pub(crate) fn interests(client: &Connection, peer: &Peer, may_take: bool) -> (Interest, Interest) {
    let (from_client, from_peer) = sources(client, peer, may_take);
    let of_client = Interest { read: from_client, write: client.queued() > 0 };
    let of_peer = Interest { read: from_peer, write: !peer.queue.is_empty() };
    (of_client, of_peer)
}

/// Whether the client's connection may be read, and whether the peer's.
fn sources(client: &Connection, peer: &Peer, may_take: bool) -> (bool, bool) {
    let from_client = may_take && !client.has_ended && peer.queue.len() < MAX_WAITING;
    (from_client, may_take && !peer.has_ended && client.queued() < MAX_WAITING)
}
