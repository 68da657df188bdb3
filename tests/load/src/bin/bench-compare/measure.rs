//! One run of the load tool against one server that was started for it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::cores;
use crate::machine::Moment;
use crate::scenario::{Media, Scenario};
use crate::servers::{Kind, Server};

/// How many join in a second: all servers can do that.
const JOIN_RATE: &str = "50";

/// Where the programs are, and which cores they get.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The server `veche`.
    pub veche: PathBuf,
    /// The load tool `veche-load`.
    pub load: PathBuf,
    /// For the server.
    pub server_cores: Vec<usize>,
    /// For the load tool.
    pub load_cores: Vec<usize>,
    /// How long to measure, once all have joined.
    pub seconds: u64,
}

/// What came out of one run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// Forwarded packets that subscribers got, in a second.
    pub packets_per_second: f64,
    /// The same for a second of the server's CPU time.
    pub packets_per_cpu_second: f64,
    /// Of the packets that should have come, those that never did.
    pub lost: f64,
    /// One-way delay in milliseconds that half of the packets keep.
    pub p50: f64,
    /// One-way delay in milliseconds that 99 % of the packets keep.
    pub p99: f64,
    /// Resident memory of the server, in bytes.
    pub memory: f64,
    /// CPU-seconds of the server in a second.
    pub server_cpu: f64,
    /// CPU-seconds of the load tool in a second.
    pub load_cpu: f64,
    /// Clients that got no connection, or not one whole frame.
    pub unserved: usize,
    /// The share of the machine that went to other programs: how much to trust the rest.
    pub others: f64,
}

impl Bench {
    /// Starts a server, puts it under load, and stops it.
    ///
    /// # Errors
    /// When one of the programs fails, or says what is not understood.
    pub fn run(&self, kind: Kind, scenario: Scenario) -> anyhow::Result<Measured> {
        let server = Server::start(kind, &self.veche, &self.server_cores)?;
        let mut command = Command::new(&self.load);
        command.args([
            "--target",
            kind.target(),
            "--server",
            &server.url(),
            "--pid",
            &server.pid().to_string(),
        ]);
        command.args(arguments(scenario));
        command.args(["--duration", &format!("{}s", self.seconds), "--join-rate", JOIN_RATE]);
        command.args(["--cores", &cores::list(&self.load_cores), "--quiet", "--json"]);
        let before = Moment::now(server.pid())?;
        let output = command
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{} cannot be run", self.load.display()))?;
        let after = Moment::now(server.pid())?;
        // A run that is not as expected has a report too.
        if output.stdout.is_empty() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let report: Report =
            serde_json::from_slice(&output.stdout).context("the report is not understood")?;
        Ok(Measured { others: after.others_since(before), ..report.measured()? })
    }
}

/// What of the load tool's report matters here.
#[derive(Debug, Deserialize)]
struct Report {
    failed: usize,
    without_frame: usize,
    packets_per_second: f64,
    /// Absent where the server chooses what it sends.
    delivered: Option<f64>,
    loss: f64,
    delay_ms: Quantiles,
    server: Process,
    generator: Process,
}

#[derive(Debug, Deserialize)]
struct Quantiles {
    p50: Option<f64>,
    p99: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Process {
    cores: f64,
    memory_bytes: u64,
    packets_per_cpu_second: Option<f64>,
}

impl Report {
    fn measured(&self) -> anyhow::Result<Measured> {
        // What a server loses on its way in leaves no gap on its way out if it counts anew.
        let missing = 1.0 - self.delivered.unwrap_or(1.0);
        let nothing = "nothing came";
        Ok(Measured {
            packets_per_second: self.packets_per_second,
            packets_per_cpu_second: self.server.packets_per_cpu_second.context(nothing)?,
            lost: self.loss.max(missing),
            p50: self.delay_ms.p50.context(nothing)?,
            p99: self.delay_ms.p99.context(nothing)?,
            memory: self.server.memory_bytes as f64,
            server_cpu: self.server.cores,
            load_cpu: self.generator.cores,
            unserved: self.failed + self.without_frame,
            others: 0.0,
        })
    }
}

fn arguments(scenario: Scenario) -> Vec<String> {
    let Scenario { rooms, publishers, subscribers, media, meeting } = scenario;
    let mut arguments = vec!["--rooms".to_owned(), rooms.to_string()];
    let mut add = |name: &str, value: &str| arguments.extend([name.to_owned(), value.to_owned()]);
    if meeting {
        add("--participants", &subscribers.to_string());
    } else {
        add("--publishers", &publishers.to_string());
        add("--subscribers", &subscribers.to_string());
    }
    let (tracks, speech) = match (meeting, media) {
        (true, _) => ("both", "turns"),
        (false, Media::Video) => ("video", "silent"),
        (false, Media::Audio) => ("audio", "constant"),
    };
    add("--tracks", tracks);
    add("--speech", speech);
    add("--frame-packets", &scenario.frame_packets().to_string());
    arguments
}
