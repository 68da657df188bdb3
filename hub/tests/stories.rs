//! What people do with channels, in virtual time.

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{Client, NOW, connect, data, json, later, name, publish, rule, small, text_of};
use veche_hub::{
    Binary, Body, ChannelRule, ConnectError, Disconnect, Door, Epoch, Filters, HistoryQuery, Hub,
    HubSettings, Item, Letter, Notification, Once, Position, Publication, PublishError, Recipient, SendError,
    Subscribe, SubscribeError, Who,
};

fn hub() -> Hub {
    Hub::new(HubSettings::default(), 1)
}

fn recover(channel: &str, position: Position) -> Subscribe {
    Subscribe { recover: Some(position), ..Subscribe::to(name(channel)) }
}

fn watch(channel: &str) -> Subscribe {
    Subscribe { presence: true, ..Subscribe::to(name(channel)) }
}

fn offsets(client: &mut Client) -> Vec<u64> {
    client.messages().iter().map(|message| message.position().unwrap().offset).collect()
}

#[test]
fn what_is_published_comes_in_order_and_to_those_who_are_subscribed() {
    let hub = hub();
    let (mut a, mut b) = (connect(&hub, "a", NOW), connect(&hub, "b", NOW));
    let subscribed = a.subscribe("chat", NOW);
    assert_eq!((subscribed.position.offset, subscribed.recovered, subscribed.kept), (0, None, 0));
    b.subscribe("other", NOW);
    a.connection.publish(Publication::new(name("chat"), data("1")), Some("7".into()), NOW).unwrap();
    assert_eq!(publish(&hub, "chat", "2", later(5)).position.offset, 2);
    let items = a.items();
    let [Item::Message(first), Item::Published(published), Item::Message(second)] = &items[..] else {
        panic!("{items:?}");
    };
    assert_eq!((text_of(first), text_of(second)), ("1", "2"));
    let sender = first.sender.as_ref().unwrap();
    assert_eq!((sender.user_id.as_deref(), sender.connection_id), (Some("a"), Some(a.connection.id())));
    assert_eq!((second.time, &second.sender), (later(5), &None));
    let (tag, channel, result) = &**published;
    assert_eq!((tag.as_deref(), channel.as_str()), (Some("7"), "chat"));
    assert_eq!(result.as_ref().unwrap().position.offset, 1);
    assert!(b.messages().is_empty());

    assert!(a.connection.unsubscribe(&name("chat"), NOW));
    assert!(!a.connection.unsubscribe(&name("chat"), NOW));
    publish(&hub, "chat", "3", NOW);
    assert!(a.messages().is_empty());
    assert_eq!(hub.stats().subscriptions, 1);
    drop(b);
    assert_eq!((hub.stats().websocket, hub.stats().subscriptions), (1, 0));
}

#[test]
fn who_comes_back_gets_what_was_missed_once() {
    let hub = hub();
    let mut a = connect(&hub, "a", NOW);
    a.subscribe("c", NOW);
    for text in ["1", "2", "3"] {
        publish(&hub, "c", text, NOW);
    }
    let position = a.messages()[0].position().unwrap();
    drop(a);
    publish(&hub, "c", "4", NOW);
    let mut a = connect(&hub, "a", NOW);
    let subscribed = a.subscribe_with(recover("c", position), NOW);
    assert_eq!((subscribed.recovered, subscribed.missed, subscribed.position.offset), (Some(true), 3, 4));
    publish(&hub, "c", "5", NOW);
    assert_eq!(a.texts(), ["2", "3", "4", "5"]);

    let newest = Position { offset: 5, ..position };
    let subscribed = connect(&hub, "b", NOW).subscribe_with(recover("c", newest), NOW);
    assert_eq!((subscribed.recovered, subscribed.missed), (Some(true), 0));
}

#[test]
fn who_comes_back_too_late_or_from_elsewhere_is_told() {
    let hub = Hub::new(small(), 1);
    for number in 1..=15 {
        publish(&hub, "c", &number.to_string(), NOW);
    }
    let mut a = connect(&hub, "a", NOW);
    let position = a.subscribe("c", NOW).position;
    for (offset, epoch, recovered) in [
        (5, position.epoch, true),
        (4, position.epoch, false),
        (16, position.epoch, false),
        (10, "00000000".parse::<Epoch>().unwrap(), false),
    ] {
        let subscribed = a.subscribe_with(recover("c", Position { epoch, offset }), NOW);
        assert_eq!(subscribed.recovered, Some(recovered), "{offset}");
        assert_eq!(subscribed.position, position);
        assert_eq!(a.messages().len(), if recovered { 10 } else { 0 });
    }
}

#[test]
fn history_gets_old_and_an_empty_channel_vanishes_with_its_epoch() {
    let settings =
        HubSettings { rules: vec![ChannelRule { history_seconds: Some(10), ..rule("c") }], ..small() };
    let hub = Hub::new(settings, 1);
    let epoch = publish(&hub, "c", "1", NOW).position.epoch;
    publish(&hub, "c", "2", later(5_000));
    let query = |since| HistoryQuery { since, epoch: Some(epoch), limit: 10 };
    assert_eq!(hub.history(&name("c"), query(Some(0)), later(9_999)).messages.len(), 2);
    let history = hub.history(&name("c"), query(Some(0)), later(10_000));
    assert_eq!((history.messages.len(), history.complete), (1, false));
    assert!(hub.history(&name("c"), query(Some(1)), later(10_000)).complete);
    assert_ne!(hub.stats().history_bytes, 0);

    let mut now = NOW;
    while now < later(59_000) {
        let next = hub.tick(now);
        assert!(next > now && next <= now.after(100), "it wants to be called in good time");
        now = next;
    }
    assert_eq!(
        (hub.stats().history_bytes, hub.stats().channels),
        (0, 1),
        "the old go without being asked for"
    );
    hub.tick(later(62_000));
    assert_eq!(hub.stats().channels, 0);
    assert_eq!(hub.history(&name("c"), query(None), later(62_000)).position, None);
    let again = publish(&hub, "c", "3", later(62_000)).position;
    assert!(again.epoch != epoch && again.offset == 1);
}

#[test]
fn a_channel_with_a_subscriber_stays() {
    let hub = hub();
    let mut a = connect(&hub, "a", NOW);
    let epoch = a.subscribe("c", NOW).position.epoch;
    hub.tick(later(3_600_000));
    assert_eq!(hub.stats().channels, 1);
    a.connection.unsubscribe(&name("c"), later(3_600_000));
    hub.tick(later(3_659_000));
    assert_eq!(a.subscribe("c", later(3_659_000)).position.epoch, epoch);
    drop(a);
    hub.tick(later(3_800_000));
    assert_eq!(hub.stats().channels, 0);
}

#[test]
fn history_is_asked_for_in_parts() {
    let hub = hub();
    for number in 1..=5 {
        publish(&hub, "c", &number.to_string(), NOW);
    }
    let ask = |since, limit| {
        let history = hub.history(&name("c"), HistoryQuery { since, epoch: None, limit }, NOW);
        let texts: Vec<String> = history.messages.iter().map(|m| text_of(m).to_owned()).collect();
        (texts.join(""), history.complete)
    };
    assert_eq!(ask(None, 2), ("45".into(), true));
    assert_eq!(ask(Some(1), 2), ("23".into(), true));
    assert_eq!(ask(Some(3), 10), ("45".into(), true));
    assert_eq!(ask(Some(9), 10), (String::new(), false));
    let other = HistoryQuery { since: Some(1), epoch: Some("00000000".parse().unwrap()), limit: 1 };
    let history = hub.history(&name("c"), other, NOW);
    assert!(!history.complete && text_of(&history.messages[0]) == "5");
}

#[test]
fn all_histories_together_are_bounded() {
    let settings =
        HubSettings { history_total_bytes: 20_000, history_bytes: 15_000, ..HubSettings::default() };
    let hub = Hub::new(settings, 1);
    let long = format!("\"{}\"", "x".repeat(500));
    for round in 0..100 {
        publish(&hub, &format!("c{}", round % 3), &long, NOW);
        assert!(hub.stats().history_bytes <= 20_000);
    }
    assert!(hub.stats().history_bytes > 15_000);
    assert!(!hub.history(&name("c0"), HistoryQuery { since: Some(0), epoch: None, limit: 9 }, NOW).complete);
}

#[test]
fn filters_choose_also_among_what_was_missed() {
    let hub = hub();
    let binary = |content_type: &str| {
        let data = Bytes::from_static(b"123");
        Body::Binary(Binary { data, content_type: content_type.into(), filename: None })
    };
    let note = Body::Notification(Notification {
        title: "t".into(),
        body: "b".into(),
        notification_type: "call".into(),
        data: None,
    });
    let filters = Filters {
        allowed_types: Some(vec!["image/*".into()]),
        notification_types: Some(vec!["message".into()]),
        ..Filters::default()
    };
    let mut a = connect(&hub, "a", NOW);
    let wish = Subscribe { filters: Some(filters.clone()), ..Subscribe::to(name("c")) };
    let position = a.subscribe_with(wish, NOW).position;
    for body in [binary("image/png"), binary("text/plain"), note, data("1")] {
        hub.publish(Publication::new(name("c"), body), NOW).unwrap();
    }
    assert_eq!(offsets(&mut a), [1, 4]);
    let wish = Subscribe { filters: Some(filters), ..recover("c", position) };
    assert_eq!(connect(&hub, "b", NOW).subscribe_with(wish, NOW).missed, 2);
    a.subscribe("c", NOW);
    hub.publish(Publication::new(name("c"), binary("text/plain")), NOW).unwrap();
    assert_eq!(offsets(&mut a), [5], "subscribed again without filters");
    let many = Filters { allowed_types: Some(vec!["x".into(); 100]), ..Filters::default() };
    let wish = Subscribe { filters: Some(many), ..Subscribe::to(name("d")) };
    assert!(matches!(a.connection.subscribe(wish, None, NOW), Err(SubscribeError::BadFilters(_))));
}

#[test]
fn who_does_not_read_is_told_and_closed_and_nobody_else_waits() {
    let hub = Hub::new(small(), 1);
    let (mut slow, mut quick) = (connect(&hub, "s", NOW), connect(&hub, "q", NOW));
    slow.subscribe("c", NOW);
    quick.subscribe("c", NOW);
    let mut seen = 0;
    for number in 0..50 {
        publish(&hub, "c", &number.to_string(), NOW);
        seen += quick.messages().len();
    }
    assert_eq!(seen, 50);
    let items = slow.items();
    let [Item::Disconnect(reason)] = &items[..] else { panic!("{items:?}") };
    assert_eq!((reason.code(), reason.reconnect()), ("slow_consumer", true));
    assert_eq!(hub.stats().slow_consumers, 1);
    let refused = slow.connection.subscribe(Subscribe::to(name("d")), None, NOW);
    assert_eq!(refused, Err(SubscribeError::Closed));

    let large = format!("\"{}\"", "x".repeat(10_000));
    publish(&hub, "c", &large, NOW);
    assert_eq!(quick.texts(), [large], "one message always may wait");
}

#[test]
fn what_was_missed_may_be_more_than_what_may_wait() {
    let settings = HubSettings { history_messages: 100, backlog_bytes: 100_000, ..small() };
    let hub = Hub::new(settings, 1);
    let mut a = connect(&hub, "a", NOW);
    let position = a.subscribe("c", NOW).position;
    drop(a);
    for number in 0..100 {
        publish(&hub, "c", &number.to_string(), NOW);
    }
    let mut a = connect(&hub, "a", NOW);
    assert_eq!(a.subscribe_with(recover("c", position), NOW).missed, 100);
    assert!(!a.connection.has_room());
    publish(&hub, "c", "100", NOW);
    assert_eq!(a.messages().len(), 101);
    assert!(a.connection.has_room());
    for _ in 0..50 {
        publish(&hub, "c", "1", NOW);
    }
    assert!(matches!(&a.items()[..], [Item::Disconnect(_)]), "the allowance ends with what it was for");

    let mut greedy = connect(&hub, "g", NOW);
    for _ in 0..20 {
        let _ = greedy.connection.subscribe(recover("c", Position { offset: 60, ..position }), None, NOW);
    }
    assert!(greedy.items().len() < 1_000, "who asks again and again without reading");
}

#[test]
fn of_some_channels_only_the_newest_message_waits() {
    let latest = ChannelRule { latest_only: Some(true), ..rule("price:*") };
    let hub = Hub::new(HubSettings { rules: vec![latest], ..small() }, 1);
    let mut a = connect(&hub, "a", NOW);
    a.subscribe("price:x", NOW);
    let position = a.subscribe("price:y", NOW).position;
    a.subscribe("c", NOW);
    for number in 0..100 {
        publish(&hub, "price:x", &format!("\"x{number}\""), NOW);
        publish(&hub, "price:y", &format!("\"y{number}\""), NOW);
    }
    publish(&hub, "c", "1", NOW);
    assert_eq!(a.texts(), ["\"x99\"", "\"y99\"", "1"]);
    publish(&hub, "price:x", "100", NOW);
    assert_eq!(a.texts(), ["100"]);
    let subscribed = a.subscribe_with(recover("price:y", Position { offset: 95, ..position }), NOW);
    assert_eq!((subscribed.recovered, subscribed.missed), (Some(true), 1));
    assert_eq!(a.texts(), ["\"y99\""]);

    // What waits from before a new subscription never gets newer than the answer to it.
    publish(&hub, "price:y", "100", NOW);
    a.connection.subscribe(recover("price:y", Position { offset: 100, ..position }), None, NOW).unwrap();
    publish(&hub, "price:y", "101", NOW);
    let [Item::Message(old), Item::Subscribed(_), Item::Message(missed), Item::Message(new)] = &a.items()[..]
    else {
        panic!("not in order");
    };
    assert_eq!([old, missed, new].map(|message| text_of(message)), ["100", "100", "101"]);
}

#[test]
fn who_is_there_is_told_at_once_and_changes_together() {
    let hub = hub();
    let mut a = connect(&hub, "a", NOW);
    let list = a.subscribe_with(watch("c"), NOW).presence.unwrap();
    assert_eq!((list.total, list.entries[0].user_id.as_deref()), (1, Some("a")));
    let mut b = connect(&hub, "b", NOW);
    assert!(b.subscribe("c", later(10)).presence.is_none());
    let mut b2 = connect(&hub, "b", NOW);
    b2.subscribe("c", later(20));
    let mut shy = connect(&hub, "", NOW);
    shy.subscribe("c", later(30));
    drop(shy);
    hub.tick(later(259));
    assert!(a.messages().is_empty());
    hub.tick(later(260));
    let told = a.presence();
    assert_eq!((told.joined.len(), told.left.len(), told.present), (2, 1, 3));
    assert_eq!(told.left[0].user_id, None, "somebody may have seen them in a list");
    assert_eq!(told.joined[0].connection_id, b.connection.id());
    assert_eq!((told.joined[1].since, &*told.joined[1].name), (later(20), "name of b"));
    assert!(b.messages().is_empty(), "who did not ask is not told");

    b.connection.unsubscribe(&name("c"), later(300));
    b.subscribe("c", later(310));
    b2.connection.unsubscribe(&name("c"), later(320));
    hub.tick(later(600));
    let told = a.presence();
    assert_eq!((told.joined.len(), told.left.len(), told.present), (1, 1, 2));
    assert_eq!(told.joined[0].connection_id, b.connection.id());
    assert_eq!(told.left[0].connection_id, b2.connection.id());
    b.connection.rename("Вера", later(700));
    hub.tick(later(1_000));
    assert_eq!(&*a.presence().joined[0].name, "Вера");
    assert_eq!(hub.presence(&name("c")).total, 2);
    b.connection.rename("Вера 2", later(1_100));
    b.connection.unsubscribe(&name("c"), later(1_110));
    hub.tick(later(1_400));
    let told = a.presence();
    assert_eq!((told.joined.len(), told.left.len(), told.present), (0, 1, 1));
}

#[test]
fn where_a_rule_says_so_nobody_is_told_who_is_there() {
    let rules = vec![ChannelRule { presence: Some(false), ..rule("c") }];
    let hub = Hub::new(HubSettings { rules, ..HubSettings::default() }, 1);
    let mut a = connect(&hub, "a", NOW);
    assert!(a.subscribe_with(watch("c"), NOW).presence.is_none());
    let mut b = connect(&hub, "b", NOW);
    b.subscribe("c", NOW);
    hub.tick(later(1_000));
    assert!(a.messages().is_empty());
    assert_eq!(hub.presence(&name("c")).total, 0);
}

#[test]
fn letters_reach_all_connections_of_a_user_one_connection_or_everybody() {
    let hub = hub();
    let mut people = ["a", "a", "b", ""].map(|user| connect(&hub, user, NOW));
    let send = |to| hub.send(Letter::new(to, data("1")), NOW);
    assert_eq!(send(Recipient::User("a".into())).unwrap().recipients, 2);
    assert_eq!(people.each_mut().map(|client| client.messages().len()), [1, 1, 0, 0]);
    assert_eq!(send(Recipient::Connection(people[3].connection.id())).unwrap().recipients, 1);
    assert_eq!(people.each_mut().map(|client| client.messages().len()), [0, 0, 0, 1]);
    assert_eq!(send(Recipient::Everybody).unwrap().recipients, 4);
    assert_eq!(people.each_mut().map(|client| client.messages().len()), [1, 1, 1, 1]);
    let own = people[2].connection.id();
    let letter = Letter { except: Some(own), ..Letter::new(Recipient::Everybody, data("2")) };
    assert_eq!(people[2].connection.send(letter, NOW).unwrap().recipients, 3);
    assert_eq!(people[2].messages().len(), 0);
    let message = people[0].messages().remove(0);
    assert_eq!(message.sender.as_ref().unwrap().connection_id, Some(own));
    assert_eq!(send(Recipient::User("z".into())), Err(SendError::NoSuchUser));
    let gone = people[0].connection.id();
    let [first, ..] = people;
    drop(first);
    assert_eq!(send(Recipient::Connection(gone)), Err(SendError::NoSuchConnection));
    assert_eq!(hub.find_connections("a").len(), 1);
}

#[test]
fn a_repeated_request_does_nothing_for_ten_minutes() {
    let hub = hub();
    let mut a = connect(&hub, "a", NOW);
    a.subscribe("c", NOW);
    let once = |scope: &str, key: &str| Some(Once { scope: scope.into(), key: key.into() });
    let publish = |once, text, now| {
        let publication = Publication { once, ..Publication::new(name("c"), data(text)) };
        hub.publish(publication, now).map(|mut receipt| receipt.try_now().unwrap().unwrap())
    };
    let first = publish(once("a", "k"), "1", NOW).unwrap();
    let again = publish(once("a", "k"), "1", later(599_999)).unwrap();
    assert!(again.repeated && again.message_id == first.message_id && again.position == first.position);
    assert_eq!(publish(once("a", "k"), "2", NOW), Err(PublishError::KeyReused));
    assert!(!publish(once("b", "k"), "1", NOW).unwrap().repeated, "the keys of others are others");
    assert!(!publish(once("a", "k"), "1", later(600_000)).unwrap().repeated);
    assert_eq!(publish(once("a", ""), "1", NOW), Err(PublishError::BadKey));
    assert_eq!(publish(once("a", &"k".repeat(129)), "1", NOW), Err(PublishError::BadKey));
    assert_eq!(a.texts(), ["1", "1", "1"]);

    let send = |text| {
        let letter = Letter::new(Recipient::User("a".into()), data(text));
        hub.send(Letter { once: once("a", "letter"), ..letter }, NOW)
    };
    assert!(!send("1").unwrap().repeated);
    assert!(send("1").unwrap().repeated);
    assert_eq!(send("2"), Err(SendError::KeyReused));
    assert_eq!(a.texts(), ["1"]);
}

#[test]
fn everything_has_a_bound() {
    let settings = HubSettings {
        max_channels: 3,
        max_subscriptions: 2,
        max_message_bytes: 100,
        max_websocket: Some(2),
        ..HubSettings::default()
    };
    let hub = Hub::new(settings, 1);
    let (mut a, mut b) = (connect(&hub, "a", NOW), connect(&hub, "b", NOW));
    let who = |door| Who { user_id: None, name: "x".into(), attributes: None, door };
    let refused = hub.connect(who(Door::WebSocket), NOW).map(drop);
    assert_eq!(refused, Err(ConnectError::TooMany { limit: 2 }));
    assert!(hub.connect(who(Door::Sse), NOW).is_ok());
    a.subscribe("1", NOW);
    a.subscribe("2", NOW);
    let third = a.connection.subscribe(Subscribe::to(name("3")), None, NOW);
    assert_eq!(third, Err(SubscribeError::TooManySubscriptions { limit: 2 }));
    b.subscribe("3", NOW);
    let fourth = b.connection.subscribe(Subscribe::to(name("4")), None, NOW);
    assert_eq!(fourth, Err(SubscribeError::TooManyChannels { limit: 3 }));
    let mut receipt = hub.publish(Publication::new(name("4"), data("1")), NOW).unwrap();
    assert_eq!(receipt.try_now(), Some(Err(PublishError::TooManyChannels { limit: 3 })));
    let large = data(&format!("\"{}\"", "x".repeat(99)));
    let refused = hub.publish(Publication::new(name("3"), large.clone()), NOW).map(drop);
    assert_eq!(refused, Err(PublishError::TooLarge { size: 101, limit: 100 }));
    let refused = hub.send(Letter::new(Recipient::Everybody, large), NOW);
    assert_eq!(refused, Err(SendError::TooLarge { size: 101, limit: 100 }));
}

#[test]
fn people_are_removed_after_what_waits_for_them() {
    let hub = hub();
    let (mut a, mut a2) = (connect(&hub, "a", NOW), connect(&hub, "a", NOW));
    a.subscribe("c", NOW);
    publish(&hub, "c", "1", NOW);
    assert_eq!(hub.disconnect_user("a", &Disconnect::Removed("spam".into())), 2);
    publish(&hub, "c", "2", NOW);
    let items = a.items();
    let [Item::Message(_), Item::Disconnect(reason)] = &items[..] else { panic!("{items:?}") };
    assert_eq!(**reason, Disconnect::Removed("spam".into()));
    assert_eq!(a2.items().len(), 1);
    assert!(!hub.disconnect(a.connection.id(), Disconnect::Stopping), "it is being closed already");

    let mut b = connect(&hub, "b", NOW);
    b.subscribe("c", NOW);
    assert_eq!(hub.unsubscribe_user("b", &name("c"), NOW), 1);
    publish(&hub, "c", "3", NOW);
    let items = b.items();
    assert!(matches!(&items[..], [Item::Unsubscribed(channel)] if channel.as_str() == "c"), "{items:?}");

    let mut others = [connect(&hub, "b", NOW), connect(&hub, "d", NOW)];
    for member in &mut others {
        member.subscribe("e", NOW);
    }
    let stays = others[0].connection.id();
    assert_eq!(hub.unsubscribe_others(&name("e"), |_, connection| connection == stays, NOW), 1);
    publish(&hub, "e", "4", NOW);
    let [stayed, left] = others.map(|mut member| member.items());
    assert!(matches!(&stayed[..], [Item::Message(_)]), "{stayed:?}");
    assert!(matches!(&left[..], [Item::Unsubscribed(_)]), "{left:?}");
}

#[test]
fn after_a_restart_everything_goes_on() {
    let hub = hub();
    let mut a = connect(&hub, "a", NOW);
    a.subscribe("c", NOW);
    publish(&hub, "c", "1", NOW);
    let position = a.messages()[0].position().unwrap();
    publish(&hub, "c", "2", NOW);
    let binary = Binary { data: Bytes::from_static(b"\x00\xff"), content_type: "x/y".into(), filename: None };
    hub.publish(Publication::new(name("c"), Body::Binary(binary)), NOW).unwrap();
    hub.drain(&Disconnect::Stopping);
    assert!(matches!(&a.items()[..], [Item::Message(_), Item::Message(_), Item::Disconnect(_)]));
    let refused = hub.publish(Publication::new(name("c"), data("3")), NOW).map(drop);
    assert_eq!(refused, Err(PublishError::Draining));
    let who = Who { user_id: None, name: "x".into(), attributes: None, door: Door::Sse };
    assert_eq!(hub.connect(who, NOW).map(drop), Err(ConnectError::Draining));

    let mut snapshots = hub.snapshot();
    assert_eq!(snapshots.len(), 1);
    let mut broken = snapshots[0].clone();
    broken.name = name("broken");
    snapshots.push(broken);
    let hub = Hub::new(HubSettings::default(), 2);
    assert_eq!(hub.restore(snapshots, later(100)), 1);
    let mut a = connect(&hub, "a", later(100));
    let subscribed = a.subscribe_with(recover("c", position), later(100));
    assert_eq!((subscribed.recovered, subscribed.missed), (Some(true), 2));
    assert_eq!(publish(&hub, "c", "3", later(100)).position, Position { offset: 4, ..position });
    let messages = a.messages();
    assert_eq!(text_of(&messages[0]), "2");
    assert!(matches!(&messages[1].body, Body::Binary(binary) if *binary.data == *b"\x00\xff"));
    assert_eq!(text_of(&messages[2]), "3");
}

#[test]
fn administrators_see_who_and_what_there_is() {
    let hub = hub();
    let mut a = connect(&hub, "a", NOW);
    let _b = connect(&hub, "b", later(1));
    a.subscribe("x:1", NOW);
    publish(&hub, "x:2", "1", NOW);
    publish(&hub, "y", "1", NOW);
    publish(&hub, "x:1", "1", NOW);
    let channels = hub.channels("x:", 10);
    let names: Vec<&str> = channels.iter().map(|channel| channel.name.as_str()).collect();
    assert_eq!(names, ["x:1", "x:2"]);
    assert_eq!((channels[0].subscribers, channels[0].history, channels[0].position.offset), (1, 1, 1));
    let connections = hub.connections(1);
    assert_eq!(connections.len(), 1);
    assert_eq!((connections[0].user_id.as_deref(), connections[0].channels), (Some("a"), 1));
    assert_eq!((connections[0].door.as_str(), connections[0].waiting_bytes > 0), ("websocket", true));
    let stats = hub.stats();
    assert_eq!((stats.websocket, stats.channels, stats.published, stats.delivered), (2, 3, 3, 1));
}

#[tokio::test]
async fn a_reader_sleeps_until_something_comes_and_is_told_the_end() {
    let hub = hub();
    let Client { connection, mut outbox } = connect(&hub, "a", NOW);
    let reader = tokio::spawn(async move {
        let (mut items, mut batches) = (Vec::new(), 0);
        while outbox.drain(&mut items, 1_000_000).await {
            batches += 1;
        }
        (items.len(), batches)
    });
    tokio::task::yield_now().await;
    for _ in 0..100 {
        connection.answer(Bytes::from_static(b"pong"));
    }
    tokio::task::yield_now().await;
    connection.answer(Bytes::from_static(b"pong"));
    tokio::task::yield_now().await;
    drop(connection);
    assert_eq!(reader.await.unwrap(), (101, 2), "all that waits is taken at once");
}

#[tokio::test]
async fn who_asks_without_reading_waits_for_room() {
    let hub = Hub::new(small(), 1);
    let Client { connection, mut outbox } = connect(&hub, "a", NOW);
    connection.room().await;
    while connection.has_room() {
        connection.answer(Bytes::from_static(b"pong"));
    }
    let connection = Arc::new(connection);
    let waiting = tokio::spawn({
        let connection = Arc::clone(&connection);
        async move { connection.room().await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    assert!(outbox.next().await.is_some());
    waiting.await.unwrap();
    while connection.has_room() {
        connection.answer(Bytes::new());
    }
    let waiting = tokio::spawn({
        let connection = Arc::clone(&connection);
        async move { connection.room().await }
    });
    tokio::task::yield_now().await;
    drop(outbox);
    waiting.await.unwrap();
}

#[test]
fn verbatim_objects_and_names_pass_as_they_are() {
    let hub = hub();
    let mut a = connect(&hub, "a", NOW);
    a.subscribe("chat:x", NOW);
    let body = Body::Verbatim(json(r#"{"type":"system","message":"Вера вошла"}"#));
    hub.publish(Publication::new(name("chat:x"), body), NOW).unwrap();
    assert_eq!(a.texts(), [r#"{"type":"system","message":"Вера вошла"}"#]);
    a.connection.rename("Вера", NOW);
    assert_eq!(&*a.connection.sender().name, "Вера");
}
