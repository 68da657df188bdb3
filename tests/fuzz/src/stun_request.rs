//! A client's binding requests, signed with the server's password.

use aws_lc_rs::hmac;

/// Attribute types (RFC 8489 section 18.3, RFC 8445 section 16.1).
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;

/// A request. The flags: 1 nominates, 2 takes the wrong role, 4 has an attribute that nobody knows, 8 has no priority.
pub fn binding_request(username: &str, password: &str, flags: u8) -> Vec<u8> {
    let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    message.extend([flags; 12]);
    attribute(&mut message, USERNAME, username.as_bytes());
    if flags & 8 == 0 {
        attribute(&mut message, PRIORITY, &[0x6e, 0, 0x1e, 0xff]);
    }
    attribute(&mut message, if flags & 2 == 0 { ICE_CONTROLLING } else { ICE_CONTROLLED }, &[1; 8]);
    if flags & 1 != 0 {
        attribute(&mut message, USE_CANDIDATE, &[]);
    }
    if flags & 4 != 0 {
        attribute(&mut message, 0x7777, b"what");
    }
    set_length(&mut message, 24);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes());
    let tag = hmac::sign(&key, &message);
    attribute(&mut message, MESSAGE_INTEGRITY, tag.as_ref());
    set_length(&mut message, 0);
    message
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend((value.len() as u16).to_be_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Writes the length as it will be with so many bytes more.
fn set_length(message: &mut [u8], more: usize) {
    let len = (message.len() - 20 + more) as u16;
    message[2..4].copy_from_slice(&len.to_be_bytes());
}
