//! Opening and closing.

use veche_storage::{Database, NewEvent, StorageError};

use crate::rig::{Rig, message, present};

pub(crate) async fn a_newer_database_is_refused(rig: Rig) {
    rig.open().await.close().await;
    rig.execute("UPDATE meta SET value = '99' WHERE name = 'schema'").await;
    let error = rig.try_open().await.unwrap_err();
    assert_eq!((error.code(), &error), ("storage_newer", &StorageError::Newer { database: 99, known: 1 }));
    let text = error.to_string();
    assert!(text.contains("version 99") && text.contains("storage.url"), "{text}");

    rig.execute("UPDATE meta SET value = 'x' WHERE name = 'schema'").await;
    assert_eq!(rig.try_open().await.unwrap_err().code(), "storage_failed");
}

pub(crate) async fn a_second_server_is_refused_and_a_command_is_not(rig: Rig) {
    let server = rig.open().await;
    let error = rig.try_open().await.unwrap_err();
    assert!(matches!(error, StorageError::InUse(_)), "{error}");
    let command = Database::open_beside(&rig.settings, rig.folder()).await.unwrap();
    command.check().await.unwrap();
    command.close().await;
    server.close().await;
    rig.open().await.close().await;
}

pub(crate) async fn after_closing_everything_says_so(rig: Rig) {
    let database = rig.open().await;
    let receipt = database.keep(message("news", 1)).unwrap();
    database.record(NewEvent::new("test.before", present()));
    // What was queued before is written all the same.
    database.close().await;
    assert_eq!(receipt.await, Ok(()));
    assert_eq!(database.keep(message("news", 2)).unwrap_err(), StorageError::Closed);
    assert_eq!(database.channel("news", present()).await, Err(StorageError::Closed));
    assert_eq!(database.keys().await, Err(StorageError::Closed));
    assert_eq!(database.check().await, Err(StorageError::Closed));
    database.record(NewEvent::new("test.after", present()));
    assert_eq!(database.counters().events_lost, 1);
    database.close().await;
}
