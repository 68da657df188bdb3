//! The log of events.

use serde_json::json;
use veche_storage::{Database, Event, EventQuery, NewEvent};

use crate::rig::{DAY, Rig, present};

pub(crate) async fn are_read_by_sequence_room_and_channel(rig: Rig) {
    let database = rig.open().await;
    let time = present();
    for number in 0..100 {
        let room = format!("room-{}", number % 3);
        let event =
            NewEvent::new("test.number", time).room(&room).user("ann").data(json!({ "number": number }));
        database.record(if number % 2 == 0 { event.channel("even") } else { event });
    }
    database.flush().await.unwrap();

    let all = read(&database, EventQuery { limit: 5_000, ..EventQuery::default() }).await;
    assert_eq!(numbers(&all), (0..100).collect::<Vec<_>>());
    assert!(all.is_sorted_by(|a, b| a.sequence < b.sequence));
    let first = &all[0];
    assert_eq!(
        (first.kind.as_str(), first.user_id.as_deref(), first.time),
        ("test.number", Some("ann"), time)
    );

    let since = all[10].sequence;
    let page = read(&database, EventQuery { since, limit: 3, ..EventQuery::default() }).await;
    assert_eq!(numbers(&page), [11, 12, 13]);
    let both = EventQuery { since, room: Some("room-0".into()), channel: Some("even".into()), limit: 2 };
    assert_eq!(numbers(&read(&database, both).await), [12, 18]);
    let nothing = EventQuery { room: Some("' OR 1=1 --".into()), limit: 10, ..EventQuery::default() };
    assert_eq!(read(&database, nothing).await, []);

    let json = serde_json::to_value(&all[1]).unwrap();
    assert_eq!(json["room"], "room-1");
    assert!(json["time"].as_str().unwrap().ends_with('Z') && json.get("channel").is_none(), "{json}");
}

pub(crate) async fn that_are_lost_leave_a_gap_in_the_log(mut rig: Rig) {
    rig.settings.queue_messages = 1;
    let database = rig.open().await;
    for number in 0..10 {
        database.record(NewEvent::new("test.number", present()).data(json!({ "number": number })));
    }
    database.flush().await.unwrap();
    database.record(NewEvent::new("test.number", present()).data(json!({ "number": 10 })));
    database.flush().await.unwrap();
    let events = read(&database, EventQuery { limit: 100, ..EventQuery::default() }).await;
    let gap = events.iter().find(|event| event.kind == "log.gap").unwrap();
    assert_eq!(gap.data, json!({ "lost": 6 }));
    assert_eq!(database.counters().events_lost, 6);
    let rest: Vec<Event> = events.into_iter().filter(|event| event.kind == "test.number").collect();
    assert_eq!(numbers(&rest), [0, 1, 2, 3, 10]);
}

pub(crate) async fn go_by_count_and_by_age_and_their_numbers_never_return(mut rig: Rig) {
    rig.settings.events = 50;
    let database = rig.open().await;
    let now = present();
    for number in 0..80 {
        let time = if number < 40 { now - 20 * DAY } else { now };
        database.record(NewEvent::new("test.number", time).data(json!({ "number": number })));
    }
    database.flush().await.unwrap();
    database.prune(now).await.unwrap();
    let all = EventQuery { limit: 1_000, ..EventQuery::default() };
    assert_eq!(numbers(&read(&database, all.clone()).await), (30..80).collect::<Vec<_>>());
    database.prune(now + 15 * DAY).await.unwrap();
    let left = read(&database, all.clone()).await;
    assert_eq!(numbers(&left), (40..80).collect::<Vec<_>>());

    database.prune(now + 31 * DAY).await.unwrap();
    assert_eq!(read(&database, all.clone()).await, []);
    database.close().await;
    let database = rig.open().await;
    database.record(NewEvent::new("test.number", now).data(json!({ "number": 80 })));
    database.flush().await.unwrap();
    let new = read(&database, all).await;
    assert!(new[0].sequence > left.last().unwrap().sequence, "{new:?}");
}

pub(crate) async fn tell_of_themselves_when_they_are_committed(rig: Rig) {
    let database = rig.open().await;
    let mut newest = database.newest_sequence();
    assert_eq!(*newest.borrow_and_update(), 0);
    database.record(NewEvent::new("test.a", present()));
    newest.changed().await.unwrap();
    let sequence = *newest.borrow_and_update();
    assert_eq!(read(&database, EventQuery { limit: 9, ..EventQuery::default() }).await[0].sequence, sequence);
    database.close().await;
    assert_eq!(*rig.open().await.newest_sequence().borrow(), sequence);
}

async fn read(database: &Database, query: EventQuery) -> Vec<Event> {
    database.events(&query).await.unwrap()
}

fn numbers(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.data["number"].as_u64().unwrap()).collect()
}
