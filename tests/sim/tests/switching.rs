//! One slot, several sources: the stream goes on as if it had always been one.

mod common;

use common::*;
use veche_sfu_core::control::{Show, SlotWish, Subscription};
use veche_sfu_core::media::{Codec, MediaKind};
use veche_testkit::client::{ClientConfig, slot_mid};
use veche_testkit::media::TrackConfig;
use veche_testkit::world::{ClientId, World};

fn show(world: &mut World, viewer: ClientId, whom: ClientId) {
    let track = world.track(whom, MediaKind::Video);
    let wish =
        SlotWish { mid: slot_mid(MediaKind::Video, 0), show: Show::Track(track), width: 640, height: 360 };
    world.subscribe(viewer, Subscription { auto: false, wishes: vec![wish], ..Default::default() });
}

fn publisher(codec: Codec) -> ClientConfig {
    ClientConfig { tracks: vec![TrackConfig::camera(codec)], ..Default::default() }
}

#[test]
fn sixty_switches_leave_one_continuous_stream() {
    let mut world = World::new(5);
    let viewer = world.join(1, ClientConfig { video_slots: 1, ..ClientConfig::viewer() });
    let others = [0; 3].map(|_| world.join(1, publisher(Codec::Vp8)));
    world.run_for(seconds(1.0));
    show(&mut world, viewer, others[0]);
    world.run_for(seconds(1.0));
    let from = world.now;
    for round in 1..=60 {
        let next = others[round % 3];
        show(&mut world, viewer, next);
        let source = world.source(next);
        let took = world.run_until(seconds(1.0), |w| w.client(viewer).slot("V0").shows() == Some(source));
        let took = took.expect("the switch happens");
        assert!(took < millis(150), "switch {round} took {took:?}");
        world.run_for(millis(137));
    }
    let slot = world.client(viewer).slot("V0");
    assert!(slot.longest_gap(from, world.now) < millis(120), "{:?}", slot.longest_gap(from, world.now));
    assert!(slot.clock_spread() < millis(80), "{:?}", slot.clock_spread());
    assert_no_faults(&world, viewer);
}

#[test]
fn the_old_picture_stays_until_the_key_frame_comes() {
    let mut world = World::new(6);
    let viewer = world.join(1, ClientConfig { video_slots: 1, ..ClientConfig::viewer() });
    let old = world.join(1, publisher(Codec::Vp8));
    let new = world.join(1, publisher(Codec::Vp8));
    world.run_for(seconds(1.0));
    show(&mut world, viewer, old);
    world.run_for(seconds(1.0));
    // The new one hears nothing, and so never learns that a key frame is wanted.
    world.down(new).blackout = true;
    let from = world.now;
    show(&mut world, viewer, new);
    world.run_for(seconds(2.0));
    let slot = world.client(viewer).slot("V0");
    assert_eq!(slot.shows(), Some(world.source(old)));
    assert!(slot.longest_gap(from, world.now) < millis(60));
    world.down(new).blackout = false;
    let source = world.source(new);
    let took = world.run_until(seconds(1.0), |w| w.client(viewer).slot("V0").shows() == Some(source));
    assert!(took.expect("the switch happens") < millis(550), "{took:?}");
    assert_no_faults(&world, viewer);
}

#[test]
fn the_mapping_names_the_first_timestamp_of_the_new_picture() {
    let mut world = World::new(7);
    let viewer = world.join(1, ClientConfig { video_slots: 1, ..ClientConfig::viewer() });
    let others = [0; 2].map(|_| world.join(1, publisher(Codec::Vp8)));
    world.run_for(seconds(1.0));
    for other in [others[0], others[1], others[0]] {
        let nothing = Subscription::default();
        world.subscribe(viewer, nothing);
        world.run_for(millis(100));
        let from = world.now;
        show(&mut world, viewer, other);
        world.run_for(seconds(1.0));
        let shows =
            world.told(viewer).slots[&slot_mid(MediaKind::Video, 0)].shows.expect("something is shown");
        assert_eq!(shows.participant, world.participant(other));
        let source = world.source(other);
        let first =
            world.client(viewer).slot("V0").frames_since(from).find(|f| f.stamp.source == source).unwrap();
        assert_eq!(shows.rtp_timestamp, first.timestamp as u32);
    }
}

#[test]
fn every_codec_is_switched_and_codecs_may_change() {
    let codecs = [Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1];
    let mut world = World::new(8);
    let decodes = codecs.to_vec();
    let viewer = world.join(1, ClientConfig { video_slots: 1, decodes, ..ClientConfig::viewer() });
    let others: Vec<ClientId> =
        codecs.iter().chain(&codecs).map(|codec| world.join(1, publisher(*codec))).collect();
    world.run_for(seconds(1.0));
    for (index, other) in others.iter().enumerate() {
        show(&mut world, viewer, *other);
        world.run_for(seconds(1.0));
        let last = world.client(viewer).slot("V0").frames.last().expect("a picture");
        assert_eq!(last.stamp.source, world.source(*other));
        assert_eq!(last.codec, codecs[index % 4]);
        // Key frames alone would not do: what follows them must be whole, too.
        assert!(!last.stamp.key);
    }
    assert_no_faults(&world, viewer);
}

#[test]
fn a_publisher_with_another_ssrc_is_seen_again_within_a_second() {
    // Numbers a little ahead, far ahead, and behind.
    for ahead in [1, 20_000, 40_000, u16::MAX - 500] {
        let mut world = World::new(9);
        let viewer = world.join(1, ClientConfig { video_slots: 1, ..ClientConfig::viewer() });
        let ann = world.join(1, publisher(Codec::Vp8));
        world.run_for(seconds(3.0));
        assert_eq!(world.client(viewer).slot("V0").shows(), Some(world.source(ann)));
        let from = world.now;
        world.with_client(ann, |c, _| c.senders.iter_mut().for_each(|s| s.restart(ahead)));
        let made_after = from - world.start;
        let again =
            |w: &World| frames_of(w, viewer, ann, from).iter().any(|f| f.stamp.captured >= made_after);
        let took = world.run_until(seconds(1.0), again);
        assert!(took.is_some(), "{ahead} ahead: not seen within a second");
        world.run_for(seconds(1.0));
        let from = world.now;
        world.run_for(seconds(3.0));
        let slot = world.client(viewer).slot("V0");
        assert!(slot.longest_gap(from, world.now) < millis(60), "{ahead} ahead");
        assert_no_faults(&world, viewer);
    }
}
