//! Expectations that a run has to meet: `loss<=0.1%`, `p99<=20ms`, `delivered>=99.9%`.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};

use crate::report::Report;
use crate::units;

/// What can be expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metric {
    Loss,
    Delivered,
    Playing,
    P50,
    P95,
    P99,
    Max,
    TtffMedian,
    TtffMax,
    AllMax,
    JoinMax,
    Failed,
    Frameless,
    PacketRate,
    Efficiency,
    Cpu,
    Memory,
}

const NAMES: [(&str, Metric); 17] = [
    ("loss", Metric::Loss),
    ("delivered", Metric::Delivered),
    ("p50", Metric::P50),
    ("p95", Metric::P95),
    ("p99", Metric::P99),
    ("max", Metric::Max),
    ("ttff-p50", Metric::TtffMedian),
    ("ttff", Metric::TtffMax),
    ("all-frames", Metric::AllMax),
    ("playing", Metric::Playing),
    ("join", Metric::JoinMax),
    ("failed", Metric::Failed),
    ("frameless", Metric::Frameless),
    ("packets", Metric::PacketRate),
    ("packets-per-cpu-second", Metric::Efficiency),
    ("cpu", Metric::Cpu),
    ("memory", Metric::Memory),
];

/// One expectation.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    text: String,
    metric: Metric,
    at_least: bool,
    limit: f64,
}

impl Expectation {
    /// Whether the report meets it; what was not measured does not.
    pub fn holds(&self, report: &Report) -> bool {
        self.value(report)
            .is_some_and(|value| if self.at_least { value >= self.limit } else { value <= self.limit })
    }

    /// It is about how many clients failed.
    pub fn is_about_failures(&self) -> bool {
        self.metric == Metric::Failed
    }

    fn value(&self, report: &Report) -> Option<f64> {
        let millis = |value: Option<f64>| value.map(|millis| millis / 1e3);
        match self.metric {
            Metric::Loss => Some(report.loss).filter(|_| report.packets > 0),
            Metric::Delivered => report.delivered,
            Metric::Playing => (report.streams > 0).then(|| report.playing as f64 / report.streams as f64),
            Metric::P50 => millis(report.delay_ms.p50),
            Metric::P95 => millis(report.delay_ms.p95),
            Metric::P99 => millis(report.delay_ms.p99),
            Metric::Max => millis(report.delay_ms.max),
            Metric::TtffMedian => millis(report.first_frame_ms.p50),
            Metric::TtffMax => millis(report.first_frame_ms.max),
            Metric::AllMax => millis(report.all_frames_ms.max),
            Metric::JoinMax => millis(report.join_ms.max),
            Metric::Failed => Some(report.failed as f64),
            Metric::Frameless => Some(report.without_frame as f64),
            Metric::PacketRate => Some(report.packets_per_second),
            Metric::Efficiency => report.server.as_ref()?.packets_per_cpu_second,
            Metric::Cpu => Some(report.server.as_ref()?.cores),
            Metric::Memory => Some(report.server.as_ref()?.memory_bytes as f64),
        }
    }
}

impl FromStr for Expectation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let at = text.find(['<', '>']).context("an expectation is such as loss<=0.1% or packets>=10k")?;
        let (name, rest) = text.split_at(at);
        let at_least = rest.starts_with('>');
        let limit = rest[1..].strip_prefix('=').context("an expectation has <= or >=")?;
        let known = NAMES.iter().find(|(known, _)| *known == name.trim());
        let Some(&(_, metric)) = known else {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            bail!("{:?} is not measured; {} are", name.trim(), names.join(", "));
        };
        let limit = match metric {
            Metric::Loss | Metric::Delivered | Metric::Playing => units::share(limit)?,
            Metric::P50
            | Metric::P95
            | Metric::P99
            | Metric::Max
            | Metric::TtffMedian
            | Metric::TtffMax
            | Metric::AllMax
            | Metric::JoinMax => units::duration(limit)?.as_secs_f64(),
            _ => units::count(limit)?,
        };
        Ok(Self { text: text.to_owned(), metric, at_least, limit })
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Quantiles;

    fn holds(text: &str, report: &Report) -> bool {
        text.parse::<Expectation>().unwrap().holds(report)
    }

    #[test]
    fn expectations_hold_or_do_not() {
        let report = Report {
            loss: 0.002,
            packets: 10,
            packets_per_second: 9_000.0,
            delay_ms: Quantiles { p99: Some(12.0), ..Quantiles::default() },
            ..Report::default()
        };
        assert!(holds("loss<=0.2%", &report) && !holds("loss <= 0.1%", &report));
        assert!(holds("p99<=12ms", &report) && !holds("p99<=11ms", &report));
        assert!(holds("packets>=9k", &report) && !holds("packets>=9.1k", &report));
        assert!(holds("failed<=0", &report));
    }

    #[test]
    fn what_was_not_measured_does_not_hold() {
        let report = Report::default();
        for text in ["loss<=100%", "p50<=1h", "ttff<=1h", "memory<=1G", "delivered>=0"] {
            assert!(!holds(text, &report), "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for text in ["loss", "loss=1", "loss<1", "los<=1", "p99<=1k", "loss<=x"] {
            assert!(text.parse::<Expectation>().is_err(), "{text}");
        }
    }
}
