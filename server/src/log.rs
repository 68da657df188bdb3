//! The log: what is written, how, and a filter that can change. Spans may go to OpenTelemetry too.

use std::io::IsTerminal as _;

use anyhow::{Context, Result};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::{Config, LogFormat};
use crate::traces::{self, Traces};

/// The way to the log's filter.
#[derive(Clone, Debug)]
pub(crate) struct Log(reload::Handle<EnvFilter, Registry>);

/// Begins to log, for the whole process. Call it within the runtime.
pub(crate) fn start(config: &Config) -> Result<(Log, Option<Traces>)> {
    let traces = Traces::start(&config.telemetry)?;
    let (filter, handle) = reload::Layer::new(parse(&config.log.filter)?);
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match config.log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let spans = traces.as_ref().map(|traces| traces.layer().with_filter(traces::filter()));
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans).init();
    Ok((Log(handle), traces))
}

impl Log {
    /// From now on this is logged.
    pub(crate) fn set_filter(&self, filter: &str) -> Result<()> {
        Ok(self.0.reload(parse(filter)?)?)
    }
}

fn parse(filter: &str) -> Result<EnvFilter> {
    EnvFilter::try_new(filter).context("log.filter: for example log.filter = \"info\"")
}
