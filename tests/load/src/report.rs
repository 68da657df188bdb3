//! What a run has shown, as a table for people and as JSON for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::measure::Counters;
use crate::units::{show_duration, show_number};
use veche_load::histogram::Histogram;
use veche_load::process::Usage;

/// What a run has shown.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// What was done, in a line.
    pub scenario: String,
    /// How long was measured, in seconds.
    pub seconds: f64,
    /// Clients that were to join; a participant who needs two connections is two.
    pub clients: usize,
    /// Clients that did not get a media connection, or lost it.
    pub failed: usize,
    /// Subscribers among those that are there.
    pub subscribers: usize,
    /// Subscribers that never saw a whole frame.
    pub without_frame: usize,
    /// Joins in a second while clients joined.
    pub joins_per_second: f64,
    /// From the beginning of a join to the media connection, in milliseconds.
    pub join_ms: Quantiles,
    /// From the beginning of a subscriber's join to its first whole frame, in milliseconds.
    pub first_frame_ms: Quantiles,
    /// From the beginning of a subscriber's join to the first whole frame of the last of its streams, in milliseconds.
    pub all_frames_ms: Quantiles,
    /// Streams that subscribers receive, all together.
    pub streams: usize,
    /// Those of them of which something came in the measured time.
    pub playing: usize,
    /// Media packets that publishers sent.
    pub published_packets: u64,
    /// Media packets that subscribers got.
    pub packets: u64,
    /// The same in a second.
    pub packets_per_second: f64,
    /// Of the subscriber that got the fewest packets in a second, of the one in the middle, and of the one that got most.
    pub packets_per_second_per_subscriber: [f64; 3],
    /// Payload bits that subscribers got in a second.
    pub bits_per_second: f64,
    /// What subscribers got, as a share of what was published for them. Absent where servers choose what they send.
    pub delivered: Option<f64>,
    /// Sequence numbers that were left out when a later one came.
    pub gaps: u64,
    /// Of these, those that a repair brought.
    pub repaired: u64,
    /// Of these, those that came late by themselves.
    pub late: u64,
    /// Of these, those that were given up.
    pub lost: u64,
    /// The share of packets that were given up.
    pub loss: f64,
    /// Packets that came again.
    pub duplicates: u64,
    /// Packets by which the server probes.
    pub probes: u64,
    /// Datagrams that were not understood.
    pub strange: u64,
    /// Key frames that the server asked for.
    pub key_requests: u64,
    /// Packets that publishers were asked for again and sent.
    pub sent_repairs: u64,
    /// One-way delay through the server, in milliseconds, of a sample of the packets.
    pub delay_ms: Quantiles,
    /// How many packets that sample has.
    pub delay_samples: u64,
    /// The server's process.
    pub server: Option<ProcessReport>,
    /// This tool.
    pub generator: ProcessReport,
    /// Second by second.
    pub per_second: Vec<SecondReport>,
    /// What was expected, and whether it held.
    pub expectations: Vec<(String, bool)>,
}

/// How something is distributed.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Quantiles {
    /// The median.
    pub p50: Option<f64>,
    /// 95 of 100 are at most this.
    pub p95: Option<f64>,
    /// 99 of 100 are at most this.
    pub p99: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
}

/// What a process took.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ProcessReport {
    /// CPU time within the measured time.
    pub cpu_seconds: f64,
    /// The same as a number of cores.
    pub cores: f64,
    /// Resident memory at the end.
    pub memory_bytes: u64,
    /// Packets that subscribers got for each second of CPU.
    pub packets_per_cpu_second: Option<f64>,
}

/// One second.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct SecondReport {
    /// Which one, from 1 on.
    pub second: usize,
    /// Media packets that subscribers got.
    pub packets: u64,
    /// Payload bits that subscribers got.
    pub bits: u64,
    /// Sequence numbers left out.
    pub gaps: u64,
    /// Packets that repairs brought.
    pub repaired: u64,
    /// Packets that were given up.
    pub lost: u64,
    /// One-way delay in milliseconds.
    pub delay_ms: Quantiles,
    /// CPU of the server as a number of cores.
    pub server_cores: Option<f64>,
    /// Memory of the server in bytes.
    pub server_memory: Option<u64>,
}

impl Quantiles {
    /// Of durations, in milliseconds.
    pub fn of(histogram: &Histogram) -> Self {
        let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
        let quantile = |share| histogram.quantile(share).map(millis);
        let max = (histogram.count() > 0).then(|| millis(histogram.max()));
        Self { p50: quantile(0.5), p95: quantile(0.95), p99: quantile(0.99), max }
    }
}

impl ProcessReport {
    /// From what a process had taken before and after.
    pub fn between(before: Usage, after: Usage, seconds: f64, packets: u64) -> Self {
        let cpu_seconds = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        Self {
            cpu_seconds,
            cores: cpu_seconds / seconds,
            memory_bytes: after.memory,
            packets_per_cpu_second: (cpu_seconds > 0.0).then(|| packets as f64 / cpu_seconds),
        }
    }
}

impl SecondReport {
    /// From what was counted in a second.
    pub fn new(second: usize, counters: &Counters) -> Self {
        Self {
            second,
            packets: counters.packets,
            bits: counters.bytes * 8,
            gaps: counters.gaps,
            repaired: counters.repaired,
            lost: counters.lost,
            delay_ms: Quantiles::of(&counters.delay),
            server_cores: None,
            server_memory: None,
        }
    }

    /// A line for people.
    pub fn line(&self) -> String {
        let mut line = format!(
            "{:>4} s  {:>9} packets  {:>8} Mbit/s  gaps {:<5} repaired {:<5} lost {:<5} delay {}",
            self.second,
            show_number(self.packets as f64),
            show_number(self.bits as f64 / 1e6),
            self.gaps,
            self.repaired,
            self.lost,
            self.delay_ms.line(),
        );
        if let (Some(cores), Some(memory)) = (self.server_cores, self.server_memory) {
            let _ = write!(line, "  server {:.0} % {} MB", cores * 100.0, memory >> 20);
        }
        line
    }
}

impl Quantiles {
    /// The quantiles for people, from the median to the maximum.
    fn line(&self) -> String {
        let show = |millis: Option<f64>| {
            millis
                .map_or_else(|| "-".to_owned(), |millis| show_duration(Duration::from_secs_f64(millis / 1e3)))
        };
        [self.p50, self.p95, self.p99, self.max].map(show).join(" / ")
    }
}

impl Report {
    /// Takes over what was counted in the measured time.
    pub fn take_counters(&mut self, counters: &Counters, seconds: f64) {
        self.seconds = seconds;
        self.published_packets = counters.sent_packets;
        self.packets = counters.packets;
        self.packets_per_second = counters.packets as f64 / seconds;
        self.bits_per_second = counters.bytes as f64 * 8.0 / seconds;
        self.gaps = counters.gaps;
        self.repaired = counters.repaired;
        self.late = counters.late;
        self.lost = counters.lost;
        self.loss = counters.loss();
        self.duplicates = counters.duplicates;
        self.probes = counters.probes;
        self.strange = counters.strange;
        self.key_requests = counters.key_requests;
        self.sent_repairs = counters.sent_repairs;
        self.delay_ms = Quantiles::of(&counters.delay);
        self.delay_samples = counters.delay.count();
    }

    /// A table for people.
    pub fn table(&self) -> String {
        let mut rows: Vec<(&str, String)> = vec![("scenario", self.scenario.clone())];
        let number = |count: u64| show_number(count as f64);
        rows.push(("measured", format!("{:.1} s", self.seconds)));
        rows.push(("clients", format!("{} ({} failed)", self.clients, self.failed)));
        rows.push(("joins", format!("{} per second", show_number(self.joins_per_second))));
        rows.push(("time to join", self.join_ms.line()));
        let frames =
            format!("{} ({} of {} never)", self.first_frame_ms.line(), self.without_frame, self.subscribers);
        rows.push(("time to first frame", frames));
        rows.push(("time to all streams", self.all_frames_ms.line()));
        if self.streams > 0 {
            rows.push(("streams", format!("{} of {} flow", self.playing, self.streams)));
        }
        rows.push(("published", format!("{} packets", number(self.published_packets))));
        let delivered =
            self.delivered.map(|share| format!(", {} % of what was published", show_percent(share)));
        rows.push((
            "forwarded",
            format!("{} packets{}", number(self.packets), delivered.unwrap_or_default()),
        ));
        let rate = format!(
            "{} packets/s, {} Mbit/s",
            show_number(self.packets_per_second),
            show_number(self.bits_per_second / 1e6)
        );
        rows.push(("", rate));
        // Of a run that was stopped, nobody's own figures are known.
        if self.streams > 0 {
            let [least, middle, most] = self.packets_per_second_per_subscriber.map(show_number);
            rows.push((
                "per subscriber",
                format!("{least} / {middle} / {most} packets/s (least, median, most)"),
            ));
        }
        let gaps = format!(
            "{} (repaired {}, late {}, lost {}: {} %)",
            number(self.gaps),
            number(self.repaired),
            number(self.late),
            number(self.lost),
            show_percent(self.loss)
        );
        rows.push(("gaps", gaps));
        rows.push((
            "one-way delay",
            format!("{} ({} samples)", self.delay_ms.line(), number(self.delay_samples)),
        ));
        let other = format!(
            "duplicates {}, probes {}, not understood {}, key frames asked for {}, repairs by publishers {}",
            self.duplicates, self.probes, self.strange, self.key_requests, self.sent_repairs
        );
        rows.push(("other", other));
        if let Some(server) = &self.server {
            rows.push(("server", server.line()));
        }
        rows.push(("this tool", self.generator.line()));
        for (text, held) in &self.expectations {
            rows.push((if *held { "holds" } else { "DOES NOT HOLD" }, text.clone()));
        }
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let mut out = String::new();
        for (name, value) in rows {
            let _ = writeln!(out, "{name:<width$}  {value}");
        }
        out.push_str("Times are median / 95 % / 99 % / maximum.\n");
        out
    }
}

impl ProcessReport {
    fn line(&self) -> String {
        let efficiency = self.packets_per_cpu_second.map_or_else(|| "-".to_owned(), show_number);
        format!(
            "{:.2} s of CPU ({:.1} % of a core), {} MB, {efficiency} packets per CPU-second",
            self.cpu_seconds,
            self.cores * 100.0,
            self.memory_bytes >> 20,
        )
    }
}

/// Rounded so that what is not all is never shown as all, nor something as nothing.
fn show_percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent == 0.0 || percent >= 100.0 || (0.01..=99.99).contains(&percent) {
        let text = format!("{percent:.2}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    if percent < 0.01 { "< 0.01".to_owned() } else { "> 99.99".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_not_rounded_away() {
        assert_eq!(
            [0.0, 1.0, 0.5, 0.00001, 0.99999].map(show_percent),
            ["0", "100", "50", "< 0.01", "> 99.99"]
        );
    }

    #[test]
    fn a_table_has_a_row_for_what_was_measured() {
        let mut counters = Counters { packets: 2_000, lost: 1, gaps: 3, repaired: 2, ..Counters::default() };
        counters.delay.record(Duration::from_micros(1_500));
        let mut report = Report { expectations: vec![("loss<=0".to_owned(), false)], ..Report::default() };
        report.take_counters(&counters, 2.0);
        let table = report.table();
        for part in [
            "1,000 packets/s",
            "3 (repaired 2, late 0, lost 1: 0.05 %)",
            "1.50 ms",
            "DOES NOT HOLD        loss<=0",
        ] {
            assert!(table.contains(part), "{part} in\n{table}");
        }
        assert!(!table.contains("server"));
        assert!(serde_json::to_string(&report).unwrap().contains("\"packets\":2000"));
    }
}
