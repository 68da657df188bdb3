//! A disk that is full.

use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use veche_storage::{EventQuery, KeptMessage, NewEvent};

use crate::rig::{Rig, message, offsets, present};

/// The test proper runs in a process of its own, whose files may only grow to a certain size; the shell makes it ignore the
/// signal that comes with that, so that writing fails as it does on a full disk.
#[test]
fn a_full_disk_is_an_error_and_later_storage_goes_on() {
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "disk::fills_its_disk", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
#[ignore = "started by a_full_disk_is_an_error_and_later_storage_goes_on, in a process of its own"]
async fn fills_its_disk() {
    let rig = Rig::sqlite();
    let database = rig.open().await;
    let limits = getrlimit(Resource::Fsize);
    let large = |offset| KeptMessage { body: vec![7; 8 * 1024].into(), ..message("a", offset) };
    database.keep(large(1)).unwrap().await.unwrap();

    setrlimit(Resource::Fsize, Rlimit { current: Some(512 * 1024), maximum: limits.maximum }).unwrap();
    let mut acknowledged = vec![1];
    let error = loop {
        let offset = acknowledged.len() as u64 + 1;
        assert!(offset < 1_000, "the disk was never full");
        match database.keep(large(offset)).unwrap().await {
            Ok(()) => acknowledged.push(offset),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), "storage_failed", "{error}");
    // From now on nothing can be written at all.
    setrlimit(Resource::Fsize, Rlimit { current: Some(1), maximum: limits.maximum }).unwrap();
    // Others get their answers too, and at once: nothing waits for the disk to recover.
    assert_eq!(database.keep(message("b", 1)).unwrap().await.unwrap_err().code(), "storage_failed");
    database.record(NewEvent::new("test.lost", present()));
    database.flush().await.unwrap();
    // It can be read, but that is not all that there is to being well.
    assert_eq!(database.check().await.unwrap_err().code(), "storage_failed");
    assert_eq!(offsets(&database, "a").await, acknowledged);
    let counters = database.counters();
    assert_eq!((counters.failures, counters.events_lost, counters.queued_messages), (2, 1, 0));

    setrlimit(Resource::Fsize, limits).unwrap();
    // That it works again is found out by asking, though nobody writes meanwhile.
    database.check().await.unwrap();
    let next = acknowledged.len() as u64 + 1;
    database.keep(large(next)).unwrap().await.unwrap();
    acknowledged.push(next);
    assert_eq!(offsets(&database, "a").await, acknowledged);
    let events = database.events(&EventQuery { limit: 1_000, ..EventQuery::default() }).await.unwrap();
    let gap = events.iter().find(|event| event.kind == "log.gap").unwrap();
    assert_eq!(gap.data["lost"], 1);
    database.close().await;
    assert_eq!(offsets(&rig.open().await, "a").await, acknowledged);
}
