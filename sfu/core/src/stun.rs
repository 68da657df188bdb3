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

/// Writes requests as a client does, for the tests of this crate.
#[cfg(test)]
pub(crate) mod client {
    use super::*;

    /// What a test client puts into its request.
    #[derive(Clone, Debug)]
    pub(crate) struct TestRequest<'a> {
        pub(crate) username: &'a str,
        pub(crate) password: &'a str,
        pub(crate) priority: u32,
        pub(crate) use_candidate: bool,
        pub(crate) role: IceRole,
        pub(crate) unknown: &'a [u16],
    }

    impl TestRequest<'_> {
        pub(crate) fn write(&self) -> Vec<u8> {
            let mut out = Vec::new();
            begin(BINDING_REQUEST, b"transactions", &mut out);
            let mut attribute = |kind, value: &[u8]| {
                write_attribute_header(kind, value.len(), &mut out);
                out.extend_from_slice(value);
                pad(&mut out);
            };
            attribute(USERNAME, self.username.as_bytes());
            attribute(PRIORITY, &self.priority.to_be_bytes());
            match self.role {
                IceRole::Controlling(tie_breaker) => attribute(ICE_CONTROLLING, &tie_breaker.to_be_bytes()),
                IceRole::Controlled(tie_breaker) => attribute(ICE_CONTROLLED, &tie_breaker.to_be_bytes()),
            }
            if self.use_candidate {
                attribute(USE_CANDIDATE, &[]);
            }
            for &kind in self.unknown {
                attribute(kind, &[1, 2, 3, 4, 5]);
            }
            finish(&IntegrityKey::new(self.password), &mut out);
            out
        }
    }

    impl Default for TestRequest<'_> {
        fn default() -> Self {
            Self {
                username: "evtj:h6vY",
                password: "VOkJxbRl1RmTxUk/WvJxBt",
                priority: 0x6e00_01ff,
                use_candidate: false,
                role: IceRole::Controlling(7),
                unknown: &[],
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::client::TestRequest;
    use super::*;

    /// RFC 5769 section 2: the password of all three messages.
    const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";
    /// RFC 5769 section 2.1.
    const REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae80220010\
        5354554e207465737420636c69656e74002400046e0001ff80290008932ff9b151263b36\
        000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2\
        80280004e57a3bcf";
    /// RFC 5769 section 2.2.
    const RESPONSE_V4: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220\
        002000080001a147e112a643000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";
    /// RFC 5769 section 2.3.
    const RESPONSE_V6: &str = "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220\
        002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed41\
        80280004c8fb0b4c";

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    fn attributes(message: &[u8]) -> Vec<Attribute<'_>> {
        Attributes { message, offset: HEADER_LEN }.map(Result::unwrap).collect()
    }

    #[test]
    fn the_sample_request_of_rfc_5769_is_understood_and_authentic() {
        let datagram = hex(REQUEST);
        let request = BindingRequest::parse(&datagram).unwrap();
        assert_eq!(request.transaction_id[..], datagram[8..20]);
        assert_eq!((request.local_ufrag, request.remote_ufrag), ("evtj", "h6vY"));
        assert_eq!(request.priority, 0x6e00_01ff);
        assert_eq!(request.role, Some(IceRole::Controlled(0x932f_f9b1_5126_3b36)));
        assert!(!request.use_candidate);
        assert!(request.unknown_attributes().is_empty());
        assert!(request.verify(&IntegrityKey::new(PASSWORD)));
        assert!(!request.verify(&IntegrityKey::new("VOkJxbRl1RmTxUk/WvJxBT")));
    }

    #[test]
    fn responses_are_signed_and_their_addresses_masked_as_in_rfc_5769() {
        let datagram = hex(REQUEST);
        let request = BindingRequest::parse(&datagram).unwrap();
        let key = IntegrityKey::new(PASSWORD);
        let mut ours = Vec::new();
        for (sample, source) in [
            (RESPONSE_V4, "192.0.2.1:32853"),
            (RESPONSE_V4, "[::ffff:192.0.2.1]:32853"),
            (RESPONSE_V6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
        ] {
            let sample = hex(sample);
            let sample = attributes(&sample);
            write_success(&request, source.parse().unwrap(), &key, &mut ours);
            assert_eq!(ours[..4], [1, 1, 0, ours.len() as u8 - 20]);
            let ours = attributes(&ours);
            assert_eq!((ours[0].kind, ours[0].value), (XOR_MAPPED_ADDRESS, sample[1].value));
            assert_eq!(ours.iter().map(|a| a.kind).collect::<Vec<_>>(), [0x20, 8, 0x8028]);
        }
    }

    /// The samples hold an attribute that our writer has no use for, so their signatures are checked on their own.
    #[test]
    fn integrity_and_fingerprint_agree_with_rfc_5769() {
        for sample in [REQUEST, RESPONSE_V4, RESPONSE_V6] {
            let message = hex(sample);
            let attributes = attributes(&message);
            let [.., integrity, crc] = &attributes[..] else { panic!() };
            let tag = IntegrityKey::new(PASSWORD).sign(&message[..integrity.offset]);
            assert_eq!(tag.as_ref(), integrity.value);
            assert_eq!(check_fingerprint(&message, crc), Ok(()));
        }
    }

    #[test]
    fn errors_name_their_code_and_the_unknown_attributes() {
        let datagram = TestRequest { unknown: &[0x7001, 0xf001, 0x0030], ..TestRequest::default() }.write();
        let request = BindingRequest::parse(&datagram).unwrap();
        assert_eq!(request.unknown_attributes(), [0x7001, 0x0030]);
        let mut out = vec![1, 2, 3];
        for (error, code) in [(StunError::UnknownAttribute, [4, 20]), (StunError::RoleConflict, [4, 87])] {
            write_error(&request, error, &IntegrityKey::new(PASSWORD), &mut out);
            assert_eq!(be16(&out), BINDING_ERROR);
            assert_eq!(out[8..20], request.transaction_id);
            let attributes = attributes(&out);
            assert_eq!((attributes[0].kind, &attributes[0].value[2..4]), (ERROR_CODE, &code[..]));
            check_fingerprint(&out, attributes.last().unwrap()).unwrap();
            let unknown = attributes.iter().find(|a| a.kind == UNKNOWN_ATTRIBUTES).map(|a| a.value.to_vec());
            let expected = (error == StunError::UnknownAttribute).then(|| vec![0x70, 0x01, 0x00, 0x30]);
            assert_eq!(unknown, expected);
        }
    }

    #[test]
    fn nothing_behind_the_integrity_counts() {
        let mut datagram = TestRequest::default().write();
        datagram.truncate(datagram.len() - 8);
        write_attribute_header(USE_CANDIDATE, 0, &mut datagram);
        write_attribute_header(0x7001, 0, &mut datagram);
        let length = (datagram.len() - HEADER_LEN) as u16;
        datagram[2..4].copy_from_slice(&length.to_be_bytes());
        let request = BindingRequest::parse(&datagram).unwrap();
        assert!(request.verify(&IntegrityKey::new(PASSWORD)));
        assert!(!request.use_candidate);
        assert!(request.unknown_attributes().is_empty());
    }

    #[test]
    fn what_is_not_an_intact_binding_request_is_refused() {
        let good = TestRequest::default().write();
        let parse = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut datagram = good.clone();
            change(&mut datagram);
            BindingRequest::parse(&datagram).err()
        };
        assert_eq!(parse(&|_| {}), None);
        assert_eq!(parse(&|d| d[0] = 1), Some(DropReason::StunUnsupported));
        assert_eq!(parse(&|d| d[4] = 0), Some(DropReason::StunMalformed));
        assert_eq!(parse(&|d| d.push(0)), Some(DropReason::StunMalformed));
        assert_eq!(parse(&|d| *d.last_mut().unwrap() ^= 1), Some(DropReason::StunMalformed));
        // No attributes at all, hence no integrity.
        assert_eq!(
            parse(&|d| {
                d.truncate(HEADER_LEN);
                d[2..4].fill(0);
            }),
            Some(DropReason::StunUnauthenticated)
        );
        let without_colon = TestRequest { username: "evtj", ..TestRequest::default() }.write();
        assert_eq!(BindingRequest::parse(&without_colon).err(), Some(DropReason::StunMalformed));
    }

    #[test]
    fn random_and_mutated_datagrams_neither_panic_nor_pass() {
        let mut random = StdRng::seed_from_u64(5389);
        let good = TestRequest { unknown: &[0x7001], use_candidate: true, ..TestRequest::default() }.write();
        let key = IntegrityKey::new(PASSWORD);
        for _ in 0..20_000 {
            let mut datagram = good.clone();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..datagram.len());
                datagram[at] = random.random();
            }
            if random.random_bool(0.3) {
                datagram.truncate(random.random_range(0..datagram.len()));
            }
            if let Ok(request) = BindingRequest::parse(&datagram) {
                // Only what is behind the integrity may differ: there the fingerprint stands.
                let signed = good.len() - ATTRIBUTE_HEADER_LEN - FINGERPRINT_LEN;
                assert!(!request.verify(&key) || datagram[..signed] == good[..signed]);
            }
            let mut noise = vec![0; random.random_range(0..80)];
            random.fill(&mut noise[..]);
            assert!(BindingRequest::parse(&noise).is_err());
            if noise.len() >= HEADER_LEN {
                noise[..2].copy_from_slice(&[0, 1]);
                let length = (noise.len() - HEADER_LEN) as u16;
                noise[2..4].copy_from_slice(&length.to_be_bytes());
                noise[4..8].copy_from_slice(&MAGIC_COOKIE);
                assert!(BindingRequest::parse(&noise).is_err_and(|e| e != DropReason::StunUnsupported));
            }
        }
    }
}
