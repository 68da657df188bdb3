//! Persistent messages and the storage behind them.

mod common;

use std::sync::Arc;

use common::{NOW, connect, data, json, later, name, publish, small, text_of};
use veche_hub::{
    Body, Hub, HubSettings, Item, Keep, Keeper, Load, Message, Once, Position, Publication, PublishError,
    Receipt, Subscribe, SubscribeError, Task,
};

fn stored() -> (Hub, Keeper) {
    Hub::with_storage(HubSettings::default(), 1)
}

fn tasks(keeper: &mut Keeper) -> Vec<Task> {
    let mut tasks = Vec::new();
    keeper.try_batch(&mut tasks);
    tasks
}

fn load(keeper: &mut Keeper) -> Load {
    match tasks(keeper).pop() {
        Some(Task::Load(load)) => load,
        other => panic!("no load: {other:?}"),
    }
}

fn keeps(keeper: &mut Keeper) -> Vec<Keep> {
    let keep = |task| match task {
        Task::Keep(keep) => keep,
        other => panic!("no keep: {other:?}"),
    };
    tasks(keeper).into_iter().map(keep).collect()
}

fn persistent(channel: &str, text: &str) -> Publication {
    Publication { persistent: true, ..Publication::new(name(channel), data(text)) }
}

fn offset(receipt: &mut Receipt) -> u64 {
    receipt.try_now().expect("it is known").unwrap().position.offset
}

#[test]
fn a_persistent_message_is_delivered_and_acknowledged_when_it_is_on_disk_and_keeps_its_place() {
    let (hub, mut keeper) = stored();
    let mut a = connect(&hub, "a", NOW);
    a.connection.subscribe(Subscribe::to(name("c")), None, NOW).unwrap();
    assert!(a.items().is_empty(), "it is not known yet what there is");
    load(&mut keeper).found(0, Vec::new(), NOW);
    assert!(matches!(&a.items()[..], [Item::Subscribed(_)]));
    assert_eq!(publish(&hub, "c", "1", NOW).position.offset, 1);
    let mut second = hub.publish(persistent("c", "2"), NOW).unwrap();
    let mut third = hub.publish(Publication::new(name("c"), data("3")), NOW).unwrap();
    let mut fourth = hub.publish(persistent("c", "4"), NOW).unwrap();
    assert_eq!(hub.stats().uncommitted, 2);
    assert!(second.try_now().is_none() && third.try_now().is_none());
    assert_eq!(a.texts(), ["1"]);
    let [keep2, keep4] = <[Keep; 2]>::try_from(keeps(&mut keeper)).unwrap();
    keep4.committed(later(5));
    assert!(a.messages().is_empty(), "the order of offsets is the order of delivery");
    let mut b = connect(&hub, "b", later(5));
    assert_eq!(b.subscribe("c", later(5)).position.offset, 1, "the newest that was delivered");
    keep2.committed(later(6));
    assert_eq!([&mut second, &mut third, &mut fourth].map(offset), [2, 3, 4]);
    assert_eq!(
        (a.texts(), b.texts()),
        (["2", "3", "4"].map(String::from).into(), ["2", "3", "4"].map(String::from).into())
    );
    assert_eq!(hub.stats().uncommitted, 0);
    let mut c = connect(&hub, "c", later(6));
    let subscribed = c.subscribe("c", later(6));
    assert_eq!((subscribed.kept, c.texts()), (2, vec!["2".to_owned(), "4".to_owned()]));
    let wish = Subscribe { kept: false, ..Subscribe::to(name("c")) };
    assert_eq!(connect(&hub, "d", later(6)).subscribe_with(wish, later(6)).kept, 0);
}

#[test]
fn what_cannot_be_kept_is_sent_to_nobody_and_the_rest_goes_on() {
    let (hub, mut keeper) = stored();
    let mut a = connect(&hub, "a", NOW);
    a.connection.subscribe(Subscribe::to(name("c")), None, NOW).unwrap();
    load(&mut keeper).found(0, Vec::new(), NOW);
    let once = Some(Once { scope: "a".into(), key: "k".into() });
    let publication = Publication { once, ..persistent("c", "1") };
    let mut first = hub.publish(publication.clone(), NOW).unwrap();
    let mut repeated = hub.publish(publication.clone(), NOW).unwrap();
    let mut second = hub.publish(Publication::new(name("c"), data("2")), NOW).unwrap();
    keeps(&mut keeper).remove(0).failed(PublishError::Storage("the disk is full".into()), NOW);
    for receipt in [&mut first, &mut repeated] {
        assert!(
            matches!(receipt.try_now(), Some(Err(PublishError::Storage(why))) if why == "the disk is full")
        );
    }
    assert_eq!(offset(&mut second), 2);
    let mut again = hub.publish(publication.clone(), NOW).unwrap();
    let mut repeated = hub.publish(publication, NOW).unwrap();
    keeps(&mut keeper).remove(0).committed(NOW);
    assert_eq!(offset(&mut again), 3, "what failed may be tried again");
    let repeated = repeated.try_now().unwrap().unwrap();
    assert!(repeated.repeated && repeated.position.offset == 3);
    let texts = a.items().into_iter().filter_map(|item| match item {
        Item::Message(message) => Some(text_of(&message).to_owned()),
        _ => None,
    });
    assert_eq!(texts.collect::<Vec<_>>(), ["2", "1"]);
}

#[test]
fn after_a_crash_offsets_go_on_and_new_subscribers_get_what_is_kept() {
    let (hub, mut keeper) = stored();
    let receipt = hub.publish(persistent("c", "1"), NOW).unwrap();
    load(&mut keeper).found(0, Vec::new(), NOW);
    let keep = keeps(&mut keeper).remove(0);
    let on_disk = keep.message().to_stored();
    let position = keep.message().position().unwrap();
    keep.committed(NOW);
    drop((receipt, hub, keeper));

    let (hub, mut keeper) = Hub::with_storage(HubSettings::default(), 2);
    let mut a = connect(&hub, "a", later(1));
    let wish = Subscribe { recover: Some(position), ..Subscribe::to(name("c")) };
    a.connection.subscribe(wish, Some("\"t\"".into()), later(1)).unwrap();
    let mut early = hub.publish(Publication::new(name("c"), data("9")), later(1)).unwrap();
    assert!(early.try_now().is_none(), "its offset is not known yet");
    load(&mut keeper).found(8, vec![Message::from_stored(&on_disk).unwrap()], later(2));
    assert_eq!(offset(&mut early), 9);
    let items = a.items();
    let [Item::Subscribed(subscribed), Item::Message(kept), Item::Message(new)] = &items[..] else {
        panic!("{items:?}")
    };
    assert_eq!(
        (subscribed.recovered, subscribed.kept, subscribed.tag.as_deref()),
        (Some(false), 1, Some("\"t\""))
    );
    assert_eq!(subscribed.position.offset, 8);
    assert_ne!(subscribed.position.epoch, position.epoch);
    let place = |message: &Arc<Message>| message.position().unwrap();
    assert_eq!(place(kept), Position { epoch: subscribed.position.epoch, offset: 1 });
    assert_eq!((text_of(kept), text_of(new), place(new).offset), ("1", "9", 9));
}

#[test]
fn a_channel_that_cannot_be_read_fails_its_requests_and_is_asked_for_again() {
    let (hub, mut keeper) = stored();
    let mut a = connect(&hub, "a", NOW);
    a.connection.subscribe(Subscribe::to(name("c")), Some("1".into()), NOW).unwrap();
    let mut receipt = hub.publish(persistent("c", "1"), NOW).unwrap();
    load(&mut keeper).failed("it is broken", NOW);
    assert!(matches!(receipt.try_now(), Some(Err(PublishError::Storage(_)))));
    let items = a.items();
    let [Item::NotSubscribed(failure)] = &items[..] else { panic!("{items:?}") };
    assert!(matches!(&**failure, (Some(_), _, SubscribeError::Storage(why)) if why == "it is broken"));
    assert!(!a.connection.is_subscribed(&name("c")));
    assert_eq!(hub.stats().subscriptions, 0);
    a.connection.subscribe(Subscribe::to(name("c")), None, NOW).unwrap();
    load(&mut keeper).found(0, Vec::new(), NOW);
    assert!(matches!(&a.items()[..], [Item::Subscribed(_)]));
}

#[test]
fn who_leaves_before_the_channel_is_read_gets_nothing() {
    let (hub, mut keeper) = stored();
    let mut a = connect(&hub, "a", NOW);
    let b = connect(&hub, "b", NOW);
    for client in [&a, &b] {
        client.connection.subscribe(Subscribe::to(name("c")), None, NOW).unwrap();
    }
    assert!(a.connection.unsubscribe(&name("c"), NOW));
    drop(b);
    load(&mut keeper).found(0, Vec::new(), NOW);
    publish(&hub, "c", "1", NOW);
    assert!(a.items().is_empty());
}

#[test]
fn what_waits_for_storage_is_bounded() {
    let settings = HubSettings { uncommitted_messages: 3, ..small() };
    let (hub, mut keeper) = Hub::with_storage(settings, 1);
    let mut receipts: Vec<Receipt> =
        (0..4).map(|number| hub.publish(persistent("c", &number.to_string()), NOW).unwrap()).collect();
    load(&mut keeper).found(0, Vec::new(), NOW);
    assert_eq!(receipts[3].try_now(), Some(Err(PublishError::Busy)));
    let keeps = keeps(&mut keeper);
    let mut busy = hub.publish(persistent("c", "5"), NOW).unwrap();
    assert_eq!(busy.try_now(), Some(Err(PublishError::Busy)), "what the keeper has taken counts too");
    for keep in keeps {
        keep.committed(NOW);
    }
    let mut next = hub.publish(persistent("c", "6"), NOW).unwrap();
    drop(tasks(&mut keeper));
    assert!(matches!(next.try_now(), Some(Err(PublishError::Storage(_)))), "dropped is failed");
    drop(keeper);
    let mut gone = hub.publish(persistent("c", "7"), NOW).unwrap();
    assert!(matches!(gone.try_now(), Some(Err(PublishError::Storage(_)))));
    assert_eq!(publish(&hub, "c", "8", NOW).position.offset, 5, "without storage the rest goes on");
    assert_eq!(hub.stats().uncommitted, 0);
}

#[test]
fn a_channel_that_vanishes_is_told_and_read_again() {
    let (hub, mut keeper) = stored();
    let mut receipt = hub.publish(persistent("c", "1"), NOW).unwrap();
    load(&mut keeper).found(0, Vec::new(), NOW);
    keeps(&mut keeper).remove(0).committed(NOW);
    assert_eq!(offset(&mut receipt), 1);
    assert_ne!(hub.stats().kept_bytes, 0);
    for second in 0..400 {
        hub.tick(later(second * 1_000));
    }
    let told = tasks(&mut keeper);
    assert!(matches!(&told[..], [Task::Removed(channel)] if channel.as_str() == "c"), "{told:?}");
    assert_eq!((hub.stats().channels, hub.stats().kept_bytes), (0, 0));
    let mut receipt = hub.publish(Publication::new(name("c"), data("2")), later(400_000)).unwrap();
    load(&mut keeper).found(1, Vec::new(), later(400_000));
    assert_eq!(offset(&mut receipt), 2);
}

#[test]
fn without_storage_what_is_kept_is_in_memory_and_holds_its_channel() {
    let hub = Hub::new(HubSettings { kept_messages: 2, ..HubSettings::default() }, 1);
    for text in ["1", "2", "3"] {
        hub.publish(persistent("c", text), NOW).unwrap();
    }
    for second in 0..400 {
        hub.tick(later(second * 1_000));
    }
    let mut a = connect(&hub, "a", later(400_000));
    assert_eq!(a.subscribe("c", later(400_000)).kept, 2);
    assert_eq!(a.texts(), ["2", "3"]);
}

#[test]
fn a_restart_with_storage_keeps_epoch_history_and_what_is_kept() {
    let (hub, mut keeper) = stored();
    let _receipt = hub.publish(persistent("c", "1"), NOW).unwrap();
    load(&mut keeper).found(0, Vec::new(), NOW);
    let keep = keeps(&mut keeper).remove(0);
    let on_disk = keep.message().to_stored();
    keep.committed(NOW);
    let position = publish(&hub, "c", "2", NOW).position;
    let snapshots = hub.snapshot();

    let (hub, mut keeper) = Hub::with_storage(HubSettings::default(), 2);
    assert_eq!(hub.restore(snapshots, NOW), 1);
    assert!(tasks(&mut keeper).is_empty(), "it is read when somebody needs it");
    let (mut a, mut b) = (connect(&hub, "a", NOW), connect(&hub, "b", NOW));
    let wish = Subscribe { recover: Some(Position { offset: 0, ..position }), ..Subscribe::to(name("c")) };
    a.connection.subscribe(wish, None, NOW).unwrap();
    b.connection.subscribe(Subscribe::to(name("c")), None, NOW).unwrap();
    load(&mut keeper).found(1, vec![Message::from_stored(&on_disk).unwrap()], NOW);
    let texts = |items: Vec<Item>| -> Vec<String> {
        let text = |item| match item {
            Item::Message(message) => Some(text_of(&message).to_owned()),
            _ => None,
        };
        items.into_iter().filter_map(text).collect()
    };
    assert_eq!((texts(a.items()), texts(b.items())), (vec!["1".into(), "2".into()], vec!["1".into()]));
    assert_eq!(publish(&hub, "c", "3", NOW).position, Position { offset: 3, ..position });
}

#[test]
fn bodies_of_all_kinds_may_be_kept() {
    let hub = Hub::new(HubSettings::default(), 1);
    let body = Body::Verbatim(json("{}"));
    hub.publish(Publication { persistent: true, ..Publication::new(name("c"), body) }, NOW).unwrap();
    assert_eq!(connect(&hub, "a", NOW).subscribe("c", NOW).kept, 1);
}
