//! Tenants of a UDP port: sockets of the TURN server that stand at the same address as the media worker's (`SO_REUSEPORT`). A
//! program in the system (classic BPF) looks at each datagram and gives it to whom it is for, before anybody is woken.

use std::io;
use std::net::{IpAddr, UdpSocket};

use nix::libc::{sock_filter, sock_fprog};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::AttachReusePortCbpf;
use veche_stun::ATTRIBUTE_HEADER_LEN;

/// The attributes of a Binding request that may be one of ICE have at least the length of a MESSAGE-INTEGRITY
/// (RFC 8445 section 7.1.2, RFC 8489 section 14.5). Who asks a STUN server for their address needs none.
const INTEGRITY: u16 = ATTRIBUTE_HEADER_LEN as u16 + 20;

/// The bits of a STUN message's type that tell the method (RFC 8489 section 5).
const METHOD: u16 = 0x3eef;
const BINDING: u16 = 1;

/// The two highest bits of a first byte: none in STUN and DTLS, one alone in data of TURN's channels, the other in RTP (RFC 7983;
/// RFC 5766 lets channels have all numbers to 0x7ffe).
const KIND: u8 = 0xc0;
const CHANNEL_DATA: u8 = 0x40;
const STUN_END: u8 = 4;

/// Whether a datagram that came to a port with tenants is theirs: data of a channel, STUN of other methods than Binding, and
/// Binding without proof, which ICE does not answer. All else is the media worker's, what nobody understands too. The program
/// in the system decides the same.
pub fn is_tenants(datagram: &[u8]) -> bool {
    match datagram {
        [byte, ..] if byte & KIND != 0 => byte & KIND == CHANNEL_DATA,
        [high, low, rest @ ..] if *high < STUN_END => {
            let length = || rest.first_chunk().map(|length| u16::from_be_bytes(*length));
            u16::from_be_bytes([*high, *low]) & METHOD != BINDING
                || length().is_some_and(|length| length < INTEGRITY)
        }
        _ => false,
    }
}

/// Has the system give datagrams to the sockets of one address, of which the media worker's was bound first and those of tenants
/// after it. A client stays with one tenant, by its address and port. To be called when all are bound.
pub(crate) fn admit(socket: &UdpSocket, tenants: usize) -> io::Result<()> {
    let mut program = program(socket.local_addr()?.ip(), tenants as u32);
    let program = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // The system copies what is pointed at, of which this tells the length, before it returns.
    Ok(setsockopt(socket, AttachReusePortCbpf, &program)?)
}

/// Loads beyond this number look at the packet from its IP header on; others at what UDP carries (linux/filter.h).
const FROM_IP: u32 = -0x10_0000_i32 as u32;

/// Instructions of classic BPF (linux/bpf_common.h, linux/filter.h): `A` and `X` are its registers.
mod code {
    pub(super) const LOAD_WORD: u16 = 0x20;
    pub(super) const LOAD_HALF: u16 = 0x28;
    pub(super) const LOAD_BYTE: u16 = 0x30;
    pub(super) const AND: u16 = 0x54;
    pub(super) const ADD: u16 = 0x04;
    pub(super) const MULTIPLY: u16 = 0x24;
    pub(super) const SHIFT_RIGHT: u16 = 0x74;
    pub(super) const REMAINDER: u16 = 0x94;
    pub(super) const XOR_X: u16 = 0xac;
    pub(super) const COPY_TO_X: u16 = 0x07;
    pub(super) const IF_EQUAL: u16 = 0x15;
    pub(super) const IF_AT_LEAST: u16 = 0x35;
    pub(super) const IF_ANY_BIT: u16 = 0x45;
    pub(super) const RETURN: u16 = 0x06;
    pub(super) const RETURN_A: u16 = 0x16;
}

/// What the system runs for each datagram: it returns the number of a socket, 0 for the media worker's. A load beyond the end
/// of the datagram ends it with 0.
fn program(local: IpAddr, tenants: u32) -> Vec<sock_filter> {
    use code::{ADD, AND, COPY_TO_X, IF_ANY_BIT, IF_AT_LEAST, IF_EQUAL, LOAD_BYTE, LOAD_HALF, LOAD_WORD};
    use code::{MULTIPLY, REMAINDER, RETURN, RETURN_A, SHIFT_RIGHT, XOR_X};
    let step = |code, k| sock_filter { code, jt: 0, jf: 0, k };
    let branch = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    let mut program = vec![
        step(LOAD_BYTE, 0),
        branch(IF_ANY_BIT, KIND.into(), 6, 0),
        branch(IF_AT_LEAST, STUN_END.into(), 7, 0),
        // STUN: its type, then the length of its attributes.
        step(LOAD_HALF, 0),
        step(AND, METHOD.into()),
        branch(IF_EQUAL, BINDING.into(), 0, 5),
        step(LOAD_HALF, 2),
        branch(IF_AT_LEAST, INTEGRITY.into(), 2, 3),
        // Data of a channel, or RTP.
        step(AND, KIND.into()),
        branch(IF_EQUAL, CHANNEL_DATA.into(), 1, 0),
        step(RETURN, 0),
    ];
    // Which tenant: whatever stands there is the same in all packets of a client, also where options move the port.
    let (address, port) = if local.is_ipv4() { (12..16, 20) } else { (8..24, 40) };
    program.push(step(LOAD_HALF, FROM_IP + port));
    for word in address.step_by(4) {
        program.extend([step(COPY_TO_X, 0), step(LOAD_WORD, FROM_IP + word), step(XOR_X, 0)]);
    }
    // Fibonacci hashing: the highest bits depend on all others.
    program.extend([step(MULTIPLY, 0x9e37_79b1), step(SHIFT_RIGHT, 16), step(REMAINDER, tenants.max(1))]);
    program.extend([step(ADD, 1), step(RETURN_A, 0)]);
    program
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::time::Duration;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use veche_stun::HEADER_LEN;

    use super::*;
    use crate::ports::bind_port;

    /// Runs a program as the system does.
    fn run(program: &[sock_filter], ip: &[u8], datagram: &[u8]) -> u32 {
        let load = |k: u32, size: usize| -> Option<u32> {
            let (bytes, at) = if k >= FROM_IP { (ip, k - FROM_IP) } else { (datagram, k) };
            let bytes = bytes.get(at as usize..at as usize + size)?;
            Some(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
        };
        let (mut a, mut x, mut at) = (0_u32, 0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let mut jump = |condition| at += usize::from(if condition { jt } else { jf });
            match code {
                code::LOAD_BYTE | code::LOAD_HALF | code::LOAD_WORD => {
                    let size = [4, 2, 1][usize::from(code - code::LOAD_WORD) / 8];
                    let Some(loaded) = load(k, size) else { return 0 };
                    a = loaded;
                }
                code::AND => a &= k,
                code::ADD => a = a.wrapping_add(k),
                code::MULTIPLY => a = a.wrapping_mul(k),
                code::SHIFT_RIGHT => a >>= k,
                code::REMAINDER => a %= k,
                code::XOR_X => a ^= x,
                code::COPY_TO_X => x = a,
                code::IF_EQUAL => jump(a == k),
                code::IF_AT_LEAST => jump(a >= k),
                code::IF_ANY_BIT => jump(a & k != 0),
                code::RETURN => return k,
                code::RETURN_A => return a,
                other => panic!("{other:#x} is no instruction"),
            }
        }
    }

    #[test]
    fn the_program_decides_as_the_function_does() {
        let mut random = StdRng::seed_from_u64(7);
        for (local, header) in [(IpAddr::from(Ipv4Addr::LOCALHOST), 28), (Ipv6Addr::LOCALHOST.into(), 48)] {
            for tenants in [1, 3, 8] {
                let program = program(local, tenants);
                let mut seen = HashMap::<u32, u32>::new();
                for first in (0..=u8::MAX).cycle().take(40_000) {
                    let mut datagram: Vec<u8> =
                        (0..random.random_range(0..40)).map(|_| random.random()).collect();
                    let shape: [u8; 4] = [first, random.random(), 0, random.random_range(0..30)];
                    let shaped = datagram.len().min(random.random_range(0..=4));
                    datagram[..shaped].copy_from_slice(&shape[..shaped]);
                    if random.random_bool(0.3) && datagram.len() > 1 {
                        datagram[..2].copy_from_slice(&[
                            random.random_range(0..2),
                            random.random_range(0..2) << 4 | 1,
                        ]);
                    }
                    let ip: Vec<u8> = (0..header).map(|_| random.random()).collect();
                    let chosen = run(&program, &ip, &datagram);
                    assert_eq!(chosen != 0, is_tenants(&datagram), "{datagram:?}");
                    assert!(chosen <= tenants);
                    *seen.entry(chosen).or_default() += 1;
                }
                // Nobody has much more than the others.
                let fair = (1..=tenants).map(|tenant| seen[&tenant]).sum::<u32>() / tenants;
                assert!((1..=tenants).all(|tenant| seen[&tenant] > fair * 8 / 10), "{seen:?}");
            }
        }
    }

    #[test]
    fn everybody_gets_what_is_theirs() {
        let stun = |kind: u16, length: u16| {
            let head = [kind.to_be_bytes(), length.to_be_bytes()].concat();
            [&head, &veche_stun::MAGIC_COOKIE[..], &[7; HEADER_LEN - 8], &vec![0; length.into()]].concat()
        };
        assert!(
            is_tenants(&stun(0x0001, 0)) && is_tenants(&stun(0x0001, 8)),
            "plain STUN, with a fingerprint too"
        );
        assert!(is_tenants(&stun(0x0011, 8)), "a sign of life");
        assert!(!is_tenants(&stun(0x0001, 68)) && !is_tenants(&stun(0x0101, 44)), "ICE");
        for method in [0x0003, 0x0004, 0x0016, 0x0008, 0x0009, 0x0017] {
            assert!(is_tenants(&stun(method, 68)), "{method:#x}");
        }
        assert!(is_tenants(&[0x40, 0, 0, 4, 1, 2, 3, 4]) && is_tenants(&[0x7f, 0xfe, 0, 0]));
        for media in
            [&[22, 254, 253, 0][..], &[0x80, 111, 0, 1], &[0xbf, 200], &[], &[0], &[0, 1, 0], &[5, 5, 5, 5]]
        {
            assert!(!is_tenants(media), "{media:?}");
        }
    }

    /// What came to a socket, as the number of a client and whether it was for tenants.
    fn received(socket: &UdpSocket, names: &HashMap<SocketAddr, usize>) -> Vec<(usize, bool)> {
        let mut buffer = [0; 64];
        let mut all = Vec::new();
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            all.push((names[&from], is_tenants(&buffer[..len])));
        }
        all
    }

    #[test]
    fn the_system_gives_each_datagram_to_whom_it_is_for() {
        const CLIENTS: usize = 64;
        let addresses = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        let port = bind_port(&addresses, 0, false, 3).unwrap();
        assert_eq!(port.tenants.len(), 3);
        for (index, ip) in addresses.into_iter().enumerate() {
            let to = SocketAddr::new(ip, port.number);
            let clients: Vec<_> = (0..CLIENTS).map(|_| UdpSocket::bind((ip, 0)).unwrap()).collect();
            let address = |client: &UdpSocket| client.local_addr().unwrap();
            let names: HashMap<_, _> = clients.iter().map(address).zip(0..).collect();
            for client in &clients {
                client.send_to(&[0x80, 1, 2, 3], to).unwrap();
                client.send_to(&[0x40, 1, 0, 0], to).unwrap();
                client.send_to(&[0, 3, 0, 0], to).unwrap();
                client.send_to(&[], to).unwrap();
            }
            // On loopback what was sent has arrived.
            let media = received(&port.udp[index], &names);
            assert_eq!(media.len(), 2 * CLIENTS);
            assert!(media.iter().all(|(_, tenants)| !tenants));
            let tenants: Vec<_> =
                port.tenants.iter().map(|tenant| received(&tenant[index], &names)).collect();
            assert_eq!(tenants.iter().map(Vec::len).sum::<usize>(), 2 * CLIENTS);
            for tenant in &tenants {
                assert!(tenant.len() > CLIENTS / 4, "each has some: {}", tenant.len());
                let of = |client| tenant.iter().filter(|(name, tenants)| *name == client && *tenants).count();
                assert!((0..CLIENTS).all(|client| [0, 2].contains(&of(client))), "a client stays with one");
            }
            // Answers come from the port that was asked.
            clients[0].set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            port.tenants[0][index].send_to(b"answer", address(&clients[0])).unwrap();
            assert_eq!(clients[0].recv_from(&mut [0; 16]).unwrap(), (6, to));
        }
    }

    #[test]
    fn a_port_with_tenants_is_nobody_elses() {
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        let port = bind_port(&[ip], 0, true, 2).unwrap();
        let error = bind_port(&[ip], port.number, false, 2).unwrap_err();
        assert!(error.reason.contains("is in use"), "{error}");
    }
}
