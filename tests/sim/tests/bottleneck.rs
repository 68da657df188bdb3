//! Clients behind one bottleneck share it, also with others, and nobody else notices.

mod common;

use common::{frames_of, seconds};
use rand::SeedableRng;
use rand::rngs::StdRng;
use veche_testkit::client::ClientConfig;
use veche_testkit::congestion::{Downloads, Tcp};
use veche_testkit::network::{Capacity, QueueConfig};
use veche_testkit::world::World;

#[test]
fn those_behind_a_bottleneck_share_its_trouble_and_others_do_not() {
    let mut world = World::new(21);
    let [ann, ben, cat] = [(); 3].map(|()| world.join(1, ClientConfig::default()));
    let home = world.add_bottleneck(Capacity::constant(50_000_000), QueueConfig::Time(seconds(0.2)));
    for id in [ann, ben] {
        world.put_down_behind(id, Some(home));
    }
    world.run_for(seconds(5.0));
    let before = world.ago(seconds(2.0));
    for (eye, whom) in [(ann, cat), (ben, cat), (cat, ann)] {
        assert!(frames_of(&world, eye, whom, before).len() > 50, "all see each other");
    }
    world.set_capacity(home, Capacity::constant(0));
    world.run_for(seconds(1.0));
    let dark = world.now;
    world.run_for(seconds(2.0));
    assert!(frames_of(&world, ann, cat, dark).is_empty() && frames_of(&world, ben, cat, dark).is_empty());
    assert!(frames_of(&world, cat, ann, dark).len() > 50, "what the others send still comes");
    world.put_down_behind(ann, None);
    world.run_for(seconds(4.0));
    assert!(frames_of(&world, ann, cat, world.ago(seconds(1.0))).len() > 25, "off the bottleneck again");
}

/// With a second of queue, a download delays everything that comes through it.
#[test]
fn a_download_fills_the_queue_of_the_house() {
    let mut world = World::new(22);
    let [ann, ben] = [(); 2].map(|()| world.join(1, ClientConfig::default()));
    let home = world.add_bottleneck(Capacity::constant(8_000_000), QueueConfig::Time(seconds(1.0)));
    world.put_down_behind(ann, Some(home));
    world.run_for(seconds(5.0));
    let delay = |world: &World| {
        let frames = frames_of(world, ann, ben, world.ago(seconds(1.0)));
        let last = frames.last().expect("the picture goes on");
        last.at - (world.start + last.stamp.captured)
    };
    assert!(delay(&world) < seconds(0.2), "{:?}", delay(&world));
    world.add_other(Box::new(Tcp::new(Downloads::Endless, StdRng::seed_from_u64(1))), home, seconds(0.02));
    world.run_for(seconds(20.0));
    assert!(delay(&world) > seconds(0.3), "{:?}", delay(&world));
}
