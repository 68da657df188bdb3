//! Which core what runs on.

use anyhow::Context as _;
use rustix::thread::{CpuSet, sched_setaffinity};

/// Has the calling thread, and the threads that it will start, run on these cores only.
///
/// # Errors
/// When the machine has none of them.
pub fn pin(cores: &[usize]) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core);
    }
    sched_setaffinity(None, &set).with_context(|| format!("there are no cores {cores:?}"))
}

/// As `taskset --cpu-list` takes them.
pub fn list(cores: &[usize]) -> String {
    cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
