//! The path of a media packet asks for no memory once everything is warm.

mod common;

use common::*;
use veche_sfu_core::media::{Codec, MediaKind};
use veche_testkit::allocations::CountingAllocator;
use veche_testkit::client::ClientConfig;
use veche_testkit::media::{TrackConfig, Voice};
use veche_testkit::world::World;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn forwarding_allocates_nothing() {
    for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1] {
        let mut world = World::new(70);
        let tracks = vec![TrackConfig::microphone(), TrackConfig::simulcast(codec)];
        let speaker = world.join(1, ClientConfig { tracks, ..ClientConfig::viewer() });
        world.with_client(speaker, |c, _| c.speak(Voice::SPEAKING));
        let viewers: Vec<_> = (0..8)
            .map(|_| world.join(1, ClientConfig { decodes: vec![codec], ..ClientConfig::viewer() }))
            .collect();
        // The history grows until it is as long as it may be.
        world.run_for(seconds(8.0));
        let before = world.media_path;
        world.run_for(seconds(2.0));
        let after = world.media_path;
        let (received, sent) = (after.received - before.received, after.sent - before.sent);
        // The layers that nobody wants are not sent.
        assert!(received > 400 && sent >= 8 * 390, "{received} received, {sent} sent");
        let source = world.source(speaker);
        assert!(world.client(viewers[0]).slot_of(MediaKind::Video, source).is_some());
        let allocations = after.allocations - before.allocations;
        assert_eq!(allocations, 0, "{codec:?}: {allocations} allocations for {sent} forwarded packets");
    }
}

#[test]
fn crossing_to_another_engine_allocates_nothing() {
    let mut world = World::with_engines(71, 2);
    let tracks = vec![TrackConfig::microphone(), TrackConfig::simulcast(Codec::Vp8)];
    let speaker = world.join_at(1, 1, ClientConfig { tracks, ..ClientConfig::viewer() });
    world.with_client(speaker, |c, _| c.speak(Voice::SPEAKING));
    let viewers: Vec<_> = (0..8).map(|_| world.join_at(1, 0, ClientConfig::viewer())).collect();
    world.run_for(seconds(8.0));
    let before = world.media_path;
    world.run_for(seconds(2.0));
    let after = world.media_path;
    let (received, sent) = (after.received - before.received, after.sent - before.sent);
    assert!(received > 800 && sent >= 8 * 390, "{received} received by both, {sent} sent");
    let source = world.source(speaker);
    assert!(world.client(viewers[0]).slot_of(MediaKind::Video, source).is_some());
    assert_eq!(after.allocations - before.allocations, 0, "{received} received by both, {sent} sent");
}
