//! STUN: a datagram is parsed; what parses is verified, and answered in all ways.

use std::net::{Ipv6Addr, SocketAddr};

use veche_sfu_core::stun::{BindingRequest, IntegrityKey, StunError, is_stun, write_error, write_success};

pub(crate) fn run(input: &[u8]) {
    let Ok(request) = BindingRequest::parse(input) else { return };
    assert!(is_stun(input), "only STUN parses");
    assert!(!request.local_ufrag.is_empty());
    let key = IntegrityKey::new("a password of the seeds");
    request.verify(&key);
    let mut out = Vec::new();
    write_success(&request, SocketAddr::from((Ipv6Addr::LOCALHOST, 9)), &key, &mut out);
    assert!(is_stun(&out), "the answer is STUN");
    for error in [StunError::UnknownAttribute, StunError::RoleConflict] {
        write_error(&request, error, &key, &mut out);
        assert!(is_stun(&out), "the answer is STUN");
        assert_eq!(out[8..20], input[8..20], "the answer has the request's transaction");
    }
}
