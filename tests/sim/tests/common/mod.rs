//! Words that the stories share.

#![allow(dead_code, unreachable_pub, reason = "each story uses some of them")]

pub mod seen;

use std::time::{Duration, Instant};

use veche_testkit::client::Frame;
use veche_testkit::network::LinkConfig;
use veche_testkit::world::{ClientId, World};

/// A time.
pub fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A time.
pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Nothing came that a browser would stumble over.
#[track_caller]
pub fn assert_no_faults(world: &World, id: ClientId) {
    let faults = world.client(id).faults();
    assert!(faults.is_empty(), "{faults:#?}");
    assert_eq!(world.client(id).strange, 0, "strange packets");
}

/// The frames of `whom` that reached `eye` from then on, in all its slots.
pub fn frames_of(world: &World, eye: ClientId, whom: ClientId, from: Instant) -> Vec<Frame> {
    let source = world.source(whom);
    let slots = world.client(eye).slots.iter();
    slots.flat_map(|s| s.frames_since(from)).filter(|f| f.stamp.source == source).copied().collect()
}

/// Nothing passes.
pub fn blackout() -> LinkConfig {
    LinkConfig { blackout: true, ..LinkConfig::default() }
}
