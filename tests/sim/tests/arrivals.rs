//! Many come at once, and many do nothing.

mod common;

use common::*;
use veche_sfu_core::control::{Command, ConnectionState, SectionLabels};
use veche_sfu_core::drops::DropReason;
use veche_sfu_core::ids::RequestId;
use veche_sfu_core::media::MediaKind;
use veche_testkit::client::ClientConfig;
use veche_testkit::media::{TrackConfig, Voice};
use veche_testkit::world::{ClientId, World};

/// Packets of handshakes that an engine takes between two flushes.
const WORK_PER_TURN: usize = 4;

fn viewer() -> ClientConfig {
    ClientConfig { data: false, ..ClientConfig::viewer() }
}

fn muted(world: &mut World, room: u64) -> ClientId {
    let id = world.join(room, ClientConfig { data: false, ..ClientConfig::default() });
    for kind in [MediaKind::Audio, MediaKind::Video] {
        world.mute(id, kind, true);
        world.with_client(id, |client, now| client.set_active(now, kind, None, false));
    }
    id
}

#[test]
fn two_hundred_who_join_at_once_do_not_hold_up_media() {
    let mut world = World::new(70);
    let tracks = vec![TrackConfig::microphone()];
    let speaker = world.join(1, ClientConfig { tracks, ..ClientConfig::default() });
    let ear = world.join(1, viewer());
    world.run_for(seconds(2.0));
    let from = world.now;
    world.take_turns(millis(1));
    let crowd: Vec<ClientId> = (0..200).map(|_| world.join(2, viewer())).collect();
    let connected =
        |w: &World| crowd.iter().all(|id| w.told(*id).connection == Some(ConnectionState::Connected));
    let took = world.run_until(seconds(5.0), connected).expect("everybody connects");
    assert!(took < millis(1_500), "{took:?}");
    world.run_for(seconds(1.0));
    let turns = world.turns_taken();
    assert!(turns.iter().map(|turn| turn.dtls).max() >= Some(50), "they did not come at once");
    // Each packet of a client is answered by at most one flight, here of two datagrams.
    let most = turns.iter().map(|turn| turn.dtls_sent).max().unwrap_or(0);
    assert!((1..=2 * WORK_PER_TURN).contains(&most), "{most} DTLS packets in one turn");
    let busy = turns.iter().filter(|turn| turn.media > 0);
    assert!(busy.clone().count() > 30 && busy.clone().all(|turn| turn.sent > 0), "media waits for its turn");
    let source = world.source(speaker);
    let slot = world.client(ear).slot_of(MediaKind::Audio, source).expect("the voice goes on");
    assert!(slot.longest_gap(from, world.now) < millis(50), "{:?}", slot.longest_gap(from, world.now));
    assert_no_faults(&world, ear);
}

#[test]
fn a_flood_of_handshake_packets_is_bounded() {
    let mut world = World::new(71);
    let viewers: Vec<ClientId> = (0..2).map(|_| world.join(1, viewer())).collect();
    let hello = (0..500).find_map(|_| {
        world.record(viewers[0]);
        world.run_for(millis(1));
        world.take_record(viewers[0]).into_iter().find(|d| (20..=63).contains(&d[0]))
    });
    let hello = hello.expect("a handshake begins");
    // Answers are lost from now on, so that both go on shaking hands.
    for id in &viewers {
        world.down(*id).blackout = true;
    }
    let address = world.address(viewers[0]);
    world.take_turns(millis(1));
    for _ in 0..100 {
        world.send_to_engine(0, address, hello.clone());
    }
    world.run_for(millis(1));
    assert!(world.drops(DropReason::HandshakeLimit) >= 80, "one participant takes all the room");
    for id in &viewers {
        world.down(*id).blackout = false;
    }
    let connected =
        |w: &World| viewers.iter().all(|id| w.told(*id).connection == Some(ConnectionState::Connected));
    assert!(world.run_until(seconds(8.0), connected).is_some(), "a flood stops handshakes for good");
}

#[test]
fn who_offers_again_and_again_leaves_time_for_handshakes() {
    let mut world = World::new(74);
    world.take_turns(millis(1));
    let crowd: Vec<ClientId> = (0..50).map(|_| world.join(1, viewer())).collect();
    world.run_until(seconds(1.0), |w| w.engine(0).has_handshakes()).expect("they come at once");
    let (participant, now) = (world.participant(crowd[0]), world.now);
    let engine = world.engine_mut(0);
    let mut offers = 0;
    while !engine.is_spent() && offers < 10 {
        let (request, labels) = (RequestId(10_000 + offers), SectionLabels::default());
        engine.handle_command(now, Command::Offer { participant, request, sdp: String::new(), labels });
        offers += 1;
    }
    assert_eq!(offers, WORK_PER_TURN as u64 / 2);
    assert!(engine.poll_timeout().is_some_and(|at| at <= now), "there is no time for those who wait");
}

#[test]
fn a_room_in_which_nothing_happens_is_left_alone() {
    let mut world = World::new(72);
    let people: Vec<ClientId> = (0..50).map(|_| muted(&mut world, 1)).collect();
    world.run_for(seconds(15.0));
    let before = world.engine_time.timers.calls;
    world.run_for(seconds(60.0));
    let looks = world.engine_time.timers.calls - before;
    // Each is looked at when consent might have ended, every five seconds, and those who came together, together.
    assert!(looks < 50 * 13, "{looks} looks in a minute");

    // Whoever speaks then is heard from the first word on, and everything goes on as ever.
    let speaker = people[7];
    world.mute(speaker, MediaKind::Audio, false);
    let from = world.now;
    world.with_client(speaker, |client, now| {
        client.speak(Voice::SPEAKING);
        client.set_active(now, MediaKind::Audio, None, true);
    });
    world.run_for(seconds(5.0));
    let source = world.source(speaker);
    for id in people.iter().filter(|id| **id != speaker) {
        let slot = world.client(*id).slot_of(MediaKind::Audio, source).expect("everybody hears the speaker");
        let first = slot.frames_since(from).next().expect("everybody hears the speaker").at;
        assert!(first - from < millis(150), "{:?} until the first word", first - from);
        assert!(slot.clock.is_some_and(|clock| clock.at > from), "no sender report");
        assert!(slot.longest_gap(first, world.now) < millis(50));
    }
    assert_eq!(world.speakers(1).len(), 1);
    let reports = world.stats(speaker);
    assert_eq!(reports.packets_received, 250, "all of five seconds");
}

#[test]
fn who_vanishes_from_a_quiet_room_is_missed() {
    let mut world = World::new(73);
    let people: Vec<ClientId> = (0..3).map(|_| muted(&mut world, 1)).collect();
    world.run_for(seconds(30.0));
    world.leave(people[1], false);
    let from = world.now;
    let state = |w: &World, id: ClientId| w.told(id).connection;
    let lost = world.run_until(seconds(12.0), |w| state(w, people[1]) == Some(ConnectionState::Interrupted));
    assert!(lost.is_some_and(|took| took < seconds(6.0)), "{lost:?}");
    let expired = |w: &World| state(w, people[1]) == Some(ConnectionState::Expired);
    world.run_until(seconds(40.0), expired).expect("consent ends");
    assert!(world.now - from < seconds(31.0), "{:?}", world.now - from);
    assert_eq!(state(&world, people[0]), Some(ConnectionState::Connected));
}
