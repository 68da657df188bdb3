//! `veche-load`: puts a media server under load and measures from outside what it does.

mod arguments;
mod arrivals;
mod clock;
mod description;
mod expect;
mod generator;
mod janus;
#[cfg(test)]
mod loopback;
mod measure;
mod negotiation;
mod peer;
mod publisher;
mod recording;
mod report;
mod run;
mod scenario;
mod send_times;
mod sequence;
mod stamp;
mod subscriber;
mod synthetic;
mod target;
mod transport;
mod units;
mod veche;
mod voice;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use arguments::{Arguments, Kind};
use expect::Expectation;
use janus::Janus;
use report::Report;
use veche::Veche;

/// Expectations that did not hold; 1 is for a run that could not be made at all, 2 for wrong arguments.
const NOT_AS_EXPECTED: u8 = 3;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NOT_AS_EXPECTED),
        Err(error) => {
            eprintln!("veche-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything was as expected.
fn run(arguments: &Arguments) -> Result<bool> {
    let scenario = arguments.scenario()?;
    let options = arguments.options()?;
    raise_file_limit();
    if !options.cores.is_empty() {
        let mut cores = CpuSet::new();
        options.cores.iter().for_each(|core| cores.set(*core));
        sched_setaffinity(None, &cores).context("these cores cannot be used")?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = runtime.block_on(async {
        match arguments.target {
            Kind::Veche => {
                run::run(Veche::new(&arguments.server, arguments.size)?, &scenario, &options).await
            }
            Kind::Janus => run::run(Janus::new(&arguments.server)?, &scenario, &options).await,
        }
    })?;
    let held = judge(&mut report, &arguments.expect);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(held)
}

/// Writes down which expectations hold. That nobody failed is always expected, unless something else is.
fn judge(report: &mut Report, expectations: &[Expectation]) -> bool {
    let implied = (!expectations.iter().any(Expectation::is_about_failures)).then(|| "failed<=0".parse());
    let implied = implied.and_then(Result::ok);
    let judged = expectations.iter().chain(&implied).map(|expectation| {
        let held = expectation.holds(report);
        (expectation.to_string(), held)
    });
    report.expectations = judged.collect();
    report.expectations.iter().all(|(_, held)| *held)
}

/// Every client has a socket of its own, and a WebSocket.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, the first client too many says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_no_success_unless_expected() {
        let mut report = Report { failed: 2, ..Report::default() };
        assert!(!judge(&mut report, &[]));
        assert!(judge(&mut report, &["failed<=2".parse().unwrap()]));
        assert!(!judge(&mut report, &["failed<=2".parse().unwrap(), "packets>=1".parse().unwrap()]));
    }
}
