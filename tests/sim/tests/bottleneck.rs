//! Clients behind one bottleneck share it, and nobody else notices.

mod common;

use common::{frames_of, seconds};
use veche_testkit::client::ClientConfig;
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
