//! The check that a browser makes to find out whether the media plane can be reached (RFC 8445 section 7).

use std::net::SocketAddr;

use veche_stun::attribute::{MESSAGE_INTEGRITY, USERNAME, XOR_MAPPED_ADDRESS};
use veche_stun::{Class, IntegrityKey, Message, TransactionId, Writer, address, message_type};

use crate::signaling::{Media, OWN_FRAGMENT};

/// The method of a check.
const BINDING: u16 = 0x001;
/// Attributes of ICE (RFC 8445 section 16.1).
const PRIORITY: u16 = 0x0024;
const ICE_CONTROLLING: u16 = 0x802a;

/// What a peer-reflexive candidate of a browser has.
const A_PRIORITY: u32 = 0x6e00_01ff;

/// One check, which only a server that knows this session answers.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    key: IntegrityKey,
    transaction: TransactionId,
    /// What is to be sent.
    pub(crate) request: Vec<u8>,
}

impl Check {
    pub(crate) fn new(media: &Media) -> Self {
        let key = IntegrityKey::new(&media.password);
        let transaction: TransactionId = rand::random();
        let mut request = Vec::new();
        let mut writer = Writer::begin(message_type(Class::Request, BINDING), &transaction, &mut request);
        writer.attribute(USERNAME, format!("{}:{OWN_FRAGMENT}", media.fragment).as_bytes());
        writer.attribute(PRIORITY, &A_PRIORITY.to_be_bytes());
        writer.attribute(ICE_CONTROLLING, &rand::random::<u64>().to_be_bytes());
        writer.integrity(&key);
        writer.fingerprint();
        Self { key, transaction, request }
    }

    /// The address that the server saw, in its signed answer; `None` for anything else.
    pub(crate) fn read(&self, packet: &[u8]) -> Option<SocketAddr> {
        let message = Message::parse(packet).ok()?;
        if message.class() != Class::Success || message.transaction() != self.transaction {
            return None;
        }
        let mut mapped = None;
        for attribute in message.attributes() {
            let attribute = attribute.ok()?;
            match attribute.kind {
                XOR_MAPPED_ADDRESS => mapped = address::read_xor(attribute.value, &self.transaction).ok(),
                MESSAGE_INTEGRITY => {
                    let is_signed = self.key.verify(message.before(&attribute), attribute.value);
                    return mapped.filter(|_| is_signed);
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_signed_answer_to_this_check_counts() {
        let media = Media { fragment: "f".into(), password: "p".repeat(22), ..Media::default() };
        let check = Check::new(&media);
        let seen: SocketAddr = "198.51.100.7:5555".parse().unwrap();
        let answer = |transaction: &TransactionId, password: &str| {
            let mut bytes = Vec::new();
            let mut writer = Writer::begin(message_type(Class::Success, BINDING), transaction, &mut bytes);
            writer.xor_address(XOR_MAPPED_ADDRESS, seen);
            writer.integrity(&IntegrityKey::new(password));
            writer.fingerprint();
            bytes
        };
        assert_eq!(check.read(&answer(&check.transaction, &media.password)), Some(seen));
        assert_eq!(check.read(&answer(&[0; 12], &media.password)), None);
        assert_eq!(check.read(&answer(&check.transaction, "another")), None);
        assert_eq!(check.read(&check.request), None);
        assert_eq!(check.read(b"nonsense"), None);
    }
}
