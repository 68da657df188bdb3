//! What ICMP says of packets that relays have sent: the system keeps it in a queue of each socket.

use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc::{SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6, sock_extended_err};
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};

/// How many errors of one relay are taken in one turn, so that nobody starves others.
const ERRORS_PER_TURN: usize = 16;

/// An ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IcmpError {
    /// Whom the packet was for.
    pub(crate) peer: SocketAddr,
    /// Type and code.
    pub(crate) kind: [u8; 2],
    /// The MTU of the next hop, where the error is about that.
    pub(crate) data: u32,
}

/// Has the system keep errors of a socket. They make it ready, and one send after each fails.
pub(crate) fn keep_errors(socket: &UdpSocket, is_v6: bool) -> nix::Result<()> {
    if is_v6 { setsockopt(socket, Ipv6RecvErr, &true) } else { setsockopt(socket, Ipv4RecvErr, &true) }
}

/// Hands over the errors of a socket, but not all of very many.
pub(crate) fn take_errors(socket: &UdpSocket, mut handle: impl FnMut(IcmpError)) {
    // Room for all that the system says beside; this is no path of packets.
    let mut control = cmsg_space!([u8; 256]);
    for _ in 0..ERRORS_PER_TURN {
        // Of the packet itself only the address matters.
        let mut nothing = [0; 1];
        let mut pieces = [IoSliceMut::new(&mut nothing)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let message =
            match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut pieces, Some(&mut control), flags) {
                Ok(message) => message,
                Err(Errno::EINTR) => continue,
                Err(_) => return,
            };
        let peer =
            message.address.and_then(|address| match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
                (Some(v4), _) => Some(SocketAddr::from((v4.ip(), v4.port()))),
                (None, Some(v6)) => Some(SocketAddr::from((v6.ip(), v6.port()))),
                (None, None) => None,
            });
        let told = message.cmsgs().ok().and_then(|mut all| all.find_map(|one| extended(&one)));
        if let (Some(peer), Some(error)) = (peer, told) {
            handle(IcmpError { peer, kind: [error.ee_type, error.ee_code], data: error.ee_info });
        }
    }
}

/// What a network has said; other errors are this machine's own, which the send has returned already.
fn extended(message: &ControlMessageOwned) -> Option<sock_extended_err> {
    match message {
        ControlMessageOwned::Ipv4RecvErr(error, _) if error.ee_origin == SO_EE_ORIGIN_ICMP => Some(*error),
        ControlMessageOwned::Ipv6RecvErr(error, _) if error.ee_origin == SO_EE_ORIGIN_ICMP6 => Some(*error),
        _ => None,
    }
}
