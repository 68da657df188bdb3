//! Binding the addresses where clients come: a UDP socket and a TCP listener of each for every worker.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use rustix::net::sockopt::set_socket_reuseport;
use socket2::{Domain, Socket, Type};

use crate::config::StartError;

/// How many clients may wait to be accepted.
const BACKLOG: i32 = 512;

/// The sockets of one worker.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    pub(crate) udp: Vec<UdpSocket>,
    pub(crate) tcp: Vec<TcpListener>,
}

/// Binds every address for each of `workers`; returns the addresses with their ports, where 0 was asked for.
pub(crate) fn bind(
    addresses: &[SocketAddr],
    workers: usize,
) -> Result<(Vec<Listeners>, Vec<SocketAddr>), StartError> {
    let mut listeners: Vec<Listeners> = (0..workers).map(|_| Listeners::default()).collect();
    let mut bound = Vec::new();
    for &address in addresses {
        let address = claim(address).map_err(|(protocol, error)| failure(protocol, address, &error))?;
        for listeners in &mut listeners {
            let udp = open(address, Type::DGRAM, true).map_err(|error| failure("UDP", address, &error))?;
            listeners.udp.push(udp.into());
            let tcp = open(address, Type::STREAM, true)
                .and_then(|tcp| tcp.listen(BACKLOG).map(|()| tcp))
                .map_err(|error| failure("TCP", address, &error))?;
            listeners.tcp.push(tcp.into());
        }
        bound.push(address);
    }
    Ok((listeners, bound))
}

/// Finds out whether an address is free. With `SO_REUSEPORT` alone two servers would share it without knowing.
fn claim(address: SocketAddr) -> Result<SocketAddr, (&'static str, io::Error)> {
    let mut attempts = if address.port() == 0 { 16 } else { 1 };
    loop {
        attempts -= 1;
        let udp = open(address, Type::DGRAM, false).map_err(|error| ("UDP", error))?;
        let port = udp.local_addr().ok().and_then(|local| local.as_socket()).map_or(0, |local| local.port());
        let address = SocketAddr::new(address.ip(), port);
        match open(address, Type::STREAM, false) {
            Ok(_) => return Ok(address),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
            Err(error) => return Err(("TCP", error)),
        }
    }
}

fn open(address: SocketAddr, kind: Type, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        // Connections of a server that has just stopped do not keep its port (TIME_WAIT).
        socket.set_reuse_address(true)?;
    }
    if shared {
        set_socket_reuseport(&socket, true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn failure(protocol: &str, address: SocketAddr, error: &io::Error) -> StartError {
    let (ip, port) = (address.ip(), address.port());
    let reason = match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "{ip} is not an address of this machine; set turn.listen to one that is, or to [\"0.0.0.0:{port}\"]"
            )
        }
        io::ErrorKind::AddrInUse => format!(
            "{protocol} port {port} at {ip} is in use; stop the other program (another TURN server?), or set turn.listen \
             (VECHE_TURN_LISTEN) to another port, for example [\"0.0.0.0:3479\"]"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "{protocol} port {port} at {ip} may not be used by this user; set turn.listen (VECHE_TURN_LISTEN) to a port \
             above 1023, for example [\"0.0.0.0:3478\"]"
        ),
        _ => {
            format!("{protocol} port {port} at {ip} cannot be opened: {error}; another turn.listen may help")
        }
    };
    StartError { setting: "turn.listen", reason }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn workers_share_an_address_and_strangers_do_not() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (listeners, bound) = bind(&[any, any], 3).unwrap();
        assert_eq!((listeners.len(), bound.len()), (3, 2));
        assert!(bound[0].port() != 0 && bound[0] != bound[1]);
        for listeners in &listeners {
            let udp: Vec<_> = listeners.udp.iter().map(|udp| udp.local_addr().unwrap()).collect();
            let tcp: Vec<_> = listeners.tcp.iter().map(|tcp| tcp.local_addr().unwrap()).collect();
            assert_eq!((&udp, &tcp), (&bound, &bound));
        }
        let error = bind(&bound[..1], 1).unwrap_err();
        assert!(
            error.reason.contains(&format!("UDP port {} at 127.0.0.1 is in use", bound[0].port())),
            "{error}"
        );
        let foreign = SocketAddr::from(([198, 51, 100, 1], 0));
        assert!(bind(&[foreign], 1).unwrap_err().reason.contains("not an address of this machine"));
    }
}
