//! What a client does with its allocation: permissions, channels, and data in indications (RFC 8656 sections 9 to 12).

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use smallvec::SmallVec;

use crate::accounts::Resource;
use crate::allocation::{Allocation, Binding, Transport};
use crate::answer::Answer;
use crate::config::{CHANNEL_LIFETIME, PERMISSION_LIFETIME};
use crate::five_tuple::FiveTuple;
use crate::outbox::{Destination, Outbox};
use crate::refusals::Refusal;
use crate::request::{Family, Request};
use crate::server::Server;
use crate::wire::CHANNELS;

impl Server {
    pub(crate) fn create_permission(
        &mut self,
        now: Instant,
        from: FiveTuple,
        request: &Request<'_>,
        answer: &Answer,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let index = self.index_of(from, now).ok_or(Refusal::AllocationMismatch)?;
        if request.peers.is_empty() {
            return Err(Refusal::BadRequest);
        }
        let allocation = &mut self.allocations[index];
        for peer in &request.peers {
            check_peer(allocation, *peer, now)?;
            if !self.config.peers.allows_some(peer.ip()) {
                return Err(Refusal::ForbiddenPeer);
            }
        }
        grant(allocation, &request.peers, now)?;
        answer.success(out, |_| {});
        Ok(())
    }

    pub(crate) fn channel_bind(
        &mut self,
        now: Instant,
        from: FiveTuple,
        request: &Request<'_>,
        answer: &Answer,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let index = self.index_of(from, now).ok_or(Refusal::AllocationMismatch)?;
        let (Some(number), &[peer]) = (request.channel, &request.peers[..]) else {
            return Err(Refusal::BadRequest);
        };
        if !CHANNELS.contains(&number) {
            return Err(Refusal::BadRequest);
        }
        let allocation = &mut self.allocations[index];
        if allocation.transport == Transport::Tcp {
            return Err(Refusal::BadRequest);
        }
        check_peer(allocation, peer, now)?;
        if !self.config.peers.allows(peer) {
            return Err(Refusal::ForbiddenPeer);
        }
        let ended = allocation.channels.purge(now);
        allocation.holder.give_back(Resource::Channel, ended);
        match allocation.channels.check(number, peer) {
            Binding::Conflict => return Err(Refusal::BadRequest),
            Binding::New if !allocation.holder.take(Resource::Channel) => return Err(Refusal::ChannelQuota),
            Binding::New | Binding::Same => {}
        }
        // Without permission a channel would be deaf: both or none.
        if let Err(reason) = grant(allocation, &[peer], now) {
            if allocation.channels.check(number, peer) == Binding::New {
                allocation.holder.give_back(Resource::Channel, 1);
            }
            return Err(reason);
        }
        let until = now + CHANNEL_LIFETIME;
        allocation.channels.bind(number, peer, until);
        allocation.due = allocation.due.min(until);
        answer.success(out, |_| {});
        Ok(())
    }

    /// A Send indication: nobody is told when it is refused.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        from: FiveTuple,
        request: &Request<'_>,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let index = self.index_of(from, now).ok_or(Refusal::NoAllocation)?;
        let (Some(data), &[peer]) = (request.data, &request.peers[..]) else {
            return Err(Refusal::BadRequest);
        };
        let allocation = &mut self.allocations[index];
        if allocation.transport == Transport::Tcp {
            return Err(Refusal::BadRequest);
        }
        let relay = allocation.relay_to(peer, now).ok_or(Refusal::FamilyMismatch)?;
        if !allocation.permissions.is_granted(peer.ip(), now) {
            return Err(Refusal::NoPermission);
        }
        if !self.config.peers.allows(peer) {
            return Err(Refusal::ForbiddenPeer);
        }
        if !allocation.holder.meter(data.len(), now) {
            return Err(Refusal::Bandwidth);
        }
        allocation.traffic.packets_to_peers += 1;
        allocation.traffic.bytes_to_peers += data.len() as u64;
        let to = Destination::Peer { relay, peer, dont_fragment: request.dont_fragment };
        out.push(to, |bytes| bytes.extend_from_slice(data));
        Ok(())
    }
}

/// Whether there is a relay of the peer's family.
fn check_peer(allocation: &Allocation, peer: SocketAddr, now: Instant) -> Result<(), Refusal> {
    let relay = allocation.relay(Family::of(peer.ip()), now);
    relay.map(|_| ()).ok_or(Refusal::FamilyMismatch)
}

/// Gives or renews permissions: all of them or, where somebody has no room for so many, none.
fn grant(allocation: &mut Allocation, peers: &[SocketAddr], now: Instant) -> Result<(), Refusal> {
    let mut new: SmallVec<[IpAddr; 4]> = SmallVec::new();
    for ip in peers.iter().map(SocketAddr::ip) {
        if allocation.permissions.contains(ip) || new.contains(&ip) {
            continue;
        }
        if !allocation.holder.take(Resource::Permission) {
            allocation.holder.give_back(Resource::Permission, new.len());
            return Err(Refusal::PermissionQuota);
        }
        new.push(ip);
    }
    let until = now + PERMISSION_LIFETIME;
    for peer in peers {
        allocation.permissions.grant(peer.ip(), until);
    }
    allocation.due = allocation.due.min(until);
    Ok(())
}
