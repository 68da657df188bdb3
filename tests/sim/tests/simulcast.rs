//! Layers: which one a slot shows, and what happens when it stops.

mod common;

use common::*;
use veche_sfu_core::control::{Show, SlotWish, Subscription};
use veche_sfu_core::media::{Codec, MediaKind};
use veche_testkit::client::{ClientConfig, slot_mid};
use veche_testkit::media::TrackConfig;
use veche_testkit::world::{ClientId, World};

fn publisher() -> ClientConfig {
    ClientConfig {
        tracks: vec![TrackConfig::microphone(), TrackConfig::simulcast(Codec::Vp8)],
        ..Default::default()
    }
}

fn wants(world: &mut World, viewer: ClientId, width: u16, height: u16) {
    let wish = SlotWish { mid: slot_mid(MediaKind::Video, 0), show: Show::Auto, width, height };
    world.subscribe(viewer, Subscription { auto: true, wishes: vec![wish], ..Default::default() });
}

fn layer(world: &World, viewer: ClientId) -> Option<u8> {
    world.client(viewer).slot("V0").frames.last().map(|f| f.stamp.layer)
}

#[test]
fn the_shown_size_chooses_the_layer() {
    let mut world = World::new(2);
    let viewer = world.join(1, ClientConfig { video_slots: 1, ..ClientConfig::viewer() });
    world.join(1, publisher());
    world.run_for(seconds(2.0));
    for (size, wanted) in [((320, 180), 0), ((1280, 720), 2), ((640, 360), 1), ((0, 0), 2)] {
        wants(&mut world, viewer, size.0, size.1);
        let took = world.run_until(seconds(2.0), |w| layer(w, viewer) == Some(wanted));
        let took = took.unwrap_or_else(|| panic!("{size:?} never shows layer {wanted}"));
        assert!(took < millis(200), "layer {wanted} took {took:?}");
        world.run_for(seconds(1.0));
        assert_eq!(layer(&world, viewer), Some(wanted), "{size:?}");
    }
    let slot = world.client(viewer).slot("V0");
    let from = slot.frames[0].at;
    assert!(slot.longest_gap(from, world.now) < millis(150), "{:?}", slot.longest_gap(from, world.now));
    assert_no_faults(&world, viewer);
}

#[test]
fn the_nearest_layer_that_flows_stands_in_for_one_that_stops() {
    let mut world = World::new(3);
    let viewer = world.join(1, ClientConfig { video_slots: 1, ..ClientConfig::viewer() });
    let speaker = world.join(1, publisher());
    world.run_for(seconds(3.0));
    assert_eq!(layer(&world, viewer), Some(2));
    let stopped = world.now;
    world.with_client(speaker, |c, now| c.set_active(now, MediaKind::Video, Some("f"), false));
    world.run_for(seconds(3.0));
    assert_eq!(layer(&world, viewer), Some(1));
    let gap = world.client(viewer).slot("V0").longest_gap(stopped, world.now);
    assert!(gap < millis(1_000), "the picture stood still for {gap:?}");
    world.with_client(speaker, |c, now| c.set_active(now, MediaKind::Video, Some("h"), false));
    world.run_for(seconds(3.0));
    assert_eq!(layer(&world, viewer), Some(0));
    world.with_client(speaker, |c, now| c.set_active(now, MediaKind::Video, Some("f"), true));
    let back = world.run_until(seconds(2.0), |w| layer(w, viewer) == Some(2)).expect("the layer is back");
    assert!(back < millis(500), "{back:?}");
    assert_no_faults(&world, viewer);
}

#[test]
fn a_layer_that_never_came_is_not_waited_for() {
    let mut world = World::new(4);
    let viewer = world.join(1, ClientConfig { video_slots: 1, ..ClientConfig::viewer() });
    let speaker = world.join(1, publisher());
    for rid in ["h", "f"] {
        world.with_client(speaker, |c, now| c.set_active(now, MediaKind::Video, Some(rid), false));
    }
    let took = world.run_until(seconds(3.0), |w| layer(w, viewer) == Some(0)).expect("a picture");
    assert!(took < millis(1_000), "{took:?}");
    assert_no_faults(&world, viewer);
}
