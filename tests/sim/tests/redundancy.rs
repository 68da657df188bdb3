//! Sound on bad lines: where much is lost, packets carry older ones along (RFC 2198); where nothing is, they do not.

mod common;

use std::time::Instant;

use common::*;
use veche_sfu_core::media::MediaKind;
use veche_testkit::allocations::CountingAllocator;
use veche_testkit::client::{ClientConfig, RedUse, SlotReceiver};
use veche_testkit::media::{TrackConfig, Voice};
use veche_testkit::network::LinkConfig;
use veche_testkit::world::{ClientId, World};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Somebody who has only a voice.
fn voice(red: RedUse) -> ClientConfig {
    let tracks = vec![TrackConfig::microphone()];
    ClientConfig { tracks, audio_slots: 0, video_slots: 0, red, ..ClientConfig::default() }
}

/// Somebody who only listens.
fn listener(red: RedUse) -> ClientConfig {
    ClientConfig { audio_slots: 1, video_slots: 0, red, ..ClientConfig::viewer() }
}

/// A speaker who sends, and listeners who take RED like this.
fn call(seed: u64, sends: RedUse, takes: &[RedUse]) -> (World, ClientId, Vec<ClientId>) {
    let mut world = World::new(seed);
    let speaker = world.join(1, voice(sends));
    let listeners = takes.iter().map(|red| world.join(1, listener(*red))).collect();
    world.run_for(seconds(1.0));
    world.with_client(speaker, |c, _| c.speak(Voice::SPEAKING));
    world.run_for(seconds(1.0));
    (world, speaker, listeners)
}

fn slot(world: &World, id: ClientId) -> &SlotReceiver {
    world.client(id).slot("A0")
}

/// The share of the voice's packets of this time that were never heard.
fn silence(world: &World, id: ClientId, from: Instant) -> f64 {
    let frames: Vec<u32> = slot(world, id).frames_since(from).map(|f| f.stamp.frame).collect();
    let (first, last) = (frames[0], frames[frames.len() - 1]);
    1.0 - frames.len() as f64 / f64::from(last - first + 1)
}

fn lossy_down(world: &mut World, id: ClientId, loss: f64) {
    *world.down(id) = LinkConfig::lossy(loss);
}

#[test]
fn a_fifth_lost_is_hardly_heard_by_who_knows_red_and_a_fifth_by_who_does_not() {
    let (mut world, _, listeners) = call(20, RedUse::Unknown, &[RedUse::Taken, RedUse::Unknown]);
    let [with, without] = listeners[..] else { unreachable!() };
    for id in [with, without] {
        lossy_down(&mut world, id, 0.2);
    }
    // Reports tell of the loss once a second, and are believed slowly.
    world.run_for(seconds(5.0));
    let from = world.now;
    world.run_for(seconds(60.0));
    let (helped, helpless) = (silence(&world, with, from), silence(&world, without, from));
    assert!((0.15..0.25).contains(&helpless), "{helpless} lost without");
    // Three losses in a row: 0.2 * 0.2 * 0.2.
    assert!(helped < 0.016, "{helped} lost with");
    assert!(slot(&world, with).restored > 400, "{} restored", slot(&world, with).restored);
    assert_eq!((slot(&world, without).red, slot(&world, with).repaired), (0, 0));
    println!("20 % lost: {helped:.4} of the sound missing with RED, {helpless:.4} without");
    for id in [with, without] {
        assert_no_faults(&world, id);
    }
}

#[test]
fn without_loss_nothing_is_carried_along() {
    let (mut world, _, listeners) = call(21, RedUse::Unknown, &[RedUse::Taken, RedUse::Unknown]);
    world.run_for(seconds(20.0));
    let [with, without] = [0, 1].map(|i| slot(&world, listeners[i]));
    assert_eq!((with.red, with.restored), (0, 0));
    assert!(with.packets > 900);
    assert_eq!(with.octets / with.packets, without.octets / without.packets, "bytes in a packet");
}

#[test]
fn redundancy_comes_with_loss_and_goes_with_it_and_others_are_not_touched() {
    let (mut world, _, listeners) = call(22, RedUse::Unknown, &[RedUse::Taken, RedUse::Taken]);
    let [bad, good] = listeners[..] else { unreachable!() };
    lossy_down(&mut world, bad, 0.05);
    world.run_for(seconds(20.0));
    let from = world.now;
    world.run_for(seconds(20.0));
    let silent = silence(&world, bad, from);
    assert!(silent < 0.012, "{silent} lost at 5 %");
    lossy_down(&mut world, bad, 0.0);
    // Until loss is believed to be over, and the calm after it.
    world.run_for(seconds(25.0));
    let before = slot(&world, bad).red;
    world.run_for(seconds(5.0));
    assert!(before > 1_000);
    assert_eq!(slot(&world, bad).red, before, "the line is good again");
    assert_eq!(slot(&world, good).red, 0, "whose line was always good");
    for id in [bad, good] {
        assert_no_faults(&world, id);
    }
}

#[test]
fn what_a_publisher_sends_in_red_is_passed_on_to_who_needs_it_and_plain_to_the_rest() {
    let takes = [RedUse::Taken, RedUse::Taken, RedUse::Unknown];
    let (mut world, _, listeners) = call(23, RedUse::Sent, &takes);
    let [bad, good, plain] = listeners[..] else { unreachable!() };
    lossy_down(&mut world, bad, 0.15);
    world.run_for(seconds(5.0));
    let from = world.now;
    world.run_for(seconds(40.0));
    let silent = silence(&world, bad, from);
    // One older packet in each: two losses in a row.
    assert!(silent < 0.035, "{silent} lost at 15 %");
    assert!(slot(&world, bad).red > 1_500, "{} in RED", slot(&world, bad).red);
    for id in [good, plain] {
        let slot = slot(&world, id);
        assert_eq!(slot.red, 0);
        assert!(slot.packets > 2_000);
        assert_eq!(slot.given_up, 0);
    }
    for id in [bad, good, plain] {
        assert_no_faults(&world, id);
    }
}

#[test]
fn what_a_publisher_lost_on_the_way_up_is_not_made_up_and_breaks_nothing() {
    let (mut world, speaker, listeners) = call(24, RedUse::Unknown, &[RedUse::Taken]);
    let rough =
        LinkConfig { jitter: millis(15), duplication: 0.05, reordering: 0.05, ..LinkConfig::lossy(0.1) };
    *world.up(speaker) = rough;
    lossy_down(&mut world, listeners[0], 0.1);
    world.run_for(seconds(5.0));
    let from = world.now;
    world.run_for(seconds(40.0));
    let silent = silence(&world, listeners[0], from);
    assert!((0.08..0.14).contains(&silent), "{silent} lost: what was lost on the way up, and little more");
    let faults = world.client(listeners[0]).faults();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn who_takes_over_a_slot_brings_nothing_of_before_along() {
    let mut world = World::new(25);
    let speakers = [world.join(1, voice(RedUse::Unknown)), world.join(1, voice(RedUse::Sent))];
    let eve = world.join(1, listener(RedUse::Taken));
    world.run_for(seconds(1.0));
    lossy_down(&mut world, eve, 0.1);
    for turn in 0..12 {
        let (speaks, silent) = (speakers[turn % 2], speakers[1 - turn % 2]);
        world.with_client(silent, |c, _| c.speak(Voice::SILENT));
        world.with_client(speaks, |c, _| c.speak(Voice::SPEAKING));
        world.run_for(seconds(4.0));
        assert_eq!(slot(&world, eve).shows(), Some(world.source(speaks)), "turn {turn}");
    }
    assert!(slot(&world, eve).restored > 100);
    assert_no_faults(&world, eve);
}

#[test]
fn a_mute_ends_what_is_carried_along() {
    let (mut world, speaker, listeners) = call(26, RedUse::Unknown, &[RedUse::Taken]);
    lossy_down(&mut world, listeners[0], 0.1);
    world.run_for(seconds(5.0));
    for _ in 0..5 {
        world.mute(speaker, MediaKind::Audio, true);
        // The client goes on sending; nothing of it is heard, then or later.
        world.run_for(seconds(1.0));
        let from = world.now;
        world.mute(speaker, MediaKind::Audio, false);
        world.run_for(seconds(2.0));
        let slot = slot(&world, listeners[0]);
        let unmuted = from - world.start;
        let heard = slot.frames_since(from).next().expect("the voice is back");
        assert!(heard.stamp.captured + millis(60) > unmuted, "{:?} at {unmuted:?}", heard.stamp.captured);
    }
    assert_no_faults(&world, listeners[0]);
}

#[test]
fn redundancy_allocates_nothing() {
    let takes = [RedUse::Taken, RedUse::Taken, RedUse::Taken, RedUse::Unknown];
    let (mut world, _, listeners) = call(27, RedUse::Unknown, &takes);
    for (id, loss) in listeners.iter().zip([0.2, 0.05, 0.2, 0.2]) {
        lossy_down(&mut world, *id, loss);
    }
    world.run_for(seconds(8.0));
    let (before, red) = (world.media_path, slot(&world, listeners[0]).red);
    world.run_for(seconds(4.0));
    let after = world.media_path;
    assert!(after.sent - before.sent >= 790);
    assert!(slot(&world, listeners[0]).red > red + 100);
    assert_eq!(after.allocations - before.allocations, 0);
}
