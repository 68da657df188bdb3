//! What the control plane lets a participant do, and takes from them again.

mod common;

use common::*;
use veche_sfu_core::control::{Show, SlotWish, Subscription};
use veche_sfu_core::media::{Codec, MediaKind};
use veche_sfu_core::rights::Rights;
use veche_testkit::client::{ClientConfig, SlotReceiver, slot_mid};
use veche_testkit::media::{LayerConfig, TrackConfig, Voice};
use veche_testkit::world::{ClientId, World};

fn person() -> ClientConfig {
    let camera = TrackConfig { layers: vec![LayerConfig::SMALL], ..TrackConfig::camera(Codec::Vp8) };
    ClientConfig {
        tracks: vec![TrackConfig::microphone(), camera],
        audio_slots: 0,
        video_slots: 0,
        ..Default::default()
    }
}

/// A viewer, and somebody who speaks and shows themselves.
fn pair(seed: u64) -> (World, ClientId, ClientId) {
    let mut world = World::new(seed);
    let eye = world.join(1, ClientConfig { video_slots: 1, audio_slots: 1, ..ClientConfig::viewer() });
    let ann = world.join(1, person());
    world.with_client(ann, |client, _| client.speak(Voice::SPEAKING));
    world.run_for(seconds(2.0));
    (world, eye, ann)
}

/// Which kinds of somebody reached the viewer in the last half of a second of the next one.
fn seen(world: &mut World, eye: ClientId, whom: ClientId) -> (bool, bool) {
    world.run_for(millis(500));
    let from = world.now;
    world.run_for(millis(500));
    let source = world.source(whom);
    let of = |kind: MediaKind| {
        let slots = world.client(eye).slots.iter().filter(|slot| slot.kind == kind);
        slots.flat_map(|slot| slot.frames_since(from)).any(|frame| frame.stamp.source == source)
    };
    (of(MediaKind::Audio), of(MediaKind::Video))
}

#[test]
fn what_may_not_be_sent_reaches_nobody_until_it_may() {
    let (mut world, eye, ann) = pair(60);
    assert_eq!(seen(&mut world, eye, ann), (true, true));
    world.set_rights(ann, Rights { video: false, ..Rights::default() });
    assert_eq!(seen(&mut world, eye, ann), (true, false));
    // Unmuting does not help.
    world.mute(ann, MediaKind::Video, false);
    assert_eq!(seen(&mut world, eye, ann), (true, false));
    world.set_rights(ann, Rights { audio: false, ..Rights::default() });
    assert_eq!(seen(&mut world, eye, ann), (false, true));
    // Who is allowed again is as muted as they were.
    world.mute(ann, MediaKind::Audio, true);
    world.set_rights(ann, Rights::default());
    assert_eq!(seen(&mut world, eye, ann), (false, true));
    world.mute(ann, MediaKind::Audio, false);
    assert_eq!(seen(&mut world, eye, ann), (true, true));
    assert_no_faults(&world, eye);
}

#[test]
fn what_is_offered_without_the_right_is_never_seen_also_after_another_offer() {
    let (mut world, eye, ann) = pair(61);
    world.set_rights(ann, Rights { video: false, ..Rights::default() });
    world.run_for(millis(500));
    world.offer(ann);
    assert_eq!(seen(&mut world, eye, ann), (true, false));
    let told = &world.told(ann).tracks;
    let muted = |kind| told.iter().find(|track| track.kind == kind).map(|track| track.muted);
    assert_eq!((muted(MediaKind::Audio), muted(MediaKind::Video)), (Some(false), Some(true)));
    assert_no_faults(&world, eye);
}

#[test]
fn who_may_not_watch_sees_and_hears_nobody_whatever_they_ask_for() {
    let (mut world, eye, ann) = pair(62);
    world.set_rights(eye, Rights { watch: false, ..Rights::default() });
    assert_eq!(seen(&mut world, eye, ann), (false, false));
    let track = world.track(ann, MediaKind::Video);
    let mid = slot_mid(MediaKind::Video, 0);
    let wish = SlotWish { mid, show: Show::Track(track), width: 320, height: 180 };
    world.subscribe(eye, Subscription { auto: true, wishes: vec![wish], ..Subscription::default() });
    assert_eq!(seen(&mut world, eye, ann), (false, false));
    world.offer(eye);
    assert_eq!(seen(&mut world, eye, ann), (false, false));
    world.set_rights(eye, Rights::default());
    assert_eq!(seen(&mut world, eye, ann), (true, true));
    assert!(world.client(eye).slots.iter().any(|slot| SlotReceiver::shows(slot).is_some()));
    assert_no_faults(&world, eye);
}
