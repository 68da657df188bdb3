//! Rooms that are spread over two engines: nobody can tell.

mod common;

use common::*;
use veche_sfu_core::control::{Event, Show, SlotReason, SlotWish, Subscription};
use veche_sfu_core::drops::DropReason;
use veche_sfu_core::media::{Codec, MediaKind};
use veche_testkit::client::{ClientConfig, slot_mid};
use veche_testkit::media::{TrackConfig, Voice};
use veche_testkit::network::LinkConfig;
use veche_testkit::world::{ClientId, World};

/// The room, its first engine and the other one.
const ROOM: u64 = 1;
const HOME: usize = 1;
const AWAY: usize = 0;

fn simulcast() -> ClientConfig {
    ClientConfig {
        tracks: vec![TrackConfig::microphone(), TrackConfig::simulcast(Codec::Vp8)],
        ..Default::default()
    }
}

fn viewer() -> ClientConfig {
    ClientConfig { video_slots: 1, ..ClientConfig::viewer() }
}

fn wants(world: &mut World, viewer: ClientId, show: Show, width: u16, height: u16) {
    let wish = SlotWish { mid: slot_mid(MediaKind::Video, 0), show, width, height };
    world.subscribe(viewer, Subscription { auto: true, wishes: vec![wish], ..Default::default() });
}

fn layer(world: &World, viewer: ClientId) -> Option<u8> {
    world.client(viewer).slot("V0").frames.last().map(|f| f.stamp.layer)
}

/// How long it took until `eye` had a picture of `whom` from after now.
fn seen_within(
    world: &mut World,
    eye: ClientId,
    whom: ClientId,
    longest: f64,
) -> Option<std::time::Duration> {
    let from = world.now;
    world.run_until(seconds(longest), |w| {
        frames_of(w, eye, whom, from).iter().any(|f| f.codec.kind() == MediaKind::Video)
    })
}

#[test]
fn everybody_sees_and_hears_everybody() {
    let mut world = World::with_engines(60, 2);
    let people: Vec<ClientId> =
        [HOME, AWAY, AWAY, HOME].map(|engine| world.join_at(ROOM, engine, ClientConfig::default())).into();
    world.run_for(seconds(6.0));
    let from = world.ago(seconds(3.0));
    for &me in &people {
        assert_no_faults(&world, me);
        for &other in people.iter().filter(|other| **other != me) {
            let source = world.source(other);
            let picture = world.client(me).slot_of(MediaKind::Video, source).expect("a picture");
            assert!(picture.frames_since(from).count() >= 88, "{me:?} sees {other:?}");
            assert!(picture.longest_gap(from, world.now) < millis(60));
            assert!(picture.clock_spread() < millis(50), "{:?}", picture.clock_spread());
            let sound = world.client(me).slot_of(MediaKind::Audio, source).expect("sound");
            assert!(sound.frames_since(from).count() >= 145, "{me:?} hears {other:?}");
        }
        let stats = world.stats(me);
        assert!(stats.packets_received > 500 && stats.packets_sent > 1_500, "{stats:?}");
    }
    assert_eq!((world.engine(HOME).participants(), world.engine(AWAY).participants()), (2, 2));
    assert_eq!(world.drops(DropReason::BridgeStale), 0);
}

#[test]
fn a_layer_crosses_once_however_many_show_it_and_no_longer_than_somebody_does() {
    let mut world = World::with_engines(61, 2);
    let ann = world.join_at(ROOM, HOME, simulcast());
    world.run_for(seconds(1.0));
    let track = world.track(ann, MediaKind::Video);
    let crossed = |world: &World| [0, 1, 2].map(|l| world.carried(HOME, AWAY, track, l).packets);
    assert_eq!(crossed(&world), [0; 3], "the room is not there");

    let viewers: Vec<ClientId> = (0..6).map(|_| world.join_at(ROOM, AWAY, viewer())).collect();
    for &viewer in &viewers {
        wants(&mut world, viewer, Show::Auto, 320, 180);
    }
    world.run_for(seconds(3.0));
    for &viewer in &viewers {
        assert_eq!(layer(&world, viewer), Some(0));
    }
    let count = |world: &World| {
        let seen = frames_of(world, viewers[0], ann, world.start);
        seen.iter().filter(|f| f.codec.kind() == MediaKind::Video).count()
    };
    let (before, seen) = (crossed(&world), count(&world));
    world.run_for(seconds(2.0));
    let (after, seen) = (crossed(&world), count(&world) - seen);
    assert!((59..=61).contains(&seen), "{seen}");
    // Small pictures have one packet or two.
    let packets = after[0] - before[0];
    assert!((59..=130).contains(&packets), "{packets} packets for {seen} frames of six viewers");
    assert_eq!(after[2], before[2], "nobody shows the largest");

    wants(&mut world, viewers[3], Show::Auto, 1280, 720);
    world.run_for(seconds(2.0));
    assert_eq!(layer(&world, viewers[3]), Some(2));
    assert!(crossed(&world)[2] > after[2] + 60);
    for &viewer in &viewers {
        wants(&mut world, viewer, Show::Nothing, 0, 0);
    }
    world.run_for(millis(100));
    let last = crossed(&world);
    world.run_for(seconds(2.0));
    assert_eq!(crossed(&world), last, "nobody shows anything");
    for viewer in viewers {
        assert_no_faults(&world, viewer);
    }
}

#[test]
fn publishers_are_told_what_all_engines_want_together() {
    let mut world = World::with_engines(62, 2);
    world.join_at(ROOM, HOME, simulcast());
    let near = world.join_at(ROOM, HOME, viewer());
    let far = world.join_at(ROOM, AWAY, viewer());
    let told = |world: &World| {
        let mut events = world.events.iter().rev();
        events.find_map(|(_, event)| match event {
            Event::LayersWanted { layers, .. } => Some(layers.iter().map(|l| l.wanted).collect::<Vec<_>>()),
            _ => None,
        })
    };
    wants(&mut world, near, Show::Auto, 320, 180);
    wants(&mut world, far, Show::Auto, 320, 180);
    world.run_for(seconds(6.0));
    assert_eq!(told(&world), Some(vec![true, false, false]));
    // Somebody far away wants what sleeps: it is asked for, and comes.
    wants(&mut world, far, Show::Auto, 1280, 720);
    let took = world.run_until(seconds(3.0), |w| layer(w, far) == Some(2)).expect("it comes");
    assert!(took < millis(800), "{took:?}");
    assert!(told(&world).is_some_and(|wanted| wanted[2]));
    assert_eq!(layer(&world, near), Some(0));
    world.run_for(seconds(4.0));
    assert_eq!(layer(&world, far), Some(2), "and stays");
    world.leave(far, true);
    world.run_for(seconds(6.0));
    assert_eq!(told(&world), Some(vec![true, false, false]));
    assert_no_faults(&world, near);
}

#[test]
fn the_shown_size_chooses_the_layer_of_another_engine() {
    let mut world = World::with_engines(63, 2);
    let eye = world.join_at(ROOM, AWAY, viewer());
    let ann = world.join_at(ROOM, HOME, simulcast());
    world.run_for(seconds(3.0));
    for (size, wanted) in [((320, 180), 0), ((1280, 720), 2), ((640, 360), 1), ((0, 0), 2)] {
        wants(&mut world, eye, Show::Auto, size.0, size.1);
        let took = world.run_until(seconds(2.0), |w| layer(w, eye) == Some(wanted));
        let took = took.unwrap_or_else(|| panic!("{size:?} never shows layer {wanted}"));
        assert!(took < millis(250), "layer {wanted} took {took:?}");
        world.run_for(seconds(1.0));
        assert_eq!(layer(&world, eye), Some(wanted), "{size:?}");
    }
    let slot = world.client(eye).slot("V0");
    let from = slot.frames[0].at;
    assert!(slot.longest_gap(from, world.now) < millis(150), "{:?}", slot.longest_gap(from, world.now));
    // The largest stops: the next one stands in for it.
    world.with_client(ann, |c, now| c.set_active(now, MediaKind::Video, Some("f"), false));
    world.run_for(seconds(3.0));
    assert_eq!(layer(&world, eye), Some(1));
    assert_no_faults(&world, eye);
}

#[test]
fn thirty_switches_between_engines_leave_one_continuous_stream() {
    let mut world = World::with_engines(64, 2);
    let eye = world.join_at(ROOM, AWAY, viewer());
    let others = [HOME, AWAY, HOME].map(|engine| world.join_at(ROOM, engine, ClientConfig::default()));
    world.run_for(seconds(2.0));
    let from = world.now;
    for round in 1..=30 {
        let next = others[round % 3];
        let track = world.track(next, MediaKind::Video);
        wants(&mut world, eye, Show::Track(track), 640, 360);
        let source = world.source(next);
        let took = world.run_until(seconds(1.0), |w| w.client(eye).slot("V0").shows() == Some(source));
        let took = took.expect("the switch happens");
        assert!(took < millis(150), "switch {round} took {took:?}");
        world.run_for(millis(137));
    }
    let slot = world.client(eye).slot("V0");
    assert!(slot.longest_gap(from, world.now) < millis(140), "{:?}", slot.longest_gap(from, world.now));
    assert!(slot.clock_spread() < millis(80), "{:?}", slot.clock_spread());
    assert_no_faults(&world, eye);
}

#[test]
fn what_is_lost_near_a_subscriber_is_repaired_by_their_own_engine() {
    let mut world = World::with_engines(65, 2);
    let ann = world.join_at(ROOM, HOME, ClientConfig::default());
    let eye = world.join_at(ROOM, AWAY, viewer());
    world.run_for(seconds(2.0));
    *world.down(eye) = LinkConfig { delay: millis(20), ..LinkConfig::lossy(0.04) };
    let from = world.now;
    world.run_for(seconds(10.0));
    let slot = world.client(eye).slot("V0");
    // A lossy line may be given every other picture only, but none that it was given is missing.
    let gap = slot.longest_gap(from, world.now);
    assert!(slot.frames_since(from).count() > 150 && gap < millis(300), "{gap:?}");
    assert_eq!(slot.given_up, 0);
    assert!(slot.repaired > 5, "{}", slot.repaired);
    let asked: u64 = world.client(ann).senders.iter().map(|s| s.nacked).sum();
    assert_eq!(asked, 0, "nothing is missing at home");
    assert_no_faults(&world, eye);
}

#[test]
fn what_is_lost_near_a_publisher_is_repaired_at_home_and_crosses() {
    let mut world = World::with_engines(66, 2);
    let ann = world.join_at(ROOM, HOME, ClientConfig::default());
    let eye = world.join_at(ROOM, AWAY, viewer());
    world.run_for(seconds(2.0));
    *world.up(ann) = LinkConfig { delay: millis(20), ..LinkConfig::lossy(0.10) };
    let from = world.now;
    world.run_for(seconds(10.0));
    let frames = world.client(eye).slot("V0").frames_since(from).count();
    assert!(frames > 285, "{frames} of 300");
    assert!(world.client(ann).senders.iter().map(|s| s.repairs).sum::<u64>() > 30);
    assert_no_faults(&world, eye);
}

#[test]
fn a_key_frame_is_asked_for_across() {
    let mut world = World::with_engines(67, 2);
    let ann = world.join_at(ROOM, HOME, ClientConfig::default());
    world.run_for(seconds(3.0));
    let asked = |world: &World| world.client(ann).senders[1].key_requests;
    let before = asked(&world);
    let eye = world.join_at(ROOM, AWAY, viewer());
    let took = seen_within(&mut world, eye, ann, 3.0).expect("a picture");
    assert!(took < millis(1_000), "{took:?}");
    assert!(asked(&world) > before);
    // Somebody there loses everything for a while.
    world.run_for(seconds(2.0));
    *world.down(eye) = blackout();
    world.run_for(seconds(2.0));
    let before = asked(&world);
    *world.down(eye) = LinkConfig::default();
    let took = seen_within(&mut world, eye, ann, 2.0).expect("a picture");
    assert!(took < millis(1_500), "{took:?}");
    world.run_for(seconds(4.0));
    let from = world.ago(seconds(1.0));
    // Every other picture is left out until the network is trusted again.
    let gap = world.client(eye).slot("V0").longest_gap(from, world.now);
    assert!(gap < millis(100), "{gap:?}");
    assert!(asked(&world) - before < 5, "{} key frames", asked(&world) - before);
    assert_no_faults(&world, eye);
}

#[test]
fn a_new_speaker_on_another_engine_is_heard_from_the_first_word() {
    let mut world = World::with_engines(68, 2);
    let listener = ClientConfig { audio_slots: 2, video_slots: 0, ..ClientConfig::viewer() };
    let ears = [HOME, AWAY].map(|engine| world.join_at(ROOM, engine, listener.clone()));
    let voice = ClientConfig {
        tracks: vec![TrackConfig::microphone()],
        audio_slots: 0,
        video_slots: 0,
        ..Default::default()
    };
    let people: Vec<ClientId> = (0..6).map(|n| world.join_at(ROOM, n % 2, voice.clone())).collect();
    world.run_for(seconds(1.0));
    for &speaker in &people {
        let began = world.now;
        world.with_client(speaker, |c, _| c.speak(Voice::SPEAKING));
        world.run_for(seconds(1.0));
        for &ear in &ears {
            let heard = frames_of(&world, ear, speaker, began);
            let first = heard.first().expect("heard");
            assert!(first.at - began < millis(100), "heard after {:?}", first.at - began);
            let onset = (began - world.start).saturating_sub(millis(20));
            assert!(first.stamp.captured <= onset + millis(20), "cut off");
        }
        let told = world.speakers(ROOM).iter().any(|s| s.participant == world.participant(speaker));
        assert!(told, "{speaker:?} is not told");
        world.with_client(speaker, |c, _| c.speak(Voice::SILENT));
        world.run_for(seconds(3.0));
    }
    let lists: Vec<_> = world
        .events
        .iter()
        .filter_map(|(at, event)| match event {
            Event::Speakers { speakers, .. } => Some((*at, speakers)),
            _ => None,
        })
        .collect();
    let often = lists.windows(2).filter(|w| w[1].0 - w[0].0 < millis(240)).count();
    assert_eq!(often, 0, "two engines tell");
    for ear in ears {
        assert_no_faults(&world, ear);
    }
}

#[test]
fn a_mute_holds_on_all_engines() {
    let mut world = World::with_engines(69, 2);
    let ann = world.join_at(ROOM, HOME, ClientConfig::default());
    let eye = world.join_at(ROOM, AWAY, viewer());
    world.run_for(seconds(2.0));
    for kind in [MediaKind::Audio, MediaKind::Video] {
        let heard = |world: &World, from| {
            frames_of(world, eye, ann, from).iter().filter(|f| f.codec.kind() == kind).count()
        };
        world.mute(ann, kind, true);
        world.run_for(millis(50));
        let muted = world.now;
        world.run_for(seconds(2.0));
        assert_eq!(heard(&world, muted), 0);
        let unmuted = world.now;
        world.mute(ann, kind, false);
        let back = world.run_until(seconds(1.0), |w| heard(w, unmuted) > 0).expect("back");
        assert!(back < millis(300), "{kind:?}: {back:?}");
        let made = frames_of(&world, eye, ann, unmuted);
        let made = made.iter().filter(|f| f.codec.kind() == kind).map(|f| f.stamp.captured).min();
        assert!(made.expect("it was seen") + millis(40) >= unmuted - world.start, "from while it was muted");
    }
    assert_no_faults(&world, eye);
}

#[test]
fn data_channel_messages_reach_people_on_other_engines() {
    let mut world = World::with_engines(74, 2);
    let people = [HOME, AWAY, AWAY].map(|engine| world.join_at(ROOM, engine, ClientConfig::default()));
    world.run_for(seconds(1.0));
    for id in people {
        world.with_client(id, |c, now| c.open_channel(now, "chat"));
    }
    world.run_for(seconds(1.0));
    let [ann, ben, cem] = people;
    let [ann_name, ben_name, cem_name] = people.map(|id| format!("peer-{}", world.participant(id).0));
    world.with_client(ann, |c, now| c.send_data(now, "chat", "", b"to all"));
    world.with_client(ann, |c, now| c.send_data(now, "chat", &ben_name, b"to ben"));
    world.with_client(cem, |c, now| c.send_data(now, "chat", &ann_name, b"to ann"));
    world.run_for(seconds(1.0));
    let got = |id| -> Vec<(&str, &[u8])> {
        let received = world.client(id).data_received();
        received.iter().map(|m| (m.peer.as_str(), m.payload.as_slice())).collect()
    };
    assert_eq!(got(ann), [(cem_name.as_str(), b"to ann".as_slice())]);
    assert_eq!(got(ben), [(ann_name.as_str(), b"to all".as_slice()), (ann_name.as_str(), b"to ben")]);
    assert_eq!(got(cem), [(ann_name.as_str(), b"to all".as_slice())]);
}

#[test]
fn a_message_from_another_engine_that_is_lost_is_sent_again_soon_however_quiet_the_room_is() {
    let mut world = World::with_engines(75, 2);
    let quiet = || ClientConfig { tracks: Vec::new(), ..viewer() };
    let (ann, ben) = (world.join_at(ROOM, HOME, quiet()), world.join_at(ROOM, AWAY, quiet()));
    world.run_for(seconds(1.0));
    for id in [ann, ben] {
        world.with_client(id, |c, now| c.open_channel(now, "chat"));
    }
    world.run_for(seconds(12.3));
    world.down(ben).blackout = true;
    world.with_client(ann, |c, now| c.send_data(now, "chat", "", b"lost once"));
    world.run_for(millis(300));
    world.down(ben).blackout = false;
    let came = |w: &World| w.client(ben).data_received().len() == 1;
    let took = world.run_until(seconds(20.0), came).expect("it is sent again");
    assert!(took < millis(500), "{took:?}");
}

#[test]
fn who_leaves_is_gone_on_all_engines() {
    let mut world = World::with_engines(70, 2);
    let ann = world.join_at(ROOM, HOME, ClientConfig::default());
    let ben = world.join_at(ROOM, AWAY, ClientConfig::default());
    let eye = world.join_at(ROOM, AWAY, viewer());
    world.run_for(seconds(2.0));
    assert_eq!([HOME, AWAY].map(|engine| world.engine(engine).mirrored_tracks()), [2, 2]);
    let track = world.track(ann, MediaKind::Video);
    wants(&mut world, eye, Show::Track(track), 640, 360);
    world.run_for(seconds(1.0));
    world.leave(ann, true);
    world.run_for(millis(200));
    let slot = &world.told(eye).slots[&slot_mid(MediaKind::Video, 0)];
    assert_eq!((slot.shows, slot.reason), (None, Some(SlotReason::Gone)));
    assert_eq!([HOME, AWAY].map(|engine| world.engine(engine).mirrored_tracks()), [0, 0]);
    let gone = world.events.iter().filter(|(_, e)| matches!(e, Event::TrackGone { .. })).count();
    assert_eq!(gone, 2, "each track is gone once");

    // The room comes back to the engine that it had left.
    let cem = world.join_at(ROOM, HOME, ClientConfig::default());
    wants(&mut world, eye, Show::Auto, 640, 360);
    world.run_for(seconds(3.0));
    for (me, other) in [(ben, cem), (cem, ben)] {
        assert!(frames_of(&world, me, other, world.ago(seconds(1.0))).len() > 70, "{me:?} and {other:?}");
    }
    world.leave(cem, true);
    world.leave(ben, true);
    world.leave(eye, true);
    world.run_for(millis(100));
    for engine in [HOME, AWAY] {
        let engine = world.engine(engine);
        assert_eq!((engine.participants(), engine.mirrored_tracks()), (0, 0));
    }
    assert_no_faults(&world, eye);
}

#[test]
fn a_page_that_is_loaded_anew_is_seen_again() {
    let mut world = World::with_engines(71, 2);
    let ann = world.join_at(ROOM, HOME, ClientConfig::default());
    let eye = world.join_at(ROOM, AWAY, viewer());
    world.run_for(seconds(2.0));
    world.reload(ann);
    let took = seen_within(&mut world, eye, ann, 3.0).expect("seen again");
    assert!(took < millis(1_500), "{took:?}");
    // A browser that begins to send another stream is followed, too.
    world.run_for(seconds(2.0));
    world.with_client(ann, |c, _| c.senders.iter_mut().for_each(|s| s.restart(20_000)));
    world.run_for(seconds(1.0));
    let from = world.now;
    world.run_for(seconds(2.0));
    let slot = world.client(eye).slot("V0");
    assert!(slot.longest_gap(from, world.now) < millis(60), "{:?}", slot.longest_gap(from, world.now));
    assert_no_faults(&world, eye);
}

#[test]
fn a_way_that_is_full_loses_packets_and_recovers_by_a_key_frame() {
    let mut world = World::with_engines(72, 2);
    let ann = world.join_at(ROOM, HOME, ClientConfig::default());
    let near = world.join_at(ROOM, HOME, viewer());
    let far = world.join_at(ROOM, AWAY, viewer());
    world.run_for(seconds(3.0));
    let from = world.now;
    world.fill_bridges(true);
    world.run_for(millis(500));
    world.fill_bridges(false);
    assert!(world.drops(DropReason::BridgeFull) > 15, "{}", world.drops(DropReason::BridgeFull));
    let took = seen_within(&mut world, far, ann, 2.0).expect("a picture");
    // A receiver that has missed so much waits a while for what it has asked for before it goes on with a key frame.
    assert!(took < millis(1_200), "{took:?}");
    world.run_for(seconds(2.0));
    let recent = world.ago(seconds(1.0));
    assert!(world.client(far).slot("V0").frames_since(recent).count() >= 29);
    let slot = world.client(near).slot("V0");
    assert!(slot.longest_gap(from, world.now) < millis(60), "those at home notice nothing");
    for id in [near, far] {
        assert_no_faults(&world, id);
    }
}

#[test]
fn engines_that_did_not_listen_for_too_long_begin_anew() {
    let mut world = World::with_engines(77, 2);
    let [ann, ben, cem] =
        [HOME, AWAY, HOME].map(|engine| world.join_at(ROOM, engine, ClientConfig::default()));
    world.run_for(seconds(2.0));
    world.stop_bridges(true);
    // Each change is told, and nobody hears it. Somebody leaves, somebody comes, and another room has just begun.
    for change in 0..20_000 {
        world.mute(ann, MediaKind::Video, change % 2 == 0);
    }
    world.leave(cem, true);
    let dan = world.join_at(ROOM, HOME, ClientConfig::default());
    let elsewhere = [HOME, AWAY].map(|engine| world.join_at(ROOM + 2, engine, ClientConfig::default()));
    world.run_for(seconds(1.0));
    assert!(world.drops(DropReason::BridgeFull) > 16_000, "{}", world.drops(DropReason::BridgeFull));
    assert_eq!(world.engine(HOME).mirrored_tracks(), 0, "nothing is known of those who do not listen");
    assert_eq!(world.engine(AWAY).mirrored_tracks(), 4, "who was not told yet goes on as before");

    world.stop_bridges(false);
    world.run_for(seconds(5.0));
    assert_eq!([HOME, AWAY].map(|engine| world.engine(engine).mirrored_tracks()), [4, 6]);
    let from = world.ago(seconds(1.0));
    let pairs = [(ann, ben), (ben, ann), (ben, dan), (dan, ben), (ann, dan), (dan, ann)];
    for (me, other) in pairs.into_iter().chain([(elsewhere[0], elsewhere[1]), (elsewhere[1], elsewhere[0])]) {
        let seen = frames_of(&world, me, other, from);
        let pictures = seen.iter().filter(|f| f.codec.kind() == MediaKind::Video).count();
        assert!(pictures >= 29 && seen.len() >= 75, "{me:?} sees {pictures} of {} of {other:?}", seen.len());
        assert_no_faults(&world, me);
    }
    assert!(frames_of(&world, ben, cem, from).is_empty());
}

#[test]
fn an_engine_that_is_lost_takes_only_its_own_people_along() {
    let mut world = World::with_engines(73, 2);
    let ann = world.join_at(ROOM, HOME, ClientConfig::default());
    let ben = world.join_at(ROOM, AWAY, ClientConfig::default());
    let cem = world.join_at(ROOM, AWAY, ClientConfig::default());
    world.run_for(seconds(3.0));
    world.lose_engine(HOME);
    world.run_for(seconds(1.0));
    assert_eq!(world.engine(AWAY).mirrored_tracks(), 0);
    let from = world.now;
    world.run_for(seconds(2.0));
    assert!(frames_of(&world, ben, ann, from).is_empty());
    for (me, other) in [(ben, cem), (cem, ben)] {
        assert!(frames_of(&world, me, other, from).len() > 150);
        assert_no_faults(&world, me);
    }
    // Now it is the other engine that tells who speaks.
    world.with_client(cem, |c, _| c.speak(Voice::SPEAKING));
    world.run_for(seconds(1.0));
    assert!(world.speakers(ROOM).iter().any(|s| s.participant == world.participant(cem)));
}
