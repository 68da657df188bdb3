//! A request or indication of a client, taken apart in one pass.

use std::net::SocketAddr;

use smallvec::SmallVec;
use veche_stun::attribute as stun;
use veche_stun::{Attribute, Malformed, Message, TransactionId, address};

use crate::outbox::ReservationToken;
use crate::tcp::ConnectionId;
use crate::wire::attribute;

/// How many unknown attributes are named in an error; a client has use for the first.
const MAX_UNKNOWN: usize = 4;

/// How many peers one request may name. A datagram holds about a hundred.
const MAX_PEERS: usize = 128;

/// The family of addresses that a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Everything that a client may say. Nothing of it may be believed before it is authenticated.
#[derive(Debug, Default)]
pub(crate) struct Request<'a> {
    pub(crate) method: u16,
    pub(crate) transaction: TransactionId,
    pub(crate) username: Option<&'a [u8]>,
    pub(crate) userhash: Option<&'a [u8]>,
    pub(crate) realm: Option<&'a [u8]>,
    pub(crate) nonce: Option<&'a [u8]>,
    pub(crate) password_algorithm: Option<&'a [u8]>,
    pub(crate) password_algorithms: Option<&'a [u8]>,
    pub(crate) integrity: Option<Signature<'a>>,
    pub(crate) integrity_sha256: Option<Signature<'a>>,
    /// Whether it has a fingerprint, so that the answer has one.
    pub(crate) fingerprint: bool,
    pub(crate) requested_transport: Option<u8>,
    pub(crate) lifetime: Option<u32>,
    /// What stands in REQUESTED-ADDRESS-FAMILY; `Err` for a family that nobody knows.
    pub(crate) family: Option<Result<Family, ()>>,
    pub(crate) additional_family: Option<Result<Family, ()>>,
    /// Whether the next port is to be reserved as well.
    pub(crate) even_port: Option<bool>,
    pub(crate) reservation: Option<ReservationToken>,
    pub(crate) dont_fragment: bool,
    pub(crate) channel: Option<u16>,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) peers: SmallVec<[SocketAddr; 2]>,
    pub(crate) data: Option<&'a [u8]>,
    /// Attributes that the client wants understood and that are not; the first few.
    pub(crate) unknown: SmallVec<[u16; MAX_UNKNOWN]>,
    /// An attribute has a value that it cannot have.
    pub(crate) is_bad: bool,
}

/// A message integrity, and what it is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signature<'a> {
    pub(crate) signed: &'a [u8],
    pub(crate) tag: &'a [u8],
}

impl<'a> Request<'a> {
    /// Takes a message apart. An error is one of its form, and of a fingerprint that is wrong: nobody can be answered.
    pub(crate) fn parse(message: &Message<'a>) -> Result<Self, Malformed> {
        let (method, transaction) = (message.method(), message.transaction());
        let mut request = Self { method, transaction, ..Self::default() };
        for attribute in message.attributes() {
            let attribute = attribute?;
            if attribute.kind == stun::FINGERPRINT {
                message.has_fingerprint(&attribute)?;
                request.fingerprint = true;
            } else {
                request.take(message, &attribute);
            }
        }
        Ok(request)
    }

    fn take(&mut self, message: &Message<'a>, attribute: &Attribute<'a>) {
        let signature = Signature { signed: message.before(attribute), tag: attribute.value };
        // What stands behind the integrity is not protected by it (RFC 8489 sections 14.5 and 14.6).
        if self.integrity_sha256.is_some() {
            return;
        }
        match attribute.kind {
            stun::MESSAGE_INTEGRITY_SHA256 => self.integrity_sha256 = Some(signature),
            _ if self.integrity.is_some() => {}
            stun::MESSAGE_INTEGRITY => self.integrity = Some(signature),
            _ => self.take_value(attribute),
        }
    }

    fn take_value(&mut self, attribute: &Attribute<'a>) {
        let value = attribute.value;
        let bad = &mut self.is_bad;
        // Of an attribute that occurs twice only the first counts (RFC 8489 section 14).
        match attribute.kind {
            stun::USERNAME => set(&mut self.username, Some(value), bad),
            stun::USERHASH => set(&mut self.userhash, (value.len() == 32).then_some(value), bad),
            stun::REALM => set(&mut self.realm, Some(value), bad),
            stun::NONCE => set(&mut self.nonce, Some(value), bad),
            stun::PASSWORD_ALGORITHM => set(&mut self.password_algorithm, Some(value), bad),
            stun::PASSWORD_ALGORITHMS => set(&mut self.password_algorithms, Some(value), bad),
            attribute::REQUESTED_TRANSPORT => {
                set(&mut self.requested_transport, fixed::<4>(value).map(|value| value[0]), bad);
            }
            attribute::LIFETIME => set(&mut self.lifetime, fixed(value).map(u32::from_be_bytes), bad),
            attribute::REQUESTED_ADDRESS_FAMILY => set(&mut self.family, family(value), bad),
            attribute::ADDITIONAL_ADDRESS_FAMILY | attribute::DRAFT_ADDITIONAL_ADDRESS_FAMILY => {
                set(&mut self.additional_family, family(value), bad);
            }
            attribute::EVEN_PORT => {
                set(&mut self.even_port, fixed::<1>(value).map(|[byte]| byte & 0x80 != 0), bad);
            }
            attribute::RESERVATION_TOKEN => {
                set(&mut self.reservation, fixed(value).map(ReservationToken), bad);
            }
            attribute::DONT_FRAGMENT => self.dont_fragment = true,
            attribute::CHANNEL_NUMBER => {
                let number = fixed::<4>(value).map(|value| u16::from_be_bytes([value[0], value[1]]));
                set(&mut self.channel, number, bad);
            }
            attribute::CONNECTION_ID => {
                let number = fixed(value).map(u32::from_be_bytes);
                set(&mut self.connection, number.map(ConnectionId::from_bits), bad);
            }
            attribute::XOR_PEER_ADDRESS => match address::read_xor(value, &self.transaction) {
                Ok(peer) if self.peers.len() < MAX_PEERS => self.peers.push(peer),
                _ => *bad = true,
            },
            attribute::DATA => set(&mut self.data, Some(value), bad),
            kind if kind < stun::COMPREHENSION_OPTIONAL && self.unknown.len() < MAX_UNKNOWN => {
                self.unknown.push(kind);
            }
            _ => {}
        }
    }
}

fn set<T>(field: &mut Option<T>, value: Option<T>, bad: &mut bool) {
    *bad |= value.is_none();
    if field.is_none() {
        *field = value;
    }
}

fn fixed<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    value.try_into().ok()
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the outer option says whether the value has its form, as for its siblings"
)]
fn known_family(byte: u8) -> Option<Result<Family, ()>> {
    Some(match byte {
        address::IPV4 => Ok(Family::V4),
        address::IPV6 => Ok(Family::V6),
        _ => Err(()),
    })
}

fn family(value: &[u8]) -> Option<Result<Family, ()>> {
    fixed::<4>(value).and_then(|[byte, ..]| known_family(byte))
}
