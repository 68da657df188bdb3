//! Putting a message together.

use std::net::{IpAddr, SocketAddr};

use crate::address::{self, IPV4, IPV6};
use crate::attribute::{ERROR_CODE, FINGERPRINT, UNKNOWN_ATTRIBUTES};
use crate::fingerprint::{FINGERPRINT_LEN, fingerprint};
use crate::integrity::IntegrityKey;
use crate::message::TransactionId;
use crate::{ATTRIBUTE_HEADER_LEN, HEADER_LEN, MAGIC_COOKIE};

/// The most bytes of attributes in one message: its length is a multiple of 4 in 16 bits (RFC 8489 section 5).
const MAX_LEN: usize = u16::MAX as usize / 4 * 4;

/// Writes one message at the end of a buffer. What it writes is whole after each call.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    transaction: TransactionId,
}

impl<'a> Writer<'a> {
    /// Begins with the header; `kind` is that of [`crate::message_type`].
    pub fn begin(kind: u16, transaction: &TransactionId, out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&MAGIC_COOKIE);
        out.extend_from_slice(transaction);
        Self { out, start, transaction: *transaction }
    }

    /// Any attribute. Its length and the message's have 16 bits: what does not fit is cut or, where nothing of it fits, left out.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.attribute_of(kind, [value]);
    }

    /// An attribute whose value stands in several pieces.
    pub fn attribute_of<const N: usize>(&mut self, kind: u16, pieces: [&[u8]; N]) {
        let begin = self.out.len();
        self.out.extend_from_slice(&kind.to_be_bytes());
        self.out.extend_from_slice(&[0, 0]);
        for piece in pieces {
            self.out.extend_from_slice(piece);
        }
        let end = self.start + HEADER_LEN + MAX_LEN;
        if begin + ATTRIBUTE_HEADER_LEN > end {
            self.out.truncate(begin);
            return self.set_length(0);
        }
        self.out.truncate(end);
        let len = (self.out.len() - begin - ATTRIBUTE_HEADER_LEN) as u16;
        self.out[begin + 2..begin + 4].copy_from_slice(&len.to_be_bytes());
        let written = self.out.len() - self.start;
        self.out.resize(self.start + written.next_multiple_of(4), 0);
        self.set_length(0);
    }

    /// An address, masked (RFC 8489 section 14.2).
    pub fn xor_address(&mut self, kind: u16, address: SocketAddr) {
        let mask = address::mask(&self.transaction);
        self.masked_address(kind, address, mask);
    }

    /// An address as it is (RFC 8489 section 14.1).
    pub fn address(&mut self, kind: u16, address: SocketAddr) {
        self.masked_address(kind, address, [0; 16]);
    }

    fn masked_address(&mut self, kind: u16, address: SocketAddr, mask: [u8; 16]) {
        let port = (address.port() ^ u16::from_be_bytes([mask[0], mask[1]])).to_be_bytes();
        let mut masked = mask;
        let mut xor = |octets: &[u8]| {
            masked.iter_mut().zip(octets).for_each(|(mask, byte)| *mask ^= byte);
        };
        // A socket for both families shows IPv4 clients as ::ffff:a.b.c.d, an address that they do not have.
        let (family, len) = match address.ip().to_canonical() {
            IpAddr::V4(ip) => {
                xor(&ip.octets());
                (IPV4, 4)
            }
            IpAddr::V6(ip) => {
                xor(&ip.octets());
                (IPV6, 16)
            }
        };
        self.attribute_of(kind, [&[0, family], &port, &masked[..len]]);
    }

    /// Why a request is refused (RFC 8489 section 14.8).
    pub fn error(&mut self, code: u16, reason: &str) {
        self.attribute_of(ERROR_CODE, [&[0, 0, (code / 100) as u8, (code % 100) as u8], reason.as_bytes()]);
    }

    /// Which attributes were not understood (RFC 8489 section 14.9).
    pub fn unknown_attributes(&mut self, kinds: &[u16]) {
        let kinds: Vec<u8> = kinds.iter().flat_map(|kind| kind.to_be_bytes()).collect();
        self.attribute(UNKNOWN_ATTRIBUTES, &kinds);
    }

    /// Message integrity over all that was written.
    pub fn integrity(&mut self, key: &IntegrityKey) {
        let tag = key.sign(&self.out[self.start..]);
        self.attribute(key.attribute(), tag.as_ref());
    }

    /// The fingerprint, which has to be the last attribute.
    pub fn fingerprint(&mut self) {
        self.set_length(ATTRIBUTE_HEADER_LEN + FINGERPRINT_LEN);
        let sum = fingerprint(&self.out[self.start..]);
        self.attribute(FINGERPRINT, &sum);
    }

    /// The length in the header, with some that is still to come.
    fn set_length(&mut self, more: usize) {
        let length = (self.out.len() - self.start - HEADER_LEN + more).min(MAX_LEN) as u16;
        self.out[self.start + 2..self.start + 4].copy_from_slice(&length.to_be_bytes());
    }
}
