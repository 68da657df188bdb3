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

/// Of fewer allocations the time and memory are noise: the kernel counts CPU time in hundredths of a second.
const FEWEST_MADE: usize = 1000;

/// How many packets the load tool sends itself to find its own limit.
const OWN_PACKETS: u64 = 400_000;

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

/// What was measured of each server with one kind of media and so many allocations, round by round.
struct Cell {
    media: Media,
    allocations: usize,
    rounds: Vec<[Option<Measured>; SERVERS.len()]>,
}

/// Measures both servers with so many allocations, in turn, and prints the tables. `rate`: packets in a second, of all clients
/// together; `only`: the measurements whose name has this, if it is not empty.
pub fn compare(bench: &Bench, allocations: &[usize], rate: u64, rounds: usize, only: &str) {
    println!(
        "Relayed packets of {} bytes in frames of {} and of {} bytes one by one, {} in a second by all clients together. The median \
         of {rounds} rounds, and in brackets the least and the most of them:\n",
        MEDIA[0].payload,
        MEDIA[0].burst,
        MEDIA[1].payload,
        grouped(rate as f64)
    );
    let name = |media: Media, count: usize, kind: Kind| {
        format!("{media}, {} allocations, {kind}", grouped(count as f64))
    };
    let cells = MEDIA.into_iter().flat_map(|media| allocations.iter().map(move |count| (media, *count)));
    let is_chosen = |&(media, count): &(Media, usize)| {
        SERVERS.iter().any(|kind| name(media, count, *kind).contains(only))
    };
    let new = |(media, allocations)| Cell { media, allocations, rounds: Vec::new() };
    let mut cells: Vec<Cell> = cells.filter(is_chosen).map(new).collect();
    let mut bar = Progress::new(rounds * cells.len() * SERVERS.len());
    let mut measurements = 0;
    for round in 1..=rounds {
        for cell in &mut cells {
            let mut measured = [None; SERVERS.len()];
            for (kind, measured) in SERVERS.iter().zip(&mut measured) {
                let what = name(cell.media, cell.allocations, *kind);
                bar.begin(measurements, what.clone());
                measurements += 1;
                if !what.contains(only) {
                    continue;
                }
                match start_and_measure(bench, *kind, cell.allocations, cell.media, rate, &bar) {
                    Ok(found) => {
                        bar.say(&format!("round {round}: {what}: {found}"));
                        *measured = Some(found);
                    }
                    Err(error) => bar.say(&format!("round {round}: {what}: {error:#}")),
                }
            }
            cell.rounds.push(measured);
        }
    }
    bar.end();
    println!("{}\n{}", print_relayed(&cells), print_made(&cells));
    for media in MEDIA {
        match own_limit(bench, media, allocations.iter().copied().max().unwrap_or(1)) {
            Ok(limit) => println!(
                "The load tool alone, without a server, sends and receives {} packets of {media} in a second; what comes near that \
                 says nothing of a server.",
                grouped(limit)
            ),
            Err(error) => println!("The load tool's own limit for {media} was not measured: {error:#}"),
        }
    }
}

/// How many packets the load tool can send and receive in a second on its cores.
fn own_limit(bench: &Bench, media: Media, clients: usize) -> anyhow::Result<f64> {
    let cores = bench.load_cores.clone();
    let load = thread::spawn(move || {
        cores::pin(&cores)?;
        let mut clients = Clients::without_server(clients)?;
        let flow =
            clients.relay(Way::Direct, media, u64::from(u32::MAX), OWN_PACKETS, (|_| {}, || Ok(())))?;
        Ok(flow.received as f64 / flow.busy.as_secs_f64())
    });
    load.join().map_err(|_| anyhow::anyhow!("the load tool has panicked"))?
}

fn print_relayed(cells: &[Cell]) -> String {
    let headings = ["load", "server", "packets/s", "lost", "packets/CPU-s", "of coturn", "p50", "p99"];
    let mut table = Table::new(&headings);
    for cell in cells {
        for (number, way) in WAYS.iter().enumerate() {
            for (server, kind) in SERVERS.iter().enumerate().filter(|(server, _)| cell.was_tried(*server)) {
                let load = format!("{}, {} allocations, {way}", cell.media, grouped(cell.allocations as f64));
                let of = |value: fn(&Relayed) -> f64| {
                    Spread::of(cell.of(server).map(|measured| value(&measured.relayed[number])))
                };
                let seconds = |value: f64| millis(Duration::from_secs_f64(value));
                let cells = [
                    of(|relayed| relayed.per_second).map(|spread| grouped(spread.median)),
                    of(|relayed| relayed.lost).map(|spread| percent(spread.most)),
                    of(|relayed| relayed.per_cpu_second).map(|spread| spread.show(grouped)),
                    Spread::of(cell.ratios(number))
                        .map(|spread| spread.show(|ratio| format!("{ratio:.1} x"))),
                    of(|relayed| relayed.p50.as_secs_f64()).map(|spread| seconds(spread.median)),
                    of(|relayed| relayed.p99.as_secs_f64()).map(|spread| spread.show(seconds)),
                ];
                let is_coturn = *kind == Kind::Coturn;
                let mut row = vec![load, kind.to_string()];
                row.extend(cells.into_iter().enumerate().map(|(column, cell)| match cell {
                    // It is what the other is compared to.
                    _ if column == 3 && is_coturn => String::new(),
                    Some(cell) => cell,
                    None if column == 0 => "failed".to_owned(),
                    None => String::new(),
                }));
                table.row(row);
            }
        }
    }
    table.print()
}

fn print_made(cells: &[Cell]) -> String {
    let mut table = Table::new(&["allocations", "server", "made/s", "made/CPU-s", "KB for each"]);
    // The first kind of media is as good as any.
    for cell in cells.iter().filter(|cell| cell.media == MEDIA[0]) {
        for (server, kind) in SERVERS.iter().enumerate().filter(|(server, _)| cell.was_tried(*server)) {
            let of = |value: fn(&Made) -> f64| {
                Spread::of(cell.of(server).map(|measured| value(&measured.made)))
                    .map(|spread| spread.show(grouped))
            };
            let mut row = vec![grouped(cell.allocations as f64), kind.to_string()];
            if cell.allocations < FEWEST_MADE {
                row.extend(["too few to tell"; 3].map(str::to_owned));
            } else {
                let kilobytes = Spread::of(cell.of(server).map(|measured| measured.made.memory / 1e3))
                    .map(|spread| spread.show(|kilobytes| format!("{kilobytes:.1}")));
                let cells = [of(|made| made.per_second), of(|made| made.per_cpu_second), kilobytes];
                row.extend(cells.map(|cell| cell.unwrap_or_else(|| "failed".to_owned())));
            }
            table.row(row);
        }
    }
    table.print()
}

impl Cell {
    /// What was measured of a server.
    fn of(&self, server: usize) -> impl Iterator<Item = &Measured> {
        self.rounds.iter().filter_map(move |round| round[server].as_ref())
    }

    /// Whether it was to be measured: where `--only` has left it out nothing has failed.
    fn was_tried(&self, server: usize) -> bool {
        self.of(server).next().is_some() || self.rounds.iter().all(|round| round.iter().all(Option::is_none))
    }

    /// How much more than coturn Veche relays in a CPU-second, in each round by itself: what else the machine did then met both.
    fn ratios(&self, way: usize) -> impl Iterator<Item = f64> {
        self.rounds.iter().filter_map(move |round| {
            let [veche, coturn] = round.map(|measured| Some(measured?.relayed[way].per_cpu_second));
            Some(veche? / coturn?)
        })
    }
}

/// Some numbers of which no one is the true one.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    /// `None` where there are none, or one is no number.
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        if values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) };
        Some(Self { least, median, most })
    }

    fn show(&self, show: impl Fn(f64) -> String) -> String {
        format!("{} ({} – {})", show(self.median), show(self.least), show(self.most))
    }
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
            Way::Direct => "without a server",
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

impl Made {
    /// How many in a second of the server's CPU; what took none that the kernel has counted says nothing.
    fn cpu(&self) -> String {
        if self.per_cpu_second.is_finite() { grouped(self.per_cpu_second) } else { "–".to_owned() }
    }
}

impl Relayed {
    /// `cpu` is what the server took while the flow was busy.
    fn new(flow: &Flow, cpu: Duration) -> anyhow::Result<Self> {
        let quantile = |share| flow.delays.quantile(share).context("nothing was relayed");
        Ok(Self {
            per_second: flow.received as f64 / flow.busy.as_secs_f64(),
            per_cpu_second: flow.received as f64 / cpu.as_secs_f64(),
            lost: 1.0 - flow.received as f64 / flow.sent as f64,
            p50: quantile(0.5)?,
            p99: quantile(0.99)?,
        })
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
        let flow = clients.relay(way, once, rate.min(10_000), allocations as u64, (|_| {}, || Ok(())))?;
        anyhow::ensure!(flow.received == flow.sent, "of {} packets {way} {} came", flow.sent, flow.received);
    }
    let warm = Usage::of(server.pid)?;
    let mut relayed = Vec::with_capacity(WAYS.len());
    for (number, way) in WAYS.into_iter().enumerate() {
        thread::sleep(SETTLE);
        let before = Usage::of(server.pid)?.cpu;
        let mut after = before;
        let done = number as u64 * packets;
        let tell = |sent| bar.published(done + sent, 2 * packets);
        let pause = || {
            after = Usage::of(server.pid)?.cpu;
            Ok(())
        };
        let flow = clients.relay(way, media, rate, packets, (tell, pause))?;
        relayed.push(Relayed::new(&flow, after.saturating_sub(before))?);
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
    fn a_spread_has_the_median_and_both_ends() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { least: 1.0, median: 2.0, most: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0]), Some(Spread { least: 1.0, median: 2.5, most: 4.0 }));
        assert_eq!((spread(&[]), spread(&[1.0, f64::INFINITY])), (None, None));
        assert_eq!(spread(&[1e3, 3e3]).unwrap().show(grouped), "2,000 (1,000 – 3,000)");
    }

    #[test]
    fn the_load_tool_knows_its_own_limit() {
        let (veche, load) = Default::default();
        let bench = Bench { veche, load, server_cores: vec![0], load_cores: vec![0], seconds: 1 };
        assert!(own_limit(&bench, MEDIA[0], 10).unwrap() > 1000.0);
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
