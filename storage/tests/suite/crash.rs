//! The process that is killed in `stories/crash.rs`.

use std::path::Path;

use veche_storage::{Database, StorageSettings};

use crate::rig::{message, present};

/// The variables in which it finds its storage.
pub(crate) const SETTINGS: &str = "VECHE_TEST_SETTINGS";
pub(crate) const FOLDER: &str = "VECHE_TEST_FOLDER";

/// Keeps messages in several channels at once, and prints which were acknowledged.
#[tokio::test]
#[ignore = "this is the process that the story of kill -9 starts and kills"]
async fn keeps_messages_until_killed() {
    let settings: StorageSettings = serde_json::from_str(&std::env::var(SETTINGS).unwrap()).unwrap();
    let database = Database::open(&settings, Path::new(&std::env::var(FOLDER).unwrap())).await.unwrap();
    let publishers: Vec<_> = (0..5).map(|number| tokio::spawn(publish(database.clone(), number))).collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
}

async fn publish(database: Database, number: u32) {
    let channel = format!("channel-{number}");
    let mut offset = database.channel(&channel, present()).await.unwrap().highest_offset;
    loop {
        offset += 1;
        database.keep(message(&channel, offset)).unwrap().await.unwrap();
        println!("acknowledged {channel} {offset} .");
    }
}
