//! The cases of RFC 8867 with our estimator. `docs/networks.md` has the figures, beside those of others.

use std::time::Duration;

use veche_sim::contestants::OURS;
use veche_sim::rfc8867::{Case, Outcome, find};

/// Two courses of chance, which an estimator must both be good for.
const SEEDS: [u64; 2] = [1, 2];

fn run(section: &str, check: impl Fn(&Outcome) -> bool) {
    let case: Case = find(section);
    for seed in SEEDS {
        let outcome = case.run(OURS, seed);
        assert!(check(&outcome), "{section} with seed {seed}: {outcome:?}");
    }
}

/// Of what could be carried, nearly all; waits of 95 of 100 packets below so many milliseconds; hardly any loss.
fn good(outcome: &Outcome, p95: u64) -> bool {
    outcome.utilisation >= 0.85 && outcome.waits.p95 < Duration::from_millis(p95) && outcome.loss < 0.02
}

fn fair(outcome: &Outcome, least: f64) -> bool {
    outcome.fairness.is_some_and(|index| index >= least)
}

#[test]
fn variable_capacity_one_flow() {
    run("5.1", |outcome| good(outcome, 50));
}

#[test]
fn variable_capacity_two_flows() {
    run("5.2", |outcome| good(outcome, 100) && fair(outcome, 0.95));
}

#[test]
fn congested_feedback_flows_both_ways() {
    run("5.3", |outcome| good(outcome, 60));
}

#[test]
fn three_flows_share() {
    run("5.4", |outcome| good(outcome, 60) && fair(outcome, 0.95));
}

#[test]
fn five_flows_with_different_round_trips() {
    run("5.5", |outcome| good(outcome, 100) && fair(outcome, 0.9));
}

/// TCP fills the queue whatever we do. The media flow stays alive, and TCP does too.
#[test]
fn a_long_tcp_flow() {
    for section in ["5.6a", "5.6b"] {
        run(section, |outcome| {
            outcome.rates[0] > 140_000.0 && outcome.tcp.is_some_and(|tcp| tcp > 400_000.0)
        });
    }
}

#[test]
fn short_tcp_flows() {
    run("5.7", |outcome| {
        outcome.rates.iter().all(|rate| *rate > 120_000.0) && outcome.tcp.is_some_and(|tcp| tcp > 400_000.0)
    });
}

#[test]
fn pause_and_resume() {
    run("5.8", |outcome| good(outcome, 60) && fair(outcome, 0.95));
}

#[test]
fn two_bottlenecks() {
    run("6.3", |outcome| good(outcome, 60) && fair(outcome, 0.85));
}
