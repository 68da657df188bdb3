//! Which process has a port: the system's tables of sockets say which socket it is, and each process's open files whose.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How a port is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Udp,
    Tcp,
}

/// A process that has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) process: u32,
    pub(super) name: String,
}

/// The state of a TCP socket that listens, as the tables have it.
const LISTENING: &str = "0A";

impl Holder {
    /// Who has the port at this address, or at one that takes it too; `None` where nobody has, or this user may not know.
    pub(super) fn of(protocol: Protocol, address: SocketAddr) -> Option<Self> {
        let names = match protocol {
            Protocol::Udp => ["udp", "udp6"],
            Protocol::Tcp => ["tcp", "tcp6"],
        };
        let tables = names.map(|name| fs::read_to_string(format!("/proc/net/{name}")).unwrap_or_default());
        let inodes: Vec<String> = tables.iter().flat_map(|table| sockets(table, protocol, address)).collect();
        let processes = fs::read_dir("/proc").ok()?.flatten();
        let mut processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let process = processes.find(|process| has_one_of(*process, &inodes))?;
        let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        Some(Self { process, name: name.trim_end().to_owned() })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.process)
    }
}

/// The inodes of the sockets that have a port there: the second field is `ADDRESS:PORT` in hexadecimal, the fourth the state, the
/// tenth the inode (proc_net_tcp(5)).
fn sockets(table: &str, protocol: Protocol, wanted: SocketAddr) -> Vec<String> {
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let is_it = |fields: &Vec<&str>| {
        let local = fields.get(1).and_then(|local| read_address(local));
        let has_it =
            local.is_some_and(|local| local.port() == wanted.port() && overlap(local.ip(), wanted.ip()));
        has_it && (protocol == Protocol::Udp || fields.get(3) == Some(&LISTENING))
    };
    lines.filter(is_it).filter_map(|fields| fields.get(9).map(|inode| (*inode).to_owned())).collect()
}

/// An address as the tables have it: words of 32 bits in the order of this machine.
fn read_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |index: usize| u32::from_str_radix(ip.get(8 * index..8 * index + 8)?, 16).ok();
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?.to_ne_bytes()).into(),
        32 => {
            let mut octets = [0; 16];
            for (index, octets) in octets.chunks_exact_mut(4).enumerate() {
                octets.copy_from_slice(&word(index)?.to_ne_bytes());
            }
            Ipv6Addr::from(octets).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// Whether who has one of these addresses may be in the way of who wants the other. `::` may take IPv4 as well.
fn overlap(one: IpAddr, other: IpAddr) -> bool {
    let (one, other) = (one.to_canonical(), other.to_canonical());
    let takes = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
    one == other || takes(one, other) || takes(other, one)
}

fn has_one_of(process: u32, inodes: &[String]) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    files.flatten().filter_map(|file| fs::read_link(file.path()).ok()).any(|link| {
        let inode = link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.iter().any(|other| other == inode))
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn this_process_is_found_by_its_ports() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let tcp = Holder::of(Protocol::Tcp, listener.local_addr().unwrap()).unwrap();
        let udp = Holder::of(Protocol::Udp, socket.local_addr().unwrap()).unwrap();
        assert_eq!((tcp.process, udp.process), (std::process::id(), std::process::id()));
        let elsewhere = SocketAddr::from(([127, 0, 0, 9], listener.local_addr().unwrap().port()));
        assert_eq!(Holder::of(Protocol::Tcp, elsewhere), None, "another address is not in the way");
        let everywhere = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, everywhere.local_addr().unwrap().port()));
        assert_eq!(Holder::of(Protocol::Tcp, here).unwrap().process, std::process::id());
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        assert_eq!(Holder::of(Protocol::Udp, free), None);
    }
}
