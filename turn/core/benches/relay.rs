//! What relaying a packet costs the server that decides: nanoseconds for ChannelData in (client to peer) and out (peer to
//! client), for Send indications, and for an allocation's life, with 10, 1,000 and 10,000 allocations; and what of it is
//! allocated.
//!
//! ```sh
//! cargo bench -p veche-turn-core --bench relay
//! ```
//!
//! Clients take turns in an order that no cache foresees. Of each the best of several rounds counts, in time of the processor.

#![expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;
use rustix::time::{ClockId, clock_gettime};
use veche_stun::attribute::{MESSAGE_INTEGRITY, NONCE, REALM, USERNAME};
use veche_stun::{IntegrityKey, Message, Writer};
use veche_testkit::allocations::{self, CountingAllocator};
use veche_turn_core::{
    Accounts, Action, Credentials, Destination, FiveTuple, Link, NonceKey, Opened, Outbox, PeerPolicy,
    Quotas, RelayId, Server, ServerConfig,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const ROUNDS: usize = 7;
const PACKETS: usize = 200_000;
const PAYLOAD: usize = 1000;
const NAME: &str = "ann";
const PASSWORD: &str = "ann's password";
const TEST_REALM: &str = "bench";

fn main() {
    println!(
        "{:>12} {:>12} {:>12} {:>12} {:>14} {:>14}",
        "allocations", "channel in", "channel out", "indication", "ns/allocation", "heap per packet"
    );
    for count in [10, 1000, 10_000] {
        let mut bench = Bench::new(count);
        let made = bench.made;
        let heap = allocations::count();
        let [inward, outward, sent] = [Bench::channel_in, Bench::channel_out, Bench::indication]
            .map(|run| (0..ROUNDS).map(|_| bench.time(run)).fold(f64::INFINITY, f64::min));
        let per_packet = (allocations::count() - heap) as f64 / (3 * ROUNDS * PACKETS) as f64;
        println!("{count:>12} {inward:>12.1} {outward:>12.1} {sent:>12.1} {made:>14.0} {per_packet:>14.4}");
    }
}

/// A server with so many clients, each with a channel to its peer.
struct Bench {
    server: Server,
    out: Outbox,
    now: Instant,
    clients: Vec<Client>,
    /// Nanoseconds for each allocation, channel and all.
    made: f64,
}

/// One of them, and what it sends.
struct Client {
    from: FiveTuple,
    relay: RelayId,
    peer: SocketAddr,
    data: Vec<u8>,
    indication: Vec<u8>,
}

impl Bench {
    fn new(count: usize) -> Self {
        let now = Instant::now();
        let config = ServerConfig {
            worker: 0,
            workers: 1,
            realm: TEST_REALM.to_owned(),
            nonce_key: NonceKey::new(&[1; 32]),
            hash: RandomState::with_seeds(1, 2, 3, 4),
            epoch: now,
            nonce_lifetime: Duration::from_hours(1),
            default_lifetime: Duration::from_hours(1),
            max_lifetime: Duration::from_hours(1),
            peers: PeerPolicy::default(),
            tcp_relays: false,
            v4: true,
            v6: false,
            unproven_bytes_per_second: 0,
            alternates: Vec::new(),
        };
        let credentials = Credentials::new(TEST_REALM, [], [(NAME.to_owned(), PASSWORD.to_owned())]);
        let accounts = Arc::new(Accounts::new(Quotas::default(), now));
        let server = Server::new(config, Arc::new(credentials), accounts, now, 1_000_000);
        let mut bench = Self { server, out: Outbox::new(), now, clients: Vec::new(), made: 0.0 };
        let begin = cpu_time();
        for number in 0..count as u32 {
            bench.add(number);
        }
        bench.made = (cpu_time() - begin) as f64 / count as f64;
        bench
    }

    fn add(&mut self, number: u32) {
        let remote =
            SocketAddr::from(((0x0b00_0000 + number).to_be_bytes(), 1000 + (number % 60_000) as u16));
        let from = FiveTuple { remote, link: Link::Udp { socket: 0, local: None } };
        let peer = SocketAddr::from(([198, 51, 100, 1 + (number % 200) as u8], 5000 + (number / 200) as u16));
        let transport = (0x0019, vec![17, 0, 0, 0]);
        let challenge = self.ask(from, 0x0003, std::slice::from_ref(&transport), None).expect("a challenge");
        let message = Message::parse(&challenge).expect("an answer");
        let nonce = message.attributes().flatten().find(|a| a.kind == NONCE).expect("a nonce").value.to_vec();
        self.ask(from, 0x0003, &[transport], Some(&nonce));
        let mut relay = None;
        for action in self.out.take_actions() {
            if let Action::Open { allocation, .. } = action {
                relay = Some(allocation.relay(false));
                let opened =
                    Opened { v4: Some(SocketAddr::from(([203, 0, 113, 1], 50_000))), ..Opened::default() };
                self.server.handle_opened(self.now, allocation, Ok(opened), &mut self.out);
                self.out.clear_packets();
            }
        }
        let relay = relay.expect("a relay is asked for");
        let channel = (0x000c, vec![0x40, 0, 0, 0]);
        self.ask(from, 0x0009, &[channel, (0x0012, xor(peer))], Some(&nonce));
        let data = [&[0x40, 0][..], &(PAYLOAD as u16).to_be_bytes(), &[7; PAYLOAD]].concat();
        let mut indication = Vec::new();
        let mut writer = Writer::begin(0x0016, &[0; 12], &mut indication);
        writer.xor_address(0x0012, peer);
        writer.attribute(0x0013, &[7; PAYLOAD]);
        self.clients.push(Client { from, relay, peer, data, indication });
    }

    fn ask(
        &mut self,
        from: FiveTuple,
        kind: u16,
        attributes: &[(u16, Vec<u8>)],
        nonce: Option<&[u8]>,
    ) -> Option<Vec<u8>> {
        let mut request = Vec::new();
        let mut writer = Writer::begin(kind, &[0; 12], &mut request);
        for (kind, value) in attributes {
            writer.attribute(*kind, value);
        }
        if let Some(nonce) = nonce {
            writer.attribute(USERNAME, NAME.as_bytes());
            writer.attribute(REALM, TEST_REALM.as_bytes());
            writer.attribute(NONCE, nonce);
            writer.integrity(&key());
            debug_assert_eq!(MESSAGE_INTEGRITY, 8);
        }
        self.server.handle_client(self.now, from, &request, &mut self.out);
        let answer = self.out.runs().next().map(|run| run.bytes.to_vec());
        self.out.clear_packets();
        answer
    }

    fn time(&mut self, run: fn(&mut Self, usize)) -> f64 {
        let count = self.clients.len();
        let mut at = 0;
        let begin = cpu_time();
        for number in 0..PACKETS {
            // A step that is prime to each count visits all clients in no order.
            at = (at + 7919) % count;
            run(self, at);
            if number % 32 == 31 {
                black_box(self.out.runs().map(|run| run.bytes.len()).sum::<usize>());
                self.out.clear_packets();
            }
        }
        let elapsed = cpu_time() - begin;
        self.out.clear_packets();
        elapsed as f64 / PACKETS as f64
    }

    fn channel_in(&mut self, at: usize) {
        let Client { from, data, .. } = &self.clients[at];
        self.server.handle_client(self.now, *from, data, &mut self.out);
    }

    fn channel_out(&mut self, at: usize) {
        let Client { relay, peer, data, .. } = &self.clients[at];
        self.server.handle_peer(self.now, *relay, *peer, &data[4..], &mut self.out);
        debug_assert!(self.out.runs().all(|run| matches!(run.to, Destination::Client(_))));
    }

    fn indication(&mut self, at: usize) {
        let Client { from, indication, .. } = &self.clients[at];
        self.server.handle_client(self.now, *from, indication, &mut self.out);
    }
}

/// XOR-PEER-ADDRESS in a transaction of zeros.
fn xor(peer: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::new();
    Writer::begin(1, &[0; 12], &mut bytes).xor_address(0x0012, peer);
    bytes[24..].to_vec()
}

/// RFC 8489 section 9.2.2.
fn key() -> IntegrityKey {
    use md5::Digest;
    IntegrityKey::sha1(&md5::Md5::digest(format!("{NAME}:{TEST_REALM}:{PASSWORD}")))
}

/// In nanoseconds.
fn cpu_time() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
