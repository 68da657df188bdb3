//! Addresses in attributes, masked so that no NAT mistakes them for its own work (RFC 8489 section 14.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::message::TransactionId;
use crate::{MAGIC_COOKIE, Malformed};

/// The address family of IPv4 (RFC 8489 section 14.1).
pub const IPV4: u8 = 1;
/// The address family of IPv6.
pub const IPV6: u8 = 2;

/// What addresses of this transaction are masked with.
pub(crate) fn mask(transaction: &TransactionId) -> [u8; 16] {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE);
    mask[4..].copy_from_slice(transaction);
    mask
}

/// The address in the value of an XOR-MAPPED-ADDRESS or one of the same form.
pub fn read_xor(value: &[u8], transaction: &TransactionId) -> Result<SocketAddr, Malformed> {
    let mask = mask(transaction);
    let (&[_, family, high, low], ip) = value.split_first_chunk::<4>().ok_or(Malformed)?;
    let port = u16::from_be_bytes([high ^ mask[0], low ^ mask[1]]);
    let unmask = |out: &mut [u8]| {
        out.iter_mut().zip(ip).zip(mask).for_each(|((out, byte), mask)| *out = byte ^ mask);
    };
    let ip = match (family, ip.len()) {
        (IPV4, 4) => {
            let mut octets = [0; 4];
            unmask(&mut octets);
            IpAddr::V4(Ipv4Addr::from(octets))
        }
        (IPV6, 16) => {
            let mut octets = [0; 16];
            unmask(&mut octets);
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return Err(Malformed),
    };
    Ok(SocketAddr::new(ip, port))
}
