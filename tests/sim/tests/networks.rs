//! Calls over networks of all kinds, and what people notice of them.

mod common;

use common::seen::*;
use common::*;
use veche_sfu_core::control::{SlotReason, Subscription};
use veche_sfu_core::ids::Mid;
use veche_sfu_core::media::{Codec, Source};
use veche_testkit::client::{ClientConfig, FeedbackUse};
use veche_testkit::media::{Scalability, TrackConfig};
use veche_testkit::network::{Capacity, LinkConfig, Mobile};
use veche_testkit::world::{ClientId, World};

/// A link that differs with the seed.
fn some_link(seed: u64) -> LinkConfig {
    LinkConfig { jitter: millis(4), ..LinkConfig::slow(millis(5 * seed)) }
}

/// What is possible at best, in docs/networks.md ("A line that falls"): the picture stands still for about 0.25 s, and about 0.1 s
/// of single packets of the voice meet a full queue.
#[test]
fn a_tenth_of_the_network_costs_a_moment_and_comes_back() {
    for seed in 1..9 {
        let mut world = World::new(seed);
        let camera = publish(&mut world, camera(Codec::Vp8));
        let (eye, line) = viewer_behind(&mut world, 1, Codec::Vp8, 5_000 * KBIT);
        *world.down(eye) = some_link(seed);
        let full = |w: &World| layer_of(w, eye, camera) == Some((2, 0));
        let began = world.run_until(seconds(5.0), full);
        assert!(began.is_some_and(|took| took < seconds(1.0)), "seed {seed}: full picture after {began:?}");
        world.run_for(seconds(20.0));

        world.set_capacity(line, Capacity::constant(500 * KBIT));
        let dropped = world.now;
        world.run_for(seconds(3.0));
        let (longest, all) = frozen(&world, eye, camera, dropped);
        assert!(longest < millis(600) && all < millis(700), "seed {seed}: stood still {longest:?}, {all:?}");
        // The queue of 300 ms is full for a moment: what comes through it comes late, and single packets do not.
        let (lost, waited) = sound_gap(&world, eye, camera, dropped);
        assert!(lost <= millis(40) && waited < millis(400), "seed {seed}: {lost:?} lost, {waited:?} without");
        assert!(layer_of(&world, eye, camera).is_some_and(|(layer, _)| layer < 2), "seed {seed}");

        let settled = world.now;
        world.run_for(seconds(17.0 + 1.3 * seed as f64));
        let (longest, _) = frozen(&world, eye, camera, settled);
        let (lost, waited) = sound_gap(&world, eye, camera, settled);
        let (_, late) = delay(&world, eye, camera, settled);
        assert!(longest < millis(250) && late < millis(250), "seed {seed}: still {longest:?}, late {late:?}");
        assert!(lost.is_zero() && waited < millis(120), "seed {seed}: {lost:?} lost, {waited:?} without");

        world.set_capacity(line, Capacity::constant(5_000 * KBIT));
        let back = world.run_until(seconds(20.0), full);
        assert!(
            back.is_some_and(|took| took < seconds(8.0)),
            "seed {seed}: full picture back after {back:?}"
        );
        assert_no_faults(&world, eye);
    }
}

#[test]
fn a_steady_line_shows_a_steady_picture() {
    for kbits in [250, 300, 400, 600, 900, 1_300, 1_700, 1_900, 2_200] {
        for seed in 1..9 {
            let mut world = World::new(seed);
            publish(&mut world, camera(Codec::Vp8));
            let (eye, _) = viewer_behind(&mut world, 1, Codec::Vp8, kbits * KBIT);
            *world.down(eye) = some_link(seed);
            world.run_for(seconds(70.0));
            let mut changed = changes(&mut world, eye);
            changed.retain(|at| *at > 11_000);
            let apart = changed.windows(2).map(|w| w[1] - w[0]).min().unwrap_or(u64::MAX);
            assert!(apart > 10_000, "{kbits} kbit/s, seed {seed}: layers change at {changed:?} ms");
            assert_no_faults(&world, eye);
        }
    }
}

#[test]
fn two_share_a_bottleneck() {
    let svc = TrackConfig::scalable(Codec::Vp9, Scalability::L3T3);
    for (track, kbits) in [(svc, 3_000), (camera(Codec::Vp9), 3_000), (camera(Codec::Vp9), 2_000)] {
        for seed in 1..4 {
            let mut world = World::new(seed);
            (0..3).for_each(|_| _ = publish(&mut world, track.clone()));
            let (one, line) = viewer_behind(&mut world, 3, Codec::Vp9, kbits * KBIT);
            let other = viewer(&mut world, 3, Codec::Vp9);
            world.put_down_behind(other, Some(line));
            for id in [one, other] {
                *world.down(id) = some_link(seed);
            }
            world.run_for(seconds(15.0));
            let sent = |world: &mut World| [one, other].map(|id| world.stats(id).bytes_sent);
            let before = sent(&mut world);
            world.run_for(seconds(60.0));
            let after = sent(&mut world);
            let [one, other] = [0, 1].map(|i| (after[i] - before[i]) as f64);
            let apart = (one - other).abs() / (one + other);
            assert!(apart < 0.2, "{kbits} kbit/s, seed {seed}: {one} and {other} bytes");
        }
    }
}

/// People on the move. The picture follows what the network carries.
#[test]
fn a_mobile_network_is_followed() {
    for track in [TrackConfig::scalable(Codec::Vp9, Scalability::L3T3_KEY), camera(Codec::Vp9)] {
        for seed in 1..9 {
            let mut world = World::new(seed);
            let camera = publish(&mut world, track.clone());
            let (eye, line) = viewer_behind(&mut world, 1, Codec::Vp9, 3_000 * KBIT);
            world.run_for(seconds(3.0));
            let mobile = Mobile {
                mean: 2_000 * KBIT,
                swing: 0.4,
                swing_time: seconds(4.0),
                fade_every: seconds(30.0),
            };
            world.set_capacity(line, Capacity::mobile(mobile, seed, seconds(120.0)));
            let from = world.now;
            world.run_for(seconds(120.0));
            let (longest, all) = frozen(&world, eye, camera, from);
            let (lost, waited) = sound_gap(&world, eye, camera, from);
            // Up to six fades of up to a second each, down to 160 kbit/s or less. With seed 2 one follows another.
            assert!(
                longest < seconds(3.0) && all < seconds(10.0),
                "seed {seed}: still {longest:?}, in all {all:?}"
            );
            assert!(
                lost <= millis(1_000) && waited < millis(1_000),
                "seed {seed}: {lost:?} lost, {waited:?} without"
            );
            assert_no_faults(&world, eye);
        }
    }
}

/// Three pictures, and not enough for all.
#[test]
fn what_people_look_at_comes_first() {
    let mut world = World::new(41);
    let people = [(); 3].map(|()| publish(&mut world, camera(Codec::Vp8)));
    let (eye, _) = viewer_behind(&mut world, 3, Codec::Vp8, 1_300 * KBIT);
    for favourite in [1, 2, 0] {
        let pinned = vec![world.participant(people[favourite])];
        world.subscribe(eye, Subscription { auto: true, pinned, ..Default::default() });
        world.run_for(seconds(20.0));
        let share = people.map(|p| world_area(&world, eye, p));
        let best = share[favourite];
        assert!((0..3).all(|p| p == favourite || share[p] < best), "{favourite} is pinned: {share:?}");
    }
    assert_no_faults(&world, eye);
}

/// How much of a person is seen: the height of the picture by its frames in the last five seconds.
fn world_area(world: &World, eye: ClientId, whom: ClientId) -> u32 {
    let frames = frames_of(world, eye, whom, world.ago(seconds(5.0)));
    let video = frames.iter().filter(|f| f.codec == Codec::Vp8);
    video.map(|f| 180 << f.stamp.layer).sum()
}

#[test]
fn a_shared_screen_comes_before_cameras() {
    let mut world = World::new(42);
    let people = [(); 2].map(|()| publish(&mut world, camera(Codec::Vp8)));
    let screen = publish(&mut world, TrackConfig { source: Source::Screen, ..camera(Codec::Vp8) });
    let (eye, line) = viewer_behind(&mut world, 3, Codec::Vp8, 8_000 * KBIT);
    world.run_for(seconds(10.0));
    for kbits in [1_500, 1_000] {
        world.set_capacity(line, Capacity::constant(kbits * KBIT));
        world.run_for(seconds(20.0));
        let [one, other] = people.map(|p| world_area(&world, eye, p));
        let shared = world_area(&world, eye, screen);
        assert!(shared > one && shared > other, "{kbits} kbit/s: {shared} beside {one} and {other}");
    }
    assert_no_faults(&world, eye);
}

/// Clients without transport-wide feedback: what they report of loss, and their own estimate, must do.
#[test]
fn clients_with_less_feedback_see_as_well() {
    for (feedback, seed) in [FeedbackUse::Reports, FeedbackUse::Estimate]
        .into_iter()
        .flat_map(|f| (1..5).map(move |seed| (f, seed)))
    {
        let mut world = World::new(seed);
        let camera = publish(&mut world, camera(Codec::Vp8));
        let eye = world.join(1, ClientConfig { video_slots: 1, feedback, ..ClientConfig::viewer() });
        let line = world.add_bottleneck(Capacity::constant(700 * KBIT), RFC_QUEUE);
        world.put_down_behind(eye, Some(line));
        *world.down(eye) = some_link(seed);
        world.run_for(seconds(20.0));
        let slot = Mid::new("V0").expect("letters");
        let from = world.now;
        world.run_for(seconds(40.0));
        let (longest, all) = frozen(&world, eye, camera, from);
        let (lost, _) = sound_gap(&world, eye, camera, from);
        // Without its own estimate nothing but loss tells that the queue is full: the picture goes up and down with it, and
        // where packets come in step with the voice, half a second of it is lost before the first report says so.
        let (most, unheard) =
            if feedback == FeedbackUse::Reports { (20.0, millis(500)) } else { (4.0, millis(200)) };
        assert!(
            longest < seconds(3.5) && all < seconds(most),
            "{feedback:?}, seed {seed}: stood still {longest:?}, {all:?} in all"
        );
        assert!(lost < unheard, "{feedback:?}, seed {seed}: {lost:?} of the voice lost");
        let reason = world.told(eye).slots.get(&slot).and_then(|s| s.reason);
        assert_ne!(reason, Some(SlotReason::Bandwidth), "{feedback:?}, seed {seed}");
        assert_no_faults(&world, eye);
    }
}
