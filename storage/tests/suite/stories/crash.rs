//! A process that dies at any moment.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::rig::{Rig, offsets};

/// How often it is killed.
const KILLS: usize = 4;

/// After so many acknowledgements, which differ a little.
const ACKNOWLEDGED: usize = 150;

/// A process keeps messages and says which were acknowledged. It is killed in the middle, several times over, and nothing
/// that it said is missing, nor is any channel out of order.
pub(crate) async fn what_was_acknowledged_survives_kill_9(mut rig: Rig) {
    rig.settings.kept_messages = 1_000_000;
    let mut acknowledged: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for kill in 0..KILLS {
        for (channel, offset) in run_until_killed(&rig, ACKNOWLEDGED + 37 * kill) {
            acknowledged.entry(channel).or_default().push(offset);
        }
        let database = rig.open().await;
        for (channel, acknowledged) in &acknowledged {
            let kept = offsets(&database, channel).await;
            assert!(kept.is_sorted_by(|a, b| a < b), "{channel}: {kept:?}");
            let missing: Vec<_> =
                acknowledged.iter().filter(|offset| kept.binary_search(offset).is_err()).collect();
            assert!(
                missing.is_empty(),
                "kill {kill}, {channel}: {missing:?} were acknowledged and are missing"
            );
        }
        database.close().await;
    }
    let total: usize = acknowledged.values().map(Vec::len).sum();
    assert!(total >= KILLS * ACKNOWLEDGED, "{total}");
}

/// Starts the process, kills it after so many acknowledgements, and returns all that it printed until it was gone.
fn run_until_killed(rig: &Rig, acknowledgements: usize) -> Vec<(String, u64)> {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::keeps_messages_until_killed", "--ignored", "--nocapture"])
        .env(crate::crash::SETTINGS, serde_json::to_string(&rig.settings).unwrap())
        .env(crate::crash::FOLDER, rig.folder())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    for line in lines {
        let line = line.unwrap();
        // A line that was cut off by the end was not said.
        let Some(rest) = line.strip_prefix("acknowledged ").and_then(|rest| rest.strip_suffix(" .")) else {
            continue;
        };
        let (channel, offset) = rest.split_once(' ').unwrap();
        said.push((channel.to_owned(), offset.parse().unwrap()));
        if said.len() == acknowledgements {
            process.kill().unwrap();
        }
    }
    assert!(!process.wait().unwrap().success());
    said
}
