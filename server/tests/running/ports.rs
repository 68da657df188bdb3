//! Ports for servers that have to be told one.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below those that the system gives to whoever asks for any, so that no other test has it a moment later.
const FIRST: u16 = 10_000;
const COUNT: u16 = 10_000;

/// An address of this machine that nobody has, over TCP and UDP.
pub(crate) fn free() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = (std::process::id() % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (begin.wrapping_mul(7) % COUNT + step % COUNT) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
    panic!("all ports are in use");
}
