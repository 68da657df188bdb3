//! Sub-layers inside one stream: each is reached and held, switches never break the picture, and nothing is black.

mod common;

use common::*;
use veche_sfu_core::control::{Show, SlotWish, Subscription};
use veche_sfu_core::media::{Codec, MediaKind};
use veche_testkit::client::{ClientConfig, slot_mid};
use veche_testkit::media::{Scalability, TrackConfig};
use veche_testkit::network::LinkConfig;
use veche_testkit::world::{ClientId, World};

const SVC: [(Codec, Scalability); 4] = [
    (Codec::Vp9, Scalability::L3T3),
    (Codec::Vp9, Scalability::L3T3_KEY),
    (Codec::Av1, Scalability::L3T3),
    (Codec::Av1, Scalability::L3T3_KEY),
];

fn publisher(codec: Codec, scalability: Scalability) -> ClientConfig {
    let tracks = vec![TrackConfig::scalable(codec, scalability)];
    ClientConfig { tracks, ..ClientConfig::viewer() }
}

fn viewer(codec: Codec) -> ClientConfig {
    ClientConfig { video_slots: 1, decodes: vec![codec], ..ClientConfig::viewer() }
}

fn wants(world: &mut World, viewer: ClientId, (width, height): (u16, u16)) {
    let wish = SlotWish { mid: slot_mid(MediaKind::Video, 0), show: Show::Auto, width, height };
    world.subscribe(viewer, Subscription { auto: true, wishes: vec![wish], ..Default::default() });
}

fn spatial(world: &World, viewer: ClientId) -> Option<u8> {
    world.client(viewer).slot("V0").frames.last().map(|f| f.stamp.spatial)
}

#[test]
fn the_shown_size_chooses_the_spatial_layer() {
    for (codec, scalability) in SVC {
        let mut world = World::new(21);
        let eye = world.join(1, viewer(codec));
        let camera = world.join(1, publisher(codec, scalability));
        world.run_for(seconds(2.0));
        assert_eq!(spatial(&world, eye), Some(2), "{codec:?} {scalability:?}");
        let sizes = [((320, 180), 0), ((1280, 720), 2), ((640, 360), 1), ((300, 200), 0), ((0, 0), 2)];
        for (size, layer) in sizes {
            let (from, keys) = (world.now, world.client(camera).senders[0].key_requests);
            wants(&mut world, eye, size);
            let took = world.run_until(seconds(2.0), |w| spatial(w, eye) == Some(layer));
            let took = took.unwrap_or_else(|| panic!("{codec:?} {scalability:?} never shows {layer}"));
            assert!(took < millis(300), "{codec:?} {scalability:?}: layer {layer} took {took:?}");
            world.run_for(seconds(2.0));
            let slot = world.client(eye).slot("V0");
            let held = slot.frames_since(from + took).all(|f| f.stamp.spatial == layer);
            assert!(held, "{codec:?} {scalability:?}: layer {layer} is not held");
            assert!(slot.longest_gap(from, world.now) < millis(100), "{codec:?} {scalability:?}");
            let asked = world.client(camera).senders[0].key_requests - keys;
            // Down needs none where all lower layers are sent anyway.
            let free = !scalability.key_only && layer < 2;
            assert_eq!(asked, u64::from(!free), "{codec:?} {scalability:?}: key frames for layer {layer}");
        }
        assert_no_faults(&world, eye);
    }
}

#[test]
fn a_small_picture_costs_little() {
    for (codec, scalability) in SVC {
        let mut world = World::new(22);
        let eye = world.join(1, viewer(codec));
        world.join(1, publisher(codec, scalability));
        world.run_for(seconds(3.0));
        let before = world.client(eye).slot("V0").packets;
        world.run_for(seconds(3.0));
        let all = world.client(eye).slot("V0").packets - before;
        wants(&mut world, eye, (320, 180));
        world.run_for(seconds(1.0));
        let before = world.client(eye).slot("V0").packets;
        world.run_for(seconds(3.0));
        let small = world.client(eye).slot("V0").packets - before;
        // Pictures of 4, 2 and 1 packets; those of K-SVC are sent without the lower layers.
        assert_eq!(all / small, if scalability.key_only { 4 } else { 7 }, "{codec:?} {scalability:?}");
        assert_no_faults(&world, eye);
    }
}

#[test]
fn losses_are_repaired_while_layers_are_left_out() {
    for (codec, scalability) in SVC {
        for size in [(320, 180), (640, 360)] {
            let mut world = World::new(23);
            let eye = world.join(1, viewer(codec));
            let camera = world.join(1, publisher(codec, scalability));
            wants(&mut world, eye, size);
            world.run_for(seconds(2.0));
            let loss = LinkConfig { loss: 0.05, ..LinkConfig::default() };
            *world.down(eye) = loss;
            *world.up(camera) = loss;
            let from = world.now;
            world.run_for(seconds(10.0));
            let slot = world.client(eye).slot("V0");
            let frames = slot.frames_since(from).count();
            assert!(frames > 285, "{codec:?} {scalability:?} {size:?}: {frames} frames in 10 s");
            assert!(slot.longest_gap(from, world.now) < millis(400), "{codec:?} {scalability:?} {size:?}");
            assert!(slot.repaired > 0);
            assert_no_faults(&world, eye);
        }
    }
}

#[test]
fn the_picture_goes_on_when_the_top_layer_stops() {
    for (codec, scalability) in SVC {
        for told in [false, true] {
            let mut world = World::new(24);
            let eye = world.join(1, viewer(codec));
            let camera = world.join(1, publisher(codec, scalability));
            world.run_for(seconds(3.0));
            for layers in [2, 1] {
                let from = world.now;
                world.with_client(camera, |c, _| c.senders[0].encoder.set_spatial(layers, told));
                world.run_for(seconds(2.0));
                let what = format!("{codec:?} {scalability:?} {layers} layers, told: {told}");
                assert_eq!(spatial(&world, eye), Some(layers - 1), "{what}");
                let gap = world.client(eye).slot("V0").longest_gap(from, world.now);
                let allowed = if scalability.key_only { 400 } else { 60 };
                assert!(gap < millis(allowed), "{what}: the picture stood still for {gap:?}");
            }
            world.with_client(camera, |c, _| c.senders[0].encoder.set_spatial(3, told));
            let back = world.run_until(seconds(1.0), |w| spatial(w, eye) == Some(2));
            assert!(back.is_some_and(|back| back < millis(500)), "{back:?}");
            assert_no_faults(&world, eye);
        }
    }
}

#[test]
fn sources_are_switched_while_layers_are_left_out() {
    for (codec, scalability) in SVC {
        let mut world = World::new(25);
        let eye = world.join(1, viewer(codec));
        let cameras = [0; 2].map(|_| world.join(1, publisher(codec, scalability)));
        wants(&mut world, eye, (640, 360));
        world.run_for(seconds(2.0));
        let loss = LinkConfig { loss: 0.03, ..LinkConfig::default() };
        *world.down(eye) = loss;
        for round in 0..8 {
            let camera = cameras[round % 2];
            let track = world.track(camera, MediaKind::Video);
            let mid = slot_mid(MediaKind::Video, 0);
            let wish = SlotWish { mid, show: Show::Track(track), width: 640, height: 360 };
            world.subscribe(eye, Subscription { auto: true, wishes: vec![wish], ..Default::default() });
            world.run_for(seconds(1.5));
            let last = world.client(eye).slot("V0").frames.last().expect("a picture");
            assert_eq!((last.stamp.source, last.stamp.spatial), (world.source(camera), 1), "{codec:?}");
        }
        assert_no_faults(&world, eye);
    }
}
