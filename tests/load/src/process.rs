//! What a process takes, from /proc.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::param::{clock_ticks_per_second, page_size};

/// What a process has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in user and kernel mode, of all threads, those that have ended too.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub memory: u64,
}

impl Usage {
    /// Of this process now.
    pub fn of(pid: u32) -> Result<Self> {
        let read = |name| fs::read_to_string(format!("/proc/{pid}/{name}"));
        let stat = read("stat").with_context(|| format!("there is no process {pid}"))?;
        let memory = read("statm").ok().and_then(|statm| resident_pages(&statm)).unwrap_or_default();
        let ticks = cpu_ticks(&stat).context("/proc has another form here")?;
        let cpu = Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64);
        Ok(Self { cpu, memory: memory * page_size() as u64 })
    }

    /// Of this tool.
    pub fn own() -> Self {
        Self::of(std::process::id()).unwrap_or_default()
    }
}

/// The 14th and 15th field of proc_pid_stat(5). The second is a name, which may contain anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// The second field of proc_pid_statm(5).
fn resident_pages(statm: &str) -> Option<u64> {
    statm.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_confuse_the_fields() {
        let stat = "12 (a) (b c) S 1 2 3 4 5 6 7 8 9 10 120 34 0 0 20 0 1 0 5";
        assert_eq!(cpu_ticks(stat), Some(154));
        assert_eq!(resident_pages("100 42 3"), Some(42));
        assert_eq!(cpu_ticks("nonsense"), None);
    }

    #[test]
    fn this_process_takes_memory_and_one_that_is_not_there_is_an_error() {
        assert!(Usage::own().memory > 100_000);
        assert!(Usage::of(u32::MAX).is_err());
    }
}
