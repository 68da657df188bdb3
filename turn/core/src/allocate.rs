//! Making an allocation (RFC 8656 section 7.2, RFC 6062 section 5.1) and living on (section 8.2).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use veche_stun::attribute::XOR_MAPPED_ADDRESS;
use veche_stun::{Writer, address};

use crate::accounts::{Holder, Reservation, Traffic};
use crate::allocation::{Allocation, AllocationId, Channels, Pending, Permissions, Relay, Transport};
use crate::answer::{Answer, Detail, Signer};
use crate::authentication::Authentic;
use crate::credentials::user_of;
use crate::five_tuple::FiveTuple;
use crate::outbox::{Action, Opened, Outbox, Place, Ports};
use crate::refusals::Refusal;
use crate::request::{Family, Request};
use crate::server::Server;
use crate::wire::{TCP, UDP, attribute, method};

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wish {
    v4: bool,
    v6: bool,
    ports: Ports,
    transport: Transport,
}

impl Server {
    pub(crate) fn allocate(
        &mut self,
        now: Instant,
        from: FiveTuple,
        request: &Request<'_>,
        authentic: Authentic,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        if let Some(own) = self.allocation_of(from, now) {
            // The answer was lost: it is given again.
            let is_again = own.transaction == request.transaction && *own.name == *authentic.name;
            if is_again && own.pending.is_none() {
                let answer = Answer::new(from, request, Some(authentic.signer));
                let own = own.id.index();
                self.tell_allocated(own, now, &answer, out);
                return Ok(());
            }
            return Err(Refusal::AllocationMismatch);
        }
        let Wish { mut v4, mut v6, ports, transport } = wish(request)?;
        if transport == Transport::Tcp && !self.config.tcp_relays {
            return Err(Refusal::UnsupportedTransport);
        }
        if transport == Transport::Tcp && !from.is_stream() {
            return Err(Refusal::BadRequest);
        }
        let dual = request.additional_family.is_some();
        (v4, v6) = (v4 && self.config.v4, v6 && self.config.v6);
        if !v4 && !v6 {
            return Err(Refusal::UnsupportedFamily);
        }
        self.remove_of(from, out);
        let (holder, reservation) = match self.count(user_of(&authentic.name), from, ports) {
            Err(Refusal::TotalQuota) if self.alternate(from).is_some() => return Err(Refusal::TryAlternate),
            counted => counted?,
        };
        let lifetime = self.lifetime(request.lifetime);
        let pending = Pending {
            sha256: authentic.signer.sha256,
            fingerprint: request.fingerprint,
            lifetime: lifetime.as_secs() as u32,
            dual,
        };
        let id = self.insert(|id| Allocation {
            id,
            client: from,
            name: authentic.name,
            key: authentic.signer.key,
            holder,
            transaction: request.transaction,
            pending: Some(pending),
            reservation: None,
            failed: None,
            transport,
            relays: [None; 2],
            permissions: Permissions::default(),
            channels: Channels::default(),
            connections: Vec::new(),
            traffic: Traffic::default(),
            waiting: Place::default(),
            due: now + lifetime,
        });
        out.act(Action::Open { allocation: id, transport, v4, v6, ports, reservation });
        Ok(())
    }

    /// Has the accounts count an allocation, and the port that it wants reserved.
    fn count(
        &self,
        user: &str,
        client: FiveTuple,
        ports: Ports,
    ) -> Result<(Holder, Option<Reservation>), Refusal> {
        let address = client.remote.ip();
        match ports {
            // It takes the place of the reservation, which is counted until the port is found.
            Ports::Reserved(_) => Ok((self.accounts.open_beyond(user, address), None)),
            Ports::Any | Ports::Even => Ok((self.accounts.open(user, address)?, None)),
            Ports::EvenAndNext => {
                let reservation = Reservation::open(&self.accounts, user, address)?;
                Ok((self.accounts.open(user, address)?, Some(reservation)))
            }
        }
    }

    /// Takes what became of [`Action::Open`]: the client is answered. An error is [`Refusal::NoPort`],
    /// [`Refusal::NoReservation`] or [`Refusal::UnsupportedFamily`].
    pub fn handle_opened(
        &mut self,
        now: Instant,
        id: AllocationId,
        opened: Result<Opened, Refusal>,
        out: &mut Outbox,
    ) {
        let Some(allocation) = self.allocations.get_mut(id.index()).filter(|one| one.id == id) else {
            // It ended before its relays were open: nobody else would close them.
            let opened = opened.unwrap_or_default();
            for (relay, is_v6) in [(opened.v4, false), (opened.v6, true)] {
                if relay.is_some() {
                    out.act(Action::Close(id.relay(is_v6)));
                }
            }
            return;
        };
        let Some(pending) = allocation.pending.take() else { return };
        let answer = Answer {
            client: allocation.client,
            method: method::ALLOCATE,
            transaction: allocation.transaction,
            fingerprint: pending.fingerprint,
            signer: Some(Signer { key: allocation.key, sha256: pending.sha256 }),
        };
        let opened = opened.and_then(|opened| match opened {
            Opened { v4: None, v6: None, .. } => Err(Refusal::NoPort),
            opened => Ok(opened),
        });
        match opened {
            Ok(opened) => {
                let expires = now + Duration::from_secs(u64::from(pending.lifetime));
                let relay = |address: SocketAddr| Relay { address, expires };
                allocation.relays = [opened.v4, opened.v6].map(|address| address.map(relay));
                allocation.reservation = opened.reservation;
                if let Some(reason) = allocation.holder.excess() {
                    return self.refuse_opened(id, reason, &answer, out);
                }
                let failed = match opened {
                    Opened { v4: None, .. } if pending.dual => Some(Family::V4),
                    Opened { v6: None, .. } if pending.dual => Some(Family::V6),
                    _ => None,
                };
                self.allocations[id.index()].failed = failed.map(|family| (family, self.failure(family)));
                self.totals.allocations_made += 1;
                self.tell_allocated(id.index(), now, &answer, out);
            }
            Err(reason) => self.refuse_opened(id, reason, &answer, out),
        }
    }

    fn refuse_opened(&mut self, id: AllocationId, reason: Refusal, answer: &Answer, out: &mut Outbox) {
        self.remove(id.index(), out);
        self.refusals.count(reason);
        answer.refuse(reason, Detail::Nothing, out);
    }

    /// Why one of two relays is missing.
    fn failure(&self, family: Family) -> Refusal {
        let has = if family == Family::V4 { self.config.v4 } else { self.config.v6 };
        if has { Refusal::NoPort } else { Refusal::UnsupportedFamily }
    }

    fn tell_allocated(&self, index: usize, now: Instant, answer: &Answer, out: &mut Outbox) {
        let allocation = &self.allocations[index];
        let ends = allocation.relays.iter().flatten().map(|relay| relay.expires).max().unwrap_or(now);
        answer.success(out, |writer| {
            for relay in allocation.relays.iter().flatten() {
                writer.xor_address(attribute::XOR_RELAYED_ADDRESS, relay.address);
            }
            write_lifetime(writer, ends.saturating_duration_since(now));
            if let Some(token) = allocation.reservation {
                writer.attribute(attribute::RESERVATION_TOKEN, &token.0);
            }
            writer.xor_address(XOR_MAPPED_ADDRESS, allocation.client.remote);
            if let Some((family, reason)) = allocation.failed
                && let Some((code, reason)) = reason.code()
            {
                let family = if family == Family::V4 { address::IPV4 } else { address::IPV6 };
                let head = [family, 0, (code / 100) as u8, (code % 100) as u8];
                writer.attribute_of(attribute::ADDRESS_ERROR_CODE, [&head, reason.as_bytes()]);
            }
        });
    }

    pub(crate) fn refresh(
        &mut self,
        now: Instant,
        from: FiveTuple,
        request: &Request<'_>,
        answer: &Answer,
        out: &mut Outbox,
    ) -> Result<(), Refusal> {
        let family = match request.family {
            None => None,
            Some(Ok(family)) => Some(family),
            Some(Err(())) => return Err(Refusal::UnsupportedFamily),
        };
        let lifetime = match request.lifetime {
            Some(0) => Duration::ZERO,
            wanted => self.lifetime(wanted),
        };
        let index = self.index_of(from, now).ok_or(Refusal::AllocationMismatch)?;
        let allocation = &mut self.allocations[index];
        if family.is_some_and(|family| allocation.relay(family, now).is_none()) {
            return Err(Refusal::FamilyMismatch);
        }
        for (relay, of) in allocation.relays.iter_mut().zip([Family::V4, Family::V6]) {
            if family.is_none_or(|family| family == of)
                && let Some(relay) = relay
            {
                relay.expires = now + lifetime;
            }
        }
        allocation.due = now;
        // What lives on no longer goes at once, and so does what has ended otherwise.
        self.look_after(index, now, out);
        answer.success(out, |writer| write_lifetime(writer, lifetime));
        Ok(())
    }

    /// How long an allocation lives (RFC 8656 section 7.2).
    fn lifetime(&self, wanted: Option<u32>) -> Duration {
        let (default, most) = (self.config.default_lifetime, self.config.max_lifetime);
        wanted.map_or(default, |seconds| Duration::from_secs(u64::from(seconds)).max(default)).min(most)
    }

    /// Which server to name when this one is full.
    pub(crate) fn alternate(&self, client: FiveTuple) -> Option<SocketAddr> {
        let is_v4 = client.remote.ip().to_canonical().is_ipv4();
        self.config.alternates.iter().copied().find(|server| server.is_ipv4() == is_v4)
    }
}

fn write_lifetime(writer: &mut Writer<'_>, lifetime: Duration) {
    writer.attribute(attribute::LIFETIME, &(lifetime.as_secs() as u32).to_be_bytes());
}

/// What an Allocate request asks for; contradictions are refused.
fn wish(request: &Request<'_>) -> Result<Wish, Refusal> {
    let transport = match request.requested_transport {
        None => return Err(Refusal::BadRequest),
        Some(UDP) => Transport::Udp,
        Some(TCP) => Transport::Tcp,
        Some(_) => return Err(Refusal::UnsupportedTransport),
    };
    let of_datagrams = request.reservation.is_some() || request.even_port.is_some() || request.dont_fragment;
    if transport == Transport::Tcp && of_datagrams {
        return Err(Refusal::BadRequest);
    }
    let has_family = request.family.is_some();
    if request.reservation.is_some()
        && (has_family || request.even_port.is_some() || request.additional_family.is_some())
    {
        return Err(Refusal::BadRequest);
    }
    let ports = match (request.reservation, request.even_port) {
        (Some(token), _) => Ports::Reserved(token),
        (None, None) => Ports::Any,
        (None, Some(false)) => Ports::Even,
        (None, Some(true)) => Ports::EvenAndNext,
    };
    let (v4, v6) = match (request.family, request.additional_family) {
        (Some(_), Some(_)) | (None, Some(Ok(Family::V4) | Err(()))) => return Err(Refusal::BadRequest),
        (None, Some(Ok(Family::V6))) if ports == Ports::EvenAndNext => return Err(Refusal::BadRequest),
        (None, Some(Ok(Family::V6))) => (true, true),
        // A reserved port has the family that it was reserved in.
        (None, None) => (true, matches!(ports, Ports::Reserved(_))),
        (Some(Ok(family)), None) => (family == Family::V4, family == Family::V6),
        (Some(Err(())), None) => return Err(Refusal::UnsupportedFamily),
    };
    Ok(Wish { v4, v6, ports, transport })
}
