//! Packets relayed by TURN: Veche beside coturn.

use std::fmt;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use veche_load::process::Usage;

use crate::cores;
use crate::measure::Bench;
use crate::progress::Progress;
use crate::servers::{Kind, Server};
use crate::table::{Table, grouped, percent};
use crate::turn_clients::{Clients, Flow, Media, Way};

/// Who is compared.
const SERVERS: [Kind; 2] = [Kind::Veche { workers: 1 }, Kind::Coturn];

/// What is relayed: frames of pictures, and voices, whose packets come one by one.
const MEDIA: [Media; 2] = [Media { payload: 1000, burst: 10 }, Media { payload: 160, burst: 1 }];

/// Both ways, as they are measured.
const WAYS: [Way; 2] = [Way::ToPeer, Way::ToClients];

/// How long a server has to settle before it is measured.
const SETTLE: Duration = Duration::from_millis(500);

/// What was measured of a server with so many allocations.
#[derive(Clone, Copy, Debug)]
struct Measured {
    made: Made,
    /// To the peer, and to the clients.
    relayed: [Relayed; 2],
}

/// What allocations took.
#[derive(Clone, Copy, Debug)]
struct Made {
    per_second: f64,
    per_cpu_second: f64,
    /// Resident memory of the server for each, in bytes, when each has relayed; the kernel's part is not in it.
    memory: f64,
}

/// What relaying took one way.
#[derive(Clone, Copy, Debug)]
struct Relayed {
    per_second: f64,
    per_cpu_second: f64,
    /// Of what was sent, what did not come.
    lost: f64,
    p50: Duration,
    p99: Duration,
}

/// A server that runs.
#[derive(Clone, Copy, Debug)]
struct Running {
    address: SocketAddr,
    pid: u32,
}

/// Measures both servers with so many allocations, in turn, and prints the tables. `rate`: packets in a second, of all clients
/// together; `only`: the measurements whose name has this, if it is not empty.
pub fn compare(bench: &Bench, allocations: &[usize], rate: u64, rounds: usize, only: &str) {
    println!(
        "Relayed packets of {} bytes in frames of {} and of {} bytes one by one, {} in a second by all clients together:\n",
        MEDIA[0].payload,
        MEDIA[0].burst,
        MEDIA[1].payload,
        grouped(rate as f64)
    );
    let cells: Vec<(Media, usize)> =
        MEDIA.into_iter().flat_map(|media| allocations.iter().map(move |count| (media, *count))).collect();
    let mut best = vec![[None::<Measured>; SERVERS.len()]; cells.len()];
    let mut bar = Progress::new(rounds * cells.len() * SERVERS.len());
    let mut measurements = 0;
    for round in 1..=rounds {
        for (&(media, count), best) in cells.iter().zip(&mut best) {
            for (kind, best) in SERVERS.iter().zip(best) {
                let what = format!("{media}, {} allocations, {kind}", grouped(count as f64));
                bar.begin(measurements, what.clone());
                measurements += 1;
                if !what.contains(only) {
                    continue;
                }
                match start_and_measure(bench, *kind, count, media, rate, &bar) {
                    Ok(measured) => {
                        bar.say(&format!("round {round}: {what}: {measured}"));
                        *best = Some(best.map_or(measured, |best| best.better_of(&measured)));
                    }
                    Err(error) => bar.say(&format!("round {round}: {what}: {error:#}")),
                }
            }
        }
    }
    bar.end();
    println!("{}\n{}", print_relayed(&cells, &best), print_made(&cells, &best));
}

fn print_relayed(cells: &[(Media, usize)], best: &[[Option<Measured>; 2]]) -> String {
    let headings = ["load", "server", "packets/s", "lost", "packets/CPU-s", "of coturn", "p50", "p99"];
    let mut table = Table::new(&headings);
    for ((media, count), servers) in cells.iter().zip(best) {
        for (number, way) in WAYS.iter().enumerate() {
            let coturn = servers[1].map(|measured| measured.relayed[number].per_cpu_second);
            for (kind, measured) in SERVERS.iter().zip(servers) {
                let load = format!("{media}, {} allocations, {way}", grouped(*count as f64));
                let mut row = vec![load, kind.to_string()];
                match measured.map(|measured| measured.relayed[number]) {
                    Some(relayed) => row.extend(relayed.cells(coturn)),
                    None => row.push("failed".to_owned()),
                }
                table.row(row);
            }
        }
    }
    table.print()
}

fn print_made(cells: &[(Media, usize)], best: &[[Option<Measured>; 2]]) -> String {
    let mut table = Table::new(&["allocations", "server", "made/s", "made/CPU-s", "KB for each"]);
    // The first kind of media is as good as any.
    for ((_, count), servers) in cells.iter().zip(best).filter(|((media, _), _)| *media == MEDIA[0]) {
        for (kind, measured) in SERVERS.iter().zip(servers) {
            let mut row = vec![grouped(*count as f64), kind.to_string()];
            match measured.map(|measured| measured.made) {
                Some(made) => {
                    row.extend([grouped(made.per_second), made.cpu(), format!("{:.1}", made.memory / 1e3)]);
                }
                None => row.push("failed".to_owned()),
            }
            table.row(row);
        }
    }
    table.print()
}

impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} B", self.burst, grouped(self.payload as f64))
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::ToPeer => "to the peer",
            Way::ToClients => "to clients",
        })
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (way, relayed) in WAYS.iter().zip(&self.relayed) {
            let Relayed { per_cpu_second, lost, p50, p99, .. } = *relayed;
            let (cpu, lost, p50, p99) = (grouped(per_cpu_second), percent(lost), millis(p50), millis(p99));
            write!(f, "{way} {cpu} per CPU-second, {lost} lost, p50 {p50}, p99 {p99}; ")?;
        }
        let Made { per_second, memory, .. } = self.made;
        write!(
            f,
            "{} made/s, {} per CPU-second, {:.1} KB for each",
            grouped(per_second),
            self.made.cpu(),
            memory / 1e3
        )
    }
}

impl Measured {
    /// The best of each: whatever else a machine does only ever makes a round worse.
    fn better_of(&self, other: &Self) -> Self {
        let relayed = [0, 1].map(|way| {
            let [mine, theirs] = [self, other].map(|measured| measured.relayed[way]);
            if theirs.rank() > mine.rank() { theirs } else { mine }
        });
        let made = Made {
            per_second: self.made.per_second.max(other.made.per_second),
            per_cpu_second: self.made.per_cpu_second.max(other.made.per_cpu_second),
            memory: self.made.memory.min(other.made.memory),
        };
        Self { made, relayed }
    }
}

impl Made {
    /// How many in a second of the server's CPU; what took none that the kernel has counted says nothing.
    fn cpu(&self) -> String {
        if self.per_cpu_second.is_finite() { grouped(self.per_cpu_second) } else { "–".to_owned() }
    }
}

impl Relayed {
    fn new(flow: &Flow, took: Duration, cpu: Duration) -> anyhow::Result<Self> {
        let quantile = |share| flow.delays.quantile(share).context("nothing was relayed");
        Ok(Self {
            per_second: flow.received as f64 / took.as_secs_f64(),
            per_cpu_second: flow.received as f64 / cpu.as_secs_f64(),
            lost: 1.0 - flow.received as f64 / flow.sent as f64,
            p50: quantile(0.5)?,
            p99: quantile(0.99)?,
        })
    }

    fn cells(&self, coturn: Option<f64>) -> [String; 6] {
        [
            grouped(self.per_second),
            percent(self.lost),
            grouped(self.per_cpu_second),
            coturn.map_or_else(String::new, |coturn| format!("{:.1} x", self.per_cpu_second / coturn)),
            millis(self.p50),
            millis(self.p99),
        ]
    }

    /// Less lost is better, then less work.
    fn rank(&self) -> (i64, i64) {
        (-((self.lost * 1e4) as i64), self.per_cpu_second as i64)
    }
}

fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

fn start_and_measure(
    bench: &Bench,
    kind: Kind,
    allocations: usize,
    media: Media,
    rate: u64,
    bar: &Progress,
) -> anyhow::Result<Measured> {
    let server = Server::start(kind, &bench.veche, &bench.server_cores)?;
    let running = Running { address: server.turn(), pid: server.pid() };
    let (cores, seconds, bar) = (bench.load_cores.clone(), bench.seconds, bar.clone());
    let load = thread::spawn(move || {
        cores::pin(&cores)?;
        thread::sleep(SETTLE);
        measure(running, allocations, media, rate, rate * seconds, &bar)
    });
    load.join().map_err(|_| anyhow::anyhow!("the load tool has panicked"))?
}

fn measure(
    server: Running,
    allocations: usize,
    media: Media,
    rate: u64,
    packets: u64,
    bar: &Progress,
) -> anyhow::Result<Measured> {
    let empty = Usage::of(server.pid)?;
    let began = Instant::now();
    let mut clients =
        Clients::allocate(server.address, allocations, |made| bar.connected(made, allocations))?;
    let took = began.elapsed();
    let made = Usage::of(server.pid)?;
    // Each has relayed once both ways: memory that only this takes is there.
    for way in WAYS {
        let once = Media { burst: 1, ..media };
        let flow = clients.relay(way, once, rate.min(10_000), allocations as u64, |_| {})?;
        anyhow::ensure!(flow.received == flow.sent, "of {} packets {way} {} came", flow.sent, flow.received);
    }
    let warm = Usage::of(server.pid)?;
    let mut relayed = Vec::with_capacity(WAYS.len());
    for (number, way) in WAYS.into_iter().enumerate() {
        thread::sleep(SETTLE);
        let before = Usage::of(server.pid)?;
        let began = Instant::now();
        let done = number as u64 * packets;
        let flow =
            clients.relay(way, media, rate, packets, |sent| bar.published(done + sent, 2 * packets))?;
        let took = began.elapsed();
        let cpu = Usage::of(server.pid)?.cpu.saturating_sub(before.cpu);
        relayed.push(Relayed::new(&flow, took, cpu)?);
    }
    let made = Made {
        per_second: allocations as f64 / took.as_secs_f64(),
        per_cpu_second: allocations as f64 / made.cpu.saturating_sub(empty.cpu).as_secs_f64(),
        memory: warm.memory.saturating_sub(empty.memory) as f64 / allocations as f64,
    };
    Ok(Measured { made, relayed: [relayed[0], relayed[1]] })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use veche_turn::{Network, PeerPolicy, Quotas, RelayAddress, Turn, TurnConfig, User};

    use super::*;
    use crate::turn_clients::{PASSWORD, USER};

    /// More than one wave of clients, and a rate at which a server that waits half a second for a busy machine loses nothing.
    const ALLOCATIONS: usize = 70;
    const RATE: u64 = 400;
    const PACKETS: u64 = 400;

    fn assert_all_came(measured: Measured) {
        for relayed in measured.relayed {
            assert!(relayed.lost.abs() < 1e-9 && relayed.per_second > 0.0, "{measured}");
            assert!(relayed.p50 > Duration::ZERO && relayed.p99 >= relayed.p50, "{measured}");
        }
        assert!(measured.made.per_second > 0.0);
    }

    fn veche() -> Turn {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let place = RelayAddress { bind: loopback, external: loopback };
        let turn = veche_turn::start(TurnConfig {
            listen: vec![SocketAddr::new(loopback, 0)],
            workers: 1,
            realm: "bench".to_owned(),
            secrets: Vec::new(),
            users: vec![User { name: USER.to_owned(), password: PASSWORD.to_owned() }],
            relay_v4: Some(place),
            relay_v6: None,
            tcp_relays: false,
            relay_ports: 49_152..=65_535,
            quotas: Quotas::default(),
            peers: PeerPolicy { allow: vec![Network::new(loopback, 8)], ..PeerPolicy::default() },
            alternates: Vec::new(),
            unproven_bytes_per_second: 0,
            max_connections: 10,
            tls: None,
        });
        turn.unwrap()
    }

    #[test]
    fn a_few_clients_of_veche_relay_everything() {
        for media in MEDIA {
            let turn = veche();
            let running = Running { address: turn.handle.addresses()[0], pid: std::process::id() };
            assert_all_came(measure(running, ALLOCATIONS, media, RATE, PACKETS, &Progress::new(1)).unwrap());
            // Each client has relayed once each way, and then what was measured. The server adds it up once a second.
            let told = || {
                let usage = turn.handle.total();
                [usage.packets_to_peers, usage.packets_to_clients]
            };
            let expected = [ALLOCATIONS as u64 + PACKETS; 2];
            let deadline = Instant::now() + Duration::from_secs(10);
            while told() != expected && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(50));
            }
            assert_eq!(told(), expected);
        }
    }

    #[test]
    fn a_few_clients_of_coturn_relay_everything() {
        let (veche, load) = Default::default();
        let bench = Bench { veche, load, server_cores: vec![0], load_cores: vec![0], seconds: 1 };
        let bar = Progress::new(1);
        assert_all_came(start_and_measure(&bench, Kind::Coturn, ALLOCATIONS, MEDIA[1], RATE, &bar).unwrap());
    }
}
