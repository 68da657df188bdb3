//! A client's side of TURN, sans-IO: requests, signed as soon as the server has said how, and what its answers say. For those
//! who try a server out: `veche doctor`, and the tests.

use std::fmt;
use std::net::SocketAddr;

use veche_stun::attribute::{
    ERROR_CODE, MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256, NONCE, PASSWORD_ALGORITHM, PASSWORD_ALGORITHMS,
    REALM, USERHASH, USERNAME, XOR_MAPPED_ADDRESS,
};
use veche_stun::{
    Class, IntegrityKey, Malformed, Message, TransactionId, Writer, address as stun_address, message_type,
};

use crate::credentials::{LongTermKey, PasswordAlgorithm};
use crate::wire::{CHANNEL_HEADER_LEN, UDP, attribute, channel_data_len, is_channel, method};

/// Asked with a credential, a server may say so once more, with another nonce (RFC 8489 section 9.2.5).
const UNAUTHENTICATED: u16 = 401;
const STALE_NONCE: u16 = 438;

/// A client with a name and a password.
///
/// Each method that makes a request gives its bytes; [`Client::read`] takes what came back. A server answers the first
/// request with 401 and what the next has to repeat: [`Answer::asks_again`].
#[derive(Clone, Debug)]
pub struct Client {
    name: String,
    password: String,
    realm: String,
    nonce: Vec<u8>,
    transaction: TransactionId,
}

/// What the server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The error; 0 for a success.
    pub code: u16,
    /// The server's own words for it.
    pub reason: String,
    pub(crate) attributes: Vec<(u16, Vec<u8>)>,
    transaction: TransactionId,
}

/// An attribute of a request.
#[derive(Clone, Debug)]
pub(crate) enum Attr {
    Raw(u16, Vec<u8>),
    Peer(SocketAddr),
}

/// How a request is signed.
#[derive(Debug)]
pub(crate) struct Signature<'a> {
    pub(crate) name: &'a str,
    pub(crate) password: &'a str,
    pub(crate) realm: &'a str,
    pub(crate) nonce: &'a [u8],
    /// Which one the request names; MD5 where it names none.
    pub(crate) algorithm: Option<PasswordAlgorithm>,
    pub(crate) sha256: bool,
    /// Whether the name is told only as a hash.
    pub(crate) hidden: bool,
}

impl Client {
    /// A client that knows nothing of the server yet. `seed` is to be random, for it makes transactions unlike others'.
    pub fn new(name: &str, password: &str, seed: TransactionId) -> Self {
        let (realm, nonce) = (String::new(), Vec::new());
        Self { name: name.to_owned(), password: password.to_owned(), realm, nonce, transaction: seed }
    }

    /// Asks which address the server sees.
    pub fn binding(&mut self) -> Vec<u8> {
        self.next_transaction();
        write(message_type(Class::Request, method::BINDING), &self.transaction, &[], None)
    }

    /// Asks for a relay that speaks UDP, of IPv4.
    pub fn allocate(&mut self) -> Vec<u8> {
        self.request(method::ALLOCATE, &[Attr::udp()])
    }

    /// Asks for a relay that speaks UDP, of IPv6.
    pub fn allocate_v6(&mut self) -> Vec<u8> {
        let family = Attr::Raw(attribute::REQUESTED_ADDRESS_FAMILY, vec![stun_address::IPV6, 0, 0, 0]);
        self.request(method::ALLOCATE, &[Attr::udp(), family])
    }

    /// Asks that a peer may send to the relay (RFC 8656 section 9).
    pub fn create_permission(&mut self, peer: SocketAddr) -> Vec<u8> {
        self.request(method::CREATE_PERMISSION, &[Attr::Peer(peer)])
    }

    /// Asks for a channel to a peer; its number is one of 0x4000 to 0x4fff.
    pub fn bind_channel(&mut self, number: u16, peer: SocketAddr) -> Vec<u8> {
        self.request(method::CHANNEL_BIND, &[Attr::channel(number), Attr::Peer(peer)])
    }

    /// Asks for another lifetime of the relay, in seconds; 0 ends it.
    pub fn refresh(&mut self, seconds: u32) -> Vec<u8> {
        self.request(method::REFRESH, &[Attr::lifetime(seconds)])
    }

    /// Data for the peer of a channel, padded as streams want it (RFC 8656 section 12.5). At most 65,535 bytes.
    pub fn channel_data(number: u16, data: &[u8]) -> Vec<u8> {
        let mut bytes = [number.to_be_bytes(), (data.len() as u16).to_be_bytes()].concat();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// The channel and the data in what the server sends; `None` for anything else.
    pub fn read_channel_data(packet: &[u8]) -> Option<(u16, &[u8])> {
        let header = *packet.first_chunk::<CHANNEL_HEADER_LEN>().filter(|header| is_channel(header[0]))?;
        let data = packet.get(CHANNEL_HEADER_LEN..CHANNEL_HEADER_LEN + channel_data_len(header))?;
        Some((u16::from_be_bytes([header[0], header[1]]), data))
    }

    /// Takes the answer to the last request; `None` for what is none, or not signed by who knows the password.
    pub fn read(&mut self, packet: &[u8]) -> Option<Answer> {
        let answer = Answer::read(packet).ok().filter(|answer| answer.transaction == self.transaction)?;
        if matches!(answer.code, UNAUTHENTICATED | STALE_NONCE) {
            self.nonce = answer.get(NONCE)?.to_vec();
            self.realm = String::from_utf8(answer.get(REALM)?.to_vec()).ok()?;
        } else if answer.get(MESSAGE_INTEGRITY).is_some() {
            let key = self.signature().key();
            verify(packet, &key).then_some(())?;
        }
        Some(answer)
    }

    fn request(&mut self, method: u16, attributes: &[Attr]) -> Vec<u8> {
        self.next_transaction();
        let signature = Some(self.signature()).filter(|signature| !signature.nonce.is_empty());
        write(message_type(Class::Request, method), &self.transaction, attributes, signature.as_ref())
    }

    fn next_transaction(&mut self) {
        if let Some(count) = self.transaction.last_chunk_mut::<8>() {
            *count = u64::from_be_bytes(*count).wrapping_add(1).to_be_bytes();
        }
    }

    fn signature(&self) -> Signature<'_> {
        let Self { name, password, realm, nonce, .. } = self;
        Signature { name, password, realm, nonce, algorithm: None, sha256: false, hidden: false }
    }
}

impl Answer {
    /// Takes an answer apart, without looking at who has signed it.
    pub(crate) fn read(packet: &[u8]) -> Result<Self, Malformed> {
        let message = Message::parse(packet)?;
        let attributes = message.attributes().map(|attribute| {
            let attribute = attribute?;
            Ok((attribute.kind, attribute.value.to_vec()))
        });
        let attributes = attributes.collect::<Result<Vec<_>, Malformed>>()?;
        let transaction = message.transaction();
        let mut answer = Self { code: 0, reason: String::new(), attributes, transaction };
        match (message.class(), answer.get(ERROR_CODE)) {
            (Class::Success, _) => {}
            (Class::Error, Some(&[_, _, class, number, ref reason @ ..])) => {
                let reason = String::from_utf8_lossy(reason).into_owned();
                (answer.code, answer.reason) = (u16::from(class) * 100 + u16::from(number), reason);
            }
            _ => return Err(Malformed),
        }
        Ok(answer)
    }

    /// Whether the server asks for the same request again, with what it has just told.
    pub fn asks_again(&self) -> bool {
        matches!(self.code, UNAUTHENTICATED | STALE_NONCE)
    }

    /// The address that the server sees.
    pub fn mapped(&self) -> Option<SocketAddr> {
        self.address(XOR_MAPPED_ADDRESS)
    }

    /// The relay's address.
    pub fn relayed(&self) -> Option<SocketAddr> {
        self.address(attribute::XOR_RELAYED_ADDRESS)
    }

    pub(crate) fn get(&self, kind: u16) -> Option<&[u8]> {
        self.attributes.iter().find(|(other, _)| *other == kind).map(|(_, value)| &value[..])
    }

    /// Every address of a kind.
    pub(crate) fn addresses(&self, kind: u16) -> impl Iterator<Item = SocketAddr> {
        let values = self.attributes.iter().filter(move |(other, _)| *other == kind);
        values.filter_map(|(_, value)| stun_address::read_xor(value, &self.transaction).ok())
    }

    pub(crate) fn address(&self, kind: u16) -> Option<SocketAddr> {
        self.addresses(kind).next()
    }
}

/// The error's number and words.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, " {}", self.reason) }
    }
}

impl Attr {
    pub(crate) fn udp() -> Self {
        Self::Raw(attribute::REQUESTED_TRANSPORT, vec![UDP, 0, 0, 0])
    }

    pub(crate) fn channel(number: u16) -> Self {
        Self::Raw(attribute::CHANNEL_NUMBER, [&number.to_be_bytes()[..], &[0, 0]].concat())
    }

    pub(crate) fn lifetime(seconds: u32) -> Self {
        Self::Raw(attribute::LIFETIME, seconds.to_be_bytes().to_vec())
    }
}

impl Signature<'_> {
    /// The key, which only who knows the password has.
    pub(crate) fn key(&self) -> IntegrityKey {
        let algorithm = self.algorithm.unwrap_or(PasswordAlgorithm::Md5);
        LongTermKey::new(algorithm, self.name, self.realm, self.password).ready(self.sha256)
    }

    fn write(&self, writer: &mut Writer<'_>) {
        if self.hidden {
            let text = format!("{}:{}", self.name, self.realm);
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
            writer.attribute(USERHASH, hash.as_ref());
        } else {
            writer.attribute(USERNAME, self.name.as_bytes());
        }
        writer.attribute(REALM, self.realm.as_bytes());
        writer.attribute(NONCE, self.nonce);
        if let Some(algorithm) = self.algorithm {
            let number = if algorithm == PasswordAlgorithm::Md5 { 1 } else { 2 };
            writer.attribute(PASSWORD_ALGORITHM, &[0, number, 0, 0]);
            writer.attribute(PASSWORD_ALGORITHMS, &PasswordAlgorithm::OFFERED);
        }
        writer.integrity(&self.key());
    }
}

/// A message of a client.
pub(crate) fn write(
    kind: u16,
    transaction: &TransactionId,
    attributes: &[Attr],
    signature: Option<&Signature<'_>>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(kind, transaction, &mut bytes);
    for attribute in attributes {
        match attribute {
            Attr::Raw(kind, value) => writer.attribute(*kind, value),
            Attr::Peer(peer) => writer.xor_address(attribute::XOR_PEER_ADDRESS, *peer),
        }
    }
    if let Some(signature) = signature {
        signature.write(&mut writer);
    }
    bytes
}

/// Whether who made the answer has the key.
pub(crate) fn verify(packet: &[u8], key: &IntegrityKey) -> bool {
    let Ok(message) = Message::parse(packet) else { return false };
    let mut attributes = message.attributes().filter_map(Result::ok);
    let integrity =
        attributes.find(|attribute| matches!(attribute.kind, MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256));
    integrity.is_some_and(|integrity| key.verify(message.before(&integrity), integrity.value))
}
