//! STUN messages as an ICE-lite server needs them: binding requests in, their answers out (RFC 8489, RFC 8445).

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::{constant_time, hmac};
use smallvec::SmallVec;

use crate::drops::DropReason;

/// RFC 8489 section 5.
const HEADER_LEN: usize = 20;
/// RFC 8489 section 5.
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// Message types: class and method in one number (RFC 8489 section 5, appendix A).
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

/// Attribute types (RFC 8489 section 18.3, RFC 8445 section 16.1).
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;
/// From here on an attribute that is not understood may be ignored (RFC 8489 section 14).
const COMPREHENSION_OPTIONAL: u16 = 0x8000;

/// RFC 8489 section 14.5.
const INTEGRITY_LEN: usize = 20;
/// RFC 8489 section 14.7.
const FINGERPRINT_LEN: usize = 4;
/// RFC 8489 section 14.7.
const FINGERPRINT_XOR: u32 = 0x5354_554e;
/// Type and length in front of each attribute's value (RFC 8489 section 14).
const ATTRIBUTE_HEADER_LEN: usize = 4;
/// How many unknown attributes are named in an error; a client has use for the first.
const MAX_UNKNOWN: usize = 4;

/// Whether a datagram is STUN, by its first byte (RFC 7983) and the magic cookie. It need not parse.
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_LEN && datagram[0] < 4 && datagram[4..8] == MAGIC_COOKIE
}

/// An ICE password, ready to sign and verify with (RFC 8489 section 9.1.1).
#[derive(Clone, Debug)]
pub struct IntegrityKey(hmac::Key);

impl IntegrityKey {
    /// The key of an ICE password.
    pub fn new(password: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes()))
    }

    /// The message integrity of a message that goes on with this attribute behind `signed`. The length in the
    /// header is taken as if the attribute were the last (RFC 8489 section 14.5), whatever stands there.
    fn sign(&self, signed: &[u8]) -> hmac::Tag {
        let length = (signed.len() + ATTRIBUTE_HEADER_LEN + INTEGRITY_LEN - HEADER_LEN) as u16;
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&signed[..2]);
        context.update(&length.to_be_bytes());
        context.update(&signed[4..]);
        context.sign()
    }
}

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
        if !is_stun(datagram) || be16(&datagram[2..]) as usize != datagram.len() - HEADER_LEN {
            return Err(DropReason::StunMalformed);
        }
        if be16(datagram) != BINDING_REQUEST {
            return Err(DropReason::StunUnsupported);
        }
        let mut request = Self {
            transaction_id: [0; 12],
            local_ufrag: "",
            remote_ufrag: "",
            priority: 0,
            use_candidate: false,
            role: None,
            unknown: SmallVec::new(),
            signed: &[],
            integrity: &[],
        };
        request.transaction_id.copy_from_slice(&datagram[8..HEADER_LEN]);
        for attribute in (Attributes { message: datagram, offset: HEADER_LEN }) {
            let attribute = attribute?;
            if attribute.kind == FINGERPRINT {
                check_fingerprint(datagram, &attribute)?;
            } else if request.integrity.is_empty() {
                request.take(datagram, &attribute)?;
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
        constant_time::verify_slices_are_equal(key.sign(self.signed).as_ref(), self.integrity).is_ok()
    }

    /// Attributes that the client wants understood and that are not (RFC 8489 section 6.3.1); the first few.
    pub fn unknown_attributes(&self) -> &[u16] {
        &self.unknown
    }

    fn take(&mut self, message: &'a [u8], attribute: &Attribute<'a>) -> Result<(), DropReason> {
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
                self.signed = &message[..attribute.offset];
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
    begin(BINDING_SUCCESS, &request.transaction_id, out);
    write_xor_mapped_address(source, &request.transaction_id, out);
    finish(key, out);
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
    begin(BINDING_ERROR, &request.transaction_id, out);
    let (code, reason) = error.code_and_reason();
    write_attribute_header(ERROR_CODE, 4 + reason.len(), out);
    out.extend_from_slice(&[0, 0, (code / 100) as u8, (code % 100) as u8]);
    out.extend_from_slice(reason.as_bytes());
    pad(out);
    if error == StunError::UnknownAttribute {
        write_attribute_header(UNKNOWN_ATTRIBUTES, 2 * request.unknown.len(), out);
        out.extend(request.unknown.iter().flat_map(|kind| kind.to_be_bytes()));
        pad(out);
    }
    finish(key, out);
}

struct Attribute<'a> {
    kind: u16,
    /// Where its header begins in the message.
    offset: usize,
    value: &'a [u8],
}

struct Attributes<'a> {
    message: &'a [u8],
    offset: usize,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, DropReason>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.message.get(self.offset..).filter(|rest| !rest.is_empty())?;
        let offset = self.offset;
        let (end, attribute) = match parse_attribute(rest) {
            Some((len, kind, value)) => (offset + len, Ok(Attribute { kind, offset, value })),
            None => (self.message.len(), Err(DropReason::StunMalformed)),
        };
        self.offset = end;
        Some(attribute)
    }
}

/// The length with header and padding, the type and the value of the first attribute in `bytes`.
fn parse_attribute(bytes: &[u8]) -> Option<(usize, u16, &[u8])> {
    let (header, rest) = bytes.split_at_checked(ATTRIBUTE_HEADER_LEN)?;
    let len = be16(&header[2..]) as usize;
    let padded = len.next_multiple_of(4);
    if rest.len() < padded {
        return None;
    }
    Some((ATTRIBUTE_HEADER_LEN + padded, be16(header), &rest[..len]))
}

/// The fingerprint must be the last attribute and right (RFC 8489 section 14.7).
fn check_fingerprint(message: &[u8], attribute: &Attribute<'_>) -> Result<(), DropReason> {
    let last = attribute.offset + ATTRIBUTE_HEADER_LEN + FINGERPRINT_LEN == message.len();
    let right = attribute.value == fingerprint(&message[..attribute.offset]);
    if last && right { Ok(()) } else { Err(DropReason::StunMalformed) }
}

fn fingerprint(message: &[u8]) -> [u8; FINGERPRINT_LEN] {
    (crc32(message) ^ FINGERPRINT_XOR).to_be_bytes()
}

fn begin(kind: u16, transaction_id: &[u8; 12], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&MAGIC_COOKIE);
    out.extend_from_slice(transaction_id);
}

/// RFC 8489 section 14.2.
fn write_xor_mapped_address(address: SocketAddr, transaction_id: &[u8; 12], out: &mut Vec<u8>) {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE);
    mask[4..].copy_from_slice(transaction_id);
    let port = address.port() ^ u16::from_be_bytes([mask[0], mask[1]]);
    let mut write = |family: u8, ip: &[u8]| {
        write_attribute_header(XOR_MAPPED_ADDRESS, 4 + ip.len(), out);
        out.extend_from_slice(&[0, family]);
        out.extend_from_slice(&port.to_be_bytes());
        out.extend(ip.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    };
    // A socket for both families shows IPv4 clients as ::ffff:a.b.c.d, an address that they do not have.
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => write(1, &ip.octets()),
        IpAddr::V6(ip) => write(2, &ip.octets()),
    }
}

fn write_attribute_header(kind: u16, len: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(len as u16).to_be_bytes());
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Adds message integrity and fingerprint, and sets the length.
fn finish(key: &IntegrityKey, out: &mut Vec<u8>) {
    let tag = key.sign(out);
    write_attribute_header(MESSAGE_INTEGRITY, INTEGRITY_LEN, out);
    out.extend_from_slice(tag.as_ref());
    let length = out.len() + ATTRIBUTE_HEADER_LEN + FINGERPRINT_LEN - HEADER_LEN;
    out[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    let crc = fingerprint(out);
    write_attribute_header(FINGERPRINT, FINGERPRINT_LEN, out);
    out.extend_from_slice(&crc);
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn fixed<const N: usize>(value: &[u8]) -> Result<[u8; N], DropReason> {
    value.try_into().map_err(|_| DropReason::StunMalformed)
}

/// The CRC-32 of ITU V.42, as the fingerprint wants it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| CRC_TABLE[((crc ^ u32::from(byte)) & 0xff) as usize] ^ (crc >> 8))
}

const CRC_TABLE: [u32; 256] = crc_table();

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
pub(crate) mod client;

#[cfg(test)]
mod tests;
