//! A whole assembly in one room.

mod common;

use common::*;
use veche_sfu_core::control::{ConnectionState, Event};
use veche_sfu_core::media::{Codec, MediaKind};
use veche_testkit::client::{ClientConfig, SlotReceiver};
use veche_testkit::media::{LayerConfig, TrackConfig, Voice};
use veche_testkit::world::{ClientId, World};

fn member(rate: u32) -> ClientConfig {
    let layer = LayerConfig { rate, packet_len: 200, ..LayerConfig::SMALL };
    let camera = TrackConfig { layers: vec![layer], ..TrackConfig::camera(Codec::Vp8) };
    ClientConfig {
        tracks: vec![TrackConfig::microphone(), camera],
        audio_slots: 2,
        video_slots: 3,
        data: false,
        ..Default::default()
    }
}

#[test]
fn three_hundred_people_in_one_room() {
    let mut world = World::new(60);
    let people: Vec<ClientId> = (0..300)
        .map(|_| {
            world.run_for(millis(2));
            world.join(1, member(5))
        })
        .collect();
    world.run_for(seconds(2.0));
    let speakers = [people[40], people[170]];
    for id in speakers {
        world.with_client(id, |c, _| c.speak(Voice::SPEAKING));
    }
    world.run_for(seconds(1.5));
    let from = world.now;
    world.run_for(seconds(1.5));
    for &id in &people {
        assert_eq!(world.told(id).connection, Some(ConnectionState::Connected), "{id:?}");
        let client = world.client(id);
        // Both who speak are seen and heard by everybody else, and the third picture is somebody else's.
        for speaker in speakers.into_iter().filter(|s| *s != id) {
            let source = world.source(speaker);
            for (kind, gap) in [(MediaKind::Audio, 50), (MediaKind::Video, 260)] {
                let slot = client
                    .slot_of(kind, source)
                    .unwrap_or_else(|| panic!("{id:?} lacks {kind:?} of {source}"));
                let longest = slot.longest_gap(from, world.now);
                assert!(longest < millis(gap), "{id:?}: {longest:?} without {kind:?} of {source}");
            }
        }
        let pictures = client.slots.iter().filter(|s| s.kind == MediaKind::Video);
        assert!(pictures.clone().all(|s| s.frames_since(from).count() >= 6), "{id:?} has an empty slot");
        let mut shown: Vec<_> = pictures.filter_map(SlotReceiver::shows).collect();
        shown.sort_unstable();
        shown.dedup();
        assert_eq!(shown.len(), 3, "{id:?} sees somebody twice: {shown:?}");
        assert!(client.slots.iter().all(|s| s.given_up == 0));
        assert_no_faults(&world, id);
    }
    assert_eq!(world.speakers(1).len(), 2);

    for &id in &people {
        world.leave(id, true);
    }
    world.run_for(millis(100));
    assert_eq!(world.engine(0).participants(), 0);
    assert_eq!(world.engine(0).poll_timeout(), None, "an empty engine has nothing to wait for");
}

#[test]
fn who_leaves_takes_everything_along() {
    let mut world = World::new(61);
    let stays = world.join(1, member(15));
    world.run_for(seconds(1.0));
    for round in 0..20 {
        let guests: Vec<ClientId> = (0..3).map(|_| world.join(1, member(15))).collect();
        world.run_for(millis(600));
        let source = world.source(guests[round % 3]);
        assert!(world.client(stays).slot_of(MediaKind::Video, source).is_some(), "round {round}");
        for id in guests {
            world.leave(id, true);
        }
        world.run_for(millis(100));
        assert_eq!(world.engine(0).participants(), 1);
        let shows = world.told(stays).slots.values().filter(|c| c.shows.is_some()).count();
        assert_eq!(shows, 0, "round {round}: somebody who left is still shown");
    }
    let published = world.events.iter().filter(|(_, e)| matches!(e, Event::TrackGone { .. })).count();
    assert_eq!(published, 20 * 3 * 2);
    assert_no_faults(&world, stays);
}
