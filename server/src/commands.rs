//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use rustix::process::{Resource, getrlimit, setrlimit};
use veche_access::Authority;

use crate::compose::ComposeArguments;
use crate::config::{Config, ConfigError, Flags};
use crate::doctor::DoctorArguments;
use crate::keys::KeysCommand;
use crate::reload::Reloader;
use crate::token_command::TokenArguments;
use crate::{compose, doctor, keys, log, serve, tls, token_command};

/// How long tasks may take to end when all else has.
const TASKS_WAIT: Duration = Duration::from_millis(200);

/// Realtime media and messaging server. Without a command it runs.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
    /// The same as `config print`.
    #[arg(long, hide = true)]
    print_config: bool,
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Options {
    /// The configuration; without it `veche.toml`, where that exists
    #[arg(long, env = "VECHE_CONFIG", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Makes one MP4 or WebM of a recording, by ffmpeg
    Compose(ComposeArguments),
    /// Says what is wrong with a server and how to mend it
    Doctor(DoctorArguments),
    /// Prints a token for trying out, signed with the first of access.secrets
    Token(TokenArguments),
    /// Makes, lists and revokes API keys
    #[command(subcommand)]
    Keys(KeysCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Tells whether the server could start with it
    Check,
    /// Prints what would be used: defaults, file, environment and flags together
    Print,
}

impl Options {
    /// Reads the configuration, with notes for the log. The environment is that of the process.
    pub(crate) fn load(&self) -> Result<(Config, Vec<String>), ConfigError> {
        Config::load(self.config.as_deref(), std::env::vars_os(), &self.flags)
    }
}

/// Does what the command line asks for, and says with which status to end.
pub(crate) fn run() -> Result<ExitCode> {
    let Arguments { options, command, print_config } = Arguments::parse();
    let command = if print_config { Some(Command::Config(ConfigCommand::Print)) } else { command };
    let load = || options.load();
    match command {
        // It reads the configuration itself: of one that cannot be read it has more to say.
        Some(Command::Doctor(arguments)) => return Ok(doctor::run(&options, &arguments)),
        // Wherever recordings are, it needs no server.
        Some(Command::Compose(arguments)) => compose::run(&arguments)?,
        Some(Command::Config(ConfigCommand::Check)) => {
            let (config, notes) = load()?;
            check(&config, &notes)?;
        }
        Some(Command::Config(ConfigCommand::Print)) => print!("{}", load()?.0.to_toml()),
        Some(Command::Token(arguments)) => token_command::run(&load()?.0, &arguments)?,
        Some(Command::Keys(command)) => keys::run(&load()?.0, &command)?,
        None => {
            let (config, notes) = load()?;
            start(options, config, &notes)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What can be told without starting: values, and files that they name.
fn check(config: &Config, notes: &[String]) -> Result<()> {
    for note in notes {
        println!("{note}");
    }
    tls::check(config)?;
    Authority::new(&config.access, None)?;
    println!("The configuration is fine.");
    Ok(())
}

fn start(options: Options, config: Config, notes: &[String]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // Within the runtime, for traces are sent by tasks.
    let entered = runtime.enter();
    let (log, traces) = log::start(&config)?;
    drop(entered);
    for note in notes {
        tracing::warn!("{note}");
    }
    raise_file_limit();
    let result = runtime.block_on(serve::serve(Reloader::new(options, config, log)));
    if let Some(traces) = traces {
        traces.end();
    }
    runtime.shutdown_timeout(TASKS_WAIT);
    result
}

/// Every connection is an open file, and the usual limit of 1024 is soon reached.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
