//! Requests that are right, wrong and random, and the answers to them.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::client::TestRequest;
use veche_stun::attribute::{ERROR_CODE, UNKNOWN_ATTRIBUTES};
use veche_stun::{ATTRIBUTE_HEADER_LEN, FINGERPRINT_LEN, HEADER_LEN, MAGIC_COOKIE};

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
    Message::parse(message).unwrap().attributes().map(Result::unwrap).collect()
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

#[test]
fn errors_name_their_code_and_the_unknown_attributes() {
    let datagram = TestRequest { unknown: &[0x7001, 0xf001, 0x0030], ..TestRequest::default() }.write();
    let request = BindingRequest::parse(&datagram).unwrap();
    assert_eq!(request.unknown_attributes(), [0x7001, 0x0030]);
    let mut out = vec![1, 2, 3];
    for (error, code) in [(StunError::UnknownAttribute, [4, 20]), (StunError::RoleConflict, [4, 87])] {
        write_error(&request, error, &IntegrityKey::new(PASSWORD), &mut out);
        assert_eq!(Message::parse(&out).unwrap().kind(), BINDING_ERROR);
        assert_eq!(out[8..20], request.transaction_id);
        let attributes = attributes(&out);
        assert_eq!((attributes[0].kind, &attributes[0].value[2..4]), (ERROR_CODE, &code[..]));
        Message::parse(&out).unwrap().has_fingerprint(attributes.last().unwrap()).unwrap();
        let unknown = attributes.iter().find(|a| a.kind == UNKNOWN_ATTRIBUTES).map(|a| a.value.to_vec());
        let expected = (error == StunError::UnknownAttribute).then(|| vec![0x70, 0x01, 0x00, 0x30]);
        assert_eq!(unknown, expected);
    }
}

#[test]
fn nothing_behind_the_integrity_counts() {
    let mut datagram = TestRequest::default().write();
    datagram.truncate(datagram.len() - 8);
    for kind in [USE_CANDIDATE, 0x7001] {
        datagram.extend_from_slice(&kind.to_be_bytes());
        datagram.extend_from_slice(&[0, 0]);
    }
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
