//! Who is shown where: the rules of slots, and what clients are told.

mod common;

use std::collections::BTreeSet;

use common::*;
use veche_sfu_core::control::{ConnectionState, Show, SlotReason, SlotWish, Subscription};
use veche_sfu_core::media::{Codec, MediaKind};
use veche_testkit::client::{ClientConfig, SlotReceiver, slot_mid};
use veche_testkit::media::{LayerConfig, TrackConfig, Voice};
use veche_testkit::network::LinkConfig;
use veche_testkit::world::{ClientId, World};

fn person() -> ClientConfig {
    let camera = TrackConfig { layers: vec![LayerConfig::SMALL], ..TrackConfig::camera(Codec::Vp8) };
    ClientConfig {
        tracks: vec![TrackConfig::microphone(), camera],
        audio_slots: 0,
        video_slots: 0,
        ..Default::default()
    }
}

fn viewer(video_slots: usize) -> ClientConfig {
    ClientConfig { video_slots, audio_slots: 0, ..ClientConfig::viewer() }
}

fn shown(world: &World, viewer: ClientId) -> BTreeSet<u32> {
    world
        .client(viewer)
        .slots
        .iter()
        .filter(|s| s.kind == MediaKind::Video)
        .filter_map(SlotReceiver::shows)
        .collect()
}

fn sources(world: &World, ids: &[ClientId]) -> BTreeSet<u32> {
    ids.iter().map(|id| world.source(*id)).collect()
}

fn reason(world: &World, viewer: ClientId, slot: usize) -> Option<SlotReason> {
    world.told(viewer).slots.get(&slot_mid(MediaKind::Video, slot)).and_then(|change| change.reason)
}

fn wish(slot: usize, show: Show) -> SlotWish {
    SlotWish { mid: slot_mid(MediaKind::Video, slot), show, width: 320, height: 180 }
}

#[test]
fn auto_slots_show_the_pinned_then_who_speaks_then_who_came_last() {
    let mut world = World::new(30);
    let eye = world.join(1, viewer(3));
    let people: Vec<ClientId> = (0..6)
        .map(|_| {
            world.run_for(millis(50));
            world.join(1, person())
        })
        .collect();
    world.run_for(seconds(2.0));
    assert_eq!(shown(&world, eye), sources(&world, &people[3..]));
    world.with_client(people[0], |c, _| c.speak(Voice::SPEAKING));
    world.run_for(seconds(1.0));
    assert_eq!(shown(&world, eye), sources(&world, &[people[0], people[4], people[5]]));
    let pinned = vec![world.participant(people[1])];
    world.subscribe(eye, Subscription { auto: true, pinned, ..Default::default() });
    world.run_for(seconds(1.0));
    assert_eq!(shown(&world, eye), sources(&world, &[people[1], people[0], people[5]]));
    assert_no_faults(&world, eye);
}

#[test]
fn manual_slots_show_what_was_named_and_say_why_not() {
    let mut world = World::new(31);
    let eye = world.join(1, viewer(3));
    let [ann, ben] = [0; 2].map(|_| world.join(1, person()));
    world.run_for(seconds(1.0));
    let (a, b) = (world.track(ann, MediaKind::Video), world.track(ben, MediaKind::Video));
    let wishes = vec![wish(0, Show::Track(b)), wish(1, Show::Nothing), wish(2, Show::Track(a))];
    world.subscribe(eye, Subscription { wishes, ..Default::default() });
    world.run_for(seconds(1.0));
    let from = world.now;
    world.run_for(seconds(1.0));
    let client = world.client(eye);
    assert_eq!(client.slot("V0").shows(), Some(world.source(ben)));
    assert_eq!(client.slot("V1").frames_since(from).count(), 0);
    assert_eq!(client.slot("V2").shows(), Some(world.source(ann)));

    world.mute(ben, MediaKind::Video, true);
    world.run_for(millis(200));
    assert_eq!(reason(&world, eye, 0), Some(SlotReason::Muted));
    world.mute(ben, MediaKind::Video, false);
    world.run_for(seconds(1.0));
    assert_eq!(reason(&world, eye, 0), None);
    let shows = world.told(eye).slots[&slot_mid(MediaKind::Video, 0)].shows.expect("unmuted");
    assert_eq!(shows.track, b);
    assert!(world.client(eye).slot("V0").frames_since(world.ago(millis(200))).count() > 1);

    world.leave(ann, true);
    world.run_for(millis(200));
    assert_eq!(reason(&world, eye, 2), Some(SlotReason::Gone));
    assert_no_faults(&world, eye);
}

#[test]
fn who_cannot_decode_is_told_so() {
    let mut world = World::new(32);
    let eye = world.join(1, viewer(1));
    let camera = TrackConfig::camera(Codec::H264);
    world.join(1, ClientConfig { tracks: vec![camera], ..person() });
    world.run_for(seconds(2.0));
    assert_eq!(reason(&world, eye, 0), Some(SlotReason::NoCommonCodec));
    assert_eq!(world.client(eye).slot("V0").packets, 0);
    let other = world.join(1, person());
    world.run_for(seconds(1.0));
    assert_eq!(world.client(eye).slot("V0").shows(), Some(world.source(other)));
    assert_no_faults(&world, eye);
}

#[test]
fn pairs_carry_one_person_in_lip_sync() {
    let mut world = World::new(33);
    let eye =
        world.join(1, ClientConfig { audio_slots: 5, video_slots: 3, pairs: 3, ..ClientConfig::viewer() });
    let people: Vec<ClientId> = (0..5).map(|_| world.join(1, person())).collect();
    for (round, &speaker) in people.iter().take(3).enumerate() {
        world.with_client(speaker, |c, _| c.speak(Voice::SPEAKING));
        world.run_for(seconds(4.0));
        for pair in 0..3 {
            let client = world.client(eye);
            let (sound, picture) = (client.slot(&format!("A{pair}")), client.slot(&format!("V{pair}")));
            assert_eq!(sound.shows(), picture.shows(), "pair {pair}, round {round}");
            let (heard, said) = sound.sampled().expect("sender reports for sound");
            let (seen, done) = picture.sampled().expect("sender reports for pictures");
            let skew = (heard - said.as_secs_f64()) - (seen - done.as_secs_f64());
            assert!(skew.abs() < 0.020, "pair {pair}, round {round}: {} ms", skew * 1000.0);
        }
    }
    let heard: BTreeSet<u32> = world
        .client(eye)
        .slots
        .iter()
        .filter(|s| s.kind == MediaKind::Audio)
        .filter_map(SlotReceiver::shows)
        .collect();
    assert_eq!(
        heard,
        sources(&world, &people),
        "the voices of those who are not shown are in the other slots"
    );
    assert_no_faults(&world, eye);
}

#[test]
fn a_screen_comes_first_and_brings_its_own_sound() {
    let mut world = World::new(34);
    let eye = world.join(1, viewer(2));
    let people: Vec<ClientId> = (0..3).map(|_| world.join(1, person())).collect();
    world.run_for(seconds(1.0));
    let screen =
        TrackConfig { source: veche_sfu_core::media::Source::Screen, ..TrackConfig::camera(Codec::Vp8) };
    let sharer = world.join(1, ClientConfig { tracks: vec![screen], ..person() });
    for speaker in people {
        world.with_client(speaker, |c, _| c.speak(Voice::SPEAKING));
        world.run_for(seconds(1.0));
        assert!(shown(&world, eye).contains(&world.source(sharer)));
    }
    assert_no_faults(&world, eye);
}

#[test]
fn the_way_back_from_what_cannot_be_decoded_is_told() {
    let mut world = World::new(35);
    let eye = world.join(1, viewer(1));
    let ann = world.join(1, person());
    let ben = world.join(1, ClientConfig { tracks: vec![TrackConfig::camera(Codec::H264)], ..person() });
    world.run_for(seconds(1.0));
    let (a, b) = (world.track(ann, MediaKind::Video), world.track(ben, MediaKind::Video));
    let show = |world: &mut World, track| {
        let wishes = vec![wish(0, Show::Track(track))];
        world.subscribe(eye, Subscription { wishes, ..Default::default() });
        world.run_for(seconds(1.0));
    };
    let told = |world: &World| world.told(eye).slots[&slot_mid(MediaKind::Video, 0)].clone();
    show(&mut world, a);
    assert_eq!(told(&world).shows.map(|s| s.track), Some(a));
    for _ in 0..3 {
        show(&mut world, b);
        assert_eq!(told(&world).reason, Some(SlotReason::NoCommonCodec));
        let from = world.now;
        world.run_for(seconds(2.0));
        assert_eq!(frames_of(&world, eye, ann, from).len(), 0, "the picture of before has ended");
        let from = world.now;
        show(&mut world, a);
        let change = told(&world);
        assert_eq!(change.reason, None);
        let shows = change.shows.expect("told what is shown");
        let first = frames_of(&world, eye, ann, from)[0];
        assert_eq!((shows.track, shows.rtp_timestamp), (a, first.timestamp as u32));
    }
    assert_no_faults(&world, eye);
}

#[test]
fn who_has_no_network_any_more_holds_no_slots() {
    let mut world = World::new(36);
    let eye = world.join(1, ClientConfig { audio_slots: 1, ..viewer(1) });
    let [ben, ann] = [0; 2].map(|_| {
        world.run_for(millis(50));
        world.join(1, person())
    });
    let fan = world.join(1, viewer(1));
    world.with_client(ann, |c, _| c.speak(Voice::SPEAKING));
    world.run_for(seconds(2.0));
    let wishes = vec![wish(0, Show::Track(world.track(ann, MediaKind::Video)))];
    world.subscribe(fan, Subscription { wishes, ..Default::default() });
    world.run_for(seconds(1.0));
    assert!(world.client(eye).slots.iter().all(|s| s.shows() == Some(world.source(ann))));
    assert_eq!(shown(&world, fan), sources(&world, &[ann]));
    world.set_links(ann, blackout());
    world.run_for(seconds(40.0));
    assert_eq!(world.told(ann).connection, Some(ConnectionState::Expired));
    // Ben is shown, and heard from his first word.
    assert_eq!(shown(&world, eye), sources(&world, &[ben]));
    let change = &world.told(eye).slots[&slot_mid(MediaKind::Video, 0)];
    assert_eq!(change.shows.map(|s| s.participant), Some(world.participant(ben)));
    let change = &world.told(fan).slots[&slot_mid(MediaKind::Video, 0)];
    assert_eq!((change.shows, change.reason), (None, Some(SlotReason::Gone)), "who named Ann is told");
    world.leave(ben, true);
    world.run_for(seconds(1.0));
    for kind in [MediaKind::Video, MediaKind::Audio] {
        let change = &world.told(eye).slots[&slot_mid(kind, 0)];
        assert_eq!(change.shows, None, "nobody who could be shown is left: {change:?}");
    }
    world.set_links(ann, LinkConfig::default());
    world.restart_ice(ann);
    let from = world.now;
    world.run_for(seconds(3.0));
    assert_eq!(world.told(ann).connection, Some(ConnectionState::Connected));
    for slot in &world.client(eye).slots {
        assert!(slot.frames_since(from).any(|f| f.stamp.source == world.source(ann)), "{}", slot.mid);
    }
    assert!(!frames_of(&world, fan, ann, from).is_empty());
    let change = &world.told(fan).slots[&slot_mid(MediaKind::Video, 0)];
    assert_eq!((change.shows.map(|s| s.participant), change.reason), (Some(world.participant(ann)), None));
    for id in [eye, fan] {
        assert_no_faults(&world, id);
    }
}

#[test]
fn after_an_answer_a_client_is_told_again_what_its_slots_show() {
    let mut world = World::new(39);
    let eye = world.join(1, viewer(1));
    let person = world.join(1, person());
    world.run_for(millis(1_000));
    assert_eq!(shown(&world, eye), sources(&world, &[person]));

    world.lose_slots(eye);
    world.offer(eye);
    world.run_for(millis(300));
    let told = world.told(eye).slots.get(&slot_mid(MediaKind::Video, 0)).and_then(|change| change.shows);
    assert_eq!(told.map(|s| s.track), Some(world.track(person, MediaKind::Video)));
}
