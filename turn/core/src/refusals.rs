//! Why something was refused, counted by reason.

/// Why a packet was dropped or a request refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// Neither STUN nor data of a channel.
    NotTurn,
    /// STUN that cannot be read, or with a wrong fingerprint.
    Malformed,
    /// A method or class that nobody answers.
    UnknownMethod,
    /// 420: an attribute that has to be understood and is not.
    UnknownAttribute,
    /// 400: an attribute is missing, is too much, or has a wrong value.
    BadRequest,
    /// 401: the first request of a client, before it knows realm and nonce.
    Unauthenticated,
    /// 401: nobody of this name.
    UnknownUser,
    /// 401: a time-limited name whose time is over.
    CredentialExpired,
    /// 401: the message integrity is wrong.
    WrongPassword,
    /// 438: the nonce is old, or another client's.
    StaleNonce,
    /// Answers to one address that has not proved itself come too often.
    AnswersLimited,
    /// 437: there is no allocation, or there is one already.
    AllocationMismatch,
    /// 441: the allocation is somebody else's.
    WrongUser,
    /// 442: a transport other than UDP and, where there are relays of it, TCP.
    UnsupportedTransport,
    /// 440: a family of addresses that has no relays here.
    UnsupportedFamily,
    /// 443: the peer's address is of another family than the relay's.
    FamilyMismatch,
    /// 403, or a packet from or to a peer that may not be reached.
    ForbiddenPeer,
    /// 486: the user has as many allocations as one may have.
    UserQuota,
    /// 486: the client's address has as many allocations as one may have.
    AddressQuota,
    /// 508: the server has as many allocations as it may have.
    TotalQuota,
    /// 508: as many permissions as there may be.
    PermissionQuota,
    /// 508: as many channels as there may be.
    ChannelQuota,
    /// 508: as many connections with peers as there may be.
    ConnectionQuota,
    /// 300: the server is full, and another was named.
    TryAlternate,
    /// 508: no port is free, or none of an even number.
    NoPort,
    /// 508: nothing is reserved under this token.
    NoReservation,
    /// Data of a client without allocation.
    NoAllocation,
    /// Data of or for a peer without permission.
    NoPermission,
    /// Data of a channel that is not bound.
    NoChannel,
    /// More data in a second than may be relayed.
    Bandwidth,
    /// Data of a peer that is too much for an indication.
    TooLarge,
    /// 446: there is a connection with this peer already.
    ConnectionExists,
    /// 447: the peer does not take the connection, or not in time.
    ConnectionFailed,
    /// 400: no connection with a peer waits under this number.
    NoConnection,
}

impl Refusal {
    /// All, in the order of their numbers.
    pub const ALL: [Refusal; 34] = [
        Refusal::NotTurn,
        Refusal::Malformed,
        Refusal::UnknownMethod,
        Refusal::UnknownAttribute,
        Refusal::BadRequest,
        Refusal::Unauthenticated,
        Refusal::UnknownUser,
        Refusal::CredentialExpired,
        Refusal::WrongPassword,
        Refusal::StaleNonce,
        Refusal::AnswersLimited,
        Refusal::AllocationMismatch,
        Refusal::WrongUser,
        Refusal::UnsupportedTransport,
        Refusal::UnsupportedFamily,
        Refusal::FamilyMismatch,
        Refusal::ForbiddenPeer,
        Refusal::UserQuota,
        Refusal::AddressQuota,
        Refusal::TotalQuota,
        Refusal::PermissionQuota,
        Refusal::ChannelQuota,
        Refusal::ConnectionQuota,
        Refusal::TryAlternate,
        Refusal::NoPort,
        Refusal::NoReservation,
        Refusal::NoAllocation,
        Refusal::NoPermission,
        Refusal::NoChannel,
        Refusal::Bandwidth,
        Refusal::TooLarge,
        Refusal::ConnectionExists,
        Refusal::ConnectionFailed,
        Refusal::NoConnection,
    ];

    /// For metrics.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::NotTurn => "not_turn",
            Refusal::Malformed => "malformed",
            Refusal::UnknownMethod => "unknown_method",
            Refusal::UnknownAttribute => "unknown_attribute",
            Refusal::BadRequest => "bad_request",
            Refusal::Unauthenticated => "unauthenticated",
            Refusal::UnknownUser => "unknown_user",
            Refusal::CredentialExpired => "credential_expired",
            Refusal::WrongPassword => "wrong_password",
            Refusal::StaleNonce => "stale_nonce",
            Refusal::AnswersLimited => "answers_limited",
            Refusal::AllocationMismatch => "allocation_mismatch",
            Refusal::WrongUser => "wrong_user",
            Refusal::UnsupportedTransport => "unsupported_transport",
            Refusal::UnsupportedFamily => "unsupported_family",
            Refusal::FamilyMismatch => "family_mismatch",
            Refusal::ForbiddenPeer => "forbidden_peer",
            Refusal::UserQuota => "user_quota",
            Refusal::AddressQuota => "address_quota",
            Refusal::TotalQuota => "total_quota",
            Refusal::PermissionQuota => "permission_quota",
            Refusal::ChannelQuota => "channel_quota",
            Refusal::ConnectionQuota => "connection_quota",
            Refusal::TryAlternate => "try_alternate",
            Refusal::NoPort => "no_port",
            Refusal::NoReservation => "no_reservation",
            Refusal::NoAllocation => "no_allocation",
            Refusal::NoPermission => "no_permission",
            Refusal::NoChannel => "no_channel",
            Refusal::Bandwidth => "bandwidth",
            Refusal::TooLarge => "too_large",
            Refusal::ConnectionExists => "connection_exists",
            Refusal::ConnectionFailed => "connection_failed",
            Refusal::NoConnection => "no_connection",
        }
    }

    /// The code and reason of the answer (RFC 8489 section 14.8, RFC 8656 section 19, RFC 6062 section 6.3), where there is an answer at all.
    pub(crate) fn code(self) -> Option<(u16, &'static str)> {
        Some(match self {
            Refusal::TryAlternate => (300, "Try Alternate"),
            Refusal::BadRequest | Refusal::NoConnection => (400, "Bad Request"),
            // Before a client has proved itself every byte counts: an answer must not be much larger than its request.
            Refusal::Unauthenticated
            | Refusal::UnknownUser
            | Refusal::CredentialExpired
            | Refusal::WrongPassword => (401, ""),
            Refusal::ForbiddenPeer => (403, "Forbidden"),
            Refusal::UnknownAttribute => (420, "Unknown Attribute"),
            Refusal::AllocationMismatch => (437, "Allocation Mismatch"),
            Refusal::StaleNonce => (438, ""),
            Refusal::UnsupportedFamily => (440, "Address Family not Supported"),
            Refusal::WrongUser => (441, "Wrong Credentials"),
            Refusal::UnsupportedTransport => (442, "Unsupported Transport Protocol"),
            Refusal::FamilyMismatch => (443, "Peer Address Family Mismatch"),
            Refusal::ConnectionExists => (446, "Connection Already Exists"),
            Refusal::ConnectionFailed => (447, "Connection Timeout or Failure"),
            Refusal::UserQuota | Refusal::AddressQuota => (486, "Allocation Quota Reached"),
            Refusal::TotalQuota
            | Refusal::PermissionQuota
            | Refusal::ChannelQuota
            | Refusal::ConnectionQuota
            | Refusal::NoPort
            | Refusal::NoReservation => (508, "Insufficient Capacity"),
            Refusal::NotTurn
            | Refusal::Malformed
            | Refusal::UnknownMethod
            | Refusal::AnswersLimited
            | Refusal::NoAllocation
            | Refusal::NoPermission
            | Refusal::NoChannel
            | Refusal::Bandwidth
            | Refusal::TooLarge => return None,
        })
    }
}

/// How often each reason occurred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusals([u64; Refusal::ALL.len()]);

impl Default for Refusals {
    fn default() -> Self {
        Self([0; Refusal::ALL.len()])
    }
}

impl Refusals {
    /// How often this reason occurred.
    pub fn get(&self, reason: Refusal) -> u64 {
        self.0[reason as usize]
    }

    /// Every reason and how often it occurred.
    pub fn iter(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        Refusal::ALL.into_iter().map(|reason| (reason, self.get(reason)))
    }

    pub(crate) fn count(&mut self, reason: Refusal) {
        self.0[reason as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_place_and_its_own_name() {
        let mut names: Vec<_> = Refusal::ALL.iter().map(|reason| reason.name()).collect();
        for (index, reason) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Refusal::ALL.len());
    }
}
