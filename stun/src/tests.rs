//! The samples of RFC 5769, read and made again.

use std::net::SocketAddr;

use crate::attribute::*;
use crate::*;

/// RFC 5769 section 2: the password of the first three messages.
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

fn attributes<'a>(message: &Message<'a>) -> Vec<Attribute<'a>> {
    message.attributes().map(Result::unwrap).collect()
}

#[test]
fn integrity_and_fingerprint_agree_with_rfc_5769() {
    let key = IntegrityKey::new(PASSWORD);
    for sample in [REQUEST, RESPONSE_V4, RESPONSE_V6] {
        let bytes = hex(sample);
        let message = Message::parse(&bytes).unwrap();
        let attributes = attributes(&message);
        let [.., integrity, sum] = &attributes[..] else { panic!() };
        assert!(key.verify(message.before(integrity), integrity.value));
        assert!(!IntegrityKey::new("another").verify(message.before(integrity), integrity.value));
        assert!(!key.verify(message.before(integrity), &integrity.value[..16]), "SHA-1 is not cut");
        assert_eq!(message.has_fingerprint(sum), Ok(()));
        assert_eq!(message.has_fingerprint(integrity), Err(Malformed));
    }
}

#[test]
fn the_samples_of_rfc_5769_are_made_again_byte_by_byte() {
    let key = IntegrityKey::new(PASSWORD);
    for (sample, address) in [
        (RESPONSE_V4, "192.0.2.1:32853"),
        (RESPONSE_V4, "[::ffff:192.0.2.1]:32853"),
        (RESPONSE_V6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
    ] {
        let mut sample = hex(sample);
        let address: SocketAddr = address.parse().unwrap();
        let transaction = Message::parse(&sample).unwrap().transaction();
        let mut ours = vec![7; 3];
        let mut writer = Writer::begin(message_type(Class::Success, 1), &transaction, &mut ours);
        writer.attribute(SOFTWARE, b"test vector");
        writer.xor_address(XOR_MAPPED_ADDRESS, address);
        // The samples pad with blanks, we with zeros: what is signed differs, so that much is made equal.
        let pad = 20 + 4 + 11;
        sample[pad] = 0;
        writer.integrity(&key);
        writer.fingerprint();
        let tag_at = sample.len() - 8 - 20;
        assert_eq!(ours[3..3 + tag_at], sample[..tag_at]);
        let message = Message::parse(&ours[3..]).unwrap();
        let attributes = attributes(&message);
        assert!(key.verify(message.before(&attributes[2]), attributes[2].value));
        assert_eq!(message.has_fingerprint(&attributes[3]), Ok(()));
        let read = address::read_xor(attributes[1].value, &transaction).unwrap();
        assert_eq!(read.ip(), address.ip().to_canonical());
        assert_eq!(read.port(), address.port());
    }
}

#[test]
fn a_type_is_class_and_method() {
    assert_eq!(message_type(Class::Error, 1), 0x0111);
    assert_eq!(message_type(Class::Success, 0x009), 0x0109);
    for method in [0x001, 0x003, 0x00a, 0x080, 0x0ff] {
        for class in [Class::Request, Class::Indication, Class::Success, Class::Error] {
            let mut bytes = Vec::new();
            Writer::begin(message_type(class, method), &[1; 12], &mut bytes);
            let message = Message::parse(&bytes).unwrap();
            assert_eq!((message.class(), message.method()), (class, method));
        }
    }
}

#[test]
fn a_cut_sha256_does_not_count() {
    let key = IntegrityKey::sha256(b"key");
    let mut bytes = Vec::new();
    Writer::begin(1, &[0; 12], &mut bytes).attribute(SOFTWARE, b"abc");
    assert!(key.verify(&bytes, key.sign(&bytes).as_ref()));
    // As whoever cuts it would sign: the length in the header counts the tag as it is.
    let mut signed = bytes.clone();
    signed[2..4]
        .copy_from_slice(&((bytes.len() - HEADER_LEN + ATTRIBUTE_HEADER_LEN + 16) as u16).to_be_bytes());
    let raw = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"key");
    let tag = aws_lc_rs::hmac::sign(&raw, &signed);
    assert!(!key.verify(&bytes, &tag.as_ref()[..16]));
    assert!(!key.verify(&bytes, &key.sign(&bytes).as_ref()[..28]));
}

#[test]
fn what_does_not_fit_into_a_message_is_cut_and_left_out() {
    let mut bytes = b"before".to_vec();
    let mut writer = Writer::begin(1, &[0; 12], &mut bytes);
    writer.attribute(SOFTWARE, b"abc");
    writer.attribute(SOFTWARE, &vec![7; 70_000]);
    writer.attribute(SOFTWARE, b"late");
    writer.unknown_attributes(&[1, 2]);
    writer.integrity(&IntegrityKey::sha1(b"key"));
    writer.fingerprint();
    assert_eq!(bytes.len(), b"before".len() + HEADER_LEN + 65_532);
    let message = Message::parse(&bytes[b"before".len()..]).unwrap();
    let lengths: Vec<usize> = message.attributes().map(|one| one.unwrap().value.len()).collect();
    assert_eq!(lengths, [3, 65_532 - 8 - 4]);
}

#[test]
fn what_does_not_fit_is_malformed() {
    let bytes = hex(REQUEST);
    assert_eq!(Message::parse(&bytes[..bytes.len() - 1]).err(), Some(Malformed));
    assert_eq!(Message::parse(&[]).err(), Some(Malformed));
    let mut long = bytes.clone();
    long[23] = 0xff;
    let message = Message::parse(&long).unwrap();
    assert_eq!(message.attributes().last(), Some(Err(Malformed)));
    assert_eq!(address::read_xor(&[0, 1, 0, 0, 1, 2, 3], &[0; 12]), Err(Malformed));
    assert_eq!(address::read_xor(&[0, 3, 0, 0, 1, 2, 3, 4], &[0; 12]), Err(Malformed));
}

#[test]
fn unknown_attributes_and_errors_are_whole_messages() {
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(message_type(Class::Error, 3), &[3; 12], &mut bytes);
    writer.error(420, "Unknown Attribute");
    writer.unknown_attributes(&[0x7001, 0x0030, 0x0031]);
    let message = Message::parse(&bytes).unwrap();
    let attributes = attributes(&message);
    assert_eq!(attributes[0].value, [&[0, 0, 4, 20][..], b"Unknown Attribute"].concat());
    assert_eq!(attributes[1].value, [0x70, 0x01, 0x00, 0x30, 0x00, 0x31]);
}
