//! Taking a message apart, where it lies.

use crate::attribute::FINGERPRINT;
use crate::fingerprint::{FINGERPRINT_LEN, fingerprint};
use crate::{ATTRIBUTE_HEADER_LEN, HEADER_LEN, is_stun};

/// What a request and its answer have in common.
pub type TransactionId = [u8; 12];

/// It is no message: too short, a wrong length, an attribute beyond its end, or a wrong fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a STUN message")]
pub struct Malformed;

/// What kind of message it is (RFC 8489 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Wants an answer.
    Request,
    /// Wants none.
    Indication,
    /// Yes.
    Success,
    /// No.
    Error,
}

/// Class and method in one number, as the header has them (RFC 8489 section 5, appendix A).
pub const fn message_type(class: Class, method: u16) -> u16 {
    let class = match class {
        Class::Request => 0x000,
        Class::Indication => 0x010,
        Class::Success => 0x100,
        Class::Error => 0x110,
    };
    (method & 0xf) | (method & 0x70) << 1 | (method & 0xf80) << 2 | class
}

/// A message whose header is right. Its attributes are read one by one.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
}

/// One attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Which.
    pub kind: u16,
    /// Where its header begins in the message.
    pub offset: usize,
    /// Its value, without padding.
    pub value: &'a [u8],
}

/// See [`Message::attributes`].
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    message: &'a [u8],
    offset: usize,
}

impl<'a> Message<'a> {
    /// Looks at the header, which must tell the right length.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if !is_stun(bytes) || usize::from(be16(&bytes[2..])) != bytes.len() - HEADER_LEN {
            return Err(Malformed);
        }
        Ok(Self { bytes })
    }

    /// The whole message.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Class and method as they stand in the header; see [`message_type`].
    pub fn kind(&self) -> u16 {
        be16(self.bytes)
    }

    /// The class.
    pub fn class(&self) -> Class {
        match self.kind() & 0x110 {
            0x000 => Class::Request,
            0x010 => Class::Indication,
            0x100 => Class::Success,
            _ => Class::Error,
        }
    }

    /// The method.
    pub fn method(&self) -> u16 {
        let kind = self.kind();
        (kind & 0xf) | (kind >> 1 & 0x70) | (kind >> 2 & 0xf80)
    }

    /// The transaction.
    pub fn transaction(&self) -> TransactionId {
        let mut transaction = TransactionId::default();
        transaction.copy_from_slice(&self.bytes[8..HEADER_LEN]);
        transaction
    }

    /// What stands before an attribute, which is what integrity is computed over.
    pub fn before(&self, attribute: &Attribute<'_>) -> &'a [u8] {
        &self.bytes[..attribute.offset]
    }

    /// The attributes in their order. After one that does not fit there are no more.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes { message: self.bytes, offset: HEADER_LEN }
    }

    /// Whether an attribute is the right fingerprint: it must be the last (RFC 8489 section 14.7).
    pub fn has_fingerprint(&self, attribute: &Attribute<'_>) -> Result<(), Malformed> {
        let is_last = attribute.offset + ATTRIBUTE_HEADER_LEN + FINGERPRINT_LEN == self.bytes.len();
        let is_right =
            attribute.kind == FINGERPRINT && attribute.value == fingerprint(self.before(attribute));
        if is_last && is_right { Ok(()) } else { Err(Malformed) }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.message.get(self.offset..).filter(|rest| !rest.is_empty())?;
        let offset = self.offset;
        let (end, attribute) = match parse_attribute(rest) {
            Some((len, kind, value)) => (offset + len, Ok(Attribute { kind, offset, value })),
            None => (self.message.len(), Err(Malformed)),
        };
        self.offset = end;
        Some(attribute)
    }
}

/// The length with header and padding, the type and the value of the first attribute in `bytes`.
fn parse_attribute(bytes: &[u8]) -> Option<(usize, u16, &[u8])> {
    let (header, rest) = bytes.split_at_checked(ATTRIBUTE_HEADER_LEN)?;
    let len = usize::from(be16(&header[2..]));
    let padded = len.next_multiple_of(4);
    if rest.len() < padded {
        return None;
    }
    Some((ATTRIBUTE_HEADER_LEN + padded, be16(header), &rest[..len]))
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}
