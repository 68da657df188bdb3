//! `veche doctor`: looks at a configuration and a running server, from inside or from any other machine, and says what is
//! wrong, what that means for users, and how to mend it.

mod folder;
mod holder;
mod inside;
mod machine;
mod names;
mod ports;
mod stores;
mod user;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use veche_doctor::{Report, Target, Vantage};

use crate::commands::Options;
use crate::token_command::parse_span;

/// The exit status when something is wrong.
const WRONG: u8 = 1;
/// The exit status when nothing could be looked at.
const NOT_RUN: u8 = 2;

/// What is looked at.
#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// Look at a server from this machine as its users do, by the address of its web page; needs no configuration
    #[arg(long, value_name = "https://HOST[:PORT]")]
    from_outside: Option<String>,
    /// A token, where that server asks for one: veche token --room 'doctor-*'
    #[arg(long, env = "VECHE_DOCTOR_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Join this room instead of a new one, where joining makes no rooms
    #[arg(long, value_name = "ROOM")]
    room: Option<String>,
    /// Look only at what can be told before the server runs: the configuration, its files and whether its ports are free
    #[arg(long, conflicts_with = "from_outside")]
    before_start: bool,
    /// Leave a WebSocket alone for so long, to find what cuts silent connections: 90s
    #[arg(long, value_name = "SPAN", default_value = "1s", value_parser = parse_span)]
    idle: Duration,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Looks, prints what was found, and says by the status whether something is wrong.
pub(crate) fn run(options: &Options, arguments: &DoctorArguments) -> ExitCode {
    match examine(options, arguments) {
        Ok(report) => {
            if arguments.json {
                println!("{}", report.to_json());
            } else {
                print!("{report}");
            }
            if report.has_failures() { ExitCode::from(WRONG) } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("veche doctor: {error:#}");
            ExitCode::from(NOT_RUN)
        }
    }
}

fn examine(options: &Options, arguments: &DoctorArguments) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let report = match &arguments.from_outside {
        Some(address) => {
            let target = Target::new(address, Vantage::Outside)?;
            let target = target.with_token(arguments.token.clone()).with_idle(arguments.idle);
            let target = target.with_room(arguments.room.clone());
            runtime.block_on(veche_doctor::examine(target))
        }
        None => runtime.block_on(inside::examine(options, arguments)),
    };
    // A name that is still looked up would hold the process.
    runtime.shutdown_background();
    Ok(report)
}
