//! Prints how the estimators do on networks of all kinds, as a table: the second of `docs/networks.md`.

use std::time::Duration;

use veche_sim::contestants::{ALL, Contestant};
use veche_sim::line::{DEEP, Line, MEGABIT, millis, seconds};
use veche_testkit::network::{Bursts, Capacity, Codel, LinkConfig, Mobile, QueueConfig};

fn main() {
    let names: Vec<&str> = ALL.iter().map(|contestant| contestant.name).collect();
    println!("| network | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(ALL.len()));
    for kbits in [300, 800, 2_500, 6_000] {
        let capacity = Capacity::constant(kbits * 1000);
        row(&format!("steady {kbits} kbit/s"), |it| used(&line(it, capacity.clone(), DEEP).run(60), 15));
    }
    row("5 Mbit/s to 0.5 at 30 s, back at 60 s", steps);
    for loss in [0.01, 0.02, 0.05] {
        let link = LinkConfig { loss, ..LinkConfig::slow(millis(25)) };
        row(&format!("2 Mbit/s, {} % of random loss", loss * 100.0), |it| used(&with(it, link).run(90), 20));
    }
    let bursts = Some(Bursts::losing(0.02, 5.0));
    let link = LinkConfig { bursts, ..LinkConfig::slow(millis(25)) };
    row("2 Mbit/s, 2 % of loss in runs of 5", |it| used(&with(it, link).run(90), 20));
    let link = LinkConfig { jitter: millis(60), ..LinkConfig::slow(millis(25)) };
    row("2 Mbit/s, 60 ms of jitter", |it| used(&with(it, link).run(60), 15));
    let queues = [
        ("2 Mbit/s, queue of 20 ms", QueueConfig::Time(millis(20))),
        ("2 Mbit/s, queue of 30 ms", QueueConfig::Time(millis(30))),
        ("2 Mbit/s, CoDel", QueueConfig::Codel(Codel::default())),
    ];
    for (name, queue) in queues {
        row(name, |it| used(&line(it, Capacity::constant(2 * MEGABIT), queue).run(60), 15));
    }
    row("5 Mbit/s, quiet from 20 s to 60 s", quiet);
    row("3 Mbit/s, two flows", share);
    for seed in 1..5 {
        let mobile =
            Mobile { mean: 2 * MEGABIT, swing: 0.4, swing_time: seconds(4), fade_every: seconds(30) };
        let capacity = Capacity::mobile(mobile, seed, seconds(120));
        let queue = QueueConfig::Bytes(150_000);
        row(&format!("mobile, seed {seed}"), |it| used(&line(it, capacity.clone(), queue).run(120), 10));
    }
}

fn row(name: &str, figures: impl Fn(Contestant) -> String) {
    let cells: Vec<String> = ALL.into_iter().map(figures).collect();
    println!("| {name} | {} |", cells.join(" | "));
}

fn line(contestant: Contestant, capacity: Capacity, queue: QueueConfig) -> Line {
    Line::new(contestant, 1, capacity, queue).with_flow(LinkConfig::slow(millis(25)))
}

fn with(contestant: Contestant, link: LinkConfig) -> Line {
    Line::new(contestant, 1, Capacity::constant(2 * MEGABIT), DEEP).with_flow(link)
}

/// Used, waits and loss from a second on.
fn used(line: &Line, from: u64) -> String {
    let to = line.seconds();
    let (used, wait) = (line.used(from, to) * 100.0, line.p95(from, to).as_millis());
    format!("{used:.0} %, {wait} ms, {:.1} % lost", line.lost(from, to.saturating_sub(2)) * 100.0)
}

fn steps(contestant: Contestant) -> String {
    let steps = [(seconds(0), 5 * MEGABIT), (seconds(30), MEGABIT / 2), (seconds(60), 5 * MEGABIT)];
    let line = line(contestant, Capacity::steps(&steps), DEEP).run(90);
    let silence = line.lab.record(line.flows[0]).longest_silence(seconds(30), seconds(60));
    let settled = format!("{:.0} %, {} ms", line.used(33, 60) * 100.0, line.p95(33, 60).as_millis());
    let back = time(line.reached(60, 4_250_000));
    format!("silent {} ms, after 3 s {settled}, back after {back}", silence.as_millis())
}

fn quiet(contestant: Contestant) -> String {
    let mut line = Line::steady(contestant, 1, 5 * MEGABIT);
    let flow = line.flows[0];
    line.lab.limit(flow, seconds(20), 40_000);
    line.lab.limit(flow, seconds(60), u64::MAX);
    format!("back after {}", time(line.run(80).reached(60, 4 * MEGABIT)))
}

fn share(contestant: Contestant) -> String {
    let link = LinkConfig::slow(millis(25));
    let line = Line::new(contestant, 1, Capacity::constant(3 * MEGABIT), DEEP)
        .with_flow(link)
        .with_flow(link)
        .run(120);
    let rate = |index: usize| line.lab.record(line.flows[index]).rate(seconds(30), seconds(120)) / 1e6;
    format!("{:.2} and {:.2} Mbit/s, {} ms", rate(0), rate(1), line.p95(30, 120).as_millis())
}

fn time(time: Duration) -> String {
    if time == Duration::MAX { "never".to_owned() } else { format!("{:.1} s", time.as_secs_f64()) }
}
