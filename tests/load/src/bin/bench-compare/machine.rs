//! What else the machine does meanwhile: figures of a busy machine are worth less, and the table says so.

use std::fs;
use std::process::Command;

use anyhow::Context as _;

/// What the cores have done so far, in ticks of the kernel's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Of all cores, by anybody.
    busy: u64,
    /// Of all cores, idle or not.
    total: u64,
    /// By the server, and by the children of this process that have ended.
    own: u64,
}

impl Moment {
    /// Now, while the server is this process.
    ///
    /// # Errors
    /// Where /proc is not there, or the server has ended.
    pub fn now(server: u32) -> anyhow::Result<Self> {
        let server = fs::read_to_string(format!("/proc/{server}/stat")).context("the server has ended")?;
        let this = fs::read_to_string("/proc/self/stat")?;
        let all = fs::read_to_string("/proc/stat")?;
        Self::parse(&all, &server, &this).context("/proc is not understood")
    }

    fn parse(all: &str, server: &str, this: &str) -> Option<Self> {
        // user nice system idle iowait irq softirq steal: proc_stat(5). Guests are counted in user already.
        let all = all.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> =
            all.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
        let total = ticks.iter().sum();
        let idle = ticks.get(3)? + ticks.get(4)?;
        // utime and stime; cutime and cstime.
        let own = two_fields(server, 14)? + two_fields(this, 16)?;
        Some(Self { busy: total - idle, total, own })
    }

    /// The share of the machine that was spent since `before`, but not on our own.
    pub fn others_since(self, before: Self) -> f64 {
        let others = (self.busy - before.busy).saturating_sub(self.own - before.own);
        others as f64 / (self.total - before.total).max(1) as f64
    }
}

/// The sum of two fields of proc_pid_stat(5), which counts from 1; the second is a name, which may contain anything.
fn two_fields(stat: &str, first: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(first - 3);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// What the figures are of: processor, cores, kernel, and the version of Janus.
///
/// # Errors
/// Where /proc is not there.
pub fn describe() -> anyhow::Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let of = |name: &str| {
        let value = cpuinfo.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
        value.map_or("a processor without a name", |(_, value)| value.trim())
    };
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let said = Command::new("janus").arg("--version").output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let janus = said.lines().find_map(|line| line.strip_prefix("Janus version: ")).unwrap_or("none");
    Ok(format!("{}, {cores} cores, Linux {}, Janus {janus}", of("model name"), kernel.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_take_is_what_is_left_of_the_busy_time() {
        let process = |ticks: [u64; 4]| {
            let [user, system, children_user, children_system] = ticks;
            format!(
                "12 (a) (b c) S 1 2 3 4 5 6 7 8 9 10 {user} {system} {children_user} {children_system} 20 0"
            )
        };
        let (server, this) = (process([5, 5, 90, 90]), process([90, 90, 10, 10]));
        let before = Moment::parse("cpu  100 0 100 800 0 0 0 0 7 7\ncpu0 1 2 3\n", &server, &this).unwrap();
        let (server, this) = (process([105, 205, 90, 90]), process([99, 99, 210, 210]));
        let after = Moment::parse("cpu  900 100 300 1500 100 0 50 50 9 9\n", &server, &this).unwrap();
        // Of 2,000 ticks 1,200 were busy, 300 of them with the server and 400 with the load tool.
        assert!((after.others_since(before) - 0.25).abs() < 1e-9);
        assert!(Moment::parse("cpu0 1 2 3", &server, &this).is_none());
    }
}
