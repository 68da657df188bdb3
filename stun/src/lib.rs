//! STUN messages (RFC 8489): read where they lie, written into the caller's buffer. What they mean is decided by those who
//! use this: the media core (ICE) and the TURN server.

pub mod address;
pub mod attribute;
mod fingerprint;
pub mod household;
mod integrity;
mod message;
mod writer;

pub use fingerprint::{FINGERPRINT_LEN, fingerprint};
pub use integrity::{IntegrityKey, Tag};
pub use message::{Attribute, Attributes, Class, Malformed, Message, TransactionId, message_type};
pub use writer::Writer;

/// Type, length, magic cookie and transaction (RFC 8489 section 5).
pub const HEADER_LEN: usize = 20;
/// RFC 8489 section 5.
pub const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// Type and length in front of each attribute's value (RFC 8489 section 14).
pub const ATTRIBUTE_HEADER_LEN: usize = 4;

/// Whether a datagram is STUN, by its first byte (RFC 7983) and the magic cookie. It need not parse.
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_LEN && datagram[0] < 4 && datagram[4..8] == MAGIC_COOKIE
}

#[cfg(test)]
mod tests;
