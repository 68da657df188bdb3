//! `bench-compare`: Veche beside its peers, in one run on one machine: calls with Janus and the bare loop, channels with
//! Nchan, relays with coturn.
//!
//! Each server is started for each of its measurements and runs on cores of its own, the load tool on others. Rounds go
//! through all servers in turn, so that whatever else the machine does meets all of them. docs/speed.md has its tables.

mod bare_loop;
mod channels;
mod cores;
mod frames;
mod limit;
mod listeners;
mod machine;
mod measure;
mod progress;
mod relay;
mod scenario;
mod servers;
mod table;
mod turn_clients;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};

use measure::{Bench, Measured};
use scenario::Scenario;
use servers::Kind;
use table::{Table, grouped, percent};

/// Who is compared, all on the same cores.
const SERVERS: [Kind; 3] =
    [Kind::Veche { workers: 1 }, Kind::Janus { event_loops: Some(1) }, Kind::Janus { event_loops: None }];

/// A load is carried while no more than this is lost: a hiccup of a busy machine is not the server's limit.
const CARRIED_LOSS: f64 = 0.000_1;

/// A load is carried while 99 % of the packets are not later than this, in milliseconds: more than that is felt in a
/// conversation (ITU-T G.114 wants 150 ms for the whole way).
const CARRIED_DELAY: f64 = 100.0;

/// Where the search for the limit begins and ends; that of several workers begins at what one carries easily.
const SUBSCRIBERS: (usize, usize) = (50, 4_000);
const SUBSCRIBERS_OF_WORKERS: (usize, usize) = (400, 4_000);

/// How long the bare loop runs.
const BARE_TIME: Duration = Duration::from_secs(2);

/// Compares Veche, Janus and the bare loop on this machine, and prints tables in Markdown.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often everything is measured. Of the rounds that lost least, the cheapest counts.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// How long each measurement takes, once all have joined.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Cores for the server.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    server_cores: Vec<usize>,
    /// Cores for the load tool, and for who receives from the bare loop.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    load_cores: Vec<usize>,
    /// What to print.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Scenarios, Part::Limits, Part::Workers, Part::Channels, Part::Relay])]
    parts: Vec<Part>,
    /// Only the scenarios, or the measurements of relays, whose name has this: "1x50 video", "coturn".
    #[arg(long)]
    only: Option<String>,
    /// The loads on a channel: `10000x1` is 10,000 subscribers who get one message a second.
    #[arg(long, value_delimiter = ',', default_value = "10000x1,1000x100")]
    channel_loads: Vec<channels::Load>,
    /// How many TURN allocations there are.
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000")]
    relay_allocations: Vec<usize>,
    /// How often relays are measured: the median counts.
    #[arg(long, default_value_t = 5)]
    relay_rounds: usize,
    /// How many packets are relayed in a second, of all allocations together.
    #[arg(long, default_value_t = 40_000)]
    relay_rate: u64,
    /// Where `veche` and `veche-load` are; beside this program if it is not said.
    #[arg(long)]
    programs: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What each scenario costs.
    Scenarios,
    /// The highest load that is carried.
    Limits,
    /// What a second worker brings.
    Workers,
    /// What messages to many subscribers of a channel cost.
    Channels,
    /// What relaying by TURN costs.
    Relay,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    raise_file_limit()?;
    let programs = match &arguments.programs {
        Some(folder) => folder.clone(),
        None => std::env::current_exe()?.parent().context("a program is in a folder")?.to_owned(),
    };
    let bench = Bench {
        veche: programs.join("veche"),
        load: programs.join("veche-load"),
        server_cores: arguments.server_cores.clone(),
        load_cores: arguments.load_cores.clone(),
        seconds: arguments.seconds,
    };
    println!("{}\n", machine::describe()?);
    for part in &arguments.parts {
        match part {
            Part::Scenarios => compare_scenarios(&bench, &arguments)?,
            Part::Limits => compare_limits(&bench),
            Part::Workers => compare_workers(&bench),
            Part::Channels => channels::compare(&bench, &arguments.channel_loads, arguments.rounds),
            Part::Relay => {
                let (counts, rate) = (&arguments.relay_allocations, arguments.relay_rate);
                let only = arguments.only.as_deref().unwrap_or_default();
                relay::compare(&bench, counts, rate, arguments.relay_rounds, only);
            }
        }
    }
    Ok(())
}

/// A connection takes Janus several descriptors, and the load tool two.
fn raise_file_limit() -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: maximum, maximum };
    setrlimit(Resource::Nofile, limit).context("the limit of open files cannot be raised")
}

/// What each scenario costs each server, beside the bare loop.
fn compare_scenarios(bench: &Bench, arguments: &Arguments) -> anyhow::Result<()> {
    let chosen = |s: &Scenario| arguments.only.as_ref().is_none_or(|only| s.to_string().contains(only));
    let scenarios: Vec<Scenario> = Scenario::ALL.into_iter().filter(chosen).collect();
    let mut best = vec![[None::<Measured>; SERVERS.len()]; scenarios.len()];
    let mut bare = vec![0.0_f64; scenarios.len()];
    for round in 1..=arguments.rounds {
        for (place, &scenario) in scenarios.iter().enumerate() {
            bare[place] = bare[place].max(run_bare(bench, scenario)?);
            for (server, kind) in SERVERS.into_iter().enumerate() {
                let measured = attempt(bench, kind, scenario, &format!("round {round}"));
                let best = &mut best[place][server];
                *best = [*best, measured].into_iter().flatten().min_by(Measured::compare);
            }
        }
    }
    let headings =
        ["scenario", "server", "packets/s", "lost", "packets/CPU-s", "of bare", "p50", "p99", "memory"];
    let mut table = Table::new(&headings);
    for ((scenario, measured), bare) in scenarios.iter().zip(&best).zip(&bare) {
        for (kind, measured) in SERVERS.iter().zip(measured) {
            table.row(row(*scenario, *kind, measured.as_ref(), *bare));
        }
        let empty = String::new;
        table.row([empty(), "bare loop".to_owned(), empty(), empty(), grouped(*bare), "100 %".to_owned()]);
    }
    println!("{}", table.print());
    let others = best.iter().flatten().flatten().map(|m| m.others).fold(0.0, f64::max);
    println!("Other programs took up to {} of the machine during these.\n", percent(others));
    Ok(())
}

fn row(scenario: Scenario, kind: Kind, measured: Option<&Measured>, bare: f64) -> Vec<String> {
    let mut cells = vec![scenario.to_string(), kind.to_string()];
    let Some(m) = measured else {
        cells.push("failed".to_owned());
        return cells;
    };
    cells.extend([
        grouped(m.packets_per_second),
        lost(m),
        grouped(m.packets_per_cpu_second),
        format!("{:.0} %", 100.0 * m.packets_per_cpu_second / bare),
        format!("{:.1} ms", m.p50),
        format!("{:.1} ms", m.p99),
        format!("{:.0} MB", m.memory / 1e6),
    ]);
    cells
}

/// What was lost, and how many were not served at all.
fn lost(m: &Measured) -> String {
    match m.unserved {
        0 => percent(m.lost),
        unserved => format!("{}, {unserved} unserved", percent(m.lost)),
    }
}

/// The highest load of one publisher of video that each server carries.
fn compare_limits(bench: &Bench) {
    println!(
        "One publisher of video, the most subscribers with at most {} lost and a p99 delay of at most \
         {CARRIED_DELAY:.0} ms:\n",
        percent(CARRIED_LOSS)
    );
    let mut table = limits_table();
    for kind in SERVERS {
        table.row(limit_row(bench, kind, 1, SUBSCRIBERS));
    }
    println!("{}", table.print());
}

/// What two workers carry more than one, when the load tool and the server share all cores.
fn compare_workers(bench: &Bench) {
    println!("The same, the server and the load tool on the same cores:\n");
    let mut cores = [&bench.server_cores[..], &bench.load_cores[..]].concat();
    cores.sort_unstable();
    cores.dedup();
    let bench = Bench { server_cores: cores.clone(), load_cores: cores, ..bench.clone() };
    let mut table = limits_table();
    for rooms in [1, 2] {
        for workers in [1, 2] {
            table.row(limit_row(&bench, Kind::Veche { workers }, rooms, SUBSCRIBERS_OF_WORKERS));
        }
    }
    println!("{}", table.print());
}

fn limits_table() -> Table {
    Table::new(&[
        "server",
        "rooms",
        "subscribers",
        "packets/s",
        "p99",
        "server's CPU",
        "load tool's CPU",
        "others",
    ])
}

fn limit_row(bench: &Bench, kind: Kind, rooms: usize, (first, most): (usize, usize)) -> Vec<String> {
    let carries = |subscribers: usize| {
        let scenario = Scenario { rooms, ..Scenario::video(subscribers / rooms) };
        let measured = attempt(bench, kind, scenario, "limit");
        Ok::<_, std::convert::Infallible>(measured.filter(Measured::carried))
    };
    let Ok(found) = limit::search(first, most, carries);
    let mut cells = vec![kind.to_string(), rooms.to_string()];
    match found {
        Some((subscribers, m)) => cells.extend([
            grouped(subscribers as f64),
            grouped(m.packets_per_second),
            format!("{:.1} ms", m.p99),
            percent(m.server_cpu),
            percent(m.load_cpu),
            percent(m.others),
        ]),
        None => cells.push("none".to_owned()),
    }
    cells
}

/// Measures once. What fails is told and left out: a server that breaks under load must not end the comparison.
fn attempt(bench: &Bench, kind: Kind, scenario: Scenario, what: &str) -> Option<Measured> {
    match bench.run(kind, scenario) {
        Ok(m) => {
            eprintln!(
                "{what}: {scenario}, {kind}: {} packets/s, {} per CPU-second, {} lost, p50 {:.1} ms, p99 {:.1} ms, \
                 {:.0} MB, load tool {}, others {}",
                grouped(m.packets_per_second),
                grouped(m.packets_per_cpu_second),
                lost(&m),
                m.p50,
                m.p99,
                m.memory / 1e6,
                percent(m.load_cpu),
                percent(m.others),
            );
            Some(m)
        }
        Err(error) => {
            eprintln!("{what}: {scenario}, {kind}: {error:#}");
            None
        }
    }
}

fn run_bare(bench: &Bench, scenario: Scenario) -> anyhow::Result<f64> {
    let core = |cores: &[usize]| cores.first().copied().context("no cores are given");
    let (source, sink) = (core(&bench.server_cores)?, core(&bench.load_cores)?);
    let outcome = bare_loop::run(scenario.bare(), BARE_TIME, source, sink)?;
    eprintln!(
        "{scenario}, bare loop: {} per CPU-second, {} lost",
        grouped(outcome.packets_per_cpu_second),
        percent(outcome.lost)
    );
    Ok(outcome.packets_per_cpu_second)
}

impl Measured {
    /// Less lost is better, then less work.
    fn compare(&self, other: &Self) -> std::cmp::Ordering {
        let lost = |m: &Self| (m.unserved, (m.lost / CARRIED_LOSS) as u64);
        let cost = other.packets_per_cpu_second.total_cmp(&self.packets_per_cpu_second);
        lost(self).cmp(&lost(other)).then(cost)
    }

    fn carried(&self) -> bool {
        self.unserved == 0 && self.lost <= CARRIED_LOSS && self.p99 <= CARRIED_DELAY
    }
}
