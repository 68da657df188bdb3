//! Connections: they are made, move, fall silent, come back, and are refused.

mod common;

use common::*;
use veche_sfu_core::control::{ConnectionState, Event, FailReason};
use veche_sfu_core::media::MediaKind;
use veche_testkit::client::{Client, ClientConfig};
use veche_testkit::network::LinkConfig;
use veche_testkit::world::{ClientId, World};

fn pair(seed: u64) -> (World, ClientId, ClientId) {
    let mut world = World::new(seed);
    let ann = world.join(1, ClientConfig::default());
    let ben = world.join(1, ClientConfig::default());
    world.run_for(seconds(2.0));
    (world, ann, ben)
}

/// How long it takes until `eye` sees frames that `whom` made from now on.
fn until_seen(world: &mut World, eye: ClientId, whom: ClientId) -> Option<std::time::Duration> {
    let (from, source) = (world.now, world.source(whom));
    let sampled_from = from - world.start;
    world.run_until(seconds(5.0), |w| {
        let mut slots = w.client(eye).slots.iter().filter(|s| s.kind == MediaKind::Video);
        slots.any(|s| {
            s.frames_since(from).any(|f| f.stamp.source == source && f.stamp.captured >= sampled_from)
        })
    })
}

#[test]
fn a_reloaded_page_is_the_same_participant_and_back_at_once() {
    let (mut world, ann, ben) = pair(40);
    let track = world.track(ann, MediaKind::Video);
    world.reload(ann);
    let seen = until_seen(&mut world, ben, ann).expect("others see the new page");
    assert!(seen < millis(400), "{seen:?}");
    let seen = until_seen(&mut world, ann, ben).expect("the new page sees the others");
    assert!(seen < millis(400), "{seen:?}");
    assert_ne!(world.track(ann, MediaKind::Video), track);
    let gone =
        world.events.iter().any(|(_, e)| matches!(e, Event::TrackGone { track: t, .. } if *t == track));
    assert!(gone, "the track of before is gone");
    assert_eq!(world.engine(0).participants(), 2);
    assert_eq!(world.told(ann).connection, Some(ConnectionState::Connected));
    world.run_for(seconds(2.0));
    let shows: Vec<_> = world.told(ben).slots.values().filter_map(|c| c.shows).collect();
    assert!(shows.iter().all(|s| s.participant == world.participant(ann)), "{shows:?}");
    assert!(!shows.is_empty());
    for id in [ann, ben] {
        let faults = world.client(id).faults();
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

#[test]
fn an_ice_restart_does_not_interrupt_the_picture() {
    let (mut world, ann, ben) = pair(41);
    let from = world.now;
    world.restart_ice(ann);
    world.run_for(seconds(5.0));
    assert_eq!(world.told(ann).connections.len(), 1, "{:?}", world.told(ann).connections);
    for (eye, whom) in [(ann, ben), (ben, ann)] {
        let slot = world.client(eye).slot_of(MediaKind::Video, world.source(whom)).expect("a picture");
        assert!(slot.longest_gap(from, world.now) < millis(60));
        assert_no_faults(&world, eye);
    }
}

#[test]
fn a_client_that_gets_another_address_goes_on_there() {
    let (mut world, ann, ben) = pair(42);
    let from = world.now;
    world.move_client(ann);
    world.run_for(seconds(3.0));
    for (eye, whom) in [(ann, ben), (ben, ann)] {
        let slot = world.client(eye).slot_of(MediaKind::Video, world.source(whom)).expect("a picture");
        let gap = slot.longest_gap(from, world.now);
        assert!(gap < millis(400), "{gap:?}");
        let faults = world.client(eye).faults();
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

#[test]
fn a_second_path_is_used_when_it_is_nominated() {
    let (mut world, ann, ben) = pair(43);
    world.add_path(ann);
    world.run_for(seconds(1.0));
    let from = world.now;
    world.with_client(ann, Client::nominate_last);
    world.run_for(seconds(3.0));
    let slot = world.client(ann).slot_of(MediaKind::Video, world.source(ben)).expect("a picture");
    assert!(slot.longest_gap(from, world.now) < millis(60));
    // The first address goes away; nothing that matters comes there any more.
    let only = world.address(ann);
    world.with_client(ann, |c, now| {
        let keep = only;
        c.move_to(now, keep);
    });
    let from = world.now;
    world.run_for(seconds(2.0));
    for (eye, whom) in [(ann, ben), (ben, ann)] {
        let slot = world.client(eye).slot_of(MediaKind::Video, world.source(whom)).expect("a picture");
        assert!(slot.longest_gap(from, world.now) < millis(60));
        assert_no_faults(&world, eye);
    }
}

#[test]
fn ten_seconds_without_a_network_are_bridged() {
    let (mut world, ann, ben) = pair(44);
    let dark = LinkConfig { blackout: true, ..LinkConfig::default() };
    world.set_links(ann, dark);
    world.run_for(seconds(10.0));
    assert_eq!(world.told(ann).connection, Some(ConnectionState::Interrupted));
    world.set_links(ann, LinkConfig::default());
    for (eye, whom) in [(ben, ann), (ann, ben)] {
        let seen = until_seen(&mut world, eye, whom).expect("the picture comes back");
        assert!(seen < millis(1_500), "{seen:?}");
    }
    assert_eq!(world.told(ann).connection, Some(ConnectionState::Connected));
    world.run_for(seconds(2.0));
    for id in [ann, ben] {
        assert_no_faults(&world, id);
    }
}

#[test]
fn consent_expires_and_a_restart_brings_the_client_back() {
    let (mut world, ann, ben) = pair(45);
    world.set_links(ann, LinkConfig { blackout: true, ..LinkConfig::default() });
    world.run_for(seconds(40.0));
    assert_eq!(world.told(ann).connection, Some(ConnectionState::Expired));
    // Nothing is sent to somebody who does not consent.
    let before = world.stats(ann).packets_sent;
    world.run_for(seconds(2.0));
    assert_eq!(world.stats(ann).packets_sent, before);
    world.set_links(ann, LinkConfig::default());
    world.restart_ice(ann);
    for (eye, whom) in [(ben, ann), (ann, ben)] {
        let seen = until_seen(&mut world, eye, whom).expect("the picture comes back");
        assert!(seen < millis(1_500), "{seen:?}");
    }
    assert_eq!(world.told(ann).connection, Some(ConnectionState::Connected));
}

#[test]
fn a_wrong_fingerprint_fails_and_nothing_flows() {
    let mut world = World::new(46);
    let ben = world.join(1, ClientConfig::default());
    let eve = world.join(1, ClientConfig { wrong_fingerprint: true, ..ClientConfig::default() });
    world.run_for(seconds(5.0));
    assert_eq!(world.told(eve).connection, Some(ConnectionState::Failed(FailReason::Fingerprint)));
    assert!(world.client(eve).slots.iter().all(|s| s.packets == 0));
    assert!(world.client(ben).slots.iter().all(|s| s.packets == 0));
    assert_eq!(world.stats(eve).packets_received, 0);
}

#[test]
fn two_engines_do_not_know_each_other() {
    let mut world = World::with_engines(47, 2);
    let pairs = [1, 2].map(|room| [0; 2].map(|_| world.join(room, ClientConfig::default())));
    world.run_for(seconds(3.0));
    for [ann, ben] in pairs {
        for (eye, whom) in [(ann, ben), (ben, ann)] {
            let source = world.source(whom);
            assert!(world.client(eye).slot_of(MediaKind::Video, source).is_some());
            let frames = world.client(eye).slots.iter().flat_map(|s| &s.frames);
            assert!(frames.clone().count() > 100 && frames.clone().all(|f| f.stamp.source == source));
            assert_no_faults(&world, eye);
        }
    }
}

#[test]
fn after_twelve_minutes_away_sound_and_picture_are_back() {
    let (mut world, ann, ben) = pair(48);
    world.set_links(ann, blackout());
    world.run_for(seconds(30.0));
    // A client whose checks are not answered ceases to send (RFC 7675 section 5.1); Ben's media goes on.
    let send = |world: &mut World, send| {
        for kind in [MediaKind::Audio, MediaKind::Video] {
            world.with_client(ann, |c, now| c.set_active(now, kind, None, send));
        }
    };
    send(&mut world, false);
    world.run_for(seconds(690.0));
    assert_eq!(world.told(ann).connection, Some(ConnectionState::Expired));
    world.set_links(ann, LinkConfig::default());
    world.restart_ice(ann);
    send(&mut world, true);
    for (eye, whom) in [(ben, ann), (ann, ben)] {
        let seen = until_seen(&mut world, eye, whom).expect("the picture comes back");
        assert!(seen < millis(1_500), "{seen:?}");
    }
    world.run_for(seconds(2.0));
    assert_eq!(world.told(ann).connection, Some(ConnectionState::Connected));
    let from = world.now;
    world.run_for(seconds(2.0));
    for (eye, whom) in [(ann, ben), (ben, ann)] {
        let client = world.client(eye);
        let slot = client.slot_of(MediaKind::Audio, world.source(whom)).expect("sound");
        assert!(slot.longest_gap(from, world.now) < millis(50));
        let slot = client.slot_of(MediaKind::Video, world.source(whom)).expect("a picture");
        assert!(slot.longest_gap(from, world.now) < millis(60));
        assert_no_faults(&world, eye);
    }
}

#[test]
fn reloads_leave_no_user_names_and_no_paths_behind() {
    let (mut world, ann, _) = pair(49);
    let known = (world.engine(0).ufrags(), world.engine(0).paths());
    assert_eq!(known, (2, 2));
    for _ in 0..5 {
        world.reload(ann);
        world.run_for(seconds(2.0));
        assert_eq!(world.told(ann).connection, Some(ConnectionState::Connected));
        assert_eq!((world.engine(0).ufrags(), world.engine(0).paths()), known);
    }
    world.leave(ann, true);
    assert_eq!((world.engine(0).ufrags(), world.engine(0).paths()), (1, 1));
}
