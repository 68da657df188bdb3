//! Two people in a call.

mod common;

use std::time::Duration;

use common::*;
use veche_sfu_core::control::ConnectionState;
use veche_sfu_core::media::MediaKind;
use veche_testkit::client::ClientConfig;
use veche_testkit::world::World;

#[test]
fn two_people_see_and_hear_each_other() {
    let mut world = World::new(1);
    let ann = world.join(1, ClientConfig::default());
    let ben = world.join(1, ClientConfig::default());
    world.run_for(seconds(5.0));
    for (me, other) in [(ann, ben), (ben, ann)] {
        assert_eq!(world.told(me).connection, Some(ConnectionState::Connected));
        assert_no_faults(&world, me);
        let source = world.source(other);
        let picture = world.client(me).slot_of(MediaKind::Video, source).expect("a picture");
        assert!(picture.frames.len() > 30 * 4, "{} frames", picture.frames.len());
        assert!(picture.clock_spread() < Duration::from_millis(50), "{:?}", picture.clock_spread());
        let sound = world.client(me).slot_of(MediaKind::Audio, source).expect("sound");
        assert!(sound.frames.len() > 50 * 4, "{} packets", sound.frames.len());
        assert!(world.client(me).transport_feedback > 20);
    }
}
