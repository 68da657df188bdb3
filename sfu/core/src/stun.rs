//! STUN messages as an ICE-lite server needs them: binding requests in, their answers out (RFC 8489, RFC 8445).

use std::net::SocketAddr;

use smallvec::SmallVec;
use veche_stun::attribute::{
    COMPREHENSION_OPTIONAL, FINGERPRINT, MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256, USERNAME,
    XOR_MAPPED_ADDRESS,
};
use veche_stun::{Attribute, Malformed, Message, Writer};
pub use veche_stun::{IntegrityKey, is_stun};

use crate::drops::DropReason;

/// Message types: class and method in one number (RFC 8489 section 5, appendix A).
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

/// Attribute types of ICE (RFC 8445 section 16.1).
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;

/// RFC 8489 section 14.5.
const INTEGRITY_LEN: usize = 20;
/// How many unknown attributes are named in an error; a client has use for the first.
const MAX_UNKNOWN: usize = 4;

/// Which role the sender of a request has, with its tie breaker (RFC 8445 section 7.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IceRole {
    /// It nominates.
    Controlling(u64),
    /// It expects us to nominate.
    Controlled(u64),
}

/// A binding request that parses. Nothing in it may be believed before [`BindingRequest::verify`].
#[derive(Clone, Debug)]
pub struct BindingRequest<'a> {
    /// Returned in the answer.
    pub transaction_id: [u8; 12],
    /// The first part of the user name: who is asked (RFC 8445 section 7.2.2).
    pub local_ufrag: &'a str,
    /// The second part of the user name: who asks.
    pub remote_ufrag: &'a str,
    /// What the client thinks of its candidate (RFC 8445 section 7.1.1); 0 when it does not say.
    pub priority: u32,
    /// The client nominates this pair (RFC 8445 section 7.1.2).
    pub use_candidate: bool,
    /// The client's role, where it says so.
    pub role: Option<IceRole>,
    unknown: SmallVec<[u16; MAX_UNKNOWN]>,
    signed: &'a [u8],
    integrity: &'a [u8],
}

impl<'a> BindingRequest<'a> {
    /// Takes one datagram apart. A wrong fingerprint is refused here; the integrity is left to
    /// [`BindingRequest::verify`], since its key depends on the user name.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, DropReason> {
        let message = Message::parse(datagram)?;
        if message.kind() != BINDING_REQUEST {
            return Err(DropReason::StunUnsupported);
        }
        let mut request = Self {
            transaction_id: message.transaction(),
            local_ufrag: "",
            remote_ufrag: "",
            priority: 0,
            use_candidate: false,
            role: None,
            unknown: SmallVec::new(),
            signed: &[],
            integrity: &[],
        };
        for attribute in message.attributes() {
            let attribute = attribute?;
            if attribute.kind == FINGERPRINT {
                message.has_fingerprint(&attribute)?;
            } else if request.integrity.is_empty() {
                request.take(&message, &attribute)?;
            }
            // Anything else behind the message integrity is not protected by it, and is ignored
            // (RFC 8489 section 14.5).
        }
        if request.integrity.is_empty() || request.local_ufrag.is_empty() {
            return Err(DropReason::StunUnauthenticated);
        }
        Ok(request)
    }

    /// Whether the message integrity is right under this key; in constant time.
    pub fn verify(&self, key: &IntegrityKey) -> bool {
        key.verify(self.signed, self.integrity)
    }

    /// Attributes that the client wants understood and that are not (RFC 8489 section 6.3.1); the first few.
    pub fn unknown_attributes(&self) -> &[u16] {
        &self.unknown
    }

    fn take(&mut self, message: &Message<'a>, attribute: &Attribute<'a>) -> Result<(), DropReason> {
        let value = attribute.value;
        match attribute.kind {
            // Of an attribute that occurs twice only the first counts (RFC 8489 section 14).
            USERNAME if self.local_ufrag.is_empty() => {
                let name = std::str::from_utf8(value).map_err(|_| DropReason::StunMalformed)?;
                (self.local_ufrag, self.remote_ufrag) =
                    name.split_once(':').ok_or(DropReason::StunMalformed)?;
            }
            MESSAGE_INTEGRITY => {
                if value.len() != INTEGRITY_LEN {
                    return Err(DropReason::StunMalformed);
                }
                self.signed = message.before(attribute);
                self.integrity = value;
            }
            PRIORITY if self.priority == 0 => self.priority = u32::from_be_bytes(fixed(value)?),
            USE_CANDIDATE => self.use_candidate = true,
            ICE_CONTROLLING if self.role.is_none() => {
                self.role = Some(IceRole::Controlling(u64::from_be_bytes(fixed(value)?)));
            }
            ICE_CONTROLLED if self.role.is_none() => {
                self.role = Some(IceRole::Controlled(u64::from_be_bytes(fixed(value)?)));
            }
            USERNAME | PRIORITY | MESSAGE_INTEGRITY_SHA256 => {}
            kind if kind < COMPREHENSION_OPTIONAL && self.unknown.len() < MAX_UNKNOWN => {
                self.unknown.push(kind);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Answers a request: `source` is where it came from. `out` holds nothing but the response afterwards.
pub fn write_success(
    request: &BindingRequest<'_>,
    source: SocketAddr,
    key: &IntegrityKey,
    out: &mut Vec<u8>,
) {
    out.clear();
    let mut writer = Writer::begin(BINDING_SUCCESS, &request.transaction_id, out);
    writer.xor_address(XOR_MAPPED_ADDRESS, source);
    writer.integrity(key);
    writer.fingerprint();
}

/// Why a request is refused (RFC 8489 section 14.8, RFC 8445 section 7.3.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StunError {
    /// 420: it has attributes that are not understood; the response names them.
    UnknownAttribute,
    /// 487: the client takes the role that is ours.
    RoleConflict,
}

impl StunError {
    fn code_and_reason(self) -> (u16, &'static str) {
        match self {
            StunError::UnknownAttribute => (420, "Unknown Attribute"),
            StunError::RoleConflict => (487, "Role Conflict"),
        }
    }
}

/// Refuses a request. `out` holds nothing but the response afterwards.
pub fn write_error(request: &BindingRequest<'_>, error: StunError, key: &IntegrityKey, out: &mut Vec<u8>) {
    out.clear();
    let mut writer = Writer::begin(BINDING_ERROR, &request.transaction_id, out);
    let (code, reason) = error.code_and_reason();
    writer.error(code, reason);
    if error == StunError::UnknownAttribute {
        writer.unknown_attributes(&request.unknown);
    }
    writer.integrity(key);
    writer.fingerprint();
}

impl From<Malformed> for DropReason {
    fn from(Malformed: Malformed) -> Self {
        DropReason::StunMalformed
    }
}

fn fixed<const N: usize>(value: &[u8]) -> Result<[u8; N], DropReason> {
    value.try_into().map_err(|_| DropReason::StunMalformed)
}

#[cfg(test)]
pub(crate) mod client;

#[cfg(test)]
mod tests;
