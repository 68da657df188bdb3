//! Kept messages.

use veche_storage::{EventQuery, KeptMessage, StorageError};

use crate::rig::{DAY, Rig, message, offsets, present};

pub(crate) async fn messages_come_back_in_order_after_a_restart(rig: Rig) {
    let database = rig.open().await;
    let mut receipts = Vec::new();
    for offset in 1..=70 {
        receipts.push(database.keep(message("новости", offset)).unwrap());
        receipts.push(database.keep(message("room:42:typing", offset * 2)).unwrap());
    }
    for receipt in receipts {
        receipt.await.unwrap();
    }
    let before = database.channel("новости", present()).await.unwrap();
    database.close().await;

    let database = rig.open().await;
    let news = database.channel("новости", present()).await.unwrap();
    assert_eq!(news, before);
    assert_eq!(news.highest_offset, 70);
    let sent: Vec<KeptMessage> = (1..=70).map(|offset| message("новости", offset)).collect();
    for (kept, sent) in news.kept.iter().zip(&sent) {
        assert_eq!(&KeptMessage { time: sent.time, ..kept.clone() }, sent);
    }
    assert_eq!(news.kept.len(), sent.len());
    assert_eq!(database.channel("room:42:typing", present()).await.unwrap().highest_offset, 140);
    assert_eq!(database.channel("other", present()).await.unwrap().highest_offset, 0);

    let room = EventQuery { room: Some("42".into()), limit: 1, ..EventQuery::default() };
    let event = database.events(&room).await.unwrap().remove(0);
    assert_eq!((event.kind.as_str(), event.channel.as_deref()), ("message.kept", Some("room:42:typing")));
    assert_eq!((event.data["offset"].as_u64(), event.user_id.as_deref()), (Some(2), Some("анна")));
}

pub(crate) async fn a_channel_keeps_its_newest_by_count(mut rig: Rig) {
    rig.settings.kept_messages = 5;
    let database = rig.open().await;
    for offset in 1..=600 {
        // All at once, so that a transaction brings more than is kept.
        database.keep(message("a", offset)).unwrap();
    }
    assert_eq!(offsets(&database, "a").await, [596, 597, 598, 599, 600]);
    for offset in 601..=603 {
        database.keep(message("a", offset)).unwrap().await.unwrap();
    }
    assert_eq!(offsets(&database, "a").await, [599, 600, 601, 602, 603]);
}

pub(crate) async fn a_channel_keeps_its_newest_by_bytes(mut rig: Rig) {
    rig.settings.kept_bytes = 1_000;
    let database = rig.open().await;
    let sized = |offset, size: usize| KeptMessage { body: vec![7; size].into(), ..message("a", offset) };
    for offset in 1..=20 {
        database.keep(sized(offset, 300)).unwrap().await.unwrap();
    }
    assert_eq!(offsets(&database, "a").await, [18, 19, 20]);
    database.keep(sized(21, 1_000)).unwrap().await.unwrap();
    assert_eq!(offsets(&database, "a").await, [21]);
    let error = database.keep(sized(22, 1_001)).unwrap_err();
    assert_eq!((error.code(), &error), ("message_too_large", &StorageError::TooLarge { limit: 1_000 }));
}

pub(crate) async fn all_channels_together_are_bounded(mut rig: Rig) {
    rig.settings.kept_bytes = 1_000;
    rig.settings.kept_total_bytes = 10_000;
    let database = rig.open().await;
    let now = present();
    for number in 0..1_000_i64 {
        let channel = format!("channel-{number}");
        let body = vec![7; 100].into();
        database.keep(KeptMessage { body, time: now + number, ..message(&channel, 1) }).unwrap();
    }
    // The writer looks by itself when much has come.
    database.flush().await.unwrap();
    database.prune(now).await.unwrap();
    for number in 0..1_000 {
        let is_kept = !offsets(&database, &format!("channel-{number}")).await.is_empty();
        assert_eq!(is_kept, number >= 900, "channel-{number}");
    }
}

pub(crate) async fn old_messages_go(rig: Rig) {
    let database = rig.open().await;
    let now = present();
    let aged = |offset, days| KeptMessage { time: now - days * DAY, ..message("a", offset) };
    for (offset, days) in [(1, 31), (2, 30), (3, 29), (4, 0)] {
        database.keep(aged(offset, days)).unwrap();
    }
    database.keep(KeptMessage { time: now - 40 * DAY, ..message("old", 9) }).unwrap();
    // Already before they are removed nobody sees them.
    assert_eq!(offsets(&database, "a").await, [3, 4]);
    assert_eq!(database.channel("old", now).await.unwrap().highest_offset, 9);

    database.prune(now).await.unwrap();
    assert_eq!(database.channel("a", now - 10 * DAY).await.unwrap().kept.len(), 2);
    database.prune(now + 40 * DAY).await.unwrap();
    assert_eq!(database.channel("a", now).await.unwrap().kept, []);
    assert_eq!(database.channel("old", now).await.unwrap().highest_offset, 0);
}

pub(crate) async fn a_full_queue_refuses_at_once(mut rig: Rig) {
    rig.settings.queue_messages = 4;
    rig.settings.queue_bytes = 4_000;
    let database = rig.open().await;
    // Nothing is awaited, so that the writer cannot have begun.
    let answers: Vec<_> = (1..=6).map(|offset| database.keep(message("a", offset))).collect();
    let refused: Vec<bool> =
        answers.iter().map(|answer| answer.as_ref().err() == Some(&StorageError::Busy)).collect();
    assert_eq!(refused, [false, false, false, false, true, true]);
    assert_eq!(database.counters().queued_messages, 4);
    for receipt in answers.into_iter().flatten() {
        receipt.await.unwrap();
    }
    assert_eq!((database.counters().queued_messages, database.counters().queued_bytes), (0, 0));

    let large = |offset| KeptMessage { body: vec![7; 2_000].into(), ..message("a", offset) };
    let first = database.keep(large(5)).unwrap();
    assert_eq!(database.keep(large(6)).unwrap_err().code(), "storage_busy");
    first.await.unwrap();
    database.keep(large(6)).unwrap().await.unwrap();
    assert_eq!(offsets(&database, "a").await, [1, 2, 3, 4, 5, 6]);
}

pub(crate) async fn a_message_that_cannot_be_stored_takes_no_other_along(rig: Rig) {
    let database = rig.open().await;
    let first = database.keep(message("a", 1)).unwrap();
    let again = database.keep(message("a", 1)).unwrap();
    let other = database.keep(message("b", 1)).unwrap();
    assert_eq!(first.await, Ok(()));
    assert_eq!(again.await.unwrap_err().code(), "storage_failed");
    assert_eq!(other.await, Ok(()));
    assert_eq!((offsets(&database, "a").await, offsets(&database, "b").await), (vec![1], vec![1]));
    // PostgreSQL cannot have NUL in text; SQLite can. Neither lets others suffer.
    let odd = database.keep(KeptMessage { epoch: "\0".into(), ..message("c", 1) }).unwrap();
    let other = database.keep(message("a", 2)).unwrap();
    assert_eq!(odd.await.is_ok(), rig.is_sqlite());
    assert_eq!(other.await, Ok(()));
    assert_eq!(
        database.events(&EventQuery { limit: 10, ..EventQuery::default() }).await.unwrap().len() as u64,
        { database.counters().kept }
    );
}

pub(crate) async fn commits_are_shared(rig: Rig) {
    let database = rig.open().await;
    let mut last = None;
    for offset in 1..=2_000 {
        last = Some(database.keep(message(&format!("channel-{}", offset % 50), offset)).unwrap());
    }
    last.unwrap().await.unwrap();
    let counters = database.counters();
    assert_eq!((counters.kept, counters.events, counters.failures), (2_000, 2_000, 0));
    assert!(counters.commits <= 3, "{counters:?}");
    assert_eq!(offsets(&database, "channel-7").await.len(), 40);
}

pub(crate) async fn a_channel_can_be_forgotten(rig: Rig) {
    let database = rig.open().await;
    for offset in 1..=3 {
        database.keep(message("a", offset)).unwrap();
        database.keep(message("b", offset)).unwrap();
    }
    assert_eq!(database.forget_channel("a").await, Ok(3));
    let forgotten = database.channel("a", present()).await.unwrap();
    assert_eq!((forgotten.highest_offset, forgotten.kept.len()), (3, 0));
    assert_eq!(offsets(&database, "b").await, [1, 2, 3]);
    assert_eq!(database.forget_channel("unknown").await, Ok(0));
    database.keep(message("a", 4)).unwrap().await.unwrap();
    assert_eq!(offsets(&database, "a").await, [4]);
}
