mod common;
use common::*;
use veche_sfu_core::media::Codec;
use veche_testkit::client::ClientConfig;
use veche_testkit::media::{TrackConfig, Voice};
use veche_testkit::world::World;

#[test]
fn scratch() {
    let mut world = World::new(70);
    let tracks = vec![TrackConfig::microphone(), TrackConfig::simulcast(Codec::Vp8)];
    let speaker = world.join(1, ClientConfig { tracks, ..ClientConfig::viewer() });
    world.with_client(speaker, |c, _| c.speak(Voice::SPEAKING));
    let viewers: Vec<_> = (0..2).map(|_| world.join(1, ClientConfig { ..ClientConfig::viewer() })).collect();
    for i in 0..40 {
        world.run_for(millis(200));
        let s = world.stats(viewers[0]);
        let slot = world.client(viewers[0]).slot("V0");
        println!(
            "{:.1} est {:?} wanted {} alloc {} probe {} layer {:?} frames {} drops {:?}",
            f64::from(i) * 0.2,
            s.estimate,
            s.wanted,
            s.allocated,
            s.probe_bytes,
            slot.frames.last().map(|f| f.stamp.layer),
            slot.frames.len(),
            s.drops.iter().collect::<Vec<_>>()
        );
    }
}
#[test]
fn scratch3() {
    for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1] {
        let mut world = World::new(70);
        let tracks = vec![TrackConfig::microphone(), TrackConfig::simulcast(codec)];
        let speaker = world.join(1, ClientConfig { tracks, ..ClientConfig::viewer() });
        world.with_client(speaker, |c, _| c.speak(Voice::SPEAKING));
        let viewers: Vec<_> = (0..8)
            .map(|_| world.join(1, ClientConfig { decodes: vec![codec], ..ClientConfig::viewer() }))
            .collect();
        world.run_for(seconds(7.0));
        for step in 0..10 {
            world.run_for(millis(300));
            for v in viewers.iter().take(2) {
                let s = world.stats(*v);
                let slot = world.client(*v).slot("V0");
                println!(
                    "{codec:?} est {:?} wanted {} alloc {} probe {} layer {:?} frames {} drops {:?}",
                    s.estimate,
                    s.wanted,
                    s.allocated,
                    s.probe_bytes,
                    slot.frames.last().map(|f| f.stamp.layer),
                    slot.frames.len(),
                    s.drops.iter().collect::<Vec<_>>()
                );
                let t = world.timeline(*v);
                for e in t.iter().skip(t.len().saturating_sub(3)) {
                    println!("      {step} {e:?}");
                }
            }
        }
    }
}
#[test]
fn scratch2() {
    let mut world = World::new(44);
    let ann = world.join(1, ClientConfig::default());
    let ben = world.join(1, ClientConfig::default());
    for i in 0..110 {
        if i == 20 {
            world.set_links(ann, veche_testkit::network::LinkConfig { blackout: true, ..Default::default() });
        }
        if i == 70 {
            world.set_links(ann, veche_testkit::network::LinkConfig::default());
        }
        world.run_for(millis(200));
        for id in [ann, ben] {
            let s = world.stats(id);
            let slot = world.client(id).slot("V0");
            println!(
                "{:.1} {id:?} est {:?} wanted {} alloc {} probe {} layer {:?} frames {} drops {:?}",
                f64::from(i) * 0.2,
                s.estimate,
                s.wanted,
                s.allocated,
                s.probe_bytes,
                slot.frames.last().map(|f| f.stamp.layer),
                slot.frames.len(),
                s.drops.iter().collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn scratch4() {
    let mut world = World::new(10);
    let ann = world.join(1, ClientConfig::default());
    let ben = world.join(1, ClientConfig::default());
    world.run_for(seconds(2.0));
    for id in [ann, ben] {
        world.set_links(
            id,
            veche_testkit::network::LinkConfig {
                delay: millis(20),
                ..veche_testkit::network::LinkConfig::lossy(0.10)
            },
        );
    }
    for i in 0..50 {
        world.run_for(millis(200));
        for id in [ann, ben] {
            let s = world.stats(id);
            let slot = world.client(id).slot("V0");
            println!(
                "{:.1} {id:?} est {:?} wanted {} alloc {} probe {} frames {} repaired {} given up {} drops {:?}",
                f64::from(i) * 0.2,
                s.estimate,
                s.wanted,
                s.allocated,
                s.probe_bytes,
                slot.frames.len(),
                slot.repaired,
                slot.given_up,
                s.drops.iter().collect::<Vec<_>>()
            );
        }
    }
    for e in world.timeline(ann) {
        println!("{e:?}");
    }
}
