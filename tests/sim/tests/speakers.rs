//! Voices: who is heard, and from when.

mod common;

use common::*;
use std::collections::BTreeSet;
use veche_sfu_core::control::{Command, Event};
use veche_sfu_core::media::{MediaKind, Source};
use veche_testkit::client::{ClientConfig, SlotReceiver};
use veche_testkit::media::{TrackConfig, Voice};
use veche_testkit::world::{ClientId, World};

fn voice() -> ClientConfig {
    ClientConfig {
        tracks: vec![TrackConfig::microphone()],
        audio_slots: 0,
        video_slots: 0,
        ..Default::default()
    }
}

fn listener(audio_slots: usize) -> ClientConfig {
    ClientConfig { audio_slots, video_slots: 0, ..ClientConfig::viewer() }
}

#[test]
fn the_start_of_a_word_is_heard_at_once_and_not_cut_off() {
    let mut world = World::new(20);
    let ear = world.join(1, listener(2));
    let people: Vec<ClientId> = (0..8).map(|_| world.join(1, voice())).collect();
    world.run_for(seconds(1.0));
    world.with_client(people[0], |c, _| c.speak(Voice::SPEAKING));
    world.run_for(seconds(3.0));
    for (round, &speaker) in people.iter().enumerate().skip(1) {
        let began = world.now;
        world.with_client(speaker, |c, _| c.speak(Voice::SPEAKING));
        let source = world.source(speaker);
        world.run_for(seconds(1.0));
        let slot =
            world.client(ear).slot_of(MediaKind::Audio, source).unwrap_or_else(|| panic!("round {round}"));
        let first = slot.frames.iter().find(|f| f.stamp.source == source && f.at >= began).expect("heard");
        let took = first.at - began;
        assert!(took < millis(100), "round {round}: heard after {took:?}");
        // Samples leave 20 ms after they were taken: the first packet that said so was sampled that much before.
        let onset = (began - world.start).saturating_sub(millis(20));
        assert!(
            first.stamp.captured <= onset + millis(20),
            "round {round}: {:?} cut off",
            first.stamp.captured.saturating_sub(onset)
        );
        world.with_client(speaker, |c, _| c.speak(Voice::SILENT));
        world.run_for(seconds(3.0));
    }
    assert_no_faults(&world, ear);
}

#[test]
fn of_fifty_speakers_the_four_loudest_are_heard() {
    let mut world = World::new(21);
    let ear = world.join(1, listener(4));
    let people: Vec<ClientId> = (0..50).map(|_| world.join(1, voice())).collect();
    for (index, &speaker) in people.iter().enumerate() {
        let level = if index % 13 == 5 { 15 } else { 45 };
        world.with_client(speaker, |c, _| c.speak(Voice::speaking_at(level)));
    }
    world.run_for(seconds(6.0));
    let loudest: BTreeSet<u32> = people.iter().skip(5).step_by(13).map(|id| world.source(*id)).collect();
    let heard: BTreeSet<u32> = world.client(ear).slots.iter().filter_map(SlotReceiver::shows).collect();
    assert_eq!(loudest.len(), 4);
    assert_eq!(heard, loudest);
    let told: BTreeSet<u64> = world.speakers(1).iter().take(4).map(|s| s.participant.0).collect();
    assert_eq!(told, loudest.iter().map(|s| u64::from(*s)).collect());
    for slot in &world.client(ear).slots {
        assert!(slot.longest_gap(world.ago(seconds(1.0)), world.now) < millis(50), "{:?}", slot.mid);
    }
    assert_no_faults(&world, ear);
}

#[test]
fn everybody_is_heard_when_the_slots_suffice() {
    let mut world = World::new(22);
    let ear = world.join(1, listener(6));
    let people: Vec<ClientId> = (0..6).map(|_| world.join(1, voice())).collect();
    world.run_for(seconds(2.0));
    for id in people {
        let slot = world.client(ear).slot_of(MediaKind::Audio, world.source(id)).expect("heard");
        assert!(slot.frames_since(world.ago(seconds(1.0))).count() >= 49);
    }
    assert_no_faults(&world, ear);
}

#[test]
fn nobody_hears_a_muted_microphone_or_themselves() {
    let mut world = World::new(23);
    let ann = world.join(1, ClientConfig { audio_slots: 2, ..voice() });
    let ben = world.join(1, ClientConfig { audio_slots: 2, ..voice() });
    world.with_client(ann, |c, _| c.speak(Voice::SPEAKING));
    world.run_for(seconds(2.0));
    assert!(world.speakers(1).iter().any(|s| s.participant == world.participant(ann)));
    world.mute(ann, MediaKind::Audio, true);
    world.run_for(millis(50));
    let muted = world.now;
    world.run_for(seconds(2.0));
    let ann_source = world.source(ann);
    let after = world
        .client(ben)
        .slots
        .iter()
        .flat_map(|s| s.frames_since(muted))
        .filter(|f| f.stamp.source == ann_source);
    assert_eq!(after.count(), 0);
    assert!(!world.speakers(1).iter().any(|s| s.participant == world.participant(ann)));
    assert!(world.client(ann).slots.iter().all(|s| s.frames.iter().all(|f| f.stamp.source != ann_source)));
    world.mute(ann, MediaKind::Audio, false);
    let back = world.run_until(seconds(1.0), |w| {
        w.client(ben).slots.iter().any(|s| s.frames_since(muted).any(|f| f.stamp.source == ann_source))
    });
    assert!(back.expect("heard again") < millis(100), "{back:?}");
    assert_no_faults(&world, ben);
}

/// Somebody who is heard within 200 ms after an unmute, with nothing from before it.
#[track_caller]
fn assert_heard_after_unmute(world: &mut World, ear: ClientId, whom: ClientId) {
    let unmuted = world.now;
    world.mute(whom, MediaKind::Audio, false);
    let heard = world.run_until(seconds(2.0), |w| !frames_of(w, ear, whom, unmuted).is_empty());
    assert!(heard.expect("heard again") < millis(200), "{heard:?}");
    // What was under way when the unmute came may be heard.
    let earliest = (unmuted - world.start).saturating_sub(millis(60));
    assert!(frames_of(world, ear, whom, unmuted).iter().all(|f| f.stamp.captured >= earliest));
    let from = world.now;
    world.run_for(seconds(2.0));
    assert!(frames_of(world, ear, whom, from).len() >= 99);
    assert_no_faults(world, ear);
}

#[test]
fn an_unmute_after_eleven_minutes_is_heard_at_once() {
    let mut world = World::new(24);
    let ear = world.join(1, listener(2));
    let ann = world.join(1, voice());
    world.run_for(seconds(2.0));
    world.mute(ann, MediaKind::Audio, true);
    world.run_for(seconds(660.0));
    assert_heard_after_unmute(&mut world, ear, ann);
}

#[test]
fn nobody_hears_what_a_microphone_said_last_before_or_while_it_was_muted() {
    // Somebody who comes while it is muted is given a slot with it.
    let mut world = World::new(25);
    let ann = world.join(1, voice());
    world.run_for(seconds(2.0));
    world.mute(ann, MediaKind::Audio, true);
    world.run_for(millis(40));
    let (ear, from) = (world.join(1, listener(2)), world.now);
    world.run_for(seconds(3.0));
    assert_eq!(frames_of(&world, ear, ann, from).len(), 0);
    world.run_for(seconds(660.0));
    assert_eq!(frames_of(&world, ear, ann, from).len(), 0);
    assert_heard_after_unmute(&mut world, ear, ann);
}

#[test]
fn a_slot_that_becomes_free_does_not_replay_a_muted_microphone() {
    for pause in [millis(40), seconds(3.0)] {
        let mut world = World::new(26);
        let ear = world.join(1, listener(1));
        let first = world.join(1, voice());
        world.with_client(first, |c, _| c.speak(Voice::SPEAKING));
        world.run_for(seconds(2.0));
        let ann = world.join(1, voice());
        world.run_for(seconds(2.0));
        world.mute(ann, MediaKind::Audio, true);
        world.run_for(pause);
        world.leave(first, true);
        let from = world.now;
        world.run_for(seconds(660.0));
        assert_eq!(frames_of(&world, ear, ann, from).len(), 0);
        assert_heard_after_unmute(&mut world, ear, ann);
        // The slot is as good as new for the next one.
        let eve = world.join(1, voice());
        world.leave(ann, true);
        world.with_client(eve, |c, _| c.speak(Voice::SPEAKING));
        let from = world.now;
        world.run_for(seconds(3.0));
        assert!(frames_of(&world, ear, eve, from).len() > 100);
        assert_no_faults(&world, ear);
    }
}

#[test]
fn timestamps_that_leap_silence_nobody() {
    for leap in [0x6000_0000, 0xa000_0000, 48_000 * 60] {
        let mut world = World::new(27);
        let ear = world.join(1, listener(1));
        let eve = world.join(1, voice());
        world.with_client(eve, |c, _| c.speak(Voice::SPEAKING));
        world.run_for(seconds(2.0));
        world.with_client(eve, |c, _| c.senders[0].leap(leap));
        let from = world.now;
        world.run_for(seconds(1.0));
        let heard = frames_of(&world, ear, eve, from).len();
        assert!(heard >= 45, "leap of {leap:#x}: {heard} of 50 packets of who leapt");
        world.leave(eve, true);
        let ann = world.join(1, voice());
        world.with_client(ann, |c, _| c.speak(Voice::SPEAKING));
        let from = world.now;
        world.run_for(seconds(3.0));
        let heard = frames_of(&world, ear, ann, from).len();
        assert!(heard > 130, "leap of {leap:#x}: {heard} of 150 packets of the next one");
        assert_no_faults(&world, ear);
    }
}

#[test]
fn muting_the_sound_of_a_screen_does_not_silence_the_person() {
    let mut world = World::new(28);
    let ear = world.join(1, listener(2));
    let sound = TrackConfig { source: Source::ScreenAudio, ..TrackConfig::microphone() };
    let ann = world.join(1, ClientConfig { tracks: vec![TrackConfig::microphone(), sound], ..voice() });
    world.run_for(seconds(1.0));
    world.with_client(ann, |c, _| c.speak(Voice::SPEAKING));
    world.run_for(seconds(2.0));
    let participant = world.participant(ann);
    let speaks =
        |speakers: &[veche_sfu_core::control::Speaker]| speakers.iter().any(|s| s.participant == participant);
    assert!(speaks(world.speakers(1)));
    let tracks = &world.told(ann).tracks;
    let track = tracks.iter().find(|t| t.source == Source::ScreenAudio).expect("the sound").id;
    let (now, seen) = (world.now, world.events.len());
    world.engine_mut(0).handle_command(now, Command::SetMuted { participant, track, muted: true });
    world.run_for(seconds(2.0));
    assert!(world.told(ann).tracks.iter().any(|t| t.id == track && t.muted), "the sound is muted");
    for (_, event) in &world.events[seen..] {
        if let Event::Speakers { speakers, .. } = event {
            assert!(speaks(speakers), "{speakers:?}");
        }
    }
    assert!(speaks(world.speakers(1)));
    assert_no_faults(&world, ear);
}
