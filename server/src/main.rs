//! The binary `veche`: configuration and wiring only.

mod access;
mod banner;
mod commands;
mod config;
mod description;
mod discovery;
mod doctor;
mod drain;
mod entrance;
mod forwarded;
mod gate;
mod keys;
mod layers;
mod listeners;
mod log;
mod metrics;
mod parts;
mod patience;
mod reload;
mod serve;
mod tally;
mod tls;
mod token_command;
mod traces;
mod turn;
mod web;
mod webhooks;
mod whereabouts;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything that may speak TLS: rustls has no provider of its own choice.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match commands::run() {
        Ok(status) => status,
        Err(error) => {
            eprintln!("veche: {error:#}");
            ExitCode::FAILURE
        }
    }
}
