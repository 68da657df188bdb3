//! What a send costs against a padded byte, and what receiving costs: the figures behind the rule of padding in
//! `veche_sfu_core::transport::padding`, and behind the sizes of the receive buffers.
//!
//! ```sh
//! cargo bench -p veche-sfu --bench sends                        # over loopback
//! ip netns exec far target/…/sends-… sink 10.9.9.2:5000 &       # over a veth pair, the far end first
//! cargo bench -p veche-sfu --bench sends -- 10.9.9.2:5000
//! ```
//!
//! Nanoseconds of the thread's CPU time for each packet, the best of several rounds that take turns.

use std::io::IoSliceMut;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use veche_sfu_core::srtp::{OutboundSrtp, SrtpKeys, SrtpProfile};
use veche_testkit::cpu::measure;

const DESTINATIONS: usize = 64;
const ROUNDS: usize = 60;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["sink", address] => sink(address.parse().expect("an address with a port")),
        [address] => send_table(&Destinations::at(address.parse().expect("an address with a port"))),
        _ => {
            send_table(&Destinations::here());
            seal_table();
            receive_table();
        }
    }
}

struct Port {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Port {
    fn bind(address: impl std::net::ToSocketAddrs) -> Self {
        let socket = UdpSocket::bind(address).expect("there is such a port");
        let state = UdpSocketState::new(UdpSockRef::from(&socket)).expect("a socket can be set up");
        state.set_recv_buffer_size(UdpSockRef::from(&socket), 4 << 20).expect("it can be asked for");
        state.set_send_buffer_size(UdpSockRef::from(&socket), 4 << 20).expect("it can be asked for");
        Self { socket, state }
    }

    fn send(&self, destination: SocketAddr, contents: &[u8], segment_size: Option<usize>) {
        let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
        self.state.try_send(UdpSockRef::from(&self.socket), &transmit).expect("there is room");
    }

    /// Receives all that there is, into buffers that lie so far apart. Returns how many packets that was.
    fn receive(&self, memory: &mut [u8], stride: usize, batch: usize) -> usize {
        let mut packets = 0;
        loop {
            let mut metas = [RecvMeta::default(); BATCH_SIZE];
            let mut parts = memory.chunks_exact_mut(stride);
            let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| IoSliceMut::new(parts.next().unwrap_or_default()));
            let Ok(received) =
                self.state.recv(UdpSockRef::from(&self.socket), &mut slices[..batch], &mut metas)
            else {
                return packets;
            };
            for (meta, slice) in metas.iter().zip(&slices).take(received) {
                for packet in slice[..meta.len].chunks(meta.stride) {
                    // As much as finding out what it is.
                    std::hint::black_box(packet[0]);
                    packets += 1;
                }
            }
        }
    }
}

/// Where packets are sent to; those here are emptied between two rounds.
struct Destinations {
    addresses: Vec<SocketAddr>,
    ports: Vec<Port>,
}

impl Destinations {
    fn here() -> Self {
        let ports: Vec<Port> = (0..DESTINATIONS).map(|_| Port::bind((Ipv4Addr::LOCALHOST, 0))).collect();
        let address = |port: &Port| port.socket.local_addr().expect("it is bound");
        Self { addresses: ports.iter().map(address).collect(), ports }
    }

    fn at(first: SocketAddr) -> Self {
        let address = |n: usize| SocketAddr::new(first.ip(), first.port() + n as u16);
        Self { addresses: (0..DESTINATIONS).map(address).collect(), ports: Vec::new() }
    }

    fn empty(&self) {
        let mut memory = vec![0; 4 << 16];
        for port in &self.ports {
            port.receive(&mut memory, 1 << 16, 4);
        }
        if self.ports.is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn sink(first: SocketAddr) {
    let ports: Vec<Port> = Destinations::at(first).addresses.iter().map(Port::bind).collect();
    let mut memory = vec![0; 4 << 16];
    loop {
        for port in &ports {
            port.receive(&mut memory, 1 << 16, 4);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn send_table(destinations: &Destinations) {
    let port = Port::bind((Ipv4Addr::UNSPECIFIED, 0));
    println!(
        "{:<28} {:>10} {:>12} {:>16} {:>16}",
        "ns/packet", "one by one", "in a train", "train, +32 B", "train, +200 B"
    );
    for (name, size, count) in [
        ("sound, 2 x 150 B", 150, 2),
        ("sound, 3 x 150 B", 150, 3),
        ("sound, 5 x 150 B", 150, 5),
        ("sound, 10 x 150 B", 150, 10),
        ("pictures, 2 x 1,100 B", 1100, 2),
        ("pictures, 5 x 1,100 B", 1100, 5),
        ("pictures, 10 x 1,100 B", 1100, 10),
    ] {
        let bytes = vec![7; (size + 200) * count];
        let mut best = [f64::MAX; 4];
        for _ in 0..ROUNDS {
            for (case, added) in [(0, 0), (1, 0), (2, 32), (3, 200)] {
                let segment = size + added;
                let ((), spent) = measure(|| {
                    for &address in &destinations.addresses {
                        if case == 0 {
                            for packet in bytes[..size * count].chunks(size) {
                                port.send(address, packet, None);
                            }
                        } else {
                            port.send(address, &bytes[..segment * count], Some(segment));
                        }
                    }
                });
                best[case] = best[case].min(spent.as_nanos() as f64 / (DESTINATIONS * count) as f64);
                destinations.empty();
            }
        }
        println!("{name:<28} {:>10.0} {:>12.0} {:>16.0} {:>16.0}", best[0], best[1], best[2], best[3]);
    }
}

fn seal_table() {
    println!("\n{:<28} {:>10} {:>12} {:>16}", "ns to seal (AES-256-GCM)", "plain", "+32 B", "+200 B");
    let profile = SrtpProfile::AeadAes256Gcm;
    let material: Vec<u8> = (0..profile.keying_material_len()).map(|i| i as u8).collect();
    let keys = SrtpKeys::from_dtls(profile, &material, false).expect("of the right length");
    let mut srtp = OutboundSrtp::new(&keys.outbound);
    for size in [150, 1100] {
        let mut best = [f64::MAX; 3];
        for _ in 0..ROUNDS {
            for (case, added) in [(0, 0), (1, 32), (2, 200)] {
                let mut packet = vec![0; size + added];
                packet[0] = 0x80;
                let ((), spent) = measure(|| {
                    for seq in 0..1000_u16 {
                        packet[2..4].copy_from_slice(&seq.to_be_bytes());
                        srtp.protect_rtp(0, 12, &mut packet).expect("there is room for the tag");
                    }
                });
                best[case] = best[case].min(spent.as_nanos() as f64 / 1000.0);
            }
        }
        println!("{:<28} {:>10.0} {:>12.0} {:>16.0}", format!("{size} B"), best[0], best[1], best[2]);
    }
}

fn receive_table() {
    /// How many packets there are before each receive.
    const FLOOD: usize = 640;
    let cases = [
        ("1 x 64 KB", 1 << 16, 1),
        ("8 x 64 KB", 1 << 16, 8),
        ("32 x 64 KB", 1 << 16, 32),
        ("32 x (64 KB + 1,152)", (1 << 16) + 1152, 32),
        ("32 x 2 KB", 2048, 32),
    ];
    let row = |name: &str, cells: [String; 5]| {
        let cells = cells.map(|cell| format!("{cell:>22}")).concat();
        println!("{name:<28}{cells}");
    };
    println!();
    row("receiving, ns/packet", cases.map(|case| case.0.to_string()));
    let (from, to) = (Port::bind((Ipv4Addr::LOCALHOST, 0)), Port::bind((Ipv4Addr::LOCALHOST, 0)));
    let address = to.socket.local_addr().expect("it is bound");
    let mut memory = vec![0; BATCH_SIZE * ((1 << 16) + 1152)];
    for (name, size, train) in [
        ("160 B, single", 160, 1),
        ("1,100 B, single", 1100, 1),
        ("160 B, trains of 10", 160, 10),
        ("1,100 B, trains of 10", 1100, 10),
    ] {
        let bytes = vec![7; size * train];
        let mut best = [f64::MAX; 5];
        for _ in 0..ROUNDS {
            for (case, (_, stride, batch)) in cases.iter().enumerate() {
                for _ in 0..FLOOD / train {
                    from.send(address, &bytes, (train > 1).then_some(size));
                }
                let (received, spent) = measure(|| to.receive(&mut memory, *stride, *batch));
                // Buffers of 2 KB cut trains off.
                assert!(received == FLOOD || *stride < size * train, "{received} of {FLOOD} packets came");
                best[case] = best[case].min(spent.as_nanos() as f64 / FLOOD as f64);
            }
        }
        row(name, best.map(|nanos| format!("{nanos:.0}")));
    }
}
