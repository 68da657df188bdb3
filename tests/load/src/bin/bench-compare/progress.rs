//! How far a comparison is, as a bar on a terminal; elsewhere only what is said.

use indicatif::{ProgressBar, ProgressStyle};

/// Parts of the bar for one measurement: while subscribers connect, and while messages are published.
const CONNECTING: u64 = 30;
const PUBLISHING: u64 = 70;

/// The bar, for who measures and all that help.
#[derive(Clone, Debug)]
pub struct Progress {
    bar: ProgressBar,
    /// Where the present measurement begins.
    begin: u64,
}

impl Progress {
    /// A bar for so many measurements.
    pub fn new(measurements: usize) -> Self {
        let style = ProgressStyle::with_template("{bar:30} {percent:>3} % {elapsed} {msg}");
        let bar = ProgressBar::new(measurements as u64 * (CONNECTING + PUBLISHING));
        let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, begin: 0 }
    }

    /// A measurement begins, after so many others.
    pub fn begin(&mut self, after: usize, what: String) {
        self.begin = after as u64 * (CONNECTING + PUBLISHING);
        self.bar.set_position(self.begin);
        self.bar.set_message(what);
    }

    /// So many of all subscribers are connected.
    pub fn connected(&self, number: usize, all: usize) {
        self.bar.set_position(self.begin + CONNECTING * number as u64 / all as u64);
    }

    /// So many of all messages are published.
    pub fn published(&self, number: u64, all: u64) {
        self.bar.set_position(self.begin + CONNECTING + PUBLISHING * number / all);
    }

    /// Says something above the bar.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
