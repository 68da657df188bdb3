//! Calls over networks of all kinds, and what people notice of them.

mod common;

use common::seen::*;
use common::*;
use veche_sfu_core::media::Codec;
use veche_testkit::media::{Scalability, TrackConfig};
use veche_testkit::network::{Capacity, LinkConfig, Mobile};
use veche_testkit::world::World;

#[test]
fn a_tenth_of_the_network_costs_a_moment_and_comes_back() {
    for seed in 1..9 {
        let mut world = World::new(seed);
        let camera = publish(&mut world, camera(Codec::Vp8));
        let (eye, line) = viewer_behind(&mut world, 1, Codec::Vp8, 5_000 * KBIT);
        *world.down(eye) = LinkConfig { jitter: millis(4), ..LinkConfig::slow(millis(5 * seed)) };
        let t = world.run_until(seconds(10.0), |w| layer_of(w, eye, camera) == Some((2, 0)));
        world.run_for(seconds(20.0) - t.unwrap_or_default());
        world.set_capacity(line, Capacity::constant(500 * KBIT));
        let dropped = world.now;
        world.run_for(seconds(3.0));
        let settled = world.now;
        let (p, s) = (frozen(&world, eye, camera, dropped), sound_gap(&world, eye, camera, dropped));
        world.run_for(seconds(17.0 + 1.3 * seed as f64));
        let d = delay(&world, eye, camera, settled);
        let (p2, s2) = (frozen(&world, eye, camera, settled), sound_gap(&world, eye, camera, settled));
        world.set_capacity(line, Capacity::constant(5_000 * KBIT));
        if seed == 1 && false {
            for _ in 0..10 {
                let s = world.stats(eye);
                eprintln!(
                    "{:?} est {:?} wanted {} alloc {} probe {} sent {} {:?}",
                    world.now - world.start,
                    s.estimate,
                    s.wanted,
                    s.allocated,
                    s.probe_bytes,
                    s.bytes_sent,
                    world.client(camera).senders.iter().map(|s| s.wanted).collect::<Vec<_>>()
                );
                world.run_for(seconds(1.0));
            }
        }
        let back = world.run_until(seconds(30.0), |w| layer_of(w, eye, camera) == Some((2, 0)));
        eprintln!(
            "S1 seed {seed}: start {t:?} picture {p:?} sound {s:?} settled: delay {d:?} picture {p2:?} sound {s2:?} back {back:?}"
        );
        if seed == 1 {
            eprintln!(
                "{:#?}",
                world
                    .timeline(eye)
                    .iter()
                    .map(|e| format!(
                        "{} {:?}",
                        (e.at_ms - (0xec00_0000u64 - 2_208_988_800) * 1000),
                        e.decision
                    ))
                    .collect::<Vec<_>>()
            );
        }
        eprintln!("{:?}", world.client(eye).faults());
    }
}

#[test]
fn a_steady_line_shows_a_steady_picture() {
    for kbits in [120, 250, 400, 600, 900, 1_300, 1_700, 1_900, 2_200] {
        for seed in 1..4 {
            let mut world = World::new(seed);
            publish(&mut world, camera(Codec::Vp8));
            let (eye, _) = viewer_behind(&mut world, 1, Codec::Vp8, kbits * KBIT);
            *world.down(eye) = LinkConfig { jitter: millis(4), ..LinkConfig::slow(millis(10 * seed)) };
            world.run_for(seconds(70.0));
            let mut c = changes(&mut world, eye);
            c.retain(|at| *at > 10_000);
            eprintln!("S2 {kbits} seed {seed}: {c:?}");
            if seed == 1 && kbits < 500 {
                eprintln!(
                    "{:#?}",
                    world
                        .timeline(eye)
                        .iter()
                        .map(|e| format!(
                            "{} {:?}",
                            (e.at_ms - (0xec00_0000u64 - 2_208_988_800) * 1000),
                            e.decision
                        ))
                        .collect::<Vec<_>>()
                );
            }
        }
    }
}

#[test]
fn two_share_a_bottleneck() {
    for (name, track, kbits) in [
        ("svc", TrackConfig::scalable(Codec::Vp9, Scalability::L3T3), 3000u64),
        ("svc", TrackConfig::scalable(Codec::Vp9, Scalability::L3T3), 2000),
        ("vp9", camera(Codec::Vp9), 3000),
        ("vp9", camera(Codec::Vp9), 2000),
    ] {
        for seed in 1..4 {
            let mut world = World::new(seed);
            for _ in 0..3 {
                publish(&mut world, track.clone());
            }
            let (one, line) = viewer_behind(&mut world, 3, Codec::Vp9, kbits * KBIT);
            let two = viewer(&mut world, 3, Codec::Vp9);
            world.put_down_behind(two, Some(line));
            world.run_for(seconds(15.0));
            let before = [one, two].map(|id| world.stats(id).bytes_sent);
            world.run_for(seconds(60.0));
            let after = [one, two].map(|id| world.stats(id).bytes_sent);
            eprintln!(
                "S3 {name} {kbits} seed {seed}: {} {} kbit/s",
                (after[0] - before[0]) * 8 / 60_000,
                (after[1] - before[1]) * 8 / 60_000
            );
        }
    }
}

#[test]
fn mobile() {
    for (name, track) in
        [("svc", TrackConfig::scalable(Codec::Vp9, Scalability::L3T3_KEY)), ("sim", camera(Codec::Vp9))]
    {
        for seed in 1..4 {
            let mut world = World::new(seed);
            let camera = publish(&mut world, track.clone());
            let (eye, line) = viewer_behind(&mut world, 1, Codec::Vp9, 3000 * KBIT);
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
            eprintln!(
                "S12 {name} seed {seed}: frozen {:?} sound {:?} delay {:?} faults {:?} changes {}",
                frozen(&world, eye, camera, from),
                sound_gap(&world, eye, camera, from),
                delay(&world, eye, camera, from),
                world.client(eye).faults(),
                changes(&mut world, eye).len()
            );
        }
    }
}
