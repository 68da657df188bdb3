//! Binding a worker's port: one number for UDP and TCP, at each address.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_reuseport;
use socket2::{Domain, Socket, Type};

use crate::handle::StartError;
use crate::tenants;

/// How often another number is tried when the system chooses one that is free at one address and not at another.
const ATTEMPTS: usize = 16;

/// How many clients may wait to be accepted.
const BACKLOG: i32 = 128;

/// The sockets of one worker, all with one port number, none of them blocking.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    pub(crate) udp: Vec<UdpSocket>,
    /// For each tenant as many.
    pub(crate) tenants: Vec<Vec<UdpSocket>>,
    pub(crate) listeners: Vec<TcpListener>,
}

/// Which of the configured addresses can be bound: without IPv6 on the machine, only those of IPv4.
pub(crate) fn usable_addresses(configured: &[IpAddr]) -> Result<Vec<IpAddr>, StartError> {
    let ipv6 = configured.contains(&Ipv6Addr::UNSPECIFIED.into()) && has_ipv6();
    let mut usable = Vec::new();
    for &address in configured {
        if address == IpAddr::from(Ipv6Addr::UNSPECIFIED) && !ipv6 {
            tracing::warn!("this machine has no IPv6; media goes over IPv4 only");
        } else if !usable.contains(&address) {
            usable.push(address);
        }
    }
    if usable.is_empty() {
        return Err(StartError {
            setting: "media.bind",
            reason: "no address to receive media at; set it (VECHE_MEDIA_BIND), for example to [\"0.0.0.0\", \"::\"]"
                .to_owned(),
        });
    }
    Ok(usable)
}

/// Binds `number` at all addresses, over UDP for so many tenants too; 0 for any number that is free at all of them.
pub(crate) fn bind_port(
    addresses: &[IpAddr],
    number: u16,
    tcp: bool,
    tenants: usize,
) -> Result<Port, StartError> {
    let mut attempts = if number == 0 { ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        match try_bind(addresses, number, tcp, tenants) {
            Ok(port) => return Ok(port),
            Err(failure) if failure.error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
            Err(failure) => return Err(failure.into()),
        }
    }
}

/// What could not be bound.
struct BindFailure {
    protocol: &'static str,
    address: SocketAddr,
    error: io::Error,
}

fn try_bind(addresses: &[IpAddr], number: u16, tcp: bool, tenants: usize) -> Result<Port, BindFailure> {
    let tenants = std::iter::repeat_with(Vec::new).take(tenants).collect();
    let mut port = Port { number, udp: Vec::new(), tenants, listeners: Vec::new() };
    for &ip in addresses {
        let address = SocketAddr::from((ip, port.number));
        let failure = |error| BindFailure { protocol: "UDP", address, error };
        let socket = bind(address, Type::DGRAM, false).map_err(failure)?;
        let socket = UdpSocket::from(socket);
        port.number = socket.local_addr().map_err(failure)?.port();
        port.take_in(socket).map_err(failure)?;
    }
    for &ip in addresses.iter().filter(|_| tcp) {
        let address = SocketAddr::from((ip, port.number));
        let failure = |error| BindFailure { protocol: "TCP", address, error };
        let socket = bind(address, Type::STREAM, false).map_err(failure)?;
        socket.listen(BACKLOG).map_err(failure)?;
        port.listeners.push(socket.into());
    }
    Ok(port)
}

impl Port {
    /// Puts a UDP socket into use, with tenants where there are some.
    fn take_in(&mut self, socket: UdpSocket) -> io::Result<()> {
        if self.tenants.is_empty() {
            self.udp.push(socket);
            return Ok(());
        }
        // It could be had alone: nobody else has it. Sockets of tenants stand in the system's list as they were bound.
        let address = socket.local_addr()?;
        drop(socket);
        let again = || bind(address, Type::DGRAM, true).map(UdpSocket::from);
        let socket = again()?;
        for tenant in &mut self.tenants {
            tenant.push(again()?);
        }
        tenants::admit(&socket, self.tenants.len())?;
        self.udp.push(socket);
        Ok(())
    }
}

fn bind(address: SocketAddr, kind: Type, with_tenants: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        // Connections of a server that has just stopped do not keep its port (TIME_WAIT).
        socket.set_reuse_address(true)?;
    }
    if with_tenants {
        set_socket_reuseport(&socket, true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn has_ipv6() -> bool {
    match bind((Ipv6Addr::UNSPECIFIED, 0).into(), Type::DGRAM, false) {
        Ok(_) => true,
        Err(error) => !matches!(Errno::from_io_error(&error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)),
    }
}

impl From<BindFailure> for StartError {
    fn from(BindFailure { protocol, address, error }: BindFailure) -> Self {
        let (ip, port) = (address.ip(), address.port());
        match error.kind() {
            io::ErrorKind::AddrNotAvailable => StartError {
                setting: "media.bind",
                reason: format!(
                    "{ip} is not an address of this machine; set media.bind (VECHE_MEDIA_BIND) to one that is, or to \
                     0.0.0.0 for all. The address that a NAT shows to others belongs in media.external_addresses"
                ),
            },
            io::ErrorKind::AddrInUse => StartError {
                setting: "media.first_port",
                reason: format!(
                    "{protocol} port {port} at {ip} is in use; stop the other program, or set media.first_port \
                     (VECHE_MEDIA_FIRST_PORT) to the first of a free range, for example {}, or to 0 for any",
                    if port < 60_000 { port + 1000 } else { 40_000 }
                ),
            },
            io::ErrorKind::PermissionDenied => StartError {
                setting: "media.first_port",
                reason: format!(
                    "{protocol} port {port} at {ip} may not be used by this user; set media.first_port \
                     (VECHE_MEDIA_FIRST_PORT) to one above 1023, for example 40000"
                ),
            },
            _ => StartError {
                setting: "media.first_port",
                reason: format!(
                    "{protocol} port {port} at {ip} cannot be opened: {error}; another media.first_port \
                     (VECHE_MEDIA_FIRST_PORT), for example 40000, or another media.bind may help"
                ),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    #[test]
    fn all_sockets_of_a_worker_have_one_number() {
        let addresses = usable_addresses(&[ANY, Ipv6Addr::UNSPECIFIED.into(), ANY]).unwrap();
        let port = bind_port(&addresses, 0, true, 0).unwrap();
        assert_ne!(port.number, 0);
        assert!(port.udp.iter().all(|socket| socket.local_addr().unwrap().port() == port.number));
        assert!(port.listeners.iter().all(|listener| listener.local_addr().unwrap().port() == port.number));
        assert_eq!((port.udp.len(), port.listeners.len()), (addresses.len(), addresses.len()));
    }

    #[test]
    fn a_port_in_use_names_the_setting() {
        let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = other.local_addr().unwrap().port();
        let error = bind_port(&[Ipv4Addr::LOCALHOST.into()], taken, false, 0).unwrap_err();
        assert_eq!(error.setting, "media.first_port");
        assert!(error.reason.contains(&format!("UDP port {taken} at 127.0.0.1 is in use")), "{error}");
        assert!(error.reason.contains("VECHE_MEDIA_FIRST_PORT"), "{error}");
    }

    #[test]
    fn a_foreign_address_names_the_setting() {
        let error = bind_port(&[Ipv4Addr::new(198, 51, 100, 1).into()], 0, false, 0).unwrap_err();
        assert_eq!(error.setting, "media.bind");
        assert_eq!(usable_addresses(&[]).unwrap_err().setting, "media.bind");
    }
}
